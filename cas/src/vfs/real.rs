//! [`RealVfs`]: a directory of the kernel's file system, held by descriptor.
//!
//! Every path is resolved by openat2(2) with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`, or
//! component by component with `O_NOFOLLOW` where openat2 is missing or forbidden. Calls that have no such flags are made
//! on the parent's descriptor with the last component alone, so that a directory swapped for a symlink at any moment
//! leads nowhere.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{self as sys, AtFlags, FileType, Mode, OFlags, RenameFlags, ResolveFlags, XattrFlags};
use rustix::io::Errno;

use super::parents::Parents;
use super::timing::timed;
use super::{FileKind, FileStat, FileTime, Open, Refused, Rename, Vfs, VfsFile, check_path, split_last};

/// The kernel resolves at most PATH_MAX (4096) bytes in one call; longer paths go in pieces.
const PIECE_LEN_MAX: usize = 4000;

/// How often a resolution is tried again that lost a race with a rename elsewhere (EAGAIN of openat2).
const RETRIES: u32 = 128;

const DIR: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const PARENT: OFlags = DIR.union(OFlags::PATH);
/// `NONBLOCK`: to open a FIFO must never wait for its other end. It means nothing for regular files.
const FILE: OFlags = OFlags::NOFOLLOW.union(OFlags::NONBLOCK).union(OFlags::CLOEXEC).union(OFlags::NOCTTY);

/// The [`Vfs`] of a real directory.
///
/// The directory is opened once, so that renaming it or replacing its path by a symlink does not move the root.
/// Descriptors of the most recently used parents are kept for a few hundredths of a second: a directory that *another*
/// process moves away meanwhile may still receive a file or two at its new place.
#[derive(Debug)]
pub struct RealVfs {
    root: OwnedFd,
    openat2: bool,
    parents: Parents,
}

impl RealVfs {
    /// Opens the directory at `root`, which must exist and not be a symlink (its own parents may be).
    pub fn open(root: &Path) -> io::Result<Self> {
        match sys::open(root, DIR | OFlags::RDONLY, Mode::empty()) {
            Err(Errno::NOTDIR) if root.is_symlink() => Err(Refused::Symlink(root.to_owned()).into()),
            opened => Ok(Self::with_root(opened?)),
        }
    }

    /// Takes a directory that is open already, with `O_PATH` too.
    pub fn from_fd(dir: OwnedFd) -> io::Result<Self> {
        // Opened again: syncfs and fsync want more than O_PATH, and whatever is not a directory fails here.
        Ok(Self::with_root(sys::openat(dir, ".", DIR | OFlags::RDONLY, Mode::empty())?))
    }

    fn with_root(root: OwnedFd) -> Self {
        // ENOSYS before Linux 5.6; EPERM from seccomp filters that do not know the call.
        let probe = sys::openat2(&root, ".", PARENT, Mode::empty(), ResolveFlags::BENEATH);
        RealVfs { root, openat2: !matches!(probe, Err(Errno::NOSYS | Errno::PERM)), parents: Parents::default() }
    }

    /// The same directory without openat2, as on an old kernel.
    #[cfg(test)]
    pub(super) fn without_openat2(root: &Path) -> io::Result<Self> {
        Ok(RealVfs { openat2: false, ..Self::open(root)? })
    }

    /// Opens `path`, the empty one being the root.
    fn open_beneath(&self, path: &Path, flags: OFlags, mode: Mode) -> io::Result<OwnedFd> {
        check_path(path)?;
        let mut rest = path.as_os_str().as_bytes();
        if rest.is_empty() {
            return Ok(retry(|| sys::openat(&self.root, ".", flags, mode))?);
        }
        let mut dir: Option<OwnedFd> = None;
        loop {
            let at = dir.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
            let (piece, after) = self.first_piece(rest);
            let opened = if after.is_empty() {
                self.open_piece(at, piece, flags, mode)
            } else {
                self.open_piece(at, piece, PARENT, Mode::empty())
            };
            let fd = opened.map_err(|e| explain(e, path))?;
            if after.is_empty() {
                return Ok(fd);
            }
            rest = after;
            dir = Some(fd);
        }
    }

    /// Splits off as much as one call can resolve.
    fn first_piece<'a>(&self, path: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let cut = if !self.openat2 {
            path.iter().position(|&b| b == b'/')
        } else if path.len() <= PIECE_LEN_MAX {
            None
        } else {
            // No slash within reach: a component longer than NAME_MAX, which the kernel refuses.
            path[..PIECE_LEN_MAX].iter().rposition(|&b| b == b'/')
        };
        cut.map_or((path, &b""[..]), |at| (&path[..at], &path[at + 1..]))
    }

    fn open_piece(&self, at: BorrowedFd<'_>, piece: &[u8], flags: OFlags, mode: Mode) -> Result<OwnedFd, Errno> {
        if self.openat2 {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
            // With O_NOFOLLOW a symlink at the end would be ENOTDIR for a directory; without it, always ELOOP.
            return retry(|| sys::openat2(at, piece, flags - OFlags::NOFOLLOW, mode, resolve));
        }
        retry(|| match sys::openat(at, piece, flags, mode) {
            // With O_DIRECTORY a symlink is ENOTDIR here: tell the same story.
            Err(Errno::NOTDIR) => match sys::statat(at, piece, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(found) => match FileType::from_raw_mode(found.st_mode) {
                    FileType::Symlink => Err(Errno::LOOP),
                    FileType::Directory => Err(Errno::AGAIN), // it was something else a moment ago
                    _ => Err(Errno::NOTDIR),
                },
                Err(gone) => Err(gone),
            },
            opened => opened,
        })
    }

    /// Runs `call` on the parent's descriptor and the last component of `path`.
    fn at_parent<T>(&self, path: &Path, call: impl Fn(BorrowedFd<'_>, &OsStr) -> Result<T, Errno>) -> io::Result<T> {
        let (parent, name) = split_last(path)?;
        if parent.as_os_str().is_empty() {
            return Ok(retry(|| call(self.root.as_fd(), name))?);
        }
        if let Some(fd) = self.parents.get(parent) {
            match retry(|| call(fd.as_fd(), name)) {
                // Perhaps the kept directory was removed, or moved, by somebody else: look again.
                Err(Errno::NOENT) => self.parents.forget(parent),
                done => return Ok(done?),
            }
        }
        let fd = self.open_parent(parent)?;
        Ok(retry(|| call(fd.as_fd(), name))?)
    }

    fn open_parent(&self, parent: &Path) -> io::Result<Arc<OwnedFd>> {
        let epoch = self.parents.epoch();
        let fd = Arc::new(self.open_beneath(parent, PARENT, Mode::empty())?);
        self.parents.keep(parent, &fd, epoch);
        Ok(fd)
    }

    /// A descriptor for a parent, and whether it was a kept one.
    fn parent(&self, parent: &Path) -> io::Result<(Option<Arc<OwnedFd>>, bool)> {
        if parent.as_os_str().is_empty() {
            return Ok((None, false));
        }
        match self.parents.get(parent) {
            Some(fd) => Ok((Some(fd), true)),
            None => Ok((Some(self.open_parent(parent)?), false)),
        }
    }

    fn try_rename(&self, from: &Path, to: &Path, flags: RenameFlags) -> io::Result<(Result<(), Errno>, bool)> {
        let (from_parent, from_name) = split_last(from)?;
        let (to_parent, to_name) = split_last(to)?;
        let (from_fd, from_kept) = self.parent(from_parent)?;
        let (to_fd, to_kept) =
            if to_parent == from_parent { (from_fd.clone(), from_kept) } else { self.parent(to_parent)? };
        let from_at = from_fd.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
        let to_at = to_fd.as_ref().map_or(self.root.as_fd(), |fd| fd.as_fd());
        let done = retry(|| match flags.is_empty() {
            true => sys::renameat(from_at, from_name, to_at, to_name),
            false => sys::renameat_with(from_at, from_name, to_at, to_name, flags),
        });
        Ok((done, from_kept || to_kept))
    }
}

impl Vfs for RealVfs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>> {
        let (flags, mode) = match how {
            Open::Read => (OFlags::RDONLY, Mode::empty()),
            Open::Write => (OFlags::RDWR, Mode::empty()),
            Open::Create { mode } => (OFlags::RDWR | OFlags::CREATE | OFlags::EXCL, permissions(mode)),
        };
        let not_a_file = || io::Error::from(Refused::NotAFile(path.to_owned()));
        let fd = match self.open_beneath(path, flags | FILE, mode) {
            Ok(fd) => fd,
            // A directory opened for writing; a socket, or a FIFO or device without its other end.
            Err(e) if matches!(Errno::from_io_error(&e), Some(Errno::ISDIR | Errno::NXIO | Errno::NODEV)) => {
                return Err(not_a_file());
            }
            Err(e) => return Err(e),
        };
        let created = matches!(how, Open::Create { .. });
        if !created && FileType::from_raw_mode(sys::fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(not_a_file());
        }
        Ok(Arc::new(RealFile { file: File::from(fd) }))
    }

    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.at_parent(path, |at, name| sys::mkdirat(at, name, permissions(mode)))
    }

    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.at_parent(path, |at, name| sys::symlinkat(target, at, name))
    }

    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        let flags = match how {
            Rename::Replace => RenameFlags::empty(),
            Rename::NoReplace => RenameFlags::NOREPLACE,
            Rename::Exchange => RenameFlags::EXCHANGE,
        };
        let (mut done, kept) = self.try_rename(from, to, flags)?;
        if kept && done == Err(Errno::NOENT) {
            self.parents.forget(split_last(from)?.0);
            self.parents.forget(split_last(to)?.0);
            done = self.try_rename(from, to, flags)?.0;
        }
        // Either name may have been a directory with kept descriptors in or below it.
        self.parents.forget(from);
        self.parents.forget(to);
        Ok(done?)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.at_parent(path, |at, name| sys::unlinkat(at, name, AtFlags::empty()))
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        let done = self.at_parent(path, |at, name| sys::unlinkat(at, name, AtFlags::REMOVEDIR));
        self.parents.forget(path);
        done
    }

    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let fd = self.open_beneath(path, PARENT, Mode::empty())?;
        // fchmod refuses O_PATH, and without it an unreadable directory cannot be opened. The name under /proc stands
        // for this very descriptor, a directory by O_DIRECTORY, wherever its path leads by now.
        let own = format!("/proc/self/fd/{}", fd.as_raw_fd());
        match retry(|| sys::chmod(own.as_str(), permissions(mode))) {
            Err(Errno::NOENT | Errno::NOTDIR) => {} // no /proc here
            done => return Ok(done?),
        }
        Ok(retry(|| sys::fchmod(sys::openat(&fd, ".", DIR | OFlags::RDONLY, Mode::empty())?, permissions(mode)))?)
    }

    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
        let times = modified(secs, nanos);
        self.at_parent(path, |at, name| sys::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW))
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let fd = self.open_beneath(path, DIR | OFlags::RDONLY, Mode::empty())?;
        timed(|| Ok(retry(|| sys::fsync(&fd))?))
    }

    fn sync_all_files(&self) -> io::Result<()> {
        timed(|| Ok(retry(|| sys::syncfs(&self.root))?))
    }

    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        if path.as_os_str().is_empty() {
            return Ok(described(&sys::fstat(&self.root)?));
        }
        let stat = self.at_parent(path, |at, name| sys::statat(at, name, AtFlags::SYMLINK_NOFOLLOW))?;
        Ok(described(&stat))
    }

    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let target = self.at_parent(path, |at, name| sys::readlinkat(at, name, Vec::new()))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        let mut dir = sys::Dir::new(self.open_beneath(path, DIR | OFlags::RDONLY, Mode::empty())?)?;
        let mut entries = Vec::new();
        let mut unknown = Vec::new();
        while let Some(entry) = dir.read() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            if entry.file_type() == FileType::Unknown {
                unknown.push(entries.len());
            }
            entries.push((OsStr::from_bytes(name).to_owned(), kind(entry.file_type())));
        }
        // Some file systems leave the kind out of their directories.
        for at in unknown {
            let stat = sys::statat(dir.fd()?, &entries[at].0, AtFlags::SYMLINK_NOFOLLOW)?;
            entries[at].1 = described(&stat).kind;
        }
        Ok(entries)
    }

    fn free(&self) -> io::Result<u64> {
        let stat = sys::fstatvfs(&self.root)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
}

#[derive(Debug)]
struct RealFile {
    file: File,
}

impl VfsFile for RealFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        self.file.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        timed(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        timed(|| self.file.sync_all())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        Ok(retry(|| sys::fchmod(&self.file, permissions(mode)))?)
    }

    fn set_mtime(&self, secs: i64, nanos: u32) -> io::Result<()> {
        Ok(retry(|| sys::futimens(&self.file, &modified(secs, nanos)))?)
    }

    fn set_xattr(&self, name: &OsStr, value: &[u8]) -> io::Result<()> {
        Ok(retry(|| sys::fsetxattr(&self.file, name, value, XattrFlags::empty()))?)
    }

    fn stat(&self) -> io::Result<FileStat> {
        Ok(described(&sys::fstat(&self.file)?))
    }
}

/// Repeats what a signal or a rename elsewhere disturbed; never a sync that failed otherwise.
fn retry<T>(call: impl Fn() -> Result<T, Errno>) -> Result<T, Errno> {
    let mut left = RETRIES;
    loop {
        match call() {
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) if left > 0 => left -= 1,
            done => return done,
        }
    }
}

/// Puts the reason in place of the bare number where the kernel stopped at a symlink or at the root's edge.
fn explain(error: Errno, path: &Path) -> io::Error {
    match error {
        Errno::LOOP | Errno::XDEV => Refused::Symlink(path.to_owned()).into(),
        other => other.into(),
    }
}

fn permissions(mode: u32) -> Mode {
    Mode::from_raw_mode(mode & 0o7777)
}

fn modified(secs: i64, nanos: u32) -> sys::Timestamps {
    let omit = sys::Timespec { tv_sec: 0, tv_nsec: sys::UTIME_OMIT };
    sys::Timestamps { last_access: omit, last_modification: sys::Timespec { tv_sec: secs, tv_nsec: nanos.into() } }
}

fn kind(of: FileType) -> FileKind {
    match of {
        FileType::RegularFile => FileKind::File,
        FileType::Directory => FileKind::Dir,
        FileType::Symlink => FileKind::Symlink,
        _ => FileKind::Other,
    }
}

/// The kernel's numbers differ in width and sign from one architecture to the next; their values fit.
#[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast, clippy::useless_conversion)]
fn described(stat: &sys::Stat) -> FileStat {
    FileStat {
        kind: kind(FileType::from_raw_mode(stat.st_mode)),
        dev: stat.st_dev as u64,
        ino: stat.st_ino as u64,
        nlink: stat.st_nlink as u64,
        uid: stat.st_uid,
        size: stat.st_size as u64,
        blocks: stat.st_blocks as u64,
        mode: stat.st_mode & 0o7777,
        mtime: FileTime { secs: stat.st_mtime as i64, nanos: stat.st_mtime_nsec as u32 },
        ctime: FileTime { secs: stat.st_ctime as i64, nanos: stat.st_ctime_nsec as u32 },
    }
}
