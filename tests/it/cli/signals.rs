//! SIGINT and SIGTERM: quick, without leftovers, and nothing is lost.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;

use filesync_tests::process::{Running, end, has_open, send, until};
use filesync_tests::world::World;
use rustix::process::Signal;

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

/// A file that takes longer to read than a test waits, and no room.
fn huge(path: &Path) {
    let file = File::create(path).expect("it can be made");
    file.set_len(4 << 40).expect("it can be sparse");
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
        let Running(child) = &mut Running::start(command.stdout(Stdio::null()).stderr(Stdio::piped()));
        until("the commit is in the middle of the large file", || {
            assert!(child.try_wait().expect("it can be asked").is_none(), "the commit was too quick to be interrupted");
            has_open(child, &world.path("huge"))
        });
        send(child, sent);
        // A status of its own: it was not the signal that ended it.
        assert_eq!(end(child).code(), Some(status));
        let mut err = String::new();
        child.stderr.take().expect("piped").read_to_string(&mut err).expect("a text");
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
    let Running(child) = &mut Running::start(&mut world.command(&["commit", "--lock-timeout", "1000s"]));
    until("it asks for the lock", || has_open(child, &world.path(".filesync/lock")));
    send(child, Signal::INT);
    assert_eq!(end(child).code(), Some(130));
}
