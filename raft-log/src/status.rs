//! What an operator sees of a log.

use std::collections::BTreeMap;

use crate::ids::{LeaderId, LogIndex, NodeId};

/// How a node's part in the log stands, as far as it knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Raft's term.
    pub term: u64,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Under which id this node leads.
    pub leading: Option<LeaderId>,
    /// The last entry in its log.
    pub last: Option<LogIndex>,
    /// The last entry applied.
    pub applied: Option<LogIndex>,
    /// The last entry that the state on disk contains.
    pub flushed: Option<LogIndex>,
    /// Up to where the others have the log; only a leader knows. `None` is not heard of yet.
    pub followers: BTreeMap<NodeId, Option<LogIndex>>,
}
