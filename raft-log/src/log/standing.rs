//! Standing back: a node that cannot do what a leader has to, or is not to, leaves it to others.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::Log;

/// Why a node leaves leading to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It cannot do what a leader has to.
    Unable = 1,
    /// It will not vote any more once a change of voters has come to its end, which is for others to write.
    Leaves = 2,
}

/// Ends a standing back.
struct Back<'a>(&'a Log, Reason);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.stand_back(self.1, false);
    }
}

impl Log {
    /// From here on this node does not lead, nor stand for election; or does again, if no other reason is left. It goes on
    /// following and voting.
    ///
    /// Nothing is handed over: if it leads, the others miss it as they would if it were lost, and elect another. What it has
    /// put into the log until then may be decided by it still.
    pub fn stand_back(&self, reason: Reason, is_back: bool) {
        match is_back {
            true => self.stands_back.fetch_or(reason as u8, Ordering::SeqCst),
            false => self.stands_back.fetch_and(!(reason as u8), Ordering::SeqCst),
        };
        let leads = !self.stands_back();
        self.raft.runtime_config().heartbeat(leads);
        self.raft.runtime_config().elect(leads);
    }

    /// Whether it leaves leading to others.
    pub fn stands_back(&self) -> bool {
        self.stands_back.load(Ordering::SeqCst) != 0
    }

    /// Whether it does for this reason.
    pub fn stands_back_as(&self, reason: Reason) -> bool {
        self.stands_back.load(Ordering::SeqCst) & reason as u8 != 0
    }

    /// Stands back until somebody else may lead; `false` if after so long nobody does.
    pub(super) async fn make_way(&self, reason: Reason, within: Duration) -> bool {
        let until = Instant::now() + within;
        self.stand_back(reason, true);
        let _back = Back(self, reason);
        while self.raft_leading().is_some() && Instant::now() < until {
            sleep(within / 32).await;
        }
        self.raft_leading().is_none()
    }
}
