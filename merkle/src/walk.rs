//! Checking what no single node can show: that sums, levels and names agree across nodes, and that every directory and
//! list is cut by the rule. For `fsck`.
//!
//! Iterative, and each distinct node is read once, whatever refers to it (a few nodes at the beginning of large
//! directories are read again for each of their versions, since only there the cuts depend on what comes after). What is
//! remembered is not the id of a node but all that was claimed about it, so that a false claim about a node seen before
//! is found too.

mod dir;
mod file;

use std::sync::{Arc, LazyLock};

use filesync_cas::{ContentHash, Kind};

use crate::attrs::Attrs;
use crate::entry::TreeLink;
use crate::error::WalkError;
use crate::history::read_commit;
use crate::id::{AttrsId, ChunkId, CommitId, ListId};
use crate::parts::{Parts, Way};
use crate::path::{Name, RepoPath};
use crate::source::NodeSource;
use dir::DirWalk;

/// Directories may be nested this deep.
pub const DEPTH_MAX: usize = 4096;

/// What a walk tells and asks.
pub trait WalkVisitor {
    /// Whether this key is shown for the first time; it is to be remembered, for all walks that share what they saw. Keys
    /// are hashes of what is claimed about nodes, and not ids of objects.
    fn first(&mut self, key: &ContentHash) -> bool;

    /// A metadata object was read, and is in canonical form.
    fn node(&mut self, kind: Kind, id: &ContentHash) {
        let _ = (kind, id);
    }

    /// A file needs this chunk, with this length. The walk does not look for it. May be told again.
    fn chunk(&mut self, id: &ChunkId, len: u64) {
        let _ = (id, len);
    }

    /// A file is this list of chunks, which begins to be walked over. Whether its bytes have the hash that the list says is
    /// for others to see.
    fn file(&mut self, root: &ListId, height: u8, size: u64) {
        let _ = (root, height, size);
    }

    /// Something is wrong at a path or below it. The walk goes on with what else can be reached.
    fn problem(&mut self, path: &RepoPath, error: WalkError);
}

/// A walk over everything below some roots.
pub struct Walk<'s> {
    source: &'s dyn NodeSource,
    parts: &'s Parts,
}

static WHOLE: Parts = Parts::whole();

/// A directory on the way down. Chains end at [`DEPTH_MAX`].
struct Step {
    parent: Path,
    name: Name,
}

type Path = Option<Arc<Step>>;

/// What is left to do; the last first.
enum Work<'s> {
    Open { link: TreeLink, path: Path, depth: usize, way: Option<Way> },
    Continue(Box<DirWalk<'s>>),
}

impl<'s> Walk<'s> {
    /// A walk that reads from `source`.
    pub fn new(source: &'s dyn NodeSource) -> Self {
        Self { source, parts: &WHOLE }
    }

    /// Visits only parts of trees, and what lies on the way to them.
    #[must_use]
    pub fn within(mut self, parts: &'s Parts) -> Self {
        self.parts = parts;
        self
    }

    /// Visits a commit and its tree, not its parents: [`crate::Ancestors`] finds those.
    pub fn commit(&self, visitor: &mut dyn WalkVisitor, id: &CommitId) {
        match read_commit(self.source, id) {
            Ok(commit) => {
                visitor.node(CommitId::KIND, &id.0);
                self.tree(visitor, &commit.tree);
            }
            Err(error) => visitor.problem(&RepoPath::root(), error),
        }
    }

    /// Visits everything below one root that the visitor has not been shown.
    pub fn tree(&self, visitor: &mut dyn WalkVisitor, root: &TreeLink) {
        let mut work = vec![Work::Open { link: *root, path: None, depth: 0, way: self.parts.root() }];
        while let Some(next) = work.pop() {
            let dir = match next {
                Work::Continue(dir) => dir,
                Work::Open { link, path, depth, way } => {
                    let claim = match way {
                        None => dir::claim(&link),
                        // As much of it as leads on, and no more, has been seen then.
                        Some(_) => key(&[b"way", dir::claim(&link).as_bytes(), full(&path).as_bytes()]),
                    };
                    if !visitor.first(&claim) {
                        continue;
                    }
                    if depth > DEPTH_MAX {
                        visitor.problem(&full(&path), WalkError::TooDeep { id: link.id.0, max: DEPTH_MAX });
                        continue;
                    }
                    Box::new(DirWalk::new(self.source, link, path, depth, way.map(|way| (self.parts, way))))
                }
            };
            dir.go(visitor, &mut work);
        }
    }

    /// Visits one list as an entry refers to it.
    pub fn list(&self, visitor: &mut dyn WalkVisitor, root: &ListId, height: u8, size: u64) -> Result<(), WalkError> {
        file::list(self.source, visitor, root, height, size)
    }
}

/// Reads attributes once.
fn attrs(source: &dyn NodeSource, visitor: &mut dyn WalkVisitor, id: &AttrsId) -> Result<(), WalkError> {
    if visitor.first(&key(&[b"attrs", id.as_bytes()])) {
        let bytes = source.get(AttrsId::KIND, &id.0)?;
        Attrs::decode(&bytes).map_err(|cause| WalkError::Malformed { kind: AttrsId::KIND, id: id.0, cause })?;
        visitor.node(AttrsId::KIND, &id.0);
    }
    Ok(())
}

/// Stands for all that is claimed about a node.
fn key(parts: &[&[u8]]) -> ContentHash {
    static HASHER: LazyLock<blake3::Hasher> =
        LazyLock::new(|| blake3::Hasher::new_derive_key("filesync walk claim v1"));
    let mut hasher = HASHER.clone();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    ContentHash::from_bytes(*hasher.finalize().as_bytes())
}

fn full(path: &Path) -> RepoPath {
    let mut names = Vec::new();
    let mut next = path;
    while let Some(step) = next {
        names.push(&step.name);
        next = &step.parent;
    }
    let mut path = RepoPath::root();
    names.iter().rev().for_each(|name| path.push(name));
    path
}
