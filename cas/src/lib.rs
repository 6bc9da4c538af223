//! Content-addressed storage: bytes in, hashes out.
//!
//! A [`Store`] keeps immutable objects, named by the BLAKE3 of their bytes, in append-only packs, and a head
//! that moves from one to the next. It promises that what was acknowledged survives a crash at any system
//! call and a power cut that loses everything not synced (G1, G5 of `docs/guarantees.md`), and that no byte
//! is handed out that does not have the hash it was asked for by (G6).
//!
//! What it does not know: what metadata objects mean ([`Schema`] tells it what they refer to), peers, working
//! copies, the terminal. [`vfs`] is the only place that syncs.

pub mod chunker;
pub mod damaged;
pub mod error;
pub mod frame;
pub mod fsck;
pub mod hash;
pub mod head;
pub mod index;
pub mod lock;
pub mod pack;
pub mod params;
pub mod pin;
pub mod rows;
pub mod small_file;
pub mod store;
pub mod testing;
pub mod vfs;

pub use chunker::Chunker;
pub use error::{GetError, OpenError, PutError};
pub use hash::{ContentHash, Kind, Schema};
pub use params::{ChunkSizes, Codec, Params};
pub use store::{Claim, Object, Place, Session, SessionStats, Store};
