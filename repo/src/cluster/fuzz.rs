//! What members ask each other, and the line that strangers are given, with bytes that are nearly right (G8).

use bolero::check;
use filesync_cas::hash::check16;
use filesync_cas::testing::{Tally, Target};
use filesync_raft_log::State;
use filesync_raft_log::command::{Admit, Command, Outcome, RefChange, Refusal, Role, TryId};
use filesync_raft_log::ids::{Id, InviteKey, LeaderId, LogIndex, NodeId, PeerKey, RefName, RepositoryId, Signature};
use filesync_raft_log::state::Member;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::calls::{About, Answer, Call, Found, TryState, decode, encode};
use super::invite::{Door, InviteLine};
use crate::fuzz::fuzz;

/// A number has more than one form, so it is the value that must come out the same, and never longer.
fn fuzz_values<T: Serialize + DeserializeOwned>(target: Target, values: &[T], mut look: impl FnMut(&T)) -> Tally {
    let samples: Vec<_> = values.iter().map(encode).collect();
    let words: [&[u8]; 4] = [&[0x80, 0x00], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10], &[1, 1, 1]];
    // The library believes an announced count up to a MiB, and one may stand within the other.
    fuzz(&samples).words(&words).room(8 << 20, 256).run(target, |bytes| {
        let encoded = encode(&decode::<T>(bytes).ok()?);
        assert!(encoded.len() <= bytes.len(), "it is longer than it was: {encoded:?}");
        let value = decode::<T>(&encoded).expect("what is written is read");
        assert_eq!(encode(&value), encoded, "another value");
        look(&value);
        Some(bytes.to_vec())
    })
}

fn id() -> TryId {
    TryId { client: NodeId(300), leader: LeaderId { term: 2, node: NodeId(1) }, nonce: 70_000 }
}

fn change() -> RefChange {
    RefChange { name: RefName::new("main").unwrap(), expected: None, new: Some(Id([7; 32])) }
}

fn admit() -> Admit {
    Admit {
        invite: InviteKey([5; 32]),
        role: Role::Writer,
        peer: PeerKey([8; 32]),
        name: "somebody \u{e9}".to_owned(),
        addresses: vec!["127.0.0.1:7946".to_owned()],
        is_partial: false,
        signature: Signature(vec![9; 64]),
    }
}

#[test]
fn calls() {
    let node = NodeId(1);
    let values = [
        Call::Facts,
        Call::Publish { seq: 12, change: change() },
        Call::Hold { id: id(), commit: Id([7; 32]) },
        Call::Wanted(id()),
        Call::Propose(Command::SetAddresses { node, addresses: vec!["127.0.0.1:1".to_owned(); 2] }),
        Call::Propose(Command::SetRole { node, role: Role::Reader, by: node }),
        Call::Join(admit()),
        Call::Vouch,
        Call::About,
        Call::HeldAsOf,
        Call::Find(vec![(1, Id([7; 32])), (3, Id([8; 32]))]),
        Call::Show { key: Id([4; 32]), objects: vec![(1, Id([7; 32]))] },
    ];
    fuzz_values(check!(), &values, |call: &Call| _ = (call.topic(), call.class())).reaches(10_000);
}

#[test]
fn answers() {
    let mut state = State::new(RepositoryId([1; 32]));
    state.members.insert(NodeId(1), Member::known(PeerKey([2; 32]), vec!["127.0.0.1:1".to_owned()]));
    state.voters = vec![[NodeId(1)].into()];
    let mut with_lost = state.clone();
    with_lost.lost = [Id([6; 32])].into();
    let values = [
        Answer::Facts(Box::new(State::new(RepositoryId([1; 32])))),
        Answer::Joined(NodeId(4), Box::new(state)),
        Answer::Outcome(Outcome::Published { index: LogIndex(300), step: Id([3; 32]) }),
        Answer::Outcome(Outcome::Lost { current: Some(Id([3; 32])) }),
        Answer::Outcome(Outcome::Refused(Refusal::BadTarget("none".to_owned()))),
        Answer::Working(70_000),
        Answer::Held,
        Answer::Try(TryState::Decided),
        Answer::About(About { applied: 300, held: Some(Id([3; 32])), leader: Some(NodeId(1)), clock: 7 }),
        Answer::HeldAsOf(5),
        Answer::NotLeader(Some(NodeId(2))),
        Answer::Unknown("it timed out".to_owned()),
        Answer::Facts(Box::new(with_lost)),
        Answer::Found(vec![Found::Good, Found::Nowhere, Found::NotYet]),
        Answer::Shown(Id([4; 32])),
    ];
    fuzz_values(check!(), &values, |_: &Answer| ()).reaches(10_000);
}

/// The bytes of a line, without its check: who makes up a line makes that too.
fn lines() -> Vec<Vec<u8>> {
    let door = |node, addresses: &[&str]| Door {
        node: NodeId(node),
        key: PeerKey([3; 32]),
        addresses: addresses.iter().map(|address| (*address).to_owned()).collect(),
    };
    let line = |role, doors: Vec<Door>| {
        let (repository, seed) = (RepositoryId([1; 32]), [2; 32]);
        encode(&InviteLine { repository, seed, role, chunk_size: 64 << 10, is_compressed: true, doors })
    };
    vec![
        line(Role::Reader, vec![]),
        line(Role::Writer, vec![door(1, &["127.0.0.1:7946"])]),
        line(Role::Candidate, vec![door(1, &["host.example:1", "[::1]:2"]), door(300, &[])]),
    ]
}

fn as_line(bytes: &[u8]) -> String {
    let bytes = [bytes, &check16(&[bytes])[..8]].concat();
    format!("filesync1{}", data_encoding::BASE32_NOPAD.encode(&bytes).to_ascii_lowercase())
}

/// Lines that somebody made up.
#[test]
fn invites() {
    let tally = fuzz(&lines()).room(8 << 20, 256).run(check!(), |bytes| {
        let line = InviteLine::decode(&as_line(bytes)).ok()?;
        let text = line.encode().unwrap();
        assert!(text.len() <= as_line(bytes).len());
        assert_eq!(InviteLine::decode(&text).unwrap(), line);
        drop(line.params());
        Some(bytes.to_vec())
    });
    tally.reaches(10_000);
}

/// Lines that were copied badly: spaces around one and large letters are all that is forgiven.
#[test]
fn invites_as_text() {
    let samples: Vec<_> = lines().iter().map(|bytes| as_line(bytes).into_bytes()).collect();
    let known: Vec<_> = lines().iter().map(|bytes| InviteLine::decode(&as_line(bytes)).unwrap()).collect();
    let words: [&[u8]; 6] = [b" ", b"\n", b"=", b"A", b"filesync1", b"\xc3\xa9"];
    fuzz(&samples).words(&words).run(check!(), |bytes| {
        let line = InviteLine::decode(std::str::from_utf8(bytes).ok()?).ok()?;
        assert!(known.contains(&line), "this was never made");
        Some(bytes.to_vec())
    });
}
