//! New directories: built as a whole under a temporary name beside their place, synced, and moved there in one step.
//!
//! So a large new tree costs one rename, and nobody sees half of it. If something has come to stand at the place
//! meanwhile, that stays, and the directory is skipped.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use filesync_cas::vfs::Rename;
use filesync_merkle::RepoPath;

use super::{FEW, Round, cannot_write};
use crate::error::Error;
use crate::restore::fill::Job;
use crate::restore::plan::Step;
use crate::scan::Stat;
use crate::worktree::{is_displaced, is_unsupported, look, os_path, remove_tree, temp_path};

/// The new directory that a path is or lies in.
pub fn root_of<'r>(roots: &'r BTreeSet<RepoPath>, path: &RepoPath) -> Option<&'r RepoPath> {
    // None of them is below another, and what is below one comes right behind it.
    roots.range(..=path).next_back().filter(|root| path.starts_with(root))
}

/// Where a path is built.
pub fn place(roots: &BTreeSet<RepoPath>, path: &RepoPath) -> PathBuf {
    let Some(root) = root_of(roots, path) else { return os_path(path).to_owned() };
    let mut place = temp_path(root);
    path.components().skip(root.depth()).for_each(|name| place.push(OsStr::from_bytes(name)));
    place
}

impl Round<'_> {
    /// Fills the new directories and gives them their names; `made` says whether they could be made.
    pub(super) fn build_fresh(
        &mut self,
        roots: &BTreeSet<RepoPath>,
        steps: &[Step],
        made: Result<(), Error>,
    ) -> Result<(), Error> {
        let inside = |step: &&Step| root_of(roots, &step.path).is_some();
        let writes: Vec<&Step> = steps.iter().filter(|step| step.is_write()).filter(inside).collect();
        let built =
            made.and_then(|()| if roots.is_empty() { Ok(Vec::new()) } else { self.fill_fresh(roots, steps, &writes) });
        let moved = built.and_then(|stats| {
            let mut refused = BTreeSet::new();
            for root in roots {
                crate::cancel::check()?;
                if !self.move_fresh(root)? {
                    refused.insert(root.clone());
                }
            }
            self.book_fresh(&refused, &writes, stats);
            Ok(())
        });
        if moved.is_err() {
            for root in roots {
                // The first error is the one to tell. What has its name already is not there any more.
                let _ = remove_tree(self.work(), &temp_path(root));
            }
        }
        moved
    }

    /// Everything in the new directories, durable but for their own names.
    fn fill_fresh(
        &mut self,
        roots: &BTreeSet<RepoPath>,
        steps: &[Step],
        writes: &[&Step],
    ) -> Result<Vec<Option<Stat>>, Error> {
        let few = writes.len() <= FEW;
        let filled = self.run_filler(few, |feeder| {
            for (tag, step) in writes.iter().enumerate() {
                let Some(entry) = step.new.clone() else { continue };
                feeder.feed(Job { tag, path: step.path.clone(), at: place(roots, &step.path), entry })?;
            }
            Ok(())
        })?;
        let mut dirs = steps.iter().filter(|step| !step.is_write() && root_of(roots, &step.path).is_some());
        let synced = if few && dirs.clone().count() <= FEW {
            dirs.try_for_each(|step| match self.work().sync_dir(&place(roots, &step.path)) {
                Err(error) if is_displaced(&error) => Ok(()),
                done => done,
            })
        } else {
            self.work().sync_all_files()
        };
        synced.map_err(|error| Error::io("cannot sync the working copy", &error))?;
        Ok(self.book(writes, filled))
    }

    /// Whether a new directory could be moved to its place.
    fn move_fresh(&mut self, root: &RepoPath) -> Result<bool, Error> {
        let (temp, at) = (temp_path(root), os_path(root));
        let work = self.work();
        let moved = match work.rename(&temp, at, Rename::NoReplace) {
            // Without the flag only an empty directory can be replaced by one.
            Err(error) if is_unsupported(&error) => match look(work, at) {
                Ok(None) => work.rename(&temp, at, Rename::Replace),
                Ok(Some(_)) => Err(io::ErrorKind::AlreadyExists.into()),
                Err(error) => Err(error),
            },
            moved => moved,
        };
        match moved {
            Ok(()) => Ok(true),
            Err(error) if is_displaced(&error) || error.kind() == io::ErrorKind::AlreadyExists => {
                self.block(root);
                remove_tree(work, &temp).map_err(|error| cannot_write(root, &error))?;
                Ok(false)
            }
            Err(error) => Err(cannot_write(root, &error)),
        }
    }

    /// Counts what got its name, and tells the stat cache: a file does not change when a directory above it is moved.
    fn book_fresh(&mut self, refused: &BTreeSet<RepoPath>, writes: &[&Step], stats: Vec<Option<Stat>>) {
        for (step, stat) in writes.iter().zip(stats) {
            if let (Some(stat), Some(entry), None) = (stat, &step.new, root_of(refused, &step.path)) {
                self.result.written += 1;
                self.result.bytes += step.bytes();
                self.row(&step.path, Some((stat, entry.clone())));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places() {
        let path = |text: &str| RepoPath::parse(text.as_bytes()).unwrap();
        let roots: BTreeSet<RepoPath> = ["a/b", "a-c", "d"].map(path).into();
        for (at, root, rest) in [
            ("a/b", Some("a/b"), ""),
            ("a/b/c/d", Some("a/b"), "c/d"),
            ("a/bc", None, ""),
            ("a", None, ""),
            ("a-c/x", Some("a-c"), "x"),
            ("dd", None, ""),
            ("d/d", Some("d"), "d"),
        ] {
            assert_eq!(root_of(&roots, &path(at)), root.map(path).as_ref(), "{at}");
            let expected = match root {
                Some(root) if rest.is_empty() => temp_path(&path(root)),
                Some(root) => temp_path(&path(root)).join(rest),
                None => PathBuf::from(at),
            };
            assert_eq!(place(&roots, &path(at)), expected, "{at}");
        }
    }
}
