//! Who may run beside whom: one writer, any number of readers.
//!
//! The locks are flock(2): they end with their process and know no clock. The writer's file tells who it is,
//! for the message that a second one gets. Readers hold `readers` together; only who unlinks packs wants it alone, for
//! as long as that takes, and never waits for it.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::error::OpenError;

/// The writer's lock, held until dropped.
#[derive(Debug)]
pub struct WriterLock {
    _file: File,
}

/// A reader's lock, held until dropped.
#[derive(Debug)]
pub struct ReaderLock {
    _file: File,
}

/// Nobody reads, and nobody begins to until dropped.
#[derive(Debug)]
pub struct NoReaders {
    _file: File,
}

/// How often a waiting writer looks again.
const RETRY: Duration = Duration::from_millis(20);
/// How often and how long a reader looks again while packs are being unlinked.
const READER_TRIES: u32 = 50;
const READER_RETRY: Duration = Duration::from_millis(2);

impl WriterLock {
    /// Takes the lock in `dir` for the command `who`, waiting up to `timeout` for another writer.
    pub fn take(dir: &Path, who: &str, timeout: Duration) -> Result<Self, OpenError> {
        let path = dir.join("lock");
        let io = |source| OpenError::Io { path: path.clone(), source };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let mut file = options.custom_flags(NO_FOLLOW).open(&path).map_err(io)?;
        let deadline = Instant::now() + timeout;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => break,
                Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(RETRY),
                Err(Errno::WOULDBLOCK) => return Err(OpenError::Busy(holder(&mut file))),
                Err(Errno::INTR) => {}
                Err(error) => return Err(io(error.into())),
            }
        }
        // Only words for a message: a full disk must not keep gc from making room.
        drop(file.set_len(0).and_then(|()| file.write_all(format!("{who}, pid {}\n", std::process::id()).as_bytes())));
        Ok(Self { _file: file })
    }
}

impl ReaderLock {
    /// Takes the lock together with other readers. `None` where it cannot be had (a medium without locks, or somebody
    /// who takes long to unlink): the reader then resolves anew what it finds gone.
    pub fn take(dir: &Path) -> Option<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).custom_flags(NO_FOLLOW).open(dir.join("readers")).ok()?;
        for _ in 0..READER_TRIES {
            match flock(&file, FlockOperation::NonBlockingLockShared) {
                Ok(()) => return Some(Self { _file: file }),
                Err(Errno::WOULDBLOCK) => std::thread::sleep(READER_RETRY),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        None
    }
}

impl NoReaders {
    /// Takes the readers' lock alone, if there are none at this moment.
    pub fn take(dir: &Path) -> std::io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o644);
        let file = options.custom_flags(NO_FOLLOW).open(dir.join("readers"))?;
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(Errno::WOULDBLOCK) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

const NO_FOLLOW: i32 = rustix::fs::OFlags::NOFOLLOW.bits().cast_signed();

fn holder(file: &mut File) -> String {
    let mut words = String::new();
    match file.take(256).read_to_string(&mut words) {
        Ok(_) if !words.trim().is_empty() => words.trim().to_owned(),
        _ => "another command".to_owned(),
    }
}
