//! Kills and errors at every call that changes something, and errors at every call that reads.
//!
//! Whatever happened, afterwards every acknowledged head is whole, nothing is called damaged, and the same work runs
//! to its end. A store whose making did not come to its end is refused, or it is whole.

use super::*;
use crate::testing::{Fault, FaultVfs, Op, Plan, Rng, Scope};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// Sessions of a run; packs are sealed and marks moved on the way.
const SESSIONS: u64 = 4;
const LIMITS: Limits =
    Limits { seal_len: 24 << 10, seal_objects: 14, pending_max: 9, writeback_len: 8 << 10, threads: false };

/// How far a run came.
#[derive(Debug, Default)]
struct Progress {
    created: bool,
    /// Sessions that were acknowledged.
    acknowledged: usize,
    /// Sessions of which at least the end was tried.
    tried: usize,
    /// Sessions that were acknowledged by a store after one of its syncs had failed.
    after_failed_sync: usize,
}

fn plans(world: &mut World) -> Vec<Planned> {
    let mut head = None;
    (0..SESSIONS)
        .map(|n| {
            let planned = world.plan(20, n, head, Size { chunks: 12, chunk_len: 8000 });
            head = Some(planned.head);
            planned
        })
        .collect()
}

/// Makes a store and runs all sessions, two for each time that the store is opened. Goes on after errors, and tries a
/// session again that failed, until the process is dead or nothing works any more.
fn work(world: &World, plans: &[Planned], fault: &FaultVfs, syncs_fail: bool) -> Progress {
    let mut progress = Progress::default();
    if Store::create(&world.place(), &params()).is_err() {
        return progress;
    }
    progress.created = true;
    go_on(world, plans, fault, syncs_fail, &mut progress);
    progress
}

fn go_on(world: &World, plans: &[Planned], fault: &FaultVfs, syncs_fail: bool, progress: &mut Progress) {
    for _ in 0..8 {
        let Ok(store) = world.try_writer() else { continue };
        let hit_before = fault.hit();
        for _ in 0..2 {
            let Some(planned) = plans.get(progress.acknowledged) else { return };
            progress.tried = progress.acknowledged + 1;
            for _ in 0..2 {
                let may_acknowledge = !(syncs_fail && fault.hit() && !hit_before);
                if run(&store, planned).is_ok() {
                    progress.acknowledged += 1;
                    progress.after_failed_sync += usize::from(!may_acknowledge);
                    break;
                }
            }
        }
    }
}

/// Of a store whose making did not come to its end: whether it is refused, to all alike and for what is missing. If not,
/// it must be a store like others.
#[track_caller]
pub(super) fn is_refused(world: &World) -> bool {
    let is_missing = |error: OpenError| match &error {
        OpenError::Damaged { cause, .. } => assert_eq!(cause, "it is missing"),
        _ => panic!("{error}"),
    };
    let writer = world.try_writer().map(drop).map_err(is_missing).is_err();
    let reader = Store::open_reader(world.place(), schema()).map(drop).map_err(is_missing).is_err();
    assert_eq!(writer, reader, "refused to one, and not to the other");
    writer
}

/// What must hold after anything: see the module.
#[track_caller]
fn check(world: &World, plans: &[Planned], progress: &Progress) {
    if !progress.created && is_refused(world) {
        return;
    }
    let head_of = |sessions: usize| sessions.checked_sub(1).map(|last| plans[last].head);
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    let head = store.head();
    // The one that was being replaced when the error came may have moved all the same.
    let allowed = [head_of(progress.acknowledged), head_of(progress.tried)];
    assert!(allowed.contains(&head), "{head:?} after {progress:?}");
    world.verify(&store, head);
    world.verify(&world.reader(), head);
    let from = plans.iter().position(|planned| Some(planned.head) == head).map_or(0, |at| at + 1);
    for planned in &plans[from..] {
        run(&store, planned).expect("the same work again");
    }
    let head = head_of(plans.len());
    world.verify(&store, head);
    assert!(!store.has_damage(), "nothing is damaged");
    drop(store);
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    world.verify(&store, head);
    assert!(
        world
            .vfs
            .list(Path::new(""))
            .expect("a listing")
            .iter()
            .all(|(name, _)| { name.to_str().is_some_and(|name| !name.starts_with(crate::vfs::TEMP_PREFIX)) })
    );
}

/// The store under the fault, and without it afterwards.
fn faulty(limits: Limits, plan: Option<Plan>) -> (World, World, FaultVfs) {
    let loss: Arc<dyn Vfs> = Arc::new(LossVfs::new());
    let fault = FaultVfs::new(Arc::clone(&loss));
    fault.set_plan(plan);
    let during = World::over(Arc::new(fault.clone()), limits);
    let mut after = World::over(loss, limits);
    after.dir = Arc::clone(&during.dir);
    (during, after, fault)
}

/// Runs the work with one fault, and checks. Returns whether the fault took place.
#[track_caller]
fn check_fault(limits: Limits, plan: Plan) -> (bool, Progress) {
    let (mut during, mut after, fault) = faulty(limits, Some(plan));
    let plans = plans(&mut during);
    after.model = during.model.clone();
    let syncs_fail = plan.fault != Fault::Kill
        && matches!(plan.scope, Scope::Syncs | Scope::Only(Op::SyncData | Op::SyncAll | Op::SyncDir));
    let progress = work(&during, &plans, &fault, syncs_fail);
    assert_eq!(progress.after_failed_sync, 0, "acknowledged after a failed sync: {plan:?}");
    let hit = fault.hit();
    let announce = Announce(plan);
    check(&after, &plans, &progress);
    drop(announce);
    (hit, progress)
}

/// Names the fault when a check panics.
pub(super) struct Announce(pub Plan);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("with {:?}", self.0);
        }
    }
}

/// All places for a fault.
#[track_caller]
fn check_everywhere(scope: Scope, fault: Fault) {
    let mut at = 1;
    let mut hits = 0;
    loop {
        let (hit, progress) = check_fault(LIMITS, Plan { scope, at, fault });
        if !hit {
            assert_eq!(progress.acknowledged, usize::try_from(SESSIONS).expect("few"), "without a fault");
            break;
        }
        hits += 1;
        at += 1;
    }
    assert!(hits > 0, "no fault was injected");
    eprintln!("{scope:?} {fault:?}: {hits} runs");
}

/// What the faults are to strike is there: packs are sealed, marks move within sessions, packs are continued.
#[test]
fn the_work_does_everything() {
    let (mut world, _, fault) = faulty(LIMITS, None);
    let plans = plans(&mut world);
    let progress = work(&world, &plans, &fault, false);
    assert_eq!(progress.acknowledged, plans.len());
    assert!(world.sealed() >= 3, "{:?}", world.packs());
    let generation = crate::store::read_head(&*world.vfs).expect("a head").generation;
    assert!(generation > SESSIONS + 1, "generation {generation}");
    assert!(fault.counts().of(Op::SetLen) + fault.counts().of(Op::Unlink) == 0, "nothing to cut");
    assert_eq!(world.writer().take_warnings(), [""; 0]);
}

#[test]
fn killed_at_every_change() {
    check_everywhere(Scope::Mutating, Fault::Kill);
}

#[test]
fn one_error_at_every_change() {
    for errno in [EIO, ENOSPC, EMFILE] {
        check_everywhere(Scope::Mutating, Fault::ErrorOnce(errno));
    }
}

#[test]
fn errors_from_every_change_on() {
    for errno in [EIO, ENOSPC, EMFILE] {
        check_everywhere(Scope::Mutating, Fault::ErrorFrom(errno));
    }
}

#[test]
fn every_sync_fails_once_and_nothing_is_acknowledged_after_it() {
    for op in [Op::SyncData, Op::SyncAll, Op::SyncDir] {
        check_everywhere(Scope::Only(op), Fault::ErrorOnce(EIO));
        check_everywhere(Scope::Only(op), Fault::ErrorFrom(EIO));
    }
}

#[test]
fn every_short_write_is_completed() {
    for fault in [Fault::ShortWrite, Fault::ShortFrom] {
        check_everywhere(Scope::Only(Op::WriteAt), fault);
    }
}

/// The faults strike while the store is made, too: at most of its calls nothing is there yet, and after the last of them
/// a store that nobody was told of.
#[test]
fn a_store_that_is_being_made_is_refused_or_whole() {
    let (world, _, fault) = faulty(LIMITS, None);
    Store::create(&world.place(), &params()).expect("made");
    let calls = fault.counts().mutating();
    for kind in [Fault::Kill, Fault::ErrorOnce(ENOSPC), Fault::ErrorFrom(EIO)] {
        let (mut refused, mut whole) = (0, 0);
        for at in 1..=calls {
            let (during, after, fault) = faulty(LIMITS, Some(Plan { scope: Scope::Mutating, at, fault: kind }));
            let made = Store::create(&during.place(), &params());
            assert!(fault.hit() && made.is_err(), "{kind:?} at {at}");
            if is_refused(&after) {
                refused += 1;
            } else {
                whole += 1;
            }
        }
        assert!(refused > 10 && whole == 1, "{kind:?}: {refused} refused, {whole} whole");
    }
}

#[test]
fn one_error_at_every_read() {
    let plain = [(Op::ReadAt, EIO), (Op::ReadAt, EMFILE), (Op::OpenRead, EIO), (Op::OpenRead, EMFILE), (Op::Stat, EIO)];
    for (op, errno) in plain {
        check_everywhere(Scope::Only(op), Fault::ErrorOnce(errno));
    }
    for op in [Op::OpenWrite, Op::List, Op::Len] {
        check_everywhere(Scope::Only(op), Fault::ErrorOnce(EMFILE));
    }
}

/// A second kill, at any call of what puts things right after the first, and of the work that follows.
#[test]
fn killed_again_while_recovering() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let mut hits = 0;
    for _ in 0..long(60, 3000) {
        let first = 1 + rng.below(110);
        let (mut during, mut after, fault) =
            faulty(LIMITS, Some(Plan { scope: Scope::Mutating, at: first, fault: Fault::Kill }));
        let plans = plans(&mut during);
        after.model = during.model.clone();
        let mut progress = work(&during, &plans, &fault, false);
        if !progress.created || !fault.hit() {
            continue;
        }
        let second = 1 + rng.below(40);
        let again = FaultVfs::with_plan(
            Arc::clone(&after.vfs),
            Plan { scope: Scope::Mutating, at: second, fault: Fault::Kill },
        );
        let mut recovering = World::over(Arc::new(again.clone()), LIMITS);
        recovering.dir = Arc::clone(&during.dir);
        let present = crate::store::read_head(&*after.vfs).expect("a head").head;
        let reached = plans.iter().position(|planned| Some(planned.head) == present).map_or(0, |at| at + 1);
        progress.acknowledged = reached;
        progress.tried = reached;
        go_on(&recovering, &plans, &again, false, &mut progress);
        hits += usize::from(again.hit());
        eprintln!("killed at {first} and {second}");
        check(&after, &plans, &progress);
    }
    assert!(hits > 10, "only {hits} second kills");
}

/// With all threads that there are, so that the fault may strike any of them.
#[test]
fn faults_in_helpers() {
    let seed = seed();
    let mut rng = Rng::new(seed);
    let limits = Limits { threads: true, ..LIMITS };
    let mut hits = 0;
    for _ in 0..long(60, 3000) {
        let fault = match rng.below(4) {
            0 => Fault::Kill,
            1 => Fault::ErrorFrom(EIO),
            2 => Fault::ErrorOnce(ENOSPC),
            _ => Fault::ErrorOnce(EIO),
        };
        let scope = if rng.coin() { Scope::Mutating } else { Scope::Only(Op::SyncData) };
        let plan = Plan { scope, at: 1 + rng.below(if scope == Scope::Mutating { 110 } else { 30 }), fault };
        hits += usize::from(check_fault(limits, plan).0);
    }
    assert!(hits > 30, "only {hits} faults");
}

/// What a helper failed to sync another sync may have made durable before: then no commit asks for that file again, and
/// nothing may be acknowledged all the same.
#[test]
fn a_helper_that_cannot_sync_ends_all_acknowledgements() {
    let limits = Limits { threads: true, seal_len: 1 << 20, seal_objects: 1000, pending_max: 1000, ..LIMITS };
    let (mut world, _, fault) = faulty(limits, None);
    let planned = plans(&mut world).remove(0);
    Store::create(&world.place(), &params()).expect("made");
    let store = world.writer();
    fault.set_plan(Some(Plan { scope: Scope::Only(Op::SyncData), at: 1, fault: Fault::ErrorOnce(EIO) }));
    let session = store.session().expect("a session");
    // It may end early: nothing more is appended either.
    drop(store_all(&session, &planned));
    let writer = store.inner.writer().expect("a writer");
    writer.join_writeback();
    assert!(fault.hit(), "a helper synced");
    assert!(matches!(writer.check(), Err(PutError::Poisoned(_))), "{:?}", writer.check());
    assert!(matches!(store.inner.commit_as_is(), Err(PutError::Poisoned(_))), "a commit of what is open anyway");
}
