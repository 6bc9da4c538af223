//! Nodes with directories of their own, started, crashed and started again.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ed25519_dalek::{Signer, SigningKey};
use tokio::time::{Instant, sleep};

use super::FakeNet;
use crate::command::{Admit, Command, Founder, Intent, Invite, Outcome, Ready, RefChange, Role};
use crate::error::{OpenError, ProposeError};
use crate::ids::{Id, InviteKey, LogIndex, Millis, NodeId, PeerKey, RefName, RepositoryId, Signature};
use crate::log::{Driven, Log, Options, Parts};
use crate::state::Step;
use crate::store::Mode;

/// The repository of every cluster.
pub const REPOSITORY: RepositoryId = RepositoryId([7; 32]);

/// How a cluster behaves.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// For the network.
    pub seed: u64,
    /// Messages lost, of a thousand; as many are repeated.
    pub lost_per_mille: u64,
    /// The longest delay of a message.
    pub delay: Duration,
    /// After how many entries the log is cut.
    pub snapshot_after: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self { seed: 1, lost_per_mille: 0, delay: Duration::ZERO, snapshot_after: 5_000 }
    }
}

/// A cluster.
#[derive(Debug)]
pub struct Cluster {
    root: PathBuf,
    settings: Settings,
    /// Between the nodes.
    pub net: FakeNet,
    /// Those that run.
    pub nodes: BTreeMap<NodeId, Arc<Log>>,
    /// The last number of each member's publishes.
    pub seqs: BTreeMap<NodeId, u64>,
}

/// How long anything may take that is to succeed.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// How long one request may take.
const REQUEST: Duration = Duration::from_secs(3);

/// The key of a node.
pub fn key(node: NodeId) -> PeerKey {
    let mut key = [1; 32];
    key[..8].copy_from_slice(&node.0.to_le_bytes());
    PeerKey(key)
}

/// An id that differs where steps do.
pub fn step_id(step: &Step) -> Id {
    let mut id = step.change.new.unwrap_or_default();
    id.0[..8].copy_from_slice(&step.index.0.to_le_bytes());
    id.0[31] ^= 0xff;
    id
}

/// A change of `main`.
pub fn main_ref(expected: Option<Id>, new: Id) -> RefChange {
    let name = RefName::new("main").expect("it is a name");
    RefChange { name, expected, new: Some(new) }
}

/// What brings a node in as a candidate: an invite by the first member, and the node that shows it.
pub fn admission(node: NodeId) -> [Command; 2] {
    let invite = SigningKey::from_bytes(&[u8::try_from(node.0).expect("few nodes"); 32]);
    let public = InviteKey(invite.verifying_key().to_bytes());
    let made = Invite { key: public, role: Role::Candidate, uses: 1, expires: None, by: NodeId(1) };
    let mut admit = Admit {
        invite: public,
        role: Role::Candidate,
        peer: key(node),
        name: node.to_string(),
        addresses: Vec::new(),
        is_partial: false,
        signature: Signature(Vec::new()),
    };
    admit.signature = Signature(invite.sign(&admit.signed_bytes(REPOSITORY)).to_bytes().to_vec());
    [Command::Invite(made), Command::Admit(admit)]
}

impl Cluster {
    /// A directory for it, and nothing in there.
    pub fn new(settings: Settings) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("filesync-raft-{}-{number}", std::process::id());
        let root = std::env::temp_dir().join(name);
        std::fs::create_dir(&root).expect("a temporary directory can be made");
        let net = FakeNet::new(settings.seed, settings.lost_per_mille, settings.delay);
        Self { root, settings, net, nodes: BTreeMap::new(), seqs: BTreeMap::new() }
    }

    /// One that has `members` candidates, of whom the first `voters` vote.
    pub async fn start(settings: Settings, members: u64, voters: u64) -> Self {
        let mut cluster = Self::new(settings);
        cluster.open(NodeId(1), Mode::Create).await.expect("it can be made");
        let founder = Founder { key: key(NodeId(1)), name: "1".to_owned(), addresses: Vec::new() };
        cluster.nodes[&NodeId(1)].found(founder, PATIENCE).await.expect("it can be founded");
        for node in 2..=members {
            cluster.admit(NodeId(node)).await;
        }
        if voters > 1 {
            cluster.change_voters(&(1..=voters).map(NodeId).collect::<Vec<_>>()).await;
        }
        cluster
    }

    /// The directory of a node's log.
    pub fn dir(&self, node: NodeId) -> PathBuf {
        self.root.join(node.to_string())
    }

    fn parts(&self, node: NodeId) -> Parts {
        let clock = Arc::new(|| {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            Millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
        });
        let options = Options {
            heartbeat: Duration::from_millis(100),
            election: (Duration::from_millis(300), Duration::from_millis(900)),
            snapshot: Duration::from_secs(3),
            snapshot_after: self.settings.snapshot_after,
            ..Options::new(clock)
        };
        Parts { repository: REPOSITORY, node, network: self.net.plug(node, key(node)), step_id, options }
    }

    /// Starts a node.
    pub async fn open(&mut self, node: NodeId, mode: Mode) -> Result<(), OpenError> {
        let dir = self.dir(node);
        if mode == Mode::Create {
            std::fs::create_dir_all(&dir).expect("a directory can be made");
        }
        let until = Instant::now() + PATIENCE;
        let log = loop {
            match Log::open(&dir, mode, self.parts(node)).await {
                // The node before it is going still.
                Err(OpenError::Busy(_)) if Instant::now() < until => sleep(Duration::from_millis(10)).await,
                opened => break Arc::new(opened?),
            }
        };
        self.net.attach(&log);
        self.nodes.insert(node, log);
        Ok(())
    }

    /// Ends a node without any farewell: what it had in memory is lost.
    pub async fn crash(&mut self, node: NodeId) {
        self.net.detach(node);
        let log = self.nodes.remove(&node).expect("it runs");
        log.stop().await;
    }

    /// Starts it again.
    pub async fn restart(&mut self, node: NodeId) {
        self.open(node, Mode::Open).await.expect("it can be opened");
    }

    /// A new member, which is candidate and runs.
    pub async fn admit(&mut self, node: NodeId) {
        let [invite, admit] = admission(node);
        assert_eq!(self.propose(invite).await, Ok(Outcome::Done));
        assert_eq!(self.propose(admit).await, Ok(Outcome::Admitted(node)));
        self.open(node, Mode::Create).await.expect("it can be made");
        self.drive_until_done().await;
    }

    /// Who leads, once somebody does. Fails if nobody does for too long.
    pub async fn leader(&self) -> Arc<Log> {
        let until = Instant::now() + PATIENCE;
        loop {
            for log in self.nodes.values() {
                if log.leading().is_some() && log.read_index(REQUEST).await.is_ok() {
                    return Arc::clone(log);
                }
            }
            assert!(Instant::now() < until, "nobody leads");
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has the leader write a command, whoever that is, until there is an answer.
    pub async fn propose(&self, command: Command) -> Result<Outcome, ProposeError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.leader().await.propose(command.clone(), REQUEST).await {
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_) | ProposeError::Busy)
                    if Instant::now() < until =>
                {
                    sleep(Duration::from_millis(20)).await;
                }
                answer => return answer,
            }
        }
    }

    /// Publishes for a member as a client does: anew with each leader, with the same number. All nodes that run hold it.
    pub async fn publish(&mut self, client: NodeId, change: RefChange) -> Result<Outcome, ProposeError> {
        let seq = self.seqs.entry(client).or_default();
        *seq += 1;
        let seq = *seq;
        let holders: BTreeSet<_> = self.nodes.keys().copied().collect();
        let until = Instant::now() + PATIENCE;
        loop {
            let leader = self.leader().await;
            let answer = match leader.begin_try(client) {
                Ok(of) => leader.publish(of, seq, change.clone(), holders.clone(), REQUEST).await,
                Err(error) => Err(error),
            };
            let again = match &answer {
                Err(ProposeError::Refused(refusal)) => {
                    matches!(refusal, crate::command::Refusal::OtherLeader | crate::command::Refusal::SpentNonce)
                }
                Err(ProposeError::NotLeader { .. } | ProposeError::Unknown(_) | ProposeError::Busy) => true,
                _ => false,
            };
            if !again || Instant::now() > until {
                return answer;
            }
        }
    }

    /// Has the leader do what there is to do.
    pub async fn drive_until_done(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.leader().await.drive(REQUEST).await {
                Ok(Driven::Nothing) => return,
                Ok(_) => {}
                Err(error) => {
                    assert!(Instant::now() < until, "not done: {error}");
                    sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Has these vote and nobody else, in all three steps.
    pub async fn change_voters(&self, target: &[NodeId]) {
        let target: BTreeSet<_> = target.iter().copied().collect();
        let by = *self.leader().await.read(|state| state.voters[0].clone()).first().expect("somebody votes");
        let intent = Intent { target: target.clone(), is_even_allowed: true, by };
        match self.propose(Command::Intent(intent)).await {
            // Asked for twice, since the first answer was lost.
            Ok(Outcome::Intended(_)) | Err(ProposeError::Refused(crate::command::Refusal::ChangeUnderWay)) => {}
            other => panic!("{other:?}"),
        }
        let leader = self.leader().await;
        let change = leader.read(|state| state.change.clone()).expect("it is under way");
        let mut receipts = BTreeMap::new();
        for node in target.iter().filter_map(|node| self.nodes.get(node)) {
            node.wait_applied(change.index, PATIENCE).await.expect("it catches up");
            let flushed = node.flush().expect("it can be flushed").unwrap_or(LogIndex(0));
            receipts.insert(node.node(), flushed);
        }
        let ready = Ready { intent: change.id, receipts };
        assert_eq!(self.propose(Command::Ready(ready)).await, Ok(Outcome::Done));
        self.drive_until_done().await;
        let voters = self.leader().await.read(|state| state.voters.clone());
        assert_eq!(voters, [target]);
    }

    /// Waits until all that run have applied what has been acknowledged.
    pub async fn settle(&self) {
        let index = self.leader().await.read_index(PATIENCE).await.expect("a majority answers");
        for log in self.nodes.values() {
            log.wait_applied(index, PATIENCE).await.expect("it catches up");
        }
    }

    /// Fails where two nodes that run do not have the same state.
    pub async fn assert_same(&self) {
        self.settle().await;
        let states: Vec<_> = self.nodes.values().map(|log| log.read(Clone::clone)).collect();
        for state in &states {
            assert_eq!(state.refs, states[0].refs);
            assert_eq!(state.last_step, states[0].last_step);
            assert_eq!(state.members, states[0].members);
            assert_eq!(state.voters, states[0].voters);
        }
    }

    /// Where all directories lie.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.root));
    }
}
