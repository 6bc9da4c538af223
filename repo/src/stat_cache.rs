//! What the working copy looked like when it was last read, so that unchanged files need not be read again.
//!
//! Each directory has rows that say, for every entry of some tree, what `stat` said when that entry was made. If the
//! directory's [`TreeLink`] stands beside them, that tree has exactly these entries, subdirectories with their links
//! included: a directory whose entries are all clean, and whose link is HEAD's, is unchanged, and no node of it has
//! to be loaded. (A subdirectory's entry says nothing about what is below it now; the walk goes there anyway.)
//!
//! Promise: a row is used only if it decodes strictly, was written together with the others of its directory as far
//! as it must be, and agrees with `stat` in device, inode, size, mode, mtime and ctime; and an entry that was not
//! older than the scan's stamp is never clean (rule 15 of the storage notes). Rows may be missing or old at any time.
//! Left to others: when to apply a [`CacheUpdate`] (after HEAD has moved), and to guard rows against bad disks.
//!
//! **Keys.** `prefix ‖ each component of the directory's path, 0x00 behind each ‖ 0x00 ‖ first name of the block`.
//! Names are not empty and have no NUL, so that the second of two NULs ends the path; keys are in the order of a
//! walk; the rows of a subtree lie together, and a directory's own before those below it.
//! A directory has a *head* row, with an empty first name, and as many *block* rows as it needs. Each covers the names
//! from its first one up to the next block's, and is written as a whole, with the stamp of the scan that wrote it:
//!
//! ```text
//! head:   u8 version = 1 | u8 1 | u8 1 if link, else 0 | u8 0 | stamp | [link]
//!         u32 count of block rows | each: u16 length | first name | its stamp        | block
//! block:  u8 version = 1 | u8 2 | u16 0 | stamp                                       | block
//! stamp:  i64 seconds | u32 nanoseconds
//! link:   [32] id | u8 height | u64 files | u64 directories | u64 bytes
//! block:  u32 count (at most 512) | count times stat | a tree's leaf node with count entries (format, section 1.4)
//! stat:   u8 1 if racy, else 0 | u16 mode | u64 device | u64 inode | mtime | ctime, as stamps
//! ```
//! The head knows the stamps of its blocks: rows of two writes that did not come together are noticed. The size is
//! the entry's. Of a directory only kind and permissions are compared.

mod codec;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
mod update;

use std::ops::ControlFlow;
use std::sync::Arc;

use filesync_cas::ContentHash;
use filesync_cas::rows::{RowBatch, Rows};
use filesync_merkle::{Entry, Name, Node, RepoPath, Timestamp, TreeLink};

use self::codec::{Block, Head};
use crate::error::Error;
use crate::scan::{Kind, Stat};

pub use self::update::{CacheUpdate, Replacement};

/// Directories with longer paths have no rows: their keys would cost more than reading them.
const KEY_LEN_MAX: usize = 32 << 10;

/// The rows of one working copy.
#[derive(Clone)]
pub struct StatCache {
    rows: Arc<dyn Rows>,
    prefix: Vec<u8>,
}

impl StatCache {
    /// Rows whose keys begin with `prefix`.
    pub fn new(rows: Arc<dyn Rows>, prefix: &[u8]) -> Self {
        Self { rows, prefix: prefix.to_vec() }
    }

    /// What is known about a directory; nothing if its rows are missing, damaged or unreadable.
    pub fn load(&self, directory: &RepoPath) -> Option<CachedDir> {
        self.load_bytes(directory.as_bytes())
    }

    /// As [`Self::load`], for a path that need not be one of the repository's.
    pub(crate) fn load_bytes(&self, directory: &[u8]) -> Option<CachedDir> {
        let key = self.key(directory)?;
        let head = Head::decode(&self.rows.get(&key).ok()??)?;
        Some(CachedDir { cache: self.clone(), key, head })
    }

    /// Removes every row that speaks of an object which is not there to stay. What is lost of a directory by that is
    /// read again.
    pub fn stale(&self, is_live: &dyn Fn(&ContentHash) -> Result<bool, Error>) -> Result<RowBatch, Error> {
        let mut stale = RowBatch::default();
        let mut failed = None;
        self.rows.scan(&self.prefix, &update::after_all_with(&self.prefix), &mut |key, value| {
            let ids = codec::objects_of(value);
            // A row that is none speaks of nothing, and nobody reads it.
            let all_live = ids.unwrap_or_default().iter().map(is_live).try_fold(true, |all, live| Ok(all && live?));
            match all_live {
                Ok(true) => ControlFlow::Continue(()),
                Ok(false) => {
                    stale.delete(key);
                    ControlFlow::Continue(())
                }
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(stale), Err)
    }

    /// The key of the head row.
    fn key(&self, directory: &[u8]) -> Option<Vec<u8>> {
        let mut key = self.subtree(directory);
        key.push(0);
        (key.len() <= KEY_LEN_MAX).then_some(key)
    }

    /// What the keys of a directory and of everything below it begin with.
    fn subtree(&self, directory: &[u8]) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix.len() + directory.len() + 2);
        key.extend_from_slice(&self.prefix);
        if !directory.is_empty() {
            key.extend(directory.iter().map(|&byte| if byte == b'/' { 0 } else { byte }));
            key.push(0);
        }
        key
    }

    fn block(&self, head_key: &[u8], first: &Name, stamp: Timestamp) -> Option<Block> {
        let key = [head_key, first.as_bytes()].concat();
        let block = Block::decode(&self.rows.get(&key).ok()??)?;
        (block.stamp == stamp && block.rows.first().is_none_or(|row| row.name >= *first)).then_some(block)
    }
}

/// What is known about one directory.
pub struct CachedDir {
    cache: StatCache,
    key: Vec<u8>,
    head: Head,
}

impl CachedDir {
    /// The tree that has exactly these entries, if that is known.
    pub fn link(&self) -> Option<TreeLink> {
        self.head.link
    }

    /// All rows of a directory that has no block rows; otherwise as [`Self::rows`].
    pub fn into_rows(self) -> Option<Vec<CachedRow>> {
        if self.head.blocks.is_empty() { Some(self.head.rows) } else { self.rows(b"", None) }
    }

    /// The rows with `from <= name` and, unless `to` is `None`, `name < to`.
    ///
    /// `None` if some of them are lost; then [`Self::link`] does not hold either.
    pub fn rows(&self, from: &[u8], to: Option<&[u8]>) -> Option<Vec<CachedRow>> {
        let inside = |row: &CachedRow| row.name.as_bytes() >= from && to.is_none_or(|to| row.name.as_bytes() < to);
        let mut rows: Vec<CachedRow> = self.head.rows.iter().filter(|row| inside(row)).cloned().collect();
        for (at, (first, stamp)) in self.head.blocks.iter().enumerate() {
            let ends_before = self.head.blocks.get(at + 1).is_some_and(|(next, _)| next.as_bytes() <= from);
            if ends_before || to.is_some_and(|to| first.as_bytes() >= to) {
                continue;
            }
            rows.extend(self.cache.block(&self.key, first, *stamp)?.rows.into_iter().filter(inside));
        }
        rows.is_sorted_by(|a, b| a.name < b.name).then_some(rows)
    }
}

/// One entry, and what `stat` said when it was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CachedRow {
    /// The name in its directory.
    pub name: Name,
    /// The entry.
    pub entry: Entry,
    racy: bool,
    mode: u16,
    dev: u64,
    ino: u64,
    mtime: Timestamp,
    ctime: Timestamp,
}

impl CachedRow {
    /// The row for an entry that was made from a file with this stat, in a scan with this stamp.
    pub fn new(name: Name, entry: Entry, stat: &Stat, stamp: Timestamp) -> Self {
        let racy = stat.is_racy(stamp);
        Self { name, entry, racy, mode: stat.mode, dev: stat.dev, ino: stat.ino, mtime: stat.mtime, ctime: stat.ctime }
    }

    /// Whether the entry still stands for what `stat` says now. Of a directory: kind and permissions.
    pub fn is_clean(&self, stat: &Stat) -> bool {
        let same_file = || {
            !self.racy
                && self.mtime == stat.mtime
                && self.ctime == stat.ctime
                && self.ino == stat.ino
                && self.dev == stat.dev
                && self.mode == stat.mode
        };
        match &self.entry.node {
            Node::Directory(_) => stat.kind == Kind::Directory && self.entry.mode == stat.permissions(),
            Node::File { size, .. } => stat.kind == Kind::File && *size == stat.size && same_file(),
            Node::Symlink { target, .. } => {
                stat.kind == Kind::Symlink && u64::try_from(target.len()) == Ok(stat.size) && same_file()
            }
        }
    }
}
