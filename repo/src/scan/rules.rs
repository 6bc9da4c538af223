//! Ignore rules as they lie in the working copy.

use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use filesync_merkle::RepoPath;
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::error::ScanError;
use super::open::open_beneath;
use super::stat::{Kind, Stat};
use crate::ignore::{IGNORE_FILE, Rules, Verdict};

/// Ignore files are not larger: a rule of a single letter costs up to a kilobyte of memory.
pub(super) const IGNORE_FILE_LEN_MAX: usize = 256 << 10;
/// Nor are that of a directory and those above it together, whose rules are all kept.
const IGNORE_FILES_LEN_MAX: usize = 512 << 10;

/// The rule that decides about `path`, if any: the one that leaves out a directory above it, or else the last one
/// that matches, negated or not. `path` need not exist; then it is taken for a file, or with `as_directory` for one.
pub fn explain(root: BorrowedFd<'_>, path: &RepoPath, as_directory: bool) -> Result<Option<Verdict>, ScanError> {
    let mut rules = Rules::default();
    let mut directory = RepoPath::root();
    let mut names = path.names().peekable();
    while let Some(name) = names.next() {
        rules = match open_dir(root, &directory) {
            Ok(fd) => read(fd.as_fd(), &directory, &rules)?,
            Err(cause) if cause.is_vanished() || cause.is_replaced() => rules,
            Err(cause) => return Err(cause),
        };
        directory.push(&name);
        let is_last = names.peek().is_none();
        let is_directory = !is_last || as_directory || is_dir(root, path);
        let verdict = rules.verdict(directory.as_bytes(), is_directory);
        if is_last || verdict.as_ref().is_some_and(|verdict| !verdict.negated) {
            return Ok(verdict);
        }
    }
    Ok(None)
}

/// The rules that hold above a directory, and whether it is left out, found from the root.
pub(super) fn above(root: BorrowedFd<'_>, path: &RepoPath) -> Result<(Rules, bool), ScanError> {
    let mut rules = Rules::default();
    let mut directory = RepoPath::root();
    for name in path.names() {
        rules = read(open_dir(root, &directory)?.as_fd(), &directory, &rules)?;
        directory.push(&name);
        if rules.leave_out(directory.as_bytes(), true) {
            return Ok((rules, true));
        }
    }
    Ok((rules, false))
}

/// Adds the rules of a directory's own file, if it has one.
pub(super) fn read(fd: BorrowedFd<'_>, directory: &RepoPath, above: &Rules) -> Result<Rules, ScanError> {
    let mut prefix = directory.as_bytes().to_vec();
    if !prefix.is_empty() {
        prefix.push(b'/');
    }
    let failed = |source| ScanError::IgnoreFile { path: [prefix.as_slice(), IGNORE_FILE].concat(), source };
    match read_file(fd) {
        Ok(Some(bytes)) if above.len() + bytes.len() > IGNORE_FILES_LEN_MAX => {
            Err(failed(too_large("larger than 512 KiB together with those above it")))
        }
        Ok(Some(bytes)) => Ok(above.with_file(&prefix, &bytes)),
        Ok(None) => Ok(above.clone()),
        Err(source) => Err(failed(source)),
    }
}

fn too_large(cause: &str) -> io::Error {
    io::Error::new(io::ErrorKind::FileTooLarge, cause)
}

/// As in git, a symlink holds no rules, since in a commit it might point anywhere; nor does anything but a file.
fn read_file(directory: BorrowedFd<'_>) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = match openat(directory, IGNORE_FILE, flags, Mode::empty()) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO) => return Ok(None),
        Err(cause) => return Err(cause.into()),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(IGNORE_FILE_LEN_MAX as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > IGNORE_FILE_LEN_MAX {
        return Err(too_large("larger than 256 KiB"));
    }
    Ok(Some(bytes))
}

fn open_dir(root: BorrowedFd<'_>, path: &RepoPath) -> Result<OwnedFd, ScanError> {
    open_beneath(root, path.as_bytes(), OFlags::PATH | OFlags::DIRECTORY)
        .map_err(|source| ScanError::Directory { path: path.clone(), source })
}

fn is_dir(root: BorrowedFd<'_>, path: &RepoPath) -> bool {
    let (Some(parent), Some(name)) = (path.parent(), path.name()) else {
        return true;
    };
    open_dir(root, &parent).is_ok_and(|parent| {
        statat(&parent, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|stat| Stat::from(&stat).kind == Kind::Directory)
    })
}
