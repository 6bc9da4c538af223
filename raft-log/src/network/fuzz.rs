//! What other nodes send, with bytes that are nearly right.

use bolero::check;

use super::*;
use crate::fuzz::{entries, fuzz, log_id, stored_membership, vote};
use crate::ids::NodeId;
use crate::testing::REPOSITORY;

fn piece(len: u64, offset: u64, data: &[u8]) -> Piece {
    let meta = SnapshotMeta {
        last_log_id: Some(log_id(700)),
        last_membership: stored_membership(),
        snapshot_id: "2-1-700".to_owned(),
    };
    Piece { vote: vote(2), meta, len, offset, data: data.to_vec() }
}

fn append(range: std::ops::Range<usize>) -> Request {
    let entries = entries().drain(range).collect();
    let leader_commit = Some(log_id(300));
    Request::Append(AppendEntriesRequest { vote: vote(2), prev_log_id: Some(log_id(4)), entries, leader_commit })
}

#[test]
fn messages() {
    let requests = [
        append(0..0),
        append(0..3),
        append(3..5),
        append(5..8),
        Request::Vote(VoteRequest { vote: Vote::new(70_000, NodeId(1)), last_log_id: None }),
        Request::Piece(piece(10, 5, b"abcde")),
    ];
    let envelope = |request| Envelope { repository: REPOSITORY, from: NodeId(1), to: NodeId(300), request };
    let samples = requests.map(|request| encode(&envelope(request)));
    let tally = fuzz::<Envelope>(check!(), &samples, |envelope| _ = envelope.request.speaker());
    tally.reaches(10_000);
}

#[test]
fn answers() {
    let vote_response = VoteResponse::new(vote(2), Some(log_id(9)), true);
    let samples = [
        Response::Append(AppendEntriesResponse::Success),
        Response::Append(AppendEntriesResponse::PartialSuccess(Some(log_id(9)))),
        Response::Append(AppendEntriesResponse::HigherVote(vote(70_000))),
        Response::Vote(vote_response),
        Response::Taken,
        Response::Snapshot(SnapshotResponse::new(vote(3))),
        Response::Failed("it could not be d\u{f6}ne".to_owned()),
    ];
    let samples = samples.map(|response| encode(&response));
    fuzz::<Response>(check!(), &samples, |_| ()).reaches(10_000);
}

/// A state that comes in pieces: it is the pieces, in their order, or nothing; what is announced costs nothing.
#[test]
fn pieces() {
    let samples = [
        vec![piece(0, 0, b"")],
        vec![piece(5, 0, b"abcde")],
        vec![piece(5, 0, b"ab"), piece(5, 2, b"c"), piece(5, 3, b"de")],
        vec![piece(5, 0, b"ab"), piece(5, 0, b"abc"), piece(5, 0, b"abc"), piece(5, 3, b"d"), piece(5, 4, b"e")],
    ];
    let samples = samples.map(|pieces| encode(&pieces));
    let mut wholes = 0u64;
    let tally = fuzz::<Vec<Piece>>(check!(), &samples, |pieces| {
        let mut slot = None;
        // What has come in order since a beginning.
        let mut model = Vec::new();
        for piece in pieces {
            let (len, offset, data) = (piece.len, piece.offset, piece.data.clone());
            let taken = Incoming::take(&mut slot, piece);
            if taken.is_ok() {
                match offset {
                    0 => model = data,
                    _ if offset == model.len() as u64 => model.extend(data),
                    _ => {}
                }
            }
            let held = slot.as_ref().map_or(0, |slot: &Incoming| slot.data.len());
            assert!(held <= model.len(), "{held} bytes of {}", model.len());
            assert!(taken.is_err() || held as u64 <= len, "{held} bytes, where {len} were announced");
            if let Ok(Some(whole)) = taken {
                assert_eq!((whole.data.len() as u64, &whole.data, &slot), (len, &model, &None));
                wholes += 1;
            }
        }
    });
    tally.reaches(10_000);
    assert!(wholes > 1_000, "only {wholes} states were whole");
}
