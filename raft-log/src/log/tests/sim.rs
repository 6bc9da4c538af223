//! The log in a world where a seed decides what happens: three to seven nodes in one thread, with a network, disks and clocks
//! of its own. What runs is the log as it is: openraft, the store, the state machine, the driver. Simulated are the
//! disk under the store, the network, time, and those around the log who hold commits and give receipts.
//!
//! After every entry that a node applies, every crash and every collection the promises of `docs/guarantees.md` are looked
//! at, in all nodes. `docs/simulation.md` tells what happens in a run, and what is left to chance.

mod bugs;
mod client;
mod hold;
mod lead;
mod machine;
mod members;
mod net;
mod node;
mod oracle;
mod record;
mod settings;
mod store;
mod storm;
mod world;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bugs::Bug;
use filesync_cas::testing::{given_seed, is_long};
use record::Told;
use world::World;

use crate::testing::Seeded;

/// Seeds that are tried until a mistake shows.
const BUG_SEEDS: u64 = 1_000;

/// The last lines of a run that is shown.
const LINES_SHOWN: usize = 3_000;

/// What must have happened under some seed: nothing is proved about what never does.
const SEEN: [&str; 16] = [
    "changes of voters",
    "collections",
    "crashes of all",
    "cut networks",
    "kills",
    "leaders",
    "messages that came twice",
    "pins of what is decided that went",
    "pins of what will never be that went",
    "power cuts",
    "publishes",
    "publishes that came too late",
    "publishes that too few held",
    "receipts of another leadership",
    "states taken over",
    "steps of changes of voters",
];

fn millis(number: u64) -> Duration {
    Duration::from_millis(number)
}

/// Runs a seed.
fn run(seed: u64, bug: Option<Bug>) -> Told {
    Seeded::sow(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime can be made");
    let told = runtime.block_on(async {
        let world = World::new(seed, bug);
        storm::run(&world).await;
        let told = world.record.told();
        world.end();
        told
    });
    drop(runtime);
    Seeded::sow(None);
    told
}

/// The last lines, for whoever wants to know how it came about.
fn tail(told: &Told) -> String {
    let kept = told.lines.len().saturating_sub(LINES_SHOWN);
    told.lines[kept..].join("\n")
}

/// Runs seeds on all processors. Gives back how often what happened, or the first that broke a promise.
fn run_all(seeds: std::ops::Range<u64>) -> Result<BTreeMap<&'static str, u64>, u64> {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicU64::new(u64::MAX));
    let counts = Mutex::new(BTreeMap::new());
    let work = || {
        while failed.load(Ordering::Relaxed) == u64::MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if !seeds.contains(&seed) {
                return;
            }
            let told = run(seed, None);
            if told.broken.is_some() {
                failed.fetch_min(seed, Ordering::Relaxed);
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
    match failed.into_inner() {
        u64::MAX => Ok(counts.into_inner().expect("nobody panics with it")),
        seed => Err(seed),
    }
}

/// Fails with how it came about; the seed does the same again.
#[track_caller]
fn assert_holds(seed: u64) {
    let told = run(seed, None);
    let Some(broken) = &told.broken else { return };
    let again = format!("FILESYNC_SEED={seed} cargo test -p filesync-raft-log sim::");
    panic!("{}\nseed {seed}: {:?}: {}\n{again}", tail(&told), broken.promise, broken.how);
}

#[test]
fn all_promises_hold_in_every_world() {
    let seeds = match given_seed() {
        Some(seed) => return assert_holds(seed),
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
        Err(seed) => {
            assert_holds(seed);
            panic!("seed {seed} breaks a promise, and keeps it when it runs again");
        }
    }
}

#[test]
fn a_seed_is_the_same_world_each_time() {
    for seed in 0..12 {
        let (first, second) = (run(seed, None).lines, run(seed, None).lines);
        let differ = first.iter().zip(&second).position(|(first, second)| first != second);
        if let Some(at) = differ {
            panic!("seed {seed}, line {at}:\n{}\n{}", first[at], second[at]);
        }
        assert_eq!(first.len(), second.len());
        println!("seed {seed}: {} lines, {:016x}", first.len(), record::digest(first.join("\n").as_bytes()));
    }
}
