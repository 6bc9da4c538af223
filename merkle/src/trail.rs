//! One path through many trees, each read only where it differs from the one before.
//!
//! Histories are long and change one place at a time: of a neighbour, a [`Trail`] reads the nodes on the way to its path
//! that are new to it, and none below the first that is not.

use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::commit::Commit;
use crate::entry::{Entry, Timestamp, TreeLink};
use crate::error::WalkError;
use crate::history::read_commit;
use crate::id::{CommitId, TreeId};
use crate::path::{Name, RepoPath};
use crate::read::Cursor;
use crate::source::NodeSource;

/// What stands at a path of the tree that was looked at last, and which nodes led there.
#[derive(Debug, Clone)]
pub struct Trail {
    names: Vec<Name>,
    root: Option<TreeId>,
    /// One for each name, as far as there are directories.
    steps: Vec<Step>,
}

/// The way through one directory to one name.
#[derive(Debug, Clone)]
struct Step {
    /// The nodes on that way, from the root of the directory down.
    nodes: Vec<TreeId>,
    entry: Option<Entry>,
}

impl Trail {
    /// Of the empty tree.
    pub fn new(path: &RepoPath) -> Self {
        Self { names: path.names().collect(), root: None, steps: Vec::new() }
    }

    /// What stands at the path; `None` also for the root, which has no entry.
    pub fn entry(&self) -> Option<&Entry> {
        let last = self.names.len().checked_sub(1)?;
        self.steps.get(last)?.entry.as_ref()
    }

    /// Goes to another tree. Whether something else stands at the path there: other content, mode, kind or attributes,
    /// something for nothing, and of a directory anything below it. After an error it stands where it stood.
    pub fn go(&mut self, source: &dyn NodeSource, root: Option<TreeLink>) -> Result<bool, WalkError> {
        let id = root.map(|link| link.id);
        if id == self.root {
            return Ok(false);
        }
        let steps = self.steps_in(source, root)?;
        let old = self.entry().cloned();
        (self.root, self.steps) = (id, steps);
        Ok(match (old, self.entry()) {
            (Some(old), Some(new)) => !old.same(new),
            (None, None) => self.names.is_empty(),
            _ => true,
        })
    }

    fn steps_in(&self, source: &dyn NodeSource, root: Option<TreeLink>) -> Result<Vec<Step>, WalkError> {
        let mut steps = Vec::with_capacity(self.names.len());
        let mut dir = root;
        for (depth, name) in self.names.iter().enumerate() {
            let Some(link) = dir else { break };
            let known = self.steps.get(depth);
            let step = Step::find(source, link, name, known)?;
            dir = step.entry.as_ref().and_then(Entry::as_directory).copied();
            steps.push(step);
            let known = known.and_then(|step| step.entry.as_ref()).and_then(Entry::as_directory);
            if dir.is_some() && dir.map(|link| link.id) == known.map(|link| link.id) {
                // Below the same directory nothing is new.
                steps.extend_from_slice(self.steps.get(depth + 1..).unwrap_or_default());
                break;
            }
        }
        Ok(steps)
    }
}

impl Step {
    /// Goes down one directory, until a node is met that `known` came by: the rest is as it was there.
    fn find(source: &dyn NodeSource, dir: TreeLink, name: &Name, known: Option<&Self>) -> Result<Self, WalkError> {
        let mut nodes = Vec::new();
        // The empty directory need not be stored.
        if dir == TreeLink::empty() {
            return Ok(Self { nodes, entry: None });
        }
        let mut cursor = Cursor::new(source, dir);
        while !cursor.in_leaf() {
            let Some(pending) = cursor.pending() else {
                return Ok(Self { nodes, entry: None });
            };
            if pending.link.is_some_and(|link| link.last < *name) {
                cursor.skip();
                continue;
            }
            if let Some(known) = known
                && let Some(at) = known.nodes.iter().position(|id| *id == pending.id)
            {
                nodes.extend_from_slice(&known.nodes[at..]);
                return Ok(Self { nodes, entry: known.entry.clone() });
            }
            nodes.push(pending.id);
            cursor.descend()?;
        }
        let entries = cursor.leaf();
        let found = entries.binary_search_by(|(other, _)| other.cmp(name));
        Ok(Self { nodes, entry: found.ok().map(|at| entries[at].1.clone()) })
    }
}

/// A commit, and whether it changed what was asked about.
#[derive(Debug)]
pub struct Touch {
    /// Its id.
    pub id: CommitId,
    /// The commit.
    pub commit: Commit,
    /// Whether one of the paths differs from every parent's, or from nothing if there is no parent.
    pub touched: bool,
}

/// Commits and their ancestors, the newest of those that are known first, each with the answer to whether it changed one of
/// some paths. Of a merge that has all of the paths as one of its parents has them, only that parent is followed: the others
/// had no part in what stands there. So git's `log` does it. It ends after an error.
///
/// Each commit is read once, a merge's base once more. Of trees, the nodes on the way to the paths are read where they
/// differ between neighbours, and no others.
pub struct Touches<'s> {
    source: &'s dyn NodeSource,
    is_bare: Box<dyn Fn(&CommitId) -> bool + 's>,
    ends: BinaryHeap<(Timestamp, CommitId)>,
    /// Of each of those, the commit, and trails that stand at its tree.
    there: HashMap<CommitId, (Commit, Vec<Trail>)>,
    seen: HashSet<CommitId>,
    failed: Option<WalkError>,
}

impl<'s> Touches<'s> {
    /// Begins with `head`. Commits that `is_bare` holds for, since their trees are not kept, are passed over: those behind
    /// them are compared with those before.
    pub fn new(
        source: &'s dyn NodeSource,
        head: Option<CommitId>,
        paths: &[RepoPath],
        is_bare: impl Fn(&CommitId) -> bool + 's,
    ) -> Self {
        let (ends, there, seen) = Default::default();
        let mut touches = Self { source, is_bare: Box::new(is_bare), ends, there, seen, failed: None };
        touches.failed = touches.begin(head.as_slice(), paths).err();
        touches
    }

    fn begin(&mut self, heads: &[CommitId], paths: &[RepoPath]) -> Result<(), WalkError> {
        for (id, commit) in self.kept(heads)? {
            let mut trails: Vec<_> = paths.iter().map(Trail::new).collect();
            go(&mut trails, self.source, Some(commit.tree))?;
            self.follow(id, commit, trails);
        }
        Ok(())
    }

    /// These commits; instead of those that are bare, the nearest behind them that are not.
    fn kept(&self, ids: &[CommitId]) -> Result<Vec<(CommitId, Commit)>, WalkError> {
        let (mut kept, mut met) = (Vec::new(), HashSet::new());
        let mut open: Vec<CommitId> = ids.iter().rev().copied().collect();
        while let Some(id) = open.pop() {
            if !met.insert(id) {
                continue;
            }
            let commit = read_commit(self.source, &id)?;
            match (self.is_bare)(&id) {
                true => open.extend(commit.parents.iter().rev()),
                false => kept.push((id, commit)),
            }
        }
        Ok(kept)
    }

    fn follow(&mut self, id: CommitId, commit: Commit, trails: Vec<Trail>) {
        if self.seen.insert(id) {
            self.ends.push((commit.time, id));
            self.there.insert(id, (commit, trails));
        }
    }

    fn advance(&mut self) -> Result<Option<Touch>, WalkError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let Some((_, id)) = self.ends.pop() else { return Ok(None) };
        let Some((commit, mut trails)) = self.there.remove(&id) else { return Ok(None) };
        let parents = self.kept(&commit.parents)?;
        if parents.is_empty() {
            let touched = go(&mut trails, self.source, None)?;
            return Ok(Some(Touch { id, commit, touched }));
        }
        let (mut ways, mut touched) = (Vec::new(), false);
        let last = parents.len() - 1;
        for (at, (parent, of)) in parents.into_iter().enumerate() {
            let mut there = if at == last { std::mem::take(&mut trails) } else { trails.clone() };
            touched = go(&mut there, self.source, Some(of.tree))?;
            if !touched {
                ways.clear();
            }
            ways.push((parent, of, there));
            if !touched {
                break;
            }
        }
        ways.into_iter().for_each(|(parent, of, there)| self.follow(parent, of, there));
        Ok(Some(Touch { id, commit, touched }))
    }
}

/// Moves all trails, and says whether one of them met something else.
fn go(trails: &mut [Trail], source: &dyn NodeSource, tree: Option<TreeLink>) -> Result<bool, WalkError> {
    let mut changed = false;
    for trail in trails {
        changed |= trail.go(source, tree)?;
    }
    Ok(changed)
}

impl Iterator for Touches<'_> {
    type Item = Result<Touch, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.ends.clear();
        }
        next.transpose()
    }
}
