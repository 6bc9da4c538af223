//! The node as a part of the daemon, and its commands with or without one.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use filesync_merkle::ancestry::apart;
use serde_json::Value;

use super::node::{Node, NodeOptions};
use super::remote::Remote;
use super::{bring, heal, member, members, recover, sync};
use crate::cancel;
use crate::daemon::{Client, Daemon, Part, PartOptions, Running, Turns};
use crate::error::{Error, ErrorKind};
use crate::repo::{OpenOptions, Repo, STORE_DIR};
use crate::request::{ClusterAnswer, ClusterRequest, Event, Observer, PeersRequest, SyncResult, Warning};

/// What requests to the node go by on the control socket.
const NAME: &str = "cluster";
/// Where a member listens if nothing else is said.
const LISTEN: &str = "0.0.0.0:7946";
/// How long the lock is waited for before it is seen whether a daemon holds it by now.
const SLICE: Duration = Duration::from_millis(200);
/// How long to try to tell the others where this node is reached, each time.
const ANNOUNCE: Duration = Duration::from_secs(10);

/// Runs a node in the daemon.
#[derive(Debug, Clone, Copy)]
pub struct ClusterPart;

impl Part for ClusterPart {
    fn start(&self, repo: Arc<Repo>, options: &PartOptions) -> Result<Box<dyn Running>, Error> {
        let is_member = member::read(&**repo.store.vfs())?.is_some();
        let mut listen = options.listen.clone();
        if listen.is_empty() && is_member {
            listen.push(LISTEN.to_owned());
        }
        let running = RunningNode {
            repo: Mutex::new(Some(repo)),
            node: Mutex::default(),
            starting: Mutex::default(),
            turns: options.turns.clone(),
            broken: Arc::clone(&options.broken),
        };
        // Who never belonged to a cluster, and does not want to listen, founds none by that.
        if !listen.is_empty() {
            let listen = listen.iter().map(|word| listen_address(word)).collect::<Result<_, _>>()?;
            running.start(&NodeOptions { listen, moved: options.moved })?;
        }
        Ok(Box::new(running))
    }
}

struct RunningNode {
    repo: Mutex<Option<Arc<Repo>>>,
    node: Mutex<Option<Arc<Node>>>,
    /// Held by who starts one: a second would begin under the first.
    starting: Mutex<()>,
    turns: Turns,
    /// Why the daemon cannot go on, once it cannot.
    broken: Arc<OnceLock<String>>,
}

impl RunningNode {
    fn start(&self, options: &NodeOptions) -> Result<Arc<Node>, Error> {
        let repo = lock(&self.repo).clone().ok_or_else(|| Error::new(ErrorKind::Failed, "the daemon is ending"))?;
        let store = Arc::downgrade(&repo.store);
        let (store_breaks, log_breaks) = (Arc::clone(&self.broken), Arc::clone(&self.broken));
        let told = Arc::new(move |error: &Error| {
            tracing::warn!(%error, "cluster");
            // After a sync that failed nothing is known of what is on the disk: only another process can go on.
            if store.upgrade().is_some_and(|store| store.session().is_err()) {
                end_process("the store takes no more writes", &store_breaks);
            }
        });
        let node = Arc::new(Node::start(repo, options, told)?);
        node.when_log_stops(move |why| end_process(&format!("the replicated log stopped: {why}"), &log_breaks))?;
        tracing::info!(node = node.number().0, listening = ?node.listening(), "cluster");
        *lock(&self.node) = Some(Arc::clone(&node));
        if !options.listen.is_empty() {
            let announcing = Arc::downgrade(&node);
            // Until it is known; whoever has no quorum now may have one later.
            let work = move || {
                while let Some(node) = announcing.upgrade().filter(|node| !node.is_stopping()) {
                    match node.announce(ANNOUNCE) {
                        Ok(()) => return,
                        Err(error) => tracing::debug!(%error, "not announced yet"),
                    }
                }
            };
            drop(std::thread::Builder::new().name("announce".to_owned()).spawn(work));
        }
        Ok(node)
    }

    fn node(&self) -> Result<Arc<Node>, Error> {
        let _one = lock(&self.starting);
        if let Some(node) = lock(&self.node).clone() {
            return Ok(node);
        }
        self.start(&NodeOptions::default())
    }

    fn carry_out(&self, body: &Value, client: &Client, observer: &dyn Observer) -> Result<Value, Error> {
        let failed = |error: serde_json::Error| Error::new(ErrorKind::Failed, format!("cannot understand: {error}"));
        let request: ClusterRequest = serde_json::from_value(body.clone()).map_err(failed)?;
        // The others change nothing of this repository.
        let _turn = match &request {
            ClusterRequest::Sync(_) | ClusterRequest::Fsck(_) | ClusterRequest::Bring(_) => {
                Some(self.turns.wait_blocking(client.who.clone(), client.lock_timeout)?)
            }
            _ => None,
        };
        let running = lock(&self.node).is_some();
        if let Some(repo) = lock(&self.repo).clone().filter(|_| !running)
            && belongs_nowhere(&repo)?
            && !founds(&request)
        {
            return serde_json::to_value(&without_cluster(&repo, &request, observer)?).map_err(failed);
        }
        let answer = self.node()?.carry_out(&request, observer)?;
        serde_json::to_value(&answer).map_err(failed)
    }
}

impl Running for RunningNode {
    fn metrics(&self, out: &mut dyn Write) {
        if let Some(node) = lock(&self.node).clone() {
            node.metrics(out);
        }
    }

    fn ready(&self) -> Result<(), String> {
        lock(&self.node).clone().map_or(Ok(()), |node| node.ready())
    }

    fn answer(
        &self,
        name: &str,
        body: &Value,
        client: &Client,
        observer: &dyn Observer,
    ) -> Option<Result<Value, Error>> {
        (name == NAME).then(|| self.carry_out(body, client, observer))
    }

    fn shutdown(&self, deadline: Instant) {
        drop(lock(&self.repo).take());
        let Some(node) = lock(&self.node).take() else { return };
        node.stop();
        // Whoever is being answered hears of it, and lets go.
        let mut node = node;
        loop {
            match Arc::try_unwrap(node) {
                Ok(node) => return node.shutdown(),
                Err(_) if Instant::now() >= deadline => return,
                Err(shared) => node = shared,
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Has the daemon end in order, as a signal would, but not with status 0: whoever started it starts it again.
fn end_process(why: &str, broken: &OnceLock<String>) {
    tracing::error!(why, "ending");
    // The first cause is the one to tell.
    drop(broken.set(why.to_owned()));
    let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::TERM);
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `0.0.0.0:7946`, or `/ip4/0.0.0.0/udp/7946/quic-v1`.
fn listen_address(word: &str) -> Result<SocketAddr, Error> {
    let multiaddr = || {
        let mut parts = word.strip_prefix('/')?.split('/');
        let ip = match (parts.next()?, parts.next()?) {
            ("ip4", ip) => ip.parse::<std::net::Ipv4Addr>().ok()?.into(),
            ("ip6", ip) => ip.parse::<std::net::Ipv6Addr>().ok()?.into(),
            _ => return None,
        };
        let port = (parts.next()? == "udp").then(|| parts.next()?.parse().ok()).flatten()?;
        matches!((parts.next(), parts.next()), (None | Some("quic-v1"), None)).then(|| SocketAddr::new(ip, port))
    };
    word.parse().ok().or_else(multiaddr).ok_or_else(|| {
        let error = Error::new(ErrorKind::Usage, format!("cannot listen on {word:?}: not an address and a port"));
        error.with_hint("for example 0.0.0.0:7946, or /ip4/0.0.0.0/udp/7946/quic-v1")
    })
}

impl Node {
    /// Carries out what its user asks for.
    pub fn carry_out(&self, request: &ClusterRequest, observer: &dyn Observer) -> Result<ClusterAnswer, Error> {
        Ok(match request {
            ClusterRequest::Sync(request) => ClusterAnswer::Sync(Box::new(sync::sync(self, request, observer)?)),
            ClusterRequest::Invite(request) => ClusterAnswer::Invited(members::invite(self, request)?),
            ClusterRequest::Invites(timeout) => ClusterAnswer::Invites(members::invites(self, *timeout)?),
            ClusterRequest::Revoke(id, timeout) => ClusterAnswer::Revoked(members::revoke(self, id, *timeout)?),
            ClusterRequest::Peers(request, timeout) => ClusterAnswer::Peers(members::peers(self, request, *timeout)?),
            ClusterRequest::Snapshot { create, timeout } => ClusterAnswer::Snapshot(self.snapshot(*create, *timeout)?),
            ClusterRequest::Fsck(request) => ClusterAnswer::Fsck(heal::fsck(self, request, observer)?),
            ClusterRequest::Bring(request) => ClusterAnswer::Brought(bring::bring(self, request, observer)?),
        })
    }
}

/// Carries out a command of the cluster in the repository at `root`: by the daemon if there is one, and else by a node that
/// lives as long as the command.
pub fn carry_out(
    root: &Path,
    request: &ClusterRequest,
    options: &OpenOptions,
    observer: &dyn Observer,
) -> Result<ClusterAnswer, Error> {
    let deadline = Instant::now() + options.lock_timeout;
    let failed = |error: serde_json::Error| {
        Error::new(ErrorKind::Unknown, format!("cannot understand what the daemon answered: {error}"))
    };
    loop {
        let lock_timeout = deadline.saturating_duration_since(Instant::now());
        if let Some(daemon) = Daemon::find(root)? {
            if is_recovery(request) {
                let error = Error::new(ErrorKind::Failed, "cannot recover while the daemon runs");
                return Err(error.with_hint("`filesync stop` first"));
            }
            let body = serde_json::to_value(request).map_err(failed)?;
            let options = OpenOptions { lock_timeout, ..options.clone() };
            if let Some(answer) = daemon.ask_part(NAME, body, &options, observer)? {
                return serde_json::from_value(answer).map_err(failed);
            }
        }
        let slice = OpenOptions { lock_timeout: lock_timeout.min(SLICE), ..options.clone() };
        match Repo::open_writer(root, request.word(), &slice, observer) {
            Ok(repo) => {
                // What goes wrong behind a command that ends is seen by the next.
                let repo = Arc::new(repo);
                if is_recovery(request) {
                    recover::recover(&repo)?;
                }
                if belongs_nowhere(&repo)? && !founds(request) {
                    return without_cluster(&repo, request, observer);
                }
                let node = match Node::start(Arc::clone(&repo), &NodeOptions::default(), Arc::new(|_| {})) {
                    Ok(node) => node,
                    Err(error) => return without_node(&repo, request, error, observer),
                };
                let answer = node.carry_out(request, observer);
                node.shutdown();
                return answer;
            }
            // A daemon may be about to begin, or to end.
            Err(error) if error.kind() == ErrorKind::Busy && !lock_timeout.is_zero() => cancel::check()?,
            Err(error) => return Err(error),
        }
    }
}

fn is_recovery(request: &ClusterRequest) -> bool {
    matches!(request, ClusterRequest::Peers(PeersRequest::Recover, _))
}

/// Whether this repository neither founded a cluster nor began to join one.
fn belongs_nowhere(repo: &Repo) -> Result<bool, Error> {
    let vfs = &**repo.store.vfs();
    Ok(member::read(vfs)?.is_none() && Remote::read(vfs)?.is_none())
}

/// Whether it is a wish for a cluster of one's own, where there is none yet: nobody founds one by looking.
fn founds(request: &ClusterRequest) -> bool {
    matches!(request, ClusterRequest::Sync(request) if !request.dry_run)
}

/// What there is to say where there is no cluster.
fn without_cluster(repo: &Repo, request: &ClusterRequest, observer: &dyn Observer) -> Result<ClusterAnswer, Error> {
    match request {
        ClusterRequest::Sync(_) => {
            let published = apart(repo.node_source(), repo.head(), None)?.0;
            Ok(ClusterAnswer::Sync(Box::new(SyncResult { published, head: repo.head(), ..SyncResult::default() })))
        }
        ClusterRequest::Fsck(request) => Ok(ClusterAnswer::Fsck(repo.fsck(request, observer)?)),
        _ => {
            let error = Error::new(ErrorKind::Failed, "this repository belongs to no cluster yet");
            Err(error.with_hint("`filesync sync` founds one, and `filesync clone` joins another's"))
        }
    }
}

/// A node that cannot start can still repair from what it has itself.
fn without_node(
    repo: &Repo,
    request: &ClusterRequest,
    error: Error,
    observer: &dyn Observer,
) -> Result<ClusterAnswer, Error> {
    let ClusterRequest::Fsck(request) = request else { return Err(error) };
    let message = format!("cannot ask other members: {error}");
    observer.event(Event::Warning(Warning { path: None, message }));
    Ok(ClusterAnswer::Fsck(repo.fsck(request, observer)?))
}

/// Whether the repository at `root` belongs to a cluster.
pub fn is_member(root: &Path) -> bool {
    root.join(STORE_DIR).join(member::PATH).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (word, meant) in [
            ("0.0.0.0:7946", Some("0.0.0.0:7946")),
            ("[::1]:1", Some("[::1]:1")),
            ("/ip4/127.0.0.1/udp/7946/quic-v1", Some("127.0.0.1:7946")),
            ("/ip6/::/udp/7946", Some("[::]:7946")),
            ("7946", None),
            ("/ip4/127.0.0.1/tcp/7946", None),
            ("/ip4/127.0.0.1/udp/7946/quic-v1/p2p", None),
            ("", None),
        ] {
            assert_eq!(listen_address(word).ok(), meant.map(|meant| meant.parse().unwrap()), "{word:?}");
        }
    }
}
