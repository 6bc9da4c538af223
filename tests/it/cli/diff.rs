//! `diff` in all its forms, and `show`.

use std::os::unix::fs::{PermissionsExt, symlink};

use filesync_tests::world::{World, skipped};
use serde_json::{Value, json};

use super::{has_fields, is_an_error, is_id, text};

fn remove(world: &World, path: &str) {
    std::fs::remove_file(world.path(path)).expect("it is there");
}

fn write(world: &World, path: &str, bytes: impl AsRef<[u8]>, mode: u32) {
    world.write(path, bytes);
    world.chmod(path, mode);
}

/// A commit, and changes of every kind after it that are not committed.
fn changed() -> World {
    let world = World::repository();
    write(&world, "text", "one\ntwo\nthree\n", 0o644);
    write(&world, "mode", "mode\n", 0o644);
    write(&world, "finer", "finer\n", 0o644);
    write(&world, "gone", "gone\n", 0o644);
    write(&world, "moved", "moved\n", 0o644);
    write(&world, "binary", b"\0one", 0o644);
    write(&world, "to-link", "a file\n", 0o644);
    write(&world, "to-dir", "a file\n", 0o644);
    write(&world, "d/inside", "inside\n", 0o644);
    symlink("here", world.path("link")).expect("it can be made");
    std::fs::create_dir(world.path("empty")).expect("it can be made");
    world.chmod("d", 0o755);
    world.chmod("empty", 0o755);
    world.commit();

    write(&world, "text", "one\n2\nthree", 0o644);
    world.chmod("mode", 0o755);
    world.chmod("finer", 0o640);
    remove(&world, "gone");
    std::fs::rename(world.path("moved"), world.path("moved here")).expect("it can be renamed");
    write(&world, "binary", b"\0three", 0o644);
    remove(&world, "to-link");
    symlink("text", world.path("to-link")).expect("it can be made");
    remove(&world, "to-dir");
    write(&world, "to-dir/new", "new\n", 0o644);
    world.chmod("to-dir", 0o755);
    world.chmod("d", 0o700);
    remove(&world, "link");
    symlink("there", world.path("link")).expect("it can be made");
    std::fs::remove_dir(world.path("empty")).expect("it is there");
    write(&world, "new", "", 0o600);
    world
}

const PATCH: &str = r#"diff --git a/binary b/binary
Binary files a/binary and b/binary differ
Modes of a/d and b/d differ: 0755 and 0700
Directory a/empty deleted
Modes of a/finer and b/finer differ: 0644 and 0640
diff --git a/gone b/gone
deleted file mode 100644
--- a/gone
+++ /dev/null
@@ -1 +0,0 @@
-gone
diff --git a/link b/link
--- a/link
+++ b/link
@@ -1 +1 @@
-here
\ No newline at end of file
+there
\ No newline at end of file
diff --git a/mode b/mode
old mode 100644
new mode 100755
diff --git a/moved b/moved here
similarity index 100%
rename from moved
rename to moved here
diff --git a/new b/new
new file mode 100600
diff --git a/text b/text
--- a/text
+++ b/text
@@ -1,3 +1,3 @@
 one
-two
-three
+2
+three
\ No newline at end of file
diff --git a/to-dir b/to-dir
deleted file mode 100644
--- a/to-dir
+++ /dev/null
@@ -1 +0,0 @@
-a file
Directory b/to-dir added
diff --git a/to-dir/new b/to-dir/new
new file mode 100644
--- /dev/null
+++ b/to-dir/new
@@ -0,0 +1 @@
+new
diff --git a/to-link b/to-link
deleted file mode 100644
--- a/to-link
+++ /dev/null
@@ -1 +0,0 @@
-a file
diff --git a/to-link b/to-link
new file mode 120000
--- /dev/null
+++ b/to-link
@@ -0,0 +1 @@
+text
\ No newline at end of file
"#;

const NAME_STATUS: &str = "M\tbinary\nM\td\nD\tempty\nM\tfiner\nD\tgone\nM\tlink\nM\tmode\nR100\tmoved\tmoved here\nA\tnew\nM\ttext\nT\tto-dir\nA\tto-dir/new\nT\tto-link\n";

const STAT: &str = " binary              | Bin 4 -> 6 bytes
 finer               |   0
 gone                |   1 -
 link                |   2 +-
 mode                |   0
 moved => moved here |   0
 new                 |   0
 text                |   4 ++--
 to-dir              |   1 -
 to-dir/new          |   1 +
 to-link             |   2 +-
 11 files changed, 5 insertions(+), 6 deletions(-)
";

#[test]
fn every_kind_of_change_in_every_form() {
    let world = changed();
    let forms = |revs: &[&str]| {
        let with = |more: &[&str]| world.ok(&[&["diff"], revs, more].concat());
        [with(&[]), with(&["--name-status"]), with(&["--stat"])]
    };
    assert_eq!(forms(&[]), [PATCH, NAME_STATUS, STAT]);
    assert_eq!(forms(&["HEAD"]), [PATCH, NAME_STATUS, STAT]);
    // A commit of the same says the same.
    world.commit();
    assert_eq!(forms(&[]), ["", "", ""]);
    assert_eq!(forms(&["HEAD~1"]), [PATCH, NAME_STATUS, STAT]);
    assert_eq!(forms(&["HEAD~1", "HEAD"]), [PATCH, NAME_STATUS, STAT]);
    let nul = world.run(&["diff", "HEAD~1", "HEAD", "--name-status", "-z"]).stdout;
    assert!(nul.starts_with(b"M\0binary\0M\0d\0"), "{}", String::from_utf8_lossy(&nul));
    assert!(nul.windows(23).any(|part| part == b"R100\0moved\0moved here\0A"), "{}", String::from_utf8_lossy(&nul));
}

#[test]
fn a_line_of_json_a_change() {
    let world = changed();
    let lines = world.json(&["diff"]);
    world.commit();
    assert_eq!(world.json(&["diff", "HEAD~1", "HEAD"]), lines);
    assert_eq!(world.json(&["diff", "HEAD~1"]), lines);
    let fields = ["v", "change", "path", "old_size", "new_size", "old_mode", "new_mode", "old_kind", "new_kind"];
    lines.iter().for_each(|line| has_fields(line, &fields));
    let line = |path: &str| lines.iter().find(|line| line["path"] == path).expect("it is among them").clone();
    let null = Value::Null;
    let side =
        |object: &Value, which: &str| ["kind", "mode", "size"].map(|field| object[format!("{which}_{field}")].clone());
    let check = |path: &str, change: &str, old: Option<Value>, new: Option<Value>| {
        let object = line(path);
        assert_eq!((text(&object["change"]), &object["v"]), (change, &json!(1)), "{object}");
        let expected = |side: Option<Value>| side.unwrap_or(json!([null, null, null]));
        assert_eq!(json!(side(&object, "old")), expected(old), "{object}");
        assert_eq!(json!(side(&object, "new")), expected(new), "{object}");
    };
    check("text", "M", Some(json!(["file", "0644", 14])), Some(json!(["file", "0644", 11])));
    check("mode", "M", Some(json!(["file", "0644", 5])), Some(json!(["executable", "0755", 5])));
    check("gone", "D", Some(json!(["file", "0644", 5])), None);
    check("new", "A", None, Some(json!(["file", "0600", 0])));
    check("moved here", "R", Some(json!(["file", "0644", 6])), Some(json!(["file", "0644", 6])));
    check("to-link", "T", Some(json!(["file", "0644", 7])), Some(json!(["symlink", "0000", 4])));
    check("to-dir", "T", Some(json!(["file", "0644", 7])), Some(json!(["directory", "0755", null])));
    check("d", "M", Some(json!(["directory", "0755", null])), Some(json!(["directory", "0700", null])));
    check("empty", "D", Some(json!(["directory", "0755", null])), None);
    assert_eq!(line("moved here")["from"], "moved");
    assert!(lines.iter().filter(|line| line.get("from").is_some()).count() == 1);
    assert!(line("text").get("insertions").is_none());
    // With --stat the lines are counted as well.
    let counted = world.json(&["diff", "HEAD~1", "HEAD", "--stat"]);
    let counts = |path: &str| {
        let object = counted.iter().find(|line| line["path"] == path).expect("it is among them");
        (object["insertions"].clone(), object["deletions"].clone())
    };
    assert_eq!(counts("text"), (json!(2), json!(2)));
    assert_eq!(counts("to-link"), (json!(1), json!(1)));
    assert_eq!(counts("binary"), (null.clone(), null));
}

#[test]
fn names_that_are_not_utf_8() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::repository();
    let name = |bytes: &[u8]| std::ffi::OsStr::from_bytes(bytes).to_owned();
    world.write(name(b"old\xff"), "content\n");
    world.commit();
    std::fs::rename(world.path(name(b"old\xff")), world.path(name(b"new\xfe"))).expect("it can be renamed");
    let lines = world.json(&["diff"]);
    let [line] = lines.as_slice() else { panic!("not one line: {lines:?}") };
    assert_eq!((text(&line["path"]), text(&line["from"])), ("new\u{fffd}", "old\u{fffd}"));
    assert_eq!((text(&line["path_bytes"]), text(&line["from_bytes"])), ("bmV3/g==", "b2xk/w=="));
    assert_eq!(world.ok(&["diff", "--name-status"]), "R100\t\"old\\377\"\t\"new\\376\"\n");
    assert_eq!(world.run(&["diff", "--name-status", "-z"]).stdout, b"R100\0old\xff\0new\xfe\0");
    assert!(world.ok(&["diff"]).contains("rename from \"old\\377\"\nrename to \"new\\376\"\n"));
}

#[test]
fn exit_code() {
    let world = World::repository();
    let status = |args: &[&str]| world.run(&[&["diff"], args].concat()).status.code();
    assert_eq!(status(&["--exit-code"]), Some(0));
    world.write("a", "a");
    // Before the first commit, all there is is new.
    assert_eq!(world.ok(&["diff", "--name-status"]), "A\ta\n");
    assert_eq!(status(&[]), Some(0));
    for form in [
        &["--exit-code"][..],
        &["--exit-code", "--stat"],
        &["--exit-code", "--name-status"],
        &["--json", "--exit-code"],
    ] {
        assert_eq!(status(form), Some(1), "{form:?}");
    }
    world.commit();
    assert_eq!(status(&["--exit-code"]), Some(0));
    assert_eq!(status(&["--exit-code", "HEAD", "HEAD"]), Some(0));
    // Failures are told apart from "differs".
    is_an_error(&world.fails(2, &["diff", "--exit-code", "nothing"]));
    is_an_error(&world.fails(1, &["diff", "nothing"]));
    is_an_error(&world.fails(1, &["diff", "HEAD", "nothing"]));
    is_an_error(&world.fails(1, &["diff", "HEAD~1"]));
    is_an_error(&world.fails(2, &["diff", "HEAD", "HEAD", "HEAD"]));
    is_an_error(&world.fails(2, &["diff", "--stat", "--name-status"]));
    is_an_error(&world.fails(2, &["diff", "-z"]));
    is_an_error(&world.fails(2, &["diff", "--", "../outside"]));
    for args in [&["diff", "a"][..], &["diff", "HEAD", "a"], &["show", "a"]] {
        let err = world.fails(1, args);
        assert!(err.contains("hint: ") && err.contains("`-- a`"), "{args:?}: {err}");
    }
    let err = world.fails(1, &["diff", "HEAD..HEAD"]);
    assert!(err.contains("`diff HEAD HEAD`"), "{err}");
}

#[test]
fn paths_are_from_the_working_directory_and_literal() {
    let world = World::repository();
    for path in ["a/x", "a/y", "a-b", "b", "*"] {
        world.write(path, "old\n");
    }
    world.commit();
    for path in ["a/x", "a/y", "a-b", "b", "*", "a/z/new", "c/d/new"] {
        world.write(path, "new!\n");
    }
    remove(&world, "a/y");
    let check = |args: &[&str], expected: &[&str]| {
        let all = [&["diff", "--name-status"], args].concat();
        let out = world.ok(&all);
        assert_eq!(out.lines().collect::<Vec<_>>(), expected, "{all:?}");
    };
    let both = |check: &dyn Fn(&[&str])| {
        check(&[]);
        check(&["HEAD"]);
    };
    both(&|revs| {
        let with = |words: &[&str], expected: &[&str]| check(&[revs, words].concat(), expected);
        with(&["--", "a"], &["M\ta/x", "D\ta/y", "A\ta/z/new"]);
        with(&["--", "b", "a/x", "a/x"], &["M\ta/x", "M\tb"]);
        with(&["--", "*"], &["M\t*"]);
        with(&["--", "a/z"], &["A\ta/z/new"]);
        with(&["--", "c/d/new"], &["A\tc/d/new"]);
        with(&["--", "never-there", "a/x/below"], &[]);
        with(&["-C", "a", "--", "x", "../b"], &["M\ta/x", "M\tb"]);
        with(&["-C", "a", "--", "."], &["M\ta/x", "D\ta/y", "A\ta/z/new"]);
        with(&["--", "."], &["M\t*", "M\ta/x", "D\ta/y", "A\ta/z/new", "M\ta-b", "M\tb", "A\tc/d/new"]);
    });
    world.commit();
    check(&["HEAD~1", "HEAD", "--", "a"], &["M\ta/x", "D\ta/y", "A\ta/z/new"]);
    check(&["HEAD~1", "HEAD", "--", "a/x", "c"], &["M\ta/x", "A\tc/d/new"]);
    check(&["HEAD~1", "HEAD", "--", "a/x/below", "never"], &[]);
    // A directory that gave way to a file, and the other way round.
    std::fs::remove_dir_all(world.path("a")).expect("it is there");
    world.write("a", "a file\n");
    remove(&world, "b");
    world.write("b/x", "below\n");
    both(&|revs| {
        let with = |words: &[&str], expected: &[&str]| check(&[revs, words].concat(), expected);
        with(&["--", "a"], &["T\ta", "D\ta/x", "D\ta/z/new"]);
        with(&["--", "a/x"], &["D\ta/x"]);
        with(&["--", "b"], &["T\tb", "A\tb/x"]);
        with(&["--", "b/x"], &["A\tb/x"]);
    });
    world.commit();
    check(&["HEAD~1", "HEAD", "--", "a"], &["T\ta", "D\ta/x", "D\ta/z/new"]);
    check(&["HEAD~1", "HEAD", "--", "a/x", "b/x"], &["D\ta/x", "A\tb/x"]);
}

/// Renames are found among the paths that are asked for, and not beyond.
#[test]
fn renames_are_equal_contents_each_side_once() {
    let world = World::repository();
    for path in ["same/a", "same/b"] {
        world.write(path, "the same\n");
    }
    world.write("edited", "one\ntwo\nthree\nfour\n");
    world.write("empty", "");
    world.commit();
    std::fs::rename(world.path("same"), world.path("moved")).expect("it can be renamed");
    std::fs::rename(world.path("edited"), world.path("edited-here")).expect("it can be renamed");
    world.write("edited-here", "one\ntwo\nthree\nfive\n");
    std::fs::rename(world.path("empty"), world.path("empty-here")).expect("it can be renamed");
    world.write("another", "the same\n");
    let expected = "A\tanother\nD\tedited\nA\tedited-here\nD\tempty\nA\tempty-here\nR100\tsame/a\tmoved/a\nR100\tsame/b\tmoved/b\n";
    assert_eq!(world.ok(&["diff", "--name-status"]), expected);
    assert_eq!(world.ok(&["diff", "--name-status", "--", "moved"]), "A\tmoved/a\nA\tmoved/b\n");
    // `status` says the same.
    let status = world.changes();
    assert!(status.contains(&"R same/a -> moved/a".to_owned()), "{status:?}");
    world.commit();
    assert_eq!(world.ok(&["diff", "--name-status", "HEAD~1", "HEAD"]), expected);
    // Back again, the other way round.
    let back = world.ok(&["diff", "--name-status", "HEAD", "HEAD~1"]);
    assert!(back.contains("R100\tmoved/a\tsame/a\n") && back.contains("D\tanother\n"), "{back}");
}

#[test]
fn what_cannot_be_read_is_said_and_is_no_answer() {
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("changed", "old\n");
    world.write("longer", "old\n");
    world.write("fine", "old\n");
    world.commit();
    world.write("changed", "new\n");
    world.write("longer", "much longer\n");
    world.write("fine", "new\n");
    world.write("added", "new\n");
    for path in ["changed", "longer", "added"] {
        world.chmod(path, 0);
    }
    let expected = "unreadable\tadded\nunreadable\tchanged\nM\tfine\nunreadable\tlonger\n";
    for args in [&["diff", "--name-status"][..], &["diff", "--name-status", "--exit-code"]] {
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(3), "{args:?}");
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    }
    let patch = world.run(&["diff"]);
    assert_eq!(patch.status.code(), Some(3));
    let patch = String::from_utf8_lossy(&patch.stdout).into_owned();
    assert!(patch.starts_with("Cannot read b/added\nCannot read b/changed\ndiff --git a/fine"), "{patch}");
    let output = world.run(&["--json", "diff"]);
    assert_eq!(output.status.code(), Some(3));
    let first = String::from_utf8_lossy(&output.stdout).lines().next().expect("a line").to_owned();
    let first: Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!((text(&first["change"]), &first["new_size"]), ("unreadable", &Value::Null));
    // `status` knows no more than that.
    assert_eq!(world.changes(), ["unreadable added", "unreadable changed", "M fine", "unreadable longer"]);
}

#[test]
fn colours_on_demand() {
    let world = World::repository();
    world.write("a", "one\ntwo\n");
    world.commit();
    world.write("a", "one\n2\n");
    let plain = world.ok(&["diff"]);
    assert!(!plain.contains('\u{1b}'), "{plain:?}");
    let colored = world.ok(&["--color", "always", "diff"]);
    assert!(colored.contains("\u{1b}[31m-two\u{1b}[0m\n\u{1b}[32m+2\u{1b}[0m\n"), "{colored:?}");
    assert!(colored.contains("\u{1b}[1mdiff --git a/a b/a\u{1b}[0m\n"), "{colored:?}");
    // Nothing else differs.
    let mut stripped = colored;
    for code in ["\u{1b}[0m", "\u{1b}[1m", "\u{1b}[31m", "\u{1b}[32m", "\u{1b}[36m"] {
        stripped = stripped.replace(code, "");
    }
    assert_eq!(stripped, plain);
    assert!(world.ok(&["--color", "always", "diff", "--stat"]).contains("\u{1b}[32m+\u{1b}[0m"));
    assert!(world.ok(&["--color", "always", "diff", "--name-status"]).contains("\u{1b}[36mM\u{1b}[0m\ta\n"));
}

#[test]
fn extended_attributes_are_mentioned() {
    let world = World::repository();
    world.write("a", "a\n");
    let attribute =
        |value: &[u8]| rustix::fs::setxattr(world.path("a"), "user.note", value, rustix::fs::XattrFlags::empty());
    if attribute(b"one").is_err() {
        skipped("this file system has no extended attributes");
        return;
    }
    world.commit();
    attribute(b"two").expect("it was possible before");
    let expected = "Extended attributes of a/a and b/a differ\n";
    assert_eq!(world.ok(&["diff"]), expected);
    world.commit();
    assert_eq!(world.ok(&["diff", "HEAD~1", "HEAD"]), expected);
    assert_eq!(world.ok(&["diff", "HEAD~1", "HEAD", "--name-status"]), "M\ta\n");
}

#[test]
fn damage_ends_it_with_five() {
    let world = World::repository();
    let lines: String = (0..60_000).map(|line| format!("line {line} of many\n")).collect();
    world.write("big", &lines);
    world.commit();
    let packs = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs").flatten();
    let pack = packs.max_by_key(|entry| entry.metadata().expect("metadata").len()).expect("a pack").path();
    let mut bytes = std::fs::read(&pack).expect("it can be read");
    let middle = bytes.len() / 2;
    bytes[middle..middle + 4].copy_from_slice(b"oops");
    std::fs::set_permissions(&pack, std::fs::Permissions::from_mode(0o644)).expect("modes can be set");
    std::fs::write(&pack, &bytes).expect("it can be written");
    world.write("big", lines + "and one\n");
    let err = world.fails(5, &["diff"]);
    is_an_error(&err);
    assert!(err.contains("big"), "{err}");
    // What needs no contents goes on.
    assert_eq!(world.ok(&["diff", "--name-status"]), "M\tbig\n");
}

#[test]
fn large_files_are_not_held() {
    let world = World::repository();
    let large: Vec<u8> = "0123456789abcde\n".repeat(2_200_000).into_bytes();
    world.write("large", &large);
    world.commit();
    world.write("large", [large.as_slice(), b"more\n"].concat());
    assert_eq!(world.ok(&["diff"]), "diff --git a/large b/large\nBinary files a/large and b/large differ\n");
    let shorter = &large[..30_000_000];
    world.write("large", shorter);
    world.commit();
    world.write("large", [shorter, b"more\n"].concat());
    let patch = world.ok(&["diff"]);
    assert!(
        patch.ends_with("@@ -1874998,3 +1874998,4 @@\n 0123456789abcde\n 0123456789abcde\n 0123456789abcde\n+more\n"),
        "{patch}"
    );
}

#[test]
fn show_is_a_commit_and_its_changes() {
    let world = World::repository();
    is_an_error(&world.fails(1, &["show"]));
    write(&world, "a", "one\n", 0o644);
    let first = world.commit();
    write(&world, "a", "two\n", 0o644);
    write(&world, "b", "b\n", 0o644);
    world.ok(&["commit", "-m", "second"]);
    let log = world.ok(&["log", "-n", "1"]);
    let diff = |args: &[&str]| world.ok(&[&["diff", "HEAD~1", "HEAD"], args].concat());
    assert_eq!(world.ok(&["show"]), format!("{log}\n{}", diff(&[])));
    assert_eq!(world.ok(&["show", "HEAD", "--stat"]), format!("{log}\n{}", diff(&["--stat"])));
    assert_eq!(world.ok(&["show", "--name-status"]), format!("{log}\n{}", diff(&["--name-status"])));
    assert_eq!(world.ok(&["show", "--name-status", "--", "b"]), format!("{log}\nA\tb\n"));
    // A first commit is compared with nothing.
    let shown = world.ok(&["show", &first[..12]]);
    assert!(shown.contains("new file mode 100644\n--- /dev/null\n+++ b/a\n@@ -0,0 +1 @@\n+one\n"), "{shown}");

    let shown = world.object(0, &["show"]);
    let mut expected = world.json(&["log", "-n", "1"]).remove(0);
    has_fields(
        &shown,
        &["v", "commit", "tree", "parents", "author", "node", "time", "message", "log_index", "signature"],
    );
    let mut changes = world.json(&["diff", "HEAD~1", "HEAD"]);
    changes.iter_mut().for_each(|change| drop(change.as_object_mut().expect("an object").remove("v")));
    expected["changes"] = json!(changes);
    assert_eq!(shown, expected);
    assert!(is_id(&shown["commit"]) && changes.len() == 2);
    // A commit that changed nothing.
    world.ok(&["commit", "--allow-empty", "-m", "nothing"]);
    assert_eq!(world.object(0, &["show"])["changes"], json!([]));
    assert_eq!(world.ok(&["show"]), world.ok(&["log", "-n", "1"]));
    is_an_error(&world.fails(1, &["show", "nothing"]));
    is_an_error(&world.fails(2, &["show", "HEAD", "HEAD"]));
}
