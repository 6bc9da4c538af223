//! Packs that grow: appending frames, sealing full packs, and the step that makes it all durable.
//!
//! The order is the promise (`docs/guarantees.md`, G1 and G5):
//! frames, fdatasync of the packs, their directory, `HEAD`; only then the index. A pack is sealed in the
//! order frames, fdatasync, footer, fdatasync, rename, directory: a pack with the name of a sealed one is whole.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use super::Inner;
use super::recover::locations;
use crate::error::PutError;
use crate::frame::Slot;
use crate::hash::ContentHash;
use crate::head::{Head, Mark};
use crate::index::{IndexUpdate, IndexedPack, Location, PackNumber};
use crate::pack::{
    Class, FrameAt, PACK_HEADER_LEN, PackHeader, PackName, SEAL_LEN, encode_footer, read_pack_header, walk_frames,
};
use crate::rows::RowBatch;
use crate::vfs::{Open, Rename, VfsFile, replace, write_all_at};

/// Objects in a pack at which it is sealed, however small they are: so that its footer stays small.
const SEAL_COUNT: usize = 1 << 18;
/// Written and not yet indexed objects at which marks move on, so that memory does not grow with the input.
const PENDING_MAX: usize = 1 << 17;
/// Appended bytes after which a helper thread begins to write them out, so that the last sync is short.
const WRITEBACK_LEN: u64 = 32 << 20;
/// Seals that may be under way at once.
const SEALS_MAX: usize = 2;

/// A pack that frames are appended to.
#[derive(Debug)]
pub struct Appender {
    name: PackName,
    number: PackNumber,
    class: Class,
    file: Arc<dyn VfsFile>,
    len: u64,
    count: usize,
    /// Length at the last sync that this process asked for.
    synced: u64,
}

/// Everything of a store that only its writer has.
#[derive(Debug, Default)]
pub struct Writer {
    appenders: [Mutex<Option<Appender>>; 2],
    head: Mutex<Head>,
    /// Held while marks move; never taken with an appender in hand.
    commit: Mutex<()>,
    seals: Mutex<Vec<JoinHandle<()>>>,
    writeback: Mutex<Option<JoinHandle<()>>>,
    /// A pack was made since its directory was last synced.
    new_names: std::sync::atomic::AtomicBool,
    /// Serial of the next pack; 0 while not yet known.
    next_serial: AtomicU64,
    poisoned: Mutex<Option<String>>,
    /// Bytes appended by this process.
    pub appended: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn put_error(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PutError {
    let path = path.into();
    |source| PutError::Io { path, source }
}

impl Writer {
    /// A writer that goes on from `head`.
    pub fn new(head: Head) -> Self {
        Self { head: Mutex::new(head), ..Self::default() }
    }

    /// What `HEAD` says.
    pub fn head(&self) -> Head {
        lock(&self.head).clone()
    }

    /// Fails if an earlier sync failed: what is on disk is not known any more.
    pub fn check(&self) -> Result<(), PutError> {
        match &*lock(&self.poisoned) {
            Some(cause) => Err(PutError::Poisoned(cause.clone())),
            None => Ok(()),
        }
    }

    fn poison(&self, error: PutError) -> PutError {
        lock(&self.poisoned).get_or_insert_with(|| error.to_string());
        error
    }

    /// Goes on in a pack that was open when the store was opened.
    pub fn resume(&self, class: Class, name: PackName, number: PackNumber, file: Arc<dyn VfsFile>, len: u64) {
        let appender = Appender { name, number, class, file, len, count: 0, synced: len };
        *lock(&self.appenders[class as usize]) = Some(appender);
    }
}

impl Inner {
    /// Appends a frame. Not durable before [`Self::commit`].
    pub(super) fn append(self: &Arc<Self>, class: Class, frame: &[u8], slots: &[Slot]) -> Result<(), PutError> {
        let writer = self.writer()?;
        writer.check()?;
        {
            let mut current = lock(&writer.appenders[class as usize]);
            if current.is_none() {
                *current = Some(self.new_pack(writer, class)?);
            }
            let Some(appender) = current.as_mut() else { return Err(PutError::ReadOnly) };
            let path = appender.name.open_path();
            write_all_at(&*appender.file, frame, appender.len).map_err(put_error(path))?;
            let at = FrameAt { offset: appender.len, raw_len: 0, stored_len: 0, slots: slots.to_vec() };
            locations(appender.number, &at).for_each(|(id, location)| self.pending.written(id, location));
            appender.len += frame.len() as u64;
            appender.count += slots.len();
            writer.appended.fetch_add(frame.len() as u64, Ordering::Relaxed);
            self.start_writeback(writer, appender);
            let full = appender.len >= SEAL_LEN || appender.count >= SEAL_COUNT;
            // With the appender in hand: a commit sees either the open pack or its seal under way.
            if let Some(full) = current.take_if(|_| full) {
                self.seal(writer, full);
            }
        }
        if self.pending.len() > PENDING_MAX {
            self.checkpoint()?;
        }
        Ok(())
    }

    fn new_pack(&self, writer: &Writer, class: Class) -> Result<Appender, PutError> {
        let name = PackName::random().map_err(put_error("packs"))?;
        let path = name.open_path();
        let serial = self.next_serial(writer);
        let header = PackHeader { class, serial, repository: self.params.repository, name }.encode();
        let file = self.place.vfs.open(&path, Open::Create { mode: 0o644 }).map_err(put_error(&path))?;
        write_all_at(&*file, &header, 0).map_err(put_error(&path))?;
        writer.new_names.store(true, Ordering::Release);
        let number = self.table.number(name);
        Ok(Appender { name, number, class, file, len: header.len() as u64, count: 0, synced: 0 })
    }

    fn next_serial(&self, writer: &Writer) -> u64 {
        if writer.next_serial.load(Ordering::Acquire) == 0 {
            let last = self.survey.packs.iter().filter_map(|pack| {
                let file = super::packs::open_pack(&*self.place.vfs, pack.name).ok()?;
                read_pack_header(&*file).ok().map(|header| header.serial)
            });
            let next = last.max().unwrap_or(0) + 1;
            // Both classes may come here at once; whoever is second finds it done.
            let _first_wins = writer.next_serial.compare_exchange(0, next, Ordering::AcqRel, Ordering::Acquire);
        }
        writer.next_serial.fetch_add(1, Ordering::AcqRel)
    }

    /// Lets a helper thread sync what has been appended so far. It promises nothing: the sync before the
    /// acknowledgement is done all the same, and is short.
    fn start_writeback(&self, writer: &Writer, appender: &mut Appender) {
        if appender.len - appender.synced < WRITEBACK_LEN {
            return;
        }
        let mut running = lock(&writer.writeback);
        if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        appender.synced = appender.len;
        let file = Arc::clone(&appender.file);
        *running = std::thread::Builder::new().name("writeback".to_owned()).spawn(move || drop(file.sync_data())).ok();
    }

    /// Seals a full pack in the background; at most a few at a time.
    fn seal(self: &Arc<Self>, writer: &Writer, pack: Appender) {
        let mut seals = lock(&writer.seals);
        while seals.len() >= SEALS_MAX {
            drop(seals.remove(0).join());
        }
        let (inner, pack) = (Arc::clone(self), Arc::new(pack));
        let in_background = Arc::clone(&pack);
        let thread = std::thread::Builder::new().name("seal".to_owned()).spawn(move || {
            if let (Ok(writer), Err(error)) = (inner.writer(), inner.seal_now(&in_background)) {
                writer.poison(error);
            }
        });
        match thread {
            Ok(thread) => seals.push(thread),
            // No thread to be had: then here and now.
            Err(_) => {
                if let Err(error) = self.seal_now(&pack) {
                    writer.poison(error);
                }
            }
        }
    }

    fn seal_now(&self, pack: &Appender) -> Result<(), PutError> {
        let vfs = &*self.place.vfs;
        let path = pack.name.open_path();
        let io = || put_error(path.clone());
        pack.file.sync_data().map_err(io())?;
        let mut frames = Vec::new();
        let mut bad = None;
        walk_frames::<io::Error>(
            &*pack.file,
            pack.class,
            PACK_HEADER_LEN,
            pack.len,
            &mut |_, frame| {
                frames.push(frame);
                Ok(())
            },
            &mut |at, cause| {
                bad.get_or_insert(format!("at byte {at}: {cause}"));
                Ok(())
            },
        )
        .map_err(io())?;
        if let Some(cause) = bad {
            // It stays open with its mark: damage is never sealed over.
            return Err(io()(io::Error::other(format!("damaged: {cause}"))));
        }
        let footer = encode_footer(&frames);
        write_all_at(&*pack.file, &footer, pack.len).map_err(io())?;
        pack.file.sync_data().map_err(io())?;
        vfs.rename(&path, &pack.name.sealed_path(), Rename::NoReplace).map_err(io())?;
        vfs.sync_dir(Path::new("packs")).map_err(put_error("packs"))?;
        if let Ok(writer) = self.writer() {
            lock(&writer.head).marks.retain(|mark| mark.pack != pack.name);
        }
        let objects: Vec<_> = frames.iter().flat_map(|frame| locations(pack.number, frame)).collect();
        let len = pack.len + footer.len() as u64;
        self.index_written(
            objects,
            vec![IndexedPack { name: pack.name, number: pack.number, len }],
            RowBatch::default(),
        );
        Ok(())
    }

    fn join_seals(writer: &Writer, seals: Vec<JoinHandle<()>>) -> Result<(), PutError> {
        for seal in seals {
            if seal.join().is_err() {
                return Err(writer.poison(PutError::Poisoned("a thread that seals packs failed".to_owned())));
            }
        }
        writer.check()
    }

    /// Moves the marks, with the head as it is.
    pub(super) fn checkpoint(self: &Arc<Self>) -> Result<(), PutError> {
        let head = lock(&self.writer()?.head).head;
        self.commit(head, RowBatch::default())
    }

    /// Makes everything appended so far durable and moves the head. On success it is acknowledged.
    pub(super) fn commit(self: &Arc<Self>, head: Option<ContentHash>, rows: RowBatch) -> Result<(), PutError> {
        let writer = self.writer()?;
        let _one_at_a_time = lock(&writer.commit);
        let Since { files, objects, seals } = self.since_marks(writer);
        Self::join_seals(writer, seals)?;
        sync_files(&files).map_err(|error| writer.poison(error))?;
        if writer.new_names.swap(false, Ordering::AcqRel) {
            let synced = self.place.vfs.sync_dir(Path::new("packs"));
            synced.map_err(|source| writer.poison(put_error("packs")(source)))?;
        }
        let next = next_head(&writer.head(), head, &files);
        if let Some(next) = next {
            let replaced = replace(&*self.place.vfs, Path::new("HEAD"), &next.encode(), 0o644);
            replaced.map_err(|source| writer.poison(put_error("HEAD")(source)))?;
            *lock(&writer.head) = next;
        }
        let packs = files.iter().map(|file| IndexedPack { name: file.name, number: file.number, len: file.len });
        self.index_written(objects, packs.collect(), rows);
        Ok(())
    }

    /// Everything that has been appended and that no mark vouches for yet.
    fn since_marks(&self, writer: &Writer) -> Since {
        let guards: Vec<_> = writer.appenders.iter().map(lock).collect();
        let head = writer.head();
        let mark = |name| head.marks.iter().find(|mark| mark.pack == name).map_or(0, |mark| mark.len);
        let appenders = guards.iter().filter_map(|guard| guard.as_ref());
        let grown = appenders.filter(|appender| appender.len > mark(appender.name)).map(|appender| Grown {
            name: appender.name,
            number: appender.number,
            class: appender.class,
            file: Arc::clone(&appender.file),
            len: appender.len,
        });
        let grown: Vec<Grown> = grown.collect();
        // Only what lies in these packs: a pack that is being sealed indexes its own objects.
        let mut objects = self.pending.all_written();
        objects.retain(|(_, location)| grown.iter().any(|pack| pack.number == location.pack));
        let seals = std::mem::take(&mut *lock(&writer.seals));
        Since { files: grown, objects, seals }
    }

    /// Hands objects over to the index. They are durable: if the index fails, it is brought up to date at
    /// the next open, and until then they stay in memory.
    fn index_written(&self, objects: Vec<(ContentHash, Location)>, packs: Vec<IndexedPack>, rows: RowBatch) {
        let update = IndexUpdate { objects: objects.clone(), packs, rows };
        if update.is_empty() {
            return;
        }
        match self.index().apply(update) {
            Ok(()) => self.pending.indexed(&objects),
            Err(error) => self.warn(format!("{error}: it will be brought up to date by the next command")),
        }
    }

    /// Ends all threads that work for this store.
    pub(super) fn wind_up(&self) {
        let Ok(writer) = self.writer() else { return };
        let seals = std::mem::take(&mut *lock(&writer.seals));
        drop(Self::join_seals(writer, seals));
        if let Some(thread) = lock(&writer.writeback).take() {
            drop(thread.join());
        }
        if let Err(error) = self.index().settle() {
            self.warn(error.to_string());
        }
    }
}

/// What a commit has to make durable.
#[derive(Debug)]
struct Since {
    files: Vec<Grown>,
    /// The objects in `files`.
    objects: Vec<(ContentHash, Location)>,
    /// Full packs that are being sealed.
    seals: Vec<JoinHandle<()>>,
}

/// An open pack whose mark is to move.
#[derive(Debug)]
struct Grown {
    name: PackName,
    number: PackNumber,
    class: Class,
    file: Arc<dyn VfsFile>,
    len: u64,
}

/// Syncs data and metadata pack side by side.
fn sync_files(files: &[Grown]) -> Result<(), PutError> {
    let sync = |grown: &Grown| grown.file.sync_data().map_err(put_error(grown.name.open_path()));
    let [first, second] = files else { return files.iter().try_for_each(sync) };
    std::thread::scope(|scope| {
        let other = std::thread::Builder::new().spawn_scoped(scope, || sync(first));
        let here = sync(second);
        let there = match other {
            Ok(other) => other.join().unwrap_or_else(|_| Err(PutError::Poisoned("a sync failed".to_owned()))),
            Err(_) => sync(first),
        };
        there.and(here)
    })
}

/// The head to be written; `None` if it would say nothing new.
fn next_head(now: &Head, head: Option<ContentHash>, grown: &[Grown]) -> Option<Head> {
    if grown.is_empty() && now.head == head {
        return None;
    }
    let mut marks = now.marks.clone();
    marks.retain(|mark| grown.iter().all(|pack| pack.name != mark.pack));
    marks.extend(grown.iter().map(|pack| Mark { pack: pack.name, class: pack.class, len: pack.len }));
    marks.sort_by_key(|mark| mark.pack);
    Some(Head { generation: now.generation + 1, head, marks })
}
