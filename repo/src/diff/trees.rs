//! One tree against another, as changes in the order of a walk. Equal subtrees are not read.

use filesync_cas::ContentHash;
use filesync_merkle::{Entry, Follow, NodeSource, Parts, RepoPath, TreeLink, Way, diff, lookup};

use crate::compare::{content_id, kind_of};
use crate::error::Error;
use crate::parts::absent;
use crate::path_set::PathSet;
use crate::request::{Change, Side};

/// A change, and what content it adds or removes as a whole, for renames.
pub struct Found {
    pub change: Change,
    pub gone: Option<ContentHash>,
    pub new: Option<ContentHash>,
}

/// Visits the changes from one tree to another; `None` is the empty tree. An error of `visit` ends it. Of a partial copy only parts
/// are compared.
pub fn each_change(
    source: &dyn NodeSource,
    old: Option<TreeLink>,
    new: Option<TreeLink>,
    (only, parts): (&PathSet, &Parts),
    visit: &mut dyn FnMut(Found) -> Result<(), Error>,
) -> Result<(), Error> {
    if only.is_all() {
        return below((source, parts, parts.root()), &RepoPath::root(), old, new, visit);
    }
    for path in only.paths() {
        let way = match parts.at(path) {
            Follow::In => None,
            Follow::On(way) => Some(way),
            Follow::Out => return Err(absent(path)),
        };
        // Nodes are read on the way to the path and below it, and no others.
        let find = |tree: Option<TreeLink>| match tree {
            Some(tree) if tree != TreeLink::empty() => lookup(source, &tree, path),
            _ => Ok(None),
        };
        let (old, new) = (find(old)?, find(new)?);
        let is_equal = match (&old, &new) {
            (Some(old), Some(new)) => old.same(new),
            (old, new) => old.is_none() && new.is_none(),
        };
        if is_equal {
            continue;
        }
        if let Some(found) = found(path, old.as_ref(), new.as_ref()).filter(|_| way.is_none()) {
            visit(found)?;
        }
        let link = |entry: Option<Entry>| entry.as_ref().and_then(Entry::as_directory).copied();
        below((source, parts, way), path, link(old), link(new), visit)?;
    }
    Ok(())
}

fn below(
    (source, parts, way): (&dyn NodeSource, &Parts, Option<Way>),
    path: &RepoPath,
    old: Option<TreeLink>,
    new: Option<TreeLink>,
    visit: &mut dyn FnMut(Found) -> Result<(), Error>,
) -> Result<(), Error> {
    for change in diff(source, old, new).with_directories().within(parts, way) {
        crate::cancel::check()?;
        let change = change?;
        let full = if path.is_root() {
            change.path
        } else {
            change.path.names().fold(path.clone(), |path, name| path.join(&name))
        };
        if let Some(found) = found(&full, change.old.as_ref(), change.new.as_ref()) {
            visit(found)?;
        }
    }
    Ok(())
}

/// The change of a path whose entries differ; none of a directory that is told by what it contains.
fn found(path: &RepoPath, old: Option<&Entry>, new: Option<&Entry>) -> Option<Found> {
    let (mut gone_content, mut new_content) = (None, None);
    let content = match (old, new) {
        (Some(entry), None) | (None, Some(entry)) => {
            if entry.as_directory().is_some_and(|link| *link != TreeLink::empty()) {
                return None;
            }
            let side = if new.is_some() { &mut new_content } else { &mut gone_content };
            *side = content_id(entry);
            !entry.is_directory()
        }
        (Some(old), Some(new)) if old.is_directory() && new.is_directory() => {
            if old.mode == new.mode && old.attrs == new.attrs {
                return None;
            }
            false
        }
        (Some(old), Some(new)) => !old.has_content_of(new),
        (None, None) => return None,
    };
    let attrs = old.zip(new).is_some_and(|(old, new)| old.attrs != new.attrs);
    let (old, new) = (old.map(Side::of), new.map(Side::of));
    let kind = kind_of(old.as_ref(), new.as_ref());
    let change = Change { old, new, content, attrs, ..Change::new(kind, path.as_bytes().to_vec()) };
    Some(Found { change, gone: gone_content, new: new_content })
}
