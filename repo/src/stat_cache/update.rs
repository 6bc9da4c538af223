//! Changes to the rows of directories, collected while a commit or status goes on and applied afterwards.

use std::iter::Peekable;
use std::ops::ControlFlow;

use filesync_cas::rows::{RowBatch, RowError};
use filesync_merkle::{Entry, Name, RepoPath, Timestamp, TreeLink};

use super::codec::{BLOCK_LEN_MAX, Block, Head, ROW_COUNT_MAX, row_len};
use super::{CachedRow, StatCache};
use crate::scan::Stat;

/// Rows to write and to delete.
///
/// Of each directory only blocks with changes are written, and its head. Calls are independent of each other, but no
/// directory may be given twice: what the first call wrote is not seen by the second.
pub struct CacheUpdate {
    cache: StatCache,
    stamp: Timestamp,
    batch: RowBatch,
}

impl CacheUpdate {
    /// Nothing yet. `stamp` is that of the scan which the changes come from.
    pub fn new(cache: StatCache, stamp: Timestamp) -> Self {
        Self { cache, stamp, batch: RowBatch::default() }
    }

    /// Changes some rows of a directory: sets those with a value, removes the others. Ascending by name.
    ///
    /// `link` is the tree whose entries the rows are *after* the changes, if there is one. It is dropped if the rows
    /// that the changes build on are lost.
    pub fn change(
        &mut self,
        directory: &RepoPath,
        link: Option<TreeLink>,
        changes: impl IntoIterator<Item = (Name, Option<(Stat, Entry)>)>,
    ) -> Result<(), RowError> {
        let Some(key) = self.cache.key(directory.as_bytes()) else {
            return Ok(());
        };
        let old = self.cache.rows.get(&key)?.and_then(|bytes| Head::decode(&bytes));
        let Some(old) = old else {
            // The changes alone are not all of its entries.
            return self.write(directory, key, None, changes);
        };
        Writer::new(self, key, link, Some(old)).run(changes);
        Ok(())
    }

    /// Replaces all rows of a directory, whatever they are. Ascending by name.
    ///
    /// `link` as for [`Self::change`].
    pub fn replace(
        &mut self,
        directory: &RepoPath,
        link: Option<TreeLink>,
        rows: impl IntoIterator<Item = (Name, Stat, Entry)>,
    ) -> Result<(), RowError> {
        let Some(key) = self.cache.key(directory.as_bytes()) else {
            return Ok(());
        };
        self.write(directory, key, link, rows.into_iter().map(|(name, stat, entry)| (name, Some((stat, entry)))))
    }

    /// Begins to replace all rows of a directory, however many they are; `None` if this one is not kept.
    pub fn begin(&mut self, directory: &RepoPath) -> Result<Option<Replacement>, RowError> {
        let Some(key) = self.cache.key(directory.as_bytes()) else {
            return Ok(None);
        };
        self.remove_range(&key)?;
        let head = Head { stamp: self.stamp, link: None, blocks: Vec::new(), rows: Vec::new() };
        Ok(Some(Replacement { key, head, past_head: false, pending: Pending::default() }))
    }

    /// Adds the next row. Ascending by name.
    pub fn push(&mut self, replacement: &mut Replacement, name: Name, stat: &Stat, entry: Entry) {
        let row = CachedRow::new(name, entry, stat, self.stamp);
        if let Some(block) = replacement.pending.push(row) {
            replacement.emit(block, &mut self.batch);
        }
    }

    /// Ends a replacement; until then, the directory has no rows that anybody would use. `link` as for [`Self::change`].
    pub fn end(&mut self, mut replacement: Replacement, link: Option<TreeLink>) {
        let rest = std::mem::take(&mut replacement.pending.rows);
        replacement.emit(rest, &mut self.batch);
        replacement.head.link = link;
        self.batch.put(replacement.key, replacement.head.encode());
    }

    /// Takes what has been collected so far, to be applied before the rest.
    pub fn take(&mut self) -> RowBatch {
        std::mem::take(&mut self.batch)
    }

    /// Removes the rows of a directory and of everything below it.
    pub fn remove_tree(&mut self, directory: &RepoPath) -> Result<(), RowError> {
        let from = self.cache.subtree(directory.as_bytes());
        self.remove_range(&from)
    }

    /// How many bytes have been collected, about.
    pub fn len(&self) -> usize {
        self.batch.0.iter().map(|(key, value)| key.len() + value.as_ref().map_or(0, Vec::len)).sum()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.batch.0.is_empty()
    }

    /// What is to be applied, in this order, after HEAD has moved.
    pub fn finish(self) -> RowBatch {
        self.batch
    }

    fn write(
        &mut self,
        directory: &RepoPath,
        key: Vec<u8>,
        link: Option<TreeLink>,
        rows: impl IntoIterator<Item = (Name, Option<(Stat, Entry)>)>,
    ) -> Result<(), RowError> {
        debug_assert_eq!(self.cache.key(directory.as_bytes()).as_ref(), Some(&key));
        self.remove_range(&key)?;
        Writer::new(self, key, link, None).run(rows);
        Ok(())
    }

    /// Deletes all rows whose keys begin with `from`.
    fn remove_range(&mut self, from: &[u8]) -> Result<(), RowError> {
        let to = after_all_with(from);
        let batch = &mut self.batch;
        self.cache.rows.scan(from, &to, &mut |key, _| {
            batch.delete(key);
            ControlFlow::Continue(())
        })
    }
}

/// All rows of a directory, written as they come.
pub struct Replacement {
    key: Vec<u8>,
    head: Head,
    past_head: bool,
    pending: Pending,
}

impl Replacement {
    /// Keeps the first block in the head, and writes the others under their first names.
    fn emit(&mut self, rows: Vec<CachedRow>, batch: &mut RowBatch) {
        let Some(first) = rows.first() else { return };
        if !std::mem::replace(&mut self.past_head, true) {
            self.head.rows = rows;
            return;
        }
        let (name, stamp) = (first.name.clone(), self.head.stamp);
        let key = [self.key.as_slice(), name.as_bytes()].concat();
        batch.put(key, Block { stamp, rows }.encode());
        self.head.blocks.push((name, stamp));
    }
}

/// The least key that is greater than all that begin with `prefix`.
pub(super) fn after_all_with(prefix: &[u8]) -> Vec<u8> {
    let mut to = prefix.to_vec();
    while let Some(last) = to.pop() {
        if last < u8::MAX {
            to.push(last + 1);
            return to;
        }
    }
    vec![u8::MAX; prefix.len() + 256]
}

/// Writes one directory, block by block.
struct Writer<'a> {
    update: &'a mut CacheUpdate,
    key: Vec<u8>,
    old: Option<Head>,
    new: Head,
    is_changed: bool,
    /// Whether the head's own rows were written already.
    past_head: bool,
    /// Whether rows that should be there could not be read.
    lost: bool,
}

impl<'a> Writer<'a> {
    fn new(update: &'a mut CacheUpdate, key: Vec<u8>, link: Option<TreeLink>, old: Option<Head>) -> Self {
        let stamp = update.stamp;
        let is_changed = old.as_ref().is_none_or(|old| old.link != link);
        let new = Head { stamp, link, blocks: Vec::new(), rows: Vec::new() };
        Self { update, key, old, new, is_changed, past_head: false, lost: false }
    }

    fn run(mut self, changes: impl IntoIterator<Item = (Name, Option<(Stat, Entry)>)>) {
        let mut changes = changes.into_iter().peekable();
        let (head_rows, blocks) = match self.old.take() {
            Some(old) => (old.rows, old.blocks),
            None => (Vec::new(), Vec::new()),
        };
        let mut end = blocks.first().map(|(first, _)| first.clone());
        self.is_changed |= has_change(&mut changes, end.as_ref());
        self.merge(None, head_rows, &mut changes, end.as_ref());
        for (at, (first, stamp)) in blocks.iter().enumerate() {
            end = blocks.get(at + 1).map(|(next, _)| next.clone());
            if !has_change(&mut changes, end.as_ref()) {
                self.new.blocks.push((first.clone(), *stamp));
                continue;
            }
            self.is_changed = true;
            let rows = match self.update.cache.block(&self.key, first, *stamp) {
                Some(block) => block.rows,
                None => {
                    self.lost = true;
                    Vec::new()
                }
            };
            self.merge(Some(first), rows, &mut changes, end.as_ref());
        }
        if self.lost {
            self.new.link = None;
        }
        if self.is_changed {
            self.update.batch.put(self.key, self.new.encode());
        }
    }

    /// Merges a block's rows with the changes up to `end`, and writes what comes of it. `first` is the name under
    /// which the block is stored, `None` for the head.
    fn merge(
        &mut self,
        first: Option<&Name>,
        rows: Vec<CachedRow>,
        changes: &mut Peekable<impl Iterator<Item = (Name, Option<(Stat, Entry)>)>>,
        end: Option<&Name>,
    ) {
        let stamp = self.update.stamp;
        let mut full = Vec::new();
        let mut pending = Pending::default();
        let mut rows = rows.into_iter().peekable();
        loop {
            let change = changes.peek().map(|(name, _)| name).filter(|&name| end.is_none_or(|end| name < end));
            let from_row = match (rows.peek(), change) {
                (None, None) => break,
                (Some(row), Some(name)) if row.name == *name => {
                    rows.next();
                    continue;
                }
                (Some(row), Some(name)) => row.name < *name,
                (row, None) => row.is_some(),
                (None, Some(_)) => false,
            };
            let row = if from_row {
                rows.next()
            } else {
                let change = changes.next();
                change.and_then(|(name, value)| value.map(|(stat, entry)| CachedRow::new(name, entry, &stat, stamp)))
            };
            if let Some(row) = row
                && let Some(block) = pending.push(row)
            {
                self.emit(first, block, &mut full);
            }
        }
        let rest = std::mem::take(&mut pending.rows);
        self.emit(first, rest, &mut full);
        if let Some(first) = first
            && !full.contains(first)
        {
            self.update.batch.delete([self.key.as_slice(), first.as_bytes()].concat());
        }
    }

    /// Writes one block, under `first` if that is not taken and else under its own first name.
    fn emit(&mut self, first: Option<&Name>, rows: Vec<CachedRow>, written: &mut Vec<Name>) {
        if first.is_none() && !self.past_head {
            self.past_head = true;
            self.new.rows = rows;
            return;
        }
        let Some(own) = rows.first() else {
            return;
        };
        let name = match first {
            Some(first) if written.is_empty() => first.clone(),
            _ => own.name.clone(),
        };
        let stamp = self.update.stamp;
        self.update.batch.put([self.key.as_slice(), name.as_bytes()].concat(), Block { stamp, rows }.encode());
        self.new.blocks.push((name.clone(), stamp));
        written.push(name);
    }
}

fn has_change<T>(changes: &mut Peekable<impl Iterator<Item = (Name, T)>>, end: Option<&Name>) -> bool {
    changes.peek().is_some_and(|(name, _)| end.is_none_or(|end| name < end))
}

/// Rows that will be a block.
#[derive(Default)]
struct Pending {
    rows: Vec<CachedRow>,
    len: usize,
}

impl Pending {
    /// Takes a row in; gives a block back when the limit is reached, a quarter of which stays free for later.
    fn push(&mut self, row: CachedRow) -> Option<Vec<CachedRow>> {
        let len = row_len(&row);
        let full = self.rows.len() >= ROW_COUNT_MAX || self.len + len > BLOCK_LEN_MAX;
        let keep = ROW_COUNT_MAX / 4 * 3;
        let done = if full {
            let rest = if self.rows.len() > keep { self.rows.split_off(keep) } else { Vec::new() };
            let block = std::mem::replace(&mut self.rows, rest);
            self.len = self.rows.iter().map(row_len).sum();
            Some(block)
        } else {
            None
        };
        self.len += len;
        self.rows.push(row);
        done
    }
}
