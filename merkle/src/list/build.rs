//! Building a list with flat memory: one node of each level.

use filesync_cas::ContentHash;

use super::{LevelItem, ListItem, ListNode, ListRoot};
use crate::cut::Cutter;
use crate::entry::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, Content, HEIGHT_MAX};
use crate::error::{EditError, InvalidError};
use crate::id::{ChunkId, ListId};
use crate::source::NodeSink;

/// One level of the list. A complete node is held back until more items follow: alone it would be the root, which
/// is encoded differently.
#[derive(Debug)]
struct Level {
    cutter: Cutter<LevelItem>,
    held: Option<Vec<LevelItem>>,
}

/// Takes the chunks of one file in order.
#[derive(Debug, Default)]
pub struct ListBuilder {
    levels: Vec<Level>,
    first: Option<ChunkId>,
    count: u64,
    size: u64,
    /// The last chunk so far can be no other than the last.
    is_short: bool,
}

impl ListBuilder {
    /// A file without chunks.
    pub fn new() -> Self {
        Self::default()
    }

    /// How many bytes the chunks so far have.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The next chunk, of 1 KiB to 1 MiB; the last may be shorter.
    pub fn push(&mut self, sink: &mut dyn NodeSink, chunk: ChunkId, len: u32) -> Result<(), EditError> {
        let len = u64::from(len);
        if len == 0 || len > CHUNK_LEN_MAX {
            return Err(InvalidError("a chunk has 1 byte to 1 MiB").into());
        }
        if std::mem::replace(&mut self.is_short, len < CHUNK_LEN_MIN) {
            return Err(InvalidError("only the last chunk of a file is below 1 KiB").into());
        }
        self.size = self.size.checked_add(len).ok_or(InvalidError("a file is too large"))?;
        self.count += 1;
        self.first.get_or_insert(chunk);
        self.push_item(sink, 0, ListItem { id: chunk.0, len })
    }

    /// The file ends; `file_hash` is BLAKE3 of all of it. Writes what is left and says how to refer to it.
    pub fn finish(mut self, sink: &mut dyn NodeSink, file_hash: [u8; 32]) -> Result<Content, EditError> {
        match (self.count, self.first) {
            (0, _) | (_, None) => return Ok(Content::Empty),
            (1, Some(chunk)) => return Ok(Content::Chunk(chunk)),
            _ => {}
        }
        for level in 0..=HEIGHT_MAX {
            let index = usize::from(level);
            let is_top = self.levels.len() == index + 1;
            let Some(Level { cutter, held }) = self.levels.get_mut(index) else { break };
            let (held, last) = (held.take(), cutter.finish());
            let root = match (held, last) {
                (Some(node), None) | (None, Some(node)) if is_top => node,
                (held, last) => {
                    for node in held.into_iter().chain(last) {
                        self.put_node(sink, level, node)?;
                    }
                    continue;
                }
            };
            let items: Vec<_> = root.iter().map(|item| item.item).collect();
            let node = ListNode { level, root: Some(ListRoot { size: self.size, file_hash }), items };
            let id = sink.put(ListId::KIND, &node.encode())?;
            return Ok(Content::List { root: ListId(id), height: level });
        }
        Err(TOO_HIGH.into())
    }

    fn push_item(&mut self, sink: &mut dyn NodeSink, level: u8, item: ListItem) -> Result<(), EditError> {
        let index = usize::from(level);
        if level > HEIGHT_MAX {
            return Err(TOO_HIGH.into());
        }
        if self.levels.len() == index {
            self.levels.push(Level { cutter: Cutter::new(level), held: None });
        }
        let mut done = Vec::new();
        if let Some(state) = self.levels.get_mut(index) {
            done.extend(state.held.take());
            state.cutter.push(LevelItem { level, item }, &mut done);
            // Whatever is complete and has something behind it goes; the rest is held.
            if state.cutter.is_empty() {
                state.held = done.pop();
            }
        }
        for node in done {
            self.put_node(sink, level, node)?;
        }
        Ok(())
    }

    /// Writes a node that is not the root, and refers to it from the level above: at most ten levels.
    fn put_node(&mut self, sink: &mut dyn NodeSink, level: u8, node: Vec<LevelItem>) -> Result<(), EditError> {
        let items: Vec<_> = node.iter().map(|item| item.item).collect();
        let len = items.iter().map(|item| item.len).sum();
        let id: ContentHash = sink.put(ListId::KIND, &ListNode { level, root: None, items }.encode())?;
        self.push_item(sink, level + 1, ListItem { id, len })
    }
}

const TOO_HIGH: InvalidError = InvalidError("a list is too high");
