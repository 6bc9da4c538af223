//! What stands in the log and what is done by it, with bytes that are nearly right (G8): see
//! [`filesync_cas::testing::Fuzz`]. What comes over the network and what lies on the disk is tried where its types are.

use std::collections::{BTreeMap, BTreeSet};

use bolero::check;
use filesync_cas::testing::{Fuzz, Tally, Target};
use openraft::EntryPayload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::command::{
    Admit, Batch, Command, Founder, Intent, IntentId, Invite, Outcome, Publish, Ready, Receipts, RefChange, Role,
};
use crate::ids::{Id, InviteKey, LeaderId, LogIndex, Millis, NodeId, PeerKey, Position, RefName, Signature};
use crate::state::{Change, Decided, Member, OpenInvite, State};
use crate::testing::{REPOSITORY, key, main_ref, step_id};
use crate::types::{Entry, LogId, Membership, RaftNode, Vote, decode, encode};

fn peak(run: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

/// Numbers of several bytes, in the one form and in others, and counts of what is not there.
const WORDS: [&[u8]; 5] =
    [&[0x80, 0x00], &[0xff, 0xff, 0xff, 0xff, 0x0f], &[0xff; 10], &[0x80, 0x80, 0x40], &[1, 1, 1]];

/// Tries what is written with [`encode`]. `look` gets every value that is taken.
///
/// A number has more than one form there, so it is the value that must come out the same, and never longer.
pub(crate) fn fuzz<T: Serialize + DeserializeOwned>(
    target: Target,
    samples: &[Vec<u8>],
    mut look: impl FnMut(T),
) -> Tally {
    // The library believes an announced count up to a MiB, and one may stand within the other.
    Fuzz::new(samples, peak).words(&WORDS).room(8 << 20, 256).run(target, |bytes| {
        let encoded = encode(&decode::<T>(bytes).ok()?);
        assert!(encoded.len() <= bytes.len(), "it is longer than it was: {encoded:?}");
        assert_eq!(encoded.first(), bytes.first(), "another version");
        let value = decode::<T>(&encoded).expect("what is written is read");
        assert_eq!(encode(&value), encoded, "another value");
        look(value);
        Some(bytes.to_vec())
    })
}

pub(crate) fn vote(term: u64) -> Vote {
    Vote::new_committed(term, NodeId(1))
}

pub(crate) fn log_id(index: u64) -> LogId {
    LogId::new(openraft::CommittedLeaderId::new(2, NodeId(1)), index)
}

pub(crate) fn membership() -> openraft::Membership<NodeId, RaftNode> {
    let nodes: BTreeMap<_, _> = [1, 2, 300].map(|node| (NodeId(node), RaftNode { key: key(NodeId(node)) })).into();
    openraft::Membership::new(vec![nodes_of(&[1, 2]), nodes_of(&[2, 300])], nodes)
}

pub(crate) fn stored_membership() -> Membership {
    Membership::new(Some(log_id(3)), membership())
}

fn nodes_of(nodes: &[u64]) -> BTreeSet<NodeId> {
    nodes.iter().copied().map(NodeId).collect()
}

fn addresses() -> Vec<String> {
    vec!["127.0.0.1:7946".to_owned(), "host.example:1".to_owned()]
}

fn publish(seq: u64) -> Publish {
    let leader = LeaderId { term: 2, node: NodeId(1) };
    let receipts = Some(Receipts { leader, nonce: seq, nodes: nodes_of(&[1, 2]) });
    Publish { client: NodeId(2), seq, change: main_ref(None, Id([7; 32])), receipts }
}

/// One of each.
pub(crate) fn commands() -> Vec<Command> {
    let (node, by, invite) = (NodeId(3), NodeId(1), InviteKey([5; 32]));
    let gone = RefChange { name: RefName::new("tags/\u{e9}").expect("a name"), expected: Some(Id([7; 32])), new: None };
    vec![
        Command::Found(Founder { key: key(node), name: "first".to_owned(), addresses: addresses() }),
        Command::Publish(publish(1)),
        Command::Publish(Publish { seq: u64::MAX, change: gone, receipts: None, ..publish(1) }),
        Command::Invite(Invite { key: invite, role: Role::Writer, uses: 300, expires: Some(Millis(1 << 41)), by }),
        Command::Revoke { key: invite, by },
        Command::Admit(Admit {
            invite,
            role: Role::Writer,
            peer: PeerKey([8; 32]),
            name: "n".to_owned(),
            addresses: addresses(),
            is_partial: true,
            signature: Signature(vec![9; 64]),
        }),
        Command::Remove { node, by },
        Command::SetRole { node, role: Role::Reader, by },
        Command::SetAddresses { node, addresses: addresses() },
        Command::SetPartial { node, is_partial: true },
        Command::Intent(Intent { target: nodes_of(&[1, 2, 3]), is_even_allowed: false, by }),
        Command::Ready(Ready { intent: IntentId(1), receipts: [1, 2, 3].map(|n| (NodeId(n), LogIndex(n))).into() }),
        Command::Cancel { intent: IntentId(1) },
        Command::Deficient { node },
        Command::Whole { node },
        Command::Lost { node, asked: nodes_of(&[1, 2, 3]), objects: [Id([1; 32]), Id([2; 32])].into() },
    ]
}

fn batch(commands: Vec<Command>) -> Batch {
    Batch { now: Millis(1 << 40), commands }
}

/// Entries of all sorts.
pub(crate) fn entries() -> Vec<Entry> {
    let payloads =
        [EntryPayload::Blank, EntryPayload::Membership(membership()), EntryPayload::Normal(batch(Vec::new()))];
    let few = commands().chunks(3).map(|commands| EntryPayload::Normal(batch(commands.to_vec()))).collect::<Vec<_>>();
    let payloads = payloads.into_iter().chain(few);
    payloads.zip(5..).map(|(payload, index)| Entry { log_id: log_id(index), payload }).collect()
}

/// A state in which there is something of everything.
pub(crate) fn state() -> State {
    let mut state = State::new(REPOSITORY);
    let at = |index| Position { leader: LeaderId { term: 2, node: NodeId(1) }, index: LogIndex(index) };
    state.applied = Some(at(4));
    state.now = Millis(1 << 39);
    state.refs.insert(RefName::new("main").expect("a name"), Id([6; 32]));
    state.holders = nodes_of(&[1, 2]);
    state.last_step = Some(Id([4; 32]));
    for node in [1, 2, 3, 9] {
        let mut member = Member::known(key(NodeId(node)), addresses());
        member.is_deficient = node == 3;
        member.is_removed = node == 9;
        let outcome = Outcome::Published { index: LogIndex(3), step: Id([4; 32]) };
        let decided = Decided { seq: 7, change: main_ref(None, Id([6; 32])), outcome };
        member.last = (node == 2).then_some(decided);
        member.last_try = (node == 2).then_some((LeaderId { term: 1, node: NodeId(1) }, 12));
        state.members.insert(NodeId(node), member);
    }
    let invite = OpenInvite { role: Role::Writer, uses: 2, expires: Some(Millis(u64::MAX)), by: NodeId(1) };
    state.invites.insert(InviteKey([5; 32]), invite);
    state.voters = vec![nodes_of(&[1, 2, 3])];
    state.intents = 1;
    state.lost = [Id([7; 32]), Id([8; 32])].into();
    state.change = Some(Change { id: IntentId(1), index: LogIndex(4), target: nodes_of(&[1, 2]), is_ready: false });
    state
}

#[test]
fn log_entries() {
    let samples: Vec<_> = entries().iter().map(encode).collect();
    fuzz::<Entry>(check!(), &samples, |_| ()).reaches(10_000);
}

/// No entry makes a node stop: all would, one after the other.
#[test]
fn whatever_an_entry_says() {
    let (start, at) = (state(), Position { leader: LeaderId { term: 2, node: NodeId(1) }, index: LogIndex(5) });
    let mut samples: Vec<_> = commands().into_iter().map(|command| encode(&batch(vec![command]))).collect();
    samples.push(encode(&batch(vec![Command::Publish(publish(8)), Command::Whole { node: NodeId(3) }])));
    let mut done = 0u64;
    let tally = fuzz::<Batch>(check!(), &samples, |batch| {
        let mut state = start.clone();
        let applied = state.apply(at, &batch, step_id);
        assert_eq!(applied.len(), batch.commands.len());
        done += applied.iter().filter(|applied| !matches!(applied.outcome, Outcome::Refused(_))).count() as u64;
    });
    tally.reaches(10_000);
    assert!(done > 1_000, "only {done} did anything");
}
