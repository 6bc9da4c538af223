//! How a log behaves: times, and how much may wait.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::batch::Clock;
use crate::error::OpenError;

/// The most entries of a message. It is answered within a heartbeat or sent again from the start: over a slow line, whoever is
/// far behind would never get a message that holds all he lacks.
const ENTRIES_MAX: u64 = 16;

/// How a log behaves. The defaults are for machines in one place with disks of their own.
#[derive(Clone)]
pub struct Options {
    /// How often a leader shows that it is there. A message with entries must be answered within this time.
    pub heartbeat: Duration,
    /// A follower that hears nothing stands for election after the longest plus something between the two.
    pub election: (Duration, Duration),
    /// How long a snapshot may take.
    pub snapshot: Duration,
    /// How long to gather proposals for an entry.
    pub linger: Duration,
    /// How many proposals may wait.
    pub waiting_max: usize,
    /// After how many entries the log is cut short.
    pub snapshot_after: u64,
    /// How time is told: where it comes into entries, this node leads.
    pub clock: Clock,
}

impl Options {
    /// With this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            // Long enough for a sync and the way around the world, short enough for another leader within three seconds: three
            // heartbeats, which come one and a half times as far apart, have to be missed before somebody stands for election.
            heartbeat: Duration::from_millis(400),
            election: (Duration::from_millis(800), Duration::from_millis(1_300)),
            snapshot: Duration::from_secs(10),
            linger: Duration::from_millis(1),
            waiting_max: 1_024,
            snapshot_after: 5_000,
            clock,
        }
    }

    /// In openraft's words.
    pub(super) fn config(&self) -> Result<Config, OpenError> {
        let millis = |of: Duration| u64::try_from(of.as_millis()).unwrap_or(u64::MAX);
        let config = Config {
            cluster_name: "filesync".to_owned(),
            heartbeat_interval: millis(self.heartbeat),
            election_timeout_min: millis(self.election.0),
            election_timeout_max: millis(self.election.1),
            install_snapshot_timeout: millis(self.snapshot),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_after),
            max_in_snapshot_log_to_keep: self.snapshot_after / 5,
            replication_lag_threshold: self.snapshot_after * 2,
            max_payload_entries: ENTRIES_MAX,
            ..Config::default()
        };
        config.validate().map_err(|error| OpenError::Options(error.to_string()))
    }
}
