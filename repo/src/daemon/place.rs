//! Where the control socket lies: `.filesync/daemon/control`, in a directory that nobody else may enter.
//!
//! A socket's path has 108 bytes at most, and working copies lie deeper than that. So the directory is opened, following
//! no symlink, and the socket is named through `/proc/self/fd`, whatever the path is.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use filesync_cas::vfs::{FileKind, Vfs};
use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::repo::STORE_DIR;

/// The directory of the daemon's own things, in `.filesync`.
pub const DIR: &str = "daemon";
const SOCKET: &str = "control";

/// The directory of the socket, held open.
#[derive(Debug)]
pub struct Place {
    dir: OwnedFd,
    shown: PathBuf,
}

impl Place {
    /// Makes the directory if need be, closes it to others, and removes the socket of a daemon that is no more. To be
    /// called by who has the writer's lock: so there is no other.
    pub fn make(root: &Path, vfs: &dyn Vfs) -> io::Result<Self> {
        let dir = Path::new(DIR);
        match vfs.mkdir(dir, 0o700) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        let stat = vfs.stat(dir)?;
        if stat.kind != FileKind::Dir {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        if stat.mode & 0o777 != 0o700 {
            vfs.set_dir_mode(dir, 0o700)?;
        }
        Self::remove(vfs)?;
        let place = Self::open(root)?;
        place.is_ours()?.then_some(place).ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }

    /// Removes the socket.
    pub fn remove(vfs: &dyn Vfs) -> io::Result<()> {
        match vfs.unlink(&Path::new(DIR).join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The directory as it is, of the repository at `root`.
    pub fn open(root: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let store = openat(CWD, root.join(STORE_DIR), flags, Mode::empty())?;
        let dir = openat(&store, DIR, flags, Mode::empty())?;
        Ok(Self { dir, shown: root.join(STORE_DIR).join(DIR) })
    }

    /// Whether only we, or root, can have put a socket there.
    pub fn is_ours(&self) -> io::Result<bool> {
        let stat = rustix::fs::fstat(&self.dir)?;
        let user = rustix::process::geteuid();
        Ok(stat.st_mode & 0o077 == 0 && (user.is_root() || stat.st_uid == user.as_raw()))
    }

    /// What to bind or connect to.
    pub fn socket(&self) -> PathBuf {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.dir.as_raw_fd()));
        // Without /proc its own path will do, if it is short enough.
        let dir = if by_descriptor.exists() { &by_descriptor } else { &self.shown };
        dir.join(SOCKET)
    }

    /// For messages.
    pub fn shown(&self) -> PathBuf {
        self.shown.join(SOCKET)
    }
}
