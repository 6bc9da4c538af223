//! What else runs in the daemon: the cluster node, and later the background mode, each as a part.
//!
//! A part is started once the store is open and the daemon is about to answer, and ended before the store is closed. When
//! the store has to be opened anew (after a sync that failed), the parts are ended and started again. So a part keeps
//! no [`Repo`] beyond its [`Running::shutdown`].

use std::fmt::Write;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use serde_json::Value;
use tokio::runtime::Handle;

use super::turns::Turns;
use crate::cancel::Token;
use crate::error::Error;
use crate::repo::Repo;
use crate::request::Observer;

/// Something that can run in the daemon.
pub trait Part: Send + Sync {
    /// Begins. What it returns has begun: for a node, its sockets are bound.
    fn start(&self, repo: Arc<Repo>, options: &PartOptions) -> Result<Box<dyn Running>, Error>;
}

/// What a part is started with.
#[derive(Debug, Clone)]
pub struct PartOptions {
    /// Where to listen for peers: the words of `--listen`.
    pub listen: Vec<String>,
    /// `--moved`: this directory is the one, and its former place is no more.
    pub moved: bool,
    /// Whoever changes the repository does so in his turn.
    pub turns: Turns,
    /// The runtime; blocking work belongs on its blocking threads, or on threads of one's own.
    pub runtime: Handle,
    /// Asked when the daemon is to end.
    pub ending: Token,
    /// Why it ends by itself: filled by a part that cannot go on, before it has the daemon end.
    pub broken: Arc<OnceLock<String>>,
}

/// A part that runs. Called from several threads.
pub trait Running: Send + Sync {
    /// Adds figures in Prometheus' text format; names begin with `filesync_`. Must not block.
    fn metrics(&self, out: &mut dyn Write);

    /// Whether it does what it is there for, or why not yet. Must not block.
    fn ready(&self) -> Result<(), String>;

    /// Answers a request that came over the control socket; `None` if `name` is none of its requests.
    ///
    /// Called on a blocking thread, in the scope of the command's token: [`crate::cancel::check`] tells when its client
    /// has gone. Whatever it changes it changes in its turn (`client.who` is for [`Turns::wait_blocking`]).
    fn answer(
        &self,
        name: &str,
        body: &Value,
        client: &Client,
        observer: &dyn Observer,
    ) -> Option<Result<Value, Error>>;

    /// Ends it in order, not later than `deadline`. Afterwards nothing of it holds the repository. Requests that it is
    /// answering end with errors. Called again if somebody else was still at work on the store.
    fn shutdown(&self, deadline: Instant);
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Client {
    /// The command and the process: "sync, pid 7".
    pub who: String,
    /// How long it wants to wait for its turn.
    pub lock_timeout: std::time::Duration,
}
