//! What goes wrong, from a seed, and who brings it about.
//!
//! Faults are cards of a deck that is shuffled and dealt out over the run, so that a run meets each of them. Mostly a minority of
//! the voters is out at a time, sometimes all are, for seconds. The weather stays until the next card of its kind.

use std::collections::BTreeMap;
use std::time::Duration;

use filesync_cas::testing::Rng;
use rustix::process::Signal;

use super::Cluster;
use super::history::History;
use super::proxy::{Way, Weather};

/// How often it is looked whether the next one is due.
const LOOK: Duration = Duration::from_millis(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Killed and, after a while, started again.
    Kill,
    /// Stopped, and woken after a while.
    Pause,
    /// Reached by nobody, and reaching nobody, for a while.
    Cut,
    /// Reached by nobody.
    Deaf,
    /// Reaching nobody.
    Mute,
    Delay,
    Loss,
    Twice,
    Calm,
    /// A collection of what nothing refers to.
    Collect,
    /// Somebody joins, votes for a while, and goes.
    Guest,
}

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Leader,
    Voter,
    TwoVoters,
    AllVoters,
    Writer,
    Nobody,
}

const DECK: &[(Fault, Whom)] = &[
    (Fault::Kill, Whom::Leader),
    (Fault::Kill, Whom::Leader),
    (Fault::Kill, Whom::Voter),
    (Fault::Kill, Whom::TwoVoters),
    (Fault::Kill, Whom::AllVoters),
    (Fault::Kill, Whom::Writer),
    (Fault::Pause, Whom::Leader),
    (Fault::Pause, Whom::Voter),
    (Fault::Pause, Whom::TwoVoters),
    (Fault::Pause, Whom::Writer),
    (Fault::Cut, Whom::Leader),
    (Fault::Cut, Whom::Voter),
    (Fault::Cut, Whom::TwoVoters),
    (Fault::Cut, Whom::Writer),
    (Fault::Deaf, Whom::Leader),
    (Fault::Deaf, Whom::Voter),
    (Fault::Mute, Whom::Leader),
    (Fault::Mute, Whom::Voter),
    (Fault::Delay, Whom::Nobody),
    (Fault::Calm, Whom::Nobody),
    (Fault::Loss, Whom::Nobody),
    (Fault::Calm, Whom::Nobody),
    (Fault::Twice, Whom::Nobody),
    (Fault::Calm, Whom::Nobody),
    (Fault::Collect, Whom::Voter),
    (Fault::Collect, Whom::Voter),
    (Fault::Guest, Whom::Nobody),
];

/// One fault, and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    fault: Fault,
    whom: Whom,
    lasts: Duration,
    /// Of the weather: how bad, up to 100.
    degree: u64,
}

/// So many decks.
pub fn plan(rng: &mut Rng, decks: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..decks {
        let mut deck = DECK.to_vec();
        rng.shuffle(&mut deck);
        for (fault, whom) in deck {
            let lasts = Duration::from_millis(300 + rng.below(3_200));
            steps.push(Step { fault, whom, lasts, degree: 10 + rng.below(91) });
        }
    }
    steps
}

/// Brings faults about.
pub struct Nemesis<'a> {
    cluster: &'a Cluster,
    history: &'a History,
    rng: Rng,
    guests: usize,
    /// Who led when it was last looked, and how often that was another one.
    leader: Option<usize>,
    pub leaders: usize,
    pub injected: BTreeMap<Fault, usize>,
}

impl<'a> Nemesis<'a> {
    pub fn new(cluster: &'a Cluster, history: &'a History, rng: Rng) -> Self {
        let (guests, leader, leaders, injected) = Default::default();
        Self { cluster, history, rng, guests, leader, leaders, injected }
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
            std::thread::sleep(LOOK);
        }
    }

    fn step(&mut self, step: &Step) {
        self.cluster.assert_all_run();
        let whom = self.victims(step.whom);
        self.history.tell(format!("{step:?}: {whom:?}"));
        let was_done = match step.fault {
            Fault::Kill => self.kill(&whom, step.lasts),
            Fault::Pause => self.pause(&whom, step.lasts),
            Fault::Cut => self.cut(&whom, Way::Both, step.lasts),
            Fault::Deaf => self.cut(&whom, Way::In, step.lasts),
            Fault::Mute => self.cut(&whom, Way::Out, step.lasts),
            Fault::Delay | Fault::Loss | Fault::Twice | Fault::Calm => self.set_weather(step),
            Fault::Collect => self.cluster.machines[whom[0]].run(&["gc"]).status == Some(0),
            Fault::Guest => {
                self.guests += 1;
                super::guest::comes_and_goes(self.cluster, self.guests, step.lasts);
                true
            }
        };
        self.history.tell("done".to_owned());
        if was_done {
            *self.injected.entry(step.fault).or_default() += 1;
        }
    }

    fn victims(&mut self, whom: Whom) -> Vec<usize> {
        let mut voters: Vec<usize> = (0..Cluster::VOTERS).collect();
        self.rng.shuffle(&mut voters);
        match whom {
            Whom::Leader => vec![self.find_leader().unwrap_or(voters[0])],
            Whom::Voter => voters[..1].to_vec(),
            Whom::TwoVoters => voters[..2].to_vec(),
            Whom::AllVoters => voters,
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

    fn kill(&self, whom: &[usize], lasts: Duration) -> bool {
        whom.iter().for_each(|node| self.cluster.machines[*node].kill());
        std::thread::sleep(lasts);
        whom.iter().for_each(|node| self.cluster.machines[*node].start());
        true
    }

    fn pause(&self, whom: &[usize], lasts: Duration) -> bool {
        whom.iter().for_each(|node| self.cluster.machines[*node].signal(Signal::STOP));
        std::thread::sleep(lasts);
        whom.iter().for_each(|node| self.cluster.machines[*node].signal(Signal::CONT));
        true
    }

    fn cut(&self, whom: &[usize], way: Way, lasts: Duration) -> bool {
        whom.iter().for_each(|node| self.cluster.net.cut(*node, way));
        std::thread::sleep(lasts);
        self.cluster.net.mend();
        true
    }

    fn set_weather(&self, step: &Step) -> bool {
        let mut weather = Weather::default();
        match step.fault {
            Fault::Delay => weather.delay = Duration::from_millis(step.degree),
            Fault::Loss => weather.loss = step.degree / 4,
            Fault::Twice => weather.twice = step.degree,
            _ => {}
        }
        self.cluster.net.set_weather(weather);
        // The next card may be due already, and take its place before a datagram has met with it.
        if step.fault != Fault::Calm {
            std::thread::sleep(step.lasts);
        }
        true
    }
}

/// Every kind must have been there: what nothing happened to has shown nothing.
pub fn assert_all_injected(injected: &BTreeMap<Fault, usize>) {
    for (fault, _) in DECK {
        assert!(injected.contains_key(fault), "{fault:?} never came: {injected:?}");
    }
}

#[test]
fn a_seed_gives_one_plan_with_every_fault() {
    let plan = |seed| plan(&mut Rng::new(seed), 2);
    assert_eq!(format!("{:?}", plan(1)), format!("{:?}", plan(1)));
    assert_ne!(format!("{:?}", plan(1)), format!("{:?}", plan(2)));
    let injected = plan(1).iter().map(|step| (step.fault, 1)).collect();
    assert_all_injected(&injected);
}
