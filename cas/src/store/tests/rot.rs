//! Bit rot: every kind of file, changed in every kind of way.
//!
//! Never is a wrong byte handed out. What is damaged is named, counts as absent for the next session, and reads well
//! once that has stored it again. Damage of the index alone heals by itself.

mod copies;

use std::collections::HashSet;

use super::*;
use crate::error::GetError;
use crate::frame::{HEADER_LEN, SLOT_LEN};
use crate::index::IndexUpdate;
use crate::pack::PACK_HEADER_LEN;
use crate::pin::{self, Pin};
use crate::vfs::{FileKind, Open, read_to_end, write_all_at};

const LIMITS: Limits =
    Limits { seal_len: 24 << 10, seal_objects: 16, pending_max: 1 << 10, writeback_len: 8 << 10, threads: false };

/// One way to damage a file.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Rot {
    /// One bit of a byte.
    Flip(u64),
    /// Up to so many bytes.
    Zero(u64, u64),
    /// All from here on.
    Truncate(u64),
    Delete,
    /// What it was before.
    Older(Vec<u8>),
}

fn read(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    read_to_end(vfs, path, 1 << 30).expect("readable")
}

/// Does it; false if nothing changed.
fn damage(vfs: &dyn Vfs, path: &Path, rot: &Rot) -> bool {
    let before = read(vfs, path);
    let mut bytes = before.clone();
    let at = |offset: u64| usize::try_from(offset).expect("small").min(before.len());
    match rot {
        Rot::Flip(offset) => match bytes.get_mut(at(*offset)) {
            Some(byte) => *byte ^= 0x20,
            None => return false,
        },
        Rot::Zero(offset, len) => bytes[at(*offset)..at(offset + len)].fill(0),
        Rot::Truncate(len) => bytes.truncate(at(*len)),
        Rot::Delete => {
            vfs.unlink(path).expect("removed");
            return true;
        }
        Rot::Older(older) => bytes.clone_from(older),
    }
    let file = vfs.open(path, Open::Write).expect("opened");
    file.set_len(0).expect("emptied");
    write_all_at(&*file, &bytes, 0).expect("written");
    bytes != before
}

/// Every way, at the begin, the end, and at places in between.
fn ways(len: u64, rng: &mut Rng, older: Option<&Vec<u8>>) -> Vec<Rot> {
    let mut places = vec![0, 5, 17, 60, 72, 90, 100, 130, 150, 200, len / 2];
    places.extend([1, 9, 20, 30, 39, 41, 60, 100].map(|back| len.saturating_sub(back)));
    places.extend((0..long(10, 400)).map(|_| rng.below(len)));
    places.retain(|place| *place < len);
    places.sort_unstable();
    places.dedup();
    let mut ways: Vec<Rot> = places.iter().map(|place| Rot::Flip(*place)).collect();
    ways.extend(places.iter().step_by(3).flat_map(|place| [Rot::Zero(*place, 64), Rot::Zero(*place, 4096)]));
    ways.extend([0, 40, 88, 100, len / 2, len - 1].map(Rot::Truncate));
    ways.push(Rot::Delete);
    ways.extend(older.cloned().map(Rot::Older));
    ways
}

/// A store with sealed and open packs of both classes, and what its files were one session before.
struct Base {
    world: World,
    vfs: LossVfs,
    head: ContentHash,
    older: HashMap<PathBuf, Vec<u8>>,
}

fn files(vfs: &dyn Vfs, dir: &str) -> Vec<PathBuf> {
    let listed = vfs.list(Path::new(dir)).expect("a listing");
    let files = listed.into_iter().filter(|(_, kind)| *kind == FileKind::File);
    let mut files: Vec<PathBuf> = files.map(|(name, _)| Path::new(dir).join(name)).collect();
    files.sort();
    files
}

fn base() -> Base {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let mut head = None;
    let mut older = HashMap::new();
    for n in 0..7 {
        if n == 6 {
            let all = files(&vfs, "packs").into_iter().chain(files(&vfs, "")).chain(files(&vfs, "pins"));
            older = all.map(|path| (path.clone(), read(&vfs, &path))).collect();
        }
        let planned = world.plan(30, n, head, Size { chunks: 9, chunk_len: 5000 });
        let store = world.writer();
        run(&store, &planned).expect("stored");
        store
            .pin(&Pin { id: ContentHash::of_chunk(b"pin"), roots: vec![(ROOT, planned.head)], note: String::new() })
            .expect("pinned");
        head = Some(planned.head);
    }
    assert!(world.sealed() >= 3, "{:?}", world.packs());
    assert!(world.packs().len() - world.sealed() == 2, "{:?}", world.packs());
    Base { world, vfs, head: head.expect("committed"), older }
}

impl Base {
    /// A copy of it all.
    fn fork(&self) -> World {
        let mut world = World::over(Arc::new(self.vfs.fork()), LIMITS);
        world.model.clone_from(&self.world.model);
        copy_dir(&self.world.index_dir(), &world.index_dir());
        world
    }
}

/// Objects of the model that cannot be read. What can be read is right; whatever else there is, is damage.
#[track_caller]
fn unreadable(world: &World, store: &Store) -> HashSet<ContentHash> {
    let mut bad = HashSet::new();
    for (id, (kind, bytes)) in &world.model {
        match store.get(*kind, id) {
            Ok(object) => assert_eq!(&object[..], &bytes[..], "object {id}"),
            Err(GetError::Missing(_) | GetError::Corrupt { .. }) => drop(bad.insert(*id)),
            Err(error) => panic!("{error}"),
        }
    }
    bad
}

/// What of `bad` can be found from `head` on.
fn in_reach(world: &World, head: ContentHash, bad: &HashSet<ContentHash>) -> HashSet<ContentHash> {
    let mut open = vec![head];
    let mut seen = HashSet::new();
    while let Some(id) = open.pop() {
        if seen.insert(id) && !bad.contains(&id) {
            let (kind, bytes) = &world.model[&id];
            if !kind.is_chunk() {
                open.extend(TestSchema.children(*kind, bytes).expect("ours").into_iter().map(|(_, id)| id));
            }
        }
    }
    seen.intersection(bad).copied().collect()
}

/// All that was ever stored, in one session.
fn everything(world: &World, head: ContentHash) -> Planned {
    let objects = world.model.iter().map(|(id, (kind, bytes))| (*id, *kind, bytes.clone()));
    Planned { head, objects: objects.collect() }
}

/// Damage of a pack: it is named, and stored again by whoever has the bytes.
#[track_caller]
fn check_pack(base: &Base, path: &Path, rot: &Rot) -> usize {
    let world = base.fork();
    if !damage(&*world.vfs, path, rot) {
        return 0;
    }
    let left = world.vfs.stat(path).ok().map(|stat| stat.size);
    let reader = world.reader();
    assert_eq!(reader.head(), Some(base.head));
    for depth in [Depth::Objects, Depth::Stored] {
        let report = reader.check_packs(depth, &|_, _| std::ops::ControlFlow::Continue(())).expect("packs are read");
        let is_gone = *rot == Rot::Delete && path.extension().is_some_and(|e| e == "pack");
        assert!(is_gone || !report.findings.is_empty() || !report.bad.is_empty(), "not noticed by {depth:?}");
        let named: HashSet<ContentHash> = report.bad.iter().map(|bad| bad.id).collect();
        let closure = reader.check_closure(&[(ROOT, base.head)], &named).expect("the closure is read");
        let bad = unreadable(&world, &reader);
        let found: HashSet<ContentHash> = closure.iter().map(|bad| bad.id).collect();
        assert!(in_reach(&world, base.head, &bad).is_subset(&found), "bad {bad:?}, found {found:?}");
        // With its table gone too, nobody knows what else there was.
        let named: HashSet<ContentHash> = named.union(&found).copied().collect();
        let knows = !matches!(rot, Rot::Delete | Rot::Truncate(_));
        assert!(!knows || bad.is_subset(&named), "bad {bad:?}, named {named:?}");
    }
    let bad = unreadable(&world, &reader);
    drop(reader);

    // Found by reading, and stored again.
    let store = world.writer();
    assert_eq!(unreadable(&world, &store), bad);
    assert!(bad.is_empty() || store.has_damage() || *rot == Rot::Delete || matches!(rot, Rot::Truncate(_)));
    run(&store, &everything(&world, base.head)).expect("stored again");
    assert_eq!(unreadable(&world, &store), HashSet::new());
    drop(store);
    let store = world.writer();
    assert_eq!(unreadable(&world, &store), HashSet::new());
    drop(store);
    // And by an index that was built again.
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    assert_eq!(unreadable(&world, &world.reader()), HashSet::new());
    let store = world.writer();
    for id in &bad {
        let location = store.locate(id).expect("looked up").expect("known");
        store.inner.read_at(&location, id).expect("the younger copy is the one that counts");
    }
    assert_eq!(unreadable(&world, &store), HashSet::new());
    let stats = run(&store, &everything(&world, base.head)).expect("nothing to store");
    let is_listed = store.has_damage();
    assert!(stats.new_chunks + stats.new_nodes == 0 || is_listed, "{stats:?}");
    // What is short is neither cut nor continued.
    if let (Some(left), Ok(now)) = (left, world.vfs.stat(path))
        && left < base.vfs.stat(path).expect("there").size
    {
        assert_eq!(now.size, left, "a short pack was touched");
    }
    bad.len()
}

struct Announce<'a>(&'a Path, &'a Rot);

impl Drop for Announce<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}: {:?}", self.0.display(), self.1);
        }
    }
}

#[test]
fn packs() {
    let base = base();
    let mut rng = Rng::new(seed());
    let (mut cases, mut lost) = (0, 0);
    let mut packs = files(&base.vfs, "packs");
    // By serial: names are different each time, and the seed is to say it all.
    packs.sort_by_key(|path| read(&base.vfs, path)[16..24].to_vec());
    for path in packs {
        let len = base.vfs.stat(&path).expect("there").size;
        for rot in ways(len, &mut rng, base.older.get(&path)) {
            let announce = Announce(&path, &rot);
            lost += check_pack(&base, &path, &rot);
            drop(announce);
            cases += 1;
        }
    }
    eprintln!("{cases} cases, {lost} objects lost and stored again");
    assert!(lost > cases, "hardly anything was damaged");
}

/// A checksum guards the small files that nothing can derive again: damaged, they open nothing.
#[test]
fn head_and_format() {
    let base = base();
    let mut rng = Rng::new(seed());
    for path in ["HEAD", "format"].map(PathBuf::from) {
        let len = base.vfs.stat(&path).expect("there").size;
        for rot in ways(len, &mut rng, None) {
            let world = base.fork();
            if !damage(&*world.vfs, &path, &rot) {
                continue;
            }
            let announce = Announce(&path, &rot);
            for error in [
                world.try_writer().map(drop).expect_err("not opened"),
                Store::open_reader(world.place(), schema()).map(drop).expect_err("not opened"),
            ] {
                assert!(matches!(error, OpenError::Damaged { .. } | OpenError::Unsupported { .. }), "{error:?}");
            }
            for pack in files(&base.vfs, "packs") {
                assert_eq!(read(&*world.vfs, &pack), read(&base.vfs, &pack), "packs are left alone");
            }
            drop(announce);
        }
    }
}

/// It names an older state, and that state is whole.
#[test]
fn an_older_head_opens_what_it_names() {
    let base = base();
    let world = base.fork();
    let older = &base.older[Path::new("HEAD")];
    assert!(damage(&*world.vfs, Path::new("HEAD"), &Rot::Older(older.clone())));
    let reader = world.reader();
    let head = reader.head();
    assert!(head.is_some() && head != Some(base.head));
    world.verify(&reader, head);
    let store = world.writer();
    assert_eq!(store.take_warnings().len(), 1, "the index knew more");
    world.verify(&store, head);
    run(&store, &everything(&world, base.head)).expect("stored");
    world.verify(&store, Some(base.head));
    drop(store);
    world.verify(&world.writer(), Some(base.head));
}

/// The list is begun anew: what is bad is found again.
#[test]
fn the_list_of_what_is_damaged() {
    let base = base();
    let world = base.fork();
    let id = *world.model.keys().next().expect("some");
    world.writer().record_damage([id]).expect("recorded");
    assert!(world.reader().has_damage() && world.writer().has_damage());
    let path = Path::new("damaged");
    let len = world.vfs.stat(path).expect("there").size;
    let mut rng = Rng::new(seed());
    for rot in ways(len, &mut rng, None) {
        let mut left = World::over(world.vfs.clone(), LIMITS);
        left.dir = Arc::clone(&world.dir);
        left.model.clone_from(&world.model);
        let good = read(&*left.vfs, path);
        damage(&*left.vfs, path, &rot);
        let reader = left.reader();
        assert!(!reader.has_damage());
        assert_eq!(reader.take_warnings().len(), usize::from(rot != Rot::Delete), "{rot:?}");
        left.verify(&left.writer(), Some(base.head));
        if rot == Rot::Delete {
            left.vfs.open(path, Open::Create { mode: 0o644 }).expect("made again");
        }
        damage(&*left.vfs, path, &Rot::Older(good));
    }
}

/// No pins must never mean that nothing is pinned.
#[test]
fn pins_that_cannot_be_read_are_an_error() {
    let base = base();
    let path = files(&base.vfs, "pins").pop().expect("a pin");
    let len = base.vfs.stat(&path).expect("there").size;
    assert_eq!(pin::all(&base.vfs).expect("readable").len(), 1);
    for rot in ways(len, &mut Rng::new(seed()), None) {
        let world = base.fork();
        if damage(&*world.vfs, &path, &rot) && rot != Rot::Delete {
            assert!(matches!(pin::all(&*world.vfs), Err(OpenError::Damaged { .. })), "{rot:?}");
        }
        assert!(world.try_writer().is_ok());
    }
}

/// Listed objects count as absent until they have been stored again.
#[test]
fn recorded_damage_is_stored_again_once() {
    let base = base();
    let world = base.fork();
    let chunks: Vec<ContentHash> =
        world.model.iter().filter(|(_, (kind, _))| kind.is_chunk()).map(|(id, _)| *id).take(7).collect();
    world.writer().record_damage(chunks.iter().copied()).expect("recorded");
    let store = world.writer();
    let stats = run(&store, &everything(&world, base.head)).expect("stored");
    assert_eq!(stats.new_chunks, 7);
    assert!(!store.has_damage());
    let stats = run(&store, &everything(&world, base.head)).expect("stored");
    assert_eq!(stats.new_chunks, 0);
    drop(store);
    assert!(!world.reader().has_damage());
    world.verify(&world.writer(), Some(base.head));
}

/// Bytes that nobody has any more are not looked for in every file for ever.
#[test]
fn damage_that_stays_is_given_up() {
    let base = base();
    let world = base.fork();
    let (lost, found) = (ContentHash::of_chunk(b"lost"), *world.model.keys().next().expect("some"));
    world.writer().record_damage([lost, found]).expect("recorded");
    let store = world.writer();
    assert!(store.needs_everything());
    run(&store, &everything(&world, base.head)).expect("stored");
    assert!(store.needs_everything(), "not all was given");
    let session = store.session().expect("a session");
    store_all(&session, &everything(&world, base.head)).expect("nothing to store");
    session.was_given_everything();
    session.finish(Some(base.head), RowBatch::default()).expect("finished");
    assert!(store.has_damage() && !store.needs_everything());
    drop(store);
    let store = world.writer();
    assert!(store.has_damage() && !store.needs_everything());
    store.record_damage([found]).expect("recorded");
    assert!(store.needs_everything(), "there is more now");
}

#[test]
fn what_was_never_there_is_not_damaged() {
    let base = base();
    let world = base.fork();
    let store = world.writer();
    assert!(matches!(store.get(NODE, &ContentHash::of_chunk(b"?")), Err(GetError::Missing(_))));
    run(&store, &everything(&world, base.head)).expect("nothing to store");
    assert!(!store.has_damage());
}

/// Rows that an index has lost are missed when somebody asks for what has no other name than its id.
#[test]
fn an_index_that_lacks_rows_is_found_wrong_by_the_packs() {
    let base = base();
    let world = base.fork();
    let store = world.writer();
    assert!(!store.check_index(), "nothing is missing");
    let update = IndexUpdate { removed: vec![base.head], ..IndexUpdate::default() };
    store.inner.with_index(|index| index.apply(update)).expect("applied");
    drop(store);
    let store = world.reader();
    let listed = || {
        let mut found = false;
        let visited = store.each_id(&base.head, &base.head, &mut |_, _| {
            found = true;
            std::ops::ControlFlow::Continue(())
        });
        visited.expect("visited");
        found
    };
    assert!(!listed());
    assert!(store.check_index() && listed());
    assert!(store.take_warnings()[0].contains("`filesync fsck --repair` builds it again"));
}

/// What a writer appends is none of what an index lacks that was opened before.
#[test]
fn an_index_is_not_wrong_for_what_came_after_it() {
    let base = base();
    let world = base.fork();
    let reader = world.reader();
    for n in 60..63 {
        let planned = plan(33, n, Some(base.head), SMALL);
        run(&world.writer(), &planned).expect("stored");
    }
    assert!(!reader.check_index());
    assert_eq!(reader.take_warnings(), Vec::<String>::new());
}

/// Behind a frame that cannot be made out lies one of which only the payload is damaged: the good objects in it are found by
/// the packs too, and not by the index alone.
#[test]
fn two_frames_side_by_side() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let noise = |n: u64| object(Kind::CHUNK, Rng::new(n).bytes(400));
    let frames = [vec![noise(1)], vec![noise(2), noise(3)], vec![noise(4)]];
    {
        let store = world.writer();
        let session = store.session().expect("begun");
        let mut writer = session.writer();
        for (id, kind, bytes) in frames.iter().flatten() {
            assert_eq!(session.claim(id).expect("claimed"), Claim::New);
            writer.put(*id, *kind, bytes).expect("taken");
            if *id != frames[1][0].0 {
                writer.flush().expect("a frame");
            }
        }
        drop(writer);
        session.finish(None, RowBatch::default()).expect("stored");
    }
    let path = &files(&vfs, "packs")[0];
    let second = PACK_HEADER_LEN + (HEADER_LEN + SLOT_LEN + 400) as u64;
    // The magic of the first, and the first object of the second.
    assert!(damage(&vfs, path, &Rot::Flip(PACK_HEADER_LEN)));
    assert!(damage(&vfs, path, &Rot::Flip(second + (HEADER_LEN + 2 * SLOT_LEN) as u64 + 7)));
    world.model = frames.iter().flatten().map(|(id, kind, bytes)| (*id, (*kind, bytes.clone()))).collect();
    let bad = HashSet::from([frames[0][0].0, frames[1][0].0]);
    let reader = world.reader();
    assert_eq!(unreadable(&world, &reader), bad, "by the index");
    let report =
        reader.check_packs(Depth::Objects, &|_, _| std::ops::ControlFlow::Continue(())).expect("packs are read");
    assert_eq!(report.bad.iter().map(|bad| bad.id).collect::<HashSet<_>>(), bad);
    drop(reader);
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    assert_eq!(unreadable(&world, &world.reader()), bad, "by the packs");
}

/// The system's refusal to open a pack says nothing against its bytes.
#[test]
fn a_pack_that_does_not_open_is_no_damage() {
    use crate::testing::{Fault, FaultVfs, Op, Plan, Scope};
    let base = base();
    for errno in [5, 13, 24] {
        let world = base.fork();
        let fault = FaultVfs::new(Arc::clone(&world.vfs));
        let place = Place { vfs: Arc::new(fault.clone()), ..world.place() };
        let store = Store::open_limited(place, schema(), "test", Duration::ZERO, LIMITS).expect("opened");
        fault.set_plan(Some(Plan { scope: Scope::Only(Op::OpenRead), at: 1, fault: Fault::ErrorFrom(errno) }));
        match store.get(ROOT, &base.head) {
            Err(GetError::Io { source, .. }) => assert_eq!(source.raw_os_error(), Some(errno)),
            other => panic!("{other:?}"),
        }
        fault.assert_hit();
        fault.set_plan(None);
        assert!(!store.has_damage());
        world.verify(&store, Some(base.head));
        // A byte that the medium does not give is lost.
        let place = Place { vfs: Arc::new(fault.clone()), ..world.place() };
        let reader = Store::open_reader(place, schema()).expect("opened");
        fault.set_plan(Some(Plan { scope: Scope::Only(Op::ReadAt), at: 1, fault: Fault::ErrorFrom(5) }));
        let lost = reader.get(ROOT, &base.head).map(drop).expect_err("not given");
        assert!(lost.is_damage(), "{lost}");
    }
}

/// Full with a bad frame in it: it is not sealed over, and does not stop the store.
#[test]
fn a_damaged_pack_that_is_full_is_left_behind() {
    let (mut world, vfs) = World::in_memory(LIMITS);
    let first = world.plan(31, 0, None, SMALL);
    run(&world.writer(), &first).expect("stored");
    let packs = files(&vfs, "packs");
    for path in &packs {
        assert!(damage(&vfs, path, &Rot::Flip(100)), "the header of the first frame");
    }
    let mut head = first.head;
    let of_first: HashSet<ContentHash> = first.objects.iter().map(|(id, ..)| *id).collect();
    let check = |world: &World, store: &Store, head: ContentHash| {
        for id in world.closure(Some(head)).into_iter().filter(|id| !of_first.contains(id)) {
            store.get(world.model[&id].0, &id).expect("readable");
        }
    };
    for n in 1..10 {
        let planned = world.plan(31, n, None, Size { chunks: 9, chunk_len: 5000 });
        let store = world.writer();
        run(&store, &planned).expect("stored");
        check(&world, &store, planned.head);
        head = planned.head;
    }
    assert!(world.sealed() >= 2, "later packs are sealed");
    assert!(packs.iter().all(|path| vfs.stat(path).is_ok()), "the bad ones are not");
    let store = world.writer();
    check(&world, &store, head);
    // Whoever brings the bytes again puts an end to it.
    run(&store, &everything(&world, head)).expect("stored again");
    assert_eq!(unreadable(&world, &store), HashSet::new());
}

/// Files of the index: whatever is done to them, all objects are read, and the next writers put it right.
fn check_index(base: &Base, next: &Planned, name: &std::ffi::OsStr, rot: &Rot) {
    let world = base.fork();
    let path = world.index_dir().join(name);
    let index = RealVfs::open(&world.index_dir()).expect("opened");
    if !damage(&index, Path::new(name), rot) {
        return;
    }
    let announce = Announce(&path, rot);
    let reader = world.reader();
    world.verify(&reader, Some(base.head));
    drop(reader);
    let store = world.writer();
    world.verify(&store, Some(base.head));
    run(&store, next).expect("stored");
    world.verify(&store, Some(next.head));
    assert!(!store.has_damage(), "of the index only");
    drop(store);
    drop(world.writer());
    let store = world.writer();
    assert_eq!(store.take_warnings(), [""; 0]);
    world.verify(&store, Some(next.head));
    drop(announce);
}

#[test]
fn files_of_the_index() {
    let mut base = base();
    // A table, then two logs.
    std::fs::remove_dir_all(base.world.index_dir()).expect("removed");
    drop(base.world.writer());
    let mut older = HashMap::new();
    for n in 40..42 {
        let planned = base.world.plan(32, n, Some(base.head), SMALL);
        run(&base.world.writer(), &planned).expect("stored");
        base.head = planned.head;
        if n == 40 {
            let index = RealVfs::open(&base.world.index_dir()).expect("opened");
            older = files(&index, "").into_iter().map(|path| (path.clone(), read(&index, &path))).collect();
        }
    }
    let next = base.world.plan(32, 43, Some(base.head), SMALL);
    let index = RealVfs::open(&base.world.index_dir()).expect("opened");
    let mut rng = Rng::new(seed());
    let mut cases = 0;
    let names = files(&index, "");
    assert!(names.iter().any(|name| name.extension().is_some_and(|e| e == "sst")), "{names:?}");
    assert!(names.iter().any(|name| name.extension().is_some_and(|e| e == "log")), "{names:?}");
    for name in names {
        let len = index.stat(&name).expect("there").size;
        for rot in ways(len.max(1), &mut rng, older.get(&name)) {
            check_index(&base, &next, name.as_os_str(), &rot);
            cases += 1;
        }
    }
    eprintln!("{cases} cases");
}

/// RocksDB reads blocks only when they are asked for: that is when it shows.
#[test]
fn an_index_found_wrong_while_it_is_used() {
    let (mut world, vfs) = World::in_memory(calm());
    let planned = world.plan(33, 0, None, Size { chunks: 3000, chunk_len: 40 });
    run(&world.writer(), &planned).expect("stored");
    std::fs::remove_dir_all(world.index_dir()).expect("removed");
    drop(world.writer());
    let base = Base { world, vfs, head: planned.head, older: HashMap::new() };
    let index = RealVfs::open(&base.world.index_dir()).expect("opened");
    let table = files(&index, "").into_iter().find(|name| name.extension().is_some_and(|e| e == "sst"));
    let table = table.expect("a table");
    let mut next = base.world.plan_only(33, 1, Some(base.head));
    for place in [10_000, 50_000, 100_000] {
        for writer in [false, true] {
            let mut world = base.fork();
            let index = RealVfs::open(&world.index_dir()).expect("opened");
            assert!(damage(&index, &table, &Rot::Zero(place, 100)));
            let store = if writer { world.writer() } else { world.reader() };
            assert_eq!(store.take_warnings(), [""; 0], "not seen yet");
            world.verify(&store, Some(base.head));
            let warnings = store.take_warnings();
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].starts_with("index: "), "{warnings:?}");
            if !writer {
                continue;
            }
            world.note(&next);
            run(&store, &next).expect("stored");
            world.verify(&store, Some(next.head));
            drop(store);
            assert_eq!(world.writer().take_warnings(), ["index: it is missing: building it again"]);
            let store = world.writer();
            assert_eq!(store.take_warnings(), [""; 0]);
            world.verify(&store, Some(next.head));
        }
    }
    // Claims come upon it, too.
    let world = base.fork();
    let index = RealVfs::open(&world.index_dir()).expect("opened");
    assert!(damage(&index, &table, &Rot::Zero(20_000, 50_000)));
    let store = world.writer();
    next.objects.splice(0..0, planned.objects.iter().cloned());
    let stats = run(&store, &next).expect("stored");
    assert!(stats.new_chunks < 10, "{stats:?}");
    assert_eq!(store.take_warnings().len(), 1);
}
