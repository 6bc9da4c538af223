//! For tests, here and elsewhere: a store in memory, random trees, hostile nodes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use filesync_cas::{ContentHash, GetError, Kind, PutError};

use crate::schema::{identify, object_len_max};
use crate::source::{NodeSink, NodeSource};

/// Objects in memory. `&MemoryStore` is a sink too, so that one store can be read and written at a time.
#[derive(Debug, Default)]
pub struct MemoryStore {
    objects: Mutex<HashMap<ContentHash, (Kind, Arc<[u8]>)>>,
    gets: AtomicU64,
    puts: AtomicU64,
    new_nodes: AtomicU64,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many objects were asked for so far.
    pub fn gets(&self) -> u64 {
        self.gets.load(Ordering::Relaxed)
    }

    /// How many objects were put so far, again and again or not.
    pub fn puts(&self) -> u64 {
        self.puts.load(Ordering::Relaxed)
    }

    /// How many of them were new.
    pub fn new_nodes(&self) -> u64 {
        self.new_nodes.load(Ordering::Relaxed)
    }

    /// Sets all counts to zero.
    pub fn reset_counts(&self) {
        for count in [&self.gets, &self.puts, &self.new_nodes] {
            count.store(0, Ordering::Relaxed);
        }
    }

    /// All objects.
    pub fn objects(&self) -> Vec<(ContentHash, Kind, Arc<[u8]>)> {
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        objects.iter().map(|(id, (kind, bytes))| (*id, *kind, Arc::clone(bytes))).collect()
    }

    /// Loses an object.
    pub fn remove(&self, id: &ContentHash) {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
    }

    /// Takes bytes as they are, under their true id: hostile nodes too.
    pub fn insert(&self, kind: Kind, bytes: &[u8]) -> ContentHash {
        let id = identify(kind, bytes);
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        self.puts.fetch_add(1, Ordering::Relaxed);
        objects.entry(id).or_insert_with(|| {
            self.new_nodes.fetch_add(1, Ordering::Relaxed);
            (kind, bytes.into())
        });
        id
    }
}

impl NodeSource for MemoryStore {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        self.gets.fetch_add(1, Ordering::Relaxed);
        let objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        match objects.get(id) {
            Some((found, bytes)) if *found == kind => Ok(Arc::clone(bytes)),
            Some((found, _)) => Err(GetError::WrongKind { id: *id, wanted: kind, found: *found }),
            None => Err(GetError::Missing(*id)),
        }
    }
}

impl NodeSink for &MemoryStore {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        if bytes.len() > object_len_max(kind) {
            return Err(PutError::Unstorable { kind, len: bytes.len() });
        }
        Ok(self.insert(kind, bytes))
    }
}

impl NodeSink for MemoryStore {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        (&*self).put(kind, bytes)
    }
}
