//! Somebody who wants other voters now and then, and gets them in three steps, or takes it back.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::millis;
use super::node::attest;
use super::world::{Life, World};
use crate::command::{Command, Intent, Ready};
use crate::ids::NodeId;
use crate::state::Change;
use crate::testing::Numbers;

/// How long a decision may take.
const DECIDE: Duration = Duration::from_secs(2);

/// Changes voters until faults have ended; what is under way then is finished.
pub async fn change_voters(world: Arc<World>, mut numbers: Numbers) {
    while !world.is_over() {
        let is_calm = world.is_calm();
        sleep(millis(if is_calm { 300 } else { 200 + numbers.below(2_500) })).await;
        let Some(leader) = world.leader(&mut numbers) else { continue };
        let (change, voters) = leader.log.read(|state| (state.change.clone(), state.voters.clone()));
        let command = match change {
            Some(change) if !is_calm && numbers.happens(100) => Some(Command::Cancel { intent: change.id }),
            Some(change) if !change.is_ready => ready(&world, &leader, &change).await,
            None if voters.len() == 1 && !is_calm => wish(&world, &voters[0], &mut numbers),
            _ => None,
        };
        if let Some(command) = command {
            let told = format!("{command:?}");
            let outcome = leader.log.propose(command, DECIDE).await;
            world.record.note(format_args!("{told}: {outcome:?}"));
        }
    }
}

/// Wants some to vote.
fn wish(world: &World, voters: &BTreeSet<NodeId>, numbers: &mut Numbers) -> Option<Command> {
    let mut rest = world.nodes();
    let count = *numbers.pick(&[1, 2, 3, 3, 3, 4, 5, 5, 7])?;
    let mut target = BTreeSet::new();
    while target.len() < count && !rest.is_empty() {
        let node = *numbers.pick(&rest)?;
        rest.retain(|other| *other != node);
        target.insert(node);
    }
    let by = *voters.first()?;
    Some(Command::Intent(Intent { target, is_even_allowed: true, by }))
}

/// Asks all of the target whether they hold everything.
async fn ready(world: &World, leader: &Life, change: &Change) -> Option<Command> {
    let mut receipts = BTreeMap::new();
    for node in &change.target {
        if !world.net.travel(leader.node, *node).await {
            continue;
        }
        let attested = world.life(*node).and_then(|life| attest(world, &life, change.index));
        if let Some(index) = attested.filter(|_| world.net.is_open(*node, leader.node)) {
            receipts.insert(*node, index);
        }
    }
    (!receipts.is_empty()).then_some(Command::Ready(Ready { intent: change.id, receipts }))
}
