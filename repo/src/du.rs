//! `du`: what directories of a commit come to. The sums stand in the links of trees: only directories that have
//! directories are read.

use filesync_merkle::{DirCursor, RepoPath, Totals, TreeLink};

use crate::error::{Error, ErrorKind};
use crate::history::{entry_at, is_before_the_first_commit, target_of};
use crate::ls::is_here;
use crate::parts::absent;
use crate::repo::Repo;
use crate::request::{DuEntry, DuRequest};

/// Carries out `du`: a directory comes after those in it, the target last.
pub fn du(repo: &Repo, request: &DuRequest, visit: &mut dyn FnMut(DuEntry) -> Result<(), Error>) -> Result<(), Error> {
    if is_before_the_first_commit(repo, request.target.rev.as_deref())? && request.target.path.is_none() {
        return Ok(());
    }
    let (tree, path) = target_of(repo, &request.target)?;
    let link = if path.is_root() {
        tree
    } else {
        let entry = entry_at(repo, &tree, &path)?;
        match entry.as_directory() {
            Some(link) => *link,
            None => return visit(told(&path, entry.totals().unwrap_or_default())),
        }
    };
    let depth = request.depth.unwrap_or(usize::MAX);
    if depth > 0 && link.totals.directories > 0 && !is_here(repo, &path, &link)? {
        return Err(absent(&path));
    }
    let mut stack = vec![Level::new(repo, path, link, depth)];
    while let Some(level) = stack.last_mut() {
        crate::cancel::check()?;
        match level.next_directory()? {
            Some((path, link)) => {
                if stack.len() > crate::scan::DEPTH_MAX {
                    return Err(Error::new(ErrorKind::Damage, "cannot add up: directories are nested too deeply"));
                }
                // Of what is not here the sum is known, and no more.
                let below = if is_here(repo, &path, &link)? { depth - stack.len() } else { 0 };
                stack.push(Level::new(repo, path, link, below));
            }
            None => {
                visit(told(&level.path, level.link.totals))?;
                stack.pop();
            }
        }
    }
    Ok(())
}

fn told(path: &RepoPath, totals: Totals) -> DuEntry {
    DuEntry { path: path.as_bytes().to_vec(), totals }
}

struct Level<'a> {
    path: RepoPath,
    link: TreeLink,
    /// None if nothing in it is to be shown.
    cursor: Option<DirCursor<'a>>,
}

impl<'a> Level<'a> {
    fn new(repo: &'a Repo, path: RepoPath, link: TreeLink, depth: usize) -> Self {
        let is_read = depth > 0 && link.totals.directories > 0;
        Self { path, link, cursor: is_read.then(|| DirCursor::new(repo.node_source(), &link)) }
    }

    fn next_directory(&mut self) -> Result<Option<(RepoPath, TreeLink)>, Error> {
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        for item in cursor {
            let (name, entry) = item?;
            if let Some(link) = entry.as_directory() {
                return Ok(Some((self.path.join(&name), *link)));
            }
        }
        Ok(None)
    }
}
