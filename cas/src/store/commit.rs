//! The step that makes everything durable: G1 and G5 of `docs/guarantees.md`.
//!
//! The order is the promise: frames, fdatasync of the packs, their directory, `HEAD`; only then the index.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::append::{Appender, SyncedFile, Writer, put_error};
use super::{Inner, lock};
use crate::error::PutError;
use crate::hash::ContentHash;
use crate::head::{Head, Mark};
use crate::index::{IndexUpdate, IndexedPack, Location, PackNumber};
use crate::pack::{Class, PackName};
use crate::rows::RowBatch;
use crate::testing::mistake;
use crate::vfs::replace;

/// An open pack whose mark is to move.
#[derive(Debug)]
struct Grown {
    name: PackName,
    number: PackNumber,
    class: Class,
    serial: u64,
    file: Arc<SyncedFile>,
    len: u64,
    objects: u32,
}

impl From<&Appender> for Grown {
    fn from(pack: &Appender) -> Self {
        let Appender { name, number, class, serial, len, objects, .. } = *pack;
        Self { name, number, class, serial, file: Arc::clone(&pack.file), len, objects }
    }
}

impl Inner {
    /// Moves the marks, with the head as it is.
    pub(super) fn checkpoint(self: &Arc<Self>) -> Result<(), PutError> {
        let writer = self.writer()?;
        let _one_at_a_time = lock(&writer.commit);
        // Another thread may have done it meanwhile.
        if self.pending.len() < writer.checkpoint_at.load(Ordering::Relaxed) {
            return Ok(());
        }
        let head = writer.head().head;
        self.commit_now(writer, head, RowBatch::default())?;
        // What could not be indexed stays: that must not make every frame a checkpoint.
        writer.checkpoint_at.store(self.pending.len() + self.limits.pending_max, Ordering::Relaxed);
        Ok(())
    }

    /// Makes everything appended so far durable and moves the head. On success it is acknowledged.
    pub(super) fn commit(self: &Arc<Self>, head: Option<ContentHash>, rows: RowBatch) -> Result<(), PutError> {
        let writer = self.writer()?;
        let _one_at_a_time = lock(&writer.commit);
        self.commit_now(writer, head, rows)
    }

    /// Makes everything appended so far durable, with the head as it is.
    pub(crate) fn commit_as_is(self: &Arc<Self>) -> Result<(), PutError> {
        let writer = self.writer()?;
        let _one_at_a_time = lock(&writer.commit);
        self.commit_now(writer, writer.head().head, RowBatch::default())
    }

    /// Takes the marks of packs away that are to go: what is left of them without a mark is nothing. Durable on return.
    pub(crate) fn drop_marks(&self, packs: &HashSet<PackName>) -> Result<(), PutError> {
        let writer = self.writer()?;
        let _one_at_a_time = lock(&writer.commit);
        writer.check()?;
        let mut head = writer.head();
        let before = head.marks.len();
        head.marks.retain(|mark| !packs.contains(&mark.pack));
        if head.marks.len() == before {
            return Ok(());
        }
        head.generation += 1;
        self.replace_head(writer, head.clone())?;
        self.index_written(Vec::new(), Vec::new(), RowBatch::default(), Some(head.generation));
        Ok(())
    }

    fn replace_head(&self, writer: &Writer, next: Head) -> Result<(), PutError> {
        let replaced = replace(&*self.place.vfs, Path::new("HEAD"), &next.encode(), 0o644);
        replaced.map_err(|source| writer.poison(put_error("HEAD")(source)))?;
        *lock(&writer.head) = next;
        Ok(())
    }

    fn commit_now(&self, writer: &Writer, head: Option<ContentHash>, rows: RowBatch) -> Result<(), PutError> {
        writer.check()?;
        let grown = self.grown(writer)?;
        let synced = if mistake("an acknowledgement before the sync") { Ok(()) } else { self.sync_files(&grown) };
        synced.map_err(|error| writer.poison(error))?;
        if writer.new_names.swap(false, Ordering::AcqRel) {
            let synced = self.place.vfs.sync_dir(Path::new("packs"));
            synced.map_err(|source| writer.poison(put_error("packs")(source)))?;
        }
        let next = next_head(writer, head, &grown);
        let mut generation = None;
        if let Some(next) = next {
            generation = Some(next.generation);
            self.replace_head(writer, next)?;
        }
        // Acknowledged. Only what lies before the new marks: more may have been appended meanwhile.
        let before_mark = |(_, location): &(_, Location)| {
            grown.iter().any(|pack| pack.number == location.pack && u64::from(location.offset) < pack.len)
        };
        let objects = self.pending.all_written(before_mark);
        self.index_written(objects, known(writer, &grown), rows, generation);
        Ok(())
    }

    /// Open packs that hold what no mark vouches for yet. Full packs are sealed when this returns.
    fn grown(&self, writer: &Writer) -> Result<Vec<Grown>, PutError> {
        let (mut grown, seals) = {
            // Both at once: an object and what refers to it are seen together.
            let guards: Vec<_> = writer.appenders.iter().map(lock).collect();
            let grown: Vec<Grown> = guards.iter().filter_map(|guard| guard.as_ref()).map(Grown::from).collect();
            (grown, std::mem::take(&mut *lock(&writer.seals)))
        };
        writer.join_writeback();
        Self::join_seals(writer, seals)?;
        grown.extend(lock(&writer.retired).drain(..).map(|pack| Grown::from(&*pack)));
        let head = writer.head();
        let mark = |name| head.marks.iter().find(|mark| mark.pack == name).map_or(0, |mark| mark.len);
        grown.retain(|pack| pack.len > mark(pack.name));
        Ok(grown)
    }

    /// Syncs data and metadata pack side by side.
    fn sync_files(&self, files: &[Grown]) -> Result<(), PutError> {
        let sync = |grown: &Grown| grown.file.sync().map_err(put_error(grown.name.open_path()));
        let [first, rest @ ..] = files else { return Ok(()) };
        if rest.is_empty() || !self.limits.threads {
            return files.iter().try_for_each(sync);
        }
        std::thread::scope(|scope| {
            let other = std::thread::Builder::new().spawn_scoped(scope, || sync(first));
            let here = rest.iter().try_for_each(sync);
            let there = match other {
                Ok(other) => other.join().unwrap_or_else(|_| Err(PutError::Poisoned("a sync failed".to_owned()))),
                Err(_) => sync(first),
            };
            there.and(here)
        })
    }

    /// Hands objects over to the index. They are durable: if the index fails, it is brought up to date at
    /// the next open, and until then they stay in memory.
    pub(super) fn index_written(
        &self,
        objects: Vec<(ContentHash, Location)>,
        packs: Vec<IndexedPack>,
        rows: RowBatch,
        generation: Option<u64>,
    ) {
        let _writes = lock(&self.index_writes);
        let update = IndexUpdate { objects: objects.clone(), packs, rows, generation, ..IndexUpdate::default() };
        if update.is_empty() {
            return;
        }
        match self.with_index(|index| index.apply(update)) {
            Ok(()) => self.pending.indexed(&objects),
            Err(error) => self.index_refused(&error),
        }
    }

    /// Ends all threads that work for this store.
    pub(super) fn wind_up(&self) {
        let Ok(writer) = self.writer() else { return };
        let seals = std::mem::take(&mut *lock(&writer.seals));
        drop(Self::join_seals(writer, seals));
        writer.join_helpers();
        drop(self.with_index(|index| index.settle()));
    }
}

fn is_sealed(writer: &Writer, name: PackName) -> bool {
    lock(&writer.sealed).contains(&name)
}

/// The head to be written; `None` if it would say nothing new.
fn next_head(writer: &Writer, head: Option<ContentHash>, grown: &[Grown]) -> Option<Head> {
    let now = writer.head();
    if grown.is_empty() && now.head == head {
        return None;
    }
    let mut marks = now.marks;
    marks.retain(|mark| grown.iter().all(|pack| pack.name != mark.pack));
    marks.extend(grown.iter().map(|pack| Mark { pack: pack.name, class: pack.class, len: pack.len }));
    marks.retain(|mark| !is_sealed(writer, mark.pack));
    marks.sort_by_key(|mark| mark.pack);
    Some(Head { generation: now.generation + 1, head, marks })
}

/// What the index is to know of packs whose marks moved. One that was sealed meanwhile has been indexed as a whole.
fn known(writer: &Writer, grown: &[Grown]) -> Vec<IndexedPack> {
    let open = grown.iter().filter(|pack| !is_sealed(writer, pack.name));
    let known = open.map(|pack| IndexedPack {
        name: pack.name,
        number: pack.number,
        class: Some(pack.class),
        serial: pack.serial,
        len: pack.len,
        objects: pack.objects,
    });
    known.collect()
}
