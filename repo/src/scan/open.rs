//! Opening below the root of the working copy, and never anywhere else.
//!
//! No symlink on the way is followed, whatever others do to the tree meanwhile. Where `openat2` is missing (old
//! kernels, filters of containers) the path is opened component by component, to the same effect.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

/// The longest path that the kernel takes at once, without the NUL.
const PIECE_LEN_MAX: usize = 4095;

static NO_OPENAT2: AtomicBool = AtomicBool::new(false);

/// Opens `path`, components joined by `/`; empty is the root itself.
pub(super) fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut directory: Option<OwnedFd> = None;
    let mut rest = path;
    loop {
        let at = directory.as_ref().map_or(root, OwnedFd::as_fd);
        if rest.len() <= PIECE_LEN_MAX {
            return Ok(open_piece(at, if rest.is_empty() { b"." } else { rest }, flags)?);
        }
        let (piece, below) = cut(rest).ok_or(Errno::NAMETOOLONG)?;
        directory = Some(open_piece(at, piece, OFlags::PATH | OFlags::DIRECTORY)?);
        rest = below;
    }
}

/// The longest piece that the kernel takes, and what remains.
fn cut(path: &[u8]) -> Option<(&[u8], &[u8])> {
    let slash = path[..=PIECE_LEN_MAX].iter().rposition(|&byte| byte == b'/')?;
    Some((&path[..slash], &path[slash + 1..]))
}

fn open_piece(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    if !NO_OPENAT2.load(Ordering::Relaxed) {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        loop {
            match openat2(at, path, flags, Mode::empty(), resolve) {
                // Something was renamed meanwhile, and the kernel could not be sure.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(Errno::NOSYS | Errno::PERM) => break,
                done => return done,
            }
        }
    }
    let opened = open_by_component(at, path, flags);
    // EPERM may also come from the file itself; only the other way working shows that it was the filter.
    if opened.is_ok() {
        NO_OPENAT2.store(true, Ordering::Relaxed);
    }
    opened
}

fn open_by_component(at: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let on_the_way = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut directory: Option<OwnedFd> = None;
    let mut components = path.split(|&byte| byte == b'/').peekable();
    while let Some(component) = components.next() {
        let at = directory.as_ref().map_or(at, OwnedFd::as_fd);
        if component == b".." {
            return Err(Errno::XDEV);
        }
        if components.peek().is_none() {
            return openat(at, component, flags, Mode::empty());
        }
        directory = Some(openat(at, component, on_the_way, Mode::empty())?);
    }
    Err(Errno::NOENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_at_slashes() {
        let path = [vec![b'a'; 4000], vec![b'b'; 94], vec![b'c'; 300]].join(&b'/');
        let (piece, rest) = cut(&path).unwrap();
        assert_eq!((piece.len(), rest.len()), (4095, 300));
        assert_eq!(cut(&vec![b'a'; 5000]), None);
    }

    #[test]
    fn component_by_component_is_the_same() {
        let root = crate::scan::testing::TempDir::new();
        root.file("a/b/c", b"x");
        root.symlink("a", "link");
        root.symlink("c", "a/b/d");
        let fd = root.fd();
        for (path, good) in [("a/b/c", true), ("link/b/c", false), ("a/b/d", false), ("../x", false), ("a/../a", false)]
        {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            assert_eq!(open_by_component(fd.as_fd(), path.as_bytes(), flags).is_ok(), good, "{path}");
            if path != "a/../a" {
                assert_eq!(open_beneath(fd.as_fd(), path.as_bytes(), OFlags::RDONLY).is_ok(), good, "{path}");
            }
        }
    }
}
