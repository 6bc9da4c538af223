//! Frames that travel between stores as they lie on disk.
//!
//! A frame is compressed once, where its objects are first stored. Whoever passes it on sends its bytes; whoever takes it
//! appends them, after having seen that every object in it is what its id says. The types tell how much is known:
//! [`StoredFrame`] has the two checks, which guard against accidents; [`VerifiedFrame`] the hashes, which guard
//! against everybody. Only the second can be stored.

use std::borrow::Cow;
use std::cell::RefCell;

use crate::frame::{COUNT_MAX, Contents, Encoder, HEADER_LEN, Header, RAW_MAX, SLOT_LEN, Slot, unpack};
use crate::hash::{ContentHash, Kind, Schema, identify};
use crate::pack::Class;
use crate::params::Codec;
use crate::testing::mistake;

/// The longest that a frame can be.
pub const FRAME_LEN_MAX: usize = HEADER_LEN + COUNT_MAX * SLOT_LEN + RAW_MAX;

/// The bytes of a frame whose checks fit: what was once written, and nothing more is known.
#[derive(Debug, Clone)]
pub struct StoredFrame {
    bytes: Vec<u8>,
    header: Header,
    slots: Vec<Slot>,
}

impl StoredFrame {
    /// Takes the bytes of one frame, nothing before and nothing behind it. Says what does not fit.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, String> {
        let fixed: &[u8; HEADER_LEN] = bytes.first_chunk().ok_or("too short for a frame")?;
        let header = Header::parse(fixed)?;
        if header.frame_len() != bytes.len() as u64 {
            return Err("its length is not what its header says".to_owned());
        }
        let (table, payload) = bytes[HEADER_LEN..].split_at(header.table_len());
        // The class is that of its objects; `table` refuses a mixture.
        let class = table.get(32).map_or(Class::Meta, |kind| Class::of(Kind(*kind)));
        let slots = header.table(fixed, table, class)?;
        if !header.payload_fits(payload) {
            return Err("the check of its payload does not fit".to_owned());
        }
        Ok(Self { bytes, header, slots })
    }

    /// The objects that it says to hold, in order.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The frame, as it lies on disk.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The frame, as it lies on disk.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn payload(&self) -> &[u8] {
        &self.bytes[HEADER_LEN + self.header.table_len()..]
    }

    /// Decompresses it and hashes every object. Says what does not fit.
    pub fn verify(self, schema: &dyn Schema) -> Result<VerifiedFrame, String> {
        let raw = match unpack(&self.header, self.payload())? {
            Cow::Borrowed(_) => None,
            Cow::Owned(raw) => Some(raw),
        };
        let frame = VerifiedFrame { stored: self, raw };
        let is_lie = |(slot, bytes): &(&Slot, &[u8])| identify(schema, slot.kind, bytes) != Some(slot.id);
        let lie = frame.objects().find(|object| is_lie(object) && !mistake("a hash that is trusted"));
        if let Some((slot, _)) = lie {
            return Err(format!("object {} does not have its hash", slot.id));
        }
        Ok(frame)
    }
}

/// A frame every object of which hashes to its id.
#[derive(Debug)]
pub struct VerifiedFrame {
    stored: StoredFrame,
    /// The objects one after the other, unless the payload is just that.
    raw: Option<Vec<u8>>,
}

impl VerifiedFrame {
    /// The objects, in order.
    pub fn slots(&self) -> &[Slot] {
        self.stored.slots()
    }

    /// The frame, as it will lie on disk.
    pub fn bytes(&self) -> &[u8] {
        self.stored.bytes()
    }

    /// The objects with their bytes, in order.
    pub fn objects(&self) -> impl Iterator<Item = (&Slot, &[u8])> {
        let mut rest = self.raw.as_deref().unwrap_or_else(|| self.stored.payload());
        self.slots().iter().map(move |slot| {
            let (bytes, after) = rest.split_at(slot.len as usize);
            rest = after;
            (slot, bytes)
        })
    }
}

/// Puts objects that are not all of a stored frame into a new one. There may be many at a time: what compresses belongs to the
/// thread, and not to each of them.
#[derive(Debug)]
pub struct FramePacker {
    codec: Codec,
    contents: Contents,
    class: Option<Class>,
}

impl FramePacker {
    /// An empty frame, compressed where that pays.
    pub fn new(codec: Codec) -> Self {
        Self { codec, contents: Contents::default(), class: None }
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.contents.is_empty()
    }

    /// Whether an object of this kind and length still goes in.
    pub fn has_room(&self, kind: Kind, len: usize) -> bool {
        self.class.is_none_or(|class| class == Class::of(kind)) && self.contents.has_room(len, RAW_MAX)
    }

    /// Adds an object of 1 to [`RAW_MAX`] bytes, for which there is room.
    pub fn push(&mut self, id: ContentHash, kind: Kind, bytes: &[u8]) {
        assert!(self.has_room(kind, bytes.len()), "the caller has asked");
        self.class = Some(Class::of(kind));
        self.contents.push(id, kind, bytes);
    }

    /// The frame's bytes; what comes next begins a new one.
    pub fn finish(&mut self) -> Result<Vec<u8>, String> {
        thread_local! {
            static ENCODERS: RefCell<[Option<Encoder>; 2]> = const { RefCell::new([None, None]) };
        }
        let bytes = ENCODERS.with_borrow_mut(|encoders| {
            let encoder = match &mut encoders[usize::from(self.codec == Codec::Zstd)] {
                Some(encoder) => encoder,
                empty => empty.insert(Encoder::new(self.codec)?),
            };
            encoder.encode(&self.contents).map(<[u8]>::to_vec)
        })?;
        // Its memory is not kept until there is something to put in again.
        self.contents = Contents::default();
        self.class = None;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct OneMore;
    impl Schema for OneMore {
        fn context(&self, kind: Kind) -> Option<&'static str> {
            (kind == Kind(2)).then_some("filesync test node v1")
        }
        fn name(&self, _: Kind) -> &'static str {
            "chunk"
        }
        fn children(&self, _: Kind, _: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
            Ok(Vec::new())
        }
    }

    fn frame() -> Vec<u8> {
        let mut packer = FramePacker::new(Codec::Zstd);
        for chunk in [&b"words and words and words"[..], b"others", &[7; 5000]] {
            packer.push(ContentHash::of_chunk(chunk), Kind::CHUNK, chunk);
        }
        packer.finish().expect("encodes")
    }

    #[test]
    fn travels_and_comes_out_as_it_went_in() {
        let bytes = frame();
        let stored = StoredFrame::parse(bytes.clone()).expect("checks fit");
        assert_eq!((stored.bytes(), stored.slots().len()), (&bytes[..], 3));
        let verified = stored.verify(&OneMore).expect("hashes fit");
        assert_eq!(verified.bytes(), bytes);
        let objects: Vec<_> = verified.objects().map(|(slot, bytes)| (slot.id, bytes.to_vec())).collect();
        assert_eq!(objects[1], (ContentHash::of_chunk(b"others"), b"others".to_vec()));
        assert_eq!(objects[2].1, [7; 5000]);
    }

    #[test]
    fn a_flip_a_cut_or_a_byte_more_is_refused() {
        let good = frame();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 4;
            assert!(StoredFrame::parse(bad).is_err(), "byte {at}");
            assert!(StoredFrame::parse(good[..at].to_vec()).is_err(), "cut at {at}");
        }
        assert!(StoredFrame::parse([&good[..], b"x"].concat()).is_err(), "a byte more");
    }

    /// Checks are no secret: who lies computes them too.
    #[test]
    fn a_lie_with_good_checks_has_no_good_hash() {
        let mut packer = FramePacker::new(Codec::Zstd);
        packer.push(ContentHash::of_chunk(b"what was asked for"), Kind::CHUNK, b"something else");
        let stored = StoredFrame::parse(packer.finish().expect("encodes")).expect("checks fit");
        assert!(stored.verify(&OneMore).is_err());
        // A chunk under the id of a node with the same bytes.
        packer.push(ContentHash::of_chunk(b"node"), Kind(2), b"node");
        let stored = StoredFrame::parse(packer.finish().expect("encodes")).expect("checks fit");
        assert!(stored.verify(&OneMore).is_err());
        // A kind that does not exist.
        packer.push(ContentHash::of_chunk(b"node"), Kind(9), b"node");
        let stored = StoredFrame::parse(packer.finish().expect("encodes")).expect("checks fit");
        assert!(stored.verify(&OneMore).is_err());
    }

    #[test]
    fn a_packer_keeps_classes_apart_and_lengths() {
        let mut packer = FramePacker::new(Codec::None);
        assert!(packer.is_empty() && packer.has_room(Kind(2), RAW_MAX));
        packer.push(ContentHash::of_chunk(b"c"), Kind::CHUNK, b"c");
        assert!(!packer.has_room(Kind(2), 1) && packer.has_room(Kind::CHUNK, 1));
        assert!(packer.has_room(Kind::CHUNK, RAW_MAX - 1) && !packer.has_room(Kind::CHUNK, RAW_MAX));
        packer.finish().expect("encodes");
        assert!(packer.is_empty() && packer.has_room(Kind(2), 1));
    }
}
