//! Whether what is found may go.

use std::io;
use std::path::Path;

use filesync_merkle::{Entry, Node, RepoPath};

use super::Round;
use crate::ingest::attrs_id;
use crate::restore::Context;
use crate::restore::fill::read_attrs;
use crate::restore::plan::Seen;
use crate::restore::present::{self, Cut, Found};
use crate::scan::Stat;
use crate::worktree::Expected;

/// Judges what is found where the plan saw something.
pub(super) struct Judge<'j> {
    pub(super) round: &'j Round<'j>,
    pub(super) seen: Option<&'j Seen>,
    /// What is put there: to find just that is no loss either.
    pub(super) new: Option<&'j Entry>,
}

impl Expected for Judge<'_> {
    fn is_untouched(&self, stat: &Stat) -> bool {
        self.seen.is_some_and(|seen| !seen.racy && seen.stat == *stat)
    }

    fn attrs_may_go(&self, at: &Path) -> bool {
        let old = self.seen.and_then(|seen| seen.entry.as_ref());
        let Some(Entry { attrs: old, node: Node::File { .. }, .. }) = old else { return true };
        let Context { work_fd, source, .. } = *self.round.ctx;
        let found = RepoPath::parse(at.as_os_str().as_encoded_bytes()).map_err(io::Error::other);
        let Ok(found) = found.and_then(|at| present::attrs_at(work_fd, &at)) else { return false };
        // A file system may have taken only some of what a commit has, or nothing.
        attrs_id(found.as_ref()).is_ok_and(|id| id == *old)
            || found.is_none_or(|found| {
                let old = old.and_then(|id| read_attrs(source, &id).ok());
                old.is_some_and(|old| found.pairs().iter().all(|pair| old.pairs().contains(pair)))
            })
    }

    fn holds(&self, at: &Path) -> bool {
        let Round { ctx, chunker, .. } = self.round;
        let Ok(at) = RepoPath::parse(at.as_os_str().as_encoded_bytes()) else { return false };
        let old = self.seen.and_then(|seen| seen.entry.as_ref());
        let cut = Cut { chunker: *chunker, nodes: ctx.source, known: [old, self.new] };
        let Ok(Found::Leaf(entry, _)) = present::read(&*ctx.work, ctx.work_fd, cut, &at) else { return false };
        old.is_some_and(|old| old.same(&entry)) || self.new.is_some_and(|new| new.same(&entry))
    }
}
