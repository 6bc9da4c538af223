//! Frames: objects packed and compressed together (`docs/format.md`, section 2.1).
//!
//! Pure code: bytes in, bytes out. What a frame promises is that no byte of it is uncovered: the header's
//! check covers header and table, the payload's check the payload as it is stored.

mod encode;

use std::borrow::Cow;
use std::ops::Range;

use crate::hash::{ContentHash, Kind, Schema, check16, identify};
use crate::pack::Class;

pub use encode::{Contents, Encoder, FrameBuilder};

/// Raw bytes in a data frame, and the largest raw or stored length of any frame.
pub const RAW_MAX: usize = 1 << 20;
/// Raw bytes at which a metadata frame is closed.
pub const META_TARGET: usize = 128 << 10;
/// Objects in a frame.
pub const COUNT_MAX: usize = 4096;
/// Length of the fixed part.
pub const HEADER_LEN: usize = 56;
/// Length of one entry of the table.
pub const SLOT_LEN: usize = 37;

/// What a frame begins with.
pub(crate) const MAGIC: &[u8; 4] = b"FSfr";
const VERSION: u8 = 1;

/// One object of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// Its identity.
    pub id: ContentHash,
    /// Its kind.
    pub kind: Kind,
    /// Its length in bytes.
    pub len: u32,
}

/// The fixed part of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Whether the payload is compressed.
    pub compressed: bool,
    /// Length of all objects together.
    pub raw_len: u32,
    /// Length of the payload as stored.
    pub stored_len: u32,
    /// Number of objects.
    pub count: u32,
    payload_check: [u8; 16],
    header_check: [u8; 16],
}

impl Header {
    /// Parses the fixed part; every length is within its limit afterwards.
    pub fn parse(bytes: &[u8; HEADER_LEN]) -> Result<Self, String> {
        let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let check = |at: usize| {
            let mut check = [0; 16];
            check.copy_from_slice(&bytes[at..at + 16]);
            check
        };
        if &bytes[..4] != MAGIC {
            return Err("no frame begins here".to_owned());
        }
        if bytes[4] != VERSION || bytes[5] > 1 || bytes[6..8] != [0, 0] || word(20) != 0 {
            return Err("unknown version, codec or flags".to_owned());
        }
        let header = Self {
            compressed: bytes[5] == 1,
            raw_len: word(8),
            stored_len: word(12),
            count: word(16),
            payload_check: check(24),
            header_check: check(40),
        };
        let fits = |len: u32| len >= 1 && len as usize <= RAW_MAX;
        let lengths = match header.compressed {
            true => header.stored_len < header.raw_len,
            false => header.stored_len == header.raw_len,
        };
        if !fits(header.raw_len) || !fits(header.stored_len) || !lengths {
            return Err("its lengths are out of range".to_owned());
        }
        if header.count == 0 || header.count as usize > COUNT_MAX {
            return Err("its count is out of range".to_owned());
        }
        Ok(header)
    }

    /// Length of the table.
    pub fn table_len(&self) -> usize {
        self.count as usize * SLOT_LEN
    }

    /// Length of the whole frame.
    pub fn frame_len(&self) -> u64 {
        (HEADER_LEN + self.table_len()) as u64 + u64::from(self.stored_len)
    }

    /// Parses the table, which must be the one that the header's check covers.
    pub fn table(&self, fixed: &[u8; HEADER_LEN], table: &[u8], class: Class) -> Result<Vec<Slot>, String> {
        if check16(&[&fixed[..40], table]) != self.header_check {
            return Err("the check of header and table does not fit".to_owned());
        }
        let slots = parse_slots(table);
        let total: u64 = slots.iter().map(|slot| u64::from(slot.len)).sum();
        if total != u64::from(self.raw_len) {
            return Err("its objects do not add up to its length".to_owned());
        }
        if slots.iter().any(|slot| slot.len == 0 || Class::of(slot.kind) != class) {
            return Err("it holds an object that does not belong into this pack".to_owned());
        }
        Ok(slots)
    }

    /// Whether the stored payload is the one that was written.
    pub fn payload_fits(&self, payload: &[u8]) -> bool {
        check16(&[payload]) == self.payload_check
    }
}

/// Slots from the bytes of a table; bytes that do not fill a slot are ignored.
pub fn parse_slots(table: &[u8]) -> Vec<Slot> {
    let slot = |bytes: &[u8]| {
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[..32]);
        let len = u32::from_le_bytes([bytes[33], bytes[34], bytes[35], bytes[36]]);
        Slot { id: ContentHash::from_bytes(id), kind: Kind(bytes[32]), len }
    };
    table.chunks_exact(SLOT_LEN).map(slot).collect()
}

/// Appends the table's bytes for `slots`.
pub fn push_slots(out: &mut Vec<u8>, slots: &[Slot]) {
    for slot in slots {
        out.extend_from_slice(slot.id.as_bytes());
        out.push(slot.kind.0);
        out.extend_from_slice(&slot.len.to_le_bytes());
    }
}

/// A frame in memory, decompressed. Its objects are verified one by one, when they are handed out.
#[derive(Debug)]
pub struct Frame {
    slots: Vec<Slot>,
    starts: Vec<u32>,
    raw: Vec<u8>,
}

impl Frame {
    /// Decompresses a payload whose header and table have been parsed.
    pub fn decode(header: &Header, slots: Vec<Slot>, payload: &[u8]) -> Result<Self, String> {
        let raw = unpack(header, payload)?.into_owned();
        let mut start = 0;
        let starts = slots.iter().map(|slot| {
            start += slot.len;
            start - slot.len
        });
        Ok(Self { starts: starts.collect(), slots, raw })
    }

    /// The objects in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Bytes that this frame keeps in memory.
    pub fn memory_len(&self) -> usize {
        self.raw.len() + self.slots.len() * (size_of::<Slot>() + size_of::<u32>())
    }

    /// Where an object lies in [`Self::raw`]; `None` if the frame does not hold `id` at `slot`.
    pub fn find(&self, slot: usize, id: &ContentHash) -> Option<Range<usize>> {
        let found = self.slots.get(slot).filter(|found| found.id == *id)?;
        let start = self.starts[slot] as usize;
        Some(start..start + found.len as usize)
    }

    /// The bytes of all objects, one after the other.
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// Whether the object at `slot` has the bytes that its identity says.
    pub fn verify(&self, slot: usize, schema: &dyn Schema) -> bool {
        let Some(found) = self.slots.get(slot) else { return false };
        let start = self.starts[slot] as usize;
        let bytes = &self.raw[start..start + found.len as usize];
        identify(schema, found.kind, bytes) == Some(found.id)
    }
}

/// The raw bytes of a payload: itself, if it is not compressed.
pub fn unpack<'p>(header: &Header, payload: &'p [u8]) -> Result<Cow<'p, [u8]>, String> {
    let raw = match header.compressed {
        false => Cow::Borrowed(payload),
        true => Cow::Owned(decompress(payload, header.raw_len as usize)?),
    };
    if raw.len() == header.raw_len as usize { Ok(raw) } else { Err("it decompresses to another length".to_owned()) }
}

/// Decompresses one zstd frame to at most `len_max` bytes: the capacity bounds what a bomb can make of a payload.
pub fn decompress(payload: &[u8], len_max: usize) -> Result<Vec<u8>, String> {
    if zstd::zstd_safe::find_frame_compressed_size(payload) != Ok(payload.len()) {
        return Err("its payload is not one zstd frame".to_owned());
    }
    thread_local! {
        static DECOMPRESSOR: std::cell::RefCell<Option<zstd::bulk::Decompressor<'static>>> =
            const { std::cell::RefCell::new(None) };
    }
    DECOMPRESSOR.with_borrow_mut(|kept| {
        let decompressor = match kept {
            Some(decompressor) => decompressor,
            None => kept.insert(zstd::bulk::Decompressor::new().map_err(|error| error.to_string())?),
        };
        let raw = decompressor.decompress(payload, len_max);
        raw.map_err(|error| format!("it does not decompress: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::params::Codec;
    use crate::testing::Rng;

    #[derive(Debug)]
    struct NoMetadata;
    impl Schema for NoMetadata {
        fn context(&self, _: Kind) -> Option<&'static str> {
            None
        }
        fn name(&self, _: Kind) -> &'static str {
            "chunk"
        }
        fn children(&self, _: Kind, _: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
            Ok(Vec::new())
        }
    }

    fn build(codec: Codec, chunks: &[Vec<u8>]) -> Vec<u8> {
        let mut builder = FrameBuilder::new(codec).expect("zstd starts");
        for chunk in chunks {
            builder.push(ContentHash::of_chunk(chunk), Kind::CHUNK, chunk);
        }
        builder.encode().expect("encodes").to_vec()
    }

    fn parse(bytes: &[u8]) -> Result<Frame, String> {
        let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or("short")?;
        let header = Header::parse(fixed)?;
        let table_end = HEADER_LEN + header.table_len();
        let table = bytes.get(HEADER_LEN..table_end).ok_or("short")?;
        let slots = header.table(fixed, table, Class::Data)?;
        let payload = bytes.get(table_end..).ok_or("short")?;
        if payload.len() != header.stored_len as usize || !header.payload_fits(payload) {
            return Err("payload".to_owned());
        }
        Frame::decode(&header, slots, payload)
    }

    #[test]
    fn round_trip_compressed_raw_and_incompressible() {
        let mut rng = Rng::new(1);
        let noise: Vec<u8> = (0..200_000).map(|_| rng.next_u64().to_le_bytes()[0]).collect();
        let text = b"the same words again and again ".repeat(900);
        for codec in [Codec::Zstd, Codec::None] {
            for chunks in [vec![text.clone()], vec![noise.clone()], vec![noise.clone(), text.clone()], vec![vec![7]]] {
                let frame = parse(&build(codec, &chunks)).expect("parses");
                for (slot, chunk) in chunks.iter().enumerate() {
                    let range = frame.find(slot, &ContentHash::of_chunk(chunk)).expect("is there");
                    assert_eq!(&frame.raw()[range], chunk);
                    assert!(frame.verify(slot, &NoMetadata));
                }
            }
        }
        assert!(build(Codec::Zstd, std::slice::from_ref(&text)).len() < text.len() / 10);
        assert_eq!(build(Codec::Zstd, std::slice::from_ref(&noise))[5], 0, "noise is stored raw");
    }

    #[test]
    fn a_payload_is_one_frame_and_no_bomb() {
        let one = zstd::bulk::compress(&[7; 100_000], 3).expect("compressed");
        assert_eq!(decompress(&one, 100_000).map(|raw| raw.len()), Ok(100_000));
        assert!(decompress(&one, 99_999).is_err(), "more than was said");
        assert!(decompress(&[&one[..], &one].concat(), 200_000).is_err(), "two frames");
        assert!(decompress(&[&one[..], b"x"].concat(), 100_000).is_err(), "something behind it");
        let skippable = [0x50, 0x2a, 0x4d, 0x18, 1, 0, 0, 0, 9];
        assert!(decompress(&[&skippable, &one[..]].concat(), 100_000).is_err(), "something before it");
    }

    #[test]
    fn no_byte_is_uncovered() {
        let good = build(Codec::Zstd, &[b"words and words and words".to_vec(), b"others".to_vec()]);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            assert!(parse(&bad).is_err(), "byte {at}");
            assert!(parse(&good[..at]).is_err(), "cut at {at}");
        }
    }
}
