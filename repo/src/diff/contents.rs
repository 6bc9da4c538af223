//! How the contents of a changed path differ, as far as they are text.

use std::io;
use std::ops::ControlFlow;
use std::os::fd::AsFd;

use filesync_merkle::{AttrsId, Content, Entry, Finder, Node, RepoPath, TreeLink, lookup};
use rustix::fs::fstat;
use rustix::io::Errno;

use super::text::diff_texts;
use crate::compare::side_of;
use crate::contents::each_chunk;
use crate::error::{Error, ErrorKind};
use crate::ingest::{attrs_id, read_attrs, read_fully};
use crate::repo::Repo;
use crate::request::{Change, ChangeKind, Difference, EntryKind, Patch, PatchBody, Side};
use crate::scan::{Stat, open_file, read_link};

/// The longest text. Both sides are held, and what is needed to compare them.
const TEXT_LEN_MAX: u64 = 32 << 20;
/// A NUL among so many first bytes makes a file no text, as in git.
const LOOKED_AT: usize = 8000;
/// How often a file that changes under the reader is read.
const TRIES: usize = 3;

/// Both sides, and where they are read from.
pub struct Contents<'a> {
    repo: &'a Repo,
    old_tree: TreeLink,
    old: Finder<'a>,
    new: Newer<'a>,
}

/// Where the newer side is.
pub enum Newer<'a> {
    /// Not in any tree.
    WorkingCopy,
    /// In a tree.
    Tree(Finder<'a>),
}

impl<'a> Newer<'a> {
    /// A tree; `None` is the empty one.
    pub fn tree(repo: &'a Repo, tree: Option<TreeLink>) -> Self {
        Self::Tree(Finder::new(repo.node_source(), tree.unwrap_or(TreeLink::empty())))
    }
}

/// What stands at a path, read.
struct Version {
    side: Side,
    attrs: Option<AttrsId>,
    text: Text,
}

enum Text {
    Bytes(Vec<u8>),
    /// No text, or too long.
    Opaque,
}

impl<'a> Contents<'a> {
    /// `old` is `None` for the empty tree.
    pub fn new(repo: &'a Repo, old: Option<TreeLink>, new: Newer<'a>) -> Self {
        let old_tree = old.unwrap_or(TreeLink::empty());
        Self { repo, old_tree, old: Finder::new(repo.node_source(), old_tree), new }
    }

    /// Compares the contents of a changed path. None if nothing differs any more: the working copy was changed back.
    pub fn compare(&mut self, mut change: Change) -> Result<Option<Difference>, Error> {
        let path = RepoPath::parse(&change.path)?;
        let patches = self.patches(&path, &mut change);
        let patches = patches.map_err(|error| error.during(format_args!("cannot compare {path}")))?;
        Ok(patches.map(|patches| Difference { change, patches }))
    }

    fn patches(&mut self, path: &RepoPath, change: &mut Change) -> Result<Option<Vec<Patch>>, Error> {
        let same = Patch { old: change.old, new: change.new, body: PatchBody::Same };
        Ok(Some(match change.kind {
            ChangeKind::Unreadable => Vec::new(),
            ChangeKind::Modified if change.new.is_some_and(|side| side.is_directory()) => Vec::new(),
            ChangeKind::Modified if change.content => return self.modified(path, change),
            ChangeKind::Modified => vec![same],
            ChangeKind::Renamed => {
                change.attrs = self.rename_changes_attrs(path, change)?;
                vec![same]
            }
            ChangeKind::Added | ChangeKind::Deleted | ChangeKind::TypeChanged => self.replaced(path, change)?,
        }))
    }

    /// The same kind of thing on both sides.
    fn modified(&mut self, path: &RepoPath, change: &mut Change) -> Result<Option<Vec<Patch>>, Error> {
        let old = self.old_version(path)?;
        let Text::Bytes(old_bytes) = old.text else {
            // Beside what is no text, the other side need not be read.
            return Ok(Some(vec![Patch { old: change.old, new: change.new, body: PatchBody::Binary }]));
        };
        let new = self.new_version(path, change.new)?;
        (change.new, change.attrs) = (Some(new.side), old.attrs != new.attrs);
        let body = match new.text {
            Text::Opaque => PatchBody::Binary,
            Text::Bytes(new_bytes) if new_bytes == old_bytes => PatchBody::Same,
            Text::Bytes(new_bytes) => PatchBody::Text(diff_texts(old_bytes, new_bytes)),
        };
        let is_same = body == PatchBody::Same && old.side == new.side && !change.attrs;
        Ok((!is_same).then(|| vec![Patch { old: change.old, new: change.new, body }]))
    }

    /// What is on one side only, or another kind of thing on each: as git has it, one goes and the other comes.
    fn replaced(&mut self, path: &RepoPath, change: &mut Change) -> Result<Vec<Patch>, Error> {
        let mut patches = Vec::new();
        if let Some(side) = change.old.filter(|side| !side.is_directory()) {
            let body = match self.old_version(path)?.text {
                Text::Opaque => PatchBody::Binary,
                Text::Bytes(bytes) => PatchBody::Text(diff_texts(bytes, Vec::new())),
            };
            patches.push(Patch { old: Some(side), new: None, body });
        }
        if change.new.is_some_and(|side| !side.is_directory()) {
            let Version { side, text, .. } = self.new_version(path, change.new)?;
            change.new = Some(side);
            let body = match text {
                Text::Opaque => PatchBody::Binary,
                Text::Bytes(bytes) => PatchBody::Text(diff_texts(Vec::new(), bytes)),
            };
            patches.push(Patch { old: None, new: Some(side), body });
        }
        Ok(patches)
    }

    fn rename_changes_attrs(&mut self, path: &RepoPath, change: &Change) -> Result<bool, Error> {
        let from = RepoPath::parse(change.from.as_deref().unwrap_or_default())?;
        // Old names come in any order.
        let old = lookup(self.repo.node_source(), &self.old_tree, &from)?;
        let new = match &mut self.new {
            Newer::Tree(finder) => finder.find(path)?.and_then(|entry| entry.attrs),
            Newer::WorkingCopy => {
                let root = self.repo.work_fd()?;
                let (file, _) = open_file(root.as_fd(), path)?;
                attrs_id(read_attrs(&file)?.as_ref())?
            }
        };
        Ok(old.and_then(|entry| entry.attrs) != new)
    }

    fn old_version(&mut self, path: &RepoPath) -> Result<Version, Error> {
        let entry = self.old.find(path)?;
        stored(self.repo, entry)
    }

    /// `seen` is what the walk saw.
    fn new_version(&mut self, path: &RepoPath, seen: Option<Side>) -> Result<Version, Error> {
        let repo = self.repo;
        match &mut self.new {
            Newer::Tree(finder) => stored(repo, finder.find(path)?),
            Newer::WorkingCopy => {
                let is_link = seen.is_some_and(|side| side.kind == EntryKind::Symlink);
                let version = if is_link { link_now(repo, path) } else { file_now(repo, path) };
                version.map_err(|error| match Errno::from_io_error(&error) {
                    // Another kind of thing stands there now, or above it, or nothing.
                    Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::INVAL | Errno::NXIO) | None
                        if error.kind() != io::ErrorKind::Other =>
                    {
                        Error::new(ErrorKind::Failed, "it changed meanwhile")
                    }
                    _ => error.into(),
                })
            }
        }
    }
}

/// What a tree has.
fn stored(repo: &Repo, entry: Option<Entry>) -> Result<Version, Error> {
    let none = || Error::new(ErrorKind::Damage, "the tree says different things about it");
    let entry = entry.ok_or_else(none)?;
    let text = match &entry.node {
        Node::File { size, content, .. } => stored_text(repo, *size, content)?,
        Node::Symlink { target, .. } => Text::Bytes(target.to_vec()),
        Node::Directory(_) => return Err(none()),
    };
    Ok(Version { side: Side::of(&entry), attrs: entry.attrs, text })
}

fn stored_text(repo: &Repo, size: u64, content: &Content) -> Result<Text, Error> {
    let Some(len) = usize::try_from(size).ok().filter(|_| size <= TEXT_LEN_MAX) else {
        return Ok(Text::Opaque);
    };
    let mut bytes = Vec::with_capacity(len);
    let mut is_text = true;
    each_chunk(repo, size, content, 0, &mut |_, chunk| {
        let was_judged = bytes.len() >= LOOKED_AT;
        bytes.extend_from_slice(chunk);
        is_text = was_judged || looks_like_text(&bytes);
        Ok(if is_text { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(if is_text { Text::Bytes(bytes) } else { Text::Opaque })
}

fn looks_like_text(bytes: &[u8]) -> bool {
    !bytes[..bytes.len().min(LOOKED_AT)].contains(&0)
}

/// The working copy's symlink as it is now.
fn link_now(repo: &Repo, path: &RepoPath) -> io::Result<Version> {
    let root = repo.work_fd().map_err(io::Error::other)?;
    let (target, _) = read_link(root.as_fd(), path)?;
    let side = Side { kind: EntryKind::Symlink, mode: 0, size: target.len() as u64 };
    Ok(Version { side, attrs: None, text: Text::Bytes(target) })
}

/// The working copy's file as it is now: nothing happened to it while it was read.
fn file_now(repo: &Repo, path: &RepoPath) -> io::Result<Version> {
    let root = repo.work_fd().map_err(io::Error::other)?;
    for _ in 0..TRIES {
        let (file, before) = open_file(root.as_fd(), path)?;
        let Some(text) = text_now(&file, &before)? else { continue };
        let attrs = attrs_id(read_attrs(&file)?.as_ref())?;
        let after = Stat::from(&fstat(&file)?);
        if after.is_untouched_since(&before) {
            return Ok(Version { side: side_of(&after), attrs, text });
        }
    }
    Err(io::Error::other("it changes while it is read"))
}

/// None if its length is not what it was.
fn text_now(file: &std::os::fd::OwnedFd, stat: &Stat) -> io::Result<Option<Text>> {
    let Some(len) = usize::try_from(stat.size).ok().filter(|_| stat.size <= TEXT_LEN_MAX) else {
        return Ok(Some(Text::Opaque));
    };
    let mut bytes = vec![0; len.min(LOOKED_AT)];
    if read_fully(file, &mut bytes, 0)? < bytes.len() {
        return Ok(None);
    }
    if !looks_like_text(&bytes) {
        return Ok(Some(Text::Opaque));
    }
    let known = bytes.len();
    // One byte more than it should have: so its end is seen in the same call.
    bytes.resize(len + 1, 0);
    let read = read_fully(file, &mut bytes[known..], known as u64)?;
    bytes.truncate(known + read);
    Ok((bytes.len() == len).then_some(Text::Bytes(bytes)))
}
