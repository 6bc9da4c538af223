//! What a scan could not read.

use std::io;

use filesync_merkle::{Name, RepoPath};
use rustix::io::Errno;

/// Why there is no answer about a directory. The walk can go on with the next.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// It cannot be opened or read.
    #[error("cannot read directory {}: {source}", shown(path))]
    Directory {
        /// Which directory.
        path: RepoPath,
        /// The system's words.
        source: io::Error,
    },
    /// Its ignore file cannot be read: what it would leave out is not known.
    #[error("cannot read {}: {source}", shown(path))]
    IgnoreFile {
        /// Which file.
        path: Vec<u8>,
        /// The system's words.
        source: io::Error,
    },
    /// Directories are nested too deeply.
    #[error("directories are nested more than {max} levels deep", max = super::DEPTH_MAX)]
    TooDeep {
        /// The first directory that is too deep.
        path: RepoPath,
    },
}

impl ScanError {
    /// The directory or file that it is about.
    pub fn path(&self) -> &[u8] {
        match self {
            Self::Directory { path, .. } | Self::TooDeep { path } => path.as_bytes(),
            Self::IgnoreFile { path, .. } => path,
        }
    }

    /// Whether there is nothing there any more.
    pub fn is_vanished(&self) -> bool {
        matches!(self, Self::Directory { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether something else stands there now: a file or a symlink.
    pub fn is_replaced(&self) -> bool {
        let replaced = [Errno::NOTDIR.raw_os_error(), Errno::LOOP.raw_os_error()];
        matches!(self, Self::Directory { source, .. } if source.raw_os_error().is_some_and(|no| replaced.contains(&no)))
    }
}

trait AsShown {
    fn bytes(&self) -> &[u8];
}

impl AsShown for RepoPath {
    fn bytes(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl AsShown for Vec<u8> {
    fn bytes(&self) -> &[u8] {
        self
    }
}

fn shown(path: &impl AsShown) -> String {
    match path.bytes() {
        b"" => ".".to_owned(),
        path => String::from_utf8_lossy(path).into_owned(),
    }
}

/// A name about which `stat` said nothing.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {source}")]
pub struct EntryError {
    /// The name in its directory.
    pub name: Name,
    /// The system's words.
    pub source: io::Error,
}
