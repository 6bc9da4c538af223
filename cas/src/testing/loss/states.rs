//! [`crash_states`]: every moment of a run at which the power may fail, and what may be left then.

use std::ops::Range;
use std::sync::Arc;

use super::{Loss, LossVfs};

/// A moment of a run and what was lost there: enough to see it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CrashPoint {
    /// Mutating calls that took effect before the process died.
    pub calls: u64,
    /// What the power cut left of the unsynced ones.
    pub loss: Loss,
}

/// Names the crash point when the check panics.
struct Announce<'a>(&'a CrashPoint);

impl Drop for Announce<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("at {:?}", self.0);
        }
    }
}

/// Runs `run` on a fork of `start` once for every number of mutating calls after which it may die, up to all of them,
/// and each time hands `check` what is left without the unsynced changes, with all of them, and with a random choice
/// for each seed. `check` also sees what `run` returned, so that what was acknowledged can be demanded. Returns how
/// many states were checked; a panic in `check` is preceded by its [`CrashPoint`] on standard error.
///
/// `run` must make the same mutating calls every time, so it uses one thread.
pub fn crash_states<R>(
    start: &LossVfs,
    seeds: Range<u64>,
    mut run: impl FnMut(Arc<LossVfs>) -> R,
    mut check: impl FnMut(&CrashPoint, &R, LossVfs),
) -> u64 {
    let whole = Arc::new(start.fork());
    run(Arc::clone(&whole));
    let mut states = 0;
    for calls in 0..=whole.mutations() {
        let vfs = Arc::new(start.fork());
        vfs.stop_after(calls);
        let returned = run(Arc::clone(&vfs));
        let losses = [Loss::DropAllUnsynced, Loss::KeepAll].into_iter().chain(seeds.clone().map(Loss::Random));
        for loss in losses {
            let point = CrashPoint { calls, loss };
            let left = vfs.crash(&point.loss);
            let announce = Announce(&point);
            check(&point, &returned, left);
            drop(announce);
            states += 1;
        }
    }
    states
}
