//! Pack files: header, footer and trailer, and the walk over their frames (`docs/format.md`, section 2).

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::str::FromStr;

use crate::chance;
use crate::frame::{
    COUNT_MAX, Frame, HEADER_LEN, Header, MAGIC as MAGIC_OF_FRAMES, RAW_MAX, SLOT_LEN, Slot, parse_slots, push_slots,
};
use crate::hash::{ContentHash, Kind, check16, hex, unhex};
use crate::vfs::{VfsFile, read_exact_at};

/// Frame bytes at which a pack is sealed.
pub const SEAL_LEN: u64 = 256 << 20;
/// Length of a pack's header: where the first frame lies.
pub const PACK_HEADER_LEN: u64 = HEADER_BYTES as u64;
const HEADER_BYTES: usize = 88;
const TRAILER_BYTES: usize = 40;
const MAGIC: &[u8; 8] = b"fspack\r\n";
const TRAILER_MAGIC: &[u8; 8] = b"fspkend\n";
const VERSION: u8 = 1;
/// More frames than this cannot lie in a pack, and a footer that says so is refused before it is read.
const FOOTER_LEN_MAX: u64 = SEAL_LEN;

/// What a pack holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Chunks.
    Data,
    /// Everything else: a walk over it reads no file data.
    Meta,
}

impl Class {
    /// Both.
    pub const ALL: [Class; 2] = [Class::Data, Class::Meta];

    /// Where objects of a kind go.
    pub fn of(kind: Kind) -> Self {
        if kind.is_chunk() { Self::Data } else { Self::Meta }
    }

    /// Its word in `HEAD`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Meta => "meta",
        }
    }

    /// The class that a word of `HEAD` names.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.word() == word)
    }
}

/// The name of a pack: 16 random bytes, never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackName([u8; 16]);

impl PackName {
    /// A new name.
    pub fn random() -> Result<Self, io::Error> {
        let mut bytes = [0; 16];
        chance::fill(&mut bytes)?;
        Ok(Self(bytes))
    }

    /// Takes the bytes of a name.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Where the pack lies while it grows.
    pub fn open_path(self) -> PathBuf {
        PathBuf::from(format!("packs/{self}.open"))
    }

    /// Where the pack lies once it is sealed.
    pub fn sealed_path(self) -> PathBuf {
        PathBuf::from(format!("packs/{self}.pack"))
    }

    /// Where the pack lies when nothing needs it any more, until no reader has it open.
    pub fn condemned_path(self) -> PathBuf {
        PathBuf::from(format!("packs/{self}.condemned"))
    }
}

impl fmt::Display for PackName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl FromStr for PackName {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let bytes = unhex(text).ok_or(())?;
        Ok(Self(bytes.try_into().map_err(|_| ())?))
    }
}

/// What a pack's header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackHeader {
    /// What it holds.
    pub class: Class,
    /// Greater than that of every pack that was there when it was made.
    pub serial: u64,
    /// The repository that it belongs to.
    pub repository: ContentHash,
    /// Its own name.
    pub name: PackName,
}

impl PackHeader {
    /// The header's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[VERSION, if self.class == Class::Data { 1 } else { 2 }, 0, 0, 0, 0, 0, 0]);
        bytes.extend_from_slice(&self.serial.to_le_bytes());
        bytes.extend_from_slice(self.repository.as_bytes());
        bytes.extend_from_slice(self.name.as_bytes());
        let check = check16(&[&bytes]);
        bytes.extend_from_slice(&check);
        bytes
    }

    /// Parses a header.
    pub fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<Self, String> {
        if &bytes[..8] != MAGIC {
            return Err("not a pack".to_owned());
        }
        if bytes[72..88] != check16(&[&bytes[..72]]) {
            return Err("the check of its header does not fit".to_owned());
        }
        if bytes[8] != VERSION || bytes[10..16] != [0; 6] {
            return Err(format!("pack version {} is not known", bytes[8]));
        }
        let class = match bytes[9] {
            1 => Class::Data,
            2 => Class::Meta,
            other => return Err(format!("pack class {other} is not known")),
        };
        let array = |at: usize| bytes[at..at + 32].first_chunk::<32>().copied().unwrap_or_default();
        Ok(Self {
            class,
            serial: u64::from_le_bytes(bytes[16..24].first_chunk().copied().unwrap_or_default()),
            repository: ContentHash::from_bytes(array(24)),
            name: PackName(bytes[56..72].first_chunk().copied().unwrap_or_default()),
        })
    }
}

/// A frame and where it lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameAt {
    /// Offset of its first byte in the pack.
    pub offset: u64,
    /// Length of its objects.
    pub raw_len: u32,
    /// Length of its payload as stored.
    pub stored_len: u32,
    /// Its objects.
    pub slots: Vec<Slot>,
}

impl FrameAt {
    /// Offset of the first byte behind it.
    pub fn end(&self) -> u64 {
        self.offset + (HEADER_LEN + self.slots.len() * SLOT_LEN) as u64 + u64::from(self.stored_len)
    }
}

/// Footer and trailer of a sealed pack.
pub fn encode_footer(frames: &[FrameAt]) -> Vec<u8> {
    let len32 = |len: usize| u32::try_from(len).expect("bounded by SEAL_LEN").to_le_bytes();
    let mut bytes = len32(frames.len()).to_vec();
    for frame in frames {
        bytes.extend_from_slice(&frame.offset.to_le_bytes());
        bytes.extend_from_slice(&frame.raw_len.to_le_bytes());
        bytes.extend_from_slice(&frame.stored_len.to_le_bytes());
        bytes.extend_from_slice(&len32(frame.slots.len()));
        push_slots(&mut bytes, &frame.slots);
    }
    let len = bytes.len() as u64;
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let check = check16(&[&bytes]);
    bytes.extend_from_slice(&check);
    bytes.extend_from_slice(TRAILER_MAGIC);
    bytes
}

/// Reads the footer of a sealed pack of `len` bytes: its frames, and where they end.
pub fn read_footer(file: &dyn VfsFile, len: u64) -> Result<(Vec<FrameAt>, u64), ScanError> {
    let wrong = |cause: &str| ScanError::Damaged { at: len, cause: cause.to_owned() };
    let trailer_at = len.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= PACK_HEADER_LEN);
    let trailer_at = trailer_at.ok_or_else(|| wrong("too short for a trailer"))?;
    let mut trailer = [0; TRAILER_BYTES];
    read_exact_at(file, &mut trailer, trailer_at)?;
    if &trailer[32..] != TRAILER_MAGIC || trailer[8..16] != [0; 8] {
        return Err(wrong("no trailer"));
    }
    let footer_len = u64::from_le_bytes(trailer[..8].first_chunk().copied().unwrap_or_default());
    let footer_at = trailer_at.checked_sub(footer_len).filter(|at| *at >= PACK_HEADER_LEN);
    let footer_at = footer_at
        .filter(|_| footer_len <= FOOTER_LEN_MAX)
        .ok_or_else(|| wrong("the footer's length is out of range"))?;
    let footer_len = usize::try_from(footer_len).map_err(|_| wrong("the footer's length is out of range"))?;
    let mut footer = vec![0; footer_len];
    read_exact_at(file, &mut footer, footer_at)?;
    if check16(&[&footer, &trailer[..16]]) != trailer[16..32] {
        return Err(wrong("the check of the footer does not fit"));
    }
    let frames = parse_footer(&footer).ok_or_else(|| wrong("the footer is malformed"))?;
    let mut at = PACK_HEADER_LEN;
    for frame in &frames {
        if frame.offset != at {
            return Err(wrong("the footer's frames do not follow each other"));
        }
        at = frame.end();
    }
    if at != footer_at {
        return Err(wrong("the footer does not follow the frames"));
    }
    Ok((frames, footer_at))
}

fn parse_footer(mut bytes: &[u8]) -> Option<Vec<FrameAt>> {
    let mut take = |len: usize| {
        let (head, rest) = bytes.split_at_checked(len)?;
        bytes = rest;
        Some(head)
    };
    let count = u32::from_le_bytes(*take(4)?.first_chunk()?);
    let mut frames = Vec::new();
    for _ in 0..count {
        let offset = u64::from_le_bytes(*take(8)?.first_chunk()?);
        let raw_len = u32::from_le_bytes(*take(4)?.first_chunk()?);
        let stored_len = u32::from_le_bytes(*take(4)?.first_chunk()?);
        let slots = u32::from_le_bytes(*take(4)?.first_chunk()?) as usize;
        if raw_len as usize > RAW_MAX || stored_len as usize > RAW_MAX || slots > COUNT_MAX {
            return None;
        }
        let slots = parse_slots(take(slots * SLOT_LEN)?);
        frames.push(FrameAt { offset, raw_len, stored_len, slots });
    }
    take(0)?;
    bytes.is_empty().then_some(frames)
}

/// Why a pack could not be walked.
#[derive(Debug, thiserror::Error)]
pub enum ScanError {
    /// Wrong bytes.
    #[error("at byte {at}: {cause}")]
    Damaged {
        /// Offset in the pack.
        at: u64,
        /// What does not fit.
        cause: String,
    },
    /// The system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl ScanError {
    /// Reading past the end is damage here: lengths were known before. So are bytes that the medium no longer
    /// gives; everything else the system may think better of.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Damaged { .. } => true,
            Self::Io(error) => is_lost(error),
        }
    }
}

/// Whether a read failed because the bytes are gone.
pub fn is_lost(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error())
}

/// Reads and checks the header of a pack.
pub fn read_pack_header(file: &dyn VfsFile) -> Result<PackHeader, ScanError> {
    let mut bytes = [0; HEADER_BYTES];
    read_exact_at(file, &mut bytes, 0)?;
    PackHeader::decode(&bytes).map_err(|cause| ScanError::Damaged { at: 0, cause })
}

/// Reads header and table of the frame at `offset`, not its payload. Nothing past `end` is read.
pub fn read_frame_table(
    file: &dyn VfsFile,
    offset: u64,
    end: u64,
    class: Class,
) -> Result<(Header, FrameAt), ScanError> {
    let wrong = |cause: String| ScanError::Damaged { at: offset, cause };
    let mut fixed = [0; HEADER_LEN];
    if end.saturating_sub(offset) < HEADER_LEN as u64 {
        return Err(wrong("a frame is cut off".to_owned()));
    }
    read_exact_at(file, &mut fixed, offset)?;
    let header = Header::parse(&fixed).map_err(wrong)?;
    if end.saturating_sub(offset) < header.frame_len() {
        return Err(wrong("a frame is cut off".to_owned()));
    }
    let mut table = vec![0; header.table_len()];
    read_exact_at(file, &mut table, offset + HEADER_LEN as u64)?;
    let slots = header.table(&fixed, &table, class).map_err(wrong)?;
    Ok((header, FrameAt { offset, raw_len: header.raw_len, stored_len: header.stored_len, slots }))
}

/// Reads a frame whole, into `bytes`, and holds it against both of its checks, not its objects against their hashes. The
/// inner error is damage.
pub fn read_frame(
    file: &dyn VfsFile,
    offset: u64,
    class: Class,
    bytes: &mut Vec<u8>,
) -> io::Result<Result<Frame, String>> {
    let read = |bytes: &mut [u8], offset: u64| match read_exact_at(file, bytes, offset) {
        Err(error) if is_lost(&error) => Ok(Err(error.to_string())),
        read => read.map(Ok),
    };
    let mut fixed = [0; HEADER_LEN];
    if let Err(cause) = read(&mut fixed, offset)? {
        return Ok(Err(cause));
    }
    let header = match Header::parse(&fixed) {
        Ok(header) => header,
        Err(cause) => return Ok(Err(cause)),
    };
    bytes.clear();
    bytes.extend_from_slice(&fixed);
    bytes.resize(HEADER_LEN + header.table_len() + header.stored_len as usize, 0);
    let rest = &mut bytes[HEADER_LEN..];
    if let Err(cause) = read(rest, offset + HEADER_LEN as u64)? {
        return Ok(Err(cause));
    }
    let (table, payload) = rest.split_at(header.table_len());
    let decoded = header.table(&fixed, table, class).and_then(|slots| match header.payload_fits(payload) {
        true => Frame::decode(&header, slots, payload),
        false => Err("the check of a payload does not fit".to_owned()),
    });
    Ok(decoded)
}

/// Walks the frames in `from..end`, calling `visit` for each, and `damage` for each stretch that holds none.
///
/// The length of a frame tells where the next one begins. After damage that is not believed any more but of whole frames,
/// so that one bad frame does not hide those behind it.
pub fn walk_frames<E: From<io::Error>>(
    file: &dyn VfsFile,
    class: Class,
    from: u64,
    end: u64,
    visit: &mut dyn FnMut(Header, FrameAt) -> Result<(), E>,
    damage: &mut dyn FnMut(u64, String) -> Result<(), E>,
) -> Result<(), E> {
    let mut at = from.max(PACK_HEADER_LEN);
    while at < end {
        match read_frame_table(file, at, end, class) {
            Ok((header, frame)) => {
                at = frame.end();
                visit(header, frame)?;
            }
            Err(ScanError::Io(error)) if !is_lost(&error) => return Err(error.into()),
            Err(error) => {
                damage(at, error.to_string())?;
                return search_frames(file, class, at + 1, end, visit, damage);
            }
        }
    }
    Ok(())
}

/// The rest of a walk. A frame of which only the payload does not fit is visited too, and looked into: others of its objects may be
/// good, and an index leads to them.
fn search_frames<E: From<io::Error>>(
    file: &dyn VfsFile,
    class: Class,
    from: u64,
    end: u64,
    visit: &mut dyn FnMut(Header, FrameAt) -> Result<(), E>,
    damage: &mut dyn FnMut(u64, String) -> Result<(), E>,
) -> Result<(), E> {
    let wrong = |at: u64, cause: &str| ScanError::Damaged { at, cause: cause.to_owned() }.to_string();
    let (mut at, mut is_told) = (from, true);
    while let Some(Found { header, frame, is_whole }) = next_frame(file, class, at, end)? {
        let (begin, behind) = (frame.offset, frame.end());
        if begin > at && !is_told {
            damage(at, wrong(at, "no frame begins here"))?;
        }
        visit(header, frame)?;
        is_told = !is_whole;
        at = if is_whole { behind } else { begin + 1 };
        if !is_whole {
            damage(at, wrong(begin, "where this frame ends cannot be told"))?;
        }
    }
    if at < end && !is_told {
        damage(at, wrong(at, "no frame begins here"))?;
    }
    Ok(())
}

/// A frame that was looked for.
#[derive(Debug)]
pub struct Found {
    /// Its header.
    pub header: Header,
    /// Where it lies, and its objects.
    pub frame: FrameAt,
    /// Payload included. What is only a part of a frame may be the content of a file that was stored, and its length
    /// would lead astray.
    pub is_whole: bool,
}

/// The first place at or after `from` where the header and the table of a frame fit their check.
pub fn next_frame(file: &dyn VfsFile, class: Class, from: u64, end: u64) -> io::Result<Option<Found>> {
    const WINDOW: usize = 1 << 16;
    /// What a medium that cannot be read is skipped by.
    const SECTOR: u64 = 4096;
    let mut buffer = vec![0; WINDOW];
    let mut start = from;
    while start < end {
        let want = usize::try_from(end - start).unwrap_or(WINDOW).min(WINDOW);
        let got = match file.read_at(&mut buffer[..want], start) {
            Ok(got) => got,
            Err(error) if is_lost(&error) => {
                start = (start + 1).next_multiple_of(SECTOR);
                continue;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if got < MAGIC_OF_FRAMES.len() {
            return Ok(None);
        }
        for (at, window) in buffer[..got].windows(MAGIC_OF_FRAMES.len()).enumerate() {
            if window == MAGIC_OF_FRAMES
                && let Some(found) = frame_at(file, start + at as u64, end, class)?
            {
                return Ok(Some(found));
            }
        }
        // The magic may lie across two windows.
        start += (got - (MAGIC_OF_FRAMES.len() - 1)) as u64;
    }
    Ok(None)
}

fn frame_at(file: &dyn VfsFile, offset: u64, end: u64, class: Class) -> io::Result<Option<Found>> {
    let damage_of = |result| match result {
        Ok(found) => Ok(Some(found)),
        Err(ScanError::Io(error)) if !is_lost(&error) => Err(error),
        Err(_) => Ok(None),
    };
    let Some((header, frame)) = damage_of(read_frame_table(file, offset, end, class))? else { return Ok(None) };
    let mut payload = vec![0; header.stored_len as usize];
    let read = read_exact_at(file, &mut payload, offset + (HEADER_LEN + header.table_len()) as u64);
    let is_whole = match read {
        Err(error) if !is_lost(&error) => return Err(error),
        read => read.is_ok() && header.payload_fits(&payload),
    };
    Ok(Some(Found { header, frame, is_whole }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_round_trip_and_every_flip() {
        let header = PackHeader {
            class: Class::Meta,
            serial: 7,
            repository: ContentHash::of_chunk(b"r"),
            name: PackName::from_bytes([9; 16]),
        };
        let bytes = header.encode();
        let array: [u8; HEADER_BYTES] = bytes.try_into().expect("its length");
        assert_eq!(PackHeader::decode(&array), Ok(header));
        for at in 0..array.len() {
            let mut bad = array;
            bad[at] ^= 1;
            assert!(PackHeader::decode(&bad).is_err(), "byte {at}");
        }
    }

    #[test]
    fn names_are_32_hex_digits() {
        let name = PackName::from_bytes([0xab; 16]);
        assert_eq!(name.to_string().parse(), Ok(name));
        assert!("ab".parse::<PackName>().is_err());
        assert_eq!(name.open_path().extension().and_then(|e| e.to_str()), Some("open"));
    }
}
