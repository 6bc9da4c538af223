//! Paths that a request names, each with all that is below it.

pub use filesync_merkle::Part;
use filesync_merkle::RepoPath;

/// Paths, each with all that is below it; no paths are all paths.
#[derive(Debug, Clone, Default)]
pub struct PathSet(
    /// Ascending, none below another.
    Vec<RepoPath>,
);

impl PathSet {
    /// Of these paths, whatever their order.
    pub fn new(paths: &[RepoPath]) -> Self {
        let mut sorted = paths.to_vec();
        sorted.sort();
        let mut kept: Vec<RepoPath> = Vec::new();
        for path in sorted {
            // In the order of a walk, what is below a path comes right behind it.
            if kept.last().is_none_or(|above| !path.starts_with(above)) {
                kept.push(path);
            }
        }
        Self(kept)
    }

    /// Ascending, none below another; none at all if everything is meant.
    pub fn paths(&self) -> &[RepoPath] {
        &self.0
    }

    /// Whether everything is meant.
    pub fn is_all(&self) -> bool {
        self.0.first().is_none_or(RepoPath::is_root)
    }

    /// How much of `path` is meant.
    pub fn part(&self, path: &RepoPath) -> Part {
        if self.is_all() {
            return Part::All;
        }
        let behind = self.0.partition_point(|other| other <= path);
        if behind > 0 && self.0.get(behind - 1).is_some_and(|above| path.starts_with(above)) {
            return Part::All;
        }
        match self.0.get(behind).is_some_and(|below| below.starts_with(path)) {
            true => Part::Some,
            false => Part::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts() {
        let path = |text: &str| RepoPath::parse(text.as_bytes()).unwrap();
        let some = PathSet::new(&["d", "a-b", "a/b", "a/b/c", "d"].map(path));
        assert_eq!(some.paths(), ["a/b", "a-b", "d"].map(path));
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
        assert_eq!(PathSet::default().part(&path("x/y")), Part::All);
        let root = PathSet::new(&[path("x"), RepoPath::root()]);
        assert_eq!(root.part(&path("x/y")), Part::All);
        assert_eq!(root.part(&RepoPath::root()), Part::All);
    }
}
