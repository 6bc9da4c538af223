//! What is stored more than once, and what is stored again: any good copy will do.

use super::*;
use crate::index::Location;
use crate::pack::{Class, PACK_HEADER_LEN, read_frame_table};

/// Of two copies the good one is handed out, also if the younger is bad.
#[test]
fn any_good_copy_will_do() {
    let base = base();
    let world = base.fork();
    let all: Vec<ContentHash> = world.model.keys().copied().collect();
    world.writer().record_damage(all).expect("recorded");
    let before: HashSet<_> = files(&*world.vfs, "packs").iter().map(|path| path.with_extension("")).collect();
    run(&world.writer(), &everything(&world, base.head)).expect("stored twice");
    // All payloads of the younger packs.
    for path in files(&*world.vfs, "packs").iter().filter(|path| !before.contains(&path.with_extension(""))) {
        let len = world.vfs.stat(path).expect("there").size;
        for at in (2000..len.saturating_sub(3000)).step_by(700) {
            damage(&*world.vfs, path, &Rot::Flip(at));
        }
    }
    assert_eq!(unreadable(&world, &world.reader()), HashSet::new());
    let store = world.writer();
    assert_eq!(unreadable(&world, &store), HashSet::new());
    assert!(!store.has_damage(), "all is there");
}

/// A copy that another stood in for, and then that one too: what is stored again after that is what is read.
#[test]
fn the_copy_that_stood_in_goes_bad_too() {
    let base = base();
    let world = base.fork();
    let chunk = *world.model.iter().filter(|(_, (kind, _))| kind.is_chunk()).map(|(id, _)| id).min().expect("a chunk");
    let store = world.writer();
    let place = || store.inner.locate_indexed(&chunk).expect("looked up").expect("known");
    let go_bad = |at: &Location| {
        let name = store.inner.table.name(at.pack).expect("a pack");
        let path = [name.open_path(), name.sealed_path()].into_iter().find(|path| world.vfs.stat(path).is_ok());
        let path = path.expect("a file");
        let file = world.vfs.open(&path, Open::Read).expect("opened");
        let end = file.len().expect("a length");
        let (header, frame) = read_frame_table(&*file, at.offset.into(), end, Class::Data).expect("a frame");
        // All of the payload: the table says still what lies there.
        let payload = frame.end() - u64::from(header.stored_len);
        assert!(damage(&*world.vfs, &path, &Rot::Zero(payload, header.stored_len.into())));
    };
    let store_again = || {
        run(&store, &everything(&world, base.head)).expect("stored again");
        store.forget_frames();
    };
    let older = place();
    store.record_damage([chunk]).expect("recorded");
    store_again();
    let younger = place();
    assert_ne!(older, younger);
    go_bad(&younger);
    store.get(Kind::CHUNK, &chunk).expect("the older stands in");
    assert_eq!(store.inner.moved(&chunk), Some(older));
    go_bad(&older);
    store.forget_frames();
    store.get(Kind::CHUNK, &chunk).expect_err("there is no good one");
    assert!(store.has_damage());
    store_again();
    store.get(Kind::CHUNK, &chunk).expect("stored again");
    assert!(!store.has_damage(), "{:?}", store.damage());
}

/// What was damaged is stored again by several at once, each of which sees whether it reads well now.
#[test]
fn damage_is_settled_beside_those_who_write() {
    let (done, is_done) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let base = base();
        let world = base.fork();
        let (store, all) = (world.writer(), everything(&world, base.head));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        store.record_damage(all.objects.iter().map(|(id, ..)| *id)).expect("recorded");
                        let session = store.session().expect("begun");
                        store_all(&session, &all).expect("stored");
                        session.keep().expect("kept");
                    }
                });
            }
        });
        done.send(unreadable(&world, &store)).expect("somebody waits");
    });
    let bad = is_done.recv_timeout(Duration::from_secs(120)).expect("they wait for each other");
    assert_eq!(bad, HashSet::new());
}

/// What was written by a session that came to nothing, and has gone bad, is not there for the next.
#[test]
fn what_waits_for_its_mark_goes_bad() {
    let (world, vfs) = World::in_memory(LIMITS);
    let store = world.writer();
    let (id, kind, bytes) = object(Kind::CHUNK, Rng::new(5).bytes(500));
    let put = |session: &Session<'_>| {
        assert_eq!(session.claim(&id).expect("claimed"), Claim::New);
        let mut writer = session.writer();
        writer.put(id, kind, &bytes).expect("taken");
        writer.flush().expect("a frame");
    };
    let session = store.session().expect("begun");
    put(&session);
    assert!(session.holds(&id).expect("asked"));
    drop(session);
    assert!(damage(&vfs, &files(&vfs, "packs")[0], &Rot::Flip(PACK_HEADER_LEN + 45)));
    store.get(kind, &id).expect_err("it is damaged");
    let session = store.session().expect("begun");
    assert!(!session.holds(&id).expect("asked"));
    put(&session);
    assert!(session.holds(&id).expect("asked"), "once is enough");
    assert_eq!(session.claim(&id).expect("claimed"), Claim::Present);
    session.finish(None, RowBatch::default()).expect("stored");
    store.get(kind, &id).expect("it is good");
    assert!(!store.has_damage());
}
