//! Keeping house beside everything else: a writer that stands still, readers in the middle of their work.

use std::io::Read;
use std::process::{Child, Stdio};

use filesync_cas::testing::Rng;
use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::World;
use rustix::process::{Pid, Signal, kill_process};

fn signal(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id")).expect("not 0");
    kill_process(pid, signal).expect("a child can be sent signals");
}

/// Whether a process has been stopped, as the kernel says.
fn is_stopped(child: &Child) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).expect("it is there");
    stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
}

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
    let packs = || -> u64 {
        let files = std::fs::read_dir(world.path(".filesync/packs")).expect("packs");
        files.flatten().filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    };
    let before = packs();
    let mut writer = world.command(&["commit", "-m", "slow"]).stdout(Stdio::null()).spawn().expect("it starts");
    // In the middle: some of it has been written.
    while packs() < before + 2_000_000 {
        assert!(writer.try_wait().expect("it can be asked").is_none(), "it ended too soon");
        std::thread::yield_now();
    }
    signal(&writer, Signal::STOP);
    while !is_stopped(&writer) {
        std::thread::yield_now();
    }
    for args in [&["gc"][..], &["forget", "--keep-last", "1"], &["fsck", "--repair"], &["upgrade"]] {
        let err = world.fails(1, &[args, &["--lock-timeout", "50ms"]].concat());
        assert!(err.contains(&format!("store is busy: commit, pid {}", writer.id())), "{err}");
    }
    // Readers need not wait.
    world.ok(&["gc", "--dry-run"]);
    world.ok(&["fsck", "--quick"]);
    signal(&writer, Signal::CONT);
    assert!(writer.wait().expect("it ends").success());
    assert_same(&tree, &world.restored("HEAD"), "the commit");
    world.ok(&["gc"]);
    assert_same(&tree, &world.restored("HEAD"), "the commit after a collection");
    world.ok(&["fsck"]);
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
