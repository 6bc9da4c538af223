//! Bringing back what a commit holds: into the working copy, or beside it.
//!
//! In place it is first a plan, a value that a dry run shows, and then its execution under a journal. The rule of what
//! may be replaced stands in [`decide`]; how a single name changes without the loss of a byte, in [`crate::worktree`];
//! how files are filled from the store on all cores, in [`fill`].
//!
//! Promise (G9): nothing outside of the root is written and no symlink followed, whoever changes the tree meanwhile;
//! no set-user bits; what the store does not have is not destroyed unless the user forces it, and never if it was
//! written after the plan was made. Cut off at any point, a path holds what it held, what it is to hold, or the user's
//! edit; [`finish_journal`] carries on.

mod apply;
mod command;
pub mod decide;
mod directory;
mod early;
mod fill;
mod held;
mod plan;
mod present;
mod preview;
mod recover;
mod select;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::os::fd::BorrowedFd;
use std::sync::Arc;

use filesync_cas::Store;
use filesync_cas::vfs::Vfs;
use filesync_merkle::{NodeSource, Parts, RepoPath, TreeLink};

use crate::error::{Error, ErrorKind};
use crate::request::Observer;
use crate::roots::Roots;
use crate::stat_cache::StatCache;

pub use apply::HeadMove;
#[cfg(test)]
pub use apply::apply;
pub use command::{conflict_names, finish_journal, finish_journal_if_free, restore, restore_and_move};
pub use decide::Flags;
pub use directory::to_directory;
pub use early::EarlyFiles;
pub use filesync_merkle::ConflictTag;
pub use plan::plan;
pub use preview::preview;

/// How many levels of directories are restored.
pub const DEPTH_MAX: usize = 4096;

/// What restoring works with.
pub struct Context<'a> {
    /// Where the bytes are, and the journal. A writer, unless only [`to_directory`] is called.
    pub store: &'a Store,
    /// The store's nodes.
    pub source: &'a (dyn NodeSource + Sync),
    /// The root of the working copy: all changes go through this.
    pub work: Arc<dyn Vfs>,
    /// The same, for the scan.
    pub work_fd: BorrowedFd<'a>,
    /// What the working copy looked like.
    pub cache: Option<StatCache>,
    /// Who is told.
    pub observer: &'a dyn Observer,
    /// Which parts of trees are here.
    pub parts: &'a Parts,
    /// The tree of HEAD.
    pub head_tree: Option<TreeLink>,
    /// What refs lead to: only content of these commits, and of those before them, may go unasked.
    pub roots: Roots,
    /// How conflict copies are named.
    pub tag: ConflictTag<'a>,
    /// On how many threads files are written; see [`threads`].
    pub threads: usize,
    /// Large files of which much is written already.
    pub early: Option<&'a EarlyFiles>,
}

/// As many threads as there are cores.
pub fn threads() -> usize {
    filesync_cas::cores().min(fill::THREADS_MAX)
}

fn too_deep(path: &RepoPath) -> Error {
    let shown: String = path.to_string().chars().take(60).collect();
    Error::new(ErrorKind::Failed, format!("{shown}…: directories are nested more than {DEPTH_MAX} levels deep"))
}
