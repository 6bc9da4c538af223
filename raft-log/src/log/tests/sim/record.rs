//! What happened, line by line, and the first promise that was broken.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// What is promised. The numbers are those of `docs/guarantees.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Promise {
    /// G3: there is one order of entries, and one state after each of them, whoever applies it.
    OneOrder,
    /// G3: a publish is decided once, and whoever was told of it finds it so.
    Once,
    /// G4: a majority of every set of voters in force holds what refs show.
    Held,
    /// G7: who gave a receipt that a granted publish counts on has what it was for, as long as it is visible.
    Kept,
    /// What a disk has kept is enough for its node to go on; nothing but its disk ends a node.
    GoesOn,
    /// When faults end, everything that was asked for is decided, all nodes become the same, and no pin stays.
    Ends,
}

/// A promise that does not hold, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    pub promise: Promise,
    pub how: String,
}

impl Broken {
    pub fn new(promise: Promise, how: String) -> Self {
        Self { promise, how }
    }
}

/// What happened.
#[derive(Debug)]
pub struct Record {
    begun: Instant,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Vec<String>,
    broken: Option<Broken>,
    counts: BTreeMap<&'static str, u64>,
}

/// What is left of a run.
#[derive(Debug)]
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

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Milliseconds since it began.
    pub fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Something happened.
    pub fn note(&self, what: fmt::Arguments<'_>) {
        let line = format!("{:>7} {what}", self.millis());
        self.inner().lines.push(line);
    }

    /// Something happened that is to happen.
    pub fn count(&self, what: &'static str) {
        *self.inner().counts.entry(what).or_default() += 1;
    }

    /// A promise was broken. Only the first counts: what follows may follow from it.
    pub fn broken(&self, broken: Broken) {
        self.note(format_args!("BROKEN {broken:?}"));
        self.inner().broken.get_or_insert(broken);
    }

    /// Whether one was.
    pub fn is_broken(&self) -> bool {
        self.inner().broken.is_some()
    }

    /// What is left.
    pub fn told(&self) -> Told {
        let Inner { lines, broken, counts } = std::mem::take(&mut *self.inner());
        Told { lines, broken, counts }
    }
}

/// A number for bytes, the same in every run.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
