use std::sync::Mutex;

use super::*;
use crate::testing::REPOSITORY;
use crate::types::LogId;

/// A request for a vote, as a node would send it.
pub fn vote_message(from: NodeId, to: NodeId, term: u64) -> Vec<u8> {
    message(from, to, Request::Vote(VoteRequest { vote: Vote::new(term, from), last_log_id: None }))
}

/// One in which `from` asks for a vote for `speaker`.
pub fn forged_message(from: NodeId, to: NodeId, speaker: NodeId) -> Vec<u8> {
    message(from, to, Request::Vote(VoteRequest { vote: Vote::new(1_000_000, speaker), last_log_id: None }))
}

/// A state that openraft could not install: it has no bytes.
pub fn empty_state_message(from: NodeId, to: NodeId, term: u64) -> Vec<u8> {
    let last_log_id = Some(LogId::new(openraft::CommittedLeaderId::new(term, from), 1_000_000));
    let meta = SnapshotMeta { last_log_id, ..SnapshotMeta::default() };
    message(from, to, Request::Piece(Piece { vote: Vote::new_committed(term, from), meta, ..piece(0, 0, &[]) }))
}

/// Whether an answer says that nothing was done.
pub fn is_failed(answer: &[u8]) -> bool {
    matches!(decode(answer), Ok(Response::Failed(_)))
}

fn message(from: NodeId, to: NodeId, request: Request) -> Vec<u8> {
    encode(&Envelope { repository: REPOSITORY, from, to, request })
}

fn piece(len: u64, offset: u64, data: &[u8]) -> Piece {
    Piece { vote: Vote::new_committed(1, NodeId(1)), meta: SnapshotMeta::default(), len, offset, data: data.to_vec() }
}

#[test]
fn pieces_become_one() {
    let mut slot = None;
    assert_eq!(Incoming::take(&mut slot, piece(5, 0, b"ab")), Ok(None));
    assert_eq!(Incoming::take(&mut slot, piece(5, 0, b"ab")), Ok(None), "begun again");
    assert_eq!(Incoming::take(&mut slot, piece(5, 2, b"cd")), Ok(None));
    assert_eq!(Incoming::take(&mut slot, piece(5, 2, b"cd")), Ok(None), "twice");
    let whole = Incoming::take(&mut slot, piece(5, 4, b"e")).expect("it fits").expect("it is the last");
    assert_eq!((whole.data.as_slice(), slot), (&b"abcde"[..], None));
    let empty = Incoming::take(&mut None, piece(0, 0, b"")).expect("it fits");
    assert!(empty.is_some_and(|whole| whole.data.is_empty()));
}

#[test]
fn pieces_that_do_not_fit() {
    let mut slot = None;
    let begun = Piece { vote: Vote::new_committed(2, NodeId(1)), ..piece(5, 2, b"cd") };
    assert!(Incoming::take(&mut slot, piece(5, 2, b"cd")).is_err(), "nothing was begun");
    assert_eq!(Incoming::take(&mut slot, piece(5, 0, b"ab")), Ok(None));
    for wrong in
        [begun, piece(6, 2, b"cd"), piece(5, 3, b"d"), piece(5, 2, b""), piece(5, 2, b"cdef"), piece(5, u64::MAX, b"x")]
    {
        assert!(Incoming::take(&mut slot, wrong.clone()).is_err(), "{wrong:?}");
    }
    for long in [piece(u64::MAX, 0, b"x"), piece(1 << 24, 0, &vec![0; PIECE_LEN + 1])] {
        assert!(Incoming::take(&mut slot, long).is_err());
    }
    // What had come is there still.
    let whole = Incoming::take(&mut slot, piece(5, 2, b"cde")).expect("it fits").expect("it is the last");
    assert_eq!(whole.data, b"abcde");
}

/// What stands where in a state.
fn byte(at: usize) -> u8 {
    (at / 1_000 % 256).try_into().expect("less than that")
}

/// A node that takes pieces, and fails once in the middle.
struct Taker {
    slot: Mutex<Option<Incoming>>,
    taken: Mutex<Vec<usize>>,
    fails_at: Option<usize>,
}

impl Network for Taker {
    fn send(&self, to: Recipient, message: Vec<u8>, _: Duration) -> Sending<'_> {
        assert_eq!((to.class, message.len() <= MESSAGE_LEN_MAX), (Class::Snapshot, true));
        let mut taken = self.taken.lock().expect("no other thread");
        taken.push(message.len());
        if self.fails_at == Some(taken.len()) {
            return Box::pin(async { Err(SendError::TimedOut) });
        }
        let Ok(Envelope { request: Request::Piece(piece), .. }) = decode(&message) else { panic!("no piece") };
        let response = match Incoming::take(&mut self.slot.lock().expect("no other thread"), piece) {
            Err(cause) => Response::Failed(cause),
            Ok(None) => Response::Taken,
            Ok(Some(whole)) => {
                assert!(whole.data.iter().enumerate().all(|(at, found)| *found == byte(at)));
                Response::Snapshot(SnapshotResponse::new(whole.vote))
            }
        };
        Box::pin(async move { Ok(encode(&response)) })
    }
}

#[test]
fn a_long_state_travels_in_pieces() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("it can be made");
    let table = [
        (0, 1, None),
        (1, 1, None),
        (PIECE_LEN, 1, Some(1)),
        (PIECE_LEN + 1, 2, None),
        (5 * PIECE_LEN / 2, 3, Some(2)),
    ];
    for (len, pieces, fails_at) in table {
        let taker = Taker { slot: Mutex::default(), taken: Mutex::default(), fails_at };
        let taker = Arc::new(taker);
        let network: Arc<dyn Network> = Arc::<Taker>::clone(&taker);
        let (from, to, key) = (NodeId(1), NodeId(2), PeerKey([2; 32]));
        let link = Link { network, repository: REPOSITORY, from, to, key, backoff: Duration::ZERO };
        let data: Vec<_> = (0..len).map(byte).collect();
        let send = || {
            let snapshot = Box::new(data.clone());
            let snapshot = Snapshot { meta: SnapshotMeta::default(), snapshot };
            link.send_pieces(Vote::new_committed(1, from), snapshot, Duration::from_secs(60))
        };
        let sent = runtime.block_on(send());
        assert_eq!(sent.is_err(), fails_at.is_some(), "{len}: {sent:?}");
        assert_eq!(taker.taken.lock().expect("no other thread").len(), fails_at.unwrap_or(pieces));
        // What failed is begun again, from the start.
        assert!(runtime.block_on(send()).is_ok());
    }
}
