//! Small machines: every command with few descriptors, in little memory, and on a disk that fills.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;

use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::process::address;
use filesync_tests::world::{TempDir, World, noise, rot};

use super::limits::{Mount, limited};
use crate::cli::json::commands;

/// What 256 MiB of memory are, as a limit of the system: all that the process may write to, its threads' stacks
/// included.
const MEMORY: &str = "--data=268435456:268435456";

/// Runs commands under a limit, and remembers which.
struct Small<'a> {
    limit: &'a str,
    ran: RefCell<BTreeSet<String>>,
}

impl Small<'_> {
    /// Runs a command that must end with status 0; what it printed.
    #[track_caller]
    fn run(&self, world: &World, args: &[&str]) -> Vec<u8> {
        let output = limited(world, self.limit, args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {args:?}: {} {err}", self.limit, output.status);
        self.ran.borrow_mut().insert(args[0].to_owned());
        output.stdout
    }
}

/// Every command, in an order in which each has something to do, with `limit`. `world` has files and no commit.
fn every_command(world: &World, limit: &str, big: &str) {
    let small = Small { limit, ran: RefCell::default() };
    every_local_command(&small, world, big);
    every_command_of_a_cluster(&small);
    let ran = small.ran.into_inner();
    let missing: Vec<_> = commands().into_iter().filter(|command| !ran.contains(command)).collect();
    assert!(missing.is_empty(), "{limit}: these were not run: {missing:?}");
}

fn every_local_command(small: &Small<'_>, world: &World, big: &str) {
    let limit = small.limit;
    let outside = TempDir::new();
    let new = outside.path().join("new");
    let copy = outside.path().join("copy");
    let pages = outside.path().join("pages");
    let [new, copy, pages] = [&new, &copy, &pages].map(|path| path.to_str().expect("UTF-8"));
    world.write(".filesyncignore", "*.left-out\n");
    let cat = format!("HEAD:{big}");
    let run = |args: &[&str]| small.run(world, args);
    for args in [
        ["init", new].as_slice(),
        &["version"],
        &["completions", "bash"],
        &["man", pages],
        &["upgrade"],
        &["config"],
        &["config", "set", "node.name", "small"],
        &["config", "validate"],
        &["check-ignore", "-v", "some.left-out"],
        &["diff"],
        &["commit", "--dry-run"],
        &["commit", "-m", "first"],
        &["status"],
        &["status", "--no-cache"],
    ] {
        run(args);
    }
    let before = read_tree(world.root());
    assert!(run(&["cat", &cat]) == std::fs::read(world.path(big)).expect("it can be read"), "{limit}: cat");
    // Everything goes, and a directory stands where a file was.
    for entry in std::fs::read_dir(world.root()).expect("it can be read").flatten() {
        if entry.file_name() != ".filesync" {
            let path = entry.path();
            if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) }
                .expect("it is there");
        }
    }
    world.write(format!("{big}/now/a/directory"), "more");
    for args in [
        ["status"].as_slice(),
        &["commit", "-m", "second"],
        &["commit", "--amend", "-m", "better"],
        &["commit", "--amend", "--partial", "-m", "what can be read"],
        &["commit", "--allow-empty"],
        &["log"],
        &["log", "--", big],
        &["ls", "-r", "HEAD~2"],
        &["ls", "-l", "HEAD~2"],
        &["du", "HEAD~2"],
        &["tag", "first", "HEAD~2"],
        &["tag"],
        &["diff", "first", "HEAD"],
        &["diff", "first"],
        &["diff", "--stat"],
        &["show", "first", "--stat"],
        &["show", "HEAD~1"],
        &["restore", "HEAD~2", "--delete", "--force", "--dry-run"],
        &["restore", "HEAD~2", "--delete", "--force"],
        &["restore", "HEAD~2", "--to", copy],
        &["fsck"],
    ] {
        run(args);
    }
    // With its index gone, too.
    std::fs::remove_dir_all(world.path(".filesync/index")).expect("it is there");
    for args in [["fsck"].as_slice(), &["ls", "-r", "HEAD~2"], &["commit", "-m", "third"], &["status"]] {
        run(args);
    }
    assert_same(&before, &read_tree(world.root()), limit);
    assert_same(&before, &read_tree(Path::new(copy)), limit);
    // Most of what there is becomes garbage.
    std::fs::remove_file(world.path(big)).expect("it is there");
    for args in [
        ["commit", "-m", "fourth"].as_slice(),
        &["tag", "--delete", "first"],
        &["forget", "--keep-last", "1"],
        &["gc", "--dry-run"],
        &["gc"],
        &["fsck", "--quick"],
        &["fsck", "--sample", "50%"],
        &["fsck", "--repair"],
        &["fsck"],
        &["status"],
        &["log"],
    ] {
        run(args);
    }
}

/// A daemon that is to end with the test, whatever comes of it.
struct Served<'a>(&'a World);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        drop(self.0.run(&["stop"]));
    }
}

/// Two nodes, both with the same limit.
fn every_command_of_a_cluster(small: &Small<'_>) {
    let one = &World::repository();
    for name in 0..4000 {
        one.write(format!("d{}/{name}", name % 80), format!("{name}"));
    }
    let address = address();
    one.write("large", noise(9, 20 << 20));
    small.run(one, &["commit", "-m", "for others"]);
    let _served = Served(one);
    small.run(one, &["serve", "--detach", "--listen", &address]);
    small.run(one, &["sync"]);
    let invite = |role: &str| String::from_utf8(small.run(one, &["invite", "--role", role])).expect("UTF-8");
    let two = World::empty();
    small.run(&two, &["clone", invite("writer").trim(), "."]);
    assert_same(&read_tree(one.root()), &read_tree(two.root()), small.limit);
    invite("reader");
    let id = one.json(&["invite", "list"])[0]["id"].as_str().expect("an id").to_owned();
    for args in [["invite", "list"].as_slice(), &["invite", "revoke", &id], &["peers"], &["snapshot", "create"]] {
        small.run(one, args);
    }
    // Both ways, and once both sides moved.
    for (world, name) in [(&two, "of two"), (one, "of one")] {
        world.write(name, noise(10, 3 << 20));
        small.run(world, &["commit"]);
    }
    for world in [&two, one, &two] {
        small.run(world, &["sync"]);
        small.run(world, &["status"]);
    }
    assert_same(&read_tree(one.root()), &read_tree(two.root()), small.limit);
    for world in [one, &two] {
        for args in [["fsck", "--repair"].as_slice(), &["gc"], &["log"], &["fsck"]] {
            small.run(world, args);
        }
    }
    small.run(one, &["stop"]);
}

#[test]
fn every_command_with_few_descriptors() {
    let world = World::repository();
    for name in 0..400 {
        world.write(format!("d{}/{name}", name % 80), format!("{name}"));
    }
    world.write("big", noise(1, 8 << 20));
    every_command(&world, "--nofile=64:64", "big");
}

#[test]
fn every_command_in_little_memory() {
    let world = World::repository();
    std::fs::create_dir(world.path("many")).expect("it can be made");
    for name in 0..20_000 {
        std::fs::write(world.path(format!("many/a-file-with-a-name-{name}")), format!("{name}"))
            .expect("it can be written");
    }
    world.write("big", noise(1, 150 << 20));
    every_command(&world, MEMORY, "big");
}

/// What only reads, and needs no room for it.
const READERS: [&[&str]; 14] = [
    &["status"],
    &["ls", "-r"],
    &["log"],
    &["fsck"],
    &["cat", "HEAD:small"],
    &["du"],
    &["diff"],
    &["diff", "HEAD~1", "HEAD", "--stat"],
    &["show"],
    &["tag"],
    &["config", "validate"],
    &["check-ignore", "filler"],
    &["forget", "--keep-last", "1", "--dry-run"],
    &["completions", "fish"],
];

/// A disk on which a restore has no room: nothing is lost or left over, and it goes on when there is room.
#[test]
fn a_restore_on_a_full_disk() {
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=40m", "tmpfs"]) else { return };
    mount.ok(&["init"]);
    let write = |name: &str, bytes: &[u8]| std::fs::write(mount.0.join(name), bytes).expect("there is room");
    std::fs::create_dir(mount.0.join("dir")).expect("there is room");
    write(".filesyncignore", b"filler\n");
    for (round, message) in [(1, "first"), (9, "second")] {
        for name in 0..6_u8 {
            write(&format!("dir/{name}"), &noise((round + name).into(), 1 << 20));
        }
        write("small", &[round]);
        mount.ok(&["commit", "-m", message]);
    }
    let second = read_tree(&mount.0);
    let left = |room: u64| {
        drop(std::fs::remove_file(mount.0.join("filler")));
        let free = rustix::fs::statvfs(&mount.0).map(|stat| stat.f_bavail * stat.f_frsize).expect("it can be asked");
        write("filler", &vec![1; usize::try_from(free.saturating_sub(room)).expect("it is small")]);
    };
    let without_filler = || {
        let mut tree = read_tree(&mount.0);
        tree.remove(b"filler".as_slice());
        tree
    };
    // None at all, some for the journal, some for files of which there are not enough.
    for room in [0, 200 << 10, 4 << 20] {
        left(room);
        for args in [["restore", "HEAD~1"].as_slice(), &["restore", "HEAD~1", "--to", "copy"]] {
            let err = mount.fails(args);
            assert!(err.contains("No space left on device"), "{room}: {args:?}: {err}");
            assert_same(&second, &without_filler(), &format!("{room}: {args:?}"));
        }
        assert!(!mount.0.join(".filesync/journal").exists(), "{room}: the journal is still there");
        // What only reads goes on, and so does what has nothing to store.
        READERS.iter().for_each(|args| drop(mount.ok(args)));
    }
    left(0);
    // What writes a little says so, and leaves what was.
    let settings = mount.ok(&["config"]);
    for args in [
        ["tag", "t"].as_slice(),
        &["config", "set", "node.name", "other"],
        &["forget", "--keep-last", "1"],
        &["man", "pages"],
    ] {
        let err = mount.fails(args);
        assert!(err.contains("No space left on device"), "{args:?}: {err}");
        left(0);
    }
    drop(std::fs::remove_dir_all(mount.0.join("pages")));
    assert_eq!((mount.ok(&["config"]), mount.ok(&["tag"])), (settings, String::new()));
    assert!(!mount.ok(&["log"]).contains("[expired]"));
    left(0);
    let err = mount.fails(&["init", "other"]);
    assert!(err.contains("No space left on device"), "{err}");
    drop(std::fs::remove_dir(mount.0.join("other")));
    assert_same(&second, &without_filler(), "init");
    // Without an index, there is no room to make it anew either.
    std::fs::remove_dir_all(mount.0.join(".filesync/index")).expect("it is there");
    left(0);
    READERS.iter().for_each(|args| drop(mount.ok(args)));
    let err = mount.fails(&["commit", "--allow-empty"]);
    assert!(err.contains("No space left on device"), "{err}");
    std::fs::remove_file(mount.0.join("filler")).expect("it is there");
    mount.ok(&["restore", "HEAD~1"]);
    assert_eq!(std::fs::read(mount.0.join("dir/3")).expect("it is there"), noise(4, 1 << 20));
    mount.ok(&["restore"]);
    assert_same(&second, &without_filler(), "in the end");
    mount.ok(&["commit", "--allow-empty"]);
    mount.ok(&["fsck"]);
}

/// A disk that is full of garbage: what is needed stays, and the room comes back.
#[test]
fn a_collection_on_a_full_disk() {
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=40m", "tmpfs"]) else { return };
    mount.ok(&["init"]);
    let at = |name: &str| mount.0.join(name);
    std::fs::write(at(".filesyncignore"), "filler\n").expect("there is room");
    for round in 0..4 {
        std::fs::write(at("garbage"), noise(round, 3 << 20)).expect("there is room");
        std::fs::write(at(&format!("kept {round}")), noise(100 + round, 1 << 20)).expect("there is room");
        mount.ok(&["commit"]);
    }
    std::fs::remove_file(at("garbage")).expect("it is there");
    mount.ok(&["commit"]);
    mount.ok(&["forget", "--keep-last", "1"]);
    let free = || rustix::fs::statvfs(&mount.0).map(|stat| stat.f_bavail * stat.f_frsize).expect("it can be asked");
    let tree = read_tree(&mount.0);
    for room in [0, 64 << 10, 1 << 20] {
        drop(std::fs::remove_file(at("filler")));
        let len = usize::try_from(free().saturating_sub(room)).expect("it is small");
        std::fs::write(at("filler"), vec![1; len]).expect("there is room");
        let output = mount.run(&["gc"]);
        let err = String::from_utf8_lossy(&output.stderr);
        let is_told = output.status.code() == Some(1) && err.contains("No space left on device");
        assert!(output.status.success() || is_told, "{room}: {} {err}", output.status);
        mount.ok(&["fsck"]);
        for round in 0..4 {
            let bytes = mount.run(&["cat", &format!("HEAD:kept {round}")]).stdout;
            assert!(bytes == noise(100 + round, 1 << 20), "{room}: kept {round}");
        }
    }
    std::fs::remove_file(at("filler")).expect("it is there");
    mount.ok(&["gc"]);
    mount.ok(&["fsck"]);
    // 4 MiB of files, as much in the store, and what is around it.
    assert!(free() > 26 << 20, "{} MiB are free", free() >> 20);
    assert_same(&tree, &read_tree(&mount.0), "the working copy");
}

/// A disk without room for what a repair stores, or for the packs that it writes anew: it says so, nothing more is lost,
/// and it is done when there is room.
#[test]
fn a_repair_on_a_full_disk() {
    let Some(mount) = Mount::new(&["-t", "tmpfs", "-o", "size=40m", "tmpfs"]) else { return };
    mount.ok(&["init"]);
    let at = |name: &str| mount.0.join(name);
    std::fs::write(at(".filesyncignore"), "filler\n").expect("there is room");
    for name in 0..3 {
        std::fs::write(at(&name.to_string()), noise(name, 2 << 20)).expect("there is room");
    }
    mount.ok(&["commit"]);
    let tree = read_tree(&mount.0);
    rot(&mount.0, "1");
    let cat = |name: u64| mount.run(&["cat", &format!("HEAD:{name}")]);
    for room in [0, 1 << 20] {
        // Again with what the first attempt left of the room.
        for attempt in 0..2 {
            if attempt == 0 {
                drop(std::fs::remove_file(at("filler")));
                let stat = rustix::fs::statvfs(&mount.0).expect("it can be asked");
                let len = usize::try_from((stat.f_bavail * stat.f_frsize).saturating_sub(room)).expect("it is small");
                std::fs::write(at("filler"), vec![1; len]).expect("there is room");
            }
            let output = mount.run(&["fsck", "--repair"]);
            let err = String::from_utf8_lossy(&output.stderr);
            let is_told = output.status.code() == Some(1) && err.contains("No space left on device");
            assert!(is_told, "{room}, {attempt}: {} {err}", output.status);
            // What only reads goes on. What has been stored again may be read by now.
            for name in [0, 2] {
                assert!(cat(name).stdout == noise(name, 2 << 20), "{room}, {attempt}: {name}");
            }
            let (checked, read) = (mount.run(&["fsck"]).status.code(), cat(1));
            let is_whole = read.status.success() && read.stdout == noise(1, 2 << 20);
            assert_eq!(checked, Some(if is_whole { 0 } else { 5 }), "{room}, {attempt}");
            assert!(noise(1, 2 << 20).starts_with(&read.stdout), "{room}, {attempt}: wrong bytes");
        }
    }
    std::fs::remove_file(at("filler")).expect("it is there");
    mount.ok(&["fsck", "--repair"]);
    assert!(cat(1).stdout == noise(1, 2 << 20));
    assert_eq!(mount.ok(&["--json", "fsck"]).matches(r#""notes":[]"#).count(), 1, "the bad copy is still there");
    assert_same(&tree, &read_tree(&mount.0), "the working copy");
}
