//! A run: a cluster is founded, a storm of faults, and then quiet, in which everything must come to an end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::record::{Broken, Promise};
use super::world::World;
use super::{client, members, millis};
use crate::command::{Command, Founder, Intent, Outcome, Ready};
use crate::ids::{LogIndex, NodeId};
use crate::log::{Driven, Log};
use crate::store::Mode;
use crate::testing::{Numbers, PATIENCE, admission, key};

/// How long it may take until everything has come to an end.
const QUIET: Duration = Duration::from_secs(120);

/// All of it, or until a promise is broken.
pub async fn run(world: &Arc<World>) {
    timeout(QUIET, begin(world)).await.expect("nothing goes wrong yet");
    for client in 1..=world.settings.clients {
        let numbers = world.numbers(client << 48);
        world.wait(NodeId(client), "the first turn".to_owned());
        tokio::spawn(client::publish(Arc::clone(world), NodeId(client), numbers));
    }
    if world.settings.is_changing {
        tokio::spawn(members::change_voters(Arc::clone(world), world.numbers(1 << 56)));
    }
    storm(world).await;
    quiet(world).await;
}

/// Founds the cluster, lets everybody in, and makes the first voters. Nothing goes wrong meanwhile.
async fn begin(world: &Arc<World>) {
    let first = NodeId(1);
    world.start(first, Mode::Create).await;
    let log = world.life(first).expect("it runs").log;
    let founder = Founder { key: key(first), name: "1".to_owned(), addresses: Vec::new() };
    log.found(founder, PATIENCE).await.expect("it can be founded");
    for node in world.nodes().into_iter().skip(1) {
        for command in admission(node) {
            log.propose(command, PATIENCE).await.expect("nothing is wrong");
        }
        world.start(node, Mode::Create).await;
    }
    drive(&log).await;
    if world.settings.voters > 1 {
        make_voters(world, &log).await;
    }
}

async fn drive(log: &Log) {
    loop {
        // The node itself does so too: they may be in each other's way.
        match log.drive(PATIENCE).await {
            Ok(Driven::Nothing) => return,
            _ => sleep(millis(20)).await,
        }
    }
}

async fn make_voters(world: &Arc<World>, log: &Log) {
    let target: BTreeSet<_> = (1..=world.settings.voters).map(NodeId).collect();
    let intent = Intent { target: target.clone(), is_even_allowed: true, by: NodeId(1) };
    let intended = log.propose(Command::Intent(intent), PATIENCE).await;
    let Ok(Outcome::Intended(intent)) = intended else { panic!("nothing is wrong: {intended:?}") };
    let index = log.read(|state| state.applied.map_or(LogIndex(0), |at| at.index));
    let mut receipts = BTreeMap::new();
    for node in target {
        let log = world.life(node).expect("it runs").log;
        log.wait_applied(index, PATIENCE).await.expect("it catches up");
        let flushed = log.flush().expect("it can be flushed").expect("something is applied");
        receipts.insert(node, flushed);
    }
    log.propose(Command::Ready(Ready { intent, receipts }), PATIENCE).await.expect("all hold everything");
    drive(log).await;
}

async fn storm(world: &Arc<World>) {
    world.net.misbehave(&world.settings);
    world.set_calm(false);
    let mut numbers = world.numbers(1 << 57);
    let until = Instant::now() + world.settings.storm;
    while Instant::now() < until && !world.record.is_broken() {
        sleep(millis(20 + numbers.below(100))).await;
        world.sweep();
        for node in world.due() {
            world.start(node, Mode::Open).await;
        }
        if numbers.happens(world.settings.crashes) {
            crash(world, &mut numbers);
        }
        if numbers.happens(world.settings.cuts) {
            cut(world, &mut numbers);
        }
    }
}

/// Ends somebody: a leader rather than others, everybody at once now and then, or one that is about to write.
fn crash(world: &World, numbers: &mut Numbers) {
    let is_power_cut = numbers.happens(world.settings.power_cuts);
    if numbers.happens(60) {
        world.record.count("crashes of all");
        world.nodes().into_iter().for_each(|node| world.crash(node, is_power_cut));
        return;
    }
    let leader = if numbers.happens(300) { world.leader(numbers).map(|life| life.node) } else { None };
    let Some(node) = leader.or_else(|| numbers.pick(&world.nodes()).copied()) else { return };
    if !numbers.happens(world.settings.torn) {
        world.crash(node, is_power_cut);
    } else if numbers.happens(500) {
        world.disk(node).fail_after(numbers.below(8));
    } else {
        world.nodes().into_iter().for_each(|node| world.disk(node).fail_after_vote());
    }
}

/// Cuts ways between nodes, or mends them all.
fn cut(world: &World, numbers: &mut Numbers) {
    let nodes = world.nodes();
    let ways = nodes.iter().flat_map(|from| nodes.iter().map(|to| (*from, *to))).filter(|(from, to)| from != to);
    let alone = world.leader(numbers).map(|life| life.node).filter(|_| numbers.happens(600));
    let alone = alone.or_else(|| numbers.pick(&nodes).copied());
    let here = numbers.draw();
    let is_here = |node: NodeId| here & 1 << node.0 != 0;
    let ways: BTreeSet<_> = match numbers.below(6) {
        // Two parts; one node alone; one that is not heard; some ways that are bad, both ways or one.
        0 => ways.filter(|(from, to)| is_here(*from) != is_here(*to)).collect(),
        1 => ways.filter(|(from, to)| Some(*from) == alone || Some(*to) == alone).collect(),
        2 => ways.filter(|(from, _)| Some(*from) == alone).collect(),
        3 => {
            let mut bad: BTreeSet<_> = ways.filter(|(from, to)| from < to && numbers.happens(400)).collect();
            bad.append(&mut bad.iter().map(|(from, to)| (*to, *from)).collect());
            bad
        }
        4 => ways.filter(|_| numbers.happens(300)).collect(),
        _ => BTreeSet::new(),
    };
    world.record.note(format_args!("cut: {ways:?}"));
    world.record.count(if ways.is_empty() { "mended networks" } else { "cut networks" });
    world.net.cut(ways);
}

/// Nothing goes wrong any more: everything that was asked for must come to its end.
async fn quiet(world: &Arc<World>) {
    world.net.calm();
    world.set_calm(true);
    world.nodes().into_iter().for_each(|node| world.disk(node).fail_never());
    let until = Instant::now() + QUIET;
    while !world.record.is_broken() {
        world.sweep();
        for node in world.due() {
            world.start(node, Mode::Open).await;
        }
        let Some(unsettled) = world.unsettled() else { return };
        if Instant::now() > until {
            return world.record.broken(Broken::new(Promise::Ends, unsettled));
        }
        sleep(millis(100)).await;
    }
}
