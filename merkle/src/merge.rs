//! Three-way merge: what has to change in their tree for it to have our changes too.
//!
//! A change of one side is taken; the same change of both is one. Mode, attributes and content of a name may come from
//! different sides; the mtime goes with the content. Everything else is a conflict, and a [`Strategy`] says what
//! comes of it. Nothing is decided by time or by which side is called which, but for the strategies: theirs is
//! the published side, and stands.
//!
//! - **Deleted against changed** is a conflict. Published is what stands: what they deleted stays deleted, with our
//!   version beside; what they changed stays, and our deletion is noted. An mtime is no change.
//! - **A directory that one side deleted** goes, but for what the other side changed or added below: what was added
//!   stays and is no conflict, what was changed is one, each for itself. It keeps the directories above it. So does
//!   a directory of which the other side changed mode or attributes.
//! - **A directory against something else** is one conflict. Ours goes beside as a whole.
//! - **Directories are entries of their own**: one that has lost all entries by the changes of both sides stays if both
//!   have it. Where both changed its mode or its attributes, theirs stand and no copy is made.
//! - **Without a base** nothing tells a deletion from an addition. What only one side has stays; every other difference
//!   is a conflict.
//!
//! What both sides have unchanged is not read, neither whole directories nor nodes of large ones. Memory: changes,
//! conflicts, and a few nodes for each open directory.

mod level;
mod name;
mod rule;
mod walk;

pub use name::{ConflictTag, is_copy_name, original_name};

use crate::edit::edit_paths;
use crate::entry::{Entry, TreeLink};
use crate::error::{EditError, WalkError};
use crate::path::RepoPath;
use crate::source::{NodeSink, NodeSource};

/// The three trees.
#[derive(Debug, Clone, Copy)]
pub struct Sides {
    /// What both sides come from, if there is such a thing and it can be read.
    pub base: Option<TreeLink>,
    /// What was changed here.
    pub ours: TreeLink,
    /// What is published.
    pub theirs: TreeLink,
}

/// What comes of a conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Theirs stays at its path, and ours is kept beside, if it has content or attributes that neither theirs nor the
    /// base has.
    Copies,
    /// Ours stays at its path, even if that is nothing.
    Ours,
    /// Theirs stays at its path. Of ours nothing is in the tree any more.
    Theirs,
    /// There is no merged tree.
    Fail,
}

/// What one side did to a path that the other side does not agree with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConflictKind {
    /// Both have changed it, each in another way.
    BothChanged,
    /// Both have it, different ones, and the base has nothing.
    BothAdded,
    /// We have deleted what they have changed.
    DeletedHere,
    /// They have deleted what we have changed.
    DeletedThere,
    /// Ours is a directory, theirs something else.
    DirectoryHere,
    /// Theirs is a directory, ours something else.
    DirectoryThere,
}

/// A path on which the sides do not agree, and what they say. Of two directories only mode and attributes are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Which path.
    pub path: RepoPath,
    /// What happened to it.
    pub kind: ConflictKind,
    /// What both come from.
    pub base: Option<Entry>,
    /// What was changed here.
    pub ours: Option<Entry>,
    /// What is published.
    pub theirs: Option<Entry>,
    /// Where ours is in the merged tree: at the path, beside it, or nowhere.
    pub kept: Option<RepoPath>,
}

/// What to change in their tree.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// What comes to a path, or that it goes: strictly ascending, as [`edit_paths`] takes it. An entry of a directory
    /// carries what is below, whatever theirs has there, and changes below it may follow.
    pub changes: Vec<(RepoPath, Option<Entry>)>,
    /// In the order of paths.
    pub conflicts: Vec<Conflict>,
}

/// What came of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Merged {
    /// A tree can be had.
    Plan(Plan),
    /// There are conflicts, and the strategy is to fail.
    Conflicts(Vec<Conflict>),
}

/// Merges three trees. Nothing is written; an object that cannot be read ends it.
///
/// Conflict copies get a name that neither side has in that directory. The same trees, strategy and tag give the same plan.
pub fn merge(
    source: &dyn NodeSource,
    sides: Sides,
    strategy: Strategy,
    tag: ConflictTag<'_>,
) -> Result<Merged, WalkError> {
    let mut plan = walk::Merger::new(source, strategy, tag).run(sides)?;
    if strategy == Strategy::Fail && !plan.conflicts.is_empty() {
        return Ok(Merged::Conflicts(plan.conflicts));
    }
    // A copy may have its place before what it is a copy of.
    plan.changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(Merged::Plan(plan))
}

impl Plan {
    /// Writes the merged tree and says its root. `theirs` is the tree that the plan was made for.
    ///
    /// Trees of ours that are taken as a whole are referred to and not written: who collects garbage meanwhile must hold
    /// both sides until the result is held.
    pub fn apply(
        self,
        source: &dyn NodeSource,
        sink: &mut dyn NodeSink,
        theirs: TreeLink,
    ) -> Result<TreeLink, EditError> {
        edit_paths(source, sink, Some(theirs), self.changes)
    }
}
