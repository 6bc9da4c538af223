//! Keeping house beside everything else: writers that stand still, readers in the middle of their work.

use std::fs::File;
use std::io::Read;
use std::process::Stdio;
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_tests::model::{Tree, assert_same, read_tree};
use filesync_tests::process::{Running, end, send, stop};
use filesync_tests::world::{World, is_long, rot, seed};
use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;

/// Two commits, of which the first has expired; a large file in each.
fn world() -> World {
    let world = World::repository();
    for n in 0..2 {
        world.write("large", Rng::new(n).bytes(20_000_000));
        world.commit();
    }
    world
}

/// A commit that is stopped in the middle, for however long, and woken after others have tried: it ends whole.
#[test]
fn house_a_stopped_writer_ends_whole() {
    let world = world();
    world.ok(&["forget", "--keep-last", "1"]);
    world.write("more", Rng::new(9).bytes(60_000_000));
    let tree = read_tree(world.root());
    let before = world.packs_len();
    let Running(writer) = &mut Running::start(world.command(&["commit", "-m", "slow"]).stdout(Stdio::null()));
    // In the middle: some of it has been written.
    while world.packs_len() < before + 2_000_000 {
        assert!(writer.try_wait().expect("it can be asked").is_none(), "it ended too soon");
        std::thread::yield_now();
    }
    assert!(stop(writer), "it ended too soon");
    for args in [
        &["gc"][..],
        &["forget", "--keep-last", "1"],
        &["fsck", "--repair"],
        &["upgrade"],
        &["config", "set", "node.name", "x"],
    ] {
        let err = world.fails(1, &[args, &["--lock-timeout", "50ms"]].concat());
        assert!(err.contains(&format!("store is busy: commit, pid {}", writer.id())), "{err}");
    }
    // Readers need not wait.
    world.ok(&["gc", "--dry-run"]);
    world.ok(&["fsck", "--quick"]);
    send(writer, Signal::CONT);
    assert!(end(writer).success());
    assert_same(&tree, &world.restored("HEAD"), "the commit");
    world.ok(&["gc"]);
    assert_same(&tree, &world.restored("HEAD"), "the commit after a collection");
    world.ok(&["fsck"]);
}

/// A command that writes, what it is called in messages, where it runs, and what must be so when it is done.
struct Task {
    args: &'static [&'static str],
    who: &'static str,
    template: World,
    /// The head's files, and those of the working copy.
    head: Tree,
    work: Tree,
}

impl Task {
    fn all() -> [Self; 4] {
        let old = World::repository();
        old.write("small", "small");
        old.write("large", Rng::new(20).bytes(8_000_000));
        old.commit();
        let first = read_tree(old.root());
        old.write("large", Rng::new(21).bytes(8_000_000));
        old.commit();
        let second = read_tree(old.root());
        let [commit, collect, repair] = [(); 3].map(|()| World::copy_of(old.root()));
        commit.write("more", Rng::new(22).bytes(8_000_000));
        let third = read_tree(commit.root());
        collect.ok(&["forget", "--keep-last", "1"]);
        rot(repair.root(), "large");
        let task = |args, who, template, head: &Tree, work: &Tree| Self {
            args,
            who,
            template,
            head: head.clone(),
            work: work.clone(),
        };
        [
            task(&["commit", "-m", "slow"], "commit", commit, &third, &third),
            task(&["restore", "HEAD~1", "--force", "--delete"], "restore", old, &second, &first),
            task(&["gc"], "gc", collect, &second, &second),
            task(&["fsck", "--repair"], "fsck", repair, &second, &second),
        ]
    }

    fn verify(&self, world: &World, what: &str) {
        assert_same(&self.work, &read_tree(world.root()), what);
        assert_same(&self.head, &world.restored("HEAD"), what);
        assert_eq!(world.object(0, &["fsck"])["notes"], serde_json::json!([]), "{what}");
        assert!(!world.path(".filesync/journal").exists(), "{what}: the journal is still there");
    }
}

/// Whether somebody has the writer's lock.
fn is_locked(world: &World) -> bool {
    let file = File::open(world.path(".filesync/lock")).expect("there is one");
    flock(&file, FlockOperation::NonBlockingLockExclusive).is_err()
}

/// Who writes waits, or is told who stands in the way. Who reads does neither.
fn check_beside(world: &World, task: &Task, busy: &str, what: &str) {
    for args in [
        ["commit", "--allow-empty", "-m", "x"].as_slice(),
        &["restore"],
        &["tag", "t"],
        &["gc"],
        &["forget", "--keep-last", "5"],
        &["fsck", "--repair"],
        &["config", "set", "node.name", "x"],
    ] {
        let err = world.fails(1, &[args, &["--lock-timeout", "50ms"]].concat());
        assert!(err.contains(busy), "{what}: {args:?}: {err}");
    }
    let head = world.head().expect("there is one");
    assert!(world.ok(&["log"]).contains(&head), "{what}");
    assert_eq!(world.cat("small"), b"small", "{what}");
    world.ok(&["ls", "-r"]);
    if task.who != "fsck" {
        world.ok(&["fsck", "--quick"]);
        world.restored("HEAD");
    }
}

/// Any writer may be stopped at any moment, for however long. Others are told who has the lock, readers go on, and
/// when it is woken it ends as if nothing had been.
#[test]
fn house_writers_that_stand_still_at_any_moment() {
    let mut rng = Rng::new(seed(41));
    let wanted = if is_long() { 40 } else { 4 };
    for task in Task::all() {
        let (mut met, mut tried) = (0, 0);
        // How long it takes, by the first that nobody stops.
        let mut usual = Duration::ZERO;
        while met < wanted {
            assert!(tried <= wanted * 200, "{}: only {met} of {tried} stops were met", task.who);
            let world = World::copy_of(task.template.root());
            let began = Instant::now();
            let mut command = world.command(task.args);
            let Running(child) = &mut Running::start(command.stdout(Stdio::null()).stderr(Stdio::null()));
            let wait = Duration::from_micros(rng.below(1 + u64::try_from(usual.as_micros()).expect("not so long")));
            let what = format!("{} stopped after {wait:?} of {usual:?}", task.who);
            let is_first = usual.is_zero();
            if !is_first {
                std::thread::sleep(wait);
            }
            if !is_first && stop(child) {
                if is_locked(&world) {
                    met += 1;
                    check_beside(&world, &task, &format!("store is busy: {}, pid {}", task.who, child.id()), &what);
                }
                send(child, Signal::CONT);
            }
            let status = end(child);
            assert!(status.success(), "{what}: {status}");
            usual = if is_first { began.elapsed() } else { usual };
            task.verify(&world, &what);
            tried += 1;
        }
        println!("{}: {met} of {tried} stops were met within {usual:?}", task.who);
    }
}

/// One who has begun to read before a collection reads to the end what he began; the room is free afterwards.
#[test]
fn house_readers_are_not_disturbed() {
    let world = world();
    let mut reader = world.command(&["cat", "HEAD~1:large"]).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut out = reader.stdout.take().expect("piped");
    let mut read = vec![0; 100_000];
    out.read_exact(&mut read).expect("it begins");
    world.ok(&["forget", "--keep-last", "1"]);
    let collected = world.object(0, &["gc"]);
    let number = |object: &serde_json::Value, field: &str| object[field].as_u64().expect("a number");
    assert!(number(&collected, "waiting_bytes") > 20_000_000, "{collected}");
    assert_eq!(number(&collected, "freed_bytes"), 0, "{collected}");
    assert!(world.ok(&["gc"]).contains("are still being read"));
    world.write("more", "more");
    world.commit();
    out.read_to_end(&mut read).expect("it goes on");
    assert!(reader.wait().expect("it ends").success());
    assert!(read == Rng::new(0).bytes(20_000_000));
    // The next who writes takes what it left.
    world.ok(&["commit", "--allow-empty", "-m", "next"]);
    let files = std::fs::read_dir(world.path(".filesync/packs")).expect("packs").flatten();
    let names: Vec<_> = files.map(|file| file.file_name().into_string().expect("text")).collect();
    assert!(names.iter().all(|name| !name.ends_with(".condemned")), "{names:?}");
    world.ok(&["fsck"]);
}
