//! The store as the object model sees it: nodes in, nodes out.

use std::sync::Arc;

use filesync_cas::store::FrameWriter;
use filesync_cas::{ContentHash, GetError, Kind, PutError, Schema, Store};
use filesync_merkle::{MerkleSchema, NodeSink, NodeSource};

/// Reads nodes from a store.
#[derive(Debug)]
pub struct StoreNodes(pub Arc<Store>);

impl NodeSource for StoreNodes {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        Ok(Arc::from(&*self.0.get(kind, id)?))
    }
}

/// Writes nodes into a session.
pub struct SessionNodes<'a, 's>(pub &'a mut FrameWriter<'s>);

impl NodeSink for SessionNodes<'_, '_> {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        self.0.store(kind, bytes)
    }
}

/// Stores nothing and says the ids that storing would give.
#[derive(Debug, Default)]
pub struct IdsOnly;

impl NodeSink for IdsOnly {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        let context = MerkleSchema.context(kind).ok_or(PutError::Unstorable { kind, len: bytes.len() })?;
        Ok(ContentHash::of_metadata(context, bytes))
    }
}
