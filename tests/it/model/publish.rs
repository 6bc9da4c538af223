//! Rules 1 to 3: receipts, pins, changes of leader and of members.
//!
//! Three voters A B C, two candidates D E, two commits. What Raft itself promises is taken for granted: there is one
//! log, and an entry that a deposed leader did not get into it has never been. So the state begins where our rules
//! do: who has what on disk, who has applied how much, what the leader knows, and what the log has decided.

mod holes;
mod rules;
mod state;
mod step;

use stateright::{Model, Property};

use rules::Rules;
use state::{BEFORE, CLOSURES, Entry, Nodes, State, majority};
use step::Action;

/// What is promised. The numbers are those of `docs/guarantees.md`.
const ONE_ORDER: &str = "G3 a commit is published once, from where it says";
const TRUTH: &str = "G3 nobody is told that a published commit was not";
const HELD: &str = "G4 visible means held";
const KEPT: &str = "G7 what was attested stays";
const DONE: &str = "it happens that all is published, by another leader and other members";
const REFUSED: &str = "it happens that a publish is refused for want of receipts";

/// A cluster, what may happen to it, and the rules that it goes by.
#[derive(Debug, Clone)]
pub struct Cluster {
    /// What the rules are: all of them, or all but some.
    rules: Rules,
    /// How often a leader may try to publish.
    attempts_max: usize,
    /// Who votes after the change of members.
    target: Nodes,
    /// Changes of members, with those that were cancelled.
    intents_max: u8,
    /// Whether both commits start from nothing, so that only one can be published.
    is_rivalry: bool,
    /// Whether the first commit has been published already, with the receipts of two of the three.
    is_begun: bool,
    /// Which nodes to try as the one that may crash.
    frail: &'static [usize],
}

impl Cluster {
    /// Two commits, and the members stay as they are.
    fn steady() -> Self {
        Self {
            rules: Rules::ALL,
            attempts_max: 2,
            target: BEFORE,
            intents_max: 0,
            is_rivalry: false,
            is_begun: false,
            frail: &[0],
        }
    }

    /// From three voters to five.
    fn growing() -> Self {
        Self { target: Nodes(0b11111), intents_max: 1, frail: &[0, 3], ..Self::steady() }
    }

    /// Two of three voters are replaced: the sets before and after have one node in common.
    fn replacing() -> Self {
        Self { target: Nodes(0b11100), intents_max: 1, frail: &[0, 2, 3], ..Self::steady() }
    }

    /// The first commit is there from the beginning.
    fn begun(self) -> Self {
        Self { is_begun: true, ..self }
    }

    /// Both commits start from nothing.
    fn rivals(self) -> Self {
        Self { is_rivalry: true, ..self }
    }

    /// As many tries.
    fn attempts(self, attempts_max: usize) -> Self {
        Self { attempts_max, ..self }
    }

    /// With other rules.
    fn with(mut self, change: impl Fn(&mut Rules)) -> Self {
        change(&mut self.rules);
        self
    }
}

impl Model for Cluster {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let voters = self.frail.iter().filter(|&&node| BEFORE.contains(node));
        let leading = voters.map(|&node| State::new(node, true));
        let states = self.frail.iter().map(|&node| State::new(node, false)).chain(leading);
        if !self.is_begun {
            return states.collect();
        }
        // Every two of the three.
        let holders = [Nodes(0b011), Nodes(0b101), Nodes(0b110)];
        states.flat_map(|state| holders.map(|holders| state.clone().begun(holders).canonical(self.target))).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, &action);
        let next = next.canonical(self.target);
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ORDER, |_, state: &State| state.is_one_order),
            Property::always(TRUTH, |_, state: &State| !state.has_lied),
            Property::always(HELD, |_, state: &State| {
                let closure = CLOSURES[usize::from(state.main)];
                let holders = state.nodes_where(|node| node.has & closure == closure);
                state.in_force.iter().flatten().all(|set| majority(holders, *set))
            }),
            Property::always(KEPT, |_, state: &State| state.nodes.iter().all(|node| node.promised & !node.has == 0)),
            // A model in which nothing ever happens would keep all promises.
            Property::sometimes(DONE, |model: &Cluster, state: &State| {
                let is_new = model.intents_max == 0 || state.in_force == [Some(model.target), None];
                let is_last = state.main == if model.is_rivalry { 3 } else { 2 };
                is_last && state.term == 2 && is_new
            }),
            Property::sometimes(REFUSED, |_, state: &State| {
                state.log.iter().any(|entry| matches!(entry, Entry::Publish { is_granted: false, .. }))
            }),
        ]
    }
}
