//! Changes of single names in the working copy, each so that no byte of the user's is lost (G9).
//!
//! The hazard is the edit that comes between the plan and the change. So nothing is ever overwritten or removed by its
//! name alone: what is to go is moved to a temporary name first, by an exchange or a rename, looked at there, and
//! dropped only if it is what the plan saw. Otherwise it is put back, or kept beside as a conflict copy.
//! Not covered: who writes through a descriptor that he opened before.
//!
//! All calls go through a [`Vfs`], which follows no symlink and leaves its root never.

mod attrs;
#[cfg(test)]
mod tests;

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use filesync_cas::ContentHash;
use filesync_cas::hash::hex;
use filesync_cas::vfs::{FileKind, FileStat, Open, Rename, TEMP_PREFIX, Vfs, refused, temp_name};
use filesync_merkle::{ConflictTag, RepoPath, Timestamp};
use rustix::io::Errno;

use crate::scan::{Kind, Stat};

pub use attrs::set_directory_attrs;

/// A path as the system takes it.
pub fn os_path(path: &RepoPath) -> &Path {
    Path::new(OsStr::from_bytes(path.as_bytes()))
}

/// Where the successor of a path is prepared, and its predecessor looked at. It depends on the path alone, so that
/// who comes after a crash knows what lies there.
pub fn temp_path(path: &RepoPath) -> PathBuf {
    let id = ContentHash::of_metadata("filesync temporary name v1", path.as_bytes());
    let parent = path.parent().unwrap_or_default();
    os_path(&parent).join(format!("{TEMP_PREFIX}{}", hex(&id.as_bytes()[..16])))
}

/// What the scan would say of what a vfs says.
pub fn stat_of(stat: &FileStat) -> Stat {
    let time = |time: filesync_cas::vfs::FileTime| Timestamp::new(time.secs, time.nanos).unwrap_or_default();
    Stat {
        kind: match stat.kind {
            FileKind::File => Kind::File,
            FileKind::Dir => Kind::Directory,
            FileKind::Symlink => Kind::Symlink,
            FileKind::Other => Kind::Other,
        },
        mode: u16::try_from(stat.mode & 0o7777).unwrap_or_default(),
        dev: stat.dev,
        ino: stat.ino,
        size: stat.size,
        blocks: stat.blocks,
        mtime: time(stat.mtime),
        ctime: time(stat.ctime),
    }
}

/// What stands at a path; nothing also where the way to it does not lead there any more.
pub fn look(vfs: &dyn Vfs, path: &Path) -> io::Result<Option<Stat>> {
    match vfs.stat(path) {
        Ok(stat) => Ok(Some(stat_of(&stat))),
        Err(error) if is_displaced(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Whether an error says that the way to a path does not lead there any more: a directory on it is gone, or is
/// something else.
pub fn is_displaced(error: &io::Error) -> bool {
    let gone = [Errno::NOENT, Errno::NOTDIR];
    refused(error).is_some() || gone.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Whether two looks saw the same file in the same state. A rename in between moves the ctime of some file systems, so
/// that it is not compared.
pub fn same_file(a: &Stat, b: &Stat) -> bool {
    let same = a.kind == b.kind && a.dev == b.dev && a.ino == b.ino;
    same && a.size == b.size && a.mode == b.mode && a.mtime == b.mtime
}

/// What the plan saw at a path, and how to tell whether it is still that.
pub trait Expected {
    /// Whether the system says of it, its ctime included, what it said then, and that is enough to go by.
    fn is_untouched(&self, stat: &Stat) -> bool;

    /// Whether the file that lies at `at` has only attributes that may go. Of those no other time tells than the ctime,
    /// which a rename moves.
    fn attrs_may_go(&self, at: &Path) -> bool;

    /// Whether the file that lies at `at` has the content that may go.
    fn holds(&self, at: &Path) -> bool;
}

/// What came of a change.
#[derive(Debug, PartialEq, Eq)]
pub enum Changed {
    /// It is as planned.
    Done,
    /// It is as planned, and what was found instead is kept under this name.
    Kept(PathBuf),
    /// It was left as it is.
    Left,
}

/// Moves `temp` to `path`, where `expected` stands.
pub fn put(
    vfs: &dyn Vfs,
    temp: &Path,
    path: &RepoPath,
    expected: &dyn Expected,
    tag: ConflictTag<'_>,
) -> io::Result<Changed> {
    let at = os_path(path);
    // A file that comes or goes between two calls sends us round; somebody who does that for ever ends it.
    for _ in 0..16 {
        let Some(before) = look(vfs, at)? else {
            match vfs.rename(temp, at, Rename::NoReplace) {
                Ok(()) => return Ok(Changed::Done),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                Err(error) if is_unsupported(&error) => {
                    vfs.rename(temp, at, Rename::Replace)?;
                    return Ok(Changed::Done);
                }
                Err(error) => return Err(error),
            }
        };
        match vfs.rename(temp, at, Rename::Exchange) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if is_unsupported(&error) => move_aside(vfs, temp, at, path)?,
            Err(error) => return Err(error),
        }
        if drop_old(vfs, temp, &before, expected)? {
            return Ok(Changed::Done);
        }
        return keep(vfs, temp, path, tag).map(Changed::Kept);
    }
    Err(io::Error::other("it keeps coming and going"))
}

/// An exchange in three steps, for file systems that know no other.
fn move_aside(vfs: &dyn Vfs, temp: &Path, at: &Path, path: &RepoPath) -> io::Result<()> {
    let parent = path.parent().unwrap_or_default();
    let aside = os_path(&parent).join(temp_name()?);
    vfs.rename(at, &aside, Rename::Replace)?;
    vfs.rename(temp, at, Rename::Replace)?;
    vfs.rename(&aside, temp, Rename::Replace)
}

/// Removes what was moved to `temp`, if it is what was expected; whether it did. `before` is how it looked at its place.
fn drop_old(vfs: &dyn Vfs, temp: &Path, before: &Stat, expected: &dyn Expected) -> io::Result<bool> {
    let Some(moved) = look(vfs, temp)? else { return Ok(true) };
    let untouched = expected.is_untouched(before) && same_file(before, &moved) && expected.attrs_may_go(temp);
    let may_go = moved.kind != Kind::Directory && (untouched || expected.holds(temp));
    if may_go {
        vfs.unlink(temp)?;
    }
    Ok(may_go)
}

/// Removes a name, if `expected` stands there.
pub fn take(vfs: &dyn Vfs, path: &RepoPath, expected: &dyn Expected, tag: ConflictTag<'_>) -> io::Result<Changed> {
    let at = os_path(path);
    let Some(before) = look(vfs, at)? else { return Ok(Changed::Done) };
    if before.kind == Kind::Directory || !(expected.is_untouched(&before) || expected.holds(at)) {
        return Ok(Changed::Left);
    }
    let temp = temp_path(path);
    match vfs.rename(at, &temp, Rename::NoReplace) {
        Ok(()) => {}
        Err(error) if is_displaced(&error) => return Ok(Changed::Done),
        Err(error) if is_unsupported(&error) => vfs.rename(at, &temp, Rename::Replace)?,
        Err(error) => return Err(error),
    }
    if drop_old(vfs, &temp, &before, expected)? {
        return Ok(Changed::Done);
    }
    put_back(vfs, &temp, path, tag)
}

/// Gives a name back what was taken from it, or keeps it beside if the name has been taken again.
pub fn put_back(vfs: &dyn Vfs, temp: &Path, path: &RepoPath, tag: ConflictTag<'_>) -> io::Result<Changed> {
    match vfs.rename(temp, os_path(path), Rename::NoReplace) {
        Ok(()) => Ok(Changed::Left),
        Err(_) => keep(vfs, temp, path, tag).map(Changed::Kept),
    }
}

/// Keeps what lies at `temp`, in the directory of `path` or where that is being built, as a conflict copy of it. Says
/// its name.
pub fn keep(vfs: &dyn Vfs, temp: &Path, path: &RepoPath, tag: ConflictTag<'_>) -> io::Result<PathBuf> {
    let name = path.name();
    let name = name.as_ref().map_or(&b""[..], |name| name.as_bytes());
    let dir = temp.parent().unwrap_or(Path::new(""));
    for number in 1u32.. {
        let copy = dir.join(OsStr::from_bytes(&tag.copy_name(name, number)));
        match vfs.rename(temp, &copy, Rename::NoReplace) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) if is_unsupported(&error) && look(vfs, &copy)?.is_none() => {
                return vfs.rename(temp, &copy, Rename::Replace).map(|()| copy);
            }
            Err(error) if !is_unsupported(&error) => return Err(error),
            Err(_) => {}
            Ok(()) => return Ok(copy),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Whether a file system does not know a way of renaming.
pub fn is_unsupported(error: &io::Error) -> bool {
    let codes = [Errno::INVAL, Errno::NOSYS, Errno::NOTSUP];
    codes.iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Removes a directory and everything in it, or a file. Nothing recurses, and what is gone already is no error.
pub fn remove_tree(vfs: &dyn Vfs, top: &Path) -> io::Result<()> {
    let mut dirs = vec![(top.to_owned(), false)];
    while let Some((dir, emptied)) = dirs.pop() {
        if emptied {
            ignore_displaced(vfs.rmdir(&dir))?;
            continue;
        }
        let entries = match vfs.list(&dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if is_displaced(&error) => {
                ignore_displaced(vfs.unlink(&dir))?;
                continue;
            }
            // Its mode may have been set already.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                vfs.set_dir_mode(&dir, 0o700)?;
                vfs.list(&dir)?
            }
            Err(error) => return Err(error),
        };
        dirs.push((dir.clone(), true));
        for (name, kind) in entries {
            let path = dir.join(name);
            match kind {
                FileKind::Dir => dirs.push((path, false)),
                _ => match vfs.unlink(&path) {
                    Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                        vfs.set_dir_mode(&dir, 0o700)?;
                        vfs.unlink(&path)?;
                    }
                    done => ignore_displaced(done)?,
                },
            }
        }
    }
    Ok(())
}

fn ignore_displaced(done: io::Result<()>) -> io::Result<()> {
    match done {
        Err(error) if !is_displaced(&error) => Err(error),
        _ => Ok(()),
    }
}

/// The time of the file system's own clock: the ctime of a file made now.
pub fn clock(vfs: &dyn Vfs) -> io::Result<Timestamp> {
    let path = PathBuf::from(temp_name()?);
    let file = vfs.open(&path, Open::Create { mode: 0o600 })?;
    let stat = file.stat();
    vfs.unlink(&path)?;
    Ok(stat_of(&stat?).ctime)
}

/// The permission bits that the umask takes away from new files; all of them if it cannot be told.
pub fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    line.and_then(|mask| u32::from_str_radix(mask.trim(), 8).ok()).unwrap_or(0o777)
}
