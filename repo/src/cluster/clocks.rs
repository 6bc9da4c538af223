//! What time it is for the cluster: the median of the voters' clocks as this node knows them, so that one that is wrong counts for
//! nothing as long as the others are right.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filesync_raft_log::ids::NodeId;
use tokio::time::Instant;

use super::calls::{About, Answer, Call};
use super::core::Core;

/// How long what a clock showed is good for.
const FRESH: Duration = Duration::from_secs(600);
/// How long a member may take to say how it is.
pub const HOW_ARE_YOU: Duration = Duration::from_secs(2);

/// How far other members' clocks are from this node's, and when they were looked at.
#[derive(Debug, Default)]
pub struct Clocks(Mutex<BTreeMap<NodeId, (i64, Instant)>>);

impl Clocks {
    /// How far the middle one of the voters' clocks is ahead of this node's, in milliseconds.
    pub fn off(&self, own: NodeId, voters: &BTreeSet<NodeId>) -> i64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let others = known.iter().filter(|(node, (_, seen))| voters.contains(node) && seen.elapsed() < FRESH);
        let here = voters.contains(&own).then_some(0);
        median(others.map(|(_, (off, _))| *off).chain(here).collect())
    }

    fn note(&self, node: NodeId, off: i64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, (off, Instant::now()));
    }
}

/// The middle one; of two in the middle the one that is nearer to this node's. 0 of none.
pub fn median(mut offs: Vec<i64>) -> i64 {
    offs.sort_unstable();
    match offs.len() {
        0 => 0,
        len if len % 2 == 1 => offs[len / 2],
        len => [offs[len / 2 - 1], offs[len / 2]].into_iter().min_by_key(|off| off.unsigned_abs()).unwrap_or(0),
    }
}

impl Core {
    /// Milliseconds since 1970, by the voters' clocks.
    pub fn cluster_millis(&self) -> u64 {
        let voters = self.view.read(|state| state.voters.iter().flatten().copied().collect());
        self.env.millis().saturating_add_signed(self.clocks.off(self.number, &voters))
    }

    /// Asks another member how it is. Its clock is looked at by the way: half of the time on the way is as good a guess as any.
    pub async fn how_is(self: &Arc<Self>, node: NodeId) -> Option<About> {
        let (asked, began) = (self.env.millis(), Instant::now());
        let Ok(Answer::About(about)) = self.call(node, &Call::About, HOW_ARE_YOU).await else { return None };
        let half = u64::try_from(began.elapsed().as_millis() / 2).unwrap_or(0);
        let here = asked.saturating_add(half);
        self.clocks.note(node, i64::try_from(i128::from(about.clock) - i128::from(here)).unwrap_or(0));
        Some(about)
    }

    /// How far a member's clock was ahead of this node's when it was looked at last.
    pub fn clock_off(&self, node: NodeId) -> Option<i64> {
        let known = self.clocks.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&node).map(|(off, _)| *off)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_clock_of_three_counts_for_nothing() {
        assert_eq!(median(vec![]), 0);
        assert_eq!(median(vec![7]), 7);
        assert_eq!(median(vec![3_600_000, 0, -20]), 0);
        assert_eq!(median(vec![-3_600_000, 15, 0]), 0);
        // This node's own is the wrong one.
        assert_eq!(median(vec![0, 3_600_000, 3_600_010]), 3_600_000);
        // Of two nobody can tell which is wrong.
        assert_eq!(median(vec![0, 3_600_000]), 0);
        assert_eq!(median(vec![-3_600_000, 0]), 0);
    }

    #[test]
    fn only_voters_count() {
        let clocks = Clocks::default();
        let nodes = |nodes: &[u64]| nodes.iter().map(|node| NodeId(*node)).collect::<BTreeSet<_>>();
        for (node, off) in [(2, 500), (3, 600), (4, 1_000_000), (5, 1_000_000)] {
            clocks.note(NodeId(node), off);
        }
        assert_eq!(clocks.off(NodeId(1), &nodes(&[1, 2, 3])), 500);
        assert_eq!(clocks.off(NodeId(9), &nodes(&[2, 3, 4])), 600);
        assert_eq!(clocks.off(NodeId(1), &nodes(&[1])), 0);
        assert_eq!(clocks.off(NodeId(1), &nodes(&[1, 6, 7])), 0, "nothing is known of the others");
    }
}
