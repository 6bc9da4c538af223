//! The log, as openraft wants it kept.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{AnyError, LogState, OptionalSend, RaftLogReader, StorageIOError};

use super::db::{COMMITTED, Db, PURGED, VOTE};
use super::disk::Changes;
use crate::ids::NodeId;
use crate::testing::mistake;
use crate::types::{Entry, LogId, StorageError, TypeConfig, Vote, decode, encode};

/// Entries that are sent together have about this many bytes at most, so that they fit in a message.
const SENT_LEN_MAX: usize = 1 << 20;

/// The log.
#[derive(Debug, Clone)]
pub struct LogStore {
    db: Arc<Db>,
    ends: Arc<Mutex<Ends>>,
}

/// Where the log begins and ends.
#[derive(Debug, Clone, Copy, Default)]
struct Ends {
    purged: Option<LogId>,
    last: Option<LogId>,
    /// Where an empty log went on, if not right after what was purged. openraft purges up to a state that it installs, so
    /// this is never needed after a start; its suite begins logs where it likes.
    begun: u64,
}

impl Ends {
    /// The index of the first entry that is there, or would be.
    fn first(&self) -> u64 {
        self.purged.map_or(0, |id| id.index + 1).max(self.begun)
    }

    /// The index after the last entry.
    fn end(&self) -> u64 {
        self.last.map_or(self.first(), |id| id.index + 1)
    }
}

/// The key of an entry.
pub(super) fn key(index: u64) -> [u8; 9] {
    let mut key = [b'l'; 9];
    key[1..].copy_from_slice(&index.to_be_bytes());
    key
}

fn read_error(cause: impl std::fmt::Display) -> StorageError {
    StorageIOError::read_logs(AnyError::error(cause)).into()
}

fn write_error(cause: impl std::fmt::Display) -> StorageError {
    StorageIOError::write_logs(AnyError::error(cause)).into()
}

/// Runs what waits for the disk where others do not have to wait for it too.
pub(super) fn blocking<T>(work: impl FnOnce() -> T) -> T {
    let flavor = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(tokio::runtime::RuntimeFlavor::MultiThread) => tokio::task::block_in_place(work),
        _ => work(),
    }
}

impl LogStore {
    /// Reads where the log begins and ends, and that nothing between is missing.
    pub fn open(db: Arc<Db>) -> Result<Self, String> {
        let purged: Option<LogId> = db.get(PURGED)?;
        let mut ends = Ends { purged, last: None, begun: 0 };
        for pair in db.disk.pairs_from(&key(ends.first())) {
            let (found, bytes) = pair?;
            if found.first() != Some(&b'l') {
                break;
            }
            let entry: Entry = decode(&bytes).map_err(|cause| format!("entry {}: {cause}", ends.end()))?;
            if *found != key(ends.end()) || entry.log_id.index != ends.end() {
                return Err(format!("entry {} is missing", ends.end()));
            }
            ends.last = Some(entry.log_id);
        }
        ends.last = ends.last.or(purged);
        Ok(Self { db, ends: Arc::new(Mutex::new(ends)) })
    }

    /// All entries behind one, acknowledged or not.
    pub fn after(&self, last: Option<LogId>) -> Result<Vec<Entry>, String> {
        self.read(last.map_or(0, |last| last.index + 1), u64::MAX, usize::MAX)
    }

    /// What leaves no entry, everything purged, and a vote of `node` for itself in a later term than any that is known here.
    pub fn emptied(&self, node: NodeId) -> Result<Changes, String> {
        let last = self.ends().last;
        let vote: Option<Vote> = self.db.get(VOTE)?;
        let terms = [last.map(|last| last.leader_id.term), vote.map(|vote| vote.leader_id().term)];
        let term = terms.into_iter().flatten().max().unwrap_or(0).checked_add(1).ok_or("there is no later term")?;
        let mut changes = Changes::default();
        changes.put(VOTE, encode(&Vote::new(term, node)));
        changes.put(COMMITTED, encode(&last));
        if let Some(last) = last {
            changes.put(PURGED, encode(&last));
            changes.delete_range(key(0), key(last.index + 1));
        }
        Ok(changes)
    }

    /// The last entry there is, acknowledged or not.
    pub fn last_index(&self) -> Option<u64> {
        self.ends().last.map(|id| id.index)
    }

    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Entries from `start` up to but not including `end`, and no more than fit in `len_max` bytes, but one.
    fn read(&self, start: u64, end: u64, len_max: usize) -> Result<Vec<Entry>, String> {
        let ends = *self.ends();
        let (start, end) = (start.max(ends.first()), end.min(ends.end()));
        let mut entries: Vec<Entry> = Vec::new();
        if start >= end {
            return Ok(entries);
        }
        let mut len = 0;
        for (pair, index) in self.db.disk.pairs_from(&key(start)).zip(start..end) {
            let (found, bytes) = pair?;
            if *found != key(index) {
                return Err(format!("entry {index} is missing"));
            }
            len += bytes.len();
            if len > len_max && !entries.is_empty() {
                break;
            }
            entries.push(decode(&bytes).map_err(|cause| format!("entry {index}: {cause}"))?);
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        let start = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(index) => index + 1,
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(start, end, usize::MAX).map_err(read_error)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.read(start, end, SENT_LEN_MAX).map_err(read_error)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError> {
        let ends = *self.ends();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let mut changes = Changes::default();
        changes.put(VOTE, encode(vote));
        let saved = blocking(|| match mistake("a vote that is not synced") {
            true => self.db.write_unsynced(changes),
            false => self.db.write_vote(changes),
        });
        saved.map_err(|cause| StorageIOError::write_vote(AnyError::error(cause)).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        self.db.get(VOTE).map_err(|cause| StorageIOError::read_vote(AnyError::error(cause)).into())
    }

    // Tells a node that starts alone what it may apply. If it is lost, the node learns it again from the leader.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let mut changes = Changes::default();
        changes.put(COMMITTED, encode(&committed));
        self.db.write_unsynced(changes).map_err(write_error)
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        self.db.get::<Option<LogId>>(COMMITTED).map(Option::flatten).map_err(read_error)
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<TypeConfig>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut changes = Changes::default();
        let (mut first, mut last) = (None, None);
        for entry in entries {
            first = first.or(Some(entry.log_id.index));
            changes.put(key(entry.log_id.index), encode(&entry));
            last = Some(entry.log_id);
        }
        let written = blocking(|| match mistake("entries that are not synced") {
            true => self.db.write_unsynced(changes),
            false => self.db.write(changes),
        });
        if let (Ok(()), Some(first)) = (&written, first) {
            let mut ends = self.ends();
            if ends.last == ends.purged {
                ends.begun = first;
            }
            ends.last = last;
        }
        callback.log_io_completed(written.clone().map_err(std::io::Error::other));
        written.map_err(write_error)
    }

    async fn truncate(&mut self, from: LogId) -> Result<(), StorageError> {
        let Ends { purged, .. } = *self.ends();
        let before = match from.index.checked_sub(1) {
            Some(before) if purged.is_none_or(|id| id.index < before) => {
                self.read(before, from.index, usize::MAX).map_err(read_error)?.first().map(|entry| entry.log_id)
            }
            _ => purged,
        };
        let mut changes = Changes::default();
        changes.delete_range(key(from.index), key(u64::MAX));
        blocking(|| self.db.write(changes)).map_err(write_error)?;
        self.ends().last = before;
        Ok(())
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), StorageError> {
        self.db.installs.before_purge(upto.index).await.map_err(write_error)?;
        let mut changes = Changes::default();
        changes.put(PURGED, encode(&upto));
        changes.delete_range(key(0), key(upto.index + 1));
        blocking(|| self.db.write(changes)).map_err(write_error)?;
        let mut ends = self.ends();
        ends.purged = Some(upto);
        // By place: an entry of a later leadership that was never committed may stand before it.
        if ends.last.is_none_or(|last| last.index < upto.index) {
            ends.last = Some(upto);
        }
        Ok(())
    }
}
