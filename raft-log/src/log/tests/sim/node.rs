//! What a node does by itself: bring here what is published, let go what need not be held, and where it leads, carry on
//! changes of voters.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::bugs::Bug;
use super::hold::release;
use super::millis;
use super::store::Commits;
use super::world::{Life, World};
use crate::ids::{Id, LogIndex};
use crate::log::Driven;
use crate::testing::Numbers;

/// How long a step of a change of voters may take.
const DRIVE: Duration = Duration::from_secs(2);

/// Lives until it ends.
pub async fn live(world: Arc<World>, life: Life) {
    let mut numbers = world.numbers(life.node.0 << 32 | life.number);
    if world.bug == Some(Bug::CollectedWithoutRefs) {
        world.collect(&life, Some(LogIndex(u64::MAX)), &Commits::default());
    }
    while !life.is_over() && !world.is_over() {
        sleep(millis(50 + numbers.below(400))).await;
        follow(&world, &life, &mut numbers).await;
        if numbers.happens(600) {
            release(&world, &life, &mut numbers).await;
        }
        if numbers.happens(world.settings.collections) {
            collect(&world, &life);
        }
        if numbers.happens(50) && !life.is_over() {
            // It fails with its disk only, and then the node is over.
            drop(life.log.flush());
        }
        if life.log.leading().is_some() {
            drive(&world, &life).await;
        }
    }
}

/// What is published here, and as of which entry.
fn published(life: &Life) -> (Option<LogIndex>, Vec<Id>) {
    life.log.read(|state| (state.applied.map(|at| at.index), state.refs.values().copied().collect()))
}

/// Brings what is published here, from whoever has it and can be reached.
pub async fn follow(world: &World, life: &Life, numbers: &mut Numbers) -> Option<()> {
    let (applied, refs) = published(life);
    let wanted = world.closures(refs);
    let missing = world.store(life, |store| wanted.without(&store.durable))?;
    if !missing.is_empty() {
        sleep(millis(numbers.below(200))).await;
        let found = world.offered(life.node).common(&missing);
        let claim = world.store(life, |store| {
            store.write(&found);
            store.claim(wanted)
        })?;
        sleep(millis(numbers.below(30))).await;
        world.store(life, |store| {
            store.sync();
            store.give_back(claim);
        })?;
    }
    world.store(life, |store| {
        if store.durable.holds(&wanted) {
            store.held_as_of = store.held_as_of.max(applied);
        }
    })
}

/// Removes what need not be held.
pub fn collect(world: &World, life: &Life) {
    let (applied, refs) = published(life);
    world.collect(life, applied, &world.closures(refs));
}

/// Attests that everything as of an entry is held, if that is not before `wanted`.
pub fn attest(world: &World, life: &Life, wanted: LogIndex) -> Option<LogIndex> {
    let held = world.store(life, |store| store.held_as_of)??;
    let flushed = life.log.flush().ok()??;
    let attested = if world.bug == Some(Bug::AttestedUnheld) { flushed } else { held.min(flushed) };
    Some(attested).filter(|index| *index >= wanted)
}

async fn drive(world: &World, life: &Life) {
    let _turn = life.desk.lock().await;
    if life.log.drive(DRIVE).await == Ok(Driven::Voters) {
        world.record.count("steps of changes of voters");
    }
}
