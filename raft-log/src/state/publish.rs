//! Moving refs.

use std::collections::BTreeSet;

use super::{Applied, Decided, State, Step, StepId, majority};
use crate::command::{Outcome, Publish, Receipts, Refusal, Role};
use crate::ids::{MAIN, NodeId, Position};
use crate::testing::mistake;

impl State {
    /// Decides on a publish.
    ///
    /// The order of the checks is part of the meaning. Who asks and whose receipts come first: what fails there leaves
    /// no trace. Then what was decided before. Then the ref, whose loss is recorded; then the holders, whose want is
    /// not, since the same publish may come with more of them.
    pub(super) fn publish(&mut self, at: Position, publish: &Publish, step_id: StepId) -> Applied {
        match self.decide(at, publish) {
            Err(refusal @ Refusal::TooFewHold { .. }) if mistake("a want of receipts that is recorded") => {
                self.record(publish, Outcome::Refused(refusal))
            }
            Err(refusal) => Applied { outcome: Outcome::Refused(refusal), step: None },
            Ok(Decision::Again(outcome)) => Applied { outcome, step: None },
            Ok(Decision::Lost) => {
                let current = self.refs.get(&publish.change.name).copied();
                self.record(publish, Outcome::Lost { current })
            }
            Ok(Decision::Granted) => {
                let step = Step { index: at.index, change: publish.change.clone(), prev: self.last_step };
                let id = step_id(&step);
                if publish.change.name.as_str() == MAIN {
                    self.holders = self.holders_of(publish.receipts.as_ref());
                }
                match publish.change.new {
                    Some(new) => self.refs.insert(publish.change.name.clone(), new),
                    None => self.refs.remove(&publish.change.name),
                };
                self.last_step = Some(id);
                let applied = self.record(publish, Outcome::Published { index: at.index, step: id });
                Applied { step: Some((id, step)), ..applied }
            }
        }
    }

    fn decide(&mut self, at: Position, publish: &Publish) -> Result<Decision, Refusal> {
        let member = self.member(publish.client)?;
        if member.role < Role::Writer {
            return Err(Refusal::NotAllowed(publish.client));
        }
        if publish.change.new.is_none() && publish.change.expected.is_none() {
            return Err(Refusal::Empty);
        }
        if let Some(receipts) = &publish.receipts {
            if receipts.leader != at.leader && !mistake("a receipt of the leadership before") {
                return Err(Refusal::OtherLeader);
            }
            // Whoever holds for this try lets go when this entry is applied. So no later entry may build on it.
            let this = Some((receipts.leader, receipts.nonce));
            if member.last_try >= this {
                return Err(Refusal::SpentNonce);
            }
            self.members.entry(publish.client).and_modify(|member| member.last_try = this);
        }
        let member = self.member(publish.client)?;
        if let Some(last) = member.last.as_ref().filter(|_| !mistake("a retry that is decided anew")) {
            if last.seq == publish.seq && last.change == publish.change {
                return Ok(Decision::Again(last.outcome.clone()));
            }
            if last.seq >= publish.seq {
                return Err(Refusal::OldSequence { seq: publish.seq, last: last.seq });
            }
        }
        let stands = self.refs.get(&publish.change.name) == publish.change.expected.as_ref();
        if !stands && !mistake("a ref that moves from wherever it stands") {
            return Ok(Decision::Lost);
        }
        if publish.change.new.is_some() {
            if publish.change.expected.is_none() {
                self.check_room_for_ref(&publish.change.name)?;
            }
            self.check_held(publish.receipts.as_ref())?;
        }
        Ok(Decision::Granted)
    }

    /// A majority of each set in force, and of the set that is to be, holds the closure.
    fn check_held(&self, receipts: Option<&Receipts>) -> Result<(), Refusal> {
        let nobody = BTreeSet::new();
        let holders = receipts.map_or(&nobody, |receipts| &receipts.nodes);
        let change = self.change.as_ref().filter(|_| !mistake("an intent that does not bind"));
        let target = change.map(|change| &change.target);
        // Nobody votes before the first membership is applied, and nothing is published then.
        if self.voters.is_empty() {
            return Err(Refusal::TooFewHold { held: 0, needed: 1 });
        }
        let lacking = self.voters.iter().chain(target).map(|set| {
            let asked = if mistake("a receipt of who does not vote") { holders } else { set };
            let held = asked.iter().filter(|node| holders.contains(node) && self.is_holder(**node)).count();
            (majority(set.len()).saturating_sub(held), held, majority(set.len()))
        });
        match lacking.max() {
            Some((missing, held, needed)) if missing > 0 => Err(Refusal::TooFewHold { held, needed }),
            _ => Ok(()),
        }
    }

    /// Who votes and holds, by these receipts.
    fn holders_of(&self, receipts: Option<&Receipts>) -> BTreeSet<NodeId> {
        let nodes = receipts.iter().flat_map(|receipts| &receipts.nodes);
        nodes.copied().filter(|node| self.is_voter(*node) && self.is_holder(*node)).collect()
    }

    /// Whether a node counts as a holder at all.
    pub(super) fn is_holder(&self, node: NodeId) -> bool {
        self.member(node).is_ok_and(|member| !member.is_deficient && !member.is_partial)
    }

    fn record(&mut self, publish: &Publish, outcome: Outcome) -> Applied {
        let decided = Decided { seq: publish.seq, change: publish.change.clone(), outcome: outcome.clone() };
        self.members.entry(publish.client).and_modify(|member| member.last = Some(decided));
        Applied { outcome, step: None }
    }
}

enum Decision {
    Granted,
    Lost,
    /// It was decided before.
    Again(Outcome),
}
