//! Rows that can be derived again, kept beside the chunk index for crates above (the stat cache).
//!
//! They may vanish, or be older than the store, at any time: a reader must be able to tell from the row
//! itself whether it still holds.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// Why rows cannot be read or written: the caller goes on without them.
#[derive(Debug, Clone, thiserror::Error)]
#[error("index: {cause}")]
pub struct RowError {
    cause: String,
    damage: bool,
}

impl RowError {
    /// The index itself is wrong: it is to be built again.
    pub(crate) fn damaged(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), damage: true }
    }

    /// The system refused (a full disk, too many open files): nothing is known against the index.
    pub(crate) fn refused(cause: impl Into<String>) -> Self {
        Self { cause: cause.into(), damage: false }
    }

    /// Whether the index itself is wrong.
    pub fn is_damage(&self) -> bool {
        self.damage
    }

    /// What happened, without the word that says where.
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

/// What a scan calls for each row: key without the caller's prefix, and value.
pub type RowVisitor<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// Ordered rows, readable from several threads.
pub trait Rows: Send + Sync {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError>;

    /// Visits the rows with `from <= key < to` in ascending order until told to stop.
    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError>;
}

/// Changes to rows, applied together after the commit that they belong to is durable.
#[derive(Debug, Default, Clone)]
pub struct RowBatch(pub Vec<(Vec<u8>, Option<Vec<u8>>)>);

impl RowBatch {
    /// Sets a row.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) {
        self.0.push((key.into(), Some(value.into())));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: impl Into<Vec<u8>>) {
        self.0.push((key.into(), None));
    }
}

/// Rows in memory: what stands in when the index cannot be read, and in tests.
#[derive(Debug, Default)]
pub struct MemoryRows(Mutex<BTreeMap<Vec<u8>, Vec<u8>>>);

impl MemoryRows {
    /// Applies changes.
    pub fn apply(&self, batch: RowBatch) {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in batch.0 {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
    }
}

impl Rows for MemoryRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        if from >= to {
            return Ok(());
        }
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, value) in rows.range(from.to_vec()..to.to_vec()) {
            if visit(key, value).is_break() {
                break;
            }
        }
        Ok(())
    }
}
