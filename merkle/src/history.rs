//! Following parents.

use crate::commit::Commit;
use crate::error::WalkError;
use crate::id::CommitId;
use crate::source::NodeSource;

/// A commit and its first parents, newest first.
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
        let _ = (self.source, self.next);
        unimplemented!()
    }
}

/// Commits and all their ancestors, each once, newest first.
pub struct Ancestors<'s> {
    source: &'s dyn NodeSource,
}

impl<'s> Ancestors<'s> {
    /// Begins with `heads`.
    pub fn new(source: &'s dyn NodeSource, heads: impl IntoIterator<Item = CommitId>) -> Self {
        let _ = heads.into_iter().next();
        Self { source }
    }
}

impl Iterator for Ancestors<'_> {
    type Item = Result<(CommitId, Commit), WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let _ = self.source.get(CommitId::KIND, &filesync_cas::ContentHash::of_chunk(b""));
        unimplemented!()
    }
}
