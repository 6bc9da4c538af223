//! Kills, errors and power cuts at every call of a repair, as `fsck --repair` carries it out with all bytes at hand:
//! what is damaged is recorded, stored again, and the packs that it lay in are written anew.
//!
//! Whatever happened, afterwards nothing is bad that was good, no wrong byte is handed out, and the same repair run
//! again leaves nothing of the damage. One that said it was done needs no other.

use std::collections::BTreeMap;

use super::faults::Announce;
use super::*;
use crate::damaged::{self, Damaged};
use crate::pack::{FrameAt, PackName};
use crate::store::packs::frames_of;
use crate::testing::{CrashPoint, Fault, FaultVfs, Op, Plan as FaultPlan, Scope, crash_states};
use crate::vfs::{Open, read_exact_at, read_to_end, write_all_at};

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

const LIMITS: Limits =
    Limits { seal_len: 24 << 10, seal_objects: 14, pending_max: 9, writeback_len: 8 << 10, threads: false };

/// A store with damage in packs of every kind, and what is needed of it.
struct Template {
    world: World,
    vfs: LossVfs,
    /// All that the head leads to.
    needed: Planned,
    /// Of that, what cannot be read.
    bad: BTreeSet<ContentHash>,
    /// Packs in which a bit is wrong, and all the others.
    hurt: BTreeSet<PackName>,
    sound: BTreeSet<PackName>,
}

/// The last byte of a frame that holds something needed, and its pack: one of each kind of pack, sealed or open, with
/// chunks or nodes.
fn places(world: &World, store: &Store, needed: &BTreeSet<ContentHash>) -> Vec<(PackName, PathBuf, u64)> {
    let mut packs = store.inner.survey_now().expect("surveyed").packs;
    // By serial: names are different each time.
    packs.sort_by_key(|pack| read_to_end(&*world.vfs, &pack.path(), 1 << 30).expect("readable")[16..24].to_vec());
    let mut places = BTreeMap::new();
    for pack in packs {
        let mut take = |frame: FrameAt| {
            if frame.slots.iter().any(|slot| needed.contains(&slot.id)) {
                let kind = (pack.sealed, frame.slots[0].kind.is_chunk());
                places.entry(kind).or_insert((pack.name, pack.path(), frame.end() - 1));
            }
            Ok(())
        };
        frames_of(&*world.vfs, &pack, 0, &mut take, &mut |cause| panic!("{cause}")).expect("read");
    }
    places.into_values().collect()
}

fn flip(vfs: &dyn Vfs, path: &Path, at: u64) {
    let file = vfs.open(path, Open::Write).expect("opened");
    let mut byte = [0];
    read_exact_at(&*file, &mut byte, at).expect("read");
    write_all_at(&*file, &[!byte[0]], at).expect("written");
}

impl Template {
    fn new() -> Self {
        let (mut world, vfs) = World::in_memory(LIMITS);
        let mut head = None;
        for n in 0..4 {
            // The first is garbage.
            let planned = world.plan(110, n, head.filter(|_| n > 1), Size { chunks: 12, chunk_len: 8000 });
            run(&world.writer(), &planned).expect("stored");
            head = Some(planned.head);
        }
        let ids = world.closure(head);
        let objects = ids.iter().map(|id| (*id, world.model[id].0, world.model[id].1.clone())).collect();
        let needed = Planned { head: head.expect("committed"), objects };
        let store = world.writer();
        let places = places(&world, &store, &ids);
        assert!(places.len() >= 3, "{places:?}");
        let packs = store.inner.survey_now().expect("surveyed").packs;
        drop(store);
        places.iter().for_each(|(_, path, at)| flip(&vfs, path, *at));
        vfs.sync_all_files().expect("synced");
        let hurt: BTreeSet<_> = places.iter().map(|(name, ..)| *name).collect();
        let sound: BTreeSet<_> = packs.iter().map(|pack| pack.name).filter(|name| !hurt.contains(name)).collect();
        let bad = unreadable(&world, &world.reader(), &ids);
        assert!(bad.len() >= 3 && bad.len() < ids.len() && !sound.is_empty(), "{bad:?}, {hurt:?}, {sound:?}");
        Self { world, vfs, needed, bad, hurt, sound }
    }

    /// The same store over a disk that began as the template's, with an index of its own.
    fn over(&self, vfs: Arc<dyn Vfs>, index: Option<&Path>) -> World {
        let mut world = World::over(vfs, LIMITS);
        world.model.clone_from(&self.world.model);
        if let Some(index) = index.filter(|index| index.is_dir()) {
            copy_dir(index, &world.index_dir());
        }
        world
    }
}

/// What cannot be read. What can be is right, and whatever else there is, is damage.
#[track_caller]
fn unreadable(world: &World, store: &Store, ids: &BTreeSet<ContentHash>) -> BTreeSet<ContentHash> {
    let is_bad = |id: &&ContentHash| match store.get(world.model[*id].0, id) {
        Ok(object) => {
            assert_eq!(&object[..], &world.model[*id].1[..], "object {id}");
            false
        }
        Err(error) if error.is_damage() => true,
        Err(error) => panic!("{error}"),
    };
    ids.iter().filter(is_bad).copied().collect()
}

/// As `repo::fsck::repair` does it.
fn repair(store: &Store, needed: &Planned) -> Result<(), GcError> {
    store.forget_frames();
    let report = store.check_packs(Depth::Objects, &go_on)?;
    let is_needed = |id: &ContentHash| needed.objects.iter().any(|(needed, ..)| needed == id);
    let bad = report.bad.iter().map(|bad| bad.id).filter(is_needed);
    let bad: Vec<ContentHash> = bad.filter(|id| !store.is_good_where_indexed(id)).collect();
    store.record_damage(bad)?;
    let session = store.session()?;
    store_all(&session, needed)?;
    session.was_given_everything();
    session.finish(store.head(), RowBatch::default())?;
    let hurt: BTreeSet<PackName> = report.findings.iter().map(|finding| finding.pack).collect();
    let mut gc = store.gc()?;
    gc.mark(only_head(), &go_on)?;
    let mut plan = gc.plan();
    plan.only(|pack| hurt.contains(&pack));
    gc.apply(&plan, RowBatch::default(), &go_on)?;
    Ok(())
}

/// Runs it, with `stubborn` again and again after errors: with the same store, as a daemon, and with one that was opened
/// anew. Whether it came to its end.
fn work(world: &World, needed: &Planned, stubborn: bool) -> bool {
    let (opens, tries) = if stubborn { (3, 2) } else { (1, 1) };
    let open = || {
        world.try_writer().is_ok_and(|store| {
            let is_done = repair(&store, needed).is_ok();
            // A store takes a pack that it could not remove for gone: what comes of it shows when it is opened anew.
            if !is_done && tries > 1 {
                drop(repair(&store, needed));
            }
            is_done
        })
    };
    (0..opens).any(|_| open())
}

/// What must hold after anything: see the module.
#[track_caller]
fn check(template: &Template, world: &World, is_done: bool, may_rewrite: bool) {
    let head = Some(template.needed.head);
    let ids = world.closure(head);
    let reader = world.reader();
    assert_eq!(reader.head(), head);
    let left = unreadable(world, &reader, &ids);
    assert!(left.is_subset(&template.bad), "bad, and was good: {left:?}");
    if is_done {
        world.verify(&reader, head);
    }
    drop(reader);
    if let Ok(list) = read_to_end(&*world.vfs, Path::new(damaged::PATH), 1 << 20) {
        let list = Damaged::decode(&list).expect("whole");
        assert!(list.objects.is_subset(&template.bad) && list.packs.is_empty(), "{list:?}");
    }
    let store = world.writer();
    repair(&store, &template.needed).expect("the same again");
    world.verify(&store, head);
    assert!(!store.has_damage(), "nothing is damaged");
    drop(store);
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    world.verify(&store, head);
    let names = world.packs();
    let packs = names.iter().map(|name| name.split_once('.').expect("a pack").0.parse().expect("a pack"));
    let packs: BTreeSet<PackName> = packs.collect();
    assert!(packs.is_disjoint(&template.hurt), "what was hurt is still there: {names:?}");
    assert!(may_rewrite || packs.is_superset(&template.sound), "what was sound is gone: {names:?}");
    let stray = |name: &String| name.ends_with(".condemned") || name.starts_with(crate::vfs::TEMP_PREFIX);
    assert!(!names.iter().any(stray), "{names:?}");
}

/// Repairs with one fault, and checks. Returns whether the fault took place.
#[track_caller]
fn check_fault(template: &Template, plan: FaultPlan) -> bool {
    let disk: Arc<dyn Vfs> = Arc::new(template.vfs.fork());
    let fault = FaultVfs::with_plan(Arc::clone(&disk), plan);
    let during = template.over(Arc::new(fault.clone()), Some(&template.world.index_dir()));
    let is_done = work(&during, &template.needed, plan.at.is_multiple_of(2));
    let hit = fault.hit();
    let announce = Announce(plan);
    assert!(hit || is_done, "without a fault");
    let mut after = template.over(disk, None);
    after.dir = Arc::clone(&during.dir);
    // A medium that does not give what it has counts as damage, and the pack is written anew from the rest.
    let may_rewrite = plan.scope == Scope::Only(Op::ReadAt);
    check(template, &after, is_done, may_rewrite);
    drop(announce);
    hit
}

#[track_caller]
fn check_everywhere(template: &Template, scope: Scope, fault: Fault) {
    let hits = (1..).take_while(|at| check_fault(template, FaultPlan { scope, at: *at, fault })).count();
    assert!(hits > 0, "no fault was injected");
    eprintln!("{scope:?} {fault:?}: {hits} runs");
}

/// What the faults are to strike is there.
#[test]
fn the_work_does_everything() {
    let template = Template::new();
    let vfs = FaultVfs::new(Arc::new(template.vfs.fork()));
    let world = template.over(Arc::new(vfs.clone()), Some(&template.world.index_dir()));
    assert!(work(&world, &template.needed, false));
    let counts = vfs.counts();
    // Each pack that goes is renamed and unlinked; the list of what is damaged is written, and written again.
    let gone = template.hurt.len() as u64;
    assert!(gone >= 3 && counts.of(Op::Unlink) >= gone && counts.of(Op::Rename) >= gone + 4, "{counts:?}");
    check(&template, &world, true, false);
}

#[test]
fn killed_at_every_change() {
    check_everywhere(&Template::new(), Scope::Mutating, Fault::Kill);
}

#[test]
fn one_error_at_every_change() {
    let template = Template::new();
    for errno in [EIO, ENOSPC, EMFILE] {
        check_everywhere(&template, Scope::Mutating, Fault::ErrorOnce(errno));
    }
}

#[test]
fn errors_from_every_change_on() {
    let template = Template::new();
    for errno in [EIO, ENOSPC, EMFILE] {
        check_everywhere(&template, Scope::Mutating, Fault::ErrorFrom(errno));
    }
}

#[test]
fn every_short_write_is_completed() {
    let template = Template::new();
    for fault in [Fault::ShortWrite, Fault::ShortFrom] {
        check_everywhere(&template, Scope::Only(Op::WriteAt), fault);
    }
}

/// A system that does not read or open says nothing against the bytes.
#[test]
fn one_error_at_every_read() {
    let template = Template::new();
    for (op, errno) in [(Op::ReadAt, EIO), (Op::OpenRead, EMFILE), (Op::OpenWrite, EMFILE), (Op::List, EMFILE)] {
        check_everywhere(&template, Scope::Only(op), Fault::ErrorOnce(errno));
    }
}

/// The power fails; `index/`, which does not go through the model, is then missing, the present one, or that of before.
#[test]
fn power_cuts_at_every_call() {
    let seed = seed();
    let template = Template::new();
    let run = |vfs: Arc<LossVfs>| {
        let world = template.over(vfs, Some(&template.world.index_dir()));
        let is_done = work(&world, &template.needed, false);
        (Arc::clone(&world.dir), is_done)
    };
    let (mut opened, mut told) = (0, 0);
    let seeds = seed..seed + long(1, 40);
    let states = crash_states(&template.vfs, seeds, run, |_: &CrashPoint, (dir, is_done), vfs| {
        let before = template.world.index_dir();
        for index in [None, Some(before), Some(dir.sub("index"))] {
            let world = template.over(Arc::new(vfs.fork()), index.as_deref());
            check(&template, &world, *is_done, false);
            opened += 1;
        }
        told += u32::from(*is_done);
    });
    eprintln!("{states} states, opened {opened} times, {told} of them after it was told to be done");
    assert!(opened > 200 && told > 0, "only {opened}, {told}");
}
