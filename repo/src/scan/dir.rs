//! One directory: names, stat, and what the cache knows, merged.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use filesync_merkle::{Entry, Mode, Name, RepoPath, TreeLink};
use rustix::fs::{AtFlags, OFlags, fstat, statat};
use rustix::io::Errno;

use super::error::{EntryError, ScanError};
use super::list::{Listed, Listing, Scratch};
use super::open::open_beneath;
use super::stat::{Kind, Stat};
use super::{BATCH_LEN, DEPTH_MAX, Shared, rules};
use crate::ignore::Rules;
use crate::stat_cache::{CachedDir, CachedRow};

/// A directory of the working copy.
pub struct DirScan {
    shared: Arc<Shared>,
    key: Vec<u8>,
    listing: Arc<Listing>,
    cached: Option<Arc<CachedDir>>,
    link: Option<TreeLink>,
    first: Option<Batch>,
    /// The next batch.
    next: usize,
}

/// Some of a directory's names, ascending.
#[derive(Debug, Default)]
pub struct Batch {
    /// What can be tracked.
    pub entries: Vec<ScanEntry>,
    /// Names that the cache has a row for, and under which nothing that can be tracked stands any more.
    pub gone: Vec<Name>,
    /// What is never tracked, and not left out by a rule either: to be warned of.
    pub skipped: Vec<Skipped>,
    /// Names about which the system says nothing. They may well be there.
    pub failed: Vec<EntryError>,
    /// Whether rows of the cache are lost, so that what is gone is not known.
    is_lossy: bool,
}

/// One name.
#[derive(Debug)]
pub struct ScanEntry {
    /// The name in its directory.
    pub name: Name,
    /// What stands there; never [`Kind::Other`].
    pub kind: Kind,
    /// Whether ignore rules leave it out. It counts only if it is tracked.
    pub ignored: bool,
    /// What `stat` says. `None` if it is left out and the cache does not know it either: nobody asked.
    pub stat: Option<Stat>,
    /// The entry of the cache, if it still stands for what is there. A directory's has the link of that time; kind and
    /// permissions are all that was compared.
    pub cached: Option<Entry>,
}

/// A name that is never tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// The name, which need not be a valid one.
    pub name: Vec<u8>,
    /// Why.
    pub why: SkipReason,
}

/// Why a name is never tracked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SkipReason {
    /// A FIFO, socket or device.
    NotKept,
    /// The store of another repository.
    NestedRepository,
    /// The format refuses the name: so it says.
    Refused(&'static str),
}

impl DirScan {
    pub(super) fn new(shared: Arc<Shared>, key: Vec<u8>, found: Found) -> Self {
        let Found { listing, cached, link, first } = found;
        let link = if first.is_lossy { None } else { link };
        Self { shared, key, listing, cached, link, first: Some(first), next: 0 }
    }

    /// Where it is.
    pub fn path(&self) -> &RepoPath {
        &self.listing.path
    }

    /// Its own permissions.
    pub fn permissions(&self) -> Mode {
        self.listing.mode
    }

    /// How many names there are, in all batches.
    pub fn len(&self) -> usize {
        self.listing.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The tree whose entries the cache has, all of them and no others.
    ///
    /// If [`Batch::is_unchanged`] of every batch, the directory has the same entries now, apart from what lies below
    /// its subdirectories. Rows may turn out to be lost with a later batch, and then this is `None` from there on: in
    /// a directory of several batches, ask again at the end.
    pub fn link(&self) -> Option<TreeLink> {
        self.link
    }

    /// Where the batch begins that was given last: no name before this one belongs to it.
    pub fn batch_start(&self) -> &[u8] {
        match self.next.checked_sub(1) {
            None | Some(0) => b"",
            Some(last) => self.listing.get(last * BATCH_LEN).name(),
        }
    }

    /// The next names; `None` after the last. The first batch is there already, and cannot fail.
    pub fn next_batch(&mut self) -> Result<Option<Batch>, ScanError> {
        let index = self.next;
        if index > 0 && index * BATCH_LEN >= self.listing.len() {
            return Ok(None);
        }
        self.next += 1;
        if let Some(first) = self.first.take() {
            return Ok(Some(first));
        }
        let batch = self.shared.batch(&self.key, &self.listing, self.cached.as_deref(), index)?;
        if batch.is_lossy {
            self.link = None;
        }
        Ok(Some(batch))
    }
}

impl Batch {
    /// Whether everything is as the cache says: each of its rows is clean, and whatever else there is, is left out.
    pub fn is_unchanged(&self) -> bool {
        let as_cached = |entry: &ScanEntry| entry.cached.is_some() || (entry.ignored && entry.stat.is_none());
        !self.is_lossy && self.gone.is_empty() && self.failed.is_empty() && self.entries.iter().all(as_cached)
    }
}

/// A directory as the threads hand it over.
pub(super) struct Found {
    pub(super) listing: Arc<Listing>,
    /// For the batches after the first.
    pub(super) cached: Option<Arc<CachedDir>>,
    pub(super) link: Option<TreeLink>,
    pub(super) first: Batch,
}

/// Reads a directory: its names and the first batch.
pub(super) fn scan(
    shared: &Shared,
    path: RepoPath,
    above: &Rules,
    left_out: bool,
    scratch: &mut Scratch,
) -> Result<Found, ScanError> {
    if path.depth() > DEPTH_MAX {
        return Err(ScanError::TooDeep { path });
    }
    let failed = |source: io::Error| ScanError::Directory { path: path.clone(), source };
    let fd = open(shared, &path)?;
    let mode = Stat::from(&fstat(&fd).map_err(|cause| failed(cause.into()))?).permissions();
    let mut listing = Listing::read(fd.as_fd(), path.clone(), mode, scratch).map_err(failed)?;
    let own = !left_out && listing.has_ignore_file();
    let rules = if own { rules::read(fd.as_fd(), &path, above)? } else { above.clone() };
    listing.apply(rules, left_out);
    let refused = listing.take_refused();

    let cached = shared.cache.as_ref().and_then(|cache| cache.load(&path));
    let link = cached.as_ref().and_then(CachedDir::link);
    let mut cached = cached;
    let rows = if listing.len() <= BATCH_LEN {
        cached.take().map(CachedDir::into_rows)
    } else {
        cached.as_ref().map(|cached| rows_of(cached, &listing, 0))
    };
    let mut first = merge(fd.as_fd(), &listing, 0, rows);
    first.skipped.extend(refused);
    Ok(Found { listing: Arc::new(listing), cached: cached.map(Arc::new), link, first })
}

/// Reads a batch after the first.
pub(super) fn scan_batch(
    shared: &Shared,
    listing: &Listing,
    cached: Option<&CachedDir>,
    index: usize,
) -> Result<Batch, ScanError> {
    let fd = open(shared, &listing.path)?;
    let rows = cached.map(|cached| rows_of(cached, listing, index));
    Ok(merge(fd.as_fd(), listing, index, rows))
}

fn open(shared: &Shared, path: &RepoPath) -> Result<std::os::fd::OwnedFd, ScanError> {
    open_beneath(shared.root.as_fd(), path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)
        .map_err(|source| ScanError::Directory { path: path.clone(), source })
}

/// The rows that belong to a batch: up to the first name of the next.
fn rows_of(cached: &CachedDir, listing: &Listing, index: usize) -> Option<Vec<CachedRow>> {
    let from = if index == 0 { b"" } else { listing.get(index * BATCH_LEN).name() };
    let next = (index + 1) * BATCH_LEN;
    let to = (next < listing.len()).then(|| listing.get(next).name());
    cached.rows(from, to)
}

/// Asks for each name, and puts the rows beside them. `rows`: `None` without a cache, `Some(None)` if they are lost.
fn merge(fd: BorrowedFd<'_>, listing: &Listing, index: usize, rows: Option<Option<Vec<CachedRow>>>) -> Batch {
    let names = index * BATCH_LEN..((index + 1) * BATCH_LEN).min(listing.len());
    let mut batch = Batch { is_lossy: matches!(rows, Some(None)), ..Batch::default() };
    batch.entries.reserve_exact(names.len());
    let mut rows = rows.flatten().unwrap_or_default().into_iter().peekable();
    for at in names {
        let listed = listing.get(at);
        while let Some(row) = rows.next_if(|row| row.name.as_bytes() < listed.name()) {
            batch.gone.push(row.name);
        }
        let row = rows.next_if(|row| row.name.as_bytes() == listed.name());
        batch.add(fd, listed, row);
    }
    batch.gone.extend(rows.map(|row| row.name));
    batch
}

impl Batch {
    fn add(&mut self, fd: BorrowedFd<'_>, listed: Listed<'_>, row: Option<CachedRow>) {
        let Listed { kind, ignored, .. } = listed;
        let must_ask = !ignored || row.is_some();
        let stat = match must_ask.then(|| statat(fd, listed.c_str(), AtFlags::SYMLINK_NOFOLLOW)) {
            None => None,
            Some(Ok(stat)) => Some(Stat::from(&stat)),
            Some(Err(Errno::NOENT)) => {
                self.gone.extend(row.map(|row| row.name));
                return;
            }
            Some(Err(cause)) => {
                self.fail(listed.name(), cause);
                return;
            }
        };
        let kind = stat.map_or(kind, |stat| stat.kind);
        if kind == Kind::Other {
            if !ignored {
                self.skipped.push(Skipped { name: listed.name().to_vec(), why: SkipReason::NotKept });
            }
            self.gone.extend(row.map(|row| row.name));
            return;
        }
        let (name, cached) = match (row, &stat) {
            (Some(row), Some(stat)) => {
                let clean = row.is_clean(stat);
                (Ok(row.name), clean.then_some(row.entry))
            }
            _ => (Name::new(listed.name()), None),
        };
        match name {
            Ok(name) => self.entries.push(ScanEntry { name, kind, ignored, stat, cached }),
            // Taken out of the listing before; said once more rather than lost.
            Err(why) => self.skipped.push(Skipped { name: listed.name().to_vec(), why: SkipReason::Refused(why.0) }),
        }
    }

    fn fail(&mut self, name: &[u8], cause: Errno) {
        if let Ok(name) = Name::new(name) {
            self.failed.push(EntryError { name, source: cause.into() });
        }
    }
}
