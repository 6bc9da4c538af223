//! What went wrong, as one line: what failed, on what, why.

use std::fmt;
use std::io;
use std::path::Path;

use filesync_cas::rows::RowError;
use filesync_cas::{GetError, OpenError, PutError};
use filesync_merkle::{EditError, InvalidError, WalkError};
use serde::{Deserialize, Serialize};

use crate::scan::ScanError;

/// What sort of failure it is: decides the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ErrorKind {
    /// It could not be done.
    Failed,
    /// The request makes no sense.
    Usage,
    /// Another command writes.
    Busy,
    /// The store is damaged.
    Damage,
    /// A revision, path or repository that is not there.
    NotFound,
    /// This partial copy does not have it.
    Absent,
    /// The user asked to stop.
    Cancelled,
    /// No majority of the voters, or nobody at all, could be reached.
    NoQuorum,
    /// It is not known whether it was done.
    Unknown,
    /// The cluster decided that it is not to be done.
    Refused,
}

/// Why a command failed. Shown as `what failed: path or peer: cause`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
}

impl Error {
    /// A failure with its message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None }
    }

    /// A failure of the system, in its own words.
    pub fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        Self::new(ErrorKind::Failed, format!("{what}: {error}"))
    }

    /// As [`Self::io`], for a path.
    pub fn path(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::io(format_args!("{what}: {}", path.display()), error)
    }

    /// Says first what was being done.
    #[must_use]
    pub fn during(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Adds what the user could do.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What sort of failure it is.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// What the user could do.
    pub fn hint(&self) -> Option<String> {
        self.hint.clone()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::new(ErrorKind::Failed, error.to_string())
    }
}

impl From<GetError> for Error {
    fn from(error: GetError) -> Self {
        let kind = if error.is_damage() { ErrorKind::Damage } else { ErrorKind::Failed };
        Self::new(kind, error.to_string())
    }
}

impl From<PutError> for Error {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Get(error) => error.into(),
            other => Self::new(ErrorKind::Failed, other.to_string()),
        }
    }
}

impl From<OpenError> for Error {
    fn from(error: OpenError) -> Self {
        let kind = match &error {
            OpenError::NotFound(_) => ErrorKind::NotFound,
            OpenError::Busy(_) => ErrorKind::Busy,
            OpenError::Damaged { .. } => ErrorKind::Damage,
            _ => ErrorKind::Failed,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<WalkError> for Error {
    fn from(error: WalkError) -> Self {
        let kind = if error.is_damage() { ErrorKind::Damage } else { ErrorKind::Failed };
        Self::new(kind, error.to_string())
    }
}

impl From<EditError> for Error {
    fn from(error: EditError) -> Self {
        match error {
            EditError::Walk(error) => error.into(),
            EditError::Put(error) => error.into(),
            other => Self::new(ErrorKind::Failed, other.to_string()),
        }
    }
}

impl From<ScanError> for Error {
    fn from(error: ScanError) -> Self {
        Self::new(ErrorKind::Failed, error.to_string())
    }
}

impl From<RowError> for Error {
    fn from(error: RowError) -> Self {
        Self::new(ErrorKind::Failed, error.to_string())
    }
}

impl From<InvalidError> for Error {
    fn from(error: InvalidError) -> Self {
        Self::new(ErrorKind::Failed, error.to_string())
    }
}
