//! What happened, line by line, how often what did, and the first promise that was broken.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// What is promised. The numbers are those of `docs/guarantees.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// G3: there is one state after each entry, and one order of publishes, whoever applies them.
    OneOrder,
    /// G3: what was told to be published is there for ever, once.
    Once,
    /// G4: a majority of every set of voters in force has on its disks what `main` shows.
    Held,
    /// G5: a disk that was never lied to is enough to start again, and nothing but its disk ends a node.
    GoesOn,
    /// Who is a member no more gets nothing more.
    Members,
    /// When faults end, everything comes to an end: all nodes become the same, and nothing stays pinned.
    Ends,
}

/// A promise that does not hold, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub promise: Promise,
    pub how: String,
}

/// What happened.
#[derive(Debug)]
pub struct Record {
    begun: Instant,
    inner: Mutex<Told>,
}

/// What is left of a run.
#[derive(Debug, Default)]
pub struct Told {
    /// All that happened.
    pub lines: Vec<String>,
    /// The first promise that was broken.
    pub broken: Option<Broken>,
    /// How often what happened: a run in which nothing did proves nothing.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Record {
    /// Begins now.
    pub fn new() -> Self {
        Self { begun: Instant::now(), inner: Mutex::default() }
    }

    fn inner(&self) -> MutexGuard<'_, Told> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long it has been going on.
    pub fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    /// Something happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>7} {what}", self.elapsed().as_millis());
        self.inner().lines.push(line);
    }

    /// Something happened that is to happen.
    pub fn count(&self, what: &'static str) {
        *self.inner().counts.entry(what).or_default() += 1;
    }

    /// A promise was broken. Only the first counts: what follows may follow from it.
    pub fn broken(&self, promise: Promise, how: String) {
        self.note(format_args!("BROKEN {promise:?}: {how}"));
        self.inner().broken.get_or_insert(Broken { promise, how });
    }

    /// Whether one was.
    pub fn is_broken(&self) -> bool {
        self.inner().broken.is_some()
    }

    /// What is left.
    pub fn told(&self) -> Told {
        std::mem::take(&mut *self.inner())
    }
}
