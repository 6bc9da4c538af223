//! `check-ignore`: which rule decides about a path.

use std::os::fd::AsFd;

use filesync_merkle::lookup;

use crate::error::Error;
use crate::ignore::{IGNORE_FILE, Verdict};
use crate::repo::{Repo, request_paths};
use crate::request::{CheckIgnoreRequest, IgnoreAnswer, IgnoreRule};
use crate::scan;

/// Carries out `check-ignore`.
pub fn check_ignore(repo: &Repo, request: &CheckIgnoreRequest) -> Result<Vec<IgnoreAnswer>, Error> {
    let head = repo.head_tree()?;
    let root = repo.work_fd()?;
    let answer = |word: &Vec<u8>| {
        crate::cancel::check()?;
        let (bytes, as_directory) = match word.strip_suffix(b"/") {
            Some(bytes) => (bytes, true),
            None => (word.as_slice(), false),
        };
        let path = request_paths(&[bytes.to_vec()])?.pop().unwrap_or_default();
        // What is tracked stays tracked whatever a rule says, as in git.
        let is_tracked = match &head {
            Some(head) if !path.is_root() => lookup(repo.node_source(), head, &path)?.is_some(),
            _ => false,
        };
        let verdict = if is_tracked { None } else { scan::explain(root.as_fd(), &path, as_directory)? };
        let ignored = verdict.as_ref().is_some_and(|verdict| !verdict.negated);
        Ok(IgnoreAnswer { path: word.clone(), ignored, rule: verdict.map(rule) })
    };
    request.paths.iter().map(answer).collect()
}

fn rule(verdict: Verdict) -> IgnoreRule {
    let Verdict { directory, line, rule, negated } = verdict;
    IgnoreRule { source: [directory.as_slice(), IGNORE_FILE].concat(), line, pattern: rule, negated }
}
