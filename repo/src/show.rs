//! `show`: a commit, and what it changed in its first parent's tree.

use crate::diff::diff_trees;
use crate::error::Error;
use crate::history::{Names, commit_of, kept_parent, log_entry};
use crate::path_set::PathSet;
use crate::published::Published;
use crate::repo::{Repo, request_paths};
use crate::request::{LogEntry, Observer, ShowRequest, Shown};

/// Carries out `show`.
pub fn show(
    repo: &Repo,
    request: &ShowRequest,
    observer: &dyn Observer,
    visit: &mut dyn FnMut(Shown) -> Result<(), Error>,
) -> Result<(), Error> {
    let only = PathSet::new(&request_paths(&request.paths)?);
    let (id, commit) = commit_of(repo, request.rev.as_deref())?;
    let parent = kept_parent(repo, &commit)?;
    let trees = (parent, Some(commit.tree));
    // One that has expired is not shown.
    let mut published = Published::of(repo, Some(id))?;
    let entry = LogEntry { expired: Some(false), ..log_entry(repo, id, commit, &Names::of(repo)?, &mut published)? };
    visit(Shown::Commit(Box::new(entry)))?;
    diff_trees(repo, trees, &only, request.contents, observer, &mut |difference| {
        visit(Shown::Difference(Box::new(difference)))
    })
}
