//! Metadata that came and is not in a pack yet: readable at once, stored in frames of some size.

use std::collections::HashMap;
use std::sync::Arc;

use filesync_cas::frame::META_TARGET;
use filesync_cas::{Claim, ContentHash, GetError, Kind, PutError, Session, Store};
use filesync_merkle::NodeSource;

use crate::source::StoreSource;

/// Objects that wait to be stored.
#[derive(Default)]
pub(super) struct Spool {
    order: Vec<ContentHash>,
    objects: HashMap<ContentHash, (Kind, Arc<[u8]>)>,
    len: usize,
}

impl Spool {
    pub(super) fn contains(&self, id: &ContentHash) -> bool {
        self.objects.contains_key(id)
    }

    /// Takes an object, verified; whether there is enough for a frame now.
    pub(super) fn push(&mut self, id: ContentHash, kind: Kind, bytes: Arc<[u8]>) -> bool {
        self.len += bytes.len();
        self.order.push(id);
        self.objects.insert(id, (kind, bytes));
        self.len >= META_TARGET
    }

    /// Stores what waits.
    pub(super) fn flush(&mut self, session: &Session<'_>) -> Result<(), PutError> {
        let mut writer = session.writer();
        for id in &self.order {
            let Some((kind, bytes)) = self.objects.get(id) else { continue };
            if session.claim(id)? == Claim::New {
                writer.put(*id, *kind, bytes)?;
            }
        }
        writer.flush()?;
        *self = Self::default();
        Ok(())
    }
}

/// What waits, over what is stored.
pub(super) struct Overlay<'a> {
    pub(super) store: &'a Store,
    pub(super) spool: &'a Spool,
}

impl NodeSource for Overlay<'_> {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        match self.spool.objects.get(id) {
            Some((found, bytes)) if *found == kind => Ok(Arc::clone(bytes)),
            _ => StoreSource(self.store).get(kind, id),
        }
    }
}
