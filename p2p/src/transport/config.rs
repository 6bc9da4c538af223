//! What a node on the network is given, and what it tells.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use crate::message::Status;
use crate::peer::{Class, PeerKey, Role};

/// How to be on the network.
#[derive(Clone)]
pub struct Config {
    /// Seed of the Ed25519 key that names this node.
    pub seed: [u8; 32],
    /// Where to listen; nowhere if there is nothing.
    pub listen: Vec<SocketAddr>,
    /// Bytes in flight on one stream, and on one connection: what keeps bulk from standing in the way of Raft. A connection has room for more
    /// than the bulk streams of one peer together, so that the rest passes even if nobody reads those.
    pub windows: (u32, u32),
    /// How long a peer may be silent before it is taken for dead.
    pub dead_after: Duration,
    /// Whether members on the same network are found without their addresses, and find us. What is heard there is a hint, and
    /// everybody there hears who we are.
    pub mdns: bool,
}

/// Without the seed, which is a secret.
impl std::fmt::Debug for Config {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Config").field("listen", &self.listen).finish_non_exhaustive()
    }
}

impl Config {
    /// The usual values, listening nowhere.
    pub fn new(seed: [u8; 32]) -> Self {
        let dead_after = Duration::from_secs(5);
        Self { seed, listen: Vec::new(), windows: (2_500_000, 12_500_000), dead_after, mdns: false }
    }
}

/// Who asks. The key is proved by the connection, the role is what it was when the call was let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Who.
    pub key: PeerKey,
    /// What it is. On [`Class::Join`] it may be a stranger; on no other stream.
    pub role: Role,
    /// On which stream.
    pub class: Class,
}

/// What becomes of a call.
pub type Answer = Pin<Box<dyn Future<Output = (Status, Vec<u8>)> + Send>>;

/// Answers the calls of peers.
pub trait Answers: Send + Sync + 'static {
    /// Answers one. That the caller may ask has been seen ([`crate::Access`]), and that the topic belongs on the stream. The answer is made
    /// on the threads of the network and must not block them: what reads a disk goes to threads of its own. After
    /// [`super::CALL_TIME`] it is dropped, and the caller told that it failed. An answer longer than the stream allows has failed too.
    fn answer(&self, caller: Caller, topic: u16, body: Vec<u8>) -> Answer;
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// No address leads to it: each, and why.
    #[error("cannot reach the peer: {0}")]
    Unreachable(String),
    /// It is not a key.
    #[error("not an Ed25519 key")]
    NotAKey,
    /// The network has been shut down.
    #[error("the network has been shut down")]
    Closed,
}

/// Why the network could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {addr}: {cause}")]
    Listen {
        /// Which.
        addr: SocketAddr,
        /// Why.
        cause: String,
    },
    /// Something else.
    #[error("cannot start the network: {0}")]
    Other(String),
}

/// How it stands with a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Which.
    pub peer: PeerKey,
    /// Whether there is a connection.
    pub is_connected: bool,
    /// Whether a stream is open that the next fetch will use.
    pub has_idle_stream: bool,
    /// If not, why the last attempt failed, or the last connection ended.
    pub why: Option<String>,
}
