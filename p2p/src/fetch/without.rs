//! What a fetch may go on without, where others would have it end.

use std::collections::HashSet;
use std::sync::Arc;

use filesync_cas::{ContentHash, Kind};
use filesync_merkle::{CommitId, PubId};

/// What a fetch goes on without, once everybody who can be asked has said that he does not have it. A node goes with all that only
/// it leads to; what that is, nobody knows. Never a commit or a step of the order of publishes: behind it lies history.
#[derive(Debug, Clone, Default)]
pub enum Without {
    /// Nothing: who lacks something has failed.
    #[default]
    Nothing,
    /// These.
    These(Arc<HashSet<ContentHash>>),
    /// Whatever nobody has: who wants as much as can be had.
    Anything,
}

impl Without {
    /// Whether an object may be done without.
    pub(super) fn allows(&self, kind: Kind, id: &ContentHash) -> bool {
        let is_history = matches!(kind, CommitId::KIND | PubId::KIND);
        match self {
            Self::Nothing => false,
            Self::These(these) => !is_history && these.contains(id),
            Self::Anything => !is_history,
        }
    }

    /// Whether there is anything that may be done without.
    pub(super) fn is_some(&self) -> bool {
        match self {
            Self::Nothing => false,
            Self::These(these) => !these.is_empty(),
            Self::Anything => true,
        }
    }

    /// What is to be asked for though what both sides should have has it: it may have come back to one of them.
    pub(super) fn again(&self) -> Arc<HashSet<ContentHash>> {
        match self {
            Self::These(these) => Arc::clone(these),
            Self::Nothing | Self::Anything => Arc::default(),
        }
    }
}
