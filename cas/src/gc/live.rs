//! What is live: one bit for each object of each pack.
//!
//! Objects are told by where they lie, since ids of millions would not fit into the memory that is promised. Where an
//! object lies is the index's word, and that is not taken alone: of each id its first bytes are kept as its print, as the
//! pack's own tables give them. An object that the index has lie where another does would else pass for that one, and
//! what it refers to would not be followed.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::hash::ContentHash;
use crate::index::{Location, PackNumber};
use crate::pack::{Class, FrameAt};
use crate::store::packs::{PackFile, PackTable, Survey, frames_of};
use crate::vfs::Vfs;

/// What noting an object found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Noted {
    /// It had not been noted.
    New,
    /// It had.
    Known,
    /// It lies in a pack that came later: none that could be removed.
    Foreign,
    /// Nothing that could be made out lies there, or another object. In the first case its pack stays.
    Unplaced,
}

/// Bits, set from several threads.
#[derive(Debug, Default)]
pub struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(len: u32) -> Self {
        Self((0..len.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit; whether it was not set.
    pub fn set(&self, at: u32) -> bool {
        let bit = 1 << (at % 64);
        self.0.get(at as usize / 64).is_some_and(|word| word.fetch_or(bit, Ordering::AcqRel) & bit == 0)
    }

    /// Whether a bit is set.
    pub fn get(&self, at: u32) -> bool {
        self.0.get(at as usize / 64).is_some_and(|word| word.load(Ordering::Acquire) >> (at % 64) & 1 == 1)
    }

    fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Release));
    }

    fn count(&self) -> u32 {
        self.0.iter().map(|word| word.load(Ordering::Acquire).count_ones()).sum()
    }

    /// Whether all that is set here is set there.
    fn is_within(&self, other: &Self) -> bool {
        self.0.iter().zip(&other.0).all(|(a, b)| a.load(Ordering::Acquire) & !b.load(Ordering::Acquire) == 0)
    }
}

/// A frame, as far as it matters here.
#[derive(Debug)]
struct FrameUse {
    offset: u32,
    /// Objects in the frames before it.
    first: u32,
    raw_len: u32,
    /// Of the whole frame, as stored.
    len: u32,
    /// Raw bytes of live objects.
    live_raw: AtomicU32,
}

/// A pack, and which of its objects are live.
#[derive(Debug)]
pub struct PackLive {
    /// Its file, as it was when this was made.
    pub file: PackFile,
    /// Its number.
    pub number: PackNumber,
    /// What it holds; `None` if its header cannot be read.
    pub class: Option<Class>,
    /// Its serial, 0 if its header cannot be read.
    pub serial: u64,
    /// Whether every byte of its tables could be read.
    pub is_whole: bool,
    frames: Vec<FrameUse>,
    /// The print of each object.
    prints: Vec<u32>,
    live: Bits,
    /// Those whose children have been noted too.
    followed: Bits,
    /// Those that have been copied to a younger pack.
    copied: Bits,
    /// Something live is said to lie here that could not be made out.
    is_needed: AtomicBool,
}

/// How much of a pack is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Use {
    /// Frames in it.
    pub frames: u64,
    /// Objects in it.
    pub objects: u64,
    /// Bytes of those objects.
    pub raw: u64,
    /// Live objects.
    pub live_objects: u64,
    /// Bytes of live objects.
    pub live_raw: u64,
    /// Bytes of its frames as stored.
    pub stored: u64,
    /// About how many of them live objects take.
    pub live_stored: u64,
}

impl PackLive {
    fn read(vfs: &dyn Vfs, table: &PackTable, file: PackFile) -> io::Result<Self> {
        let mut pack = Self {
            file,
            number: table.number(file.name),
            class: None,
            serial: 0,
            is_whole: true,
            frames: Vec::new(),
            prints: Vec::new(),
            live: Bits::default(),
            followed: Bits::default(),
            copied: Bits::default(),
            is_needed: AtomicBool::new(false),
        };
        let mut is_whole = !file.is_short();
        let mut each = |frame: FrameAt| {
            pack.add(&frame);
            Ok(())
        };
        let header = frames_of(vfs, &file, 0, &mut each, &mut |_| is_whole = false)?;
        pack.class = header.map(|header| header.class);
        pack.serial = header.map_or(0, |header| header.serial);
        pack.is_whole = is_whole;
        for bits in [&mut pack.live, &mut pack.followed, &mut pack.copied] {
            *bits = Bits::new(narrow(pack.prints.len() as u64));
        }
        Ok(pack)
    }

    fn add(&mut self, frame: &FrameAt) {
        self.frames.push(FrameUse {
            offset: narrow(frame.offset),
            first: narrow(self.prints.len() as u64),
            raw_len: frame.raw_len,
            len: narrow(frame.end() - frame.offset),
            live_raw: AtomicU32::new(0),
        });
        self.prints.extend(frame.slots.iter().map(|slot| print(&slot.id)));
    }

    /// Where among the objects of its pack one stands that lies in `slot` of the frame at `offset`.
    pub fn ordinal(&self, offset: u32, slot: u16) -> Option<u32> {
        self.frame(offset, slot).map(|(_, ordinal)| ordinal)
    }

    fn frame(&self, offset: u32, slot: u16) -> Option<(&FrameUse, u32)> {
        let at = self.frames.binary_search_by_key(&offset, |frame| frame.offset).ok()?;
        let (frame, next) = (&self.frames[at], self.frames.get(at + 1));
        let ordinal = frame.first + u32::from(slot);
        let end = next.map_or(self.prints.len(), |next| next.first as usize);
        ((ordinal as usize) < end).then_some((frame, ordinal))
    }

    /// As [`Self::ordinal`], of an object that does lie there.
    fn ordinal_of(&self, id: &ContentHash, location: &Location) -> Option<u32> {
        let ordinal = self.ordinal(location.offset, location.slot)?;
        (self.prints[ordinal as usize] == print(id)).then_some(ordinal)
    }

    fn note(&self, id: &ContentHash, location: &Location) -> Noted {
        if !self.file.sealed && u64::from(location.offset) >= self.file.end {
            // Appended since: a pack that has grown is not removed.
            return Noted::Foreign;
        }
        let Some((frame, ordinal)) = self.frame(location.offset, location.slot) else {
            self.is_needed.store(true, Ordering::Release);
            return Noted::Unplaced;
        };
        if self.prints[ordinal as usize] != print(id) {
            return Noted::Unplaced;
        }
        if !self.live.set(ordinal) {
            return Noted::Known;
        }
        frame.live_raw.fetch_add(location.len, Ordering::Relaxed);
        Noted::New
    }

    /// Whether an object is live.
    pub fn is_live(&self, ordinal: u32) -> bool {
        self.live.get(ordinal)
    }

    /// Whether it has been copied.
    pub fn is_copied(&self, ordinal: u32) -> bool {
        self.copied.get(ordinal)
    }

    /// Notes that an object has been copied.
    pub fn note_copied(&self, ordinal: u32) {
        self.copied.set(ordinal);
    }

    /// Whether all that is live has been copied, by now.
    pub fn is_all_copied(&self) -> bool {
        !self.is_needed() && self.live.is_within(&self.copied)
    }

    /// Whether something live lies here that cannot be copied.
    pub fn is_needed(&self) -> bool {
        self.is_needed.load(Ordering::Acquire)
    }

    /// Says that something live lies here that cannot be copied.
    pub fn need(&self) {
        self.is_needed.store(true, Ordering::Release);
    }

    /// How much of it is used.
    pub fn usage(&self) -> Use {
        let mut usage =
            Use { objects: self.prints.len() as u64, live_objects: self.live.count().into(), ..Use::default() };
        for frame in &self.frames {
            let live = u64::from(frame.live_raw.load(Ordering::Relaxed).min(frame.raw_len));
            usage.frames += 1;
            usage.raw += u64::from(frame.raw_len);
            usage.live_raw += live;
            usage.stored += u64::from(frame.len);
            usage.live_stored += u64::from(frame.len) * live / u64::from(frame.raw_len.max(1));
        }
        usage
    }
}

/// Packs are sealed before any of their figures could be more.
fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// What is kept of an id.
fn print(id: &ContentHash) -> u32 {
    let [a, b, c, d, ..] = *id.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}

/// The packs that there were at the beginning of a collection.
#[derive(Debug)]
pub struct LiveSet {
    packs: Vec<PackLive>,
    by_number: HashMap<PackNumber, usize>,
}

impl LiveSet {
    /// All packs of a survey, with nothing noted.
    pub fn read(vfs: &dyn Vfs, table: &PackTable, survey: &Survey) -> io::Result<Self> {
        let packs: io::Result<Vec<_>> = survey.packs.iter().map(|file| PackLive::read(vfs, table, *file)).collect();
        let packs = packs?;
        let by_number = packs.iter().enumerate().map(|(at, pack)| (pack.number, at)).collect();
        Ok(Self { packs, by_number })
    }

    /// The packs.
    pub fn packs(&self) -> &[PackLive] {
        &self.packs
    }

    /// A pack by its number.
    pub fn pack(&self, number: PackNumber) -> Option<&PackLive> {
        self.by_number.get(&number).map(|at| &self.packs[*at])
    }

    /// Notes that an object is live, which is said to lie somewhere.
    pub fn note(&self, id: &ContentHash, location: &Location) -> Noted {
        self.pack(location.pack).map_or(Noted::Foreign, |pack| pack.note(id, location))
    }

    /// As [`Self::note`], by somebody who goes on to note what it refers to: new is what nobody has followed yet. (A
    /// claim notes an object alone; whoever claims has claimed what it refers to, or takes it from what is followed.)
    pub fn follow(&self, id: &ContentHash, location: &Location) -> Noted {
        match self.note(id, location) {
            found @ (Noted::New | Noted::Known) => {
                let pack = self.pack(location.pack);
                let ordinal = pack.and_then(|pack| Some((pack, pack.ordinal(location.offset, location.slot)?)));
                match ordinal {
                    Some((pack, ordinal)) if pack.followed.set(ordinal) => Noted::New,
                    Some(_) => Noted::Known,
                    None => found,
                }
            }
            found => found,
        }
    }

    /// Whether an object has been noted, where it is said to lie.
    pub fn is_noted(&self, id: &ContentHash, location: &Location) -> bool {
        let pack = self.pack(location.pack);
        pack.is_some_and(|pack| pack.ordinal_of(id, location).is_some_and(|at| pack.is_live(at)))
    }

    /// Whether what lies somewhere is live, or may be: nothing is known of younger packs.
    pub fn is_live(&self, location: &Location) -> bool {
        let Some(pack) = self.pack(location.pack) else { return true };
        pack.ordinal(location.offset, location.slot).is_none_or(|ordinal| pack.is_live(ordinal))
    }

    /// Forgets what has been followed, so that it can be followed again. What is live stays so.
    pub fn unfollow(&self) {
        self.packs.iter().for_each(|pack| pack.followed.clear());
    }
}
