//! File operations: the only place where store files and working-copy files are created, written, renamed, deleted
//! and synced.
//!
//! Promised: every path is relative to the root of a [`Vfs`] and nothing outside of that root is reached, whatever
//! symlinks stand inside it (W4, W6, W20 of the threat model). A path is refused when it is absolute or has a
//! component that is empty, `.` or `..`; the empty path is the root itself.
//!
//! Not promised: that anything is durable before it was synced. The order is written where it matters: content by
//! [`VfsFile::sync_all`] or [`VfsFile::sync_data`], then the name by [`Vfs::sync_dir`] on the directory that holds it.
//! A sync that failed is final: the kernel may have dropped the data and marked it clean, so whoever sees the error
//! stops writing and never tries the same sync again.
//!
//! Names allowed in a repository are decided by `merkle`; modes are masked by whoever restores.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::chance;
use crate::testing::mistake;

mod parents;
mod real;
#[cfg(test)]
mod tests;
mod timing;

pub use real::RealVfs;
pub use timing::{SYNC_BOUNDS, Syncs, syncs};

/// A directory tree and everything that is done to it.
///
/// All paths are relative to the root, see the module's promise. No call follows a symlink, neither on the way nor
/// at the end. Errors keep their `raw_os_error`, but for those that [`refused`] recognises. Calls may be made from many
/// threads at once.
pub trait Vfs: Send + Sync + fmt::Debug {
    /// Opens a regular file. Anything else (FIFO, device, socket, directory, symlink) is refused without waiting for
    /// it. The name of a created file is not durable before [`Vfs::sync_dir`].
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>>;

    /// Creates one directory; `mode` is subject to the umask. Fails with `AlreadyExists` if the name is taken.
    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Creates a symlink that holds `target` as it is: nothing is resolved or checked.
    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()>;

    /// Moves a file, directory or symlink. Atomic for everybody who looks; durable once *both* directories are synced.
    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()>;

    /// Removes a name that is not a directory.
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Removes an empty directory.
    fn rmdir(&self, path: &Path) -> io::Result<()>;

    /// Sets the permission bits of a directory. Durable after [`Vfs::sync_dir`] of the directory itself.
    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()>;

    /// Sets the modification time of what stands at `path`, of a symlink itself and not of its target. (For a file
    /// use [`VfsFile::set_mtime`].) Durable only after [`Vfs::sync_all_files`].
    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()>;

    /// Makes the entries of one directory durable: the names in it, not the content of the files, nor what is below
    /// its subdirectories, nor its own name in its parent. The empty path is the root.
    fn sync_dir(&self, path: &Path) -> io::Result<()>;

    /// Makes everything durable that was done so far on the file system that holds the root: content, names, metadata.
    /// File systems mounted further down are not covered.
    fn sync_all_files(&self) -> io::Result<()>;

    /// What stands at `path`, a symlink being described itself.
    fn stat(&self, path: &Path) -> io::Result<FileStat>;

    /// The target of a symlink, as stored.
    fn read_link(&self, path: &Path) -> io::Result<OsString>;

    /// The entries of a directory without `.` and `..`, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>>;

    /// Bytes that the file system which holds the root has room for, as far as it says: others write there too, and what it
    /// promises may be more than it keeps.
    fn free(&self) -> io::Result<u64>;
}

/// An open regular file. It stays the same file when its name is moved or removed.
pub trait VfsFile: Send + Sync + fmt::Debug {
    /// Reads at `offset`; may return fewer bytes than asked for, 0 at the end. See [`read_exact_at`].
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes at `offset`, beyond the end too; may write fewer bytes than given. See [`write_all_at`].
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize>;

    /// The present length.
    fn len(&self) -> io::Result<u64>;

    /// Whether the file has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Cuts the file or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes content and length durable. Neither the name (see [`Vfs::sync_dir`]) nor mode, time and attributes.
    fn sync_data(&self) -> io::Result<()>;

    /// Makes content, length, mode, time and attributes durable. Not the name.
    fn sync_all(&self) -> io::Result<()>;

    /// Sets the permission bits, regardless of the umask.
    fn set_mode(&self, mode: u32) -> io::Result<()>;

    /// Sets the modification time. Later writes move it again.
    fn set_mtime(&self, secs: i64, nanos: u32) -> io::Result<()>;

    /// Sets an extended attribute, replacing an earlier value.
    fn set_xattr(&self, name: &OsStr, value: &[u8]) -> io::Result<()>;

    /// What the file looks like now.
    fn stat(&self) -> io::Result<FileStat>;
}

/// How [`Vfs::open`] opens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// An existing file, for reading.
    Read,
    /// An existing file, for reading and writing.
    Write,
    /// A new file, for reading and writing; `AlreadyExists` if the name is taken by anything, a dangling symlink too.
    Create {
        /// Permission bits, subject to the umask.
        mode: u32,
    },
}

/// What [`Vfs::rename`] does with the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rename {
    /// Replaces what is there, atomically, under the rules of rename(2).
    Replace,
    /// Fails with `AlreadyExists` if something is there.
    NoReplace,
    /// Swaps both names, whatever their kinds; both must exist.
    Exchange,
}

/// What stands at a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FileKind {
    /// A regular file.
    File,
    /// A directory.
    Dir,
    /// A symbolic link.
    Symlink,
    /// FIFO, socket or device: never opened, never stored.
    Other,
}

/// A time of a file: seconds since 1970 (negative before) and nanoseconds below 10^9.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FileTime {
    /// Seconds since 1970-01-01 UTC.
    pub secs: i64,
    /// Nanoseconds on top of `secs`.
    pub nanos: u32,
}

/// What lstat(2) or fstat(2) tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileStat {
    /// Kind of file.
    pub kind: FileKind,
    /// Device of the file system.
    pub dev: u64,
    /// Inode number on it.
    pub ino: u64,
    /// Number of names of this inode.
    pub nlink: u64,
    /// Owner.
    pub uid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Allocated units of 512 bytes: less than `size` suggests holes.
    pub blocks: u64,
    /// Permission bits with setuid, setgid and sticky (07777), without the kind.
    pub mode: u32,
    /// Last change of content, or what somebody set.
    pub mtime: FileTime,
    /// Last change of anything; cannot be set.
    pub ctime: FileTime,
}

/// Why a path was refused: the cause inside the [`io::Error`], see [`refused`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Absolute, or with a component that is empty, `.` or `..`, or with a NUL byte. A mistake of the caller.
    BadPath(PathBuf),
    /// The path, or the way to it, leads over a symlink (or out of the root by some other way).
    Symlink(PathBuf),
    /// To be opened as a file, but it is a directory, FIFO, socket or device.
    NotAFile(PathBuf),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::BadPath(path) => write!(f, "path {path:?} is not plain and relative"),
            Refused::Symlink(path) => write!(f, "path {path:?} leads over a symbolic link"),
            Refused::NotAFile(path) => write!(f, "{path:?} is not a regular file"),
        }
    }
}

impl std::error::Error for Refused {}

impl From<Refused> for io::Error {
    fn from(why: Refused) -> Self {
        let kind = match why {
            Refused::BadPath(_) | Refused::NotAFile(_) => io::ErrorKind::InvalidInput,
            Refused::Symlink(_) => io::ErrorKind::PermissionDenied,
        };
        io::Error::new(kind, why)
    }
}

/// Why a call was refused, if it was refused by a [`Vfs`] and did not fail in the kernel.
pub fn refused(error: &io::Error) -> Option<&Refused> {
    error.get_ref()?.downcast_ref()
}

/// The gateway for paths: plain, relative components, or the empty path for the root.
pub fn check_path(path: &Path) -> io::Result<()> {
    let bytes = path.as_os_str().as_bytes();
    let plain = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && !name.contains(&0);
    if bytes.is_empty() || bytes.split(|&b| b == b'/').all(plain) {
        return Ok(());
    }
    Err(Refused::BadPath(path.to_owned()).into())
}

/// Parent and last component of a path that is not the root.
pub(crate) fn split_last(path: &Path) -> io::Result<(&Path, &OsStr)> {
    check_path(path)?;
    let bytes = path.as_os_str().as_bytes();
    if bytes.is_empty() {
        return Err(Refused::BadPath(path.to_owned()).into());
    }
    let (parent, name) = match bytes.iter().rposition(|&b| b == b'/') {
        Some(slash) => (&bytes[..slash], &bytes[slash + 1..]),
        None => (&b""[..], bytes),
    };
    Ok((Path::new(OsStr::from_bytes(parent)), OsStr::from_bytes(name)))
}

/// Writes all of `buf`, in several calls if need be.
pub fn write_all_at(file: &dyn VfsFile, mut buf: &[u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.write_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                buf = &buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills `buf` or fails with `UnexpectedEof`; then the content of `buf` means nothing.
pub fn read_exact_at(file: &dyn VfsFile, mut buf: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buf.is_empty() {
        match file.read_at(buf, offset) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(n) => {
                buf = &mut buf[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// The whole content of a small file. `FileTooLarge` if it has more than `limit` bytes: nothing is allocated on the
/// word of a file that somebody else wrote.
pub fn read_to_end(vfs: &dyn Vfs, path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = vfs.open(path, Open::Read)?;
    let len = file.len()?;
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("{path:?} has more than {limit} bytes"));
    if len > limit {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(len).map_err(|_| too_large())?);
    // The file may grow while it is read: go on until it ends, but not past the limit.
    let mut piece = [0; 16 * 1024];
    loop {
        let n = match file.read_at(&mut piece, bytes.len() as u64) {
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        if n == 0 {
            return Ok(bytes);
        }
        if bytes.len() as u64 + n as u64 > limit {
            return Err(too_large());
        }
        bytes.extend_from_slice(&piece[..n]);
    }
}

/// What every name of [`temp_name`] begins with. Files so named are leftovers of a crash and may be deleted by
/// whoever holds the writers' lock.
pub const TEMP_PREFIX: &str = ".filesync-tmp-";

/// A fresh name for a temporary file: [`TEMP_PREFIX`] and 32 random hex digits.
pub fn temp_name() -> io::Result<String> {
    let mut random = [0; 16];
    chance::fill(&mut random)?;
    Ok(format!("{TEMP_PREFIX}{:032x}", u128::from_le_bytes(random)))
}

/// Replaces the content of `path`, or creates it, atomically and durably.
///
/// When this returns `Ok`, the new content survives a power cut; before that a power cut leaves the old content or the
/// new one, never a mixture. On an error before the rename the old content stands; after it (the directory could not be
/// synced) the new content is there but may not survive. A temporary file (see [`TEMP_PREFIX`]) can be left by a crash.
pub fn replace(vfs: &dyn Vfs, path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let (parent, _) = split_last(path)?;
    let temp = parent.join(temp_name()?);
    let file = vfs.open(&temp, Open::Create { mode })?;
    // Content before name: a name that is durable before its content can stand for an empty file after a crash.
    let renamed = write_all_at(&*file, bytes, 0)
        .and_then(|()| if mistake("a rename before the sync of its file") { Ok(()) } else { file.sync_all() })
        .and_then(|()| vfs.rename(&temp, path, Rename::Replace));
    if let Err(error) = renamed {
        // The first error is the one to tell; a temporary file that stays is found by its name later.
        let _ = vfs.unlink(&temp);
        return Err(error);
    }
    vfs.sync_dir(parent)
}
