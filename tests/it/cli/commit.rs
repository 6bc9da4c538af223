//! `commit`.

use std::io::Write;
use std::process::Stdio;

use filesync_tests::model::read_tree;
use filesync_tests::world::World;
use serde_json::Value;

use super::{has_fields, is_an_error, is_id, text};

const FIELDS: [&str; 13] = [
    "v",
    "commit",
    "tree",
    "parents",
    "files",
    "bytes",
    "added",
    "modified",
    "deleted",
    "new_bytes",
    "stored_bytes",
    "seconds",
    "message",
];

fn history(world: &World) -> Vec<Value> {
    world.json(&["log"])
}

#[test]
fn tells_what_it_did() {
    let world = World::repository();
    world.write("a", "one");
    world.write("d/b", "two!");
    let first = world.object(0, &["commit", "-m", "first"]);
    has_fields(&first, &FIELDS);
    assert_eq!(first["v"], 1);
    assert!(is_id(&first["commit"]) && is_id(&first["tree"]), "{first}");
    assert_eq!(first["parents"], Value::Array(Vec::new()));
    assert_eq!((first["files"].as_u64(), first["bytes"].as_u64()), (Some(2), Some(7)));
    assert_eq!(first["new_bytes"].as_u64(), Some(7));
    assert!(first["stored_bytes"].as_u64().is_some_and(|stored| stored > 0), "{first}");
    assert!(first["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{first}");
    assert!(first["added"].as_u64().is_some_and(|added| added >= 2), "{first}");
    assert!(first.get("unreadable").is_none(), "{first}");

    world.write("a", "ONE");
    std::fs::remove_file(world.path("d/b")).expect("it is there");
    world.write("d/c", "one");
    let second = world.object(0, &["commit", "-m", "second"]);
    assert_eq!(second["parents"], Value::Array(vec![first["commit"].clone()]));
    let counts = ["added", "modified", "deleted", "new_bytes"].map(|field| second[field].as_u64());
    assert_eq!(counts, [Some(1), Some(1), Some(1), Some(3)], "{second}");
    assert_ne!(first["tree"], second["tree"]);

    world.write("a", "text");
    let shown = world.ok(&["commit", "-m", "third\n\nmore"]);
    assert!(shown.contains("] third\n") && shown.contains("1 modified"), "{shown}");
    world.write("a", "quiet");
    assert_eq!(world.ok(&["-q", "commit"]), "");
}

#[test]
fn nothing_changed_is_no_commit() {
    let world = World::repository();
    // An empty working copy has nothing to record.
    assert_eq!(world.object(0, &["commit"])["commit"], Value::Null);
    assert!(history(&world).is_empty());
    world.write("a", "a");
    world.commit();
    let result = world.object(0, &["commit", "-m", "again"]);
    has_fields(&result, &FIELDS);
    assert_eq!(result["commit"], Value::Null);
    assert_eq!(world.ok(&["commit"]), "nothing changed\n");
    // Written anew with the same bytes, and touched: still nothing.
    world.write("a", "a");
    assert_eq!(world.object(0, &["commit"])["commit"], Value::Null);
    assert_eq!(world.object(0, &["commit", "--no-cache"])["commit"], Value::Null);
    assert_eq!(history(&world).len(), 1);
}

#[test]
fn allow_empty() {
    let world = World::repository();
    let first = world.object(0, &["commit", "--allow-empty", "-m", "nothing yet"]);
    let second = world.object(0, &["commit", "--allow-empty"]);
    assert!(is_id(&first["commit"]) && is_id(&second["commit"]), "{first} {second}");
    assert_eq!(first["tree"], second["tree"]);
    assert_eq!(second["parents"][0], first["commit"]);
    assert_eq!(history(&world).len(), 2);
}

#[test]
fn amend_replaces_the_head() {
    let world = World::repository();
    is_an_error(&world.fails(1, &["commit", "--amend"]));
    world.write("a", "a");
    let first = world.commit();
    world.write("b", "b");
    let second = world.object(0, &["commit", "-m", "second", "--author", "Ada <a@b>"]);
    world.write("b", "B");
    let amended = world.object(0, &["commit", "--amend"]);
    assert_ne!(amended["commit"], second["commit"]);
    assert_eq!(amended["parents"], second["parents"]);
    let log = history(&world);
    assert_eq!(log.len(), 2);
    assert_eq!(log[0]["commit"], amended["commit"]);
    assert_eq!((text(&log[0]["message"]), text(&log[0]["author"])), ("second", "Ada <a@b>"));
    assert_eq!(text(&log[1]["commit"]), first);
    assert_eq!(world.cat("b"), b"B");
    // Only the message; and the first commit can be amended, too.
    world.ok(&["commit", "--amend", "-m", "better"]);
    assert_eq!(text(&history(&world)[0]["message"]), "better");
    let only = World::repository();
    only.write("a", "a");
    only.commit();
    let amended = only.object(0, &["commit", "--amend", "-m", "x"]);
    assert_eq!(amended["parents"], Value::Array(Vec::new()));
    assert_eq!(history(&only).len(), 1);
    only.ok(&["fsck"]);
}

#[test]
fn dry_run_stores_nothing() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    world.write("a", "b");
    world.write("new", "new");
    let packs = || {
        std::fs::read_dir(world.path(".filesync/packs"))
            .expect("there are packs")
            .flatten()
            .map(|entry| (entry.file_name(), entry.metadata().expect("metadata").len()))
    };
    let before: std::collections::BTreeMap<_, _> = packs().collect();
    let result = world.object(0, &["commit", "--dry-run"]);
    has_fields(&result, &FIELDS);
    assert_eq!(result["commit"], Value::Null);
    assert_eq!((result["added"].as_u64(), result["modified"].as_u64()), (Some(1), Some(1)));
    assert!(world.ok(&["commit", "-n"]).starts_with("would commit: "));
    assert_eq!(before, packs().collect());
    assert_eq!(history(&world).len(), 1);
    // What it said is what comes.
    assert_eq!(result["would_commit"], true);
    let committed = world.object(0, &["commit"]);
    assert_eq!((&committed["tree"], &committed["message"]), (&result["tree"], &result["message"]));
    assert!(committed.get("would_commit").is_none());
    // Whether there would be a commit at all, and with which message.
    let dry = |args: &[&str]| world.object(0, &[&["commit", "--dry-run"], args].concat());
    assert_eq!(dry(&[])["would_commit"], false);
    assert_eq!(world.ok(&["commit", "-n"]), "nothing changed\n");
    assert_eq!(dry(&["--allow-empty", "-m", "said"])["message"], "said");
    let amend = dry(&["--amend"]);
    assert_eq!((&amend["would_commit"], &amend["message"]), (&Value::Bool(true), &committed["message"]));
    assert_eq!(amend["parents"], committed["parents"]);
    assert!(world.ok(&["commit", "-n", "--amend", "-m", "other"]).starts_with("would commit: other\n"));
    assert_eq!(history(&world).len(), 2);
}

#[test]
fn messages() {
    let world = World::repository();
    let mut number = 0;
    let mut commit = |args: &[&str]| {
        number += 1;
        world.write("counter", format!("{number}"));
        world.ok(&[&["commit"], args].concat());
        text(&history(&world)[0]["message"]).to_owned()
    };
    assert_eq!(commit(&["-m", "one", "-m", "two"]), "one\n\ntwo");
    // Made from the changes: up to three are named.
    for (more, made) in
        [(2, "add 2-0, add 2-1, modify counter"), (3, "3 added, 1 modified"), (4, "4 added, 1 modified")]
    {
        (0..more).for_each(|number| world.write(format!("{more}-{number}"), "x"));
        assert_eq!(commit(&[]), made);
    }
    assert_eq!(commit(&["-m", "schön\n\n"]), "schön");
    world.write("message", "from a file\n\nbody\n");
    assert_eq!(commit(&["-F", "message"]), "from a file\n\nbody");
    world.write("counter", "by pipe");
    let mut child =
        world.command(&["commit", "-F", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().expect("runs");
    child.stdin.take().expect("a pipe").write_all(b"by pipe\n").expect("it reads");
    assert!(child.wait().expect("it ends").success());
    assert_eq!(text(&history(&world)[0]["message"]), "by pipe");

    world.write("counter", "not to be committed");
    let before = history(&world);
    for (status, args) in [
        (1, ["-F", "missing"].as_slice()),
        (1, &["-m", ""]),
        (1, &["-m", " \n"]),
        (2, &["-m", "x", "-F", "message"]),
        (2, &["--author", "two\nlines"]),
        (2, &["--author", ""]),
        (2, &["--no-such"]),
        (2, &["word"]),
    ] {
        is_an_error(&world.fails(status, &[&["commit"], args].concat()));
    }
    let long = World::repository();
    long.write("message", "x".repeat(200 << 10));
    is_an_error(&long.fails(2, &["commit", "-F", "message"]));
    assert_eq!(before, history(&world));
}

#[test]
fn what_was_below_a_directory_goes_with_it() {
    let world = World::repository();
    for name in ["d/a", "d/b", "d/e/c", "f"] {
        world.write(name, name);
    }
    world.commit();
    std::fs::remove_dir_all(world.path("d")).expect("it is there");
    std::fs::remove_file(world.path("f")).expect("it is there");
    world.write("d", "a file now");
    world.write("f/g", "in a directory now");
    let counts =
        |object: Value| ["added", "modified", "deleted"].map(|field| object[field].as_u64().expect("a number"));
    assert_eq!(counts(world.object(0, &["commit", "--dry-run"])), [1, 2, 3]);
    assert_eq!(counts(world.object(0, &["commit"])), [1, 2, 3]);
}

#[test]
fn a_message_is_made_from_the_changes() {
    let world = World::repository();
    let message = || text(&world.object(0, &["commit"])["message"]).to_owned();
    world.write("a", "a");
    world.write("b", "b");
    assert_eq!(message(), "add a, add b");
    world.write("a", "A");
    std::fs::remove_file(world.path("b")).expect("it is there");
    assert_eq!(message(), "modify a, delete b");
    for name in 0..5 {
        world.write(format!("many-{name}"), "x");
    }
    let many = message();
    assert!(many.starts_with("5 added"), "{many}");
    world.write("new\nline", "x");
    assert!(!message().contains('\n'));
}

#[test]
fn an_author_is_user_at_host_or_as_configured() {
    let world = World::repository();
    world.write("a", "1");
    let output = world.command(&["commit"]).env("USER", "ada").output().expect("runs");
    assert!(output.status.success());
    let author = |world: &World| text(&history(world)[0]["author"]).to_owned();
    assert!(author(&world).starts_with("ada@"), "{}", author(&world));
    // A job may have no such variable: then the system knows the user.
    world.write("a", "1.5");
    let nameless = world.command(&["commit"]).env_remove("USER").env_remove("LOGNAME").output().expect("runs");
    assert!(nameless.status.success());
    let user = std::process::Command::new("id").arg("-un").output().expect("it runs").stdout;
    let user = String::from_utf8(user).expect("UTF-8");
    assert!(author(&world).starts_with(&format!("{}@", user.trim())), "{}", author(&world));
    let config = world.path(".filesync/config.toml");
    std::fs::write(&config, "[commit]\nauthor = \"Bob\"\n").expect("they can be written");
    world.write("a", "2");
    world.commit();
    assert_eq!(author(&world), "Bob");
    world.write("a", "3");
    world.ok(&["commit", "--author", "Cy"]);
    assert_eq!(author(&world), "Cy");
    std::fs::write(&config, "[commit]\nauthro = \"Bob\"\n").expect("they can be written");
    world.write("a", "4");
    let err = world.fails(1, &["commit"]);
    is_an_error(&err);
    assert!(err.contains("config.toml"), "{err}");
}

#[test]
fn unreadable_files_fail_it_and_partial_goes_on() {
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("kept", "kept");
    world.write("dir/inside", "inside");
    world.commit();
    world.write("kept", "changed, and nobody may see it");
    world.write("new", "new and closed");
    world.write("open", "open");
    world.chmod("kept", 0);
    world.chmod("new", 0);
    world.chmod("dir", 0);
    let err = world.fails(1, &["commit"]);
    is_an_error(&err);
    assert!(err.contains("cannot read") && err.contains("Permission denied") && err.contains("--partial"), "{err}");
    assert_eq!(history(&world).len(), 1);

    let result = world.object(3, &["commit", "--partial"]);
    assert!(is_id(&result["commit"]), "{result}");
    let unreadable: Vec<&str> =
        result["unreadable"].as_array().expect("a list").iter().map(|one| text(&one["path"])).collect();
    assert_eq!(unreadable, ["dir", "kept", "new"]);
    assert!(text(&result["unreadable"][0]["cause"]).contains("Permission denied"), "{result}");
    assert_eq!(result["deleted"].as_u64(), Some(0));
    // The old stays, the new is left out, the rest is there.
    assert_eq!(world.cat("kept"), b"kept");
    assert_eq!(world.cat("dir/inside"), b"inside");
    assert_eq!(world.cat("open"), b"open");
    is_an_error(&world.fails(1, &["cat", "HEAD:new"]));
    // Nothing else changed: no commit, but something is left all the same.
    assert_eq!(world.object(3, &["commit", "--partial"])["commit"], Value::Null);
    let shown = String::from_utf8(world.run(&["commit", "--partial", "--allow-empty"]).stdout).expect("UTF-8");
    assert!(shown.contains("unreadable kept: Permission denied"), "{shown}");
    let quiet = String::from_utf8(world.run(&["-q", "commit", "--partial"]).stdout).expect("UTF-8");
    assert_eq!(quiet.lines().count(), 3, "{quiet}");
    let dry = world.object(3, &["commit", "--partial", "--dry-run"]);
    assert_eq!(dry["unreadable"].as_array().map(Vec::len), Some(3), "{dry}");
    is_an_error(&world.fails(1, &["commit", "--dry-run"]));
    world.chmod("kept", 0o644);
    world.chmod("new", 0o644);
    world.chmod("dir", 0o755);
    let result = world.object(0, &["commit"]);
    assert!(result.get("unreadable").is_none(), "{result}");
    assert_eq!(world.cat("new"), b"new and closed");
    assert_eq!(world.cat("dir/inside"), b"inside");
}

#[test]
fn tracked_files_stay_until_apply_ignore() {
    let world = World::repository();
    world.write("log.txt", "1");
    world.write("build/out", "1");
    world.commit();
    world.write(".filesyncignore", "*.txt\nbuild/\n");
    world.write("other.txt", "x");
    world.write("build/new", "x");
    world.write("log.txt", "2");
    world.write("build/out", "2");
    assert_eq!(world.changes(), ["A .filesyncignore", "M build/out", "M log.txt"]);
    world.commit();
    assert_eq!(world.cat("log.txt"), b"2");
    assert_eq!(world.cat("build/out"), b"2");
    let result = world.object(0, &["commit", "--apply-ignore"]);
    assert_eq!(result["deleted"].as_u64(), Some(2), "{result}");
    assert_eq!(world.ok(&["ls", "-r"]), ".filesyncignore\n");
    // The files themselves stay, and are not seen any more.
    assert_eq!(std::fs::read(world.path("log.txt")).expect("it is there"), b"2");
    assert_eq!(world.changes(), Vec::<String>::new());
}

#[test]
fn the_working_copy_is_left_alone() {
    let world = World::repository();
    world.write("a", "a");
    world.write("d/b", "b");
    let before = read_tree(world.root());
    world.commit();
    world.ok(&["status"]);
    world.ok(&["fsck"]);
    assert!(before == read_tree(world.root()));
}
