//! Writing what came into the working copy.

use std::collections::HashSet;

use filesync_cas::ContentHash;
use filesync_cas::rows::RowBatch;
use filesync_merkle::history::read_commit;
use filesync_merkle::{CommitId, RepoPath, diff, lookup};

use super::merge::merge_pin;
use super::{Run, named};
use crate::cluster::lost;
use crate::compare::compare;
use crate::error::{Error, ErrorKind};
use crate::path_set::PathSet;
use crate::request::{Event, RestoreRequest, RestoreResult, Silent, SyncOutcome, Unreadable, Warning};
use crate::restore::{self, HeadMove};

impl Run<'_> {
    /// Fails if there are changes in the working copy, in no commit, where the commit would have to write.
    pub(super) fn look_for_edits(&self, target: CommitId) -> Result<Vec<Vec<u8>>, Error> {
        let repo = &self.core.repo;
        let source = repo.node_source();
        let head = repo.head_tree()?;
        // Where there is no commit yet, nothing is overwritten in any case; of what comes some may be lost, and cannot be compared.
        if head.is_none() {
            return Ok(Vec::new());
        }
        let tree = read_commit(source, &target)?.tree;
        let mut paths = Vec::new();
        let parts = &repo.copied.parts;
        for change in diff(source, head, Some(tree)).with_directories().within(parts, parts.root()) {
            paths.push(change?.path);
        }
        if paths.is_empty() {
            return Ok(paths.into_iter().map(|path| path.as_bytes().to_vec()).collect());
        }
        let only = PathSet::new(&paths);
        let edits = compare(repo, head, false, &only, &Silent)?;
        if !edits.is_empty() {
            let wanted = compare(repo, Some(tree), false, &only, &Silent)?;
            let is_both = |path: &Vec<u8>| wanted.iter().any(|change| change.path == *path);
            let edits: Vec<RepoPath> = edits
                .iter()
                .filter(|change| is_both(&change.path))
                .filter_map(|change| RepoPath::parse(&change.path).ok())
                .collect();
            if !edits.is_empty() {
                let message =
                    format!("cannot sync: uncommitted changes would have to be overwritten: {}", named(&edits));
                return Err(Error::new(ErrorKind::Refused, message).with_hint("commit them first, or --commit"));
            }
        }
        Ok(paths.into_iter().map(|path| path.as_bytes().to_vec()).collect())
    }

    /// Writes a commit into the working copy, where it differs from the head, and moves the head, under one journal.
    pub(super) fn write(&mut self, target: CommitId) -> Result<(), Error> {
        if self.request.push_only {
            return Ok(());
        }
        let repo = &self.core.repo;
        let paths = self.look_for_edits(target)?;
        if self.request.dry_run {
            return Ok(());
        }
        let is_first = repo.head().is_none();
        let finish = || {
            repo.store.session()?.finish(Some(target.0), RowBatch::default())?;
            Ok(())
        };
        if paths.is_empty() && !is_first {
            finish()?;
        } else {
            let tree = read_commit(repo.node_source(), &target)?.tree;
            let is_written = |path: &[u8]| match RepoPath::parse(path) {
                Ok(parsed) if is_first => lookup(repo.node_source(), &tree, &parsed).is_ok_and(|entry| entry.is_some()),
                Ok(_) => paths.iter().any(|written| written == path),
                Err(_) => false,
            };
            let lost = lost::of(&self.core.state());
            let may = |result: &RestoreResult| may_move(result, &lost, &is_written);
            let request = RestoreRequest {
                rev: Some(target.to_string()),
                delete: !is_first,
                paths: if is_first { Vec::new() } else { paths.clone() },
                ..RestoreRequest::default()
            };
            let head = HeadMove { may: &may, finish: &finish };
            let written = restore::restore_and_move(repo, &request, &head, self.early.as_deref(), self.observer)?;
            for Unreadable { path, mut cause } in written.damaged {
                lost::tell(&lost, &mut cause);
                let message = format!("not written: {cause}");
                self.observer.event(Event::Warning(Warning { path: Some(path), message }));
            }
            self.result.skipped = written.skipped;
            if !self.result.skipped.is_empty() {
                self.result.outcome = SyncOutcome::Conflicts;
            }
        }
        Ok(repo.store.unpin(&merge_pin())?)
    }
}

/// The head must not be where the files are not: the next commit would undo what came. Unless nobody has their content any more:
/// nobody would ever come there.
fn may_move(
    result: &RestoreResult,
    lost: &HashSet<ContentHash>,
    is_written: &dyn Fn(&[u8]) -> bool,
) -> Result<(), Error> {
    if let Some(damaged) = result.damaged.iter().find(|damaged| !lost::is_named(lost, &damaged.cause)) {
        let path = String::from_utf8_lossy(&damaged.path).into_owned();
        return Err(Error::new(ErrorKind::Damage, format!("cannot write {path}: {}", damaged.cause)));
    }
    match result.skipped.iter().find(|path| is_written(path)) {
        None => Ok(()),
        Some(path) => {
            let message = format!("cannot sync: not overwritten: {}", String::from_utf8_lossy(path));
            let error = Error::new(ErrorKind::Refused, message);
            Err(error.with_hint("it holds what is in no commit: move it away, and sync again"))
        }
    }
}
