//! Whether the bytes of what stands in the working copy are in a commit, so that the working copy may lose them.
//!
//! The hazard is content that the store has and nothing refers to: a commit that was cut off, or amended away, leaves
//! its objects until gc comes. Whoever took "the store has it" for "a commit has it" would drop the last copy that the
//! user can get at. So what HEAD does not have at the same path is looked for in all commits that a ref leads to: the
//! newest tree is walked once, and of all others only where they differ. That is done for all paths of a plan at once.

use std::collections::BTreeSet;

use filesync_cas::{ContentHash, Store};
use filesync_merkle::{
    Ancestors, AttrsId, ChunkId, Content, Entry, ListReader, Node, NodeSource, Parts, TreeLink, diff,
};

use crate::error::Error;
use crate::roots::Roots;

/// Something of which some commit must know: an object, or what a symlink holds, which is no object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Piece {
    /// A chunk, list or attributes that an entry refers to.
    Object(ContentHash),
    /// The target of a symlink.
    Target(Box<[u8]>),
}

/// What is to be said of a file or symlink.
#[derive(Debug, PartialEq, Eq)]
pub enum Held {
    /// HEAD has it at this path, or there is nothing to lose.
    Yes,
    /// The store does not have all of it.
    No,
    /// It is, if commits know of all of these.
    If(Vec<Piece>),
}

/// Asks HEAD and the store; `head` is what HEAD has at the path.
pub fn held(store: &Store, source: &dyn NodeSource, entry: &Entry, head: Option<&Entry>) -> Result<Held, Error> {
    // What is damaged in the store is not in any commit that could be restored.
    let doubted = store.has_damage();
    let has = |kind, id: &ContentHash| -> Result<bool, Error> {
        if doubted { Ok(store.get(kind, id).is_ok()) } else { Ok(store.locate(id)?.is_some()) }
    };
    let mut pieces = Vec::new();
    if let Some(attrs) = &entry.attrs {
        if !has(AttrsId::KIND, &attrs.0)? {
            return Ok(Held::No);
        }
        if head.and_then(|head| head.attrs) != Some(*attrs) {
            pieces.push(Piece::Object(attrs.0));
        }
    }
    let same_as_head = head.is_some_and(|head| piece_of(head).is_some() && piece_of(head) == piece_of(entry));
    if !same_as_head {
        pieces.extend(piece_of(entry));
    }
    let here = match &entry.node {
        Node::Directory(_) => false,
        Node::Symlink { .. } | Node::File { content: Content::Empty, .. } => true,
        Node::File { .. } if same_as_head && !doubted => true,
        Node::File { content: Content::Chunk(id), .. } => has(ChunkId::KIND, &id.0)?,
        Node::File { content: Content::List { root, height }, size, .. } => {
            let all_there = |chunks: ListReader<'_>| -> Result<bool, Error> {
                for chunk in chunks {
                    match chunk {
                        Ok(chunk) if has(ChunkId::KIND, &chunk.id.0)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            };
            match store.locate(&root.0)? {
                None => false,
                Some(_) => ListReader::new(source, *root, *height, *size, 0).map_or(Ok(false), all_there)?,
            }
        }
    };
    Ok(match (here, pieces.is_empty()) {
        (false, _) => Held::No,
        (true, true) => Held::Yes,
        (true, false) => Held::If(pieces),
    })
}

/// What holds the bytes of an entry; nothing if it has none.
fn piece_of(entry: &Entry) -> Option<Piece> {
    match &entry.node {
        Node::Directory(_) | Node::File { content: Content::Empty, .. } => None,
        Node::Symlink { target, .. } => Some(Piece::Target(target.clone())),
        Node::File { content: Content::Chunk(id), .. } => Some(Piece::Object(id.0)),
        Node::File { content: Content::List { root, .. }, .. } => Some(Piece::Object(root.0)),
    }
}

/// Takes away from `wanted` all that some commit knows of which one of `roots` leads to. What is left is in none, or
/// only in some that have expired or cannot be read.
pub fn find(source: &dyn NodeSource, parts: &Parts, roots: &Roots, wanted: &mut BTreeSet<Piece>) -> Result<(), Error> {
    let mut newer: Option<TreeLink> = None;
    for commit in Ancestors::new(source, roots.commits.iter().copied()) {
        crate::cancel::check()?;
        let tree = match commit {
            // Its files are no longer kept, whether or not they are still there.
            Ok((id, _)) if roots.expired.contains(&id) => continue,
            Ok((_, commit)) => commit.tree,
            Err(error) if error.is_damage() => continue,
            Err(error) => return Err(error.into()),
        };
        if visit((source, parts), newer, tree, wanted)? {
            newer = Some(tree);
        }
        if wanted.is_empty() {
            break;
        }
    }
    Ok(())
}

/// Looks at what a tree has that the newer one does not have at the same path; whether all of it could be seen.
fn visit(
    (source, parts): (&dyn NodeSource, &Parts),
    newer: Option<TreeLink>,
    tree: TreeLink,
    wanted: &mut BTreeSet<Piece>,
) -> Result<bool, Error> {
    for change in diff(source, newer, Some(tree)).with_directories().within(parts, parts.root()) {
        crate::cancel::check()?;
        let entry = match change {
            Ok(change) => change.new,
            Err(error) if error.is_damage() => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let Some(entry) = entry else { continue };
        if let Some(piece) = piece_of(&entry) {
            wanted.remove(&piece);
        }
        if let Some(attrs) = &entry.attrs {
            wanted.remove(&Piece::Object(attrs.0));
        }
        if wanted.is_empty() {
            break;
        }
    }
    Ok(true)
}
