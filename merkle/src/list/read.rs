//! Reading a list in order, checking it while it goes.

use filesync_cas::ContentHash;

use super::{LevelItem, ListItem, ListNode, ListRoot, SHORT_CHUNK};
use crate::cut::{CutCheck, WRONG_CUT};
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

/// The chunks of a file in order; an iterator with flat memory. It ends after an error.
///
/// Levels and sums are checked always, the cuts only where the list is read from its beginning: an error about them may
/// come after the last chunk.
pub struct ListReader<'s> {
    nodes: ListNodes<'s>,
    root: ListRoot,
}

impl<'s> ListReader<'s> {
    /// Begins with the chunk that holds the byte at `offset`. `height` and `size` are what the entry says.
    pub fn new(
        source: &'s dyn NodeSource,
        root: ListId,
        height: u8,
        size: u64,
        offset: u64,
    ) -> Result<Self, WalkError> {
        let (mut nodes, root) = ListNodes::open(source, root, height, size)?;
        if offset > 0 {
            nodes.seek(offset)?;
        }
        Ok(Self { nodes, root })
    }

    /// BLAKE3 of the whole file, as the root says.
    pub fn file_hash(&self) -> [u8; 32] {
        self.root.file_hash
    }

    /// The size of the file.
    pub fn size(&self) -> u64 {
        self.root.size
    }
}

impl Iterator for ListReader<'_> {
    type Item = Result<ListChunk, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some(pending) = self.nodes.pending() else {
                return self.nodes.finish().err().map(Err);
            };
            if pending.level == 0 {
                let offset = self.nodes.offset;
                self.nodes.skip();
                // A decoder has seen that chunks are short.
                let len = u32::try_from(pending.item.len).unwrap_or(u32::MAX);
                return Some(Ok(ListChunk { offset, id: ChunkId(pending.item.id), len }));
            }
            if let Err(error) = self.nodes.descend() {
                return Some(Err(error));
            }
        }
    }
}

struct Frame {
    level: u8,
    items: Vec<ListItem>,
    at: usize,
}

/// What a walk over a list stands before.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PendingItem {
    pub(crate) item: ListItem,
    /// The level of the node that refers to it: 0 for chunks.
    pub(crate) level: u8,
    /// Whether it is the last of its level.
    pub(crate) is_final: bool,
}

/// A position in a list, before a chunk or a node.
pub(crate) struct ListNodes<'s> {
    source: &'s dyn NodeSource,
    root: ListId,
    frames: Vec<Frame>,
    offset: u64,
    /// One for each level; none once something was passed unread for which they cannot answer.
    checks: Vec<CutCheck<LevelItem>>,
}

impl<'s> ListNodes<'s> {
    pub(crate) fn open(
        source: &'s dyn NodeSource,
        id: ListId,
        height: u8,
        size: u64,
    ) -> Result<(Self, ListRoot), WalkError> {
        let node = read_node(source, &id.0)?;
        let Some(root) = node.root else {
            return mismatch(&id.0, "it is not the root of a list");
        };
        if node.level != height || root.size != size {
            return mismatch(&id.0, "its height or size is not what the entry says");
        }
        let checks = (0..=height).map(CutCheck::new).collect();
        let mut nodes = Self { source, root: id, frames: Vec::new(), offset: 0, checks };
        nodes.enter(&id.0, node)?;
        Ok((nodes, root))
    }

    pub(crate) fn pending(&self) -> Option<PendingItem> {
        let frame = self.frames.last()?;
        let item = *frame.items.get(frame.at)?;
        let is_final = self.frames.iter().all(|frame| frame.at + 1 == frame.items.len());
        Some(PendingItem { item, level: frame.level, is_final })
    }

    /// Whether nothing before the pending node matters for how it and what is below it is cut.
    pub(crate) fn in_sync(&self, level: u8) -> bool {
        let below = self.checks.get(..usize::from(level));
        below.is_some_and(|below| below.iter().all(CutCheck::in_sync))
    }

    fn enter(&mut self, id: &ContentHash, node: ListNode) -> Result<(), WalkError> {
        let level = node.level;
        if let Some(check) = self.checks.get_mut(usize::from(level))
            && !check.node(node.items.iter().map(|&item| LevelItem { level, item }))
        {
            self.frames.clear();
            self.checks.clear();
            return mismatch(id, WRONG_CUT);
        }
        self.frames.push(Frame { level, items: node.items, at: 0 });
        Ok(())
    }

    /// Reads the pending node. After an error nothing is left.
    pub(crate) fn descend(&mut self) -> Result<(), WalkError> {
        let Some(pending) = self.pending() else { return Ok(()) };
        let id = pending.item.id;
        let read = self.read_child(&pending).and_then(|node| self.enter(&id, node));
        if read.is_err() {
            self.frames.clear();
            self.checks.clear();
        }
        read
    }

    fn read_child(&self, pending: &PendingItem) -> Result<ListNode, WalkError> {
        let id = &pending.item.id;
        let node = read_node(self.source, id)?;
        // A decoder has seen that the sum does not overflow.
        let sum: u64 = node.items.iter().map(|item| item.len).sum();
        if node.root.is_some() || node.level + 1 != pending.level {
            return mismatch(id, "its level is not what its parent says");
        }
        if sum != pending.item.len {
            return mismatch(id, "its lengths do not sum to what its parent says");
        }
        if node.ends_short() && !pending.is_final {
            return mismatch(id, SHORT_CHUNK);
        }
        Ok(node)
    }

    /// Passes the pending chunk or node.
    pub(crate) fn skip(&mut self) {
        if let Some(pending) = self.pending() {
            self.offset += pending.item.len;
        }
        while let Some(frame) = self.frames.last_mut() {
            frame.at += 1;
            if frame.at < frame.items.len() {
                return;
            }
            self.frames.pop();
        }
    }

    fn seek(&mut self, offset: u64) -> Result<(), WalkError> {
        self.checks.clear();
        while let Some(pending) = self.pending() {
            if self.offset + pending.item.len <= offset {
                self.skip();
            } else if pending.level == 0 {
                break;
            } else {
                self.descend()?;
            }
        }
        Ok(())
    }

    /// The list ends: so must all levels. Only the first call says anything.
    pub(crate) fn finish(&mut self) -> Result<(), WalkError> {
        let good = self.checks.iter_mut().all(CutCheck::finish);
        self.checks.clear();
        if good { Ok(()) } else { mismatch(&self.root.0, WRONG_CUT) }
    }
}

fn read_node(source: &dyn NodeSource, id: &ContentHash) -> Result<ListNode, WalkError> {
    let bytes = source.get(ListId::KIND, id)?;
    ListNode::decode(&bytes).map_err(|cause| WalkError::Malformed { kind: ListId::KIND, id: *id, cause })
}

fn mismatch<T>(id: &ContentHash, what: &'static str) -> Result<T, WalkError> {
    Err(WalkError::Mismatch { kind: ListId::KIND, id: *id, what })
}
