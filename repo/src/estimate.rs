//! How much a commit has to read: for the time left, where somebody looks at the progress.
//!
//! A second look at the stat of every file, by one thread, begun when the work turns out to be long. It is what was
//! there at some moment and no more: files come and go meanwhile, and nothing is decided by it.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use filesync_merkle::RepoPath;

use crate::error::Error;
use crate::request::{Event, Observer};
use crate::scan::{Kind, Scan};

/// Work that is done before this needs no time left.
pub const AFTER: Duration = Duration::from_secs(1);
/// Directories that may wait to be looked at: a tree with more of them goes without.
const WAITING_MAX: usize = 1 << 20;

/// Ends an estimate that is under way.
#[derive(Debug, Default)]
pub struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// The work is done: nobody wants to know any more.
    pub fn stop(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// Whether it came to that, within some time.
    fn is_stopped_within(&self, time: Duration) -> bool {
        let stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(stopped, time, |stopped| !*stopped);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Looks at all that `scan` sees, if the work is not stopped before, and says how much of it must be read.
pub fn estimate(after: Duration, scan: impl FnOnce() -> Result<Scan, Error>, stop: &Stop, observer: &dyn Observer) {
    if stop.is_stopped_within(after) {
        return;
    }
    // What it cannot see, the walk that counts will tell.
    if let Some((bytes, items)) = scan().ok().and_then(|scan| count(scan, stop)) {
        observer.event(Event::Total { bytes, items });
    }
}

/// Bytes and files that the cache does not vouch for; none if it was stopped.
fn count(mut scan: Scan, stop: &Stop) -> Option<(u64, u64)> {
    let (mut bytes, mut items) = (0_u64, 0_u64);
    let mut waiting = vec![RepoPath::root()];
    while let Some(path) = waiting.pop() {
        if stop.is_stopped_within(Duration::ZERO) || waiting.len() > WAITING_MAX {
            return None;
        }
        let Ok(mut directory) = scan.dir(&path) else { continue };
        let mut below = Vec::new();
        while let Ok(Some(batch)) = directory.next_batch() {
            for entry in batch.entries.into_iter().filter(|entry| !entry.ignored) {
                match entry.kind {
                    Kind::Directory => below.push(path.join(&entry.name)),
                    Kind::File if entry.cached.is_none() => {
                        bytes += entry.stat.map_or(0, |stat| stat.size);
                        items += 1;
                    }
                    _ => {}
                }
            }
        }
        waiting.extend(below.into_iter().rev());
    }
    Some((bytes, items))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::ScanOptions;
    use crate::scan::testing::TempDir;

    #[test]
    fn what_is_to_be_read_is_counted() {
        let dir = TempDir::new();
        dir.file("a", b"12345");
        dir.file("d/e/f", b"123");
        dir.file("d/empty", b"");
        dir.file("out/x", b"1234567");
        dir.file(".filesyncignore", b"out\n");
        std::os::unix::fs::symlink("a", dir.path("link")).unwrap();
        let scan = || Scan::start(dir.fd(), None, ScanOptions { threads: 0, ..ScanOptions::default() });
        assert_eq!(count(scan(), &Stop::default()), Some((12, 4)));
        let told = Told::default();
        estimate(Duration::ZERO, || Ok(scan()), &Stop::default(), &told);
        assert_eq!(told.0.lock().unwrap().as_slice(), [Event::Total { bytes: 12, items: 4 }]);
        // Nobody is told of what is done.
        let (told, stop) = (Told::default(), Stop::default());
        stop.stop();
        estimate(AFTER, || Ok(scan()), &stop, &told);
        assert_eq!((count(scan(), &stop), told.0.lock().unwrap().len()), (None, 0));
    }

    #[derive(Default)]
    struct Told(Mutex<Vec<Event>>);

    impl Observer for Told {
        fn event(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }
}
