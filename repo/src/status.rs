//! `status`: what differs from the head, and where the cluster stands.

use std::collections::BTreeSet;

use filesync_merkle::CommitId;
use filesync_merkle::ancestry::apart;
use filesync_raft_log::State;
use filesync_raft_log::ids::NodeId;

use crate::cluster::remote::Remote;
use crate::compare::{Compared, compare_all};
use crate::error::Error;
use crate::path_set::PathSet;
use crate::repo::Repo;
use crate::request::{Event, Observer, StatusRequest, StatusResult};

/// Compares the working copy with the head.
pub fn status(repo: &Repo, request: &StatusRequest, observer: &dyn Observer) -> Result<StatusResult, Error> {
    observer.event(Event::Phase { what: "comparing", bytes: None, items: None });
    let head = repo.head();
    let Compared { changes, conflicts } =
        compare_all(repo, repo.head_tree()?, request.no_cache, &PathSet::default(), observer)?;
    let conflicts = conflicts.into_iter().map(|path| path.as_bytes().to_vec()).collect();
    let result = StatusResult { head, changes, conflicts, ..StatusResult::default() };
    with_cluster(repo, head, result)
}

/// Adds what was known of the cluster last. The network is not asked.
fn with_cluster(repo: &Repo, head: Option<CommitId>, result: StatusResult) -> Result<StatusResult, Error> {
    let Some(remote) = Remote::read(&**repo.store.vfs())? else { return Ok(result) };
    let (ahead, behind) = apart(repo.node_source(), head, remote.held)?;
    let (ahead, behind) = (ahead.len() as u64, behind.len() as u64);
    let as_of = Some(remote.held_index.max(remote.index()));
    let holders = holders(&remote.state);
    Ok(StatusResult { as_of, main: remote.main(), holders, ahead: Some(ahead), behind: Some(behind), ..result })
}

/// Voters that hold what is published as far as is known, and how many vote.
fn holders(state: &State) -> Option<(Vec<u64>, u64)> {
    let voters: BTreeSet<NodeId> = state.voters.iter().flatten().copied().collect();
    let holders: Vec<u64> = state.holders.intersection(&voters).map(|node| node.0).collect();
    (!holders.is_empty()).then_some((holders, voters.len() as u64))
}
