use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use filesync_cas::rows::RowBatch;
use filesync_cas::testing::{Fault, Loss, LossVfs, Op, Plan as Faults, Rng, Scope};
use filesync_cas::vfs::{RealVfs, TEMP_PREFIX, Vfs};
use filesync_merkle::{CommitId, Entry, RepoPath, TreeLink};

use crate::error::Error;
use crate::restore::apply::apply_and_move;
use crate::restore::recover::finish;
use crate::restore::testing::*;
use crate::restore::{Flags, HeadMove, apply, plan};
use crate::scan::testing::TempDir;

const BOTH: Flags = Flags { delete: true, force: true };

fn states() -> (Model, Model) {
    let mut rng = Rng::new(8);
    let large = text(&mut rng, 20_000);
    let head = model([
        ("a", file("old")),
        ("both", file("same")),
        ("d/becomes file/x", file("1")),
        ("d/becomes file/y", file("2")),
        ("becomes dir", file("3")),
        ("gone", file("4")),
        ("gone dir/z", file("5")),
        ("l", link("there")),
    ]);
    let target = model([
        ("a", file(large)),
        ("both", file("same")),
        ("d/becomes file", file("6")),
        ("becomes dir/x/y", file("7")),
        ("becomes dir/closed", Item::Dir { mode: 0o500 }),
        ("becomes dir/closed/q", file("8")),
        ("l", link("elsewhere")),
        ("n", file("")),
    ]);
    (head, target)
}

fn setup(head: &Model, target: &Model) -> (Fixture, (CommitId, TreeLink)) {
    let mut fixture = Fixture::new();
    let target = fixture.commit(target);
    fixture.head = Some(fixture.commit(head).1);
    fixture.write(head);
    (fixture, target)
}

/// Every file is the old one or the new one, whole.
fn check_files(now: &Model, head: &Model, target: &Model, when: &str) {
    for (path, item) in now {
        if !matches!(item, Item::File { .. }) || path.components().any(|name| name.starts_with(TEMP_PREFIX.as_bytes()))
        {
            continue;
        }
        assert!(head.get(path) == Some(item) || target.get(path) == Some(item), "{when}: {path} is {item:?}");
    }
}

#[test]
fn killed_anywhere_it_is_finished() {
    let (head, target) = states();
    let mut at = 1;
    loop {
        let (mut fixture, to) = setup(&head, &target);
        let (ctx, faulty) = (fixture.ctx(), &fixture.disk);
        let steps = plan(&ctx, to.0, to.1, &[], BOTH).unwrap();
        faulty.set_plan(Some(Faults { scope: Scope::Mutating, at, fault: Fault::Kill }));
        let done = apply(&ctx, &steps);
        let when = format!("killed at call {at}");
        if !faulty.hit() {
            done.unwrap();
            assert_same(&fixture.read(), &target, "");
            assert!(at > 30);
            break;
        }
        let left = fixture.read();
        check_files(&left, &head, &target, &when);
        let began = fixture.dir.path(".filesync/journal").exists() || left == target;
        // An edit after the crash is the user's, and stays.
        let edited = if at % 3 == 0 { Some("both") } else { None };
        edited.into_iter().for_each(|name| fixture.dir.file(name, b"mine"));
        drop(ctx);
        fixture.restart();
        finish(&fixture.ctx()).unwrap();
        let mut expected = if began { target.clone() } else { head.clone() };
        edited.into_iter().for_each(|name| {
            expected.insert(path(name), file("mine"));
        });
        let mut now = fixture.read();
        if let Some(Item::File { mtime, .. }) = edited.and_then(|name| now.get_mut(&path(name))) {
            *mtime = 1_000_000_000;
        }
        assert_same(&now, &expected, &when);
        assert!(!fixture.dir.path(".filesync/journal").exists());
        at += 1;
    }
}

/// A sync is cut off: afterwards head and files are both the old ones or both the new ones. Where the user made an edit at one
/// of the paths meanwhile, the head stays where it was.
#[test]
fn killed_anywhere_head_and_files_go_together() {
    let (head, target) = states();
    let (mut moved, mut stayed) = (0, 0);
    for at in 1.. {
        let (mut fixture, to) = setup(&head, &target);
        let (ctx, faulty) = (fixture.ctx(), &fixture.disk);
        let steps = plan(&ctx, to.0, to.1, &[], BOTH).unwrap();
        faulty.set_plan(Some(Faults { scope: Scope::Mutating, at, fault: Fault::Kill }));
        let finish_head = || {
            ctx.store.session()?.finish(Some(to.0.0), RowBatch::default())?;
            Ok(())
        };
        let head_move = HeadMove { may: &|_| Ok(()), finish: &finish_head };
        let done = apply_and_move(&ctx, &steps, Some(&head_move));
        if !faulty.hit() {
            done.unwrap();
            assert_eq!(ctx.store.head(), Some(to.0.0));
            break;
        }
        let when = format!("killed at call {at}");
        drop(ctx);
        let is_edited = at % 2 == 0 && fixture.dir.path(".filesync/journal").exists();
        fixture.restart();
        let before = fixture.ctx().store.head();
        if is_edited {
            fixture.dir.file("a", b"mine");
        }
        finish(&fixture.ctx()).unwrap();
        let after = fixture.ctx().store.head();
        if is_edited {
            assert_eq!(after, before, "{when}");
        } else {
            let files = fixture.read();
            assert!(files == target || files == head, "{when}");
            assert_eq!(after == Some(to.0.0), files == target, "{when}");
        }
        moved += u32::from(before != after);
        stayed += u32::from(is_edited && after != Some(to.0.0));
    }
    assert!(moved > 5 && stayed > 5, "{moved} {stayed}");
}

#[test]
fn edits_after_a_crash_stay() {
    let head = model([("a", file("1")), ("b", file("2")), ("c", file("3"))]);
    let target = model([("a", file("4")), ("b", file("5")), ("c", file("6"))]);
    for at in 1..60 {
        let (mut fixture, to) = setup(&head, &target);
        let (ctx, faulty) = (fixture.ctx(), &fixture.disk);
        let steps = plan(&ctx, to.0, to.1, &[], BOTH).unwrap();
        faulty.set_plan(Some(Faults { scope: Scope::Mutating, at, fault: Fault::Kill }));
        if apply(&ctx, &steps).is_ok() {
            assert!(at > 10);
            return;
        }
        if !fixture.dir.path(".filesync/journal").exists() {
            continue;
        }
        fixture.dir.file("b", b"mine");
        fs::remove_file(fixture.dir.path("c")).unwrap();
        drop(ctx);
        fixture.restart();
        finish(&fixture.ctx()).unwrap();
        let now = fixture.read();
        assert_eq!(now[&path("a")], file("4"));
        assert!(matches!(&now[&path("b")], Item::File { bytes, .. } if bytes == b"mine"));
        assert!(!now.contains_key(&path("c")), "killed at {at}");
        assert_eq!(now.len(), 2, "killed at {at}: {:?}", now.keys());
    }
    panic!("it never ended");
}

#[test]
fn killed_while_finishing_it_is_finished_again() {
    let (head, target) = states();
    let mut rng = Rng::new(2);
    for round in 0..60 {
        let (mut fixture, to) = setup(&head, &target);
        let (ctx, faulty) = (fixture.ctx(), &fixture.disk);
        let steps = plan(&ctx, to.0, to.1, &[], BOTH).unwrap();
        faulty.set_plan(Some(Faults { scope: Scope::Mutating, at: 1 + rng.below(40), fault: Fault::Kill }));
        let _ = apply(&ctx, &steps);
        drop(ctx);
        let began = fixture.dir.path(".filesync/journal").exists() || fixture.read() == target;
        for _ in 0..3 {
            fixture.restart();
            fixture.disk.set_plan(Some(Faults { scope: Scope::Mutating, at: 1 + rng.below(30), fault: Fault::Kill }));
            let _ = finish(&fixture.ctx());
            check_files(&fixture.read(), &head, &target, "again");
        }
        fixture.restart();
        finish(&fixture.ctx()).unwrap();
        assert_same(&fixture.read(), if began { &target } else { &head }, &format!("round {round}"));
    }
}

const EIO: i32 = 5;
const EMFILE: i32 = 24;
const ENOSPC: i32 = 28;
const ERRORS: [i32; 3] = [EIO, ENOSPC, EMFILE];

/// Restores with a fault at every call, one after the other. `after` is told how it ended and what was left, and then
/// the same restore must come to its end with nothing left over.
fn at_every_call(scope: Scope, fault: Fault, after: impl Fn(&str, Result<(), Error>, &Model)) {
    let (head, target) = states();
    for at in 1.. {
        let (fixture, to) = setup(&head, &target);
        let (ctx, faulty) = (fixture.ctx(), &fixture.disk);
        let steps = plan(&ctx, to.0, to.1, &[], BOTH).unwrap();
        faulty.set_plan(Some(Faults { scope, at, fault }));
        let done = apply(&ctx, &steps).map(drop);
        let hit = faulty.hit();
        fixture.disk.set_plan(None);
        let left = fixture.read();
        if !hit {
            done.unwrap();
            assert_same(&left, &target, "without a fault");
            assert!(at > if scope == Scope::Mutating { 30 } else { 5 }, "only {at} calls");
            break;
        }
        let when = format!("{fault:?} at {at}");
        check_files(&left, &head, &target, &when);
        after(&when, done, &left);
        finish(&fixture.ctx()).unwrap();
        let again = plan(&fixture.ctx(), to.0, to.1, &[], BOTH).unwrap();
        apply(&fixture.ctx(), &again).unwrap();
        let now = fixture.read();
        assert!(target.iter().all(|(path, item)| now.get(path) == Some(item)), "{when}");
        assert!(!fixture.dir.path(".filesync/journal").exists(), "{when}: the journal is still there");
    }
}

fn temporaries(model: &Model) -> Vec<&RepoPath> {
    model.keys().filter(|path| path.to_string().contains(TEMP_PREFIX)).collect()
}

fn is_told(when: &str, done: &Result<(), Error>) {
    if let Err(error) = done {
        assert!(error.to_string().contains("cannot"), "{when}: {error}");
    }
}

#[test]
fn errors_end_it_and_leave_no_temporary_files() {
    for errno in ERRORS {
        at_every_call(Scope::Mutating, Fault::ErrorOnce(errno), |when, done, left| {
            is_told(when, &done);
            // What came out of an exchange and could not be removed waits for the next command.
            assert!(temporaries(left).len() <= 1, "{when}: {left:?}");
        });
    }
}

/// Where nothing can be written any more, nothing can be cleaned up either; the next command does that.
#[test]
fn errors_from_some_call_on_end_it() {
    for errno in ERRORS {
        at_every_call(Scope::Mutating, Fault::ErrorFrom(errno), |when, done, _| is_told(when, &done));
    }
}

#[test]
fn short_writes_are_continued() {
    let (_, target) = states();
    for fault in [Fault::ShortWrite, Fault::ShortFrom] {
        at_every_call(Scope::Only(Op::WriteAt), fault, |when, done, left| {
            done.unwrap_or_else(|error| panic!("{when}: {error}"));
            assert_same(left, &target, when);
        });
    }
}

/// The index is not written through the vfs: a cut may leave nothing of it, an earlier state, or the present one.
#[derive(Debug, Clone, Copy)]
enum Index {
    None,
    Earlier,
    Present,
}

const INDEX: &str = ".filesync/index";

fn copy_files(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// What the rows of the stat cache say, but for what HEAD said before.
fn vouched_for(fixture: &Fixture, target: TreeLink, model: &Model) -> Vec<RepoPath> {
    let cache = crate::stat_cache::StatCache::new(fixture.store().rows(), b"s");
    let dirs = model.iter().filter(|(_, item)| matches!(item, Item::Dir { .. })).map(|(path, _)| path.clone());
    let mut found = Vec::new();
    for dir in std::iter::once(RepoPath::root()).chain(dirs) {
        for row in cache.load(&dir).and_then(|cached| cached.rows(b"", None)).unwrap_or_default() {
            let at = dir.join(&row.name);
            let lookup = |tree: &TreeLink| filesync_merkle::lookup(fixture.nodes(), tree, &at).unwrap();
            let (new, old) = (lookup(&target), fixture.head.as_ref().and_then(lookup));
            let is = |entry: &Option<Entry>| entry.as_ref().is_some_and(|entry| entry.same(&row.entry));
            if is(&new) && !is(&old) && !row.entry.is_directory() {
                found.push(at);
            }
        }
    }
    found
}

#[test]
fn power_cuts_leave_no_torn_files() {
    let (head, target) = states();
    let (fixture, to) = setup(&head, &target);
    let (root, head_tree) = (fixture.dir.root().to_owned(), fixture.head);
    let start = LossVfs::from_dir(&root, &[Path::new(INDEX)]).unwrap();
    let dir = std::rc::Rc::clone(&fixture.dir);
    drop(fixture);
    let earlier = TempDir::new();
    copy_files(&dir.path(INDEX), earlier.root());
    let (mut calls, mut vouched) = (0, 0);
    let mut seen = BTreeSet::new();
    loop {
        let vfs = start.fork();
        copy_files(earlier.root(), &dir.path(INDEX));
        let mut fixture = Fixture::open(std::rc::Rc::clone(&dir), Arc::new(vfs.clone()));
        fixture.head = head_tree;
        let steps = plan(&fixture.ctx(), to.0, to.1, &[], BOTH).unwrap();
        vfs.stop_after(calls);
        let done = apply(&fixture.ctx(), &steps);
        let vouched_for = vouched_for(&fixture, to.1, &target);
        let losses = [Loss::DropAllUnsynced, Loss::KeepAll].into_iter().chain((0..4).map(Loss::Random));
        for (number, loss) in losses.enumerate() {
            let indexes = [Index::None, Index::Earlier, Index::Present];
            // All of them where most is lost, one of them elsewhere.
            let only = (number > 0).then_some((usize::try_from(calls).unwrap() + number) % indexes.len());
            for index in indexes.into_iter().enumerate().filter(|(at, _)| only.is_none_or(|only| only == *at)) {
                let index = index.1;
                let when = format!("after {calls} calls, {loss:?}, index: {index:?}");
                let out = std::rc::Rc::new(TempDir::new());
                vfs.materialise(out.root(), &loss).unwrap();
                let left = read_dir(out.root());
                check_files(&left, &head, &target, &when);
                // What the cache takes for known is what is there, whatever was lost.
                for at in &vouched_for {
                    assert_eq!(left.get(at), target.get(at), "{when}: {at} is vouched for");
                    vouched += 1;
                }
                match index {
                    Index::None => {}
                    Index::Earlier => copy_files(earlier.root(), &out.path(INDEX)),
                    Index::Present => copy_files(&dir.path(INDEX), &out.path(INDEX)),
                }
                let began = out.path(".filesync/journal").exists() || done.is_ok() || left == target;
                let real: Arc<dyn Vfs> = Arc::new(RealVfs::open(out.root()).unwrap());
                let mut after = Fixture::open(std::rc::Rc::clone(&out), real);
                after.head = head_tree;
                finish(&after.ctx()).unwrap();
                assert_same(&after.read(), if began { &target } else { &head }, &when);
                // By what the cache says now, nothing is left to do either.
                let again = plan(&after.ctx(), to.0, to.1, &[], BOTH).unwrap().shown();
                assert_eq!(again.is_empty(), began, "{when}: {again:?}");
                seen.insert(left.keys().cloned().collect::<Vec<_>>());
            }
        }
        if !vfs.is_dead() {
            done.unwrap();
            break;
        }
        calls += 1;
    }
    assert!(calls > 30 && seen.len() > 10 && vouched > 10, "{calls} {} {vouched}", seen.len());
}

#[test]
fn a_damaged_journal_is_said_and_dropped() {
    let (head, target) = states();
    let (fixture, _) = setup(&head, &target);
    fixture.dir.file(".filesync/journal", b"filesync journal 1\n");
    finish(&fixture.ctx()).unwrap();
    assert!(!fixture.dir.path(".filesync/journal").exists());
    assert!(fixture.notes.warnings().iter().any(|warning| warning.contains("damaged")));
    assert_same(&fixture.read(), &head, "");
}
