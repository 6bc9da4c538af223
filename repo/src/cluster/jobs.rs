//! Work that takes longer than a request may wait: begun once, asked for again until it is done.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;

use super::calls::Answer;

/// How long a request waits before it is told to ask again.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much of a job is done, for those who wait: it grows.
#[derive(Debug, Clone, Default)]
pub struct Progress(Arc<AtomicU64>);

impl Progress {
    /// So much.
    pub fn set(&self, done: u64) {
        self.0.store(done, Ordering::Relaxed);
    }

    /// How much.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

struct Job {
    progress: Progress,
    done: watch::Receiver<Option<Answer>>,
}

/// Jobs by what they are for.
pub struct Jobs<K>(Arc<Mutex<HashMap<K, Job>>>);

/// A job's place, which it leaves however it ends.
struct Place<K: Hash + Eq>(Arc<Mutex<HashMap<K, Job>>>, K);

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        lock(&self.0).remove(&self.1);
    }
}

impl<K> Default for Jobs<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone + Send + 'static> Jobs<K> {
    /// Whether a job runs for one of these.
    pub fn any(&self, is_it: impl Fn(&K) -> bool) -> bool {
        lock(&self.0).keys().any(is_it)
    }

    /// Begins the job unless it runs, and waits for a while. It runs to its end whoever waits.
    pub async fn run<F>(&self, key: K, begin: impl FnOnce(Progress) -> F) -> Answer
    where
        F: Future<Output = Answer> + Send + 'static,
    {
        let (progress, mut done) = {
            let mut jobs = lock(&self.0);
            match jobs.get(&key) {
                Some(job) => (job.progress.clone(), job.done.clone()),
                None => {
                    let (tell, done) = watch::channel(None);
                    let progress = Progress::default();
                    let work = begin(progress.clone());
                    jobs.insert(key.clone(), Job { progress: progress.clone(), done: done.clone() });
                    let place = Place(Arc::clone(&self.0), key);
                    tokio::spawn(async move {
                        let answer = work.await;
                        drop(place);
                        tell.send_replace(Some(answer));
                    });
                    (progress, done)
                }
            }
        };
        let answer = tokio::time::timeout(PATIENCE, done.wait_for(Option::is_some)).await;
        match answer {
            Err(_) => Answer::Working(progress.get()),
            Ok(Ok(answer)) => answer.clone().unwrap_or(Answer::Working(progress.get())),
            Ok(Err(_)) => Answer::Unknown("the node is shutting down".to_owned()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
