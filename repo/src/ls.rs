//! `ls`: entries of a directory of a commit.

use filesync_cas::ContentHash;
use filesync_merkle::{Content, DirCursor, Entry, ListId, ListNode, Node, Part, RepoPath, TreeLink};

use crate::error::{Error, ErrorKind};
use crate::history::{entry_at, is_before_the_first_commit, target_of};
use crate::parts::absent;
use crate::repo::Repo;
use crate::request::{LsEntry, LsRequest, Side};

/// Carries out `ls`.
pub fn ls(repo: &Repo, request: &LsRequest, visit: &mut dyn FnMut(LsEntry) -> Result<(), Error>) -> Result<(), Error> {
    if is_before_the_first_commit(repo, request.target.rev.as_deref())? && request.target.path.is_none() {
        return Ok(());
    }
    let (tree, path) = target_of(repo, &request.target)?;
    if path.is_root() {
        return list(repo, request, path, tree, visit);
    }
    let entry = entry_at(repo, &tree, &path)?;
    match entry.as_directory() {
        Some(link) if !is_here(repo, &path, link)? => Err(absent(&path)),
        Some(link) => list(repo, request, path, *link, visit),
        None => visit(describe(repo, request, &path, &entry)?),
    }
}

fn list(
    repo: &Repo,
    request: &LsRequest,
    path: RepoPath,
    tree: TreeLink,
    visit: &mut dyn FnMut(LsEntry) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut stack = vec![(path, DirCursor::new(repo.node_source(), &tree))];
    while let Some((path, cursor)) = stack.last_mut() {
        let Some((name, entry)) = cursor.next().transpose()? else {
            stack.pop();
            continue;
        };
        crate::cancel::check()?;
        let path = path.join(&name);
        visit(describe(repo, request, &path, &entry)?)?;
        if let Some(link) = entry.as_directory().filter(|_| request.recursive)
            && is_here(repo, &path, link)?
        {
            if stack.len() > crate::scan::DEPTH_MAX {
                return Err(Error::new(ErrorKind::Damage, "cannot list: directories are nested too deeply"));
            }
            stack.push((path, DirCursor::new(repo.node_source(), link)));
        }
    }
    Ok(())
}

/// Whether a directory can be read: in a partial copy those that are no part of it are there by name alone.
pub fn is_here(repo: &Repo, path: &RepoPath, link: &TreeLink) -> Result<bool, Error> {
    Ok(repo.copied.parts.part(path) != Part::None || repo.store.locate(&link.id.0)?.is_some())
}

fn describe(repo: &Repo, request: &LsRequest, path: &RepoPath, entry: &Entry) -> Result<LsEntry, Error> {
    let Side { kind, mode, mut size } = Side::of(entry);
    let (mut id, mut b3, mut link_target) = (None, None, None);
    match &entry.node {
        Node::File { content: Content::Empty, .. } => b3 = Some(ContentHash::of_chunk(b"")),
        Node::File { content: Content::Chunk(chunk), .. } => (id, b3) = (Some(chunk.0), Some(chunk.0)),
        Node::File { content: Content::List { root, .. }, .. } => {
            id = Some(root.0);
            let is_here = repo.copied.parts.part(path) == Part::All || repo.store.locate(&root.0)?.is_some();
            b3 = if request.hashes && is_here { file_hash(repo, root)? } else { None };
        }
        Node::Symlink { target, .. } => link_target = Some(target.to_vec()),
        Node::Directory(link) => {
            size = link.totals.bytes;
            id = Some(link.id.0);
        }
    }
    Ok(LsEntry { path: path.as_bytes().to_vec(), kind, mode, size, mtime: entry.mtime(), id, b3, target: link_target })
}

/// The BLAKE3 of a whole file, which the root of its list holds.
fn file_hash(repo: &Repo, root: &ListId) -> Result<Option<ContentHash>, Error> {
    let bytes = repo.store.get(ListId::KIND, &root.0)?;
    let node = ListNode::decode(&bytes)
        .map_err(|error| Error::new(ErrorKind::Damage, format!("object {} is damaged: {error}", root.0)))?;
    Ok(node.root.map(|root| ContentHash::from_bytes(root.file_hash)))
}
