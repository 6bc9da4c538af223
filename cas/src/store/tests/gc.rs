//! Collection: what goes, what stays, and what makes it stop.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::error::GetError;
use crate::gc::Fate;
use crate::index::{IndexUpdate, PackNumber};
use crate::pin::{self, Pin};
use crate::vfs::{FileKind, Open, Rename, read_to_end, write_all_at};

const LIMITS: Limits =
    Limits { seal_len: 24 << 10, seal_objects: 40, pending_max: 1 << 10, writeback_len: 8 << 10, threads: false };
const BIG: Size = Size { chunks: 20, chunk_len: 6000 };

/// Sessions of which only the last is kept.
fn garbage(world: &mut World, seed: u64, sessions: u64) -> ContentHash {
    let mut head = None;
    for n in 0..sessions {
        let planned = world.plan(seed, n, None, BIG);
        run(&world.writer(), &planned).expect("stored");
        head = Some(planned.head);
    }
    head.expect("at least one session")
}

fn packs(vfs: &dyn Vfs) -> Vec<PathBuf> {
    let listed = vfs.list(Path::new("packs")).expect("a listing");
    let files = listed.into_iter().filter(|(_, kind)| *kind == FileKind::File);
    let mut paths: Vec<PathBuf> = files.map(|(name, _)| Path::new("packs").join(name)).collect();
    paths.sort();
    paths
}

fn flip(vfs: &dyn Vfs, path: &Path, at: u64) {
    let mut byte = [0];
    let file = vfs.open(path, Open::Write).expect("opened");
    assert_eq!(file.read_at(&mut byte, at).expect("read"), 1);
    file.write_at(&[byte[0] ^ 0x40], at).expect("written");
}

/// Where an object lies: the pack's file and a byte of its frame's payload.
fn place_of(world: &World, store: &Store, id: &ContentHash) -> (PathBuf, u64) {
    let location = store.locate(id).expect("looked up").expect("known");
    let name = store.inner.table.name(location.pack).expect("a pack");
    let path = [name.open_path(), name.sealed_path()].into_iter().find(|path| world.vfs.stat(path).is_ok());
    let path = path.expect("a file");
    let file = world.vfs.open(&path, Open::Read).expect("opened");
    let class = crate::pack::Class::of(location.kind);
    let (header, _) =
        crate::pack::read_frame_table(&*file, location.offset.into(), file.len().expect("a length"), class)
            .expect("a frame");
    (path, u64::from(location.offset) + (crate::frame::HEADER_LEN + header.table_len()) as u64 + 1)
}

/// As small as a store that never had anything else.
#[track_caller]
fn check_small(world: &World, head: ContentHash) {
    let (mut fresh, _) = World::in_memory(world.limits);
    let closure = world.closure(Some(head));
    let objects = closure.iter().map(|id| (*id, world.model[id].0, world.model[id].1.clone())).collect();
    let planned = Planned { head, objects };
    fresh.note(&planned);
    run(&fresh.writer(), &planned).expect("stored");
    let (len, least) = (world.packs_len(), fresh.packs_len());
    assert!(len <= least * 3 / 2 + 2000, "{len} bytes where {least} would do: {:?}", world.packs());
}

#[test]
fn space_comes_back() {
    for limits in [LIMITS, calm(), Limits { threads: true, ..LIMITS }] {
        let (mut world, _) = World::in_memory(limits);
        let head = garbage(&mut world, 60, 8);
        let before = world.packs_len();
        let store = world.writer();
        let plan = plan_of(&store);
        let report = collect(&store).expect("collected");
        assert!(report.bad.is_empty() && report.waiting_bytes == 0, "{report:?}");
        // But for headers and footers of the new packs.
        let freed = report.unlinked_bytes - report.copied_bytes;
        assert!((freed - 4000..=freed).contains(&(before - world.packs_len())), "{report:?}");
        assert_eq!(plan.count(Fate::Rewrite), report.packs_rewritten);
        assert_eq!(plan.count(Fate::Remove), report.packs_removed);
        check_small(&world, head);
        world.verify(&store, Some(head));
        assert_eq!(collect(&store).expect("nothing to do"), GcReport::default());
        drop(store);
        for index_lost in [false, true] {
            if index_lost {
                std::fs::remove_dir_all(world.index_dir()).expect("removed");
            }
            world.verify(&world.reader(), Some(head));
            let store = world.writer();
            assert_eq!(store.take_warnings().len(), usize::from(index_lost));
            world.verify(&store, Some(head));
            assert_eq!(collect(&store).expect("nothing to do"), GcReport::default());
        }
    }
}

#[test]
fn an_empty_store_has_nothing_to_collect() {
    let (world, _) = World::in_memory(calm());
    assert_eq!(collect(&world.writer()).expect("nothing to do"), GcReport::default());
    assert_eq!(plan_of(&world.reader()), Plan::default());
}

/// A reader can tell what would be done, and does nothing.
#[test]
fn a_plan_changes_nothing() {
    let (mut world, _) = World::in_memory(LIMITS);
    garbage(&mut world, 61, 4);
    let before = packs(&*world.vfs);
    let reader = world.reader();
    let plan = plan_of(&reader);
    assert!(plan.freed_bytes() > 0 && plan.count(Fate::Remove) > 0, "{plan:?}");
    let mut gc = reader.gc().expect("begun");
    gc.mark(only_head(), &go_on).expect("marked");
    assert!(matches!(gc.apply(&plan, RowBatch::default(), &go_on), Err(GcError::Put(PutError::ReadOnly))));
    assert_eq!(plan_of(&world.writer()), plan);
    assert_eq!(packs(&*world.vfs), before);
    // What has not been marked has no plan.
    assert_eq!(world.writer().gc().expect("begun").plan(), Plan::default());
}

#[test]
fn what_was_collected_is_stored_again_when_it_comes_again() {
    let (mut world, _) = World::in_memory(LIMITS);
    let first = world.plan(62, 0, None, BIG);
    let second = world.plan(62, 1, None, BIG);
    let store = world.writer();
    run(&store, &first).expect("stored");
    run(&store, &second).expect("stored");
    collect(&store).expect("collected");
    let stats = run(&store, &first).expect("stored");
    assert!(stats.new_chunks > 5, "{stats:?}");
    world.verify(&store, Some(first.head));
    drop(store);
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    world.verify(&store, Some(first.head));
    collect(&store).expect("collected");
    world.verify(&store, Some(first.head));
    check_small(&world, first.head);
}

/// Many small sessions leave many small frames.
#[test]
fn small_frames_are_merged() {
    let (mut world, _) = World::in_memory(calm());
    let mut head = None;
    for n in 0..60 {
        let planned = world.plan(63, n, head, Size { chunks: 1, chunk_len: 50 });
        run(&world.writer(), &planned).expect("stored");
        head = Some(planned.head);
    }
    let before = world.packs_len();
    let report = collect(&world.writer()).expect("collected");
    assert_eq!((report.packs_rewritten, report.packs_removed), (2, 0));
    assert!(world.packs_len() < before * 3 / 4, "{} of {before}", world.packs_len());
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    world.verify(&store, head);
    assert_eq!(collect(&store).expect("nothing to do"), GcReport::default());
}

/// Pins are roots; one that cannot be read might name anything.
#[test]
fn pinned_is_kept() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let pinned = world.plan(64, 0, None, BIG);
    run(&world.writer(), &pinned).expect("stored");
    let id = ContentHash::of_chunk(b"a pin");
    world.writer().pin(&Pin { id, roots: vec![(ROOT, pinned.head)], note: String::new() }).expect("pinned");
    let head = garbage(&mut world, 65, 3);
    let store = world.writer();
    collect(&store).expect("collected");
    world.verify(&store, Some(head));
    world.verify(&store, Some(pinned.head));

    let path = Path::new("pins").join(id.to_hex());
    let bytes = read_to_end(&vfs, &path, 1 << 20).expect("read");
    flip(&vfs, &path, 30);
    let (before, next) = (packs(&vfs), world.plan(64, 9, None, BIG));
    assert!(matches!(collect(&store), Err(GcError::Open(OpenError::Damaged { .. }))));
    assert_eq!(packs(&vfs), before);
    vfs.unlink(&path).expect("removed");
    let file = vfs.open(&path, Open::Create { mode: 0o644 }).expect("made");
    write_all_at(&*file, &bytes, 0).expect("written");
    assert_eq!(pin::all(&vfs).expect("readable").len(), 1);
    run(&store, &next).expect("stored");
    store.unpin(&id).expect("unpinned");
    collect(&store).expect("collected");
    check_small(&world, next.head);
}

/// Of what is shallow only its own kind is kept: roots, and not what they hold.
#[test]
fn shallow_roots_keep_their_history_and_nothing_else() {
    let (mut world, _) = World::in_memory(LIMITS);
    let mut head = None;
    let mut heads = Vec::new();
    for n in 0..4 {
        let planned = world.plan(66, n, head, BIG);
        run(&world.writer(), &planned).expect("stored");
        head = Some(planned.head);
        heads.push(planned.head);
    }
    let store = world.writer();
    let roots = || Roots { shallow: heads[..2].iter().copied().collect(), ..only_head() };
    let mut gc = store.gc().expect("begun");
    gc.mark(roots(), &go_on).expect("marked");
    let plan = gc.plan();
    let chunk_of = |n: u64| ContentHash::of_chunk(format!("the chunk of session {n} of 66").as_bytes());
    for n in 0..4 {
        assert_eq!(gc.is_live(&chunk_of(n)).expect("looked up"), n >= 2, "session {n}");
        assert!(gc.is_live(&heads[usize::try_from(n).expect("few")]).expect("looked up"), "root {n}");
    }
    gc.apply(&plan, RowBatch::default(), &go_on).expect("collected");
    for head in &heads {
        store.get(ROOT, head).expect("roots stay");
    }
    for n in 2..4 {
        store.get(Kind::CHUNK, &chunk_of(n)).expect("what they hold stays");
    }
    // Marked as before, nothing is missing.
    let mut gc = store.gc().expect("begun");
    gc.mark(roots(), &go_on).expect("marked");
}

// ---- beside sessions

/// A session that claims after marking: what it claims was garbage, and stays.
#[test]
fn claims_made_after_marking_count() {
    for claim_after_copy in [false, true] {
        let (mut world, _) = World::in_memory(LIMITS);
        let old = world.plan(67, 0, None, BIG);
        run(&world.writer(), &old).expect("stored");
        garbage(&mut world, 68, 2);
        let store = world.writer();
        let mut gc = store.gc().expect("begun");
        gc.mark(only_head(), &go_on).expect("marked");
        let plan = gc.plan();
        let session = store.session().expect("a session");
        let claim = || {
            for (id, ..) in &old.objects {
                assert_eq!(session.claim(id).expect("claimed"), Claim::Present);
            }
        };
        if !claim_after_copy {
            claim();
        }
        // In the middle of copying, when some packs have been passed already.
        let once = AtomicBool::new(claim_after_copy);
        let step = |_, bytes| {
            if bytes > 0 && once.swap(false, Ordering::Relaxed) {
                claim();
            }
            ControlFlow::Continue(())
        };
        gc.apply(&plan, RowBatch::default(), &step).expect("collected");
        assert!(!once.load(Ordering::Relaxed), "nothing was copied");
        session.finish(Some(old.head), RowBatch::default()).expect("finished");
        world.verify(&store, Some(old.head));
        drop(store);
        world.verify(&world.writer(), Some(old.head));
        std::fs::remove_dir_all(world.index_dir()).expect("removed");
        world.verify(&world.writer(), Some(old.head));
    }
}

/// One that has claimed before a collection begins is waited for; one that begins meanwhile is not, and its claims count.
#[test]
fn claims_made_before_marking_count() {
    let mut world = World::on_disk(LIMITS);
    let old = world.plan(69, 0, None, BIG);
    let other = world.plan(69, 1, None, BIG);
    run(&world.writer(), &old).expect("stored");
    run(&world.writer(), &other).expect("stored");
    garbage(&mut world, 70, 2);
    let unwanted = world.plan_only(70, 0, None).objects.iter().find(|(_, kind, _)| *kind == ROOT).expect("a root").0;
    let store = world.writer();
    let elder = store.session().expect("a session");
    let claim = |session: &Session<'_>, planned: &Planned| {
        for (id, ..) in &planned.objects {
            assert_eq!(session.claim(id).expect("claimed"), Claim::Present);
        }
    };
    claim(&elder, &old);
    std::thread::scope(|scope| {
        let collection = scope.spawn(|| collect(&store));
        while store.inner.collection.read().expect("never poisoned").is_none() {
            std::thread::yield_now();
        }
        let younger = store.session().expect("a session");
        claim(&younger, &other);
        elder.finish(Some(old.head), RowBatch::default()).expect("finished");
        collection.join().expect("no panic").expect("collected");
        younger.finish(Some(other.head), RowBatch::default()).expect("finished");
    });
    for head in [old.head, other.head] {
        world.verify(&store, Some(head));
    }
    assert!(!world.ids(&store).contains(&unwanted));
    drop(store);
    for head in [old.head, other.head] {
        world.verify(&world.writer(), Some(head));
    }
}

/// What a session does not claim it takes from the head that it began on: that stays until it ends.
#[test]
fn the_head_that_a_session_began_on_stays() {
    let (mut world, _) = World::in_memory(LIMITS);
    let base = world.plan(71, 0, None, BIG);
    let other = world.plan(71, 1, None, BIG);
    let store = world.writer();
    run(&store, &base).expect("stored");
    let gc = store.gc().expect("begun");
    let session = store.session().expect("a session");
    // Somebody else moves the head away.
    run(&store, &other).expect("stored");
    let mut gc = gc;
    gc.mark(only_head(), &go_on).expect("marked");
    let plan = gc.plan();
    gc.apply(&plan, RowBatch::default(), &go_on).expect("collected");
    let next = node(ROOT, &[(ROOT, base.head)], b"on top");
    let mut writer = session.writer();
    let id = writer.store(next.1, &next.2).expect("stored");
    writer.flush().expect("flushed");
    drop(writer);
    session.finish(Some(id), RowBatch::default()).expect("finished");
    world.model.insert(next.0, (next.1, next.2));
    world.verify(&store, Some(id));
}

/// Threads that commit all the time, and one that collects all the time, in one process.
#[test]
fn collections_beside_sessions() {
    let limits = Limits { threads: true, seal_len: 32 << 10, seal_objects: 1 << 10, ..small() };
    let mut world = World::on_disk(limits);
    let rounds = long(25, 1000);
    // Each thread's own, over and over: what was garbage comes again.
    let plans: Vec<Vec<Planned>> = (0..2)
        .map(|thread| (0..4).map(|n| world.plan(72 + thread, n, None, Size { chunks: 30, chunk_len: 3000 })).collect())
        .collect();
    let store = world.writer();
    let collected = AtomicU64::new(0);
    let (world, store, done) = (&world, &store, &AtomicU64::new(0));
    std::thread::scope(|scope| {
        for plans in &plans {
            scope.spawn(move || {
                for round in 0..rounds {
                    let planned = &plans[usize::try_from(round % 4).expect("small")];
                    run(store, planned).expect("stored");
                    // As long as this session's root is pinned nobody may take anything of it away.
                    if round % 5 == 4 {
                        let id = planned.head;
                        store.pin(&Pin { id, roots: vec![(ROOT, id)], note: String::new() }).expect("pinned");
                    }
                }
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        scope.spawn(|| {
            while done.load(Ordering::Relaxed) < 2 {
                let report = collect(store).expect("collected");
                assert!(report.bad.is_empty());
                collected.fetch_add(report.unlinked_bytes, Ordering::Relaxed);
                world.verify_present(store, store.head());
            }
        });
    });
    assert!(collected.into_inner() > 0, "nothing was ever removed");
    collect(store).expect("collected");
    world.verify(store, store.head());
    for pin in pin::all(&*world.vfs).expect("readable") {
        world.verify(store, Some(pin.id));
    }
}

// ---- what makes it stop

/// Every tree that cannot be read stops it, and then nothing is removed.
#[test]
fn damage_on_the_way_removes_nothing() {
    let (mut base, vfs) = World::in_memory(LIMITS);
    garbage(&mut base, 73, 2);
    let planned = base.plan(73, 9, None, BIG);
    run(&base.writer(), &planned).expect("stored");
    let nodes = planned.objects.iter().filter(|(_, kind, _)| !kind.is_chunk());
    for (id, kind, _) in nodes {
        let mut world = World::over(Arc::new(vfs.fork()), LIMITS);
        world.model.clone_from(&base.model);
        copy_dir(&base.index_dir(), &world.index_dir());
        let (path, at) = place_of(&world, &world.writer(), id);
        flip(&*world.vfs, &path, at);
        let before = packs(&*world.vfs);
        let store = world.writer();
        match collect(&store) {
            Err(GcError::Get(error)) => assert!(error.is_damage(), "{error}"),
            other => panic!("{kind:?} {id}: {other:?}"),
        }
        assert_eq!(packs(&*world.vfs), before);
        // Whoever has the bytes puts it right, as far as it is known; its neighbours are met after it.
        let again = (0..9).any(|_| {
            run(&store, &planned).expect("stored again");
            collect(&store).is_ok()
        });
        assert!(again, "damage that is stored again does not stay");
        check_small(&world, planned.head);
        world.verify(&store, Some(planned.head));
    }
}

/// What is missing altogether, too: the index may have lost more.
#[test]
fn what_is_missing_stops_it() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut world, 74, 3);
    let lost = world.plan_only(75, 0, Some(head));
    let mut objects = lost.objects.clone();
    objects.retain(|(id, ..)| *id != ContentHash::of_chunk(b"the chunk of session 0 of 75"));
    let store = world.writer();
    run(&store, &Planned { head: lost.head, objects }).expect("stored");
    let before = packs(&vfs);
    assert!(matches!(collect(&store), Err(GcError::Get(GetError::Missing(_)))));
    assert_eq!(packs(&vfs), before);
}

/// Of a partial copy it is said what may be missing: that, and nothing else, is passed over.
#[test]
fn what_may_be_missing_does_not_stop_it() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut world, 74, 3);
    let lost = world.plan_only(75, 0, Some(head));
    let mut objects = lost.objects.clone();
    let missing = ContentHash::of_chunk(b"the chunk of session 0 of 75");
    objects.retain(|(id, ..)| *id != missing);
    let store = world.writer();
    run(&store, &Planned { head: lost.head, objects }).expect("stored");
    let before = packs(&vfs);
    let mark = |absent: &[ContentHash]| {
        let mut gc = store.gc().expect("begun");
        let marked = gc.mark(Roots { absent: absent.iter().copied().collect(), ..only_head() }, &go_on);
        marked.map(|()| gc.is_live(&lost.head).expect("looked up"))
    };
    assert!(matches!(mark(&[ContentHash::of_chunk(b"another")]), Err(GcError::Get(GetError::Missing(_)))));
    assert!(mark(&[missing]).expect("marked"));
    // What is there is followed, whatever is said.
    assert!(matches!(mark(&[lost.head]), Err(GcError::Get(GetError::Missing(_)))));
    assert_eq!(packs(&vfs), before);
}

/// What is recorded as lost may be missing or bad, whatever it is; where it is good it is followed.
#[test]
fn what_is_lost_does_not_stop_it() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut world, 74, 3);
    let lost = world.plan_only(75, 0, Some(head));
    let mut objects = lost.objects.clone();
    let missing = ContentHash::of_chunk(b"the chunk of session 0 of 75");
    objects.retain(|(id, ..)| *id != missing);
    let store = world.writer();
    run(&store, &Planned { head: lost.head, objects }).expect("stored");
    let mark = |lost: &[ContentHash], live: &ContentHash| {
        let mut gc = store.gc().expect("begun");
        let marked = gc.mark(Roots { lost: lost.iter().copied().collect(), ..only_head() }, &go_on);
        marked.map(|()| gc.is_live(live).expect("looked up"))
    };
    assert!(matches!(mark(&[], &lost.head), Err(GcError::Get(GetError::Missing(_)))));
    assert!(matches!(mark(&[lost.head], &lost.head), Err(GcError::Get(GetError::Missing(_)))));
    assert!(mark(&[missing], &lost.head).expect("marked"));
    // What leads on, and is bad: with it goes what only it leads to.
    let (path, at) = place_of(&world, &store, &head);
    flip(&vfs, &path, at);
    store.forget_frames();
    assert!(matches!(mark(&[missing], &lost.head), Err(GcError::Get(GetError::Corrupt { .. }))));
    assert!(mark(&[missing, head], &head).expect("marked"), "what is left of it stays");
}

/// A chunk leads nowhere: its pack stays, and all else goes.
#[test]
fn a_bad_chunk_keeps_its_pack() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    garbage(&mut world, 76, 3);
    let planned = world.plan(76, 9, None, BIG);
    run(&world.writer(), &planned).expect("stored");
    let store = world.writer();
    let plan = plan_of(&store);
    let is_rewritten = |id: &ContentHash| {
        let location = store.locate(id).expect("looked up").expect("known");
        let name = store.inner.table.name(location.pack);
        plan.packs.iter().any(|pack| Some(pack.facts.name) == name && pack.fate == Fate::Rewrite)
    };
    let chunk = planned.objects.iter().find(|(id, kind, _)| kind.is_chunk() && is_rewritten(id)).expect("a chunk");
    let (path, at) = place_of(&world, &store, &chunk.0);
    flip(&vfs, &path, at);
    let before = world.packs_len();
    let report = collect(&store).expect("collected");
    assert!(report.bad.contains(&chunk.0), "{report:?}");
    assert!(vfs.stat(&path).is_ok(), "the bad one's pack stays");
    assert!(world.packs_len() < before, "all else goes");
    for id in world.closure(Some(planned.head)).iter().filter(|id| !report.bad.contains(id)) {
        store.get(world.model[id].0, id).expect("readable");
    }
    assert!(store.has_damage());
    drop(store);
    let store = world.writer();
    assert!(collect(&store).expect("collected").bad.contains(&chunk.0), "still");
    run(&store, &planned).expect("stored again");
    assert!(!store.has_damage());
    assert_eq!(collect(&store).expect("collected").bad, []);
    check_small(&world, planned.head);
    world.verify(&store, Some(planned.head));
}

/// Damaged, and needed by nobody: it goes, however little it is. Whoever comes to need it is not to find it there.
#[test]
fn damaged_garbage_is_not_found_by_who_needs_it_later() {
    let (mut world, vfs) = World::in_memory(calm());
    let planned = world.plan(79, 0, None, BIG);
    let store = world.writer();
    run(&store, &planned).expect("stored");
    let garbage = object(Kind::CHUNK, b"what nothing refers to".to_vec());
    let later = Planned { head: planned.head, objects: vec![garbage.clone()] };
    run(&store, &later).expect("stored");
    let (path, at) = place_of(&world, &store, &garbage.0);
    flip(&vfs, &path, at);
    store.forget_frames();
    store.get(Kind::CHUNK, &garbage.0).expect_err("it is damaged");
    assert!(store.has_damage());
    let report = collect(&store).expect("collected");
    assert_eq!((report.packs_rewritten, report.bad), (1, vec![]));
    assert!(!store.has_damage() && store.locate(&garbage.0).expect("looked up").is_none());
    assert_eq!(run(&store, &later).expect("stored").new_chunks, 1);
    store.get(Kind::CHUNK, &garbage.0).expect("it is good");
    world.verify_present(&store, Some(planned.head));
}

/// As above, where its pack cannot go, since something else that is damaged there is needed.
#[test]
fn damaged_garbage_stays_on_the_list_as_long_as_it_is_there() {
    let (mut world, vfs) = World::in_memory(calm());
    let planned = world.plan(79, 1, None, BIG);
    let store = world.writer();
    run(&store, &planned).expect("stored");
    let garbage = object(Kind::CHUNK, b"what nothing refers to".to_vec());
    let later = Planned { head: planned.head, objects: vec![garbage.clone()] };
    run(&store, &later).expect("stored");
    let needed = planned.objects.iter().find(|(_, kind, _)| kind.is_chunk()).expect("a chunk").0;
    for id in [&needed, &garbage.0] {
        let (path, at) = place_of(&world, &store, id);
        flip(&vfs, &path, at);
    }
    store.forget_frames();
    store.get(Kind::CHUNK, &garbage.0).expect_err("it is damaged");
    let report = collect(&store).expect("collected");
    assert!(report.bad.contains(&needed) && report.packs_rewritten == 0, "{report:?}");
    assert_eq!(run(&store, &later).expect("stored").new_chunks, 1);
    store.get(Kind::CHUNK, &garbage.0).expect("it is good");
}

/// A copy that the index does not lead to is the last good one.
#[test]
fn the_last_good_copy_is_never_removed() {
    let (mut world, vfs) = World::in_memory(calm());
    let planned = world.plan(77, 0, None, BIG);
    run(&world.writer(), &planned).expect("stored");
    let first = packs(&vfs);
    // All of it once more, in younger packs.
    let head = {
        let store = world.writer();
        store.record_damage(planned.objects.iter().map(|(id, ..)| *id)).expect("recorded");
        let packs: Vec<_> = store.inner.survey_now().expect("surveyed").packs;
        for pack in &packs {
            assert!(store.inner.detach(pack).expect("detached"));
        }
        run(&store, &planned).expect("stored again");
        planned.head
    };
    let younger: Vec<PathBuf> = packs(&vfs).into_iter().filter(|path| !first.contains(path)).collect();
    assert_eq!(younger.len(), 2);
    let chunks: Vec<ContentHash> =
        planned.objects.iter().filter(|(_, kind, _)| kind.is_chunk()).map(|(id, ..)| *id).collect();
    let (path, at) = place_of(&world, &world.writer(), &chunks[3]);
    assert!(younger.contains(&path));
    flip(&vfs, &path, at);
    let store = world.writer();
    let report = collect(&store).expect("collected");
    assert_eq!(report.bad, []);
    world.verify_present(&store, Some(head));
    assert!(first.iter().all(|path| vfs.stat(path).is_err()), "the older packs went");
    drop(store);
    let store = world.writer();
    world.verify_present(&store, Some(head));
    assert_eq!(store.take_warnings(), [""; 0]);
    collect(&store).expect("collected");
    world.verify_present(&store, Some(head));
}

/// An index that leads to a wrong place is not taken at its word: what really lies elsewhere is not removed.
#[test]
fn a_wrong_index_removes_nothing_live() {
    let (mut base, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut base, 78, 4);
    let closure: Vec<ContentHash> = base.closure(Some(head)).into_iter().collect();
    // In the same order each time, as the seed is.
    let mut all: Vec<ContentHash> = base.model.keys().copied().collect();
    all.sort_unstable();
    let mut rng = Rng::new(seed());
    for _ in 0..long(60, 2000) {
        let mut world = World::over(Arc::new(vfs.fork()), LIMITS);
        world.model.clone_from(&base.model);
        copy_dir(&base.index_dir(), &world.index_dir());
        let store = world.writer();
        for _ in 0..=rng.below(3) {
            let id = closure[rng.index(closure.len())];
            let right = store.locate(&id).expect("looked up").expect("known");
            let other = store.locate(&all[rng.index(all.len())]).expect("looked up");
            let wrong = match (rng.below(4), other) {
                (0, Some(other)) => crate::index::Location { kind: right.kind, ..other },
                (1, _) => crate::index::Location { pack: PackNumber(77), ..right },
                (2, _) => crate::index::Location { offset: right.offset + 1, ..right },
                _ => crate::index::Location { slot: right.slot.wrapping_add(1), ..right },
            };
            let update = IndexUpdate { objects: vec![(id, wrong)], ..IndexUpdate::default() };
            store.inner.with_index(|index| index.apply(update)).expect("applied");
        }
        // It may well stop; it may not take anything away.
        drop(collect(&store));
        world.verify_present(&store, Some(head));
        drop(store);
        let store = world.writer();
        world.verify_present(&store, Some(head));
        drop(store);
        std::fs::remove_dir_all(world.index_dir()).expect("removed");
        let store = world.writer();
        world.verify(&store, Some(head));
        collect(&store).expect("collected");
        world.verify(&store, Some(head));
        check_small(&world, head);
    }
}

/// As above, for every object of which more depends on it: it is said to lie where each other one of its kind does, which
/// may have been followed before.
#[test]
fn an_object_that_is_said_to_lie_where_another_does_is_followed_all_the_same() {
    let (mut base, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut base, 78, 3);
    let mut nodes: Vec<ContentHash> = base.closure(Some(head)).into_iter().collect();
    nodes.retain(|id| !base.model[id].0.is_chunk());
    assert!(nodes.len() > 4, "{} nodes", nodes.len());
    for (id, other) in nodes.iter().flat_map(|id| nodes.iter().map(move |other| (id, other))) {
        let mut world = World::over(Arc::new(vfs.fork()), LIMITS);
        world.model.clone_from(&base.model);
        copy_dir(&base.index_dir(), &world.index_dir());
        let store = world.writer();
        let locate = |id| store.locate(id).expect("looked up").expect("known");
        let wrong = crate::index::Location { kind: locate(id).kind, ..locate(other) };
        let update = IndexUpdate { objects: vec![(*id, wrong)], ..IndexUpdate::default() };
        store.inner.with_index(|index| index.apply(update)).expect("applied");
        drop(collect(&store));
        world.verify_present(&store, Some(head));
    }
}

/// Rows of a dropped pack must not come to mean another.
#[test]
fn numbers_of_packs_are_not_used_again() {
    let (mut world, _) = World::in_memory(calm());
    garbage(&mut world, 79, 1);
    let used = world.writer().inner.table.next_number();
    let store = world.writer();
    let empty = node(ROOT, &[], b"nothing");
    let session = store.session().expect("a session");
    let mut writer = session.writer();
    writer.store(empty.1, &empty.2).expect("stored");
    writer.flush().expect("flushed");
    drop(writer);
    session.finish(Some(empty.0), RowBatch::default()).expect("finished");
    collect(&store).expect("collected");
    drop(store);
    let planned = world.plan(79, 5, None, SMALL);
    let store = world.writer();
    run(&store, &planned).expect("stored");
    let number = store.locate(&planned.objects[0].0).expect("looked up").expect("known").pack;
    assert!(number >= used, "{number:?} was given before {used:?}");
    // A row that leads to a pack that is not there is no promise.
    let lost = ContentHash::of_chunk(b"lost");
    let location = store.locate(&planned.objects[0].0).expect("looked up").expect("known");
    let location = crate::index::Location { pack: PackNumber(0), ..location };
    let update = IndexUpdate { objects: vec![(lost, location)], ..IndexUpdate::default() };
    store.inner.with_index(|index| index.apply(update)).expect("applied");
    let session = store.session().expect("a session");
    assert_eq!(session.claim(&lost).expect("claimed"), Claim::New);
}

/// Stopped by the caller, it leaves a whole store, and the next one goes on.
#[test]
fn it_can_be_stopped_at_any_step() {
    let (mut base, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut base, 80, 5);
    for stop_at in 0.. {
        let mut world = World::over(Arc::new(vfs.fork()), LIMITS);
        world.model.clone_from(&base.model);
        copy_dir(&base.index_dir(), &world.index_dir());
        let store = world.writer();
        let steps = AtomicU64::new(0);
        let step = |_, _| match steps.fetch_add(1, Ordering::Relaxed) {
            n if n >= stop_at => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let mut gc = store.gc().expect("begun");
        let applied = gc.mark(only_head(), &step).and_then(|()| {
            let plan = gc.plan();
            gc.apply(&plan, RowBatch::default(), &step)
        });
        world.verify(&store, Some(head));
        drop(store);
        let store = world.writer();
        assert_eq!(store.take_warnings(), [""; 0]);
        world.verify(&store, Some(head));
        match applied {
            Ok(_) => {
                assert!(stop_at > 3, "hardly any steps");
                break;
            }
            Err(GcError::Stopped) => {}
            Err(error) => panic!("{error}"),
        }
        collect(&store).expect("collected");
        check_small(&world, head);
    }
}

// ---- packs that were not well

/// A pack that is damaged, or gone, and that nothing needs: its mark goes too.
#[test]
fn damaged_packs_that_nothing_needs_go() {
    let (mut base, vfs) = World::in_memory(calm());
    garbage(&mut base, 81, 1);
    for way in 0..4 {
        let mut world = World::over(Arc::new(vfs.fork()), calm());
        world.model.clone_from(&base.model);
        copy_dir(&base.index_dir(), &world.index_dir());
        let broken = packs(&*world.vfs);
        for path in &broken {
            let len = world.vfs.stat(path).expect("there").size;
            let file = world.vfs.open(path, Open::Write).expect("opened");
            match way {
                0 => file.set_len(len / 2).expect("cut"),
                1 => file.set_len(40).expect("cut"),
                2 => world.vfs.unlink(path).expect("removed"),
                _ => flip(&*world.vfs, path, 95),
            }
        }
        // Nothing in common with what was there.
        let planned = world.plan(81, 7, None, Size { chunks: 0, chunk_len: 1 });
        let store = world.writer();
        run(&store, &planned).expect("stored");
        collect(&store).expect("collected");
        assert!(broken.iter().all(|path| world.vfs.stat(path).is_err()), "way {way}: {:?}", world.packs());
        world.verify(&store, Some(planned.head));
        drop(store);
        let store = world.writer();
        assert_eq!(store.take_warnings(), [""; 0], "way {way}");
        assert!(!store.has_damage(), "way {way}");
        world.verify(&store, Some(planned.head));
    }
}

/// A pack that comes back after it was removed, say from a power cut that undid its renaming, or by hand.
#[test]
fn a_pack_that_comes_back_hides_nothing() {
    for index_lost in [false, true] {
        let (mut world, vfs) = World::in_memory(LIMITS);
        let head = garbage(&mut world, 82, 6);
        let before: Vec<(PathBuf, Vec<u8>)> = packs(&vfs)
            .into_iter()
            .filter(|path| path.extension().is_some_and(|e| e == "pack"))
            .map(|path| (path.clone(), read_to_end(&vfs, &path, 1 << 20).expect("read")))
            .collect();
        collect(&world.writer()).expect("collected");
        let mut back = Vec::new();
        for (path, mut bytes) in before {
            if vfs.stat(&path).is_ok() {
                continue;
            }
            // And it is bad.
            let len = bytes.len();
            bytes[len / 3] ^= 1;
            let file = vfs.open(&path, Open::Create { mode: 0o644 }).expect("made");
            write_all_at(&*file, &bytes, 0).expect("written");
            back.push(path);
        }
        assert!(back.len() > 2);
        if index_lost {
            std::fs::remove_dir_all(world.index_dir()).expect("removed");
        }
        let check = |store: &Store| {
            for id in world.closure(Some(head)) {
                let location = store.locate(&id).expect("looked up").expect("known");
                store.inner.read_at(&location, &id).expect("the younger copy is the one that counts");
            }
            assert!(!store.has_damage());
        };
        check(&world.reader());
        let store = world.writer();
        check(&store);
        collect(&store).expect("collected");
        assert!(back.iter().all(|path| vfs.stat(path).is_err()));
        world.verify(&store, Some(head));
        check_small(&world, head);
    }
}

/// Condemned packs are none of the store's; whoever writes next removes them.
#[test]
fn condemned_packs_are_removed_by_the_next_writer() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut world, 83, 2);
    let path = packs(&vfs).into_iter().find(|path| path.extension().is_some_and(|e| e == "pack")).expect("sealed");
    collect(&world.writer()).expect("collected");
    let condemned = path.with_extension("condemned");
    let file = vfs.open(&condemned, Open::Create { mode: 0o644 }).expect("made");
    write_all_at(&*file, b"whatever it holds", 0).expect("written");
    let reader = world.reader();
    assert_eq!(reader.take_warnings(), [""; 0]);
    world.verify(&reader, Some(head));
    assert!(vfs.stat(&condemned).is_ok(), "readers remove nothing");
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    assert!(vfs.stat(&condemned).is_err());
    world.verify(&store, Some(head));
}

/// Rows that are to go with what they point at are gone before it.
#[test]
fn rows_go_with_what_they_point_at() {
    let (mut world, _) = World::in_memory(LIMITS);
    garbage(&mut world, 84, 3);
    let store = world.writer();
    let mut rows = RowBatch::default();
    rows.put("stale", "1");
    rows.put("good", "2");
    store.save_rows(rows).expect("saved");
    let mut gc = store.gc().expect("begun");
    gc.mark(only_head(), &go_on).expect("marked");
    let plan = gc.plan();
    let mut rows = RowBatch::default();
    rows.delete("stale");
    let seen = AtomicBool::new(false);
    let step = |_, _| {
        seen.fetch_or(store.rows().get(b"stale").expect("read").is_none(), Ordering::Relaxed);
        ControlFlow::Continue(())
    };
    gc.apply(&plan, rows, &step).expect("collected");
    assert!(seen.into_inner(), "at the first step it was gone");
    assert_eq!(store.rows().get(b"good").expect("read").as_deref(), Some(&b"2"[..]));
    drop(store);
    let store = world.writer();
    assert!(store.rows().get(b"stale").expect("read").is_none());
}

/// Damage that is listed and that nothing needs any more is forgotten.
#[test]
fn damage_of_garbage_is_forgotten() {
    let (mut world, _) = World::in_memory(LIMITS);
    let old = world.plan(85, 0, None, BIG);
    run(&world.writer(), &old).expect("stored");
    let head = garbage(&mut world, 86, 1);
    let kept: HashSet<ContentHash> = world.closure(Some(head)).into_iter().collect();
    let lost = old.objects.iter().map(|(id, ..)| *id).find(|id| !kept.contains(id)).expect("garbage");
    world.writer().record_damage([lost]).expect("recorded");
    let store = world.writer();
    collect(&store).expect("collected");
    assert!(!store.has_damage());
    drop(store);
    assert!(!world.reader().has_damage());
    // What is listed and needed stays listed.
    let needed = *kept.iter().next().expect("some");
    world.writer().record_damage([needed]).expect("recorded");
    collect(&world.writer()).expect("collected");
    assert!(world.reader().has_damage());
}

/// A name that is in the way does not keep a pack from being condemned.
#[test]
fn names_in_the_way_are_replaced() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let head = garbage(&mut world, 87, 3);
    for path in packs(&vfs) {
        let copy = path.with_extension("copy");
        vfs.open(&copy, Open::Create { mode: 0o644 }).expect("made");
        vfs.rename(&copy, &path.with_extension("condemned"), Rename::Replace).expect("renamed");
    }
    let store = world.writer();
    collect(&store).expect("collected");
    world.verify(&store, Some(head));
    check_small(&world, head);
}
