//! What a node holds: commits, and pins that keep them.

use std::collections::BTreeMap;

use super::bugs::Bug;
use crate::command::TryId;
use crate::ids::{Id, LogIndex};
use crate::testing::Numbers;

/// The most commits of a run.
pub const COMMITS_MAX: usize = 512;

/// A set of commits, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Commits([u64; COMMITS_MAX / 64]);

impl Commits {
    /// With one more.
    pub fn insert(&mut self, number: usize) {
        self.0[number / 64] |= 1 << (number % 64);
    }

    fn zip(&self, other: &Self, by: impl Fn(u64, u64) -> u64) -> Self {
        let mut all = *self;
        all.0.iter_mut().zip(other.0).for_each(|(word, other)| *word = by(*word, other));
        all
    }

    /// Those of both sets.
    pub fn with(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a | b)
    }

    /// Those that the other does not have.
    pub fn without(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & !b)
    }

    /// Those that the other has too.
    pub fn common(&self, other: &Self) -> Self {
        self.zip(other, |a, b| a & b)
    }

    /// Whether it has all of the other.
    pub fn holds(&self, other: &Self) -> bool {
        other.without(self).is_empty()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many there are.
    pub fn len(&self) -> u32 {
        self.0.iter().map(|word| word.count_ones()).sum()
    }
}

/// All commits there ever were, each with its closure: itself and what it builds on.
#[derive(Debug, Default)]
pub struct History(Vec<Commits>);

impl History {
    /// Another commit that builds on these; none if there are too many.
    pub fn commit(&mut self, parents: impl IntoIterator<Item = Id>) -> Option<Id> {
        let number = self.0.len();
        if number >= COMMITS_MAX {
            return None;
        }
        let mut closure = Commits::default();
        parents.into_iter().for_each(|parent| closure = closure.with(&self.closure(parent)));
        closure.insert(number);
        self.0.push(closure);
        Some(id_of(number))
    }

    /// What there is to hold of a commit.
    pub fn closure(&self, id: Id) -> Commits {
        self.0[number_of(id)]
    }

    /// What there is to hold of all these.
    pub fn closures(&self, ids: impl IntoIterator<Item = Id>) -> Commits {
        ids.into_iter().fold(Commits::default(), |all, id| all.with(&self.closure(id)))
    }

    /// Any of them.
    pub fn any(&self, numbers: &mut Numbers) -> Option<Id> {
        let count = u64::try_from(self.0.len()).ok().filter(|count| *count > 0)?;
        usize::try_from(numbers.below(count)).ok().map(id_of)
    }
}

fn id_of(number: usize) -> Id {
    let mut id = Id([0; 32]);
    // The first bytes of a step's id are its index: `testing::step_id`.
    id.0[8..16].copy_from_slice(&(number as u64).to_le_bytes());
    id
}

fn number_of(id: Id) -> usize {
    let bytes: [u8; 8] = id.0[8..16].try_into().expect("eight bytes");
    usize::try_from(u64::from_le_bytes(bytes)).expect("few commits")
}

/// What a node holds.
#[derive(Debug, Default)]
pub struct Store {
    /// Synced.
    pub durable: Commits,
    /// Written, and lost by a power cut.
    pub unsynced: Commits,
    /// Durable, and what they are for. `docs/model.md` tells when one goes.
    pub pins: BTreeMap<TryId, Id>,
    /// The last entry of the state that a collection went by. Durable.
    pub collected: Option<LogIndex>,
    /// Work in progress: what it needs is not collected. In memory.
    claims: BTreeMap<u64, Commits>,
    /// Everything as of this entry is here. In memory.
    pub held_as_of: Option<LogIndex>,
    /// What is visible and counts on this node. It does not know: it is for the promise to be looked at.
    pub promised: Commits,
}

impl Store {
    /// Nothing of this is collected until it is given back.
    pub fn claim(&mut self, commits: Commits) -> u64 {
        let claim = self.claims.last_key_value().map_or(0, |(last, _)| last + 1);
        self.claims.insert(claim, commits);
        claim
    }

    /// The end of a claim.
    pub fn give_back(&mut self, claim: u64) {
        self.claims.remove(&claim);
    }

    /// These come in, and are not synced.
    pub fn write(&mut self, commits: &Commits) {
        self.unsynced = self.unsynced.with(&commits.without(&self.durable));
    }

    /// What came in is durable.
    pub fn sync(&mut self) {
        self.durable = self.durable.with(&self.unsynced);
        self.unsynced = Commits::default();
    }

    /// A pin goes.
    pub fn unpin(&mut self, id: TryId, bug: Option<Bug>) {
        let commit = self.pins.remove(&id);
        if bug == Some(Bug::PinByCommit) {
            self.pins.retain(|_, pinned| Some(*pinned) != commit);
        }
    }

    /// Removes what is neither below these roots, nor pinned or claimed. Tells how much that was.
    pub fn collect(&mut self, roots: &Commits, history: &History, bug: Option<Bug>) -> u32 {
        let pinned = history.closures(self.pins.values().copied());
        let claims = self.claims.values().filter(|_| bug != Some(Bug::ClaimIgnored));
        let live = claims.fold(roots.with(&pinned), |all, claim| all.with(claim));
        let before = self.durable.len() + self.unsynced.len();
        self.durable = self.durable.common(&live);
        self.unsynced = self.unsynced.common(&live);
        before - self.durable.len() - self.unsynced.len()
    }

    /// What is in memory is gone, and by a power cut some of what was not synced.
    pub fn crash(&mut self, is_power_cut: bool, numbers: &mut Numbers) {
        self.claims.clear();
        self.held_as_of = None;
        if is_power_cut {
            let mut kept = self.unsynced;
            kept.0.iter_mut().for_each(|word| *word &= numbers.draw());
            self.durable = self.durable.with(&kept);
            self.unsynced = Commits::default();
        }
    }
}
