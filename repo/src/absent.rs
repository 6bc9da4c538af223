//! What a partial copy may lack, for a collection that otherwise stops at the first object that is missing.
//!
//! The rule: an object may be missing if a *published* commit has it outside of the parts, and nothing that is kept has it
//! within them. So what a collection removes for want of an object that led to it belongs to a published commit, outside of
//! the parts: a majority of the voters holds it. Whatever is only here stops it as ever.

use std::collections::HashSet;

use filesync_cas::{ContentHash, Kind, Schema, Store};
use filesync_merkle::{
    Ancestors, AttrsId, ChunkId, CommitId, Content, DirCursor, Entry, Follow, ListId, MerkleSchema, Node, TreeId,
    TreeLink, Way,
};

use crate::error::{Error, ErrorKind};
use crate::repo::Repo;
use crate::roots::Roots;

type Objects = HashSet<(Kind, ContentHash)>;

/// What may be missing; nothing, unless the repository is a partial copy.
pub fn may_be_missing(repo: &Repo, roots: &Roots) -> Result<HashSet<ContentHash>, Error> {
    let mut absent = HashSet::new();
    if repo.copied.is_whole() {
        return Ok(absent);
    }
    let (outside, _) = children_of_ways(repo, roots, roots.published.into_iter().collect())?;
    let mut missing = |id: &ContentHash| {
        absent.insert(*id);
    };
    each_below(&repo.store, outside, &mut |_| {}, &mut missing)?;
    if absent.is_empty() {
        return Ok(absent);
    }
    let (_, within) = children_of_ways(repo, roots, roots.commits.iter().copied().collect())?;
    each_below(
        &repo.store,
        within,
        &mut |id| {
            absent.remove(id);
        },
        &mut |_| {},
    )?;
    Ok(absent)
}

/// What directories on the way to parts refer to, in all commits that some lead to and that have not expired: what is outside of
/// the parts, and what is within. The directories themselves are read, and so have to be here.
fn children_of_ways(repo: &Repo, roots: &Roots, commits: Vec<CommitId>) -> Result<(Objects, Objects), Error> {
    let (source, parts) = (repo.node_source(), &repo.copied.parts);
    let (mut outside, mut within) = (Objects::new(), Objects::new());
    let mut seen: HashSet<(Way, TreeId)> = HashSet::new();
    for commit in Ancestors::new(source, commits) {
        crate::cancel::check()?;
        let (id, commit) = commit?;
        if roots.expired.contains(&id) {
            continue;
        }
        let mut open: Vec<(Way, TreeLink)> = parts.root().map(|way| (way, commit.tree)).into_iter().collect();
        while let Some((way, link)) = open.pop() {
            if link == TreeLink::empty() || !seen.insert((way, link.id)) {
                continue;
            }
            for entry in DirCursor::new(source, &link) {
                let (name, entry) = entry?;
                match (parts.follow(way, &name), entry.as_directory()) {
                    (Follow::On(way), Some(link)) => {
                        within.extend(entry.attrs.map(|id| (AttrsId::KIND, id.0)));
                        open.push((way, *link));
                    }
                    (Follow::In, _) => within.extend(children(&entry)),
                    (Follow::On(_), None) | (Follow::Out, _) => outside.extend(children(&entry)),
                }
            }
        }
    }
    Ok((outside, within))
}

fn children(entry: &Entry) -> impl Iterator<Item = (Kind, ContentHash)> + use<> {
    let content = match &entry.node {
        Node::File { content: Content::Chunk(id), .. } => Some((ChunkId::KIND, id.0)),
        Node::File { content: Content::List { root, .. }, .. } => Some((ListId::KIND, root.0)),
        Node::Directory(link) => Some((TreeId::KIND, link.id.0)),
        Node::File { content: Content::Empty, .. } | Node::Symlink { .. } => None,
    };
    content.into_iter().chain(entry.attrs.map(|id| (AttrsId::KIND, id.0)))
}

/// Whether all that an entry refers to is here, part or not.
pub fn is_here(store: &Store, entry: &Entry) -> Result<bool, Error> {
    let mut is_here = true;
    let mut missing = |_: &ContentHash| is_here = false;
    each_below(store, children(entry).collect(), &mut |_| {}, &mut missing)?;
    Ok(is_here)
}

/// Follows objects as far as they are here. Each is visited; what the index does not know is missing.
fn each_below(
    store: &Store,
    roots: Objects,
    visit: &mut dyn FnMut(&ContentHash),
    missing: &mut dyn FnMut(&ContentHash),
) -> Result<(), Error> {
    let (mut seen, mut open) = (HashSet::new(), Vec::from_iter(roots));
    while let Some((kind, id)) = open.pop() {
        visit(&id);
        if !kind.is_chunk() && !seen.insert(id) {
            continue;
        }
        crate::cancel::check()?;
        if store.locate(&id)?.is_none() {
            missing(&id);
        } else if !kind.is_chunk() {
            let bytes = store.get(kind, &id)?;
            let below = MerkleSchema.children(kind, &bytes);
            open.extend(
                below.map_err(|cause| Error::new(ErrorKind::Damage, format!("object {id} is damaged: {cause}")))?,
            );
        }
    }
    Ok(())
}
