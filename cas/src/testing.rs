//! Faults and losses for tests, here and in the crates above: compiled always, used by tests only.
//!
//! [`FaultVfs`] counts calls and makes one of them fail, or ends the "process" at it. [`LossVfs`] is a file system in
//! memory that knows what was synced, and shows what a power cut may leave. Behind the feature `testing` alone, `Fuzz` hands
//! decoders what is nearly right, and [`mistake`] is what the product is told to do wrong.
//! Nothing here draws on the system's randomness, or decides anything by a clock: whatever is random comes from an [`Rng`]
//! whose seed the test prints.

mod fault;
#[cfg(any(test, feature = "testing"))]
mod fuzz;
mod loss;
mod mistakes;
mod rng;
#[cfg(any(test, feature = "testing"))]
mod waits;

pub use fault::{CountingVfs, Counts, Fault, FaultVfs, Op, Plan, Scope};
#[cfg(any(test, feature = "testing"))]
pub use fuzz::{Draw, Fuzz, Peak, SMALL_FILE_WORDS, Seal, Tally, Target, seal_small_file};
pub use loss::{CrashPoint, Loss, LossVfs, crash_states};
#[cfg(any(test, feature = "testing"))]
pub use mistakes::assert_caught;
pub use mistakes::mistake;
pub use rng::Rng;
#[cfg(any(test, feature = "testing"))]
pub use rng::{drawn, sow};
#[cfg(any(test, feature = "testing"))]
pub use waits::{pause, pause_by};

use std::error::Error;
use std::fmt;
use std::io;

/// The error of every call after the "death" of the process: such a call had no effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Killed;

impl fmt::Display for Killed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the process is dead (injected by a test)")
    }
}

impl Error for Killed {}

impl From<Killed> for io::Error {
    fn from(killed: Killed) -> Self {
        io::Error::other(killed)
    }
}

/// Whether [`Killed`] is among the causes of an error.
pub fn was_killed(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // `io::Error::source` skips the error that it wraps.
        let wrapped = error.downcast_ref::<io::Error>().and_then(|e| e.get_ref());
        if error.is::<Killed>() || wrapped.is_some_and(|e| was_killed(e)) {
            return true;
        }
        next = error.source();
    }
    false
}

/// The seed of `FILESYNC_SEED`, if that is set and not empty.
///
/// # Panics
///
/// If it is no number: a test that ran with another seed would look as if it had passed with this one.
pub fn given_seed() -> Option<u64> {
    let given = std::env::var("FILESYNC_SEED").ok().filter(|given| !given.is_empty())?;
    Some(given.parse().unwrap_or_else(|error| panic!("FILESYNC_SEED={given}: {error}")))
}

/// A seed for a random test: `usual`, or that of `FILESYNC_SEED`. Printed, so that a failure can be seen again.
pub fn seed(usual: u64) -> u64 {
    let seed = given_seed().unwrap_or(usual);
    eprintln!("FILESYNC_SEED={seed}");
    seed
}

/// Seeds for a random test that tries many: `usual` of them, or `long` in its long form. They begin with `first`, or with
/// that of `FILESYNC_SEED`; each is printed when it is taken, so that the last one printed is the one that failed.
pub fn seeds(first: u64, usual: u64, long: u64) -> impl Iterator<Item = u64> + Send {
    let first = given_seed().unwrap_or(first);
    let count = if is_long() { long } else { usual };
    (0..count).map(move |n| {
        let seed = first.wrapping_add(n);
        eprintln!("FILESYNC_SEED={seed}");
        seed
    })
}

/// Whether the long form of a test is asked for: `FILESYNC_LONG` is set, and is neither empty nor 0.
pub fn is_long() -> bool {
    std::env::var_os("FILESYNC_LONG").is_some_and(|value| value != "0" && !value.is_empty())
}

/// Says why a test, or a part of one, does not run here. Where `CI` is set everything has to run: there it fails.
#[track_caller]
pub fn skipped(why: &str) {
    let everything = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
    assert!(!everything, "not run, though CI is set: {why}");
    println!("skipped: {why}");
}
