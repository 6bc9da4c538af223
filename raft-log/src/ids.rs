//! Names of nodes, keys, commits and refs, each a type of its own. All are plain values: what they stand for is
//! known to others.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! bytes_of_32 {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0[..8].iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    };
}

bytes_of_32! {
    /// Names an object: a commit that a ref points at, or a step in the order of publishes.
    Id
}
bytes_of_32! {
    /// A node's Ed25519 public key: who it is on the network, and whose signature a commit bears.
    PeerKey
}
bytes_of_32! {
    /// An invite's Ed25519 public key. The secret half is in the invite.
    InviteKey
}
bytes_of_32! {
    /// Which repository. The same on every machine.
    RepositoryId
}

/// An Ed25519 signature.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signature(pub Vec<u8>);

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A member, by the number that it was admitted under. Numbers begin with 1 and are never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct NodeId(pub u64);

impl From<u64> for NodeId {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// One leadership: nobody else ever leads under it, and later ones are greater.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LeaderId {
    /// Raft's term.
    pub term: u64,
    /// Who leads.
    pub node: NodeId,
}

/// A place in the log. The first is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct LogIndex(pub u64);

impl fmt::Display for LogIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Where an entry stands, and who put it there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Position {
    /// The leadership under which it was proposed. Never falls along the log.
    pub leader: LeaderId,
    /// Its place.
    pub index: LogIndex,
}

/// Milliseconds since 1970, as some node's clock had them. Decides only what wants a date: the end of an invite.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct Millis(pub u64);

/// The name of a ref: `main`, or that of a tag. 1 to 255 bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RefName(String);

/// A name that no ref can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the name of a ref has 1 to {REF_LEN_MAX} bytes and no control characters, not {0:?}")]
pub struct RefNameError(String);

/// The name of the ref that all follow.
pub const MAIN: &str = "main";

/// The longest name of a ref.
pub const REF_LEN_MAX: usize = 255;

impl RefName {
    /// Checks a name.
    pub fn new(name: &str) -> Result<Self, RefNameError> {
        Self::try_from(name.to_owned())
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for RefName {
    type Error = RefNameError;

    fn try_from(name: String) -> Result<Self, RefNameError> {
        let fits = (1..=REF_LEN_MAX).contains(&name.len()) && !name.contains(char::is_control);
        if fits { Ok(Self(name)) } else { Err(RefNameError(name.chars().take(40).collect())) }
    }
}

impl From<RefName> for String {
    fn from(name: RefName) -> Self {
        name.0
    }
}
