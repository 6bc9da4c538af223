//! `cat`: bytes of a file of a commit, each chunk verified before any of it is written.

use std::io::Write;
use std::ops::ControlFlow;

use filesync_merkle::Node;

use crate::contents::each_chunk;
use crate::error::{Error, ErrorKind};
use crate::history::{entry_at, target_of};
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
    let written = each_chunk(repo, size, content, start, &mut |offset, bytes| {
        let len = bytes.len() as u64;
        let inside = |at: u64| usize::try_from(at.saturating_sub(offset).min(len)).unwrap_or(0);
        out.write_all(&bytes[inside(start)..inside(end)])?;
        Ok(if offset + len < end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    written.map_err(|error| error.during(format_args!("cannot show {}", shown())))
}

/// Which bytes are wanted of so many: the first, and the one behind the last.
fn part_of(size: u64, request: &CatRequest) -> (u64, u64) {
    let start = request.offset.min(size);
    (start, request.length.map_or(size, |len| start.saturating_add(len).min(size)))
}
