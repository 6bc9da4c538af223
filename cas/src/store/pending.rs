//! Objects that are claimed or written and not yet in the index.
//!
//! A claim is what makes "it is there" an answer that one may rely on: it is given and noted in one critical
//! section, so that nobody can decide in between that the object is not needed.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::hash::ContentHash;
use crate::index::{Location, PackNumber};

const SHARDS: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A session has the bytes in hand and will write them. What was written before is bad.
    Claimed { session: u64, before: Option<Location> },
    /// They are in a pack, not yet vouched for by a mark.
    Written(Location),
}

/// The answer to a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// It is there; the claim keeps it.
    Present,
    /// It is not: whoever asked now puts the bytes.
    New,
}

type Shard = HashMap<ContentHash, State>;

/// Claimed and written objects.
#[derive(Debug, Default)]
pub struct Pending {
    shards: [Mutex<Shard>; SHARDS],
}

/// While this is there, nobody claims.
#[derive(Debug)]
pub struct Frozen<'a>(Vec<MutexGuard<'a, Shard>>);

impl Frozen<'_> {
    /// Whether one of these packs holds what the index was not told of yet.
    pub fn is_written_in(&self, packs: &HashSet<PackNumber>) -> bool {
        let mut states = self.0.iter().flat_map(|shard| shard.values());
        states.any(|state| matches!(state, State::Written(location) if packs.contains(&location.pack)))
    }
}

impl Pending {
    fn shard(&self, id: &ContentHash) -> MutexGuard<'_, Shard> {
        let shard = usize::from(id.as_bytes()[0]) % SHARDS;
        self.shards[shard].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Claims `id` for `session`; `known` looks it up in the index, and sees to it that what it finds stays. What was
    /// written and `is_bad` by now counts as new.
    ///
    /// What another session has claimed and not yet written counts as new: two copies cost little, and
    /// nobody has to wait for a session that may fail.
    pub fn claim<E>(
        &self,
        id: &ContentHash,
        session: u64,
        is_bad: impl FnOnce(&Location) -> bool,
        known: impl FnOnce() -> Result<bool, E>,
    ) -> Result<Claim, E> {
        let mut shard = self.shard(id);
        let before = match shard.get(id) {
            Some(State::Written(location)) if !is_bad(location) => return Ok(Claim::Present),
            Some(State::Claimed { session: other, .. }) if *other == session => return Ok(Claim::Present),
            Some(State::Written(location)) => Some(*location),
            Some(State::Claimed { before, .. }) => *before,
            None => None,
        };
        if known()? {
            return Ok(Claim::Present);
        }
        shard.insert(*id, State::Claimed { session, before });
        Ok(Claim::New)
    }

    /// Claims `id` if it is there, as [`Self::claim`] does; notes nothing if it is not.
    pub fn claim_present<E>(
        &self,
        id: &ContentHash,
        is_bad: impl FnOnce(&Location) -> bool,
        known: impl FnOnce() -> Result<bool, E>,
    ) -> Result<bool, E> {
        let shard = self.shard(id);
        match shard.get(id) {
            Some(State::Written(location)) => Ok(!is_bad(location)),
            _ => known(),
        }
    }

    /// Where a written object lies.
    pub fn location(&self, id: &ContentHash) -> Option<Location> {
        match self.shard(id).get(id) {
            Some(State::Written(location)) => Some(*location),
            _ => None,
        }
    }

    /// Notes that an object has been written.
    pub fn written(&self, id: ContentHash, location: Location) {
        self.shard(&id).insert(id, State::Written(location));
    }

    /// The written objects that `wanted` takes.
    pub fn all_written(&self, wanted: impl Fn(&(ContentHash, Location)) -> bool) -> Vec<(ContentHash, Location)> {
        let mut written = Vec::new();
        for shard in &self.shards {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            let objects = shard.iter().filter_map(|(id, state)| match state {
                State::Written(location) => Some((*id, *location)),
                State::Claimed { .. } => None,
            });
            written.extend(objects.filter(|object| wanted(object)));
        }
        written
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner).len()).sum()
    }

    /// Forgets objects that the index now knows.
    pub fn indexed(&self, objects: &[(ContentHash, Location)]) {
        for (id, location) in objects {
            let mut shard = self.shard(id);
            if shard.get(id) == Some(&State::Written(*location)) {
                shard.remove(id);
            }
        }
    }

    /// Stops all claims until dropped.
    pub fn freeze(&self) -> Frozen<'_> {
        Frozen(self.shards.iter().map(|shard| shard.lock().unwrap_or_else(PoisonError::into_inner)).collect())
    }

    /// Forgets what a session claimed and did not write.
    pub fn release(&self, session: u64) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|_, state| match *state {
                State::Claimed { session: other, before } if other == session => {
                    before.map(|location| *state = State::Written(location)).is_some()
                }
                _ => true,
            });
        }
    }
}
