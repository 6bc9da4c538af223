//! Members that publish: one thing after the other, each until it is decided.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use super::lead::{Asked, lead};
use super::millis;
use super::world::World;
use crate::command::{Outcome, RefChange};
use crate::ids::{Id, NodeId, RefName};
use crate::testing::Numbers;

/// Publishes until faults have ended, and once more.
pub async fn publish(world: Arc<World>, me: NodeId, mut numbers: Numbers) {
    let mut seq = 0;
    let mut is_last = false;
    while !is_last && !world.is_over() {
        sleep(millis(numbers.below(world.settings.pause))).await;
        is_last = world.is_calm();
        seq += 1;
        let asked = Asked { client: me, seq, change: next_change(&world, &mut numbers) };
        world.wait(me, format!("{asked:?}"));
        while !world.is_over() {
            if let Some(outcome) = ask(&world, asked.clone(), &mut numbers).await {
                world.told(me, seq, &outcome);
                break;
            }
            sleep(millis(numbers.below(500))).await;
        }
    }
    world.done(me);
}

/// Asks whoever seems to lead, and waits for a time. `None` is no answer, or not a final one.
async fn ask(world: &Arc<World>, asked: Asked, numbers: &mut Numbers) -> Option<Outcome> {
    let leader = world.leader(numbers)?;
    let (answer, answered) = oneshot::channel();
    // It goes on when nobody waits for it any more.
    tokio::spawn(lead(Arc::clone(world), leader, asked, numbers.fork(), answer));
    let patience = if numbers.happens(200) { 300 } else { 6_000 };
    timeout(millis(patience), answered).await.ok()?.ok()
}

/// What to publish: `main` goes on, tags come, move, and go.
fn next_change(world: &World, numbers: &mut Numbers) -> RefChange {
    let name = if numbers.happens(600) { "main" } else { ["a", "b"][usize::from(numbers.happens(500))] };
    let name = RefName::new(name).expect("it is a name");
    let is_main = name.as_str() == "main";
    let current = world.decided(|state| state.refs.get(&name).copied());
    // Some do not know where it stands.
    let expected = if numbers.happens(100) { world.any_commit(numbers) } else { current };
    if !is_main && expected.is_some() && numbers.happens(300) {
        return RefChange { name, expected, new: None };
    }
    let known = if numbers.happens(500) { world.any_commit(numbers) } else { None };
    let new = match known {
        // What was published before, and may be garbage by now.
        Some(known) if !is_main => Some(known),
        _ => world.commit(parents(world, expected, numbers)).or_else(|| world.any_commit(numbers)),
    };
    RefChange { name, expected, new }
}

/// What a commit builds on: where the ref stands, and sometimes what another shows.
fn parents(world: &World, expected: Option<Id>, numbers: &mut Numbers) -> Vec<Id> {
    let others: Vec<_> = world.decided(|state| state.refs.values().copied().collect());
    let merged = if numbers.happens(200) { numbers.pick(&others).copied() } else { None };
    expected.into_iter().chain(merged).collect()
}
