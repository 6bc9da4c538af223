//! A repository made once by the first program that wrote version 1, and kept: `tests/testdata/golden-1.tar`. Whatever
//! changes, it opens, its ids stay, it gives back what went in, and the same files give the same trees.
//!
//! It holds everything but what is derived (`index/`), and was written by [`make`], which a new version of the format
//! would use again under another name. `golden-1.json` says what must come out.
//!
//! `golden-1b.tar` has what the first one lacks: sealed packs, of both classes, beside open ones; a tag, a pin, a commit that
//! has expired. It was written by [`make_more`] and a later program, which was built to seal packs at 12 KiB and not at
//! 256 MiB: one as it is would have had to be thousands of times as large.

use std::path::{Path, PathBuf};
use std::process::Command;

use filesync_cas::ContentHash;
use filesync_cas::pin::{self, Pin};
use filesync_cas::vfs::RealVfs;
use filesync_merkle::COMMIT;
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
    keep(&world, name, &["pins"], &json!({ "newest first": [two, one] }));
}

/// Puts a repository, but for what is derived, and what must come out of it among the data of the tests.
fn keep(world: &World, name: &str, more: &[&str], expected: &Value) {
    let text = serde_json::to_string_pretty(expected).expect("JSON");
    std::fs::write(testdata(&format!("{name}.json")), text + "\n").expect("written");
    let tar = testdata(&format!("{name}.tar"));
    let root = world.root().to_str().expect("UTF-8");
    let all = ["format", "config.toml", "identity", "HEAD", "packs", "refs"];
    let all = all.iter().chain(more).map(|file| format!(".filesync/{file}")).collect::<Vec<_>>();
    let mut args = vec!["--sort=name", "--owner=0", "--group=0", "--numeric-owner", "--mtime=@1600000000", "-C", root];
    args.extend(["-cf", tar.to_str().expect("UTF-8")]);
    args.extend(all.iter().map(String::as_str));
    shell("tar", &args);
}

/// How many packs of a class (1 data, 2 metadata) have the name of sealed ones, or of open ones.
fn packs(world: &World, class: u8, extension: &str) -> usize {
    let files = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs").flatten();
    let named = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|it| it == extension));
    named.filter(|path| std::fs::read(path).expect("it can be read")[9] == class).count()
}

/// Writes the second golden repository, as [`make`] does the first.
fn make_more(name: &str) {
    let world = World::empty();
    world.ok(&["init", "--name", "golden"]);
    let state = |number: u64| {
        world.write("same in all", "the same\n");
        world.write("noise", noise(&format!("golden {number}"), 9_000));
        world.write("text", format!("state {number}\n").repeat(2_000));
        drop(std::fs::remove_dir_all(world.path("dir")));
        for file in 0..140 {
            let name = blake3::hash(format!("{number} {file}").as_bytes()).to_hex();
            world.write(format!("dir/{}/{}", file % 7, &name[..40]), format!("{number} {}", file % 30));
        }
        settle(&world, &[]);
    };
    state(1);
    let expired = commit(&world, "expires");
    state(2);
    let tagged = commit(&world, "tagged");
    world.ok(&["tag", "releases/v1", "HEAD"]);
    state(3);
    let pinned = commit(&world, "pinned");
    let root = world.head().expect("it was just made").parse().expect("an id");
    let vfs = RealVfs::open(&world.path(".filesync")).expect("it can be opened");
    let pin = Pin { id: ContentHash::of_chunk(b"golden"), roots: vec![(COMMIT, root)], note: "golden".to_owned() };
    pin::put(&vfs, &pin).expect("it can be written");
    state(4);
    world.ok(&["commit", "--amend", "-m", "in its place", "--author", "Golden <golden@example.org>"]);
    state(5);
    let last = commit(&world, "last");
    let amended = world.json(&["log"])[1].clone();
    world.ok(&["forget", "--keep-last", "2"]);
    for class in [1, 2] {
        assert!(
            packs(&world, class, "pack") > 1 && packs(&world, class, "open") == 1,
            "class {class}: built to seal small packs?"
        );
    }
    let ids = [&last, &amended, &tagged, &expired].map(|it| json!({ "commit": it["commit"], "tree": it["tree"] }));
    let expected = json!({ "newest first": ids, "tagged": tagged, "pinned": pinned, "last": last });
    keep(&world, name, &["pins", "expired"], &expected);
}

fn recorded_of(name: &str) -> Value {
    let text = std::fs::read_to_string(testdata(&format!("{name}.json"))).expect("what the golden repository holds");
    serde_json::from_str(&text).expect("JSON")
}

fn expected() -> Vec<Value> {
    serde_json::from_value(recorded_of("golden-1")["newest first"].take()).expect("a list")
}

fn golden() -> World {
    unpacked("golden-1", make)
}

fn unpacked(name: &str, make: fn(&str)) -> World {
    let world = World::empty();
    let tar = testdata(&format!("{name}.tar"));
    if !tar.exists() && std::env::var_os("FILESYNC_MAKE_GOLDEN").is_some() {
        make(name);
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

/// That a repository is the second golden one, and gives back what went in.
#[track_caller]
fn check_more(world: &World, expected: &Value, when: &str) {
    let log = world.json(&["log"]);
    let commits = expected["newest first"].as_array().expect("a list");
    assert_eq!(log.len(), commits.len(), "{when}");
    for (found, expected) in log.iter().zip(commits) {
        assert_eq!((&found["commit"], &found["tree"]), (&expected["commit"], &expected["tree"]), "{when}");
        assert_eq!((&found["signature"], &found["expired"]), (&"good".into(), &(found == &log[3]).into()), "{when}");
    }
    let tags = world.json(&["tag"]);
    let [tag] = tags.as_slice() else { panic!("{when}: one tag: {tags:?}") };
    assert_eq!((&tag["name"], &tag["commit"]), (&"releases/v1".into(), &expected["tagged"]["commit"]), "{when}");
    for which in ["last", "tagged", "pinned"] {
        let commit = expected[which]["commit"].as_str().expect("an id");
        assert_eq!(recorded(&world.restored(commit)), expected[which]["items"], "{when}: {which}");
    }
    let fsck = world.object(0, &["fsck"]);
    assert_eq!(fsck["notes"], json!([]), "{when}");
}

/// The second one: with its packs as they came, with an index made of their footers, and with what a collection leaves.
#[test]
fn golden_sealed_packs_tags_pins_and_what_expired() {
    let (world, expected) = (unpacked("golden-1b", make_more), recorded_of("golden-1b"));
    for class in [1, 2] {
        assert!(packs(&world, class, "pack") > 1, "sealed packs of class {class}");
    }
    check_more(&world, &expected, "as it came");
    world.ok(&["restore"]);
    check(&world);
    let freed = world.object(0, &["gc"])["freed_bytes"].as_u64();
    assert!(freed > Some(8_000), "what expired is freed, and the pinned is not: {freed:?}");
    check_more(&world, &expected, "collected");
    check(&world);
    let pin = world.path(format!(".filesync/pins/{}", ContentHash::of_chunk(b"golden")));
    std::fs::remove_file(pin).expect("the pin is there");
    world.write("one more", "x");
    world.ok(&["commit", "-m", "written further"]);
    world.ok(&["gc"]);
    let pinned = expected["pinned"]["commit"].as_str().expect("an id");
    world.fails(1, &["show", pinned]);
    check(&world);
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
