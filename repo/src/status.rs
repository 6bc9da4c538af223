//! `status`: what differs from the head, and where the cluster stands.

use std::collections::BTreeSet;

use filesync_merkle::ancestry::apart;
use filesync_merkle::merge::original_name;
use filesync_merkle::path::NAME_LEN_MAX;
use filesync_merkle::{CommitId, Name, RepoPath, TreeLink, lookup};
use filesync_raft_log::State;
use filesync_raft_log::ids::NodeId;

use crate::cluster::remote::Remote;
use crate::cluster::removed;
use crate::compare::{Compared, compare_all};
use crate::error::Error;
use crate::path_set::PathSet;
use crate::repo::{Repo, request_paths};
use crate::request::{Event, Observer, Partial, StatusRequest, StatusResult};

/// Compares the working copy with the head.
pub fn status(repo: &Repo, request: &StatusRequest, observer: &dyn Observer) -> Result<StatusResult, Error> {
    observer.event(Event::Phase { what: "comparing", bytes: None, items: None });
    let head = repo.head();
    let tree = repo.head_tree()?;
    let only = PathSet::new(&request_paths(&request.paths)?);
    let Compared { changes, conflicts, outside } = compare_all(repo, tree, request.no_cache, &only, observer)?;
    let partial = partial(repo, tree, outside)?;
    let deleted = conflicts.iter().map(|copy| deleted(repo, tree.as_ref(), copy)).collect();
    let conflicts = bytes(&conflicts);
    let result = StatusResult { head, changes, conflicts, deleted, partial, ..StatusResult::default() };
    with_cluster(repo, head, result)
}

/// What a conflict copy is one of, if the head has nothing there. What cannot be told is not said.
fn deleted(repo: &Repo, tree: Option<&TreeLink>, copy: &RepoPath) -> Option<Vec<u8>> {
    let name = copy.name()?;
    // The end of a long one may be missing.
    let original = original_name(name.as_bytes()).filter(|_| name.as_bytes().len() < NAME_LEN_MAX)?;
    let original = copy.parent()?.join(&Name::new(&original).ok()?);
    let is_gone = lookup(repo.node_source(), tree?, &original).is_ok_and(|entry| entry.is_none());
    is_gone.then(|| original.as_bytes().to_vec())
}

/// What a partial copy has, and what not. Of the rest the directories on the way tell the sums.
fn partial(repo: &Repo, tree: Option<TreeLink>, outside: Vec<RepoPath>) -> Result<Option<Partial>, Error> {
    if repo.copied.is_whole() {
        return Ok(None);
    }
    let absent = tree.map(|tree| repo.copied.absent(repo.node_source(), &tree)).transpose()?.unwrap_or_default();
    let (absent_files, absent_bytes) = (absent.files, absent.bytes);
    Ok(Some(Partial { paths: bytes(&repo.copied.named), absent_files, absent_bytes, outside: bytes(&outside) }))
}

fn bytes(paths: &[RepoPath]) -> Vec<Vec<u8>> {
    paths.iter().map(|path| path.as_bytes().to_vec()).collect()
}

/// Adds what was known of the cluster last. The network is not asked.
fn with_cluster(repo: &Repo, head: Option<CommitId>, result: StatusResult) -> Result<StatusResult, Error> {
    let Some(remote) = Remote::read(&**repo.store.vfs())? else { return Ok(result) };
    let Some(as_of) = remote.as_of() else { return Ok(result) };
    let (ahead, behind) = apart(repo.node_source(), head, remote.held)?;
    let (ahead, behind) = (ahead.len() as u64, behind.len() as u64);
    let holders = holders(&remote.state);
    Ok(StatusResult {
        as_of: Some(as_of),
        main: remote.main(),
        holders,
        ahead: Some(ahead),
        behind: Some(behind),
        lost: remote.state.lost.len() as u64,
        is_removed: removed::is_noted(&**repo.store.vfs()),
        ..result
    })
}

/// Voters that hold what is published as far as is known, and how many vote.
fn holders(state: &State) -> Option<(Vec<u64>, u64)> {
    let voters: BTreeSet<NodeId> = state.voters.iter().flatten().copied().collect();
    let holders: Vec<u64> = state.holders.intersection(&voters).map(|node| node.0).collect();
    (!holders.is_empty()).then_some((holders, voters.len() as u64))
}
