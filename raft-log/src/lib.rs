//! Agreement on small facts: refs, members, invites, and the order in which refs moved.
//!
//! A [`Log`] is one node's part. It promises that what was acknowledged is in one order on all nodes (G3 of
//! `docs/guarantees.md`), and that a ref moves only to what a majority of the voters say they hold (the part of G4 that can
//! be decided here; `docs/model.md` has the rest). What a commit is, who fetches it and how messages travel is for others:
//! ids are 32 bytes, holders are numbers, and a [`Network`] carries bytes.
//!
//! openraft works behind it; none of its types crosses the boundary of this crate.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use filesync_raft_log::command::{Founder, Outcome, RefChange};
//! use filesync_raft_log::error::SendError;
//! use filesync_raft_log::ids::{Id, Millis, NodeId, PeerKey, RefName, RepositoryId};
//! use filesync_raft_log::{Log, Mode, Network, Options, Parts, Recipient, Sending};
//!
//! struct Nobody;
//!
//! impl Network for Nobody {
//!     fn send(&self, _: Recipient, _: Vec<u8>, _: Duration) -> Sending<'_> {
//!         Box::pin(async { Err(SendError::Unreachable("there is one node".to_owned())) })
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = std::env::temp_dir().join(format!("filesync-raft-example-{}", std::process::id()));
//! # std::fs::create_dir(&dir)?;
//! let (node, within) = (NodeId(1), Duration::from_secs(10));
//! let parts = Parts {
//!     repository: RepositoryId([7; 32]),
//!     node,
//!     network: Arc::new(Nobody),
//!     step_id: |step| step.change.new.unwrap_or_default(),
//!     options: Options::new(Arc::new(|| Millis(0))),
//! };
//! let log = Log::open(&dir, Mode::Create, parts).await?;
//! log.found(Founder { key: PeerKey([1; 32]), name: "first".to_owned(), addresses: vec![] }, within).await?;
//!
//! // The commit is on this node's disk, and this node is the majority.
//! let (main, commit) = (RefName::new("main")?, Id([9; 32]));
//! let change = RefChange { name: main.clone(), expected: None, new: Some(commit) };
//! let outcome = log.publish(log.begin_try(node)?, 1, change, [node].into(), within).await?;
//! assert!(matches!(outcome, Outcome::Published { .. }));
//! assert_eq!(log.read_latest(within, |state| state.refs.get(&main).copied()).await?, Some(commit));
//! log.shut_down().await;
//! # drop(log);
//! # std::fs::remove_dir_all(&dir)?;
//! # Ok(())
//! # }
//! ```

mod batch;
pub mod command;
pub mod error;
#[cfg(test)]
mod fuzz;
pub mod ids;
mod log;
mod network;
mod reads;
mod recover;
pub mod state;
mod status;
mod store;
pub mod testing;
mod tries;
mod types;

pub use batch::Clock;
pub use log::{Driven, Log, Options, Parts, Reason, SnapshotInfo, TryStatus};
pub use network::{Class, MESSAGE_LEN_MAX, Network, Recipient, Sender, Sending};
pub use recover::{Held, recover};
pub use state::{State, Step, StepId};
pub use status::Status;
pub use store::{Header, Mode, Note, UnwrittenStep, has_promised};
pub use tries::Try;
