//! A repository made once by the first program that wrote version 1, and kept: `tests/testdata/golden-1.tar`. Whatever
//! changes, it opens, its ids stay, it gives back what went in, and the same files give the same trees.
//!
//! It holds everything but what is derived (`index/`), and was written by [`make`], which a new version of the format
//! would use again under another name. `golden-1.json` says what must come out.

use std::path::{Path, PathBuf};
use std::process::Command;

use filesync_tests::model::{Item, Tree, read_tree};
use filesync_tests::world::{World, skipped};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};
use serde_json::{Map, Value, json};

use crate::format_reader::{check, noise, set_attr};

fn testdata(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(name)
}

#[track_caller]
fn shell(program: &str, args: &[&str]) {
    assert!(Command::new(program).args(args).status().expect("it runs").success(), "{program} {args:?}");
}

/// Fixes what `world.write` leaves to the machine: modes and times.
fn settle(world: &World, modes: &[(&str, &str)]) {
    let root = world.root().to_str().expect("UTF-8");
    shell("chmod", &["u=rwx,go=rx", root]);
    for (path, item) in &read_tree(world.root()) {
        // Of the path alone: a file that stays keeps its time from state to state.
        let second = 1_600_000_000 + i64::from(blake3::hash(path).as_bytes()[0]);
        let path = world.path(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(path));
        let mode = modes.iter().find(|(name, _)| world.path(name) == path).map(|(_, mode)| *mode);
        match item {
            Item::Symlink(..) => {}
            Item::Directory(..) => shell("chmod", &[mode.unwrap_or("0755"), path.to_str().expect("UTF-8")]),
            Item::File(..) => {
                let file = std::fs::File::open(&path).expect("a file can be opened");
                let bits = u32::from_str_radix(mode.unwrap_or("0644"), 8).expect("octal");
                let permissions = std::os::unix::fs::PermissionsExt::from_mode(bits);
                file.set_permissions(permissions).expect("a mode can be set");
            }
        }
        let time = Timespec { tv_sec: second, tv_nsec: 123_456_789 };
        let times = Timestamps { last_access: time, last_modification: time };
        utimensat(CWD, &path, &times, AtFlags::SYMLINK_NOFOLLOW).expect("a time can be set");
    }
}

/// The first state.
fn first(world: &World) {
    world.write("hello.txt", "hello, world\n");
    world.write("empty", "");
    world.write("bin/run", "#!/bin/sh\nexit 0\n");
    world.write("text/numbers", (0..20_000).map(|n| format!("{n}\n")).collect::<String>());
    world.write("data/noise", noise("golden", 100_000));
    world.write("data/zeros", vec![0; 700_000]);
    world.write(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(b"names/\xff and\nmore"), "strange");
    for number in 0..540 {
        world.write(format!("many/{number:04}"), format!("{}", number % 7));
    }
    std::fs::create_dir_all(world.path("nothing/inside")).expect("directories can be made");
    std::os::unix::fs::symlink("../hello.txt", world.path("bin/link")).expect("a link can be made");
    settle(world, &[("bin/run", "0755"), ("empty", "0600"), ("nothing", "0700")]);
}

/// The second state, made of the first; false if the file system has no attributes, and so cannot hold it.
fn second(world: &World) -> bool {
    world.write("hello.txt", "hello again\n");
    world.write("many/0350 and a half", "new");
    std::fs::remove_file(world.path("many/0351")).expect("it is there");
    std::fs::remove_dir(world.path("nothing/inside")).expect("it is there");
    settle(world, &[("bin/run", "0755"), ("empty", "0600"), ("nothing", "0700")]);
    set_attr(&world.path("hello.txt"), "user.comment", b"an attribute")
}

/// A tree as it stands in `golden-1.json`: paths as hex, since they need not be UTF-8.
fn recorded(tree: &Tree) -> Value {
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut items = Map::new();
    for (path, item) in tree {
        let text = match item {
            Item::File(mode, time, bytes) => {
                let hash = hex(&blake3::hash(bytes).as_bytes()[..12]);
                format!("file {mode:04o} {}.{:09} {hash}", time.0, time.1)
            }
            Item::Symlink(target) => format!("symlink {}", hex(target)),
            Item::Directory(mode) => format!("directory {mode:04o}"),
        };
        items.insert(hex(path), text.into());
    }
    Value::Object(items)
}

fn commit(world: &World, message: &str) -> Value {
    let author = "Golden <golden@example.org>";
    let result = world.json(&["commit", "-m", message, "--author", author]).remove(0);
    json!({ "commit": result["commit"], "tree": result["tree"], "items": recorded(&read_tree(world.root())) })
}

/// Writes the golden repository. Done once for a version of the format; never again, for it proves something only as
/// long as it is old.
fn make(name: &str) {
    let world = World::empty();
    first(&world);
    world.ok(&["init", "--name", "golden"]);
    let one = commit(&world, "first");
    assert!(second(&world), "made where there are extended attributes");
    let two = commit(&world, "second");
    let text = serde_json::to_string_pretty(&json!({ "newest first": [two, one] })).expect("JSON");
    std::fs::write(testdata(&format!("{name}.json")), text + "\n").expect("written");
    let tar = testdata(&format!("{name}.tar"));
    let root = world.root().to_str().expect("UTF-8");
    let all =
        ["format", "config.toml", "identity", "HEAD", "packs", "pins", "refs"].map(|file| format!(".filesync/{file}"));
    let mut args = vec!["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1600000000", "-C", root];
    args.extend(["-cf", tar.to_str().expect("UTF-8")]);
    args.extend(all.iter().map(String::as_str));
    shell("tar", &args);
}

fn expected() -> Vec<Value> {
    let text = std::fs::read_to_string(testdata("golden-1.json")).expect("what the golden repository holds");
    let mut value: Value = serde_json::from_str(&text).expect("JSON");
    serde_json::from_value(value["newest first"].take()).expect("a list")
}

fn golden() -> World {
    let world = World::empty();
    let tar = testdata("golden-1.tar");
    if !tar.exists() && std::env::var_os("FILESYNC_MAKE_GOLDEN").is_some() {
        make("golden-1");
    }
    let root = world.root().to_str().expect("UTF-8");
    shell("tar", &["--no-same-owner", "-C", root, "-xf", tar.to_str().expect("UTF-8")]);
    world
}

#[test]
fn golden_repository_opens_and_its_ids_stay() {
    let world = golden();
    let log = world.json(&["log"]);
    let expected = expected();
    assert_eq!(log.len(), expected.len());
    for (found, expected) in log.iter().zip(&expected) {
        assert_eq!(found["commit"], expected["commit"]);
        assert_eq!(found["tree"], expected["tree"]);
        assert_eq!(found["signature"], "good");
    }
    world.ok(&["fsck"]);
}

#[test]
fn golden_repository_gives_back_what_went_in() {
    let world = golden();
    let elsewhere = World::empty();
    for (number, expected) in expected().iter().enumerate() {
        let to = elsewhere.path(number.to_string());
        let commit = expected["commit"].as_str().expect("an id");
        // A file system without attributes is told of by status 3; the rest is compared all the same.
        let status = world.run(&["restore", commit, "--to", to.to_str().expect("UTF-8")]).status.code();
        assert!(matches!(status, Some(0 | 3)), "{status:?}");
        assert_eq!(recorded(&read_tree(&to)), expected["items"], "commit {commit}");
    }
}

/// The program goes on where the old one stopped, and the reader of `docs/format.md` understands both.
#[test]
fn golden_repository_is_written_further() {
    let world = golden();
    let status = world.run(&["restore"]).status.code();
    assert!(matches!(status, Some(0 | 3)), "{status:?}");
    check(&world);
    world.write("one more", "x");
    world.ok(&["commit", "-m", "third"]);
    check(&world);
    assert_eq!(world.json(&["log"]).len(), 3);
    world.ok(&["fsck"]);
}

#[test]
fn golden_trees_do_not_depend_on_the_machine() {
    let expected = expected();
    let world = World::empty();
    first(&world);
    world.ok(&["init"]);
    assert_eq!(commit(&world, "first")["tree"], expected[1]["tree"]);
    if second(&world) {
        assert_eq!(commit(&world, "second")["tree"], expected[0]["tree"]);
    } else {
        skipped("this file system has no extended attributes");
    }
}
