//! `tag` as data.

use filesync_merkle::CommitId;
use serde::{Deserialize, Serialize};

use super::wire;

/// `tag`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum TagRequest {
    /// All tags.
    List,
    /// Makes one. Needs a writer.
    Make {
        /// What it is called.
        name: String,
        /// What it names; the head if not said.
        rev: Option<String>,
        /// Moves one that is there.
        force: bool,
    },
    /// Removes one. Needs a writer.
    Delete {
        /// Which.
        name: String,
    },
}

/// A tag: one that is there, was made, or is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The commit that it names; none if it was removed and could not be read.
    #[serde(with = "wire")]
    pub commit: Option<CommitId>,
    /// What it named before it was moved.
    #[serde(with = "wire")]
    pub was: Option<CommitId>,
}
