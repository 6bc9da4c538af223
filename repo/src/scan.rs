//! The working copy as it is: a walk by descriptors of our own, with ignore rules and stat cache merged in.
//!
//! [`Scan`] answers for one directory at a time, and is asked for them in the order of a walk: depth first, by name.
//! Threads read ahead in that order, as far as [`ScanOptions::look_ahead`] allows; what they have not begun, the
//! asking thread does itself. A directory comes in batches of [`BATCH_LEN`] names, so that a million of files in one
//! needs no more memory than their names.
//!
//! Promise: nothing outside the root is opened, and no symlink followed, whoever changes the tree meanwhile; one
//! descriptor for each thread is open at a time; nothing recurses. What cannot be read is an error of that name or
//! directory, and the rest goes on. A name that vanishes between listing and stat is absent.
//!
//! Not known here: HEAD. Names left out by ignore rules are given, marked, since they may be tracked; who asks decides
//! whether to go down into such a directory. Which rule says so is told by [`explain`].

mod dir;
mod error;
mod list;
mod open;
mod queue;
mod read;
mod rules;
mod stat;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::thread::JoinHandle;

use filesync_merkle::RepoPath;

use self::list::{Listing, Scratch};
use self::queue::Queue;
use crate::path_set::PathSet;
use crate::stat_cache::StatCache;

pub use self::dir::{Batch, DirScan, ScanEntry, SkipReason, Skipped};
pub use self::error::{EntryError, ScanError};
pub use self::read::{data_ranges, open_directory, open_file, read_link, user_xattrs};
pub use self::rules::explain;
pub use self::stat::{Kind, Stat};

/// How many levels of directories are walked.
pub const DEPTH_MAX: usize = 4096;
/// How many names one [`Batch`] covers.
pub const BATCH_LEN: usize = 4096;

/// How to scan.
#[derive(Debug, Clone)]
pub struct ScanOptions {
    /// Threads that read ahead, besides the asking one.
    pub threads: usize,
    /// How many entries may lie ready, about.
    pub look_ahead: usize,
    /// What the walk is about: other directories are not read ahead.
    pub only: PathSet,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self { threads: 2, look_ahead: 16 << 10, only: PathSet::default() }
    }
}

/// A walk over a working copy.
pub struct Scan {
    shared: Arc<Shared>,
    /// The directories from the root to the one that was asked for last.
    stack: Vec<Arc<Listing>>,
    scratch: Scratch,
    /// Threads that are to be started once there is something to read ahead.
    wanted: usize,
    workers: Vec<JoinHandle<()>>,
}

/// What all threads use.
pub(crate) struct Shared {
    root: OwnedFd,
    cache: Option<StatCache>,
    queue: Queue,
}

impl Scan {
    /// Starts a walk below `root`. Without `cache` nothing is taken for clean.
    pub fn start(root: OwnedFd, cache: Option<StatCache>, options: ScanOptions) -> Self {
        let shared = Arc::new(Shared { root, cache, queue: Queue::new(options.look_ahead, options.only) });
        Self { shared, stack: Vec::new(), scratch: Scratch::new(), wanted: options.threads, workers: Vec::new() }
    }

    /// Starts the threads.
    fn hire(&mut self) {
        let spawn = |number| {
            let shared = Arc::clone(&self.shared);
            // Without a thread the asking one does more.
            std::thread::Builder::new().name(format!("scan-{number}")).spawn(move || shared.work()).ok()
        };
        self.workers = (0..std::mem::take(&mut self.wanted)).filter_map(spawn).collect();
    }

    /// The directory at `path`. To be asked in the order of a walk; other orders are answered too, only slower.
    pub fn dir(&mut self, path: &RepoPath) -> Result<DirScan, ScanError> {
        let key = queue::key(path);
        let found = match self.shared.queue.claim(&key, &self.shared, &mut self.scratch) {
            Some(done) => done?,
            None => {
                let (rules, left_out) = self.rules_for(path)?;
                let found = dir::scan(&self.shared, path.clone(), &rules, left_out, &mut self.scratch)?;
                let is_ahead = self.shared.queue.add_below(&key, &found.listing, found.cached.clone());
                if is_ahead && self.wanted > 0 {
                    self.hire();
                }
                found
            }
        };
        while self.stack.last().is_some_and(|above| !path.starts_with(&above.path) || above.path == *path) {
            self.stack.pop();
        }
        self.stack.push(Arc::clone(&found.listing));
        Ok(DirScan::new(Arc::clone(&self.shared), key, found))
    }

    /// The root, to open files with.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.shared.root.as_fd()
    }

    /// What the walk is about.
    pub fn only(&self) -> Arc<PathSet> {
        self.shared.queue.only()
    }

    /// The rules that hold *above* a directory, and whether it is left out.
    fn rules_for(&self, path: &RepoPath) -> Result<(crate::ignore::Rules, bool), ScanError> {
        let Some(name) = path.name() else {
            return Ok((crate::ignore::Rules::default(), false));
        };
        let above = self.stack.iter().rev().find(|above| path.starts_with(&above.path) && above.path != *path);
        match above {
            Some(above) if above.path.depth() + 1 == path.depth() => {
                let left_out = above.left_out || above.rules.leave_out(path.as_bytes(), true);
                debug_assert_eq!(path.name(), Some(name));
                Ok((above.rules.clone(), left_out))
            }
            _ => rules::above(self.root(), path),
        }
    }
}

impl Drop for Scan {
    fn drop(&mut self) {
        self.shared.queue.close();
        for worker in self.workers.drain(..) {
            // A worker that panicked has said so on stderr, and its directory was scanned by the asking thread.
            let _ = worker.join();
        }
    }
}
