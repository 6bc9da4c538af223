//! What can go wrong between peers.

use filesync_cas::{ContentHash, GetError, Kind, PutError};
use filesync_merkle::{DecodeError, WalkError};

use crate::peer::PeerKey;

/// A peer broke the protocol. The stream ends; nothing is repaired.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A length above the limit. Nothing was allocated for it.
    #[error("a message of {len} bytes, where {max} are allowed")]
    TooLong {
        /// What was announced.
        len: u64,
        /// What is allowed.
        max: usize,
    },
    /// A type that does not exist, or may not come now.
    #[error("a message of type {0}, which may not come now")]
    Unexpected(u8),
    /// Not the canonical encoding of anything.
    #[error("a malformed message of type {kind}: {cause}")]
    Malformed {
        /// The type.
        kind: u8,
        /// What does not fit.
        cause: DecodeError,
    },
    /// It took too long.
    #[error("{0} took too long")]
    TooSlow(&'static str),
    /// Bytes or objects that were not asked for, or are not what they should be.
    #[error("a lie: {0}")]
    Lie(String),
}

/// Why a request was not answered. Its code travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No common version.
    #[error("no common version of the protocol")]
    Version,
    /// Another repository.
    #[error("it serves another repository")]
    Repository,
    /// Another epoch.
    #[error("it belongs to another epoch of the cluster")]
    Epoch,
    /// Two processes with one identity.
    #[error("another process with our identity is connected to it")]
    Twin,
    /// Not a member, or not in this role.
    #[error("it does not take us for a member who may ask this")]
    Stranger,
    /// A limit is reached.
    #[error("it is busy")]
    Busy,
    /// Absent or forbidden.
    #[error("it does not have that, or does not let us have it")]
    Nothing,
    /// The base is absent or forbidden.
    #[error("it does not have the base, or does not let us have it")]
    Base,
    /// Its own trouble.
    #[error("it failed")]
    Failed,
}

impl Refusal {
    const ALL: [Refusal; 9] = [
        Refusal::Version,
        Refusal::Repository,
        Refusal::Epoch,
        Refusal::Twin,
        Refusal::Stranger,
        Refusal::Busy,
        Refusal::Nothing,
        Refusal::Base,
        Refusal::Failed,
    ];

    /// The number that travels.
    pub fn code(self) -> u8 {
        let at = Self::ALL.iter().position(|other| *other == self).unwrap_or_default();
        u8::try_from(at + 1).unwrap_or(u8::MAX)
    }

    /// The refusal with a number.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code).checked_sub(1)?).copied()
    }
}

/// Why the order of a walk could not be followed.
#[derive(Debug, thiserror::Error)]
pub enum TourError {
    /// What both sides should have cannot be read here.
    #[error("the base cannot be read: {0}")]
    Base(WalkError),
    /// The object has its hash and is not what it should be: the fault of who made it.
    #[error("object {id} of kind {kind:?} is not acceptable: {cause}")]
    Malformed {
        /// What kind it was taken for.
        kind: Kind,
        /// Which object.
        id: ContentHash,
        /// What does not fit.
        cause: String,
    },
}

/// Why a fetch ended without everything. What had arrived stays in the store.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// Nobody who was asked has it, or lets us have it.
    #[error("object {0} is with none of the peers that were asked")]
    Missing(ContentHash),
    /// Nobody is left to ask.
    #[error("no peer is left to fetch from{}", last.as_ref().map(|(peer, why)| format!(" (last: {peer}: {why})")).unwrap_or_default())]
    NoPeers {
        /// Whom we lost last, and why.
        last: Option<(PeerKey, String)>,
    },
    /// The commit itself is no good.
    #[error(transparent)]
    Tour(#[from] TourError),
    /// Our store cannot take it.
    #[error(transparent)]
    Put(#[from] PutError),
    /// Our store cannot be read.
    #[error(transparent)]
    Get(#[from] GetError),
    /// The caller wanted it to end.
    #[error("interrupted")]
    Cancelled,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_document() {
        for code in 1..=9 {
            assert_eq!(Refusal::from_code(code).map(Refusal::code), Some(code));
        }
        assert_eq!((Refusal::from_code(0), Refusal::from_code(10)), (None, None));
        assert_eq!((Refusal::Version.code(), Refusal::Nothing.code(), Refusal::Failed.code()), (1, 7, 9));
    }
}
