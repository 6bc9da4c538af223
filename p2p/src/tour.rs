//! The order of a walk: which metadata objects of a root come when, less those of a base. `docs/protocol.md`, section 3.
//!
//! Both sides go the same way, each over what it has, so that no ids travel: before each object its id is known, from
//! its parent. Pure: the bytes of objects are given, those of the base are read from a source. Memory does not grow with
//! the tree, but for what is remembered of nodes that were sent, which is bounded.

mod commits;
mod expand;
mod seen;

use std::collections::HashSet;
use std::sync::Arc;

use filesync_cas::{ContentHash, Kind};
use filesync_merkle::{CommitId, Name, NodeSource, Parts, PubId, Totals, Way};

use crate::error::TourError;
use crate::message::Walk;
use crate::peer::Root;
use crate::wants::{STEPS_MAX, Want};
use commits::Commits;
use seen::Seen;

/// Directories may be nested this deep.
const DEPTH_MAX: u16 = 4096;
/// Nodes that may wait for their turn: what bounds memory where a tree is deep and wide at once.
const WAITING_MAX: usize = 1 << 19;
/// Nodes of one walk that may be absent.
const ABSENT_MAX: usize = 1 << 16;

/// The next object of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Next {
    /// Its kind.
    pub kind: Kind,
    /// Which object.
    pub id: ContentHash,
    /// A similar object of the same kind that both sides have.
    pub counterpart: Option<ContentHash>,
}

/// What a parent says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The root node of a directory.
    Directory { height: u8, totals: Totals },
    /// Another node of one.
    Node { level: u8, entries: u64, totals: Totals },
    /// The root node of a list.
    List { height: u8, size: u64 },
    /// Another node of one; the last of its level may end with a short chunk.
    Items { level: u8, len: u64, is_final: bool },
    /// Extended attributes.
    Attrs,
}

impl Expect {
    fn kind(&self) -> Kind {
        match self {
            Self::Directory { .. } | Self::Node { .. } => filesync_merkle::TREE,
            Self::List { .. } | Self::Items { .. } => filesync_merkle::LIST,
            Self::Attrs => filesync_merkle::ATTRS,
        }
    }
}

/// A node whose turn will come.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    id: ContentHash,
    expect: Expect,
    counterpart: Option<ContentHash>,
    /// Its position among its parent's children.
    position: u16,
    /// Steps from the root to its parent.
    parent_steps: u16,
    /// Nesting of directories.
    depth: u16,
    /// Where it stands on the way to what is walked; `None` within that.
    way: Option<Lead>,
}

/// A place on the way to what is walked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    /// So many names of the path lead here; only what lies towards its end is walked.
    Path(u16),
    /// A directory on the way to parts, of which all nodes are walked.
    Parts(Way),
}

#[derive(Debug, Clone, Copy)]
enum Pending {
    Commit { id: CommitId, counterpart: Option<ContentHash> },
    Pub(PubId),
    Node(Waiting),
}

/// A walk over one root. Ask for the [`Tour::next`] object, then [`Tour::give`] or [`Tour::skip`] it.
#[derive(Debug)]
pub struct Tour {
    root: Root,
    base: Option<ContentHash>,
    path: Vec<Name>,
    parts: Parts,
    commits: Commits,
    next_pub: Option<PubId>,
    seen: Seen,
    waiting: Vec<Waiting>,
    steps: Vec<u16>,
    /// The commit that `steps` begin at.
    at: Root,
    pending: Option<Pending>,
    /// What was left out because it was not there: no counterpart of anything.
    absent: HashSet<ContentHash>,
    /// Chunks that are wanted though a counterpart has them.
    again: Arc<HashSet<ContentHash>>,
    count: u64,
}

impl Tour {
    /// Begins. `from` of the request is for the caller to count off.
    pub fn new(walk: &Walk) -> Self {
        Self {
            root: walk.root,
            base: walk.base,
            path: walk.path.names().collect(),
            parts: walk.parts.clone(),
            commits: Commits::new(walk),
            next_pub: match walk.root {
                Root::Pub(id) => Some(id),
                Root::Commit(_) => None,
            },
            seen: Seen::default(),
            waiting: Vec::new(),
            steps: Vec::new(),
            at: walk.root,
            pending: None,
            absent: HashSet::new(),
            again: Arc::default(),
            count: 0,
        }
    }

    /// Wants these chunks wherever it meets them. The order is the same.
    #[must_use]
    pub fn again(mut self, chunks: Arc<HashSet<ContentHash>>) -> Self {
        self.again = chunks;
        self
    }

    /// How many objects were given or skipped.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The next object; the same until it is given or skipped. `None` at the end.
    pub fn next(&mut self, source: &dyn NodeSource) -> Result<Option<Next>, TourError> {
        if self.pending.is_none() {
            self.pending = self.find_next(source)?;
        }
        Ok(self.pending.map(|pending| match pending {
            Pending::Commit { id, .. } => Next { kind: CommitId::KIND, id: id.0, counterpart: None },
            Pending::Pub(id) => Next { kind: PubId::KIND, id: id.0, counterpart: None },
            Pending::Node(node) => Next { kind: node.expect.kind(), id: node.id, counterpart: node.counterpart },
        }))
    }

    fn find_next(&mut self, source: &dyn NodeSource) -> Result<Option<Pending>, TourError> {
        while let Some(mut node) = self.waiting.pop() {
            if node.way.is_some() || !self.seen.contains(&node.id) {
                self.steps.truncate(usize::from(node.parent_steps));
                self.steps.push(node.position);
                node.counterpart = node.counterpart.filter(|id| !self.absent.contains(id));
                return Ok(Some(Pending::Node(node)));
            }
        }
        if let Some(id) = self.next_pub.take() {
            return Ok((Some(id.0) != self.base).then_some(Pending::Pub(id)));
        }
        let next = self.commits.next(source)?;
        Ok(next.map(|(id, counterpart)| {
            self.steps.clear();
            self.at = Root::Commit(id);
            Pending::Commit { id, counterpart }
        }))
    }

    /// Gives the bytes of the next object, which hash to its id. Says which chunks its children are, less those that are
    /// in its counterpart.
    pub fn give(&mut self, bytes: &[u8], source: &dyn NodeSource) -> Result<Vec<Want>, TourError> {
        let Some(pending) = self.pending.take() else { return Ok(Vec::new()) };
        self.count += 1;
        match pending {
            Pending::Commit { id, counterpart } => {
                self.give_commit(id, counterpart, bytes, source).map(|()| Vec::new())
            }
            Pending::Pub(id) => self.give_pub(id, bytes).map(|()| Vec::new()),
            Pending::Node(node) => {
                if self.steps.len() >= STEPS_MAX {
                    return Err(malformed(node.expect.kind(), node.id, "it lies too deep"));
                }
                let wants = self.expand(&node, bytes, source)?;
                if node.way.is_none() {
                    self.seen.note(&node.id);
                }
                if self.waiting.len() > WAITING_MAX {
                    return Err(malformed(node.expect.kind(), node.id, "the tree is too deep and too wide at once"));
                }
                Ok(wants)
            }
        }
    }

    /// Leaves out the next object and everything below it: it is not there.
    pub fn skip(&mut self) -> Result<(), TourError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        self.count += 1;
        if let Pending::Node(node) = pending {
            self.absent.insert(node.id);
            if self.absent.len() > ABSENT_MAX {
                return Err(malformed(node.expect.kind(), node.id, "too much is not there"));
            }
        }
        Ok(())
    }

    /// Where the object that was given last stands: a root, and positions from there.
    pub fn place(&self) -> (Root, &[u16]) {
        (self.at, &self.steps)
    }

    /// What is walked.
    pub fn root(&self) -> Root {
        self.root
    }

    fn give_pub(&mut self, id: PubId, bytes: &[u8]) -> Result<(), TourError> {
        let step = filesync_merkle::Pub::decode(bytes).map_err(|cause| malformed(PubId::KIND, id.0, cause))?;
        self.next_pub = step.prev;
        Ok(())
    }

    fn give_commit(
        &mut self,
        id: CommitId,
        counterpart: Option<ContentHash>,
        bytes: &[u8],
        source: &dyn NodeSource,
    ) -> Result<(), TourError> {
        let commit = filesync_merkle::Commit::decode(bytes).map_err(|cause| malformed(CommitId::KIND, id.0, cause))?;
        self.commits.sent(&commit, source)?;
        let tree = commit.tree;
        if counterpart != Some(tree.id.0) {
            self.waiting.push(Waiting {
                id: tree.id.0,
                expect: Expect::Directory { height: tree.height, totals: tree.totals },
                counterpart,
                position: 0,
                parent_steps: 0,
                depth: 0,
                way: self.parts.root().map(Lead::Parts).or((!self.path.is_empty()).then_some(Lead::Path(0))),
            });
        }
        Ok(())
    }
}

fn malformed(kind: Kind, id: ContentHash, cause: impl ToString) -> TourError {
    TourError::Malformed { kind, id, cause: cause.to_string() }
}

#[cfg(test)]
mod tests;
