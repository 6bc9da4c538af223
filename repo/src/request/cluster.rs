//! Commands that speak with other nodes.

use std::path::PathBuf;
use std::time::Duration;

use filesync_merkle::{CommitId, merge};
use serde::{Deserialize, Serialize};

use super::{FsckRequest, FsckResult, wire};
use crate::error::Error;
pub use filesync_raft_log::command::Role;

/// What to do where both sides changed the same path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Strategy {
    /// The published version stays at its path, and ours beside it.
    #[default]
    Copies,
    /// Ours.
    Ours,
    /// The published one.
    Theirs,
    /// Nothing: it fails.
    Fail,
}

/// `sync`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SyncRequest {
    /// Says what would be done.
    pub dry_run: bool,
    /// Takes what is published, and publishes nothing.
    pub pull_only: bool,
    /// Publishes, and leaves the working copy as it is.
    pub push_only: bool,
    /// What to do about conflicts.
    pub strategy: Strategy,
    /// Commits what is not committed first.
    pub commit: bool,
    /// How long to wait for a quorum, and for bytes that do not come.
    pub timeout: Duration,
}

impl Default for SyncRequest {
    fn default() -> Self {
        Self {
            dry_run: false,
            pull_only: false,
            push_only: false,
            strategy: Strategy::Copies,
            commit: false,
            timeout: Duration::from_secs(60),
        }
    }
}

/// How a `sync` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum SyncOutcome {
    /// Both sides are the same.
    #[default]
    Done,
    /// They are, and something is left for the user.
    Conflicts,
    /// It was refused: nothing was published.
    Refused,
    /// It is not known whether it was published. The next `sync` finds out.
    Unknown,
}

impl SyncOutcome {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Conflicts => "conflicts",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// What both sides did to a path on which they do not agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConflictKind {
    /// Both have changed it, or made it.
    BothChanged,
    /// It was deleted here, and changed there.
    DeletedHere,
    /// It was changed here, and deleted there.
    DeletedThere,
    /// It is a directory on one side, and something else on the other.
    Directory,
}

impl ConflictKind {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::BothChanged => "both_changed",
            Self::DeletedHere => "deleted_here",
            Self::DeletedThere => "deleted_there",
            Self::Directory => "directory",
        }
    }
}

impl From<merge::ConflictKind> for ConflictKind {
    fn from(kind: merge::ConflictKind) -> Self {
        match kind {
            merge::ConflictKind::BothChanged | merge::ConflictKind::BothAdded => Self::BothChanged,
            merge::ConflictKind::DeletedHere => Self::DeletedHere,
            merge::ConflictKind::DeletedThere => Self::DeletedThere,
            merge::ConflictKind::DirectoryHere | merge::ConflictKind::DirectoryThere => Self::Directory,
        }
    }
}

/// What became of a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TagFate {
    /// It was changed here, and all have it so now.
    Published,
    /// Another has changed it, and it is so here now.
    Taken,
    /// It was changed here, and another was faster.
    Lost,
}

impl TagFate {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Taken => "taken",
            Self::Lost => "lost",
        }
    }
}

/// A tag that `sync` had to do with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncedTag {
    /// Its name.
    pub name: String,
    /// What the cluster has it name now; none if there is none of that name.
    #[serde(with = "wire")]
    pub commit: Option<CommitId>,
    /// What became of it.
    pub fate: TagFate,
}

/// What `sync` did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct SyncResult {
    /// How it ended.
    pub outcome: SyncOutcome,
    /// Why, if it was refused or that is not known.
    pub error: Option<Error>,
    /// Commits that became visible to all, or would have.
    #[serde(with = "wire")]
    pub published: Vec<CommitId>,
    /// Published commits that were not here before.
    #[serde(with = "wire")]
    pub pulled: Vec<CommitId>,
    /// Published commits that the head lacks still, since the working copy was to stay as it is.
    #[serde(with = "wire")]
    pub waiting: Vec<CommitId>,
    /// The head now.
    #[serde(with = "wire")]
    pub head: Option<CommitId>,
    /// The merge that was made, if one was.
    #[serde(with = "wire")]
    pub merged: Option<CommitId>,
    /// Paths on which the sides did not agree.
    #[serde(with = "wire")]
    pub conflicts: Vec<Vec<u8>>,
    /// For each of them, what happened.
    pub kinds: Vec<ConflictKind>,
    /// The strategy has said who is right: nothing of them is left.
    pub is_decided: bool,
    /// For each of them, where ours was kept beside it, if it was.
    #[serde(with = "wire")]
    pub copies: Vec<Option<Vec<u8>>>,
    /// Paths that were left alone since they hold what is in no commit.
    #[serde(with = "wire")]
    pub skipped: Vec<Vec<u8>>,
    /// Tags that changed, here or in the cluster, and those that could not.
    pub tags: Vec<SyncedTag>,
    /// Local commits that stay local: this node may only read.
    pub is_local: bool,
    /// Bytes of messages that were sent to fetch.
    pub bytes_sent: u64,
    /// Bytes of messages that came.
    pub bytes_received: u64,
    /// Objects that were served to others meanwhile.
    pub chunks_sent: u64,
    /// Objects of files that came.
    pub chunks_received: u64,
    /// Requests that were waited for, one after the other.
    pub round_trips: u64,
    /// Bytes by who sent them.
    pub peers: Vec<(u64, u64)>,
    /// How long it took.
    pub elapsed: Duration,
}

/// `clone`.
#[derive(Debug, Clone)]
pub struct CloneRequest {
    /// The line that was handed over.
    pub invite: String,
    /// Where to.
    pub dir: PathBuf,
    /// What this node is called; the host's name if not said.
    pub name: Option<String>,
    /// What it is to have, from the root of the repository; everything, if nothing is named.
    pub paths: Vec<Vec<u8>>,
    /// How long to wait for a quorum, and for bytes that do not come.
    pub timeout: Duration,
}

/// What `clone` made.
#[derive(Debug, Clone)]
pub struct CloneResult {
    /// This node's number.
    pub node: u64,
    /// The root of the repository.
    pub path: PathBuf,
    /// What came.
    pub synced: SyncResult,
    /// Paths that were named, and that nothing published has so far.
    pub not_found: Vec<Vec<u8>>,
    /// How long it took.
    pub elapsed: Duration,
}

/// `invite`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InviteRequest {
    /// As what.
    pub role: Role,
    /// For how long; `None` is for ever.
    pub expires: Option<Duration>,
    /// How many may use it.
    pub uses: u32,
    /// How long to wait for a quorum.
    pub timeout: Duration,
}

/// An invite that was made.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Invited {
    /// The line to hand over.
    pub line: String,
    /// Names it, for revoking.
    pub id: String,
    /// As what.
    pub role: Role,
    /// How many may use it.
    pub uses: u32,
    /// Until when, in milliseconds since 1970.
    pub expires: Option<u64>,
}

/// An invite that can be used.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OpenInvite {
    /// Names it.
    pub id: String,
    /// As what.
    pub role: Role,
    /// How many may use it still.
    pub uses: u32,
    /// Until when, in milliseconds since 1970.
    pub expires: Option<u64>,
    /// Which node issued it.
    pub by: u64,
}

/// `peers`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum PeersRequest {
    /// How everybody is.
    List,
    /// Ends a membership.
    Remove {
        /// Number, name, or beginning of the key.
        node: String,
    },
    /// Makes a voter.
    Promote {
        /// Number, name, or beginning of the key.
        node: String,
        /// An even number of voters is meant.
        even: bool,
    },
    /// Makes something less.
    Demote {
        /// Number, name, or beginning of the key.
        node: String,
        /// What.
        role: Role,
    },
    /// Goes on with this node as the only voter. Needs that no daemon runs.
    Recover,
}

/// A member.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Peer {
    /// Its number.
    pub node: u64,
    /// What it is called.
    pub name: String,
    /// Its key, as hex.
    pub key: String,
    /// "voter", "candidate", "writer" or "reader".
    #[serde(with = "wire")]
    pub role: wire::Word,
    /// Where it says that it is reached.
    pub addresses: Vec<String>,
    /// Whether it answered.
    pub is_reachable: bool,
    /// Whether it leads.
    pub is_leader: bool,
    /// The last entry that it has applied.
    pub applied_index: Option<u64>,
    /// Whether it holds what is published: all of it.
    pub holds_head: Option<bool>,
    /// Whether it is a partial copy.
    pub is_partial: bool,
    /// How far its clock is ahead of the middle one of the voters', in milliseconds; none if it did not answer.
    pub clock_off: Option<i64>,
}

/// Has something brought here that a partial copy does not have.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct BringRequest {
    /// Of which commit; the head if not said.
    pub rev: Option<String>,
    /// What, from the root of the repository.
    #[serde(with = "wire")]
    pub paths: Vec<Vec<u8>>,
    /// Of directories the names that stand in them, rather than all that is below.
    pub names_only: bool,
}

/// Everything that a node of a cluster is asked for by its own user.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterRequest {
    /// `sync`.
    Sync(SyncRequest),
    /// `invite`.
    Invite(InviteRequest),
    /// `invite list`; how long to wait for a quorum.
    Invites(Duration),
    /// `invite revoke`: which, and how long to wait for a quorum.
    Revoke(String, Duration),
    /// `peers`, and how long to wait for a quorum.
    Peers(PeersRequest, Duration),
    /// `snapshot`: whether to make one, and how long that may take.
    Snapshot {
        /// Make one; else only tell of the newest.
        create: bool,
        /// How long to wait.
        timeout: Duration,
    },
    /// `fsck --repair` of a member, which takes from others what it lacks.
    Fsck(FsckRequest),
    /// What `cat`, `ls` and `restore --to` of a partial copy lack.
    Bring(BringRequest),
}

impl ClusterRequest {
    /// The command, for those who wait for it.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Sync(_) => "sync",
            Self::Invite(_) | Self::Invites(_) | Self::Revoke(..) => "invite",
            Self::Peers(..) => "peers",
            Self::Snapshot { .. } => "snapshot",
            Self::Fsck(_) => "fsck",
            Self::Bring(_) => "fetch",
        }
    }
}

/// A snapshot of the replicated log's state on this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotInfo {
    /// This node.
    pub node: u64,
    /// The last entry that it contains.
    pub log_index: u64,
    /// That entry's term.
    pub term: u64,
    /// How long it is.
    pub bytes: u64,
}

/// What came of a [`ClusterRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClusterAnswer {
    /// Of [`ClusterRequest::Sync`].
    Sync(Box<SyncResult>),
    /// Of [`ClusterRequest::Invite`].
    Invited(Invited),
    /// Of [`ClusterRequest::Invites`].
    Invites(Vec<OpenInvite>),
    /// Of [`ClusterRequest::Revoke`]: the whole id.
    Revoked(String),
    /// Of [`ClusterRequest::Peers`].
    Peers(Vec<Peer>),
    /// Of [`ClusterRequest::Snapshot`]: none before anything was decided.
    Snapshot(Option<SnapshotInfo>),
    /// Of [`ClusterRequest::Fsck`].
    Fsck(FsckResult),
    /// Of [`ClusterRequest::Bring`]: how many bytes of messages came.
    Brought(u64),
}
