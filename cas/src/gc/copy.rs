//! Copying what is live out of packs that are to go.
//!
//! Every object is held against its hash before it is appended again. One that is bad is looked for elsewhere; if it
//! cannot be had, its pack stays. A copy that nobody refers to, of an object that is live elsewhere, goes only when that
//! other one has been read and is good.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::GcError;
use super::live::{LiveSet, PackLive};
use super::mark::Step;
use crate::error::{GetError, PutError};
use crate::frame::Frame;
use crate::hash::ContentHash;
use crate::index::Location;
use crate::pack::{Class, FrameAt, read_frame};
use crate::store::packs::{frames_of, open_pack};
use crate::store::{Frames, Inner, lock, target_of};
use crate::vfs::VfsFile;

/// Frames that one thread takes at a time, so that neighbours stay together.
const RUN: usize = 8;

/// What is copied, and by whom.
pub struct Copier<'a> {
    inner: &'a Arc<Inner>,
    live: &'a LiveSet,
    step: &'a Step<'a>,
    workers: Vec<Worker<'a>>,
    /// Bytes appended.
    pub appended: AtomicU64,
    /// Objects that no pack has in good order.
    pub bad: Mutex<Vec<ContentHash>>,
}

/// One thread's frames.
struct Worker<'a> {
    frames: Frames<'a>,
    /// The frame that is being read.
    bytes: Vec<u8>,
}

/// A pack that is being read.
struct Source<'a> {
    pack: &'a PackLive,
    file: Arc<dyn VfsFile>,
    frames: Vec<FrameAt>,
    next: AtomicUsize,
}

impl Source<'_> {
    /// Whether an object lies where it is said to.
    fn holds(&self, id: &ContentHash, there: &Location) -> bool {
        let at = self.frames.binary_search_by_key(&u64::from(there.offset), |frame| frame.offset);
        let slot = at.ok().and_then(|at| self.frames[at].slots.get(usize::from(there.slot)));
        slot.is_some_and(|slot| slot.id == *id)
    }
}

impl<'a> Copier<'a> {
    /// With as many threads as the store may have.
    pub fn new(inner: &'a Arc<Inner>, live: &'a LiveSet, step: &'a Step<'a>) -> Self {
        let threads = crate::cores();
        let count = if inner.limits.threads { threads.min(8) } else { 1 };
        let worker = |_| Worker { frames: Frames::new(inner), bytes: Vec::new() };
        let (appended, bad) = (AtomicU64::new(0), Mutex::default());
        Self { inner, live, step, workers: (0..count).map(worker).collect(), appended, bad }
    }

    /// Copies what is live in a pack and has not been copied. Not durable before the next commit, nor whole before
    /// [`Self::flush`].
    pub fn copy(&mut self, pack: &PackLive) -> Result<(), GcError> {
        let Some(source) = self.open(pack)? else { return Ok(()) };
        let mut workers = std::mem::take(&mut self.workers);
        let copied = match workers.as_mut_slice() {
            [only] => self.work(&source, only),
            all => std::thread::scope(|scope| {
                let this = &*self;
                let source = &source;
                let spawn = |worker| scope.spawn(move || this.work(source, worker));
                let threads: Vec<_> = all.iter_mut().map(spawn).collect();
                let panicked = || Err(PutError::Poisoned("a thread that copies failed".to_owned()).into());
                threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).fold(Ok(()), Result::and)
            }),
        };
        self.workers = workers;
        copied
    }

    /// Writes what has been collected.
    pub fn flush(&mut self) -> Result<(), GcError> {
        for worker in &mut self.workers {
            self.appended.fetch_add(worker.frames.flush()?, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The pack's frames; nothing if it is not there.
    fn open<'p>(&self, pack: &'p PackLive) -> Result<Option<Source<'p>>, GcError> {
        let io = |source| GetError::Io { path: pack.file.path(), source };
        let vfs = &*self.inner.place.vfs;
        let file = match open_pack(vfs, pack.file.name) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(io)?,
        };
        let mut frames = Vec::new();
        let mut take = |frame| {
            frames.push(frame);
            Ok(())
        };
        frames_of(vfs, &pack.file, 0, &mut take, &mut |_| {}).map_err(io)?;
        Ok(Some(Source { pack, file, frames, next: AtomicUsize::new(0) }))
    }

    fn work(&self, source: &Source<'_>, worker: &mut Worker<'_>) -> Result<(), GcError> {
        loop {
            let from = source.next.fetch_add(RUN, Ordering::Relaxed);
            let Some(run) = source.frames.get(from..source.frames.len().min(from + RUN)).filter(|run| !run.is_empty())
            else {
                return Ok(());
            };
            for frame in run {
                let copied = self.copy_frame(source, frame, worker)?;
                if (self.step)(0, copied).is_break() {
                    return Err(GcError::Stopped);
                }
            }
        }
    }

    /// Copies what is wanted of a frame; how many of its bytes that is, counted as in `Use::live_stored`.
    fn copy_frame(&self, source: &Source<'_>, frame: &FrameAt, worker: &mut Worker<'_>) -> Result<u64, GcError> {
        let mut wanted = Vec::new();
        let offset = u32::try_from(frame.offset).unwrap_or(u32::MAX);
        for (at, slot) in frame.slots.iter().enumerate() {
            let position = u16::try_from(at).unwrap_or(u16::MAX);
            // A frame that was not there at the beginning: then the pack is none that could go.
            let Some(ordinal) = source.pack.ordinal(offset, position) else {
                source.pack.need();
                return Ok(0);
            };
            let is_wanted = match source.pack.is_live(ordinal) {
                true => !source.pack.is_copied(ordinal),
                false => self.is_last_good(&slot.id, source)?,
            };
            if is_wanted {
                wanted.push((at, ordinal));
            }
        }
        if wanted.is_empty() {
            return Ok(0);
        }
        let raw: u64 = wanted.iter().map(|(at, _)| u64::from(frame.slots[*at].len)).sum();
        let copied = (frame.end() - frame.offset) * raw / u64::from(frame.raw_len.max(1));
        let class = source.pack.class.unwrap_or_else(|| Class::of(frame.slots[wanted[0].0].kind));
        let io = |error| GetError::Io { path: source.pack.file.path(), source: error };
        let decoded = read_frame(&*source.file, frame.offset, class, &mut worker.bytes).map_err(io)?;
        let schema = &*self.inner.schema;
        let is_whole = |decoded: &Frame| (0..frame.slots.len()).all(|at| decoded.verify(at, schema));
        if let Ok(decoded) = &decoded
            && wanted.len() == frame.slots.len()
            && decoded.slots() == frame.slots
            && frame.raw_len as usize >= target_of(class) / 2
            && is_whole(decoded)
        {
            // As it lies there: every byte of it has been checked.
            self.inner.append(class, &worker.bytes, &frame.slots)?;
            self.appended.fetch_add(worker.bytes.len() as u64, Ordering::Relaxed);
            wanted.iter().for_each(|(_, ordinal)| source.pack.note_copied(*ordinal));
            return Ok(copied);
        }
        for (at, ordinal) in wanted {
            let slot = frame.slots[at];
            let good = decoded.as_ref().ok().filter(|decoded| decoded.verify(at, schema));
            let range = good.and_then(|decoded| decoded.find(at, &slot.id));
            let object;
            let bytes = match (good, range) {
                (Some(decoded), Some(range)) => &decoded.raw()[range],
                _ => match self.inner.get(slot.kind, &slot.id) {
                    Ok(found) => {
                        object = found;
                        &*object
                    }
                    Err(error) if error.is_damage() => {
                        source.pack.need();
                        lock(&self.bad).push(slot.id);
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                },
            };
            self.appended.fetch_add(worker.frames.push(slot.id, slot.kind, bytes)?, Ordering::Relaxed);
            source.pack.note_copied(ordinal);
        }
        Ok(copied)
    }

    /// Whether a copy that was not noted is needed all the same: the object is live, and bad where it was noted.
    fn is_last_good(&self, id: &ContentHash, source: &Source<'_>) -> Result<bool, GcError> {
        let Some(there) = self.inner.locate_indexed(id)? else { return Ok(false) };
        if !self.live.is_live(&there) {
            return Ok(false);
        }
        // If it is in this pack, its turn comes.
        if there.pack == source.pack.number && source.holds(id, &there) {
            return Ok(false);
        }
        match self.inner.read_at(&there, id) {
            Ok(_) => Ok(false),
            Err(error) if error.is_damage() => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
