//! What can go wrong. Damage names the object; our own mistakes have variants of their own.

use filesync_cas::{ContentHash, GetError, Kind, PutError};

use crate::path::RepoPath;

/// Bytes that are not the canonical encoding of anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what} (at byte {offset})")]
pub struct DecodeError {
    /// What does not fit.
    pub what: &'static str,
    /// Where the decoder stood.
    pub offset: usize,
}

/// A value that the format has no encoding for: a mistake of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidError(pub &'static str);

/// Why a tree, list or history could not be read.
#[derive(Debug, thiserror::Error)]
pub enum WalkError {
    /// The source does not give the node.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The node is there, and not in canonical form.
    #[error("object {id} of kind {kind:?} is malformed: {cause}")]
    Malformed {
        /// What kind it was taken for.
        kind: Kind,
        /// Which object.
        id: ContentHash,
        /// What does not fit.
        cause: DecodeError,
    },
    /// The node is well formed, and not what its parent or its neighbours say.
    #[error("object {id} of kind {kind:?} does not fit: {what}")]
    Mismatch {
        /// What kind it has.
        kind: Kind,
        /// Which object.
        id: ContentHash,
        /// What does not fit.
        what: &'static str,
    },
    /// Directories are nested too deeply.
    #[error("directory {id} is nested more than {max} levels deep")]
    TooDeep {
        /// The first directory that is too deep.
        id: ContentHash,
        /// How many levels are allowed.
        max: usize,
    },
}

impl WalkError {
    /// Whether the store is damaged, rather than the system unwilling.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Get(cause) => cause.is_damage(),
            Self::Malformed { .. } | Self::Mismatch { .. } | Self::TooDeep { .. } => true,
        }
    }

    /// The object that it is about, where it is about one.
    pub fn id(&self) -> Option<ContentHash> {
        match self {
            Self::Get(GetError::Missing(id)) => Some(*id),
            Self::Get(GetError::Corrupt { id, .. } | GetError::WrongKind { id, .. }) => Some(*id),
            Self::Get(_) => None,
            Self::Malformed { id, .. } | Self::Mismatch { id, .. } | Self::TooDeep { id, .. } => Some(*id),
        }
    }
}

/// Why a change could not be made.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// What the change builds on cannot be read.
    #[error(transparent)]
    Walk(#[from] WalkError),
    /// A new node cannot be stored.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The format has no encoding for the value.
    #[error("{0}")]
    Invalid(#[from] InvalidError),
    /// Changes are not in strictly ascending order: a mistake of the caller.
    #[error("changes are not in ascending order at {0}")]
    Order(RepoPath),
    /// Something is to stand below a path where no directory is.
    #[error("{0}: not a directory")]
    NotADirectory(RepoPath),
}
