//! Frames from one store to another, as they lie on disk.

use super::super::Accepted;
use super::*;
use crate::index::Location;
use crate::relay::{FramePacker, StoredFrame};
use crate::testing::Loss;
use crate::vfs::{Open, read_to_end, write_all_at};

/// Every frame of a store that holds something of `planned`, once.
fn frames(store: &Store, planned: &Planned) -> Vec<StoredFrame> {
    let place = |location: &Location| (location.pack, location.offset);
    let mut located: Vec<_> =
        planned.objects.iter().map(|(id, ..)| (store.locate(id).expect("looked up").expect("there"), *id)).collect();
    located.sort_by_key(|(location, _)| place(location));
    located.dedup_by_key(|(location, _)| place(location));
    located.iter().map(|(location, id)| store.stored_frame(location, id).expect("read")).collect()
}

#[test]
fn a_closure_passes_from_store_to_store_byte_for_byte() {
    let (mut there, _) = World::in_memory(calm());
    let (mut here, _) = World::in_memory(calm());
    let planned = there.plan(1, 0, None, SMALL);
    here.note(&planned);
    let source = there.writer();
    run(&source, &planned).expect("stored");

    let target = here.writer();
    let session = target.session().expect("a session");
    for frame in frames(&source, &planned) {
        let frame = frame.verify(&TestSchema).expect("good");
        assert!(!session.holds(&frame.slots()[0].id).expect("looked up"), "not yet");
        let accepted = session.put_frame(&frame).expect("put");
        assert!(accepted.whole && accepted.new_objects == frame.slots().len() as u64, "{accepted:?}");
        assert!(session.holds(&frame.slots()[0].id).expect("looked up"));
        // A second time it is not stored.
        assert_eq!(session.put_frame(&frame).expect("put"), Accepted::default());
    }
    let stats = session.finish(Some(planned.head), RowBatch::default()).expect("finished");
    assert_eq!(stats.new_chunks + stats.new_nodes, planned.objects.len() as u64);
    here.verify(&target, Some(planned.head));
    let bytes = |frames: Vec<StoredFrame>| frames.into_iter().map(StoredFrame::into_bytes).collect::<Vec<_>>();
    assert_eq!(bytes(frames(&target, &planned)), bytes(frames(&source, &planned)));
}

#[test]
fn of_a_frame_that_is_mostly_known_only_the_rest_is_stored() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    let (old, new) = (vec![1; 3000], vec![2; 1000]);
    let mut packer = FramePacker::new(Codec::None);
    for chunk in [&old, &new] {
        packer.push(ContentHash::of_chunk(chunk), Kind::CHUNK, chunk);
    }
    let frame = StoredFrame::parse(packer.finish().expect("encodes")).expect("parses");
    let frame = frame.verify(&TestSchema).expect("good");

    let session = store.session().expect("a session");
    let mut writer = session.writer();
    writer.store(Kind::CHUNK, &old).expect("stored");
    writer.flush().expect("flushed");
    drop(writer);
    let accepted = session.put_frame(&frame).expect("put");
    assert_eq!(accepted, Accepted { new_objects: 1, new_bytes: 1000, whole: false });
    let stats = session.finish(None, RowBatch::default()).expect("finished");
    assert_eq!((stats.new_chunks, stats.new_bytes), (2, 4000));
    for chunk in [&old, &new] {
        assert_eq!(&store.get(Kind::CHUNK, &ContentHash::of_chunk(chunk)).expect("there")[..], &chunk[..]);
    }
}

/// Who only asks owes nothing: the session can still be finished.
#[test]
fn asking_whether_it_is_held_leaves_no_debt() {
    let (world, _) = World::in_memory(calm());
    let store = world.writer();
    let session = store.session().expect("a session");
    assert!(!session.holds(&ContentHash::of_chunk(b"nowhere")).expect("looked up"));
    session.finish(None, RowBatch::default()).expect("finished");
}

#[test]
fn a_damaged_frame_is_not_passed_on() {
    let mut world = World::on_disk(calm());
    let planned = world.plan(3, 0, None, SMALL);
    let store = world.writer();
    run(&store, &planned).expect("stored");
    let (id, ..) = &planned.objects[0];
    let location = store.locate(id).expect("looked up").expect("there");
    store.stored_frame(&location, id).expect("good so far");
    let elsewhere = Location { slot: location.slot + 1, ..location };
    assert!(store.stored_frame(&elsewhere, id).is_err_and(|error| error.is_damage()), "another object lies there");
    for pack in world.packs() {
        let path = Path::new("packs").join(pack);
        let mut bytes = read_to_end(&*world.vfs, &path, 1 << 20).expect("readable");
        let at = bytes.len().min(location.offset as usize + 60);
        bytes[at..].iter_mut().for_each(|byte| *byte ^= 1);
        let file = world.vfs.open(&path, Open::Write).expect("opened");
        write_all_at(&*file, &bytes, 0).expect("written");
    }
    let found = store.stored_frame(&location, id);
    assert!(found.as_ref().is_err_and(|error| error.is_damage()), "{found:?}");
}

#[test]
fn power_cuts_lose_nothing_that_was_taken_and_acknowledged() {
    let (mut there, _) = World::in_memory(calm());
    let planned = there.plan(5, 0, None, SMALL);
    let source = there.writer();
    run(&source, &planned).expect("stored");
    let (mut here, vfs) = World::in_memory(calm());
    here.note(&planned);
    let target = here.writer();
    let session = target.session().expect("a session");
    for frame in frames(&source, &planned) {
        session.put_frame(&frame.verify(&TestSchema).expect("good")).expect("put");
    }
    session.finish(Some(planned.head), RowBatch::default()).expect("finished");
    drop(target);
    for loss in [Loss::DropAllUnsynced].into_iter().chain((0..5).map(Loss::Random)) {
        let mut after = World::over(Arc::new(vfs.crash(&loss)), calm());
        after.note(&planned);
        // The index is gone too.
        let store = after.writer();
        assert_eq!(store.head(), Some(planned.head), "{loss:?}");
        after.verify(&store, Some(planned.head));
    }
}
