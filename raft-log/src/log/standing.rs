//! Standing back: a node that cannot do what a leader has to leaves it to others.

use std::sync::atomic::Ordering;

use super::Log;

impl Log {
    /// From here on this node does not lead, nor stand for election; or does again. It goes on following and voting.
    ///
    /// Nothing is handed over: if it leads, the others miss it as they would if it were lost, and elect another. What it has
    /// put into the log until then may be decided by it still.
    pub fn stand_back(&self, is_back: bool) {
        self.stands_back.store(is_back, Ordering::SeqCst);
        self.raft.runtime_config().heartbeat(!is_back);
        self.raft.runtime_config().elect(!is_back);
    }

    /// Whether it leaves leading to others.
    pub fn stands_back(&self) -> bool {
        self.stands_back.load(Ordering::SeqCst)
    }
}
