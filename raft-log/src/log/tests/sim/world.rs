//! All nodes, what they hold, and what happens to them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::bugs::Bug;
use super::machine::Watched;
use super::net::{End, Net};
use super::node;
use super::oracle::Oracle;
use super::record::{Broken, Promise, Record};
use super::settings::Settings;
use super::store::{Commits, History, Store};
use crate::ids::{Id, LogIndex, Millis, NodeId};
use crate::log::{Log, Options, Parts};
use crate::state::State;
use crate::store::{Db, Header, Mode};
use crate::testing::{FakeDisk, Numbers, REPOSITORY, step_id};

mod look;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub bug: Option<Bug>,
    pub settings: Settings,
    pub record: Record,
    pub net: Net,
    seed: u64,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    numbers: Numbers,
    nodes: BTreeMap<NodeId, Node>,
    oracle: Oracle,
    history: History,
    /// What clients wait for, of those who are not done.
    waiting: BTreeMap<NodeId, String>,
    /// Who ever held a commit of a client: kept by leaders with a mistake in them.
    receipts: BTreeMap<(NodeId, Id), BTreeSet<NodeId>>,
    is_calm: bool,
    is_over: bool,
}

/// A node, alive or not.
#[derive(Debug)]
struct Node {
    disk: Arc<FakeDisk>,
    store: Store,
    life: Option<Life>,
    lives: u64,
    /// When one that is down is started again.
    back_at: Instant,
}

/// A node between two crashes.
#[derive(Debug, Clone)]
pub struct Life {
    pub node: NodeId,
    /// The how-manieth.
    pub number: u64,
    pub log: Arc<Log>,
    is_alive: Arc<AtomicBool>,
    /// Held by who asks the log for what takes time: tokio wakes those who wait for one thing in an order of its own.
    pub desk: Arc<tokio::sync::Mutex<()>>,
}

impl Life {
    /// Whether it ended.
    pub fn is_over(&self) -> bool {
        !self.is_alive.load(Ordering::Relaxed)
    }
}

impl World {
    /// Nodes that were never started.
    pub fn new(seed: u64, bug: Option<Bug>) -> Arc<Self> {
        let mut numbers = Numbers(seed).fork();
        let settings = Bug::settings(bug, Settings::draw(&mut numbers));
        let node = |numbers: &mut Numbers| Node {
            disk: FakeDisk::new(numbers.fork(), bug.and_then(Bug::lie)),
            store: Store::default(),
            life: None,
            lives: 0,
            back_at: Instant::now(),
        };
        let nodes = (1..=settings.nodes).map(|number| (NodeId(number), node(&mut numbers))).collect();
        let net = Net::new(numbers.fork());
        let inner = Inner {
            numbers,
            nodes,
            oracle: Oracle::new(),
            history: History::default(),
            waiting: BTreeMap::new(),
            receipts: BTreeMap::new(),
            is_calm: true,
            is_over: false,
        };
        Arc::new(Self { bug, settings, record: Record::new(), net, seed, inner: Mutex::new(inner) })
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Numbers for somebody.
    pub fn numbers(&self, of: u64) -> Numbers {
        Numbers(Numbers(self.seed).draw() ^ of).fork()
    }

    /// Starts a node.
    pub async fn start(self: &Arc<Self>, node: NodeId, mode: Mode) {
        let is_alive = Arc::new(AtomicBool::new(true));
        let (disk, number) = {
            let mut inner = self.inner();
            let of = inner.node(node);
            of.lives += 1;
            (of.disk.plug(Arc::clone(&is_alive)), of.lives)
        };
        self.record.note(format_args!("{node} starts, life {number}"));
        let parts = self.parts(node, &is_alive);
        let config = parts.options.config().expect("they make sense");
        let around = |machine| Watched { machine, node, world: Arc::clone(self) };
        let opened = match Db::simulated(Box::new(disk), Header { repository: REPOSITORY, node }, mode) {
            Ok(db) => Log::start(db, config, parts, around).await,
            Err(error) => Err(error.to_string()),
        };
        match opened {
            Ok(log) => self.attach(node, number, log, is_alive),
            Err(_) if !is_alive.load(Ordering::Relaxed) => self.lose_power(node),
            Err(cause) => self.record.broken(Broken::new(Promise::GoesOn, format!("{node} does not open: {cause}"))),
        }
    }

    fn parts(self: &Arc<Self>, node: NodeId, is_alive: &Arc<AtomicBool>) -> Parts {
        let end = End { world: Arc::clone(self), node, is_alive: Arc::clone(is_alive) };
        // Clocks differ by minutes.
        let (begun, ahead) = (Instant::now(), self.numbers(node.0 << 40).below(300_000) + self.record.millis());
        let clock = move || Millis(ahead + u64::try_from(begun.elapsed().as_millis()).unwrap_or_default());
        let options = Options { snapshot_after: self.settings.snapshot_after, ..Options::new(Arc::new(clock)) };
        Parts { repository: REPOSITORY, node, network: Arc::new(end), step_id, options }
    }

    fn attach(self: &Arc<Self>, node: NodeId, number: u64, log: Log, is_alive: Arc<AtomicBool>) {
        let desk = Arc::default();
        let life = Life { node, number, log: Arc::new(log), is_alive, desk };
        let checked = life.log.read(|state| self.inner().oracle.check_state(state));
        checked.unwrap_or_else(|broken| self.record.broken(broken));
        self.inner().node(node).life = Some(life.clone());
        tokio::spawn(node::live(Arc::clone(self), life));
    }

    /// The node that runs there.
    pub fn life(&self, node: NodeId) -> Option<Life> {
        let inner = self.inner();
        inner.nodes.get(&node)?.life.clone().filter(|life| !life.is_over())
    }

    /// All that run.
    pub fn lives(&self) -> Vec<Life> {
        let inner = self.inner();
        inner.nodes.values().filter_map(|node| node.life.clone()).filter(|life| !life.is_over()).collect()
    }

    /// Somebody who thinks that he leads.
    pub fn leader(&self, numbers: &mut Numbers) -> Option<Life> {
        let leading: Vec<_> = self.lives().into_iter().filter(|life| life.log.leading().is_some()).collect();
        numbers.pick(&leading).cloned()
    }

    /// All nodes.
    pub fn nodes(&self) -> Vec<NodeId> {
        self.inner().nodes.keys().copied().collect()
    }

    /// Those that are down and are to be started.
    pub fn due(&self) -> Vec<NodeId> {
        let (now, inner) = (Instant::now(), self.inner());
        let is_due = |node: &Node| node.life.is_none() && (node.back_at <= now || inner.is_calm);
        inner.nodes.iter().filter(|(_, node)| is_due(node)).map(|(node, _)| *node).collect()
    }

    /// The disk of a node, for a storm.
    pub fn disk(&self, node: NodeId) -> Arc<FakeDisk> {
        Arc::clone(&self.inner().node(node).disk)
    }

    /// Ends a node: what it had in memory is gone, and by a power cut what was not synced.
    pub fn crash(&self, node: NodeId, is_power_cut: bool) {
        let Some(life) = self.inner().node(node).life.take() else { return };
        life.is_alive.store(false, Ordering::Relaxed);
        self.record.note(format_args!("{node} ends, by a power cut: {is_power_cut}"));
        self.record.count(if is_power_cut { "power cuts" } else { "kills" });
        let mut guard = self.inner();
        let inner = &mut *guard;
        let of = inner.nodes.get_mut(&node).expect("it is there");
        of.back_at = Instant::now() + Duration::from_millis(inner.numbers.below(4_000));
        of.store.crash(is_power_cut, &mut inner.numbers);
        if is_power_cut {
            of.disk.cut();
        }
        of.disk.fail_never();
        self.check_held(inner);
        drop(guard);
        tokio::spawn(async move { life.log.stop().await });
    }

    fn lose_power(&self, node: NodeId) {
        self.record.count("power cuts");
        let mut guard = self.inner();
        let inner = &mut *guard;
        let of = inner.nodes.get_mut(&node).expect("it is there");
        of.store.crash(true, &mut inner.numbers);
        of.disk.cut();
        of.back_at = Instant::now() + Duration::from_millis(inner.numbers.below(4_000));
    }

    /// Buries those whose power went in the middle of a write, and finds those that ended by themselves.
    pub fn sweep(&self) {
        let lives: Vec<_> = self.inner().nodes.values().filter_map(|node| node.life.clone()).collect();
        for life in lives {
            let metrics = life.log.raft.metrics();
            // Who panics says nothing any more.
            let stopped = match metrics.has_changed() {
                Ok(_) => metrics.borrow().running_state.as_ref().err().map(ToString::to_string),
                Err(_) => Some("it panicked".to_owned()),
            };
            match stopped {
                _ if life.is_over() => self.crash(life.node, true),
                Some(cause) => {
                    let how = format!("{} stopped by itself: {cause}", life.node);
                    self.record.broken(Broken::new(Promise::GoesOn, how));
                }
                None => {}
            }
        }
    }

    /// Does something with what a node holds, unless its life is over.
    pub fn store<T>(&self, life: &Life, work: impl FnOnce(&mut Store) -> T) -> Option<T> {
        let mut inner = self.inner();
        (!life.is_over()).then(|| work(&mut inner.node(life.node).store))
    }

    /// The closures of all these.
    pub fn closures(&self, ids: impl IntoIterator<Item = Id>) -> Commits {
        self.inner().history.closures(ids)
    }

    /// What can be had from those that a node reaches.
    pub fn offered(&self, to: NodeId) -> Commits {
        let inner = self.inner();
        let reached = inner.nodes.iter().filter(|(node, of)| of.life.is_some() && self.net.is_open(**node, to));
        reached.fold(Commits::default(), |all, (_, of)| all.with(&of.store.durable))
    }

    /// A node removes what it need not hold, by a state as of an entry.
    pub fn collect(&self, life: &Life, applied: Option<LogIndex>, roots: &Commits) {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let of = inner.nodes.get_mut(&life.node).expect("it is there");
        // No refs never mean that all is garbage: not before there was a state, nor by one of before the last time.
        if life.is_over() || applied.is_none() || applied < of.store.collected {
            return;
        }
        of.store.collected = applied;
        let removed = of.store.collect(roots, &inner.history, self.bug);
        if removed > 0 {
            self.record.note(format_args!("{} collects {removed} commits as of {applied:?}", life.node));
            self.record.count("collections");
            self.check_held(inner);
        }
    }

    /// Makes a commit upon others.
    pub fn commit(&self, parents: impl IntoIterator<Item = Id>) -> Option<Id> {
        self.inner().history.commit(parents)
    }

    /// Any commit that there ever was.
    pub fn any_commit(&self, numbers: &mut Numbers) -> Option<Id> {
        self.inner().history.any(numbers)
    }

    /// Looks at what the log has decided so far.
    pub fn decided<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.inner().oracle.state)
    }

    /// A receipt is kept beyond its try, which is a mistake.
    pub fn keep_receipt(&self, client: NodeId, commit: Id, node: NodeId) {
        self.inner().receipts.entry((client, commit)).or_default().insert(node);
    }

    /// Receipts that were kept: none, where there is no mistake.
    pub fn older_receipts(&self, client: NodeId, commit: Id) -> BTreeSet<NodeId> {
        self.inner().receipts.get(&(client, commit)).cloned().unwrap_or_default()
    }

    /// A client waits for something.
    pub fn wait(&self, client: NodeId, what: String) {
        self.inner().waiting.insert(client, what);
    }

    /// A client is done.
    pub fn done(&self, client: NodeId) {
        self.inner().waiting.remove(&client);
    }

    /// Whether there are faults.
    pub fn is_calm(&self) -> bool {
        self.inner().is_calm
    }

    /// Faults begin, or end.
    pub fn set_calm(&self, is_calm: bool) {
        self.record.note(format_args!("calm: {is_calm}"));
        self.inner().is_calm = is_calm;
    }

    /// Whether everybody is to stop.
    pub fn is_over(&self) -> bool {
        self.inner().is_over
    }

    /// Lets go of everything: nodes hold the world, and it holds them.
    pub fn end(&self) {
        let mut inner = self.inner();
        inner.is_over = true;
        let ended: Vec<_> = inner.nodes.values_mut().filter_map(|node| node.life.take()).collect();
        drop(inner);
        ended.iter().for_each(|life| life.is_alive.store(false, Ordering::Relaxed));
    }
}

impl Inner {
    fn node(&mut self, node: NodeId) -> &mut Node {
        self.nodes.get_mut(&node).expect("it is there")
    }
}
