//! What a leader must not forget: tries to publish whose outcome is open.
//!
//! Voters that hold for a try may let go when the leader does not know it. So it is known until it is decided, or its
//! leadership is over, whatever becomes of those who wait for it. `docs/model.md`, "What it found".

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::command::TryId;
use crate::ids::{LeaderId, NodeId};
use crate::state::State;

/// All open tries of this process.
#[derive(Debug)]
pub struct Tries {
    open: Mutex<Open>,
}

#[derive(Debug)]
struct Open {
    next: u64,
    by_nonce: BTreeMap<u64, TryId>,
}

/// A try to publish: what receipts and pins are given for. It is proposed once.
///
/// Dropped before it was proposed, it is forgotten, and whoever holds for it will hear so.
#[derive(Debug)]
pub struct Try {
    /// Its name.
    pub id: TryId,
    tries: Arc<Tries>,
    is_proposed: bool,
}

impl Tries {
    /// Nonces of different lives of a node are different: a leadership may outlive a restart.
    pub fn new(incarnation: u64) -> Self {
        Self { open: Mutex::new(Open { next: incarnation << 32, by_nonce: BTreeMap::new() }) }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one.
    pub fn begin(self: &Arc<Self>, leader: LeaderId, client: NodeId) -> Try {
        let mut open = self.open();
        open.next += 1;
        let nonce = open.next;
        let id = TryId { client, leader, nonce };
        open.by_nonce.insert(nonce, id);
        Try { id, tries: Arc::clone(self), is_proposed: false }
    }

    /// Whether it may still come into the log.
    pub fn is_open(&self, id: TryId) -> bool {
        self.open().by_nonce.get(&id.nonce) == Some(&id)
    }

    /// It was not proposed, and will not be.
    pub fn forget(&self, nonce: u64) {
        self.open().by_nonce.remove(&nonce);
    }

    /// Lets go what the state shows to be decided.
    pub fn settle(&self, state: &State) {
        self.open().by_nonce.retain(|_, id| !state.is_decided(*id));
    }
}

impl Try {
    /// From here on only the log decides.
    pub(crate) fn proposed(mut self) {
        self.is_proposed = true;
    }
}

impl Drop for Try {
    fn drop(&mut self) {
        if !self.is_proposed {
            self.tries.forget(self.id.nonce);
        }
    }
}
