//! Reading directories.

use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::path::{Name, RepoPath};
use crate::source::NodeSource;

/// The entries of one directory in order; an iterator with flat memory.
pub struct DirCursor<'s> {
    source: &'s dyn NodeSource,
}

impl<'s> DirCursor<'s> {
    /// At the first entry. Nothing is read yet.
    pub fn new(source: &'s dyn NodeSource, dir: &TreeLink) -> Self {
        let _ = dir;
        Self { source }
    }

    /// Goes forward to the first entry whose name is at least `name`. Never goes back.
    pub fn seek(&mut self, name: &[u8]) -> Result<(), WalkError> {
        let _ = (self.source, name);
        unimplemented!()
    }
}

impl Iterator for DirCursor<'_> {
    type Item = Result<(Name, Entry), WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}

/// What stands at a path; `None` also for the root, which has no entry.
pub fn lookup(source: &dyn NodeSource, root: &TreeLink, path: &RepoPath) -> Result<Option<Entry>, WalkError> {
    let _ = (source, root, path);
    unimplemented!()
}
