//! Which paths are meant.

use filesync_merkle::{NodeSource, RepoPath, TreeLink, lookup};

use super::Context;
use crate::absent::is_here;
use crate::error::{Error, ErrorKind};
use crate::parts::absent;
use crate::path_set::PathSet;

pub use crate::path_set::Part;

/// Where something is restored to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Into the working copy; the target may lack what is meant, if that is to be deleted.
    Here {
        /// It may.
        may_lack: bool,
    },
    /// Beside it.
    Beside,
}

/// Paths, each with all that is below it; no paths are all paths.
#[derive(Debug)]
pub struct Selection {
    paths: PathSet,
    /// Those of them that the target has.
    in_target: Vec<RepoPath>,
}

impl Selection {
    /// What is meant where a target is restored: as [`Self::in_tree`], or as [`Self::new`] if the target may lack it. Of a
    /// partial copy, what it has of that; it fails for a path of which it has nothing.
    pub fn of(ctx: &Context<'_>, target: &TreeLink, paths: &[RepoPath], place: Place) -> Result<Self, Error> {
        let may_lack = place == Place::Here { may_lack: true };
        if ctx.parts.is_whole() {
            return if may_lack {
                Self::new(ctx.source, target, paths)
            } else {
                Self::in_tree(ctx.source, target, paths)
            };
        }
        let paths = if paths.is_empty() { &[RepoPath::root()] } else { paths };
        for path in paths.iter().filter(|path| ctx.parts.part(path) == Part::None) {
            // Beside the working copy it may stand, if it was brought here.
            match lookup(ctx.source, target, path) {
                Ok(Some(entry)) if place == Place::Beside && is_here(ctx.store, &entry)? => {}
                Ok(None) if place == Place::Beside => return Err(not_found(path)),
                Err(error) if !error.is_damage() => return Err(error.into()),
                _ => return Err(absent(path)),
            }
        }
        if !may_lack {
            Self::in_tree(ctx.source, target, paths)?;
        }
        let mut here = ctx.parts.paths().to_vec();
        for tree in [Some(*target), ctx.head_tree].into_iter().flatten() {
            here.extend(ctx.parts.found_in(ctx.source, &tree)?.into_iter().map(|(path, _)| path));
        }
        let mut kept = Vec::new();
        for path in paths {
            let before = kept.len();
            match ctx.parts.part(path) {
                Part::All | Part::None => kept.push(path.clone()),
                Part::Some => kept.extend(here.iter().filter(|part| part.starts_with(path)).cloned()),
            }
            if kept.len() == before {
                return Err(absent(path));
            }
        }
        Self::new(ctx.source, target, &kept)
    }

    /// Paths that are all in the tree.
    pub fn in_tree(source: &dyn NodeSource, target: &TreeLink, paths: &[RepoPath]) -> Result<Self, Error> {
        for path in paths {
            if !path.is_root() && lookup(source, target, path)?.is_none() {
                return Err(not_found(path));
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

fn not_found(path: &RepoPath) -> Error {
    Error::new(ErrorKind::NotFound, format!("cannot find {path}: not in that commit"))
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
