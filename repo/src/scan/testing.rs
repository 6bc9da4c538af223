//! A directory for a test, and random numbers from a seed.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use filesync_merkle::RepoPath;

/// A directory that is removed at the end.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("filesync-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self, path: impl AsRef<[u8]>) -> PathBuf {
        self.0.join(OsStr::from_bytes(path.as_ref()))
    }

    /// Writes a file, and the directories above it.
    pub(crate) fn file(&self, path: impl AsRef<[u8]>, content: &[u8]) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn dir(&self, path: impl AsRef<[u8]>) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    pub(crate) fn symlink(&self, target: &str, path: &str) {
        std::os::unix::fs::symlink(target, self.path(path)).unwrap();
    }

    pub(crate) fn root(&self) -> &Path {
        &self.0
    }

    pub(crate) fn fd(&self) -> OwnedFd {
        fs::File::open(&self.0).unwrap().into()
    }
}

/// Waits until the clock by which files are dated has ticked: what changes from now on is younger than what is there.
pub(crate) fn tick() {
    let dir = TempDir::new();
    let now = || {
        dir.file("now", b"");
        let meta = fs::metadata(dir.path("now")).unwrap();
        fs::remove_file(dir.path("now")).unwrap();
        (meta.ctime(), meta.ctime_nsec())
    };
    let (before, end) = (now(), Instant::now() + Duration::from_secs(60));
    while now() <= before {
        assert!(Instant::now() < end, "the clock stands still");
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(crate) fn path(path: &str) -> RepoPath {
    RepoPath::parse(path.as_bytes()).unwrap()
}

/// A small generator (splitmix64): the same seed gives the same test.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        let limit = u64::try_from(limit).unwrap();
        usize::try_from((mixed ^ mixed >> 31) % limit).unwrap()
    }

    pub(crate) fn pick<'a, T: ?Sized>(&mut self, from: &[&'a T]) -> &'a T {
        from[self.below(from.len())]
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
