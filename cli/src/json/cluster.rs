//! Results of commands that speak with other nodes.

use filesync_repo as repo;
use serde::Serialize;

use super::{Name, ids, names, seconds};
use crate::commands::invite::word;
use crate::commands::sync::LOCAL;
use crate::time::of_millis;
use crate::units;

#[derive(Serialize)]
pub struct Sync {
    outcome: &'static str,
    cause: Option<String>,
    published: Vec<String>,
    pulled: Vec<String>,
    waiting: Vec<String>,
    head: Option<String>,
    merged: Option<String>,
    conflicts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts_bytes: Option<Vec<Option<String>>>,
    conflict_kinds: Vec<&'static str>,
    copies: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    copies_bytes: Option<Vec<Option<String>>>,
    tags: Vec<SyncedTag>,
    skipped: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_bytes: Option<Vec<Option<String>>>,
    bytes_sent: u64,
    bytes_received: u64,
    chunks_sent: u64,
    chunks_received: u64,
    round_trips: u64,
    peers: Vec<PeerBytes>,
    seconds: f64,
}

/// Why it did not come to its end, or what it left for the user.
fn cause(result: &repo::SyncResult) -> Option<String> {
    if let Some(error) = &result.error {
        return Some(error.to_string());
    }
    let number = |of: &[Vec<u8>]| units::count(of.len() as u64, "path");
    let conflicts = (!result.is_decided && !result.conflicts.is_empty())
        .then(|| format!("both sides changed the same: {}", number(&result.conflicts)));
    let skipped = (!result.skipped.is_empty())
        .then(|| format!("left alone, since it is in no commit: {}", number(&result.skipped)));
    let local = result.is_local.then(|| LOCAL.to_owned());
    let lost = result.tags.iter().filter(|tag| tag.fate == repo::TagFate::Lost).count() as u64;
    let lost = (lost > 0).then(|| format!("another was faster: {}", units::count(lost, "tag")));
    let causes: Vec<String> = [conflicts, skipped, lost, local].into_iter().flatten().collect();
    (!causes.is_empty()).then(|| causes.join("; "))
}

#[derive(Serialize)]
struct SyncedTag {
    name: String,
    commit: Option<String>,
    fate: &'static str,
}

impl SyncedTag {
    fn new(tag: &repo::SyncedTag) -> Self {
        Self { name: tag.name.clone(), commit: tag.commit.map(|id| id.to_string()), fate: tag.fate.word() }
    }
}

#[derive(Serialize)]
struct PeerBytes {
    node: u64,
    bytes: u64,
}

impl Sync {
    pub fn new(result: &repo::SyncResult) -> Self {
        let (conflicts, conflicts_bytes) = names(&result.conflicts);
        let (copies, copies_bytes) = names(result.copies.iter().flatten());
        let (skipped, skipped_bytes) = names(&result.skipped);
        Self {
            outcome: result.outcome.word(),
            cause: cause(result),
            published: ids(&result.published),
            pulled: ids(&result.pulled),
            waiting: ids(&result.waiting),
            head: result.head.map(|id| id.to_string()),
            merged: result.merged.map(|id| id.to_string()),
            conflicts,
            conflicts_bytes,
            conflict_kinds: result.kinds.iter().map(|kind| kind.word()).collect(),
            copies,
            copies_bytes,
            tags: result.tags.iter().map(SyncedTag::new).collect(),
            skipped,
            skipped_bytes,
            bytes_sent: result.bytes_sent,
            bytes_received: result.bytes_received,
            chunks_sent: result.chunks_sent,
            chunks_received: result.chunks_received,
            round_trips: result.round_trips,
            peers: result.peers.iter().map(|(node, bytes)| PeerBytes { node: *node, bytes: *bytes }).collect(),
            seconds: seconds(result.elapsed),
        }
    }
}

#[derive(Serialize)]
pub struct Cloned {
    node: u64,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(flatten)]
    synced: Sync,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_found: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    not_found_bytes: Option<Vec<Option<String>>>,
}

impl Cloned {
    pub fn new(result: &repo::CloneResult) -> Self {
        let name = Name::new(result.path.as_os_str().as_encoded_bytes());
        let (not_found, not_found_bytes) = names(&result.not_found);
        Self {
            node: result.node,
            path: name.text,
            path_bytes: name.bytes,
            synced: Sync::new(&result.synced),
            not_found: (!not_found.is_empty()).then_some(not_found),
            not_found_bytes,
        }
    }
}

#[derive(Serialize)]
pub struct Invited {
    invite: String,
    id: String,
    role: &'static str,
    uses: u32,
    expires: Option<String>,
}

impl Invited {
    pub fn new(invited: &repo::Invited) -> Self {
        Self {
            invite: invited.line.clone(),
            id: invited.id.clone(),
            role: word(invited.role),
            uses: invited.uses,
            expires: invited.expires.map(of_millis),
        }
    }
}

#[derive(Serialize)]
pub struct OpenInvite {
    id: String,
    role: &'static str,
    uses: u32,
    expires: Option<String>,
    by: u64,
}

impl OpenInvite {
    pub fn new(invite: &repo::OpenInvite) -> Self {
        Self {
            id: invite.id.clone(),
            role: word(invite.role),
            uses: invite.uses,
            expires: invite.expires.map(of_millis),
            by: invite.by,
        }
    }
}

#[derive(Serialize)]
pub struct Revoked {
    revoked: String,
}

impl Revoked {
    pub fn new(id: &str) -> Self {
        Self { revoked: id.to_owned() }
    }
}

#[derive(Serialize)]
pub struct Snapshot {
    node: u64,
    log_index: u64,
    term: u64,
    bytes: u64,
}

impl Snapshot {
    pub fn new(snapshot: &repo::SnapshotInfo) -> Self {
        let repo::SnapshotInfo { node, log_index, term, bytes } = *snapshot;
        Self { node, log_index, term, bytes }
    }
}

#[derive(Serialize)]
pub struct Peer {
    node: u64,
    name: String,
    peer_id: String,
    role: &'static str,
    addresses: Vec<String>,
    reachable: bool,
    leader: bool,
    applied_index: Option<u64>,
    holds_head: Option<bool>,
    partial: bool,
    clock_offset: Option<f64>,
}

impl Peer {
    pub fn new(peer: &repo::Peer) -> Self {
        Self {
            node: peer.node,
            name: peer.name.clone(),
            peer_id: peer.key.clone(),
            role: peer.role,
            addresses: peer.addresses.clone(),
            reachable: peer.is_reachable,
            leader: peer.is_leader,
            applied_index: peer.applied_index,
            holds_head: peer.holds_head,
            partial: peer.is_partial,
            clock_offset: peer.clock_off.map(|off| off as f64 / 1_000.0),
        }
    }
}
