//! What a claim promises, and what ends a session.

use super::*;

fn one(n: u8) -> (ContentHash, Kind, Vec<u8>) {
    object(Kind::CHUNK, vec![n; 100])
}

#[test]
fn a_claim_is_new_once_for_each_session() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    let (id, kind, bytes) = one(1);
    let (first, second) = (store.session().expect("one"), store.session().expect("two"));
    assert_eq!(first.claim(&id).expect("claimed"), Claim::New);
    assert_eq!(first.claim(&id).expect("claimed"), Claim::Present, "whoever asked first brings it");
    // The first may fail: the second does not rely on it.
    assert_eq!(second.claim(&id).expect("claimed"), Claim::New);
    let mut writer = second.writer();
    writer.put(id, kind, &bytes).expect("put");
    writer.flush().expect("flushed");
    assert_eq!(first.claim(&id).expect("claimed"), Claim::Present);
    drop(writer);
    second.finish(None, RowBatch::default()).expect("finished");
    assert_eq!(&store.get(kind, &id).expect("there")[..], &bytes[..]);
    assert_eq!(store.session().expect("three").claim(&id).expect("claimed"), Claim::Present);
}

/// Somebody may already rely on it.
#[test]
fn a_claim_that_was_never_put_fails_the_session() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    let session = store.session().expect("a session");
    assert_eq!(session.claim(&one(1).0).expect("claimed"), Claim::New);
    assert!(session.finish(Some(one(2).0), RowBatch::default()).is_err());
    assert_eq!(store.head(), None);
    // It is forgotten with its session.
    assert_eq!(store.session().expect("another").claim(&one(1).0).expect("claimed"), Claim::New);
}

#[test]
fn what_was_put_and_not_flushed_fails_the_session() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    let session = store.session().expect("a session");
    let mut writer = session.writer();
    writer.store(Kind::CHUNK, b"bytes").expect("collected");
    drop(writer);
    assert!(session.finish(None, RowBatch::default()).is_err());
}

#[test]
fn what_cannot_be_stored_is_refused() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    for (kind, len) in [(Kind::CHUNK, 0), (Kind::CHUNK, (1 << 20) + 1), (Kind(77), 10), (NODE, 0)] {
        let session = store.session().expect("a session");
        let stored = session.writer().store(kind, &vec![0; len]);
        assert!(matches!(stored, Err(PutError::Unstorable { .. })), "{kind:?} with {len} bytes: {stored:?}");
        session.finish(None, RowBatch::default()).expect("nothing is owed");
    }
    let session = store.session().expect("a session");
    let mut writer = session.writer();
    let id = writer.store(Kind::CHUNK, &vec![7; 1 << 20]).expect("as large as can be");
    writer.flush().expect("flushed");
    drop(writer);
    session.finish(None, RowBatch::default()).expect("finished");
    assert_eq!(store.get(Kind::CHUNK, &id).expect("there").len(), 1 << 20);
    assert!(store.get(NODE, &id).is_err(), "of another kind");
}

/// Objects of a session that gave up are in no way; their bytes may serve the next.
#[test]
fn a_session_that_is_dropped_leaves_no_trace() {
    let (mut world, _) = World::in_memory(calm());
    let planned = world.plan(1, 0, None, SMALL);
    {
        let store = world.writer();
        let session = store.session().expect("a session");
        store_all(&session, &planned).expect("stored");
    }
    assert_eq!(world.packs().len(), 2);
    let store = world.writer();
    assert_eq!(world.packs().len(), 0, "nothing vouched for them");
    assert_eq!(store.take_warnings(), [""; 0]);
    run(&store, &planned).expect("stored");
    world.verify(&store, Some(planned.head));
}

/// Many threads, claims of the same objects, and sessions beside each other.
#[test]
fn sessions_share_a_store() {
    let mut world = World::on_disk(small());
    let plans: Vec<Planned> = (0..4).map(|n| world.plan(9, n, None, Size { chunks: 200, chunk_len: 4000 })).collect();
    let store = world.writer();
    std::thread::scope(|scope| {
        for planned in &plans {
            let store = &store;
            scope.spawn(move || {
                for _ in 0..3 {
                    let session = store.session().expect("a session");
                    std::thread::scope(|scope| {
                        for part in planned.objects.chunks(planned.objects.len() / 3 + 1) {
                            let part = Planned { head: planned.head, objects: part.to_vec() };
                            let session = &session;
                            scope.spawn(move || store_all(session, &part).expect("stored"));
                        }
                    });
                    session.finish(Some(planned.head), RowBatch::default()).expect("finished");
                }
            });
        }
    });
    for planned in &plans {
        world.verify(&store, Some(planned.head));
    }
    drop(store);
    let store = world.writer();
    for planned in &plans {
        world.verify(&store, Some(planned.head));
    }
    assert_eq!(store.take_warnings(), [""; 0]);
}

#[test]
fn rows_live_beside_the_index() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    let mut rows = RowBatch::default();
    rows.put("a", "1");
    rows.put("b", "2");
    store.session().expect("a session").finish(None, rows).expect("finished");
    let mut rows = RowBatch::default();
    rows.delete("a");
    rows.put("c", "3");
    store.save_rows(rows).expect("saved");
    let seen = |store: &Store| {
        let mut seen = String::new();
        let scanned = store.rows().scan(b"a", b"c\xff", &mut |key, value| {
            seen.push_str(&String::from_utf8_lossy(&[key, value].concat()));
            std::ops::ControlFlow::Continue(())
        });
        scanned.expect("scanned");
        seen
    };
    assert_eq!(seen(&store), "b2c3");
    assert_eq!(store.rows().get(b"c").expect("read").as_deref(), Some(&b"3"[..]));
    drop(store);
    let reader = world.reader();
    assert_eq!(seen(&reader), "b2c3");
    assert!(reader.save_rows(RowBatch::default()).is_err());
}
