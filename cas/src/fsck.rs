//! Reads everything and says what does not fit. Findings are data; nothing is changed.

mod frames;
mod seen;
mod whole;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::GetError;
use crate::frame::{Frame, HEADER_LEN, Header};
use crate::hash::{ContentHash, Kind, check16};
use crate::index::PackNumber;
use crate::pack::{
    Class, FrameAt, PACK_HEADER_LEN, PackName, is_lost, next_frame, read_footer, read_frame_table, walk_frames,
};
use crate::store::Store;
use crate::store::packs::{PackFile, damage_of, header_of, open_pack};
use crate::vfs::{VfsFile, read_exact_at};

use frames::Job;

pub use seen::{Seen, SeenAt};
pub use whole::{Checked, WholeReader};

/// An object whose bytes are wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadObject {
    /// Which.
    pub id: ContentHash,
    /// Its kind, as the frame says.
    pub kind: Kind,
    /// What does not fit.
    pub cause: String,
}

/// What a finding is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum About {
    /// What holds the objects together.
    Pack,
    /// These objects, which may be good elsewhere, or needed by nobody.
    Objects(Vec<ContentHash>),
    /// Objects of which nothing is known any more.
    Unknown,
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// Where.
    pub pack: PackName,
    /// What, in words.
    pub text: String,
    /// Whom it may affect.
    pub about: About,
}

/// What a reading of all packs found.
#[derive(Debug, Clone, Default)]
pub struct PackReport {
    /// Objects that were looked at.
    pub objects: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Objects with wrong bytes, in some copy.
    pub bad: Vec<BadObject>,
    /// Everything that does not fit.
    pub findings: Vec<Finding>,
}

impl PackReport {
    fn find(&mut self, pack: PackName, about: About, text: impl Into<String>) {
        self.findings.push(Finding { pack, text: text.into(), about });
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pack {}: {}", self.pack, self.text)
    }
}

/// How thoroughly packs are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Checksums of what is stored, nothing decompressed.
    Stored,
    /// Every object decompressed and held against its hash.
    Objects,
    /// As [`Self::Objects`], of so many of ten thousand frames, others for each seed.
    Sample {
        /// How many.
        share: u32,
        /// Chooses them.
        seed: u64,
    },
}

impl Depth {
    fn skips(self, pack: PackName, offset: u64) -> bool {
        let Self::Sample { share, seed } = self else { return false };
        let hash = check16(&[&seed.to_le_bytes(), pack.as_bytes(), &offset.to_le_bytes()]);
        u64::from_le_bytes(hash[..8].try_into().expect("eight bytes")) % 10_000 >= u64::from(share)
    }
}

/// Told of bytes and objects as they go by; may end it.
pub type Advance<'a> = dyn Fn(u64, u64) -> ControlFlow<()> + Sync + 'a;

/// What is to be checked.
struct Wanted<'a> {
    depth: Depth,
    /// Frames that have been, already.
    checked: Option<&'a Checked<'a>>,
    is_ended: &'a AtomicBool,
}

/// A stretch of a pack in which no frame can be made out.
type Lost = (PackName, Range<u64>);

impl Store {
    /// Bytes that [`Self::check_packs`] will read.
    pub fn packs_len(&self) -> u64 {
        let survey = self.inner.survey_now().unwrap_or_default();
        survey.packs.iter().map(|pack| pack.end.min(pack.len)).sum()
    }

    /// Reads all packs. `advance` is told of bytes and objects as they go by.
    pub fn check_packs(&self, depth: Depth, advance: &Advance<'_>) -> Result<PackReport, GetError> {
        self.check_packs_but(depth, None, advance)
    }

    /// As [`Self::check_packs`], without the frames that have been checked already. Ended by `advance`, it reports what it
    /// has seen so far.
    pub fn check_packs_but(
        &self,
        depth: Depth,
        checked: Option<&Checked<'_>>,
        advance: &Advance<'_>,
    ) -> Result<PackReport, GetError> {
        let survey = self.inner.survey_now();
        let survey = survey.map_err(|source| GetError::Io { path: PathBuf::from("packs"), source })?;
        let mut report = PackReport::default();
        let mut lost: Vec<Lost> = Vec::new();
        for name in &survey.missing {
            report.find(*name, About::Unknown, "it is missing");
            lost.push((*name, 0..u64::MAX));
        }
        let is_ended = AtomicBool::new(false);
        frames::check(self, depth, advance, &is_ended, &mut report, |report, give| {
            for (order, pack) in survey.packs.iter().enumerate() {
                let wanted = Wanted { depth, checked, is_ended: &is_ended };
                match self.check_pack(pack, order, &wanted, report, &mut lost, give) {
                    _ if is_ended.load(Ordering::Relaxed) => return Ok(()),
                    checked => checked?,
                }
            }
            Ok(())
        })?;
        self.name_lost(&lost, &mut report)?;
        Ok(report)
    }

    /// Makes out what a pack holds, and gives its frames to those who check them.
    fn check_pack<'a>(
        &self,
        pack: &'a PackFile,
        order: usize,
        wanted: &Wanted<'_>,
        report: &mut PackReport,
        lost: &mut Vec<Lost>,
        give: &mut dyn FnMut(Job<'a>),
    ) -> Result<(), GetError> {
        let name = pack.name;
        let io = |source: io::Error| GetError::Io { path: pack.path(), source };
        if pack.is_short() {
            let text = format!("{} bytes long, {} were durable", pack.len, pack.end);
            report.find(name, About::Unknown, text);
            lost.push((name, pack.len..u64::MAX));
        }
        let file = match open_pack(&**self.vfs(), name) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Removed since the others were listed, perhaps, and then nobody misses it.
                if self.inner.survey_now().map_err(io)?.packs.iter().any(|there| there.name == name) {
                    report.find(name, About::Unknown, "it is missing");
                    lost.push((name, 0..u64::MAX));
                }
                return Ok(());
            }
            Err(error) => return Err(io(error)),
        };
        let class = match damage_of(header_of(&*file, name)).map_err(io)? {
            Ok(header) if header.repository == self.parameters().repository => Some(header.class),
            Ok(_) => {
                report.find(name, About::Pack, "it belongs to another repository");
                None
            }
            Err(cause) => {
                report.find(name, About::Pack, cause);
                None
            }
        };
        let number = self.inner.table.number(name);
        let mut end = pack.end.min(pack.len);
        let mut footer = None;
        if pack.sealed {
            match damage_of(read_footer(&*file, pack.len)).map_err(io)? {
                Ok((frames, frames_end)) => {
                    footer = Some(frames);
                    end = frames_end;
                }
                Err(cause) => report.find(name, About::Pack, cause),
            }
        }
        let class = match class {
            Some(class) => class,
            None => guess_class(&*file, end).map_err(io)?,
        };
        let mut seen = 0;
        let mut differs = false;
        // Both of the walk's callbacks tell of findings and of what is lost.
        let told = RefCell::new((Vec::new(), None::<u64>, lost));
        walk_frames::<io::Error>(
            &*file,
            class,
            PACK_HEADER_LEN,
            end,
            &mut |header, frame| {
                differs |= footer.as_ref().is_some_and(|frames| frames.get(seen) != Some(&frame));
                seen += 1;
                let (_, lost_from, lost) = &mut *told.borrow_mut();
                lost.extend(lost_from.take().map(|from| (name, from..frame.offset)));
                if wanted.depth.skips(name, frame.offset) {
                    return Ok(());
                }
                report.objects += frame.slots.len() as u64;
                report.bytes += header.frame_len();
                if !wanted.checked.is_some_and(|checked| checked.has(number, frame.offset)) {
                    give(Job { pack, order, file: Arc::clone(&file), header, frame });
                }
                // Somebody wants it to end, or has failed.
                if wanted.is_ended.load(Ordering::Relaxed) { Err(io::ErrorKind::Interrupted.into()) } else { Ok(()) }
            },
            &mut |at, cause| {
                let (findings, lost_from, _) = &mut *told.borrow_mut();
                lost_from.get_or_insert(at);
                // Behind the frames of a pack whose footer is bad lies that footer: already reported.
                if !(pack.sealed && footer.is_none()) {
                    findings.push(Finding { pack: name, text: cause, about: About::Unknown });
                }
                Ok(())
            },
        )
        .map_err(io)?;
        let (findings, lost_from, lost) = told.into_inner();
        lost.extend(lost_from.map(|from| (name, from..u64::MAX)));
        report.findings.extend(findings);
        if let Some(frames) = footer {
            if differs || frames.len() != seen {
                report.find(name, About::Pack, "its footer does not list its frames");
            }
            note_lost(&frames, report, &*file);
        }
        Ok(())
    }

    /// Names the objects that the index knows where nothing can be made out any more.
    fn name_lost(&self, lost: &[Lost], report: &mut PackReport) -> Result<(), GetError> {
        if lost.is_empty() {
            return Ok(());
        }
        let lost: Vec<(PackNumber, &Range<u64>)> =
            lost.iter().map(|(name, range)| (self.inner.table.number(*name), range)).collect();
        let named: HashSet<ContentHash> = report.bad.iter().map(|bad| bad.id).collect();
        let (first, last) = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([0xff; 32]));
        self.inner.each_location(&first, &last, &mut |id, at| {
            let is_lost = lost.iter().any(|(pack, range)| at.pack == *pack && range.contains(&u64::from(at.offset)));
            if is_lost && !named.contains(&id) {
                report.bad.push(BadObject { id, kind: at.kind, cause: "its frame is damaged".to_owned() });
            }
            ControlFlow::Continue(())
        })
    }

    /// Holds one frame against its checks; says what is wrong with it as a whole.
    fn check_frame(
        &self,
        file: &dyn VfsFile,
        header: &Header,
        frame: &FrameAt,
        depth: Depth,
        payload: &mut Vec<u8>,
        report: &mut PackReport,
    ) -> io::Result<Option<String>> {
        let mut all_bad = |cause: &str| {
            let bad =
                frame.slots.iter().map(|slot| BadObject { id: slot.id, kind: slot.kind, cause: cause.to_owned() });
            report.bad.extend(bad);
        };
        payload.resize(header.stored_len as usize, 0);
        match read_exact_at(file, payload, frame.offset + (HEADER_LEN + header.table_len()) as u64) {
            Err(error) if is_lost(&error) => {
                all_bad(&error.to_string());
                return Ok(Some(error.to_string()));
            }
            read => read?,
        }
        let cause =
            if header.payload_fits(payload) { None } else { Some("the check of a payload does not fit".to_owned()) };
        if depth == Depth::Stored && cause.is_none() {
            return Ok(None);
        }
        match Frame::decode(header, frame.slots.clone(), payload) {
            Err(cause) => all_bad(&cause),
            Ok(decoded) => {
                for (at, slot) in frame.slots.iter().enumerate() {
                    if !decoded.verify(at, &*self.inner.schema) {
                        let cause = "its bytes do not have its hash".to_owned();
                        report.bad.push(BadObject { id: slot.id, kind: slot.kind, cause });
                    }
                }
            }
        }
        Ok(cause)
    }

    /// Follows everything that `roots` refer to and lists what is missing or unreadable: each id once.
    ///
    /// `bad` are objects that are known to be bad: they count as missing unless another copy reads well.
    pub fn check_closure(
        &self,
        roots: &[(Kind, ContentHash)],
        bad: &HashSet<ContentHash>,
    ) -> Result<Vec<BadObject>, GetError> {
        let mut found = Vec::new();
        let mut seen: HashSet<ContentHash> = HashSet::new();
        let mut open: Vec<(Kind, ContentHash)> = roots.to_vec();
        while let Some((kind, id)) = open.pop() {
            if kind.is_chunk() {
                if seen.contains(&id) {
                    continue;
                }
                let there = match bad.contains(&id) {
                    false => self.contains(kind, &id)?,
                    true => match self.get(kind, &id) {
                        Ok(_) => true,
                        Err(error) if error.is_damage() => false,
                        Err(error) => return Err(error),
                    },
                };
                if !there && seen.insert(id) {
                    found.push(BadObject { id, kind, cause: "it is missing or damaged".to_owned() });
                }
                continue;
            }
            if !seen.insert(id) {
                continue;
            }
            let children = match self.get(kind, &id) {
                Ok(object) => self.inner.schema.children(kind, &object),
                Err(error) if error.is_damage() => Err(error.to_string()),
                Err(error) => return Err(error),
            };
            match children {
                Ok(children) => open.extend(children),
                Err(cause) => found.push(BadObject { id, kind, cause }),
            }
        }
        Ok(found)
    }

    /// Whether the packs hold an object of this kind. An index that denies it is not taken at its word, nor one that
    /// leads to where damage is known.
    fn contains(&self, kind: Kind, id: &ContentHash) -> Result<bool, GetError> {
        if let Some(location) = self.inner.locate(id)?
            && location.kind == kind
            && !self.inner.is_suspect(id, &location)
        {
            return Ok(true);
        }
        match self.get(kind, id) {
            Ok(_) => Ok(true),
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether an object reads well from the place that the index gives, whatever other copies there are.
    pub fn is_good_where_indexed(&self, id: &ContentHash) -> bool {
        let location = self.inner.locate_indexed(id).ok().flatten();
        location.is_some_and(|location| self.inner.read_at(&location, id).is_ok())
    }
}

/// What a pack without a header holds: the kind of frames that can be made out in it.
fn guess_class(file: &dyn VfsFile, end: u64) -> io::Result<Class> {
    for class in Class::ALL {
        if damage_of(read_frame_table(file, PACK_HEADER_LEN, end, class))?.is_ok() {
            return Ok(class);
        }
    }
    for class in Class::ALL {
        let mut from = PACK_HEADER_LEN;
        while let Some(found) = next_frame(file, class, from, end)? {
            if found.is_whole {
                return Ok(class);
            }
            from = found.frame.offset + 1;
        }
    }
    Ok(Class::Data)
}

/// Objects that a footer lists in frames that no longer parse.
fn note_lost(frames: &[FrameAt], report: &mut PackReport, file: &dyn VfsFile) {
    for frame in frames {
        let class = Class::of(frame.slots.first().map_or(Kind::CHUNK, |slot| slot.kind));
        if read_frame_table(file, frame.offset, frame.end(), class).is_err() {
            let cause = "its frame is damaged";
            let lost = frame.slots.iter();
            report.bad.extend(lost.map(|slot| BadObject { id: slot.id, kind: slot.kind, cause: cause.to_owned() }));
        }
    }
}
