//! Every exit status and every field of `--json` that scripts rely on, in tables: what is missing here is promised to
//! nobody, and what is here is noticed if it goes away.

use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::{Child, Stdio};

use filesync_tests::process::{bytes_read, send};
use filesync_tests::world::{World, noise};
use rustix::process::Signal;
use serde_json::Value;

use super::{is_id, is_time, text};

/// What stands in a field.
#[derive(Debug, Clone, Copy)]
enum Is {
    Version,
    Id,
    Ids,
    Text,
    Number,
    Seconds,
    Time,
    Bool,
    List,
    Null,
    /// One of these words.
    Word(&'static [&'static str]),
    /// Base64.
    Bytes,
}

impl Is {
    fn holds(self, value: &Value) -> bool {
        let base64 = |text: &str| !text.is_empty() && text.len().is_multiple_of(4);
        match self {
            Self::Version => *value == 1,
            Self::Id => is_id(value),
            Self::Ids => value.as_array().is_some_and(|ids| ids.iter().all(is_id)),
            Self::Text => value.is_string(),
            Self::Number => value.is_u64(),
            Self::Seconds => value.as_f64().is_some_and(|seconds| seconds >= 0.0),
            Self::Time => is_time(value),
            Self::Bool => value.is_boolean(),
            Self::List => value.is_array(),
            Self::Null => value.is_null(),
            Self::Word(words) => value.as_str().is_some_and(|word| words.contains(&word)),
            Self::Bytes => value.as_str().is_some_and(base64),
        }
    }
}

type Fields = &'static [(&'static str, Is)];

/// Every field is there, and is what it should be.
#[track_caller]
fn check(object: &Value, fields: Fields) {
    for (name, is) in fields {
        let value = object.get(name).unwrap_or_else(|| panic!("no {name} in {object}"));
        assert!(is.holds(value), "{name} is not {is:?}: {object}");
    }
}

const INIT: Fields = &[("v", Is::Version), ("repo", Is::Id), ("node", Is::Id), ("path", Is::Text)];
const COMMIT: Fields = &[
    ("v", Is::Version),
    ("commit", Is::Id),
    ("tree", Is::Id),
    ("parents", Is::Ids),
    ("files", Is::Number),
    ("bytes", Is::Number),
    ("added", Is::Number),
    ("modified", Is::Number),
    ("deleted", Is::Number),
    ("new_bytes", Is::Number),
    ("stored_bytes", Is::Number),
    ("seconds", Is::Seconds),
];
const STATUS: Fields = &[
    ("v", Is::Version),
    ("head", Is::Id),
    // There is no cluster yet.
    ("main", Is::Null),
    ("ahead", Is::Null),
    ("behind", Is::Null),
    ("changes", Is::List),
    ("conflicts", Is::List),
    ("clean", Is::Bool),
];
const CHANGE: Fields = &[("change", Is::Word(&["A", "M", "D", "T", "R"])), ("path", Is::Text)];
const LOG: Fields = &[
    ("v", Is::Version),
    ("commit", Is::Id),
    ("tree", Is::Id),
    ("parents", Is::Ids),
    ("author", Is::Text),
    ("node", Is::Id),
    ("time", Is::Time),
    ("message", Is::Text),
    ("log_index", Is::Null),
    ("signature", Is::Word(&["good"])),
];
const LS: Fields = &[
    ("v", Is::Version),
    ("path", Is::Text),
    ("kind", Is::Word(&["file", "executable", "symlink", "directory"])),
    ("mode", Is::Text),
    ("size", Is::Number),
];
const RESTORE: Fields = &[
    ("v", Is::Version),
    ("written", Is::Number),
    ("deleted", Is::Number),
    ("unchanged", Is::Number),
    ("skipped", Is::List),
    ("bytes", Is::Number),
    ("seconds", Is::Seconds),
];
const FSCK: Fields = &[
    ("v", Is::Version),
    ("objects", Is::Number),
    ("bytes", Is::Number),
    ("damaged", Is::List),
    ("repaired", Is::Number),
];
const DAMAGED: Fields =
    &[("id", Is::Id), ("kind", Is::Word(&["chunk", "list", "tree", "commit"])), ("paths", Is::List)];
const ERROR: Fields = &[("v", Is::Version), ("error", Is::Text), ("status", Is::Number)];

/// A repository with a commit of everything that an entry can be.
fn world() -> World {
    let world = World::repository();
    world.write("file", "file");
    world.write("run", "run");
    world.write("dir/inside", "inside");
    world.write(std::ffi::OsString::from_vec(b"caf\xe9".to_vec()), "not UTF-8");
    std::fs::set_permissions(world.path("run"), std::fs::Permissions::from_mode(0o755)).expect("modes can be set");
    symlink("file", world.path("link")).expect("it can be made");
    let target = std::ffi::OsString::from_vec(b"to caf\xe9".to_vec());
    symlink(target, world.path("odd link")).expect("it can be made");
    world
}

#[test]
fn contract_of_json() {
    let empty = World::empty();
    check(&empty.object(0, &["init", "new"]), INIT);
    check(&empty.object(0, &["version"]), &[("v", Is::Version), ("version", Is::Text)]);
    let world = world();
    check(&world.object(0, &["commit", "--dry-run"]), &[("v", Is::Version), ("commit", Is::Null), ("tree", Is::Id)]);
    check(&world.object(0, &["commit"]), COMMIT);
    check(&world.object(0, &["commit"]), &[("v", Is::Version), ("commit", Is::Null), ("parents", Is::Ids)]);
    check(&world.object(0, &["commit", "--amend", "-m", "better"]), COMMIT);

    std::fs::remove_file(world.path("run")).expect("it is there");
    symlink("x", world.path("run")).expect("it can be made");
    std::fs::rename(world.path("dir"), world.path("renamed")).expect("it can be renamed");
    world.write("file", "changed");
    world.write("new", "new");
    std::fs::remove_file(world.path("link")).expect("it is there");
    let odd = world.path(std::ffi::OsString::from_vec(b"caf\xe9".to_vec()));
    std::fs::rename(&odd, world.path(std::ffi::OsString::from_vec(b"\xff".to_vec()))).expect("it can be renamed");
    let status = world.object(0, &["status"]);
    check(&status, STATUS);
    let changes = status["changes"].as_array().expect("a list");
    changes.iter().for_each(|change| check(change, CHANGE));
    let letters: std::collections::BTreeSet<&str> = changes.iter().map(|change| text(&change["change"])).collect();
    assert_eq!(letters.into_iter().collect::<String>(), "ADMRT", "{status}");
    let renames = changes.iter().filter(|change| change["change"] == "R");
    renames.clone().for_each(|change| check(change, &[("from", Is::Text)]));
    assert!(changes.iter().filter(|change| change["change"] != "R").all(|change| change.get("from").is_none()));
    let odd = renames.clone().find(|change| change.get("path_bytes").is_some()).expect("one is not UTF-8");
    check(odd, &[("path_bytes", Is::Bytes), ("from_bytes", Is::Bytes)]);

    let before: Vec<Value> = world.json(&["log"]);
    before.iter().for_each(|line| check(line, LOG));
    let lines = world.json(&["ls", "-r"]);
    assert_eq!(lines.len(), 7, "{lines:?}");
    for line in &lines {
        check(line, LS);
        let is_file = matches!(text(&line["kind"]), "file" | "executable");
        let is_link = line["kind"] == "symlink";
        assert_eq!(line.get("b3").is_some_and(is_id), is_file, "{line}");
        assert_eq!(line.get("target").is_some_and(Value::is_string), is_link, "{line}");
        assert_eq!(is_time(&line["mtime"]), is_file || is_link, "{line}");
        assert_eq!(is_id(&line["id"]), !is_link, "{line}");
        assert!(text(&line["mode"]).len() == 4, "{line}");
    }
    let odd =
        |field: &str| lines.iter().filter(|line| line.get(field).is_some_and(|value| Is::Bytes.holds(value))).count();
    assert_eq!((odd("path_bytes"), odd("target_bytes")), (1, 1), "{lines:?}");

    check(&world.object(3, &["restore", "--dry-run"]), RESTORE);
    let restored = world.object(3, &["restore"]);
    check(&restored, RESTORE);
    assert!(restored["skipped"].as_array().is_some_and(|paths| paths.iter().all(Value::is_string)), "{restored}");
    check(&world.object(0, &["checkout", "--force", "--delete"]), RESTORE);
    let copy = world.path("copy");
    check(&world.object(0, &["restore", "--to", copy.to_str().expect("UTF-8"), "--fsync"]), RESTORE);
    check(&world.object(0, &["fsck"]), FSCK);
    check(&world.object(0, &["fsck", "--quick"]), FSCK);
}

#[test]
fn contract_of_json_about_trouble() {
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("file", "file");
    world.write("closed", "closed");
    world.commit();
    let odd = std::ffi::OsString::from_vec(b"caf\xe9".to_vec());
    world.write(&odd, "closed too");
    world.write("closed", "CLOSED");
    for path in [world.path("closed"), world.path(&odd)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o0)).expect("modes can be set");
    }
    let partial = world.object(3, &["commit", "--partial", "--allow-empty"]);
    check(&partial, COMMIT);
    check(&partial, &[("unreadable", Is::List)]);
    for one in partial["unreadable"].as_array().expect("a list") {
        check(one, &[("path", Is::Text), ("cause", Is::Text)]);
    }
    check(&partial["unreadable"][0], &[("path_bytes", Is::Bytes)]);
    let status = world.object(0, &["status"]);
    let unreadable = status["changes"].as_array().expect("a list").iter().filter(|it| it["change"] == "unreadable");
    assert_eq!(unreadable.count(), 2, "what cannot be read is told so, new or not: {status}");
    // A file that is in no commit, and a name that is not UTF-8 among the skipped.
    let skipped = world.object(3, &["restore", "--delete"]);
    check(&skipped, RESTORE);
    check(&skipped, &[("skipped_bytes", Is::List)]);
    assert_eq!(skipped["skipped"].as_array().map(Vec::len), skipped["skipped_bytes"].as_array().map(Vec::len));
    for (status, args) in [(1, ["log", "nothing"].as_slice()), (2, &["log", "--bad"]), (1, &["commit"])] {
        let output = world.run(&[&["--json"], args].concat());
        let error: Value = serde_json::from_slice(&output.stderr).expect("one object");
        check(&error, ERROR);
        assert!(error.get("hint").is_some(), "{error}");
        assert_eq!(error["status"], status);
    }
    damage(&world, 2);
    let fsck = world.object(5, &["fsck"]);
    check(&fsck, FSCK);
    let damaged = fsck["damaged"].as_array().expect("a list");
    assert!(!damaged.is_empty(), "{fsck}");
    damaged.iter().for_each(|one| check(one, DAMAGED));
    let output = world.run(&["--json", "ls"]);
    let error: Value = serde_json::from_slice(&output.stderr).expect("one object");
    check(&error, ERROR);
    assert_eq!(error["status"], 5);
}

/// Overwrites all frames of the packs of a class: 1 is data, 2 metadata.
fn damage(world: &World, class: u8) {
    let packs = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs").flatten();
    for pack in packs {
        let mut bytes = std::fs::read(pack.path()).expect("it can be read");
        if bytes[9] == class {
            bytes[88..].iter_mut().for_each(|byte| *byte ^= 0x5a);
            std::fs::write(pack.path(), bytes).expect("it can be written");
        }
    }
}

#[test]
fn contract_of_exit_statuses() {
    let world = world();
    // Before the first commit.
    let rows: &[(i32, &[&str])] = &[
        (0, &["log"]),
        (0, &["ls"]),
        (0, &["status"]),
        (1, &["status", "--exit-code"]),
        (0, &["fsck"]),
        (1, &["restore"]),
        (1, &["restore", "--to", "copy"]),
        (1, &["cat", "HEAD:file"]),
        (0, &["log", "HEAD"]),
        (1, &["log", "HEAD~1"]),
        (1, &["commit", "--amend"]),
        (0, &["tag"]),
        (1, &["tag", "t"]),
        (0, &["diff"]),
        (1, &["diff", "--exit-code"]),
        (0, &["diff", "HEAD"]),
        (1, &["show"]),
        (0, &["config"]),
        (0, &["forget", "--keep-last", "1"]),
        (0, &["gc"]),
        (0, &["upgrade"]),
        (0, &["commit"]),
        // After it.
        (0, &["commit"]),
        (0, &["status", "--exit-code"]),
        (0, &["log"]),
        (0, &["log", "HEAD"]),
        (1, &["log", "HEAD~1"]),
        (1, &["log", "nothing"]),
        (2, &["log", "--bad"]),
        (2, &["log", "--", "../outside"]),
        (0, &["log", "--", "nothing"]),
        (0, &["ls"]),
        (1, &["ls", "nothing"]),
        (1, &["ls", "HEAD:nothing"]),
        (2, &["ls", "--bad"]),
        (0, &["cat", "HEAD:file"]),
        (1, &["cat", "HEAD:nothing"]),
        (1, &["cat", "HEAD:dir"]),
        (2, &["cat", "file"]),
        (2, &["cat"]),
        (0, &["restore"]),
        (0, &["restore", "--dry-run"]),
        (1, &["restore", "nothing"]),
        (1, &["restore", "--", "nothing"]),
        (2, &["restore", "--fsync"]),
        (2, &["restore", "--bad"]),
        (0, &["restore", "--to", "copy"]),
        (1, &["restore", "--to", "copy"]),
        (1, &["restore", "--to", "no/such/parent"]),
        (0, &["fsck"]),
        (2, &["fsck", "--bad"]),
        (1, &["init"]),
        (2, &["init", "new", "--chunk-size", "1"]),
        (0, &["init", "new"]),
        (1, &["invite", "--expires", "1s"]),
        (2, &["invite", "--expires", "0s"]),
        (2, &["invite", "--expires", "0"]),
        (1, &["-C", "nowhere", "status"]),
        (2, &["-C", "nowhere", "status", "--exit-code"]),
        (2, &["status", "--bad"]),
        (2, &["commit", "--bad"]),
        (1, &["commit", "-F", "nowhere"]),
        (0, &["tag", "t"]),
        (1, &["tag", "t"]),
        (0, &["tag", "t", "--force"]),
        (0, &["tag"]),
        (0, &["log", "t"]),
        (1, &["tag", "u", "nothing"]),
        (2, &["tag", "HEAD"]),
        (2, &["tag", "a..b"]),
        (0, &["tag", "--delete", "t"]),
        (1, &["tag", "--delete", "t"]),
        (2, &["tag", "--delete"]),
        (2, &["tag", "--bad"]),
        (0, &["config"]),
        (0, &["config", "show"]),
        (0, &["config", "validate"]),
        (0, &["config", "get", "node.name"]),
        (2, &["config", "get", "nothing"]),
        (0, &["config", "set", "node.name", "x"]),
        (2, &["config", "set", "node.name", ""]),
        (2, &["config", "set", "nothing", "x"]),
        (2, &["config", "--bad"]),
        (0, &["diff"]),
        (0, &["diff", "HEAD", "HEAD", "--exit-code"]),
        (0, &["diff", "HEAD", "HEAD", "--stat"]),
        (1, &["diff", "nothing"]),
        (2, &["diff", "nothing", "--exit-code"]),
        (2, &["diff", "--stat", "--name-status"]),
        (2, &["diff", "--bad"]),
        (0, &["show"]),
        (0, &["show", "HEAD", "--stat"]),
        (1, &["show", "nothing"]),
        (2, &["show", "--bad"]),
        (0, &["du"]),
        (0, &["du", "HEAD:dir"]),
        (1, &["du", "HEAD:nothing"]),
        (2, &["du", "-s", "-d", "1"]),
        (2, &["du", "--bad"]),
        (2, &["check-ignore"]),
        (2, &["check-ignore", "../outside"]),
        (2, &["-C", "nowhere", "check-ignore", "file"]),
        (0, &["fsck", "--sample", "5%"]),
        (2, &["fsck", "--sample", "200%"]),
        (2, &["fsck", "--sample", "5%", "--quick"]),
        (0, &["fsck", "--repair"]),
        (0, &["forget", "--keep-last", "1", "--dry-run"]),
        (0, &["forget", "--keep-last", "1"]),
        (2, &["forget"]),
        (2, &["forget", "--keep-last", "0"]),
        (0, &["gc", "--dry-run"]),
        (0, &["gc"]),
        (2, &["gc", "--bad"]),
        (0, &["upgrade"]),
        (2, &["upgrade", "--bad"]),
        (0, &["completions", "bash"]),
        (2, &["completions", "tcsh"]),
        (2, &["completions"]),
        (0, &["man", "pages"]),
        (1, &["man", "file"]),
        (2, &["man"]),
        (0, &["version"]),
        (0, &["--version"]),
        (0, &["--help"]),
        (2, &[]),
        (2, &["nothing"]),
    ];
    for (status, args) in rows {
        let output = world.run(args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(*status), "{args:?}: {err}");
        assert!(*status == 0 || args.contains(&"--exit-code") || !err.is_empty(), "{args:?} fails without a word");
    }
    world.write(".filesyncignore", "*.left-out\n");
    // As that of git: whether anything is left out.
    assert_eq!(world.run(&["check-ignore", "some.left-out"]).status.code(), Some(0));
    assert_eq!(world.run(&["check-ignore", "file"]).status.code(), Some(1));
    assert_eq!(world.run(&["diff", "--exit-code"]).status.code(), Some(1));
    // Settings that nobody understands are an error, and no damage.
    let settings = std::fs::read(world.path(".filesync/config.toml")).expect("they can be read");
    world.write(".filesync/config.toml", "[commit]\nauthro = 'x'\n");
    for (status, args) in [
        (1, ["config"].as_slice()),
        (1, &["config", "validate"]),
        (1, &["commit"]),
        (1, &["fsck"]),
        (1, &["fsck", "--quick"]),
        (0, &["status"]),
        (0, &["log"]),
        (0, &["restore"]),
        (0, &["gc"]),
    ] {
        let output = world.run(args);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    world.write(".filesync/config.toml", settings);
    // Something is left for the user.
    world.write("file", "in no commit");
    for args in [["restore"].as_slice(), &["restore", "--dry-run"], &["restore", "--delete"], &["--json", "restore"]] {
        assert_eq!(world.run(args).status.code(), Some(3), "{args:?}");
    }
    assert_eq!(world.run(&["status", "--exit-code"]).status.code(), Some(1));
    assert_eq!(world.run(&["-q", "restore", "--force"]).status.code(), Some(0));
}

#[test]
fn contract_of_status_five() {
    let template = world();
    template.commit();
    template.write("file", "changed");
    template.commit();
    // Chunks: what needs none of them goes on.
    let world = World::copy_of(template.root());
    damage(&world, 1);
    std::fs::remove_file(world.path("file")).expect("it is there");
    for (status, args) in [
        (0, ["log"].as_slice()),
        (0, &["ls", "-r"]),
        (0, &["status"]),
        (0, &["du"]),
        (0, &["tag", "t"]),
        (0, &["config"]),
        (0, &["diff", "HEAD~1", "HEAD", "--name-status"]),
        (5, &["diff", "HEAD~1", "HEAD"]),
        (5, &["show"]),
        (5, &["cat", "HEAD:file"]),
        (5, &["restore"]),
        (5, &["restore", "--to", "copy"]),
        (5, &["fsck"]),
        (5, &["fsck", "--quick"]),
    ] {
        let output = world.run(args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(status), "{args:?}: {err}{}", String::from_utf8_lossy(&output.stdout));
    }
    // Trees and commits.
    let world = World::copy_of(template.root());
    damage(&world, 2);
    for args in [
        ["log"].as_slice(),
        &["ls"],
        &["status"],
        &["status", "--exit-code"],
        &["cat", "HEAD:file"],
        &["restore"],
        &["restore", "--to", "copy"],
        &["commit"],
        &["diff"],
        &["diff", "--exit-code"],
        &["show"],
        &["du"],
        &["forget", "--keep-last", "1"],
        &["gc"],
        &["fsck"],
        &["fsck", "--quick"],
    ] {
        let output = world.run(args);
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(5), "{args:?}: {err}");
    }
    // And the files beside them.
    for file in ["HEAD", "format"] {
        let world = World::copy_of(template.root());
        std::fs::write(world.path(".filesync").join(file), "nonsense\n").expect("it can be written");
        for args in [["log"].as_slice(), &["commit"], &["restore"], &["status"], &["fsck"]] {
            assert_eq!(world.run(args).status.code(), Some(5), "{file}: {args:?}");
        }
    }
}

/// Makes garbage of a third of the packs, without another commit in the history.
fn add_garbage(world: &World, round: u64) {
    world.write("garbage", noise(1000 + round, 20_000_000));
    world.ok(&["commit", "--amend"]);
    std::fs::remove_file(world.path("garbage")).expect("it is there");
    world.ok(&["commit", "--amend"]);
}

/// Spoils some bytes of the largest pack. Files of the working copy have what goes.
fn spoil(world: &World) {
    let packs = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs").flatten();
    let largest = packs.max_by_key(|pack| pack.metadata().expect("it is there").len()).expect("there are packs");
    let mut bytes = std::fs::read(largest.path()).expect("it can be read");
    for part in 1..6 {
        let at = bytes.len() * part / 6;
        bytes[at] ^= 0x5a;
    }
    std::fs::write(largest.path(), bytes).expect("it can be written");
}

/// What ends long work of every kind: 128 and the signal's number, nothing temporary, and the same again works.
#[test]
fn contract_of_signals() {
    let world = World::repository();
    for name in 0..250 {
        world.write(format!("d{}/{name}", name % 9), noise(name, 150_000));
    }
    world.commit();
    let names = |world: &World| filesync_tests::model::read_tree(world.root()).into_keys().collect::<Vec<_>>();
    let all = names(&world);
    let copies = filesync_tests::world::TempDir::new();
    let to = copies.path().join("copy");
    let to_text = to.to_str().expect("UTF-8");
    let commands: [&[&str]; 5] =
        [&["restore"], &["restore", "--to", to_text], &["fsck"], &["gc"], &["fsck", "--repair"]];
    let mut interrupted = [0; 5];
    // Each of them by each signal.
    for (round, (sent, number)) in
        [(Signal::INT, 130), (Signal::TERM, 143), (Signal::HUP, 129)].into_iter().cycle().take(15).enumerate()
    {
        let kind = round % commands.len();
        let args = commands[kind];
        match kind {
            0 => (0..9).for_each(|dir| std::fs::remove_dir_all(world.path(format!("d{dir}"))).expect("it is there")),
            3 => add_garbage(&world, round as u64),
            4 => spoil(&world),
            _ => {}
        }
        // A repair is at work on what it found once it has read everything, and reads on.
        let wanted = match (kind, round / commands.len()) {
            (4, 1..) => world.packs_len() + (1 << 20),
            _ => 4 << 20,
        };
        let mut child = world.command(args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it runs");
        // Once it is at work: a file of its own is there, or it has read some of the data.
        let is_at_work = |child: &Child| match kind {
            0 => world.path(".filesync/journal").exists(),
            1 => std::fs::read_dir(copies.path()).is_ok_and(|dir| dir.count() > 0),
            _ => bytes_read(child) > wanted,
        };
        while !is_at_work(&child) && child.try_wait().expect("it can be asked").is_none() {
            std::thread::yield_now();
        }
        // One that has ended by itself was faster than we; it may not be the rule.
        if child.try_wait().expect("it can be asked").is_none() {
            send(&child, sent);
        }
        let sent_at = std::time::Instant::now();
        let output = child.wait_with_output().expect("it ends");
        assert!(sent_at.elapsed() < std::time::Duration::from_secs(5), "{args:?} took {:?}", sent_at.elapsed());
        let err = String::from_utf8_lossy(&output.stderr);
        // A status of its own: it was not the signal that ended it.
        let ended = output.status.code();
        assert!(ended == Some(0) || ended == Some(number), "{args:?}: {ended:?} {err}");
        interrupted[kind] += u32::from(ended == Some(number));
        assert!(err.is_empty(), "{args:?}: {err}");
        assert!(names(&world).iter().all(|name| all.contains(name)), "{args:?} leaves {:?}", names(&world));
        assert!(!world.path(".filesync/journal").exists(), "{args:?}");
        let beside = std::fs::read_dir(copies.path()).expect("it can be read").count();
        assert_eq!(beside, usize::from(to.exists()), "{args:?} leaves something");
        drop(std::fs::remove_dir_all(&to));
        world.ok(args);
        drop(std::fs::remove_dir_all(&to));
        assert_eq!(names(&world), all);
    }
    println!("of three each were interrupted: {interrupted:?}");
    assert!(interrupted.iter().all(|times| *times > 0), "of three each only {interrupted:?} were interrupted");
    world.ok(&["fsck"]);
}
