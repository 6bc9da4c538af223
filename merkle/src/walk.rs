//! Checking what no single node can show.

use filesync_cas::{ContentHash, Kind};

use crate::entry::TreeLink;
use crate::error::WalkError;
use crate::id::{AttrsId, ChunkId};
use crate::path::RepoPath;
use crate::source::NodeSource;

/// Directories may be nested this deep.
pub const DEPTH_MAX: usize = 4096;

/// What a walk tells and asks.
pub trait WalkVisitor {
    /// Whether this key is shown for the first time; it is to be remembered. Not an id of an object.
    fn first(&mut self, key: &ContentHash) -> bool;

    /// A node was read.
    fn node(&mut self, kind: Kind, id: &ContentHash) {
        let _ = (kind, id);
    }

    /// A file needs this chunk, with this length. May be told again.
    fn chunk(&mut self, id: &ChunkId, len: u64) {
        let _ = (id, len);
    }

    /// An entry needs these attributes. They have been read and decoded.
    fn attrs(&mut self, id: &AttrsId) {
        let _ = id;
    }

    /// Something is wrong at or below a path. The walk goes on with what else can be reached.
    fn problem(&mut self, path: &RepoPath, error: WalkError);
}

/// A walk over everything below some roots.
pub struct Walk<'s> {
    source: &'s dyn NodeSource,
}

impl<'s> Walk<'s> {
    /// Nothing to visit yet.
    pub fn new(source: &'s dyn NodeSource) -> Self {
        Self { source }
    }

    /// Visits everything below one root that the visitor has not been shown.
    pub fn tree(&mut self, visitor: &mut dyn WalkVisitor, root: &TreeLink) {
        let _ = (self.source, visitor, root);
        unimplemented!()
    }
}
