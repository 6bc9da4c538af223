//! Which parts of trees are meant, where not all of them is: some paths, each with all that is below it, and what lies on the way.
//!
//! Of a directory on the way all names are known, and of what stands under them only what leads on. So whoever has the parts of a
//! tree can change them, and take the ids of everything else over as they are.
//!
//! A conflict copy of a name is meant where the name is: it stands for the same thing.

use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::merge::original_name;
use crate::path::{Name, RepoPath};
use crate::read::DirCursor;
use crate::source::NodeSource;

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

/// A directory on the way to parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Way(u32);

/// Where a name leads from a directory on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// To nothing that is meant.
    Out,
    /// On towards a part, if a directory stands there.
    On(Way),
    /// Into a part: all of it is meant.
    In,
}

/// Parts of trees; everything, if nothing else was said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    /// Ascending, none below another; none at all if everything is meant.
    paths: Vec<RepoPath>,
    /// Directories on the way, the root first: names ascending, and where each leads; to a part if nowhere else.
    ways: Vec<Vec<(Name, Option<Way>)>>,
}

impl Parts {
    /// Everything.
    pub const fn whole() -> Self {
        Self { paths: Vec::new(), ways: Vec::new() }
    }

    /// These paths, whatever their order, with all that is below them. No path, or the root, means everything.
    pub fn new(paths: &[RepoPath]) -> Self {
        let mut sorted = paths.to_vec();
        sorted.sort();
        let mut parts = Self::whole();
        if sorted.first().is_none_or(RepoPath::is_root) {
            return parts;
        }
        for path in sorted {
            // In the order of a walk, what is below a path comes right behind it.
            if parts.paths.last().is_none_or(|above| !path.starts_with(above)) {
                parts.paths.push(path);
            }
        }
        parts.ways.push(Vec::new());
        for path in parts.paths.clone() {
            parts.add(&path);
        }
        parts
    }

    /// Adds a path that comes behind all others.
    fn add(&mut self, path: &RepoPath) {
        let mut at = 0;
        let mut names = path.names().peekable();
        while let Some(name) = names.next() {
            let is_end = names.peek().is_none();
            let next = Way(u32::try_from(self.ways.len()).expect("fewer names than memory has bytes"));
            let way = &mut self.ways[at];
            match way.last() {
                Some((last, Some(Way(on)))) if *last == name => at = *on as usize,
                _ => {
                    way.push((name, (!is_end).then_some(next)));
                    if !is_end {
                        self.ways.push(Vec::new());
                        at = next.0 as usize;
                    }
                }
            }
        }
    }

    /// Ascending, none below another; none at all if everything is meant.
    pub fn paths(&self) -> &[RepoPath] {
        &self.paths
    }

    /// Whether everything is meant.
    pub fn is_whole(&self) -> bool {
        self.paths.is_empty()
    }

    /// The root as a directory on the way; none if everything is meant.
    pub fn root(&self) -> Option<Way> {
        (!self.is_whole()).then_some(Way(0))
    }

    /// Where a name leads.
    pub fn follow(&self, way: Way, name: &Name) -> Follow {
        let names = self.ways.get(way.0 as usize).map_or(&[][..], Vec::as_slice);
        let find =
            |name: &[u8]| names.binary_search_by(|(other, _)| other.as_bytes().cmp(name)).ok().map(|at| names[at].1);
        let found =
            find(name.as_bytes()).or_else(|| original_name(name.as_bytes()).and_then(|original| find(&original)));
        match found {
            None => Follow::Out,
            Some(Some(way)) => Follow::On(way),
            Some(None) => Follow::In,
        }
    }

    /// Where a path leads from the root.
    pub fn at(&self, path: &RepoPath) -> Follow {
        let Some(mut way) = self.root() else { return Follow::In };
        for name in path.names() {
            match self.follow(way, &name) {
                Follow::On(next) => way = next,
                end => return end,
            }
        }
        Follow::On(way)
    }

    /// How much of `path` is meant.
    pub fn part(&self, path: &RepoPath) -> Part {
        match self.at(path) {
            Follow::Out => Part::None,
            Follow::On(_) => Part::Some,
            Follow::In => Part::All,
        }
    }

    /// What of these parts a tree has: the paths at which one begins, with what stands there. Reads the directories on the way.
    pub fn found_in(&self, source: &dyn NodeSource, tree: &TreeLink) -> Result<Vec<(RepoPath, Entry)>, WalkError> {
        let mut found = Vec::new();
        let mut open: Vec<_> = self.root().map(|way| (RepoPath::root(), way, *tree)).into_iter().collect();
        while let Some((path, way, link)) = open.pop() {
            if link == TreeLink::empty() {
                continue;
            }
            for entry in DirCursor::new(source, &link) {
                let (name, entry) = entry?;
                match (self.follow(way, &name), entry.as_directory()) {
                    (Follow::In, _) => found.push((path.join(&name), entry)),
                    (Follow::On(way), Some(link)) => open.push((path.join(&name), way, *link)),
                    (Follow::On(_), None) | (Follow::Out, _) => {}
                }
            }
        }
        found.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> RepoPath {
        RepoPath::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parts_of_paths() {
        let some = Parts::new(&["d", "a-b", "a/b", "a/b/c", "d", "a/x/y.txt"].map(path));
        assert_eq!(some.paths(), ["a/b", "a/x/y.txt", "a-b", "d"].map(path));
        for (at, part) in [
            ("", Part::Some),
            ("a", Part::Some),
            ("a/b", Part::All),
            ("a/b/x", Part::All),
            ("a/bc", Part::None),
            ("a/x", Part::Some),
            ("a/x/y.txt", Part::All),
            ("a/x/y", Part::None),
            ("a-", Part::None),
            ("a-b", Part::All),
            ("d/e/f", Part::All),
            ("c", Part::None),
            // Conflict copies stand for the same thing.
            ("a/x/y.conflict-two-2026-11-27.txt", Part::All),
            ("a.conflict-two-2026-11-27/b", Part::All),
            ("a.conflict-two-2026-11-27/c", Part::None),
            ("c.conflict-two-2026-11-27", Part::None),
        ] {
            assert_eq!(some.part(&path(at)), part, "{at}");
        }
    }

    #[test]
    fn everything_is_meant_if_nothing_is_said() {
        for whole in [Parts::default(), Parts::new(&[]), Parts::new(&[path("x"), RepoPath::root()])] {
            assert!(whole.is_whole() && whole.root().is_none());
            assert_eq!(whole.part(&path("x/y")), Part::All);
            assert_eq!(whole.part(&RepoPath::root()), Part::All);
        }
    }
}
