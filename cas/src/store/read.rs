//! Objects out: located, decompressed, and verified by their hash before a byte is handed out (G6).

use std::io;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{Inner, Store, place_of};
use crate::error::GetError;
use crate::frame::{Frame, HEADER_LEN, Header};
use crate::gc::Noted;
use crate::hash::{ContentHash, Kind};
use crate::index::{Location, ObjectVisitor};
use crate::pack::{Class, is_lost};
use crate::testing::mistake;
use crate::vfs::read_exact_at;

/// The bytes of an object, verified. Keeps its frame in memory.
#[derive(Debug, Clone)]
pub struct Object {
    frame: Arc<Frame>,
    range: Range<usize>,
}

impl Object {
    /// The frame, and where in it the bytes lie.
    pub(crate) fn into_parts(self) -> (Arc<Frame>, Range<usize>) {
        (self.frame, self.range)
    }
}

impl Deref for Object {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.frame.raw()[self.range.clone()]
    }
}

impl Store {
    /// The bytes of an object.
    ///
    /// [`GetError::Missing`] if no pack holds it, [`GetError::Corrupt`] if its bytes are not what the hash says:
    /// nothing of them is handed out, and the object counts as absent for the next commit.
    pub fn get(&self, kind: Kind, id: &ContentHash) -> Result<Object, GetError> {
        self.inner.get(kind, id)
    }

    /// Where an object lies, as far as the index knows: an order to read many objects in, not a proof.
    pub fn locate(&self, id: &ContentHash) -> Result<Option<Location>, GetError> {
        self.inner.locate(id)
    }

    /// Visits the ids in `from..=to`, ascending, with their kinds.
    pub fn each_id(
        &self,
        from: &ContentHash,
        to: &ContentHash,
        visit: &mut dyn FnMut(ContentHash, Kind) -> std::ops::ControlFlow<()>,
    ) -> Result<(), GetError> {
        self.inner.each_location(from, to, &mut |id, location| visit(id, location.kind))
    }
}

impl Inner {
    pub(crate) fn locate(&self, id: &ContentHash) -> Result<Option<Location>, GetError> {
        match self.pending.location(id).or_else(|| self.moved(id)) {
            None => self.locate_indexed(id),
            found => Ok(found),
        }
    }

    pub(crate) fn each_location(
        &self,
        from: &ContentHash,
        to: &ContentHash,
        visit: &mut ObjectVisitor<'_>,
    ) -> Result<(), GetError> {
        let index = self.index();
        index.objects(from, to, visit).map_err(|error| {
            self.index_refused(&error);
            GetError::Index(error.cause().to_owned())
        })
    }

    pub(crate) fn locate_indexed(&self, id: &ContentHash) -> Result<Option<Location>, GetError> {
        let found = self.look_up(|index| index.lookup(id));
        found.map_err(|error| GetError::Index(error.cause().to_owned()))
    }

    /// Whether an object is there to be relied on; if so, it stays. Called with a lock of `pending` in hand: that is what
    /// makes one step of both.
    pub(super) fn keep(&self, id: &ContentHash) -> Result<bool, GetError> {
        let Some(location) = self.locate_indexed(id)? else { return Ok(false) };
        let is_gone = self.table.name(location.pack).is_none() || self.is_condemned(location.pack);
        if is_gone || self.is_suspect(id, &location) {
            return Ok(false);
        }
        match &*self.collection.read().unwrap_or_else(PoisonError::into_inner) {
            Some(_) if mistake("a claim that is not noted") => Ok(true),
            Some(live) => Ok(live.note(id, &location) != Noted::Unplaced),
            None => Ok(true),
        }
    }

    pub(crate) fn get(&self, kind: Kind, id: &ContentHash) -> Result<Object, GetError> {
        let location = self.locate(id)?;
        let first = match &location {
            Some(location) if location.kind != kind => {
                return Err(GetError::WrongKind { id: *id, wanted: kind, found: location.kind });
            }
            Some(location) => self.read_at(location, id),
            None => Err(GetError::Missing(*id)),
        };
        let Err(error) = first else { return first };
        if !error.is_damage() {
            return Err(error);
        }
        if let Some(object) = self.look_again(kind, id, location) {
            return Ok(object);
        }
        // What was never there is not damaged.
        if let Some(tried) = &location {
            self.note_damage(id, tried);
        }
        Err(error)
    }

    pub(crate) fn read_at(&self, location: &Location, id: &ContentHash) -> Result<Object, GetError> {
        let corrupt = |cause: &str| GetError::Corrupt {
            id: *id,
            place: place_of(&self.table, location.pack, location.offset),
            cause: cause.to_owned(),
        };
        let frame = self.frame(location, id)?;
        let slot = usize::from(location.slot);
        let range = frame.find(slot, id).ok_or_else(|| corrupt("another object lies there"))?;
        if !frame.verify(slot, &*self.schema) {
            return Err(corrupt("its bytes do not have its hash"));
        }
        Ok(Object { frame, range })
    }

    fn frame(&self, location: &Location, id: &ContentHash) -> Result<Arc<Frame>, GetError> {
        let place = (location.pack, location.offset);
        if let Some(frame) = self.frames.get(place) {
            return Ok(frame);
        }
        let read = self.read_frame(location, id);
        self.note_frame(place, !read.as_ref().is_err_and(GetError::is_damage));
        let frame = Arc::new(read?);
        self.frames.put(place, &frame);
        Ok(frame)
    }

    fn read_frame(&self, location: &Location, id: &ContentHash) -> Result<Frame, GetError> {
        let corrupt = |cause: String| GetError::Corrupt {
            id: *id,
            place: place_of(&self.table, location.pack, location.offset),
            cause,
        };
        let refused = |source: io::Error| GetError::Io { path: self.pack_path(location), source };
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("the pack is cut off".to_owned()),
            _ if is_lost(&source) => corrupt(source.to_string()),
            _ => refused(source),
        };
        // A medium that does not give a byte has lost it; a file that does not open says nothing of its bytes.
        let file = self.table.file(location.pack).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => corrupt("the pack is missing".to_owned()),
            _ => refused(source),
        })?;
        let offset = u64::from(location.offset);
        let mut fixed = [0; HEADER_LEN];
        read_exact_at(&*file, &mut fixed, offset).map_err(io)?;
        let header = Header::parse(&fixed).map_err(corrupt)?;
        thread_local! {
            /// As large as the largest frame so far: clearing a fresh one costs as much as reading it.
            static STORED: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
        }
        STORED.with_borrow_mut(|stored| {
            let len = header.table_len() + header.stored_len as usize;
            stored.resize(stored.len().max(len), 0);
            let rest = &mut stored[..len];
            read_exact_at(&*file, rest, offset + HEADER_LEN as u64).map_err(io)?;
            let (table, payload) = rest.split_at(header.table_len());
            let slots = header.table(&fixed, table, Class::of(location.kind)).map_err(corrupt)?;
            Frame::decode(&header, slots, payload).map_err(corrupt)
        })
    }

    pub(super) fn pack_path(&self, location: &Location) -> PathBuf {
        self.table.name(location.pack).map_or_else(|| PathBuf::from("packs"), super::PackName::sealed_path)
    }
}
