//! Content-addressed storage: bytes in, hashes out.
pub mod error;
pub mod hash;
pub mod rows;
pub use error::{GetError, OpenError, PutError};
pub use hash::{ContentHash, Kind, Schema};
