//! What a node has of the world around it: threads, time, chance, a network, and a place for its log. [`Process`] is what it has in the
//! product; in the simulation (`tests/sim`) all of it follows from a seed.

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use filesync_cas::Store;
use filesync_p2p::serve::Shared;
use filesync_p2p::transport::{Answers, Config as NetConfig, Net, StartError, Transport};
use filesync_raft_log::error::OpenError;
use filesync_raft_log::{Log, Mode, Parts};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;

use crate::error::{Error, ErrorKind};

/// What a thread does.
pub type Work = Box<dyn FnOnce() + Send>;
/// Waits for the end of a thread.
pub type Join = Box<dyn FnOnce() + Send + Sync>;
/// A log that is being opened.
pub type Opening<'a> = Pin<Box<dyn Future<Output = Result<Log, OpenError>> + Send + 'a>>;

/// The world around a node.
pub trait Env: Send + Sync {
    /// Where tasks run.
    fn runtime(&self) -> &Handle;

    /// Polls a future to its end. Blocks: not to be called by a task.
    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>);

    /// Starts a thread that may block.
    fn spawn(&self, name: &str, work: Work) -> io::Result<Join>;

    /// Has a thread do what may block, for a task that waits for it.
    fn spawn_blocking(&self, work: Work) -> JoinHandle<()>;

    /// Whether several things that block are done at a time.
    fn is_parallel(&self) -> bool;

    /// The time since 1970.
    fn now(&self) -> Duration;

    /// Fills in what nobody can guess.
    fn random(&self, bytes: &mut [u8]) -> Result<(), Error>;

    /// Starts the network.
    fn start_network(
        &self,
        config: &NetConfig,
        shared: Arc<Shared>,
        store: Arc<Store>,
        answers: Arc<dyn Answers>,
    ) -> Result<Box<dyn Net>, StartError>;

    /// Opens a log.
    fn open_log<'a>(&'a self, dir: &'a Path, mode: Mode, parts: Parts) -> Opening<'a>;
}

impl dyn Env {
    /// Waits for a future. Blocks: not to be called by a task.
    pub fn wait<F: Future>(&self, future: F) -> F::Output {
        let mut output = None;
        let filling = async { output = Some(future.await) };
        self.block_on(std::pin::pin!(filling));
        output.expect("a future that has ended has an output")
    }

    /// Does what may block on a thread of its own. `None`: everything ends.
    pub async fn blocking<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (tell, told) = tokio::sync::oneshot::channel();
        let done = self.spawn_blocking(Box::new(move || drop(tell.send(work()))));
        done.await.ok()?;
        told.await.ok()
    }

    /// Does two things that block, neither of which waits for the other; the first, which begins sooner, is to be the longer one.
    pub fn both<A, B: Send>(&self, one: impl FnOnce() -> A, other: impl FnOnce() -> B + Send) -> (A, B) {
        if !self.is_parallel() {
            return (one(), other());
        }
        std::thread::scope(|scope| {
            let other = scope.spawn(other);
            let one = one();
            (one, other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Milliseconds since 1970.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.now().as_millis()).unwrap_or(u64::MAX)
    }
}

/// The process that a node runs in.
pub struct Process(Handle);

impl Process {
    /// With a runtime of its own, for whoever owns it to end.
    pub fn new() -> Result<(Self, Runtime), Error> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("cluster")
            .enable_all()
            .build()
            .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot start: {error}")))?;
        Ok((Self(runtime.handle().clone()), runtime))
    }
}

impl Env for Process {
    fn runtime(&self) -> &Handle {
        &self.0
    }

    fn block_on(&self, future: Pin<&mut dyn Future<Output = ()>>) {
        self.0.block_on(future);
    }

    fn spawn(&self, name: &str, work: Work) -> io::Result<Join> {
        let thread = std::thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Box::new(|| drop(thread.join())))
    }

    fn spawn_blocking(&self, work: Work) -> JoinHandle<()> {
        self.0.spawn_blocking(work)
    }

    fn is_parallel(&self) -> bool {
        true
    }

    fn now(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn random(&self, bytes: &mut [u8]) -> Result<(), Error> {
        getrandom::fill(bytes).map_err(|error| Error::new(ErrorKind::Failed, format!("no random numbers: {error}")))
    }

    fn start_network(
        &self,
        config: &NetConfig,
        shared: Arc<Shared>,
        store: Arc<Store>,
        answers: Arc<dyn Answers>,
    ) -> Result<Box<dyn Net>, StartError> {
        Ok(Box::new(Transport::start(config, shared, store, answers)?))
    }

    fn open_log<'a>(&'a self, dir: &'a Path, mode: Mode, parts: Parts) -> Opening<'a> {
        Box::pin(Log::open(dir, mode, parts))
    }
}
