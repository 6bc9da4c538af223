//! Turns to publish, so that whoever is slow comes to it too.
//!
//! Whoever finds that another was faster has to fetch and merge before he can try again, and among many he would lose again and
//! again. So publishes come one at a time, in the order in which they came, and who lost has the turn for a moment longer. It
//! is in the memory of the leader: only the log decides, and a turn that is lost costs time and nothing else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filesync_raft_log::ids::NodeId;
use tokio::sync::OwnedMutexGuard;

use super::jobs::Progress;

/// How long who lost has the turn.
const KEPT: Duration = Duration::from_secs(2);
/// How often those who wait say that it goes on.
const TELL: Duration = Duration::from_millis(500);

/// The turn: there is one. It is over when this is dropped.
#[derive(Debug)]
pub struct Taken {
    _turn: OwnedMutexGuard<()>,
    /// It was kept for who has it now; it is not kept again, so that nobody has it for ever.
    was_kept: bool,
}

/// Gives turns.
#[derive(Debug, Default)]
pub struct Turn {
    // Whoever came first gets it first.
    turn: Arc<tokio::sync::Mutex<()>>,
    kept: Arc<Mutex<Option<Kept>>>,
    taken: AtomicU64,
}

#[derive(Debug)]
struct Kept {
    client: NodeId,
    number: u64,
    turn: Taken,
}

impl Turn {
    /// Waits for one's turn.
    pub async fn take(&self, client: NodeId, progress: &Progress) -> Taken {
        if let Some(kept) = lock(&self.kept).take_if(|kept| kept.client == client) {
            return Taken { was_kept: true, ..kept.turn };
        }
        let waiting = Arc::clone(&self.turn).lock_owned();
        tokio::pin!(waiting);
        let mut seen = self.taken.load(Ordering::Relaxed);
        loop {
            tokio::select! {
                biased;
                turn = &mut waiting => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                    return Taken { _turn: turn, was_kept: false };
                }
                () = tokio::time::sleep(TELL) => {
                    let taken = self.taken.load(Ordering::Relaxed);
                    progress.set(progress.get() + (taken - seen));
                    seen = taken;
                }
            }
        }
    }

    /// Leaves the turn to a client for a moment, once: it lost, and will be back.
    pub fn keep(&self, client: NodeId, turn: Taken) {
        if turn.was_kept {
            return;
        }
        let number = self.taken.load(Ordering::Relaxed);
        *lock(&self.kept) = Some(Kept { client, number, turn });
        let kept = Arc::clone(&self.kept);
        tokio::spawn(async move {
            tokio::time::sleep(KEPT).await;
            drop(lock(&kept).take_if(|kept| kept.number == number));
        });
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a test whose time passes when nothing else happens.
    fn run(test: impl Future<Output = ()>) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.expect("a runtime can be made").block_on(test);
    }

    #[test]
    fn who_lost_comes_before_those_who_wait_and_not_for_ever() {
        run(who_lost_is_next());
    }

    async fn who_lost_is_next() {
        let (turn, progress) = (Turn::default(), Progress::default());
        let (one, two) = (NodeId(1), NodeId(2));
        let taken = turn.take(one, &progress).await;
        let other = turn.take(two, &progress);
        tokio::pin!(other);
        assert!(tokio::time::timeout(KEPT * 5, &mut other).await.is_err(), "there is one turn");
        turn.keep(one, taken);
        let taken = tokio::time::timeout(KEPT / 2, turn.take(one, &progress)).await.expect("it was kept");
        // Lost again: others come first now.
        turn.keep(one, taken);
        let taken = tokio::time::timeout(KEPT / 2, other).await.expect("it is his turn");
        let began = tokio::time::Instant::now();
        turn.keep(two, taken);
        let _taken = turn.take(one, &progress).await;
        assert!(began.elapsed() >= KEPT, "it was kept, although nobody came");
    }

    #[test]
    fn those_who_wait_see_that_it_goes_on() {
        run(those_who_wait());
    }

    async fn those_who_wait() {
        let (turn, progress) = (Turn::default(), Progress::default());
        let first = turn.take(NodeId(1), &progress).await;
        let (second, third) = (turn.take(NodeId(2), &progress), turn.take(NodeId(3), &progress));
        tokio::pin!(second, third);
        // Each is in the queue once it has been looked at.
        assert!(tokio::time::timeout(TELL / 2, &mut second).await.is_err());
        assert!(tokio::time::timeout(TELL * 2, &mut third).await.is_err());
        assert_eq!(progress.get(), 0, "nobody came to it");
        drop(first);
        let _taken = second.await;
        assert!(tokio::time::timeout(TELL * 2, &mut third).await.is_err());
        assert_eq!(progress.get(), 1);
    }
}
