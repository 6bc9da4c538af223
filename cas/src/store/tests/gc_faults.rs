//! Kills, errors and power cuts at every call of a collection.
//!
//! Whatever happened, afterwards the head is whole, nothing is called damaged, the same work runs to its end, and then
//! the space is there again.

use super::faults::Announce;
use super::*;
use crate::testing::{CrashPoint, Fault, FaultVfs, Op, Plan as FaultPlan, Scope, crash_states};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

const LIMITS: Limits =
    Limits { seal_len: 24 << 10, seal_objects: 14, pending_max: 9, writeback_len: 8 << 10, threads: false };

/// What is done, in order: a session, of which number, or a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Do {
    Session(usize),
    Collect,
}

/// The second session leaves nothing of the first, the third builds upon the second, and so on.
const WORK: [Do; 7] =
    [Do::Session(0), Do::Session(1), Do::Collect, Do::Session(2), Do::Session(3), Do::Collect, Do::Collect];

fn plans(world: &mut World) -> Vec<Planned> {
    let mut plans: Vec<Planned> = Vec::new();
    for n in 0..4 {
        let before = plans.last().map(|before| before.head).filter(|_| n == 2);
        plans.push(world.plan(90, n, before, Size { chunks: 12, chunk_len: 8000 }));
    }
    plans
}

/// How far a run came.
#[derive(Debug, Default, Clone)]
struct Progress {
    created: bool,
    /// Sessions that were acknowledged, and of which at least the end was tried.
    acknowledged: usize,
    tried: usize,
    done: usize,
}

fn work(world: &World, plans: &[Planned], between: &mut dyn FnMut()) -> Progress {
    let mut progress = Progress::default();
    if Store::create(&world.place(), &params()).is_err() {
        return progress;
    }
    progress.created = true;
    between();
    go_on_working(world, plans, &mut progress, between);
    progress
}

/// Goes on after errors, with the store opened anew, until the process is dead or nothing works any more.
fn go_on_working(world: &World, plans: &[Planned], progress: &mut Progress, between: &mut dyn FnMut()) {
    for _ in 0..12 {
        let Ok(store) = world.try_writer() else { continue };
        // What it opens for may be two things, so that a collection also meets packs that are being filled.
        for _ in 0..2 {
            let Some(next) = WORK.get(progress.done) else { return };
            let done = match next {
                Do::Session(n) => {
                    progress.tried = n + 1;
                    let done = run(&store, &plans[*n]).is_ok();
                    progress.acknowledged = if done { n + 1 } else { progress.acknowledged };
                    done
                }
                Do::Collect => collect(&store).is_ok(),
            };
            if !done {
                break;
            }
            progress.done += 1;
            between();
        }
    }
}

/// What must hold after anything: see the module.
#[track_caller]
fn check(world: &World, plans: &[Planned], progress: &Progress, may_warn: bool) {
    if !progress.created {
        return;
    }
    let no_warnings = |store: &Store| {
        let warnings = store.take_warnings();
        let are_fine = warnings.iter().all(|warning| may_warn && warning.starts_with("index: "));
        assert!(are_fine, "{warnings:?}");
    };
    let head_of = |sessions: usize| sessions.checked_sub(1).map(|last| plans[last].head);
    let reader = world.reader();
    let store = world.writer();
    no_warnings(&store);
    let head = store.head();
    let allowed = [head_of(progress.acknowledged), head_of(progress.tried)];
    assert!(allowed.contains(&head), "{head:?} after {progress:?}");
    world.verify(&store, head);
    world.verify_present(&reader, head);
    drop(reader);
    let mut again = progress.clone();
    again.acknowledged = plans.iter().position(|planned| Some(planned.head) == head).map_or(0, |at| at + 1);
    again.done = WORK.iter().position(|what| *what == Do::Session(again.acknowledged)).unwrap_or(again.done.min(5));
    drop(store);
    go_on_working(world, plans, &mut again, &mut || ());
    assert_eq!(again.done, WORK.len(), "the same work again");
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    let head = head_of(plans.len());
    assert_eq!(store.head(), head);
    world.verify(&store, head);
    assert!(!store.has_damage(), "nothing is damaged");
    // A store that never had anything else takes as much, about.
    let live: u64 = world.closure(head).iter().map(|id| world.model[id].1.len() as u64 + 60).sum();
    assert!(world.packs_len() < live + 4000, "{} bytes for {live}: {:?}", world.packs_len(), world.packs());
    drop(store);
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    world.verify(&store, head);
    let stray = |name: &String| name.ends_with(".condemned") || name.starts_with(crate::vfs::TEMP_PREFIX);
    assert!(!world.packs().iter().any(stray), "{:?}", world.packs());
}

/// Runs the work with one fault, and checks. Returns whether the fault took place.
#[track_caller]
fn check_fault(limits: Limits, plan: FaultPlan) -> bool {
    let loss: Arc<dyn Vfs> = Arc::new(LossVfs::new());
    let fault = FaultVfs::with_plan(Arc::clone(&loss), plan);
    let mut during = World::over(Arc::new(fault.clone()), limits);
    let plans = plans(&mut during);
    let mut after = World::over(loss, limits);
    (after.dir, after.model) = (Arc::clone(&during.dir), during.model.clone());
    let progress = work(&during, &plans, &mut || ());
    let hit = fault.hit();
    let announce = Announce(plan);
    assert!(hit || progress.done == WORK.len(), "without a fault: {progress:?}");
    check(&after, &plans, &progress, false);
    drop(announce);
    hit
}

#[track_caller]
fn check_everywhere(scope: Scope, fault: Fault) {
    check_some(scope, fault, 1, 1);
}

/// At every `stride`th call, the first of them at `first`; with `FILESYNC_LONG` at every call.
#[track_caller]
fn check_some(scope: Scope, fault: Fault, first: u64, stride: u64) {
    let (first, stride) = if crate::testing::is_long() { (1, 1) } else { (first, stride) };
    let calls = (0..).map(|n| first + n * stride);
    let hits = calls.take_while(|at| check_fault(LIMITS, FaultPlan { scope, at: *at, fault })).count();
    assert!(hits > 0, "no fault was injected");
    eprintln!("{scope:?} {fault:?}: {hits} runs");
}

/// What the faults are to strike is there.
#[test]
fn the_work_does_everything() {
    let vfs = FaultVfs::new(Arc::new(LossVfs::new()));
    let mut world = World::over(Arc::new(vfs.clone()), LIMITS);
    let plans = plans(&mut world);
    let (mut unlinked, mut renamed) = (Vec::new(), Vec::new());
    let progress = work(&world, &plans, &mut || {
        unlinked.push(vfs.counts().of(Op::Unlink));
        renamed.push(vfs.counts().of(Op::Rename));
    });
    assert_eq!(progress.done, WORK.len());
    let of = |counts: &[u64], step: usize| counts[step + 1] - counts[step];
    for (step, what) in WORK.iter().enumerate().filter(|(step, _)| *step != 6) {
        let is_collection = *what == Do::Collect;
        assert_eq!(of(&unlinked, step) > 1, is_collection, "unlinked in step {step}");
        // Sessions seal packs, and collections too.
        assert!(of(&renamed, step) > 1, "renamed in step {step}");
    }
    check(&world, &plans, &progress, false);
}

#[test]
fn killed_at_every_change() {
    check_everywhere(Scope::Mutating, Fault::Kill);
}

/// EMFILE at every third call, all of them with `FILESYNC_LONG`: 161 calls take five seconds.
#[test]
fn one_error_at_every_change() {
    for errno in [EIO, ENOSPC] {
        check_everywhere(Scope::Mutating, Fault::ErrorOnce(errno));
    }
    check_some(Scope::Mutating, Fault::ErrorOnce(EMFILE), 1, 3);
}

/// EIO from every call on; of the others each from every third, all of them with `FILESYNC_LONG`. Want of room, which
/// comes with writing, is also had at every write.
#[test]
fn errors_from_every_change_on() {
    check_everywhere(Scope::Mutating, Fault::ErrorFrom(EIO));
    check_some(Scope::Mutating, Fault::ErrorFrom(ENOSPC), 1, 3);
    check_some(Scope::Mutating, Fault::ErrorFrom(EMFILE), 2, 3);
    check_everywhere(Scope::Only(Op::WriteAt), Fault::ErrorFrom(ENOSPC));
}

#[test]
fn every_short_write_is_completed() {
    for fault in [Fault::ShortWrite, Fault::ShortFrom] {
        check_everywhere(Scope::Only(Op::WriteAt), fault);
    }
}

#[test]
fn one_error_at_every_read() {
    for (op, errno) in [(Op::ReadAt, EIO), (Op::OpenRead, EIO), (Op::OpenRead, EMFILE), (Op::List, EMFILE)] {
        check_everywhere(Scope::Only(op), Fault::ErrorOnce(errno));
    }
}

#[test]
fn errors_from_every_opening_on() {
    for op in [Op::OpenRead, Op::OpenWrite, Op::Create] {
        check_everywhere(Scope::Only(op), Fault::ErrorFrom(EMFILE));
    }
}

/// A second kill, at any call of what puts things right after the first, and of the work that follows.
#[test]
fn killed_again_while_recovering() {
    let mut rng = Rng::new(seed());
    let mut hits = 0;
    for _ in 0..long(40, 3000) {
        let kill = |at| FaultPlan { scope: Scope::Mutating, at, fault: Fault::Kill };
        let first = 40 + rng.below(140);
        let loss: Arc<dyn Vfs> = Arc::new(LossVfs::new());
        let mut during = World::over(Arc::new(FaultVfs::with_plan(Arc::clone(&loss), kill(first))), LIMITS);
        let plans = plans(&mut during);
        let mut progress = work(&during, &plans, &mut || ());
        let second = 1 + rng.below(60);
        let again = FaultVfs::with_plan(Arc::clone(&loss), kill(second));
        let mut recovering = World::over(Arc::new(again.clone()), LIMITS);
        (recovering.dir, recovering.model) = (Arc::clone(&during.dir), during.model.clone());
        let present = crate::store::read_head(&*loss).expect("a head").head;
        progress.acknowledged = plans.iter().position(|plan| Some(plan.head) == present).map_or(0, |at| at + 1);
        progress.tried = progress.acknowledged;
        progress.done = WORK.iter().position(|what| *what == Do::Session(progress.acknowledged)).unwrap_or(5);
        go_on_working(&recovering, &plans, &mut progress, &mut || ());
        hits += usize::from(again.hit());
        eprintln!("killed at {first} and {second}");
        let mut after = World::over(loss, LIMITS);
        (after.dir, after.model) = (Arc::clone(&during.dir), during.model.clone());
        check(&after, &plans, &progress, false);
    }
    assert!(hits > 10, "only {hits} second kills");
}

/// With all threads that there are, so that the fault may strike any of them.
#[test]
fn faults_in_helpers() {
    let mut rng = Rng::new(seed());
    let limits = Limits { threads: true, ..LIMITS };
    let mut hits = 0;
    for _ in 0..long(40, 3000) {
        let fault = [Fault::Kill, Fault::ErrorFrom(EIO), Fault::ErrorOnce(ENOSPC), Fault::ErrorOnce(EIO)];
        let plan = FaultPlan { scope: Scope::Mutating, at: 1 + rng.below(180), fault: fault[rng.index(4)] };
        hits += usize::from(check_fault(limits, plan));
    }
    assert!(hits > 20, "only {hits} faults");
}

/// The power fails; `index/`, which does not go through the model, is then missing, or any that there ever was.
#[test]
fn power_cuts_at_every_call() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let (mut model, _) = World::in_memory(LIMITS);
    let plans = plans(&mut model);
    let (mut opened, mut rebuilt) = (0, 0);
    let run = |vfs: Arc<LossVfs>| {
        let dir = Arc::new(TempDir::quick());
        let mut world = World::over(vfs, LIMITS);
        world.dir = Arc::clone(&dir);
        let mut copies = 0;
        let progress = work(&world, &plans, &mut || {
            copies += 1;
            copy_dir(&world.index_dir(), &world.dir.sub(&format!("copy-{copies}")));
        });
        (dir, progress, copies)
    };
    let seeds = seed..seed + long(0, 20);
    let states = crash_states(&LossVfs::new(), seeds, run, |_: &CrashPoint, (dir, progress, copies), vfs| {
        if !progress.created {
            return;
        }
        let mut indexes = vec![Some(dir.sub("index"))];
        // One of the others at a time: all of them for each of so many states would take an hour.
        indexes.push(match rng.below(u64::from(*copies as u32) + 1) {
            0 => None,
            copy => Some(dir.sub(&format!("copy-{copy}"))),
        });
        for index in indexes {
            let mut world = World::over(Arc::new(vfs.fork()), LIMITS);
            world.model.clone_from(&model.model);
            if let Some(index) = index.as_ref().filter(|index| index.is_dir()) {
                copy_dir(index, &world.index_dir());
            } else {
                rebuilt += 1;
            }
            check(&world, &plans, progress, true);
            opened += 1;
        }
    });
    eprintln!("{states} states, opened {opened} times, {rebuilt} without an index");
    assert!(opened > 300 && rebuilt > 10, "only {opened}, {rebuilt}");
}
