//! Standing back: a node that cannot do what a leader has to, or is not to, leaves it to others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::ServerState;
use tokio::time::{Instant, sleep};

use super::Log;
use crate::ids::{LeaderId, NodeId};
use crate::types::Raft;

/// Between two looks at whether others are to lead.
const LOOK: Duration = Duration::from_millis(250);

/// Why a node leaves leading to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// It cannot do what a leader has to.
    Unable = 1,
    /// It leads, and will not vote any more once a change of voters has come to its end, which is for others to write.
    Leaves = 2,
    /// It will not vote any more, and others are to lead by then.
    Waits = 4,
}

/// Whether a node may lead.
pub struct Standing {
    node: NodeId,
    raft: Raft,
    /// For how long those who will vote go first.
    patience: Duration,
    /// One bit for each reason not to.
    reasons: Mutex<u8>,
}

impl Standing {
    /// Of a node that may. Looks after it until it is dropped; to be called on the runtime.
    pub fn new(node: NodeId, raft: Raft, patience: Duration) -> Arc<Self> {
        let standing = Arc::new(Self { node, raft, patience, reasons: Mutex::default() });
        let watched = Arc::downgrade(&standing);
        tokio::spawn(async move {
            let mut leaderless = None;
            while let Some(standing) = watched.upgrade() {
                standing.give_precedence(&mut leaderless);
                drop(standing);
                sleep(LOOK).await;
            }
        });
        standing
    }

    fn reasons(&self) -> MutexGuard<'_, u8> {
        self.reasons.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, reason: Reason, is_back: bool) {
        // Held until Raft knows: two who change it at once must not leave it with what the first made of it.
        let mut reasons = self.reasons();
        match is_back {
            true => *reasons |= reason as u8,
            false => *reasons &= !(reason as u8),
        }
        self.raft.runtime_config().heartbeat(*reasons == 0);
        self.raft.runtime_config().elect(*reasons == 0);
    }

    fn has(&self, reason: Reason) -> bool {
        *self.reasons() & reason as u8 != 0
    }

    /// Under which id this node leads, as far as Raft is concerned.
    fn leading(&self) -> Option<LeaderId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let leads = metrics.state == ServerState::Leader && metrics.vote.committed;
        let id = metrics.vote.leader_id;
        leads.then_some(LeaderId { term: id.term, node: id.node_id })
    }

    /// While voters change, leaves leading to those who will vote, unless they do not get to it: somebody may have entries that
    /// they need and lack. openraft draws the time after which a node stands for election once and for all, so that else
    /// the same ones would always be faster.
    fn give_precedence(&self, leaderless: &mut Option<Instant>) {
        let (will_go, leader) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow();
            let voters = metrics.membership_config.membership().get_joint_config();
            let stays = voters.last().is_none_or(|target| target.contains(&self.node));
            (voters.len() > 1 && !stays, metrics.current_leader)
        };
        match leader {
            Some(_) => *leaderless = None,
            None => drop(leaderless.get_or_insert_with(Instant::now)),
        }
        let is_their_turn = leaderless.is_none_or(|since| since.elapsed() < self.patience);
        let waits = will_go && is_their_turn && self.leading().is_none();
        if waits != self.has(Reason::Waits) {
            self.set(Reason::Waits, waits);
        }
    }
}

/// Ends a standing back.
struct Back<'a>(&'a Standing, Reason);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        self.0.set(self.1, false);
    }
}

impl Log {
    /// From here on this node does not lead, nor stand for election; or does again, if no other reason is left. It goes on
    /// following and voting.
    ///
    /// Nothing is handed over: if it leads, the others miss it as they would if it were lost, and elect another. What it has
    /// put into the log until then may be decided by it still.
    pub fn stand_back(&self, reason: Reason, is_back: bool) {
        self.standing.set(reason, is_back);
    }

    /// Whether it leaves leading to others.
    pub fn stands_back(&self) -> bool {
        *self.standing.reasons() != 0
    }

    /// Whether it does for this reason.
    pub fn stands_back_as(&self, reason: Reason) -> bool {
        self.standing.has(reason)
    }

    /// Under which id this node leads, as far as it knows.
    pub fn leading(&self) -> Option<LeaderId> {
        self.standing.leading().filter(|_| !self.stands_back())
    }

    /// Stands back until somebody else may lead; `false` if after a while nobody does.
    pub(super) async fn make_way(&self, reason: Reason) -> bool {
        let until = Instant::now() + self.standing.patience;
        self.stand_back(reason, true);
        let _back = Back(&self.standing, reason);
        while self.standing.leading().is_some() && Instant::now() < until {
            sleep(LOOK).await;
        }
        self.standing.leading().is_none()
    }
}
