//! The daemon: one process that keeps the store open and carries out what others ask.
//!
//! It holds the writer's lock for as long as it lives. Commands that write reach it over a Unix socket (`place`); who only
//! reads opens the store himself, as beside any other writer. A command is the same typed request with or without it
//! ([`carry_out`]), and comes to the same result: text, JSON and exit status are the client's.
//!
//! Promised: commands that write run one at a time, in the order in which they came; one whose client has gone is stopped;
//! what was told to be done is done as durably as without a daemon, whatever becomes of it; it ends in order within five
//! seconds. `docs/control.md` tells the protocol.
//!
//! Async is here for sockets alone: the work is done by plain code on blocking threads.

mod accept;
mod carry_out;
mod client;
#[cfg(test)]
mod fuzz;
mod keeper;
mod metrics;
mod part;
mod place;
mod protocol;
mod routes;
mod service;
mod stream;
mod turns;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use filesync_cas::vfs::{RealVfs, Vfs};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use carry_out::{ask_in_passing, carry_out};
pub use client::Daemon;
pub use part::{Client, Part, PartOptions, Running};
pub use protocol::Hello;
pub use turns::{Turn, Turns};

use crate::cancel::Token;
use crate::config::{Config, ServiceSettings};
use crate::error::{Error, ErrorKind};
use crate::repo::{OpenOptions, Repo, STORE_DIR};
use crate::request::Observer;
use keeper::{Keeper, WHO};
use place::Place;
use service::Service;

/// Where a detached daemon logs, from the root of the repository.
pub const LOG: &str = ".filesync/daemon/log";

/// Threads for sockets. The work is done by others.
const WORKERS: usize = 2;
/// How long commands have to end when the daemon does, then parts and the store.
const COMMANDS_END: Duration = Duration::from_secs(3);
const STORE_ENDS: Duration = Duration::from_millis(900);
const LOOK: Duration = Duration::from_millis(5);

/// How a daemon runs.
#[derive(Clone, Default)]
pub struct ServeOptions {
    /// How the store is opened.
    pub open: OpenOptions,
    /// Where to listen for peers.
    pub listen: Vec<String>,
    /// Where to answer HTTP: `ADDR:PORT`, or a port on loopback.
    pub http: Option<String>,
    /// This directory is the one, and its former place is no more.
    pub moved: bool,
    /// What else runs in it.
    pub parts: Vec<Arc<dyn Part>>,
}

/// A daemon of this process. It answers from [`Server::start`] on, and ends in [`Server::wait`].
pub struct Server {
    runtime: Runtime,
    service: Arc<Service>,
    ending: watch::Sender<bool>,
    listeners: Vec<JoinHandle<()>>,
    root: PathBuf,
    broken: Arc<OnceLock<String>>,
}

/// Wants a daemon to end. Can be kept by whoever hears of signals.
#[derive(Clone)]
pub struct Stopper(Arc<Service>);

impl Stopper {
    /// Wants it to end, in order.
    pub fn stop(&self) {
        self.0.stop();
    }
}

impl Server {
    /// Begins: takes the lock, opens the store, starts the parts, listens. Commands are answered when this returns.
    pub fn start(root: &Path, options: &ServeOptions, observer: &dyn Observer) -> Result<Self, Error> {
        if let Some(hello) = Daemon::find(root)?.and_then(|daemon| daemon.hello()) {
            return Err(runs_already(&format!("{WHO}, pid {}", hello.pid)));
        }
        if options.parts.is_empty() && (options.moved || !options.listen.is_empty()) {
            return Err(Error::new(ErrorKind::Usage, "cannot listen for peers: no cluster node runs in this daemon"));
        }
        let repo = Repo::open_writer(root, WHO, &options.open, observer).map_err(|error| match error.kind() {
            ErrorKind::Busy if error.to_string().contains(&format!("{WHO}, pid ")) => {
                error.with_hint("`filesync stop` ends the daemon")
            }
            _ => error,
        })?;
        let root = repo.root().to_owned();
        let settings = Config::load(&**repo.store.vfs())?.service();
        let http = options.http.as_deref().map(|word| http_address(word, &settings)).transpose()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("daemon")
            .enable_all()
            .build()
            .map_err(|error| Error::io("cannot start threads", &error))?;
        let entered = runtime.enter();
        let http = http.map(|address| bind_http(&runtime, address)).transpose()?;
        // Whoever connects from here on waits until everything is there.
        let vfs = Arc::clone(repo.store.vfs());
        let control = bind_control(&root, &*vfs)?;
        let (turns, all) = (Turns::new(runtime.handle().clone()), Token::new());
        let broken = Arc::<OnceLock<String>>::default();
        let part_options = PartOptions {
            listen: options.listen.clone(),
            moved: options.moved,
            turns: turns.clone(),
            runtime: runtime.handle().clone(),
            ending: all.clone(),
            broken: Arc::clone(&broken),
        };
        let keeper = Keeper::new(repo, options.open.clone(), options.parts.clone(), part_options);
        let keeper = keeper.inspect_err(|_| drop(Place::remove(&*vfs)))?;
        let address = http.as_ref().and_then(|listener| listener.local_addr().ok());
        let service = Arc::new(Service::new(keeper, turns, all, address));
        let ending = watch::Sender::new(false);
        let mut listeners =
            vec![runtime.spawn(accept::control(control, routes::control(Arc::clone(&service)), ending.subscribe()))];
        if let Some(listener) = http {
            let router = routes::http(Arc::clone(&service));
            listeners.push(runtime.spawn(accept::http(listener, router, ending.subscribe())));
        }
        drop(entered);
        tracing::info!(root = %root.display(), pid = std::process::id(), http = ?address, "serving");
        Ok(Self { runtime, service, ending, listeners, root, broken })
    }

    /// Where HTTP is answered.
    pub fn http(&self) -> Option<SocketAddr> {
        self.service.http
    }

    /// The root of the working copy.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// For whoever may want it to end.
    pub fn stopper(&self) -> Stopper {
        Stopper(Arc::clone(&self.service))
    }

    /// Waits until somebody wants it to end, and ends it in order: commands are stopped and answered, parts ended, the
    /// store closed. Fails if that took too long, or if nobody wanted it and it could not go on: then the process is to be
    /// ended with a status that says so, which loses nothing that was told, and to be started again.
    pub fn wait(self) -> Result<(), Error> {
        let Self { runtime, service, ending, listeners, root: _, broken } = self;
        let mut stopped = service.stopped();
        runtime.block_on(async { drop(stopped.wait_for(|stopped| *stopped).await) });
        tracing::info!("ending");
        service.end();
        let commands_end = Instant::now() + COMMANDS_END;
        while service.under_way() > 0 && Instant::now() < commands_end {
            std::thread::sleep(LOOK);
        }
        // Before the lock is another's, and the socket with it. Whoever comes now waits for the lock.
        if let Some(open) = service.keeper.get() {
            drop(Place::remove(&**open.repo.store.vfs()));
        }
        ending.send_replace(true);
        let store_ends = Instant::now() + STORE_ENDS;
        let closed = service.keeper.close(store_ends);
        runtime.block_on(async {
            for listener in listeners {
                drop(tokio::time::timeout(store_ends.saturating_duration_since(Instant::now()), listener).await);
            }
        });
        runtime.shutdown_background();
        match &closed {
            Ok(()) => tracing::info!("ended"),
            Err(error) => tracing::error!(%error, "ended out of order"),
        }
        let broken = broken.get().map(|why| Error::new(ErrorKind::Failed, format!("the daemon cannot go on: {why}")));
        closed.and(broken.map_or(Ok(()), Err))
    }
}

fn runs_already(who: &str) -> Error {
    Error::from(filesync_cas::OpenError::Busy(who.to_owned())).with_hint("`filesync stop` ends the daemon")
}

/// How a daemon logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// A JSON object a line, rather than text.
    pub json: bool,
    /// The least of what is logged: "error", "warn", "info", "debug" or "trace".
    pub level: String,
}

/// How the daemon of a repository is to log. If that cannot be read, nothing is set: who starts the daemon tells of it.
pub fn log_settings(root: &Path) -> LogSettings {
    let config = RealVfs::open(&root.join(STORE_DIR)).ok().and_then(|vfs| Config::load(&vfs).ok());
    config.unwrap_or_default().service().log
}

/// `ADDR:PORT`, `:PORT` or `PORT`; loopback if it does not say otherwise.
fn http_address(word: &str, settings: &ServiceSettings) -> Result<SocketAddr, Error> {
    let local = |port: &str| port.parse::<u16>().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    let named = word.strip_prefix("localhost:").or_else(|| word.strip_prefix(':')).unwrap_or(word);
    let address = local(named).or_else(|| word.parse().ok()).ok_or_else(|| {
        Error::new(ErrorKind::Usage, format!("cannot answer HTTP on {word:?}: not an address and a port"))
            .with_hint("for example 127.0.0.1:9646")
    })?;
    let is_local = match address.ip() {
        IpAddr::V6(ip) => ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback()),
        IpAddr::V4(ip) => ip.is_loopback(),
    };
    if !is_local && !settings.expose_http {
        let message = format!("cannot answer HTTP on {word}: others could reach it, and anybody may ask there");
        let hint = "`filesync config set serve.expose_http yes` allows it";
        return Err(Error::new(ErrorKind::Usage, message).with_hint(hint));
    }
    Ok(address)
}

fn bind_control(root: &Path, vfs: &dyn Vfs) -> Result<UnixListener, Error> {
    let dir = root.join(STORE_DIR).join(place::DIR);
    let place = Place::make(root, vfs).map_err(|error| Error::path("cannot use", &dir, &error))?;
    let bound = UnixListener::bind(place.socket());
    bound.map_err(|error| Error::path("cannot listen on", &place.shown(), &error))
}

fn bind_http(runtime: &Runtime, address: SocketAddr) -> Result<TcpListener, Error> {
    let bound = runtime.block_on(TcpListener::bind(address));
    bound.map_err(|error| Error::io(format_args!("cannot listen on {address}"), &error))
}

#[cfg(test)]
mod tests;
