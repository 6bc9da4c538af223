//! Packs that grow: frames go to the end of the open pack of their class. Nothing here is durable before a commit.

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread::JoinHandle;

use super::{Inner, lock};
use crate::error::PutError;
use crate::frame::Slot;
use crate::head::Head;
use crate::index::{Location, PackNumber};
use crate::pack::{Class, PackHeader, PackName};
use crate::vfs::{Open, VfsFile, write_all_at};

/// A file whose syncs are remembered.
///
/// The kernel tells of an error once for each descriptor, and whoever syncs next is told that all is well. So
/// syncs of one file come one after the other, and after one that failed all do.
#[derive(Debug)]
pub struct SyncedFile {
    pub file: Arc<dyn VfsFile>,
    failed: Mutex<Option<String>>,
}

impl SyncedFile {
    pub fn new(file: Arc<dyn VfsFile>) -> Arc<Self> {
        Arc::new(Self { file, failed: Mutex::default() })
    }

    /// Makes content and length durable.
    pub fn sync(&self) -> io::Result<()> {
        let mut failed = lock(&self.failed);
        if let Some(cause) = &*failed {
            return Err(io::Error::other(format!("an earlier sync failed: {cause}")));
        }
        self.file.sync_data().inspect_err(|error| *failed = Some(error.to_string()))
    }
}

/// A pack that frames are appended to.
#[derive(Debug)]
pub struct Appender {
    pub name: PackName,
    pub number: PackNumber,
    pub class: Class,
    pub serial: u64,
    pub file: Arc<SyncedFile>,
    pub len: u64,
    /// Objects in it.
    pub objects: u32,
    /// Length when a helper last began to write it out.
    pub written_back: u64,
}

/// Everything of a store that only its writer has.
#[derive(Debug, Default)]
pub struct Writer {
    pub appenders: [Mutex<Option<Appender>>; 2],
    /// Packs that are full and cannot be sealed: they get a mark and are left alone.
    pub retired: Mutex<Vec<Arc<Appender>>>,
    pub head: Mutex<Head>,
    /// Packs sealed by this process: they need no mark any more.
    pub sealed: Mutex<Vec<PackName>>,
    /// Held while marks move; never taken with an appender in hand.
    pub commit: Mutex<()>,
    pub seals: Mutex<Vec<JoinHandle<()>>>,
    writeback: Mutex<Option<JoinHandle<()>>>,
    /// Opens the index for writing while there is other work.
    preparing: OnceLock<Mutex<Option<JoinHandle<()>>>>,
    /// A pack was made since its directory was last synced.
    pub new_names: AtomicBool,
    /// Serial of the next pack.
    pub next_serial: AtomicU64,
    poisoned: Mutex<Option<String>>,
    /// Bytes appended by this process.
    pub appended: AtomicU64,
    /// Pending objects at which marks move on.
    pub checkpoint_at: AtomicUsize,
}

pub(super) fn put_error(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> PutError {
    let path = path.into();
    |source| PutError::Io { path, source }
}

impl Writer {
    /// A writer that goes on from `head`.
    pub fn new(head: Head, next_serial: u64, pending_max: usize) -> Self {
        Self {
            head: Mutex::new(head),
            next_serial: AtomicU64::new(next_serial),
            checkpoint_at: AtomicUsize::new(pending_max),
            ..Self::default()
        }
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

    /// From now on nothing is acknowledged.
    pub fn poison(&self, error: PutError) -> PutError {
        lock(&self.poisoned).get_or_insert_with(|| error.to_string());
        error
    }

    /// Goes on in a pack that was open when the store was opened.
    pub fn resume(&self, appender: Appender) {
        let class = appender.class as usize;
        *lock(&self.appenders[class]) = Some(appender);
    }

    /// Waits for a sync that a helper is in the middle of. Whoever acknowledges waits for the same file anyway.
    pub fn join_writeback(&self) {
        join(&self.writeback);
    }

    /// Waits for helpers.
    pub fn join_helpers(&self) {
        self.preparing.get().into_iter().for_each(join);
        self.join_writeback();
    }
}

/// Waits for a helper without the lock in hand.
fn join(helper: &Mutex<Option<JoinHandle<()>>>) {
    let thread = lock(helper).take();
    thread.map(JoinHandle::join);
}

impl Inner {
    /// Appends a frame. Not durable before [`Self::commit`].
    pub(crate) fn append(self: &Arc<Self>, class: Class, frame: &[u8], slots: &[Slot]) -> Result<(), PutError> {
        let writer = self.writer()?;
        writer.check()?;
        {
            let mut current = lock(&writer.appenders[class as usize]);
            if current.is_none() {
                *current = Some(self.new_pack(writer, class)?);
            }
            let Some(appender) = current.as_mut() else { return Err(PutError::ReadOnly) };
            // What a write that failed left behind is overwritten by the next one, or cut when the pack is sealed.
            let path = appender.name.open_path();
            write_all_at(&*appender.file.file, frame, appender.len).map_err(put_error(path))?;
            self.note_written(appender, slots);
            appender.len += frame.len() as u64;
            appender.objects += u32::try_from(slots.len()).expect("frames hold fewer");
            writer.appended.fetch_add(frame.len() as u64, Ordering::Relaxed);
            let limits = &self.limits;
            if limits.threads {
                let prepare = || {
                    let index = self.index();
                    Mutex::new(std::thread::Builder::new().name("index".to_owned()).spawn(move || index.prepare()).ok())
                };
                writer.preparing.get_or_init(prepare);
                self.start_writeback(writer, appender);
            }
            let full = appender.len >= limits.seal_len || appender.objects >= limits.seal_objects;
            // With the appender in hand: a commit sees either the open pack or its seal under way.
            if let Some(full) = current.take_if(|_| full) {
                self.seal(writer, full);
            }
        }
        if self.pending.len() >= writer.checkpoint_at.load(Ordering::Relaxed) {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Lets a helper thread sync what has been appended so far. It promises nothing: the sync before the
    /// acknowledgement is done all the same, and is short. Yet if it fails, nothing is acknowledged any more: the
    /// kernel may have told nobody else.
    fn start_writeback(self: &Arc<Self>, writer: &Writer, appender: &mut Appender) {
        if appender.len - appender.written_back < self.limits.writeback_len {
            return;
        }
        let mut running = lock(&writer.writeback);
        if running.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return;
        }
        appender.written_back = appender.len;
        let (inner, file, path) = (Arc::clone(self), Arc::clone(&appender.file), appender.name.open_path());
        let sync = move || {
            if let (Err(error), Ok(writer)) = (file.sync(), inner.writer()) {
                writer.poison(put_error(path)(error));
            }
        };
        *running = std::thread::Builder::new().name("writeback".to_owned()).spawn(sync).ok();
    }

    fn note_written(&self, appender: &Appender, slots: &[Slot]) {
        let offset = u32::try_from(appender.len).expect("packs are sealed before");
        for (slot, object) in slots.iter().enumerate() {
            let slot = u16::try_from(slot).expect("frames hold fewer");
            let location = Location { pack: appender.number, offset, slot, kind: object.kind, len: object.len };
            self.pending.written(object.id, location);
        }
        self.forget_moved(slots.iter().map(|slot| &slot.id));
        self.note_restored(slots);
    }

    fn new_pack(&self, writer: &Writer, class: Class) -> Result<Appender, PutError> {
        let name = PackName::random().map_err(put_error("packs"))?;
        let path = name.open_path();
        let serial = writer.next_serial.fetch_add(1, Ordering::AcqRel);
        let header = PackHeader { class, serial, repository: self.params.repository, name }.encode();
        let file = self.place.vfs.open(&path, Open::Create { mode: 0o644 }).map_err(put_error(&path))?;
        if let Err(error) = write_all_at(&*file, &header, 0) {
            // The next writer would remove it.
            drop(self.place.vfs.unlink(&path));
            return Err(put_error(&path)(error));
        }
        writer.new_names.store(true, Ordering::Release);
        let (number, len) = (self.table.number(name), header.len() as u64);
        Ok(Appender { name, number, class, serial, file: SyncedFile::new(file), len, objects: 0, written_back: 0 })
    }
}
