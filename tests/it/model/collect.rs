//! Rule 4: sessions and gc in one store.
//!
//! Two sessions make a root each, upon a child that both share, in any order; whatever is there at first is garbage.
//! Beside them runs gc, an object at a time. So this is what entitles `publish` to let gc take all at once whatever
//! has neither root nor pin.

mod holes;

use stateright::{Model, Property};

/// The child, and a root above it for each session.
const CHILD: usize = 0;
const OBJECTS: usize = 3;
const SESSIONS: usize = 2;

const PINNED: &str = "G7 what is pinned stays, with all below";
const CLAIMED: &str = "G7 what is claimed stays";
const DONE: &str = "it happens that gc takes an object that a session then stores again and pins";

fn closure(root: usize) -> [usize; 2] {
    [root, CHILD]
}

/// `true`: the rule is followed.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_excessive_bools, reason = "they are switches")]
struct Rules {
    /// A claim sets the live bit of a running cycle, in the section in which it looks the object up.
    claim_sets_live: bool,
    /// Sweep looks at the bit in the section in which it removes.
    sweep_looks_again: bool,
    /// Claims are roots of the cycles that begin after them.
    claims_are_roots: bool,
    /// "It is there" is said with a claim only.
    present_by_claim: bool,
    /// A root is pinned when all below it has been walked.
    pin_after_walk: bool,
    /// Claims end when the pin is durable.
    claims_until_pinned: bool,
}

impl Rules {
    const ALL: Self = Self {
        claim_sets_live: true,
        sweep_looks_again: true,
        claims_are_roots: true,
        present_by_claim: true,
        pin_after_walk: true,
        claims_until_pinned: true,
    };
}

/// A store, and the rules that it goes by.
#[derive(Debug, Clone)]
struct Store {
    rules: Rules,
    cycles_max: u8,
}

/// What a session knows of an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
enum Knowledge {
    #[default]
    Nothing,
    /// Was not there when it was claimed: to be stored.
    Wanted,
    /// There, and claimed.
    Held,
    /// There, it is thought.
    Seen,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
struct State {
    present: [bool; OBJECTS],
    sessions: [[Knowledge; OBJECTS]; SESSIONS],
    /// Roots pinned, durably, by session.
    pinned: [bool; SESSIONS],
    has_ended: [bool; SESSIONS],
    cycle: Option<Cycle>,
    cycles: u8,
    has_crashed: bool,
    /// History: taken by gc, and stored again.
    swept: [bool; OBJECTS],
    restored: [bool; OBJECTS],
}

/// A cycle of gc that runs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Cycle {
    /// Was there at its beginning, and has not been written since: what it may remove.
    old: [bool; OBJECTS],
    /// Reached, and not looked into yet.
    open: [bool; OBJECTS],
    live: [bool; OBJECTS],
    /// To be removed without a further look.
    doomed: [bool; OBJECTS],
}

#[derive(Debug, Clone, PartialEq)]
enum Action {
    /// A session asks for an object.
    Claim {
        session: usize,
        object: usize,
    },
    Store {
        session: usize,
        object: usize,
    },
    Pin {
        session: usize,
    },
    /// The claims end.
    End {
        session: usize,
    },
    Begin,
    Mark {
        object: usize,
    },
    Sweep {
        object: usize,
    },
    /// The second half of a sweep in two sections.
    Remove {
        object: usize,
    },
    Finish,
    /// All but what is on disk is gone.
    Crash,
}

impl State {
    fn is_claimed(&self, object: usize) -> bool {
        let claims = |of: &[Knowledge; OBJECTS]| matches!(of[object], Knowledge::Held | Knowledge::Wanted);
        self.sessions.iter().any(claims)
    }

    fn root(session: usize) -> usize {
        session + 1
    }

    fn may_pin(&self, session: usize, rules: Rules) -> bool {
        let root = Self::root(session);
        let is_walked = |&object: &usize| matches!(self.sessions[session][object], Knowledge::Held | Knowledge::Seen);
        let walked = closure(root).iter().filter(|object| is_walked(object)).count();
        walked == 2 || !rules.pin_after_walk && is_walked(&root)
    }
}

impl Model for Store {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let present = |bits: usize| std::array::from_fn(|object| bits & 1 << object != 0);
        (0..1 << OBJECTS).map(|bits| State { present: present(bits), ..State::default() }).collect()
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        for session in (0..SESSIONS).filter(|&session| !state.has_ended[session]) {
            for object in closure(State::root(session)) {
                match state.sessions[session][object] {
                    Knowledge::Nothing => actions.push(Action::Claim { session, object }),
                    Knowledge::Wanted => actions.push(Action::Store { session, object }),
                    Knowledge::Held | Knowledge::Seen => {}
                }
            }
            let may_pin = state.may_pin(session, self.rules);
            if may_pin && !state.pinned[session] {
                actions.push(Action::Pin { session });
            }
            if state.pinned[session] || may_pin && !self.rules.claims_until_pinned {
                actions.push(Action::End { session });
            }
        }
        for session in (0..SESSIONS).filter(|&session| state.has_ended[session] && !state.pinned[session]) {
            actions.push(Action::Pin { session });
        }
        match &state.cycle {
            None if state.cycles < self.cycles_max => actions.push(Action::Begin),
            None => {}
            Some(cycle) => {
                let open: Vec<_> = (0..OBJECTS).filter(|&object| cycle.open[object]).collect();
                if open.is_empty() {
                    let old = (0..OBJECTS).filter(|&object| cycle.old[object] && state.present[object]);
                    actions.extend(old.filter(|&object| !cycle.live[object]).map(|object| Action::Sweep { object }));
                    actions.push(Action::Finish);
                }
                actions.extend(open.into_iter().map(|object| Action::Mark { object }));
                let doomed = (0..OBJECTS).filter(|&object| cycle.doomed[object]);
                actions.extend(doomed.map(|object| Action::Remove { object }));
            }
        }
        if !state.has_crashed {
            actions.push(Action::Crash);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        match action {
            Action::Claim { session, object } => {
                let knowledge = match (next.present[object], self.rules.present_by_claim) {
                    (true, true) => Knowledge::Held,
                    (true, false) => Knowledge::Seen,
                    (false, _) => Knowledge::Wanted,
                };
                next.sessions[session][object] = knowledge;
                if let Some(cycle) =
                    next.cycle.as_mut().filter(|_| knowledge == Knowledge::Held && self.rules.claim_sets_live)
                {
                    cycle.live[object] = true;
                }
            }
            Action::Store { session, object } => {
                next.present[object] = true;
                next.sessions[session][object] = Knowledge::Held;
                next.restored[object] |= next.swept[object];
                // It lies in a pack that is younger than the cycle.
                if let Some(cycle) = &mut next.cycle {
                    cycle.old[object] = false;
                    cycle.doomed[object] = false;
                }
            }
            Action::Pin { session } => next.pinned[session] = true,
            Action::End { session } => {
                next.has_ended[session] = true;
                next.sessions[session] = Default::default();
            }
            Action::Begin => next.begin(self.rules),
            Action::Mark { object } => {
                let cycle = next.cycle.as_mut()?;
                cycle.open[object] = false;
                cycle.live[object] = true;
                if object != CHILD && next.present[object] && !cycle.live[CHILD] {
                    cycle.open[CHILD] = true;
                }
            }
            Action::Sweep { object } if self.rules.sweep_looks_again => next.remove(object),
            Action::Sweep { object } => next.cycle.as_mut()?.doomed[object] = true,
            Action::Remove { object } => next.remove(object),
            Action::Finish => next.cycle = None,
            Action::Crash => {
                next.has_crashed = true;
                next.cycle = None;
                next.sessions = Default::default();
            }
        }
        (next != *state).then_some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(PINNED, |_, state: &State| {
                let roots = (0..SESSIONS).filter(|&session| state.pinned[session]).map(State::root);
                roots.flat_map(closure).all(|object| state.present[object])
            }),
            Property::always(CLAIMED, |_, state: &State| {
                let is_held = |object: usize| state.sessions.iter().any(|of| of[object] == Knowledge::Held);
                (0..OBJECTS).all(|object| state.present[object] || !is_held(object))
            }),
            Property::sometimes(DONE, |_, state: &State| {
                state.restored.contains(&true) && state.pinned == [true; SESSIONS]
            }),
        ]
    }
}

impl State {
    fn begin(&mut self, rules: Rules) {
        let is_pinned =
            |object: usize| (0..SESSIONS).any(|session| self.pinned[session] && Self::root(session) == object);
        let is_root = |object| is_pinned(object) || rules.claims_are_roots && self.is_claimed(object);
        let open = std::array::from_fn(is_root);
        self.cycle = Some(Cycle { old: self.present, open, live: Default::default(), doomed: Default::default() });
        self.cycles += 1;
    }

    fn remove(&mut self, object: usize) {
        self.present[object] = false;
        self.swept[object] = true;
        if let Some(cycle) = &mut self.cycle {
            cycle.old[object] = false;
            cycle.doomed[object] = false;
        }
    }
}
