//! `status`.

use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;

use filesync_tests::world::World;
use serde_json::Value;

use super::{has_fields, is_an_error};

fn rename(world: &World, from: &str, to: &str) {
    std::fs::rename(world.path(from), world.path(to)).expect("it can be renamed");
}

fn remove(world: &World, path: &str) {
    std::fs::remove_file(world.path(path)).expect("it is there");
}

#[test]
fn one_object() {
    let world = World::repository();
    let empty = world.object(0, &["status"]);
    has_fields(&empty, &["v", "head", "main", "ahead", "behind", "as_of", "changes", "conflicts", "clean"]);
    assert_eq!((&empty["head"], &empty["clean"]), (&Value::Null, &Value::Bool(true)));
    world.write("a", "a");
    let head = world.commit();
    let clean = world.object(0, &["status"]);
    assert_eq!(clean["v"], 1);
    assert_eq!(clean["head"], head.as_str());
    assert_eq!(clean["clean"], true);
    assert_eq!(clean["changes"], Value::Array(Vec::new()));
    assert_eq!(clean["conflicts"], Value::Array(Vec::new()));
    // There is no cluster yet.
    assert!(["main", "ahead", "behind", "as_of"].iter().all(|field| clean[field].is_null()), "{clean}");
    world.write("b", "b");
    let changed = world.object(0, &["status"]);
    assert_eq!(changed["clean"], false);
    assert_eq!(changed["changes"], serde_json::json!([{"change": "A", "path": "b"}]));
    // Some paths only, from where one stands.
    world.write("d/c", "c");
    let paths = |args: &[&str]| {
        let status = world.object(0, &[&["status"], args].concat());
        let changes = status["changes"].as_array().expect("a list").clone();
        changes.iter().map(|change| change["path"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(paths(&[]), ["b", "d/c"]);
    assert_eq!(paths(&["d"]), ["d/c"]);
    assert_eq!(paths(&["-C", "d", "c", "../a"]), ["d/c"]);
    assert_eq!(paths(&["--", "b", "d"]), ["b", "d/c"]);
    assert!(world.object(0, &["status", "a"])["clean"] == true);
    is_an_error(&world.fails(2, &["status", "../outside"]));
}

#[test]
fn every_letter() {
    let world = World::repository();
    for name in ["modified", "mode", "gone", "to-link", "to-dir", "same-1", "same-2", "empty", "moved", "touched"] {
        world.write(name, if name == "empty" { "" } else { name });
    }
    world.write("same-2", "same-1");
    world.write("dir/x", "dir/x");
    world.write("to-file/x", "to-file/x");
    std::fs::create_dir(world.path("empty-dir")).expect("it can be made");
    std::fs::create_dir(world.path("empty-to-file")).expect("it can be made");
    symlink("a", world.path("link")).expect("it can be made");
    world.commit();

    world.write("modified", "Modified");
    world.chmod("mode", 0o755);
    remove(&world, "gone");
    remove(&world, "to-link");
    symlink("x", world.path("to-link")).expect("it can be made");
    remove(&world, "to-dir");
    std::fs::create_dir(world.path("to-dir")).expect("it can be made");
    std::fs::remove_dir_all(world.path("to-file")).expect("it is there");
    world.write("to-file", "now a file");
    remove(&world, "link");
    symlink("b", world.path("link")).expect("it can be made");
    rename(&world, "moved", "moved-here");
    rename(&world, "empty", "empty-here");
    rename(&world, "dir", "dir-here");
    world.write("touched", "touched");
    std::fs::remove_dir(world.path("empty-dir")).expect("it is there");
    std::fs::remove_dir(world.path("empty-to-file")).expect("it is there");
    world.write("empty-to-file", "now a file");
    std::fs::create_dir(world.path("new-empty")).expect("it can be made");
    world.write("new-dir/file", "new");
    let expected = [
        "R dir/x -> dir-here/x",
        "D empty",
        "D empty-dir",
        "A empty-here",
        "T empty-to-file",
        "D gone",
        "M link",
        "M mode",
        "M modified",
        "R moved -> moved-here",
        "A new-dir/file",
        "A new-empty",
        "T to-dir",
        "T to-file",
        "D to-file/x",
        "T to-link",
    ];
    assert_eq!(world.changes(), expected);
    let text = world.ok(&["-q", "status"]);
    assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    let nul = world.run(&["status", "-z"]).stdout;
    assert!(nul.starts_with(b"R dir-here/x\0dir/x\0D empty\0"), "{}", String::from_utf8_lossy(&nul));
    // Each side of a rename counts once.
    remove(&world, "same-1");
    remove(&world, "same-2");
    world.write("copy", "same-1");
    let renames = world.changes().iter().filter(|line| line.ends_with("-> copy")).count();
    assert_eq!(renames, 1);
    assert!(world.changes().iter().any(|line| line.starts_with("D same-")));
    world.commit();
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn a_mode_of_a_directory() {
    let world = World::repository();
    world.write("d/f", "f");
    world.chmod("d", 0o755);
    world.commit();
    world.chmod("d", 0o700);
    assert_eq!(world.changes(), ["M d"]);
    world.commit();
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn conflict_copies_are_named_as_long_as_they_are_there() {
    let world = World::repository();
    for name in
        ["d/a.txt", "d/a.conflict-two-2026-11-30.txt", "plain.conflict-two-2026-11-30-2", "a.conflict-of-interest"]
    {
        world.write(name, name);
    }
    world.write(".filesyncignore", "out/\n");
    world.write("out/a.conflict-two-2026-11-30", "left out");
    let conflicts = ["d/a.conflict-two-2026-11-30.txt", "plain.conflict-two-2026-11-30-2"];
    // In the tree or not, they wait for somebody.
    for is_tracked in [false, true] {
        if is_tracked {
            world.commit();
        }
        let status = &world.json(&["status"])[0];
        assert_eq!(status["conflicts"], serde_json::json!(conflicts));
        assert_eq!(status["clean"], serde_json::json!(false));
    }
    let text = world.ok(&["-q", "status"]);
    let deleted = "conflict plain.conflict-two-2026-11-30-2: there is no plain any more\n";
    assert_eq!(text, format!("conflict d/a.conflict-two-2026-11-30.txt\n{deleted}"));
    assert_eq!(world.run(&["status", "--exit-code"]).status.code(), Some(1));
    conflicts.iter().for_each(|name| remove(&world, name));
    world.commit();
    assert_eq!(world.json(&["status"])[0]["conflicts"], serde_json::json!([]));
    assert_eq!(world.run(&["status", "--exit-code"]).status.code(), Some(0));
}

#[test]
fn exit_code() {
    let world = World::repository();
    world.write("a", "a");
    assert_eq!(world.run(&["status", "--exit-code"]).status.code(), Some(1));
    world.ok(&["status"]);
    world.commit();
    assert_eq!(world.run(&["status", "--exit-code"]).status.code(), Some(0));
    // Failures are told apart from "differs".
    let outside = World::empty();
    is_an_error(&outside.fails(2, &["status", "--exit-code"]));
    is_an_error(&outside.fails(1, &["status"]));
}

#[test]
fn unreadable_is_never_deleted() {
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("file", "file");
    world.write("longer", "longer");
    world.write("dir/inside", "inside");
    world.commit();
    // Of another length, as long as before, or new: what it is now is not known.
    world.write("longer", "longer than before");
    world.write("new", "new");
    world.write("file", "FILE");
    for path in ["longer", "new", "file", "dir"] {
        world.chmod(path, 0);
    }
    assert_eq!(world.changes(), ["unreadable dir", "unreadable file", "unreadable longer", "unreadable new"]);
    std::fs::remove_file(world.path("new")).expect("it is there");
    world.chmod("longer", 0o644);
    world.write("longer", "longer");
    assert_eq!(world.changes(), ["unreadable dir", "unreadable file"]);
    assert_eq!(world.run(&["status", "--exit-code"]).status.code(), Some(3));
    let text = world.ok(&["status"]);
    assert!(text.contains("unreadable dir\n") && !text.contains("D "), "{text}");
    // Searched but not read, and read but not searched.
    for mode in [0o311, 0o444] {
        world.chmod("dir", mode);
        let changes = world.changes();
        assert!(changes.iter().any(|line| line.starts_with("unreadable dir")), "{mode:o}: {changes:?}");
        assert!(!changes.iter().any(|line| line.starts_with("D ")), "{mode:o}: {changes:?}");
    }
    world.chmod("file", 0o644);
    world.chmod("dir", 0o755);
    assert_eq!(world.changes(), ["M file"]);
}

/// A program that is gone when the test is over.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Shown once, and again when there is something else to show; a signal ends it.
#[test]
fn watching() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    let mut command = world.command(&["--json", "status", "--watch"]);
    let mut child = Killed(command.stdout(std::process::Stdio::piped()).spawn().expect("the program runs"));
    let mut lines = BufReader::new(child.0.stdout.take().expect("it is piped")).lines();
    let mut next = || -> Value {
        let line = lines.next().expect("another line").expect("it can be read");
        serde_json::from_str(&line).expect("a line of JSON")
    };
    assert_eq!(next()["clean"], true);
    world.write("b", "b");
    assert_eq!(next()["changes"], serde_json::json!([{"change": "A", "path": "b"}]));
    let head = world.commit();
    // Between the two it may have seen the commit's file, but nothing else.
    let last = std::iter::repeat_with(&mut next).find(|status| status["head"] == head.as_str()).expect("it comes");
    assert_eq!(last["clean"], true);
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.0.id()).expect("small")).expect("a child has an id");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("it can be sent");
    assert_eq!(child.0.wait().expect("it ends").code(), Some(130));
    is_an_error(&world.fails(2, &["status", "--watch", "--exit-code"]));
}
