//! Which paths are meant.

use filesync_merkle::{NodeSource, RepoPath, TreeLink, lookup};

use crate::error::{Error, ErrorKind};

/// How much of a path is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Nothing of it.
    None,
    /// Something below it.
    Some,
    /// It and everything below it.
    All,
}

/// Paths, each with all that is below it; no paths are all paths.
#[derive(Debug)]
pub struct Selection {
    /// Ascending, none below another.
    paths: Vec<RepoPath>,
    /// Those of them that the target has.
    in_target: Vec<RepoPath>,
}

impl Selection {
    /// Paths that are all in the tree.
    pub fn in_tree(source: &dyn NodeSource, target: &TreeLink, paths: &[RepoPath]) -> Result<Self, Error> {
        let selection = Self::new(source, target, paths)?;
        match selection.paths.iter().find(|path| !selection.in_target.contains(path)) {
            Some(path) => Err(Error::new(ErrorKind::NotFound, format!("{path}: not in that commit"))),
            None => Ok(selection),
        }
    }

    /// Paths that need not be in the tree.
    pub fn new(source: &dyn NodeSource, target: &TreeLink, paths: &[RepoPath]) -> Result<Self, Error> {
        let mut sorted = paths.to_vec();
        sorted.sort();
        let mut kept: Vec<RepoPath> = Vec::new();
        for path in sorted {
            // In the order of a walk, what is below a path comes right behind it.
            if kept.last().is_none_or(|above| !path.starts_with(above)) {
                kept.push(path);
            }
        }
        let mut in_target = Vec::new();
        for path in &kept {
            if path.is_root() || lookup(source, target, path)?.is_some() {
                in_target.push(path.clone());
            }
        }
        Ok(Self { paths: kept, in_target })
    }

    /// How much of `path` is meant.
    pub fn part(&self, path: &RepoPath) -> Part {
        if self.paths.is_empty() {
            return Part::All;
        }
        let behind = self.paths.partition_point(|other| other <= path);
        if behind > 0 && self.paths.get(behind - 1).is_some_and(|above| path.starts_with(above)) {
            return Part::All;
        }
        match self.paths.get(behind).is_some_and(|below| below.starts_with(path)) {
            true => Part::Some,
            false => Part::None,
        }
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
    fn parts() {
        let path = |text: &str| RepoPath::parse(text.as_bytes()).unwrap();
        let store = MemoryStore::new();
        let paths = ["a-b", "a/b", "a/b/c", "d"].map(path);
        let some = Selection::new(&store, &TreeLink::empty(), &paths);
        // The empty tree has no node in this store, and nothing can be looked up.
        assert!(some.is_err());
        let some = Selection { paths: [path("a/b"), path("a-b"), path("d")].to_vec(), in_target: vec![path("a/b")] };
        for (at, part) in [
            ("a", Part::Some),
            ("a/b", Part::All),
            ("a/b/x", Part::All),
            ("a/bc", Part::None),
            ("a-", Part::None),
            ("a-b", Part::All),
            ("d/e/f", Part::All),
            ("c", Part::None),
            ("", Part::Some),
        ] {
            assert_eq!(some.part(&path(at)), part, "{at}");
        }
        assert!(some.is_wanted(&path("a")) && some.is_wanted(&path("a/b")) && !some.is_wanted(&path("d")));
        let all = Selection { paths: Vec::new(), in_target: Vec::new() };
        assert_eq!(all.part(&path("x/y")), Part::All);
        let root = Selection::new(&store, &TreeLink::empty(), &[path("x"), RepoPath::root()]).unwrap();
        assert_eq!(root.part(&path("x/y")), Part::All);
    }
}
