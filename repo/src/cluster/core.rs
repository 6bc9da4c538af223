//! What the parts of a running node share, and how they reach other nodes.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use filesync_cas::Session;
use filesync_cas::testing::mistake;
use filesync_merkle::{CommitId, Parts, PubId, RepoPath};
use filesync_p2p::error::Refusal;
use filesync_p2p::fetch::{FetchStats, Without};
use filesync_p2p::message::{Status, Walk, topics};
use filesync_p2p::peer::{Class, PeerKey, Root};
use filesync_p2p::transport::Net;
use filesync_raft_log::command::{Role, TryId};
use filesync_raft_log::error::SendError;
use filesync_raft_log::ids::NodeId;
use filesync_raft_log::{Log, Network, Recipient, Sending, State};
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::calls::{Answer, Call, decode, encode};
use super::clocks::Clocks;
use super::env::Env;
use super::heal::{self, Condition};
use super::jobs::Jobs;
use super::lost::{self, Searched};
use super::quota::Quota;
use super::record::Record;
use super::remote::Remote;
use super::spot::Spots;
use super::turn::Turn;
use super::view::View;
use crate::cancel::Token;
use crate::error::{Error, ErrorKind};
use crate::repo::Repo;

/// How long to wait for a connection before another member is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// How long to wait for others once somebody is connected.
const OTHERS: Duration = Duration::from_millis(200);

/// A running node.
pub struct Core {
    /// The repository, open for writing.
    pub repo: Arc<Repo>,
    /// This node.
    pub number: NodeId,
    /// Its key.
    pub key: PeerKey,
    /// Who may ask it for what, and what it knows of the cluster.
    pub view: Arc<View>,
    /// Its part in the log, if it has one.
    pub log: OnceLock<Log>,
    /// The network.
    pub transport: OnceLock<Box<dyn Net>>,
    /// The world around it.
    pub env: Arc<dyn Env>,
    /// What is durable of what it knows.
    pub remote: Mutex<Remote>,
    /// As of which index everything live is held here: never later than what is true.
    pub held_as_of: AtomicU64,
    /// Held by the thread that brings here what is published.
    pub bringing: tokio::sync::Mutex<()>,
    /// Whether it has what it should have.
    pub condition: Mutex<Condition>,
    /// Held by who makes it whole.
    pub healing: Mutex<()>,
    /// What it attested to have.
    pub record: Record,
    /// How far others' clocks are off.
    pub clocks: Clocks,
    /// Who led when somebody was asked last; 0 at first.
    pub led: AtomicU64,
    /// Publishes of members that it leads.
    pub publishes: Jobs<(NodeId, u64)>,
    /// Whose turn it is, where it leads.
    pub turn: Turn,
    /// What it fetches and pins for leaders.
    pub holds: Jobs<TryId>,
    /// What came for whom and is not pinned.
    pub quota: Quota,
    /// What it has looked for in vain.
    pub searched: Searched,
    /// What came of looks at what others hold.
    pub spots: Spots,
    /// Who sent the last message of Raft that was not heeded.
    pub called: watch::Sender<Option<NodeId>>,
    /// Whether it has a log.
    pub opened: watch::Sender<bool>,
    /// Everything is to end: for those who look.
    pub stopping: Arc<AtomicBool>,
    /// The same, for long work in the background.
    pub token: Token,
    /// The same, for those who wait.
    pub stop: watch::Sender<bool>,
}

/// How to fetch.
#[derive(Debug, Clone)]
pub struct How {
    /// What may be done without.
    pub without: Without,
    /// How many bytes may come, about.
    pub room: u64,
}

/// Why a node did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// It was not heard.
    Unreachable(String),
    /// It does not answer us; why, where it says so.
    Refused(Option<Refusal>),
    /// Perhaps it was heard.
    Silent(String),
}

impl std::fmt::Display for CallFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(cause) | Self::Silent(cause) => f.write_str(cause),
            Self::Refused(Some(why)) => write!(f, "refused: {why}"),
            Self::Refused(None) => f.write_str("it refuses to answer: is this node still a member?"),
        }
    }
}

impl Core {
    /// What is durable of what this node knows.
    pub fn remote(&self) -> MutexGuard<'_, Remote> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes durably what is here of what is published. It never goes back: another thread may have been here with more.
    pub fn note_held(&self, now: Remote) -> Result<(), Error> {
        let mut known = self.remote();
        if known.held_index <= now.held_index {
            now.write(&**self.repo.store.vfs())?;
            *known = now;
        }
        Ok(())
    }

    /// Whether it has what it should have.
    pub fn condition(&self) -> Condition {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes whether it has what it should have.
    pub fn set_condition(&self, condition: Condition) {
        *self.condition.lock().unwrap_or_else(PoisonError::into_inner) = condition;
    }

    /// Fails unless it has what it should have: for who would rely on that, or attest it.
    pub fn check_whole(&self) -> Result<(), Error> {
        let has_others = || self.log.get().is_none_or(|log| log.read(|state| !heal::is_alone(self.number, state)));
        if self.condition() != Condition::Lacking && !(lost::has_damage(self) && has_others()) {
            return Ok(());
        }
        if mistake("a complete mark that damage leaves") {
            return Ok(());
        }
        let message = "this node lacks data that it should have, and is getting it from the others";
        Err(Error::new(ErrorKind::Damage, message).with_hint("`filesync fsck` shows what"))
    }

    /// Has everything end soon.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.token.request();
        self.stop.send_replace(true);
    }

    /// Waits for something on a thread of one's own; fails as soon as everything is to end.
    pub fn wait<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut stop = self.stop.subscribe();
        self.env.wait(async {
            tokio::select! {
                biased;
                output = future => Ok(output),
                _ = stop.wait_for(|stop| *stop) => Err(Error::new(ErrorKind::Cancelled, "the node is ending")),
            }
        })
    }

    /// Whether everything is to end.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// As of which index everything live is held here.
    pub fn held_as_of(&self) -> u64 {
        self.held_as_of.load(Ordering::Acquire)
    }

    /// The network; there is one from the start on.
    pub fn transport(&self) -> Result<&dyn Net, CallFailure> {
        self.transport
            .get()
            .map(|net| &**net)
            .ok_or_else(|| CallFailure::Unreachable("the network is not up".to_owned()))
    }

    /// Makes sure that there is a connection with a peer.
    pub async fn connect(&self, peer: PeerKey, addresses: &[String]) -> Result<(), CallFailure> {
        let connecting = self.transport()?.connecting(peer, addresses.to_vec());
        connecting.await.map_err(|error| CallFailure::Unreachable(error.to_string()))
    }

    /// Connects with members, and says with which it worked. Who is slow or gone is not waited for once somebody is there.
    pub async fn connect_all(&self, nodes: &[NodeId]) -> Vec<PeerKey> {
        let others = nodes.iter().filter(|node| **node != self.number);
        let mut connecting: FuturesUnordered<_> = others
            .filter_map(|node| {
                let (key, addresses) = self.view.address(*node)?;
                Some(async move { self.connect(key, &addresses).await.is_ok().then_some(key) })
            })
            .collect();
        let (mut connected, mut until) = (Vec::new(), Instant::now() + CONNECT);
        while let Ok(Some(answer)) = timeout_at(until, connecting.next()).await {
            if let Some(key) = answer {
                connected.push(key);
                until = until.min(Instant::now() + OTHERS);
            }
        }
        connected
    }

    /// Asks a peer.
    pub async fn call_peer(&self, peer: PeerKey, call: &Call, time: Duration) -> Result<Answer, CallFailure> {
        use filesync_p2p::transport::CallError;
        let called = self.transport()?.call(peer, call.class(), call.topic(), encode(call), time).await;
        match called {
            Ok((Status::Done, body)) => decode(&body).map_err(CallFailure::Silent),
            Ok((Status::Busy, _)) => Err(CallFailure::Unreachable("it is busy".to_owned())),
            Ok((Status::Refused, _)) => Err(CallFailure::Refused(None)),
            Err(CallError::Refused(why)) => Err(CallFailure::Refused(Some(why))),
            Ok((status, _)) => Err(CallFailure::Silent(format!("it answered {status:?}"))),
            Err(error @ (CallError::Unreachable(_) | CallError::TooLong(_) | CallError::Closed)) => {
                Err(CallFailure::Unreachable(error.to_string()))
            }
            Err(error) => Err(CallFailure::Silent(error.to_string())),
        }
    }

    /// Asks a member.
    pub async fn call(&self, node: NodeId, call: &Call, time: Duration) -> Result<Answer, CallFailure> {
        let until = Instant::now() + time;
        let unknown = || CallFailure::Unreachable(format!("node {node} is no member"));
        let (key, addresses) = self.view.address(node).ok_or_else(unknown)?;
        let late = || CallFailure::Unreachable("it could not be reached in time".to_owned());
        // Who is gone must not cost the time of those who are there.
        let connected = timeout_at(until.min(Instant::now() + CONNECT), self.connect(key, &addresses)).await;
        connected.map_err(|_| late())??;
        self.call_peer(key, call, until.saturating_duration_since(Instant::now())).await
    }

    /// Fetches the closure of a commit into a session, what of it is not here: on the base, which is whole here. A partial copy
    /// fetches its parts, and has those of the base. Blocks.
    pub fn fetch(
        &self,
        session: &Session<'_>,
        commit: CommitId,
        base: Option<CommitId>,
        peers: &[PeerKey],
        progress: &mut dyn FnMut(&FetchStats),
    ) -> Result<FetchStats, Error> {
        self.fetch_as(session, commit, base, peers, self.how(), progress)
    }

    /// As mostly: whatever comes, and without what is lost.
    pub fn how(&self) -> How {
        How { without: Without::These(Arc::new(lost::of(&self.state()))), room: u64::MAX }
    }

    /// As [`Core::fetch`], within bounds. Blocks.
    pub fn fetch_as(
        &self,
        session: &Session<'_>,
        commit: CommitId,
        base: Option<CommitId>,
        peers: &[PeerKey],
        how: How,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> Result<FetchStats, Error> {
        let walk = Walk {
            root: Root::Commit(commit),
            base: base.map(|base| base.0),
            history: true,
            path: RepoPath::root(),
            parts: self.repo.copied.parts.clone(),
            from: 0,
        };
        self.fetch_walk(session, commit, walk, peers, how, progress)
    }

    /// Fetches what a commit has at a path and below it, or of some parts, whatever this node has of others. Blocks.
    pub fn fetch_at(
        &self,
        session: &Session<'_>,
        commit: CommitId,
        path: RepoPath,
        parts: Parts,
        peers: &[PeerKey],
        progress: &mut dyn FnMut(&FetchStats),
    ) -> Result<FetchStats, Error> {
        let walk = Walk { root: Root::Commit(commit), base: None, history: false, path, parts, from: 0 };
        self.fetch_walk(session, commit, walk, peers, self.how(), progress)
    }

    fn fetch_walk(
        &self,
        session: &Session<'_>,
        commit: CommitId,
        walk: Walk,
        peers: &[PeerKey],
        how: How,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> Result<FetchStats, Error> {
        let end = AtomicBool::new(self.is_stopping());
        let look = &mut |stats: &FetchStats| {
            progress(stats);
            if stats.received > how.room || self.is_stopping() {
                end.store(true, Ordering::Relaxed);
            }
        };
        let transport = self.transport().map_err(|error| Error::new(ErrorKind::NoQuorum, error.to_string()))?;
        let store = &self.repo.store;
        let (fetched, stats) = transport.fetch(session, store, walk, how.without, peers, &end, look);
        fetched.map(|()| stats).map_err(|error| {
            let kind = match error {
                // Who has it may not have been among them, or not have had it yet.
                filesync_p2p::FetchError::NoPeers { .. } | filesync_p2p::FetchError::Missing(_) => ErrorKind::NoQuorum,
                _ => ErrorKind::Failed,
            };
            Error::new(kind, format!("cannot fetch commit {commit}: {error}"))
        })
    }

    /// Fetches the order of publishes into a session, what of it is not here. Blocks.
    pub fn fetch_steps(
        &self,
        session: &Session<'_>,
        step: PubId,
        base: Option<PubId>,
        peers: &[PeerKey],
    ) -> Result<(), Error> {
        let base = base.map(|base| base.0);
        let walk =
            Walk { root: Root::Pub(step), base, history: true, path: RepoPath::root(), parts: Parts::whole(), from: 0 };
        let transport = self.transport().map_err(|error| Error::new(ErrorKind::NoQuorum, error.to_string()))?;
        let (fetched, _) =
            transport.fetch(session, &self.repo.store, walk, Without::Nothing, peers, &self.stopping, &mut |_| {});
        fetched
            .map_err(|error| Error::new(ErrorKind::NoQuorum, format!("cannot fetch the order of publishes: {error}")))
    }

    /// The log, if this node is told of what comes: one that was demoted has it still, and is sent nothing more.
    pub fn followed_log(&self) -> Option<&Log> {
        self.log.get().filter(|_| self.view.read(|state| self.is_candidate(state)))
    }

    /// Whether this node is a candidate, or votes, by a state.
    pub fn is_candidate(&self, state: &State) -> bool {
        state.member(self.number).is_ok_and(|member| member.role == Role::Candidate)
    }

    /// The log, once there is one.
    pub async fn opened_log(&self) -> &Log {
        let mut opened = self.opened.subscribe();
        loop {
            if let Some(log) = self.log.get() {
                return log;
            }
            // It lasts as long as this does.
            let _ = opened.changed().await;
        }
    }

    /// The state as it is known here: by the log where there is one.
    pub fn state(&self) -> State {
        match self.log.get() {
            Some(log) => log.read(State::clone),
            None => self.view.read(State::clone),
        }
    }
}

/// Carries Raft's messages.
pub struct RaftNetwork(pub Weak<Core>);

impl Network for RaftNetwork {
    fn send(&self, to: Recipient, message: Vec<u8>, deadline: Duration) -> Sending<'_> {
        let core = self.0.upgrade();
        Box::pin(async move {
            let unreachable = |cause: String| SendError::Unreachable(cause);
            let core = core.ok_or_else(|| unreachable("this node is shutting down".to_owned()))?;
            let until = Instant::now() + deadline;
            let addresses = core.address_of(to.node);
            let peer = PeerKey(to.key.0);
            match timeout_at(until, core.connect(peer, &addresses)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => return Err(unreachable(error.to_string())),
                Err(_) => return Err(SendError::TimedOut),
            }
            let left = until.saturating_duration_since(Instant::now());
            let transport = core.transport().map_err(|error| unreachable(error.to_string()))?;
            match transport.call(peer, Class::Raft, topics::RAFT, message, left).await {
                Ok((Status::Done, body)) => Ok(body),
                Ok((status, _)) => Err(unreachable(format!("it answered {status:?}"))),
                Err(error) => Err(unreachable(error.to_string())),
            }
        })
    }
}

impl Core {
    /// Where a node is reached, by the latest that is known here.
    fn address_of(&self, node: NodeId) -> Vec<String> {
        let addresses = |state: &State| state.members.get(&node).map(|member| member.addresses.clone());
        let known = self.log.get().and_then(|log| log.read(addresses));
        known.or_else(|| self.view.read(addresses)).unwrap_or_default()
    }
}
