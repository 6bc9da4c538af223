//! An id for each kind of object, so that none can be taken for another.

use std::fmt;

use filesync_cas::{ContentHash, Kind};

/// A list: the chunks of a file.
pub const LIST: Kind = Kind(2);
/// A node of a directory.
pub const TREE: Kind = Kind(3);
/// A commit.
pub const COMMIT: Kind = Kind(4);
/// One step in the order of publishes.
pub const PUB: Kind = Kind(5);
/// Extended attributes.
pub const ATTRS: Kind = Kind(6);

macro_rules! typed_id {
    ($name:ident, $kind:expr, $what:literal) => {
        #[doc = concat!("The id of ", $what, ".")]
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub ContentHash);

        impl $name {
            /// The kind of the object that it names.
            pub const KIND: Kind = $kind;

            /// Takes bytes that stand where such an id is expected.
            pub const fn from_bytes(bytes: [u8; 32]) -> Self {
                Self(ContentHash::from_bytes(bytes))
            }

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                self.0.as_bytes()
            }
        }

        impl From<$name> for ContentHash {
            fn from(id: $name) -> Self {
                id.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }
    };
}

typed_id!(ChunkId, Kind::CHUNK, "a chunk");
typed_id!(ListId, LIST, "the root node of a list");
typed_id!(TreeId, TREE, "a node of a directory");
typed_id!(CommitId, COMMIT, "a commit");
typed_id!(PubId, PUB, "a pub");
typed_id!(AttrsId, ATTRS, "extended attributes");
