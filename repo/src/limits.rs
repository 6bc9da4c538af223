//! The most that a commit may ask of whoever works with it.

use filesync_merkle::TreeLink;

use crate::error::{Error, ErrorKind};

/// The most paths of a tree that is restored, compared or held. A few objects can stand for any number of paths, and those
/// that change are kept in memory.
const PATHS_MAX: u64 = 1 << 28;

/// Fails if a tree has more paths than it may, or than `room`.
pub fn check_paths(doing: &str, tree: &TreeLink, room: u64) -> Result<(), Error> {
    let paths = tree.totals.files.saturating_add(tree.totals.directories);
    let most = room.min(PATHS_MAX);
    if paths <= most {
        return Ok(());
    }
    Err(Error::new(ErrorKind::Failed, format!("cannot {doing}: the commit has {paths} paths, of at most {most} here")))
}

#[cfg(test)]
mod tests {
    use filesync_merkle::Totals;

    use super::*;

    #[test]
    fn what_is_too_much_is_refused() {
        let tree =
            |files, directories| TreeLink { totals: Totals { files, directories, bytes: 0 }, ..TreeLink::empty() };
        assert!(check_paths("x", &tree(PATHS_MAX - 1, 1), u64::MAX).is_ok());
        assert!(check_paths("x", &tree(PATHS_MAX, 1), u64::MAX).is_err());
        assert!(check_paths("x", &tree(u64::MAX, u64::MAX), u64::MAX).is_err());
        assert!(check_paths("x", &tree(3, 1), 4).is_ok());
        assert!(check_paths("x", &tree(3, 2), 4).is_err());
    }
}
