//! Changing who votes: what the leader does about an intent that is ready.
//!
//! Raft's own change cannot be made to depend on the state machine. So it and `Cancel` pass one gate: the change is only
//! begun when everything that this leader has put into the log is applied, and while nobody can put a cancel there.
//!
//! The change has two steps: for a time the voters of before and those to come decide together, then the latter alone. Only
//! one of the latter writes the second. A leader that is to go, wrote it and then crashed before anybody else had it would
//! have an entry that is needed to be elected by it, and no right by that entry to stand for election itself: if its vote
//! is needed, nobody could lead again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::error::{ChangeMembershipError, ClientWriteError, RaftError};
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::{Instant, timeout_at};

use super::{Log, Reason};
use crate::batch::{Waiting, propose_error};
use crate::command::{Command, Outcome, Role};
use crate::error::{ProposeError, ReadError};
use crate::ids::NodeId;
use crate::state::{Member, State};
use crate::types::RaftNode;

/// Held by whoever cancels, and by whoever changes.
#[derive(Debug, Default)]
pub struct Gate(Arc<Mutex<()>>);

impl Gate {
    async fn enter(&self, until: Instant) -> Result<OwnedMutexGuard<()>, ProposeError> {
        timeout_at(until, Arc::clone(&self.0).lock_owned()).await.map_err(|_| ProposeError::Busy)
    }
}

/// What there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Driven {
    /// Nothing.
    Nothing,
    /// Nodes were taken into Raft, or out of it, as the table of members has it.
    Nodes,
    /// Voters were changed.
    Voters,
}

/// Raft's nodes, as the table of members has it.
fn candidates(state: &State) -> BTreeMap<NodeId, RaftNode> {
    let is_candidate = |member: &Member| member.role == Role::Candidate && !member.is_removed;
    let wanted = state.members.iter().filter(|(_, member)| is_candidate(member));
    wanted.map(|(node, member)| (*node, RaftNode { key: member.key })).collect()
}

/// Who is to vote, by a change that may be made, and whether they do already, together with those of before.
fn change_of(state: &State) -> Option<(BTreeSet<NodeId>, bool)> {
    if state.voters.len() > 1 {
        return state.voters.last().map(|target| (target.clone(), true));
    }
    state.change.as_ref().filter(|change| change.is_ready).map(|change| (change.target.clone(), false))
}

impl Log {
    pub(super) async fn propose_cancel(&self, command: Command, within: Duration) -> Result<Outcome, ProposeError> {
        let until = Instant::now() + within;
        let guard = self.gate.enter(until).await?;
        let (answer, answered) = tokio::sync::oneshot::channel();
        self.queue.try_send(Waiting { command, answer }).map_err(|_| ProposeError::Busy)?;
        // The gate stays shut until the proposer is done with it, also when nobody waits any more: by then it is in the log, or
        // on the way there before everything that comes after.
        let done = tokio::spawn(async move {
            let answer = answered.await;
            drop(guard);
            answer
        });
        match timeout_at(until, done).await {
            Err(_) => Err(ProposeError::Unknown(within)),
            Ok(Ok(Ok(Ok(Outcome::Refused(refusal))))) => Err(ProposeError::Refused(refusal)),
            Ok(Ok(Ok(answer))) => answer,
            Ok(_) => Err(ProposeError::Stopped("it was shut down".to_owned())),
        }
    }

    /// Does what is left to do: finishes a change of voters that is ready or was broken off, and has Raft's nodes be the
    /// candidates. To be called again and again by whoever leads; one step each. Making way for another leader may take longer
    /// than `within`.
    pub async fn drive(&self, within: Duration) -> Result<Driven, ProposeError> {
        let until = Instant::now() + within;
        let _guard = self.gate.enter(until).await?;
        let left = until.saturating_duration_since(Instant::now());
        self.apply_all(left).await.map_err(|error| match error {
            ReadError::NotLeader { leader } => ProposeError::NotLeader { leader },
            ReadError::TimedOut(_) | ReadError::Behind { .. } => ProposeError::Unknown(within),
            ReadError::Stopped(cause) => ProposeError::Stopped(cause),
        })?;
        let (wanted, change) = self.read(|state| (candidates(state), change_of(state)));
        // A target may name nodes that Raft has not been told of yet.
        if let Some(changes) = self.nodes_to_change(&wanted) {
            self.change(changes, until, within).await?;
            return Ok(Driven::Nodes);
        }
        let Some((target, is_joint)) = change else { return Ok(Driven::Nothing) };
        match target.contains(&self.node) {
            true => self.change(ChangeMembers::ReplaceAllVoters(target), until, within).await?,
            false if !is_joint => self.begin_change(target, until, within).await?,
            false if self.make_way(Reason::Leaves).await => {}
            // Nobody took over. Before the next try there is time to lead.
            false => return Ok(Driven::Nothing),
        }
        Ok(Driven::Voters)
    }

    /// The first step of a change of voters, and not the second.
    async fn begin_change(
        &self,
        target: BTreeSet<NodeId>,
        until: Instant,
        within: Duration,
    ) -> Result<(), ProposeError> {
        // openraft goes on to the second when it hears of the first: by then it is applied, and that is looked at before.
        let is_joint = std::future::poll_fn(|_| match self.read(|state| state.voters.len() > 1) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        });
        tokio::select! {
            biased;
            () = is_joint => Ok(()),
            changed = self.change(ChangeMembers::ReplaceAllVoters(target), until, within) => changed,
        }
    }

    /// Nodes that Raft lacks, or else has and should not have.
    fn nodes_to_change(&self, wanted: &BTreeMap<NodeId, RaftNode>) -> Option<ChangeMembers<NodeId, RaftNode>> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let there: BTreeSet<_> = membership.nodes().map(|(node, _)| *node).collect();
        let voters: BTreeSet<_> = membership.voter_ids().collect();
        let missing: BTreeMap<_, _> =
            wanted.iter().filter(|(node, _)| !there.contains(node)).map(|(node, of)| (*node, of.clone())).collect();
        if !missing.is_empty() {
            return Some(ChangeMembers::AddNodes(missing));
        }
        let extra = there.into_iter().filter(|node| !wanted.contains_key(node) && !voters.contains(node));
        let extra: BTreeSet<_> = extra.collect();
        (!extra.is_empty()).then_some(ChangeMembers::RemoveNodes(extra))
    }

    async fn change(
        &self,
        changes: ChangeMembers<NodeId, RaftNode>,
        until: Instant,
        within: Duration,
    ) -> Result<(), ProposeError> {
        // Who no longer votes stays a candidate: it is the table of members that says otherwise.
        match timeout_at(until, self.raft.change_membership(changes, true)).await {
            Err(_) => Err(ProposeError::Unknown(within)),
            Ok(Ok(_)) => Ok(()),
            // An entry of before is not committed yet: try again later.
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(
                ChangeMembershipError::InProgress(_),
            )))) => Err(ProposeError::Busy),
            Ok(Err(error)) => Err(propose_error(&error)),
        }
    }
}
