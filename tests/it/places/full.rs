//! A disk without a byte of room: every command does what it is to do, or says that there is none.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::path::PathBuf;
use std::process::Command;

use filesync_tests::model::{Tree, assert_same, read_tree};
use filesync_tests::process::address;
use filesync_tests::world::{Ran, World, noise, program, within};

use super::limits::Mount;
use crate::cli::json::commands;

/// A small disk with working copies on it; it remembers which commands were run when it was full.
struct Full {
    mount: Mount,
    ran: RefCell<BTreeSet<String>>,
    /// Those that found no room.
    told: RefCell<BTreeSet<String>>,
}

impl Full {
    fn at(&self, name: &str) -> PathBuf {
        self.mount.0.join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.at(name);
        std::fs::create_dir_all(path.parent().expect("below the root")).expect("there is room");
        std::fs::write(path, bytes).expect("there is room");
    }

    fn free(&self) {
        drop(std::fs::remove_file(self.at("filler")));
    }

    /// Removes what commands may have left beside the working copies.
    fn tidy(&self) {
        ["other", "pages", "copy"].iter().for_each(|dir| drop(std::fs::remove_dir_all(self.at(dir))));
    }

    fn fill(&self) {
        // What a daemon has freed meanwhile is taken, and nothing given.
        let filler = File::options().create(true).append(true).open(self.at("filler"));
        let mut filler = filler.expect("there is room for a name");
        std::io::copy(&mut std::io::repeat(1), &mut filler).expect_err("it ends where the disk does");
    }

    fn command(&self, copy: &str, args: &[&str]) -> Command {
        let mut command = Command::new(program());
        command.args(args).current_dir(self.at(copy)).env_remove("FILESYNC_DIR");
        within(120, &command)
    }

    /// Runs a command where there is room.
    #[track_caller]
    fn ok(&self, copy: &str, args: &[&str]) -> String {
        self.free();
        let ran = Ran::new(self.command(copy, args).output().expect("the program runs"));
        assert_eq!(ran.status, Some(0), "{args:?}: {ran:?}");
        String::from_utf8(ran.out).expect("UTF-8")
    }

    /// Runs a command when nothing is free. True if that was enough; else it says so, in the system's words.
    #[track_caller]
    fn run(&self, copy: &str, args: &[&str]) -> bool {
        self.fill();
        let ran = Ran::new(self.command(copy, args).output().expect("the program runs"));
        let is_told = ran.status == Some(1) && ran.err.contains("No space left on device");
        assert!(ran.status == Some(0) || is_told, "{args:?}: {ran:?}");
        self.ran.borrow_mut().insert(args[0].to_owned());
        if is_told {
            self.told.borrow_mut().insert(args[0].to_owned());
        }
        !is_told
    }
}

/// Only look, or need no more than there is.
const LOOKERS: [&[&str]; 25] = [
    &["version"],
    &["completions", "bash"],
    &["upgrade"],
    &["config"],
    &["config", "get", "node.name"],
    &["config", "validate"],
    &["check-ignore", "-v", "some.left-out"],
    &["status"],
    &["status", "--no-cache"],
    &["diff"],
    &["diff", "first", "HEAD", "--stat"],
    &["show"],
    &["show", "first", "--", "small"],
    &["log"],
    &["log", "--", "small"],
    &["ls", "-r"],
    &["cat", "HEAD:small"],
    &["du"],
    &["tag"],
    &["commit", "--dry-run"],
    &["restore", "first", "--dry-run"],
    &["fsck"],
    &["fsck", "--quick"],
    &["fsck", "--sample", "50%"],
    &["gc", "--dry-run"],
];

/// Store or write something. Some need little, and what others tidied up may be enough for that.
const WRITERS: [&[&str]; 15] = [
    &["init", "../other"],
    &["man", "../pages"],
    &["config", "set", "node.name", "other"],
    &["tag", "more"],
    &["tag", "--delete", "gone"],
    &["commit", "-m", "more"],
    &["commit", "--amend", "-m", "better"],
    &["commit", "--amend", "--partial", "-m", "what can be read"],
    &["commit", "--allow-empty"],
    &["restore", "first"],
    &["restore", "first", "--to", "../copy"],
    &["fsck", "--repair"],
    &["forget", "--keep-last", "1", "--dry-run"],
    &["forget", "--keep-last", "1"],
    &["gc"],
];

/// What must find no room: it has a megabyte to write.
const LARGE: [&[&str]; 4] = [WRITERS[5], WRITERS[6], WRITERS[9], WRITERS[10]];

/// Commits, of which one is tagged, and a change that is in none. The tagged one, and the last.
fn fill_copy(full: &Full) -> [(String, Tree); 2] {
    let copy = "one";
    full.write("one/.filesyncignore", b"*.left-out\n");
    let head = |full: &Full| {
        let log = full.ok(copy, &["--json", "log", "-n", "1"]);
        let log: serde_json::Value = serde_json::from_str(&log).expect("one object");
        (log["commit"].as_str().expect("an id").to_owned(), read_tree(&full.at(copy)))
    };
    let mut commits = Vec::new();
    for (round, tag) in [(1_u8, "first"), (2, "gone"), (3, "last")] {
        full.write("one/small", &[round]);
        full.write("one/large", &noise(round.into(), 1 << 20));
        full.ok(copy, &["commit", "-m", tag]);
        full.ok(copy, &["tag", tag]);
        commits.push(head(full));
    }
    full.write("one/new", &noise(9, 1 << 20));
    let [first, _, last] = commits.try_into().expect("three of them");
    [first, last]
}

/// What every command leaves, whether it found room or not: the commits that are kept, and the working copy as it was.
fn every_local_command(full: &Full) {
    let commits = fill_copy(full);
    let mut work = read_tree(&full.at("one"));
    for args in LOOKERS.iter().chain(&WRITERS) {
        let is_done = full.run("one", args);
        assert!(is_done || !LOOKERS.contains(args), "{args:?} needs room");
        assert!(!is_done || !LARGE.contains(args), "{args:?} found room");
        full.tidy();
        assert_same(&work, &read_tree(&full.at("one")), &format!("{args:?}"));
    }
    for (id, tree) in commits {
        full.ok("one", &["restore", &id, "--to", "../copy"]);
        assert_same(&tree, &read_tree(&full.at("copy")), "a commit");
        full.tidy();
    }
    // With room, all of it is done.
    for args in WRITERS.iter().filter(|args| !args.contains(&"--delete")) {
        full.ok("one", args);
    }
    full.tidy();
    full.ok("one", &["restore"]);
    work = read_tree(&full.at("one"));
    full.ok("one", &["restore", "HEAD", "--to", "../copy"]);
    assert_same(&work, &read_tree(&full.at("copy")), "the head");
    full.tidy();
    full.ok("one", &["fsck"]);
}

/// Ends the daemons with the test, whatever comes of it.
struct Served<'a>(&'a Full, &'a World);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        drop(self.0.mount.run(&["-C", "voter", "stop"]));
        drop(self.1.run(&["stop"]));
    }
}

/// The only voter of its cluster is out of room, and so is a member of another.
fn every_command_of_a_cluster(full: &Full) {
    let other = World::repository();
    let _served = Served(full, &other);
    let listen = address();
    full.ok(".", &["init", "voter"]);
    full.write("voter/small", b"small");
    full.ok("voter", &["commit", "-m", "first"]);
    full.ok("voter", &["serve", "--detach", "--listen", &listen]);
    full.ok("voter", &["sync"]);
    for args in [["peers"].as_slice(), &["invite", "list"], &["snapshot"], &["status"], &["sync"]] {
        assert!(full.run("voter", args), "{args:?} needs room");
    }
    // Each needs a little, in the log of the voters and in the daemon's own, which may be more than there is.
    let invited = (0..40).filter(|_| full.run("voter", &["invite"])).count();
    for args in [["invite", "list"].as_slice(), &["snapshot", "create"], &["peers"], &["log"], &["fsck"], &["sync"]] {
        full.run("voter", args);
    }
    let listed = full.ok("voter", &["invite", "list"]).lines().count();
    assert!(listed >= invited, "{invited} invites were acknowledged, and there are {listed}");
    full.write("voter/more", &noise(11, 1 << 20));
    full.ok("voter", &["commit", "-m", "to be published"]);
    for args in [["sync"].as_slice(), &["commit", "--allow-empty"], &["stop"], &["serve", "--detach"], &["sync"]] {
        full.run("voter", args);
    }
    full.mount.run(&["-C", "voter", "stop"]);
    full.ok("voter", &["serve", "--detach", "--listen", &listen]);
    full.ok("voter", &["sync"]);
    full.ok("voter", &["fsck"]);
    full.ok("voter", &["stop"]);

    other.write("large", noise(12, 2 << 20));
    other.commit();
    other.ok(&["serve", "--detach", "--listen", &address()]);
    other.ok(&["sync"]);
    let line = other.ok(&["invite", "--role", "writer"]);
    let clone = ["clone", line.trim(), "../two"];
    assert!(!full.run("voter", &clone), "a clone found room");
    full.ok("voter", &clone);
    assert_same(&read_tree(other.root()), &read_tree(&full.at("two")), "cloned");
    let before = read_tree(&full.at("two"));
    other.write("large", noise(13, 2 << 20));
    other.commit();
    other.ok(&["sync"]);
    assert!(!full.run("two", &["sync"]), "what others published found room");
    assert_same(&before, &read_tree(&full.at("two")), "not fetched");
    full.ok("two", &["sync"]);
    assert_same(&read_tree(other.root()), &read_tree(&full.at("two")), "fetched");
    full.ok("two", &["fsck"]);
}

#[test]
fn every_command_on_a_full_disk() {
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=40m", "tmpfs"]) else { return };
    mount.ok(&["init", "one"]);
    let full = Full { mount, ran: RefCell::default(), told: RefCell::default() };
    every_local_command(&full);
    every_command_of_a_cluster(&full);
    let ran = full.ran.borrow();
    let missing: Vec<_> = commands().into_iter().filter(|command| !ran.contains(command)).collect();
    assert!(missing.is_empty(), "these were not run: {missing:?}");
    for command in ["init", "commit", "restore", "man", "config", "tag", "clone", "sync"] {
        assert!(full.told.borrow().contains(command), "{command} always found room: {:?}", full.told);
    }
}
