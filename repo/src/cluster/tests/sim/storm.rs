//! A run: a cluster is founded, a storm of faults, and then quiet, in which everything must come to an end.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use filesync_raft_log::command::Role;
use filesync_raft_log::ids::NodeId;
use filesync_raft_log::testing::Numbers;
use tokio::time::{Instant, sleep, timeout};

use super::members as coming;
use super::record::Promise;
use super::settings::VOTERS_BESIDE_ROT;
use super::user;
use super::world::World;
use crate::cluster::members;
use crate::request::{FsckRequest, Silent};

/// Between two looks at what is to happen.
const STEP: Duration = Duration::from_millis(50);
/// How long it may take until everything has come to an end.
const QUIET: Duration = Duration::from_secs(180);
/// How long somebody tries to change who votes.
const CHANGE: Duration = Duration::from_secs(5);

/// All of it, or until a promise is broken.
pub async fn run(world: &Arc<World>) {
    timeout(QUIET, begin(world)).await.expect("nothing goes wrong yet");
    for machine in 0..world.settings.users {
        world.user_begins(machine);
        tokio::spawn(user::publish(Arc::clone(world), machine, world.numbers()));
    }
    storm(world).await;
    if !world.record.is_broken() {
        quiet(world).await;
    }
}

/// Founds a cluster, lets all in, and makes the first voters.
pub async fn begin(world: &Arc<World>) {
    world.start(0, None).await.expect("it founds");
    for machine in 1..world.settings.nodes {
        let line = coming::invite(world, 0, Role::Candidate).await.expect("nothing goes wrong yet");
        world.start(machine, Some(line)).await.expect("it joins");
    }
    let voters: BTreeSet<NodeId> = (1..=world.settings.voters as u64).map(NodeId).collect();
    while world.oracle().newest.voters != [voters.clone()] && !world.record.is_broken() {
        change_voters(world, 0, voters.clone()).await;
        sleep(STEP).await;
    }
}

/// Has other nodes vote.
async fn change_voters(world: &Arc<World>, machine: usize, target: BTreeSet<NodeId>) {
    let Some(life) = world.life(machine) else { return };
    let of = life.clone();
    let wanted = target.clone();
    let changed = world.blocking(&life, move || {
        let node = of.node()?;
        Some(members::change_voters(&node.core, target, true, CHANGE))
    });
    if let Ok(Some(Some(changed))) = changed.await {
        world.record.note(format_args!("{machine} wants {wanted:?} to vote: {changed:?}"));
        if changed.is_ok() {
            world.record.count("changes of voters");
        }
    }
}

async fn storm(world: &Arc<World>) {
    let mut numbers = world.numbers();
    world.set_calm(false);
    world.net.misbehave(&world.settings);
    let until = Instant::now() + world.settings.storm;
    while Instant::now() < until && !world.record.is_broken() {
        sleep(STEP).await;
        step(world, &mut numbers);
        world.sweep();
    }
}

fn step(world: &Arc<World>, numbers: &mut Numbers) {
    let settings = &world.settings;
    let machines = settings.machines();
    let any = |numbers: &mut Numbers| usize::try_from(numbers.below(machines as u64)).unwrap_or_default();
    if numbers.happens(settings.crashes) {
        let machine = any(numbers);
        match numbers.happens(settings.torn) {
            true => world.crash_soon(machine, numbers.happens(300)),
            false => world.crash(machine, numbers.happens(settings.power_cuts)),
        }
    }
    if numbers.happens(settings.crashes / 10) {
        world.record.count("crashes of all");
        (0..machines).for_each(|machine| world.crash(machine, true));
    }
    if numbers.happens(settings.cuts) {
        world.record.count("cut networks");
        world.net.cut(cut(machines, numbers));
    }
    if numbers.happens(settings.changes) {
        let size = [1, 2, 3, 3, 3, 4, 5][usize::try_from(numbers.below(7)).unwrap_or_default()];
        let target: BTreeSet<NodeId> = (0..size).map(|_| NodeId(1 + any(numbers) as u64)).collect();
        let (world, machine) = (Arc::clone(world), any(numbers));
        if settings.rot == 0 || target.len() >= VOTERS_BESIDE_ROT {
            tokio::spawn(async move { change_voters(&world, machine, target).await });
        }
    }
    if numbers.happens(settings.collections) {
        collect(world, any(numbers), numbers);
    }
    if numbers.happens(settings.rot) {
        // One that nobody commits on: what is published nowhere is nowhere else.
        world.rot(settings.nodes - 1);
    }
    if settings.members > 0 && numbers.happens(settings.members) {
        coming::step(world, numbers);
    }
}

fn collect(world: &Arc<World>, machine: usize, numbers: &mut Numbers) {
    let Some(life) = world.life(machine) else { return };
    let (own, of, pause) = (Arc::clone(world), life.clone(), Duration::from_millis(numbers.below(300)));
    drop(world.blocking(&life, move || user::collect(&own, &of, pause)));
}

/// Ways that are cut: none, around one, in two halves, one way, or here and there.
fn cut(nodes: usize, numbers: &mut Numbers) -> BTreeSet<(usize, usize)> {
    let one = usize::try_from(numbers.below(nodes as u64)).unwrap_or_default();
    let (kind, bits) = (numbers.below(5), numbers.draw());
    let is_cut = |from: usize, to: usize| match kind {
        0 => false,
        1 => from == one || to == one,
        2 => (bits >> from & 1) != (bits >> to & 1),
        3 => from == one,
        _ => bits >> ((from * 8 + to) % 64) & 3 == 0,
    };
    let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
    all.filter(|(from, to)| from != to && is_cut(*from, *to)).collect()
}

async fn quiet(world: &Arc<World>) {
    world.set_calm(true);
    world.heal();
    let mut is_read = false;
    let until = Instant::now() + QUIET;
    loop {
        sleep(STEP * 4).await;
        world.sweep();
        if world.record.is_broken() {
            return;
        }
        if !is_read {
            is_read = read_rotten(world).await;
            continue;
        }
        let Some(unsettled) = unsettled(world).await else { return world.check_end() };
        if Instant::now() > until {
            return world.record.broken(Promise::Ends, unsettled);
        }
    }
}

/// What has rotted is found when it is read: then it is mended from others. Whether it was read.
async fn read_rotten(world: &Arc<World>) -> bool {
    let rotten: Vec<usize> = world.oracle().rotten.keys().copied().collect();
    // Who was removed is mended by nobody.
    for machine in rotten.into_iter().filter(|machine| !world.has_left(*machine)) {
        let Some(life) = world.life(machine) else { return false };
        let (own, of) = (Arc::clone(world), life.clone());
        let read = world.blocking(&life, move || {
            let node = of.node()?;
            let read = node.core.repo.fsck(&FsckRequest::default(), &Silent).ok()?;
            own.record.note(format_args!("{machine} is read: {} damaged", read.damaged.len()));
            Some(read)
        });
        let Ok(Some(Some(_))) = read.await else { return false };
    }
    true
}

async fn unsettled(world: &Arc<World>) -> Option<String> {
    if let Some(machine) = world.user_that_waits() {
        return Some(format!("the user of {machine} waits"));
    }
    let Some(life) = world.life(0) else { return Some("0 is down".to_owned()) };
    let own = Arc::clone(world);
    let looked = world.blocking(&life, move || own.unsettled(&own.nodes()));
    looked.await.ok().flatten().unwrap_or_else(|| Some("it could not be seen".to_owned()))
}
