//! `status`: what differs from the head, and where the cluster stands.

use filesync_merkle::CommitId;
use filesync_merkle::ancestry::apart;

use crate::cluster::remote::Remote;
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
    let result = StatusResult { head, changes, ..StatusResult::default() };
    with_cluster(repo, head, result)
}

/// Adds what was known of the cluster last. The network is not asked.
fn with_cluster(repo: &Repo, head: Option<CommitId>, result: StatusResult) -> Result<StatusResult, Error> {
    let Some(remote) = Remote::read(&**repo.store.vfs())? else { return Ok(result) };
    let (ahead, behind) = apart(repo.node_source(), head, remote.held)?;
    let (ahead, behind) = (ahead.len() as u64, behind.len() as u64);
    let as_of = Some(remote.held_index.max(remote.index()));
    Ok(StatusResult { as_of, main: remote.main(), ahead: Some(ahead), behind: Some(behind), ..result })
}
