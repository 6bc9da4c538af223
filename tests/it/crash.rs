//! Kills and errors from outside, at spread calls of the whole process, RocksDB included.
//!
//! A run under strace tells which calls a command makes; then it runs again and again, each time killed at one of them
//! or given an error there. strace counts for each thread and each call on its own, so that a point is not always met:
//! a test in which too few were fails.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output};

use filesync_cas::testing::Rng;
use filesync_cas::vfs::TEMP_PREFIX;
use filesync_tests::model::{Item, Tree, assert_same, difference, read_tree};
use filesync_tests::world::{TempDir, World, is_long, program, rot, seed, skipped, within};

/// Every call that changes something on a disk, or opens.
const CALLS: &str = "openat,openat2,write,pwrite64,ftruncate,rename,renameat,renameat2,unlink,unlinkat,fsync,\
                     fdatasync,syncfs,mkdir,mkdirat";

/// The n-th call of that name that a thread makes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Point {
    call: String,
    n: u32,
}

/// A command, where it runs, and what must survive it.
struct Case {
    name: &'static str,
    template: World,
    args: &'static [&'static str],
    /// Commits that were acknowledged, and what they hold.
    kept: Vec<(String, Tree)>,
    /// A file whose bytes in the store are bad until the command has come to its end.
    damaged: Option<&'static str>,
}

impl Case {
    fn new(name: &'static str, template: World, args: &'static [&'static str], kept: Vec<(String, Tree)>) -> Self {
        Self { name, template, args, kept, damaged: None }
    }
}

/// Whether strace does what is needed here. Fails if it does not, unless `FILESYNC_NO_STRACE` says that it need not.
pub fn has_strace() -> bool {
    let probe = Command::new("strace").args(["-f", "-o", "/dev/null", "-e", "inject=mkdir:error=EIO", "true"]).output();
    let cause = match probe {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("FILESYNC_NO_STRACE").is_some(), "no strace: {cause} (FILESYNC_NO_STRACE=1 goes without)");
    skipped(&format!("strace cannot be used: {cause}"));
    false
}

fn strace(world: &World, options: &[&str], args: &[&str]) -> Output {
    let mut command = Command::new("strace");
    command.args(["-f", "-qq"]).args(options).arg(program()).args(args);
    command.current_dir(world.root()).env_remove("FILESYNC_DIR");
    // cargo sets it; the loader would look for each library in there first, with calls that are no points.
    command.env_remove("LD_LIBRARY_PATH");
    within(60, &command).output().expect("timeout runs")
}

/// The calls of a command, by name; those of the loader are left out.
fn points(case: &Case) -> BTreeMap<String, Vec<u32>> {
    let world = World::copy_of(case.template.root());
    let log = tempfile();
    let output = strace(&world, &["-o", &log.path(), "-e", &format!("trace={CALLS}")], case.args);
    assert!(output.status.success(), "{}: {output:?}", case.name);
    let text = std::fs::read_to_string(log.path()).expect("strace writes its log");
    let mut counts = BTreeMap::<(&str, &str), u32>::new();
    let mut found = BTreeMap::<String, BTreeSet<u32>>::new();
    for line in text.lines() {
        let Some((pid, rest)) = line.split_once(' ') else { continue };
        let Some((call, words)) = rest.trim_start().split_once('(') else { continue };
        if !CALLS.split(',').any(|known| known == call) {
            continue;
        }
        let n = counts.entry((pid, call)).or_default();
        *n += 1;
        let is_system = ["\"/lib", "\"/usr", "\"/etc", "\"/proc", "\"/sys"].iter().any(|dir| words.contains(dir));
        if !is_system {
            found.entry(call.to_owned()).or_default().insert(*n);
        }
    }
    found.into_iter().map(|(call, ns)| (call, ns.into_iter().collect())).collect()
}

/// So many points of a call: the first, the last, and others between.
fn some_of(call: &str, ns: &[u32], wanted: usize) -> Vec<Point> {
    let wanted = wanted.min(ns.len());
    // The last of them too, if there is more than one.
    let place = |at| if wanted == 1 { ns.len() / 2 } else { at * (ns.len() - 1) / (wanted - 1) };
    (0..wanted).map(|at| Point { call: call.to_owned(), n: ns[place(at)] }).collect()
}

/// About `wanted` points, of every call some.
fn spread(calls: &BTreeMap<String, Vec<u32>>, wanted: usize) -> Vec<Point> {
    let total: usize = calls.values().map(Vec::len).sum();
    let share = if wanted >= total { total } else { (wanted / calls.len().max(1)).max(1) };
    calls.iter().flat_map(|(call, ns)| some_of(call, ns, share)).collect()
}

/// Whether a call moves a name, takes one away or makes something durable. In their order lies what is promised.
fn is_a_step(call: &str) -> bool {
    call.starts_with("rename") || call.starts_with("unlink") || call.ends_with("sync") || call == "syncfs"
}

/// Where to kill: at several of the calls whose order counts, at one of each other kind.
fn kill_points(calls: &BTreeMap<String, Vec<u32>>) -> Vec<Point> {
    if is_long() {
        return spread(calls, 1000);
    }
    calls.iter().flat_map(|(call, ns)| some_of(call, ns, if is_a_step(call) { 4 } else { 1 })).collect()
}

/// A file name in a directory of its own.
struct TempFile(TempDir);

impl TempFile {
    fn path(&self) -> String {
        self.0.path().join("log").to_str().expect("a plain path").to_owned()
    }
}

fn tempfile() -> TempFile {
    TempFile(TempDir::new())
}

fn inject(world: &World, case: &Case, point: &Point, what: &str, onwards: bool) -> Output {
    let Point { call, n } = point;
    let plus = if onwards { "+" } else { "" };
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{what}:when={n}{plus}"));
    let log = tempfile();
    strace(world, &["-o", &log.path(), "-e", &trace, "-e", &inject], case.args)
}

fn was_killed(output: &Output) -> bool {
    output.status.signal() == Some(9) || output.status.code() == Some(137)
}

fn bytes(seed: u64, len: usize) -> Vec<u8> {
    Rng::new(seed).bytes(len)
}

/// A repository with two commits, and the working copy as the second has it.
fn two_commits() -> (World, Vec<(String, Tree)>) {
    let world = World::repository();
    for n in 0..12_u64 {
        world.write(format!("dir{}/file{n}", n % 3), bytes(n, usize::try_from(n * n * 900).unwrap()));
    }
    world.write("large", bytes(100, 1_500_000));
    world.write("gone/below/this", "x");
    std::os::unix::fs::symlink("dir0", world.path("link")).unwrap();
    let mut kept = Vec::new();
    for round in 0..2 {
        if round == 1 {
            world.write("dir0/file3", "another");
            world.write("dir1/file4", bytes(101, 20_000));
            world.write("new/deep/file", bytes(102, 70_000));
            world.write("dir2/empty", "");
            world.write("large", bytes(103, 1_400_000));
            std::fs::remove_dir_all(world.path("gone")).unwrap();
            std::fs::remove_file(world.path("link")).unwrap();
        }
        world.ok(&["commit", "-m", "x"]);
        kept.push((world.head().unwrap(), read_tree(world.root())));
    }
    (world, kept)
}

fn edit(world: &World) {
    world.write("dir0/file6", "edited");
    world.write("dir2/file5", bytes(200, 5000));
    world.write("added/file", bytes(201, 300_000));
    std::fs::remove_file(world.path("dir1/file7")).unwrap();
}

fn cases() -> Vec<Case> {
    let (template, kept) = two_commits();
    let commit = World::copy_of(template.root());
    edit(&commit);
    let rebuild = World::copy_of(template.root());
    std::fs::remove_dir_all(rebuild.path(".filesync/index")).unwrap();
    let init = World::empty();
    init.write("a/file", "bytes");
    let collect = World::copy_of(template.root());
    collect.write("large", bytes(300, 900_000));
    collect.ok(&["commit", "-m", "amended away"]);
    collect.write("large", bytes(301, 900_000));
    collect.ok(&["commit", "--amend", "-m", "third"]);
    let third = (collect.head().unwrap(), read_tree(collect.root()));
    let with_third = [kept.clone(), vec![third.clone()]].concat();
    let forget = World::copy_of(collect.root());
    let repair = World::copy_of(template.root());
    // All that its frame holds came with the second commit, and is in the working copy.
    rot(repair.root(), "large");
    let repair = Case::new("repair", repair, &["fsck", "--repair"], kept.clone());
    vec![
        Case::new("gc", collect, &["gc"], with_third),
        Case::new("forget", forget, &["forget", "--keep-last", "1"], vec![third]),
        Case { damaged: Some("large"), ..repair },
        Case::new("init", init, &["init"], Vec::new()),
        Case::new("commit", commit, &["commit", "-m", "third"], kept.clone()),
        Case::new("restore", template, &["restore", "HEAD~1", "--delete"], kept.clone()),
        Case::new("rebuild", rebuild, &["commit", "--allow-empty", "-m", "third"], kept),
    ]
}

/// Everything that was acknowledged is there, and the store is sound.
fn verify(world: &World, case: &Case, what: &str) {
    let fsck = world.sane(&["fsck"]);
    assert_eq!(fsck.status, Some(0), "{what}: fsck: {}{}", String::from_utf8_lossy(&fsck.out), fsck.err);
    for (commit, tree) in &case.kept {
        if let Some(difference) = difference(tree, &world.restored(commit), true) {
            panic!("{what}: {commit}: {difference}");
        }
    }
}

/// As [`verify`], of a store with damage that may or may not have been repaired: there is no other, and it is told.
fn verify_but_for(world: &World, case: &Case, damaged: &str, what: &str) {
    let fsck = world.sane(&["fsck"]);
    let text = String::from_utf8_lossy(&fsck.out).into_owned() + &fsck.err;
    if fsck.status == Some(0) {
        return verify(world, case, what);
    }
    assert!(fsck.status == Some(5) && text.contains(damaged), "{what}: {fsck:?}");
    for (commit, tree) in &case.kept {
        let dir = TempDir::new();
        let to = dir.path().join("copy");
        let ran = world.sane(&["restore", commit, "--to", to.to_str().expect("a plain path")]);
        let mut found = read_tree(&to);
        if ran.status == Some(5) {
            assert!(!found.contains_key(damaged.as_bytes()), "{what}: {commit}: {ran:?}");
            found.extend(tree.get_key_value(damaged.as_bytes()).map(|(path, item)| (path.clone(), item.clone())));
        } else {
            assert_eq!(ran.status, Some(0), "{what}: {commit}: {ran:?}");
        }
        if let Some(difference) = difference(tree, &found, false) {
            panic!("{what}: {commit}: {difference}");
        }
    }
}

/// After a fault: nothing is lost, what said that it was done is done, and the same command run again does its work.
fn verify_and_repeat(world: &World, case: &Case, is_done: bool, what: &str) {
    let before = read_tree(case.template.root());
    let is_repository = world.path(".filesync").exists();
    assert!(is_repository || case.name == "init", "{what}: the repository is gone");
    match case.damaged {
        Some(damaged) if !is_done => verify_but_for(world, case, damaged, what),
        _ if is_repository => verify(world, case, what),
        _ => {}
    }
    if case.name == "init" {
        let left = std::fs::read_dir(world.root()).unwrap().count();
        let again = world.sane(case.args);
        assert_eq!(again.status, Some(i32::from(is_repository)), "{what}: {again:?}");
        assert_eq!(std::fs::read_dir(world.root()).unwrap().count(), 2, "{what}: left over, of {left}");
        world.ok(&["commit", "-m", "first"]);
    } else {
        let again = world.sane(case.args);
        assert_eq!(again.status, Some(0), "{what}: run again: {again:?}");
    }
    let now = read_tree(world.root());
    if case.name == "restore" {
        assert_same(&case.kept[0].1, &now, what);
    } else {
        assert_same(&before, &now, what);
        assert_same(&before, &world.restored(&world.head().unwrap()), what);
    }
    assert!(!world.path(".filesync/journal").exists(), "{what}: the journal is still there");
    verify(world, case, what);
    if case.damaged.is_some() {
        let fsck = world.object(0, &["fsck"]);
        assert_eq!(fsck["notes"], serde_json::json!([]), "{what}: what was bad is still there");
    }
}

#[test]
fn crash_killed_at_any_call_nothing_acknowledged_is_lost() {
    if !has_strace() {
        return;
    }
    let (mut killed, mut tried) = (Met::default(), Met::default());
    for case in cases() {
        let points = kill_points(&points(&case));
        assert!(points.len() >= 8, "{}: {points:?}", case.name);
        for point in points {
            let world = World::copy_of(case.template.root());
            let output = inject(&world, &case, &point, "signal=KILL", false);
            tried.count(&point, true);
            killed.count(&point, was_killed(&output));
            let what = format!("{} killed at {point:?}", case.name);
            assert!(was_killed(&output) || output.status.success(), "{what}: {output:?}");
            verify_and_repeat(&world, &case, !was_killed(&output), &what);
        }
    }
    println!("{killed:?} of {tried:?} points met");
    assert!(killed.steps * 3 >= tried.steps * 2 && killed.others * 3 >= tried.others * 2, "{killed:?} of {tried:?}");
}

/// Points, counted: calls whose order counts, and others.
#[derive(Debug, Default)]
struct Met {
    steps: u32,
    others: u32,
}

impl Met {
    fn count(&mut self, point: &Point, is_met: bool) {
        let count = if is_a_step(&point.call) { &mut self.steps } else { &mut self.others };
        *count += u32::from(is_met);
    }
}

#[test]
fn crash_errors_are_told_and_lose_nothing() {
    if !has_strace() {
        return;
    }
    let mut rng = Rng::new(seed(11));
    let (mut failed, mut ran) = (0, 0);
    for case in cases() {
        let calls = points(&case);
        let mut runs = Vec::new();
        for point in spread(&calls, if is_long() { 400 } else { 6 }) {
            let errors: &[&str] = match point.call.as_str() {
                "openat" | "openat2" => &["EMFILE", "EIO", "ENOSPC"],
                "fsync" | "fdatasync" | "syncfs" => &["EIO", "ENOSPC"],
                _ => &["ENOSPC", "EIO"],
            };
            runs.push((point, errors[rng.index(errors.len())], rng.coin()));
        }
        for (point, error, onwards) in runs {
            let world = World::copy_of(case.template.root());
            let output = inject(&world, &case, &point, &format!("error={error}"), onwards);
            ran += 1;
            let err = String::from_utf8_lossy(&output.stderr);
            let what = format!("{}: {error} at {point:?}{}: {err}", case.name, if onwards { " and on" } else { "" });
            // The system refuses: that says nothing against the bytes. What is bad may stay so.
            let is_known = matches!(output.status.code(), Some(0 | 1 | 3));
            let is_left = case.damaged.is_some() && output.status.code() == Some(5);
            assert!(is_known || is_left, "{what}: {}", output.status);
            assert!(!err.contains("internal error"), "{what}");
            if output.status.code() == Some(1) {
                failed += 1;
                // Where nothing can be written, nothing can be said.
                if point.call != "write" {
                    let told = err.lines().filter(|line| line.starts_with("filesync: "));
                    let told = told.filter(|line| !line.starts_with("filesync: warning: ")).count();
                    assert_eq!(told, 1, "{what}");
                }
            } else if case.name == "commit" {
                let tree = read_tree(case.template.root());
                assert_same(&tree, &world.restored(&world.head().unwrap()), &what);
            }
            verify_and_repeat(&world, &case, output.status.success(), &what);
        }
    }
    println!("{failed} of {ran} runs failed");
    assert!(failed * 3 >= ran, "only {failed} of {ran} runs failed");
}

fn temporaries(root: &Path) -> Vec<std::path::PathBuf> {
    let tree = read_tree(root);
    let is_temp = |path: &&Vec<u8>| {
        // New directories are built under a temporary name, with all that is in them.
        path.split(|byte| *byte == b'/').any(|name| name.starts_with(TEMP_PREFIX.as_bytes()))
    };
    let files = tree.iter().filter(|(_, item)| matches!(item, Item::File(..))).map(|(path, _)| path);
    files.filter(is_temp).map(|path| root.join(String::from_utf8(path.clone()).unwrap())).collect()
}

/// A power cut may empty what was written and not synced. A commit that comes next first finishes the restore, and
/// takes nothing empty for an edit.
#[test]
fn crash_an_empty_file_after_a_cut_is_no_edit() {
    if !has_strace() {
        return;
    }
    let case = cases().into_iter().find(|case| case.name == "restore").unwrap();
    let old = &case.kept[1].1;
    let target = &case.kept[0].1;
    let mut calls = points(&case);
    let kinds = ["rename", "renameat", "renameat2", "fsync", "fdatasync", "syncfs", "unlink", "write", "pwrite64"];
    calls.retain(|call, _| kinds.contains(&call.as_str()));
    let (mut finished, mut emptied) = (0, 0);
    for point in spread(&calls, if is_long() { 500 } else { 24 }) {
        let world = World::copy_of(case.template.root());
        let output = inject(&world, &case, &point, "signal=KILL", false);
        let what = format!("{point:?}");
        assert!(was_killed(&output) || output.status.success(), "{what}: {output:?}");
        let has_journal = world.path(".filesync/journal").exists();
        let temps = temporaries(world.root());
        let mut now = read_tree(world.root());
        // Before the first of them has its name, none of them need be synced.
        now.retain(|path, _| !temps.contains(&world.path(String::from_utf8_lossy(path).as_ref())));
        let differs = |path: &Vec<u8>, item: &Item| matches!(item, Item::File(..)) && old.get(path) != Some(item);
        // Directories that are new get their names as a whole, before any other file does.
        let is_in_new = |path: &Vec<u8>| {
            path.iter().rposition(|byte| *byte == b'/').is_some_and(|at| !old.contains_key(&path[..at]))
        };
        let mut to_write = target.iter().filter(|(path, item)| differs(path, item) && !is_in_new(path));
        let untouched = to_write.all(|(path, _)| now.get(path) == old.get(path));
        if has_journal && untouched {
            for temp in &temps {
                std::fs::File::create(temp).unwrap();
                emptied += 1;
            }
        }
        let commit = world.sane(&["commit", "-m", "after"]);
        assert_eq!(commit.status, Some(0), "{what}: {commit:?}");
        assert!(!world.path(".filesync/journal").exists(), "{what}: the journal is still there");
        let tree = world.restored(&world.head().unwrap());
        if has_journal {
            finished += 1;
            assert!(commit.err.contains("finishing a restore"), "{what}: {commit:?}");
            assert_same(target, &read_tree(world.root()), &what);
            assert_same(target, &tree, &what);
        } else {
            let expected = if difference(old, &tree, false).is_none() { old } else { target };
            assert_same(expected, &tree, &what);
        }
        verify(&world, &case, &what);
    }
    println!("{finished} journals finished, {emptied} files emptied");
    assert!(finished >= 4 && emptied >= 1, "{finished} journals finished, {emptied} files emptied");
}
