//! One node of a directory: bytes to values and back. `docs/format.md`, section 1.4.
//!
//! A decoder sees one node. What lies between nodes is checked by [`crate::DirCursor`] (sums, levels, order) and by
//! [`crate::walk`] (the cuts too).

use crate::codec::{Reader, VERSION, Writer};
use crate::cut::{ITEM_BYTES_MAX, ITEM_COUNT_MAX, Item};
use crate::entry::{Entry, HEIGHT_MAX, Totals, decode_name};
use crate::error::{DecodeError, InvalidError};
use crate::id::TreeId;
use crate::path::Name;

/// A reference from one node of a directory to a node of the level below.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The last name below it.
    pub last: Name,
    /// The node.
    pub id: TreeId,
    /// How many of the directory's own entries are below it; at least 1.
    pub entries: u64,
    /// Their totals.
    pub totals: Totals,
}

/// One node of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeNode {
    /// Level 0.
    Leaf(Vec<(Name, Entry)>),
    /// Above it.
    Inner {
        /// 1 to 10.
        level: u8,
        /// In order, at least one.
        links: Vec<Link>,
    },
}

impl Item for (Name, Entry) {
    fn size(&self) -> usize {
        self.1.encoded_len(&self.0)
    }

    fn key(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl Item for Link {
    fn size(&self) -> usize {
        66 + self.last.as_bytes().len()
    }

    fn key(&self) -> &[u8] {
        self.last.as_bytes()
    }
}

impl TreeNode {
    /// The canonical bytes. The caller keeps the order, the limits and the sums; [`TreeNode::decode`] tells.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Leaf(entries) => encode_leaf(entries),
            Self::Inner { level, links } => encode_inner(*level, links),
        }
    }

    /// Reads a node strictly: what it accepts, [`TreeNode::encode`] gives back byte for byte.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut from = Reader::new(bytes);
        from.version()?;
        let level = from.u8()?;
        from.check(level <= HEIGHT_MAX, "a level above 10")?;
        let reserved = from.u16()?;
        from.check(reserved == 0, "reserved bytes are not zero")?;
        let count = from.bounded_u32(ITEM_COUNT_MAX, "more than 1024 items")?;
        from.check(bytes.len() - from.at() <= ITEM_BYTES_MAX, "a node is too large")?;
        if level == 0 {
            let mut entries: Vec<(Name, Entry)> = Vec::with_capacity(count);
            let mut totals = Totals::default();
            for _ in 0..count {
                let (name, entry) = Entry::decode(&mut from)?;
                if entries.last().is_some_and(|(last, _)| *last >= name) {
                    return from.fail("names are not ascending");
                }
                match entry.totals().and_then(|more| totals.checked_add(more)) {
                    Some(sum) => totals = sum,
                    None => return from.fail("totals overflow"),
                }
                entries.push((name, entry));
            }
            from.finish()?;
            return Ok(Self::Leaf(entries));
        }
        from.check(count > 0, "no links")?;
        let mut links: Vec<Link> = Vec::with_capacity(count);
        let mut sum = (0u64, Totals::default());
        for _ in 0..count {
            let last = decode_name(&mut from)?;
            let id = TreeId::from_bytes(from.array()?);
            let link = Link { last, id, entries: from.u64()?, totals: Totals::decode(&mut from)? };
            from.check(link.entries > 0, "a link to nothing")?;
            if links.last().is_some_and(|before| before.last >= link.last) {
                return from.fail("names are not ascending");
            }
            match (sum.0.checked_add(link.entries), sum.1.checked_add(link.totals)) {
                (Some(entries), Some(totals)) => sum = (entries, totals),
                _ => return from.fail("totals overflow"),
            }
            links.push(link);
        }
        from.finish()?;
        Ok(Self::Inner { level, links })
    }

    /// The level: 0 for leaves.
    pub fn level(&self) -> u8 {
        match self {
            Self::Leaf(_) => 0,
            Self::Inner { level, .. } => *level,
        }
    }

    /// How many entries of the directory are below, and their totals; an error if that overflows.
    pub fn sum(&self) -> Result<(u64, Totals), InvalidError> {
        let sum = match self {
            Self::Leaf(entries) => sum_entries(entries),
            Self::Inner { links, .. } => sum_links(links),
        };
        sum.ok_or(TOTALS_OVERFLOW)
    }
}

pub(crate) const TOTALS_OVERFLOW: InvalidError = InvalidError("totals overflow");

pub(crate) fn sum_entries(entries: &[(Name, Entry)]) -> Option<(u64, Totals)> {
    let mut totals = Totals::default();
    for (_, entry) in entries {
        totals = totals.checked_add(entry.totals()?)?;
    }
    Some((u64::try_from(entries.len()).ok()?, totals))
}

pub(crate) fn sum_links(links: &[Link]) -> Option<(u64, Totals)> {
    let mut sum = (0u64, Totals::default());
    for link in links {
        sum = (sum.0.checked_add(link.entries)?, sum.1.checked_add(link.totals)?);
    }
    Some(sum)
}

fn header(level: u8, count: usize, size: usize) -> Writer {
    let mut out = Writer::with_capacity(8 + size);
    out.u8(VERSION);
    out.u8(level);
    out.u16(0);
    out.len_u32(count);
    out
}

pub(crate) fn encode_leaf(entries: &[(Name, Entry)]) -> Vec<u8> {
    let mut out = header(0, entries.len(), entries.iter().map(Item::size).sum());
    for (name, entry) in entries {
        entry.encode(name, &mut out);
    }
    out.finish()
}

pub(crate) fn encode_inner(level: u8, links: &[Link]) -> Vec<u8> {
    let mut out = header(level, links.len(), links.iter().map(Item::size).sum());
    for link in links {
        out.len_u16(link.last.as_bytes().len());
        out.bytes(link.last.as_bytes());
        out.bytes(link.id.as_bytes());
        out.u64(link.entries);
        link.totals.encode(&mut out);
    }
    out.finish()
}
