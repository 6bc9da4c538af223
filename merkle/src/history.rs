//! Following parents. Everything is iterative, and each commit is read once.

use std::collections::{BinaryHeap, HashSet};

use crate::commit::Commit;
use crate::entry::Timestamp;
use crate::error::WalkError;
use crate::id::CommitId;
use crate::source::NodeSource;

/// Reads and decodes a commit.
pub fn read_commit(source: &dyn NodeSource, id: &CommitId) -> Result<Commit, WalkError> {
    let bytes = source.get(CommitId::KIND, &id.0)?;
    Commit::decode(&bytes).map_err(|cause| WalkError::Malformed { kind: CommitId::KIND, id: id.0, cause })
}

/// A commit and its first parents, newest first. It ends after an error.
pub struct FirstParents<'s> {
    source: &'s dyn NodeSource,
    next: Option<CommitId>,
}

impl<'s> FirstParents<'s> {
    /// Begins with `head`.
    pub fn new(source: &'s dyn NodeSource, head: Option<CommitId>) -> Self {
        Self { source, next: head }
    }
}

impl Iterator for FirstParents<'_> {
    type Item = Result<(CommitId, Commit), WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let id = self.next.take()?;
        let commit = read_commit(self.source, &id);
        if let Ok(commit) = &commit {
            self.next = commit.parents.first().copied();
        }
        Some(commit.map(|commit| (id, commit)))
    }
}

/// Commits and all their ancestors, each once, the newest of those that are known first. A commit comes after one of its
/// children at least; after all of them only if their clocks were right.
///
/// A commit that cannot be read is an error in its place; the others go on.
pub struct Ancestors<'s> {
    source: &'s dyn NodeSource,
    heap: BinaryHeap<Known>,
    errors: Vec<WalkError>,
    seen: HashSet<CommitId>,
}

struct Known {
    time: Timestamp,
    id: CommitId,
    commit: Commit,
}

impl<'s> Ancestors<'s> {
    /// Begins with `heads`.
    pub fn new(source: &'s dyn NodeSource, heads: impl IntoIterator<Item = CommitId>) -> Self {
        let (heap, errors, seen) = (BinaryHeap::new(), Vec::new(), HashSet::new());
        let mut ancestors = Self { source, heap, errors, seen };
        heads.into_iter().for_each(|head| ancestors.add(head));
        ancestors
    }

    fn add(&mut self, id: CommitId) {
        if !self.seen.insert(id) {
            return;
        }
        match read_commit(self.source, &id) {
            Ok(commit) => self.heap.push(Known { time: commit.time, id, commit }),
            Err(error) => self.errors.push(error),
        }
    }
}

impl Iterator for Ancestors<'_> {
    type Item = Result<(CommitId, Commit), WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.errors.pop() {
            return Some(Err(error));
        }
        let Known { id, commit, .. } = self.heap.pop()?;
        commit.parents.iter().for_each(|parent| self.add(*parent));
        Some(Ok((id, commit)))
    }
}

impl Ord for Known {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.time, self.id).cmp(&(other.time, other.id))
    }
}

impl PartialOrd for Known {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Known {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for Known {}
