//! What is read ahead, in which order, and how far.
//!
//! Every directory that was read leaves a *cursor*: the next of its subdirectories, or of its batches, that nobody has
//! begun. The cursor with the least key is the next piece of work, and keys are in the order of a walk; so the memory
//! taken is that of the directories with unfinished cursors, and of the results that lie ready, which are counted.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use filesync_merkle::{Name, RepoPath};

use super::dir::{Batch, Found, scan, scan_batch};
use super::error::ScanError;
use super::list::{Listing, Scratch};
use super::stat::Kind;
use super::{BATCH_LEN, Shared};
use crate::path_set::{Part, PathSet};
use crate::stat_cache::CachedDir;

/// What a directory costs besides its entries, in entries.
const DIR_COST: usize = 8;

/// Where a directory stands in the walk: its components, NUL behind each. A batch has its directory's key with its own
/// first name behind, without NUL: so it comes before the subdirectory of that name, and after what precedes it.
pub(super) fn key(path: &RepoPath) -> Vec<u8> {
    let mut key: Vec<u8> = path.as_bytes().iter().map(|&byte| if byte == b'/' { 0 } else { byte }).collect();
    if !key.is_empty() {
        key.push(0);
    }
    key
}

pub(super) struct Queue {
    state: Mutex<State>,
    /// There is work, or room for it, or the end.
    work: Condvar,
    /// Something was finished.
    done: Condvar,
    look_ahead: usize,
    only: Arc<PathSet>,
}

#[derive(Default)]
struct State {
    cursors: BTreeMap<Vec<u8>, Cursor>,
    slots: BTreeMap<Vec<u8>, Slot>,
    /// The cost of what is done and was not asked for yet.
    held: usize,
    /// Threads that wait for work.
    idle: usize,
    /// Whether the asking thread waits.
    asking: bool,
    closed: bool,
}

enum Slot {
    Running,
    Done(Done, usize),
}

enum Done {
    Dir(Result<Box<Found>, ScanError>),
    Batch(Result<Batch, ScanError>),
}

impl Done {
    fn cost(&self) -> usize {
        DIR_COST
            + match self {
                Self::Dir(Ok(found)) => found.first.entries.len(),
                Self::Batch(Ok(batch)) => batch.entries.len(),
                _ => 0,
            }
    }
}

/// A place in a directory's names.
#[derive(Clone)]
struct Cursor {
    key: Vec<u8>,
    listing: Arc<Listing>,
    cached: Option<Arc<CachedDir>>,
    at: usize,
    /// Whether the batch that begins at `at` was given out.
    past_batch: bool,
    only: Arc<PathSet>,
}

enum Job {
    Dir(Arc<Listing>, RepoPath),
    Batch(Arc<Listing>, Option<Arc<CachedDir>>, usize),
}

impl Cursor {
    /// The next piece of work from here on, and its key; the cursor then stands before it.
    fn settle(&mut self) -> Option<Vec<u8>> {
        while self.at < self.listing.len() {
            let listed = self.listing.get(self.at);
            if self.is_at_batch() {
                return Some([&self.key, listed.name()].concat());
            }
            if listed.kind == Kind::Directory && !listed.ignored && self.leads(listed.name()) {
                return Some([&self.key, listed.name(), &[0]].concat());
            }
            self.step();
        }
        None
    }

    /// Whether the walk is about something in the subdirectory of that name.
    fn leads(&self, name: &[u8]) -> bool {
        self.only.is_all()
            || Name::new(name).is_ok_and(|name| self.only.part(&self.listing.path.join(&name)) != Part::None)
    }

    fn is_at_batch(&self) -> bool {
        self.at > 0 && self.at.is_multiple_of(BATCH_LEN) && !self.past_batch
    }

    fn step(&mut self) {
        if self.is_at_batch() {
            self.past_batch = true;
        } else {
            self.at += 1;
            self.past_batch = false;
        }
    }

    fn job(&self) -> Option<Job> {
        let listing = Arc::clone(&self.listing);
        if self.is_at_batch() {
            return Some(Job::Batch(listing, self.cached.clone(), self.at / BATCH_LEN));
        }
        let name = Name::new(self.listing.get(self.at).name()).ok()?;
        let path = self.listing.path.join(&name);
        Some(Job::Dir(listing, path))
    }
}

impl State {
    fn add(&mut self, mut cursor: Cursor) {
        if let Some(key) = cursor.settle() {
            self.cursors.insert(key, cursor);
        }
    }

    /// Takes the first piece of work.
    fn pop(&mut self) -> Option<(Vec<u8>, Job)> {
        while let Some((key, mut cursor)) = self.cursors.pop_first() {
            let job = cursor.job();
            cursor.step();
            self.add(cursor);
            if let Some(job) = job {
                self.slots.insert(key.clone(), Slot::Running);
                return Some((key, job));
            }
        }
        None
    }

    /// Forgets what lies before `key`: the walk has gone past it.
    fn pass(&mut self, key: &[u8]) {
        while let Some(first) = self.slots.first_entry() {
            if first.key().as_slice() >= key {
                break;
            }
            if let Slot::Done(_, cost) = first.remove() {
                self.held -= cost;
            }
        }
        while let Some(first) = self.cursors.first_entry() {
            if first.key().as_slice() >= key {
                break;
            }
            let mut cursor = first.remove();
            cursor.step();
            self.add(cursor);
        }
    }

    /// Forgets the work under `key`, since the asking thread does it itself.
    fn take_over(&mut self, key: &[u8]) {
        if let Some(mut cursor) = self.cursors.remove(key) {
            cursor.step();
            self.add(cursor);
        }
    }
}

impl Queue {
    pub(super) fn new(look_ahead: usize, only: PathSet) -> Self {
        let only = Arc::new(only);
        Self { state: Mutex::default(), work: Condvar::new(), done: Condvar::new(), look_ahead, only }
    }

    pub(super) fn only(&self) -> Arc<PathSet> {
        Arc::clone(&self.only)
    }

    fn cursor(&self, key: Vec<u8>, listing: Arc<Listing>, cached: Option<Arc<CachedDir>>) -> Cursor {
        Cursor { key, listing, cached, at: 0, past_batch: false, only: self.only() }
    }

    /// The directory under `key` if a thread has read it, or reads it now. Otherwise the asking thread must.
    pub(super) fn claim(&self, key: &[u8], shared: &Shared, scratch: &mut Scratch) -> Option<Result<Found, ScanError>> {
        let mut state = self.lock();
        state.pass(key);
        match self.await_done(state, key, shared, scratch)? {
            Done::Dir(found) => Some(found.map(|found| *found)),
            Done::Batch(_) => None,
        }
    }

    /// As [`Self::claim`], of a batch. It may lie before what was asked for last.
    fn claim_batch(&self, key: &[u8], shared: &Shared, scratch: &mut Scratch) -> Option<Result<Batch, ScanError>> {
        match self.await_done(self.lock(), key, shared, scratch)? {
            Done::Batch(batch) => Some(batch),
            Done::Dir(_) => None,
        }
    }

    fn await_done<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        key: &[u8],
        shared: &Shared,
        scratch: &mut Scratch,
    ) -> Option<Done> {
        loop {
            match state.slots.get(key) {
                None => {
                    state.take_over(key);
                    return None;
                }
                Some(Slot::Done(..)) => {}
                // Others are at it: rather than sleep, do what comes next.
                Some(Slot::Running) => {
                    let job = if state.held < self.look_ahead { state.pop() } else { None };
                    if let Some((key, job)) = job {
                        drop(state);
                        self.run(key, job, shared, scratch);
                        state = self.lock();
                    } else {
                        state.asking = true;
                        state = self.done.wait(state).unwrap_or_else(PoisonError::into_inner);
                        state.asking = false;
                    }
                    continue;
                }
            }
            let Some(Slot::Done(done, cost)) = state.slots.remove(key) else {
                return None;
            };
            let was_full = state.held >= self.look_ahead;
            state.held -= cost;
            // Threads that stopped for want of room go on when half of it is free, not at every entry.
            if state.idle > 0 && (was_full || state.held < self.look_ahead / 2) && !state.cursors.is_empty() {
                self.work.notify_all();
            }
            return Some(done);
        }
    }

    /// Plans what lies below a directory that the asking thread has read itself. Whether anything can be read ahead.
    pub(super) fn add_below(&self, key: &[u8], listing: &Arc<Listing>, cached: Option<Arc<CachedDir>>) -> bool {
        let mut state = self.lock();
        state.add(self.cursor(key.to_vec(), Arc::clone(listing), cached));
        self.wake(&state);
        !state.cursors.is_empty()
    }

    fn wake(&self, state: &State) {
        if state.idle > 0 && !state.cursors.is_empty() && state.held < self.look_ahead {
            self.work.notify_one();
        }
    }

    /// Lets the threads end.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.work.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for work; `None` at the end.
    fn next(&self) -> Option<(Vec<u8>, Job)> {
        let mut state = self.lock();
        loop {
            if state.closed {
                return None;
            }
            if state.held < self.look_ahead
                && let Some(next) = state.pop()
            {
                return Some(next);
            }
            state.idle += 1;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.idle -= 1;
        }
    }

    fn run(&self, key: Vec<u8>, job: Job, shared: &Shared, scratch: &mut Scratch) {
        let slot = Running { queue: self, key };
        match job {
            Job::Dir(above, path) => {
                let found = scan(shared, path, &above.rules, above.left_out, scratch).map(Box::new);
                slot.finish(Done::Dir(found));
            }
            Job::Batch(listing, cached, index) => {
                slot.finish(Done::Batch(scan_batch(shared, &listing, cached.as_deref(), index)));
            }
        }
    }
}

/// A slot that somebody works on. If that one panics, it is free again, and who asks does it.
struct Running<'a> {
    queue: &'a Queue,
    key: Vec<u8>,
}

impl Running<'_> {
    fn finish(mut self, done: Done) {
        let key = std::mem::take(&mut self.key);
        let mut state = self.queue.lock();
        // It is not there any more if the walk has gone past.
        if let Some(slot) = state.slots.get_mut(&key) {
            let below = match &done {
                Done::Dir(Ok(found)) => Some((Arc::clone(&found.listing), found.cached.clone())),
                _ => None,
            };
            let cost = done.cost();
            *slot = Slot::Done(done, cost);
            state.held += cost;
            if let Some((listing, cached)) = below {
                state.add(self.queue.cursor(key, listing, cached));
            }
        }
        if state.asking {
            self.queue.done.notify_one();
        }
        self.queue.wake(&state);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if !self.key.is_empty() {
            self.queue.lock().slots.remove(&self.key);
            self.queue.done.notify_one();
        }
    }
}

impl Shared {
    /// What a thread does.
    pub(super) fn work(&self) {
        let mut scratch = Scratch::new();
        while let Some((key, job)) = self.queue.next() {
            self.queue.run(key, job, self, &mut scratch);
        }
    }

    /// A batch after the first, of a directory with this key.
    pub(super) fn batch(
        &self,
        directory: &[u8],
        listing: &Arc<Listing>,
        cached: Option<&CachedDir>,
        index: usize,
    ) -> Result<Batch, ScanError> {
        let key = [directory, listing.get(index * BATCH_LEN).name()].concat();
        // Directories are not read here unless the batch is being made by somebody else.
        let mut scratch = Scratch::new();
        match self.queue.claim_batch(&key, self, &mut scratch) {
            Some(done) => done,
            None => scan_batch(self, listing, cached, index),
        }
    }
}
