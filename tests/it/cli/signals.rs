//! SIGINT and SIGTERM: quick, without leftovers, and nothing is lost.

use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use filesync_tests::world::World;
use rustix::process::{Pid, Signal, kill_process};

/// Temporary files anywhere below.
fn leftovers(dir: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory can be read").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(".filesync-") || name.contains("tmp") {
            found.push(name);
        }
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            leftovers(&entry.path(), found);
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
    kill_process(pid, signal).expect("it can be sent");
}

/// A file that takes many seconds to read and no room.
fn huge(path: &Path) {
    let file = File::create(path).expect("it can be made");
    file.set_len(64 << 30).expect("it can be sparse");
}

#[test]
fn a_long_commit_is_interrupted() {
    for (sent, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let world = World::repository();
        world.write("kept", "kept");
        let head = world.commit();
        huge(&world.path("huge"));
        for name in 0..300 {
            world.write(format!("small/{name}"), name.to_string().repeat(500));
        }
        let mut command = world.command(&["commit"]);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs");
        std::thread::sleep(Duration::from_millis(700));
        assert!(child.try_wait().expect("it can be asked").is_none(), "the commit was too quick to be interrupted");
        signal(&child, sent);
        let sent_at = Instant::now();
        let output = child.wait_with_output().expect("it ends");
        assert!(sent_at.elapsed() < Duration::from_secs(5), "it took {:?}", sent_at.elapsed());
        let ended = output.status.code().or_else(|| output.status.signal().map(|number| 128 + number));
        assert_eq!(ended, Some(status));
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(err.lines().count() <= 1 && !err.contains("panicked"), "{err}");
        let mut found = Vec::new();
        leftovers(world.root(), &mut found);
        assert!(found.is_empty(), "left over: {found:?}");

        assert_eq!(world.json(&["log"])[0]["commit"], head.as_str());
        world.ok(&["fsck"]);
        std::fs::remove_file(world.path("huge")).expect("it is there");
        world.commit();
        assert_eq!(world.cat("small/7"), "7".repeat(500).as_bytes());
        world.ok(&["fsck"]);
    }
}

#[test]
fn waiting_for_another_writer_is_interrupted() {
    let world = World::repository();
    world.write("a", "a");
    let lock = File::options().create(true).append(true).open(world.path(".filesync/lock")).expect("it can be opened");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).expect("nobody holds it");
    let err = world.fails(1, &["commit", "--lock-timeout", "100ms"]);
    assert!(err.contains("busy"), "{err}");
    let mut child = world.command(&["commit", "--lock-timeout", "60s"]).spawn().expect("the program runs");
    std::thread::sleep(Duration::from_millis(400));
    signal(&child, Signal::INT);
    let sent_at = Instant::now();
    let status = child.wait().expect("it ends");
    assert!(sent_at.elapsed() < Duration::from_secs(5), "it took {:?}", sent_at.elapsed());
    assert_eq!(status.code().or_else(|| status.signal().map(|number| 128 + number)), Some(130));
}
