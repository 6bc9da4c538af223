//! Asking whoever leads, without knowing for sure who that is or who is there at all.
//!
//! Voters are asked one after the other, the likeliest first: at once when one has answered that he does not lead or cannot be
//! reached, and after a short pause when one says nothing (hedged requests: Dean and Barroso, "The Tail at Scale", 2013). So
//! a voter that is gone costs that pause, and not the time until it is given up. Who does not lead answers without doing
//! anything, and each call may be asked for again.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use filesync_raft_log::Log;
use filesync_raft_log::ids::NodeId;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::time::{Instant, timeout_at};

use super::answer::answer_call;
use super::calls::{Answer, Call};
use super::core::{CallFailure, Core};
use super::remote::index_of;
use crate::error::{Error, ErrorKind};

/// How long one that says nothing is waited for before the next is asked too.
const HEDGE: Duration = Duration::from_millis(150);
/// How long to leave a cluster alone that has no leader.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// How long one is not asked again that named a leader who says nothing: he may be at work, or gone.
const NAMED: Duration = Duration::from_millis(500);
/// How long all of them may say that they do not know this node: one that has just joined may not be known everywhere yet.
const NOT_KNOWN: Duration = Duration::from_secs(3);
/// How long who has just answered may take to say whom he knows.
const LEARN: Duration = Duration::from_secs(1);
/// What there is to do for who is no member any more.
const OUT: &str = "it was removed, or they began a new epoch: clone with a new invite, into another directory";
const MAY_BE_OUT: &str = "some do not take this node for a member: if it was removed, or they began a new epoch, clone with a new invite, into another directory";
/// The longest that one call may take.
const CALL: Duration = Duration::from_secs(15);

impl Core {
    /// Asks whoever leads, until somebody does and answers, or the time is over. What may have been heard is asked again: each
    /// call can be.
    pub async fn ask_leader(self: &Arc<Self>, call: &Call, within: Duration) -> Result<Answer, Error> {
        let (began, until) = (Instant::now(), Instant::now() + within);
        let mut last = "no voter is known".to_owned();
        // Who does not take this node for a member, by what he said last.
        let mut refusing = BTreeSet::new();
        let mut asking = FuturesUnordered::new();
        // Asked, and not answered yet: they are not asked again meanwhile. Nor are, for a while, those who named one of them.
        let mut silent = BTreeSet::new();
        let mut named: BTreeMap<NodeId, (NodeId, Instant)> = BTreeMap::new();
        // Could not be reached, the last time.
        let mut failed = BTreeSet::new();
        loop {
            let mut waiting = self.to_ask();
            let mut asked = BTreeSet::new();
            let has_named = |node: &NodeId| {
                named.get(node).is_some_and(|(leader, at)| silent.contains(leader) && at.elapsed() < NAMED)
            };
            waiting.retain(|node| !silent.contains(node) && !has_named(node));
            loop {
                if let Some(node) = waiting.pop_front() {
                    silent.insert(node);
                    asked.insert(node);
                    asking.push(self.ask_one(node, call, until));
                }
                let pause = if waiting.is_empty() { ASK_AGAIN } else { HEDGE };
                let Ok(answered) = timeout_at(until.min(Instant::now() + pause), asking.next()).await else {
                    if waiting.is_empty() || Instant::now() >= until { break } else { continue }
                };
                let Some((node, answer)) = answered else { break };
                silent.remove(&node);
                refusing.remove(&node);
                failed.remove(&node);
                match answer {
                    Ok(Answer::NotLeader(leader)) => {
                        last = "no node leads".to_owned();
                        if let Some(leader) = leader.filter(|leader| *leader != self.number) {
                            last = format!("node {leader} leads, by what node {node} says, and does not answer");
                            // It came, or moved, since this node was last told of members.
                            let is_told = self.view.address(leader).is_some();
                            let is_reached = is_told && !silent.contains(&leader) && !failed.contains(&leader);
                            let left = until.saturating_duration_since(Instant::now());
                            if !is_reached && self.learn_of_members(node, LEARN.min(left)).await {
                                silent.remove(&leader);
                            }
                            named.insert(node, (leader, Instant::now()));
                        }
                        // Each once in a round: two may take each other for the leader.
                        if let Some(leader) = leader.filter(|it| !asked.contains(it) && !silent.contains(it)) {
                            waiting.retain(|node| *node != leader);
                            waiting.push_front(leader);
                        }
                    }
                    Ok(Answer::Unknown(cause)) => last = cause,
                    Ok(answer) => {
                        self.led.store(node.0, Ordering::Relaxed);
                        return Ok(answer);
                    }
                    Err(failure @ CallFailure::Refused(_)) => {
                        last = failure.to_string();
                        refusing.insert(node);
                    }
                    Err(error) => {
                        last = format!("node {node}: {error}");
                        failed.insert(node);
                    }
                }
            }
            let others: BTreeSet<NodeId> = self.to_ask().into_iter().filter(|node| *node != self.number).collect();
            if !others.is_empty() && others.is_subset(&refusing) && began.elapsed() > NOT_KNOWN {
                let error = Error::new(ErrorKind::Refused, "no voter takes this node for a member any more");
                return Err(error.with_hint(OUT));
            }
            if Instant::now() + ASK_AGAIN >= until || self.is_stopping() {
                let error = Error::new(ErrorKind::NoQuorum, format!("no answer from the cluster: {last}"));
                return Err(if refusing.is_empty() { error } else { error.with_hint(MAY_BE_OUT) });
            }
            if asking.is_empty() {
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
    }

    async fn ask_one(
        self: &Arc<Self>,
        node: NodeId,
        call: &Call,
        until: Instant,
    ) -> (NodeId, Result<Answer, CallFailure>) {
        if node == self.number {
            return (node, Ok(answer_call(self, self.number, call.clone()).await));
        }
        let left = until.saturating_duration_since(Instant::now());
        (node, self.call(node, call, left.min(CALL)).await)
    }

    /// Has a member say whom it knows. Whether that was news.
    pub async fn learn_of_members(&self, from: NodeId, within: Duration) -> bool {
        let known = self.view.read(|state| (state.epoch, index_of(state)));
        match self.call(from, &Call::Vouch, within.min(CALL)).await {
            Ok(Answer::Facts(state)) if state.epoch == known.0 && index_of(&state) > known.1 => {
                self.view.update(*state);
                true
            }
            _ => false,
        }
    }

    /// Whether this node is a candidate by what the voters know that it knows. Who calls it one is heard only where no other voter is known:
    /// whoever was removed meanwhile may say anything.
    pub async fn is_called_rightly(&self, caller: NodeId, within: Duration) -> bool {
        let mut voters: BTreeSet<NodeId> = self.view.read(|state| state.voters.iter().flatten().copied().collect());
        voters.remove(&self.number);
        if voters.iter().any(|node| *node != caller) {
            voters.remove(&caller);
        }
        futures::future::join_all(voters.iter().map(|node| self.learn_of_members(*node, within))).await;
        self.view.read(|state| self.is_candidate(state))
    }

    /// Voters as far as they are known, those first that should know best.
    fn to_ask(&self) -> VecDeque<NodeId> {
        let by_log = self.log.get().and_then(Log::leader);
        // By the log, and else who answered the last time.
        let led = Some(NodeId(self.led.load(Ordering::Relaxed)));
        self.view.read(|state| {
            let voters: BTreeSet<NodeId> = state.voters.iter().flatten().copied().collect();
            let first = by_log.or(led.filter(|node| voters.contains(node)));
            let others = voters.into_iter().filter(|node| Some(*node) != first);
            first.into_iter().chain(others).collect()
        })
    }
}
