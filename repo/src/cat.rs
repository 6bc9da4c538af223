//! `cat`: bytes of a file of a commit, each chunk verified before any of it is written.
//!
//! A file of several chunks has a hash of its own in the root of its list. Nothing less than the whole file shows
//! whether it is true, so that it can only be held against what has been written: at the end, and only if that was all.

use std::io::Write;
use std::ops::ControlFlow;

use filesync_cas::ContentHash;
use filesync_merkle::{Content, ListReader, Node, Part};

use crate::absent::is_here;
use crate::contents::each_chunk;
use crate::error::{Error, ErrorKind};
use crate::history::{entry_at, target_of};
use crate::parts::absent;
use crate::repo::Repo;
use crate::request::CatRequest;

/// Carries out `cat`.
pub fn cat(repo: &Repo, request: &CatRequest, out: &mut dyn Write) -> Result<(), Error> {
    let (tree, path) = target_of(repo, &request.target)?;
    let shown = || String::from_utf8_lossy(path.as_bytes()).into_owned();
    if path.is_root() {
        let message = "cannot show a file: no path was named";
        return Err(Error::new(ErrorKind::Usage, message).with_hint("REV:PATH names a file"));
    }
    let entry = entry_at(repo, &tree, &path)?;
    if repo.copied.parts.part(&path) != Part::All && !is_here(&repo.store, &entry)? {
        return Err(absent(&path));
    }
    let (size, content) = match &entry.node {
        Node::File { size, content, .. } => (*size, content),
        Node::Symlink { target, .. } => {
            let (start, end) = part_of(target.len() as u64, request);
            let inside = |at: u64| usize::try_from(at).unwrap_or(target.len());
            return Ok(out.write_all(&target[inside(start)..inside(end)])?);
        }
        Node::Directory(_) => {
            let message = format!("cannot show {}: it is a directory", shown());
            return Err(Error::new(ErrorKind::Failed, message).with_hint("`filesync ls` lists it"));
        }
    };
    let (start, end) = part_of(size, request);
    if start >= end {
        return Ok(());
    }
    let mut whole = (end - start == size).then(blake3::Hasher::new);
    let written = each_chunk(repo, size, content, start, &mut |offset, bytes| {
        let len = bytes.len() as u64;
        let inside = |at: u64| usize::try_from(at.saturating_sub(offset).min(len)).unwrap_or(0);
        let part = &bytes[inside(start)..inside(end)];
        out.write_all(part)?;
        if let Some(whole) = &mut whole {
            whole.update(part);
        }
        // Behind the last chunk a list may still show that it is cut wrongly.
        Ok(if offset + len < end || end == size { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    let checked = written.and_then(|()| match (whole, content) {
        (Some(whole), Content::List { root, height }) => {
            let list = ListReader::new(repo.node_source(), *root, *height, size, 0)?;
            check_whole(whole.finalize(), &list.file_hash())
        }
        _ => Ok(()),
    });
    checked.map_err(|error| error.during(format_args!("cannot show {}", shown())))
}

/// Holds a whole file against what its list says of it.
fn check_whole(found: blake3::Hash, expected: &[u8; 32]) -> Result<(), Error> {
    if found == *expected {
        return Ok(());
    }
    let (found, expected) = (found.to_hex(), ContentHash::from_bytes(*expected));
    let message = format!("its BLAKE3 is {found}, and its list says {expected}: what was written is damaged");
    Err(Error::new(ErrorKind::Damage, message))
}

/// Which bytes are wanted of so many: the first, and the one behind the last.
fn part_of(size: u64, request: &CatRequest) -> (u64, u64) {
    let start = request.offset.min(size);
    (start, request.length.map_or(size, |len| start.saturating_add(len).min(size)))
}
