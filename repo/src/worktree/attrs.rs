//! Extended attributes of directories, by descriptor: a [`filesync_cas::vfs::Vfs`] knows those of files only.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use filesync_merkle::{Attrs, RepoPath};
use rustix::fs::{XattrFlags, fremovexattr, fsetxattr};

use crate::scan::{open_directory, user_xattrs};

/// Gives a directory exactly these attributes. No symlink is followed.
pub fn set_directory_attrs(root: BorrowedFd<'_>, path: &RepoPath, attrs: Option<&Attrs>) -> io::Result<()> {
    let (directory, _) = open_directory(root, path)?;
    let wanted = attrs.map(Attrs::pairs).unwrap_or_default();
    for (name, _) in user_xattrs(directory.as_fd())? {
        if !wanted.iter().any(|(other, _)| **other == *name) {
            fremovexattr(&directory, name.as_slice())?;
        }
    }
    for (name, value) in wanted {
        fsetxattr(&directory, &**name, value, XattrFlags::empty())?;
    }
    Ok(())
}
