//! What goes wrong, from a seed.
//!
//! Faults are cards of a deck that is shuffled and dealt out over the run, so that a run meets each of them. Mostly a minority of
//! the voters is out at a time, sometimes all are, for seconds. The weather stays for some cards, and clocks until the next of
//! their kind.

use std::collections::BTreeMap;
use std::time::Duration;

use filesync_cas::testing::Rng;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// Killed and, after a while, started again.
    Kill,
    /// Stopped, and woken after a while.
    Pause,
    /// Reached by nobody, and reaching nobody, for a while.
    Cut,
    /// Its cable is pulled out for a while, and its system knows.
    Unplug,
    /// Reached by nobody.
    Deaf,
    /// Reaching nobody.
    Mute,
    Delay,
    Loss,
    Twice,
    /// There is no room on its disk, for a while.
    Full,
    /// Its disk takes long to sync.
    Slow,
    /// Its clock is an hour ahead, or behind, from one moment to the next.
    Clock,
    /// Bits flip in what it stores, until it has healed.
    Rot,
    /// A collection of what nothing refers to.
    Collect,
    /// Somebody joins, votes for a while, and goes.
    Guest,
    /// A voter votes no more for a while.
    Demote,
    /// A member goes for good, and another one comes in its place.
    Replace,
}

/// Whom it hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    Leader,
    Voter,
    TwoVoters,
    AllVoters,
    /// The voter whose disk is small.
    Small,
    /// A voter whom nobody needs in order to join, and whose disk is like others.
    Spare,
    Writer,
    Nobody,
}

/// What each round of the run has.
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
    (Fault::Unplug, Whom::Leader),
    (Fault::Unplug, Whom::Voter),
    (Fault::Deaf, Whom::Leader),
    (Fault::Deaf, Whom::Voter),
    (Fault::Mute, Whom::Leader),
    (Fault::Mute, Whom::Voter),
    (Fault::Delay, Whom::Nobody),
    (Fault::Delay, Whom::Nobody),
    (Fault::Loss, Whom::Nobody),
    (Fault::Loss, Whom::Nobody),
    (Fault::Twice, Whom::Nobody),
    (Fault::Full, Whom::Small),
    (Fault::Slow, Whom::Leader),
    (Fault::Slow, Whom::Voter),
    (Fault::Clock, Whom::Leader),
    (Fault::Clock, Whom::Voter),
    (Fault::Clock, Whom::Writer),
    (Fault::Rot, Whom::Voter),
    (Fault::Collect, Whom::Voter),
    (Fault::Collect, Whom::Voter),
];

/// What takes long, and each second round has.
const MEMBERS: &[(Fault, Whom)] = &[
    (Fault::Guest, Whom::Nobody),
    (Fault::Demote, Whom::Spare),
    (Fault::Replace, Whom::Spare),
    (Fault::Replace, Whom::Writer),
];

/// One fault, and how long it lasts.
#[derive(Debug, Clone, Copy)]
pub struct Step {
    pub fault: Fault,
    pub whom: Whom,
    pub lasts: Duration,
    /// How bad, up to 100.
    pub degree: u64,
}

/// So many rounds.
pub fn plan(rng: &mut Rng, rounds: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for round in 0..rounds {
        let mut deck = DECK.to_vec();
        if round.is_multiple_of(2) {
            deck.extend(MEMBERS);
        }
        rng.shuffle(&mut deck);
        for (fault, whom) in deck {
            let lasts = Duration::from_millis(300 + rng.below(3_200));
            steps.push(Step { fault, whom, lasts, degree: 10 + rng.below(91) });
        }
    }
    steps
}

/// Every kind must have been there: what nothing happened to has shown nothing.
pub fn assert_all_injected(injected: &BTreeMap<Fault, usize>) {
    for (fault, _) in DECK.iter().chain(MEMBERS) {
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
