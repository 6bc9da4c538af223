//! An index in memory: for readers of a store whose index cannot be opened, and for tests.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::{Index, IndexUpdate, IndexedPack, Location, ObjectVisitor, PackNumber};
use crate::hash::ContentHash;
use crate::rows::{MemoryRows, RowError, RowVisitor, Rows};

/// An index in memory.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    rows: MemoryRows,
    objects: RwLock<BTreeMap<ContentHash, Location>>,
    packs: RwLock<Vec<IndexedPack>>,
    generation: RwLock<Option<u64>>,
    given_up: RwLock<Option<ContentHash>>,
    next_number: RwLock<PackNumber>,
}

impl Rows for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.rows.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        self.rows.scan(from, to, visit)
    }
}

impl Index for MemoryIndex {
    fn lookup(&self, id: &ContentHash) -> Result<Option<Location>, RowError> {
        Ok(self.objects.read().unwrap_or_else(PoisonError::into_inner).get(id).copied())
    }

    fn objects(&self, from: &ContentHash, to: &ContentHash, visit: &mut ObjectVisitor<'_>) -> Result<(), RowError> {
        for (id, location) in self.objects.read().unwrap_or_else(PoisonError::into_inner).range(from..=to) {
            if visit(*id, *location).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn packs(&self) -> Result<Vec<IndexedPack>, RowError> {
        Ok(self.packs.read().unwrap_or_else(PoisonError::into_inner).clone())
    }

    fn generation(&self) -> Result<Option<u64>, RowError> {
        Ok(*self.generation.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn given_up(&self) -> Result<Option<ContentHash>, RowError> {
        Ok(*self.given_up.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn next_number(&self) -> Result<PackNumber, RowError> {
        Ok(*self.next_number.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn apply(&self, update: IndexUpdate) -> Result<(), RowError> {
        let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
        objects.extend(update.objects);
        for id in &update.removed {
            objects.remove(id);
        }
        drop(objects);
        let mut packs = self.packs.write().unwrap_or_else(PoisonError::into_inner);
        for pack in update.packs {
            packs.retain(|known| known.name != pack.name);
            packs.push(pack);
        }
        if let Some((dropped, next)) = update.dropped {
            packs.retain(|known| !dropped.contains(&known.name));
            *self.next_number.write().unwrap_or_else(PoisonError::into_inner) = next;
        }
        self.rows.apply(update.rows);
        if update.given_up.is_some() {
            *self.given_up.write().unwrap_or_else(PoisonError::into_inner) = update.given_up;
        }
        if update.generation.is_some() {
            *self.generation.write().unwrap_or_else(PoisonError::into_inner) = update.generation;
        }
        Ok(())
    }

    fn apply_durably(&self, update: IndexUpdate) -> Result<(), RowError> {
        self.apply(update)
    }

    fn settle(&self) -> Result<(), RowError> {
        Ok(())
    }
}
