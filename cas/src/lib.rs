//! Content-addressed storage: bytes in, hashes out.
//!
//! A [`Store`] keeps immutable objects, named by the BLAKE3 of their bytes, in append-only packs, and a head
//! that moves from one to the next. It promises that what was acknowledged survives a crash at any system
//! call and a power cut that loses everything not synced (G1, G5 of `docs/guarantees.md`), and that no byte
//! is handed out that does not have the hash it was asked for by (G6).
//!
//! What it does not know: what metadata objects mean ([`Schema`] tells it what they refer to), peers, working
//! copies, the terminal. [`vfs`] is the only place that syncs.
//!
//! ```
//! use std::{sync::Arc, time::Duration};
//! use filesync_cas::{rows::RowBatch, vfs::RealVfs};
//! use filesync_cas::{ChunkSizes, Codec, ContentHash, Kind, Params, Place, Schema, Store};
//!
//! /// No metadata: chunks are all there is.
//! #[derive(Debug)]
//! struct ChunksOnly;
//! impl Schema for ChunksOnly {
//!     fn context(&self, _: Kind) -> Option<&'static str> {
//!         None
//!     }
//!     fn name(&self, _: Kind) -> &'static str {
//!         "chunk"
//!     }
//!     fn children(&self, _: Kind, _: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
//!         Ok(Vec::new())
//!     }
//! }
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(filesync_cas::vfs::temp_name()?);
//! # std::fs::create_dir(&dir)?;
//! let place = || -> std::io::Result<Place> {
//!     let vfs = Arc::new(RealVfs::open(&dir)?);
//!     Ok(Place { vfs, index_dir: dir.join("index"), lock_dir: Some(dir.clone()) })
//! };
//! let repository = ContentHash::of_chunk(b"names this repository on every machine");
//! Store::create(&place()?, &Params::new(repository, ChunkSizes::default(), Codec::Zstd))?;
//!
//! let store = Store::open_writer(place()?, Arc::new(ChunksOnly), "example", Duration::ZERO)?;
//! let session = store.session()?;
//! let mut writer = session.writer();
//! let id = writer.store(Kind::CHUNK, b"some bytes")?;
//! writer.flush()?;
//! drop(writer);
//! session.finish(Some(id), RowBatch::default())?; // durable from here on
//! drop(store);
//!
//! let store = Store::open_reader(place()?, Arc::new(ChunksOnly))?;
//! assert_eq!(store.head(), Some(id));
//! assert_eq!(&store.get(Kind::CHUNK, &id)?[..], b"some bytes");
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```

mod chance;
pub mod chunker;
mod cores;
pub mod damaged;
pub mod error;
pub mod frame;
pub mod fsck;
#[cfg(test)]
mod fuzz;
pub mod gc;
pub mod hash;
pub mod head;
pub mod index;
pub mod lock;
pub mod pack;
pub mod params;
pub mod pin;
pub mod relay;
pub mod rows;
pub mod small_file;
pub mod spare;
pub mod store;
pub mod testing;
#[cfg(test)]
mod vectors;
pub mod vfs;

pub use chunker::Chunker;
pub use cores::cores;
pub use error::{GetError, OpenError, PutError};
pub use hash::{ContentHash, Kind, Schema};
pub use params::{ChunkSizes, Codec, Params};
pub use store::{Claim, Object, Place, Session, SessionStats, Store};
