//! Files that were written while their chunks came.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use filesync_cas::relay::{FramePacker, StoredFrame, VerifiedFrame};
use filesync_cas::store::Witness;
use filesync_cas::testing::{Fault, Loss, LossVfs, Op, Plan as Faults, Rng, Scope, seed};
use filesync_cas::vfs::{RealVfs, TEMP_PREFIX, Vfs};
use filesync_cas::{Codec, ContentHash, Kind};
use filesync_merkle::{CommitId, Content, ListReader, MerkleSchema, Node, TreeLink, diff, lookup};

use crate::error::Error;
use crate::request::{Event, RestoreResult};
use crate::restore::early::Limits;
use crate::restore::recover::finish;
use crate::restore::testing::*;
use crate::restore::tests::race::Meddling;
use crate::restore::{Context, EarlyFiles, Flags, apply, plan};
use crate::scan::testing::TempDir;
use crate::worktree::temp_path;

const PLAIN: Flags = Flags { delete: false, force: false };

/// Large files with much that is not written, so that few calls make them.
fn target() -> Model {
    let mut rng = Rng::new(3);
    let mut hole = |before: usize, after: usize| {
        let hole = vec![0; 5 << 20];
        [rng.bytes(before), hole, rng.bytes(after)].concat()
    };
    let twice = hole(30_000, 0);
    model([
        ("a", file(hole(50_000, 40_000))),
        ("closed", Item::File { bytes: hole(0, 9000), mode: 0o400, mtime: 1_000_000_000 }),
        ("d/once", file(&twice)),
        ("d/twice", file(&twice)),
        ("d/small", file("small")),
    ])
}

/// A repository without a working copy, and a commit that is on its way there.
fn setup(target: &Model) -> (Fixture, (CommitId, TreeLink)) {
    let fixture = Fixture::new();
    let to = fixture.commit(target);
    (fixture, to)
}

fn early_files(fixture: &Fixture, to: CommitId) -> EarlyFiles {
    EarlyFiles::new(Arc::new(fixture.disk.clone()), Arc::clone(&fixture.nodes().0), to)
}

/// Each chunk of a tree's files, in a frame of its own, as it comes from a peer.
fn frames(fixture: &Fixture, tree: TreeLink) -> Vec<VerifiedFrame> {
    let nodes = fixture.nodes();
    let mut ids: Vec<ContentHash> = Vec::new();
    for change in diff(nodes, None, Some(tree)) {
        match change.unwrap().new.map(|entry| entry.node) {
            Some(Node::File { content: Content::Chunk(id), .. }) => ids.push(id.0),
            Some(Node::File { content: Content::List { root, height }, size, .. }) => {
                let list = ListReader::new(nodes, root, height, size, 0).unwrap();
                ids.extend(list.map(|chunk| chunk.unwrap().id.0));
            }
            _ => {}
        }
    }
    ids.sort_unstable();
    ids.dedup();
    let frame = |id: &ContentHash| {
        let mut packer = FramePacker::new(Codec::Zstd);
        packer.push(*id, Kind::CHUNK, &fixture.store().get(Kind::CHUNK, id).unwrap());
        StoredFrame::parse(packer.finish().unwrap()).unwrap().verify(&MerkleSchema).unwrap()
    };
    ids.iter().map(frame).collect()
}

fn restore(fixture: &Fixture, to: (CommitId, TreeLink), early: Option<&EarlyFiles>) -> Result<RestoreResult, Error> {
    let ctx = Context { early, ..fixture.ctx() };
    apply(&ctx, &plan(&ctx, to.0, to.1, &[], PLAIN)?)
}

/// Temporary files beside the store. As long as they are open, no other file gets their inodes.
fn lying(fixture: &Fixture) -> Vec<fs::File> {
    let entries = fs::read_dir(fixture.dir.path(".filesync")).unwrap().map(Result::unwrap);
    let temporary = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(TEMP_PREFIX));
    temporary.map(|entry| fs::File::open(entry.path()).unwrap()).collect()
}

/// Whether what stands at a path is one of these.
fn is_one_of(lying: &[fs::File], fixture: &Fixture, path: &str) -> bool {
    let inode = inode(fixture, path);
    lying.iter().any(|file| file.metadata().unwrap().ino() == inode)
}

fn inode(fixture: &Fixture, path: &str) -> u64 {
    fs::metadata(fixture.dir.path(path)).unwrap().ino()
}

#[test]
fn what_came_is_moved_to_its_place() {
    for threads in [1, 3] {
        let target = target();
        let (mut fixture, to) = setup(&target);
        fixture.threads = threads;
        let early = early_files(&fixture, to.0);
        frames(&fixture, to.1).iter().for_each(|frame| early.put(frame));
        let lying = lying(&fixture);
        assert_eq!(lying.len(), 3);
        let result = restore(&fixture, to, Some(&early)).unwrap();
        assert_same(&fixture.read(), &target, "");
        assert!(is_one_of(&lying, &fixture, "a") && is_one_of(&lying, &fixture, "closed"));
        // Of two that are the same one was written early, and the other one is no link to it.
        assert!(is_one_of(&lying, &fixture, "d/once") != is_one_of(&lying, &fixture, "d/twice"));
        assert_ne!(inode(&fixture, "d/once"), inode(&fixture, "d/twice"));
        for path in ["a", "closed", "d/once", "d/twice"] {
            assert!(fs::metadata(fixture.dir.path(path)).unwrap().blocks() < 512, "{path}: the hole was written");
        }
        let done: u64 = fixture.notes.0.lock().unwrap().iter().map(advanced).sum();
        assert_eq!(done, result.bytes);
        drop(early);
        assert!(self::lying(&fixture).is_empty());
    }
}

fn advanced(event: &Event) -> u64 {
    if let Event::Advance { bytes, .. } = event { *bytes } else { 0 }
}

#[test]
fn what_did_not_come_is_written_from_the_store() {
    let mut rng = Rng::new(seed(20_261_128));
    let target = target();
    let mut taken = 0;
    for _ in 0..8 {
        let (fixture, to) = setup(&target);
        let early = early_files(&fixture, to.0);
        for frame in frames(&fixture, to.1).iter().filter(|_| rng.coin()) {
            early.put(frame);
            // Two peers may have sent it.
            early.put(frame);
        }
        let lying = lying(&fixture);
        restore(&fixture, to, Some(&early)).unwrap();
        assert_same(&fixture.read(), &target, "");
        taken += usize::from(is_one_of(&lying, &fixture, "a"));
    }
    assert!(taken > 0, "nothing of it ever came");
}

#[test]
fn what_nobody_takes_is_removed() {
    let (mut fixture, to) = setup(&target());
    let early = early_files(&fixture, to.0);
    frames(&fixture, to.1).iter().for_each(|frame| early.put(frame));
    assert_eq!(lying(&fixture).len(), 3);
    drop(early);
    assert_eq!(lying(&fixture).len(), 0);
    // A process that is killed cannot; the next one does.
    let early = early_files(&fixture, to.0);
    frames(&fixture, to.1).iter().for_each(|frame| early.put(frame));
    std::mem::forget(early);
    assert_eq!(lying(&fixture).len(), 3);
    fixture.restart();
    assert_eq!(lying(&fixture).len(), 0);
}

/// Who puts something there in the last moment keeps it.
#[test]
fn what_stands_at_the_place_is_not_replaced() {
    let target = target();
    let (fixture, to) = setup(&target);
    let place = temp_path(&path("a"));
    let there = fixture.dir.root().join(&place);
    let work = Meddling::at(&fixture, place, move || fs::write(there, b"mine").unwrap());
    let early = EarlyFiles::new(Arc::new(work), Arc::clone(&fixture.nodes().0), to.0);
    frames(&fixture, to.1).iter().for_each(|frame| early.put(frame));
    assert_eq!(lying(&fixture).len(), 3);
    restore(&fixture, to, Some(&early)).unwrap();
    let mut found = fixture.read();
    let kept: Vec<_> =
        found.iter().filter(|(_, item)| matches!(item, Item::File { bytes, .. } if bytes == b"mine")).collect();
    let [(kept, _)] = kept[..] else { panic!("{kept:?}") };
    let kept = kept.clone();
    found.remove(&kept);
    assert_same(&found, &target, "");
}

/// Only so many are open, and only so many places are remembered; what is too much is written from the store.
#[test]
fn there_are_limits() {
    let target = target();
    let plenty = Limits { places: 10_000, open_files: 10, unsynced: 20_000 };
    let mut syncs = Vec::new();
    for (limits, begun) in [
        (plenty, 3),
        (Limits { unsynced: u64::MAX, ..plenty }, 3),
        (Limits { open_files: 1, ..plenty }, 1),
        (Limits { open_files: 0, ..plenty }, 0),
        (Limits { places: 100, ..plenty }, 0),
    ] {
        let (fixture, to) = setup(&target);
        let store = Arc::clone(&fixture.nodes().0);
        let early = EarlyFiles::within(limits, Arc::new(fixture.disk.clone()), store, to.0);
        // None is completed, and closed.
        let first = ["a", "closed", "d/once"].map(|at| first_chunk(&fixture, to.1, at));
        let frames = frames(&fixture, to.1);
        frames.iter().filter(|frame| !first.contains(&frame.slots()[0].id)).for_each(|frame| early.put(frame));
        assert_eq!(lying(&fixture).len(), begun, "{limits:?}");
        restore(&fixture, to, Some(&early)).unwrap();
        assert_same(&fixture.read(), &target, &format!("{limits:?}"));
        syncs.push(fixture.disk.counts().of(Op::SyncData));
    }
    assert!(syncs[0] > syncs[1], "none was synced before it was complete: {syncs:?}");
}

fn first_chunk(fixture: &Fixture, tree: TreeLink, at: &str) -> ContentHash {
    let entry = lookup(fixture.nodes(), &tree, &path(at)).unwrap().unwrap();
    let Node::File { content: Content::List { root, height }, size, .. } = entry.node else { panic!("{at} is small") };
    ListReader::new(fixture.nodes(), root, height, size, 0).unwrap().next().unwrap().unwrap().id.0
}

/// An error at every call: it is told if it matters, no file is torn, and the same work runs to its end afterwards.
#[test]
fn errors_leave_no_torn_files() {
    const EIO: i32 = 5;
    const ENOSPC: i32 = 28;
    let target = target();
    for (scope, errno) in [(Scope::Mutating, ENOSPC), (Scope::Only(Op::SyncData), EIO), (Scope::Only(Op::Rename), EIO)]
    {
        for at in 1.. {
            let (mut fixture, to) = setup(&target);
            let frames = frames(&fixture, to.1);
            let early = early_files(&fixture, to.0);
            fixture.disk.set_plan(Some(Faults { scope, at, fault: Fault::ErrorOnce(errno) }));
            frames.iter().for_each(|frame| early.put(frame));
            let was_early = fixture.disk.hit();
            let done = restore(&fixture, to, Some(&early));
            let when = format!("{scope:?} {errno} at {at}");
            let left = fixture.read();
            for (path, item) in left.iter().filter(|(path, _)| !path.to_string().contains(TEMP_PREFIX)) {
                assert!(
                    matches!(item, Item::Dir { .. }) || target.get(path) == Some(item),
                    "{when}: {path} is {item:?}"
                );
            }
            if was_early {
                done.as_ref().unwrap_or_else(|error| panic!("{when}: {error}"));
                assert_same(&left, &target, &when);
            }
            let hit = fixture.disk.hit();
            fixture.disk.set_plan(None);
            drop(early);
            finish(&fixture.ctx()).unwrap();
            restore(&fixture, to, None).unwrap();
            assert_same(&fixture.read(), &target, &when);
            // What could not be removed the next writer removes.
            fixture.restart();
            assert_eq!(self::lying(&fixture).len(), 0, "{when}");
            if !hit {
                done.unwrap();
                assert!(at > 3, "{when}");
                break;
            }
        }
    }
}

#[test]
fn a_file_that_could_not_be_synced_is_not_taken() {
    let target = target();
    let (fixture, to) = setup(&target);
    let early = early_files(&fixture, to.0);
    fixture.disk.set_plan(Some(Faults { scope: Scope::Only(Op::SyncData), at: 1, fault: Fault::ErrorFrom(5) }));
    frames(&fixture, to.1).iter().for_each(|frame| early.put(frame));
    let lying = lying(&fixture);
    assert_eq!(lying.len(), 3);
    let taken = restore(&fixture, to, Some(&early));
    assert!(fixture.disk.hit());
    fixture.disk.set_plan(None);
    taken.unwrap();
    assert_same(&fixture.read(), &target, "");
    assert!(!is_one_of(&lying, &fixture, "a"));
}

#[test]
fn power_cuts_leave_no_torn_files() {
    let mut target = target();
    target.retain(|path, _| ["a", "d", "d/small"].iter().any(|kept| path.as_bytes() == kept.as_bytes()));
    let (fixture, to) = setup(&target);
    let frames = frames(&fixture, to.1);
    let root = fixture.dir.root().to_owned();
    let index = Path::new(".filesync/index");
    let start = LossVfs::from_dir(&root, &[index]).unwrap();
    let dir = Rc::clone(&fixture.dir);
    drop(fixture);
    let mut torn_before = 0;
    for calls in 0.. {
        let vfs = start.fork();
        // The store finds again what an index that is gone knew.
        fs::remove_dir_all(root.join(index)).unwrap();
        let fixture = Fixture::open(Rc::clone(&dir), Arc::new(vfs.clone()));
        vfs.stop_after(calls);
        let early = early_files(&fixture, to.0);
        frames.iter().for_each(|frame| early.put(frame));
        let done = restore(&fixture, to, Some(&early));
        drop(early);
        let losses = [Loss::DropAllUnsynced, Loss::KeepAll, Loss::Random(calls)];
        for loss in losses {
            let when = format!("after {calls} calls, {loss:?}");
            let out = Rc::new(TempDir::new());
            vfs.materialise(out.root(), &loss).unwrap();
            let left = read_dir(out.root());
            for (path, item) in left.iter().filter(|(path, _)| !path.to_string().contains(TEMP_PREFIX)) {
                assert!(
                    matches!(item, Item::Dir { .. }) || target.get(path) == Some(item),
                    "{when}: {path} is {item:?}"
                );
            }
            let real: Arc<dyn Vfs> = Arc::new(RealVfs::open(out.root()).unwrap());
            let after = Fixture::open(Rc::clone(&out), real);
            torn_before += usize::from(left.len() < target.len());
            finish(&after.ctx()).unwrap();
            restore(&after, to, None).unwrap();
            assert_same(&after.read(), &target, &when);
            assert_eq!(lying(&after).len(), 0, "{when}");
        }
        if !vfs.is_dead() {
            done.unwrap();
            assert!(calls > 30 && torn_before > 30, "{calls} {torn_before}");
            break;
        }
    }
}
