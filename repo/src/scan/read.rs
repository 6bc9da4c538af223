//! Reading what a scan found, for those who store it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use filesync_merkle::RepoPath;
use rustix::fs::{OFlags, SeekFrom, fgetxattr, flistxattr, fstat, readlinkat, seek};
use rustix::io::Errno;

use super::open::open_beneath;
use super::stat::{Kind, Stat};

/// The longest list of names, and the longest value, of extended attributes that Linux hands out.
const XATTR_LEN_MAX: usize = 64 << 10;

/// Opens a regular file for reading. Anything else is refused with [`io::ErrorKind::InvalidInput`]; a FIFO is not
/// waited for.
pub fn open_file(root: BorrowedFd<'_>, path: &RepoPath) -> io::Result<(OwnedFd, Stat)> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_beneath(root, path.as_bytes(), flags) {
        // A socket, or a device without a driver.
        Err(cause) if cause.raw_os_error() == Some(Errno::NXIO.raw_os_error()) => return Err(not_regular()),
        opened => opened?,
    };
    let stat = Stat::from(&fstat(&file)?);
    if stat.kind == Kind::File { Ok((file, stat)) } else { Err(not_regular()) }
}

fn not_regular() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")
}

/// The target of a symlink as it is stored, and the link's own stat. [`io::ErrorKind::InvalidInput`] if it is none.
pub fn read_link(root: BorrowedFd<'_>, path: &RepoPath) -> io::Result<(Vec<u8>, Stat)> {
    // One descriptor for both questions, so that both are about the same link.
    let link = open_beneath(root, path.as_bytes(), OFlags::PATH)?;
    let stat = Stat::from(&fstat(&link)?);
    if stat.kind != Kind::Symlink {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a symlink"));
    }
    Ok((readlinkat(&link, "", Vec::new())?.into_bytes(), stat))
}

/// Opens a directory to ask for its attributes.
pub fn open_directory(root: BorrowedFd<'_>, path: &RepoPath) -> io::Result<(OwnedFd, Stat)> {
    let directory = open_beneath(root, path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY)?;
    let stat = Stat::from(&fstat(&directory)?);
    Ok((directory, stat))
}

/// The extended attributes of the user namespace, ascending by name. None where the file system has no such thing.
///
/// One system call for a file without attributes. Attributes that vanish meanwhile are absent.
pub fn user_xattrs(file: BorrowedFd<'_>) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let Some(names) = xattr_names(file)? else {
        return Ok(Vec::new());
    };
    let mut xattrs = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| name.starts_with(b"user.")) {
        let mut value = vec![0; 256];
        loop {
            match fgetxattr(file, name, value.as_mut_slice()) {
                Ok(len) => {
                    value.truncate(len);
                    xattrs.push((name.to_vec(), value));
                    break;
                }
                Err(Errno::RANGE) if value.len() < XATTR_LEN_MAX => value.resize(XATTR_LEN_MAX, 0),
                Err(Errno::NODATA) => break,
                Err(cause) => return Err(cause.into()),
            }
        }
    }
    xattrs.sort_unstable();
    Ok(xattrs)
}

/// The names, each with a NUL behind it; `None` if there are none or cannot be any.
fn xattr_names(file: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let mut few = [0; 512];
    match flistxattr(file, few.as_mut_slice()) {
        Ok(0) | Err(Errno::NOTSUP | Errno::NOSYS) => return Ok(None),
        Ok(len) => return Ok(Some(few[..len].to_vec())),
        Err(Errno::RANGE) => {}
        Err(cause) => return Err(cause.into()),
    }
    let mut names = vec![0; XATTR_LEN_MAX];
    let len = flistxattr(file, names.as_mut_slice())?;
    names.truncate(len);
    Ok(Some(names))
}

/// The stretches of a file of length `len` that hold data, ascending; between them are holes.
///
/// The descriptor's position moves. A file system that knows no holes answers with one stretch.
pub fn data_ranges(file: impl AsFd, len: u64) -> io::Result<Vec<std::ops::Range<u64>>> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while at < len {
        let start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start.min(len),
            Err(Errno::NXIO) => break,
            Err(Errno::INVAL) => at,
            Err(cause) => return Err(cause.into()),
        };
        let end = match seek(&file, SeekFrom::Hole(start)) {
            Ok(end) => end.min(len),
            Err(Errno::NXIO | Errno::INVAL) => len,
            Err(cause) => return Err(cause.into()),
        };
        if start < end {
            ranges.push(start..end);
        }
        // Whoever writes meanwhile may make a hole of what was data; go on in any case.
        at = end.max(at + 1);
    }
    Ok(ranges)
}
