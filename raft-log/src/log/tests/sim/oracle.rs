//! What the log has decided, as whoever applied an entry first found it.

use std::collections::{BTreeMap, BTreeSet};

use openraft::EntryPayload;

use super::record::{Broken, Promise, digest};
use crate::command::{Command, Outcome, Publish};
use crate::ids::{Id, NodeId, RefName};
use crate::state::State;
use crate::testing::REPOSITORY;
use crate::types::{Entry, LogId, encode};

/// What is known of the one log.
#[derive(Debug)]
pub struct Oracle {
    /// After the last entry that anybody applied.
    pub state: State,
    made: Vec<Made>,
    /// What became of publishes.
    decided: BTreeMap<(NodeId, u64), Outcome>,
}

/// Commits that became visible, and who is counted on for them.
pub type Granted = Vec<(Id, BTreeSet<NodeId>)>;

/// An entry, and the state after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Made {
    id: LogId,
    entry: u64,
    state: u64,
}

impl Oracle {
    /// Before the first entry.
    pub fn new() -> Self {
        Self { state: State::new(REPOSITORY), made: Vec::new(), decided: BTreeMap::new() }
    }

    /// Somebody applied an entry. The first to do so is told what became visible by it.
    pub fn applied(&mut self, entry: &Entry, outcomes: &[Outcome], state: &State) -> Result<Option<Granted>, Broken> {
        let id = entry.log_id;
        let made = Made { id, entry: digest(&encode(entry)), state: digest(&encode(state)) };
        let place = usize::try_from(id.index).unwrap_or(usize::MAX);
        match self.made.get(place) {
            Some(known) if *known == made => Ok(None),
            Some(known) => Err(other(&made, known)),
            None if place == self.made.len() => {
                let granted = self.check_publishes(entry, outcomes)?;
                self.made.push(made);
                self.state = state.clone();
                Ok(Some(granted))
            }
            None => Err(Broken::new(Promise::OneOrder, format!("entry {id} came after {} entries", self.made.len()))),
        }
    }

    /// A node came by a state in another way: from its disk, or from another node.
    pub fn check_state(&self, state: &State) -> Result<(), Broken> {
        let Some(applied) = state.applied else { return Ok(()) };
        let known = usize::try_from(applied.index.0).ok().and_then(|place| self.made.get(place));
        match known {
            Some(known) if known.state == digest(&encode(state)) => Ok(()),
            _ => Err(Broken::new(Promise::OneOrder, format!("a state after {applied:?} that nobody had"))),
        }
    }

    /// A client was told what became of its publish.
    pub fn check_told(&self, client: NodeId, seq: u64, outcome: &Outcome) -> Result<(), Broken> {
        match self.decided.get(&(client, seq)) {
            Some(decided) if decided == outcome => Ok(()),
            decided => {
                let how = format!("publish {seq} of {client}: told {outcome:?}, and the log says {decided:?}");
                Err(Broken::new(Promise::Once, how))
            }
        }
    }

    fn check_publishes(&mut self, entry: &Entry, outcomes: &[Outcome]) -> Result<Granted, Broken> {
        let mut granted = Granted::new();
        let EntryPayload::Normal(batch) = &entry.payload else { return Ok(granted) };
        let mut refs = self.state.refs.clone();
        for (command, outcome) in batch.commands.iter().zip(outcomes) {
            let Command::Publish(publish) = command else { continue };
            if !self.check_decision(publish, outcome)? {
                continue;
            }
            move_ref(&mut refs, publish)?;
            if let (Some(new), Some(receipts)) = (publish.change.new, &publish.receipts) {
                granted.push((new, receipts.nodes.clone()));
            }
        }
        Ok(granted)
    }

    /// What became of a publish is what became of it before. Tells whether it was granted, and now.
    fn check_decision(&mut self, publish: &Publish, outcome: &Outcome) -> Result<bool, Broken> {
        let Publish { client, seq, .. } = publish;
        if !matches!(outcome, Outcome::Published { .. } | Outcome::Lost { .. }) {
            return Ok(false);
        }
        match self.decided.insert((*client, *seq), outcome.clone()) {
            None => Ok(matches!(outcome, Outcome::Published { .. })),
            Some(before) if before == *outcome => Ok(false),
            Some(before) => {
                let how = format!("publish {seq} of {client} is {outcome:?}, and was {before:?}");
                Err(Broken::new(Promise::Once, how))
            }
        }
    }
}

fn move_ref(refs: &mut BTreeMap<RefName, Id>, publish: &Publish) -> Result<(), Broken> {
    let Publish { client, seq, change, .. } = publish;
    if refs.get(&change.name) != change.expected.as_ref() {
        let how = format!("publish {seq} of {client} moved a ref from elsewhere: {change:?}");
        return Err(Broken::new(Promise::OneOrder, how));
    }
    match change.new {
        Some(new) => drop(refs.insert(change.name.clone(), new)),
        None => drop(refs.remove(&change.name)),
    }
    Ok(())
}

fn other(made: &Made, known: &Made) -> Broken {
    let how = if made.id != known.id {
        format!("entry {} stands where {} was applied", made.id, known.id)
    } else if made.entry != known.entry {
        format!("entry {} says something else", made.id)
    } else {
        format!("another state after entry {}", made.id)
    };
    Broken::new(Promise::OneOrder, how)
}
