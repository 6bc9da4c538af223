//! What can go wrong, one enum for each family of calls.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::command::Refusal;
use crate::ids::{LogIndex, NodeId};

/// Why the log does not open. In each case the node does not vote.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The node is a member, and what it promised as one is gone.
    #[error(
        "{dir}: the state of the replicated log is missing, so this node must not vote: it may have voted before. \
         Remove it on another member (filesync peers remove) and join again",
        dir = .0.display()
    )]
    Missing(PathBuf),
    /// There is something already.
    #[error("{dir}: not empty", dir = .0.display())]
    Exists(PathBuf),
    /// What is there cannot be trusted.
    #[error(
        "{dir}: the state of the replicated log is damaged, so this node must not vote: {cause}. \
         Remove it on another member (filesync peers remove) and join again",
        dir = dir.display()
    )]
    Damaged {
        /// Where.
        dir: PathBuf,
        /// What does not fit.
        cause: String,
    },
    /// It is a copy, or was moved to another file system.
    #[error(
        "{dir}: this is not the directory that the node wrote to; is it a copy, or a restored backup? If the original \
         is gone and was not used since, say so: filesync serve --moved",
        dir = .0.display()
    )]
    Moved(PathBuf),
    /// It belongs to another repository or node.
    #[error("{dir}: belongs to {found}", dir = dir.display())]
    Foreign {
        /// Where.
        dir: PathBuf,
        /// Whose it is.
        found: String,
    },
    /// Written by a newer version.
    #[error("{dir}: {cause}", dir = dir.display())]
    Unsupported {
        /// Where.
        dir: PathBuf,
        /// What is not known.
        cause: String,
    },
    /// Another process has it.
    #[error("{dir}: in use by another process", dir = .0.display())]
    Busy(PathBuf),
    /// The system refused.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The settings make no sense.
    #[error("cannot start the replicated log: {0}")]
    Options(String),
}

/// Why a command was not carried out, or may not have been.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Somebody else leads: ask there.
    #[error("another node leads")]
    NotLeader {
        /// Who, if that is known.
        leader: Option<NodeId>,
    },
    /// The state machine said no: nothing changed, and this is final.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// No answer in time. It may have been done, or may still be.
    #[error("no answer from a majority of the voters within {0:?}: the outcome is unknown")]
    Unknown(Duration),
    /// More is waiting than can be taken. Nothing was done.
    #[error("too much is waiting to be written to the log")]
    Busy,
    /// The log has stopped.
    #[error("the replicated log stopped: {0}")]
    Stopped(String),
}

/// The state, or a note, could not be brought to disk. Nothing is written after that: the log stops, and the process must end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot write the state of the replicated log: {0}")]
pub struct FlushError(pub String);

/// Why it is not known what is true now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Somebody else leads: ask there.
    #[error("another node leads")]
    NotLeader {
        /// Who, if that is known.
        leader: Option<NodeId>,
    },
    /// No majority answered.
    #[error("no answer from a majority of the voters within {0:?}")]
    TimedOut(Duration),
    /// This node is behind.
    #[error("entry {wanted} was not applied within {waited:?}")]
    Behind {
        /// Which entry.
        wanted: LogIndex,
        /// How long that was.
        waited: Duration,
    },
    /// The log has stopped.
    #[error("the replicated log stopped: {0}")]
    Stopped(String),
}

/// Why a message had no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// The node cannot be reached at all at the moment.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    TimedOut,
}

/// Why a message was not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// It is no message.
    #[error("not a message: {0}")]
    Malformed(String),
    /// It is for another repository, or another node.
    #[error("for another node")]
    Misdirected,
    /// The sender is nobody who takes part.
    #[error("node {0} takes no part in the log")]
    Stranger(NodeId),
    /// The log has stopped.
    #[error("the replicated log stopped: {0}")]
    Stopped(String),
}
