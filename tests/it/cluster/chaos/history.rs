//! What was asked of the cluster and what came of it, and whether one register explains it.
//!
//! The register is `main`. The order of its values is what the voters hold (`audit`). An operation took effect at some moment
//! between its begin and its end, and saw, or made, the value at one place of the order. There is such a moment for each
//! of them if nobody sees an older value than anybody saw, or made, who had ended before he began.

use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Display, Formatter};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum What {
    Publish,
    /// What an earlier publish left, of which nothing was known, is settled.
    Settle,
    Read,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Done, and this was `main` then.
    Done(String),
    /// It may have been done, or be done later.
    Unknown(String),
    Refused(String),
}

#[derive(Debug, Clone)]
pub struct Operation {
    pub node: usize,
    pub what: What,
    pub begin: Duration,
    pub end: Duration,
    pub outcome: Outcome,
}

/// A commit: the change of a node with this number.
#[derive(Debug, Clone)]
pub struct Made {
    pub node: usize,
    pub change: u32,
    pub commit: String,
    pub is_acknowledged: bool,
}

/// Filled by all clients at once.
pub struct History {
    began: Instant,
    operations: Mutex<Vec<Operation>>,
    made: Mutex<Vec<Made>>,
    count: AtomicUsize,
    aim: usize,
    limit: Duration,
    is_over: AtomicBool,
    told: Mutex<Vec<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl History {
    /// Of at least so many operations that are done, which no machine takes so long for.
    pub fn new(aim: usize, limit: Duration) -> Self {
        let (operations, made, count, is_over, told) = Default::default();
        Self { began: Instant::now(), operations, made, count, aim, limit, is_over, told }
    }

    pub fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Which part of it is behind us: 1 or more when that is all.
    pub fn progress(&self) -> f64 {
        self.count.load(Ordering::Relaxed) as f64 / self.aim as f64
    }

    /// Fails if it takes so long that something must hang.
    pub fn assert_in_time(&self) {
        assert!(self.now() < self.limit, "{} of {} operations", self.count.load(Ordering::Relaxed), self.aim);
    }

    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    pub fn note(&self, node: usize, what: What, begin: Duration, outcome: Outcome) {
        // What was refused, or may have been done, shows nothing of what is visible to whom.
        self.count.fetch_add(usize::from(matches!(outcome, Outcome::Done(_))), Ordering::Relaxed);
        lock(&self.operations).push(Operation { node, what, begin, end: self.now(), outcome });
    }

    pub fn note_made(&self, node: usize, change: u32, commit: String) {
        lock(&self.made).push(Made { node, change, commit, is_acknowledged: false });
    }

    /// Everything that a node has made by now is published: so it was told.
    pub fn acknowledge(&self, node: usize) {
        lock(&self.made).iter_mut().filter(|it| it.node == node).for_each(|it| it.is_acknowledged = true);
    }

    pub fn operations(&self) -> Vec<Operation> {
        lock(&self.operations).clone()
    }

    pub fn made(&self) -> Vec<Made> {
        lock(&self.made).clone()
    }

    /// For the eye: what happened besides.
    pub fn tell(&self, what: String) {
        lock(&self.told).push(format!("{:8.3} {what}", self.now().as_secs_f64()));
    }

    pub fn told(&self) -> String {
        lock(&self.told).join("\n")
    }

    /// How often each came of what, with the causes, for the eye.
    pub fn summary(&self) -> String {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for it in lock(&self.operations).iter() {
            let outcome = match &it.outcome {
                Outcome::Done(_) => "done".to_owned(),
                Outcome::Unknown(cause) => format!("unknown: {}", without_numbers(cause)),
                Outcome::Refused(cause) => format!("refused: {}", without_numbers(cause)),
            };
            *counts.entry(format!("{:?}, {outcome}", it.what)).or_default() += 1;
        }
        let lines = counts.iter().map(|(what, count)| format!("    {count:5} {what}\n"));
        let (all, done) = (lock(&self.operations).len(), self.count.load(Ordering::Relaxed));
        format!("{all} operations in {:?}, {done} of them done\n{}", self.now(), lines.collect::<String>())
    }
}

/// Dropped by anybody, however he ends, it is over for all.
pub struct Ends<'a>(pub &'a History);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }
}

/// Causes that differ in numbers, ids and directories are one.
fn without_numbers(cause: &str) -> String {
    let word = |word: &str| {
        let word = word.rsplit('/').next().unwrap_or(word);
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        if digits > 1 { "…".to_owned() } else { word.replace(|c: char| c.is_ascii_digit(), "…") }
    };
    cause.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// An operation that was done, and the place of its value in the order.
#[derive(Clone, Copy)]
pub struct Seen {
    pub node: usize,
    pub begin: Duration,
    pub end: Duration,
    pub place: usize,
    /// It put the value there itself, after it began.
    pub wrote: bool,
}

impl Display for Seen {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let did = if self.wrote { "wrote" } else { "saw" };
        let Self { node, begin, end, place, .. } = self;
        write!(f, "node {node} {did} {place} between {begin:?} and {end:?}")
    }
}

/// What was done, by its place in the order of values; a value that was never `main` is a mistake.
pub fn places(operations: &[Operation], order: &[String]) -> Result<Vec<Seen>, String> {
    let place: HashMap<&String, usize> = order.iter().enumerate().map(|(place, value)| (value, place)).collect();
    let mut seen = Vec::new();
    for it in operations {
        let Outcome::Done(value) = &it.outcome else { continue };
        let place = *place.get(value).ok_or_else(|| format!("main was never that: {it:?}"))?;
        seen.push(Seen { node: it.node, begin: it.begin, end: it.end, place, wrote: it.what == What::Publish });
    }
    Ok(seen)
}

/// Whether one register explains it all.
pub fn check(seen: &[Seen]) -> Result<(), String> {
    let (mut by_begin, mut by_end) = (seen.to_vec(), seen.to_vec());
    by_begin.sort_by_key(|it| it.begin);
    by_end.sort_by_key(|it| it.end);
    let mut ended = by_end.into_iter().peekable();
    // The newest value that anybody knew of who had ended.
    let mut newest: Option<Seen> = None;
    for it in by_begin {
        while let Some(earlier) = ended.next_if(|earlier| earlier.end < it.begin) {
            newest = newest.filter(|known| known.place >= earlier.place).or(Some(earlier));
        }
        match newest {
            Some(known) if known.place > it.place => return Err(format!("{it}, after {known}")),
            Some(known) if known.place == it.place && it.wrote => {
                return Err(format!("{known}, before {it}"));
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By node: begin, end, place; and who writes.
    fn seen(rows: &[(u64, u64, usize)], wrote: bool) -> Vec<Seen> {
        let row = |(node, (begin, end, place)): (usize, &(u64, u64, usize))| {
            let (begin, end) = (Duration::from_secs(*begin), Duration::from_secs(*end));
            Seen { node, begin, end, place: *place, wrote }
        };
        rows.iter().enumerate().map(row).collect()
    }

    #[test]
    fn who_overlap_may_see_either() {
        check(&seen(&[(0, 5, 1), (1, 6, 2), (2, 7, 1), (8, 9, 2)], false)).expect("one register does that");
    }

    #[test]
    fn going_back_is_found() {
        let told =
            check(&seen(&[(0, 5, 1), (1, 2, 2), (3, 4, 1)], false)).expect_err("an older value after a newer one");
        assert_eq!(told, "node 2 saw 1 between 3s and 4s, after node 1 saw 2 between 1s and 2s");
    }

    #[test]
    fn an_acknowledged_write_that_is_not_seen_is_found() {
        let written = seen(&[(0, 1, 3)], true);
        check(&[written, seen(&[(2, 3, 2)], false)].concat()).expect_err("the write is lost");
    }

    #[test]
    fn a_write_that_is_seen_before_it_began_is_found() {
        let written = seen(&[(2, 3, 3)], true);
        check(&[seen(&[(0, 1, 3)], false), written].concat()).expect_err("nobody can know");
    }

    #[test]
    fn a_value_that_never_was_is_found() {
        let operation = |value: &str| Operation {
            node: 0,
            what: What::Read,
            begin: Duration::ZERO,
            end: Duration::ZERO,
            outcome: Outcome::Done(value.to_owned()),
        };
        let order = ["a".to_owned()];
        assert!(places(&[operation("a")], &order).is_ok() && places(&[operation("b")], &order).is_err());
    }
}
