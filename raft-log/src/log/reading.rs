//! What is true now, what is true here, and who leads.

use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::Log;
use crate::error::ReadError;
use crate::ids::{LogIndex, NodeId, Position};
use crate::state::State;
use crate::status::Status;

/// Between two rounds of a read.
const ROUND_PAUSE: Duration = Duration::from_millis(50);

impl Log {
    /// The index that a node must have applied to see everything that was acknowledged before this call: by asking a
    /// majority. Only the leader can.
    pub async fn read_index(&self, within: Duration) -> Result<LogIndex, ReadError> {
        // Each round would be one more sign that it is there.
        if self.stands_back() {
            return Err(ReadError::NotLeader { leader: self.leader() });
        }
        let until = Instant::now() + within;
        let stopped = || ReadError::Stopped("it was shut down".to_owned());
        loop {
            let (reader, answered) = oneshot::channel();
            let queued = timeout_at(until, self.readers.send(reader)).await.map_err(|_| ReadError::TimedOut(within))?;
            queued.map_err(|_| stopped())?;
            let answer = timeout_at(until, answered).await.map_err(|_| ReadError::TimedOut(within))?;
            match answer.map_err(|_| stopped())? {
                // One round failed, by a message that was lost perhaps. There is time for another.
                Err(ReadError::TimedOut(_)) => tokio::time::sleep_until(until.min(Instant::now() + ROUND_PAUSE)).await,
                answer => return answer,
            }
            if Instant::now() >= until {
                return Err(ReadError::TimedOut(within));
            }
        }
    }

    /// Looks at the state when it contains everything that was acknowledged before this call. Only the leader can; others
    /// ask it for its `read_index` and wait until they have applied that.
    pub async fn read_latest<T>(&self, within: Duration, look: impl FnOnce(&State) -> T) -> Result<T, ReadError> {
        let until = Instant::now() + within;
        let index = self.read_index(within).await?;
        self.wait_applied(index, until.saturating_duration_since(Instant::now())).await?;
        Ok(self.read(look))
    }

    /// Waits until an entry is applied here.
    pub async fn wait_applied(&self, index: LogIndex, within: Duration) -> Result<(), ReadError> {
        let mut applied = self.memory.applied.subscribe();
        let waiting = applied.wait_for(|applied| applied.is_some_and(|at| at.index >= index));
        match tokio::time::timeout(within, waiting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopped("it was shut down".to_owned())),
            Err(_) => Err(ReadError::Behind { wanted: index, waited: within }),
        }
    }

    /// Applies everything that is in this leader's log now, and finds that it still leads.
    pub(super) async fn apply_all(&self, within: Duration) -> Result<(), ReadError> {
        let until = Instant::now() + within;
        let left = || until.saturating_duration_since(Instant::now());
        self.read_index(within).await?;
        // By the same way as proposals go: what was sent before is in the log by then.
        let passed = timeout_at(until, self.raft.with_raft_state(|_| ())).await;
        let passed = passed.map_err(|_| ReadError::TimedOut(within))?;
        passed.map_err(|fatal| ReadError::Stopped(fatal.to_string()))?;
        match self.store.last_index() {
            Some(last) => self.wait_applied(LogIndex(last), left()).await,
            None => Ok(()),
        }
    }

    /// Looks at the state as it is applied here: perhaps an old one.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        self.memory.read(look)
    }

    /// The last entry applied here, as it changes. With `read` after each change nothing is missed that is still so: heads,
    /// members, voters, tries that are decided.
    pub fn watch_applied(&self) -> watch::Receiver<Option<Position>> {
        self.memory.applied.subscribe()
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        let leader = self.raft.metrics().borrow().current_leader;
        leader.filter(|leader| *leader != self.node || !self.stands_back())
    }

    /// Whether there is a leader that can decide, as far as this node knows. Who leads and is cut off goes on leading until it hears of
    /// a later term: it can decide as long as a majority has answered it lately.
    pub fn is_led(&self) -> bool {
        let Some(leader) = self.leader() else { return false };
        let answered = self.raft.metrics().borrow().millis_since_quorum_ack;
        leader != self.node || answered.is_some_and(|ago| Duration::from_millis(ago) < self.deadline)
    }

    /// Whether this node is the only voter, by the last entry of its log that says who votes. `false` once it has stopped.
    pub async fn votes_alone(&self) -> bool {
        let node = self.node;
        let is_alone =
            self.raft.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([node]));
        is_alone.await.unwrap_or(false)
    }

    /// Waits until somebody else than `than` leads, or somebody at all.
    pub async fn wait_leader(&self, than: Option<NodeId>, within: Duration) -> Result<NodeId, ReadError> {
        let mut metrics = self.raft.metrics();
        let there = metrics.wait_for(|metrics| metrics.current_leader.is_some() && metrics.current_leader != than);
        match tokio::time::timeout(within, there).await {
            Err(_) => Err(ReadError::TimedOut(within)),
            Ok(found) => match found.ok().and_then(|metrics| metrics.current_leader) {
                Some(leader) => Ok(leader),
                None => Err(ReadError::Stopped("it was shut down".to_owned())),
            },
        }
    }

    /// How things stand, for people and for metrics.
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics().borrow().clone();
        let index = |id: Option<crate::types::LogId>| id.map(|id| LogIndex(id.index));
        let followers = metrics.replication.unwrap_or_default().into_iter().filter(|(node, _)| *node != self.node);
        Status {
            term: metrics.current_term,
            leader: metrics.current_leader,
            leading: self.leading(),
            last: metrics.last_log_index.map(LogIndex),
            applied: self.memory.applied.borrow().map(|at| at.index),
            flushed: self.flushed(),
            followers: followers.map(|(node, id)| (node, index(id))).collect(),
        }
    }
}
