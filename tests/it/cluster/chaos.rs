//! A cluster of real processes while things go wrong, and its history held against what was promised (G3, G4).
//!
//! Three voters and two writers, each with a daemon, publish and read without a pause. What goes wrong comes from a seed
//! (`faults`); so does what is written (`work`), but not which of two processes is faster. In the end everything is healed, and
//! there must be one order in which each publish stands once and which explains all that anybody saw; and each voter alone,
//! with nobody else running, must give back every commit, byte for byte.
//!
//! The run ends when there are enough operations and every fault has been there, however long that takes: a machine that is
//! slow, or busy, takes longer and comes to the same.

mod audit;
mod client;
pub mod clock;
mod faults;
mod history;
mod machine;
mod members;
mod nemesis;
mod proxy;
mod rest;
mod rot;
mod slow;
mod work;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use filesync_cas::testing::Rng;
use filesync_tests::model::{Item, Tree};
use filesync_tests::world::{TempDir, is_long, seed, skipped};

use super::until;
use audit::Audit;
use client::Client;
use clock::Library;
use history::{Ends, History};
use machine::Machine;
use nemesis::Nemesis;
use proxy::{Net, Weather};
use work::{Files, Work};

/// Operations that are done, and after what time something must hang.
const AIM: usize = 3_000;
const LIMIT: Duration = Duration::from_secs(3_600);
/// How often each fault comes, at least.
const ROUNDS: usize = 2;
/// By how much a long run is longer.
const LONG: usize = 10;

/// Three voters and two writers.
pub struct Cluster {
    machines: Vec<Machine>,
    net: Arc<Net>,
    library: Library,
    logs: TempDir,
}

impl Cluster {
    const NAMES: [&str; 5] = ["one", "two", "three", "four", "five"];
    const VOTERS: usize = 3;
    const WRITERS: usize = 2;
    /// The voter that may be replaced.
    const SPARE: usize = 1;
    /// The voter whose disk is small.
    const SMALL: usize = 2;
    /// Where somebody may come in.
    const GUEST: usize = 5;

    /// Founded, grown, and at work. None where there can be no network of our own, or no disks.
    fn new(work: &Work, rng: Rng) -> Option<Self> {
        let Some(net) = Net::new(Self::GUEST + 1, rng) else {
            skipped("network namespaces cannot be made here");
            return None;
        };
        let (net, library, logs) = (Arc::new(net), Library::new(), TempDir::new());
        let mut cluster = Self { machines: Vec::new(), net, library, logs };
        cluster.machines = Self::NAMES.iter().enumerate().map(|(number, name)| cluster.machine(number, name)).collect();
        if !cluster.machines[Self::SMALL].shrink() {
            return None;
        }
        cluster.found(work);
        cluster.grow();
        Some(cluster)
    }

    fn machine(&self, number: usize, name: &str) -> Machine {
        let log = self.logs.path().join(format!("node-{number}"));
        Machine::new(number, name, &self.net, self.library.clock(number), log)
    }

    /// Who founded it, and is asked when members come and go.
    fn host(&self) -> &Machine {
        &self.machines[0]
    }

    fn found(&self, work: &Work) {
        let one = self.host();
        one.ok(&["init", "--name", &one.name()]);
        work.base.iter().for_each(|(path, bytes)| one.world().write(path, bytes));
        one.ok(&["commit", "-m", "base"]);
        one.start();
        one.ok(&["sync"]);
    }

    fn grow(&self) {
        for machine in &self.machines[1..] {
            let role = if machine.number < Self::VOTERS { "voter" } else { "writer" };
            members::join(self.host(), machine, role);
        }
        members::promote(self.host(), &self.machines[1].name(), &[]);
    }

    fn voters(&self) -> &[Machine] {
        &self.machines[..Self::VOTERS]
    }

    /// Who leads, as far as anybody knows.
    fn leader(&self) -> Option<usize> {
        let named = |machine: &Machine| {
            let peers = machine.json(&["peers", "--timeout", "2s"])?;
            let leader = peers.into_iter().find(|peer| peer["leader"] == true)?;
            self.machines.iter().position(|machine| leader["name"] == machine.name().as_str())
        };
        self.voters().iter().find_map(named)
    }

    fn assert_all_run(&self) {
        self.machines.iter().for_each(Machine::assert_runs);
    }

    /// Until nothing is wrong any more, and all know the same.
    fn heal(&self, clients: &mut [Client<'_>]) {
        self.net.mend();
        self.net.set_weather(Weather::default());
        self.machines.iter().for_each(|machine| machine.clock.set(0));
        clients.iter_mut().for_each(Client::finish);
        until("all know the same", || {
            clients.iter_mut().for_each(Client::finish);
            let heads: Vec<_> = self.machines.iter().map(|machine| machine.world().head()).collect();
            heads.iter().all(|head| *head == heads[0])
        });
        until("all voters hold the head", || {
            let holders = members::holders(self.host());
            self.voters().iter().all(|voter| holders.contains(&voter.name()))
        });
        self.assert_all_run();
        self.machines.iter().for_each(Machine::end);
    }
}

/// Shows on a failure what the test saw.
struct Report<'a>(&'a Cluster, &'a History);

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("{}\n{}", self.1.told(), self.1.summary());
            for machine in &self.0.machines {
                println!("the log of {} ends:\n{}", machine.name(), machine.last_words());
            }
        }
    }
}

#[test]
#[ignore = "takes minutes, and the machine for itself: scripts/chaos runs it, and scripts/test behind the others"]
fn cluster_of_processes_keeps_its_promises_whatever_happens() {
    let began = SystemTime::now();
    let seed = seed(1);
    let mut rng = Rng::new(seed);
    let times = if is_long() { LONG } else { 1 };
    let work = Work::new(seed);
    let Some(cluster) = Cluster::new(&work, rng.fork()) else { return };
    let history = History::new(AIM * times, LIMIT * u32::try_from(times).expect("a few"));
    let _report = Report(&cluster, &history);
    let steps = faults::plan(&mut rng, ROUNDS * times);
    let mut clients: Vec<Client> =
        cluster.machines.iter().map(|machine| Client::new(machine, &history, &work, rng.fork())).collect();

    let mut nemesis = Nemesis::new(&cluster, &history, rng.fork());
    std::thread::scope(|scope| {
        let history = &history;
        for (number, client) in clients.iter_mut().enumerate() {
            scope.spawn(move || {
                let _all = Ends(history);
                client.run(if number < Cluster::VOTERS { 6 } else { 2 });
            });
        }
        let _all = Ends(history);
        nemesis.run(&steps);
    });
    println!("{}\n{:?}, {} times another led", history.summary(), nemesis.injected, nemesis.leaders);
    println!("datagrams: {:?}", cluster.net.counts());
    faults::assert_all_injected(&nemesis.injected);
    assert_disturbed(&cluster.net);

    cluster.heal(&mut clients);
    check(&cluster, &history, &work, began);
}

/// The network was what it was meant to be.
fn assert_disturbed(net: &Net) {
    let counts = net.counts();
    for count in [&counts.passed, &counts.cut, &counts.lost, &counts.late, &counts.twice] {
        assert!(count.load(Ordering::Relaxed) > 0, "{counts:?}");
    }
}

fn check(cluster: &Cluster, history: &History, work: &Work, began: SystemTime) {
    let made = history.made();
    let first = Audit::read(cluster.host().world().root(), &made);
    let seen = history::places(&history.operations(), &first.order).expect("each value that was seen was main");
    if let Err(told) = history::check(&seen) {
        panic!("not linearizable: {told}");
    }
    let written = seen.iter().filter(|it| it.wrote).count();
    println!(
        "{} values of main, {} commits, {} operations done, {written} of them writes",
        first.order.len(),
        made.len(),
        seen.len()
    );
    assert!(written >= 100 && seen.len() - written >= 100, "too few to show anything");
    let off = first.count_off(began, SystemTime::now());
    assert!(off > 0, "no commit was made by a clock that is wrong");
    for voter in cluster.voters() {
        let audit = Audit::read(voter.world().root(), &made);
        assert_eq!(audit.order, first.order, "{} has another order than {}", voter.name(), cluster.host().name());
        audit.check_once(&made);
        voter.ok(&["fsck"]);
        restore_all(voter, &audit, work);
    }
}

/// G4: a voter gives back every commit, as a user would ask for it, byte for byte, while nobody else is there.
fn restore_all(voter: &Machine, audit: &Audit, work: &Work) {
    let commits: Vec<String> = audit.commits().collect();
    let next = AtomicUsize::new(0);
    let restore = || {
        while let Some(commit) = commits.get(next.fetch_add(1, Ordering::Relaxed)) {
            let found = files(voter.world().restored(commit));
            assert!(found == work.files(audit.clock(commit)), "{}: restored {commit}", voter.name());
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(restore);
        }
    });
    println!("{} gives back {} commits", voter.name(), commits.len());
}

fn files(tree: Tree) -> Files {
    let file = |(path, item)| match item {
        Item::File(_, _, bytes) => Some((String::from_utf8(path).expect("as it was written"), bytes)),
        _ => None,
    };
    tree.into_iter().filter_map(file).collect()
}
