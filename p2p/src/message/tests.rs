//! What is decoded is encoded again byte for byte, or refused; nothing panics, whatever the bytes.

use filesync_cas::testing::Rng;
use filesync_merkle::{CommitId, PubId};

use super::*;
use crate::wants::{NodeWants, Run};

fn id(n: u8) -> ContentHash {
    ContentHash::from_bytes([n; 32])
}

fn samples() -> Vec<Message> {
    let root = Root::Commit(CommitId(id(1)));
    let path = RepoPath::parse(b"some/where").expect("a path");
    let hello = Hello { versions: (1, 3), repository: id(2), epoch: 9, nonce: 77, class: Class::Bulk };
    let walk = Walk { root, base: None, history: true, path: RepoPath::root(), from: 0 };
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

/// P16: one value has one form. Two hundred thousand changes of good messages.
#[test]
fn mutated_messages_are_refused_or_come_out_the_same() {
    let seed = std::env::var("FILESYNC_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_126);
    eprintln!("FILESYNC_SEED={seed}");
    let runs = if std::env::var_os("FILESYNC_LONG").is_some() { 20_000_000 } else { 200_000 };
    let mut rng = Rng::new(seed);
    let samples = samples();
    let mut taken = 0u32;
    for _ in 0..runs {
        let message = &samples[rng.index(samples.len())];
        let mut bytes = body(message);
        for _ in 0..=rng.below(3) {
            mutate(&mut rng, &mut bytes);
        }
        let kind = if rng.chance(1, 50) { rng.next_u64().to_le_bytes()[0] } else { message.kind() };
        if let Ok(message) = Message::decode(kind, bytes.clone()) {
            taken += 1;
            assert_eq!(message.encode()[5..], bytes, "{message:?}");
        }
    }
    assert!(taken > 1000, "only {taken} were taken: nothing was tried");
}

fn mutate(rng: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return bytes.push(rng.next_u64().to_le_bytes()[0]);
    }
    let at = rng.index(bytes.len());
    match rng.below(6) {
        0 => bytes[at] ^= 1 << rng.below(8),
        1 => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][rng.index(5)],
        2 => bytes.truncate(at),
        3 => bytes.insert(at, rng.next_u64().to_le_bytes()[0]),
        4 => drop(bytes.remove(at)),
        _ => {
            let from = rng.index(bytes.len());
            let piece = bytes[from..].iter().copied().take(4).collect::<Vec<_>>();
            bytes.splice(at..at, piece);
        }
    }
}
