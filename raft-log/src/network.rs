//! Raft's messages: opaque to whoever carries them.
//!
//! A message says which repository and which nodes it is between; whoever carries it says whose key the sender has
//! shown. Both are checked against what the log says of its nodes before openraft sees anything.

#[cfg(test)]
mod fuzz;
mod incoming;
mod receiver;
#[cfg(test)]
pub(crate) mod tests;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::{AnyError, OptionalSend, Snapshot};
use serde::{Deserialize, Serialize};

use crate::error::SendError;
use crate::ids::{NodeId, PeerKey, RepositoryId};
use crate::types::{RaftNode, SnapshotMeta, TypeConfig, Vote, decode, encode};

pub(crate) use incoming::Incoming;
pub(crate) use receiver::Receiver;
pub use receiver::Sender;

/// What a message is for: a carrier keeps the kinds apart, so that none waits behind another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Class {
    /// Entries and heartbeats.
    Append,
    /// Elections.
    Vote,
    /// A state for a node that is far behind.
    Snapshot,
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recipient {
    /// Its number.
    pub node: NodeId,
    /// The key that it must show.
    pub key: PeerKey,
    /// What the message is for.
    pub class: Class,
}

/// What a carrier gives back in time.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, SendError>> + Send + 'a>>;

/// Carries messages to other nodes. Messages may be lost, repeated and late; an answer belongs to its message.
pub trait Network: Send + Sync + 'static {
    /// Sends a message and waits for the answer to it, no longer than `deadline`. The future may be dropped.
    fn send(&self, to: Recipient, message: Vec<u8>, deadline: Duration) -> Sending<'_>;
}

/// The longest message, either way: entries of a MiB and one more entry, or a piece of a state.
pub const MESSAGE_LEN_MAX: usize = 4 << 20;
/// A state travels in pieces of this length.
const PIECE_LEN: usize = 1 << 20;

#[derive(Serialize, Deserialize)]
struct Envelope {
    repository: RepositoryId,
    from: NodeId,
    to: NodeId,
    request: Request,
}

#[derive(Serialize, Deserialize)]
enum Request {
    Append(AppendEntriesRequest<TypeConfig>),
    Vote(VoteRequest<NodeId>),
    Piece(Piece),
}

/// A part of a state for a node that is far behind, in order. With the last one it is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Piece {
    vote: Vote,
    meta: SnapshotMeta,
    /// The length of all pieces.
    len: u64,
    offset: u64,
    data: Vec<u8>,
}

impl Request {
    /// In whose name it is sent.
    fn speaker(&self) -> NodeId {
        let vote = match self {
            Self::Append(request) => &request.vote,
            Self::Vote(request) => &request.vote,
            Self::Piece(piece) => &piece.vote,
        };
        vote.leader_id.node_id
    }
}

#[derive(Serialize, Deserialize)]
enum Response {
    Append(AppendEntriesResponse<NodeId>),
    Vote(VoteResponse<NodeId>),
    /// There are pieces to come.
    Taken,
    Snapshot(SnapshotResponse<NodeId>),
    Failed(String),
}

/// Makes links for openraft. Cheap: nothing is connected here.
pub(crate) struct Links {
    pub network: Arc<dyn Network>,
    pub repository: RepositoryId,
    pub node: NodeId,
    /// How long to leave a node alone that could not be reached.
    pub backoff: Duration,
}

pub(crate) struct Link {
    network: Arc<dyn Network>,
    repository: RepositoryId,
    from: NodeId,
    to: NodeId,
    key: PeerKey,
    backoff: Duration,
}

impl RaftNetworkFactory<TypeConfig> for Links {
    type Network = Link;

    async fn new_client(&mut self, to: NodeId, node: &RaftNode) -> Link {
        let network = Arc::clone(&self.network);
        Link { network, repository: self.repository, from: self.node, to, key: node.key, backoff: self.backoff }
    }
}

impl Link {
    /// Whatever goes wrong, the node counts as out of reach for a moment: openraft asks again at once otherwise.
    async fn call(&self, class: Class, request: Request, deadline: Duration) -> Result<Response, Unreachable> {
        let unreachable = |cause: String| Unreachable::new(&AnyError::error(cause));
        let envelope = Envelope { repository: self.repository, from: self.from, to: self.to, request };
        let to = Recipient { node: self.to, key: self.key, class };
        let sending = self.network.send(to, encode(&envelope), deadline);
        match tokio::time::timeout(deadline, sending).await {
            Err(_) => Err(unreachable(SendError::TimedOut.to_string())),
            Ok(Err(error)) => Err(unreachable(error.to_string())),
            Ok(Ok(bytes)) => match decode(&bytes) {
                Ok(Response::Failed(cause)) => Err(unreachable(cause)),
                Ok(response) => Ok(response),
                Err(cause) => Err(unreachable(format!("no answer: {cause}"))),
            },
        }
    }
}

impl Link {
    /// Sends a state piece by piece. Each has the deadline: what goes on may take its time, what stalls may not.
    async fn send_pieces(
        &self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        deadline: Duration,
    ) -> Result<SnapshotResponse<NodeId>, Unreachable> {
        let Snapshot { meta, snapshot: data } = snapshot;
        let mut offset = 0;
        loop {
            let end = data.len().min(offset + PIECE_LEN);
            let piece = Piece {
                vote,
                meta: meta.clone(),
                len: data.len() as u64,
                offset: offset as u64,
                data: data[offset..end].to_vec(),
            };
            match self.call(Class::Snapshot, Request::Piece(piece), deadline).await? {
                Response::Snapshot(response) => return Ok(response),
                Response::Taken if end < data.len() => offset = end,
                _ => return Err(unexpected()),
            }
        }
    }
}

fn unexpected() -> Unreachable {
    Unreachable::new(&AnyError::error("an answer to something else"))
}

type CallError = RPCError<NodeId, RaftNode, RaftError<NodeId>>;

impl RaftNetwork<TypeConfig> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        match self.call(Class::Append, Request::Append(request), option.hard_ttl()).await {
            Ok(Response::Append(response)) => Ok(response),
            Ok(_) => Err(RPCError::Unreachable(unexpected())),
            Err(error) => Err(RPCError::Unreachable(error)),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        match self.call(Class::Vote, Request::Vote(request), option.hard_ttl()).await {
            Ok(Response::Vote(response)) => Ok(response),
            Ok(_) => Err(RPCError::Unreachable(unexpected())),
            Err(error) => Err(RPCError::Unreachable(error)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<TypeConfig, Fatal<NodeId>>> {
        // openraft does not end this by itself.
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = self.send_pieces(vote, snapshot, option.hard_ttl()) => sent.map_err(StreamingError::Unreachable),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.backoff))
    }
}
