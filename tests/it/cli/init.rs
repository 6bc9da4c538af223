//! `init`.

use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::World;

use super::{has_fields, is_an_error, is_id, text};

#[test]
fn makes_a_repository_and_says_where() {
    let world = World::empty();
    let made =
        world.object(0, &["init", "new/photos", "--name", "laptop", "--chunk-size", "16KiB", "--no-compression"]);
    has_fields(&made, &["v", "repo", "node", "path"]);
    assert_eq!(made["v"], 1);
    assert!(is_id(&made["repo"]) && is_id(&made["node"]), "{made}");
    assert_eq!(text(&made["path"]), world.path("new/photos").to_str().expect("UTF-8"));
    let config = std::fs::read_to_string(world.path("new/photos/.filesync/config.toml")).expect("there are settings");
    assert!(config.contains("laptop"), "{config}");
    assert!(!world.path(".filesync").exists());

    // Two repositories never have the same id.
    let other = world.object(0, &["init", "other"]);
    assert_ne!(made["repo"], other["repo"]);
    assert_ne!(made["node"], other["node"]);
    let text = world.ok(&["init", "third"]);
    assert!(text.contains(world.path("third").to_str().expect("UTF-8")), "{text}");
    assert_eq!(world.ok(&["-q", "init", "fourth"]), "");
}

#[test]
fn chunk_size_and_compression_take_effect() {
    let world = World::empty();
    world.ok(&["init", "small", "--chunk-size", "4KiB"]);
    world.ok(&["init", "raw", "--no-compression"]);
    let bytes: Vec<u8> = (0..30_000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let commit = |dir: &str| {
        world.write(format!("{dir}/f"), &bytes);
        let result = world.object(0, &["-C", dir, "commit"]);
        result["stored_bytes"].as_u64().expect("a number")
    };
    let (small, raw) = (commit("small"), commit("raw"));
    assert!(small < 90_000, "{small} bytes: nothing was compressed");
    assert!(raw > 120_000, "{raw} bytes: something was compressed");
    // Cut into pieces of about 4 KiB: a file of 120,000 bytes has many, and a change in the middle costs few of them.
    let mut changed = bytes.clone();
    changed[60_000] ^= 1;
    world.write("small/f", &changed);
    let result = world.object(0, &["-C", "small", "commit"]);
    assert!(result["new_bytes"].as_u64().is_some_and(|new| (1..=32_768).contains(&new)), "{result}");
}

#[test]
fn twice_is_refused_and_touches_nothing() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    let before = read_tree(&world.path(".filesync"));
    let err = world.fails(1, &["init"]);
    is_an_error(&err);
    assert!(err.contains("already there"), "{err}");
    for inside in [".filesync", ".filesync/packs", ".filesync/new"] {
        is_an_error(&world.fails(1, &["init", inside]));
    }
    assert!(before == read_tree(&world.path(".filesync")), "a refused init changed something");
    assert_eq!(world.ok(&["log"]).matches("commit ").count(), 1);
}

#[test]
fn impossible_wishes_are_usage() {
    let world = World::empty();
    for args in [["--chunk-size", "5KiB"], ["--chunk-size", "512KiB"], ["--chunk-size", "lots"], ["--name", ""]] {
        is_an_error(&world.fails(2, &[&["init"], args.as_slice()].concat()));
        assert!(!world.path(".filesync").exists(), "{args:?} made something");
    }
    world.write("file", "");
    is_an_error(&world.fails(1, &["init", "file"]));
}

/// A repository is its directory. It may be moved; and a copy of the store, without all that is derived, is one too.
#[test]
fn moved_and_copied() {
    let world = World::empty();
    world.ok(&["init", "here"]);
    world.write("here/a", "a");
    world.write("here/d/b", "b");
    world.ok(&["-C", "here", "commit"]);
    world.ok(&["-C", "here", "tag", "t/1"]);
    std::fs::rename(world.path("here"), world.path("there")).expect("it can be moved");
    assert_eq!(world.object(0, &["-C", "there", "status"])["clean"], true);
    std::fs::create_dir(world.path("copy")).expect("it can be made");
    let mut cp = std::process::Command::new("cp");
    cp.arg("-a").args([world.path("there/.filesync"), world.path("copy")]);
    assert!(cp.status().expect("cp runs").success());
    std::fs::remove_dir_all(world.path("copy/.filesync/index")).expect("it was copied");
    for file in ["lock", "readers", "stamp", "config.toml"] {
        std::fs::remove_file(world.path("copy/.filesync").join(file)).expect("it was copied");
    }
    world.ok(&["-C", "copy", "restore"]);
    assert_same(&read_tree(&world.path("there")), &read_tree(&world.path("copy")), "a copy");
    assert_eq!(world.object(0, &["-C", "copy", "status"])["clean"], true);
    assert_eq!(world.ok(&["-C", "copy", "tag"]), "t/1\n");
    world.ok(&["-C", "copy", "fsck"]);
    world.write("copy/a", "changed");
    world.ok(&["-C", "copy", "commit"]);
}
