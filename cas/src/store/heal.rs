//! What is done before an object is called missing or damaged: the packs themselves are asked for it.
//!
//! An index that turns out to be wrong is replaced by what the packs say, in memory, and on disk built again by the
//! next command that writes. A good index may still lead to a bad copy of an object that lies in two packs.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use super::packs::{PackFile, frames_of, open_pack};
use super::recover::{self, Recovery, locations};
use super::{Inner, Object, SharedIndex, Store, lock};
use crate::hash::{ContentHash, Kind};
use crate::index::memory::MemoryIndex;
use crate::index::{Index, Location};
use crate::pack::{Class, PackName, read_frame_table};
use crate::rows::RowError;

/// Objects that an index may not know before it is called wrong as a whole.
const ELSEWHERE_MAX: usize = 1 << 18;

/// Places of objects other than those that the index gives.
pub(super) type Elsewhere = HashMap<ContentHash, Vec<Location>>;

impl Store {
    /// Whether the index lacks objects that the packs hold: then what the packs say is put in its place. Reads the tables of all
    /// packs, once as long as the store is open.
    pub fn check_index(&self) -> bool {
        let inner = &self.inner;
        let index = inner.index();
        // A writer may have appended since the index was opened: what it is to know ends where it says.
        let Ok(known) = inner.look_up(|index| index.packs()) else { return false };
        let known: HashMap<PackName, u64> = known.into_iter().map(|pack| (pack.name, pack.len)).collect();
        let is_meant = |pack: PackName, offset: u64| known.get(&pack).is_some_and(|len| offset < *len);
        let Some(elsewhere) = inner.find_elsewhere(&is_meant) else { return false };
        let is_known = |id: &ContentHash| matches!(index.lookup(id), Ok(Some(_)));
        if !elsewhere.keys().all(is_known) {
            inner.replace_index(&index, "it does not know all that the packs hold");
        }
        !Arc::ptr_eq(&index, &inner.index())
    }
}

impl Inner {
    pub(crate) fn index(&self) -> Arc<dyn Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Runs something with the index while it cannot be replaced.
    pub(crate) fn with_index<T>(&self, run: impl FnOnce(&dyn Index) -> T) -> T {
        run(&*self.index.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    /// Looks something up; if the index turns out to be wrong, in what replaces it.
    pub(super) fn look_up<T>(&self, run: impl Fn(&dyn Index) -> Result<T, RowError>) -> Result<T, RowError> {
        let index = self.index();
        match run(&*index) {
            Err(error) if error.is_damage() => match self.replace_index(&index, error.cause()) {
                Some(index) => run(&*index),
                None => Err(error),
            },
            result => result,
        }
    }

    /// The index did not take what was written.
    pub(crate) fn index_refused(&self, error: &RowError) {
        if error.is_damage() {
            self.replace_index(&self.index(), error.cause());
        } else if !self.refused.swap(true, Ordering::Relaxed) {
            self.warn(format!("{error}: it will be brought up to date by the next command"));
        }
    }

    /// Puts what the packs say in the place of an index that is wrong. `None` if it cannot be had.
    fn replace_index(&self, wrong: &Arc<dyn Index>, cause: &str) -> Option<Arc<dyn Index>> {
        let mut shared = self.index.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&shared.0, wrong) {
            // Somebody else was faster.
            return Some(Arc::clone(&shared.0));
        }
        let index: Arc<dyn Index> = Arc::new(self.index_from_packs()?);
        let by = if self.writer.is_some() { "the next command" } else { "`filesync fsck --repair`" };
        self.warn(format!("index: {cause}: using the packs instead; {by} builds it again"));
        shared.0 = Arc::clone(&index);
        if self.writer.is_some()
            && let Err(error) = recover::move_aside(&self.place.index_dir)
        {
            self.warn(error.to_string());
        }
        Some(index)
    }

    fn index_from_packs(&self) -> Option<MemoryIndex> {
        let survey = self.survey_now().ok()?;
        let index = MemoryIndex::default();
        let mut recovery =
            Recovery { vfs: &*self.place.vfs, table: &self.table, warnings: &mut vec![], damaged: &mut vec![] };
        recovery.add_packs(&index, None, &survey, &[]).ok()?;
        Some(index)
    }

    /// An object that cannot be read where it was `tried`: from wherever else it lies.
    pub(super) fn look_again(&self, kind: Kind, id: &ContentHash, tried: Option<Location>) -> Option<Object> {
        if tried.is_some() && tried == self.moved(id) {
            // It has gone bad there, too; another copy may have been stored since.
            self.forget_moved([id]);
        }
        let places = self.elsewhere()?;
        let read = |location: &Location| {
            let object = self.read_at(location, id).ok().filter(|_| location.kind == kind)?;
            Some((*location, object))
        };
        // The index may be another one by now.
        let anew = [self.locate(id), self.locate_indexed(id)].into_iter().filter_map(|found| found.ok().flatten());
        if let Some((_, object)) = anew.filter(|location| tried != Some(*location)).find_map(|at| read(&at)) {
            return Some(object);
        }
        let (location, object) = places.get(id)?.iter().rev().find_map(read)?;
        let index = self.index();
        let indexed = index.lookup(id).ok().flatten();
        if indexed.is_some_and(|indexed| self.lies_at(id, &indexed)) {
            // There are two copies, and the younger one is bad.
            self.moved.write().unwrap_or_else(PoisonError::into_inner).insert(*id, location);
        } else if indexed != Some(location) {
            self.replace_index(&index, "it does not say where objects lie");
        }
        Some(object)
    }

    /// What [`Self::find_elsewhere`] finds; looked for once, unless the system refuses.
    fn elsewhere(&self) -> Option<Arc<Elsewhere>> {
        let mut kept = lock(&self.elsewhere);
        if kept.is_none() {
            *kept = self.find_elsewhere(&|_, _| true).map(Arc::new);
        }
        kept.clone()
    }

    /// Every copy of an object that the index does not lead to, in the frames that are meant.
    fn find_elsewhere(&self, is_meant: &dyn Fn(PackName, u64) -> bool) -> Option<Elsewhere> {
        let survey = self.survey_now().ok()?;
        let mut elsewhere = Elsewhere::new();
        let mut packs: Vec<&PackFile> = survey.packs.iter().collect();
        packs.sort_by_cached_key(|pack| recover::header(&*self.place.vfs, pack.name).ok().flatten().map(|h| h.serial));
        for pack in packs {
            let number = self.table.number(pack.name);
            let visited = frames_of(
                &*self.place.vfs,
                pack,
                0,
                &mut |frame| {
                    if !is_meant(pack.name, frame.offset) {
                        return Ok(());
                    }
                    for (id, location) in locations(number, &frame) {
                        let indexed = self.look_up(|index| index.lookup(&id)).map_err(std::io::Error::other)?;
                        if indexed != Some(location) {
                            elsewhere.entry(id).or_default().push(location);
                        }
                    }
                    if elsewhere.len() > ELSEWHERE_MAX {
                        // It lacks so much that there is no point in listing it.
                        elsewhere.clear();
                        self.replace_index(&self.index(), "it does not know what the packs hold");
                    }
                    Ok(())
                },
                &mut |_| {},
            );
            visited.ok()?;
        }
        Some(elsewhere)
    }

    /// Whether a frame begins at a location and lists the object there.
    fn lies_at(&self, id: &ContentHash, location: &Location) -> bool {
        let table = || {
            let file = open_pack(&*self.place.vfs, self.table.name(location.pack)?).ok()?;
            let (offset, class) = (u64::from(location.offset), Class::of(location.kind));
            let (_, frame) = read_frame_table(&*file, offset, file.len().ok()?, class).ok()?;
            Some(frame.slots.get(usize::from(location.slot))?.id == *id)
        };
        table().unwrap_or(false)
    }

    /// From here on these lie where the index says.
    pub(super) fn forget_moved<'i>(&self, ids: impl IntoIterator<Item = &'i ContentHash>) {
        if self.moved.read().unwrap_or_else(PoisonError::into_inner).is_empty() {
            return;
        }
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        for id in ids {
            moved.remove(id);
        }
    }

    pub(super) fn moved(&self, id: &ContentHash) -> Option<Location> {
        self.moved.read().unwrap_or_else(PoisonError::into_inner).get(id).copied()
    }
}

impl SharedIndex {
    pub(super) fn new(index: Arc<dyn Index>) -> std::sync::RwLock<Self> {
        std::sync::RwLock::new(Self(index))
    }
}
