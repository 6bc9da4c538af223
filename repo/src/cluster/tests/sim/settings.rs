//! What kind of run it is. Each seed has another kind, so that no fault always comes with another.

use std::time::Duration;

use filesync_raft_log::testing::Numbers;

/// How much of what there is. Chances are of a thousand.
#[derive(Debug, Clone)]
pub struct Settings {
    /// All nodes before the storm: candidates, of whom some vote.
    pub nodes: usize,
    /// Those that vote at first.
    pub voters: usize,
    /// How many of them publish.
    pub users: usize,
    /// The longest pause between two publishes of one.
    pub pause: u64,
    /// How long faults go on.
    pub storm: Duration,
    /// Messages that are lost, and calls that come twice.
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
    /// Changes of voters, at each step of the storm.
    pub changes: u64,
    /// Collections, at each step of the storm.
    pub collections: u64,
    /// Bits that flip on the disk of some node, at each step of the storm.
    pub rot: u64,
    /// After how many entries the log is cut.
    pub snapshot_after: u64,
    /// The longest time that a clock is ahead, in seconds.
    pub ahead: u64,
    /// Members that come, go, or become something else, at each step of the storm.
    pub members: u64,
}

/// The fewest voters where something rots on one node: somebody else is to have what does.
pub const VOTERS_BESIDE_ROT: usize = 3;

/// The most who come in the storm.
const NEWCOMERS_MAX: usize = 3;

impl Settings {
    /// All machines: also those of which nobody has heard before the storm.
    pub fn machines(&self) -> usize {
        if self.members > 0 { self.nodes + NEWCOMERS_MAX } else { self.nodes }
    }

    /// Those of a seed.
    pub fn draw(numbers: &mut Numbers) -> Self {
        let mut one_of = |of: &[u64]| numbers.pick(of).copied().unwrap_or_default();
        let mut count = |of: &[u64]| usize::try_from(one_of(of)).unwrap_or_default();
        let nodes = count(&[3, 3, 4, 5, 5, 7]);
        let (voters, users) = (count(&[1, 3, 3, 3, 5]).min(nodes), count(&[1, 2, 3]).min(nodes));
        let rot = one_of(&[0, 0, 8, 60]);
        Self {
            nodes,
            voters: if rot > 0 { voters.max(VOTERS_BESIDE_ROT) } else { voters },
            users: if rot > 0 { users.min(nodes - 1) } else { users },
            pause: one_of(&[100, 400, 1_000]),
            storm: Duration::from_secs(one_of(&[5, 10, 15])),
            lost: one_of(&[0, 5, 30, 100]),
            delay: one_of(&[1, 5, 20, 60]),
            crashes: one_of(&[0, 10, 25, 50]),
            power_cuts: one_of(&[300, 800, 1_000]),
            torn: one_of(&[0, 300, 800]),
            cuts: one_of(&[0, 8, 25]),
            changes: one_of(&[0, 10, 30]),
            collections: one_of(&[10, 40, 100]),
            rot,
            snapshot_after: one_of(&[8, 25, 1_000]),
            ahead: one_of(&[0, 5, 7_200]),
            members: one_of(&[0, 0, 30, 100]),
        }
    }
}
