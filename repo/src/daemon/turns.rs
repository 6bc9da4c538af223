//! Whose turn it is: commands that change the repository run one at a time, in the order in which they came.
//!
//! What the writer's lock is among processes, this is within the daemon, which holds that lock.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::{Mutex as Queue, OwnedMutexGuard};

use crate::error::Error;

/// The queue of those who write.
#[derive(Debug, Clone)]
pub struct Turns {
    /// It is fair: who came first gets it first.
    queue: Arc<Queue<()>>,
    holder: Arc<Mutex<String>>,
    runtime: Handle,
}

/// It is one's turn until this is dropped.
#[derive(Debug)]
pub struct Turn {
    holder: Arc<Mutex<String>>,
    _guard: OwnedMutexGuard<()>,
}

impl Turns {
    pub(super) fn new(runtime: Handle) -> Self {
        Self { queue: Arc::default(), holder: Arc::default(), runtime }
    }

    /// Waits for one's turn, up to `timeout`. `who` is told to those who wait: "commit, pid 7".
    pub async fn wait(&self, who: String, timeout: Duration) -> Result<Turn, Error> {
        let Ok(guard) = tokio::time::timeout(timeout, Arc::clone(&self.queue).lock_owned()).await else {
            let holder = self.holder.lock().unwrap_or_else(PoisonError::into_inner).clone();
            // In the words of the lock.
            return Err(Error::from(filesync_cas::OpenError::Busy(holder)));
        };
        *self.holder.lock().unwrap_or_else(PoisonError::into_inner) = who;
        Ok(Turn { holder: Arc::clone(&self.holder), _guard: guard })
    }

    /// As [`Self::wait`], for threads that are none of the runtime's.
    pub fn wait_blocking(&self, who: String, timeout: Duration) -> Result<Turn, Error> {
        self.runtime.block_on(self.wait(who, timeout))
    }

    /// Whether somebody has it.
    pub fn is_taken(&self) -> bool {
        self.queue.try_lock().is_err()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        "another command".clone_into(&mut self.holder.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn first_come_first_served() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let turns = Turns::new(runtime.handle().clone());
        let first = turns.wait_blocking("commit, pid 1".into(), Duration::ZERO).unwrap();
        let error = turns.wait_blocking("gc, pid 2".into(), Duration::from_millis(5)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Busy);
        assert_eq!(error.to_string(), "store is busy: commit, pid 1");
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        runtime.block_on(async {
            for number in 0..20 {
                let (theirs, order) = (turns.clone(), Arc::clone(&order));
                let mut turn = Box::pin(async move {
                    let _turn = theirs.wait(number.to_string(), Duration::from_secs(60)).await.unwrap();
                    order.lock().unwrap().push(number);
                });
                // Polled once, it stands in the queue.
                let polled =
                    std::future::poll_fn(|context| std::task::Poll::Ready(turn.as_mut().poll(context).is_pending()));
                assert!(polled.await);
                waiting.push(tokio::spawn(turn));
            }
            drop(first);
            for task in waiting {
                task.await.unwrap();
            }
        });
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert!(!turns.is_taken());
    }
}
