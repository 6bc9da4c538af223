//! Samples of what is rare: things that become other things, damage of every kind, histories that are not whole, and
//! members of every role.

use std::fs::{self, Permissions, set_permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Stdio;
use std::thread::sleep;
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_tests::process::address;
use filesync_tests::world::{PLAIN_USER, World, is_root};
use rustix::fs::XattrFlags;

use super::Checker;
use crate::cli::house::rewrite_format;

/// All of it.
pub fn samples(c: &mut Checker) {
    things_that_become_others(c);
    what_cannot_be_read(c);
    damage_of_every_kind(c);
    damage_in_garbage_and_in_its_way(c);
    histories_that_are_not_whole(c);
    a_cluster_of_nothing(c);
    what_is_lost(c);
    a_daemon_with_http(c);
}

fn things_that_become_others(c: &mut Checker) {
    let world = World::repository();
    let executable =
        |path: &str| set_permissions(world.path(path), Permissions::from_mode(0o755)).expect("it is there");
    world.write("text", "one\ntwo\n");
    world.write("binary", [0, 1, 2]);
    world.write("gone", "gone\n");
    world.write("moved", "as it was\n");
    world.write("to a link", "x");
    symlink("text", world.path("to a file")).expect("it can be made");
    world.write("tool", "tool");
    executable("tool");
    fs::create_dir(world.path("empty")).expect("it can be made");
    world.commit();
    world.write("text", "one\n");
    world.write("binary", [0, 1, 3]);
    world.write("new", "new\n");
    fs::rename(world.path("moved"), world.path("there")).expect("it is there");
    for path in ["gone", "to a link", "to a file", "tool"] {
        fs::remove_file(world.path(path)).expect("it is there");
    }
    fs::remove_dir(world.path("empty")).expect("it is there");
    fs::create_dir(world.path("as empty")).expect("it can be made");
    symlink("text", world.path("to a link")).expect("it can be made");
    world.write("to a file", "x");
    executable("to a file");
    world.write("text.conflict-two-2026-11-30", "theirs\n");
    c.run(&world, 0, &["status"]);
    c.run(&world, 0, &["diff"]);
    c.run(&world, 0, &["diff", "--stat"]);
    c.run(&world, 3, &["restore", "--dry-run", "--delete"]);
    c.run(&world, 0, &["commit"]);
    c.run(&world, 0, &["show"]);
    c.run(&world, 0, &["restore", "HEAD~1", "--delete", "--force", "--dry-run"]);
}

fn what_cannot_be_read(c: &mut Checker) {
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("closed", "x");
    if is_root() {
        std::os::unix::fs::chown(world.path("closed"), Some(PLAIN_USER), None).expect("root may give away");
    }
    world.commit();
    world.write("closed", "other");
    set_permissions(world.path("closed"), Permissions::from_mode(0o0)).expect("it is there");
    c.run(&world, 0, &["status"]);
    c.run(&world, 3, &["diff"]);
}

/// Packs of a class: 1 is data, 2 metadata.
fn packs(world: &World, class: u8) -> Vec<(PathBuf, Vec<u8>)> {
    let packs = fs::read_dir(world.path(".filesync/packs")).expect("there are packs").flatten();
    let read = packs.map(|pack| (pack.path(), fs::read(pack.path()).expect("it can be read")));
    read.filter(|(_, bytes)| bytes[9] == class).collect()
}

/// Spoils the first and the last object of each frame, as `docs/format.md` has them (section 2.2).
fn spoil_metadata(world: &World) {
    for (path, mut bytes) in packs(world, 2) {
        let mut at = 88;
        while bytes.get(at..at + 4) == Some(b"FSfr") {
            let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize;
            let payload = at + 56 + 37 * number(at + 16);
            at = payload + number(at + 12);
            bytes[payload] ^= 0x10;
            bytes[at - 1] ^= 0x20;
        }
        assert!(at > 88, "no frame");
        fs::write(path, bytes).expect("it can be written");
    }
}

fn damage_of_every_kind(c: &mut Checker) {
    let world = World::repository();
    world.write("large", Rng::new(1).bytes(1_000_000));
    world.write("dir/small", "small");
    let has_attrs = rustix::fs::setxattr(world.path("large"), "user.note", b"x", XattrFlags::empty()).is_ok();
    world.commit();
    spoil_metadata(&world);
    c.run(&world, 5, &["fsck"]);
    if !has_attrs {
        filesync_tests::world::skipped("this file system has no extended attributes");
        c.forgive("object", "kind", "\"attrs\"");
    }
    // A pack that is gone is told of when it is missed, and has no path.
    for (path, _) in packs(&world, 1) {
        fs::remove_file(path).expect("it is there");
    }
    c.run(&world, 5, &["fsck"]);
}

fn damage_in_garbage_and_in_its_way(c: &mut Checker) {
    let world = World::repository();
    world.write("kept", Rng::new(2).bytes(1_000_000));
    world.commit();
    world.write("garbage", Rng::new(3).bytes(1_000_000));
    world.ok(&["commit", "--amend"]);
    fs::remove_file(world.path("garbage")).expect("it is there");
    world.ok(&["commit", "--amend"]);
    let (path, good) = packs(&world, 1).pop().expect("there is data");
    let spoil = |at: usize| {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, bad).expect("it can be written");
    };
    // What came last is garbage, what came first is not.
    spoil(good.len() - 1000);
    c.run(&world, 0, &["fsck"]);
    spoil(100_000);
    c.run(&world, 5, &["gc"]);
}

/// Signatures for another repository, and a list of what has expired that nobody can read.
fn histories_that_are_not_whole(c: &mut Checker) {
    let world = World::repository();
    for content in ["x", "y"] {
        world.write("file", content);
        world.commit();
    }
    let other = format!("repository {}", "ab".repeat(32));
    rewrite_format(&world, |line| if line.starts_with("repository ") { other.clone() } else { line.to_owned() });
    c.run(&world, 0, &["show"]);
    world.write(".filesync/expired", "nonsense\n");
    c.run(&world, 0, &["log"]);
    c.run(&world, 5, &["fsck"]);
}

/// A daemon that is to end with the test, whatever comes of it.
pub struct Served<'a>(pub &'a World);

impl Drop for Served<'_> {
    fn drop(&mut self) {
        drop(self.0.run(&["stop"]));
    }
}

/// Nothing was ever committed. Members of every role come all the same.
fn a_cluster_of_nothing(c: &mut Checker) {
    let one = World::repository();
    let _served = Served(&one);
    c.run(&one, 0, &["serve", "--detach", "--listen", &address()]);
    c.run(&one, 0, &["sync"]);
    let mut others = Vec::new();
    for role in ["reader", "voter", "writer"] {
        c.run(&one, 0, &["invite", "--role", role]);
        let line = one.ok(&["invite", "--role", role]);
        let other = World::empty();
        c.run(&other, 0, &["clone", line.trim(), ".", "--name", role]);
        others.push(other);
    }
    c.run(&one, 0, &["invite", "list"]);
    c.run(&one, 0, &["peers"]);
    c.run(&one, 0, &["stop"]);
}

/// What its only voter has no more: after a while that is recorded, and is no damage from then on.
fn what_is_lost(c: &mut Checker) {
    let world = World::repository();
    world.write("large", Rng::new(4).bytes(1_000_000));
    world.commit();
    world.ok(&["sync"]);
    fs::remove_file(world.path("large")).expect("it is there");
    let (path, mut bytes) = packs(&world, 1).pop().expect("there is data");
    let end = bytes.len() - 1_000;
    bytes[end] ^= 1;
    fs::write(path, bytes).expect("it can be written");
    c.run(&world, 5, &["fsck"]);
    let _served = Served(&world);
    c.run(&world, 0, &["serve", "--detach"]);
    let until = Instant::now() + Duration::from_secs(60);
    while world.run(&["fsck"]).status.code() != Some(0) {
        assert!(Instant::now() < until, "it is not recorded");
        sleep(Duration::from_millis(200));
    }
    c.run(&world, 0, &["fsck"]);
    c.run(&world, 0, &["status"]);
    let text = world.ok(&["fsck"]);
    assert!(text.contains("lost chunk ") && text.contains("    large\n"), "{text}");
    assert!(text.ends_with("all is well, 1 object recorded as lost\n"), "{text}");
    assert!(world.ok(&["status"]).contains("recorded as lost: 1 object"));
    assert!(world.fails(5, &["cat", "HEAD:large"]).contains("recorded as lost"));
    c.run(&world, 0, &["stop"]);
}

/// In the background it cannot say where it answers: its log does.
fn a_daemon_with_http(c: &mut Checker) {
    let world = World::repository();
    let _served = Served(&world);
    let mut command = world.command(&["--json", "serve", "--http", "127.0.0.1:0"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program runs");
    let mut said = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut said).expect("it can be read");
    c.page.check_lines("serve", &said);
    c.run(&world, 0, &["stop"]);
    assert!(child.wait().expect("it ends").success());
}

/// What a member has once something was published, at last with damage in it.
pub fn of_a_member(c: &mut Checker, world: &World) {
    for args in [["status"].as_slice(), &["log"], &["show"]] {
        c.run(world, 0, args);
    }
    spoil_metadata(world);
    c.run(world, 5, &["fsck"]);
}
