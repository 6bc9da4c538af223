//! Frames out as they lie on disk, and in as they came: see [`crate::relay`].

use std::fmt;
use std::io;
use std::sync::Arc;

use super::pending::Claim;
use super::{Session, Store, place_of};
use crate::error::{GetError, PutError};
use crate::frame::{HEADER_LEN, Header, Slot};
use crate::hash::ContentHash;
use crate::index::Location;
use crate::pack::{Class, is_lost};
use crate::relay::{StoredFrame, VerifiedFrame};
use crate::vfs::read_exact_at;

/// Room that a frame which was read has behind it, for what a message puts before it.
const HEADROOM: usize = 16;

impl Store {
    /// The frame at a location that [`Store::locate`] gave, as it lies on disk. Its checks fit.
    ///
    /// An error that is damage says that these bytes are no good; the object may still be had by [`Store::get`].
    pub fn stored_frame(&self, location: &Location, id: &ContentHash) -> Result<StoredFrame, GetError> {
        let inner = &self.inner;
        let corrupt = |cause: String| {
            let place = place_of(&inner.table, location.pack, location.offset);
            GetError::Corrupt { id: *id, place, cause }
        };
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => corrupt("the pack is missing".to_owned()),
            _ if is_lost(&source) => corrupt(source.to_string()),
            _ => GetError::Io { path: inner.pack_path(location), source },
        };
        let file = inner.table.file(location.pack).map_err(io)?;
        let offset = u64::from(location.offset);
        let mut fixed = [0; HEADER_LEN];
        read_exact_at(&*file, &mut fixed, offset).map_err(io)?;
        let header = Header::parse(&fixed).map_err(corrupt)?;
        let len = usize::try_from(header.frame_len()).expect("a header bounds it");
        let mut bytes = crate::spare::take(len, HEADROOM);
        read_exact_at(&*file, &mut bytes, offset).map_err(io)?;
        let frame = StoredFrame::parse(bytes).map_err(corrupt)?;
        let lies_there = frame.slots().get(usize::from(location.slot)).is_some_and(|slot| slot.id == *id);
        if lies_there { Ok(frame) } else { Err(corrupt("another object lies there".to_owned())) }
    }
}

/// What became of a frame that was put.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Accepted {
    /// Objects that were not there before.
    pub new_objects: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Whether the frame was appended as it came.
    pub whole: bool,
}

/// Is told of what a session puts in whole frames, once it is in the store.
pub trait Witness: fmt::Debug + Send + Sync {
    /// A frame was put. Called from whatever thread put it, which waits.
    fn put(&self, frame: &VerifiedFrame);
}

impl Session<'_> {
    /// Has somebody told of all frames that are put from now on.
    #[must_use]
    pub fn witnessed_by(mut self, witness: Arc<dyn Witness>) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Asks for an object to rely on it if it is there: then the answer is a claim. If it is not, nothing is noted and
    /// nothing is owed: for who does not have the bytes in hand yet.
    pub fn holds(&self, id: &ContentHash) -> Result<bool, PutError> {
        let inner = self.inner();
        inner.pending.claim_present(id, |at| inner.is_bad(id, at), || inner.keep(id).map_err(PutError::from))
    }

    /// Puts a frame that came from elsewhere, and claims what is in it. Appended as it is where most of it is new;
    /// otherwise what is new is compressed again, since a second copy of all the rest would be worse.
    pub fn put_frame(&self, frame: &VerifiedFrame) -> Result<Accepted, PutError> {
        let accepted = self.put_claimed_frame(frame).inspect_err(|_| self.fail())?;
        if let Some(witness) = &self.witness {
            witness.put(frame);
        }
        Ok(accepted)
    }

    fn put_claimed_frame(&self, frame: &VerifiedFrame) -> Result<Accepted, PutError> {
        let new: Vec<bool> = frame
            .slots()
            .iter()
            .map(|slot| Ok(self.claim(&slot.id)? == Claim::New))
            .collect::<Result<_, PutError>>()?;
        let accepted = accepted(frame.slots(), &new);
        if accepted.whole {
            self.append_frame(frame, &new)?;
        } else {
            self.put_objects(frame, &new)?;
        }
        Ok(accepted)
    }

    fn append_frame(&self, frame: &VerifiedFrame, new: &[bool]) -> Result<(), PutError> {
        let class = frame.slots().first().map_or(Class::Data, |slot| Class::of(slot.kind));
        self.inner().append(class, frame.bytes(), frame.slots())?;
        let fresh = frame.slots().iter().zip(new).filter(|(_, new)| **new);
        fresh.for_each(|(slot, _)| self.note_put(class, u64::from(slot.len)));
        Ok(())
    }

    fn put_objects(&self, frame: &VerifiedFrame, new: &[bool]) -> Result<(), PutError> {
        let mut writer = self.writer();
        for ((slot, bytes), _) in frame.objects().zip(new).filter(|(_, new)| **new) {
            writer.put(slot.id, slot.kind, bytes)?;
        }
        writer.flush()
    }
}

/// Counts what is new, and decides whether the frame is stored as it is: if at least half of its bytes are new.
fn accepted(slots: &[Slot], new: &[bool]) -> Accepted {
    let len = |slot: &Slot| u64::from(slot.len);
    let fresh = || slots.iter().zip(new).filter(|(_, new)| **new).map(|(slot, _)| slot);
    let new_bytes: u64 = fresh().map(len).sum();
    let all: u64 = slots.iter().map(len).sum();
    Accepted { new_objects: fresh().count() as u64, new_bytes, whole: new_bytes > 0 && new_bytes * 2 >= all }
}
