//! Objects out: located, decompressed, and verified by their hash before a byte is handed out (G6).

use std::io;
use std::ops::{Deref, Range};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use super::{Inner, SharedIndex, Store, lock, place_of};
use crate::error::GetError;
use crate::frame::{Frame, HEADER_LEN, Header};
use crate::hash::{ContentHash, Kind};
use crate::index::{Index, Location, ObjectVisitor};
use crate::pack::Class;
use crate::vfs::read_exact_at;

/// The bytes of an object, verified. Keeps its frame in memory.
#[derive(Debug, Clone)]
pub struct Object {
    frame: Arc<Frame>,
    range: Range<usize>,
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
        let visit: &mut ObjectVisitor<'_> = &mut |id, location| visit(id, location.kind);
        let result = self.inner.index().objects(from, to, visit);
        result.map_err(|error| GetError::Index(error.0))
    }
}

impl Inner {
    pub(crate) fn locate(&self, id: &ContentHash) -> Result<Option<Location>, GetError> {
        if let Some(location) = self.pending.location(id) {
            return Ok(Some(location));
        }
        self.locate_indexed(id)
    }

    fn locate_indexed(&self, id: &ContentHash) -> Result<Option<Location>, GetError> {
        match self.index().lookup(id) {
            Ok(found) => Ok(found),
            Err(error) => match self.replace_index(&error.0) {
                Some(index) => index.lookup(id).map_err(|error| GetError::Index(error.0)),
                None => Err(GetError::Index(error.0)),
            },
        }
    }

    /// Whether the index knows an object and nothing is known against it. Called with a lock of `pending`
    /// in hand.
    pub(super) fn is_sound(&self, id: &ContentHash) -> Result<bool, GetError> {
        let Some(location) = self.locate_indexed(id)? else { return Ok(false) };
        let damage = lock(&self.damage);
        if damage.is_empty() {
            return Ok(true);
        }
        let bad_pack = self.table.name(location.pack).is_none_or(|name| damage.packs.contains(&name));
        Ok(!bad_pack && !damage.objects.contains(id))
    }

    /// Whether an object reads well where it lies now.
    pub(super) fn read_sound(&self, id: &ContentHash) -> bool {
        let Ok(Some(location)) = self.locate(id) else { return false };
        self.read_at(&location, id).is_ok()
    }

    pub(crate) fn get(&self, kind: Kind, id: &ContentHash) -> Result<Object, GetError> {
        let first = match self.locate(id)? {
            Some(location) if location.kind != kind => {
                return Err(GetError::WrongKind { id: *id, wanted: kind, found: location.kind });
            }
            Some(location) => self.read_at(&location, id),
            None => Err(GetError::Missing(*id)),
        };
        let Err(error) = first else { return first };
        if !error.is_damage() {
            return Err(error);
        }
        if let Some(object) = self.look_again(kind, id) {
            return Ok(object);
        }
        lock(&self.damage).note(*id);
        Err(error)
    }

    /// Before anything is called damage: the packs themselves are asked, once, where everything lies.
    fn look_again(&self, kind: Kind, id: &ContentHash) -> Option<Object> {
        let index = self.index_from_packs()?;
        let location = index.lookup(id).ok()??;
        let object = self.read_at(&location, id).ok().filter(|_| location.kind == kind)?;
        self.replace_index("it does not say where objects lie");
        Some(object)
    }

    fn index_from_packs(&self) -> Option<Arc<super::MemoryIndex>> {
        let build = || {
            let head = match &self.writer {
                Some(writer) => writer.head(),
                None => super::read_head(&*self.place.vfs).ok()?,
            };
            let survey = super::survey(&*self.place.vfs, &head).ok()?;
            let index = super::recover::index_from_packs(&*self.place.vfs, &survey, &self.table).ok()?;
            Some(Arc::new(index))
        };
        self.second_index.get_or_init(build).clone()
    }

    /// Puts the packs' own account in the place of an index that is wrong. On disk it is moved aside by the
    /// next writer that finds it so, or now if this is one.
    fn replace_index(&self, cause: &str) -> Option<Arc<dyn Index>> {
        let index: Arc<dyn Index> = self.index_from_packs()?;
        let mut shared = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&shared.0, &index) {
            self.warn(format!("index: {cause}: using the packs instead, and building it again at the next command"));
            *shared = SharedIndex(Arc::clone(&index));
            if self.writer.is_some()
                && let Err(error) = super::recover::move_aside(&self.place.index_dir)
            {
                self.warn(error.to_string());
            }
        }
        Some(index)
    }

    fn read_at(&self, location: &Location, id: &ContentHash) -> Result<Object, GetError> {
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
        let frame = Arc::new(self.read_frame(location, id)?);
        self.frames.put(place, &frame);
        Ok(frame)
    }

    fn read_frame(&self, location: &Location, id: &ContentHash) -> Result<Frame, GetError> {
        let corrupt = |cause: String| GetError::Corrupt {
            id: *id,
            place: place_of(&self.table, location.pack, location.offset),
            cause,
        };
        let io = |source: io::Error| match source.kind() {
            io::ErrorKind::UnexpectedEof => corrupt("the pack is cut off".to_owned()),
            io::ErrorKind::NotFound => corrupt("the pack is missing".to_owned()),
            _ => GetError::Io { path: self.pack_path(location), source },
        };
        let file = self.table.file(location.pack).map_err(io)?;
        let offset = u64::from(location.offset);
        let mut fixed = [0; HEADER_LEN];
        read_exact_at(&*file, &mut fixed, offset).map_err(io)?;
        let header = Header::parse(&fixed).map_err(corrupt)?;
        let mut rest = vec![0; header.table_len() + header.stored_len as usize];
        read_exact_at(&*file, &mut rest, offset + HEADER_LEN as u64).map_err(io)?;
        let (table, payload) = rest.split_at(header.table_len());
        let slots = header.table(&fixed, table, Class::of(location.kind)).map_err(corrupt)?;
        Frame::decode(&header, slots, payload).map_err(corrupt)
    }

    fn pack_path(&self, location: &Location) -> PathBuf {
        self.table.name(location.pack).map_or_else(|| PathBuf::from("packs"), super::PackName::sealed_path)
    }
}
