//! `ls`: entries of a directory of a commit.

use filesync_cas::ContentHash;
use filesync_merkle::{Content, DirCursor, Entry, ListId, ListNode, Node, RepoPath, TreeLink};

use crate::error::{Error, ErrorKind};
use crate::history::{entry_at, resolve, target_of};
use crate::repo::Repo;
use crate::request::{EntryKind, LsEntry, LsRequest};

/// Carries out `ls`.
pub fn ls(repo: &Repo, request: &LsRequest, visit: &mut dyn FnMut(LsEntry) -> Result<(), Error>) -> Result<(), Error> {
    if request.target.as_deref().is_none_or(|target| target == "HEAD") && resolve(repo, "HEAD")?.is_none() {
        return Ok(());
    }
    let (tree, path) = target_of(repo, request.target.as_deref())?;
    if path.is_root() {
        return list(repo, request, path, tree, visit);
    }
    let entry = entry_at(repo, &tree, &path)?;
    match entry.as_directory() {
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
        if let Some(link) = entry.as_directory().filter(|_| request.recursive) {
            if stack.len() > crate::scan::DEPTH_MAX {
                return Err(Error::new(ErrorKind::Damage, "cannot list: directories are nested too deeply"));
            }
            stack.push((path, DirCursor::new(repo.node_source(), link)));
        }
    }
    Ok(())
}

fn describe(repo: &Repo, request: &LsRequest, path: &RepoPath, entry: &Entry) -> Result<LsEntry, Error> {
    let mut described = LsEntry {
        path: path.as_bytes().to_vec(),
        kind: EntryKind::File,
        mode: entry.mode.bits(),
        size: 0,
        mtime: entry.mtime(),
        id: None,
        b3: None,
        target: None,
    };
    match &entry.node {
        Node::File { size, content, .. } => {
            described.kind = if entry.mode.is_executable() { EntryKind::Executable } else { EntryKind::File };
            described.size = *size;
            match content {
                Content::Empty => described.b3 = Some(ContentHash::of_chunk(b"")),
                Content::Chunk(id) => {
                    described.id = Some(id.0);
                    described.b3 = Some(id.0);
                }
                Content::List { root, .. } => {
                    described.id = Some(root.0);
                    described.b3 = if request.hashes { file_hash(repo, root)? } else { None };
                }
            }
        }
        Node::Symlink { target, .. } => {
            described.kind = EntryKind::Symlink;
            described.size = target.len() as u64;
            described.target = Some(target.to_vec());
        }
        Node::Directory(link) => {
            described.kind = EntryKind::Directory;
            described.size = link.totals.bytes;
            described.id = Some(link.id.0);
        }
    }
    Ok(described)
}

/// The BLAKE3 of a whole file, which the root of its list holds.
fn file_hash(repo: &Repo, root: &ListId) -> Result<Option<ContentHash>, Error> {
    let bytes = repo.store.get(ListId::KIND, &root.0)?;
    let node = ListNode::decode(&bytes)
        .map_err(|error| Error::new(ErrorKind::Damage, format!("object {} is damaged: {error}", root.0)))?;
    Ok(node.root.map(|root| ContentHash::from_bytes(root.file_hash)))
}
