//! What is stored is there: for the writer, for readers beside it, after it, and for an index built again.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::hash::Kind;

#[test]
fn everything_stored_reads_back() {
    for codec in [Codec::Zstd, Codec::None] {
        let mut world = World::over(Arc::new(LossVfs::new()), calm());
        Store::create(&world.place(), &Params { codec, ..params() }).expect("created");
        let store = world.writer();
        assert_eq!(store.head(), None);
        let planned = world.plan(1, 1, None, Size { chunks: 300, chunk_len: 40_000 });
        let stats = run(&store, &planned).expect("stored");
        assert!(stats.new_chunks > 150 && stats.new_nodes > 40 && stats.stored_bytes > 1 << 20, "{stats:?}");
        assert_eq!(store.head(), Some(planned.head));
        world.verify(&store, store.head());
        drop(store);
        world.verify(&world.reader(), Some(planned.head));
        let store = world.writer();
        assert_eq!(store.head(), Some(planned.head));
        world.verify(&store, store.head());
        assert_eq!(store.take_warnings(), [""; 0]);
        // The same again is nothing new.
        let stats = run(&store, &planned).expect("stored");
        assert_eq!(stats, SessionStats::default());
    }
}

#[test]
fn later_sessions_go_on_in_the_same_packs() {
    let (mut world, _) = World::in_memory(calm());
    let mut head = None;
    for n in 0..20 {
        let store = world.writer();
        let planned = world.plan(2, n, head, SMALL);
        run(&store, &planned).expect("stored");
        head = Some(planned.head);
        assert_eq!(world.packs().len(), 2, "{:?}", world.packs());
        assert_eq!(store.take_warnings(), [""; 0]);
    }
    world.verify(&world.reader(), head);
}

#[test]
fn a_thousand_sessions_make_few_packs_and_few_files() {
    let world = World::on_disk(Limits::default());
    let counting = crate::testing::FaultVfs::new(Arc::clone(&world.vfs));
    let mut world = World { vfs: Arc::new(counting.clone()), ..world };
    let mut head = None;
    let mut calls = Vec::new();
    for n in 0..1000 {
        let before = counting.counts();
        let store = world.writer();
        let planned = world.plan(3, n, head, Size { chunks: 0, chunk_len: 1 });
        run(&store, &planned).expect("stored");
        drop(store);
        calls.push(counting.counts().since(&before));
        head = Some(planned.head);
    }
    assert_eq!(world.packs().len(), 2);
    assert_eq!(calls[10], calls[999], "the last costs what the tenth did");
    let files = std::fs::read_dir(world.index_dir()).expect("an index").count();
    assert!(files < 40, "{files} files in the index");
    world.verify(&world.reader(), head);
}

/// Enough for many packs, through all the threads that there are.
#[test]
fn full_packs_are_sealed_in_the_background() {
    let mut world = World::on_disk(small());
    let mut head = None;
    for n in 0..6 {
        let store = world.writer();
        let planned = world.plan(4, n, head, Size { chunks: 60, chunk_len: 9000 });
        run(&store, &planned).expect("stored");
        head = Some(planned.head);
        world.verify(&store, head);
        assert_eq!(store.take_warnings(), [""; 0]);
    }
    assert!(world.sealed() >= 5, "{:?}", world.packs());
    let open = world.packs().len() - world.sealed();
    assert!(open <= 2, "{:?}", world.packs());
    world.verify(&world.reader(), head);
    // The index from the footers.
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    let reader = world.reader();
    world.verify(&reader, head);
    assert_eq!(reader.take_warnings().len(), 1);
    let writer = world.writer();
    assert_eq!(writer.take_warnings(), ["index: it is missing: building it again"]);
    world.verify(&writer, head);
    drop(writer);
    assert_eq!(world.writer().take_warnings(), [""; 0]);
}

/// Each state of the index that there ever was will do, and is brought up to date.
#[test]
fn an_index_left_behind_catches_up() {
    let mut world = World::on_disk(small());
    let mut head = None;
    for n in 0..8 {
        copy_dir(&world.index_dir(), &world.dir.sub(&format!("index-{n}")));
        let planned = world.plan(5, n, head, Size { chunks: 20, chunk_len: 9000 });
        run(&world.writer(), &planned).expect("stored");
        head = Some(planned.head);
    }
    assert!(world.sealed() >= 2);
    for n in 0..8 {
        std::fs::remove_dir_all(world.index_dir()).expect("removed");
        copy_dir(&world.dir.sub(&format!("index-{n}")), &world.index_dir());
        world.verify(&world.reader(), head);
        let store = world.writer();
        world.verify(&store, head);
        assert_eq!(store.take_warnings(), [""; 0]);
    }
}

#[test]
fn a_reader_beside_a_writer_sees_what_was_acknowledged_when_it_opened() {
    let mut world = World::on_disk(small());
    let store = world.writer();
    let mut head = None;
    let mut readers = Vec::new();
    for n in 0..12 {
        let planned = world.plan(6, n, head, Size { chunks: 8, chunk_len: 9000 });
        let session = store.session().expect("a session");
        store_all(&session, &planned).expect("stored");
        let reader = world.reader();
        assert_eq!(reader.head(), head, "not acknowledged yet");
        world.verify(&reader, head);
        readers.push((reader, head));
        session.finish(Some(planned.head), RowBatch::default()).expect("finished");
        head = Some(planned.head);
    }
    assert!(world.sealed() >= 2);
    for (reader, head) in &readers {
        assert_eq!(reader.head(), *head);
        world.verify(reader, *head);
        assert_eq!(reader.take_warnings(), [""; 0]);
        assert!(matches!(reader.session().map(drop), Err(PutError::ReadOnly)));
    }
}

/// Readers that open again and again while a writer commits, seals and compacts.
#[test]
fn readers_in_other_threads_are_never_disturbed() {
    let mut world = World::on_disk(small());
    let plans: Vec<Planned> = (0..long(40, 400))
        .scan(None, |head, n| {
            let planned = world.plan(7, n, *head, Size { chunks: 6, chunk_len: 6000 });
            *head = Some(planned.head);
            Some(planned)
        })
        .collect();
    let (done, opened) = (AtomicBool::new(false), AtomicUsize::new(0));
    let world = &world;
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                let reader = world.reader();
                for id in world.closure(reader.head()) {
                    let (kind, bytes) = &world.model[&id];
                    assert_eq!(&reader.get(*kind, &id).expect("readable")[..], &bytes[..]);
                }
                assert_eq!(reader.take_warnings(), [""; 0]);
                opened.fetch_add(1, Ordering::Relaxed);
            }
        });
        for (n, planned) in plans.iter().enumerate() {
            // However slow it is: in each tenth of the work some reader is done that began beside it.
            while opened.load(Ordering::Relaxed) < n * 10 / plans.len() && !reader.is_finished() {
                std::thread::yield_now();
            }
            run(&world.writer(), planned).expect("stored");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(opened.into_inner() >= 9, "not each tenth of the work had its reader");
}

/// Marks move on while a session runs, and what they vouch for is there for the next one after a crash.
#[test]
fn marks_move_while_a_session_runs() {
    let (mut world, vfs) = World::in_memory(Limits { pending_max: 40, ..calm() });
    let store = world.writer();
    let session = store.session().expect("a session");
    let mut writer = session.writer();
    let planned = world.plan(8, 0, None, Size { chunks: 400, chunk_len: 40_000 });
    for (id, kind, bytes) in &planned.objects {
        if session.claim(id).expect("claimed") == Claim::New {
            writer.put(*id, *kind, bytes).expect("put");
        }
    }
    let left = Arc::new(vfs.crash(&crate::testing::Loss::DropAllUnsynced));
    let generation = crate::store::read_head(&*left).expect("a head").generation;
    assert!(generation >= 2, "generation {generation}");
    let after = World { vfs: left, model: world.model.clone(), ..World::over(Arc::new(LossVfs::new()), calm()) };
    let store = after.writer();
    assert_eq!(store.head(), None);
    let stats = run(&store, &planned).expect("stored");
    assert!(stats.new_chunks > 0 && stats.new_chunks < 300, "{stats:?}");
    after.verify(&store, Some(planned.head));
}

#[test]
fn ids_are_visited_in_order_whatever_the_index() {
    let (mut world, _) = World::in_memory(calm());
    let first = world.plan(9, 0, None, Size { chunks: 30, chunk_len: 100 });
    run(&world.writer(), &first).expect("stored");
    copy_dir(&world.index_dir(), &world.dir.sub("older"));
    let second = world.plan(9, 1, Some(first.head), Size { chunks: 30, chunk_len: 100 });
    run(&world.writer(), &second).expect("stored");
    let ids = |store: &Store| {
        let mut ids = Vec::new();
        let (from, to) = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([0xff; 32]));
        let visited = store.each_id(&from, &to, &mut |id, kind| {
            ids.push((id, kind));
            std::ops::ControlFlow::Continue(())
        });
        visited.expect("visited");
        ids
    };
    let mut expected: Vec<(ContentHash, Kind)> = world.model.iter().map(|(id, (kind, _))| (*id, *kind)).collect();
    expected.sort();
    assert_eq!(ids(&world.reader()), expected);
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    assert_eq!(ids(&world.reader()), expected, "from the packs");
    copy_dir(&world.dir.sub("older"), &world.index_dir());
    assert_eq!(ids(&world.reader()), expected, "from an older index and the packs");
}

/// What no mark vouches for goes, and nothing else.
#[test]
fn torn_tails_are_cut() {
    use crate::vfs::{Open, write_all_at};
    let (mut world, vfs) = World::in_memory(calm());
    let planned = world.plan(10, 0, None, SMALL);
    run(&world.writer(), &planned).expect("stored");
    let lens = |vfs: &LossVfs| -> Vec<(String, u64)> {
        let mut packs = world.packs();
        packs.sort();
        packs
            .into_iter()
            .map(|name| (name.clone(), vfs.stat(&Path::new("packs").join(name)).expect("there").size))
            .collect()
    };
    let before = lens(&vfs);
    for (name, len) in &before {
        let file = vfs.open(&Path::new("packs").join(name), Open::Write).expect("opened");
        write_all_at(&*file, b"a torn tail", *len).expect("written");
    }
    for torn in ["packs/000102030405060708090a0b0c0d0e0f.open", "packs/.filesync-tmp-x", ".filesync-tmp-y"] {
        vfs.open(Path::new(torn), Open::Create { mode: 0o644 }).expect("made");
    }
    world.verify(&world.reader(), Some(planned.head));
    let store = world.writer();
    world.verify(&store, Some(planned.head));
    assert_eq!(store.take_warnings(), [""; 0]);
    assert_eq!(lens(&vfs), before);
    assert!(vfs.stat(Path::new(".filesync-tmp-y")).is_err());
    // Other files are left alone, and told of.
    vfs.open(Path::new("packs/notes.txt"), Open::Create { mode: 0o644 }).expect("made");
    assert_eq!(world.writer().take_warnings(), ["packs/notes.txt: not a pack: ignored"]);
    assert_eq!(world.reader().take_warnings(), ["packs/notes.txt: not a pack: ignored"]);
}

/// The disk was full in the middle of a frame, and then there was room for a shorter one.
#[test]
fn what_a_failed_write_left_behind_is_not_sealed() {
    use crate::vfs::{Open, write_all_at};
    let (mut world, vfs) = World::in_memory(Limits { seal_len: 24 << 10, threads: false, ..small() });
    let first = world.plan(11, 0, None, SMALL);
    let second = world.plan(11, 1, Some(first.head), Size { chunks: 20, chunk_len: 9000 });
    let store = world.writer();
    run(&store, &first).expect("stored");
    for name in world.packs() {
        let path = Path::new("packs").join(name);
        let len = vfs.stat(&path).expect("there").size;
        let file = vfs.open(&path, Open::Write).expect("opened");
        write_all_at(&*file, &[0x55; 400_000], len).expect("written");
    }
    run(&store, &second).expect("stored");
    assert!(world.sealed() >= 1);
    world.verify(&store, Some(second.head));
    drop(store);
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    world.verify(&world.reader(), Some(second.head));
}
