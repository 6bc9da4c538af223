//! Frames that are checked as they are read for another reason: each once, and whole.
//!
//! Whoever wants to see files as a whole reads their chunks in the order of the files. Frames hold neighbours, so that
//! most of them are decompressed once, for that and for the check of everything in them.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::Advance;
use crate::error::GetError;
use crate::frame::Frame;
use crate::gc::{LiveSet, Noted};
use crate::hash::{ContentHash, Kind};
use crate::index::{Location, PackNumber};
use crate::pack::{Class, read_frame};
use crate::store::{Inner, Store};

/// Which frames have been checked, and are good.
#[derive(Debug)]
pub struct Checked<'a> {
    inner: &'a Inner,
    /// The first object of each of them is noted.
    frames: LiveSet,
}

/// Reads files chunk by chunk. Each thread has its own.
#[derive(Debug)]
pub struct WholeReader<'a> {
    checked: &'a Checked<'a>,
    last: Option<(Place, Arc<Frame>)>,
    bytes: Vec<u8>,
}

type Place = (PackNumber, u32);

impl Store {
    /// Nothing has been checked.
    pub fn checked(&self) -> Result<Checked<'_>, GetError> {
        Ok(Checked { inner: &self.inner, frames: self.live_set()? })
    }
}

impl Checked<'_> {
    /// Whether a frame has been checked.
    pub(super) fn has(&self, pack: PackNumber, offset: u64) -> bool {
        let (Ok(offset), Some(pack)) = (u32::try_from(offset), self.frames.pack(pack)) else { return false };
        pack.ordinal(offset, 0).is_some_and(|first| pack.is_live(first))
    }

    /// Begins to read.
    pub fn reader(&self) -> WholeReader<'_> {
        WholeReader { checked: self, last: None, bytes: Vec::new() }
    }
}

impl WholeReader<'_> {
    /// BLAKE3 over chunks, one after the other. Bytes and objects of frames that were not checked before are told.
    pub fn hash(
        &mut self,
        chunks: &mut dyn Iterator<Item = Result<ContentHash, GetError>>,
        advance: &Advance<'_>,
    ) -> Result<ContentHash, GetError> {
        let mut hasher = blake3::Hasher::new();
        // Neighbours in one frame are hashed at once.
        let mut waiting: Option<(Arc<Frame>, Range<usize>)> = None;
        for id in chunks {
            let id = id?;
            let (frame, range) = self.find(&id, advance)?;
            match &mut waiting {
                Some((before, so_far)) if Arc::ptr_eq(before, &frame) && so_far.end == range.start => {
                    so_far.end = range.end;
                }
                _ => {
                    if let Some((frame, range)) = waiting.replace((frame, range)) {
                        hasher.update(&frame.raw()[range]);
                    }
                }
            }
        }
        if let Some((frame, range)) = waiting {
            hasher.update(&frame.raw()[range]);
        }
        Ok(ContentHash::from_bytes(*hasher.finalize().as_bytes()))
    }

    fn find(&mut self, id: &ContentHash, advance: &Advance<'_>) -> Result<(Arc<Frame>, Range<usize>), GetError> {
        let inner = self.checked.inner;
        let location = inner.locate(id)?.filter(|location| location.kind == Kind::CHUNK);
        if let Some(location) = location
            && let Some(frame) = self.frame(&location, advance)?
            && let Some(range) = frame.find(usize::from(location.slot), id)
        {
            return Ok((frame, range));
        }
        // Not there, or not good: the store knows what else to try.
        let object = inner.get(Kind::CHUNK, id)?;
        Ok(object.into_parts())
    }

    /// A frame in which everything is good.
    fn frame(&mut self, location: &Location, advance: &Advance<'_>) -> Result<Option<Arc<Frame>>, GetError> {
        let place = (location.pack, location.offset);
        if let Some((last, frame)) = &self.last
            && *last == place
        {
            return Ok(Some(Arc::clone(frame)));
        }
        let inner = self.checked.inner;
        let kept = match self.checked.has(location.pack, location.offset.into()) {
            true => inner.frames.get(place),
            false => None,
        };
        let frame = match kept {
            Some(frame) => frame,
            None => {
                let Some(frame) = self.check(location)? else { return Ok(None) };
                let first = &frame.slots()[0].id;
                if self.checked.frames.note(first, &Location { slot: 0, ..*location }) == Noted::New {
                    // Whoever reads whole files looks for himself whether to go on.
                    let _ = advance(self.bytes.len() as u64, frame.slots().len() as u64);
                }
                let frame = Arc::new(frame);
                inner.frames.put(place, &frame);
                frame
            }
        };
        self.last = Some((place, Arc::clone(&frame)));
        Ok(Some(frame))
    }

    /// Reads a frame and checks all of it. Why it is not good is found out by whoever reads the pack.
    fn check(&mut self, location: &Location) -> Result<Option<Frame>, GetError> {
        let inner = self.checked.inner;
        let io = |source| GetError::Io { path: PathBuf::from("packs"), source };
        let file = match inner.table.file(location.pack) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            file => file.map_err(io)?,
        };
        let frame = read_frame(&*file, location.offset.into(), Class::Data, &mut self.bytes).map_err(io)?.ok();
        let is_good = |frame: &Frame| (0..frame.slots().len()).all(|slot| frame.verify(slot, &*inner.schema));
        Ok(frame.filter(is_good))
    }
}
