//! Another node's state comes before the log that it replaces goes.
//!
//! openraft hands a received state to the state machine and purges the log up to it at once, without waiting for it. A
//! crash between the two would leave a log that begins after entries which the state on disk does not contain. So a
//! purge waits while a state that was received is not on disk; what comes after it in the log waits behind it.

use std::time::Duration;

use tokio::sync::watch;

/// A state has kilobytes, and megabytes at most. Who needs longer for it is stuck, and the node better ends.
const PATIENCE: Duration = Duration::from_secs(60);

/// Where received states stand.
#[derive(Debug, Default)]
pub struct Installs(watch::Sender<Standing>);

#[derive(Debug, Default)]
struct Standing {
    /// The last entry of the latest state that was offered to openraft. It may have declined.
    offered: Option<u64>,
    /// The last entry that the state on disk contains.
    durable: Option<u64>,
    failed: Option<String>,
}

impl Installs {
    /// openraft is about to be given a state as of this entry.
    pub fn offer(&self, index: u64) {
        self.0.send_modify(|standing| standing.offered = standing.offered.max(Some(index)));
    }

    /// The state on disk contains this entry.
    pub fn durable(&self, index: Option<u64>) {
        self.0.send_modify(|standing| standing.durable = standing.durable.max(index));
    }

    /// A state could not be brought to disk, and will not be.
    pub fn failed(&self, cause: &str) {
        self.0.send_modify(|standing| standing.failed = Some(cause.to_owned()));
    }

    /// Waits until entries up to `upto` may go. Purges that follow a state of this node's own never wait.
    pub async fn before_purge(&self, upto: u64) -> Result<(), String> {
        let is_over = |standing: &Standing| {
            standing.failed.is_some() || standing.offered < Some(upto) || standing.durable >= Some(upto)
        };
        let mut standing = self.0.subscribe();
        match tokio::time::timeout(PATIENCE, standing.wait_for(is_over)).await {
            Ok(Ok(standing)) => standing.failed.clone().map_or(Ok(()), Err),
            // The sender is here: it cannot be gone.
            Ok(Err(closed)) => Err(closed.to_string()),
            Err(_) => Err(format!("a state that was received is not on disk after {PATIENCE:?}")),
        }
    }
}
