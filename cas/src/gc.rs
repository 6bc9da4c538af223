//! Collection: what nothing refers to goes.
//!
//! First what is live is marked, then it is decided what becomes of each pack, then that is carried out in slices:
//! [`Store::gc`], [`Gc::mark`], [`Gc::plan`], [`Gc::apply`]. Nothing is removed that can be reached from a root, or that
//! is claimed by a session, whatever runs beside (G7 of `docs/guarantees.md`); no clock is asked. What cannot be read
//! is never taken for nothing.
//!
//! Left to others: to name the roots. Whoever makes a root of something that is none, and that no session has claimed,
//! must not do so beside a collection.

mod copy;
mod live;
mod mark;
mod plan;
mod sweep;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

pub use live::Use;
pub(crate) use live::{LiveSet, Noted};
pub use mark::Step;
pub use plan::{Facts, Fate, Plan, Planned};

use crate::error::{GetError, OpenError, PutError};
use crate::hash::{ContentHash, Kind};
use crate::index::{Index, PackNumber};
use crate::pack::PackName;
use crate::pin;
use crate::rows::RowBatch;
use crate::store::{Inner, Store};
use crate::testing::mistake;
use live::PackLive;
use mark::{Marked, mark};
use sweep::Sweep;

/// Why a collection ended early. What was removed until then was garbage.
#[derive(Debug, thiserror::Error)]
pub enum GcError {
    /// Something that is live cannot be read. Nothing was removed.
    #[error(transparent)]
    Get(#[from] GetError),
    /// Something cannot be written.
    #[error(transparent)]
    Put(#[from] PutError),
    /// The roots cannot be read.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// Another collection is under way.
    #[error("another collection is under way")]
    Busy,
    /// The caller wanted it to stop.
    #[error("stopped")]
    Stopped,
}

/// What must stay, with all that it refers to. Head and pins are added.
#[derive(Debug, Clone)]
pub struct Roots {
    /// What the head is.
    pub head: Kind,
    /// Other roots.
    pub objects: Vec<(Kind, ContentHash)>,
    /// Of these, when they are met, only what is of their own kind is followed.
    pub shallow: HashSet<ContentHash>,
    /// What may be missing: where the index does not know it, nothing is looked for below it.
    pub absent: HashSet<ContentHash>,
    /// What is known to be lost for good: where it is missing or bad, what only it leads to goes with it. What is left of it
    /// stays, and where it is good it is followed as ever.
    pub lost: HashSet<ContentHash>,
}

/// What a collection did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GcReport {
    /// Bytes of files that were unlinked, some of them perhaps condemned by an earlier collection.
    pub unlinked_bytes: u64,
    /// Bytes of live objects that were written again.
    pub copied_bytes: u64,
    /// Bytes that are free as soon as nobody reads what was there before.
    pub waiting_bytes: u64,
    /// Packs whose live objects were copied.
    pub packs_rewritten: u64,
    /// Packs without a live object.
    pub packs_removed: u64,
    /// Live objects that no pack has in good order. Their packs stay.
    pub bad: Vec<ContentHash>,
}

/// A collection under way. As long as it is there, claims are noted.
#[derive(Debug)]
pub struct Gc<'a> {
    inner: &'a Arc<Inner>,
    live: Arc<LiveSet>,
    missing: Vec<PackName>,
    condemned: Vec<PackName>,
    /// The index at the end of marking.
    index: Option<SharedIndex>,
    marked: Marked,
    is_installed: bool,
}

struct SharedIndex(Arc<dyn Index>);

impl std::fmt::Debug for SharedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedIndex")
    }
}

impl Store {
    /// Begins a collection. Waits for sessions that have begun before, so it is not called by who has one.
    ///
    /// Roots are to be read after this. On a store that is open for reading it can mark and plan.
    pub fn gc(&self) -> Result<Gc<'_>, GcError> {
        let inner = &self.inner;
        if let Ok(writer) = inner.writer() {
            writer.check()?;
            inner.commit_as_is()?;
        }
        let io = |source| GetError::Io { path: PathBuf::from("packs"), source };
        let survey = inner.survey_now().map_err(io)?;
        let live = LiveSet::read(&*inner.place.vfs, &inner.table, &survey).map_err(io)?;
        let mut gc = Gc {
            inner,
            live: Arc::new(live),
            missing: survey.missing,
            condemned: survey.condemned,
            index: None,
            marked: Marked::default(),
            is_installed: false,
        };
        if self.is_writable() {
            gc.install()?;
        }
        Ok(gc)
    }
}

impl Gc<'_> {
    fn install(&mut self) -> Result<(), GcError> {
        let inner = self.inner;
        let mut is_free = false;
        // Who claims from now on is heard; who has claimed before is waited for, and then refers to it from a head.
        inner.sessions.outlive(|| {
            let _frozen = inner.pending.freeze();
            let mut collection = inner.collection.write().unwrap_or_else(PoisonError::into_inner);
            is_free = collection.is_none();
            if is_free {
                *collection = Some(Arc::clone(&self.live));
            }
        });
        self.is_installed = is_free;
        if is_free { Ok(()) } else { Err(GcError::Busy) }
    }

    /// Notes everything that the roots lead to. Fails if anything of it is missing, or is damaged and could lead on.
    pub fn mark(&mut self, mut roots: Roots, step: &Step<'_>) -> Result<(), GcError> {
        let head = match self.inner.writer() {
            Ok(writer) => writer.head().head,
            Err(_) => self.inner.head.head,
        };
        let heads = head.into_iter().chain(self.inner.sessions.heads());
        roots.objects.extend(heads.map(|id| (roots.head, id)));
        let pins = pin::all(&*self.inner.place.vfs)?;
        for pin in pins.into_iter().filter(|_| !mistake("a collection that ignores pins")) {
            roots.objects.extend(pin.roots);
        }
        if mistake("a collection without roots") {
            roots.objects.clear();
        }
        self.marked = mark(self.inner, &self.live, &roots, step)?;
        self.index = Some(SharedIndex(self.inner.index()));
        Ok(())
    }

    /// Whether an object is there, and has been marked or claimed.
    pub fn is_live(&self, id: &ContentHash) -> Result<bool, GetError> {
        let location = self.inner.locate(id)?;
        Ok(location.is_some_and(|location| self.live.is_live(&location)))
    }

    /// What is to be done. Before everything has been marked, that is nothing.
    pub fn plan(&self) -> Plan {
        match self.index {
            None => Plan::default(),
            Some(_) => {
                let Marked { unneeded, bad } = &self.marked;
                let listed = self.inner.listed_damage();
                let damaged = self.packs_of(unneeded.iter());
                // A pack with something bad that is needed stays, whatever else is in it.
                let stays = self.packs_of(listed.difference(unneeded).chain(bad));
                let facts =
                    |pack: &PackLive| Facts::of(pack, damaged.contains(&pack.number) && !stays.contains(&pack.number));
                Plan::new(self.live.packs().iter().map(facts), self.missing.clone())
            }
        }
    }

    /// Where the index has objects lie.
    fn packs_of<'i>(&self, ids: impl Iterator<Item = &'i ContentHash>) -> HashSet<PackNumber> {
        let locations = ids.filter_map(|id| self.inner.locate_indexed(id).ok().flatten());
        locations.map(|location| location.pack).collect()
    }

    /// Carries out a plan of this collection. `rows` change rows of crates above that point at what is not live.
    ///
    /// On an error, or when `step` ends it, what was removed until then stays removed, durably, and all else as it was.
    pub fn apply(mut self, plan: &Plan, rows: RowBatch, step: &Step<'_>) -> Result<GcReport, GcError> {
        let (inner, live) = (self.inner, Arc::clone(&self.live));
        inner.writer()?.check()?;
        let Some(index) = self.index.take() else { return Ok(GcReport::default()) };
        let waiting = std::mem::take(&mut self.condemned);
        let mut report = GcReport::default();
        report.bad.extend(&self.marked.bad);
        let mut sweep = Sweep { inner, live: &live, index: index.0, step, waiting, report };
        let swept = sweep.run(plan, rows).and_then(|()| sweep.unlink());
        let Sweep { waiting, mut report, .. } = sweep;
        // Whether or not it came to its end: what is gone is to stay gone.
        let synced = inner.place.vfs.sync_dir(Path::new("packs"));
        swept?;
        synced.map_err(|source| PutError::Io { path: PathBuf::from("packs"), source })?;
        for pack in waiting {
            report.waiting_bytes += inner.place.vfs.stat(&pack.condemned_path()).map_or(0, |stat| stat.size);
        }
        report.bad.sort_unstable();
        report.bad.dedup();
        inner.forget_damage(&self.marked.unneeded);
        inner.settle_damage(false);
        Ok(report)
    }
}

impl Drop for Gc<'_> {
    fn drop(&mut self) {
        if self.is_installed {
            *self.inner.collection.write().unwrap_or_else(PoisonError::into_inner) = None;
        }
    }
}
