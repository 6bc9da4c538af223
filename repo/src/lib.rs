//! What users hold: a repository with its working copy, and one call for each command.
//!
//! [`Repo`] opens a repository and carries out typed requests ([`request`]); results are values, progress and
//! warnings are events. Nothing here parses arguments, prints, or decides exit codes. Work that can be done
//! without disks (comparing trees, cutting nodes, planning a restore) is done by plain functions; short drivers
//! do the rest.

mod absent;
pub mod cancel;
mod cat;
mod changes;
mod check_ignore;
pub mod cluster;
mod collected;
mod commit;
mod compare;
mod config;
mod contents;
pub mod daemon;
mod diff;
mod du;
mod error;
mod estimate;
mod expired;
mod forget;
mod fsck;
#[cfg(test)]
mod fuzz;
mod gc;
mod history;
mod identity;
pub mod ignore;
mod ingest;
mod init;
mod journal;
mod limits;
mod ls;
mod nearest;
mod objects;
mod parts;
mod path_set;
mod published;
mod recut;
mod renames;
mod repo;
pub mod request;
mod restore;
mod roots;
pub mod scan;
mod show;
mod small_file;
pub mod stat_cache;
mod status;
mod tags;
mod upgrade;
#[cfg(test)]
mod vectors;
mod worktree;

pub use daemon::carry_out;
pub use error::{Error, ErrorKind};
pub use filesync_cas::ContentHash;
pub use filesync_merkle::{CommitId, Timestamp, Totals, TreeId};
pub use repo::{OpenOptions, Repo};
pub use request::*;
