//! Files that were cut elsewhere: by other sizes, or another chunker. Read here, they get other chunks, and so another id;
//! their bytes are the same for all that, and must not pass for changed.
//!
//! The hash of the whole file, which every list has, only says where it is worth looking: who made the list may have
//! lied. What decides are the chunks, each of which is named by its bytes: what passes for stored is stored.

use std::io;

use filesync_cas::ContentHash;
use filesync_merkle::{Content, Entry, ListReader, Node, NodeSource};

/// Reads the file at an offset, until the buffer is full or the file ends.
pub type ReadAt<'a> = dyn FnMut(&mut [u8], u64) -> io::Result<usize> + 'a;

/// The content of `known`, if a file of `size` bytes with the hash `whole`, which cut here has the content `found`, has just
/// its bytes.
///
/// A list that cannot be read answers nothing: who needs it says so.
pub fn same_bytes(
    nodes: &dyn NodeSource,
    known: &Entry,
    size: u64,
    found: Content,
    whole: &ContentHash,
    read_at: &mut ReadAt<'_>,
) -> io::Result<Option<Content>> {
    let Node::File { size: known_size, content, .. } = &known.node else { return Ok(None) };
    if *known_size != size || *content == found {
        return Ok(None);
    }
    match content {
        Content::Empty => Ok(None),
        Content::Chunk(id) => Ok((id.0 == *whole).then_some(*content)),
        Content::List { root, height } => {
            let chunks = ListReader::new(nodes, *root, *height, size, 0);
            let Some(chunks) = chunks.ok().filter(|list| list.file_hash() == *whole.as_bytes()) else {
                return Ok(None);
            };
            let mut bytes = Vec::new();
            for chunk in chunks {
                let Ok(chunk) = chunk else { return Ok(None) };
                bytes.resize(chunk.len as usize, 0);
                if read_at(&mut bytes, chunk.offset)? < bytes.len() || ContentHash::of_chunk(&bytes) != chunk.id.0 {
                    return Ok(None);
                }
            }
            Ok(Some(*content))
        }
    }
}

#[cfg(test)]
mod tests;
