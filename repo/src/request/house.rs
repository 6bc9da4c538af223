//! Keeping house: `gc`, `forget`, `upgrade`.

use std::time::Duration;

use filesync_cas::ContentHash;
use filesync_merkle::CommitId;
use serde::{Deserialize, Serialize};

use super::wire;

/// `gc`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct GcRequest {
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What `gc` did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct GcResult {
    /// Bytes that what is needed takes in the packs.
    pub live_bytes: u64,
    /// Bytes that are free now, about; never less than nothing.
    pub freed_bytes: u64,
    /// Bytes that will be free when readers from before have ended, and somebody writes.
    pub waiting_bytes: u64,
    /// Packs of which what is needed was written anew.
    pub packs_rewritten: u64,
    /// Packs of which nothing was needed.
    pub packs_removed: u64,
    /// Needed objects that are damaged. Their packs stay.
    #[serde(with = "wire")]
    pub damaged: Vec<ContentHash>,
    /// How long it took.
    pub elapsed: Duration,
}

/// `forget`. Whatever a rule keeps is kept; the head, tags, pins and what a restore that was cut off brings back always
/// are.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct ForgetRequest {
    /// The newest so many of the head's line.
    pub keep_last: Option<u64>,
    /// What was made at most so long before the head.
    pub keep_within: Option<Duration>,
    /// What has a tag.
    pub keep_tagged: bool,
    /// Only say what would be done.
    pub dry_run: bool,
}

/// What `forget` did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ForgetResult {
    /// Commits that have expired now.
    #[serde(with = "wire")]
    pub expired: Vec<CommitId>,
    /// Commits whose trees are kept.
    pub kept: u64,
    /// Those of them that no rule keeps, and that are published.
    pub kept_published: u64,
}

/// `upgrade`.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct UpgradeRequest {}

/// What `upgrade` did.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct UpgradeResult {
    /// The version of the format, now.
    pub format: u32,
    /// Whether it was another before.
    pub upgraded: bool,
}
