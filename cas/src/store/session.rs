//! Sessions: one piece of work that stores objects and ends with a head, or without a trace.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::frames::Frames;
use super::pending::Claim;
use super::relay::Witness;
use super::{Inner, Store, lock};
use crate::error::PutError;
use crate::frame::RAW_MAX;
use crate::hash::{ContentHash, Kind, identify};
use crate::pack::Class;
use crate::rows::RowBatch;

/// Work that has no root yet. Objects that it relies on are claimed; they stay until it ends.
///
/// Dropped without [`Session::finish`], nothing that it wrote is referred to: gc takes it back.
#[derive(Debug)]
pub struct Session<'a> {
    store: &'a Store,
    number: u64,
    failed: AtomicBool,
    given_everything: AtomicBool,
    /// Claims that were answered with [`Claim::New`], less objects that were put.
    owed: AtomicI64,
    new_bytes: AtomicU64,
    new_chunks: AtomicU64,
    new_nodes: AtomicU64,
    appended_before: u64,
    pub(super) witness: Option<Arc<dyn Witness>>,
}

/// Sessions that have not ended, and the head that each of them began on: what it does not claim, it takes from there.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    live: Mutex<Live>,
    ended: Condvar,
}

#[derive(Debug, Default)]
struct Live {
    next: u64,
    heads: BTreeMap<u64, Option<ContentHash>>,
}

impl Sessions {
    fn begin(&self, head: impl FnOnce() -> Option<ContentHash>) -> u64 {
        let mut live = lock(&self.live);
        live.next += 1;
        let number = live.next;
        live.heads.insert(number, head());
        number
    }

    fn end(&self, number: u64) {
        lock(&self.live).heads.remove(&number);
        self.ended.notify_all();
    }

    /// Runs something while no session begins, and waits for those that began before it.
    pub(crate) fn outlive(&self, run: impl FnOnce()) {
        let mut live = lock(&self.live);
        run();
        let last = live.next;
        while live.heads.first_key_value().is_some_and(|(number, _)| *number <= last) {
            live = self.await_end(live);
        }
    }

    fn await_end<'a>(&'a self, live: MutexGuard<'a, Live>) -> MutexGuard<'a, Live> {
        #[cfg(any(test, feature = "testing"))]
        if let Some(pause) = crate::testing::pause() {
            drop(live);
            pause();
            return lock(&self.live);
        }
        self.ended.wait(live).unwrap_or_else(PoisonError::into_inner)
    }

    /// What those that have not ended began on.
    pub(crate) fn heads(&self) -> Vec<ContentHash> {
        lock(&self.live).heads.values().flatten().copied().collect()
    }
}

/// What a session stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SessionStats {
    /// Raw bytes of chunks that were not there before.
    pub new_bytes: u64,
    /// Chunks that were not there before.
    pub new_chunks: u64,
    /// Metadata objects that were not there before.
    pub new_nodes: u64,
    /// By how much the packs grew.
    pub stored_bytes: u64,
}

impl Store {
    /// Begins a session. Fails on a store that is open for reading only.
    pub fn session(&self) -> Result<Session<'_>, PutError> {
        let writer = self.inner.writer()?;
        writer.check()?;
        Ok(Session {
            store: self,
            number: self.inner.sessions.begin(|| writer.head().head),
            failed: AtomicBool::new(false),
            given_everything: AtomicBool::new(false),
            owed: AtomicI64::new(0),
            new_bytes: AtomicU64::new(0),
            new_chunks: AtomicU64::new(0),
            new_nodes: AtomicU64::new(0),
            appended_before: writer.appended.load(Ordering::Relaxed),
            witness: None,
        })
    }
}

impl Session<'_> {
    /// Asks for an object to rely on it. After [`Claim::New`] the caller puts the bytes, come what may.
    ///
    /// A collection that runs beside leaves alone what is claimed, and everything that the head leads to on which this
    /// session began: what a session does not claim it may take from there only.
    pub fn claim(&self, id: &ContentHash) -> Result<Claim, PutError> {
        let inner = &self.store.inner;
        let known = || inner.keep(id).map_err(PutError::from);
        let claim = inner.pending.claim(id, self.number, |at| inner.is_bad(id, at), known)?;
        if claim == Claim::New {
            self.owed.fetch_add(1, Ordering::Relaxed);
        }
        Ok(claim)
    }

    /// Says that this session has claimed all objects that can be made from the bytes at hand, old ones too. What is
    /// damaged and is not stored again when it finishes is given up: see [`Store::needs_everything`].
    pub fn was_given_everything(&self) {
        self.given_everything.store(true, Ordering::Relaxed);
    }

    /// A place to put objects; each thread has its own.
    pub fn writer(&self) -> FrameWriter<'_> {
        FrameWriter { session: self, inner: &self.store.inner, frames: Frames::new(&self.store.inner) }
    }

    /// What has been stored so far.
    pub fn stats(&self) -> SessionStats {
        let appended = self.store.inner.writer().map_or(0, |writer| writer.appended.load(Ordering::Relaxed));
        SessionStats {
            new_bytes: self.new_bytes.load(Ordering::Relaxed),
            new_chunks: self.new_chunks.load(Ordering::Relaxed),
            new_nodes: self.new_nodes.load(Ordering::Relaxed),
            stored_bytes: appended - self.appended_before,
        }
    }

    /// Makes everything durable that was put so far, with the head as it is. The session goes on: what it claimed stays
    /// until it ends, and by then something else must refer to it.
    ///
    /// All writers have been flushed before.
    pub fn keep(&self) -> Result<(), PutError> {
        if self.failed.load(Ordering::Acquire) || self.owed.load(Ordering::Acquire) > 0 {
            return Err(PutError::Poisoned("objects of this session were not written".to_owned()));
        }
        self.store.inner.commit_as_is()?;
        self.store.inner.settle_damage(false);
        Ok(())
    }

    /// Makes everything durable and moves the head to `head`; then `rows` go into the index, unsynced.
    ///
    /// All writers have been flushed before. On success the head is acknowledged (G1). On failure the head
    /// on disk is the old one or, if the error came while `HEAD` was replaced, one of the two.
    pub fn finish(self, head: Option<ContentHash>, rows: RowBatch) -> Result<SessionStats, PutError> {
        // Whoever was told that an object is there relies on those who were told to bring it.
        if self.failed.load(Ordering::Acquire) || self.owed.load(Ordering::Acquire) > 0 {
            return Err(PutError::Poisoned("objects of this session were not written".to_owned()));
        }
        self.store.inner.commit(head, rows)?;
        self.store.inner.settle_damage(self.given_everything.load(Ordering::Relaxed));
        Ok(self.stats())
    }
}

impl Session<'_> {
    pub(super) fn inner(&self) -> &Arc<Inner> {
        &self.store.inner
    }

    /// An object that was claimed as new is on its way into a pack.
    pub(super) fn note_put(&self, class: Class, len: u64) {
        self.owed.fetch_sub(1, Ordering::AcqRel);
        if class == Class::Data {
            self.new_bytes.fetch_add(len, Ordering::Relaxed);
            self.new_chunks.fetch_add(1, Ordering::Relaxed);
        } else {
            self.new_nodes.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Something that others may rely on was not written: nothing of this session is acknowledged.
    pub(super) fn fail(&self) {
        self.failed.store(true, Ordering::Release);
    }
}

impl Drop for Session<'_> {
    fn drop(&mut self) {
        self.store.inner.pending.release(self.number);
        self.store.inner.sessions.end(self.number);
    }
}

/// Collects objects into frames. Call [`FrameWriter::flush`] at the end.
#[derive(Debug)]
pub struct FrameWriter<'a> {
    session: &'a Session<'a>,
    inner: &'a Arc<Inner>,
    frames: Frames<'a>,
}

impl FrameWriter<'_> {
    /// Puts an object that [`Session::claim`] said was new.
    pub fn put(&mut self, id: ContentHash, kind: Kind, bytes: &[u8]) -> Result<(), PutError> {
        let result = self.put_claimed(id, kind, bytes);
        if result.is_err() {
            self.session.failed.store(true, Ordering::Release);
        }
        result
    }

    fn put_claimed(&mut self, id: ContentHash, kind: Kind, bytes: &[u8]) -> Result<(), PutError> {
        if !is_storable(bytes) {
            return Err(PutError::Unstorable { kind, len: bytes.len() });
        }
        self.frames.push(id, kind, bytes)?;
        self.session.note_put(Class::of(kind), bytes.len() as u64);
        Ok(())
    }

    /// Stores an object unless it is there, and says its id.
    pub fn store(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        let unstorable = PutError::Unstorable { kind, len: bytes.len() };
        // Before it is claimed: then it need not be brought.
        let id = identify(&*self.inner.schema, kind, bytes).filter(|_| is_storable(bytes)).ok_or(unstorable)?;
        if self.session.claim(&id)? == Claim::New {
            self.put(id, kind, bytes)?;
        }
        Ok(id)
    }

    /// Writes what is collected. A frame that fails fails the session.
    pub fn flush(&mut self) -> Result<(), PutError> {
        let result = self.frames.flush();
        if result.is_err() {
            self.session.failed.store(true, Ordering::Release);
        }
        result.map(|_| ())
    }
}

fn is_storable(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.len() <= RAW_MAX
}

impl Drop for FrameWriter<'_> {
    fn drop(&mut self) {
        if !self.frames.is_empty() {
            self.session.failed.store(true, Ordering::Release);
        }
    }
}
