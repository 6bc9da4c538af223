//! What can go wrong, one enum for each family of calls.

use std::io;
use std::path::PathBuf;

use crate::hash::{ContentHash, Kind};

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum GetError {
    /// No pack holds it.
    #[error("object {0} is missing")]
    Missing(ContentHash),
    /// Its bytes are there, and wrong: nothing of them is handed out.
    #[error("object {id} is damaged: {place}: {cause}")]
    Corrupt {
        /// What was asked for.
        id: ContentHash,
        /// The pack and the offset of the frame.
        place: String,
        /// What does not fit.
        cause: String,
    },
    /// It is an object of another kind than the one asked for.
    #[error("object {id} has kind {found:?}, not {wanted:?}")]
    WrongKind {
        /// What was asked for.
        id: ContentHash,
        /// The kind that the referrer says.
        wanted: Kind,
        /// The kind that it has.
        found: Kind,
    },
    /// The system refused.
    #[error("cannot read: {path}: {source}", path = path.display())]
    Io {
        /// What was read.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The index cannot be read.
    #[error("index: {0}")]
    Index(String),
}

impl GetError {
    /// Whether the store is damaged, rather than the system unwilling.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::Corrupt { .. } | Self::WrongKind { .. })
    }
}

/// Why nothing more can be stored.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The system refused.
    #[error("cannot write: {path}: {source}", path = path.display())]
    Io {
        /// What was written.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// A frame did not decompress to what went in: a bug or bad memory. Nothing of it was stored.
    #[error("compression could not be verified: {0}")]
    Unverified(String),
    /// An earlier write or sync failed: what is on disk is no longer known. Open the store again.
    #[error("the store stopped after an earlier error: {0}")]
    Poisoned(String),
    /// The index cannot be read or written.
    #[error("index: {0}")]
    Index(String),
    /// An object is larger or of another kind than the format allows: our own mistake, reported and not stored.
    #[error("object of kind {kind:?} with {len} bytes cannot be stored")]
    Unstorable {
        /// Its kind.
        kind: Kind,
        /// Its length in bytes.
        len: usize,
    },
    /// Opened for reading only.
    #[error("the store is open for reading only")]
    ReadOnly,
    /// What a change builds on cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
}

/// Why a store does not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no store here.
    #[error("{0}: no repository here")]
    NotFound(PathBuf),
    /// There is one already.
    #[error("{0}: a repository is already there")]
    Exists(PathBuf),
    /// Another process writes.
    #[error("store is busy: {0}")]
    Busy(String),
    /// A file that cannot be derived again is damaged.
    #[error("{path}: damaged: {cause}", path = path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What does not fit.
        cause: String,
    },
    /// Written by a newer version.
    #[error("{path}: {cause}", path = path.display())]
    Unsupported {
        /// Which file.
        path: PathBuf,
        /// The word or version that is not known.
        cause: String,
    },
    /// The system refused.
    #[error("cannot open: {path}: {source}", path = path.display())]
    Io {
        /// What was opened.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// The index can be neither opened nor built again.
    #[error("index: {0}")]
    Index(String),
}
