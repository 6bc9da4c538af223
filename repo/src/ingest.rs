//! Files in, entries out: reading, cutting, hashing and compressing on all cores.
//!
//! Files come in the order of the walk and are gathered into batches that fill about a frame, so that frames
//! hold neighbours. A large file is read and cut by one thread, and its chunks are hashed and stored by whoever
//! has nothing else to do. Memory does not grow with the input: queues are bounded.
//!
//! A file is stat'ed before and after it is read. One that changed meanwhile is read again; after
//! [`TRIES`] it is given up, by name.

mod file;
mod large;

use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver, Sender, bounded};
use filesync_cas::store::FrameWriter;
use filesync_cas::{Chunker, Claim, ContentHash, Kind, PutError, Session};
use filesync_merkle::{Entry, Node, NodeSink, NodeSource, RepoPath};

use crate::error::Error;
use crate::objects::{IdsOnly, SessionNodes};
use crate::request::{Event, Observer};
use crate::scan::Stat;

pub(crate) use file::{attrs_id, read_attrs, read_fully};

/// How often a file that changes under the reader is read.
const TRIES: usize = 3;
/// Files larger than this are read piece by piece.
const SMALL_MAX: u64 = 1 << 20;
/// Bytes and files of a batch.
const BATCH_BYTES: u64 = 1 << 20;
const BATCH_FILES: usize = 256;
/// Batches that may wait for a thread.
const BATCHES_MAX: usize = 8;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What becomes of the bytes.
#[derive(Clone, Copy)]
pub enum Target<'a> {
    /// They are stored.
    Store(&'a Session<'a>),
    /// Only ids are wanted.
    Ids,
}

/// What reading a file gave.
#[derive(Debug, Clone)]
pub enum Read {
    /// Its entry, and the stat that the entry stands for.
    Entry(Entry, Stat),
    /// It can be read, and no more was asked; what it was then.
    Opened(Stat),
    /// It is not there any more.
    Gone,
    /// It could not be read: why.
    Failed(String),
    /// The work was given up before it came to this file.
    Abandoned,
}

/// A file, and what is wanted of it.
#[derive(Debug)]
struct Job {
    path: RepoPath,
    /// To know that it could be read is enough.
    only_open: bool,
    /// What it may be still, however that was cut.
    known: Option<Entry>,
}

/// Files that are read one after the other.
#[derive(Debug, Default)]
struct Batch {
    files: Mutex<Vec<Job>>,
    /// One answer for each file, in order.
    answers: Mutex<Option<Vec<Read>>>,
    ready: Condvar,
}

impl Batch {
    fn answer(&self, answers: Vec<Read>) {
        *lock(&self.answers) = Some(answers);
        self.ready.notify_all();
    }
}

/// Where an answer will be.
#[derive(Debug, Clone)]
pub struct Slot {
    batch: Arc<Batch>,
    at: usize,
}

impl Slot {
    /// Waits for the answer. The file must have been sent: see [`Feeder::flush`].
    pub fn wait(self) -> Read {
        let mut answers = lock(&self.batch.answers);
        loop {
            match &mut *answers {
                Some(answers) => {
                    let answer = answers.get_mut(self.at);
                    return answer.map_or(Read::Abandoned, |answer| std::mem::replace(answer, Read::Abandoned));
                }
                None => answers = self.batch.ready.wait(answers).unwrap_or_else(PoisonError::into_inner),
            }
        }
    }
}

/// The threads' common ground.
pub struct Ingest<'a> {
    root: BorrowedFd<'a>,
    nodes: Option<&'a (dyn NodeSource + Sync)>,
    target: Target<'a>,
    chunker: Chunker,
    observer: &'a dyn Observer,
    jobs: Receiver<Arc<Batch>>,
    pieces: (Sender<large::Piece>, Receiver<large::Piece>),
    /// Threads that wait for work.
    idle: AtomicUsize,
    stop: AtomicBool,
    failure: Mutex<Option<Error>>,
    buffers: Mutex<Vec<Vec<u8>>>,
}

/// Gives files to the threads, in order. Dropped, it sends what waits, and the threads end.
pub struct Feeder {
    jobs: Sender<Arc<Batch>>,
    batch: Arc<Batch>,
    files: usize,
    bytes: u64,
}

impl<'a> Ingest<'a> {
    /// Ingest of files below `root`. `nodes` has the lists of those that are known; without it all get the cuts of `chunker`.
    pub fn new(
        root: BorrowedFd<'a>,
        nodes: Option<&'a (dyn NodeSource + Sync)>,
        target: Target<'a>,
        chunker: Chunker,
        observer: &'a dyn Observer,
    ) -> (Self, Feeder) {
        let (sender, jobs) = bounded(BATCHES_MAX);
        let ingest = Self {
            root,
            nodes,
            target,
            chunker,
            observer,
            jobs,
            pieces: bounded(large::PIECES_MAX),
            idle: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            failure: Mutex::new(None),
            buffers: Mutex::new(Vec::new()),
        };
        (ingest, Feeder::new(sender))
    }

    /// What a thread does until the feeder is done. Call it on as many threads as there are cores.
    pub fn work(&self) {
        let mut sink = Sink::new(self.target);
        loop {
            if let Ok(piece) = self.pieces.1.try_recv() {
                piece.process(&mut sink);
                continue;
            }
            self.idle.fetch_add(1, Ordering::Relaxed);
            let job = crossbeam_channel::select! {
                recv(self.pieces.1) -> piece => piece.ok().map(Err),
                recv(self.jobs) -> job => job.ok().map(Ok),
            };
            self.idle.fetch_sub(1, Ordering::Relaxed);
            match job {
                Some(Err(piece)) => piece.process(&mut sink),
                Some(Ok(batch)) => self.run(&batch, &mut sink),
                None => break,
            }
        }
        if let Err(error) = sink.flush() {
            self.fail(error.into());
        }
    }

    /// The error that ended the work, if one did.
    pub fn failure(&self) -> Option<Error> {
        lock(&self.failure).take()
    }

    fn run(&self, batch: &Batch, sink: &mut Sink<'_>) {
        let files = std::mem::take(&mut *lock(&batch.files));
        let (mut bytes, items) = (0, files.len() as u64);
        let mut answers = Vec::with_capacity(files.len());
        for job in &files {
            let abandoned = self.stop.load(Ordering::Acquire) || crate::cancel::requested();
            let read = match abandoned {
                true => Ok(Read::Abandoned),
                false if job.only_open => Ok(self.open(&job.path)),
                false => self.read(job, sink),
            };
            let read = read.unwrap_or_else(|error| {
                self.fail(error);
                Read::Abandoned
            });
            if let Read::Entry(_, stat) = &read {
                // Large files are told of as they are read.
                bytes += if stat.size > SMALL_MAX { 0 } else { stat.size };
            }
            answers.push(read);
        }
        batch.answer(answers);
        self.observer.event(Event::Advance { bytes, items });
    }

    fn fail(&self, error: Error) {
        self.stop.store(true, Ordering::Release);
        lock(&self.failure).get_or_insert(error);
    }

    fn buffer(&self) -> Vec<u8> {
        lock(&self.buffers).pop().unwrap_or_default()
    }

    fn recycle(&self, buffer: Vec<u8>) {
        lock(&self.buffers).push(buffer);
    }
}

impl Feeder {
    fn new(jobs: Sender<Arc<Batch>>) -> Self {
        Self { jobs, batch: Arc::default(), files: 0, bytes: 0 }
    }

    /// Has a file read; `size` is what it seems to have. If its bytes are those of `known`, so is its content.
    pub fn read(&mut self, path: RepoPath, size: u64, known: Option<&Entry>) -> Slot {
        let may_be = |known: &&Entry| matches!(&known.node, Node::File { size: known, .. } if *known == size);
        self.send(Job { path, only_open: false, known: known.filter(may_be).cloned() }, size)
    }

    /// Has it seen whether a file can be read.
    pub fn open(&mut self, path: RepoPath) -> Slot {
        self.send(Job { path, only_open: true, known: None }, 0)
    }

    fn send(&mut self, job: Job, size: u64) -> Slot {
        if self.files > 0 && self.bytes + size > BATCH_BYTES {
            self.flush();
        }
        lock(&self.batch.files).push(job);
        let slot = Slot { batch: Arc::clone(&self.batch), at: self.files };
        self.files += 1;
        self.bytes += size;
        if self.files >= BATCH_FILES || self.bytes >= BATCH_BYTES {
            self.flush();
        }
        slot
    }

    /// Sends what waits. To be called before anybody waits for an answer that may be among it.
    pub fn flush(&mut self) {
        if self.files == 0 {
            return;
        }
        let batch = std::mem::take(&mut self.batch);
        (self.files, self.bytes) = (0, 0);
        if let Err(unsent) = self.jobs.send(batch) {
            // The threads are gone: nobody will read these.
            unsent.0.answer(Vec::new());
        }
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Where a thread puts chunks and nodes.
struct Sink<'a> {
    target: Target<'a>,
    writer: Option<FrameWriter<'a>>,
}

impl<'a> Sink<'a> {
    fn new(target: Target<'a>) -> Self {
        let writer = match target {
            Target::Store(session) => Some(session.writer()),
            Target::Ids => None,
        };
        Self { target, writer }
    }

    /// The id of a chunk, stored if that is wanted and it is not there.
    fn chunk(&mut self, bytes: &[u8]) -> Result<ContentHash, PutError> {
        let id = ContentHash::of_chunk(bytes);
        if let (Some(writer), Target::Store(session)) = (&mut self.writer, self.target)
            && session.claim(&id)? == Claim::New
        {
            writer.put(id, Kind::CHUNK, bytes)?;
        }
        Ok(id)
    }

    fn flush(&mut self) -> Result<(), PutError> {
        self.writer.as_mut().map_or(Ok(()), FrameWriter::flush)
    }
}

impl NodeSink for Sink<'_> {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        match &mut self.writer {
            Some(writer) => SessionNodes(writer).put(kind, bytes),
            None => IdsOnly.put(kind, bytes),
        }
    }
}
