//! Objects that have been come by: a bit for each, as far as the index says where they lie.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::error::GetError;
use crate::gc::{LiveSet, Noted};
use crate::hash::ContentHash;
use crate::index::Location;
use crate::store::{Inner, Store, lock};

/// What coming by an object found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeenAt {
    /// The first time, and the index says that it lies here.
    First(Location),
    /// The first time, and the index does not know it, or has it lie where something else does.
    Unknown,
    /// Not the first time.
    Again,
}

/// A set of objects, small enough for millions.
#[derive(Debug)]
pub struct Seen<'a> {
    inner: &'a Inner,
    packs: LiveSet,
    /// Those that lie in none of the packs that there were, or nowhere.
    others: Mutex<HashSet<ContentHash>>,
}

impl Store {
    /// An empty set, for coming by most of what there is.
    pub fn seen(&self) -> Result<Seen<'_>, GetError> {
        self.inner.index().load();
        Ok(Seen { inner: &self.inner, packs: self.live_set()?, others: Mutex::default() })
    }

    pub(super) fn live_set(&self) -> Result<LiveSet, GetError> {
        let io = |source| GetError::Io { path: PathBuf::from("packs"), source };
        let survey = self.inner.survey_now().map_err(io)?;
        LiveSet::read(&**self.vfs(), &self.inner.table, &survey).map_err(io)
    }
}

impl Seen<'_> {
    /// Comes by an object.
    pub fn see(&self, id: &ContentHash) -> Result<SeenAt, GetError> {
        let Some(location) = self.inner.locate(id)? else {
            return Ok(if lock(&self.others).insert(*id) { SeenAt::Unknown } else { SeenAt::Again });
        };
        let is_new = match self.packs.note(id, &location) {
            Noted::New => true,
            Noted::Known => false,
            Noted::Foreign => lock(&self.others).insert(*id),
            Noted::Unplaced if lock(&self.others).insert(*id) => return Ok(SeenAt::Unknown),
            Noted::Unplaced => false,
        };
        Ok(if is_new { SeenAt::First(location) } else { SeenAt::Again })
    }

    /// Whether an object has been come by.
    pub fn has(&self, id: &ContentHash) -> Result<bool, GetError> {
        let location = self.inner.locate(id)?;
        Ok(location.is_some_and(|location| self.packs.is_noted(id, &location)) || lock(&self.others).contains(id))
    }
}
