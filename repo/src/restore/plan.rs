//! What a restore would do: the target, HEAD and the working copy walked together, and a step for each path that
//! changes. Nothing is written.

mod disk;
mod walk;

use std::collections::{BTreeMap, BTreeSet};

use filesync_merkle::{CommitId, Entry, Node, RepoPath, Timestamp, TreeLink};

use super::Context;
use super::decide::Flags;
use super::held::{self, Piece};
use super::select::{Place, Selection};
use crate::error::Error;
use crate::journal::{Line, State};
use crate::limits;
use crate::request::{PlannedStep, Unreadable};
use crate::scan::{Kind, Stat};

/// What stood at a path when the plan was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Old {
    /// Nothing.
    Nothing,
    /// A directory.
    Directory(Stat),
    /// Anything else.
    Leaf(Seen),
}

/// What is not a directory, as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What the system says.
    pub stat: Stat,
    /// What it is; none of a FIFO, or of what cannot be read.
    pub entry: Option<Entry>,
    /// It was too young for its times to tell whether it is written once more.
    pub racy: bool,
}

/// One path that changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Where.
    pub path: RepoPath,
    /// What stands there.
    pub old: Old,
    /// What is to stand there.
    pub new: Option<Entry>,
}

impl Step {
    /// Whether a file or symlink is to be written.
    pub fn is_write(&self) -> bool {
        self.new.as_ref().is_some_and(|entry| !entry.is_directory())
    }

    /// Bytes that are to be written.
    pub fn bytes(&self) -> u64 {
        match self.new.as_ref().map(|entry| &entry.node) {
            Some(Node::File { size, .. }) => *size,
            _ => 0,
        }
    }

    /// How the journal tells it.
    pub fn line(&self) -> Line {
        let old = match &self.old {
            Old::Nothing => State::Nothing,
            Old::Directory(_) => State::Directory,
            Old::Leaf(seen) => State::of(seen.entry.as_ref()),
        };
        Line { path: self.path.clone(), old, new: State::of(self.new.as_ref()) }
    }

    /// How the user is told of it: directories are not told of unless they are all there is to it.
    fn action(&self) -> Option<&'static str> {
        match (&self.old, &self.new) {
            (_, Some(entry)) if !entry.is_directory() => Some("write"),
            (_, Some(entry)) if entry.as_directory().is_some_and(|link| *link == TreeLink::empty()) => Some("write"),
            (Old::Leaf(_), None) => Some("delete"),
            _ => None,
        }
    }
}

/// A directory that gets its mode once all is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finish {
    /// Where.
    pub path: RepoPath,
    /// How it looks, if it is there already.
    pub old: Option<Stat>,
    /// What it is to be; none if it gets its old mode back.
    pub new: Option<Entry>,
}

impl Finish {
    /// Whether this is a change that the user wants to hear of.
    pub fn is_change(&self) -> bool {
        self.old.is_some() && self.new.is_some()
    }

    /// How the journal tells it.
    pub fn line(&self) -> Line {
        Line { path: self.path.clone(), old: State::Directory, new: State::Directory }
    }
}

/// What is to be done, as a value.
#[derive(Debug)]
pub struct Plan {
    /// Whose tree is restored.
    pub(super) commit: CommitId,
    /// Directories that must be made writable first, and how they look.
    pub(super) opens: Vec<(RepoPath, Stat)>,
    /// In an order in which they can be done: what goes before what takes its place, directories before what is in them.
    pub(super) steps: Vec<Step>,
    /// Directories that get another mode once all is in them, from the inside out.
    pub(super) modes: Vec<Finish>,
    /// What is left alone since it is in no commit.
    pub(super) skipped: Vec<RepoPath>,
    /// Directories of the target that cannot be read.
    pub(super) damaged: Vec<Unreadable>,
    /// Paths that are as they should be.
    pub(super) unchanged: u64,
    /// The target's directories in which something changes.
    pub(super) links: BTreeMap<RepoPath, TreeLink>,
}

impl Plan {
    /// Nothing to do.
    pub(super) fn new(commit: CommitId) -> Self {
        Self {
            commit,
            opens: Vec::new(),
            steps: Vec::new(),
            modes: Vec::new(),
            skipped: Vec::new(),
            damaged: Vec::new(),
            unchanged: 0,
            links: BTreeMap::new(),
        }
    }

    /// Each path that would be written, deleted or skipped, by path.
    pub fn shown(&self) -> Vec<PlannedStep> {
        let steps = self.steps.iter().filter_map(|step| step.action().map(|action| (&step.path, action)));
        let modes = self.modes.iter().filter(|finish| finish.is_change()).map(|finish| (&finish.path, "write"));
        let mut all: Vec<_> = steps.chain(modes).chain(self.skipped.iter().map(|path| (path, "skip"))).collect();
        all.sort();
        all.dedup();
        all.into_iter().map(|(path, action)| PlannedStep { action, path: path.as_bytes().to_vec() }).collect()
    }

    /// What [`super::apply`] would say if all went as planned: the result of a dry run.
    pub fn result(&self) -> crate::request::RestoreResult {
        let shown = self.shown();
        let count = |action| shown.iter().filter(|step| step.action == action).count() as u64;
        crate::request::RestoreResult {
            written: count("write"),
            deleted: count("delete"),
            unchanged: self.unchanged,
            skipped: self.skipped.iter().map(|path| path.as_bytes().to_vec()).collect(),
            damaged: self.damaged.clone(),
            bytes: self.steps.iter().map(Step::bytes).sum(),
            plan: shown,
            ..Default::default()
        }
    }
}

/// Finds out what is to be done so that paths (all, if there are none) are as in a commit's tree.
pub fn plan(
    ctx: &Context<'_>,
    commit: CommitId,
    target: TreeLink,
    paths: &[RepoPath],
    flags: Flags,
) -> Result<Plan, Error> {
    check_room(ctx, &target, paths)?;
    let selection = Selection::of(ctx, &target, paths, Place::Here { may_lack: flags.delete })?;
    let mut proofs = Proofs::default();
    loop {
        let plan = walk::Planner::new(ctx, commit, flags, &selection, &mut proofs)?.run(target)?;
        if !proofs.settle(ctx)? {
            return Ok(plan);
        }
    }
}

/// Fails if there are more paths in a tree than the file system can have, before each is kept in memory.
fn check_room(ctx: &Context<'_>, target: &TreeLink, paths: &[RepoPath]) -> Result<(), Error> {
    // Some file systems have no number of inodes; and a part of a tree may fit where the whole does not.
    let inodes = rustix::fs::fstatvfs(ctx.work_fd).map_or(0, |stat| stat.f_files);
    let is_part = !paths.is_empty() || !ctx.parts.is_whole();
    let room = if inodes == 0 || is_part { u64::MAX } else { inodes };
    limits::check_paths("restore", target, room)
}

/// What must be in a commit for a plan to be right.
#[derive(Debug, Default)]
struct Proofs {
    /// Not yet looked for.
    wanted: BTreeSet<Piece>,
    /// Looked for in vain.
    in_no_commit: BTreeSet<Piece>,
    /// Found.
    found: BTreeSet<Piece>,
}

impl Proofs {
    /// Looks for what is wanted; whether something was denied that had been taken for granted.
    fn settle(&mut self, ctx: &Context<'_>) -> Result<bool, Error> {
        let mut wanted = std::mem::take(&mut self.wanted);
        wanted.retain(|piece| !self.found.contains(piece));
        if wanted.is_empty() {
            return Ok(false);
        }
        let asked = wanted.clone();
        held::find(ctx.source, ctx.parts, &ctx.roots, &mut wanted)?;
        self.found.extend(asked.into_iter().filter(|piece| !wanted.contains(piece)));
        let denied = !wanted.is_empty();
        self.in_no_commit.append(&mut wanted);
        Ok(denied)
    }
}

/// What was seen, in the light of a clock.
pub(super) fn seen(stat: Stat, entry: Option<Entry>, stamp: Timestamp) -> Old {
    match stat.kind {
        Kind::Directory => Old::Directory(stat),
        _ => Old::Leaf(Seen { racy: stat.is_racy(stamp), stat, entry }),
    }
}
