//! What kind of run it is. Each seed has another kind, so that no fault always comes with another.

use std::time::Duration;

use crate::testing::Numbers;

/// How much of what there is. Chances are of a thousand.
#[derive(Debug, Clone)]
pub struct Settings {
    /// All nodes: candidates, of whom some vote.
    pub nodes: u64,
    /// Those that vote at first.
    pub voters: u64,
    /// Members that publish.
    pub clients: u64,
    /// The longest pause between two publishes of one.
    pub pause: u64,
    /// How long faults go on.
    pub storm: Duration,
    /// Messages that are lost, and as many that come twice.
    pub lost: u64,
    /// The longest delay of most messages, in milliseconds.
    pub delay: u64,
    /// Crashes, at each step of the storm.
    pub crashes: u64,
    /// Of crashes, those that lose what was not synced; others are kills.
    pub power_cuts: u64,
    /// Of crashes, those in the middle of a write.
    pub torn: u64,
    /// Cuts of the network, at each step of the storm.
    pub cuts: u64,
    /// Whether voters change.
    pub is_changing: bool,
    /// Collections, whenever a node looks around.
    pub collections: u64,
    /// Proposals long after their receipts.
    pub slow: u64,
    /// After how many entries the log is cut.
    pub snapshot_after: u64,
}

impl Settings {
    /// Those of a seed.
    pub fn draw(numbers: &mut Numbers) -> Self {
        let mut one_of = |of: &[u64]| numbers.pick(of).copied().unwrap_or_default();
        let nodes = one_of(&[3, 3, 4, 5, 5, 6, 7]);
        Self {
            nodes,
            voters: one_of(&[1, 3, 3, 3, 5]).min(nodes),
            clients: one_of(&[1, 2, 3]).min(nodes),
            pause: one_of(&[200, 600, 1_500]),
            storm: Duration::from_secs(one_of(&[10, 20, 30, 45])),
            lost: one_of(&[0, 5, 30, 120]),
            delay: one_of(&[1, 5, 20, 100]),
            crashes: one_of(&[0, 8, 20, 40]),
            power_cuts: one_of(&[500, 800, 1_000]),
            torn: one_of(&[0, 300, 800]),
            cuts: one_of(&[0, 8, 25]),
            is_changing: one_of(&[0, 1, 1]) == 1,
            collections: one_of(&[200, 500, 900]),
            slow: one_of(&[0, 50, 300]),
            snapshot_after: one_of(&[8, 25, 100]),
        }
    }
}
