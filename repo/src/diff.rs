//! `diff`: a tree against another, or against the working copy.
//!
//! First what changed, from trees and stat; then, if asked for, how the contents differ, a path at a time. A file of the
//! working copy is read as a whole between two equal looks at it: what is shown of it was there, at some moment of the
//! command. If it is gone by then, that is an error.

mod contents;
mod text;
mod trees;

use filesync_cas::ContentHash;
use filesync_merkle::TreeLink;

use self::contents::{Contents, Newer};
use self::trees::each_change;
use crate::compare::compare;
use crate::error::{Error, ErrorKind};
use crate::history::{commit_of, resolve};
use crate::path_set::PathSet;
use crate::renames::{self, Candidates};
use crate::repo::{Repo, request_paths};
use crate::request::{Change, DiffRequest, Difference, Event, Observer, Warning};

/// So many changes are held in memory in order to find renames among them; of more, none are looked for.
const RENAMES_MAX: usize = 1 << 19;

/// What takes the changes, in the order of a walk.
pub type Visit<'a> = dyn FnMut(Difference) -> Result<(), Error> + 'a;

/// Carries out `diff`.
pub fn diff(repo: &Repo, request: &DiffRequest, observer: &dyn Observer, visit: &mut Visit<'_>) -> Result<(), Error> {
    let paths = request_paths(&request.paths)?;
    repo.copied.check(&paths)?;
    let only = PathSet::new(&paths);
    let old = tree_of(repo, request.from.as_deref().unwrap_or("HEAD"))?;
    if let Some(to) = &request.to {
        let (_, commit) = commit_of(repo, Some(to)).map_err(|error| hint_at_range(error, to))?;
        return diff_trees(repo, (old, Some(commit.tree)), &only, request.contents, observer, visit);
    }
    observer.event(Event::Phase { what: "comparing", bytes: None, items: None });
    let changes = compare(repo, old, false, &only, observer)?;
    let mut contents = request.contents.then(|| Contents::new(repo, old, Newer::WorkingCopy));
    changes.into_iter().try_for_each(|change| show(change, contents.as_mut(), visit))
}

/// Two trees; `None` is the empty one.
pub fn diff_trees(
    repo: &Repo,
    (old, new): (Option<TreeLink>, Option<TreeLink>),
    only: &PathSet,
    with_contents: bool,
    observer: &dyn Observer,
    visit: &mut Visit<'_>,
) -> Result<(), Error> {
    let mut contents = with_contents.then(|| Contents::new(repo, old, Newer::tree(repo, new)));
    let mut held = Held::default();
    each_change(repo.node_source(), old, new, (only, &repo.copied.parts), &mut |found| {
        if held.is_given_up {
            return show(found.change, contents.as_mut(), visit);
        }
        let at = held.changes.len();
        held.gone.extend(found.gone.map(|id| (id, at)));
        held.new.extend(found.new.map(|id| (id, at)));
        held.changes.push(found.change);
        if held.changes.len() < RENAMES_MAX {
            return Ok(());
        }
        let message = format!("more than {RENAMES_MAX} changes: renames are shown as deletions and additions");
        observer.event(Event::Warning(Warning { path: None, message }));
        let all = std::mem::take(&mut held).changes;
        held.is_given_up = true;
        all.into_iter().try_for_each(|change| show(change, contents.as_mut(), visit))
    })?;
    let Held { mut changes, gone, new, .. } = held;
    let pairs = renames::pair(&changes, gone, new);
    renames::apply(&mut changes, &pairs);
    changes.into_iter().try_for_each(|change| show(change, contents.as_mut(), visit))
}

/// Changes that wait for the last of them.
#[derive(Default)]
struct Held {
    changes: Vec<Change>,
    gone: Candidates<ContentHash>,
    new: Candidates<ContentHash>,
    is_given_up: bool,
}

fn show(change: Change, contents: Option<&mut Contents<'_>>, visit: &mut Visit<'_>) -> Result<(), Error> {
    crate::cancel::check()?;
    let difference = match contents {
        Some(contents) => contents.compare(change)?,
        None => Some(Difference { change, patches: Vec::new() }),
    };
    difference.map_or(Ok(()), visit)
}

/// The tree of a revision; none for `HEAD` before the first commit.
fn tree_of(repo: &Repo, rev: &str) -> Result<Option<TreeLink>, Error> {
    let id = resolve(repo, rev).map_err(|error| hint_at_range(error, rev))?;
    id.map(|_| Ok(commit_of(repo, Some(rev))?.1.tree)).transpose()
}

/// Who knows git may write `A..B`.
fn hint_at_range(error: Error, rev: &str) -> Error {
    match rev.split_once("..") {
        Some((from, to)) if error.kind() == ErrorKind::NotFound && !from.is_empty() && !to.is_empty() => {
            error.with_hint(format!("two revisions stand side by side: `diff {from} {}`", to.trim_start_matches('.')))
        }
        _ => error,
    }
}
