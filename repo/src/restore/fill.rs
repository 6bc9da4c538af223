//! New files and symlinks, filled from the store on all cores, in the order of the packs.
//!
//! Files come in the order of the tree. They are gathered into windows; a window's files are sorted by where their
//! first chunk lies and handed to the threads frame by frame, so that a frame is decompressed once and packs are read
//! forwards. Large files are written in segments by several threads at once. Queues and windows are bounded, so that
//! memory does not grow with the work.
//!
//! Every path given must not exist yet. What is made durable is the caller's choice ([`Sync`]). A file whose bytes are
//! damaged is removed again and reported, and the rest goes on; every other error ends the work, what was written
//! staying behind.

pub mod sparse;
mod worker;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};

use filesync_cas::vfs::Vfs;
use filesync_cas::{ContentHash, Store};
use filesync_merkle::{
    Attrs, AttrsId, Content, DecodeError, Entry, ListChunk, ListReader, Node, NodeSource, RepoPath, Timestamp,
    WalkError,
};

use self::worker::{Large, Worker};
use super::early::EarlyFiles;
use crate::error::{Error, ErrorKind};
use crate::request::{Event, Observer, Unreadable};
use crate::scan::Stat;

/// Files of the first window, since all threads wait for it, and of the later ones, each of which doubles the last.
const WINDOW_FILES_MIN: usize = 256;
const WINDOW_FILES_MAX: usize = 8192;
/// Chunks of a window's files, which are what takes its memory.
const WINDOW_CHUNKS: usize = 64 << 10;
/// A batch ends with a frame once it has so many bytes, and with any file once it has twice as many, or many files. It
/// is some frames long, so that few files reach from one batch into the next, whose frames another thread decompresses.
const BATCH_BYTES_MIN: u64 = 512 << 10;
const BATCH_BYTES_MAX: u64 = 4 << 20;
const BATCH_FILES_MAX: usize = 512;
/// Files up to this length are written by one thread.
pub const WHOLE_MAX: u64 = 4 << 20;
/// Bytes of a segment of a larger one, about.
const SEGMENT_BYTES: u64 = 4 << 20;
/// Bytes after which what was written is synced while more is written, if that is wanted.
const SYNC_AHEAD_BYTES: u64 = 192 << 20;
/// Threads, at most: each has a file open.
pub const THREADS_MAX: usize = 16;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file or symlink to be made.
#[derive(Debug)]
pub struct Job {
    /// Whatever the caller knows it by.
    pub tag: usize,
    /// What messages call it.
    pub path: RepoPath,
    /// Where it is made.
    pub at: PathBuf,
    /// What it is; not a directory.
    pub entry: Entry,
}

/// What was made.
#[derive(Debug, Default)]
pub struct Filled {
    /// Tags of what was made and how it looks, if that was asked for; in no order.
    pub made: Vec<(usize, Stat)>,
    /// Tags of what could not be made since the directory it belongs into is gone, or is something else.
    pub displaced: Vec<usize>,
    /// Tags of what is damaged.
    pub damaged_tags: Vec<usize>,
    /// What is damaged, and why.
    pub damaged: Vec<Unreadable>,
    /// How many were made.
    pub count: u64,
    /// Bytes of the files made.
    pub bytes: u64,
}

/// How to fill.
pub struct Filler<'a> {
    /// Where chunks come from.
    pub store: &'a Store,
    /// Where files go.
    pub work: &'a dyn Vfs,
    /// Who is told.
    pub observer: &'a dyn Observer,
    /// Permission bits that a new file does not get when it is created.
    pub umask: u32,
    /// Given if files are made under temporary names in a working copy: then [`Filled::made`] is wanted, and displaced
    /// files are no error. Called if something has such a name already; after it, nothing must.
    pub in_place: Option<&'a MakeWay<'a>>,
    /// What will be synced.
    pub sync: Sync,
    /// Large files of which much is written already.
    pub early: Option<&'a EarlyFiles>,
}

/// Makes way for a file.
pub type MakeWay<'a> = dyn Fn(&Job) -> io::Result<()> + std::marker::Sync + 'a;

/// What the caller, or the filler itself, makes durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// Nothing.
    No,
    /// Each file, before it is closed.
    Each,
    /// The file system, by the caller, at the end. So that this does not take long, the disk is kept busy meanwhile.
    Later,
}

/// What all threads use.
struct Shared<'a> {
    filler: &'a Filler<'a>,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
    filled: Mutex<Filled>,
    count: AtomicU64,
    bytes: AtomicU64,
    /// Bytes written, of files that are not complete too.
    written: AtomicU64,
}

/// A piece of work.
enum Task<'s> {
    Batch(Vec<Ready>),
    Segment(std::sync::Arc<Large<'s>>, Vec<ListChunk>),
}

/// A file of which all is known that the tree says.
struct Ready {
    job: Job,
    /// Pack and offset of the first chunk.
    place: (u32, u32),
    chunks: Chunks,
    attrs: Option<Attrs>,
}

/// The chunks of a file that one thread writes.
enum Chunks {
    None,
    One(ContentHash),
    Many(Vec<ListChunk>),
}

impl Ready {
    fn size(&self) -> u64 {
        match &self.job.entry.node {
            Node::File { size, .. } => *size,
            _ => 0,
        }
    }
}

impl<'a> Filler<'a> {
    /// Makes what `produce` gives to the [`Feeder`], on so many threads; with one, in order and on the calling one.
    pub fn run(
        &'a self,
        threads: usize,
        source: &dyn NodeSource,
        produce: impl FnOnce(&mut Feeder<'_, '_>) -> Result<(), Error>,
    ) -> Result<Filled, Error> {
        let shared = Shared {
            filler: self,
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            filled: Mutex::default(),
            count: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            written: AtomicU64::new(0),
        };
        let produced = if threads <= 1 {
            let mut feeder = Feeder::new(&shared, source, Out::Inline(Worker::new(&shared, None)));
            produce(&mut feeder).and_then(|()| feeder.finish())
        } else {
            shared.on_threads(threads.min(THREADS_MAX), source, produce)
        };
        // What stopped the threads is the reason for whatever the producer met then.
        if let Some(failure) = lock(&shared.failure).take() {
            return Err(failure);
        }
        produced?;
        let mut filled = shared.filled.into_inner().unwrap_or_else(PoisonError::into_inner);
        filled.count = shared.count.into_inner();
        filled.bytes = shared.bytes.into_inner();
        Ok(filled)
    }
}

impl Shared<'_> {
    fn on_threads(
        &self,
        threads: usize,
        source: &dyn NodeSource,
        produce: impl FnOnce(&mut Feeder<'_, '_>) -> Result<(), Error>,
    ) -> Result<(), Error> {
        let (sender, receiver) = sync_channel(threads * 2);
        let receiver = Mutex::new(receiver);
        // Full while a sync runs: what is written meanwhile belongs to the next one.
        let (ask, asked) = sync_channel(1);
        std::thread::scope(|scope| {
            for number in 0..threads {
                let ahead = (self.filler.sync == Sync::Later).then(|| ask.clone());
                let receiver = &receiver;
                let token = crate::cancel::current();
                let work = move || token.scope(|| self.work(receiver, ahead));
                std::thread::Builder::new().name(format!("restore-{number}")).spawn_scoped(scope, work)?;
            }
            drop(ask);
            std::thread::Builder::new().name("restore-sync".into()).spawn_scoped(scope, || self.sync_ahead(asked))?;
            let mut feeder = Feeder::new(self, source, Out::Threads(sender));
            let produced = produce(&mut feeder).and_then(|()| feeder.finish());
            if produced.is_err() {
                self.stop.store(true, Ordering::Release);
            }
            produced
        })
    }

    fn work<'s>(&'s self, tasks: &Mutex<Receiver<Task<'s>>>, ahead: Option<SyncSender<()>>) {
        let mut worker = Worker::new(self, ahead);
        loop {
            let task = lock(tasks).recv();
            let Ok(task) = task else { return };
            // After a failure the queue is drained, so that nobody waits for room in it.
            if !self.stopped() {
                worker.handle(task);
            }
        }
    }

    /// Syncs when asked, while others write: processors and disk have something to do at the same time. Ends with the
    /// last of those who can ask.
    fn sync_ahead(&self, asked: Receiver<()>) {
        for () in asked {
            if self.stopped() {
                continue;
            }
            if let Err(error) = self.filler.work.sync_all_files() {
                self.fail(Error::io("cannot sync", &error));
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    fn fail(&self, error: Error) {
        self.stop.store(true, Ordering::Release);
        lock(&self.failure).get_or_insert(error);
    }

    fn damaged(&self, job: &Job, cause: String) {
        let mut filled = lock(&self.filled);
        filled.damaged_tags.push(job.tag);
        filled.damaged.push(Unreadable { path: job.path.as_bytes().to_vec(), cause });
    }
}

enum Out<'s> {
    Inline(Worker<'s>),
    Threads(SyncSender<Task<'s>>),
}

/// Takes files in the order of the tree.
pub struct Feeder<'s, 'n> {
    shared: &'s Shared<'s>,
    source: &'n dyn NodeSource,
    out: Out<'s>,
    window: Vec<Ready>,
    window_files: usize,
    window_chunks: usize,
    place: (u32, u32),
}

impl<'s, 'n> Feeder<'s, 'n> {
    fn new(shared: &'s Shared<'s>, source: &'n dyn NodeSource, out: Out<'s>) -> Self {
        let (window_files, window_chunks) = (WINDOW_FILES_MIN, 0);
        Self { shared, source, out, window: Vec::new(), window_files, window_chunks, place: (0, 0) }
    }

    /// Has a file or symlink made.
    pub fn feed(&mut self, job: Job) -> Result<(), Error> {
        let attrs = match &job.entry.attrs {
            None => None,
            Some(id) => match read_attrs(self.source, id) {
                Ok(attrs) => Some(attrs),
                Err(error) if error.is_damage() => {
                    self.shared.damaged(&job, error.to_string());
                    return Ok(());
                }
                Err(error) => return Err(error.into()),
            },
        };
        let chunks = match &job.entry.node {
            Node::Directory(_) => return Err(Error::new(ErrorKind::Failed, "a directory cannot be filled")),
            Node::Symlink { .. } | Node::File { content: Content::Empty, .. } => Chunks::None,
            Node::File { content: Content::Chunk(id), .. } => Chunks::One(id.0),
            Node::File { content: Content::List { root, height }, size, .. } => {
                let (root, height, size) = (*root, *height, *size);
                let list = ListReader::new(self.source, root, height, size, 0);
                if size > WHOLE_MAX {
                    return self.feed_large(job, attrs, list);
                }
                match list.and_then(Iterator::collect) {
                    Ok(chunks) => Chunks::Many(chunks),
                    Err(error) if error.is_damage() => {
                        self.shared.damaged(&job, error.to_string());
                        return Ok(());
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let first = match &chunks {
            Chunks::None => None,
            Chunks::One(id) => Some((*id, 1)),
            Chunks::Many(chunks) => chunks.first().map(|chunk| (chunk.id.0, chunks.len())),
        };
        if let Some((id, count)) = first {
            // Not known where: it will be missed, or found, when it is asked for.
            if let Ok(Some(location)) = self.shared.filler.store.locate(&id) {
                self.place = (location.pack.0, location.offset);
            }
            self.window_chunks += count;
        }
        self.window.push(Ready { job, place: self.place, chunks, attrs });
        if self.window.len() >= self.window_files || self.window_chunks >= WINDOW_CHUNKS {
            self.flush()?;
        }
        Ok(())
    }

    /// A large file is opened here and closed by whoever writes the last of it.
    fn feed_large(
        &mut self,
        job: Job,
        attrs: Option<Attrs>,
        list: Result<ListReader<'_>, WalkError>,
    ) -> Result<(), Error> {
        let list = match list {
            Ok(list) => list,
            Err(error) if error.is_damage() => {
                self.shared.damaged(&job, error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let Some(large) = Large::open(self.shared, job, attrs)? else { return Ok(()) };
        let mut segment = Vec::new();
        let mut bytes = 0;
        let mut done = 0;
        for (number, chunk) in list.enumerate() {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) if error.is_damage() => {
                    large.damage(error.to_string());
                    break;
                }
                Err(error) => return Err(error.into()),
            };
            if large.written.get(number) == Some(&true) {
                done += u64::from(chunk.len);
                continue;
            }
            bytes += u64::from(chunk.len);
            segment.push(chunk);
            if bytes >= SEGMENT_BYTES {
                bytes = 0;
                self.send(Task::Segment(large.share(), std::mem::take(&mut segment)))?;
            }
        }
        if !segment.is_empty() {
            self.send(Task::Segment(large.share(), segment))?;
        }
        self.shared.filler.observer.event(Event::Advance { bytes: done, items: 0 });
        large.release()
    }

    /// Hands out what is in the window.
    fn flush(&mut self) -> Result<(), Error> {
        self.window_chunks = 0;
        self.window_files = (self.window_files * 2).min(WINDOW_FILES_MAX);
        let mut window = std::mem::take(&mut self.window);
        // Stable: files of one frame stay in the order of the tree.
        window.sort_by_key(|ready| ready.place);
        let all: u64 = window.iter().map(Ready::size).sum();
        // Small windows are shared out too.
        let enough = (all / 8).clamp(BATCH_BYTES_MIN, BATCH_BYTES_MAX);
        let mut batch: Vec<Ready> = Vec::new();
        let mut bytes = 0;
        for ready in window {
            let frame_ends = batch.last().is_some_and(|last| last.place != ready.place);
            let is_full = batch.len() >= BATCH_FILES_MAX || bytes >= 2 * enough;
            if is_full || (frame_ends && bytes >= enough) {
                bytes = 0;
                self.send(Task::Batch(std::mem::take(&mut batch)))?;
            }
            bytes += ready.size();
            batch.push(ready);
        }
        if batch.is_empty() { Ok(()) } else { self.send(Task::Batch(batch)) }
    }

    fn finish(mut self) -> Result<(), Error> {
        self.flush()
    }

    fn send(&mut self, task: Task<'s>) -> Result<(), Error> {
        crate::cancel::check()?;
        match &mut self.out {
            Out::Inline(worker) => worker.handle(task),
            Out::Threads(sender) => {
                if sender.send(task).is_err() {
                    self.shared.stop.store(true, Ordering::Release);
                }
            }
        }
        match self.shared.stopped() {
            true => Err(Error::new(ErrorKind::Failed, "stopped after an earlier error")),
            false => Ok(()),
        }
    }
}

/// Reads an attributes object.
pub fn read_attrs(source: &dyn NodeSource, id: &AttrsId) -> Result<Attrs, WalkError> {
    let bytes = source.get(AttrsId::KIND, &id.0)?;
    let malformed = |cause: DecodeError| WalkError::Malformed { kind: AttrsId::KIND, id: id.0, cause };
    Attrs::decode(&bytes).map_err(malformed)
}

/// When something was last written; directories do not say.
fn mtime_of(entry: &Entry) -> Timestamp {
    entry.mtime().unwrap_or_default()
}
