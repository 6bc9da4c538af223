//! A command that writes: by the daemon if there is one, by this process otherwise, with the same outcome.

use std::path::Path;
use std::time::{Duration, Instant};

use super::client::Daemon;
use crate::error::{Error, ErrorKind};
use crate::repo::{OpenOptions, Repo};
use crate::request::{Answer, Command, Observer, Request};
use crate::{cancel, config, upgrade};

/// How long the lock is waited for before it is seen whether a daemon holds it by now.
const SLICE: Duration = Duration::from_millis(200);

/// Carries out a command that writes, in the repository at `root`.
pub fn carry_out<C: Command>(
    root: &Path,
    command: C,
    options: &OpenOptions,
    observer: &dyn Observer,
) -> Result<C::Result, Error> {
    let mut request = command.into_request();
    if let Request::Commit(commit) = &mut request {
        // Of this user, and not of the one who started the daemon.
        commit.author_default.get_or_insert_with(config::default_author);
    }
    let answer = run(root, &request, options, observer)?;
    let word = request.word();
    C::result(answer)
        .ok_or_else(|| Error::new(ErrorKind::Unknown, format!("cannot understand what the daemon answered: {word}")))
}

fn run(root: &Path, request: &Request, options: &OpenOptions, observer: &dyn Observer) -> Result<Answer, Error> {
    let deadline = Instant::now() + options.lock_timeout;
    // Of an older version nobody can open it, no daemon either.
    if matches!(request, Request::Upgrade(_))
        && let Some(result) = upgrade::upgrade(root, options)?
    {
        return Ok(Answer::Upgrade(result));
    }
    loop {
        let lock_timeout = deadline.saturating_duration_since(Instant::now());
        if let Some(daemon) = Daemon::find(root)? {
            let options = OpenOptions { lock_timeout, ..options.clone() };
            if let Some(answer) = daemon.carry_out(request, &options, observer)? {
                return Ok(answer);
            }
        }
        let slice = OpenOptions { lock_timeout: lock_timeout.min(SLICE), ..options.clone() };
        match Repo::open_writer(root, request.word(), &slice, observer) {
            Ok(repo) => return repo.carry_out(request, observer),
            // A daemon may be about to begin, or to end.
            Err(error) if error.kind() == ErrorKind::Busy && !lock_timeout.is_zero() => cancel::check()?,
            Err(error) => return Err(error),
        }
    }
}

/// For a reader who could not have the lock, and would have written something in passing: has the daemon do it, if it is
/// one that has the lock and nobody writes. False if it did not come to that.
pub fn ask_in_passing(root: &Path, request: &Request, observer: &dyn Observer) -> Result<bool, Error> {
    let Some(daemon) = Daemon::find(root)? else { return Ok(false) };
    let options = OpenOptions { allow_foreign: true, lock_timeout: Duration::ZERO, ..OpenOptions::default() };
    match daemon.carry_out(request, &options, observer) {
        Err(error) if error.kind() == ErrorKind::Busy => Ok(false),
        answer => Ok(answer?.is_some()),
    }
}
