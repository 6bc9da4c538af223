//! Results as JSON, as the contract of the command line has them: `"v": 1` first, full ids, RFC 3339 times,
//! bytes. What has no value is `null`; only what the contract marks as optional is left out.
//!
//! A path that is not UTF-8 is there twice: lossy under its own name, and in base64 under `…_bytes`. For a list
//! of paths, `…_bytes` is a list of the same length, `null` where the path is UTF-8, and left out if all are.

mod cluster;
mod house;
mod look;

use std::time::Duration;

use data_encoding::BASE64;
use filesync_repo as repo;
use filesync_repo::Timestamp;
use serde::Serialize;

pub use self::cluster::{Cloned, Invited, OpenInvite, Peer, Revoked, Snapshot, Sync};
pub use self::house::{Forget, Gc, Upgrade};
use crate::time::rfc3339;

mod config;
mod ignore;
mod man;
mod service;
mod tag;

pub use config::{Setting, Valid};
pub use ignore::IgnoreAnswer;
pub use look::*;
pub use man::Man;
pub use service::{Serve, Stop};
pub use tag::Tag;

const VERSION: u32 = 1;

#[derive(Serialize)]
struct Versioned<'a, T> {
    v: u32,
    #[serde(flatten)]
    object: &'a T,
}

/// One object and the newline behind it.
pub fn line(object: &impl Serialize) -> String {
    let text = serde_json::to_string(&Versioned { v: VERSION, object });
    // Only maps with keys that are not strings fail, and there are none.
    text.expect("results are structs of plain values") + "\n"
}

/// A path, lossy, and its bytes if that lost something.
struct Name {
    text: String,
    bytes: Option<String>,
}

impl Name {
    fn new(path: &[u8]) -> Self {
        match std::str::from_utf8(path) {
            Ok(text) => Self { text: text.to_owned(), bytes: None },
            Err(_) => Self { text: String::from_utf8_lossy(path).into_owned(), bytes: Some(BASE64.encode(path)) },
        }
    }
}

/// Paths, and their bytes if one of them lost something.
fn names<'a>(paths: impl IntoIterator<Item = &'a Vec<u8>>) -> (Vec<String>, Option<Vec<Option<String>>>) {
    let (texts, bytes): (Vec<_>, Vec<_>) =
        paths.into_iter().map(|path| Name::new(path)).map(|name| (name.text, name.bytes)).unzip();
    let lossy = bytes.iter().any(Option::is_some);
    (texts, lossy.then_some(bytes))
}

fn ids<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

#[derive(Serialize)]
pub struct Version {
    pub version: &'static str,
}

#[derive(Serialize)]
pub struct Init {
    repo: String,
    node: String,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Init {
    pub fn new(result: &repo::InitResult) -> Self {
        let name = Name::new(result.path.as_os_str().as_encoded_bytes());
        Self { repo: result.repo.to_string(), node: result.node.to_string(), path: name.text, path_bytes: name.bytes }
    }
}

#[derive(Serialize)]
pub struct Commit {
    commit: Option<String>,
    tree: Option<String>,
    parents: Vec<String>,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_commit: Option<bool>,
    files: u64,
    bytes: u64,
    added: u64,
    modified: u64,
    deleted: u64,
    new_bytes: u64,
    stored_bytes: u64,
    nodes_written: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<WithCause>,
    seconds: f64,
}

impl Commit {
    pub fn new(result: &repo::CommitResult) -> Self {
        Self {
            commit: result.commit.map(|id| id.to_string()),
            tree: result.tree.map(|id| id.to_string()),
            parents: ids(&result.parents),
            message: result.message.clone(),
            would_commit: result.would_commit,
            files: result.files,
            bytes: result.bytes,
            added: result.added,
            modified: result.modified,
            deleted: result.deleted,
            new_bytes: result.new_bytes,
            stored_bytes: result.stored_bytes,
            nodes_written: result.nodes_written,
            unreadable: result.unreadable.iter().map(WithCause::new).collect(),
            seconds: seconds(result.elapsed),
        }
    }
}

#[derive(Serialize)]
struct WithCause {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    cause: String,
}

impl WithCause {
    fn new(unreadable: &repo::Unreadable) -> Self {
        let name = Name::new(&unreadable.path);
        Self { path: name.text, path_bytes: name.bytes, cause: unreadable.cause.clone() }
    }
}

#[derive(Serialize)]
pub struct Status {
    head: Option<String>,
    main: Option<String>,
    ahead: Option<u64>,
    behind: Option<u64>,
    holders: Option<Vec<u64>>,
    as_of: Option<u64>,
    changes: Vec<Change>,
    conflicts: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conflicts_bytes: Option<Vec<Option<String>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    partial: Option<Partial>,
    lost: u64,
    removed: bool,
    clean: bool,
}

#[derive(Serialize)]
struct Partial {
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_bytes: Option<Vec<Option<String>>>,
    absent_files: u64,
    absent_bytes: u64,
    outside: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outside_bytes: Option<Vec<Option<String>>>,
}

impl Partial {
    fn new(partial: &repo::Partial) -> Self {
        let (paths, paths_bytes) = names(&partial.paths);
        let (outside, outside_bytes) = names(&partial.outside);
        let (absent_files, absent_bytes) = (partial.absent_files, partial.absent_bytes);
        Self { paths, paths_bytes, absent_files, absent_bytes, outside, outside_bytes }
    }
}

impl Status {
    pub fn new(result: &repo::StatusResult) -> Self {
        let (conflicts, conflicts_bytes) = names(&result.conflicts);
        Self {
            head: result.head.map(|id| id.to_string()),
            main: result.main.map(|id| id.to_string()),
            ahead: result.ahead,
            behind: result.behind,
            holders: result.holders.as_ref().map(|(holders, _)| holders.clone()),
            as_of: result.as_of,
            changes: result.changes.iter().map(Change::new).collect(),
            conflicts,
            conflicts_bytes,
            partial: result.partial.as_ref().map(Partial::new),
            lost: result.lost,
            removed: result.is_removed,
            clean: result.is_clean(),
        }
    }
}

#[derive(Serialize)]
struct Change {
    change: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    from_bytes: Option<String>,
}

impl Change {
    fn new(change: &repo::Change) -> Self {
        let name = Name::new(&change.path);
        let (from, from_bytes) = optional(change.from.as_deref());
        Self { change: change.kind.letter(), path: name.text, path_bytes: name.bytes, from, from_bytes }
    }
}

#[derive(Serialize)]
pub struct LogEntry {
    commit: String,
    tree: String,
    parents: Vec<String>,
    author: String,
    node: String,
    time: String,
    message: String,
    log_index: Option<u64>,
    as_of: Option<u64>,
    signature: &'static str,
    refs: Vec<String>,
    expired: Option<bool>,
}

impl LogEntry {
    pub fn new(entry: &repo::LogEntry) -> Self {
        Self {
            commit: entry.commit.to_string(),
            tree: entry.tree.to_string(),
            parents: ids(&entry.parents),
            author: entry.author.clone(),
            node: entry.node.to_string(),
            time: rfc3339(entry.time),
            message: entry.message.clone(),
            log_index: entry.log_index,
            as_of: entry.as_of,
            signature: entry.signature.word(),
            refs: entry.refs.clone(),
            expired: entry.expired,
        }
    }
}

#[derive(Serialize)]
pub struct LsEntry {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    kind: &'static str,
    mode: String,
    size: u64,
    mtime: Option<String>,
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    b3: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
}

impl LsEntry {
    pub fn new(entry: &repo::LsEntry) -> Self {
        let name = Name::new(&entry.path);
        let (target, target_bytes) = optional(entry.target.as_deref());
        Self {
            path: name.text,
            path_bytes: name.bytes,
            kind: entry.kind.word(),
            mode: format!("{:04o}", entry.mode),
            size: entry.size,
            mtime: entry.mtime.map(|time: Timestamp| rfc3339(time)),
            id: entry.id.map(|id| id.to_string()),
            b3: entry.b3.map(|id| id.to_string()),
            target,
            target_bytes,
        }
    }
}

#[derive(Serialize)]
pub struct Restore {
    written: u64,
    deleted: u64,
    unchanged: u64,
    skipped: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped_bytes: Option<Vec<Option<String>>>,
    damaged: Vec<WithCause>,
    bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Vec<Step>>,
    seconds: f64,
}

#[derive(Serialize)]
struct Step {
    action: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Restore {
    /// The plan is part of it in a dry run.
    pub fn new(result: &repo::RestoreResult, dry_run: bool) -> Self {
        let (skipped, skipped_bytes) = names(&result.skipped);
        let step = |step: &repo::PlannedStep| {
            let name = Name::new(&step.path);
            Step { action: step.action, path: name.text, path_bytes: name.bytes }
        };
        Self {
            written: result.written,
            deleted: result.deleted,
            unchanged: result.unchanged,
            skipped,
            skipped_bytes,
            damaged: result.damaged.iter().map(WithCause::new).collect(),
            bytes: result.bytes,
            plan: dry_run.then(|| result.plan.iter().map(step).collect()),
            seconds: seconds(result.elapsed),
        }
    }
}

#[derive(Serialize)]
pub struct Fsck {
    objects: u64,
    bytes: u64,
    damaged: Vec<Damaged>,
    lost: Vec<Damaged>,
    lost_recorded: u64,
    findings: Vec<String>,
    notes: Vec<String>,
    repaired: u64,
    seconds: f64,
}

#[derive(Serialize)]
struct Damaged {
    id: String,
    kind: &'static str,
    cause: String,
    paths: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_bytes: Option<Vec<Option<String>>>,
}

impl Fsck {
    pub fn new(result: &repo::FsckResult) -> Self {
        let damaged = |object: &repo::DamagedObject| {
            let (paths, paths_bytes) = names(&object.paths);
            Damaged { id: object.id.to_string(), kind: object.kind, cause: object.cause.clone(), paths, paths_bytes }
        };
        Self {
            objects: result.objects,
            bytes: result.bytes,
            damaged: result.damaged.iter().map(damaged).collect(),
            lost: result.lost.iter().map(damaged).collect(),
            lost_recorded: result.lost_recorded,
            findings: result.findings.clone(),
            notes: result.notes.clone(),
            repaired: result.repaired,
            seconds: seconds(result.elapsed),
        }
    }
}

/// On stderr, beside errors.
#[derive(Serialize)]
pub struct Warning {
    warning: String,
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
}

impl Warning {
    pub fn new(warning: &repo::Warning) -> Self {
        let (path, path_bytes) = optional(warning.path.as_deref());
        Self { warning: warning.message.clone(), path, path_bytes }
    }
}

fn optional(path: Option<&[u8]>) -> (Option<String>, Option<String>) {
    path.map(Name::new).map_or((None, None), |name| (Some(name.text), name.bytes))
}

fn seconds(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64()
}

#[cfg(test)]
mod tests;
