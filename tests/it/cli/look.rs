//! `ls`, `cat` and `fsck`.

use std::os::unix::fs::{PermissionsExt, symlink};

use filesync_tests::world::{World, noise};
use serde_json::Value;

use super::{has_fields, is_an_error, is_id, is_time, text};

fn world() -> World {
    let world = World::repository();
    world.write("big", noise(1, 3_000_000));
    world.write("d/e/deep", "deep");
    world.write("empty", "");
    world.write("run", "#!/bin/sh\n");
    std::fs::set_permissions(world.path("run"), std::fs::Permissions::from_mode(0o750)).expect("modes can be set");
    symlink("d/e/deep", world.path("to")).expect("it can be made");
    std::fs::set_permissions(world.path("empty"), std::fs::Permissions::from_mode(0o644)).expect("modes can be set");
    world.commit();
    world
}

fn names(lines: &[Value]) -> Vec<&str> {
    lines.iter().map(|line| text(&line["path"])).collect()
}

#[test]
fn ls_tells_all_of_an_entry() {
    let world = world();
    let lines = world.json(&["ls"]);
    assert_eq!(names(&lines), ["big", "d", "empty", "run", "to"]);
    for line in &lines {
        has_fields(line, &["v", "path", "kind", "mode", "size", "mtime", "id"]);
        assert_eq!(line["v"], 1);
    }
    let [big, dir, empty, run, link] = lines.as_slice() else { panic!("five") };
    assert_eq!(
        lines.iter().map(|line| text(&line["kind"])).collect::<Vec<_>>(),
        ["file", "directory", "file", "executable", "symlink"]
    );
    assert_eq!((text(&empty["mode"]), text(&run["mode"])), ("0644", "0750"));
    assert_eq!(
        lines.iter().map(|line| line["size"].as_u64().expect("a number")).collect::<Vec<_>>(),
        [3_000_000, 4, 0, 10, 8]
    );
    assert!(is_time(&big["mtime"]) && is_id(&big["id"]) && is_id(&dir["id"]), "{big} {dir}");
    assert_eq!(text(&link["target"]), "d/e/deep");
    assert!(lines[..4].iter().all(|line| line.get("target").is_none()));
    // The hash is that of the whole file, however it was cut.
    for (line, path) in [(big, "big"), (empty, "empty"), (run, "run")] {
        let bytes = std::fs::read(world.path(path)).expect("it can be read");
        assert_eq!(text(&line["b3"]), blake3::hash(&bytes).to_hex().as_str(), "{path}");
    }
    assert!(dir.get("b3").is_none() && link.get("b3").is_none());
    assert_ne!(big["id"], big["b3"], "a file of many chunks has a list");
    let mtime = std::fs::metadata(world.path("big")).and_then(|meta| meta.modified()).expect("it has a time");
    let nanos = mtime.duration_since(std::time::UNIX_EPOCH).expect("after 1970").subsec_nanos();
    assert!(text(&big["mtime"]).ends_with(&format!(".{nanos:09}Z")), "{big}");
}

#[test]
fn ls_goes_where_it_is_told() {
    let world = world();
    assert_eq!(names(&world.json(&["ls", "-r"])), ["big", "d", "d/e", "d/e/deep", "empty", "run", "to"]);
    assert_eq!(world.ok(&["ls"]), "big\nd\nempty\nrun\nto\n");
    assert_eq!(world.ok(&["ls", "HEAD:d"]), "d/e\n");
    assert_eq!(world.ok(&["ls", "HEAD:d/"]), "d/e\n");
    assert_eq!(world.ok(&["ls", "-r", "HEAD:d"]), "d/e\nd/e/deep\n");
    assert_eq!(world.ok(&["ls", "HEAD:d/e/deep"]), "d/e/deep\n");
    assert_eq!(world.ok(&["ls", "-z", "HEAD:d"]), "d/e\0");
    let long = world.ok(&["ls", "-l"]);
    let lines: Vec<&str> = long.lines().collect();
    assert!(lines[3].starts_with("-rwxr-x---           10 ") && lines[3].ends_with(" run"), "{long}");
    assert!(lines[1].starts_with('d') && lines[4].ends_with("to -> d/e/deep"), "{long}");
    for target in ["HEAD:nothing", "HEAD:run/x", "HEAD:to/x"] {
        is_an_error(&world.fails(1, &["ls", target]));
    }
    for target in ["HEAD:../x", "HEAD:/run", "HEAD:a//b"] {
        is_an_error(&world.fails(2, &["ls", target]));
    }
    let fresh = World::repository();
    assert_eq!(fresh.ok(&["ls"]), "");
    assert!(fresh.json(&["ls"]).is_empty());
}

#[test]
fn cat_writes_the_bytes() {
    let world = world();
    let big = noise(1, 3_000_000);
    assert!(world.cat("big") == big);
    assert_eq!(world.cat("empty"), b"");
    let part = |args: &[&str]| {
        let output = world.run(&[&["cat", "HEAD:big"], args].concat());
        assert!(output.status.success());
        output.stdout
    };
    assert!(part(&["--offset", "1000000"]) == big[1_000_000..]);
    assert!(part(&["--length", "1000"]) == big[..1000]);
    assert!(part(&["--offset", "65000", "--length", "200000"]) == big[65_000..265_000]);
    assert!(part(&["--offset", "1M", "--length", "64KiB"]).len() == 65_536);
    assert!(part(&["--offset", "2999999", "--length", "10"]) == big[2_999_999..]);
    assert!(part(&["--offset", "3000000"]).is_empty() && part(&["--offset", "99999999999"]).is_empty());
    assert!(part(&["--length", "0"]).is_empty());
    is_an_error(&world.fails(1, &["cat", "HEAD:d"]));
    is_an_error(&world.fails(1, &["cat", "HEAD:nothing"]));
    is_an_error(&world.fails(2, &["cat", "HEAD:"]));
    is_an_error(&world.fails(2, &["cat", "HEAD:big", "--offset", "-1"]));
    is_an_error(&world.fails(2, &["cat"]));
    is_an_error(&World::repository().fails(1, &["cat", "HEAD:a"]));
}

/// Split at the first colon: names may have more.
#[test]
fn names_with_colons() {
    let world = World::repository();
    world.write("a:b:c", "colons");
    world.commit();
    assert_eq!(world.cat("a:b:c"), b"colons");
    assert_eq!(world.ok(&["ls", "HEAD:a:b:c"]), "a:b:c\n");
}

#[test]
fn fsck_reads_all() {
    let world = world();
    let full = world.object(0, &["fsck"]);
    has_fields(&full, &["v", "objects", "bytes", "damaged", "repaired"]);
    assert_eq!(full["damaged"], Value::Array(Vec::new()));
    assert!(full["objects"].as_u64().is_some_and(|objects| objects > 30), "{full}");
    assert!(full["bytes"].as_u64().is_some_and(|bytes| bytes > 3_000_000), "{full}");
    world.object(0, &["fsck", "--quick"]);
    assert!(world.ok(&["fsck"]).contains("all is well"));
    World::repository().ok(&["fsck"]);
}

#[test]
fn fsck_names_what_is_damaged() {
    let world = world();
    let packs = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs").flatten();
    let pack = packs.max_by_key(|entry| entry.metadata().expect("metadata").len()).expect("a pack").path();
    let mut bytes = std::fs::read(&pack).expect("it can be read");
    let middle = 1_500_000;
    bytes[middle..middle + 4].copy_from_slice(b"oops");
    let mode = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&pack, mode).expect("modes can be set");
    std::fs::write(&pack, &bytes).expect("it can be written");
    for args in [["fsck"].as_slice(), &["fsck", "--quick"]] {
        let result = world.object(5, args);
        let damaged = result["damaged"].as_array().expect("a list");
        assert!(!damaged.is_empty(), "{result}");
        for object in damaged {
            has_fields(object, &["id", "kind", "paths"]);
            assert!(is_id(&object["id"]), "{object}");
        }
        assert!(damaged.iter().any(|object| object["paths"][0] == "big"), "{result}");
    }
    assert!(world.fails(5, &["fsck"]).is_empty());
    let output = world.run(&["cat", "HEAD:big"]);
    assert_eq!(output.status.code(), Some(5));
    assert!(noise(1, 3_000_000).starts_with(&output.stdout), "wrong bytes were handed out");
    is_an_error(&String::from_utf8_lossy(&output.stderr));
}
