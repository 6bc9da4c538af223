//! `cat`: bytes of a file of a commit, each chunk verified before any of it is written.

use std::io::Write;

use filesync_cas::Kind;
use filesync_merkle::{Content, ListReader, Node};

use crate::error::{Error, ErrorKind};
use crate::history::{entry_at, target_of};
use crate::repo::Repo;
use crate::request::CatRequest;

/// Carries out `cat`.
pub fn cat(repo: &Repo, request: &CatRequest, out: &mut dyn Write) -> Result<(), Error> {
    let (tree, path) = target_of(repo, Some(&request.target))?;
    let shown = || String::from_utf8_lossy(path.as_bytes()).into_owned();
    if path.is_root() {
        return Err(Error::new(ErrorKind::Usage, format!("cannot show {}: no path in it", request.target))
            .with_hint("REV:PATH names a file"));
    }
    let entry = entry_at(repo, &tree, &path)?;
    let (size, content) = match &entry.node {
        Node::File { size, content, .. } => (*size, content),
        Node::Symlink { target, .. } => {
            let start = usize::try_from(request.offset).unwrap_or(usize::MAX).min(target.len());
            let len = request.length.map_or(usize::MAX, |len| usize::try_from(len).unwrap_or(usize::MAX));
            let end = start.saturating_add(len).min(target.len());
            return Ok(out.write_all(&target[start..end])?);
        }
        Node::Directory(_) => {
            let message = format!("cannot show {}: it is a directory", shown());
            return Err(Error::new(ErrorKind::Failed, message).with_hint("`filesync ls` lists it"));
        }
    };
    let start = request.offset.min(size);
    let end = request.length.map_or(size, |len| start.saturating_add(len).min(size));
    if start >= end {
        return Ok(());
    }
    let failed = |error: Error| error.during(format_args!("cannot show {}", shown()));
    match content {
        Content::Empty => Ok(()),
        Content::Chunk(id) => write_part(repo, &id.0, 0, size, start, end, out).map_err(failed),
        Content::List { root, height } => {
            let chunks =
                ListReader::new(repo.node_source(), *root, *height, size, start).map_err(|e| failed(e.into()))?;
            for chunk in chunks {
                let chunk = chunk.map_err(|error| failed(error.into()))?;
                if chunk.offset >= end {
                    break;
                }
                crate::cancel::check()?;
                write_part(repo, &chunk.id.0, chunk.offset, u64::from(chunk.len), start, end, out).map_err(failed)?;
            }
            Ok(())
        }
    }
}

/// Writes what lies in `start..end` of a chunk that begins at `offset` of its file.
fn write_part(
    repo: &Repo,
    id: &filesync_cas::ContentHash,
    offset: u64,
    len: u64,
    start: u64,
    end: u64,
    out: &mut dyn Write,
) -> Result<(), Error> {
    let chunk = repo.store.get(Kind::CHUNK, id)?;
    if chunk.len() as u64 != len {
        return Err(Error::new(ErrorKind::Damage, format!("chunk {id} has another length than its file says")));
    }
    let inside = |at: u64| usize::try_from(at.saturating_sub(offset).min(len)).unwrap_or(0);
    Ok(out.write_all(&chunk[inside(start)..inside(end)])?)
}
