//! The most recently used parent directories of a [`super::RealVfs`], so that 80,000 files written into a few
//! directories do not open each parent 80,000 times.
//!
//! The hazard is a descriptor that no longer stands for its path. Directories moved or removed through the same vfs are
//! forgotten at once, with all that is below them; what other processes do is noticed after [`TRUST`] at the latest.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How many are kept: the parents at both ends of a rename, for a few threads.
const KEPT_MAX: usize = 8;

/// How long one is used without being resolved again.
const TRUST: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct Parents {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Moves forward with every `forget`, so that what was opened before is not kept after it.
    epoch: u64,
    /// Most recently used last.
    kept: Vec<Kept>,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    fd: Arc<OwnedFd>,
    since: Instant,
}

impl Parents {
    pub(super) fn get(&self, path: &Path) -> Option<Arc<OwnedFd>> {
        let mut inner = self.lock();
        let at = inner.kept.iter().rposition(|kept| same(&kept.path, path))?;
        let kept = inner.kept.remove(at);
        if kept.since.elapsed() > TRUST {
            return None;
        }
        let fd = Arc::clone(&kept.fd);
        inner.kept.push(kept);
        Some(fd)
    }

    /// To be read before a directory is opened and given to [`Parents::keep`] after.
    pub(super) fn epoch(&self) -> u64 {
        self.lock().epoch
    }

    pub(super) fn keep(&self, path: &Path, fd: &Arc<OwnedFd>, epoch: u64) {
        let mut inner = self.lock();
        if inner.epoch != epoch {
            return;
        }
        inner.kept.retain(|kept| !same(&kept.path, path));
        if inner.kept.len() == KEPT_MAX {
            inner.kept.remove(0);
        }
        inner.kept.push(Kept { path: path.to_owned(), fd: Arc::clone(fd), since: Instant::now() });
    }

    /// Drops `path` and all that is below it.
    pub(super) fn forget(&self, path: &Path) {
        let mut inner = self.lock();
        inner.epoch += 1;
        inner.kept.retain(|kept| !beneath(&kept.path, path));
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No step above leaves the list half changed.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// Both sides are plain paths (see `check_path`): bytes say it all, and faster than components.
fn same(a: &Path, b: &Path) -> bool {
    a.as_os_str() == b.as_os_str()
}

fn beneath(path: &Path, top: &Path) -> bool {
    let (path, top) = (path.as_os_str().as_encoded_bytes(), top.as_os_str().as_encoded_bytes());
    path.strip_prefix(top).is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}
