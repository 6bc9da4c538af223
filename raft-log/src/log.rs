//! The log: propose, read, watch. openraft's driver; its types end here.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::Config;
use openraft::error::{InitializeError, RaftError};
use openraft::storage::RaftStateMachine;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::batch::{Proposer, Waiting};
use crate::command::{Command, Founder, Outcome, Publish, Receipts, RefChange, Refusal, TryId};
use crate::error::{FlushError, HandleError, OpenError, ProposeError, ReadError};
use crate::ids::{LogIndex, NodeId, RepositoryId};
use crate::network::{Incoming, Links, Network, Receiver, Sender};
use crate::reads::{Reader, Rounds};
use crate::state::StepId;
use crate::store::{Db, Header, LogStore, Machine, Memory, Mode, Note, UnwrittenStep};
use crate::testing::Plugged;
use crate::tries::{Tries, Try};
use crate::types::{Raft, RaftNode, TypeConfig, encode};

mod options;
mod reading;
mod snapshots;
mod standing;
#[cfg(test)]
mod tests;
mod voters;

pub use options::Options;
pub use snapshots::SnapshotInfo;
pub use standing::Reason;
use standing::Standing;
pub use voters::Driven;
use voters::Gate;

/// Whose log it is and how it reaches others.
pub struct Parts {
    /// Which repository and which node.
    pub repository: RepositoryId,
    /// This node.
    pub node: NodeId,
    /// Carries messages.
    pub network: Arc<dyn Network>,
    /// Names steps.
    pub step_id: StepId,
    /// How it behaves.
    pub options: Options,
}

/// The longest command: a few fit in a message with others' entries.
const COMMAND_LEN_MAX: usize = 64 << 10;
/// What a leader knows of a try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TryStatus {
    /// It may still be published: hold on.
    Open,
    /// It is decided: let go once the state machine has been flushed at what decides it.
    Decided,
    /// It will never be in the log: let go.
    Unknown,
}

/// A node's part in the log.
pub struct Log {
    node: NodeId,
    repository: RepositoryId,
    raft: Raft,
    db: Arc<Db>,
    store: LogStore,
    memory: Arc<Memory>,
    tries: Arc<Tries>,
    incoming: Mutex<Option<Incoming>>,
    queue: mpsc::Sender<Waiting>,
    readers: mpsc::Sender<Reader>,
    gate: Gate,
    deadline: Duration,
    standing: Arc<Standing>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("node", &self.node).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens the log of a node in `dir`, or makes it: see [`Mode`]. Must be called within a tokio runtime.
    pub async fn open(dir: &Path, mode: Mode, parts: Parts) -> Result<Self, OpenError> {
        let config = parts.options.config()?;
        let db = Db::open(dir, Header { repository: parts.repository, node: parts.node }, mode)?;
        let started = Self::start(db, config, parts, |machine| machine).await;
        started.map_err(|cause| OpenError::Damaged { dir: dir.to_owned(), cause })
    }

    /// As [`Log::open`], on a disk in memory.
    pub async fn open_on(disk: Plugged, mode: Mode, parts: Parts) -> Result<Self, OpenError> {
        let config = parts.options.config()?;
        let header = Header { repository: parts.repository, node: parts.node };
        let db = Db::simulated(Box::new(disk), header, mode)?;
        let started = Self::start(db, config, parts, |machine| machine).await;
        started.map_err(|cause| OpenError::Damaged { dir: "simulated".into(), cause })
    }

    /// Runs what a database holds. Tests put something of their own around the state machine.
    async fn start<M: RaftStateMachine<TypeConfig>>(
        db: Db,
        config: Config,
        parts: Parts,
        around: impl FnOnce(Machine) -> M,
    ) -> Result<Self, String> {
        let Parts { repository, node, network, step_id, options } = parts;
        let db = Arc::new(db);
        let tries = Arc::new(Tries::new(db.incarnation));
        let store = LogStore::open(Arc::clone(&db))?;
        let memory = Arc::new(Memory::open(Arc::clone(&db), repository)?);
        let machine = around(Machine { memory: Arc::clone(&memory), step_id });
        let links = Links { network, repository, node, backoff: options.heartbeat };
        let raft = Raft::new(node, Arc::new(config), links, store.clone(), machine).await;
        let raft = raft.map_err(|error| error.to_string())?;
        let (queue, waiting) = mpsc::channel(options.waiting_max);
        let deadline = options.election.1 * 7;
        let proposer = Proposer {
            raft: raft.clone(),
            tries: Arc::clone(&tries),
            clock: options.clock,
            linger: options.linger,
            deadline,
        };
        tokio::spawn(proposer.run(waiting));
        let (readers, reading) = mpsc::channel(options.waiting_max);
        tokio::spawn(Rounds { raft: raft.clone(), deadline }.run(reading));
        let standing = Standing::new(node, raft.clone(), deadline);
        let (incoming, gate) = Default::default();
        Ok(Self {
            node,
            repository,
            raft,
            db,
            store,
            memory,
            tries,
            incoming,
            queue,
            readers,
            gate,
            deadline,
            standing,
        })
    }

    /// Makes the first node of a repository its only voter and first member. Done again it does nothing.
    pub async fn found(&self, founder: Founder, within: Duration) -> Result<(), ProposeError> {
        let until = Instant::now() + within;
        let nodes = [(self.node, RaftNode { key: founder.key })];
        let initializing = timeout_at(until, self.raft.initialize(BTreeMap::from(nodes))).await;
        match initializing.map_err(|_| ProposeError::Unknown(within))? {
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
            Err(error) => return Err(ProposeError::Stopped(error.to_string())),
        }
        let mut metrics = self.raft.metrics();
        let leads = metrics.wait_for(|metrics| metrics.current_leader.is_some());
        drop(timeout_at(until, leads).await.map_err(|_| ProposeError::Unknown(within))?);
        match self.propose(Command::Found(founder), until.saturating_duration_since(Instant::now())).await {
            Ok(_) | Err(ProposeError::Refused(Refusal::IsFounded)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Has a node that is the only voter stand for election at once, and waits until it leads and has applied all it has.
    pub async fn lead_alone(&self, within: Duration) -> Result<(), ProposeError> {
        let until = Instant::now() + within;
        if self.leading().is_none() {
            let electing = self.raft.trigger().elect().await;
            electing.map_err(|fatal| ProposeError::Stopped(fatal.to_string()))?;
        }
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.read_latest(left, |_| ()).await {
                Ok(()) => return Ok(()),
                Err(ReadError::Stopped(cause)) => return Err(ProposeError::Stopped(cause)),
                Err(_) if left.is_zero() => return Err(ProposeError::Unknown(within)),
                Err(_) => tokio::time::sleep(Duration::from_millis(5).min(left)).await,
            }
        }
    }

    /// Writes a command to the log and waits until it is applied here. Only the leader can.
    ///
    /// `NotLeader` and `Unknown` do not say that it was not done: ask again with the same sequence number. Whether who asks
    /// may speak for the members that the command names is for the caller to check; the rest is for the state.
    pub async fn propose(&self, command: Command, within: Duration) -> Result<Outcome, ProposeError> {
        let has_receipts = matches!(&command, Command::Publish(publish) if publish.receipts.is_some());
        if has_receipts {
            return Err(ProposeError::Refused(Refusal::NoTry));
        }
        let len = encode(&command).len();
        if len > COMMAND_LEN_MAX {
            return Err(ProposeError::Refused(Refusal::TooMuch(format!("a command of {len} bytes"))));
        }
        match command {
            Command::Cancel { .. } => self.propose_cancel(command, within).await,
            _ => self.enqueue(command, within, || ()).await,
        }
    }

    /// Puts a command into the queue; `taken` is called when it cannot be held back any more.
    async fn enqueue(&self, command: Command, within: Duration, taken: impl FnOnce()) -> Result<Outcome, ProposeError> {
        if self.stands_back() {
            return Err(ProposeError::NotLeader { leader: self.leader() });
        }
        let until = Instant::now() + within;
        let stopped = || ProposeError::Stopped("it was shut down".to_owned());
        let (answer, answered) = oneshot::channel();
        let place = timeout_at(until, self.queue.reserve()).await.map_err(|_| ProposeError::Busy)?;
        let place = place.map_err(|_| stopped())?;
        taken();
        place.send(Waiting { command, answer });
        match timeout_at(until, answered).await {
            Err(_) => Err(ProposeError::Unknown(within)),
            Ok(Err(_)) => Err(stopped()),
            Ok(Ok(Ok(Outcome::Refused(refusal)))) => Err(ProposeError::Refused(refusal)),
            Ok(Ok(answer)) => answer,
        }
    }

    /// Begins a try to publish, which receipts can be asked for. Only the leader can.
    pub fn begin_try(&self, client: NodeId) -> Result<Try, ProposeError> {
        let leader = self.leading().ok_or_else(|| ProposeError::NotLeader { leader: self.leader() })?;
        self.memory.read(|state| self.tries.settle(state));
        Ok(self.tries.begin(leader, client))
    }

    /// Proposes a publish with the receipts that were given for `of`: once, whatever comes of it.
    pub async fn publish(
        &self,
        of: Try,
        seq: u64,
        change: RefChange,
        holders: BTreeSet<NodeId>,
        within: Duration,
    ) -> Result<Outcome, ProposeError> {
        let TryId { client, leader, nonce } = of.id;
        let receipts = Some(Receipts { leader, nonce, nodes: holders });
        // Until it is in the queue it is forgotten with whoever waits here; from then on the log decides.
        self.enqueue(Command::Publish(Publish { client, seq, change, receipts }), within, || of.proposed()).await
    }

    /// Tells a node that holds for a try what it may do. Only the leader that the try is of can.
    pub async fn try_status(&self, id: TryId, within: Duration) -> Result<TryStatus, ReadError> {
        self.apply_all(within).await?;
        // It led when a majority answered, under this id or later one. A later one would be no answer for this try.
        if self.leading() != Some(id.leader) {
            return Err(ReadError::NotLeader { leader: self.leader() });
        }
        // Both in one look: what is decided in between would be neither.
        let decided = self.memory.read(|state| {
            let is_open = self.tries.is_open(id);
            self.tries.settle(state);
            (state.is_decided(id), is_open)
        });
        match decided {
            (true, _) => Ok(TryStatus::Decided),
            (false, true) => Ok(TryStatus::Open),
            (false, false) => Ok(TryStatus::Unknown),
        }
    }

    /// Brings the state to disk, and tells up to which entry; blocks for a sync. Pins may go by what it contains, and receipts for what is
    /// live may be given: by nothing later.
    pub fn flush(&self) -> Result<Option<LogIndex>, FlushError> {
        self.memory.flush().map_err(FlushError)
    }

    /// The last entry that the state on disk contains.
    pub fn flushed(&self) -> Option<LogIndex> {
        *self.memory.flushed.borrow()
    }

    /// Notes something beside the log. Durable on return; blocks for a sync.
    pub fn note(&self, note: Note, bytes: &[u8]) -> Result<(), FlushError> {
        self.db.note(note, bytes).map_err(FlushError)
    }

    /// What was noted last.
    pub fn noted(&self, note: Note) -> Result<Option<Vec<u8>>, ReadError> {
        self.db.noted(note).map_err(ReadError::Stopped)
    }

    /// Steps in the order of publishes that are to be written as objects, oldest first. After a snapshot some are missing
    /// here: they are fetched along the chain.
    pub fn unwritten_steps(&self) -> Vec<UnwrittenStep> {
        self.memory.unwritten_steps()
    }

    /// The objects of steps up to here are durable.
    pub fn steps_written(&self, upto: LogIndex) {
        self.memory.steps_written(upto);
    }

    /// This node.
    pub fn node(&self) -> NodeId {
        self.node
    }

    /// Answers a message of another node.
    pub async fn handle(&self, sender: Sender, message: &[u8]) -> Result<Vec<u8>, HandleError> {
        let receiver = Receiver {
            raft: &self.raft,
            memory: &self.memory,
            incoming: &self.incoming,
            repository: self.repository,
            node: self.node,
            deadline: self.deadline,
        };
        receiver.handle(sender, message).await
    }

    /// Waits until the log stops by itself, and tells why: a disk that failed, mostly. Then the process must end.
    pub async fn stopped(&self) -> String {
        let mut metrics = self.raft.metrics();
        match metrics.wait_for(|metrics| metrics.running_state.is_err()).await {
            Ok(metrics) => metrics.running_state.as_ref().err().map(ToString::to_string).unwrap_or_default(),
            Err(_) => "it was shut down".to_owned(),
        }
    }

    /// Ends it in order: nothing is lost if this is not called, but the next start is slower.
    pub async fn shut_down(&self) {
        self.stop().await;
        drop(self.memory.flush());
    }

    /// Ends it as it is.
    pub(crate) async fn stop(&self) {
        drop(self.raft.shutdown().await);
    }
}
