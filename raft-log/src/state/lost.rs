//! What nobody has any more. Publishing rule 5: recorded by a voter after no member had a copy, for ever.

use std::collections::BTreeSet;

use super::State;
use super::room::LOST_LEN;
use crate::command::{Outcome, Refusal};
use crate::ids::{Id, NodeId};

/// The most objects of one entry.
pub const LOST_MAX_OF_ENTRY: usize = 1_000;
/// The most objects of all: they travel with everything else that is known of the cluster.
pub const LOST_MAX: usize = 8_000;

impl State {
    /// A voter says that nobody has these. Everybody who votes by now, or is to, must have been asked: who came meanwhile may
    /// have them. And it must have said that it lacks something, unless there is nobody else to whom that would matter.
    pub(super) fn lose(
        &mut self,
        node: NodeId,
        asked: &BTreeSet<NodeId>,
        objects: &BTreeSet<Id>,
    ) -> Result<Outcome, Refusal> {
        self.check_voter(node)?;
        let target = self.change.as_ref().map(|change| &change.target);
        let mut holders = self.voters.iter().chain(target).flatten();
        let is_alone = holders.clone().all(|voter| *voter == node);
        if let Some(left_out) = holders.find(|voter| !asked.contains(voter)) {
            return Err(Refusal::NotAsked(*left_out));
        }
        if !is_alone && self.is_holder(node) {
            return Err(Refusal::LacksNothing(node));
        }
        if objects.len() > LOST_MAX_OF_ENTRY {
            return Err(Refusal::TooMuch(format!("{} lost objects at a time", objects.len())));
        }
        let new = objects.difference(&self.lost).count();
        if self.lost.len() + new > LOST_MAX {
            return Err(Refusal::TooMuch(format!("{} objects are recorded as lost already", self.lost.len())));
        }
        self.check_room(new * LOST_LEN, true)?;
        self.lost.extend(objects);
        Ok(Outcome::Done)
    }
}
