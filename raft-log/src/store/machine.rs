//! The state machine, as openraft wants it kept.
//!
//! The state is in memory, and on disk as of its last *checkpoint*, which is a snapshot too. What was applied since is in
//! the log and is applied again after a crash. So an index that was applied can be forgotten, and one that was flushed
//! cannot: pins may go only by the latter.

#[cfg(test)]
mod fuzz;

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder, Snapshot, StorageIOError};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::db::{CHECKPOINT, Db, PURGED};
use super::disk::Changes;
use super::log::{blocking, key};
use crate::ids::{Id, LogIndex, NodeId, Position, RepositoryId};
use crate::log::SnapshotInfo;
use crate::state::{State, Step, StepId};
use crate::types::{Entry, LogId, Membership, Reply, SnapshotMeta, StorageError, TypeConfig, decode, encode, position};

/// A step in the order of publishes that has not been written as an object yet.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnwrittenStep {
    /// The id of the object.
    pub id: Id,
    /// Its fields.
    pub step: Step,
}

/// What is on disk, and what travels to a node that is far behind.
#[derive(Debug, Serialize, Deserialize)]
struct Checkpoint {
    state: State,
    last: Option<LogId>,
    membership: Membership,
    /// This node's own: empty in what travels.
    steps: VecDeque<UnwrittenStep>,
}

/// The state, shared by who applies and who reads.
#[derive(Debug)]
pub struct Memory {
    db: Arc<Db>,
    now: Mutex<Checkpoint>,
    /// Held while a checkpoint goes to disk: a later one must not be overtaken by an earlier one.
    flushing: Mutex<()>,
    /// The last entry applied, in memory.
    pub applied: watch::Sender<Option<Position>>,
    /// The last entry that the state on disk contains.
    pub flushed: watch::Sender<Option<LogIndex>>,
}

impl Memory {
    /// Reads the last checkpoint.
    pub fn open(db: Arc<Db>, repository: RepositoryId) -> Result<Self, String> {
        let stored: Option<Checkpoint> = db.get(CHECKPOINT)?;
        let last = stored.as_ref().and_then(|stored| stored.last);
        let purged: Option<LogId> = db.get(PURGED)?;
        if let Some(purged) = purged.filter(|purged| last.is_none_or(|last| last.index < purged.index)) {
            return Err(format!(
                "entries up to {} are purged, and the state that contained them is missing",
                purged.index
            ));
        }
        let flushed = last.map(|last| LogIndex(last.index));
        db.installs.durable(last.map(|last| last.index));
        let now = stored.unwrap_or_else(|| Checkpoint {
            state: State::new(repository),
            last: None,
            membership: Membership::default(),
            steps: VecDeque::new(),
        });
        let applied = watch::Sender::new(now.state.applied);
        Ok(Self { db, now: Mutex::new(now), flushing: Mutex::default(), applied, flushed: watch::Sender::new(flushed) })
    }

    fn now(&self) -> MutexGuard<'_, Checkpoint> {
        // A panic in a reader changes nothing; one in `apply` ends the node by openraft's own rules.
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state as applied here. For what is true everywhere, wait for a read index first.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.now().state)
    }

    /// Steps whose objects have not been reported as written, oldest first.
    pub fn unwritten_steps(&self) -> Vec<UnwrittenStep> {
        self.now().steps.iter().cloned().collect()
    }

    /// The objects of steps up to here are durable.
    pub fn steps_written(&self, upto: LogIndex) {
        self.now().steps.retain(|unwritten| unwritten.step.index > upto);
    }

    /// Brings the state to disk. Gives back the last entry that it contains.
    pub fn flush(&self) -> Result<Option<LogIndex>, String> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (bytes, last) = {
            let now = self.now();
            let last = now.last.map(|last| LogIndex(last.index));
            if *self.flushed.borrow() == last {
                return Ok(last);
            }
            (encode(&*now), last)
        };
        self.store(Changes::default(), bytes, last)?;
        Ok(last)
    }

    fn store(&self, mut changes: Changes, bytes: Vec<u8>, last: Option<LogIndex>) -> Result<(), String> {
        changes.put(CHECKPOINT, bytes);
        blocking(|| self.db.write(changes))?;
        self.db.installs.durable(last.map(|last| last.0));
        self.flushed.send_replace(last);
        Ok(())
    }

    /// Reads another node's state, and whether it is what it is said to be.
    fn check(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<Checkpoint, String> {
        let other: Checkpoint = decode(data)?;
        if other.last != meta.last_log_id || other.state.applied != other.last.map(|last| position(&last)) {
            return Err("the state is not of the entry that it is said to be of".to_owned());
        }
        if other.membership != meta.last_membership {
            return Err("the state does not have the voters that it is said to have".to_owned());
        }
        if other.state.repository != self.read(|state| state.repository) {
            return Err("the state is of another repository".to_owned());
        }
        Ok(other)
    }

    /// Checks a state that was received, before openraft sees it: what openraft cannot install ends this node.
    pub fn offer(&self, meta: &SnapshotMeta, data: &[u8]) -> Result<(), String> {
        let other = self.check(meta, data)?;
        if let Some(last) = other.last {
            self.db.installs.offer(last.index);
        }
        Ok(())
    }

    /// Takes over another node's state, durably.
    fn install(&self, mut other: Checkpoint) -> Result<(), String> {
        let _one_at_a_time = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        // What this node has still to write stays its own business; the steps between are fetched like other objects.
        other.steps.clone_from(&self.now().steps);
        // What it contains goes from the log in the same moment: a crash leaves both or neither.
        let mut changes = Changes::default();
        if let Some(last) = other.last {
            changes.put(PURGED, encode(&last));
            changes.delete_range(key(0), key(last.index + 1));
        }
        self.store(changes, encode(&other), other.last.map(|last| LogIndex(last.index)))?;
        let applied = other.state.applied;
        *self.now() = other;
        self.applied.send_replace(applied);
        Ok(())
    }

    /// The last entry applied.
    pub fn last(&self) -> Option<LogId> {
        self.now().last
    }

    /// Changes the state by hand, with `node` as the only one that votes, and writes it together with `changes`: for a log that
    /// nobody runs. Gives back the state.
    pub fn replace(&self, changes: Changes, node: NodeId, change: impl FnOnce(&mut State)) -> Result<State, String> {
        let (bytes, last, state) = {
            let mut now = self.now();
            let last = now.last;
            change(&mut now.state);
            let of = now.membership.membership().get_node(&node).cloned().ok_or("this node has no part in the log")?;
            let voters = openraft::Membership::new(vec![[node].into()], BTreeMap::from([(node, of)]));
            now.membership = Membership::new(last, voters);
            // Steps that were given up are not written.
            if now.steps.back().is_some_and(|unwritten| Some(unwritten.id) != now.state.last_step) {
                now.steps.clear();
            }
            (encode(&*now), last.map(|last| LogIndex(last.index)), now.state.clone())
        };
        self.store(changes, bytes, last)?;
        Ok(state)
    }

    pub(crate) fn apply(&self, entry: Entry, step_id: StepId) -> Reply {
        let mut guard = self.now();
        let now = &mut *guard;
        let at = position(&entry.log_id);
        let mut reply = Reply::default();
        match entry.payload {
            EntryPayload::Blank => now.state.advance(at),
            EntryPayload::Normal(batch) => {
                for applied in now.state.apply(at, &batch, step_id) {
                    reply.0.push(applied.outcome);
                    now.steps.extend(applied.step.map(|(id, step)| UnwrittenStep { id, step }));
                }
            }
            EntryPayload::Membership(membership) => {
                now.state.set_voters(at, membership.get_joint_config().clone());
                now.membership = Membership::new(Some(entry.log_id), membership);
            }
        }
        now.last = Some(entry.log_id);
        reply
    }

    /// Changes the state as no entry can: what a state machine with a mistake in it would do.
    #[cfg(test)]
    pub fn tamper(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.now().state);
    }

    /// What is known of the snapshot on disk.
    pub fn snapshot_info(&self) -> Result<Option<SnapshotInfo>, String> {
        let info = |snapshot: Snapshot<TypeConfig>| {
            let last = snapshot.meta.last_log_id?;
            let (index, term) = (LogIndex(last.index), last.leader_id.term);
            Some(SnapshotInfo { index, term, bytes: snapshot.snapshot.len() as u64 })
        };
        Ok(self.snapshot()?.and_then(info))
    }

    fn snapshot(&self) -> Result<Option<Snapshot<TypeConfig>>, String> {
        let stored: Option<Checkpoint> = self.db.get(CHECKPOINT)?;
        Ok(stored.map(|mut stored| {
            stored.steps.clear();
            let id = stored.last.map_or_else(|| "0".to_owned(), |last| format!("{}-{}", last.leader_id, last.index));
            let meta =
                SnapshotMeta { last_log_id: stored.last, last_membership: stored.membership.clone(), snapshot_id: id };
            Snapshot { meta, snapshot: Box::new(encode(&stored)) }
        }))
    }
}

/// openraft's hand on the state.
#[derive(Debug, Clone)]
pub struct Machine {
    /// The state.
    pub memory: Arc<Memory>,
    /// How steps are named.
    pub step_id: StepId,
}

fn read_error(cause: impl std::fmt::Display) -> StorageError {
    StorageIOError::read_state_machine(AnyError::error(cause)).into()
}

fn write_error(cause: impl std::fmt::Display) -> StorageError {
    StorageIOError::write_state_machine(AnyError::error(cause)).into()
}

impl RaftSnapshotBuilder<TypeConfig> for Machine {
    // What is before it in the log will be purged, so it must be durable.
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError> {
        self.memory.flush().map_err(write_error)?;
        let snapshot = self.memory.snapshot().map_err(read_error)?;
        match snapshot {
            Some(snapshot) => Ok(snapshot),
            // Nothing was ever applied.
            None => Ok(Snapshot { meta: SnapshotMeta::default(), snapshot: Box::default() }),
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        let now = self.memory.now();
        Ok((now.last, now.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let replies: Vec<_> = entries.into_iter().map(|entry| self.memory.apply(entry, self.step_id)).collect();
        let applied = self.memory.read(|state| state.applied);
        self.memory.applied.send_replace(applied);
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        Ok(Box::default())
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        let taken = self.memory.check(meta, &snapshot).and_then(|other| self.memory.install(other));
        taken.map_err(|cause| {
            self.memory.db.installs.failed(&cause);
            StorageIOError::write_snapshot(Some(meta.signature()), AnyError::error(cause)).into()
        })
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.memory.snapshot().map_err(read_error)
    }
}
