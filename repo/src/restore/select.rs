//! Which paths are meant.

use filesync_merkle::{NodeSource, RepoPath, TreeLink, lookup};

use crate::error::{Error, ErrorKind};
use crate::path_set::PathSet;

pub use crate::path_set::Part;

/// Paths, each with all that is below it; no paths are all paths.
#[derive(Debug)]
pub struct Selection {
    paths: PathSet,
    /// Those of them that the target has.
    in_target: Vec<RepoPath>,
}

impl Selection {
    /// Paths that are all in the tree.
    pub fn in_tree(source: &dyn NodeSource, target: &TreeLink, paths: &[RepoPath]) -> Result<Self, Error> {
        for path in paths {
            if !path.is_root() && lookup(source, target, path)?.is_none() {
                return Err(Error::new(ErrorKind::NotFound, format!("cannot find {path}: not in that commit")));
            }
        }
        Self::new(source, target, paths)
    }

    /// Paths that need not be in the tree.
    pub fn new(source: &dyn NodeSource, target: &TreeLink, paths: &[RepoPath]) -> Result<Self, Error> {
        let paths = PathSet::new(paths);
        let mut in_target = Vec::new();
        for path in paths.paths() {
            if path.is_root() || lookup(source, target, path)?.is_some() {
                in_target.push(path.clone());
            }
        }
        Ok(Self { paths, in_target })
    }

    /// How much of `path` is meant.
    pub fn part(&self, path: &RepoPath) -> Part {
        self.paths.part(path)
    }

    /// Whether the target has something that is meant, at `path` or below it.
    pub fn is_wanted(&self, path: &RepoPath) -> bool {
        let behind = self.in_target.partition_point(|other| other < path);
        self.in_target.get(behind).is_some_and(|below| below.starts_with(path))
    }
}

#[cfg(test)]
mod tests {
    use filesync_merkle::testing::MemoryStore;

    use super::*;

    #[test]
    fn what_the_target_has() {
        let path = |text: &str| RepoPath::parse(text.as_bytes()).unwrap();
        let store = MemoryStore::new();
        let paths = ["a-b", "a/b", "a/b/c", "d"].map(path);
        let some = Selection::new(&store, &TreeLink::empty(), &paths);
        // The empty tree has no node in this store, and nothing can be looked up.
        assert!(some.is_err());
        let paths = PathSet::new(&["a/b", "a-b", "d"].map(path));
        let some = Selection { paths, in_target: vec![path("a/b")] };
        assert!(some.is_wanted(&path("a")) && some.is_wanted(&path("a/b")) && !some.is_wanted(&path("d")));
        let root = Selection::new(&store, &TreeLink::empty(), &[path("x"), RepoPath::root()]).unwrap();
        assert_eq!(root.part(&path("x/y")), Part::All);
    }
}
