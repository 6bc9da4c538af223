//! Taking packs out of the store, in slices.
//!
//! The order of a slice is the promise. What is live is copied, synced and vouched for by `HEAD`. Then, while nobody
//! claims, it is seen that nothing else has come to be live, and from then on nothing may rely on these packs: an object
//! that lies only there counts as absent. Then the index moves, synced. Then the marks of packs that were open go, then
//! the packs are renamed, and unlinked if nobody reads. Cut off anywhere, a pack is either one of the store's, whole, or
//! none, and nothing that is needed lies only in it.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::{Arc, PoisonError};

use super::copy::Copier;
use super::live::{LiveSet, PackLive};
use super::mark::Step;
use super::plan::{Fate, Plan, Planned};
use super::{GcError, GcReport};
use crate::error::PutError;
use crate::hash::ContentHash;
use crate::index::{Index, IndexUpdate, PackNumber};
use crate::pack::PackName;
use crate::rows::{RowBatch, RowError};
use crate::store::packs::frames_of;
use crate::store::{Inner, lock};

/// Packs of a slice.
const SLICE_PACKS: usize = 64;
/// Rows that are removed from the index at a time.
const BATCH: usize = 50_000;
/// How often what has come to be live meanwhile is copied, before a pack is left for the next collection.
const TRIES: usize = 8;

/// Carries out a plan.
pub struct Sweep<'a> {
    pub inner: &'a Arc<Inner>,
    pub live: &'a LiveSet,
    /// The index that the objects were marked by.
    pub index: Arc<dyn Index>,
    pub step: &'a Step<'a>,
    /// Condemned packs that are still there.
    pub waiting: Vec<PackName>,
    pub report: GcReport,
}

fn index_error(cause: &RowError) -> PutError {
    PutError::Index(cause.cause().to_owned())
}

impl Sweep<'_> {
    /// Removes what the plan says. `rows` are changes to rows that point at what goes.
    pub fn run(&mut self, plan: &Plan, rows: RowBatch) -> Result<(), GcError> {
        // Before anything that they point at; what is applied later does not survive without it.
        self.with_index(|index| index.apply(IndexUpdate { rows, ..IndexUpdate::default() }))?;
        self.inner.drop_marks(&plan.missing.iter().copied().collect())?;
        let mut copier = Copier::new(self.inner, self.live, self.step);
        let mut slice: Vec<&PackLive> = Vec::new();
        let mut to_copy = 0;
        for Planned { facts, fate } in plan.packs.iter().filter(|pack| pack.fate != Fate::Keep) {
            let pack = self.live.packs().iter().find(|pack| pack.file.name == facts.name);
            let Some(pack) = pack else { continue };
            if !self.inner.detach(&pack.file)? {
                continue;
            }
            slice.push(pack);
            to_copy += if *fate == Fate::Rewrite { facts.usage.live_stored } else { 0 };
            if to_copy >= self.inner.limits.seal_len || slice.len() >= SLICE_PACKS {
                self.slice(&mut copier, std::mem::take(&mut slice))?;
                to_copy = 0;
            }
        }
        self.slice(&mut copier, slice)?;
        self.report.bad.append(&mut lock(&copier.bad));
        Ok(())
    }

    fn slice(&mut self, copier: &mut Copier<'_>, packs: Vec<&PackLive>) -> Result<(), GcError> {
        let mut left = packs;
        for _ in 0..TRIES {
            for pack in &left {
                copier.copy(pack)?;
            }
            copier.flush()?;
            self.report.copied_bytes = *copier.appended.get_mut();
            // What holds a bad object stays, and all else that was copied out of it is there twice.
            left.retain(|pack| !pack.is_needed());
            self.inner.commit_as_is()?;
            let done = self.close(&left)?;
            self.condemn(&done)?;
            left.retain(|pack| !done.iter().any(|done| done.number == pack.number));
            if left.is_empty() {
                break;
            }
        }
        if (self.step)(0, 0).is_break() { Err(GcError::Stopped) } else { Ok(()) }
    }

    /// From here on nothing may rely on these packs; those of which that can be said.
    fn close<'p>(&self, packs: &[&'p PackLive]) -> Result<Vec<&'p PackLive>, GcError> {
        // A claim sets its bit, and asks whether the pack is condemned, with this lock in hand.
        let frozen = self.inner.pending.freeze();
        if !Arc::ptr_eq(&self.index, &self.inner.index()) {
            return Err(PutError::Index("it was found wrong meanwhile".to_owned()).into());
        }
        let done: Vec<&PackLive> = packs.iter().copied().filter(|pack| pack.is_all_copied()).collect();
        let numbers: HashSet<PackNumber> = done.iter().map(|pack| pack.number).collect();
        if frozen.is_written_in(&numbers) {
            return Err(PutError::Index("it does not know all that was written".to_owned()).into());
        }
        self.inner.condemned.write().unwrap_or_else(PoisonError::into_inner).extend(numbers);
        Ok(done)
    }

    fn condemn(&mut self, packs: &[&PackLive]) -> Result<(), GcError> {
        if packs.is_empty() {
            return Ok(());
        }
        let numbers: HashSet<PackNumber> = packs.iter().map(|pack| pack.number).collect();
        let names: HashSet<PackName> = packs.iter().map(|pack| pack.file.name).collect();
        self.move_index(packs, &numbers, &names)?;
        self.inner.drop_marks(&names)?;
        for pack in packs {
            self.inner.rename_condemned(&pack.file)?;
            let usage = pack.usage();
            self.report.packs_rewritten += u64::from(usage.live_objects > 0);
            self.report.packs_removed += u64::from(usage.live_objects == 0);
        }
        self.inner.forget_packs(&numbers, &names);
        self.waiting.extend(names);
        self.unlink()
    }

    /// Unlinks what waits, if nobody reads.
    pub fn unlink(&mut self) -> Result<(), GcError> {
        if let Some(bytes) = self.inner.unlink_condemned(&self.waiting)? {
            self.report.unlinked_bytes += bytes;
            self.waiting.clear();
        }
        Ok(())
    }

    /// Takes all that lies in these packs out of the index. Survives a power cut on return.
    fn move_index(
        &self,
        packs: &[&PackLive],
        numbers: &HashSet<PackNumber>,
        names: &HashSet<PackName>,
    ) -> Result<(), GcError> {
        // What is decided by a look must be true when it is written.
        let _writes = lock(&self.inner.index_writes);
        let mut removed = Vec::new();
        for pack in packs {
            let mut ids = Vec::new();
            let mut take = |frame: crate::pack::FrameAt| {
                ids.extend(frame.slots.iter().map(|slot| slot.id));
                Ok(())
            };
            let path = pack.file.path();
            let read = frames_of(&*self.inner.place.vfs, &pack.file, 0, &mut take, &mut |_| {});
            read.map_err(|source| PutError::Io { path, source })?;
            for id in ids {
                self.remove(id, numbers, &mut removed)?;
                if removed.len() >= BATCH {
                    self.apply_removed(std::mem::take(&mut removed))?;
                }
            }
        }
        if packs.iter().any(|pack| !pack.is_whole) {
            self.remove_all_in(numbers, &mut removed)?;
        }
        self.apply_removed(removed)?;
        let dropped = Some((names.iter().copied().collect(), self.inner.table.next_number()));
        self.with_index(|index| index.apply_durably(IndexUpdate { dropped, ..IndexUpdate::default() }))
    }

    /// Notes the row of an object for removal if it leads into these packs.
    fn remove(
        &self,
        id: ContentHash,
        numbers: &HashSet<PackNumber>,
        removed: &mut Vec<ContentHash>,
    ) -> Result<(), GcError> {
        let Some(found) = self.with_index(|index| index.lookup(&id))? else { return Ok(()) };
        if !numbers.contains(&found.pack) {
            return Ok(());
        }
        if self.live.is_noted(&id, &found) {
            // It was copied, and the index does not say so: it did not take what it was given.
            return Err(PutError::Index("it did not take what was copied".to_owned()).into());
        }
        removed.push(id);
        Ok(())
    }

    /// Of packs with frames that cannot be made out, only the index itself can tell what it believes to lie there.
    fn remove_all_in(&self, numbers: &HashSet<PackNumber>, removed: &mut Vec<ContentHash>) -> Result<(), GcError> {
        let (first, last) = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([0xff; 32]));
        self.with_index(|index| {
            index.objects(&first, &last, &mut |id, location| {
                if numbers.contains(&location.pack) {
                    removed.push(id);
                }
                ControlFlow::Continue(())
            })
        })
    }

    fn apply_removed(&self, removed: Vec<ContentHash>) -> Result<(), GcError> {
        self.with_index(|index| index.apply(IndexUpdate { removed, ..IndexUpdate::default() }))
    }

    fn with_index<T>(&self, run: impl FnOnce(&dyn Index) -> Result<T, RowError>) -> Result<T, GcError> {
        let result = run(&*self.index);
        result.map_err(|error| {
            self.inner.index_refused(&error);
            index_error(&error).into()
        })
    }
}
