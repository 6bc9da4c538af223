//! What can happen, and what follows from it.

use super::Cluster;
use super::state::{Attempt, BEFORE, CLOSURES, Change, Entry, Knowledge, NODES, Nodes, OWN, State, majority};

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// A client asks the leader to publish a commit.
    Start {
        commit: u8,
    },
    /// A node fetches what is missing, pins it, and gives a receipt.
    Hold {
        node: usize,
        attempt: usize,
    },
    /// The leader puts the publish into the log, with the receipts that it has.
    Propose {
        attempt: usize,
    },
    /// The caller of a proposal stops waiting.
    GiveUp {
        attempt: usize,
    },
    /// A node applies an entry; only the frail one does so in memory alone.
    Apply {
        node: usize,
    },
    /// The frail node flushes its state machine.
    Flush,
    /// A node installs a snapshot of the whole log.
    Install {
        node: usize,
    },
    /// The leader says that it does not know a nonce.
    Deny {
        node: usize,
        attempt: usize,
    },
    /// A pin is dropped because time has passed.
    Expire {
        node: usize,
        attempt: usize,
    },
    Crash,
    /// Another leader, or the same one again.
    Elect {
        is_frail: bool,
    },
    Intent,
    /// A node attests all that is live, by what it has applied.
    Attest {
        node: usize,
    },
    Ready,
    Cancel,
    Joint,
    Final,
}

impl Cluster {
    /// All that can happen next.
    pub fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible_publishing(state, actions);
        self.possible_in_nodes(state, actions);
        self.possible_change(state, actions);
    }

    fn possible_publishing(&self, state: &State, actions: &mut Vec<Action>) {
        if state.attempts.len() < self.attempts_max {
            for commit in [1, if self.is_rivalry { 3 } else { 2 }] {
                // One publish of a member at a time.
                let is_busy = |attempt: &Attempt| attempt.commit == commit && attempt.knowledge == Knowledge::Known;
                if !state.attempts.iter().any(is_busy) {
                    actions.push(Action::Start { commit });
                }
            }
        }
        for (at, attempt) in state.attempts.iter().enumerate() {
            let bit = 1 << at;
            let may_propose = match attempt.knowledge {
                Knowledge::Known | Knowledge::GivenUp => attempt.term == state.term,
                Knowledge::Forgotten => !self.rules.receipts_bound,
                Knowledge::Decided => {
                    !self.rules.proposes_once && attempt.term == state.term && !state.is_proposed_twice(at)
                }
            };
            if may_propose && state.nodes.iter().any(|node| node.receipts & bit != 0) {
                actions.push(Action::Propose { attempt: at });
            }
            let is_known = attempt.knowledge == Knowledge::Known;
            if !self.rules.knows_until_decided && is_known {
                actions.push(Action::GiveUp { attempt: at });
            }
            // A receipt that comes after the decision leaves only a pin that need not be there.
            let may_hold = is_known || may_propose;
            if may_hold && attempt.term == state.term {
                let can_hold = |&node: &usize| {
                    let of = &state.nodes[node];
                    self.is_receipt_wanted(state, node, bit)
                        && of.receipts & bit == 0
                        && !state.is_released(at, of.applied)
                };
                actions.extend((0..NODES).filter(can_hold).map(|node| Action::Hold { node, attempt: at }));
            }
        }
    }

    /// Whether a receipt of this node may make a difference: more than is asked for makes it only safer.
    fn is_receipt_wanted(&self, state: &State, node: usize, bit: u8) -> bool {
        let receipts = state.nodes_where(|node| node.receipts & bit != 0);
        let may_change = state.change != Change::None || state.intents < self.intents_max;
        let target = Some(self.target).filter(|_| may_change);
        let mut sets = state.in_force.into_iter().flatten().chain(target);
        sets.any(|set| set.contains(node) && !majority(receipts, set))
    }

    fn possible_in_nodes(&self, state: &State, actions: &mut Vec<Action>) {
        for (at, node) in state.nodes.iter().enumerate() {
            let pins = node.pins | node.unsynced;
            let is_asked = at == state.frail && state.is_frail_leader && !state.may_crash;
            if node.applied < state.len() && (pins != 0 || is_asked) {
                actions.push(Action::Apply { node: at });
                if !self.rules.snapshot_keeps_pins {
                    actions.push(Action::Install { node: at });
                }
            }
            if node.flushed < node.applied {
                actions.push(Action::Flush);
            }
            for attempt in (0..state.attempts.len()).filter(|attempt| pins & 1 << attempt != 0) {
                let of = &state.attempts[attempt];
                let is_forgotten = matches!(of.knowledge, Knowledge::GivenUp | Knowledge::Forgotten);
                let has_applied = !state.is_frail_leader || state.nodes[state.frail].applied == state.len();
                let may_deny = has_applied || !self.rules.denies_after_log;
                let is_asked_leader = state.is_frail_leader && !state.may_crash;
                let is_denied = match of.knowledge {
                    // Its leader may have forgotten it too; its state machine has not, or not yet heard of it.
                    Knowledge::Decided => {
                        let is_shown = state.is_released(attempt, state.nodes[state.frail].applied);
                        is_asked_leader && may_deny && !(is_shown && self.rules.denies_open_only)
                    }
                    _ => is_forgotten && may_deny,
                };
                if of.term == state.term && is_denied {
                    actions.push(Action::Deny { node: at, attempt });
                }
                if !self.rules.pins_stay {
                    actions.push(Action::Expire { node: at, attempt });
                }
            }
        }
        let frail = &state.nodes[state.frail];
        let is_touched = frail.has != 0 || frail.pins | frail.unsynced != 0 || state.is_frail_leader;
        if state.may_crash && is_touched {
            actions.push(Action::Crash);
        }
        if state.term == 1 {
            actions.push(Action::Elect { is_frail: false });
            if state.voters().contains(state.frail) {
                actions.push(Action::Elect { is_frail: true });
            }
        }
    }

    fn possible_change(&self, state: &State, actions: &mut Vec<Action>) {
        match state.change {
            Change::None if state.in_force != [Some(BEFORE), None] => {}
            Change::None => {
                if state.intents < self.intents_max {
                    actions.push(Action::Intent);
                }
                if state.ready_was_cancelled && !self.rules.cancel_is_awaited {
                    actions.push(Action::Joint);
                }
            }
            Change::Intent(_) => {
                let live = state.nodes_where(|node| node.live.is_some());
                let added = self.target.without(state.voters());
                let is_added = added.without(live) == Nodes::default();
                let is_held = is_added && majority(live, self.target);
                // No more than need be: who attests more makes it only safer.
                let may = |&node: &usize| {
                    let is_needed = added.contains(node) || !majority(Nodes(live.0 | added.0), self.target);
                    state.nodes[node].live.is_none() && self.target.contains(node) && is_needed
                };
                actions.extend((0..NODES).filter(may).map(|node| Action::Attest { node }));
                if is_held || !self.rules.ready_counts {
                    actions.push(Action::Ready);
                }
                actions.push(Action::Cancel);
            }
            Change::Ready => actions.extend([Action::Cancel, Action::Joint]),
        }
        if state.in_force[1].is_some() {
            actions.push(Action::Final);
        }
    }

    /// Carries out what happens.
    pub fn step(&self, state: &mut State, action: &Action) {
        match *action {
            Action::Start { commit } => {
                let term = state.term;
                state.attempts.push(Attempt { commit, term, knowledge: Knowledge::Known });
            }
            Action::Hold { node, attempt } => self.hold(state, node, attempt),
            Action::Propose { attempt } => self.propose(state, attempt),
            Action::GiveUp { attempt } => state.attempts[attempt].knowledge = Knowledge::GivenUp,
            Action::Apply { node } => {
                state.nodes[node].applied += 1;
                if state.frail != node || !state.may_crash {
                    state.nodes[node].flushed = state.nodes[node].applied;
                }
                self.settle(state, node);
            }
            Action::Flush => {
                state.nodes[state.frail].flushed = state.nodes[state.frail].applied;
                self.settle(state, state.frail);
            }
            Action::Install { node } => {
                let end = state.len();
                let of = &mut state.nodes[node];
                (of.applied, of.flushed, of.pins, of.unsynced) = (end, end, 0, 0);
                self.settle(state, node);
            }
            Action::Deny { node, attempt } | Action::Expire { node, attempt } => {
                state.nodes[node].pins &= !(1 << attempt);
                state.nodes[node].unsynced &= !(1 << attempt);
                self.settle(state, node);
            }
            Action::Crash => self.crash(state),
            Action::Elect { is_frail } => {
                state.is_frail_leader = is_frail;
                state.term = 2;
                state.log.push(Entry::Blank);
                self.forget(state);
            }
            Action::Attest { node } => self.attest(state, node),
            Action::Intent | Action::Ready | Action::Cancel | Action::Joint | Action::Final => {
                self.change(state, action);
            }
        }
    }

    fn closure(&self, commit: u8) -> u8 {
        if self.rules.closure_attested { CLOSURES[usize::from(commit)] } else { OWN[usize::from(commit)] }
    }

    fn hold(&self, state: &mut State, node: usize, attempt: usize) {
        let closure = self.closure(state.attempts[attempt].commit);
        let of = &mut state.nodes[node];
        of.has |= closure;
        of.receipts |= 1 << attempt;
        if self.rules.pins_durable {
            of.pins |= 1 << attempt;
        } else {
            of.unsynced |= 1 << attempt;
        }
    }

    /// What is in a leader's memory only is gone.
    fn forget(&self, state: &mut State) {
        for (at, attempt) in state.attempts.iter_mut().enumerate() {
            if attempt.knowledge != Knowledge::Decided {
                attempt.knowledge = Knowledge::Forgotten;
            }
            if self.rules.receipts_bound {
                state.nodes.iter_mut().for_each(|node| node.receipts &= !(1 << at));
            }
        }
    }

    /// What the state machine makes of a publish.
    fn propose(&self, state: &mut State, at: usize) {
        let attempt = state.attempts[at];
        let client = usize::from(attempt.commit != 1);
        let is_stale = attempt.term != state.term && self.rules.receipts_bound;
        let is_spent = attempt.knowledge == Knowledge::Decided && self.rules.nonce_decided_once;
        let expected = if attempt.commit == 2 { 1 } else { 0 };
        let target = match state.change {
            Change::Intent(_) | Change::Ready if self.rules.intent_binds => Some(self.target),
            _ => None,
        };
        let second = state.in_force[1].filter(|_| self.rules.both_sets);
        let mut asked = [state.in_force[0], second, target].into_iter().flatten();
        let is_recorded = state.rows[client].is_some() && self.rules.exactly_once;
        let receipts = state.nodes_where(|node| node.receipts & 1 << at != 0);
        let mut is_granted = false;
        if is_stale || is_spent || is_recorded {
            // The row answers again, or the sender is told to try anew: nothing changes.
        } else if state.main != expected && self.rules.compare_and_swap {
            state.has_lied |= state.rows[client] == Some(true);
            state.rows[client] = Some(false);
        } else if asked.all(|set| majority(receipts, set)) {
            is_granted = true;
            // With nothing but the order of the two commits to go by: `a` before `b`, each once.
            state.is_one_order &= state.main == expected;
            state.main = attempt.commit;
            state.rows[client] = Some(true);
            let closure = self.closure(attempt.commit);
            let holders = state.nodes.iter_mut().filter(|node| node.receipts & 1 << at != 0);
            holders.for_each(|node| node.promised |= closure);
        }
        state.attempts[at].knowledge = Knowledge::Decided;
        if self.rules.proposes_once {
            state.nodes.iter_mut().for_each(|node| node.receipts &= !(1 << at));
        }
        state.log.push(Entry::Publish { attempt: at, is_granted });
    }

    fn crash(&self, state: &mut State) {
        state.may_crash = false;
        let of = &mut state.nodes[state.frail];
        of.applied = of.flushed;
        of.unsynced = 0;
        // Its leadership, if it had it, goes on after the restart: the vote is on disk. Its memory is not.
        if state.is_frail_leader {
            self.forget(state);
        }
        self.settle(state, state.frail);
    }

    fn attest(&self, state: &mut State, node: usize) {
        let is_durable = self.rules.live_is_flushed || state.frail != node || !state.may_crash;
        let from = match state.change {
            Change::Intent(index) if self.rules.live_after_intent => index,
            _ => 0,
        };
        let of = &mut state.nodes[node];
        of.applied = of.applied.max(from);
        if is_durable {
            of.flushed = of.applied;
        }
        let closure = CLOSURES[usize::from(state.main_at(state.nodes[node].applied))];
        state.nodes[node].has |= closure;
        state.nodes[node].live = Some(closure);
        self.settle(state, node);
    }

    fn change(&self, state: &mut State, action: &Action) {
        let forget = |state: &mut State| state.nodes.iter_mut().for_each(|node| node.live = None);
        match action {
            Action::Intent => {
                state.intents += 1;
                state.change = Change::Intent(state.len());
                state.ready_was_cancelled = false;
            }
            Action::Ready => {
                state.change = Change::Ready;
                state.nodes.iter_mut().for_each(|node| node.promised |= node.live.unwrap_or(0));
                forget(state);
            }
            Action::Cancel => {
                state.ready_was_cancelled = state.change == Change::Ready;
                state.change = Change::None;
                forget(state);
            }
            Action::Joint => {
                state.change = Change::None;
                state.ready_was_cancelled = false;
                state.in_force[1] = Some(self.target);
            }
            Action::Final => state.in_force = [Some(self.target), None],
            _ => unreachable!("not a change of members"),
        }
    }

    /// Drops the pins that may be dropped, and lets gc take all that it may: the sooner, the worse.
    fn settle(&self, state: &mut State, node: usize) {
        let of = state.nodes[node];
        let seen = if self.rules.released_by_flush { of.flushed } else { of.applied };
        let mut released: u8 = 0;
        for attempt in (0..state.attempts.len()).filter(|&attempt| state.is_released(attempt, seen)) {
            released |= 1 << attempt;
        }
        if !self.rules.pins_by_nonce {
            let commits: Vec<_> = (0..state.attempts.len())
                .filter(|at| released & 1 << at != 0)
                .map(|at| state.attempts[at].commit)
                .collect();
            for (at, attempt) in state.attempts.iter().enumerate() {
                released |= u8::from(commits.contains(&attempt.commit)) << at;
            }
        }
        let (pins, unsynced) = (of.pins & !released, of.unsynced & !released);
        let mut roots = CLOSURES[usize::from(state.main_at(of.applied))];
        if self.rules.gc_sees_pins {
            let pinned = (0..state.attempts.len()).filter(|at| (pins | unsynced) & 1 << at != 0);
            roots |= pinned.fold(0, |all, at| all | CLOSURES[usize::from(state.attempts[at].commit)]);
        }
        let of = &mut state.nodes[node];
        (of.pins, of.unsynced) = (pins, unsynced);
        of.has &= roots;
    }
}
