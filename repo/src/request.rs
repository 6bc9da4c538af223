//! Every command as data: one typed request, a stream of typed events, one typed result.
//!
//! Text, `--json` and what goes to and from the daemon are views of the values here. Paths are bytes from the
//! root of the repository; ids are typed; times are [`Timestamp`].

mod cluster;
mod house;
mod look;

use std::path::PathBuf;
use std::time::Duration;

pub use cluster::*;
pub use house::*;

use filesync_cas::ContentHash;
use filesync_merkle::{CommitId, Entry, Node, Timestamp, TreeId};
use serde::{Deserialize, Serialize};

pub use look::*;

mod any;
mod config;
mod ignore;
mod tag;
mod wire;

pub use any::{Answer, Command, Request};

pub use config::{ConfigRequest, ConfigSetting, ConfigSource};
pub use ignore::{CheckIgnoreRequest, IgnoreAnswer, IgnoreRule};
pub use tag::{Tag, TagRequest};

/// What a command is told while it runs. Called from several threads.
pub trait Observer: Send + Sync {
    /// Something happened.
    fn event(&self, event: Event);

    /// Whether it is worth some work to find out how much there is to do, where that is not known beforehand.
    fn wants_totals(&self) -> bool {
        false
    }
}

/// An observer that looks away.
#[derive(Debug, Clone, Copy)]
pub struct Silent;

impl Observer for Silent {
    fn event(&self, _: Event) {}
}

/// What happens while a command runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A phase of the work begins ("commit", "restore", "fsck" …); totals are `None` while unknown.
    Phase {
        /// What is done, as a present participle: "committing".
        #[serde(with = "wire")]
        what: wire::Word,
        /// Bytes to be done.
        bytes: Option<u64>,
        /// Files or objects to be done.
        items: Option<u64>,
    },
    /// It turned out how much the present phase comes to, about.
    Total {
        /// Bytes to be done, from its beginning.
        bytes: u64,
        /// Files or objects to be done.
        items: u64,
    },
    /// More of the present phase is done.
    Advance {
        /// Bytes since the last event.
        bytes: u64,
        /// Files or objects since the last event.
        items: u64,
    },
    /// Something that the user should know and that does not fail the command.
    Warning(Warning),
}

/// A warning, with the path that it is about if there is one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warning {
    /// Path from the root of the repository.
    #[serde(with = "wire")]
    pub path: Option<Vec<u8>>,
    /// What is the matter: "skipped: a socket".
    pub message: String,
}

/// `init`.
#[derive(Debug, Clone, Default)]
pub struct InitRequest {
    /// Average length of chunks; 64 KiB if not said.
    pub chunk_size: Option<u32>,
    /// What this node is called; the host's name if not said.
    pub name: Option<String>,
    /// Store frames as they are.
    pub no_compression: bool,
}

/// What `init` made.
#[derive(Debug, Clone)]
pub struct InitResult {
    /// The repository's id.
    pub repo: ContentHash,
    /// This node: its public key.
    pub node: ContentHash,
    /// The repository's root.
    pub path: PathBuf,
}

/// `commit`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CommitRequest {
    /// Made from the changes if not said.
    pub message: Option<String>,
    /// The configured author if not said.
    pub author: Option<String>,
    /// Who it is if none is configured either; user@host of this process if not said.
    pub author_default: Option<String>,
    /// Replaces the head, with its parents.
    pub amend: bool,
    /// Commits even if nothing changed.
    pub allow_empty: bool,
    /// What cannot be read keeps its entry of the head.
    pub partial: bool,
    /// Drops tracked paths that a rule leaves out.
    pub apply_ignore: bool,
    /// Reads every file again.
    pub no_cache: bool,
    /// Stores nothing.
    pub dry_run: bool,
}

/// What `commit` did.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CommitResult {
    /// The new commit; none if nothing changed, or in a dry run.
    #[serde(with = "wire")]
    pub commit: Option<CommitId>,
    /// The root of its tree.
    #[serde(with = "wire")]
    pub tree: Option<TreeId>,
    /// Its parents.
    #[serde(with = "wire")]
    pub parents: Vec<CommitId>,
    /// Its message.
    pub message: String,
    /// In a dry run: whether there would be a commit.
    pub would_commit: Option<bool>,
    /// Everything in the tree that is not a directory.
    pub files: u64,
    /// Bytes of all files in the tree.
    pub bytes: u64,
    /// Paths that the head did not have; of an amended commit, the one that it replaces.
    pub added: u64,
    /// Paths that it had with other content, mode or kind.
    pub modified: u64,
    /// Paths that it had and that are gone.
    pub deleted: u64,
    /// Raw bytes of chunks that were not stored before.
    pub new_bytes: u64,
    /// By how much the packs grew.
    pub stored_bytes: u64,
    /// Metadata objects that were not stored before.
    pub nodes_written: u64,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
    /// How long it took.
    pub elapsed: Duration,
}

/// A path that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unreadable {
    /// Which.
    #[serde(with = "wire")]
    pub path: Vec<u8>,
    /// Why.
    pub cause: String,
}

/// `status`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StatusRequest {
    /// Reads every file again.
    pub no_cache: bool,
    /// Only these and what is below them (from the root of the repository).
    #[serde(with = "wire")]
    pub paths: Vec<Vec<u8>>,
}

/// How a path differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// Not there before.
    Added,
    /// Other content or mode.
    Modified,
    /// Gone.
    Deleted,
    /// Another kind of thing.
    TypeChanged,
    /// Gone from one place and there, equal, at another.
    Renamed,
    /// Cannot be read: what it is now is not known.
    Unreadable,
}

impl ChangeKind {
    /// The letter in text output, and the `change` of JSON.
    pub fn letter(self) -> &'static str {
        match self {
            Self::Added => "A",
            Self::Modified => "M",
            Self::Deleted => "D",
            Self::TypeChanged => "T",
            Self::Renamed => "R",
            Self::Unreadable => "unreadable",
        }
    }
}

/// One changed path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// How.
    pub kind: ChangeKind,
    /// Where.
    #[serde(with = "wire")]
    pub path: Vec<u8>,
    /// Where it was, if it was renamed.
    #[serde(with = "wire")]
    pub from: Option<Vec<u8>>,
    /// What was there; none if nothing was, or if it cannot be read now.
    pub old: Option<Side>,
    /// What is there; none if nothing is, or nothing is known.
    pub new: Option<Side>,
    /// Whether the content differs, and not the mode or the attributes alone.
    pub content: bool,
    /// Whether the extended attributes of what both sides have differ. Of a file whose content differs, too, the
    /// working copy's are looked at only by a `diff` of contents.
    pub attrs: bool,
}

impl Change {
    /// A change of which no more is known.
    pub fn new(kind: ChangeKind, path: Vec<u8>) -> Self {
        Self { kind, path, from: None, old: None, new: None, content: false, attrs: false }
    }
}

/// What `status` found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct StatusResult {
    /// The head.
    #[serde(with = "wire")]
    pub head: Option<CommitId>,
    /// Up to which place in the order of publishes the rest is known; none if never in touch with a cluster.
    pub as_of: Option<u64>,
    /// What the cluster shows; none if never in touch.
    #[serde(with = "wire")]
    pub main: Option<CommitId>,
    /// Voters of which it is known that they hold what the cluster shows, and how many vote; none if that is not known.
    pub holders: Option<(Vec<u64>, u64)>,
    /// Local commits that are not published; `None` if never in touch.
    pub ahead: Option<u64>,
    /// Published commits that the head lacks.
    pub behind: Option<u64>,
    /// Changes, by path.
    pub changes: Vec<Change>,
    /// Conflict copies in the working copy.
    #[serde(with = "wire")]
    pub conflicts: Vec<Vec<u8>>,
    /// For each of them, what it is a copy of, if the head has nothing there: one side deleted what the other changed.
    #[serde(with = "wire")]
    pub deleted: Vec<Option<Vec<u8>>>,
    /// Of a partial copy: what it has, and what not.
    pub partial: Option<Partial>,
    /// How many objects the cluster has recorded as lost.
    pub lost: u64,
    /// No voter took this node for a member when it asked last.
    pub is_removed: bool,
}

impl StatusResult {
    /// Whether the working copy equals the head, and nothing stands where it has no part.
    pub fn is_clean(&self) -> bool {
        let is_inside = self.partial.as_ref().is_none_or(|partial| partial.outside.is_empty());
        self.changes.is_empty() && self.conflicts.is_empty() && is_inside
    }
}

/// What a partial copy has.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partial {
    /// The paths that were named when it was cloned.
    #[serde(with = "wire")]
    pub paths: Vec<Vec<u8>>,
    /// Files of the head that are not here.
    pub absent_files: u64,
    /// Their bytes.
    pub absent_bytes: u64,
    /// What stands in the working copy where it has no part: it is in no commit, and keeps from committing.
    #[serde(with = "wire")]
    pub outside: Vec<Vec<u8>>,
}

/// `log`.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// At most so many.
    pub limit: Option<u64>,
    /// Oldest first.
    pub reverse: bool,
    /// Where to begin; the head if not said.
    pub rev: Option<String>,
    /// Only commits that changed one of these (from the root of the repository).
    pub paths: Vec<Vec<u8>>,
}

/// What is known of a commit's signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureState {
    /// The node that the commit names signed it.
    Good,
    /// It did not.
    Bad,
    /// It cannot be judged.
    Unknown,
}

impl SignatureState {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Bad => "bad",
            Self::Unknown => "unknown",
        }
    }
}

/// One commit of a `log`.
#[derive(Debug, Clone)]
pub struct LogEntry {
    /// Its id.
    pub commit: CommitId,
    /// The root of its tree.
    pub tree: TreeId,
    /// Its parents.
    pub parents: Vec<CommitId>,
    /// Who.
    pub author: String,
    /// The node that signed it.
    pub node: ContentHash,
    /// When.
    pub time: Timestamp,
    /// Why.
    pub message: String,
    /// Its place in the order of publishes; none while only local.
    pub log_index: Option<u64>,
    /// Up to which place that is known; none if never in touch with a cluster.
    pub as_of: Option<u64>,
    /// Whether the signature is the node's.
    pub signature: SignatureState,
    /// Tags that name it, and HEAD.
    pub refs: Vec<String>,
    /// Whether its files are no longer kept; none if that cannot be told.
    pub expired: Option<bool>,
}

/// `ls`.
#[derive(Debug, Clone, Default)]
pub struct LsRequest {
    /// Which; the head's root if not said.
    pub target: Target,
    /// Everything below, too.
    pub recursive: bool,
    /// Also what costs a look-up: the BLAKE3 of files of more than one chunk.
    pub hashes: bool,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EntryKind {
    /// A file that nobody may execute.
    File,
    /// A file that its owner may execute.
    Executable,
    /// A symlink.
    Symlink,
    /// A directory.
    Directory,
}

impl EntryKind {
    /// What an entry is.
    pub fn of(entry: &Entry) -> Self {
        match &entry.node {
            Node::File { .. } if entry.mode.is_executable() => Self::Executable,
            Node::File { .. } => Self::File,
            Node::Symlink { .. } => Self::Symlink,
            Node::Directory(_) => Self::Directory,
        }
    }

    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Executable => "executable",
            Self::Symlink => "symlink",
            Self::Directory => "directory",
        }
    }
}

/// One entry of an `ls`.
#[derive(Debug, Clone)]
pub struct LsEntry {
    /// From the root of the repository.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u16,
    /// Bytes of a file, of all files below a directory, or of a link's target.
    pub size: u64,
    /// Directories have none.
    pub mtime: Option<Timestamp>,
    /// Chunk, list or tree; none for an empty file and for a symlink.
    pub id: Option<ContentHash>,
    /// BLAKE3 of the whole file, as `b3sum` prints it.
    pub b3: Option<ContentHash>,
    /// Of a symlink.
    pub target: Option<Vec<u8>>,
}

/// `cat`.
#[derive(Debug, Clone)]
pub struct CatRequest {
    /// `REV:PATH`.
    pub target: Target,
    /// First byte.
    pub offset: u64,
    /// How many bytes at most.
    pub length: Option<u64>,
}

/// `restore`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RestoreRequest {
    /// What to restore; the head if not said.
    pub rev: Option<String>,
    /// Into a new or empty directory instead of the working copy.
    #[serde(with = "wire")]
    pub to: Option<PathBuf>,
    /// Sync what `to` got.
    pub fsync: bool,
    /// Also remove what the commit lacks.
    pub delete: bool,
    /// Also replace what is in no commit.
    pub force: bool,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Only these (from the root of the repository).
    #[serde(with = "wire")]
    pub paths: Vec<Vec<u8>>,
}

/// What `restore` did, or would do.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct RestoreResult {
    /// Paths written.
    pub written: u64,
    /// Paths removed.
    pub deleted: u64,
    /// Paths that were as they should be.
    pub unchanged: u64,
    /// Paths left alone, or kept aside, since they hold what is in no commit.
    #[serde(with = "wire")]
    pub skipped: Vec<Vec<u8>>,
    /// Paths that could not be written since the store is damaged.
    pub damaged: Vec<Unreadable>,
    /// Bytes of files written.
    pub bytes: u64,
    /// In a dry run: what would be done, a line each.
    pub plan: Vec<PlannedStep>,
    /// How long it took.
    pub elapsed: Duration,
}

/// A step that `restore --dry-run` shows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedStep {
    /// "write", "delete" or "skip".
    #[serde(with = "wire")]
    pub action: wire::Word,
    /// Where.
    #[serde(with = "wire")]
    pub path: Vec<u8>,
}

/// `fsck`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FsckRequest {
    /// Checks and closure only; nothing is decompressed.
    pub quick: bool,
    /// Of file data, only so many of ten thousand frames are read, others each time.
    pub sample: Option<u32>,
    /// Stores again what is damaged and can be had elsewhere. Needs a writer.
    pub repair: bool,
}

/// What `fsck` found.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct FsckResult {
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// What is damaged or missing.
    pub damaged: Vec<DamagedObject>,
    /// What is, too, and is recorded as lost: no damage any more.
    pub lost: Vec<DamagedObject>,
    /// How many objects are recorded as lost, needed here or not, come back or not.
    pub lost_recorded: u64,
    /// Findings that belong to no object: a torn frame, a bad small file.
    pub findings: Vec<String>,
    /// What is wrong with what nothing needs, or has a good copy: no damage. The next `gc` removes it.
    pub notes: Vec<String>,
    /// Objects made good.
    pub repaired: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl FsckResult {
    /// Whether all is well.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.findings.is_empty()
    }
}

/// A damaged or missing object and whom it affects.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DamagedObject {
    /// Which.
    #[serde(with = "wire")]
    pub id: ContentHash,
    /// "chunk", "tree" …
    #[serde(with = "wire")]
    pub kind: wire::Word,
    /// What is wrong with it.
    pub cause: String,
    /// Paths as `COMMIT:PATH`-free bytes from the root, of commits that refer to it (at most 1000).
    #[serde(with = "wire")]
    pub paths: Vec<Vec<u8>>,
}
