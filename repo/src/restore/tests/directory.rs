use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use filesync_cas::testing::{Fault, FaultVfs, Op, Plan, Rng, Scope, seeds};
use filesync_cas::vfs::{RealVfs, TEMP_PREFIX, Vfs};
use filesync_merkle::{Entry, Mode, Node, RepoPath, TreeLink, edit_paths};

use crate::objects::SessionNodes;
use crate::restore::directory::{Build, Temporary, lock, temporary_of};
use crate::restore::testing::*;
use crate::restore::to_directory;
use crate::scan::testing::TempDir;

fn check(fixture: &Fixture, tree: TreeLink, expected: &Model) {
    let out = TempDir::new();
    let result = to_directory(&fixture.ctx(), tree, &[], &out.path("copy"), false).unwrap();
    assert_eq!(&read_dir(&out.path("copy")), expected);
    let files = expected.values().filter(|item| !matches!(item, Item::Dir { .. })).count();
    assert_eq!(result.written, files as u64);
    assert!(result.damaged.is_empty());
    let bytes = |item: &Item| if let Item::File { bytes, .. } = item { bytes.len() } else { 0 };
    assert_eq!(result.bytes, expected.values().map(bytes).sum::<usize>() as u64);
    assert_eq!(fs::read_dir(out.root()).unwrap().count(), 1, "nothing is left beside it");
}

#[test]
fn random_trees_come_back() {
    let mut fixture = Fixture::new();
    for seed in seeds(0, 6, 200) {
        let tree = random(&mut Rng::new(seed), 300);
        let (_, link) = fixture.commit(&tree);
        fixture.threads = 1 + usize::try_from(seed % 3).unwrap();
        check(&fixture, link, &tree);
    }
}

#[test]
fn special_cases_come_back() {
    let mut fixture = Fixture::new();
    let mut rng = Rng::new(1);
    let old = Item::File { bytes: b"old".to_vec(), mode: 0o000, mtime: 1 };
    let mut sparse = text(&mut rng, 5_000);
    sparse.resize(3_000_000, 0);
    sparse.extend_from_slice(b"end");
    let mut hole_at_end = text(&mut rng, 70_000);
    hole_at_end.resize(1_000_000, 0);
    let tree = model([
        ("none", old),
        ("large", file(text(&mut rng, 9_000_000))),
        ("sparse", file(&sparse)),
        ("hole at end", file(&hole_at_end)),
        ("zeros", file(vec![0; 500_000])),
        ("few zeros", file(vec![0; 100])),
        ("closed", Item::Dir { mode: 0o000 }),
        ("closed/a/b", file("x")),
        ("dangling", link("/nowhere/../else")),
        ("empty", Item::Dir { mode: 0o755 }),
    ]);
    let (_, link) = fixture.commit(&tree);
    for threads in [1, 3] {
        fixture.threads = threads;
        check(&fixture, link, &tree);
    }
    let out = TempDir::new();
    to_directory(&fixture.ctx(), link, &[], &out.path("copy"), true).unwrap();
    let blocks = |name: &str| fs::metadata(out.path("copy").join(name)).unwrap().blocks() * 512;
    assert!(blocks("sparse") < 200_000, "{}", blocks("sparse"));
    assert!(blocks("hole at end") < 200_000);
    assert_eq!(blocks("zeros"), 0);
}

#[test]
fn attributes_come_back_or_are_warned_of() {
    let fixture = Fixture::new();
    let attrs = fixture.attrs(b"user.colour", b"blue");
    let (_, link) = fixture.commit(&model([("d/f", file("x"))]));
    let link = fixture.with_attrs(link, &["d", "d/f"], attrs);
    let out = TempDir::new();
    to_directory(&fixture.ctx(), link, &[], &out.path("copy"), false).unwrap();
    for at in ["copy/d", "copy/d/f"] {
        let mut value = [0; 16];
        match rustix::fs::getxattr(out.path(at), "user.colour", &mut value) {
            Ok(len) => assert_eq!(&value[..len], b"blue"),
            Err(_) => assert!(!fixture.notes.warnings().is_empty()),
        }
    }
}

#[test]
fn some_paths_with_what_is_above_them() {
    let fixture = Fixture::new();
    let all = [("a/b/c", file("1")), ("a/b/d", file("2")), ("a/e", file("3")), ("f", file("4"))];
    let (_, link) = fixture.commit(&model(all));
    let out = TempDir::new();
    let only = |paths: &[&str], to: &str| {
        let paths: Vec<RepoPath> = paths.iter().map(path).collect();
        to_directory(&fixture.ctx(), link, &paths, &out.path(to), false)
    };
    only(&["a/b/d", "f"], "1").unwrap();
    assert_eq!(read_dir(&out.path("1")), model([("a/b/d", file("2")), ("f", file("4"))]));
    only(&["a/b"], "2").unwrap();
    assert_eq!(read_dir(&out.path("2")), model([("a/b/c", file("1")), ("a/b/d", file("2"))]));
    assert!(only(&["a/x"], "3").is_err());
    assert!(!out.path("3").exists());
}

#[test]
fn new_or_empty_directories_only() {
    let fixture = Fixture::new();
    let (_, link) = fixture.commit(&model([("f", file("4"))]));
    let out = TempDir::new();
    let to = |name: &str| to_directory(&fixture.ctx(), link, &[], &out.path(name), false);
    out.dir("empty");
    fs::set_permissions(out.path("empty"), fs::Permissions::from_mode(0o750)).unwrap();
    to("empty").unwrap();
    assert_eq!(fs::metadata(out.path("empty")).unwrap().mode() & 0o777, 0o750);
    to("empty/").unwrap_err();
    out.dir("linked");
    out.symlink("linked", "link");
    to("link").unwrap();
    assert!(out.path("linked/f").is_file() && out.path("link").is_symlink());
    out.file("file", b"");
    out.symlink("nowhere", "dangling");
    for bad in ["file", "dangling", "no/parent", "empty"] {
        assert!(to(bad).is_err(), "{bad}");
    }
    assert_eq!(fs::read_dir(out.root()).unwrap().count(), 5, "no leftovers");
}

#[test]
fn hostile_depth_is_refused() {
    let fixture = Fixture::new();
    let session = fixture.store().session().unwrap();
    let mut writer = session.writer();
    let mut link = TreeLink::empty();
    for _ in 0..4200 {
        let entry = Entry::directory(Mode::DIRECTORY, link);
        link = edit_paths(fixture.nodes(), &mut SessionNodes(&mut writer), None, [(path("d"), Some(entry))]).unwrap();
    }
    writer.flush().unwrap();
    drop(writer);
    session.finish(None, Default::default()).unwrap();
    let out = TempDir::new();
    let error = to_directory(&fixture.ctx(), link, &[], &out.path("copy"), false).unwrap_err();
    assert!(error.to_string().contains("4096 levels"), "{error}");
    assert_eq!(fs::read_dir(out.root()).unwrap().count(), 0);
}

#[test]
fn damage_leaves_the_rest() {
    let mut fixture = Fixture::new();
    let mut rng = Rng::new(5);
    let tree = model([
        ("a", file(rng.bytes(300_000))),
        ("b/small", file("fine")),
        ("c", file(rng.bytes(8_000_000))),
        ("d", file(rng.bytes(3_000))),
        ("e", link("x")),
    ]);
    let (_, tree_link) = fixture.commit(&tree);
    damage_some_chunks(&fixture);
    for threads in [1, 3] {
        fixture.threads = threads;
        let out = TempDir::new();
        let result = to_directory(&fixture.ctx(), tree_link, &[], &out.path("copy"), false).unwrap();
        assert!(!result.damaged.is_empty());
        let mut expected = tree.clone();
        for damaged in &result.damaged {
            assert!(expected.remove(&path(&damaged.path)).is_some());
            assert!(!damaged.cause.is_empty());
        }
        assert_eq!(read_dir(&out.path("copy")), expected);
        assert_eq!(result.written + result.damaged.len() as u64, 5);
    }
}

/// Flips bytes in the midst of the data pack.
pub fn damage_some_chunks(fixture: &Fixture) {
    let packs = fixture.dir.path(".filesync/packs");
    let largest = fs::read_dir(packs).unwrap().map(|entry| entry.unwrap().path());
    let largest = largest.max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0x55);
    fs::write(&largest, bytes).unwrap();
}

#[test]
fn a_missing_directory_leaves_the_rest() {
    let fixture = Fixture::new();
    let (_, link) = fixture.commit(&model([("a/x", file("1")), ("b", file("2"))]));
    let session = fixture.store().session().unwrap();
    let mut writer = session.writer();
    let mut missing = TreeLink::empty();
    missing.id = filesync_merkle::TreeId::from_bytes([3; 32]);
    missing.totals.files = 1;
    let change = (path("a"), Some(Entry { mode: Mode::DIRECTORY, attrs: None, node: Node::Directory(missing) }));
    // The editor reads what it opens: the entry is put under a name where nothing else is changed.
    let edited = edit_paths(fixture.nodes(), &mut SessionNodes(&mut writer), Some(link), [change]).unwrap();
    writer.flush().unwrap();
    drop(writer);
    session.finish(None, Default::default()).unwrap();
    let out = TempDir::new();
    let result = to_directory(&fixture.ctx(), edited, &[], &out.path("copy"), false).unwrap();
    assert_eq!(result.damaged.len(), 1);
    assert_eq!(result.damaged[0].path, b"a");
    assert_eq!(read_dir(&out.path("copy"))[&path("b")], file("2"));
}

fn build(fixture: &Fixture, link: TreeLink, vfs: Arc<dyn Vfs>) -> Result<(), crate::Error> {
    let ctx = fixture.ctx();
    let temp = Path::new(".filesync-tmp-00000000000000000000000000000000");
    vfs.mkdir(temp, 0o777).map_err(|error| crate::Error::path("cannot make", temp, &error))?;
    let to = Path::new("copy");
    let build = Build { ctx: &ctx, target: link, paths: &[], to, vfs, root: None, fsync: true };
    build.beside(temp, Path::new("copy"), None).map(drop)
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;

/// Faults, the calls that they hit, and how many of these there are at least.
fn faults() -> impl Iterator<Item = (Fault, Scope, u64)> {
    let errors = [EIO, EMFILE, ENOSPC].into_iter().flat_map(|errno| [Fault::ErrorOnce(errno), Fault::ErrorFrom(errno)]);
    let changes = errors.chain([Fault::Kill]).map(|fault| (fault, Scope::Mutating, 50));
    let shorts = [Fault::ShortWrite, Fault::ShortFrom];
    changes.chain(shorts.map(|fault| (fault, Scope::Only(Op::WriteAt), 15)))
}

#[test]
fn cut_off_anywhere_it_is_whole_or_not_there() {
    let fixture = Fixture::new();
    let tree = random(&mut Rng::new(11), 30);
    let (_, link) = fixture.commit(&tree);
    for (fault, scope, calls_min) in faults() {
        for at in 1.. {
            let when = format!("{fault:?} at {at}");
            let out = TempDir::new();
            let real: Arc<dyn Vfs> = Arc::new(RealVfs::open(out.root()).unwrap());
            let faulty = FaultVfs::with_plan(real, Plan { scope, at, fault });
            let done = build(&fixture, link, Arc::new(faulty.clone()));
            let names: Vec<_> = fs::read_dir(out.root()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            if done.is_ok() || out.path("copy").exists() {
                assert_eq!(read_dir(&out.path("copy")), tree, "{when}");
            } else {
                assert!(names.iter().all(|name| name.to_str().unwrap().starts_with(TEMP_PREFIX)), "{when}: {names:?}");
            }
            if matches!(fault, Fault::ErrorOnce(_)) {
                assert!(names.iter().all(|name| name == "copy"), "{when}: {names:?}");
            }
            let is_short = matches!(fault, Fault::ShortWrite | Fault::ShortFrom);
            if is_short || !faulty.hit() {
                done.as_ref().unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            if let Err(error) = done {
                assert!(error.to_string().contains("cannot"), "{when}: {error}");
            }
            if !faulty.hit() {
                assert!(at > calls_min, "{fault:?}: only {at} calls");
                break;
            }
        }
    }
}

/// What was left by one that was killed goes; what another builds stays.
#[test]
fn what_a_killed_one_left_is_removed() {
    let fixture = Fixture::new();
    let link = fixture.commit(&model([("n", file("new"))])).1;
    let out = TempDir::new();
    let copy = out.path("copy");
    let temp = out.root().join(temporary_of(Path::new("copy")));
    let leave = || {
        fs::create_dir(&temp).unwrap();
        fs::write(temp.join("half"), "half").unwrap();
    };
    leave();
    to_directory(&fixture.ctx(), link, &[], &copy, false).unwrap();
    assert!(copy.join("n").exists() && !copy.join("half").exists());
    assert_eq!(fs::read_dir(out.root()).unwrap().count(), 1);
    fs::remove_dir_all(&copy).unwrap();
    leave();
    let held = lock(&temp).unwrap();
    to_directory(&fixture.ctx(), link, &[], &copy, false).unwrap();
    assert!(copy.join("n").exists() && temp.join("half").exists());
    drop(held);
}

/// Whoever builds at the same time has a directory of his own, whatever was left.
#[test]
fn copies_at_the_same_time_are_not_mixed() {
    let out = TempDir::new();
    let (root, name) = (out.root(), Path::new("copy"));
    let left = root.join(temporary_of(name));
    let mut known = 0;
    for round in 0..300 {
        fs::create_dir(&left).unwrap();
        fs::write(left.join("half"), "half").unwrap();
        let build = |number: u32| {
            let vfs = RealVfs::open(root).unwrap();
            let temp = Temporary::make(&vfs, root, name).unwrap();
            let path = root.join(&temp.path);
            fs::write(path.join(number.to_string()), "mine").unwrap();
            // The others are at it meanwhile.
            std::thread::yield_now();
            let names: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, [number.to_string().as_str()], "{round}");
            crate::worktree::remove_tree(&vfs, &temp.path).unwrap();
            temp.path == temporary_of(name)
        };
        let built: Vec<bool> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || build(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        known += built.iter().filter(|known| **known).count();
        assert_eq!(fs::read_dir(root).unwrap().count(), 0, "{round}: something is left");
    }
    assert!(known > 0, "nobody had the name that the next one finds");
}
