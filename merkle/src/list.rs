//! The chunks of one file: nodes, building them, reading them in order. `docs/format.md`, section 1.3.

mod build;
mod read;

pub use build::ListBuilder;
pub(crate) use read::ListNodes;
pub use read::{ListChunk, ListReader};

use filesync_cas::ContentHash;

use crate::codec::{Reader, VERSION, Writer};
use crate::cut::{ITEM_COUNT_MAX, Item};
use crate::entry::{CHUNK_LEN_MAX, CHUNK_LEN_MIN, HEIGHT_MAX};
use crate::error::DecodeError;

const SHORT_CHUNK: &str = "a chunk below 1 KiB that is not the last of its file";

/// A chunk (level 0) or a node of the level below, and the bytes of the file that it holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListItem {
    /// The chunk or node.
    pub id: ContentHash,
    /// How many bytes of the file are below it.
    pub len: u64,
}

/// What only the root node of a list says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListRoot {
    /// The size of the file.
    pub size: u64,
    /// BLAKE3 of the whole file.
    pub file_hash: [u8; 32],
}

/// One node of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListNode {
    /// 0 for chunks.
    pub level: u8,
    /// Only in the root.
    pub root: Option<ListRoot>,
    /// In the order of the file.
    pub items: Vec<ListItem>,
}

/// An item and its level, since both have a say in its size.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LevelItem {
    pub(crate) level: u8,
    pub(crate) item: ListItem,
}

impl Item for LevelItem {
    fn size(&self) -> usize {
        if self.level == 0 { 36 } else { 40 }
    }

    fn key(&self) -> &[u8] {
        self.item.id.as_bytes()
    }
}

impl ListNode {
    /// The canonical bytes. The caller keeps the limits and the sums.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Writer::with_capacity(48 + 40 * self.items.len());
        out.u8(VERSION);
        out.u8(self.level);
        out.u8(u8::from(self.root.is_some()));
        out.u8(0);
        out.len_u32(self.items.len());
        if let Some(root) = &self.root {
            out.u64(root.size);
            out.bytes(&root.file_hash);
        }
        for item in &self.items {
            out.bytes(item.id.as_bytes());
            if self.level == 0 {
                // Lengths of chunks were checked; a wrong one is made unreadable rather than short.
                out.u32(u32::try_from(item.len).unwrap_or(u32::MAX));
            } else {
                out.u64(item.len);
            }
        }
        out.finish()
    }

    /// Whether it ends with a chunk below 1 KiB, as only the last node of a list may.
    pub fn ends_short(&self) -> bool {
        self.level == 0 && self.items.last().is_some_and(|last| last.len < CHUNK_LEN_MIN)
    }

    /// Reads strictly: what it accepts, [`ListNode::encode`] gives back byte for byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        from.version()?;
        let level = from.u8()?;
        from.check(level <= HEIGHT_MAX, "a level above 10")?;
        let is_root = match from.u8()? {
            0 => false,
            1 => true,
            _ => return from.fail("neither root nor not"),
        };
        let reserved = from.u8()?;
        from.check(reserved == 0, "reserved bytes are not zero")?;
        let count = from.bounded_u32(ITEM_COUNT_MAX, "more than 1024 items")?;
        from.check(count >= if is_root { 2 } else { 1 }, "too few items")?;
        let root = match is_root {
            true => Some(ListRoot { size: from.u64()?, file_hash: from.array()? }),
            false => None,
        };
        let mut items = Vec::with_capacity(count);
        let mut sum = 0u64;
        for at in 1..=count {
            let id = ContentHash::from_bytes(from.array()?);
            let len = if level == 0 { u64::from(from.u32()?) } else { from.u64()? };
            from.check(len > 0, "an item without bytes")?;
            from.check(level > 0 || len <= CHUNK_LEN_MAX, "a chunk above 1 MiB")?;
            from.check(level > 0 || len >= CHUNK_LEN_MIN || at == count, SHORT_CHUNK)?;
            match sum.checked_add(len) {
                Some(more) => sum = more,
                None => return from.fail("lengths overflow"),
            }
            items.push(ListItem { id, len });
        }
        from.check(root.is_none_or(|root| root.size == sum), "the lengths do not sum to the size")?;
        from.finish()?;
        Ok(Self { level, root, items })
    }
}
