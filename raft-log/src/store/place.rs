//! Which directory this is: a copy of it is another one.
//!
//! Two nodes that go on from one memory would vote twice. A copy, a restored backup or a move to another file system
//! has another inode or another time of birth; then somebody has to say that the original is gone.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// What tells a directory from its copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Place {
    inode: u64,
    /// Nanoseconds since 1970, where the file system knows it.
    born: Option<u64>,
}

impl Place {
    /// Of this directory.
    pub fn of(dir: &Path) -> io::Result<Self> {
        let meta = dir.metadata()?;
        let born = meta.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Self { inode: meta.ino(), born: born.and_then(|time| u64::try_from(time.as_nanos()).ok()) })
    }
}
