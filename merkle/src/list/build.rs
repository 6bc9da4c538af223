//! Building a list with flat memory.

use crate::entry::Content;
use crate::error::EditError;
use crate::id::ChunkId;
use crate::source::NodeSink;

/// Takes the chunks of one file in order.
#[derive(Debug, Default)]
pub struct ListBuilder {}

impl ListBuilder {
    /// A file without chunks.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next chunk, of 1 byte to 1 MiB.
    pub fn push(&mut self, sink: &mut dyn NodeSink, chunk: ChunkId, len: u32) -> Result<(), EditError> {
        let _ = (sink, chunk, len);
        unimplemented!()
    }

    /// The file ends; `file_hash` is BLAKE3 of all of it.
    pub fn finish(self, sink: &mut dyn NodeSink, file_hash: [u8; 32]) -> Result<Content, EditError> {
        let _ = (sink, file_hash);
        unimplemented!()
    }
}
