//! Publishing, as a leader does it: have others hold, and only then write to the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};

use super::bugs::Bug;
use super::hold::hold;
use super::millis;
use super::net::OUTSIDE;
use super::record::{Broken, Promise};
use super::world::{Life, World};
use crate::command::{Outcome, RefChange, Refusal, TryId};
use crate::error::ProposeError;
use crate::ids::{Id, NodeId};
use crate::state::{State, majority};
use crate::testing::Numbers;

/// How long a decision may take.
const DECIDE: Duration = Duration::from_secs(3);

/// What a client asks for.
#[derive(Debug, Clone)]
pub struct Asked {
    pub client: NodeId,
    pub seq: u64,
    pub change: RefChange,
}

/// Publishes for a client. No answer is given where nothing is final.
pub async fn lead(world: Arc<World>, life: Life, asked: Asked, mut numbers: Numbers, answer: oneshot::Sender<Outcome>) {
    let Asked { client, seq, change } = asked;
    if !world.net.travel(OUTSIDE, life.node).await {
        return;
    }
    let Ok(of) = life.log.begin_try(client) else { return };
    let holders = match change.new {
        Some(commit) => gather(&world, &life, of.id, commit, &mut numbers).await,
        None => BTreeSet::new(),
    };
    if numbers.happens(40) && !world.is_calm() {
        // It is given up: those who hold for it will hear so.
        return;
    }
    if numbers.happens(world.settings.slow) && !world.is_calm() {
        sleep(millis(numbers.below(8_000))).await;
    }
    world.record.note(format_args!("{} proposes {seq} of {client} as {:?}, held by {holders:?}", life.node, of.id));
    let outcome = match life.log.publish(of, seq, change, holders, DECIDE).await {
        Ok(outcome) => outcome,
        Err(ProposeError::Refused(refusal @ Refusal::OldSequence { .. })) if is_outstanding(&refusal, seq) => {
            let how = format!("publish {seq} of {client} was not decided, and is refused: {refusal}");
            return world.record.broken(Broken::new(Promise::Once, how));
        }
        Err(_) => return,
    };
    if world.net.travel(life.node, OUTSIDE).await {
        // Who does not wait any more asks again.
        drop(answer.send(outcome));
    }
}

/// A number that is refused as old though no later one was ever decided. Late tries of what was decided are refused rightly.
fn is_outstanding(refusal: &Refusal, seq: u64) -> bool {
    matches!(refusal, Refusal::OldSequence { last, .. } if *last <= seq)
}

/// Has nodes hold, until a majority of each set does, or for a time.
async fn gather(world: &Arc<World>, life: &Life, id: TryId, commit: Id, numbers: &mut Numbers) -> BTreeSet<NodeId> {
    let (told, mut hearing) = mpsc::unbounded_channel();
    for node in world.nodes() {
        let asking = Asking { world: Arc::clone(world), leader: life.node, node, id, commit };
        tokio::spawn(ask(asking, numbers.fork(), told.clone()));
    }
    drop(told);
    let until = Instant::now() + millis(300 + numbers.below(2_500));
    // Who is in a hurry proposes with too few, and is refused.
    let hurry = if numbers.happens(100) && !world.is_calm() { 1 } else { usize::MAX };
    let mut holders = world.older_receipts(id.client, commit);
    while !is_enough(world, life, &holders) && holders.len() < hurry {
        match timeout_at(until, hearing.recv()).await {
            Ok(Some(node)) => drop(holders.insert(node)),
            Ok(None) | Err(_) => break,
        }
    }
    if world.bug == Some(Bug::ReceiptSkipped) {
        holders
            .extend(life.log.read(|state| state.voters.iter().flatten().find(|node| !holders.contains(node)).copied()));
    }
    holders
}

/// Whether these are enough. The state machine looks again.
fn is_enough(world: &World, life: &Life, holders: &BTreeSet<NodeId>) -> bool {
    let counted = |set: &BTreeSet<NodeId>| match world.bug {
        Some(Bug::LearnerCounted) => holders.len(),
        _ => set.intersection(holders).count(),
    };
    life.log.read(|state: &State| {
        let target =
            state.change.as_ref().map(|change| &change.target).filter(|_| world.bug != Some(Bug::IntentUnbound));
        !state.voters.is_empty() && state.voters.iter().chain(target).all(|set| counted(set) >= majority(set.len()))
    })
}

struct Asking {
    world: Arc<World>,
    leader: NodeId,
    node: NodeId,
    id: TryId,
    commit: Id,
}

/// Asks a node to hold, and tells when it does.
async fn ask(asking: Asking, mut numbers: Numbers, told: mpsc::UnboundedSender<NodeId>) {
    let Asking { world, leader, node, id, commit } = asking;
    if !world.net.travel(leader, node).await {
        return;
    }
    let Some(life) = world.life(node) else { return };
    if hold(&world, &life, id, commit, numbers.fork()).await.is_none() {
        return;
    }
    world.record.note(format_args!("{node} holds for {id:?}"));
    if world.bug == Some(Bug::OlderReceiptCounted) {
        world.keep_receipt(id.client, commit, node);
    }
    if world.net.travel(node, leader).await {
        told.send(node).ok();
    }
}
