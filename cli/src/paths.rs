//! Paths as the user writes them, from the working directory, to paths from the root of the repository.
//!
//! Literal and by their letters alone: nothing is looked up, so paths that are gone can be named, and a symlink
//! in the middle of a path is not followed.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::error::Failure;
use crate::quote;

/// The bytes from the root; empty for the root itself. `roots` are spellings of the same root.
pub fn from_root(word: &OsStr, directory: &Path, roots: &[&Path]) -> Result<Vec<u8>, Failure> {
    let shown = quote::name(word.as_bytes());
    if word.is_empty() {
        return Err(Failure::usage("an empty path names nothing"));
    }
    let absolute = directory.join(word);
    let path = normalise(&absolute);
    for root in roots {
        let root = directory.join(root);
        let root = normalise(&root);
        if let Some(rest) = path.strip_prefix(root.as_slice()) {
            return Ok(rest.join(&b'/'));
        }
    }
    Err(Failure::usage(format!("{shown}: outside of the repository")))
}

/// The names of an absolute path, without `.` and `..`.
fn normalise(path: &Path) -> Vec<&[u8]> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => names.push(name.as_bytes()),
            Component::ParentDir => {
                names.pop();
            }
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(directory: &str, word: &[u8], expected: Option<&[u8]>) {
        let roots = [Path::new("/home/u/repo"), Path::new("/link")];
        let found = from_root(OsStr::from_bytes(word), Path::new(directory), &roots);
        assert_eq!(found.ok().as_deref(), expected, "{} in {directory}", quote::name(word));
    }

    #[test]
    fn paths_are_from_the_root() {
        check("/home/u/repo", b"a", Some(b"a"));
        check("/home/u/repo/sub", b"a/b/", Some(b"sub/a/b"));
        check("/home/u/repo/sub", b"../a", Some(b"a"));
        check("/home/u/repo/sub", b"./x/.././a//b", Some(b"sub/a/b"));
        check("/home/u/repo/sub", b"..", Some(b""));
        check("/home/u/repo", b".", Some(b""));
        check("/home/u/repo", b"/home/u/repo/a", Some(b"a"));
        check("/elsewhere", b"/link/a", Some(b"a"));
        check("/home/u/repo", b"-\xff\n", Some(b"-\xff\n"));
        check("/home/u/repo", b"../repo/a", Some(b"a"));
    }

    #[test]
    fn nothing_outside_is_taken() {
        check("/home/u/repo", b"..", None);
        check("/home/u/repo", b"/etc/passwd", None);
        check("/home/u/repo", b"../repository/a", None);
        check("/home/u/repo/sub", b"../../../../../../etc", None);
        check("/elsewhere", b"a", None);
        check("/home/u/repo", b"", None);
    }
}
