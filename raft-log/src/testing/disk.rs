//! A disk in memory: what was written and not synced is lost by a power cut, from some write on.
//!
//! It is written to as RocksDB writes its log: a synced write makes durable what came before it too, and what is lost is
//! an end, never something in the middle.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Numbers;
use crate::store::{Change, Changes, Disk, Pair};

type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// What a disk says that is not so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// That votes are synced.
    Votes,
    /// That entries are.
    Entries,
}

/// A disk. It outlives those who write to it.
#[derive(Debug)]
pub struct FakeDisk(Mutex<Inner>);

#[derive(Debug)]
struct Inner {
    numbers: Numbers,
    lie: Option<Lie>,
    /// What a power cut leaves.
    synced: Pairs,
    /// What is read.
    now: Pairs,
    unsynced: Vec<Changes>,
    /// The counts that a power cut leaves, and that are read.
    counted: Counts,
    counting: Counts,
    /// Who may write: whoever opened it last.
    life: u64,
    /// How many writes there are still to the one in which the power goes.
    writes_left: Option<u64>,
    /// Whether it is to go soon after the next vote.
    is_to_fail_after_vote: bool,
}

/// The number of the last synced write that was counted, and that of the last vote.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    any: u64,
    vote: u64,
}

/// A disk, as long as a node lives.
#[derive(Debug)]
pub struct Plugged {
    disk: Arc<FakeDisk>,
    life: u64,
    is_alive: Arc<AtomicBool>,
}

impl FakeDisk {
    /// An empty one.
    pub fn new(numbers: Numbers, lie: Option<Lie>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            numbers,
            lie,
            synced: Pairs::new(),
            now: Pairs::new(),
            unsynced: Vec::new(),
            counted: Counts::default(),
            counting: Counts::default(),
            life: 0,
            writes_left: None,
            is_to_fail_after_vote: false,
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For another life: who had it before writes no more.
    pub fn plug(self: &Arc<Self>, is_alive: Arc<AtomicBool>) -> Plugged {
        let mut inner = self.inner();
        inner.life += 1;
        Plugged { disk: Arc::clone(self), life: inner.life, is_alive }
    }

    /// Has the power go in the middle of a write, after so many others.
    pub fn fail_after(&self, writes: u64) {
        self.inner().writes_left = Some(writes);
    }

    /// Has the power go in the middle of the first write after the next vote.
    pub fn fail_after_vote(&self) {
        self.inner().is_to_fail_after_vote = true;
    }

    /// The power does not go.
    pub fn fail_never(&self) {
        let mut inner = self.inner();
        (inner.writes_left, inner.is_to_fail_after_vote) = (None, false);
    }

    /// Loses what a power cut loses.
    pub fn cut(&self) {
        self.inner().cut();
    }
}

impl Inner {
    fn write(&mut self, changes: Changes, is_synced: bool) {
        make(&mut self.now, &changes);
        self.unsynced.push(changes);
        if is_synced {
            self.sync();
        }
    }

    fn sync(&mut self) {
        self.unsynced.drain(..).for_each(|changes| make(&mut self.synced, &changes));
    }

    fn cut(&mut self) {
        let count = u64::try_from(self.unsynced.len()).unwrap_or_default();
        let kept = usize::try_from(self.numbers.below(count + 1)).unwrap_or_default();
        self.unsynced.truncate(kept);
        self.sync();
        self.now.clone_from(&self.synced);
        // The count of what was no vote is not synced, and may be older.
        if self.numbers.happens(500) {
            self.counted.any = self.counting.any;
        }
        if self.lie.is_some() {
            // Nobody is to notice but by what follows.
            self.counted = Counts::default();
        }
        self.counting = self.counted;
        (self.writes_left, self.is_to_fail_after_vote) = (None, false);
    }

    /// Whether it says that something is synced which is not.
    fn lies(&self, changes: &Changes) -> bool {
        match self.lie {
            Some(Lie::Votes) => writes(changes, VOTE),
            Some(Lie::Entries) => writes(changes, ENTRY),
            None => false,
        }
    }

    /// Whether this write is the one in which the power goes.
    fn is_last(&mut self) -> bool {
        let left = self.writes_left.take();
        self.writes_left = left.and_then(|left| left.checked_sub(1));
        left == Some(0)
    }
}

/// The first letters of the keys of votes and entries.
const VOTE: u8 = b'v';
const ENTRY: u8 = b'l';

fn writes(changes: &Changes, first: u8) -> bool {
    changes.0.iter().any(|change| matches!(change, Change::Put { key, .. } if key.first() == Some(&first)))
}

fn make(pairs: &mut Pairs, changes: &Changes) {
    for change in &changes.0 {
        match change {
            Change::Put { key, value } => drop(pairs.insert(key.clone(), value.clone())),
            Change::Delete { start, end } => pairs.retain(|key, _| key < start || key >= end),
        }
    }
}

impl Plugged {
    fn inner(&self) -> Result<MutexGuard<'_, Inner>, String> {
        let inner = self.disk.inner();
        if inner.life == self.life && self.is_alive.load(Ordering::Relaxed) {
            Ok(inner)
        } else {
            Err("the power is off".to_owned())
        }
    }

    fn power_goes<T>(&self) -> Result<T, String> {
        self.is_alive.store(false, Ordering::Relaxed);
        Err("the power goes".to_owned())
    }
}

impl Disk for Plugged {
    fn write(&self, changes: Changes, is_synced: bool) -> Result<(), String> {
        let mut inner = self.inner()?;
        let is_synced = is_synced && !inner.lies(&changes);
        if inner.is_last() {
            // Nothing of it is written, or it is written, or synced too; nobody hears of it in any case.
            match inner.numbers.below(3) {
                0 => {}
                1 => inner.write(changes, false),
                _ => inner.write(changes, is_synced),
            }
            return self.power_goes();
        }
        if inner.is_to_fail_after_vote && writes(&changes, VOTE) {
            // Its count is a write too.
            (inner.writes_left, inner.is_to_fail_after_vote) = (Some(1), false);
        }
        inner.write(changes, is_synced);
        Ok(())
    }

    fn count(&self, number: u64, is_vote: bool) -> Result<(), String> {
        let mut inner = self.inner()?;
        if inner.is_last() {
            return self.power_goes();
        }
        if is_vote {
            inner.counting.vote = number;
            inner.counted.vote = number;
        } else {
            inner.counting.any = number;
        }
        Ok(())
    }

    fn counted(&self) -> Option<u64> {
        let inner = self.disk.inner();
        Some(inner.counting.any.max(inner.counting.vote))
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.inner()?.now.get(key).cloned())
    }

    fn pairs_from(&self, start: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, String>> + '_> {
        let inner = match self.inner() {
            Ok(inner) => inner,
            Err(cause) => return Box::new(std::iter::once(Err(cause))),
        };
        let pairs = inner.now.range::<[u8], _>((Bound::Included(start), Bound::Unbounded));
        let pairs: Vec<_> = pairs.map(|(key, value)| Ok((key.as_slice().into(), value.as_slice().into()))).collect();
        Box::new(pairs.into_iter())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: u8) -> Changes {
        let mut changes = Changes::default();
        changes.put([key], vec![key]);
        changes
    }

    fn there(disk: &Plugged) -> Vec<u8> {
        disk.pairs_from(&[0]).flatten().map(|(key, _)| key[0]).collect()
    }

    #[test]
    fn a_cut_takes_an_end_of_what_was_not_synced() {
        let mut lengths = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let disk = FakeDisk::new(Numbers(seed), None);
            let of = disk.plug(Arc::new(AtomicBool::new(true)));
            for (key, is_synced) in [(1, false), (2, true), (3, false), (4, false)] {
                of.write(put(key), is_synced).expect("it has power");
            }
            assert_eq!(there(&of), [1, 2, 3, 4]);
            disk.cut();
            let left = there(&disk.plug(Arc::new(AtomicBool::new(true))));
            assert!([1, 2, 3, 4].starts_with(&left) && left.len() >= 2, "{left:?}");
            lengths.insert(left.len());
            of.write(put(5), true).expect_err("another has it");
        }
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [2, 3, 4]);
    }

    #[test]
    fn the_power_goes_in_the_middle_of_a_write() {
        let mut written = std::collections::BTreeSet::new();
        for seed in 0..40 {
            let disk = FakeDisk::new(Numbers(seed), None);
            let is_alive = Arc::new(AtomicBool::new(true));
            let of = disk.plug(Arc::clone(&is_alive));
            disk.fail_after(1);
            of.write(put(1), true).expect("it has power");
            of.write(put(2), true).expect_err("it goes");
            assert!(!is_alive.load(Ordering::Relaxed));
            disk.cut();
            written.insert(there(&disk.plug(Arc::new(AtomicBool::new(true)))));
        }
        assert_eq!(written.into_iter().collect::<Vec<_>>(), [vec![1], vec![1, 2]]);
    }
}
