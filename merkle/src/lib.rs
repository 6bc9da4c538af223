//! Objects over hashes: directories and files as Merkle trees, commits, history.
//!
//! Promise: one value has one form. A directory's root depends on its entries alone and not on how they came to be
//! there; a decoder accepts nothing that would be encoded otherwise; whatever the bytes, nothing here panics, recurses
//! with the depth of the data, or allocates by a number that it read.
//!
//! `docs/format.md`, section 1, rules every byte. Not known here: disks, clocks, networks, signatures. Objects come from
//! a [`NodeSource`], which verifies what it gives, and go to a [`NodeSink`].
//!
//! ```
//! use filesync_merkle::{Content, Entry, Mode, Node, RepoPath, Timestamp, edit_paths, lookup, testing::MemoryStore};
//!
//! let store = MemoryStore::new();
//! let path = RepoPath::parse(b"readme")?;
//! let mtime = Timestamp::default();
//! let file = Entry { mode: Mode::FILE, attrs: None, node: Node::File { mtime, size: 0, content: Content::Empty } };
//! let root = edit_paths(&store, &mut &store, None, [(path.clone(), Some(file.clone()))])?;
//! assert_eq!(lookup(&store, &root, &path)?, Some(file));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

pub mod ancestry;
pub mod attrs;
pub mod codec;
pub mod commit;
mod cut;
pub mod diff;
pub mod edit;
pub mod entry;
pub mod error;
mod finder;
pub mod history;
pub mod id;
pub mod list;
pub mod merge;
mod parts;
pub mod path;
pub mod pubs;
pub mod read;
pub mod schema;
mod source;
pub mod testing;
pub mod trail;
pub mod tree;
pub mod walk;

pub use ancestry::{is_ancestor, merge_base};
pub use attrs::Attrs;
pub use commit::Commit;
pub use diff::{Change, Diff, diff};
pub use edit::{TreeEditor, edit_paths};
pub use entry::{Content, Entry, Mode, Node, Timestamp, Totals, TreeLink};
pub use error::{DecodeError, EditError, InvalidError, WalkError};
pub use finder::Finder;
pub use history::{Ancestors, FirstParents};
pub use id::{ATTRS, AttrsId, COMMIT, ChunkId, CommitId, LIST, ListId, PUB, PubId, TREE, TreeId};
pub use list::{ListBuilder, ListChunk, ListNode, ListReader};
pub use merge::{Conflict, ConflictKind, ConflictTag, Merged, Plan, Sides, Strategy, merge};
pub use parts::{Follow, Part, Parts, Way};
pub use path::{Name, RepoPath, walk_order};
pub use pubs::Pub;
pub use read::{DirCursor, lookup};
pub use schema::MerkleSchema;
pub use source::{NodeSink, NodeSource};
pub use trail::{Touch, Touches, Trail};
pub use tree::{Link, TreeNode};
pub use walk::{Walk, WalkVisitor};
