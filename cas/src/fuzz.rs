//! Everything that is read from a disk or from peers, with bytes that are nearly right (G8): see [`crate::testing::Fuzz`].

use std::ffi::OsStr;
use std::io;

use bolero::check;

use crate::damaged::Damaged;
use crate::frame::{COUNT_MAX, FrameBuilder, HEADER_LEN, Header, RAW_MAX, SLOT_LEN, push_slots};
use crate::hash::{ContentHash, Kind, Schema, check16};
use crate::head::{Head, Mark};
use crate::pack::{
    Class, FrameAt, PACK_HEADER_LEN, PackHeader, PackName, encode_footer, read_footer, read_frame, read_pack_header,
    walk_frames,
};
use crate::params::{ChunkSizes, Codec, Params};
use crate::pin;
use crate::relay::StoredFrame;
use crate::small_file::Lines;
use crate::testing::{Draw, Fuzz, Rng, SMALL_FILE_WORDS, seal_small_file};
use crate::vfs::{FileStat, VfsFile};

fn peak(run: &mut dyn FnMut()) -> u64 {
    allocation_counter::measure(run).bytes_max
}

/// Chunks, and one kind of metadata.
#[derive(Debug)]
struct Two;

const NODE: Kind = Kind(2);
const CONTEXT: &str = "filesync test node v1";

impl Schema for Two {
    fn context(&self, kind: Kind) -> Option<&'static str> {
        (kind == NODE).then_some(CONTEXT)
    }
    fn name(&self, _: Kind) -> &'static str {
        "object"
    }
    fn children(&self, _: Kind, _: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
        Ok(Vec::new())
    }
}

fn frame(codec: Codec, kind: Kind, objects: &[&[u8]]) -> Vec<u8> {
    let mut builder = FrameBuilder::new(codec).expect("zstd starts");
    for bytes in objects {
        let id = if kind == NODE { ContentHash::of_metadata(CONTEXT, bytes) } else { ContentHash::of_chunk(bytes) };
        builder.push(id, kind, bytes);
    }
    builder.encode().expect("encodes").to_vec()
}

fn frames() -> Vec<Vec<u8>> {
    let words = b"the same words again and again ".repeat(9);
    let noise = Rng::new(1).bytes(300);
    vec![
        frame(Codec::Zstd, Kind::CHUNK, &[&words]),
        frame(Codec::Zstd, Kind::CHUNK, &[&words, &noise, b"x"]),
        frame(Codec::Zstd, NODE, &[&words, &words[1..]]),
        frame(Codec::None, Kind::CHUNK, &[b"short", b"and so on"]),
        frame(Codec::None, NODE, &[&noise]),
    ]
}

fn word(bytes: &[u8], at: usize) -> usize {
    bytes.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word) as usize)
}

fn put_word(bytes: &mut [u8], at: usize, value: usize) {
    bytes[at..at + 4].copy_from_slice(&u32::try_from(value).unwrap_or(u32::MAX).to_le_bytes());
}

/// Both checks of a frame; sometimes the lengths in its header too, since nothing else is read if they do not fit.
#[expect(clippy::ptr_arg, reason = "as all seals are")]
fn seal_frame(draw: &mut dyn Draw, bytes: &mut Vec<u8>) {
    if bytes.len() < HEADER_LEN {
        return;
    }
    let table_end = (HEADER_LEN + word(bytes, 16).min(COUNT_MAX) * SLOT_LEN).min(bytes.len());
    if draw.coin() {
        let payload_len = bytes.len() - table_end;
        put_word(bytes, 12, payload_len);
    }
    if draw.coin() {
        let slots = bytes[HEADER_LEN..table_end].chunks_exact(SLOT_LEN);
        let sum = slots.map(|slot| word(slot, 33)).fold(0, usize::saturating_add);
        put_word(bytes, 8, sum);
    }
    let payload = check16(&[&bytes[table_end..]]);
    bytes[24..40].copy_from_slice(&payload);
    let header = check16(&[&bytes[..40], &bytes[HEADER_LEN..table_end]]);
    bytes[40..56].copy_from_slice(&header);
}

/// A frame from what was read of it.
fn encode_frame(header: &Header, stored: &StoredFrame) -> Vec<u8> {
    let len = |len: u32| len.to_le_bytes();
    let payload = &stored.bytes()[HEADER_LEN + header.table_len()..];
    let mut bytes = [&b"FSfr\x01"[..], &[u8::from(header.compressed)], &[0, 0]].concat();
    [len(header.raw_len), len(header.stored_len), len(header.count), [0; 4]].iter().for_each(|part| bytes.extend(part));
    bytes.extend(check16(&[payload]));
    let mut table = Vec::new();
    push_slots(&mut table, stored.slots());
    bytes.extend(check16(&[&bytes, &table]));
    bytes.extend(table);
    bytes.extend(payload);
    bytes
}

/// P9, P10: what a peer sends as a frame, and what a pack holds.
#[test]
fn stored_frames() {
    let samples = frames();
    // Whatever a payload decompresses to, it is no longer than the longest frame.
    let fuzz = Fuzz::new(&samples, peak).sealed(seal_frame).room(2 * RAW_MAX as u64, 64);
    let mut verified = 0u64;
    let tally = fuzz.run(check!(), |bytes| {
        let stored = StoredFrame::parse(bytes.to_vec()).ok()?;
        let header = Header::parse(bytes.first_chunk()?).expect("it was just parsed");
        let encoded = encode_frame(&header, &stored);
        if let Ok(frame) = stored.verify(&Two) {
            verified += 1;
            let mut len = 0;
            for (slot, bytes) in frame.objects() {
                let id = if slot.kind == NODE {
                    ContentHash::of_metadata(CONTEXT, bytes)
                } else {
                    ContentHash::of_chunk(bytes)
                };
                assert_eq!((slot.id, slot.len as usize), (id, bytes.len()));
                len += bytes.len();
            }
            assert_eq!(len, header.raw_len as usize);
        }
        Some(encoded)
    });
    tally.reaches(10_000);
    assert!(verified > 1_000, "only {verified} had their hashes");
}

fn pack_header(class: Class, serial: u64) -> PackHeader {
    let name = PackName::from_bytes([0xab; 16]);
    PackHeader { class, serial, repository: ContentHash::of_chunk(b"repository"), name }
}

#[expect(clippy::ptr_arg, reason = "as all seals are")]
fn seal_pack_header(_: &mut dyn Draw, bytes: &mut Vec<u8>) {
    if bytes.len() >= 88 {
        let check = check16(&[&bytes[..72]]);
        bytes[72..88].copy_from_slice(&check);
    }
}

#[test]
fn pack_headers() {
    let samples = [pack_header(Class::Data, 1), pack_header(Class::Meta, u64::MAX)].map(|header| header.encode());
    let tally = Fuzz::new(&samples, peak).sealed(seal_pack_header).run(check!(), |bytes| {
        let header = PackHeader::decode(bytes.try_into().ok()?).ok()?;
        Some(header.encode())
    });
    tally.reaches(10_000);
}

/// A file that is there to be read.
#[derive(Debug)]
struct Memory<'a>(&'a [u8]);

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl VfsFile for Memory<'_> {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = usize::try_from(offset).ok().and_then(|offset| self.0.get(offset..)).unwrap_or_default();
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        Ok(len)
    }
    fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
        read_only()
    }
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        read_only()
    }
    fn sync_data(&self) -> io::Result<()> {
        read_only()
    }
    fn sync_all(&self) -> io::Result<()> {
        read_only()
    }
    fn set_mode(&self, _: u32) -> io::Result<()> {
        read_only()
    }
    fn set_mtime(&self, _: i64, _: u32) -> io::Result<()> {
        read_only()
    }
    fn set_xattr(&self, _: &OsStr, _: &[u8]) -> io::Result<()> {
        read_only()
    }
    fn stat(&self) -> io::Result<FileStat> {
        read_only()
    }
}

/// A sealed pack, and where its footer begins.
fn sealed_pack(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = pack_header(Class::Data, 7).encode();
    let mut at = Vec::new();
    for frame in frames {
        let stored = StoredFrame::parse(frame.clone()).expect("a frame");
        let offset = bytes.len() as u64;
        let (raw_len, stored_len) = (word(frame, 8), word(frame, 12));
        let len = |len: usize| u32::try_from(len).expect("small");
        let slots = stored.slots().to_vec();
        at.push(FrameAt { offset, raw_len: len(raw_len), stored_len: len(stored_len), slots });
        bytes.extend(frame);
    }
    bytes.extend(encode_footer(&at));
    bytes
}

/// The check of the trailer; sometimes the footer's length too, if the frames lead to one.
#[expect(clippy::ptr_arg, reason = "as all seals are")]
fn seal_pack(draw: &mut dyn Draw, bytes: &mut Vec<u8>) {
    let Some(trailer) = bytes.len().checked_sub(40) else { return };
    let mut footer = 88;
    while draw.coin() && footer + HEADER_LEN < trailer && bytes[footer..].starts_with(b"FSfr") {
        let (stored, table) = (word(bytes, footer + 12), word(bytes, footer + 16));
        footer = (HEADER_LEN + table.min(COUNT_MAX) * SLOT_LEN + stored.min(RAW_MAX)).saturating_add(footer);
        if footer <= trailer {
            bytes[trailer..trailer + 8].copy_from_slice(&((trailer - footer) as u64).to_le_bytes());
        }
    }
    let len = bytes[trailer..].first_chunk().map_or(0, |len| u64::from_le_bytes(*len));
    let footer = usize::try_from(len).ok().and_then(|len| trailer.checked_sub(len)).unwrap_or(trailer);
    let check = check16(&[&bytes[footer..trailer + 16]]);
    bytes[trailer + 16..trailer + 32].copy_from_slice(&check);
}

/// A pack as a whole: its footer, and its frames whatever the footer says.
#[test]
fn packs() {
    let data = [&b"some words and some words"[..], b"others"];
    let one = frame(Codec::Zstd, Kind::CHUNK, &data);
    let two = frame(Codec::None, Kind::CHUNK, &data[1..]);
    let samples = [sealed_pack(&[]), sealed_pack(std::slice::from_ref(&two)), sealed_pack(&[one, two])];
    let room = 2 * (RAW_MAX + COUNT_MAX * SLOT_LEN) as u64;
    let tally = Fuzz::new(&samples, peak).sealed(seal_pack).room(room, 64).run(check!(), |bytes| {
        let (file, len) = (Memory(bytes), bytes.len() as u64);
        drop(read_pack_header(&file));
        let mut places = Vec::new();
        let visit = &mut |_, frame: FrameAt| {
            assert!(frame.end() <= len && frame.offset >= PACK_HEADER_LEN, "{frame:?}");
            places.push(frame.offset);
            Ok::<_, io::Error>(())
        };
        walk_frames(&file, Class::Data, 0, len, visit, &mut |_, _| Ok(())).expect("memory can be read");
        let mut buffer = Vec::new();
        for place in places {
            drop(read_frame(&file, place, Class::Data, &mut buffer).expect("memory can be read"));
        }
        let (frames, footer) = read_footer(&file, len).ok()?;
        Some([&bytes[..usize::try_from(footer).expect("within it")], &encode_footer(&frames)].concat())
    });
    tally.reaches(1_000);
}

/// A file that fits its check is one that was written.
#[test]
fn small_files() {
    let samples = small_file_samples();
    Fuzz::new(&samples, peak).words(&SMALL_FILE_WORDS).run(check!(), |bytes| {
        let titles = ["filesync head 1", "filesync 1", "filesync damaged 1", "filesync pin 1"];
        titles.iter().find_map(|title| Lines::parse(bytes, title).ok())?;
        assert!(samples.iter().any(|sample| sample == bytes), "this was never written");
        Some(bytes.to_vec())
    });
}

fn small_file_samples() -> Vec<Vec<u8>> {
    [heads(), params(), lists(), pins()].concat()
}

fn id(number: u8) -> ContentHash {
    ContentHash::from_bytes([number; 32])
}

fn name(number: u8) -> PackName {
    PackName::from_bytes([number; 16])
}

fn heads() -> Vec<Vec<u8>> {
    let mark = |number, class, len| Mark { pack: name(number), class, len };
    let marks = vec![mark(1, Class::Data, 88), mark(0x2f, Class::Meta, 1 << 40)];
    let lived_in = Head { generation: 12, head: Some(id(7)), marks };
    [Head::default(), lived_in.clone(), Head { head: None, generation: u64::MAX, ..lived_in }]
        .iter()
        .map(Head::encode)
        .collect()
}

#[test]
fn heads_of_a_store() {
    let samples = heads();
    let fuzz = Fuzz::new(&samples, peak).sealed(seal_small_file).words(&SMALL_FILE_WORDS);
    fuzz.run(check!(), |bytes| Some(Head::decode(bytes).ok()?.encode())).reaches(1_000);
}

fn params() -> Vec<Vec<u8>> {
    let sizes = [4 << 10, 64 << 10, 256 << 10].map(|avg| ChunkSizes::from_average(avg).expect("a size"));
    let all = sizes.into_iter().zip([Codec::Zstd, Codec::None, Codec::Zstd]);
    all.map(|(sizes, codec)| Params::new(id(3), sizes, codec).encode()).collect()
}

#[test]
fn params_of_a_store() {
    let samples = params();
    let words: Vec<&[u8]> = [&SMALL_FILE_WORDS[..], &[b"read: ", b"write: ", b"codec zstd 3", b"filesync 2"]].concat();
    let fuzz = Fuzz::new(&samples, peak).sealed(seal_small_file).words(&words);
    let tally = fuzz.run(check!(), |bytes| {
        let params = Params::decode(bytes).ok()?;
        match params.unknown_write_word {
            None => Some(params.encode()),
            // Written by a later version; this one reads, and never writes it.
            Some(_) => Some(bytes.to_vec()),
        }
    });
    tally.reaches(1_000);
}

fn lists() -> Vec<Vec<u8>> {
    let list = |packs: &[u8], objects: &[u8]| Damaged {
        packs: packs.iter().copied().map(name).collect(),
        objects: objects.iter().copied().map(id).collect(),
    };
    [list(&[], &[]), list(&[1], &[]), list(&[1, 2], &[3, 4, 5]), list(&[], &[0xff])]
        .iter()
        .map(Damaged::encode)
        .collect()
}

#[test]
fn lists_of_damage() {
    let samples = lists();
    let fuzz = Fuzz::new(&samples, peak).sealed(seal_small_file).words(&SMALL_FILE_WORDS);
    fuzz.run(check!(), |bytes| Some(Damaged::decode(bytes).ok()?.encode())).reaches(1_000);
}

fn pins() -> Vec<Vec<u8>> {
    let roots = [(Kind(4), id(1)), (Kind(4), id(2)), (Kind(5), id(1))];
    let notes = ["", "try 7 of 3", "  spaces and \u{e9} "];
    notes.iter().enumerate().map(|(count, note)| pin::encode(&roots[..=count], note)).collect()
}

#[test]
fn pins_of_a_store() {
    let samples = pins();
    let fuzz = Fuzz::new(&samples, peak).sealed(seal_small_file).words(&SMALL_FILE_WORDS);
    let tally = fuzz.run(check!(), |bytes| {
        let (roots, note) = pin::decode(bytes).ok()?;
        Some(pin::encode(&roots, &note))
    });
    tally.reaches(1_000);
}
