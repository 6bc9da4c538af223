//! The store as the daemon keeps it: open for as long as it lives, and opened anew when it refuses to go on.
//!
//! After a sync that failed nothing is acknowledged until the store has been opened again (G1 of `docs/guarantees.md`). A
//! command that runs by itself ends and is run again; the daemon ends the parts, closes the store, opens it and starts
//! them again. If it does not open, the next command tries once more.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::part::{Part, PartOptions, Running};
use crate::error::{Error, ErrorKind};
use crate::repo::{OpenOptions, Repo};
use crate::request::{Event, Observer};

/// How long parts have to end, and those who still look at the store to look away.
const PATIENCE: Duration = Duration::from_secs(3);
const RETRY: Duration = Duration::from_millis(5);

/// What the lock says of the daemon.
pub const WHO: &str = "serve";

/// The store while it is open, and what runs on it.
pub struct Open {
    /// The one writer.
    pub repo: Arc<Repo>,
    /// The parts, in the order in which they were started.
    pub running: Vec<Box<dyn Running>>,
}

/// Keeps the store.
pub struct Keeper {
    root: PathBuf,
    options: OpenOptions,
    parts: Vec<Arc<dyn Part>>,
    part_options: PartOptions,
    open: Mutex<Option<Arc<Open>>>,
}

/// Warnings that belong to no command go to the log.
pub struct Logged;

impl Observer for Logged {
    fn event(&self, event: Event) {
        if let Event::Warning(warning) = event {
            let path = warning.path.map(|path| String::from_utf8_lossy(&path).into_owned());
            tracing::warn!(path, "{}", warning.message);
        }
    }
}

impl Keeper {
    /// Keeps a store that has been opened.
    pub fn new(
        repo: Repo,
        options: OpenOptions,
        parts: Vec<Arc<dyn Part>>,
        part_options: PartOptions,
    ) -> Result<Self, Error> {
        let keeper = Self { root: repo.root().to_owned(), options, parts, part_options, open: Mutex::default() };
        let open = keeper.start(repo)?;
        *keeper.lock() = Some(Arc::new(open));
        Ok(keeper)
    }

    /// The store; opened, if it had to be closed.
    pub fn open(&self) -> Result<Arc<Open>, Error> {
        let mut open = self.lock();
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        let repo = Repo::open_writer(&self.root, WHO, &self.options, &Logged)?;
        let opened = Arc::new(self.start(repo)?);
        tracing::info!("the store has been opened again");
        *open = Some(Arc::clone(&opened));
        Ok(opened)
    }

    /// The store if it is open.
    pub fn get(&self) -> Option<Arc<Open>> {
        self.lock().clone()
    }

    /// Closes the store and opens it again. To be called in one's turn, with nothing of it in hand.
    pub fn renew(&self, why: &str) {
        tracing::error!("the store is opened again: {why}");
        let closed = self.close(Instant::now() + PATIENCE).and_then(|()| self.open().map(drop));
        if let Err(error) = closed {
            tracing::error!(%error, "the store could not be opened again");
        }
    }

    /// Ends the parts and closes the store. Fails if somebody is still at it, and has left it open then.
    pub fn close(&self, deadline: Instant) -> Result<(), Error> {
        let mut kept = self.lock();
        let Some(mut open) = kept.take() else { return Ok(()) };
        // The last to come is the first to go.
        open.running.iter().rev().for_each(|part| part.shutdown(deadline));
        let busy = || Error::new(ErrorKind::Failed, "somebody is still at work on the store");
        let open = loop {
            match Arc::try_unwrap(open) {
                Ok(open) => break open,
                Err(shared) if Instant::now() < deadline => open = shared,
                Err(shared) => {
                    *kept = Some(shared);
                    return Err(busy());
                }
            }
            std::thread::sleep(RETRY);
        };
        drop(open.running);
        let mut repo = open.repo;
        loop {
            match Arc::try_unwrap(repo) {
                Ok(repo) => {
                    drop(repo);
                    return Ok(());
                }
                Err(shared) if Instant::now() < deadline => repo = shared,
                // Its parts are gone, and with the last who looks at it, it closes.
                Err(_) => return Err(busy()),
            }
            std::thread::sleep(RETRY);
        }
    }

    fn start(&self, repo: Repo) -> Result<Open, Error> {
        if let Err(error) = crate::restore::finish_journal(&repo, &Logged) {
            // Whoever needs the working copy will say so.
            tracing::warn!(%error, "a restore that was cut off could not be finished");
        }
        let mut open = Open { repo: Arc::new(repo), running: Vec::new() };
        for part in &self.parts {
            match part.start(Arc::clone(&open.repo), &self.part_options) {
                Ok(running) => open.running.push(running),
                Err(error) => {
                    let deadline = Instant::now() + PATIENCE;
                    open.running.iter().rev().for_each(|part| part.shutdown(deadline));
                    return Err(error);
                }
            }
        }
        Ok(open)
    }

    fn lock(&self) -> MutexGuard<'_, Option<Arc<Open>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
