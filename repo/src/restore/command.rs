//! The command: a request in, a result out.

use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filesync_merkle::{Part, RepoPath};

use super::apply::HeadMove;
use super::{ConflictTag, Context, EarlyFiles, Flags};
use crate::config::Config;
use crate::daemon;
use crate::error::{Error, ErrorKind};
use crate::history::commit_of;
use crate::identity::Identity;
use crate::journal::Journal;
use crate::repo::{OpenOptions, Repo, STORE_DIR, request_paths};
use crate::request::{Event, Observer, Request, RestoreRequest, RestoreResult, Warning};
use crate::roots::Roots;

/// Carries out a restore.
pub fn restore(repo: &Repo, request: &RestoreRequest, observer: &dyn Observer) -> Result<RestoreResult, Error> {
    run(repo, request, None, None, observer)
}

/// Carries out a restore in place, and then moves the head to the commit, under the journal: cut off anywhere, both
/// are done when the journal is finished, or neither. Files that were written early are moved to their places.
pub fn restore_and_move(
    repo: &Repo,
    request: &RestoreRequest,
    head: &HeadMove<'_>,
    early: Option<&EarlyFiles>,
    observer: &dyn Observer,
) -> Result<RestoreResult, Error> {
    run(repo, request, Some(head), early, observer)
}

fn run(
    repo: &Repo,
    request: &RestoreRequest,
    head: Option<&HeadMove<'_>>,
    early: Option<&EarlyFiles>,
    observer: &dyn Observer,
) -> Result<RestoreResult, Error> {
    let began = Instant::now();
    let paths = request_paths(&request.paths)?;
    let result = with_context(repo, early, observer, |ctx| {
        match (&request.to, request.dry_run) {
            (None, false) if repo.store.is_writable() => super::recover::finish(ctx)?,
            // It would be finished first, and nothing is finished here.
            (None, true) if Journal::exists(&**repo.store.vfs()) => {
                let message = "a restore that was cut off is not finished yet".to_owned();
                observer.event(Event::Warning(Warning { path: None, message }));
            }
            _ => {}
        }
        let (id, commit) = commit_of(repo, request.rev.as_deref())?;
        if let Some(to) = &request.to {
            refuse_store(repo, to)?;
            let result = match request.dry_run {
                true => super::preview(ctx, commit.tree, &paths, to),
                false => super::to_directory(ctx, commit.tree, &paths, to, request.fsync),
            }?;
            warn_of_parts(repo, &paths, observer);
            return Ok(result);
        }
        let flags = Flags { delete: request.delete, force: request.force };
        let plan = super::plan(ctx, id, commit.tree, &paths, flags)?;
        if request.dry_run { Ok(plan.result()) } else { super::apply::apply_and_move(ctx, &plan, head) }
    })?;
    Ok(RestoreResult { elapsed: began.elapsed(), ..result })
}

/// Finishes a restore that was cut off. To be called by every command that takes the working copy for the user's.
pub fn finish_journal(repo: &Repo, observer: &dyn Observer) -> Result<(), Error> {
    // Mostly there is none, and nothing need be known of the repository to see that.
    let found = repo.store.vfs().stat(Path::new(crate::journal::PATH));
    if found.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    with_context(repo, None, observer, super::recover::finish)
}

/// Whoever wants a copy of a commit may not think of what this repository lacks of it.
fn warn_of_parts(repo: &Repo, paths: &[RepoPath], observer: &dyn Observer) {
    let parts = &repo.copied.parts;
    let is_cut = |path: &RepoPath| parts.part(path) == Part::Some;
    if paths.iter().any(is_cut) || (paths.is_empty() && !parts.is_whole()) {
        let told = repo.copied.told();
        let message = format!("not all of the commit: this partial copy has {told} (`-- PATH` fetches another path)");
        observer.event(Event::Warning(Warning { path: None, message }));
    }
}

/// Whoever names a place in the store has mistaken it for something else.
fn refuse_store(repo: &Repo, to: &Path) -> Result<(), Error> {
    // What is not there yet lies where its parent lies.
    let there = to.ancestors().find_map(|above| {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        std::fs::canonicalize(above).ok()
    });
    match there {
        Some(there) if there.starts_with(repo.root().join(STORE_DIR)) => {
            let message = format!("cannot restore to {}: it lies in the store", to.display());
            Err(Error::new(ErrorKind::Failed, message))
        }
        _ => Ok(()),
    }
}

/// As [`finish_journal`], for a command that only reads: if nobody else writes, and we may. Otherwise whoever writes is
/// at it, or the working copy is shown as it is, with a warning.
pub fn finish_journal_if_free(repo: &Repo, observer: &dyn Observer) -> Result<(), Error> {
    if repo.store.is_writable() {
        return finish_journal(repo, observer);
    }
    if repo.store.vfs().stat(Path::new(crate::journal::PATH)).is_err() {
        return Ok(());
    }
    // Whoever opened the repository said already whether it may be another user's.
    let options = OpenOptions { allow_foreign: true, lock_timeout: Duration::ZERO, ..OpenOptions::default() };
    match Repo::open_writer(repo.root(), "restore", &options, observer) {
        Ok(writer) => finish_journal(&writer, observer),
        Err(error) => {
            let message = match error.kind() {
                ErrorKind::Busy => match daemon::ask_in_passing(repo.root(), &Request::FinishJournal, observer) {
                    Ok(true) => return Ok(()),
                    Ok(false) => "a restore is under way".to_owned(),
                    Err(error) => format!("a restore was interrupted and cannot be finished now: {error}"),
                },
                _ => format!("a restore was interrupted and cannot be finished now: {error}"),
            };
            observer.event(Event::Warning(Warning { path: None, message }));
            Ok(())
        }
    }
}

/// What conflict copies are called by that are made so long after the beginning of 1970: this node, and the date.
pub fn conflict_names(repo: &Repo, now: Duration) -> (String, String) {
    let vfs = &**repo.store.vfs();
    let name = Config::load(vfs).ok().map(|config| config.node_name());
    // Neither is needed to restore; a copy can be named without.
    let id = || Identity::load(vfs).ok().map(|identity| filesync_cas::hash::hex(&identity.node()[..4]));
    let node = name.or_else(id).unwrap_or_else(|| "local".to_owned());
    (node, date(now.as_secs()))
}

fn with_context<T>(
    repo: &Repo,
    early: Option<&EarlyFiles>,
    observer: &dyn Observer,
    run: impl FnOnce(&Context<'_>) -> Result<T, Error>,
) -> Result<T, Error> {
    let (node, date) = conflict_names(repo, SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
    let fd = repo.work_fd()?;
    let head_tree = match repo.head_tree() {
        Ok(tree) => tree,
        // Then nothing counts as tracked: less may be replaced, and other commits can be restored still.
        Err(error) if error.kind() == ErrorKind::Damage => None,
        Err(error) => return Err(error),
    };
    let roots = match Roots::read(repo) {
        Ok(roots) => roots,
        // A tag that cannot be read leads nowhere, and nothing is collected until it can be.
        Err(error) if error.kind() == ErrorKind::Damage => Roots::of_head(repo.head()),
        Err(error) => return Err(error),
    };
    run(&Context {
        store: &repo.store,
        source: repo.node_source(),
        work: Arc::clone(&repo.work),
        work_fd: fd.as_fd(),
        cache: Some(repo.stat_cache()),
        observer,
        parts: &repo.copied.parts,
        head_tree,
        roots,
        tag: ConflictTag { node: &node, date: &date },
        threads: super::threads(),
        early,
    })
}

/// Seconds since 1970 as `20251122-174503`, UTC.
fn date(secs: u64) -> String {
    let (days, time) = (secs / 86_400, secs % 86_400);
    // Years begin in March, so that the leap day is their last; 719,468 days are from then in year 0 to 1970.
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}{month:02}{day:02}-{:02}{:02}{:02}", time / 3600, time / 60 % 60, time % 60)
}

#[cfg(test)]
mod tests {
    #[test]
    fn dates() {
        for (secs, text) in [
            (0, "19700101-000000"),
            (951_782_399, "20000228-235959"),
            (951_782_400, "20000229-000000"),
            (1_763_833_503, "20251122-174503"),
            (4_107_542_400, "21000301-000000"),
        ] {
            assert_eq!(super::date(secs), text);
        }
    }
}
