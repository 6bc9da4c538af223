//! `status`: what differs from the head, and where the cluster stands.

use crate::compare::compare;
use crate::error::Error;
use crate::path_set::PathSet;
use crate::repo::Repo;
use crate::request::{Event, Observer, StatusRequest, StatusResult};

/// Compares the working copy with the head.
pub fn status(repo: &Repo, request: &StatusRequest, observer: &dyn Observer) -> Result<StatusResult, Error> {
    observer.event(Event::Phase { what: "comparing", bytes: None, items: None });
    let head = repo.head();
    let changes = compare(repo, repo.head_tree()?, request.no_cache, &PathSet::default(), observer)?;
    Ok(StatusResult { head, changes, ..StatusResult::default() })
}
