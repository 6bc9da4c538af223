//! Reading a list in order.

use crate::error::WalkError;
use crate::id::{ChunkId, ListId};
use crate::source::NodeSource;

/// One chunk of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListChunk {
    /// Where in the file it begins.
    pub offset: u64,
    /// Which chunk.
    pub id: ChunkId,
    /// Its length.
    pub len: u32,
}

/// The chunks of a file in order; an iterator.
pub struct ListReader<'s> {
    source: &'s dyn NodeSource,
}

impl<'s> ListReader<'s> {
    /// Begins with the chunk that holds the byte at `offset`. `height` and `size` are what the entry says.
    pub fn new(source: &'s dyn NodeSource, root: ListId, height: u8, size: u64, offset: u64) -> Result<Self, WalkError> {
        let _ = (root, height, size, offset);
        Ok(Self { source })
    }

    /// BLAKE3 of the whole file, as the root says.
    pub fn file_hash(&self) -> [u8; 32] {
        let _ = self.source;
        unimplemented!()
    }
}

impl Iterator for ListReader<'_> {
    type Item = Result<ListChunk, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        unimplemented!()
    }
}
