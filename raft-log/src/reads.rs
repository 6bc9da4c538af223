//! Many reads, one question to the voters.
//!
//! openraft asks all voters anew for each read, and queues without a bound. So those who come while a round is under
//! way share the next one: it begins after all of them, and what it finds is true for each.

use std::time::Duration;

use openraft::error::{CheckIsLeaderError, RaftError};
use tokio::sync::{mpsc, oneshot};

use crate::error::ReadError;
use crate::ids::LogIndex;
use crate::types::Raft;

/// Waits for a round.
pub type Reader = oneshot::Sender<Result<LogIndex, ReadError>>;

/// Asks for whoever comes, until nobody can any more.
pub struct Rounds {
    pub raft: Raft,
    /// How long a round may take.
    pub deadline: Duration,
}

impl Rounds {
    pub async fn run(self, mut queue: mpsc::Receiver<Reader>) {
        let mut readers = Vec::new();
        // All that wait now: the round begins after them.
        while queue.recv_many(&mut readers, usize::MAX).await > 0 {
            readers.retain(|reader| !reader.is_closed());
            if readers.is_empty() {
                continue;
            }
            let answer = self.ask().await;
            readers.drain(..).for_each(|reader| drop(reader.send(answer.clone())));
        }
    }

    async fn ask(&self) -> Result<LogIndex, ReadError> {
        match tokio::time::timeout(self.deadline, self.raft.get_read_log_id()).await {
            Err(_) => Err(ReadError::TimedOut(self.deadline)),
            Ok(Ok((read, _))) => Ok(LogIndex(read.map_or(0, |id| id.index))),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(forward)))) => {
                Err(ReadError::NotLeader { leader: forward.leader_id })
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) => {
                Err(ReadError::TimedOut(self.deadline))
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(ReadError::Stopped(fatal.to_string())),
        }
    }
}
