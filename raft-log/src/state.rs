//! The state machine: what the log means. `docs/model.md` tells why its rules are what they are.
//!
//! [`State::apply`] is a function of state and entry: no clock, no disk, no chance, no panic whatever the entry says.
//! So every node that has applied the same entries has the same state.

mod change;
mod encoding;
mod lost;
mod members;
mod publish;
mod room;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::command::{Batch, Command, IntentId, Outcome, RefChange, Refusal, Role, TryId};
use crate::ids::{Id, InviteKey, LeaderId, LogIndex, Millis, NodeId, PeerKey, Position, RefName, RepositoryId};

pub use lost::{LOST_MAX, LOST_MAX_OF_ENTRY};
pub use room::{LEN_MAX, LEN_MAX_OF_OTHERS};

/// One step in the order of publishes: the fields of the object that every node writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Where the log says so.
    pub index: LogIndex,
    /// What moved. `expected` is where the ref stood.
    pub change: RefChange,
    /// The step before.
    pub prev: Option<Id>,
}

/// Gives the id of a step's object. Its bytes are another crate's business; the id must depend on the step alone.
pub type StepId = fn(&Step) -> Id;

/// What all nodes agree on. How it is written: `encoding.rs`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Which repository.
    pub repository: RepositoryId,
    /// How many lives the cluster has had: it begins another when it goes on with a single survivor. 0 is not known.
    pub epoch: u64,
    /// The last entry applied.
    pub applied: Option<Position>,
    /// The latest time in any entry. Never goes back.
    pub now: Millis,
    /// Refs, tags among them.
    pub refs: BTreeMap<RefName, Id>,
    /// Voters that held what `main` names when it was published. Others may by now.
    pub holders: BTreeSet<NodeId>,
    /// The last step in the order of publishes.
    pub last_step: Option<Id>,
    /// All members there ever were.
    pub members: BTreeMap<NodeId, Member>,
    /// Invites that can still be used.
    pub invites: BTreeMap<InviteKey, OpenInvite>,
    /// Who votes: one set, or two while they change.
    pub voters: Vec<BTreeSet<NodeId>>,
    /// The change of voters that is under way.
    pub change: Option<Change>,
    /// Intents there were.
    pub intents: u64,
    /// Objects that were lost: at some time no voter had them. They are no part of what is to be held, though some may have come
    /// back. Nothing goes from here.
    pub lost: BTreeSet<Id>,
}

/// A row of the table of members.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Who it is.
    pub key: PeerKey,
    /// What it is called.
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// Where it is reached.
    pub addresses: Vec<String>,
    /// Parts are left out of its copy.
    pub is_partial: bool,
    /// It lacks data that it should have.
    pub is_deficient: bool,
    /// It is a member no more. The row stays: old signatures can be checked, the number is not used again.
    pub is_removed: bool,
    /// The invite that it came with.
    pub invite: Option<InviteKey>,
    /// Its last publish that was decided.
    pub last: Option<Decided>,
    /// The last try of it that was decided, one way or the other. Pins of tries up to here can go.
    pub last_try: Option<(LeaderId, u64)>,
}

/// A publish that was decided: asked for again, it is answered from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decided {
    /// Its number.
    pub seq: u64,
    /// What was asked for.
    pub change: RefChange,
    /// [`Outcome::Published`] or [`Outcome::Lost`].
    pub outcome: Outcome,
}

/// An invite that can still be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenInvite {
    /// As what.
    pub role: Role,
    /// How often still.
    pub uses: u32,
    /// Until when.
    pub expires: Option<Millis>,
    /// Who issued it.
    pub by: NodeId,
}

/// A change of voters between its intent and its target's vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Its name.
    pub id: IntentId,
    /// The entry of the intent.
    pub index: LogIndex,
    /// Who is to vote.
    pub target: BTreeSet<NodeId>,
    /// The target holds what is live.
    pub is_ready: bool,
}

impl State {
    /// Before the first entry: nobody belongs to it.
    pub fn new(repository: RepositoryId) -> Self {
        Self {
            repository,
            epoch: 1,
            applied: None,
            now: Millis(0),
            refs: BTreeMap::new(),
            holders: BTreeSet::new(),
            last_step: None,
            members: BTreeMap::new(),
            invites: BTreeMap::new(),
            voters: Vec::new(),
            change: None,
            intents: 0,
            lost: BTreeSet::new(),
        }
    }

    /// Applies commands that stand together in an entry: one outcome each, in their order.
    pub fn apply(&mut self, at: Position, batch: &Batch, step_id: StepId) -> Vec<Applied> {
        self.advance(at);
        self.now = self.now.max(batch.now);
        batch.commands.iter().map(|command| self.apply_one(at, command, step_id)).collect()
    }

    /// Applies an entry that says nothing, such as a new leader's first.
    pub fn advance(&mut self, at: Position) {
        assert!(self.applied < Some(at), "entries are applied in order: {at:?} after {:?}", self.applied);
        self.applied = Some(at);
    }

    fn apply_one(&mut self, at: Position, command: &Command, step_id: StepId) -> Applied {
        let outcome = match command {
            Command::Found(founder) => self.found(founder),
            Command::Publish(publish) => return self.publish(at, publish, step_id),
            Command::Invite(invite) => self.invite(invite),
            Command::Revoke { key, by } => self.revoke(key, *by),
            Command::Admit(admit) => self.admit(admit),
            Command::Remove { node, by } => self.remove(*node, *by),
            Command::SetRole { node, role, by } => self.set_role(*node, *role, *by),
            Command::SetAddresses { node, addresses } => self.set_addresses(*node, addresses),
            Command::SetPartial { node, is_partial } => self.set_partial(*node, *is_partial),
            Command::Intent(intent) => self.intent(at, intent),
            Command::Ready(ready) => self.ready(ready),
            Command::Cancel { intent } => self.cancel(*intent),
            Command::Deficient { node } => self.set_deficient(*node, true),
            Command::Whole { node } => self.set_deficient(*node, false),
            Command::Lost { node, asked, objects } => self.lose(*node, asked, objects),
        };
        Applied { outcome: outcome.unwrap_or_else(Outcome::Refused), step: None }
    }

    /// The row of a member, if it is one still.
    pub fn member(&self, node: NodeId) -> Result<&Member, Refusal> {
        self.members.get(&node).filter(|member| !member.is_removed).ok_or(Refusal::NotAMember(node))
    }

    /// The member with this key, also one that was removed.
    pub fn member_by_key(&self, key: PeerKey) -> Option<(NodeId, &Member)> {
        self.members.iter().find(|(_, member)| member.key == key).map(|(node, member)| (*node, member))
    }

    /// Whether a node votes, in any set in force.
    pub fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|set| set.contains(&node))
    }

    /// Whether a try can have no effect any more, by the entries applied: a pin for it may go once this state is
    /// on disk (and not before: `docs/model.md`).
    pub fn is_decided(&self, id: TryId) -> bool {
        let is_over = self.applied.is_some_and(|applied| applied.leader > id.leader);
        is_over || self.members.get(&id.client).is_some_and(|member| member.last_try >= Some((id.leader, id.nonce)))
    }
}

/// What became of a command, and the step of the order that it made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// For whoever asked.
    pub outcome: Outcome,
    /// To be written by every node, with its id.
    pub step: Option<(Id, Step)>,
}

/// How many make a majority.
pub fn majority(of: usize) -> usize {
    of / 2 + 1
}
