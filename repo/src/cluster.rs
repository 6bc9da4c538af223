//! The cluster: this repository as one of many that are the same.
//!
//! A [`Node`] joins what the other crates know: agreement on small facts (`filesync_raft_log`), exchange of objects
//! (`filesync_p2p`), and the store. Promise: what a ref of the cluster shows is held by a majority of the voters (G4), there
//! is one order of publishes (G3), and a `sync` that is cut off loses nothing.

mod answer;
mod ask;
mod bring;
mod calls;
mod clocks;
mod core;
mod enlist;
mod env;
mod follow;
#[cfg(test)]
mod fuzz;
mod heal;
mod hold;
mod invite;
mod jobs;
mod join;
mod lead;
mod led;
pub(crate) mod lost;
pub(crate) mod member;
mod members;
mod node;
pub(crate) mod outbox;
mod part;
mod quota;
mod record;
mod recover;
pub(crate) mod remote;
pub(crate) mod removed;
mod room;
mod spot;
mod sync;
#[cfg(test)]
mod tests;
mod turn;
mod turned_away;
mod view;

pub use join::clone;
pub use node::{Node, NodeOptions, Told};
pub use part::{ClusterPart, carry_out, is_member};
