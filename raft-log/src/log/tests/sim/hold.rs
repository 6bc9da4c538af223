//! Holding for a try to publish, and letting go: what `docs/model.md` says of pins.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::bugs::Bug;
use super::millis;
use super::node::follow;
use super::world::{Life, World};
use crate::command::TryId;
use crate::ids::Id;
use crate::log::TryStatus;
use crate::testing::Numbers;

/// How long a leader may take to say what it knows of a try.
const ASK: Duration = Duration::from_secs(2);

/// A node fetches a commit, syncs it, pins it, and only then says so. `None`: it crashed meanwhile.
pub async fn hold(world: &Arc<World>, life: &Life, id: TryId, commit: Id, mut numbers: Numbers) -> Option<()> {
    let closure = world.closures([commit]);
    let claim = world.store(life, |store| {
        store.write(&closure);
        store.claim(closure)
    })?;
    if world.bug == Some(Bug::ReceiptUnsynced) {
        world.store(life, |store| store.pins.insert(id, commit))?;
        tokio::spawn(sync_later(Arc::clone(world), life.clone(), claim));
        return Some(());
    }
    sleep(millis(numbers.below(30))).await;
    world.store(life, |store| store.sync())?;
    sleep(millis(numbers.below(10))).await;
    world.store(life, |store| {
        store.pins.insert(id, commit);
        store.give_back(claim);
    })
}

async fn sync_later(world: Arc<World>, life: Life, claim: u64) {
    sleep(millis(50)).await;
    world.store(&life, |store| {
        store.sync();
        store.give_back(claim);
    });
}

/// Lets go what is decided on disk, once everything that is published is held, and what never will be in the log.
pub async fn release(world: &Arc<World>, life: &Life, numbers: &mut Numbers) {
    let Some(pins) = world.store(life, |store| store.pins.keys().copied().collect::<Vec<_>>()) else { return };
    if pins.is_empty() {
        return;
    }
    // Both in one look.
    let (applied, released) = life.log.read(|state| {
        let released: Vec<_> = pins.iter().map(|id| state.is_decided(*id)).collect();
        (state.applied.map(|at| at.index), released)
    });
    follow(world, life, numbers).await;
    if world.bug != Some(Bug::ReleasedUnflushed) && released.contains(&true) && life.log.flush().is_err() {
        // It fails with its disk only, and then the node is over.
        return;
    }
    if world.store(life, |store| store.held_as_of < applied) != Some(false) {
        return;
    }
    for (id, is_decided) in pins.into_iter().zip(released) {
        if is_decided || world.bug == Some(Bug::PinExpires) || will_never_be(world, life, id).await {
            world.store(life, |store| store.unpin(id, world.bug));
            world.record.note(format_args!("{} lets go of {id:?}, decided: {is_decided}", life.node));
            world.record.count(if is_decided {
                "pins of what is decided that went"
            } else {
                "pins of what will never be that went"
            });
        }
    }
}

/// Whether the leader of a try says that it will never be in the log.
async fn will_never_be(world: &World, life: &Life, id: TryId) -> bool {
    let of = id.leader.node;
    // Where another leads, its first entry decides.
    if life.log.leader() != Some(of) || !world.net.travel(life.node, of).await {
        return false;
    }
    let Some(leader) = world.life(of) else { return false };
    let status = {
        let _turn = leader.desk.lock().await;
        leader.log.try_status(id, ASK).await
    };
    let is_denied = match status {
        Ok(TryStatus::Open) => world.bug == Some(Bug::OpenDenied),
        status => status == Ok(TryStatus::Unknown),
    };
    world.net.travel(of, life.node).await && is_denied
}
