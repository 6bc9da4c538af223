//! Log, vote and state machine on disk, in a RocksDB of their own.
//!
//! Unlike every index, nothing here can be made again from elsewhere: a vote or an entry that was acknowledged and is
//! gone lets two leaders be, or loses what was acknowledged. So every vote, append, truncation and purge is synced
//! before it is acknowledged; what was acknowledged is counted ([`guard`]) and missed at the next open; and damage,
//! another directory than the one written to ([`place`]), or a failed sync end it. Nothing is repaired here: a node
//! that cannot trust its memory must not vote.

mod db;
mod disk;
mod guard;
mod installs;
mod log;
mod machine;
mod place;
mod rocks;
#[cfg(test)]
mod tests;

pub use db::{Db, Header, Mode, Note};
pub use disk::{Change, Changes, Disk, Pair};
pub use log::LogStore;
pub use machine::{Machine, Memory, UnwrittenStep};
pub use rocks::has_promised;
