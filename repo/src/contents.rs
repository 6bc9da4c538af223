//! Bytes of files of a commit, each chunk verified before any of it is handed out.

use std::ops::ControlFlow;

use filesync_cas::{ContentHash, Kind, Object};
use filesync_merkle::{Content, ListReader};

use crate::error::{Error, ErrorKind};
use crate::repo::Repo;

/// What takes a chunk: where it begins, and its bytes. It may end the reading.
pub type Visit<'a> = dyn FnMut(u64, &[u8]) -> Result<ControlFlow<()>, Error> + 'a;

/// Visits the chunks of a file in order, from the one that holds the byte at `start`.
pub fn each_chunk(repo: &Repo, size: u64, content: &Content, start: u64, visit: &mut Visit<'_>) -> Result<(), Error> {
    match content {
        Content::Empty => Ok(()),
        Content::Chunk(id) => visit(0, &chunk(repo, &id.0, size)?).map(drop),
        Content::List { root, height } => {
            for item in ListReader::new(repo.node_source(), *root, *height, size, start)? {
                let item = item?;
                crate::cancel::check()?;
                if visit(item.offset, &chunk(repo, &item.id.0, u64::from(item.len))?)?.is_break() {
                    break;
                }
            }
            Ok(())
        }
    }
}

fn chunk(repo: &Repo, id: &ContentHash, len: u64) -> Result<Object, Error> {
    let chunk = repo.store.get(Kind::CHUNK, id)?;
    if chunk.len() as u64 != len {
        return Err(Error::new(ErrorKind::Damage, format!("chunk {id} has another length than its file says")));
    }
    Ok(chunk)
}
