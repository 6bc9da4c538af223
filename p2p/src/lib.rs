//! Verified exchange between peers: who may ask for what, and how the answer comes over the wire.
//!
//! Promise: whatever a peer sends, nothing is stored that does not have the hash it was asked for by, or that was not asked for;
//! whatever it asks, it gets only what [`Access`] lets it have, and costs a bounded amount of memory and time (G8 of
//! `docs/guarantees.md`). `docs/protocol.md` rules every byte.
//!
//! The rules are state machines without sockets and clocks: [`serve::Serving`] answers one stream, [`fetch::Fetch`] gets a closure from
//! several peers. [`transport`] has the sockets, and brings bytes and the time. Not known here: working copies, refs, what the messages of Raft and of the cluster say.

pub mod ask;
pub mod error;
pub mod fetch;
#[cfg(test)]
mod fuzz;
pub mod get;
pub mod guard;
pub mod message;
pub mod pace;
pub mod peer;
pub mod serve;
pub mod source;
pub mod swarm;
pub mod testing;
pub mod tour;
pub mod transport;
pub mod walk;
pub mod wants;
pub mod wire;

pub use error::{FetchError, Refusal, WireError};
pub use fetch::{Fetch, FetchStats, FromPeer, Without};
pub use message::{Message, Status, Walk};
pub use peer::{Access, Class, PeerKey, Role, Root, Scope};
