//! What the parts of a running node share, and how they reach other nodes.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use filesync_cas::Session;
use filesync_merkle::{CommitId, PubId, RepoPath};
use filesync_p2p::fetch::FetchStats;
use filesync_p2p::message::{Status, Walk, topics};
use filesync_p2p::peer::{Class, PeerKey, Root};
use filesync_p2p::transport::Transport;
use filesync_raft_log::command::TryId;
use filesync_raft_log::error::SendError;
use filesync_raft_log::ids::NodeId;
use filesync_raft_log::{Log, Network, Recipient, Sending, State};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use super::calls::{Answer, Call, decode, encode};
use super::jobs::Jobs;
use super::remote::Remote;
use super::view::View;
use crate::error::{Error, ErrorKind};
use crate::repo::Repo;

/// How long to wait for a connection before another member is tried.
const CONNECT: Duration = Duration::from_secs(2);
/// How long to leave a cluster alone that has no leader.
const ASK_AGAIN: Duration = Duration::from_millis(100);

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
    pub transport: OnceLock<Transport>,
    /// Where its tasks run.
    pub runtime: Handle,
    /// What is durable of what it knows.
    pub remote: Mutex<Remote>,
    /// As of which index everything live is held here: never later than what is true.
    pub held_as_of: AtomicU64,
    /// Publishes of members that it leads.
    pub publishes: Jobs<(NodeId, u64)>,
    /// What it fetches and pins for leaders.
    pub holds: Jobs<TryId>,
    /// Everything is to end: for those who look.
    pub stopping: Arc<AtomicBool>,
    /// The same, for those who wait.
    pub stop: watch::Sender<bool>,
}

/// Why a node did not answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallFailure {
    /// It was not heard.
    Unreachable(String),
    /// It does not answer us.
    Refused,
    /// Perhaps it was heard.
    Silent(String),
}

impl std::fmt::Display for CallFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unreachable(cause) | Self::Silent(cause) => f.write_str(cause),
            Self::Refused => f.write_str("it refuses to answer: is this node still a member?"),
        }
    }
}

impl Core {
    /// What is durable of what this node knows.
    pub fn remote(&self) -> MutexGuard<'_, Remote> {
        self.remote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has everything end soon.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.stop.send_replace(true);
    }

    /// Waits for something on a thread of one's own; fails as soon as everything is to end.
    pub fn wait<F: Future>(&self, future: F) -> Result<F::Output, Error> {
        let mut stop = self.stop.subscribe();
        self.runtime.block_on(async {
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
    pub fn transport(&self) -> Result<&Transport, CallFailure> {
        self.transport.get().ok_or_else(|| CallFailure::Unreachable("the network is not up".to_owned()))
    }

    /// Makes sure that there is a connection with a peer.
    pub async fn connect(&self, peer: PeerKey, addresses: &[String]) -> Result<(), CallFailure> {
        let connecting = self.transport()?.connecting(peer, addresses.to_vec());
        connecting.await.map_err(|error| CallFailure::Unreachable(error.to_string()))
    }

    /// Connects with members, and says with which it worked.
    pub async fn connect_all(&self, nodes: &[NodeId]) -> Vec<PeerKey> {
        let connecting = nodes.iter().filter(|node| **node != self.number).filter_map(|node| {
            let (key, addresses) = self.view.address(*node)?;
            Some(async move { self.connect(key, &addresses).await.is_ok().then_some(key) })
        });
        futures::future::join_all(connecting).await.into_iter().flatten().collect()
    }

    /// Asks a peer.
    pub async fn call_peer(&self, peer: PeerKey, call: &Call, time: Duration) -> Result<Answer, CallFailure> {
        use filesync_p2p::transport::CallError;
        let called = self.transport()?.call(peer, call.class(), call.topic(), encode(call), time).await;
        match called {
            Ok((Status::Done, body)) => decode(&body).map_err(CallFailure::Silent),
            Ok((Status::Busy, _)) => Err(CallFailure::Unreachable("it is busy".to_owned())),
            Ok((Status::Refused, _)) => Err(CallFailure::Refused),
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

    /// Voters as far as they are known, those first that should know best.
    fn to_ask(&self, first: Option<NodeId>) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> = first.into_iter().collect();
        self.view.read(|state| {
            for node in state.voters.iter().flatten() {
                if !nodes.contains(node) {
                    nodes.push(*node);
                }
            }
        });
        nodes
    }

    /// Asks whoever leads, until somebody does and answers, or the time is over. What may have been heard is asked again: each
    /// call can be.
    pub async fn ask_leader(self: &Arc<Self>, call: &Call, within: Duration) -> Result<Answer, Error> {
        let until = Instant::now() + within;
        let mut first = self.log.get().and_then(Log::leader);
        let mut last = "no voter is known".to_owned();
        loop {
            for node in self.to_ask(first.take()) {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    break;
                }
                let answer = if node == self.number {
                    Ok(super::answer::answer_call(self, self.number, call.clone()).await)
                } else {
                    self.call(node, call, left.min(Duration::from_secs(15))).await
                };
                match answer {
                    Ok(Answer::NotLeader(leader)) => {
                        last = "no node leads".to_owned();
                        first = leader.filter(|leader| *leader != node);
                        if first.is_some() {
                            break;
                        }
                    }
                    Ok(Answer::Unknown(cause)) => last = cause,
                    Ok(answer) => return Ok(answer),
                    Err(CallFailure::Refused) => last = CallFailure::Refused.to_string(),
                    Err(error) => last = format!("node {node}: {error}"),
                }
            }
            if Instant::now() + ASK_AGAIN >= until || self.is_stopping() {
                return Err(Error::new(ErrorKind::NoQuorum, format!("no answer from the cluster: {last}")));
            }
            tokio::time::sleep(ASK_AGAIN).await;
        }
    }

    /// Fetches the closure of a commit into a session, what of it is not here: on the base, which is whole here. Blocks.
    pub fn fetch(
        &self,
        session: &Session<'_>,
        commit: CommitId,
        base: Option<CommitId>,
        peers: &[PeerKey],
        progress: &mut dyn FnMut(&FetchStats),
    ) -> Result<FetchStats, Error> {
        let walk = Walk {
            root: Root::Commit(commit),
            base: base.map(|base| base.0),
            history: true,
            path: RepoPath::root(),
            from: 0,
        };
        let transport = self.transport().map_err(|error| Error::new(ErrorKind::NoQuorum, error.to_string()))?;
        let store = &self.repo.store;
        let (fetched, stats) = transport.fetch(session, store, walk, peers, &self.stopping, progress);
        fetched.map(|()| stats).map_err(|error| {
            let kind = match error {
                filesync_p2p::FetchError::NoPeers { .. } => ErrorKind::NoQuorum,
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
        let walk = Walk { root: Root::Pub(step), base, history: true, path: RepoPath::root(), from: 0 };
        let transport = self.transport().map_err(|error| Error::new(ErrorKind::NoQuorum, error.to_string()))?;
        let (fetched, _) = transport.fetch(session, &self.repo.store, walk, peers, &self.stopping, &mut |_| {});
        fetched
            .map_err(|error| Error::new(ErrorKind::NoQuorum, format!("cannot fetch the order of publishes: {error}")))
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
