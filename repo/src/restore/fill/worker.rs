//! What one thread does: batches of small files, and segments of large ones.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex};

use filesync_cas::vfs::{Open, VfsFile, write_all_at};
use filesync_cas::{ContentHash, Kind, Object};
use filesync_merkle::{Attrs, Content, ListChunk, Node};

use super::{Chunks, Job, Ready, SYNC_AHEAD_BYTES, Shared, Sync, Task, lock, mtime_of, sparse};
use crate::error::Error;
use crate::request::{Event, Warning};
use crate::worktree::{is_displaced, stat_of};

/// Why a file was not made.
enum Trouble {
    /// The store does not have its bytes.
    Damage(String),
    /// The directory that it belongs into is gone.
    Displaced,
    /// Nothing more can be done.
    Fatal(Error),
}

impl Trouble {
    fn io(shared: &Shared<'_>, job: &Job, error: &io::Error) -> Self {
        if shared.filler.in_place.is_some() && is_displaced(error) {
            return Self::Displaced;
        }
        Self::Fatal(Error::io(format_args!("cannot write {}", job.path), error))
    }
}

/// Where bytes go.
#[derive(Clone, Copy)]
struct To<'a> {
    file: &'a dyn VfsFile,
    /// Where several threads write to one file: the kernel lets them in one at a time, and has the others burn their time.
    turn: Option<&'a Mutex<()>>,
}

impl<'a> To<'a> {
    fn alone(file: &'a dyn VfsFile) -> Self {
        Self { file, turn: None }
    }

    fn write(self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let _turn = self.turn.map(lock);
        write_all_at(self.file, bytes, offset)
    }
}

/// A thread's own things.
pub(super) struct Worker<'s> {
    shared: &'s Shared<'s>,
    /// Where to ask for a sync of what has been written so far, if that is wanted.
    ahead: Option<SyncSender<()>>,
    /// A chunk that was seen to be all zeros.
    zeros: Option<(ContentHash, u32)>,
}

impl<'s> Worker<'s> {
    pub(super) fn new(shared: &'s Shared<'s>, ahead: Option<SyncSender<()>>) -> Self {
        Self { shared, ahead, zeros: None }
    }

    pub(super) fn handle(&mut self, task: Task<'_>) {
        if let Err(error) = crate::cancel::check() {
            self.shared.fail(error);
            return;
        }
        let done = match task {
            Task::Batch(batch) => self.batch(&batch),
            Task::Segment(large, chunks) => self.segment(&large, &chunks),
        };
        if let Err(error) = done {
            self.shared.fail(error);
        }
    }

    fn batch(&mut self, batch: &[Ready]) -> Result<(), Error> {
        let (mut items, mut bytes) = (0, 0);
        let result = batch.iter().try_for_each(|ready| {
            let made = self.make(ready);
            if made.is_ok() {
                items += 1;
                bytes += ready.size();
            }
            self.settle(&ready.job, made)
        });
        self.shared.count.fetch_add(items, Ordering::Relaxed);
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.wrote(bytes);
        self.shared.filler.observer.event(Event::Advance { bytes, items });
        result
    }

    /// Counts bytes that lie in files now; after every so many of them they are synced while others are written.
    fn wrote(&self, bytes: u64) {
        let before = self.shared.written.fetch_add(bytes, Ordering::Relaxed);
        if let Some(ahead) = &self.ahead
            && (before + bytes) / SYNC_AHEAD_BYTES > before / SYNC_AHEAD_BYTES
        {
            // One sync is asked for already: it has not begun, and will do.
            let _ = ahead.try_send(());
        }
    }

    /// Books what came of a file.
    fn settle(&self, job: &Job, made: Result<(), Trouble>) -> Result<(), Error> {
        match made {
            Ok(()) => Ok(()),
            Err(Trouble::Damage(cause)) => {
                self.shared.damaged(job, cause);
                Ok(())
            }
            Err(Trouble::Displaced) => {
                lock(&self.shared.filled).displaced.push(job.tag);
                Ok(())
            }
            Err(Trouble::Fatal(error)) => Err(error),
        }
    }

    fn make(&mut self, ready: &Ready) -> Result<(), Trouble> {
        let job = &ready.job;
        if let Node::Symlink { target, .. } = &job.entry.node {
            return self.link(job, target).map_err(|error| Trouble::io(self.shared, job, &error));
        }
        match &ready.chunks {
            // The bytes first: what is damaged leaves nothing behind.
            Chunks::One(id) => {
                let object = self.get(id, ready.size())?;
                let file = create(self.shared, job)?;
                self.write(job, To::alone(&*file), &object, 0, ready.size())?;
                complete(self.shared, job, &*file, ready.attrs.as_ref())
            }
            Chunks::None => complete(self.shared, job, &*create(self.shared, job)?, ready.attrs.as_ref()),
            Chunks::Many(chunks) => {
                let file = create(self.shared, job)?;
                let written = self.write_chunks(job, To::alone(&*file), chunks, ready.size());
                written.and_then(|()| complete(self.shared, job, &*file, ready.attrs.as_ref())).inspect_err(|_| {
                    // What cannot be removed now is found by its name later.
                    let _ = self.shared.filler.work.unlink(&job.at);
                })
            }
        }
    }

    fn link(&self, job: &Job, target: &[u8]) -> io::Result<()> {
        let work = self.shared.filler.work;
        let mtime = mtime_of(&job.entry);
        making_way(self.shared, job, || work.symlink(OsStr::from_bytes(target), &job.at))?;
        work.set_link_mtime(&job.at, mtime.secs(), mtime.nanos())?;
        if self.shared.filler.in_place.is_some() {
            let stat = stat_of(&work.stat(&job.at)?);
            lock(&self.shared.filled).made.push((job.tag, stat));
        }
        Ok(())
    }

    fn segment(&mut self, large: &Large<'_>, chunks: &[ListChunk]) -> Result<(), Error> {
        if !large.is_bad.load(Ordering::Acquire) {
            let to = To { file: &*large.file, turn: Some(&large.turn) };
            match self.write_chunks(&large.job, to, chunks, large.size) {
                Ok(()) => {}
                Err(Trouble::Damage(cause)) => large.damage(cause),
                Err(trouble) => self.settle(&large.job, Err(trouble))?,
            }
        }
        let bytes = chunks.iter().map(|chunk| u64::from(chunk.len)).sum();
        self.wrote(bytes);
        self.shared.filler.observer.event(Event::Advance { bytes, items: 0 });
        large.release()
    }

    fn write_chunks(&mut self, job: &Job, to: To<'_>, chunks: &[ListChunk], size: u64) -> Result<(), Trouble> {
        for chunk in chunks {
            if self.zeros == Some((chunk.id.0, chunk.len)) {
                self.end_hole(job, to.file, chunk.offset + u64::from(chunk.len), size)?;
                continue;
            }
            let object = self.get(&chunk.id.0, u64::from(chunk.len))?;
            if sparse::is_hole(&object) {
                self.zeros = Some((chunk.id.0, chunk.len));
            }
            self.write(job, to, &object, chunk.offset, size)?;
        }
        Ok(())
    }

    fn get(&self, id: &ContentHash, len: u64) -> Result<Object, Trouble> {
        match self.shared.filler.store.get(Kind::CHUNK, id) {
            Ok(object) if object.len() as u64 == len => Ok(object),
            Ok(_) => Err(Trouble::Damage(format!("chunk {id} has another length than the tree says"))),
            Err(error) if error.is_damage() => Err(Trouble::Damage(error.to_string())),
            Err(error) => Err(Trouble::Fatal(error.into())),
        }
    }

    /// Writes bytes of a file; long runs of zeros are left out.
    fn write(&self, job: &Job, to: To<'_>, bytes: &[u8], offset: u64, size: u64) -> Result<(), Trouble> {
        let mut end = 0;
        for data in sparse::data(bytes, offset) {
            end = data.end;
            let at = offset + data.start as u64;
            to.write(&bytes[data], at).map_err(|error| Trouble::io(self.shared, job, &error))?;
        }
        if end == bytes.len() { Ok(()) } else { self.end_hole(job, to.file, offset + bytes.len() as u64, size) }
    }

    /// A hole that reaches to the end must be made by saying where that is.
    fn end_hole(&self, job: &Job, file: &dyn VfsFile, end: u64, size: u64) -> Result<(), Trouble> {
        if end < size {
            return Ok(());
        }
        file.set_len(size).map_err(|error| Trouble::io(self.shared, job, &error))
    }
}

fn create(shared: &Shared<'_>, job: &Job) -> Result<Arc<dyn VfsFile>, Trouble> {
    let how = Open::Create { mode: job.entry.mode.bits().into() };
    let created = making_way(shared, job, || shared.filler.work.open(&job.at, how));
    created.map_err(|error| Trouble::io(shared, job, &error))
}

/// Makes something whose name should be free; if it is not, once more after way has been made.
fn making_way<T>(shared: &Shared<'_>, job: &Job, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match (make(), shared.filler.in_place) {
        (Err(error), Some(make_way)) if error.kind() == io::ErrorKind::AlreadyExists => {
            make_way(job).and_then(|()| make())
        }
        (made, _) => made,
    }
}

/// Mode, attributes and, after all else, the time, of a file that was created with its mode.
fn complete(shared: &Shared<'_>, job: &Job, file: &dyn VfsFile, attrs: Option<&Attrs>) -> Result<(), Trouble> {
    let mtime = mtime_of(&job.entry);
    for (name, value) in attrs.map(Attrs::pairs).unwrap_or_default() {
        if let Err(error) = file.set_xattr(OsStr::from_bytes(name), value) {
            let message = format!("cannot set attribute {}: {error}", String::from_utf8_lossy(name));
            let path = Some(job.path.as_bytes().to_vec());
            shared.filler.observer.event(Event::Warning(Warning { path, message }));
        }
    }
    let stat = || -> io::Result<()> {
        let mode = u32::from(job.entry.mode.bits());
        if mode & shared.filler.umask != 0 {
            file.set_mode(mode)?;
        }
        file.set_mtime(mtime.secs(), mtime.nanos())?;
        if shared.filler.sync == Sync::Each {
            file.sync_all()?;
        }
        if shared.filler.in_place.is_some() {
            lock(&shared.filled).made.push((job.tag, stat_of(&file.stat()?)));
        }
        Ok(())
    };
    stat().map_err(|error| Trouble::io(shared, job, &error))
}

/// A file that several threads write.
pub(super) struct Large<'s> {
    shared: &'s Shared<'s>,
    pub(super) job: Job,
    attrs: Option<Attrs>,
    size: u64,
    file: Arc<dyn VfsFile>,
    /// Of each chunk, whether it was written early; empty if the file was not.
    pub(super) written: Vec<bool>,
    /// Of those who write to it.
    turn: Mutex<()>,
    /// Segments that are not written yet, and one for who hands them out.
    left: AtomicUsize,
    is_bad: AtomicBool,
    damage: Mutex<Option<String>>,
}

impl<'s> Large<'s> {
    /// Takes the file that was written early, or creates it; nothing if there is no place for it any more.
    pub(super) fn open(shared: &'s Shared<'s>, job: Job, attrs: Option<Attrs>) -> Result<Option<Arc<Self>>, Error> {
        let (root, size) = match &job.entry.node {
            Node::File { content: Content::List { root, .. }, size, .. } => (Some(root), *size),
            _ => (None, 0),
        };
        let early = shared.filler.early.zip(root).and_then(|(early, root)| early.take(root, &job));
        let opened = match early {
            Some(taken) => Ok((taken.file, taken.written)),
            None => create(shared, &job).map(|file| (file, Vec::new())),
        };
        let (file, written) = match opened {
            Ok(opened) => opened,
            Err(trouble) => {
                Worker::new(shared, None).settle(&job, Err(trouble))?;
                return Ok(None);
            }
        };
        let (left, is_bad, damage, turn) =
            (AtomicUsize::new(1), AtomicBool::new(false), Mutex::default(), Mutex::default());
        Ok(Some(Arc::new(Self { shared, job, attrs, size, file, written, turn, left, is_bad, damage })))
    }

    /// For one more segment.
    pub(super) fn share(self: &Arc<Self>) -> Arc<Self> {
        self.left.fetch_add(1, Ordering::AcqRel);
        Arc::clone(self)
    }

    /// Notes that some of its bytes are not to be had.
    pub(super) fn damage(&self, cause: String) {
        self.is_bad.store(true, Ordering::Release);
        lock(&self.damage).get_or_insert(cause);
    }

    /// One segment less; the last one completes the file.
    pub(super) fn release(&self) -> Result<(), Error> {
        if self.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return Ok(());
        }
        let worker = Worker::new(self.shared, None);
        if let Some(cause) = lock(&self.damage).take() {
            // What cannot be removed now is found by its name later.
            let _ = self.shared.filler.work.unlink(&self.job.at);
            return worker.settle(&self.job, Err(Trouble::Damage(cause)));
        }
        let done = complete(self.shared, &self.job, &*self.file, self.attrs.as_ref());
        if done.is_ok() {
            self.shared.count.fetch_add(1, Ordering::Relaxed);
            self.shared.bytes.fetch_add(self.size, Ordering::Relaxed);
            self.shared.filler.observer.event(Event::Advance { bytes: 0, items: 1 });
        }
        worker.settle(&self.job, done)
    }
}
