//! `forget`: commits expire by rule. Their objects stay, their trees are no roots any more; the next `gc` takes what
//! nothing else needs.
//!
//! No clock is asked: how old a commit is, is how long before the head it was made, as the two of them say.

use std::collections::HashSet;
use std::time::Duration;

use filesync_merkle::{Ancestors, Commit, CommitId, Timestamp};

use crate::cluster::remote::Remote;
use crate::error::{Error, ErrorKind};
use crate::expired::Expired;
use crate::history;
use crate::repo::Repo;
use crate::request::{ForgetRequest, ForgetResult};
use crate::roots::Roots;

/// Carries out `forget`.
pub fn forget(repo: &Repo, request: &ForgetRequest) -> Result<ForgetResult, Error> {
    let ForgetRequest { keep_last, keep_within, keep_tagged, dry_run } = *request;
    if keep_last.is_none() && keep_within.is_none() && !keep_tagged {
        let message = "cannot forget: no rule says what to keep";
        return Err(Error::new(ErrorKind::Usage, message)
            .with_hint("--keep-last N, --keep-within TIME and --keep-tagged are rules"));
    }
    let roots = Roots::read(repo)?;
    let mut kept = roots.commits.clone();
    let published = published(repo)?;
    let newest = Ancestors::new(repo.node_source(), repo.head());
    let count = keep_last.map_or(0, |count| usize::try_from(count).unwrap_or(usize::MAX));
    for commit in newest.take(count) {
        crate::cancel::check()?;
        kept.insert(commit?.0);
    }
    let head_time = repo.head_commit()?.map(|(_, commit)| commit.time);
    let is_recent =
        |commit: &Commit| head_time.zip(keep_within).is_some_and(|(head, within)| commit.time >= before(head, within));
    let mut result = ForgetResult::default();
    let listed = Expired::read(&**repo.store.vfs())?;
    let mut expired = listed.0.clone();
    for commit in Ancestors::new(repo.node_source(), history::roots(repo)?) {
        crate::cancel::check()?;
        let (id, commit) = commit?;
        if roots.expired.contains(&id) {
            continue;
        }
        let is_kept = kept.contains(&id) || is_recent(&commit);
        let is_published = published.contains(&id);
        if !is_kept && !is_published {
            result.expired.push(id);
            continue;
        }
        result.kept += 1;
        result.kept_published += u64::from(!is_kept);
    }
    if dry_run {
        return Ok(result);
    }
    expired.extend(&result.expired);
    let list = Expired(expired);
    if list != listed {
        list.write(&**repo.store.vfs())?;
    }
    Ok(result)
}

/// What is published is held for the others, too: it does not expire on one node alone.
fn published(repo: &Repo) -> Result<HashSet<CommitId>, Error> {
    let held = Remote::read(&**repo.store.vfs())?.and_then(|remote| remote.held);
    Ancestors::new(repo.node_source(), held).map(|commit| Ok(commit?.0)).collect()
}

/// So long before a time.
fn before(time: Timestamp, within: Duration) -> Timestamp {
    let (secs, nanos) = (i64::try_from(within.as_secs()).unwrap_or(i64::MAX), within.subsec_nanos());
    let borrow = i64::from(time.nanos() < nanos);
    let secs = time.secs().saturating_sub(secs).saturating_sub(borrow);
    let nanos = if borrow == 1 { time.nanos() + 1_000_000_000 - nanos } else { time.nanos() - nanos };
    Timestamp::new(secs, nanos).unwrap_or(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_times() {
        let time = |secs, nanos| Timestamp::new(secs, nanos).unwrap();
        let at = time(1000, 5);
        assert_eq!(before(at, Duration::ZERO), at);
        assert_eq!(before(at, Duration::new(10, 5)), time(990, 0));
        assert_eq!(before(at, Duration::new(10, 6)), time(989, 999_999_999));
        assert_eq!(before(time(i64::MIN + 1, 0), Duration::MAX).secs(), i64::MIN);
    }
}
