//! Comparing trees.

use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::path::RepoPath;
use crate::source::NodeSource;

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which path.
    pub path: RepoPath,
    /// What was there.
    pub old: Option<Entry>,
    /// What is there.
    pub new: Option<Entry>,
}

/// The changes from one tree to another in path order; an iterator.
pub struct Diff<'s> {
    source: &'s dyn NodeSource,
}

/// Compares two trees; `None` is the empty tree.
pub fn diff<'s>(source: &'s dyn NodeSource, old: Option<TreeLink>, new: Option<TreeLink>) -> Diff<'s> {
    let _ = (old, new);
    Diff { source }
}

impl Diff<'_> {
    /// Whether directories that only one side has are reported themselves, before what they contain. They are not
    /// unless this is called. A path that is a directory on one side and something else on the other always is.
    #[must_use]
    pub fn with_directories(self) -> Self {
        self
    }

    /// Reports also entries of which only the mtime differs.
    #[must_use]
    pub fn with_mtimes(self) -> Self {
        self
    }

    /// Leaves out what is below the directory that the last call of `next` reported.
    pub fn prune(&mut self) {
        let _ = self.source;
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Change, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}
