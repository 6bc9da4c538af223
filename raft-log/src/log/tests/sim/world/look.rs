//! What is looked at after everything that happens.

use std::collections::BTreeSet;

use openraft::EntryPayload;

use super::{Inner, Node, World};
use crate::command::{Outcome, Refusal};
use crate::ids::NodeId;
use crate::log::tests::sim::oracle::Granted;
use crate::log::tests::sim::record::{Broken, Promise};
use crate::log::tests::sim::store::History;
use crate::state::{State, majority};
use crate::types::Entry;

impl World {
    /// A node applied an entry.
    pub fn applied(&self, node: NodeId, entry: &Entry, outcomes: &[Outcome], state: &State) {
        self.record.note(format_args!("{node} applies {} {outcomes:?}", entry.log_id));
        let mut guard = self.inner();
        let inner = &mut *guard;
        match inner.oracle.applied(entry, outcomes, state) {
            Ok(Some(granted)) => {
                inner.promise(granted);
                outcomes.iter().filter_map(counted).for_each(|what| self.record.count(what));
                if matches!(entry.payload, EntryPayload::Blank) {
                    self.record.count("leaders");
                }
                self.check_held(inner);
            }
            Ok(None) => {}
            Err(broken) => self.record.broken(broken),
        }
    }

    /// A node took over the state of another.
    pub fn installed(&self, node: NodeId, state: &State) {
        self.record.note(format_args!("{node} takes over a state as of {:?}", state.applied));
        self.record.count("states taken over");
        if let Err(broken) = self.inner().oracle.check_state(state) {
            self.record.broken(broken);
        }
    }

    /// A client was told what became of its publish.
    pub fn told(&self, client: NodeId, seq: u64, outcome: &Outcome) {
        self.record.note(format_args!("publish {seq} of {client} is told to be {outcome:?}"));
        if let Err(broken) = self.inner().oracle.check_told(client, seq, outcome) {
            self.record.broken(broken);
        }
    }

    /// G4, by a look into the store of every voter; and that of whoever gave a receipt.
    pub(super) fn check_held(&self, inner: &Inner) {
        let state = &inner.oracle.state;
        for (name, id) in &state.refs {
            let closure = inner.history.closure(*id);
            let holds = |node: &&NodeId| inner.nodes.get(node).is_some_and(|of| of.store.durable.holds(&closure));
            for set in &state.voters {
                let holders: BTreeSet<_> = set.iter().filter(holds).collect();
                if holders.len() < majority(set.len()) {
                    let name = name.as_str();
                    let how = format!("{name} after {:?} is held by {holders:?} of {set:?}", state.applied);
                    self.record.broken(Broken::new(Promise::Held, how));
                }
            }
        }
        let has_lost = |of: &&Node| !of.store.durable.holds(&of.store.promised);
        if let Some((node, _)) = inner.nodes.iter().find(|(_, of)| has_lost(of)) {
            let how = format!("{node} lacks what it gave a receipt for, after {:?}", state.applied);
            self.record.broken(Broken::new(Promise::Kept, how));
        }
    }

    /// What there is still to wait for, when there are no faults any more.
    pub fn unsettled(&self) -> Option<String> {
        let inner = self.inner();
        if let Some((client, what)) = inner.waiting.first_key_value() {
            return Some(format!("client {client} waits: {what}"));
        }
        let state = &inner.oracle.state;
        if state.change.is_some() || state.voters.len() != 1 {
            return Some(format!("voters change from {:?}: {:?}", state.voters, state.change));
        }
        inner.nodes.iter().find_map(|(node, of)| Some(format!("node {node} {}", of.unsettled(state, &inner.history)?)))
    }
}

impl Inner {
    /// Something became visible, and something else may not be any more.
    fn promise(&mut self, granted: Granted) {
        let visible = self.history.closures(self.oracle.state.refs.values().copied());
        for (id, holders) in granted {
            let closure = self.history.closure(id);
            for node in holders {
                let store = &mut self.node(node).store;
                store.promised = store.promised.with(&closure);
            }
        }
        for of in self.nodes.values_mut() {
            of.store.promised = of.store.promised.common(&visible);
        }
    }
}

impl Node {
    /// What it is still to do to be as the log says.
    fn unsettled(&self, state: &State, history: &History) -> Option<String> {
        let Some(life) = &self.life else { return Some("is down".to_owned()) };
        let applied = life.log.read(|state| state.applied);
        if applied != state.applied {
            return Some(format!("has applied {applied:?} of {:?}", state.applied));
        }
        if !self.store.durable.holds(&history.closures(state.refs.values().copied())) {
            return Some("does not hold everything".to_owned());
        }
        (!self.store.pins.is_empty()).then(|| format!("has pins: {:?}", self.store.pins))
    }
}

fn counted(outcome: &Outcome) -> Option<&'static str> {
    match outcome {
        Outcome::Published { .. } => Some("publishes"),
        Outcome::Lost { .. } => Some("publishes that came too late"),
        Outcome::Refused(Refusal::TooFewHold { .. }) => Some("publishes that too few held"),
        Outcome::Refused(Refusal::OtherLeader) => Some("receipts of another leadership"),
        Outcome::Refused(Refusal::SpentNonce) => Some("tries that were decided already"),
        Outcome::Intended(_) => Some("changes of voters"),
        _ => None,
    }
}
