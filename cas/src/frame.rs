//! Frames: objects packed and compressed together (`docs/format.md`, section 2.1).
//!
//! Pure code: bytes in, bytes out. What a frame promises is that no byte of it is uncovered: the header's
//! check covers header and table, the payload's check the payload as it is stored.

use std::ops::Range;

use crate::hash::{ContentHash, Kind, Schema, check16, identify};
use crate::pack::Class;
use crate::params::Codec;

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
/// How much of a frame is compressed to learn whether the rest is worth it.
const SAMPLE_LEN: usize = 16 << 10;
const ZSTD_LEVEL: i32 = 3;

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
        let raw = match header.compressed {
            false => payload.to_vec(),
            true => decompress(payload, header.raw_len as usize)?,
        };
        if raw.len() != header.raw_len as usize {
            return Err("it decompresses to another length".to_owned());
        }
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

/// Collects objects and turns them into the bytes of a frame.
///
/// What was compressed is decompressed and compared before it is handed out: a bug of the compressor, or a
/// bad memory cell, must not be stored.
pub struct FrameBuilder {
    codec: Codec,
    slots: Vec<Slot>,
    raw: Vec<u8>,
    encoded: Vec<u8>,
    check: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// Whether the frame before shrank: the next one is likely to be of the same sort.
    shrank: bool,
}

impl FrameBuilder {
    /// An empty frame.
    pub fn new(codec: Codec) -> Result<Self, String> {
        let error = |error: std::io::Error| error.to_string();
        Ok(Self {
            codec,
            slots: Vec::new(),
            raw: Vec::new(),
            encoded: Vec::new(),
            check: Vec::new(),
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(error)?,
            decompressor: zstd::bulk::Decompressor::new().map_err(error)?,
            shrank: false,
        })
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Raw bytes so far.
    pub fn raw_len(&self) -> usize {
        self.raw.len()
    }

    /// Whether an object of `len` bytes still goes in, with `target` raw bytes at most.
    pub fn has_room(&self, len: usize, target: usize) -> bool {
        self.slots.is_empty() || (self.raw.len() + len <= target && self.slots.len() < COUNT_MAX)
    }

    /// Adds an object. The caller has asked [`Self::has_room`], and `bytes` is not longer than [`RAW_MAX`].
    pub fn push(&mut self, id: ContentHash, kind: Kind, bytes: &[u8]) {
        assert!(!bytes.is_empty() && bytes.len() <= RAW_MAX, "an object that the store has let in");
        let len = u32::try_from(bytes.len()).expect("RAW_MAX fits");
        self.slots.push(Slot { id, kind, len });
        self.raw.extend_from_slice(bytes);
    }

    /// The objects so far.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// Forgets all objects.
    pub fn clear(&mut self) {
        self.slots.clear();
        self.raw.clear();
    }

    /// The bytes of the frame. Call [`Self::clear`] once they are written.
    pub fn encode(&mut self) -> Result<&[u8], String> {
        let prefix = HEADER_LEN + self.slots.len() * SLOT_LEN;
        self.encoded.clear();
        self.encoded.resize(HEADER_LEN, 0);
        push_slots(&mut self.encoded, &self.slots);
        let worth = self.codec == Codec::Zstd && (self.shrank || self.worth_compressing()?);
        let compressed = worth && self.compress(prefix)?;
        self.shrank = compressed && self.encoded.len() - prefix < self.raw.len() - self.raw.len() / 32;
        if !compressed {
            self.encoded.truncate(prefix);
            self.encoded.extend_from_slice(&self.raw);
        }
        self.fill_header(compressed, prefix);
        Ok(&self.encoded)
    }

    fn fill_header(&mut self, compressed: bool, prefix: usize) {
        let len32 = |len: usize| u32::try_from(len).expect("bounded by RAW_MAX").to_le_bytes();
        let payload_check = check16(&[&self.encoded[prefix..]]);
        let stored_len = len32(self.encoded.len() - prefix);
        let header = &mut self.encoded[..HEADER_LEN];
        header[..4].copy_from_slice(MAGIC);
        header[4] = VERSION;
        header[5] = u8::from(compressed);
        header[8..12].copy_from_slice(&len32(self.raw.len()));
        header[12..16].copy_from_slice(&stored_len);
        header[16..20].copy_from_slice(&len32(self.slots.len()));
        header[24..40].copy_from_slice(&payload_check);
        let check = check16(&[&self.encoded[..40], &self.encoded[HEADER_LEN..prefix]]);
        self.encoded[40..56].copy_from_slice(&check);
    }

    /// Two samples, from the beginning and from the middle: one file that does not shrink at the beginning
    /// must not decide for a hundred behind it.
    fn worth_compressing(&mut self) -> Result<bool, String> {
        if self.raw.len() <= 2 * SAMPLE_LEN {
            return Ok(true);
        }
        for start in [0, self.raw.len() / 2] {
            let sample = &self.raw[start..self.raw.len().min(start + SAMPLE_LEN)];
            self.check.resize(self.check.len().max(zstd::zstd_safe::compress_bound(SAMPLE_LEN)), 0);
            let len = self.compressor.compress_to_buffer(sample, &mut self.check[..]);
            if len.map_err(|error| error.to_string())? < sample.len() - sample.len() / 32 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Compresses into `encoded` behind `prefix`; false if the result is not smaller.
    fn compress(&mut self, prefix: usize) -> Result<bool, String> {
        let bound = zstd::zstd_safe::compress_bound(self.raw.len());
        self.encoded.resize(prefix + bound, 0);
        let stored = self.compressor.compress_to_buffer(&self.raw, &mut self.encoded[prefix..]);
        let stored = stored.map_err(|error| error.to_string())?;
        self.encoded.truncate(prefix + stored);
        if stored >= self.raw.len() {
            return Ok(false);
        }
        self.check.resize(self.raw.len().max(self.check.len()), 0);
        let back = self.decompressor.decompress_to_buffer(&self.encoded[prefix..], &mut self.check[..]);
        let back = back.map_err(|error| error.to_string())?;
        if self.check[..back] != self.raw {
            return Err("what was compressed does not decompress to the same bytes".to_owned());
        }
        Ok(true)
    }
}

impl std::fmt::Debug for FrameBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FrameBuilder").field("objects", &self.slots.len()).field("raw", &self.raw.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
