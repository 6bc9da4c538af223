//! All machines, and what happens to them.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ed25519_dalek::SigningKey;
use filesync_cas::pack::read_pack_header;
use filesync_cas::testing::{Loss, LossVfs};
use filesync_cas::vfs::{Open, TEMP_PREFIX, Vfs};
use filesync_cas::{ChunkSizes, Codec, ContentHash, Params, Place, Store};
use filesync_p2p::PeerKey;
use filesync_raft_log::command::Role;
use filesync_raft_log::ids::{self, NodeId};
use filesync_raft_log::testing::{FakeDisk, Numbers, Plugged};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::Dir;
use super::env::Surroundings;
use super::fiber::{self, Fibers};
use super::net::Weather;
use super::oracle::Oracle;
use super::record::{Promise, Record};
use super::settings::Settings;
use crate::cluster::env::Env;
use crate::cluster::invite::{Door, InviteLine};
use crate::cluster::{self, Node, NodeOptions, join, member};
use crate::config;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::parts::Copied;
use crate::repo::{Repo, STORE_DIR};

/// How long who joins, or tells where it is, tries.
const PATIENCE: Duration = Duration::from_secs(20);

/// Everything there is.
pub struct World {
    pub settings: Settings,
    pub record: Record,
    pub net: Weather,
    numbers: Mutex<Numbers>,
    runtime: Handle,
    machines: Mutex<Vec<Machine>>,
    oracle: Mutex<Oracle>,
    waiting: Mutex<BTreeSet<usize>>,
    restarts: Mutex<BTreeSet<usize>>,
    errands: Arc<()>,
    /// Held by who removes members, or makes something else of them.
    pub members: tokio::sync::Mutex<()>,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    pub fibers: Fibers,
}

/// A machine, with a node that lives on it or not.
struct Machine {
    disk: LossVfs,
    raft: Arc<FakeDisk>,
    life: Option<Life>,
    lives: u64,
    /// When one that is down is started again.
    back_at: Instant,
    seed: [u8; 32],
    ahead: Duration,
    patience: Duration,
    /// What it came in by, or is to come in by.
    invite: Option<String>,
    /// Somebody commits on it.
    is_used: bool,
    /// It was not let in, and never will be.
    is_out: bool,
    /// Somebody is being invited there.
    is_called: bool,
}

/// A node between two crashes.
#[derive(Clone)]
pub struct Life {
    pub machine: usize,
    /// The how-manieth.
    pub number: u64,
    pub key: PeerKey,
    disk: LossVfs,
    raft: Arc<FakeDisk>,
    is_alive: Arc<AtomicBool>,
    node: Arc<Mutex<Option<Arc<Node>>>>,
    root: Arc<Dir>,
}

impl Life {
    /// Whether it has not ended.
    pub fn is_alive(&self) -> bool {
        self.is_alive.load(Ordering::Relaxed)
    }

    /// Whether it is this one.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.is_alive, &other.is_alive)
    }

    /// Power is there for all of it, or for nothing.
    pub fn lose_power_at_once(&self) {
        if self.disk.is_dead() {
            self.is_alive.store(false, Ordering::Relaxed);
        } else if !self.is_alive() {
            self.disk.stop_after(0);
        }
    }

    /// Its disk for the log.
    pub fn plug(&self) -> Plugged {
        self.raft.plug(Arc::clone(&self.is_alive))
    }

    /// Where it says that it is.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, u8::try_from(self.machine + 1).unwrap_or(u8::MAX)], 7946))
    }

    /// The node, once it has started and while it lives.
    pub fn node(&self) -> Option<Arc<Node>> {
        lock(&self.node).clone().filter(|_| self.is_alive())
    }
}

impl World {
    /// Machines on which nothing was ever started, with settings that are drawn, and then changed.
    pub fn new(seed: u64, change: impl FnOnce(&mut Settings)) -> Arc<Self> {
        let mut numbers = Numbers(seed).fork();
        let mut settings = Settings::draw(&mut numbers);
        change(&mut settings);
        let params = params(&mut numbers);
        let machines = (0..settings.machines()).map(|number| Machine::new(number, &params, &settings, &mut numbers));
        let machines = Mutex::new(machines.collect());
        let net = Weather::new(numbers.fork());
        let fibers = Fibers::default();
        tokio::spawn(fibers.clone().run());
        Arc::new(Self {
            settings,
            record: Record::new(),
            net,
            numbers: Mutex::new(numbers),
            runtime: Handle::current(),
            machines,
            oracle: Mutex::new(Oracle::new(params.repository)),
            waiting: Mutex::default(),
            restarts: Mutex::default(),
            errands: Arc::default(),
            members: tokio::sync::Mutex::default(),
            is_calm: AtomicBool::new(true),
            is_over: AtomicBool::new(false),
            fibers,
        })
    }

    fn machines(&self) -> MutexGuard<'_, Vec<Machine>> {
        lock(&self.machines)
    }

    /// What is known of what was decided.
    pub fn oracle(&self) -> MutexGuard<'_, Oracle> {
        lock(&self.oracle)
    }

    /// A number.
    pub fn draw(&self) -> u64 {
        lock(&self.numbers).draw()
    }

    /// Numbers for somebody.
    pub fn numbers(&self) -> Numbers {
        lock(&self.numbers).fork()
    }

    /// Whether there are faults.
    pub fn is_calm(&self) -> bool {
        self.is_calm.load(Ordering::Relaxed)
    }

    /// Faults begin, or end.
    pub fn set_calm(&self, is_calm: bool) {
        self.record.note(format_args!("calm: {is_calm}"));
        self.is_calm.store(is_calm, Ordering::Relaxed);
    }

    /// Whether everybody is to stop.
    pub fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Relaxed)
    }

    /// Somebody has something to publish, from here on.
    pub fn user_begins(&self, machine: usize) {
        self.machines()[machine].is_used = true;
        lock(&self.waiting).insert(machine);
    }

    /// Whether somebody commits on a machine.
    pub fn is_used(&self, machine: usize) -> bool {
        self.machines()[machine].is_used
    }

    /// A machine for somebody new, if there is one left.
    pub fn newcomer(&self) -> Option<usize> {
        let mut machines = self.machines();
        let machine = machines.iter().position(|machine| machine.lives == 0 && !machine.is_called)?;
        machines[machine].is_called = true;
        Some(machine)
    }

    /// Nobody comes there: somebody else may.
    pub fn comes_not(&self, machine: usize) {
        self.machines()[machine].is_called = false;
    }

    /// Somebody is at something that the end of the storm does not end.
    pub fn errand(&self) -> Arc<()> {
        Arc::clone(&self.errands)
    }

    /// Whether somebody still is.
    pub fn has_errands(&self) -> bool {
        Arc::strong_count(&self.errands) > 1
    }

    /// A node is to be started anew, by whoever looks after its machine.
    pub fn restart_soon(&self, machine: usize) {
        lock(&self.restarts).insert(machine);
    }

    /// Starts those anew that are to be.
    pub fn restart(self: &Arc<Self>) {
        for machine in std::mem::take(&mut *lock(&self.restarts)) {
            self.crash(machine, false);
            self.machines()[machine].back_at = Instant::now();
        }
    }

    /// Whether it was not let in, and never will be.
    pub fn is_out(&self, machine: usize) -> bool {
        self.machines()[machine].is_out
    }

    /// Machines on which a node is to live: it belongs to the cluster, or did.
    pub fn inhabited(&self) -> Vec<usize> {
        let machines = self.machines();
        let all = machines.iter().enumerate().filter(|(_, machine)| machine.lives > 0 && !machine.is_out);
        all.map(|(number, _)| number).collect()
    }

    /// The key of the node that lives, or is to live, on a machine.
    pub fn key(&self, machine: usize) -> PeerKey {
        self.machines()[machine].key()
    }

    /// Somebody is done.
    pub fn user_done(&self, machine: usize) {
        lock(&self.waiting).remove(&machine);
    }

    /// Somebody who is not done.
    pub fn user_that_waits(&self) -> Option<usize> {
        lock(&self.waiting).first().copied()
    }

    /// Something panicked, which is never right.
    pub fn panicked(&self, what: &str) {
        self.record.broken(Promise::GoesOn, format!("it panicked: {what}"));
    }

    /// The node that lives on a machine.
    pub fn life(&self, machine: usize) -> Option<Life> {
        self.machines()[machine].life.clone().filter(Life::is_alive)
    }

    /// All that live and have started.
    pub fn nodes(&self) -> Vec<(Life, Arc<Node>)> {
        let lives: Vec<Life> = self.machines().iter().filter_map(|machine| machine.life.clone()).collect();
        lives.into_iter().filter_map(|life| Some((life.clone(), life.node()?))).collect()
    }

    /// What a power cut at this moment would leave on each machine, at the least.
    pub fn disks(&self) -> Vec<LossVfs> {
        self.machines()
            .iter()
            .map(|machine| machine.life.as_ref().map_or(&machine.disk, |life| &life.disk).clone())
            .collect()
    }

    /// Does work that blocks, for a node.
    pub fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        life: &Life,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let env = self.surroundings(life);
        self.runtime.spawn(async move {
            let env: &dyn Env = &env;
            env.blocking(work).await
        })
    }

    fn surroundings(self: &Arc<Self>, life: &Life) -> Surroundings {
        let (ahead, patience) = {
            let machines = self.machines();
            (machines[life.machine].ahead, machines[life.machine].patience)
        };
        let (world, numbers) = (Arc::clone(self), Mutex::new(self.numbers()));
        Surroundings { world, life: life.clone(), runtime: self.runtime.clone(), numbers, ahead, patience }
    }

    /// Starts a node: the first founds a cluster, others come in by an invite the first time.
    pub fn start(self: &Arc<Self>, machine: usize, invite: Option<String>) -> JoinHandle<Option<()>> {
        let (life, invite) = {
            let mut machines = self.machines();
            let of = &mut machines[machine];
            of.invite = invite.or(of.invite.take());
            (of.begin(machine), of.invite.clone())
        };
        self.record.note(format_args!("{machine} starts, life {}", life.number));
        let (world, own) = (Arc::clone(self), life.clone());
        self.blocking(&life, move || {
            let started = world.start_now(&own, invite.as_deref());
            world.started(&own, started);
        })
    }

    fn start_now(self: &Arc<Self>, life: &Life, invite: Option<&str>) -> Result<Arc<Node>, Error> {
        let repo = Arc::new(Repo::open_writer_on(&life.root.0, Arc::new(life.disk.clone()))?);
        let place = || -> Result<_, Error> { Ok((Arc::new(self.surroundings(life)) as Arc<dyn Env>, None)) };
        if let Some(invite) = invite
            && member::read(&**repo.store.vfs())?.is_none()
        {
            self.come_in(life, &place, &repo, &InviteLine::decode(invite)?)?;
        }
        let told = {
            let (world, machine) = (Arc::clone(self), life.machine);
            Arc::new(move |error: &Error| world.record.note(format_args!("{machine} says: {error}")))
        };
        let options = NodeOptions { listen: vec![life.address()], moved: false };
        let node = Arc::new(Node::start_in(place()?, repo, &options, told)?);
        *lock(&life.node) = Some(Arc::clone(&node));
        self.oracle().numbers.insert(node.number(), life.machine);
        let (world, own) = (Arc::clone(self), life.clone());
        node.when_log_stops(move |why| {
            if own.is_alive() && !world.is_over() {
                world.record.broken(Promise::GoesOn, format!("the log of {} stopped: {why}", own.machine));
            }
        })?;
        self.watch(life, &node);
        // Until it is known.
        while let Err(error) = node.announce(PATIENCE) {
            if node.is_stopping() {
                return Err(error);
            }
            if error.kind() == ErrorKind::Refused && self.is_removed(node.number()) {
                self.record.note(format_args!("{} is told that it was removed", life.machine));
                break;
            }
        }
        Ok(node)
    }

    /// Joins, however often it takes. It fails where that is right: the invite or the membership has ended.
    fn come_in(
        &self,
        life: &Life,
        place: &dyn Fn() -> Result<cluster::node::Place, Error>,
        repo: &Arc<Repo>,
        line: &InviteLine,
    ) -> Result<(), Error> {
        loop {
            let is_calm = self.is_calm();
            let error = match join::join(place, repo, line, PATIENCE) {
                Ok(node) => {
                    if !self.is_calm() {
                        self.record.count("joins in the storm");
                    }
                    node.shutdown();
                    return Ok(());
                }
                Err(error) => error,
            };
            self.record.note(format_args!("{} does not join: {error}", life.machine));
            life.lose_power_at_once();
            if !life.is_alive() || self.is_over() {
                return Err(error);
            }
            let is_void = self.is_void(life, line);
            match error.kind() {
                // What is not known here of faults is that it was heard: in a storm it may have to try again.
                ErrorKind::NoQuorum if !is_calm || !is_void => {}
                ErrorKind::NoQuorum | ErrorKind::Refused if is_void => {
                    self.machines()[life.machine].is_out = true;
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
    }

    /// Whether nobody can come in by an invite any more: it has ended, or all whom it names may let nobody in.
    fn is_void(&self, life: &Life, line: &InviteLine) -> bool {
        let oracle = self.oracle();
        let state = &oracle.newest;
        let lets_in = |door: &Door| state.member(door.node).is_ok_and(|member| member.role == Role::Candidate);
        match state.member_by_key(ids::PeerKey(life.key.0)) {
            Some((_, member)) if member.is_removed => true,
            None if !state.invites.contains_key(&line.public()) => true,
            _ => !line.doors.iter().any(lets_in),
        }
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.oracle().newest.members.get(&node).is_some_and(|member| member.is_removed)
    }

    /// Whether the node on a machine is a member no more.
    pub fn has_left(&self, machine: usize) -> bool {
        let key = ids::PeerKey(self.key(machine).0);
        self.oracle().newest.member_by_key(key).is_some_and(|(_, member)| member.is_removed)
    }

    fn started(&self, life: &Life, started: Result<Arc<Node>, Error>) {
        life.lose_power_at_once();
        match started {
            Ok(node) => self.record.note(format_args!("{} is node {}", life.machine, node.number())),
            Err(_) if self.is_out(life.machine) => self.record.note(format_args!("{} stays outside", life.machine)),
            Err(error) if life.is_alive() && !self.is_over() && error.kind() != ErrorKind::Cancelled => {
                self.record.broken(Promise::GoesOn, format!("{} does not start: {error}", life.machine));
            }
            Err(_) => {}
        }
    }

    /// Looks at what a node applies.
    fn watch(self: &Arc<Self>, life: &Life, node: &Arc<Node>) {
        let (world, own, core) = (Arc::clone(self), life.clone(), Arc::clone(&node.core));
        drop(self.blocking(life, move || {
            let Some(log) = core.log.get() else { return };
            let mut applied = log.watch_applied();
            while own.is_alive() && !world.is_over() {
                applied.borrow_and_update();
                world.look_at(&own, log);
                if core.wait(applied.changed()).is_err() {
                    return;
                }
            }
        }));
    }

    /// Ends a node: what it had in memory is gone, and by a power cut what was not synced.
    pub fn crash(self: &Arc<Self>, machine: usize, is_power_cut: bool) {
        let (life, how) = {
            let mut machines = self.machines();
            let of = &mut machines[machine];
            let Some(life) = of.life.take() else { return };
            let loss = Loss::Random(self.draw());
            of.disk = if is_power_cut { life.disk.crash(&loss) } else { life.disk.fork() };
            life.disk.stop_after(0);
            life.is_alive.store(false, Ordering::Relaxed);
            if is_power_cut {
                of.raft.cut();
            }
            of.raft.fail_never();
            of.back_at = Instant::now() + Duration::from_millis(self.draw() % 4_000);
            (life, if is_power_cut { "power cuts" } else { "kills" })
        };
        self.record.note(format_args!("{machine} ends: {how}"));
        self.record.count(how);
        self.net.forget(&life);
        self.end_life(life);
        self.check_held();
    }

    /// What is left of a life comes to its end, and nobody hears of it.
    fn end_life(self: &Arc<Self>, life: Life) {
        let own = life.clone();
        let node = lock(&life.node).take();
        drop(self.blocking(&own, move || {
            let Some(mut node) = node else { return };
            node.stop();
            // Whoever has it lets go as soon as he sees that.
            loop {
                match Arc::try_unwrap(node) {
                    Ok(node) => return node.shutdown(),
                    Err(shared) => node = shared,
                }
                fiber::block_on(std::pin::pin!(tokio::time::sleep(Duration::from_millis(20))));
            }
        }));
    }

    /// Flips a bit on a disk, somewhere in the packs.
    pub fn rot(&self, machine: usize) {
        let Some(life) = self.life(machine) else { return };
        let dir = Path::new("packs");
        let names = life.disk.list(dir).unwrap_or_default().into_iter().map(|(name, _)| name);
        let mut packs: Vec<PathBuf> = names.map(|name| dir.join(name)).collect();
        // Names are random in every run, serials are not.
        packs.sort_by_cached_key(|path| {
            let file = life.disk.open(path, Open::Read).ok()?;
            Some(read_pack_header(&*file).ok()?.serial)
        });
        let Some(path) = packs.get(usize::try_from(self.draw() % 64).unwrap_or_default() % packs.len().max(1)) else {
            return;
        };
        let len = life.disk.stat(path).map_or(0, |stat| stat.size);
        let bit = self.draw() % (8 * len).max(1);
        if life.disk.flip_bit(path, bit).unwrap_or(false) {
            self.record.note(format_args!("a bit flips on {machine}"));
            self.record.count("bits that flipped");
            self.oracle().rotten.entry(machine).or_default().push((path.clone(), bit));
        }
    }

    /// Has the power go in the middle of a write.
    pub fn crash_soon(&self, machine: usize, is_of_log: bool) {
        let writes = self.draw() % 12;
        let machines = self.machines();
        let Some(life) = &machines[machine].life else { return };
        match is_of_log {
            true => machines[machine].raft.fail_after(writes),
            false => life.disk.stop_after(writes),
        }
    }

    /// Buries those whose power went, finds those that ended by themselves, and starts who is to come back.
    pub fn sweep(self: &Arc<Self>) {
        let dead: Vec<usize> = {
            let machines = self.machines();
            let is_dead = |life: &Life| {
                life.lose_power_at_once();
                !life.is_alive()
            };
            let dead = machines.iter().enumerate().filter(|(_, machine)| machine.life.as_ref().is_some_and(is_dead));
            dead.map(|(number, _)| number).collect()
        };
        dead.into_iter().for_each(|machine| self.crash(machine, true));
        let now = Instant::now();
        let is_due = |machine: &Machine| machine.lives > 0 && machine.life.is_none() && machine.back_at <= now;
        let due: Vec<usize> =
            self.machines().iter().enumerate().filter(|(_, it)| is_due(it)).map(|(number, _)| number).collect();
        due.into_iter().for_each(|machine| drop(self.start(machine, None)));
    }

    /// Nothing goes wrong any more.
    pub fn heal(&self) {
        self.net.calm();
        for machine in self.machines().iter_mut() {
            if let Some(life) = &machine.life {
                life.disk.stop_after(u64::MAX >> 1);
            }
            machine.raft.fail_never();
            machine.back_at = Instant::now();
        }
    }

    /// Ends everything.
    pub async fn end(self: &Arc<Self>) {
        self.is_over.store(true, Ordering::Relaxed);
        let lives: Vec<Life> = self.machines().iter_mut().filter_map(|machine| machine.life.take()).collect();
        for life in lives {
            life.is_alive.store(false, Ordering::Relaxed);
            self.net.forget(&life);
            self.end_life(life);
        }
        // All threads come to their end, so that nothing of this world is left for the next.
        while self.fibers.count() > 0 {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Machine {
    fn new(number: usize, params: &Params, settings: &Settings, numbers: &mut Numbers) -> Self {
        let mut seed = [0; 32];
        seed.fill_with(|| numbers.draw().to_le_bytes()[0]);
        let disk = LossVfs::new();
        make_store(&disk, number, params, seed).expect("an empty disk takes a store");
        Self {
            disk,
            raft: FakeDisk::new(numbers.fork(), None),
            life: None,
            lives: 0,
            back_at: Instant::now(),
            seed,
            ahead: Duration::from_secs(numbers.below(settings.ahead + 1)),
            patience: Duration::from_millis(800 + numbers.below(500)),
            invite: None,
            is_used: false,
            is_out: false,
            is_called: false,
        }
    }

    fn key(&self) -> PeerKey {
        PeerKey(SigningKey::from_bytes(&self.seed).verifying_key().to_bytes())
    }

    fn begin(&mut self, machine: usize) -> Life {
        self.lives += 1;
        let life = Life {
            machine,
            number: self.lives,
            key: self.key(),
            root: Arc::new(root()),
            disk: self.disk.clone(),
            raft: Arc::clone(&self.raft),
            is_alive: Arc::new(AtomicBool::new(true)),
            node: Arc::default(),
        };
        self.life = Some(life.clone());
        life
    }
}

fn params(numbers: &mut Numbers) -> Params {
    let mut id = [0; 32];
    id.fill_with(|| numbers.draw().to_le_bytes()[0]);
    let chunks = ChunkSizes::from_average(4 << 10).expect("a size");
    Params::new(ContentHash::from_bytes(id), chunks, Codec::Zstd)
}

/// A repository without anything in it.
fn make_store(disk: &LossVfs, number: usize, params: &Params, seed: [u8; 32]) -> Result<(), Error> {
    let root = root();
    Identity::of_seed(seed).save(disk)?;
    config::create(disk, &format!("machine-{number}"))?;
    Copied::default().write(disk)?;
    let place = Place { vfs: Arc::new(disk.clone()), index_dir: root.0.join(STORE_DIR).join("index"), lock_dir: None };
    Store::create(&place, params)?;
    disk.sync_dir(&PathBuf::new()).map_err(|error| Error::io("cannot sync", &error))
}

/// A place for what is not of the disk: the index, which is made again in each life, and a working copy that nobody looks at.
fn root() -> Dir {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    // What is drawn follows from the seed, and the same seed may run twice at once.
    let name = format!("{TEMP_PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let memory = PathBuf::from("/dev/shm");
    let dir = Dir(if memory.is_dir() { memory } else { std::env::temp_dir() }.join(name));
    std::fs::create_dir_all(dir.0.join(STORE_DIR)).expect("a directory");
    dir
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
