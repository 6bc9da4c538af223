//! A node of a cluster: started, it answers members, follows the log where it takes part in it, and carries out what its
//! user asks for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use filesync_p2p::guard::{Guard, Limits};
use filesync_p2p::peer::{Access, PeerKey};
use filesync_p2p::serve::{Me, Shared};
use filesync_p2p::transport::{Answers, Config as NetConfig, Traffic};
use filesync_raft_log::State;
use filesync_raft_log::command::Command;
use filesync_raft_log::error::OpenError;
use filesync_raft_log::ids::{NodeId, RepositoryId};
use tokio::sync::watch;

use super::answer::Answering;
use super::calls::Call;
use super::clocks::Clocks;
use super::core::Core;
use super::enlist::{self, Threads};
use super::env::{Env, Process};
use super::heal::{self, Condition};
use super::jobs::Jobs;
use super::lost::{self, Searched};
use super::member;
use super::quota::Quota;
use super::record::Record;
use super::remote::Remote;
use super::spot::Spots;
use super::turn::Turn;
use super::view::View;
use super::{join, led, turned_away};
use crate::cancel::Token;
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::objects::StoreNodes;
use crate::repo::Repo;
use crate::request::SnapshotInfo;

/// Where the log of a node lies, in `.filesync`.
pub const RAFT_DIR: &str = "raft";
/// How long those who are being answered get when a node ends.
const LEAVE: Duration = Duration::from_millis(200);

/// How to start.
#[derive(Debug, Clone, Default)]
pub struct NodeOptions {
    /// Where to listen. Nowhere: then the node is a client of others, unless it is alone.
    pub listen: Vec<SocketAddr>,
    /// The repository was moved, and the original is gone.
    pub moved: bool,
}

/// Told of what goes wrong in the background.
pub type Told = Arc<dyn Fn(&Error) + Send + Sync>;

/// A node that runs. Dropped, it ends; [`Node::shutdown`] takes leave first.
pub struct Node {
    pub(super) core: Arc<Core>,
    /// What it has for itself alone.
    runtime: Option<tokio::runtime::Runtime>,
    threads: Threads,
    is_over: bool,
}

/// Where a node runs: the world around it, and the runtime that ends with it.
pub type Place = (Arc<dyn Env>, Option<tokio::runtime::Runtime>);

/// A place in this process.
pub fn here() -> Result<Place, Error> {
    let (process, runtime) = Process::new()?;
    Ok((Arc::new(process), Some(runtime)))
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Node").field("number", &self.core.number).finish_non_exhaustive()
    }
}

impl Node {
    /// Starts, and founds a cluster of one if this repository never belonged to any. The repository is open for writing.
    pub fn start(repo: Arc<Repo>, options: &NodeOptions, told: Told) -> Result<Self, Error> {
        Self::start_in(here()?, repo, options, told)
    }

    /// As [`Node::start`], in another world maybe.
    pub(super) fn start_in(place: Place, repo: Arc<Repo>, options: &NodeOptions, told: Told) -> Result<Self, Error> {
        let vfs = Arc::clone(repo.store.vfs());
        let membership = member::read(&*vfs)?;
        let remote = Remote::read(&*vfs)?;
        if membership.is_none() && remote.is_some() {
            let message = "cannot start: this repository has not finished joining its cluster";
            return Err(Error::new(ErrorKind::Failed, message).with_hint("run the same `filesync clone` again"));
        }
        if membership.is_some_and(|it| !it.has_log) && remote.is_none() {
            return Err(Error::new(
                ErrorKind::Damage,
                "cannot start: what this node knows of its cluster is missing: remote",
            )
            .with_hint("invite it anew"));
        }
        let repository = RepositoryId(*repo.repository().as_bytes());
        let mut remote = remote.unwrap_or_else(|| Remote::new(State::new(repository)));
        let number = membership.map_or(NodeId(1), |it| it.node);
        // What is damaged is no base, and nothing is held by it: it is fetched again, where there is somebody to fetch it from.
        if repo.store.has_damage_besides(&lost::of(&remote.state)) && !heal::is_alone(number, &remote.state) {
            (remote.held, remote.held_index) = (None, 0);
        }
        let node = Self::assemble(place, Arc::clone(&repo), number, remote, &options.listen)?;
        enlist::begin(&node.core, membership, options, told, &node.threads)?;
        Ok(node)
    }

    /// A node with a network, and with no part in a log yet.
    pub(super) fn assemble(
        (env, runtime): Place,
        repo: Arc<Repo>,
        number: NodeId,
        remote: Remote,
        listen: &[SocketAddr],
    ) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::new(ErrorKind::Failed, format!("cannot start: {error}"));
        let identity = Identity::load(&**repo.store.vfs())?;
        let view = Arc::new(View::new(StoreNodes(Arc::clone(&repo.store)), remote.state.clone()));
        let access: Arc<dyn Access> = Arc::clone(&view) as Arc<dyn Access>;
        let me = Me { repository: *repo.repository(), epoch: remote.state.epoch, nonce: nonce(&*env)? };
        let settings = if listen.is_empty() { Config::default() } else { Config::load(&**repo.store.vfs())? }.service();
        let limits = Limits { bytes: Limits::bytes_at(settings.peer_rate), ..Limits::default() };
        let shared = Arc::new(Shared { me, access, guard: Mutex::new(Guard::new(limits)) });
        let held_as_of = AtomicU64::new(remote.held_index);
        let core = Arc::new(Core {
            number,
            key: PeerKey(identity.node()),
            view,
            log: OnceLock::new(),
            transport: OnceLock::new(),
            env,
            remote: Mutex::new(remote),
            held_as_of,
            bringing: tokio::sync::Mutex::default(),
            condition: Mutex::new(Condition::Whole),
            healing: Mutex::default(),
            record: Record::default(),
            clocks: Clocks::default(),
            led: AtomicU64::new(led::read(&**repo.store.vfs()).map_or(0, |node| node.0)),
            publishes: Jobs::default(),
            turn: Turn::default(),
            holds: Jobs::default(),
            quota: Quota::default(),
            searched: Searched::default(),
            spots: Spots::default(),
            called: watch::Sender::new(None),
            opened: watch::Sender::new(false),
            stopping: Arc::new(AtomicBool::new(false)),
            token: Token::new(),
            stop: watch::Sender::new(false),
            repo,
        });
        let mut config = NetConfig::new(identity.seed());
        config.listen = listen.to_vec();
        config.mdns = settings.mdns;
        let answers: Arc<dyn Answers> = Arc::new(Answering(Arc::downgrade(&core)));
        let store = Arc::clone(&core.repo.store);
        let net = core.env.start_network(&config, shared, store, answers).map_err(|error| failed(&error))?;
        drop(core.transport.set(net));
        Ok(Self { core, runtime, threads: Threads::default(), is_over: false })
    }

    /// Calls when the log stops by itself: its disk failed, mostly.
    pub fn when_log_stops(&self, call: impl FnOnce(&str) + Send + 'static) -> Result<(), Error> {
        let core = Arc::downgrade(&self.core);
        let watch = move || {
            let Some(core) = core.upgrade() else { return };
            let Ok(log) = core.wait(core.opened_log()) else { return };
            match core.wait(log.stopped()) {
                // In order, it stops too.
                Ok(why) if !core.is_stopping() => call(&why),
                _ => {}
            }
        };
        let failed = |error: std::io::Error| Error::new(ErrorKind::Failed, format!("cannot start a thread: {error}"));
        self.core.env.spawn("log", Box::new(watch)).map(drop).map_err(failed)
    }

    /// Has everything that is under way end soon.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Whether it is about to end.
    pub fn is_stopping(&self) -> bool {
        self.core.is_stopping()
    }

    /// Whether it does what it is there for, or why not yet.
    pub fn ready(&self) -> Result<(), String> {
        let Some(log) = self.core.log.get() else { return Ok(()) };
        if !log.is_led() {
            return Err("no node leads with a majority of the voters".to_owned());
        }
        self.core.check_whole().map_err(|error| error.to_string())?;
        let is_held = {
            let remote = self.core.remote();
            remote.main() == remote.held
        };
        if is_held { Ok(()) } else { Err("what is published is not here yet".to_owned()) }
    }

    /// Adds figures in Prometheus' text format.
    pub fn metrics(&self, out: &mut dyn std::fmt::Write) {
        let (core, mut figures) = (&self.core, Vec::new());
        let remote = core.remote().clone();
        let held = remote.held == remote.main() && core.repo.copied.is_whole() && core.check_whole().is_ok();
        figures.push(("filesync_cluster_index", remote.index()));
        figures.push(("filesync_cluster_held_index", core.held_as_of()));
        figures.push(("filesync_cluster_holds_head", u64::from(held)));
        figures.push(("filesync_cluster_members", remote.state.members.len() as u64));
        let voters: BTreeSet<NodeId> = remote.state.voters.iter().flatten().copied().collect();
        figures.push(("filesync_cluster_voters", voters.len() as u64));
        figures.push(("filesync_cluster_holders", remote.state.holders.intersection(&voters).count() as u64));
        if let Some(log) = core.log.get() {
            let status = log.status();
            figures.push(("filesync_raft_term", status.term));
            figures.push(("filesync_raft_applied_index", status.applied.map_or(0, |index| index.0)));
            figures.push(("filesync_raft_leading", u64::from(status.leading.is_some())));
            figures.push(("filesync_raft_leader", status.leader.map_or(0, |node| node.0)));
        }
        let mut peers = Vec::new();
        if let Some(transport) = core.transport.get() {
            peers.extend(transport.traffic());
            let connected = transport.connections().into_iter().filter(|it| it.is_connected).count();
            figures.push(("filesync_peers_connected", connected as u64));
            figures.push(("filesync_peer_tasks", transport.tasks() as u64));
            turned_away::metrics(&transport.turned_away(), out);
        }
        for (name, value) in figures {
            // A string takes everything.
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {value}");
        }
        core.spots.metrics(out);
        type Figure = (&'static str, fn(&Traffic) -> u64);
        let by_peer: [Figure; 5] = [
            ("filesync_peer_sent_bytes_total", |traffic| traffic.sent),
            ("filesync_peer_sent_objects_total", |traffic| traffic.objects_sent),
            ("filesync_peer_received_bytes_total", |traffic| traffic.received),
            ("filesync_peer_received_objects_total", |traffic| traffic.objects_received),
            ("filesync_peer_fetch_seconds_count", |traffic| traffic.answers),
        ];
        // Who is a member no more is no longer told of.
        let members = peers.iter().filter_map(|(peer, traffic)| Some((core.view.member(peer)?, traffic)));
        let members: Vec<(NodeId, &Traffic)> = members.collect();
        for (name, figure) in by_peer {
            let _ = writeln!(out, "# TYPE {name} counter");
            for (node, traffic) in &members {
                let _ = writeln!(out, "{name}{{node=\"{node}\"}} {}", figure(traffic));
            }
        }
        // From a request to the beginning of its answer: divided by the count, the mean latency.
        let _ = writeln!(out, "# TYPE filesync_peer_fetch_seconds_sum counter");
        for (node, traffic) in &members {
            let seconds = traffic.waited.as_secs_f64();
            let _ = writeln!(out, "filesync_peer_fetch_seconds_sum{{node=\"{node}\"}} {seconds}");
        }
    }

    /// This node's number.
    pub fn number(&self) -> NodeId {
        self.core.number
    }

    /// Where it listens.
    pub fn listening(&self) -> Vec<SocketAddr> {
        listening(&self.core)
    }

    /// Where others reach it: where it listens, and if that is everywhere, by the addresses of this machine.
    pub fn addresses(&self) -> Vec<String> {
        addresses(&self.core)
    }

    /// Tells the cluster where this node is reached, if it has moved.
    pub fn announce(&self, within: Duration) -> Result<(), Error> {
        let (core, addresses) = (&self.core, self.addresses());
        let known = core.state().members.get(&core.number).map(|member| member.addresses.clone());
        if known.as_ref() == Some(&addresses) {
            return Ok(());
        }
        let call = Call::Propose(Command::SetAddresses { node: core.number, addresses });
        join::decided(core.wait(core.ask_leader(&call, within))??).map(drop)
    }

    /// Tells of the newest snapshot of the log's state, or makes one.
    pub fn snapshot(&self, create: bool, timeout: Duration) -> Result<Option<SnapshotInfo>, Error> {
        let core = &self.core;
        let failed =
            |cause: &dyn std::fmt::Display| Error::new(ErrorKind::Failed, format!("cannot make a snapshot: {cause}"));
        let log = core.log.get().ok_or_else(|| {
            failed(&"this node takes no part in the log")
                .with_hint("voters and candidates do, as long as they are served")
        })?;
        let snapshot = match create {
            true => core.wait(log.take_snapshot(timeout))?,
            false => log.snapshot(),
        };
        let told = |it: filesync_raft_log::SnapshotInfo| SnapshotInfo {
            node: core.number.0,
            log_index: it.index.0,
            term: it.term,
            bytes: it.bytes,
        };
        Ok(snapshot.map_err(|error| failed(&error))?.map(told))
    }

    /// Takes leave: what is being answered gets a moment, the log is closed in order.
    pub fn shutdown(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.core.stop();
        // One of them may start others before it ends.
        while let Some(thread) = self.threads.pop() {
            thread();
        }
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let (vfs, led) = (self.core.repo.store.vfs(), NodeId(self.core.led.load(Ordering::Relaxed)));
        if led.0 != 0 && led::read(&**vfs) != Some(led) {
            led::note(&**vfs, led);
        }
        if let Some(log) = self.core.log.get() {
            let _ = self.core.env.wait(async { tokio::time::timeout(LEAVE, log.shut_down()).await });
        }
        if let Some(transport) = self.core.transport.get() {
            transport.shutdown(LEAVE);
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(LEAVE);
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
    }
}

fn listening(core: &Core) -> Vec<SocketAddr> {
    core.transport.get().map(|it| it.listening()).unwrap_or_default()
}

/// Where others reach a node.
pub(super) fn addresses(core: &Core) -> Vec<String> {
    let reach = |listening: SocketAddr| match listening.ip() {
        ip if !ip.is_unspecified() => vec![listening],
        IpAddr::V4(_) => {
            own_ip("0.0.0.0:0", "192.0.2.1:9").map(|ip| SocketAddr::new(ip, listening.port())).into_iter().collect()
        }
        IpAddr::V6(_) => {
            own_ip("[::]:0", "[2001:db8::1]:9").map(|ip| SocketAddr::new(ip, listening.port())).into_iter().collect()
        }
    };
    listening(core).into_iter().flat_map(reach).map(|address| address.to_string()).collect()
}

/// Why the log does not open, as its user is told.
pub fn open_error(error: &OpenError) -> Error {
    let kind = if matches!(error, OpenError::Damaged { .. }) { ErrorKind::Damage } else { ErrorKind::Failed };
    Error::new(kind, format!("cannot start: {error}"))
}

/// The address that this machine would use to reach the world; nothing is sent.
fn own_ip(from: &str, to: &str) -> Option<IpAddr> {
    let socket = UdpSocket::bind(from).ok()?;
    socket.connect(to).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

/// Tells one process from another.
fn nonce(env: &dyn Env) -> Result<u64, Error> {
    let mut bytes = [0; 8];
    env.random(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes) | 1)
}
