//! What looks back and compares: `diff`, `show`, `du`, and what `REV:PATH` is.

use std::ops::Range;

use filesync_merkle::{Entry, Node, Totals};
use serde::{Deserialize, Serialize};

use super::{Change, EntryKind, LogEntry};
use crate::error::{Error, ErrorKind};

/// `REV[:PATH]`. The path need not be UTF-8.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// The head if not said.
    pub rev: Option<String>,
    /// From the root of the repository; none if there was no colon.
    pub path: Option<Vec<u8>>,
}

impl Target {
    /// Splits at the first colon.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let (rev, path) = match bytes.iter().position(|&byte| byte == b':') {
            Some(at) => (&bytes[..at], Some(bytes[at + 1..].to_vec())),
            None => (bytes, None),
        };
        let rev = std::str::from_utf8(rev).map_err(|_| {
            let shown = String::from_utf8_lossy(rev);
            Error::new(ErrorKind::Usage, format!("cannot use revision {shown}: not UTF-8"))
        })?;
        // A colon alone stands behind the head.
        let rev = if rev.is_empty() && path.is_some() { None } else { Some(rev.to_owned()) };
        Ok(Self { rev, path })
    }
}

/// What stands on one side of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits; 0 for symlinks.
    pub mode: u16,
    /// Bytes of a file or of a link's target; 0 for directories.
    pub size: u64,
}

impl Side {
    /// What an entry is.
    pub fn of(entry: &Entry) -> Self {
        let kind = EntryKind::of(entry);
        let size = match &entry.node {
            Node::File { size, .. } => *size,
            Node::Symlink { target, .. } => target.len() as u64,
            Node::Directory(_) => 0,
        };
        Self { kind, mode: entry.mode.bits(), size }
    }

    /// The mode as git writes it, with all permission bits: `100644`, `120000`, `040755`.
    pub fn git_mode(&self) -> u32 {
        let kind = match self.kind {
            EntryKind::File | EntryKind::Executable => 0o100_000,
            EntryKind::Symlink => 0o120_000,
            EntryKind::Directory => 0o040_000,
        };
        kind | u32::from(self.mode)
    }

    /// Whether it has no content of its own.
    pub fn is_directory(&self) -> bool {
        self.kind == EntryKind::Directory
    }
}

/// `diff`.
#[derive(Debug, Clone, Default)]
pub struct DiffRequest {
    /// The older side; the head if not said, which is nothing before the first commit.
    pub from: Option<String>,
    /// The newer side; the working copy if not said.
    pub to: Option<String>,
    /// Only these and what is below them (from the root of the repository).
    pub paths: Vec<Vec<u8>>,
    /// Compare contents, line by line where they are text.
    pub contents: bool,
}

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What changed.
    pub change: Change,
    /// How the contents differ; one patch, or two where one kind of thing takes the place of another. Empty for
    /// directories, for what cannot be read, and if contents were not asked for.
    pub patches: Vec<Patch>,
}

/// From one content to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// What was there; none if it is new.
    pub old: Option<Side>,
    /// What is there; none if it is gone.
    pub new: Option<Side>,
    /// How they differ.
    pub body: PatchBody,
}

/// How two contents differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PatchBody {
    /// Not at all.
    Same,
    /// In a way that is not shown: one of them is no text, or too large.
    Binary,
    /// Line by line.
    Text(TextDiff),
}

/// Two texts and where they differ.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TextDiff {
    pub(crate) old: Vec<u8>,
    pub(crate) new: Vec<u8>,
    pub(crate) hunks: Vec<Hunk>,
    /// Lines that only the new text has.
    pub insertions: u64,
    /// Lines that only the old text has.
    pub deletions: u64,
}

/// Lines that differ, with some around them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hunk {
    /// Which lines of the old text it is about, counted from 0.
    pub old: Range<usize>,
    /// Which lines of the new text.
    pub new: Range<usize>,
    /// Stretches of lines; bytes of the new text if added, of the old one otherwise.
    pub(crate) parts: Vec<(Sign, Range<usize>)>,
}

/// On which side lines are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sign {
    /// On both.
    Context,
    /// On the old one only.
    Removed,
    /// On the new one only.
    Added,
}

impl TextDiff {
    /// Where they differ, in order; nowhere if they are equal.
    pub fn hunks(&self) -> &[Hunk] {
        &self.hunks
    }

    /// The lines of a hunk, each with its newline; the last of a text may have none.
    pub fn lines<'a>(&'a self, hunk: &'a Hunk) -> impl Iterator<Item = (Sign, &'a [u8])> {
        hunk.parts.iter().flat_map(|(sign, bytes)| {
            let text = if *sign == Sign::Added { &self.new } else { &self.old };
            let lines = text[bytes.clone()].split_inclusive(|&byte| byte == b'\n');
            lines.map(|line| (*sign, line))
        })
    }
}

/// `show`.
#[derive(Debug, Clone, Default)]
pub struct ShowRequest {
    /// Which commit; the head if not said.
    pub rev: Option<String>,
    /// As [`DiffRequest::paths`].
    pub paths: Vec<Vec<u8>>,
    /// As [`DiffRequest::contents`].
    pub contents: bool,
}

/// What `show` shows.
#[derive(Debug, Clone)]
pub enum Shown {
    /// The commit: once, first.
    Commit(Box<LogEntry>),
    /// What it changed in its first parent's tree, or in the empty one.
    Difference(Box<Difference>),
}

/// `du`.
#[derive(Debug, Clone, Default)]
pub struct DuRequest {
    /// What; the head's root if not said.
    pub target: Target,
    /// Directories so many levels down at most: with 0 the target alone.
    pub depth: Option<usize>,
}

/// What a directory, or the file that was asked for, comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DuEntry {
    /// From the root of the repository; the root itself is empty.
    pub path: Vec<u8>,
    /// What is below it, counted recursively, or the file itself.
    pub totals: Totals,
}
