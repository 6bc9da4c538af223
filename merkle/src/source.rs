//! Where nodes come from and go to: the only things that this crate wants of a store.

use std::sync::Arc;

use filesync_cas::{ContentHash, GetError, Kind, PutError};

/// Gives objects. What it gives has been verified against the id: nothing here hashes it again.
pub trait NodeSource {
    /// The bytes of one metadata object.
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError>;
}

/// Takes new objects.
pub trait NodeSink {
    /// Stores one metadata object, if it is not there yet, and says its id.
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError>;
}

impl<S: NodeSource + ?Sized> NodeSource for &S {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        (**self).get(kind, id)
    }
}

impl<S: NodeSource + ?Sized> NodeSource for Arc<S> {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        (**self).get(kind, id)
    }
}
