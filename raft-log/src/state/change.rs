//! Changing who votes: intent, ready, and what Raft then does.

use std::collections::BTreeSet;

use super::{Change, State, majority};
use crate::command::{Intent, IntentId, Outcome, Ready, Refusal, Role};
use crate::ids::{NodeId, Position};

impl State {
    pub(super) fn intent(&mut self, at: Position, intent: &Intent) -> Result<Outcome, Refusal> {
        self.check_voter(intent.by)?;
        // Whose answer was lost asks again.
        if let Some(change) = self.change.as_ref().filter(|change| change.target == intent.target) {
            return Ok(Outcome::Intended(change.id));
        }
        if self.change.is_some() || self.voters.len() != 1 {
            return Err(Refusal::ChangeUnderWay);
        }
        self.check_target(intent)?;
        self.intents += 1;
        let id = IntentId(self.intents);
        self.change = Some(Change { id, index: at.index, target: intent.target.clone(), is_ready: false });
        Ok(Outcome::Intended(id))
    }

    fn check_target(&self, intent: &Intent) -> Result<(), Refusal> {
        let target = &intent.target;
        let bad = |why: String| Err(Refusal::BadTarget(why));
        if target.is_empty() {
            return bad("nobody is no set of voters".to_owned());
        }
        if self.voters.contains(target) {
            return bad("they vote already".to_owned());
        }
        if target.len().is_multiple_of(2) && !intent.is_even_allowed {
            return bad(format!("{} voters bear no more failures than {}", target.len(), target.len() - 1));
        }
        for node in target {
            let member = self.member(*node)?;
            if member.role != Role::Candidate || member.is_partial {
                return bad(format!("node {node} is no candidate"));
            }
        }
        let whole = target.iter().filter(|node| self.is_holder(**node)).count();
        let needed = majority(target.len());
        if whole < needed { Err(Refusal::TooFewWhole { held: whole, needed }) } else { Ok(()) }
    }

    /// A majority of the target and everybody new holds what is live as of the intent or later.
    pub(super) fn ready(&mut self, ready: &Ready) -> Result<Outcome, Refusal> {
        let change = self.change.as_ref().filter(|change| change.id == ready.intent).ok_or(Refusal::NoSuchChange)?;
        let holds = |node: &NodeId| {
            let is_late = ready.receipts.get(node).is_some_and(|index| *index >= change.index);
            is_late && self.is_holder(*node)
        };
        let held = change.target.iter().filter(|node| holds(node)).count();
        let added: Vec<_> = change.target.iter().filter(|node| !self.is_voter(**node)).collect();
        let added_held = added.iter().filter(|node| holds(node)).count();
        if added_held < added.len() {
            return Err(Refusal::TooFewHold { held: added_held, needed: added.len() });
        }
        let needed = majority(change.target.len());
        if held < needed {
            return Err(Refusal::TooFewHold { held, needed });
        }
        if let Some(change) = &mut self.change {
            change.is_ready = true;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn cancel(&mut self, intent: IntentId) -> Result<Outcome, Refusal> {
        self.change.take_if(|change| change.id == intent).map(|_| Outcome::Done).ok_or(Refusal::NoSuchChange)
    }

    /// Applies Raft's own entry: who votes from here on.
    pub fn set_voters(&mut self, at: Position, voters: Vec<BTreeSet<NodeId>>) {
        self.advance(at);
        // In force, be it beside the old set: from here on it is asked as such, and a cancel is void.
        self.change.take_if(|change| voters.contains(&change.target));
        self.voters = voters;
    }

    pub(super) fn set_deficient(&mut self, node: NodeId, is_deficient: bool) -> Result<Outcome, Refusal> {
        self.member(node)?;
        self.members.entry(node).and_modify(|member| member.is_deficient = is_deficient);
        if is_deficient {
            self.holders.remove(&node);
        }
        // What it attested does not count any more: the target has to show again that it holds what is live.
        if let Some(change) = self.change.as_mut().filter(|change| is_deficient && change.target.contains(&node)) {
            change.is_ready = false;
        }
        Ok(Outcome::Done)
    }

    pub(super) fn check_voter(&self, node: NodeId) -> Result<(), Refusal> {
        self.member(node)?;
        if self.is_voter(node) { Ok(()) } else { Err(Refusal::NotAllowed(node)) }
    }
}
