//! All machines, and what happens to them.

mod lives;
mod machine;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filesync_cas::pack::read_pack_header;
use filesync_cas::testing::LossVfs;
use filesync_cas::vfs::{Open, Vfs};
use filesync_p2p::PeerKey;
use filesync_raft_log::testing::Numbers;
use tokio::runtime::Handle;
use tokio::time::Instant;

pub use self::machine::Life;
use self::machine::{Machine, params};
use super::fiber::Fibers;
use super::net::Weather;
use super::oracle::Oracle;
use super::record::{Promise, Record};
use super::settings::Settings;
use crate::cluster::Node;

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
    errands: Arc<()>,
    /// Held by who removes members, or makes something else of them.
    pub members: tokio::sync::Mutex<()>,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    pub fibers: Fibers,
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
