//! The only sockets: QUIC by libp2p, streams by `libp2p-stream`, on a runtime of its own.
//!
//! What is decided about a peer is decided by the state machines of this crate; here bytes are moved, time is read, and what the
//! libraries do badly is made good:
//! - streams are opened only to peers that are connected, and always within a time: opening one to a stranger would wait for ever;
//! - loops that accept streams do nothing but start a task, since a stream that nobody takes at once is dropped in silence;
//! - so whoever opens a stream believes in it only when its Hello has been answered, and tries again once;
//! - the task of the swarm never waits for a disk or for a channel;
//! - connections of one peer are limited to four, not to one: two that dial each other at once would both lose.

mod accept;
mod address;
mod calls;
mod config;
mod fetching;
mod idle;
mod inner;
mod keep;
mod link;
mod net;
mod places;
mod swarm_task;

use std::collections::{BTreeMap, HashSet};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use filesync_cas::{Session, Store};
use libp2p::identity::{Keypair, ed25519};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use crate::error::FetchError;
use crate::fetch::{FetchStats, Without};
use crate::message::{Status, Walk};
use crate::peer::{Class, PeerKey};
use crate::serve::Shared;
use address::peer_id;
use inner::{BULK_MAX, Inner, connect, lock, protocol};
use places::Places;
use swarm_task::Command;

pub use calls::{CALL_TIME, CallError};
pub use config::{Answer, Answers, Caller, Config, ConnectError, Connection, StartError};
pub use inner::{Traffic, TurnedAway};
pub use net::{Net, Sent};

/// This node on the network. Dropped, it is gone; [`Transport::shutdown`] takes leave first.
pub struct Transport {
    inner: Arc<Inner>,
    runtime: Mutex<Option<tokio::runtime::Runtime>>,
    handle: tokio::runtime::Handle,
    stop: watch::Sender<bool>,
    listening: Vec<SocketAddr>,
    key: PeerKey,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Transport").field("key", &self.key).field("listening", &self.listening).finish_non_exhaustive()
    }
}

impl Transport {
    /// Listens, and answers from `store` who may ask by `shared`. Needs no runtime and must not be called within one.
    pub fn start(
        config: &Config,
        shared: Arc<Shared>,
        store: Arc<Store>,
        answers: Arc<dyn Answers>,
    ) -> Result<Self, StartError> {
        let other = |error: &dyn std::fmt::Display| StartError::Other(error.to_string());
        let mut seed = config.seed;
        let secret = ed25519::SecretKey::try_from_bytes(&mut seed).map_err(|error| other(&error))?;
        let keypair = ed25519::Keypair::from(secret);
        let key = PeerKey(keypair.public().to_bytes());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("net")
            .enable_all()
            .build()
            .map_err(|error| other(&error))?;
        let (stop, stopped) = watch::channel(false);
        let (commands, received) = mpsc::unbounded_channel();
        let (connected, connections) = watch::channel(HashSet::new());
        let entered = runtime.enter();
        let (swarm, mut control) = swarm_task::build(config, Keypair::from(keypair)).map_err(|error| other(&error))?;
        let incoming = Class::ALL.map(|class| (class, control.accept(protocol(class))));
        let inner = Arc::new(Inner {
            shared,
            store,
            answers,
            control,
            commands,
            bulk: Arc::new(Semaphore::new(BULK_MAX)),
            steps: Semaphore::new(2 * filesync_cas::cores()),
            greeting: Arc::new(Places::new()),
            started: Instant::now(),
            links: Mutex::default(),
            idle: Mutex::default(),
            kept: Mutex::default(),
            connected: connections,
            reasons: Mutex::default(),
            traffic: Mutex::default(),
            turned_away: Mutex::default(),
            stop: stopped,
        });
        for (class, incoming) in incoming {
            let incoming = incoming.map_err(|error| other(&error))?;
            runtime.spawn(accept::run(Arc::clone(&inner), class, incoming));
        }
        let (ready, listening) = oneshot::channel();
        let task = swarm_task::State::new(Arc::clone(&inner), connected);
        runtime.spawn(swarm_task::run(task, swarm, received, config.listen.clone(), ready));
        drop(entered);
        let listening = runtime.block_on(listening).map_err(|error| other(&error))??;
        let (handle, runtime) = (runtime.handle().clone(), Mutex::new(Some(runtime)));
        Ok(Self { inner, runtime, handle, stop, listening, key })
    }

    /// Our own key.
    pub fn key(&self) -> PeerKey {
        self.key
    }

    /// Where we listen.
    pub fn listening(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// How many tasks serve connections and streams, those that are always there included.
    pub fn tasks(&self) -> usize {
        self.handle.metrics().num_alive_tasks()
    }

    /// Where its tasks run, unless it has been shut down.
    fn runtime(&self) -> Option<tokio::runtime::Handle> {
        lock(&self.runtime).is_some().then(|| self.handle.clone())
    }

    /// Connects to a peer, unless it is connected. Addresses are `host:port`; all are tried. Ends within 15 s. Not to be called on a runtime.
    pub fn connect(&self, peer: PeerKey, addresses: &[String]) -> Result<(), ConnectError> {
        self.runtime().ok_or(ConnectError::Closed)?.block_on(connect(&self.inner, peer, addresses))
    }

    /// As [`Transport::connect`], for who is on a runtime.
    pub fn connecting(
        &self,
        peer: PeerKey,
        addresses: Vec<String>,
    ) -> impl Future<Output = Result<(), ConnectError>> + Send + 'static + use<> {
        let (inner, runtime) = (Arc::clone(&self.inner), self.runtime());
        async move {
            let Some(runtime) = runtime else { return Err(ConnectError::Closed) };
            let connected = runtime.spawn(async move { connect(&inner, peer, &addresses).await });
            connected.await.unwrap_or(Err(ConnectError::Closed))
        }
    }

    /// Keeps connections with these peers from now on, and with no others: dials them, and again when they are lost, with pauses of 0.2 s
    /// growing to 10 s. To be called again whenever members or their addresses change; connections that there are stay.
    pub fn keep(&self, peers: BTreeMap<PeerKey, Vec<String>>) {
        if let Some(runtime) = self.runtime() {
            keep::keep(&self.inner, &runtime, peers);
        }
    }

    /// How it stands with the peers that are kept, and with those that are connected.
    pub fn connections(&self) -> Vec<Connection> {
        let mut peers: Vec<PeerKey> = lock(&self.inner.kept).keys().copied().collect();
        let connected = self.inner.connected.borrow().clone();
        peers.extend(&connected);
        peers.sort_unstable();
        peers.dedup();
        let state = |peer| {
            let is_connected = connected.contains(&peer);
            let has_idle_stream = lock(&self.inner.idle).contains_key(&peer);
            Connection { peer, is_connected, has_idle_stream, why: self.inner.reason(&peer).filter(|_| !is_connected) }
        };
        peers.into_iter().map(state).collect()
    }

    /// What went over streams for bulk, by peer.
    pub fn traffic(&self) -> BTreeMap<PeerKey, Traffic> {
        lock(&self.inner.traffic).clone()
    }

    /// How often others were turned away, since the node started.
    pub fn turned_away(&self) -> TurnedAway {
        *lock(&self.inner.turned_away)
    }

    /// Ends all connections with a peer that is no member any more.
    pub fn disconnect(&self, peer: &PeerKey) {
        if let Some(peer) = peer_id(peer) {
            drop(self.inner.commands.send(Command::Disconnect(peer)));
        }
    }

    /// Asks a connected peer, on a stream of the class that is kept open. Topics are those of [`crate::message::topics`]; a body is at most
    /// 1 MiB, 4 MiB on [`Class::Raft`], 4 KiB on [`Class::Join`]. Ends within `time`, which is at most [`CALL_TIME`]. After an error that does not say
    /// otherwise it is not known whether the call was heard.
    pub fn call(
        &self,
        peer: PeerKey,
        class: Class,
        topic: u16,
        body: Vec<u8>,
        time: Duration,
    ) -> impl Future<Output = Result<(Status, Vec<u8>), CallError>> + Send + 'static + use<> {
        let (inner, runtime) = (Arc::clone(&self.inner), self.runtime());
        async move {
            let Some(runtime) = runtime else { return Err(CallError::Closed) };
            // On our own runtime, whatever the caller runs on.
            let call = runtime.spawn(async move { calls::call(&inner, peer, class, topic, body, time).await });
            call.await.unwrap_or(Err(CallError::Closed))
        }
    }

    /// As [`Transport::call`], waiting for the answer. Not to be called on a runtime.
    pub fn call_and_wait(
        &self,
        peer: PeerKey,
        class: Class,
        topic: u16,
        body: Vec<u8>,
        time: Duration,
    ) -> Result<(Status, Vec<u8>), CallError> {
        let runtime = self.runtime().ok_or(CallError::Closed)?;
        runtime.block_on(self.call(peer, class, topic, body, time))
    }

    /// Fetches the closure of a root from connected peers into the session; see [`crate::fetch`]. Uses threads of its own to verify,
    /// and must not be called on a runtime. What had come is kept if it fails; the statistics tell.
    #[allow(clippy::too_many_arguments)]
    pub fn fetch(
        &self,
        session: &Session<'_>,
        store: &Store,
        walk: Walk,
        without: Without,
        peers: &[PeerKey],
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> (Result<(), FetchError>, FetchStats) {
        let Some(runtime) = self.runtime() else {
            return (Err(FetchError::NoPeers { last: None }), FetchStats::default());
        };
        fetching::run(&self.inner, &runtime, session, store, walk, without, peers, cancel, progress)
    }

    /// Takes leave: no new streams, those that are open get up to `time` to end, then connections are closed. Afterwards it does
    /// nothing more, and nothing of it holds the store. Not to be called on a runtime.
    pub fn shutdown(&self, time: Duration) {
        self.stop.send_replace(true);
        let Some(runtime) = lock(&self.runtime).take() else { return };
        let (done, ended) = oneshot::channel();
        drop(self.inner.commands.send(Command::Shutdown { time, done }));
        runtime.block_on(async {
            let _ = tokio::time::timeout(time + Duration::from_secs(1), ended).await;
        });
        runtime.shutdown_timeout(Duration::from_secs(1));
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let Some(runtime) = lock(&self.runtime).take() else { return };
        // Nothing of it is to hold the store afterwards; only on a runtime nobody may wait.
        if tokio::runtime::Handle::try_current().is_ok() {
            runtime.shutdown_background();
        } else {
            runtime.shutdown_timeout(Duration::from_secs(1));
        }
    }
}
