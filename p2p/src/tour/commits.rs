//! Which commits a walk visits: those of the root's history that are not in the base's.

use std::collections::{HashSet, VecDeque};

use filesync_cas::ContentHash;
use filesync_merkle::history::read_commit;
use filesync_merkle::{Commit, CommitId, NodeSource};

use crate::error::TourError;
use crate::message::Walk;
use crate::peer::Root;

/// Ancestors of the base that are known from the beginning …
const KNOWN_FIRST: u64 = 64;
/// … and with each commit that was sent: who goes on into old history finds out after a part of its length.
const KNOWN_MORE: u64 = 4;

/// The queue of commits.
#[derive(Debug)]
pub(super) struct Commits {
    queue: VecDeque<(CommitId, Option<ContentHash>)>,
    queued: HashSet<CommitId>,
    base: Option<CommitId>,
    history: bool,
    sent: u64,
    begun: bool,
    known: Known,
}

impl Commits {
    pub(super) fn new(walk: &Walk) -> Self {
        let base = walk.base.map(CommitId);
        let root = match walk.root {
            Root::Commit(id) => Some(id).filter(|id| Some(*id) != base),
            Root::Pub(_) => None,
        };
        let history = walk.history;
        let queue = root.iter().map(|id| (*id, None)).collect();
        Self {
            queue,
            queued: root.into_iter().collect(),
            base,
            history,
            sent: 0,
            begun: false,
            known: Known::default(),
        }
    }

    /// The next commit, and the tree that is the counterpart of its own.
    pub(super) fn next(
        &mut self,
        source: &dyn NodeSource,
    ) -> Result<Option<(CommitId, Option<ContentHash>)>, TourError> {
        let Some((id, counterpart)) = self.queue.pop_front() else { return Ok(None) };
        if self.begun {
            return Ok(Some((id, counterpart)));
        }
        self.begun = true;
        let base = self.base.map(|base| read_commit(source, &base)).transpose().map_err(TourError::Base)?;
        if let Some(base) = &base {
            self.known.queue.extend(&base.parents);
        }
        Ok(Some((id, base.map(|base| base.tree.id.0))))
    }

    /// A commit has been sent: its parents follow, unless they are known.
    pub(super) fn sent(&mut self, commit: &Commit, source: &dyn NodeSource) -> Result<(), TourError> {
        self.sent += 1;
        if !self.history {
            return Ok(());
        }
        for parent in &commit.parents {
            if self.base == Some(*parent) || self.queued.contains(parent) {
                continue;
            }
            self.known.extend(KNOWN_FIRST + KNOWN_MORE * self.sent, source)?;
            if !self.known.set.contains(parent) {
                self.queued.insert(*parent);
                self.queue.push_back((*parent, Some(commit.tree.id.0)));
            }
        }
        Ok(())
    }
}

/// Ancestors of the base, breadth first, as many as were looked for.
#[derive(Debug, Default)]
struct Known {
    set: HashSet<CommitId>,
    queue: VecDeque<CommitId>,
}

impl Known {
    fn extend(&mut self, count: u64, source: &dyn NodeSource) -> Result<(), TourError> {
        while (self.set.len() as u64) < count {
            let Some(id) = self.queue.pop_front() else { return Ok(()) };
            if !self.set.contains(&id) {
                let commit = read_commit(source, &id).map_err(TourError::Base)?;
                self.set.insert(id);
                self.queue.extend(&commit.parents);
            }
        }
        Ok(())
    }
}
