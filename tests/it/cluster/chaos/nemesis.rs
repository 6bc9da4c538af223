//! Who brings faults about.

use std::collections::BTreeMap;
use std::time::Duration;

use filesync_cas::testing::Rng;
use rustix::process::Signal;

use super::super::until;
use super::Cluster;
use super::clock::HOUR;
use super::faults::{Fault, Step, Whom};
use super::history::History;
use super::machine::{FULL, Machine};
use super::proxy::{Way, Weather};
use super::slow::Slow;
use super::{members, rot};

/// For how many faults the weather stays as it is.
const WEATHER: usize = 3;
/// How often it is looked whether the next one is due.
const LOOK: Duration = Duration::from_millis(10);

pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    history: &'a History,
    rng: Rng,
    /// For how many faults the weather stays as it is now.
    weather_left: usize,
    /// Who came in the course of the run.
    newcomers: usize,
    /// Who led when it was last looked, and how often that was another one.
    leader: Option<usize>,
    pub leaders: usize,
    pub injected: BTreeMap<Fault, usize>,
}

impl<'a> Nemesis<'a> {
    pub fn new(cluster: &'a Cluster, history: &'a History, rng: Rng) -> Self {
        let (weather_left, newcomers, leader, leaders, injected) = Default::default();
        Self { cluster, history, rng, weather_left, newcomers, leader, leaders, injected }
    }

    /// Carries out all steps, spread over the run, and waits for its end.
    pub fn run(&mut self, steps: &[Step]) {
        let share = 1.0 / (steps.len() + 1) as f64;
        for (number, step) in steps.iter().enumerate() {
            self.wait_until((number + 1) as f64 * share);
            if self.history.is_over() {
                return;
            }
            self.step(step);
        }
        self.wait_until(1.0);
    }

    fn wait_until(&self, progress: f64) {
        while self.history.progress() < progress && !self.history.is_over() {
            self.history.assert_in_time();
            std::thread::sleep(LOOK);
        }
    }

    fn step(&mut self, step: &Step) {
        self.cluster.assert_all_run();
        self.weather_left = self.weather_left.saturating_sub(1);
        // All of the history through a network that gets everything out of order takes minutes.
        if self.weather_left == 0 || matches!(step.fault, Fault::Guest | Fault::Replace) {
            self.cluster.net.set_weather(Weather::default());
        }
        let whom = self.victims(step.whom);
        self.history.tell(format!("{step:?}: {whom:?}"));
        let was_done = self.carry_out(step, &whom);
        self.history.tell("done".to_owned());
        if was_done {
            *self.injected.entry(step.fault).or_default() += 1;
        }
    }

    /// Whether it came to that.
    fn carry_out(&mut self, step: &Step, whom: &[usize]) -> bool {
        let cluster = self.cluster;
        let machines: Vec<&Machine> = whom.iter().map(|number| &cluster.machines[*number]).collect();
        match step.fault {
            Fault::Kill => kill(&machines, step.lasts),
            Fault::Pause => pause(&machines, step.lasts),
            Fault::Cut => self.cut(whom, Way::Both, step.lasts),
            Fault::Unplug => self.unplug(whom, step.lasts),
            Fault::Deaf => self.cut(whom, Way::In, step.lasts),
            Fault::Mute => self.cut(whom, Way::Out, step.lasts),
            Fault::Delay | Fault::Loss | Fault::Twice => self.set_weather(step),
            Fault::Full => return fill(machines[0], step.lasts),
            Fault::Slow => slow(machines[0], cluster, step),
            Fault::Clock => machines[0].clock.set(if step.degree.is_multiple_of(2) { HOUR } else { -HOUR }),
            Fault::Rot => return self.rot(machines[0]),
            Fault::Collect => return machines[0].run(&["gc"]).status == Some(0),
            Fault::Guest => members::guest_comes_and_goes(cluster, &self.newcomer("guest"), step.lasts),
            Fault::Demote => members::voter_pauses(cluster, machines[0], step.lasts),
            Fault::Replace => {
                let name = self.newcomer("new");
                return members::member_is_replaced(cluster, self.history, machines[0], &name);
            }
        }
        true
    }

    fn newcomer(&mut self, what: &str) -> String {
        self.newcomers += 1;
        format!("{what}-{}", self.newcomers)
    }

    fn victims(&mut self, whom: Whom) -> Vec<usize> {
        let mut voters: Vec<usize> = (0..Cluster::VOTERS).collect();
        self.rng.shuffle(&mut voters);
        match whom {
            Whom::Leader => vec![self.find_leader().unwrap_or(voters[0])],
            Whom::Voter => voters[..1].to_vec(),
            Whom::TwoVoters => voters[..2].to_vec(),
            Whom::AllVoters => voters,
            Whom::Small => vec![Cluster::SMALL],
            Whom::Spare => vec![Cluster::SPARE],
            Whom::Writer => vec![Cluster::VOTERS + self.rng.index(Cluster::WRITERS)],
            Whom::Nobody => Vec::new(),
        }
    }

    fn find_leader(&mut self) -> Option<usize> {
        let leader = self.cluster.leader();
        if leader.is_some() && leader != self.leader {
            self.leader = leader;
            self.leaders += 1;
        }
        leader
    }

    fn cut(&self, whom: &[usize], way: Way, lasts: Duration) {
        whom.iter().for_each(|node| self.cluster.net.cut(*node, way));
        std::thread::sleep(lasts);
        self.cluster.net.mend();
    }

    fn unplug(&self, whom: &[usize], lasts: Duration) {
        whom.iter().for_each(|node| self.cluster.net.plug(*node, false));
        std::thread::sleep(lasts);
        whom.iter().for_each(|node| self.cluster.net.plug(*node, true));
    }

    fn set_weather(&mut self, step: &Step) {
        let mut weather = Weather::default();
        match step.fault {
            Fault::Delay => weather.delay = Duration::from_millis(step.degree),
            Fault::Loss => weather.loss = step.degree / 4,
            Fault::Twice => weather.twice = step.degree,
            _ => {}
        }
        self.cluster.net.set_weather(weather);
        self.weather_left = WEATHER;
        // The next card may be due already, and take its place before a datagram has met with it.
        std::thread::sleep(step.lasts);
    }

    /// Bits flip while everything that the machine holds is published, and so held by others too; then it is looked for until
    /// it has shown and is no more. False if the run is over before that.
    fn rot(&mut self, machine: &Machine) -> bool {
        let fsck = |status: i32| machine.run(&["fsck"]).status == Some(status);
        let (rng, history) = (&mut self.rng, self.history);
        let damage = || {
            machine.set_damaged(true);
            // Not everything that lies in packs is needed by anything.
            until("it finds damage", || {
                let flipped = rot::flip(machine.world().root(), rng);
                history.tell(format!("flipped {flipped:?}"));
                fsck(5)
            });
        };
        if machine.rest.during(history, damage).is_none() {
            return false;
        }
        // All may be there again before the node itself has read it, which is what it waits for before it serves anybody.
        until("it has healed", || fsck(0) && members::holders(machine).contains(&machine.name()));
        machine.set_damaged(false);
        true
    }
}

fn kill(machines: &[&Machine], lasts: Duration) {
    machines.iter().for_each(|machine| machine.kill());
    std::thread::sleep(lasts);
    machines.iter().for_each(|machine| machine.start());
}

fn pause(machines: &[&Machine], lasts: Duration) {
    machines.iter().for_each(|machine| machine.signal(Signal::STOP));
    std::thread::sleep(lasts);
    machines.iter().for_each(|machine| machine.signal(Signal::CONT));
}

/// Until it has met with the full disk, and a while longer. False where there is no such disk.
fn fill(machine: &Machine, lasts: Duration) -> bool {
    let Some(disk) = machine.disk() else { return false };
    let before = machine.log_len();
    disk.fill();
    until("the full disk is met", || machine.has_logged(before, FULL));
    std::thread::sleep(lasts);
    disk.free();
    true
}

/// Until a sync was slow, and a while longer.
fn slow(machine: &Machine, cluster: &Cluster, step: &Step) {
    let delay = Duration::from_millis(step.degree * 5);
    let slow = Slow::begin(machine.process(), delay, &cluster.logs.path().join("slow"));
    until("a sync is slow", || slow.count() > 0);
    std::thread::sleep(step.lasts);
}
