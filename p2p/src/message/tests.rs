//! What is decoded is encoded again byte for byte, or refused; `crate::fuzz` has more.

use filesync_merkle::{CommitId, PubId};

use super::*;
use crate::wants::{NodeWants, Run};

fn id(n: u8) -> ContentHash {
    ContentHash::from_bytes([n; 32])
}

/// Messages of every type.
pub(crate) fn samples() -> Vec<Message> {
    let root = Root::Commit(CommitId(id(1)));
    let path = RepoPath::parse(b"some/where").expect("a path");
    let hello = Hello { versions: (1, 3), repository: id(2), epoch: 9, nonce: 77, class: Class::Bulk };
    let part = |text: &str| RepoPath::parse(text.as_bytes()).expect("a path");
    let walk = Walk { root, base: None, history: true, path: RepoPath::root(), parts: Parts::whole(), from: 0 };
    let node = |keep, steps: &[u16]| NodeWants {
        root: 0,
        keep,
        steps: steps.to_vec(),
        runs: vec![Run { first: 0, count: 5 }, Run { first: 9, count: 1 }],
    };
    vec![
        Message::Hello(hello),
        Message::Hello(Hello { class: Class::Raft, ..hello }),
        Message::Welcome(Welcome { version: 1, epoch: 4, nonce: 5 }),
        Message::Refused(Refusal::Nothing),
        Message::Walk(walk.clone()),
        Message::Walk(Walk { base: Some(id(3)), history: false, path, from: 1 << 40, ..walk.clone() }),
        Message::Walk(Walk { parts: Parts::new(&["a", "b/c", "b/d"].map(part)), ..walk.clone() }),
        Message::Walk(Walk { root: Root::Pub(PubId(id(4))), ..walk }),
        Message::Nodes(Nodes { lens: vec![3, 4], compressed: false, payload: b"abcdefg".to_vec() }),
        Message::Nodes(Nodes { lens: vec![100], compressed: true, payload: vec![7; 20] }),
        Message::Delta { len: 5000, payload: vec![1, 2, 3] },
        Message::Absent,
        Message::WalkEnd { count: 12 },
        Message::Get(Get { roots: vec![root], nodes: vec![node(0, &[0, 4]), node(1, &[5, 6, 7]), node(3, &[])] }),
        Message::Frame(vec![9; 300]),
        Message::GetEnd { sent: 3 },
        Message::Call { number: 3, topic: 17, body: b"opaque".to_vec() },
        Message::Reply { number: 3, status: Status::Elsewhere, body: vec![] },
    ]
}

fn body(message: &Message) -> Vec<u8> {
    message.encode()[5..].to_vec()
}

#[test]
fn round_trips() {
    for message in samples() {
        let bytes = message.encode();
        assert_eq!(u32::from_le_bytes(*bytes.first_chunk().expect("a length")) as usize, bytes.len() - 4);
        assert_eq!(message.encoded_len(), bytes.len());
        assert_eq!(message.clone().into_bytes(), bytes);
        assert_eq!(Message::decode(message.kind(), bytes[5..].to_vec()), Ok(message));
    }
}

#[test]
fn a_byte_more_or_less_is_refused() {
    for message in samples() {
        let is_opaque = matches!(
            message,
            Message::Frame(_)
                | Message::Call { .. }
                | Message::Reply { .. }
                | Message::Nodes(_)
                | Message::Delta { .. }
        );
        if !is_opaque {
            let longer = [&body(&message)[..], b"x"].concat();
            assert!(Message::decode(message.kind(), longer).is_err(), "{message:?}");
            let shorter = body(&message).split_last().map(|(_, rest)| rest.to_vec());
            assert!(shorter.is_none_or(|bytes| Message::decode(message.kind(), bytes).is_err()), "{message:?}");
        }
    }
}

#[test]
fn bodies_of_samples_are_within_their_limits() {
    for message in samples() {
        let max = Class::ALL
            .into_iter()
            .flat_map(|class| [Side::Asker, Side::Answerer].map(|side| body_max(class, side, message.kind())))
            .flatten()
            .max();
        assert!(max.is_some_and(|max| body(&message).len() <= max), "{message:?}");
    }
    assert_eq!(message_max(Class::Bulk, Side::Asker), (64 << 10) + 1);
    assert_eq!(message_max(Class::Bulk, Side::Answerer), 1_200_184 + 1);
}
