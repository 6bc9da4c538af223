//! `du`, and paths behind a colon that are not UTF-8.

use std::os::unix::ffi::OsStrExt;

use filesync_tests::world::World;
use serde_json::json;

use super::{has_fields, is_an_error, text};

fn world() -> World {
    let world = World::repository();
    world.write("a/b/file", vec![b'x'; 1000]);
    world.write("a/c/file", vec![b'y'; 200]);
    world.write("a/other", vec![b'z'; 30]);
    world.write("top", vec![b't'; 4]);
    world.commit();
    world
}

#[test]
fn a_line_a_directory() {
    let world = world();
    assert_eq!(world.ok(&["du"]), "1000\ta/b\n200\ta/c\n1230\ta\n1234\t.\n");
    assert_eq!(world.ok(&["du", "-s"]), "1234\t.\n");
    assert_eq!(world.ok(&["du", "-d", "0"]), "1234\t.\n");
    assert_eq!(world.ok(&["du", "-d", "1", "HEAD"]), "1230\ta\n1234\t.\n");
    assert_eq!(world.ok(&["du", "HEAD:a"]), "1000\ta/b\n200\ta/c\n1230\ta\n");
    assert_eq!(world.ok(&["du", "HEAD:a/b/"]), "1000\ta/b\n");
    assert_eq!(world.ok(&["du", "HEAD:top"]), "4\ttop\n");
    assert_eq!(world.ok(&["du", "-s", "-H"]), "1.2 KiB\t.\n");
    assert_eq!(world.ok(&["du", "-z", "-d", "1"]), "1230\ta\x001234\t.\0");
    world.write("a/b/more", "12345");
    world.commit();
    assert_eq!(world.ok(&["du", "-s"]), "1239\t.\n");
    assert_eq!(world.ok(&["du", "-s", "HEAD~1:a"]), "1230\ta\n");
}

#[test]
fn a_line_of_json_a_directory() {
    let world = world();
    let lines = world.json(&["du"]);
    lines.iter().for_each(|line| has_fields(line, &["v", "path", "files", "directories", "bytes"]));
    assert_eq!(lines[2], json!({"v": 1, "path": "a", "files": 3, "directories": 2, "bytes": 1230}));
    assert_eq!(lines[3], json!({"v": 1, "path": "", "files": 4, "directories": 3, "bytes": 1234}));
    assert_eq!(world.json(&["du", "-s"]), lines[3..]);
    assert_eq!(
        world.json(&["du", "HEAD:top"]),
        [json!({"v": 1, "path": "top", "files": 1, "directories": 0, "bytes": 4})]
    );
}

#[test]
fn what_is_not_there_is_an_error() {
    let fresh = World::repository();
    assert_eq!(fresh.ok(&["du"]), "");
    assert!(fresh.json(&["du"]).is_empty());
    let world = world();
    is_an_error(&world.fails(1, &["du", "HEAD:nothing"]));
    is_an_error(&world.fails(1, &["du", "nothing"]));
    is_an_error(&world.fails(2, &["du", "HEAD:../x"]));
    is_an_error(&world.fails(2, &["du", "-s", "-d", "1"]));
    let err = world.fails(1, &["du", "a"]);
    assert!(err.contains("HEAD:a"), "{err}");
}

#[test]
fn paths_behind_a_colon_need_not_be_utf_8() {
    let world = World::repository();
    let dir = std::ffi::OsStr::from_bytes(b"d\xff");
    world.write(std::path::Path::new(dir).join("f:\n"), "content");
    world.commit();
    let run = |command: &str, target: &[u8]| {
        let output = world.command(&[command]).arg(std::ffi::OsStr::from_bytes(target)).output().expect("runs");
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    };
    assert_eq!(run("cat", b"HEAD:d\xff/f:\n"), b"content");
    assert_eq!(run("ls", b"HEAD:d\xff"), b"\"d\\377/f:\\n\"\n");
    assert_eq!(run("du", b"HEAD:d\xff"), b"7\t\"d\\377\"\n");
    let output =
        world.command(&["--json", "du"]).arg(std::ffi::OsStr::from_bytes(b"HEAD:d\xff")).output().expect("runs");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    assert_eq!((text(&line["path"]), text(&line["path_bytes"])), ("d\u{fffd}", "ZP8="));
    // A revision is always a text.
    for command in ["cat", "ls", "du"] {
        let output = world.command(&[command]).arg(std::ffi::OsStr::from_bytes(b"\xff:a")).output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{command}");
        is_an_error(&String::from_utf8_lossy(&output.stderr));
    }
}
