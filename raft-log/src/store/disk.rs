//! What the store needs of a disk: RocksDB in the product, and in simulations a memory that forgets what was not synced.

use std::fmt::Debug;

/// Changes that are made together, or not at all.
#[derive(Debug, Clone, Default)]
pub struct Changes(pub Vec<Change>);

/// One of them.
#[derive(Debug, Clone)]
pub enum Change {
    /// A key has this value from here on.
    Put {
        /// Which.
        key: Vec<u8>,
        /// What it has.
        value: Vec<u8>,
    },
    /// All keys from `start` up to but not including `end` go.
    Delete {
        /// The first that goes.
        start: Vec<u8>,
        /// The first that stays.
        end: Vec<u8>,
    },
}

impl Changes {
    /// Gives a key a value.
    pub fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.0.push(Change::Put { key: key.into(), value });
    }

    /// Removes keys from `start` up to but not including `end`.
    pub fn delete_range(&mut self, start: impl Into<Vec<u8>>, end: impl Into<Vec<u8>>) {
        self.0.push(Change::Delete { start: start.into(), end: end.into() });
    }
}

/// A key and its value.
pub type Pair = (Box<[u8]>, Box<[u8]>);

/// Keeps pairs in the order of their keys, and beside them a count of what was acknowledged.
pub trait Disk: Debug + Send + Sync {
    /// Makes changes, in the order of the calls. If they are synced they are durable on return, with all that came before.
    fn write(&self, changes: Changes, is_synced: bool) -> Result<(), String>;

    /// Notes the number of a write that is about to be acknowledged. That of a vote is durable on return.
    fn count(&self, number: u64, is_vote: bool) -> Result<(), String>;

    /// The greatest number that is known to have been acknowledged before this was opened. `None` is damage.
    fn counted(&self) -> Option<u64>;

    /// Reads one value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String>;

    /// Reads what is at `start` and behind it.
    fn pairs_from(&self, start: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, String>> + '_>;
}
