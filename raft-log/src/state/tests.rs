//! Tables of commands and outcomes, and random sequences of them.

mod change;
mod lost;
mod members;
mod mistakes;
mod publish;
mod random;
mod room;

use std::collections::BTreeSet;

use ed25519_dalek::{Signer, SigningKey};

use super::*;
use crate::command::{Admit, Founder, Intent, Invite, Publish, Ready, Receipts};
use crate::ids::Signature;

const REPOSITORY: RepositoryId = RepositoryId([9; 32]);

/// A state, and what puts entries before it.
struct World {
    state: State,
    leader: LeaderId,
    index: u64,
    now: u64,
    nonce: u64,
    seq: u64,
}

/// Not a hash, but as different for different steps as the tests need.
fn step_id(step: &Step) -> Id {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&step.index.0.to_le_bytes());
    for (at, byte) in step.change.name.as_str().bytes().chain(step.change.new.unwrap_or_default().0).enumerate() {
        id[8 + at % 24] = id[8 + at % 24].wrapping_mul(31).wrapping_add(byte);
    }
    Id(id)
}

fn id(number: u8) -> Id {
    Id([number; 32])
}

fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
    numbers.iter().map(|number| NodeId(*number)).collect()
}

fn main_ref() -> RefName {
    RefName::new("main").expect("a name")
}

fn change(expected: Option<u8>, new: Option<u8>) -> RefChange {
    RefChange { name: main_ref(), expected: expected.map(id), new: new.map(id) }
}

fn invite_key(number: u8) -> SigningKey {
    SigningKey::from_bytes(&[number; 32])
}

fn admit(invite: &SigningKey, peer: u8, role: Role) -> Admit {
    let mut admit = Admit {
        invite: InviteKey(invite.verifying_key().to_bytes()),
        role,
        peer: PeerKey([peer; 32]),
        name: format!("peer {peer}"),
        addresses: vec!["/ip4/127.0.0.1/udp/7946/quic-v1".to_owned()],
        is_partial: false,
        signature: Signature(Vec::new()),
    };
    admit.signature = Signature(invite.sign(&admit.signed_bytes(REPOSITORY)).to_bytes().to_vec());
    admit
}

impl World {
    /// One member, who votes.
    fn new() -> Self {
        let leader = LeaderId { term: 1, node: NodeId(1) };
        let state = State::new(REPOSITORY);
        let mut world = Self { state, leader, index: 0, now: 1_000, nonce: 0, seq: 0 };
        world.vote(&[&[1]]);
        let founder = Founder { key: PeerKey([1; 32]), name: "first".to_owned(), addresses: Vec::new() };
        assert_eq!(world.apply(Command::Found(founder)), Outcome::Admitted(NodeId(1)));
        world
    }

    /// Members 1 to `count`, all candidates, of whom `voters` vote.
    fn with(count: u8, voters: &[u64]) -> Self {
        let mut world = Self::new();
        let key = invite_key(200);
        world.invite(&key, Role::Candidate, 100, None);
        for peer in 2..=count {
            assert_eq!(
                world.apply(Command::Admit(admit(&key, peer, Role::Candidate))),
                Outcome::Admitted(NodeId(u64::from(peer)))
            );
        }
        world.vote(&[voters]);
        world
    }

    fn position(&mut self) -> Position {
        let at = Position { leader: self.leader, index: LogIndex(self.index) };
        self.index += 1;
        at
    }

    fn apply_all(&mut self, commands: Vec<Command>) -> Vec<Applied> {
        let at = self.position();
        self.state.apply(at, &Batch { now: Millis(self.now), commands }, step_id)
    }

    fn apply(&mut self, command: Command) -> Outcome {
        self.apply_all(vec![command]).remove(0).outcome
    }

    fn vote(&mut self, sets: &[&[u64]]) {
        let at = self.position();
        self.state.set_voters(at, sets.iter().map(|set| nodes(set)).collect());
    }

    /// Another leadership begins, with its first entry.
    fn elect(&mut self, node: u64) {
        self.leader = LeaderId { term: self.leader.term + 1, node: NodeId(node) };
        let at = self.position();
        self.state.advance(at);
    }

    fn receipts(&mut self, from: &[u64]) -> Option<Receipts> {
        self.nonce += 1;
        Some(Receipts { leader: self.leader, nonce: self.nonce, nodes: nodes(from) })
    }

    /// A new publish of node 1, with these holders.
    fn publish(&mut self, change: RefChange, holders: &[u64]) -> Outcome {
        self.seq += 1;
        let receipts = self.receipts(holders);
        self.apply(Command::Publish(Publish { client: NodeId(1), seq: self.seq, change, receipts }))
    }

    fn invite(&mut self, key: &SigningKey, role: Role, uses: u32, expires: Option<u64>) {
        let key = InviteKey(key.verifying_key().to_bytes());
        let invite = Invite { key, role, uses, expires: expires.map(Millis), by: NodeId(1) };
        assert_eq!(self.apply(Command::Invite(invite)), Outcome::Done);
    }

    fn intend(&mut self, target: &[u64]) -> Outcome {
        self.apply(Command::Intent(Intent { target: nodes(target), is_even_allowed: false, by: NodeId(1) }))
    }

    /// Ready, by these nodes as of the last entry.
    fn ready(&mut self, from: &[u64]) -> Outcome {
        let intent = self.state.change.as_ref().map_or(IntentId(0), |change| change.id);
        let as_of = LogIndex(self.index - 1);
        let receipts = from.iter().map(|node| (NodeId(*node), as_of)).collect();
        self.apply(Command::Ready(Ready { intent, receipts }))
    }
}

#[track_caller]
fn assert_published(outcome: &Outcome) {
    assert!(matches!(outcome, Outcome::Published { .. }), "{outcome:?}");
}
