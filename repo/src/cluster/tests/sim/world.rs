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
use crate::cluster::invite::InviteLine;
use crate::cluster::{Node, NodeOptions, join};
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
    /// Machines on which nothing was ever started.
    pub fn new(seed: u64) -> Arc<Self> {
        let mut numbers = Numbers(seed).fork();
        let settings = Settings::draw(&mut numbers);
        let params = params(&mut numbers);
        let machines = (0..settings.nodes).map(|number| Machine::new(number, &params, &settings, &mut numbers));
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
        lock(&self.waiting).insert(machine);
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
        let life = self.machines()[machine].begin(machine);
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
        if let Some(invite) = invite {
            let line = InviteLine::decode(invite)?;
            join::join(&place, &repo, &line, PATIENCE)?.shutdown();
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
        }
        Ok(node)
    }

    fn started(&self, life: &Life, started: Result<Arc<Node>, Error>) {
        match started {
            Ok(node) => self.record.note(format_args!("{} is node {}", life.machine, node.number())),
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
        }
    }

    fn begin(&mut self, machine: usize) -> Life {
        self.lives += 1;
        let life = Life {
            machine,
            number: self.lives,
            key: PeerKey(SigningKey::from_bytes(&self.seed).verifying_key().to_bytes()),
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
