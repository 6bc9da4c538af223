use std::fs;
use std::os::unix::fs::PermissionsExt;

use filesync_cas::testing::{Rng, seeds};
use filesync_merkle::{CommitId, RepoPath, TreeLink};

use crate::request::{PlannedStep, RestoreResult};
use crate::restore::testing::*;
use crate::restore::{Flags, apply, plan};

const PLAIN: Flags = Flags { delete: false, force: false };
const DELETE: Flags = Flags { delete: true, force: false };
const FORCE: Flags = Flags { delete: false, force: true };
const BOTH: Flags = Flags { delete: true, force: true };

fn restore_paths(fixture: &Fixture, to: (CommitId, TreeLink), paths: &[&str], flags: Flags) -> RestoreResult {
    let ctx = fixture.ctx();
    let paths: Vec<RepoPath> = paths.iter().map(path).collect();
    let plan = plan(&ctx, to.0, to.1, &paths, flags).unwrap();
    let shown = plan.result();
    let result = apply(&ctx, &plan).unwrap();
    assert_eq!(shown.written, result.written, "skipped {:?}", skipped(&result));
    assert_eq!(shown.deleted, result.deleted);
    assert_eq!(shown.bytes, result.bytes);
    assert!(!fixture.dir.path(".filesync/journal").exists());
    result
}

fn restore(fixture: &Fixture, to: (CommitId, TreeLink), flags: Flags) -> RestoreResult {
    restore_paths(fixture, to, &[], flags)
}

/// A repository whose HEAD is `head`, and a commit of `target`.
fn setup(head: &Model, target: &Model) -> (Fixture, (CommitId, TreeLink)) {
    let mut fixture = Fixture::new();
    let target = fixture.commit(target);
    fixture.head = Some(fixture.commit(head).1);
    fixture.write(head);
    (fixture, target)
}

fn skipped(result: &RestoreResult) -> Vec<&str> {
    result.skipped.iter().map(|path| std::str::from_utf8(path).unwrap()).collect()
}

#[test]
fn back_to_an_older_state() {
    let head = model([("a", file("new")), ("d/b", file("same")), ("d/c", file("added")), ("l", link("x"))]);
    let target = model([("a", file("old")), ("d/b", file("same")), ("e/f", file("gone")), ("l", link("y"))]);
    let (fixture, to) = setup(&head, &target);
    let result = restore(&fixture, to, PLAIN);
    assert_eq!((result.written, result.deleted, result.unchanged), (3, 0, 1));
    let mut expected = target.clone();
    expected.insert(path("d/c"), file("added"));
    assert_same(&fixture.read(), &expected, "");
    let result = restore(&fixture, to, DELETE);
    assert_eq!((result.written, result.deleted, result.unchanged), (0, 1, 4));
    assert_same(&fixture.read(), &target, "");
}

#[test]
fn what_is_in_no_commit_stays() {
    let head = model([("a", file("1")), ("b", file("2")), ("c", file("3"))]);
    let (fixture, to) = setup(&head, &head);
    fixture.dir.file("a", b"mine");
    fixture.dir.file("b", b"3");
    fs::remove_file(fixture.dir.path("c")).unwrap();
    fixture.dir.file("untracked", b"mine too");
    fixture.dir.file("known", b"2");
    let result = restore(&fixture, to, DELETE);
    assert_eq!(skipped(&result), ["a", "untracked"]);
    assert_eq!((result.written, result.deleted), (2, 1));
    assert_eq!(fs::read(fixture.dir.path("a")).unwrap(), b"mine");
    assert_eq!(fs::read(fixture.dir.path("b")).unwrap(), b"2");
    assert!(!fixture.dir.path("known").exists());
    let result = restore(&fixture, to, FORCE);
    assert!(result.skipped.is_empty());
    assert_eq!(result.written, 1);
    assert!(fixture.dir.path("untracked").exists());
    restore(&fixture, to, BOTH);
    assert_same(&fixture.read(), &head, "");
}

#[test]
fn modes_alone_and_times() {
    let head = model([("a", file("1")), ("d/x", file("2"))]);
    let (fixture, to) = setup(&head, &head);
    fs::set_permissions(fixture.dir.path("a"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::set_permissions(fixture.dir.path("d"), fs::Permissions::from_mode(0o700)).unwrap();
    let touched = fs::File::open(fixture.dir.path("d/x")).unwrap();
    touched.set_modified(std::time::UNIX_EPOCH).unwrap();
    let result = restore(&fixture, to, PLAIN);
    assert_eq!((result.written, result.unchanged), (2, 1));
    let mut expected = head.clone();
    expected.insert(path("d/x"), Item::File { bytes: b"2".to_vec(), mode: 0o644, mtime: 0 });
    assert_same(&fixture.read(), &expected, "");
}

#[test]
fn kinds_change() {
    let head =
        model([("a", file("1")), ("b/x", file("2")), ("b/y/z", file("3")), ("c", link("t")), ("d/q", file("5"))]);
    let target =
        model([("a/deep/x", file("4")), ("b", file("6")), ("c/y", file("7")), ("d", link("8")), ("e", file(""))]);
    let (fixture, to) = setup(&head, &target);
    let result = restore(&fixture, to, PLAIN);
    assert!(result.skipped.is_empty(), "{:?}", skipped(&result));
    assert_same(&fixture.read(), &target, "");
}

#[test]
fn what_stands_in_the_way_of_a_file() {
    let head = model([("d/tracked", file("1"))]);
    let target = model([("d", file("2"))]);
    let (fixture, to) = setup(&head, &target);
    fixture.dir.file("d/untracked", b"1");
    fixture.dir.dir("d/empty");
    let result = restore(&fixture, to, PLAIN);
    assert_eq!(skipped(&result), ["d"]);
    assert_eq!(fs::read(fixture.dir.path("d/tracked")).unwrap(), b"1", "nothing in it was touched");
    // What is ignored stays whatever is asked for.
    fixture.dir.file(".filesyncignore", b"*.o\n");
    fixture.dir.file("d/x.o", b"");
    assert_eq!(skipped(&restore(&fixture, to, BOTH)), ["d"]);
    fs::remove_file(fixture.dir.path("d/x.o")).unwrap();
    fixture.dir.file("d/new", b"in no commit");
    assert_eq!(skipped(&restore(&fixture, to, DELETE)), ["d"]);
    restore(&fixture, to, BOTH);
    assert_same(&fixture.read(), &target, "");
}

#[test]
fn what_stands_in_the_way_of_a_directory() {
    let head = model([("d/x", file("1")), ("e/x", file("2"))]);
    let (fixture, to) = setup(&head, &head);
    fixture.write(&model([("d", link("elsewhere")), ("e", file("2"))]));
    fixture.dir.dir("elsewhere");
    let result = restore(&fixture, to, PLAIN);
    assert_eq!(skipped(&result), ["d"]);
    assert!(fs::read_dir(fixture.dir.path("elsewhere")).unwrap().next().is_none(), "no link was followed");
    restore(&fixture, to, FORCE);
    let mut expected = head.clone();
    expected.insert(path("elsewhere"), Item::Dir { mode: 0o755 });
    assert_same(&fixture.read(), &expected, "");
}

#[test]
fn only_some_paths() {
    let head = model([("a/b/x", file("1")), ("a/b/y", file("2")), ("a/z", file("3"))]);
    let target = model([("a/b/x", file("4")), ("a/b/y", file("5")), ("a/z", file("6"))]);
    let (fixture, to) = setup(&head, &target);
    restore_paths(&fixture, to, &["a/b/x"], PLAIN);
    assert_eq!(fixture.read(), model([("a/b/x", file("4")), ("a/b/y", file("2")), ("a/z", file("3"))]));
    fs::remove_dir_all(fixture.dir.path("a")).unwrap();
    restore_paths(&fixture, to, &["a/b/y"], PLAIN);
    assert_eq!(fixture.read(), model([("a/b/y", file("5"))]));
    fixture.dir.file("a/new", b"6");
    let missing = plan(&fixture.ctx(), to.0, to.1, &[path("a/new")], PLAIN);
    assert!(missing.unwrap_err().to_string().contains("a/new"));
    restore_paths(&fixture, to, &["a/new"], DELETE);
    assert_eq!(fixture.read(), model([("a/b/y", file("5"))]));
}

#[test]
fn a_dry_run_shows_and_does_nothing() {
    let head = model([("a", file("1")), ("b", file("2")), ("c/x", file("3"))]);
    let target = model([("a", file("4")), ("c", file("5")), ("d", Item::Dir { mode: 0o755 })]);
    let (fixture, to) = setup(&head, &target);
    fixture.dir.file("mine", b"mine");
    let before = fixture.read();
    let shown = plan(&fixture.ctx(), to.0, to.1, &[], DELETE).unwrap().shown();
    let expected =
        [("write", "a"), ("delete", "b"), ("write", "c"), ("delete", "c/x"), ("write", "d"), ("skip", "mine")];
    let expected: Vec<_> =
        expected.iter().map(|(action, path)| PlannedStep { action, path: path.as_bytes().to_vec() }).collect();
    assert_eq!(shown, expected);
    assert_same(&fixture.read(), &before, "");
}

#[test]
fn directories_that_may_not_be_written() {
    let head = model([("d", Item::Dir { mode: 0o555 }), ("d/x", file("1")), ("d/e/y", file("2"))]);
    let target =
        model([("d", Item::Dir { mode: 0o555 }), ("d/x", file("3")), ("d/z", file("4")), ("d/e/y", file("2"))]);
    let (fixture, to) = setup(&head, &target);
    restore(&fixture, to, PLAIN);
    assert_same(&fixture.read(), &target, "");
}

#[test]
fn fifos_are_never_written_to() {
    let head = model([("p", file("1")), ("d/x", file("2"))]);
    let (fixture, to) = setup(&head, &head);
    fixture.write(&model([]));
    let mode = rustix::fs::Mode::from_raw_mode(0o644);
    for name in ["p", "d"] {
        rustix::fs::mknodat(&fixture.fd, name, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    }
    assert_eq!(skipped(&restore(&fixture, to, PLAIN)), ["d", "p"]);
    assert_eq!(skipped(&restore(&fixture, to, FORCE)), Vec::<&str>::new());
    assert_same(&fixture.read(), &head, "");
}

#[test]
fn damage_leaves_what_is_there_and_does_the_rest() {
    let mut rng = Rng::new(3);
    let target = model([("a", file(rng.bytes(400_000))), ("b", file("fine"))]);
    let head = model([("a", file("now")), ("b", file("then"))]);
    let (fixture, to) = setup(&head, &target);
    super::directory::damage_some_chunks(&fixture);
    let ctx = fixture.ctx();
    let result = apply(&ctx, &plan(&ctx, to.0, to.1, &[], PLAIN).unwrap()).unwrap();
    assert_eq!(result.damaged.len(), 1);
    assert_eq!(result.damaged[0].path, b"a");
    assert_eq!(fixture.read(), model([("a", file("now")), ("b", file("fine"))]));
}

#[test]
fn the_stat_cache_knows_what_was_restored() {
    let mut rng = Rng::new(4);
    let (head, target) = (random(&mut rng, 60), random(&mut rng, 60));
    let (fixture, to) = setup(&head, &target);
    restore(&fixture, to, BOTH);
    let cache = crate::stat_cache::StatCache::new(fixture.store().rows(), b"s");
    let options = crate::scan::ScanOptions::default();
    let mut scan = crate::scan::Scan::start(fixture.fd.try_clone().unwrap(), Some(cache), options);
    let mut known = 0;
    let dirs = target.iter().filter(|(_, item)| matches!(item, Item::Dir { .. })).map(|(path, _)| path.clone());
    for dir in std::iter::once(RepoPath::root()).chain(dirs) {
        let mut dir = scan.dir(&dir).unwrap();
        while let Some(batch) = dir.next_batch().unwrap() {
            known += batch.entries.iter().filter(|entry| entry.cached.is_some()).count();
        }
    }
    let fresh = target.iter().filter(|(path, item)| head.get(path) != Some(item)).count();
    assert!(known >= fresh * 9 / 10, "{known} of {fresh}");
}

#[test]
fn random_states_become_the_target() {
    for seed in seeds(0, 12, 400) {
        let mut rng = Rng::new(seed);
        let (head, target, disk) = (random(&mut rng, 80), random(&mut rng, 80), random(&mut rng, 80));
        let (mut fixture, to) = setup(&head, &target);
        fixture.threads = 1 + rng.index(3);
        fixture.write(&disk);
        // Without force, what is in no commit is there still, whatever became of the rest.
        let result = restore(&fixture, to, PLAIN);
        let now = fixture.read();
        let known = |item: &Item| head.values().chain(target.values()).any(|other| same_bytes(other, item));
        for (path, item) in &disk {
            if !matches!(item, Item::Dir { .. } | Item::Link(_)) && !known(item) {
                assert!(now.get(path).is_some_and(|now| same_bytes(now, item)), "{path} was lost");
            }
        }
        for (path, item) in &target {
            let left = |at: &RepoPath| {
                result.skipped.iter().any(|skipped| at.starts_with(&super::super::testing::path(skipped)))
            };
            assert!(left(path) || now.get(path).is_some_and(|now| same(now, item)), "{path}");
        }
        restore(&fixture, to, BOTH);
        let now = fixture.read();
        assert!(now.keys().eq(target.keys()));
        assert!(now.iter().all(|(path, item)| same(item, &target[path])));
        let again = plan(&fixture.ctx(), to.0, to.1, &[], BOTH).unwrap();
        assert!(again.shown().is_empty(), "{:?}", again.shown());
    }
}

fn same_bytes(a: &Item, b: &Item) -> bool {
    matches!((a, b), (Item::File { bytes: a, .. }, Item::File { bytes: b, .. }) if a == b)
}

/// As the format compares: times do not count.
fn same(a: &Item, b: &Item) -> bool {
    match (a, b) {
        (Item::File { bytes: a, mode: m, .. }, Item::File { bytes: b, mode: n, .. }) => a == b && m == n,
        _ => a == b,
    }
}

/// A directory that has to be opened in order to be emptied, and that then goes.
#[test]
fn a_closed_directory_that_goes_is_not_missed() {
    let head = model([
        ("d", Item::Dir { mode: 0o555 }),
        ("d/x", file("1")),
        ("e", Item::Dir { mode: 0o500 }),
        ("e/f/x", file("2")),
    ]);
    let (fixture, to) = setup(&head, &model([("e", file("3"))]));
    let result = restore(&fixture, to, DELETE);
    assert_eq!(skipped(&result), Vec::<&str>::new());
    assert_same(&fixture.read(), &model([("e", file("3"))]), "");
}

/// A commit that was cut off, or amended away, leaves its objects in the store. That is not enough.
#[test]
fn what_the_store_has_and_no_commit_stays() {
    let mut rng = Rng::new(9);
    let large = text(&mut rng, 50_000);
    let fixture = Fixture::new();
    let orphans = model([("x", file("orphan")), ("y", file(&large)), ("z", link("orphan"))]);
    fixture.commit(&orphans);
    let session = fixture.store().session().unwrap();
    session.finish(None, Default::default()).unwrap();
    let mut fixture = fixture;
    let older = fixture.commit(&model([("k", file("known")), ("l", link("known"))]));
    let to = fixture.commit(&model([("a", file("1")), ("b", file("2")), ("c", link("3"))]));
    let head = model([("a", file("4")), ("b", file("5")), ("c", link("6"))]);
    fixture.head = Some(fixture.commit(&head).1);
    fixture.write(&model([("a", file("orphan")), ("b", file(&large)), ("c", link("orphan")), ("u", file("orphan"))]));
    let before = fixture.read();
    let result = restore(&fixture, to, DELETE);
    assert_eq!(skipped(&result), ["a", "b", "c", "u"]);
    assert_same(&fixture.read(), &before, "");
    // What an older commit has elsewhere may go.
    fixture.write(&model([("a", file("known")), ("b", file("5")), ("c", link("known"))]));
    let result = restore(&fixture, to, PLAIN);
    assert_eq!(skipped(&result), Vec::<&str>::new());
    fixture.write(&head);
    restore(&fixture, older, DELETE);
    assert_eq!(fixture.read().len(), 2);
}

#[test]
fn errors_close_again_what_was_opened() {
    use filesync_cas::testing::{Fault, Plan as Faults, Scope};
    let head = model([
        ("d", Item::Dir { mode: 0o555 }),
        ("d/x", file("1")),
        ("d/e", Item::Dir { mode: 0o511 }),
        ("d/e/y", file("2")),
    ]);
    let target = model([
        ("d", Item::Dir { mode: 0o555 }),
        ("d/x", file("3")),
        ("d/e", Item::Dir { mode: 0o511 }),
        ("d/e/y", file("4")),
    ]);
    let mut at = 1;
    loop {
        let (fixture, to) = setup(&head, &target);
        let ctx = fixture.ctx();
        let steps = plan(&ctx, to.0, to.1, &[], PLAIN).unwrap();
        fixture.disk.set_plan(Some(Faults { scope: Scope::Mutating, at, fault: Fault::ErrorOnce(28) }));
        let done = apply(&ctx, &steps);
        let now = fixture.read();
        for (dir, mode) in [("d", 0o555), ("d/e", 0o511)] {
            assert_eq!(now.get(&path(dir)), Some(&Item::Dir { mode }), "{dir}, after an error at call {at}");
        }
        if !fixture.disk.hit() {
            done.unwrap();
            assert!(at > 10);
            break;
        }
        at += 1;
    }
}
