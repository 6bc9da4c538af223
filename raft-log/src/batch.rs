//! Many proposals, one entry.
//!
//! openraft 0.9 writes entry by entry, and syncs each. So what comes while one is being written, or within a moment,
//! goes into the next together.

use std::sync::Arc;
use std::time::Duration;

use openraft::error::{ClientWriteError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::command::{Batch, Command, Outcome};
use crate::error::ProposeError;
use crate::ids::{Millis, NodeId};
use crate::tries::Tries;
use crate::types::{Raft, RaftNode, encode};

/// The most commands of an entry.
const COMMANDS_MAX: usize = 512;
/// About the most bytes of an entry.
const LEN_MAX: usize = 256 << 10;

/// Where time comes from. Tests have a clock of their own.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// A command, and who waits for its outcome.
#[derive(Debug)]
pub struct Waiting {
    pub command: Command,
    pub answer: oneshot::Sender<Result<Outcome, ProposeError>>,
}

/// Writes what comes, until nobody can send any more.
pub struct Proposer {
    pub raft: Raft,
    pub tries: Arc<Tries>,
    pub clock: Clock,
    /// How long to wait for more once there is something.
    pub linger: Duration,
    /// How long to wait for an entry. Then the next is tried: this one may still come.
    pub deadline: Duration,
}

impl Proposer {
    pub async fn run(self, mut queue: mpsc::Receiver<Waiting>) {
        // One that comes alone need not wait for others; where there were several, there will be more.
        let mut was_shared = false;
        while let Some(first) = queue.recv().await {
            let linger = if was_shared { self.linger } else { Duration::ZERO };
            let batch = self.gather(first, &mut queue, linger).await;
            was_shared = batch.len() > 1;
            let (commands, answers): (Vec<_>, Vec<_>) =
                batch.into_iter().map(|waiting| (waiting.command, waiting.answer)).unzip();
            if commands.is_empty() {
                continue;
            }
            match self.write(commands).await {
                Ok(outcomes) => {
                    for (answer, outcome) in answers.into_iter().zip(outcomes) {
                        // Nobody waits any more: the log has it all the same.
                        drop(answer.send(Ok(outcome)));
                    }
                }
                Err(error) => answers.into_iter().for_each(|answer| drop(answer.send(Err(error.clone())))),
            }
        }
    }

    async fn gather(&self, first: Waiting, queue: &mut mpsc::Receiver<Waiting>, linger: Duration) -> Vec<Waiting> {
        let mut batch = Vec::new();
        let mut len = 0;
        let mut add = |batch: &mut Vec<Waiting>, waiting: Waiting| {
            // Who stopped waiting before anything was proposed need not have it done.
            if waiting.answer.is_closed() {
                if let Command::Publish(publish) = &waiting.command {
                    publish.receipts.iter().for_each(|receipts| self.tries.forget(receipts.nonce));
                }
                return true;
            }
            len += encode(&waiting.command).len();
            batch.push(waiting);
            batch.len() < COMMANDS_MAX && len < LEN_MAX
        };
        let mut may_grow = add(&mut batch, first);
        let until = tokio::time::Instant::now() + linger;
        while may_grow {
            // What is there already is taken even when the time is over.
            match tokio::time::timeout_at(until, queue.recv()).await {
                Ok(Some(waiting)) => may_grow = add(&mut batch, waiting),
                Ok(None) | Err(_) => break,
            }
        }
        batch
    }

    async fn write(&self, commands: Vec<Command>) -> Result<Vec<Outcome>, ProposeError> {
        let batch = Batch { now: (self.clock)(), commands };
        match tokio::time::timeout(self.deadline, self.raft.client_write(batch)).await {
            Ok(Ok(written)) => Ok(written.data.0),
            Ok(Err(error)) => Err(propose_error(&error)),
            Err(_) => Err(ProposeError::Unknown(self.deadline)),
        }
    }
}

/// In our words.
pub fn propose_error(error: &RaftError<NodeId, ClientWriteError<NodeId, RaftNode>>) -> ProposeError {
    match error {
        RaftError::APIError(ClientWriteError::ForwardToLeader(forward)) => {
            ProposeError::NotLeader { leader: forward.leader_id }
        }
        other => ProposeError::Stopped(other.to_string()),
    }
}
