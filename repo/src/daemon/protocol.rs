//! What goes over the control socket: HTTP/1.1, JSON bodies. `docs/control.md` describes it.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::Error;
use crate::request::{Answer, Event, Request};

/// Daemon and commands are parts of one program: they speak to each other only if they are of one version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The header that tells the client's version.
pub const VERSION_HEADER: &str = "filesync-version";
/// The longest request: all words of a command line, and room.
pub const REQUEST_LEN_MAX: usize = 16 << 20;

/// Where a command goes (POST): an [`Envelope`] in, [`Line`]s out.
pub const COMMAND: &str = "/v1/command";
/// Where the wish goes that a command stops (POST): its id.
pub const CANCEL: &str = "/v1/cancel";
/// Where the wish goes that the daemon ends (POST).
pub const STOP: &str = "/v1/stop";
/// Who is there (GET): a [`Hello`].
pub const HELLO: &str = "/v1/hello";

/// A command with what belongs to it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Envelope {
    /// Names this command; chosen by the client, at random.
    pub id: String,
    /// How long it waits for others that write.
    pub lock_timeout: Duration,
    /// Whether the client wants to hear of more than warnings.
    pub progress: bool,
    /// What is asked.
    pub asked: Asked,
}

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asked {
    /// A command of the repository.
    Command(Request),
    /// A request for a part of the daemon.
    Part {
        /// Which.
        name: String,
        /// What it takes.
        body: Value,
    },
}

impl Asked {
    /// The command, for those who wait for it.
    pub fn word(&self) -> &str {
        match self {
            Self::Command(request) => request.word(),
            Self::Part { name, .. } => name,
        }
    }
}

/// What comes of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Given {
    /// Of a command.
    Command(Answer),
    /// Of a part's request.
    Part(Value),
}

/// A line of the answer: events, and one result or error as the last.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// Something happened.
    Event(Event),
    /// It is done.
    Result(Given),
    /// It failed.
    Error(Error),
}

/// Who is there.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Where it answers HTTP.
    #[serde(default)]
    pub http: Option<String>,
}
