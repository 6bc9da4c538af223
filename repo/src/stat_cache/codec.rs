//! Rows as bytes. Decoding is strict: what was not written by this version is no row.

use filesync_cas::ContentHash;
use filesync_merkle::{Content, Name, Node, Timestamp, Totals, TreeId, TreeLink, TreeNode};

use super::CachedRow;

/// A block has at most this many entries,
pub(super) const ROW_COUNT_MAX: usize = 512;
/// and at most this many bytes, besides its header.
pub(super) const BLOCK_LEN_MAX: usize = 48 << 10;

const VERSION: u8 = 1;
const HEAD: u8 = 1;
const BLOCK: u8 = 2;
/// The length of `stat`.
const STAT_LEN: usize = 43;

/// The row that every known directory has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) stamp: Timestamp,
    pub(super) link: Option<TreeLink>,
    /// First name and stamp of each further block, ascending.
    pub(super) blocks: Vec<(Name, Timestamp)>,
    pub(super) rows: Vec<CachedRow>,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, HEAD, u8::from(self.link.is_some()), 0];
        put_time(&mut out, self.stamp);
        if let Some(link) = &self.link {
            out.extend_from_slice(link.id.as_bytes());
            out.push(link.height);
            for number in [link.totals.files, link.totals.directories, link.totals.bytes] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out.extend_from_slice(&len_u32(self.blocks.len()));
        for (first, stamp) in &self.blocks {
            let len = u16::try_from(first.as_bytes().len()).expect("a name has at most 255 bytes");
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(first.as_bytes());
            put_time(&mut out, *stamp);
        }
        put_rows(&mut out, &self.rows);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Bytes(bytes);
        let has_link = match from.array()? {
            [VERSION, HEAD, flag @ 0..=1, 0] => flag == 1,
            _ => return None,
        };
        let stamp = from.time()?;
        let link = if has_link { Some(from.link()?) } else { None };
        let count = from.u32()?;
        let mut blocks: Vec<(Name, Timestamp)> = Vec::new();
        for _ in 0..count {
            let len = from.u16()?;
            let first = Name::new(from.take(usize::from(len))?).ok()?;
            if blocks.last().is_some_and(|(before, _)| *before >= first) {
                return None;
            }
            blocks.push((first, from.time()?));
        }
        Some(Self { stamp, link, blocks, rows: from.rows()? })
    }
}

/// A further row of a large directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    pub(super) stamp: Timestamp,
    pub(super) rows: Vec<CachedRow>,
}

impl Block {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION, BLOCK, 0, 0];
        put_time(&mut out, self.stamp);
        put_rows(&mut out, &self.rows);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut from = Bytes(bytes);
        if from.array()? != [VERSION, BLOCK, 0, 0] {
            return None;
        }
        Some(Self { stamp: from.time()?, rows: from.rows()? })
    }
}

/// Every object that a row speaks of; none if it is no row.
pub(super) fn objects_of(bytes: &[u8]) -> Option<Vec<ContentHash>> {
    let (link, rows) = match Head::decode(bytes) {
        Some(head) => (head.link, head.rows),
        None => (None, Block::decode(bytes)?.rows),
    };
    let mut ids: Vec<ContentHash> = link.iter().map(|link| link.id.0).collect();
    for CachedRow { entry, .. } in &rows {
        ids.extend(entry.attrs.map(|attrs| attrs.0));
        match &entry.node {
            Node::File { content: Content::Chunk(id), .. } => ids.push(id.0),
            Node::File { content: Content::List { root, .. }, .. } => ids.push(root.0),
            Node::Directory(link) => ids.push(link.id.0),
            Node::File { content: Content::Empty, .. } | Node::Symlink { .. } => {}
        }
    }
    Some(ids)
}

fn put_rows(out: &mut Vec<u8>, rows: &[CachedRow]) {
    out.extend_from_slice(&len_u32(rows.len()));
    for row in rows {
        out.push(u8::from(row.racy));
        out.extend_from_slice(&row.mode.to_le_bytes());
        out.extend_from_slice(&row.dev.to_le_bytes());
        out.extend_from_slice(&row.ino.to_le_bytes());
        put_time(out, row.mtime);
        put_time(out, row.ctime);
    }
    let entries = rows.iter().map(|row| (row.name.clone(), row.entry.clone())).collect();
    out.extend_from_slice(&TreeNode::Leaf(entries).encode());
}

fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    out.extend_from_slice(&time.secs().to_le_bytes());
    out.extend_from_slice(&time.nanos().to_le_bytes());
}

fn len_u32(len: usize) -> [u8; 4] {
    u32::try_from(len).expect("a directory has fewer than 2^32 entries").to_le_bytes()
}

/// Bytes not yet read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn time(&mut self) -> Option<Timestamp> {
        let secs = self.array().map(i64::from_le_bytes)?;
        Timestamp::new(secs, self.u32()?)
    }

    fn link(&mut self) -> Option<TreeLink> {
        let id = TreeId::from_bytes(self.array()?);
        let [height] = self.array()?;
        let totals = Totals { files: self.u64()?, directories: self.u64()?, bytes: self.u64()? };
        (height <= filesync_merkle::entry::HEIGHT_MAX).then_some(TreeLink { id, height, totals })
    }

    /// Everything that is left.
    fn rows(mut self) -> Option<Vec<CachedRow>> {
        let count = usize::try_from(self.u32()?).ok().filter(|&count| count <= ROW_COUNT_MAX)?;
        let mut stats = Bytes(self.take(count * STAT_LEN)?);
        let TreeNode::Leaf(entries) = TreeNode::decode(self.0).ok()? else {
            return None;
        };
        if entries.len() != count {
            return None;
        }
        let mut rows = Vec::with_capacity(count);
        for (name, entry) in entries {
            let racy = match stats.array()? {
                [flag @ 0..=1] => flag == 1,
                _ => return None,
            };
            rows.push(CachedRow {
                name,
                entry,
                racy,
                mode: stats.u16().filter(|&mode| mode <= 0o7777)?,
                dev: stats.u64()?,
                ino: stats.u64()?,
                mtime: stats.time()?,
                ctime: stats.time()?,
            });
        }
        Some(rows)
    }
}

/// How many bytes an entry takes, at most.
pub(super) fn row_len(row: &CachedRow) -> usize {
    let target = match &row.entry.node {
        filesync_merkle::Node::Symlink { target, .. } => target.len(),
        _ => 0,
    };
    let attrs = if row.entry.attrs.is_some() { 32 } else { 0 };
    STAT_LEN + 63 + row.name.as_bytes().len() + target + attrs
}
