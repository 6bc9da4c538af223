//! The store as the object model sees it.

use std::sync::Arc;

use filesync_cas::{ContentHash, GetError, Kind, Store};
use filesync_merkle::NodeSource;

/// Reads nodes from a store.
#[derive(Debug, Clone, Copy)]
pub struct StoreSource<'a>(pub &'a Store);

impl NodeSource for StoreSource<'_> {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        Ok(Arc::from(&*self.0.get(kind, id)?))
    }
}
