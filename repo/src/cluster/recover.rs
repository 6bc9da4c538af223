//! `peers recover --only-survivor`: the majority is lost for good, and this node goes on alone.

use std::collections::HashSet;

use filesync_merkle::{CommitId, is_ancestor};
use filesync_raft_log::ids::{Id, NodeId, RefName, RepositoryId};
use filesync_raft_log::{Header, Held, State};

use super::member;
use super::node::{RAFT_DIR, open_error};
use super::remote::{MAIN, Remote, index_of, main_of};
use super::{follow, sync};
use crate::error::{Error, ErrorKind};
use crate::repo::{Repo, STORE_DIR};

/// Makes this node the only voter. What it does not have of what was published is given up; everything that it has stays. The
/// repository is open for writing, and no node runs on it.
pub fn recover(repo: &Repo) -> Result<(), Error> {
    let vfs = &**repo.store.vfs();
    let refused = |cause: &str| Error::new(ErrorKind::Failed, format!("cannot recover: {cause}"));
    let Some(membership) = member::read(vfs)?.filter(|membership| membership.has_log) else {
        return Err(refused("this node takes no part in the log").with_hint("only who was a voter can go on alone"));
    };
    let mut remote = Remote::read(vfs)?.ok_or_else(|| refused("what it knows of the cluster is missing: remote"))?;
    let dir = repo.root().join(STORE_DIR).join(RAFT_DIR);
    let header = Header { repository: RepositoryId(*repo.repository().as_bytes()), node: membership.node };
    let mut failed = None;
    let held = |state: &State| prepare(repo, &mut remote, state).map_err(|error| failed = Some(error)).ok();
    let recovered = filesync_raft_log::recover(&dir, header, follow::step_id, held).map_err(|error| open_error(&error));
    match (recovered?, failed) {
        (Some(state), _) => {
            // The new epoch counts on from where this log ended, whatever was told by others of the one before.
            remote.held_index = remote.held_index.min(index_of(&state));
            remote.state = state;
            remote.write(vfs)
        }
        (None, Some(error)) => Err(error),
        (None, None) => Err(refused("it is not known what is here")),
    }
}

/// What is to be left of the refs. From here on this node speaks for the next epoch, and nobody of this one listens to it.
fn prepare(repo: &Repo, remote: &mut Remote, state: &State) -> Result<Held, Error> {
    if !state.is_voter(repo_member(repo)?) {
        let error = Error::new(ErrorKind::Failed, "cannot recover: this node does not vote");
        return Err(error.with_hint("only who was a voter can go on alone"));
    }
    let held = what_is_held(repo, remote, state)?;
    remote.state.epoch = state.epoch + 1;
    remote.write(&**repo.store.vfs())?;
    Ok(held)
}

fn repo_member(repo: &Repo) -> Result<NodeId, Error> {
    let membership = member::read(&**repo.store.vfs())?;
    Ok(membership.map_or(NodeId(0), |membership| membership.node))
}

/// What a command brought here while the daemon did not run, and this log has not come to: it was acknowledged, and stays.
fn what_was_told(repo: &Repo, remote: &Remote, state: &State) -> Result<Option<Held>, Error> {
    let Some(held) = remote.held.filter(|_| remote.held_index > index_of(state)) else { return Ok(None) };
    let source = repo.node_source();
    let goes_on = match main_of(state) {
        Some(main) => is_ancestor(source, main, held)?,
        None => true,
    };
    if !goes_on || !repo.store.check_closure(&[(CommitId::KIND, held.0)], &HashSet::new())?.is_empty() {
        return Ok(None);
    }
    let is_here = |id: &Id| is_ancestor(source, CommitId::from_bytes(id.0), held).unwrap_or(false);
    // What it knows may be newer than what it holds.
    let told = |name: &RefName| match name.as_str() {
        MAIN => Some(Id(*held.0.as_bytes())),
        _ => remote.state.refs.get(name).copied().filter(is_here),
    };
    let names = state.refs.keys().chain(remote.state.refs.keys());
    let refs = names.map(|name| (name.clone(), told(name))).collect();
    Ok(Some(Held { refs, last_step: Some(remote.step.map(|step| Id(*step.0.as_bytes()))) }))
}

/// What is to be left of the refs: all of it, if what they show is here whole; else what was held last.
fn what_is_held(repo: &Repo, remote: &Remote, state: &State) -> Result<Held, Error> {
    if let Some(held) = what_was_told(repo, remote, state)? {
        return Ok(held);
    }
    let Some(main) = main_of(state).filter(|main| remote.held != Some(*main)) else { return Ok(Held::default()) };
    let missing = repo.store.check_closure(&[(CommitId::KIND, main.0)], &HashSet::new())?;
    if missing.is_empty() {
        return Ok(Held::default());
    }
    let id = |id: CommitId| Id(*id.0.as_bytes());
    let mut held = Held { last_step: Some(remote.step.map(|step| Id(*step.0.as_bytes()))), ..Held::default() };
    for (name, shown) in &state.refs {
        let is_here = match remote.held {
            Some(held) => is_ancestor(repo.node_source(), CommitId::from_bytes(shown.0), held).unwrap_or(false),
            None => false,
        };
        if name.as_str().starts_with(sync::tags::PREFIX) && !is_here {
            held.refs.insert(name.clone(), None);
        }
    }
    if let Ok(name) = RefName::new(MAIN) {
        held.refs.insert(name, remote.held.map(id));
    }
    Ok(held)
}
