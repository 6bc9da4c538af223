//! For tests, here and in the crates above: stores with commits in them, and peers on a network that is not there, with a clock of its own.
//!
//! Everything random comes from a seed; the same run twice is the same.

mod net;
mod repo;

pub use net::{Honest, Line, Net, Remote, Scripted};
pub use repo::{Everything, Repo, Tree, shared, tree};
