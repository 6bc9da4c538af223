//! Faults and losses for tests, here and in the crates above: compiled always, used by tests only.
//!
//! [`FaultVfs`] counts calls and makes one of them fail, or ends the "process" at it. [`LossVfs`] is a file system in
//! memory that knows what was synced, and shows what a power cut may leave. [`Fuzz`] hands decoders what is nearly right.
//! Nothing here draws on the system's randomness, or decides anything by a clock: whatever is random comes from an [`Rng`]
//! whose seed the test prints.

mod fault;
mod fuzz;
mod loss;
mod rng;

pub use fault::{CountingVfs, Counts, Fault, FaultVfs, Op, Plan, Scope};
pub use fuzz::{Fuzz, Peak, SMALL_FILE_WORDS, Seal, Tally, seal_small_file};
pub use loss::{CrashPoint, Loss, LossVfs, crash_states};
pub use rng::Rng;

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

/// A seed for a random test: `usual`, or that of `FILESYNC_SEED`. Printed, so that a failure can be seen again.
pub fn seed(usual: u64) -> u64 {
    let given = std::env::var("FILESYNC_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = given.unwrap_or(usual);
    eprintln!("FILESYNC_SEED={seed}");
    seed
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
