//! Who runs beside whom: readers beside a writer that stands still, a second writer, and readers whose index is gone.

use std::fs::{File, Permissions, set_permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_tests::model::{Tree, assert_same, read_tree};
use filesync_tests::process::{Running, Stop, send, stop, until};
use filesync_tests::world::{PLAIN_USER, TempDir, World, is_long, is_root, seed, skipped, within};
use rustix::process::Signal;

/// A command that holds the lock. Killed in the end.
struct Holder(Running);

impl Holder {
    /// Starts a command, and waits until it has the lock.
    fn start(world: &World, args: &[&str]) -> Self {
        let mut command = world.command(args);
        let mut holder = Self(Running::start(command.stdout(Stdio::null()).stderr(Stdio::null())));
        let pid = format!(", pid {}\n", holder.child().id());
        until("it has the lock", || {
            assert!(holder.child().try_wait().expect("it can be asked").is_none(), "it has ended");
            std::fs::read_to_string(world.path(".filesync/lock")).is_ok_and(|who| who.ends_with(&pid))
        });
        holder
    }

    fn child(&mut self) -> &mut Child {
        &mut self.0.0
    }
}

/// What a world held when its head was made, and the head.
struct Known {
    head: String,
    tree: Tree,
}

impl Known {
    fn of(world: &World) -> Self {
        Self { head: world.commit(), tree: read_tree(world.root()) }
    }

    /// Every command that only reads tells what is true, at once. `common` comes before the command.
    fn is_told(&self, world: &World, common: &[&str], what: &str) {
        let to = TempDir::new();
        if is_root() {
            std::os::unix::fs::chown(to.path(), Some(PLAIN_USER), None).expect("root may give away");
        }
        let to = to.path().join("copy");
        let to_text = to.to_str().expect("UTF-8");
        let head = self.head.as_str();
        for args in [
            ["log"].as_slice(),
            &["ls", "-r", head],
            &["cat", &format!("{head}:kept/1")],
            &["status"],
            // What is new may be without end, so its bytes are not asked for.
            &["diff", "--name-status"],
            &["diff", head, head, "--exit-code"],
            &["show", head, "--stat"],
            &["du", head],
            &["tag"],
            &["check-ignore", "kept/1"],
            &["fsck"],
            &["restore", head, "--to", to_text],
        ] {
            let command = world.command(&[common, args].concat());
            let output = within(60, &command).output().expect("timeout runs");
            let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            // Nothing is left out by any rule, which is an answer of its own.
            let expected = if args[0] == "check-ignore" { 1 } else { 0 };
            assert_eq!(output.status.code(), Some(expected), "{what}: {args:?}: {out}{err}");
            match args[0] {
                "log" | "show" => assert!(out.contains(head), "{what}: {out}"),
                "tag" => assert_eq!(out, "t\n", "{what}"),
                "du" => assert!(out.lines().last().is_some_and(|line| line.ends_with("\t.")), "{what}: {out}"),
                "ls" => assert_eq!(out.lines().count(), self.tree.len(), "{what}: {out}"),
                "cat" => assert_eq!(out, "1", "{what}"),
                _ => {}
            }
        }
        assert_same(&self.tree, &read_tree(&to), what);
    }
}

/// A repository with a commit of some files.
fn fill(world: &World) -> Known {
    for name in 0..60 {
        world.write(format!("kept/{name}"), format!("{name}"));
    }
    world.write("large", vec![b'l'; 700_000]);
    let known = Known::of(world);
    world.ok(&["tag", "t"]);
    known
}

/// Commands that write, all of which have to wait.
const WRITERS: [&[&str]; 2] = [&["commit", "-m", "x"], &["restore"]];

#[test]
fn readers_beside_a_commit_that_stands_still() {
    let mut rng = Rng::new(seed(5));
    let world = World::repository();
    let mut known = fill(&world);
    let (mut stopped, mut came_through) = (0, 0);
    let rounds = if is_long() { 120 } else { 8 };
    for round in 0.. {
        if round >= rounds && stopped >= 3 && came_through >= 3 {
            break;
        }
        assert!(round < 25 * rounds, "{stopped} stopped, {came_through} came through");
        // What makes the commit long: many files at times, at times one that takes hours.
        let many = round % 2 == 0;
        if many {
            for name in 0..1500 {
                world.write(format!("new/{round}/{name}"), format!("{round} {name}"));
            }
        } else {
            let file = File::create(world.path("huge")).expect("it can be made");
            file.set_len(4 << 40).expect("it can be sparse");
        }
        let lost = round % 4 < 2;
        if lost {
            drop(std::fs::remove_dir_all(world.path(".filesync/index")));
        }
        let mut holder = Holder::start(&world, &["commit", "-m", "long"]);
        std::thread::sleep(Duration::from_micros(rng.below(if many { 150_000 } else { 300_000 })));
        if stop(holder.child()) {
            stopped += 1;
            let what = format!("round {round}, many files: {many}, without an index: {lost}");
            known.is_told(&world, &[], &what);
            if round < 2 {
                let busy = format!("store is busy: commit, pid {}", holder.child().id());
                for args in WRITERS {
                    let began = Instant::now();
                    let err = world.fails(1, &[args, &["--lock-timeout", "200ms"]].concat());
                    assert!(err.contains(&busy), "{args:?}: {err}");
                    assert!(began.elapsed() >= Duration::from_millis(200), "{args:?} did not wait");
                }
                let error = world.run(&["--json", "commit", "--lock-timeout", "0s"]).stderr;
                let error: serde_json::Value = serde_json::from_slice(&error).expect("one object");
                assert!(error["error"].as_str().is_some_and(|text| text.contains(&busy)), "{error}");
            }
        }
        if many {
            // Woken, it ends as if nothing had been.
            if holder.child().try_wait().expect("it can be asked").is_none() {
                send(holder.child(), Signal::CONT);
            }
            let status = holder.child().wait().expect("it ends");
            assert!(status.success(), "{status}");
            came_through += 1;
            let head = world.head().expect("there is one");
            assert_ne!(head, known.head);
            known = Known { head, tree: read_tree(world.root()) };
        }
        drop(holder);
        drop(std::fs::remove_file(world.path("huge")));
    }
    println!("{stopped} stopped, {came_through} came through");
    known.is_told(&world, &[], "in the end");
}

/// Whatever became of the index: readers do without, and the next writer makes it anew.
#[test]
fn readers_whose_index_is_gone() {
    type Harm = fn(&std::path::Path);
    let harms: [(&str, Harm); 7] = [
        ("missing", |index| std::fs::remove_dir_all(index).expect("it is there")),
        ("empty", |index| {
            std::fs::remove_dir_all(index).expect("it is there");
            std::fs::create_dir(index).expect("it can be made");
        }),
        ("a file", |index| {
            std::fs::remove_dir_all(index).expect("it is there");
            std::fs::write(index, "not an index").expect("it can be written");
        }),
        ("a link to nowhere", |index| {
            std::fs::remove_dir_all(index).expect("it is there");
            symlink("nowhere", index).expect("it can be made");
        }),
        ("garbage", |index| {
            for entry in std::fs::read_dir(index).expect("it is there").flatten() {
                std::fs::write(entry.path(), "garbage").expect("it can be written");
            }
        }),
        ("without its tables and logs", |index| {
            for entry in std::fs::read_dir(index).expect("it is there").flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".sst") || name.ends_with(".log") {
                    std::fs::remove_file(entry.path()).expect("it is there");
                }
            }
        }),
        ("closed", |index| set_permissions(index, Permissions::from_mode(0o0)).expect("modes can be set")),
    ];
    let world = World::for_plain_user();
    world.ok(&["init"]);
    let mut known = fill(&world);
    for (number, (what, harm)) in harms.into_iter().enumerate() {
        let index = world.path(".filesync/index");
        harm(&index);
        if is_root() && index.is_dir() && what != "closed" {
            let owner = PLAIN_USER.to_string();
            let given = Command::new("chown").args(["-R", &owner]).arg(&index).status();
            assert!(given.is_ok_and(|status| status.success()), "root may give away");
        }
        known.is_told(&world, &[], what);
        if what == "closed" {
            set_permissions(&index, Permissions::from_mode(0o755)).expect("modes can be set");
        }
        world.write("counter", format!("{number}"));
        known = Known::of(&world);
        known.is_told(&world, &[], &format!("{what}, made anew"));
        let output = world.run(&["log"]);
        assert!(output.stderr.is_empty(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

/// Another user reads what he may read, if he says that he means it, and writes nothing.
#[test]
fn readers_of_another_user() {
    if !is_root() {
        skipped("only root can make a repository that belongs to another user");
        return;
    }
    let world = World::for_plain_user();
    world.ok(&["init"]);
    let known = fill(&world);
    let taken = Command::new("chown").args(["-R", "0:0"]).arg(world.root()).status();
    assert!(taken.is_ok_and(|status| status.success()), "root may take");
    let before = read_tree(&world.path(".filesync"));
    known.is_told(&world, &["--allow-foreign"], "another user");
    assert_same(&before, &read_tree(&world.path(".filesync")), "another user");
    for args in WRITERS {
        let err = world.fails(1, &[&["--allow-foreign"], args].concat());
        assert!(err.contains("Permission denied"), "{args:?}: {err}");
    }
    std::fs::remove_dir_all(world.path(".filesync/index")).expect("it is there");
    known.is_told(&world, &["--allow-foreign"], "another user, without an index");
}

/// What the readers of [`nobody_is_disturbed`] came to.
#[derive(Debug, Default)]
struct Reads {
    whole: AtomicUsize,
    expired: AtomicUsize,
}

impl Reads {
    /// Reads in turn with commands of all kinds until told to stop. That a commit has expired is the one error there is.
    fn count(&self, world: &World, first: usize, stop: &AtomicBool) {
        for number in first.. {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            let to = TempDir::new();
            let to = to.path().join("copy");
            let commands: [&[&str]; 6] = [
                &["cat", "HEAD:counter"],
                &["restore", "--to", to.to_str().expect("UTF-8")],
                &["fsck"],
                &["status"],
                &["cat", "HEAD~3:counter"],
                &["ls", "-r"],
            ];
            let args = commands[number % commands.len()];
            let ran = world.sane(args);
            if ran.status == Some(1) && ran.err.contains("has expired") {
                self.expired.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            assert_eq!(ran.status, Some(0), "{args:?}: {ran:?}");
            if args[0] == "cat" {
                let number: u32 = String::from_utf8_lossy(&ran.out).parse().expect("a whole number");
                assert!(number < 100_000);
            }
            self.whole.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether enough has been read to say anything.
    fn are_enough(&self) -> bool {
        self.whole.load(Ordering::Relaxed) > 15 && self.expired.load(Ordering::Relaxed) > 0
    }
}

/// What the writer of [`nobody_is_disturbed`] does after a commit, now and then.
fn keep_house(world: &World, round: u32) {
    let more: &[&[&str]] = match round % 4 {
        0 => &[&["commit", "--amend", "-m", "better"], &["gc"]],
        1 => &[&["forget", "--keep-last", "2"]],
        2 => &[&["gc"], &["fsck", "--repair"]],
        _ => &[],
    };
    for args in more {
        let ran = world.sane(&[*args, &["--lock-timeout", "60s"]].concat());
        assert_eq!(ran.status, Some(0), "{args:?}: {ran:?}");
    }
}

/// Readers run while a writer commits all the time, takes back what it committed, collects, lets commits expire,
/// repairs, and now and then loses its index: none of them fails.
#[test]
fn nobody_is_disturbed() {
    let world = World::repository();
    for name in 0..300 {
        world.write(format!("d{}/{name}", name % 9), format!("{name}"));
    }
    for first in 0..4 {
        world.write("counter", format!("{first}"));
        world.commit();
    }
    let stop = AtomicBool::new(false);
    let (mut commits, mut rounds) = (4_u32, 0_u32);
    let reads = Reads::default();
    std::thread::scope(|scope| {
        let (world, stop, reads) = (&world, &stop, &reads);
        let readers: Vec<_> = (0..3).map(|reader| scope.spawn(move || reads.count(world, reader, stop))).collect();
        let _told = Stop(stop);
        // All of it at least twice, and until enough was read.
        let wanted = if is_long() { 400 } else { 12 };
        while rounds < wanted || !reads.are_enough() {
            assert!(rounds < 100 * wanted, "{commits} commits, {reads:?}");
            assert!(!readers.iter().any(std::thread::ScopedJoinHandle::is_finished), "a reader failed");
            world.write("counter", format!("{commits}"));
            world.write(format!("d{}/new-{commits}", commits % 9), vec![b'x'; 3000]);
            if rounds.is_multiple_of(5) {
                drop(std::fs::remove_dir_all(world.path(".filesync/index")));
            }
            let ran = world.sane(&["commit", "-m", "more", "--lock-timeout", "60s"]);
            assert_eq!(ran.status, Some(0), "{ran:?}");
            commits += 1;
            keep_house(world, rounds);
            rounds += 1;
        }
    });
    println!("{commits} commits, {rounds} rounds, {reads:?}");
    assert_eq!(world.json(&["log"]).len(), commits as usize);
    world.ok(&["fsck"]);
}

/// A restore that stands still: `status` says so. One that was killed: `status` ends it, if it can.
#[test]
fn status_beside_a_restore_and_after_one() {
    let world = World::repository();
    for round in 0..2 {
        for name in 0..600 {
            world.write(format!("d{}/{name}", name % 7), format!("round {round} of {name}").repeat(20));
        }
        world.commit();
    }
    let (mut beside, mut after) = (0, 0);
    for round in 0.. {
        if round >= 20 && beside > 2 && after > 2 {
            break;
        }
        assert!(round < 1000, "{beside} beside, {after} after");
        let rev = if round % 2 == 0 { "HEAD~1" } else { "HEAD" };
        let mut holder = Holder::start(&world, &["restore", rev, "--force"]);
        while !world.path(".filesync/journal").exists() && holder.child().try_wait().expect("it can be asked").is_none()
        {
            std::thread::yield_now();
        }
        if stop(holder.child()) && world.path(".filesync/journal").exists() {
            let ran = world.sane(&["status"]);
            assert_eq!(ran.status, Some(0), "{ran:?}");
            assert!(ran.err.contains("a restore is under way"), "{ran:?}");
            beside += 1;
        }
        drop(holder);
        if world.path(".filesync/journal").exists() {
            let ran = world.sane(&["status"]);
            assert_eq!(ran.status, Some(0), "{ran:?}");
            assert!(ran.err.contains("finishing a restore that was interrupted"), "{ran:?}");
            assert!(!world.path(".filesync/journal").exists());
            let changes = world.changes().len();
            assert_eq!(changes, if rev == "HEAD" { 0 } else { 600 });
            after += 1;
        }
    }
    println!("{beside} beside, {after} after");
}
