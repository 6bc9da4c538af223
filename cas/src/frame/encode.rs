//! Making frames: what goes in, and how it is compressed.

use std::ops::{Deref, DerefMut};

use super::{COUNT_MAX, HEADER_LEN, MAGIC, RAW_MAX, SLOT_LEN, Slot, VERSION, push_slots};
use crate::hash::{ContentHash, Kind, check16};
use crate::params::Codec;

/// How much of a frame is compressed to learn whether the rest is worth it.
const SAMPLE_LEN: usize = 16 << 10;
const ZSTD_LEVEL: i32 = 3;

/// Objects on their way into a frame.
#[derive(Debug, Default)]
pub struct Contents {
    slots: Vec<Slot>,
    raw: Vec<u8>,
}

impl Contents {
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
}

/// Collects objects and turns them into the bytes of a frame.
#[derive(Debug)]
pub struct FrameBuilder {
    contents: Contents,
    encoder: Encoder,
}

impl FrameBuilder {
    /// An empty frame.
    pub fn new(codec: Codec) -> Result<Self, String> {
        Ok(Self { contents: Contents::default(), encoder: Encoder::new(codec)? })
    }

    /// The bytes of the frame. Call [`Contents::clear`] once they are written.
    pub fn encode(&mut self) -> Result<&[u8], String> {
        self.encoder.encode(&self.contents)
    }
}

impl Deref for FrameBuilder {
    type Target = Contents;
    fn deref(&self) -> &Contents {
        &self.contents
    }
}

impl DerefMut for FrameBuilder {
    fn deref_mut(&mut self) -> &mut Contents {
        &mut self.contents
    }
}

/// What makes frames of their contents. It has several megabytes of memory for that.
///
/// What was compressed is decompressed and compared before it is handed out: a bug of the compressor, or a
/// bad memory cell, must not be stored.
pub struct Encoder {
    codec: Codec,
    encoded: Vec<u8>,
    check: Vec<u8>,
    compressor: zstd::bulk::Compressor<'static>,
    decompressor: zstd::bulk::Decompressor<'static>,
    /// Whether the frame before shrank: the next one is likely to be of the same sort.
    shrank: bool,
}

impl Encoder {
    /// For frames of a codec.
    pub fn new(codec: Codec) -> Result<Self, String> {
        let error = |error: std::io::Error| error.to_string();
        Ok(Self {
            codec,
            encoded: Vec::new(),
            check: Vec::new(),
            compressor: zstd::bulk::Compressor::new(ZSTD_LEVEL).map_err(error)?,
            decompressor: zstd::bulk::Decompressor::new().map_err(error)?,
            shrank: false,
        })
    }

    /// The bytes of a frame.
    pub fn encode(&mut self, contents: &Contents) -> Result<&[u8], String> {
        let Contents { slots, raw } = contents;
        let prefix = HEADER_LEN + slots.len() * SLOT_LEN;
        self.encoded.clear();
        self.encoded.resize(HEADER_LEN, 0);
        push_slots(&mut self.encoded, slots);
        let worth = self.codec == Codec::Zstd && (self.shrank || self.worth_compressing(raw)?);
        let compressed = worth && self.compress(raw, prefix)?;
        self.shrank = compressed && self.encoded.len() - prefix < raw.len() - raw.len() / 32;
        if !compressed {
            self.encoded.truncate(prefix);
            self.encoded.extend_from_slice(raw);
        }
        self.fill_header(compressed, contents, prefix);
        Ok(&self.encoded)
    }

    fn fill_header(&mut self, compressed: bool, contents: &Contents, prefix: usize) {
        let len32 = |len: usize| u32::try_from(len).expect("bounded by RAW_MAX").to_le_bytes();
        let payload_check = check16(&[&self.encoded[prefix..]]);
        let stored_len = len32(self.encoded.len() - prefix);
        let header = &mut self.encoded[..HEADER_LEN];
        header[..4].copy_from_slice(MAGIC);
        header[4] = VERSION;
        header[5] = u8::from(compressed);
        header[8..12].copy_from_slice(&len32(contents.raw.len()));
        header[12..16].copy_from_slice(&stored_len);
        header[16..20].copy_from_slice(&len32(contents.slots.len()));
        header[24..40].copy_from_slice(&payload_check);
        let check = check16(&[&self.encoded[..40], &self.encoded[HEADER_LEN..prefix]]);
        self.encoded[40..56].copy_from_slice(&check);
    }

    /// Two samples, from the beginning and from the middle: one file that does not shrink at the beginning
    /// must not decide for a hundred behind it.
    fn worth_compressing(&mut self, raw: &[u8]) -> Result<bool, String> {
        if raw.len() <= 2 * SAMPLE_LEN {
            return Ok(true);
        }
        for start in [0, raw.len() / 2] {
            let sample = &raw[start..raw.len().min(start + SAMPLE_LEN)];
            self.check.resize(self.check.len().max(zstd::zstd_safe::compress_bound(SAMPLE_LEN)), 0);
            let len = self.compressor.compress_to_buffer(sample, &mut self.check[..]);
            if len.map_err(|error| error.to_string())? < sample.len() - sample.len() / 32 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Compresses into `encoded` behind `prefix`; false if the result is not smaller.
    fn compress(&mut self, raw: &[u8], prefix: usize) -> Result<bool, String> {
        let bound = zstd::zstd_safe::compress_bound(raw.len());
        self.encoded.resize(prefix + bound, 0);
        let stored = self.compressor.compress_to_buffer(raw, &mut self.encoded[prefix..]);
        let stored = stored.map_err(|error| error.to_string())?;
        self.encoded.truncate(prefix + stored);
        if stored >= raw.len() {
            return Ok(false);
        }
        self.check.resize(raw.len().max(self.check.len()), 0);
        let back = self.decompressor.decompress_to_buffer(&self.encoded[prefix..], &mut self.check[..]);
        let back = back.map_err(|error| error.to_string())?;
        if self.check[..back] != *raw {
            return Err("what was compressed does not decompress to the same bytes".to_owned());
        }
        Ok(true)
    }
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("codec", &self.codec).finish_non_exhaustive()
    }
}
