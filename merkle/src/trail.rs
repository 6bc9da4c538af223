//! One path through many trees, each read only where it differs from the one before.
//!
//! Histories are long and change one place at a time: of a neighbour, a [`Trail`] reads the nodes on the way to its path
//! that are new to it, and none below the first that is not.

use std::iter::Peekable;

use crate::commit::Commit;
use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::history::FirstParents;
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
    /// Whether one of the paths differs from the first parent's, or from nothing if there is no parent.
    pub touched: bool,
}

/// A commit and its first parents, newest first, each with the answer to whether it changed one of some paths. It ends
/// after an error.
///
/// Each commit is read once. Of trees, the nodes on the way to the paths are read where they differ between neighbours,
/// and no others.
pub struct Touches<'s> {
    source: &'s dyn NodeSource,
    commits: Peekable<Commits<'s>>,
    trails: Vec<Trail>,
}

type Commits<'s> = Box<dyn Iterator<Item = Result<(CommitId, Commit), WalkError>> + 's>;

impl<'s> Touches<'s> {
    /// Begins with `head`. Commits that `is_bare` holds for, since their trees are not kept, are passed over: those behind
    /// them are compared with those before.
    pub fn new(
        source: &'s dyn NodeSource,
        head: Option<CommitId>,
        paths: &[RepoPath],
        is_bare: impl Fn(&CommitId) -> bool + 's,
    ) -> Self {
        let all = FirstParents::new(source, head);
        let commits: Commits<'_> = Box::new(all.filter(move |item| !matches!(item, Ok((id, _)) if is_bare(id))));
        let commits = commits.peekable();
        Self { source, commits, trails: paths.iter().map(Trail::new).collect() }
    }

    /// Moves all trails, and says whether one of them met something else.
    fn go(&mut self, tree: Option<TreeLink>) -> Result<bool, WalkError> {
        let mut changed = false;
        for trail in &mut self.trails {
            changed |= trail.go(self.source, tree)?;
        }
        Ok(changed)
    }

    fn advance(&mut self) -> Result<Option<Touch>, WalkError> {
        let Some((id, commit)) = self.commits.next().transpose()? else { return Ok(None) };
        // Moves for the first commit alone: for all others the trails stand there already.
        self.go(Some(commit.tree))?;
        let parent = match self.commits.peek() {
            Some(Ok((_, parent))) => Some(parent.tree),
            Some(Err(_)) => return self.commits.next().transpose().map(|_| None),
            None => None,
        };
        let touched = self.go(parent)?;
        Ok(Some(Touch { id, commit, touched }))
    }
}

impl Iterator for Touches<'_> {
    type Item = Result<Touch, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            let none: Commits<'_> = Box::new(std::iter::empty());
            self.commits = none.peekable();
        }
        next.transpose()
    }
}
