//! What comes from other nodes: checked, then handed to openraft.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use openraft::Snapshot;

use super::{Envelope, Incoming, MESSAGE_LEN_MAX, Request, Response};
use crate::error::HandleError;
use crate::ids::{NodeId, PeerKey, RepositoryId};
use crate::store::Memory;
use crate::types::{Raft, decode, encode};

/// How the receiver of a message knows its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sender {
    /// The key that it has shown.
    pub key: PeerKey,
    /// The member whose key that is, as the receiver was told by a member that it does know: by a later state than its own
    /// log has, maybe. Who comes late is sent the log from its beginning, by a leader of whom that does not speak yet.
    pub known_as: Option<NodeId>,
}

/// What a receiver knows of itself.
pub(crate) struct Receiver<'a> {
    pub raft: &'a Raft,
    pub memory: &'a Memory,
    /// A state of which pieces have come.
    pub incoming: &'a Mutex<Option<Incoming>>,
    pub repository: RepositoryId,
    pub node: NodeId,
    pub deadline: Duration,
}

impl Receiver<'_> {
    /// Answers a message. Never takes longer than the deadline, but for work that has begun on disk.
    pub async fn handle(&self, sender: Sender, message: &[u8]) -> Result<Vec<u8>, HandleError> {
        if message.len() > MESSAGE_LEN_MAX {
            return Err(HandleError::Malformed(format!("{} bytes", message.len())));
        }
        let envelope: Envelope = decode(message).map_err(HandleError::Malformed)?;
        if (envelope.repository, envelope.to) != (self.repository, self.node) {
            return Err(HandleError::Misdirected);
        }
        if !self.takes_part(envelope.from, sender) {
            return Err(HandleError::Stranger(envelope.from));
        }
        // Nobody votes or leads in another's name.
        if envelope.request.speaker() != envelope.from {
            return Err(HandleError::Stranger(envelope.request.speaker()));
        }
        let answering = self.answer(envelope.request);
        let response = tokio::time::timeout(self.deadline, answering).await;
        Ok(encode(&response.unwrap_or_else(|_| Response::Failed("busy".to_owned()))))
    }

    /// A number is its key's, by Raft's own table. Of whom that says nothing, the state does that the receiver was told. A
    /// node that has no table yet was let in by who carries the message.
    fn takes_part(&self, from: NodeId, sender: Sender) -> bool {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        match membership.get_node(&from) {
            Some(node) => node.key == sender.key,
            None => sender.known_as == Some(from) || membership.nodes().next().is_none(),
        }
    }

    async fn answer(&self, request: Request) -> Response {
        let failed = |error: String| Response::Failed(error);
        match request {
            Request::Append(request) => match self.raft.append_entries(request).await {
                Ok(response) => Response::Append(response),
                Err(error) => failed(error.to_string()),
            },
            Request::Vote(request) => match self.raft.vote(request).await {
                Ok(response) => Response::Vote(response),
                Err(error) => failed(error.to_string()),
            },
            Request::Piece(piece) => {
                let taken = Incoming::take(&mut self.incoming.lock().unwrap_or_else(PoisonError::into_inner), piece);
                match taken {
                    Err(cause) => failed(cause),
                    Ok(None) => Response::Taken,
                    Ok(Some(whole)) => self.install(whole).await,
                }
            }
        }
    }

    async fn install(&self, whole: Incoming) -> Response {
        let Incoming { vote, meta, data, .. } = whole;
        // What openraft gets and cannot install ends this node: one that is newer, or of another repository.
        if let Err(cause) = self.memory.offer(&meta, &data) {
            return Response::Failed(cause);
        }
        match self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot: Box::new(data) }).await {
            Ok(response) => Response::Snapshot(response),
            Err(error) => Response::Failed(error.to_string()),
        }
    }
}
