//! Power cuts: every prefix of the calls of a run, with nothing, everything and random parts of what was not synced.
//!
//! RocksDB does not go through the model, so that each state is opened with every index that there ever was, with the
//! present one, and with none. Acknowledged heads are whole and nothing is called damaged, whatever the index. A store
//! whose making was cut off is refused, or it is whole.

use super::faults::{Announce, is_refused};
use super::*;
use crate::testing::{CrashPoint, Fault, FaultVfs, Op, Plan, Scope, crash_states};

const LIMITS: Limits =
    Limits { seal_len: 24 << 10, seal_objects: 14, pending_max: 9, writeback_len: 8 << 10, threads: false };

/// What a run left beside the packs: its index, and copies of it, one after each acknowledged session.
#[derive(Debug)]
struct Left {
    dir: Arc<TempDir>,
    created: bool,
    acknowledged: usize,
    tried: usize,
    copies: usize,
}

fn plans(model: &mut World, seed: u64, sessions: u64, before: Option<ContentHash>) -> Vec<Planned> {
    let mut head = before;
    (0..sessions)
        .map(|n| {
            let planned = model.plan(seed, n, head, Size { chunks: 12, chunk_len: 8000 });
            head = Some(planned.head);
            planned
        })
        .collect()
}

/// Runs sessions, two for each time that the store is opened, until the power fails.
fn sessions(world: &World, plans: &[Planned], left: &mut Left) {
    for pair in plans.chunks(2) {
        let Ok(store) = world.try_writer() else { return };
        for planned in pair {
            left.tried += 1;
            if run(&store, planned).is_err() {
                return;
            }
            left.acknowledged += 1;
            left.copies += 1;
            copy_dir(&world.index_dir(), &world.dir.sub(&format!("copy-{}", left.copies)));
        }
    }
}

/// All indexes that there might be after a run: none, each copy, the present one.
fn indexes(left: &Left) -> Vec<Option<PathBuf>> {
    let copies = (1..=left.copies).map(|n| left.dir.sub(&format!("copy-{n}")));
    let present = Some(left.dir.sub("index")).filter(|dir| dir.is_dir());
    std::iter::once(None).chain(copies.map(Some)).chain(present.map(Some)).collect()
}

/// What must hold after the power came back: see the module.
fn check(model: &World, heads: &[Option<ContentHash>], left: &Left, vfs: &LossVfs, next: &Planned) -> u64 {
    let mut states = 0;
    for index in indexes(left) {
        let mut world = World::over(Arc::new(vfs.fork()), LIMITS);
        world.model.clone_from(&model.model);
        if let Some(index) = &index {
            copy_dir(index, &world.index_dir());
        }
        let reader = world.reader();
        let store = world.writer();
        let head = store.head();
        assert!(heads.contains(&head), "{head:?} with {index:?} after {left:?}");
        assert_eq!(reader.head(), head);
        world.verify(&store, head);
        for id in world.closure(head) {
            reader.get(world.model[&id].0, &id).expect("a reader sees the same");
        }
        run(&store, next).expect("the next session");
        world.verify(&store, Some(next.head));
        assert!(!store.has_damage());
        let expected: &[&str] = if index.is_none() { &["index: it is missing: building it again"] } else { &[] };
        assert_eq!(store.take_warnings(), expected);
        drop(store);
        let store = world.writer();
        assert_eq!(store.take_warnings(), [""; 0]);
        world.verify(&store, Some(next.head));
        states += 1;
    }
    states
}

fn new_left() -> Left {
    Left { dir: Arc::new(TempDir::quick()), created: false, acknowledged: 0, tried: 0, copies: 0 }
}

fn world_in(vfs: Arc<dyn Vfs>, left: &Left) -> World {
    let mut world = World::over(vfs, LIMITS);
    world.dir = Arc::clone(&left.dir);
    world
}

fn heads(plans: &[Planned], left: &Left) -> [Option<ContentHash>; 2] {
    let head_of = |sessions: usize| sessions.checked_sub(1).map(|last| plans[last].head);
    [head_of(left.acknowledged), head_of(left.tried)]
}

#[test]
fn power_cuts_at_every_call() {
    let seed = seed();
    let (mut model, _) = World::in_memory(LIMITS);
    let plans = plans(&mut model, seed, 4, None);
    let next = model.plan(seed, 99, None, SMALL);
    let run = |vfs: Arc<LossVfs>| {
        let mut left = new_left();
        let world = world_in(vfs, &left);
        if Store::create(&world.place(), &params()).is_ok() {
            left.created = true;
            copy_dir(&world.index_dir(), &left.dir.sub("copy-1"));
            left.copies = 1;
            sessions(&world, &plans, &mut left);
        }
        left
    };
    let (mut opened, mut refused, mut untold) = (0, 0, 0);
    let seeds = seed..seed + long(2, 60);
    let states = crash_states(&LossVfs::new(), seeds, run, |_: &CrashPoint, left, vfs| {
        if !left.created && is_refused(&world_in(Arc::new(vfs.fork()), &new_left())) {
            refused += 1;
            return;
        }
        untold += u32::from(!left.created);
        opened += check(&model, &heads(&plans, left), left, &vfs, &next);
    });
    eprintln!("{states} states, opened {opened} times, {refused} refused, {untold} whole that nobody was told of");
    assert!(opened > 500 && refused > 20 && untold > 0, "only {opened}, {refused}, {untold}");
}

/// First only the process dies, and what it had not synced is still seen: a name that stands and is not durable, most
/// of all. The next one builds upon it; then the power fails.
#[test]
fn power_cuts_after_a_kill() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let (mut model, _) = World::in_memory(LIMITS);
    let plans = plans(&mut model, seed, 4, None);
    let next = model.plan(seed, 99, None, SMALL);
    let mut opened = 0;
    // Before every sync of a directory, and anywhere.
    let mut kills: Vec<Plan> =
        (1..).map(|at| Plan { scope: Scope::Only(Op::SyncDir), at, fault: Fault::Kill }).take(30).collect();
    kills.extend((0..long(4, 300)).map(|_| Plan { scope: Scope::Mutating, at: 1 + rng.below(85), fault: Fault::Kill }));
    let mut killed = 0;
    for plan in kills {
        let (vfs, mut before) = (LossVfs::new(), new_left());
        let world = world_in(Arc::new(vfs.clone()), &before);
        Store::create(&world.place(), &params()).expect("created");
        let fault = FaultVfs::with_plan(Arc::new(vfs.clone()), plan);
        sessions(&world_in(Arc::new(fault.clone()), &before), &plans, &mut before);
        if !fault.hit() {
            continue;
        }
        killed += 1;
        // What the next process finds acknowledged, and goes on from.
        let found = crate::store::read_head(&vfs).expect("a head").head;
        let reached = plans.iter().position(|planned| Some(planned.head) == found).map_or(0, |at| at + 1);
        let run = |vfs: Arc<LossVfs>| {
            let mut left = new_left();
            copy_dir(&before.dir.sub("index"), &left.dir.sub("index"));
            copy_dir(&before.dir.sub("index"), &left.dir.sub("copy-1"));
            (left.copies, left.acknowledged, left.tried) = (1, before.acknowledged, before.tried);
            let world = world_in(vfs, &left);
            let Ok(store) = world.try_writer() else { return left };
            // Whoever opens for writing may tell what it found, and that holds from then on.
            (left.acknowledged, left.tried) = (reached, reached);
            drop(store);
            sessions(&world, &plans[reached..(reached + 1).min(plans.len())], &mut left);
            left
        };
        let seeds = seed..seed + long(0, 20);
        let announce = Announce(plan);
        crash_states(&vfs.fork(), seeds, run, |_, left, vfs| {
            opened += check(&model, &heads(&plans, left), left, &vfs, &next);
        });
        drop(announce);
    }
    eprintln!("{killed} kills, opened {opened} times");
    assert!(killed > 12 && opened > 500, "only {killed}, {opened}");
}
