//! Who may ask this node for what: decided from what it knows of the cluster, at every request.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use filesync_merkle::history::read_commit;
use filesync_merkle::{CommitId, NodeSource, Pub, PubId, is_ancestor};
use filesync_p2p::message::topics;
use filesync_p2p::peer::{Access, PeerKey, Role, Root, Scope};
use filesync_raft_log::ids::{self, NodeId};
use filesync_raft_log::{State, command};
use tokio::time::Instant;

use super::remote::index_of;
use crate::objects::StoreNodes;

/// How long what was heard from who leads is good for deciding who may ask, on a node that does not follow the log.
const FRESH: Duration = Duration::from_secs(600);

/// What a node goes by when it is asked.
pub struct View {
    nodes: StoreNodes,
    state: RwLock<State>,
    published: Mutex<Published>,
    steps: Mutex<HashSet<PubId>>,
    /// This node, if the log tells it of what comes as long as it may come to vote; else 0.
    follower: AtomicU64,
    /// When who leads last said what is so.
    heard: Mutex<Option<Instant>>,
    /// Commits that are not published and that voters and candidates may have: what this node publishes, or holds for a try.
    offered: Mutex<Vec<(u64, CommitId)>>,
}

/// Commits that are known to be published: those that refs lead to, and their ancestors.
#[derive(Default)]
struct Published {
    heads: HashSet<CommitId>,
    commits: HashSet<CommitId>,
    /// Parents of those that were not here when they were looked for.
    missing: HashSet<CommitId>,
}

/// Keeps a commit on offer.
pub struct Offer<'a> {
    view: &'a View,
    number: u64,
}

impl Drop for Offer<'_> {
    fn drop(&mut self) {
        lock(&self.view.offered).retain(|(number, _)| *number != self.number);
    }
}

impl View {
    /// Begins with a state.
    pub fn new(nodes: StoreNodes, state: State) -> Self {
        Self {
            nodes,
            state: RwLock::new(state),
            published: Mutex::default(),
            steps: Mutex::default(),
            follower: AtomicU64::new(0),
            heard: Mutex::default(),
            offered: Mutex::default(),
        }
    }

    /// Looks at the state.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// From here on the log tells this node of what comes, as long as it is a candidate.
    pub fn follows_log(&self, node: NodeId) {
        self.follower.store(node.0, Ordering::Relaxed);
    }

    /// Takes what who leads has said, which is so now.
    pub fn hear(&self, state: State) {
        self.update(state);
        *lock(&self.heard) = Some(Instant::now());
    }

    /// Whether it knows well enough who is a member still (publishing rule 14).
    pub fn is_fresh(&self) -> bool {
        let follower = NodeId(self.follower.load(Ordering::Relaxed));
        // Who was demoted is sent nothing more.
        let is_told = |state: &State| state.member(follower).is_ok_and(|it| it.role == command::Role::Candidate);
        self.read(is_told) || is_recent(*lock(&self.heard), Instant::now())
    }

    /// Takes a later state for the one it knows; never an earlier one.
    pub fn update(&self, state: State) {
        let mut known = self.state.write().unwrap_or_else(PoisonError::into_inner);
        if index_of(&state) >= index_of(&known) {
            *known = state;
        }
    }

    /// The member with a key.
    pub fn member(&self, peer: &PeerKey) -> Option<NodeId> {
        self.read(|state| {
            let (node, member) = state.member_by_key(ids::PeerKey(peer.0))?;
            (!member.is_removed).then_some(node)
        })
    }

    /// The key of a member, and where it is reached.
    pub fn address(&self, node: NodeId) -> Option<(PeerKey, Vec<String>)> {
        self.read(|state| {
            let member = state.member(node).ok()?;
            Some((PeerKey(member.key.0), member.addresses.clone()))
        })
    }

    /// Lets voters and candidates have a commit that is not published, as long as the offer lives.
    pub fn offer(&self, commit: CommitId) -> Offer<'_> {
        let mut offered = lock(&self.offered);
        let number = offered.last().map_or(0, |(number, _)| number + 1);
        offered.push((number, commit));
        Offer { view: self, number }
    }

    /// Whether a commit is one of those that refs lead to, or before one.
    pub fn is_published(&self, commit: &CommitId) -> bool {
        let heads: Vec<CommitId> =
            self.read(|state| state.refs.values().map(|id| CommitId::from_bytes(id.0)).collect());
        let mut published = lock(&self.published);
        if heads.contains(commit) || published.commits.contains(commit) {
            return true;
        }
        for head in heads {
            if published.heads.insert(head) || !published.missing.is_empty() {
                published.add(&self.nodes, head);
            }
        }
        published.commits.contains(commit)
    }

    /// Whether a commit is on offer, or comes before one that is: what somebody commits in a row is published at once.
    fn is_offered(&self, commit: &CommitId) -> bool {
        let offered: Vec<CommitId> = lock(&self.offered).iter().map(|(_, offered)| *offered).collect();
        let is_before = |offered: &CommitId| is_ancestor(&self.nodes, *commit, *offered).unwrap_or(false);
        offered.contains(commit) || offered.iter().any(is_before)
    }

    /// Whether a step is the last that is known, or before it.
    fn is_step(&self, step: &PubId) -> bool {
        let last = self.read(|state| state.last_step.map(|last| PubId::from_bytes(last.0)));
        let mut steps = lock(&self.steps);
        if last == Some(*step) || steps.contains(step) {
            return true;
        }
        let mut next = last;
        while let Some(id) = next.filter(|id| !steps.contains(id)) {
            // What is not here yet ends the way, and is looked for again.
            let Ok(bytes) = self.nodes.get(PubId::KIND, &id.0) else { return steps.contains(step) };
            next = Pub::decode(&bytes).ok().and_then(|step| step.prev);
            steps.insert(id);
        }
        steps.contains(step)
    }
}

impl Published {
    /// Adds a commit and its ancestors. What is not here yet ends the way, and is looked for again the next time.
    fn add(&mut self, nodes: &StoreNodes, head: CommitId) {
        let mut open: Vec<CommitId> = self.missing.drain().chain([head]).collect();
        while let Some(id) = open.pop() {
            if self.commits.contains(&id) {
                continue;
            }
            match read_commit(nodes, &id) {
                Ok(commit) => {
                    self.commits.insert(id);
                    open.extend(commit.parents);
                }
                Err(_) => {
                    self.missing.insert(id);
                }
            }
        }
    }
}

impl Access for View {
    fn role(&self, peer: &PeerKey) -> Role {
        self.read(|state| match state.member_by_key(ids::PeerKey(peer.0)) {
            Some((node, member)) if !member.is_removed => match member.role {
                command::Role::Reader => Role::Reader,
                command::Role::Writer => Role::Writer,
                command::Role::Candidate if state.is_voter(node) => Role::Voter,
                command::Role::Candidate => Role::Candidate,
            },
            _ => Role::Stranger,
        })
    }

    fn expects_joiners(&self) -> bool {
        // Also one that is used up: who comes with it is told so.
        self.read(|state| !state.invites.is_empty())
    }

    fn scope(&self, peer: &PeerKey, root: &Root) -> Scope {
        let role = self.role(peer);
        let may = match root {
            // Who publishes much may have asked long ago who leads.
            Root::Commit(commit) if role >= Role::Candidate && self.is_offered(commit) => true,
            Root::Commit(commit) => self.is_published(commit) && self.is_fresh(),
            Root::Pub(step) => self.is_step(step) && self.is_fresh(),
        };
        if role >= Role::Reader && may { Scope::All } else { Scope::Nothing }
    }

    fn may_call(&self, peer: &PeerKey, topic: u16) -> bool {
        let role = self.role(peer);
        let may = match topic {
            // How it is it tells who may be a member still.
            topics::CLUSTER => return role >= Role::Reader,
            // Whether it still is one is found out before anything is answered.
            topics::FIND => return role >= Role::Voter,
            // So it is before it is heeded.
            topics::RAFT => return role >= Role::Candidate,
            topics::PUBLISH => role >= Role::Writer,
            topics::HOLD | topics::WANTED => role >= Role::Candidate,
            _ => role >= Role::Reader,
        };
        may && self.is_fresh()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_recent(heard: Option<Instant>, now: Instant) -> bool {
    heard.is_some_and(|heard| now.saturating_duration_since(heard) < FRESH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_heard_is_good_for_a_while() {
        let heard = Instant::now();
        assert!(is_recent(Some(heard), heard) && is_recent(Some(heard), heard + FRESH / 2));
        assert!(!is_recent(Some(heard), heard + FRESH) && !is_recent(None, heard));
    }
}
