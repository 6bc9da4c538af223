//! Snapshots: the state as of an entry. It is what a node starts with, and what one is sent that is too far behind for entries.

use std::time::Duration;

use super::Log;
use crate::error::ReadError;
use crate::ids::LogIndex;

/// A snapshot on this node's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SnapshotInfo {
    /// The last entry that it contains.
    pub index: LogIndex,
    /// That entry's term.
    pub term: u64,
    /// How long it is as it is sent, in bytes.
    pub bytes: u64,
}

impl Log {
    /// The newest snapshot; there is one from the first time that the state was brought to disk.
    pub fn snapshot(&self) -> Result<Option<SnapshotInfo>, ReadError> {
        self.memory.snapshot_info().map_err(ReadError::Stopped)
    }

    /// Makes one of what is applied here. Durable on return. The log lets go what is before it, but for some entries for those
    /// who are behind a little.
    pub async fn take_snapshot(&self, within: Duration) -> Result<Option<SnapshotInfo>, ReadError> {
        let applied = self.memory.applied.borrow().map(|at| at.index);
        let Some(applied) = applied else { return Ok(None) };
        let stopped = |cause: &dyn std::fmt::Display| ReadError::Stopped(cause.to_string());
        self.raft.trigger().snapshot().await.map_err(|error| stopped(&error))?;
        let mut metrics = self.raft.metrics();
        let made = metrics.wait_for(|metrics| metrics.snapshot.is_some_and(|id| LogIndex(id.index) >= applied));
        match tokio::time::timeout(within, made).await {
            Ok(Ok(_)) => self.snapshot(),
            Ok(Err(_)) => Err(stopped(&"it was shut down")),
            Err(_) => Err(ReadError::TimedOut(within)),
        }
    }
}
