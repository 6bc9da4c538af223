//! openraft's types, filled in with ours. None of them leaves this crate.

use serde::{Deserialize, Serialize};

use crate::command::{Batch, Outcome};
use crate::ids::{LeaderId, LogIndex, NodeId, PeerKey, Position};

openraft::declare_raft_types!(
    pub TypeConfig:
        D = Batch,
        R = Reply,
        NodeId = NodeId,
        Node = RaftNode,
        SnapshotData = Vec<u8>,
        AsyncRuntime = Runtime,
);

/// openraft draws the times of elections by way of its runtime. In tests a seed may say which.
#[cfg(not(test))]
type Runtime = openraft::TokioRuntime;
#[cfg(test)]
type Runtime = crate::testing::Seeded;

/// What Raft keeps of a node beside its number: the key that it must show.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct RaftNode {
    pub key: PeerKey,
}

/// One outcome for each command of an entry; none for entries of Raft's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Reply(pub Vec<Outcome>);

pub type Raft = openraft::Raft<TypeConfig>;
pub type Entry = openraft::Entry<TypeConfig>;
pub type LogId = openraft::LogId<NodeId>;
pub type Vote = openraft::Vote<NodeId>;
pub type Membership = openraft::StoredMembership<NodeId, RaftNode>;
pub type SnapshotMeta = openraft::SnapshotMeta<NodeId, RaftNode>;
pub type StorageError = openraft::StorageError<NodeId>;

/// Where an entry stands, in our words.
pub fn position(id: &LogId) -> Position {
    let leader = LeaderId { term: id.leader_id.term, node: id.leader_id.node_id };
    Position { leader, index: LogIndex(id.index) }
}

/// Bytes that are kept or sent. The first says which version of the rest.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    // Only types that cannot be written fail, and ours can: no maps of unknown length, no foreign writers.
    let rest = postcard::to_allocvec(value).expect("plain data can be encoded");
    bytes.extend_from_slice(&rest);
    bytes
}

/// Reads what `encode` wrote, strictly: nothing may be left over.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(format!("{} bytes too many", rest.len())),
            Err(error) => Err(error.to_string()),
        },
        Some((version, _)) => Err(format!("version {version} is not known")),
        None => Err("empty".to_owned()),
    }
}

const VERSION: u8 = 1;
