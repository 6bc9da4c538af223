//! Whole nodes in a world where a seed decides what happens: three to seven of them, each with its log, its store, its part in publishing, and
//! its threads, of which one runs at a time. Simulated are the disks, the network and time.
//!
//! `docs/simulation.md` tells what is real, what happens in a run, what is looked at, and what is left to chance.

mod env;
mod fiber;
mod members;
mod net;
mod oracle;
mod record;
mod settings;
mod storm;
mod user;
mod world;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filesync_cas::testing::{given_seed, is_long, sow};
use filesync_raft_log::command::Role;
use record::Told;
use settings::Settings;
use tokio::time::{sleep, timeout};
use world::World;

use crate::cluster::invite::InviteLine;

/// The last lines of a run that is shown.
const LINES_SHOWN: usize = 600;

/// What must have happened under some seed: nothing is proved about what never does.
const SEEN: [&str; 14] = [
    "bits that flipped",
    "calls that came twice",
    "changes of voters",
    "collections",
    "crashes of all",
    "cut networks",
    "joins in the storm",
    "kills",
    "members removed",
    "merges",
    "power cuts",
    "publishes",
    "publishes that were told",
    "roles that changed",
];

/// Runs a seed.
fn run(seed: u64) -> Told {
    run_in(seed, |_| (), storm::run)
}

/// Has something happen in a world.
fn run_in(seed: u64, change: impl FnOnce(&mut Settings), what: impl AsyncFnOnce(&Arc<World>)) -> Told {
    sow(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime can be made");
    let told = runtime.block_on(async {
        let world = World::new(seed, change);
        what(&world).await;
        let told = world.record.told();
        world.end().await;
        told
    });
    sow(None);
    told
}

/// Runs seeds on all processors. Gives back how often what happened, or one that broke a promise.
fn run_all(seeds: std::ops::Range<u64>) -> Result<BTreeMap<&'static str, u64>, (u64, Told)> {
    let (next, failed) = (AtomicU64::new(seeds.start), Mutex::new(None));
    let counts = Mutex::new(BTreeMap::new());
    let work = || {
        while failed.lock().expect("nobody panics with it").is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            let told = run(seed);
            if told.broken.is_some() {
                *failed.lock().expect("nobody panics with it") = Some((seed, told));
                return;
            }
            let mut counts = counts.lock().expect("nobody panics with it");
            told.counts.iter().for_each(|(what, count)| *counts.entry(*what).or_insert(0) += count);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    match failed.into_inner().expect("nobody panics with it") {
        None => Ok(counts.into_inner().expect("nobody panics with it")),
        Some(failed) => Err(failed),
    }
}

/// Fails with how it came about, if a promise was broken.
#[track_caller]
fn assert_holds(seed: u64, told: &Told) {
    let kept = told.lines.len().saturating_sub(LINES_SHOWN);
    let tail = told.lines[kept..].join("\n");
    match &told.broken {
        None => println!("seed {seed}: {} lines\n{tail}\n{:#?}", told.lines.len(), told.counts),
        Some(broken) => panic!(
            "{tail}\nseed {seed}: {:?}: {}\nFILESYNC_SEED={seed} cargo test -p filesync-repo sim::",
            broken.promise, broken.how
        ),
    }
}

#[test]
fn all_promises_hold_in_every_world() {
    let seeds = match given_seed() {
        Some(seed) => return assert_holds(seed, &run(seed)),
        None if is_long() => 0..100_000,
        None => 0..200,
    };
    println!("seeds {seeds:?}");
    match run_all(seeds) {
        Ok(counts) => {
            println!("{counts:#?}");
            let unseen: Vec<_> = SEEN.iter().filter(|what| !counts.contains_key(*what)).collect();
            assert!(unseen.is_empty(), "it never happens: {unseen:?}");
        }
        Err((seed, told)) => assert_holds(seed, &told),
    }
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for seed in 0..6 {
        let (first, second) = (run(seed).lines, run(seed).lines);
        let differ = first.iter().zip(&second).position(|(first, second)| first != second);
        if let Some(at) = differ {
            panic!("seed {seed}, line {at}:\n{}\n{}\n{}", first[..at].join("\n"), first[at], second[at]);
        }
        assert_eq!(first.len(), second.len());
    }
}

/// A leader that is cut off does not know that another leads, nor what he has heard of since. The simulation found it say that there is
/// no such invite, which is final.
#[test]
fn a_leader_that_is_cut_off_turns_nobody_away() {
    let three = |settings: &mut Settings| (settings.nodes, settings.voters, settings.members) = (3, 3, 1);
    let told = run_in(0, three, async |world| {
        storm::begin(world).await;
        let node = |machine| world.life(machine)?.node();
        let leads = |machine: &usize| node(*machine).is_some_and(|it| it.core.log.get().unwrap().leading().is_some());
        let old = (0..3).find(leads).unwrap();
        let others = (0..3).filter(|machine| *machine != old);
        world.net.cut(others.clone().flat_map(|other| [(old, other), (other, old)]).collect());
        let elected = async {
            loop {
                sleep(Duration::from_millis(50)).await;
                if let Some(new) = others.clone().find(leads) {
                    return new;
                }
            }
        };
        let new = timeout(Duration::from_secs(30), elected).await.unwrap();
        let line = members::invite(world, new, Role::Writer).await.unwrap();
        assert!(leads(&old), "as far as it knows");
        let mut line = InviteLine::decode(&line).unwrap();
        line.doors.retain(|door| world.oracle().numbers.get(&door.node) == Some(&old));
        let joining = world.start(3, Some(line.encode().unwrap()));
        sleep(Duration::from_secs(5)).await;
        world.net.calm();
        timeout(Duration::from_secs(60), joining).await.unwrap().unwrap();
        assert!(world.record.is_broken() || node(3).is_some());
    });
    assert_holds(0, &told);
}
