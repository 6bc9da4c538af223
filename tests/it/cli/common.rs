//! What holds for every command.

use std::ffi::OsStr;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;

use filesync_tests::model::read_tree;
use filesync_tests::world::{World, is_root, skipped};
use serde_json::Value;

use super::json::commands;
use super::{has_fields, is_an_error, text};

#[test]
fn the_repository_is_found() {
    let world = World::empty();
    world.ok(&["init", "repo"]);
    world.write("repo/deep/er/f", "f");
    world.write("elsewhere/x", "x");
    // From below, by -C (which begins where the program is started), and by FILESYNC_DIR.
    world.ok(&["-C", "repo/deep/er", "commit"]);
    assert_eq!(world.ok(&["-C", "repo/deep", "ls", "-r"]), "deep\ndeep/er\ndeep/er/f\n");
    let ls = |dir: &str, repository: &str| {
        let mut command = world.command(&["ls"]);
        command.current_dir(world.path(dir)).env("FILESYNC_DIR", world.path(repository)).output().expect("runs")
    };
    assert_eq!(ls("elsewhere", "repo").stdout, b"deep\n");
    // It wins over what lies around, and is not searched from.
    world.ok(&["init", "other"]);
    assert_eq!(ls("other", "repo").stdout, b"deep\n");
    let output = ls("repo", "repo/deep");
    assert_eq!(output.status.code(), Some(1));
    is_an_error(&String::from_utf8_lossy(&output.stderr));

    let err = world.fails(1, &["-C", "elsewhere", "status"]);
    is_an_error(&err);
    assert!(err.contains("no .filesync") && err.contains("filesync init"), "{err}");
    is_an_error(&world.fails(1, &["-C", "missing", "status"]));
    // Relative too.
    let output = world.command(&["ls"]).env("FILESYNC_DIR", "repo").output().expect("runs");
    assert_eq!(output.stdout, b"deep\n");
}

#[test]
fn usage_is_two() {
    let world = World::repository();
    for args in [
        ["--no-such"].as_slice(),
        &["nothing"],
        &["log", "--progress", "sometimes"],
        &["log", "--lock-timeout", "soon"],
    ] {
        is_an_error(&world.fails(2, args));
    }
    assert_eq!(world.run(&[]).status.code(), Some(2));
    for args in [["--help"], ["-h"], ["--version"], ["version"]] {
        assert!(!world.ok(&args).is_empty());
    }
    for words in ["--help", "-h", "help"] {
        let shown = world.ok(&[words]);
        let listed = shown.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
        let is_told =
            |line: &str| line.split_whitespace().nth(1).is_some_and(|word| word.starts_with(char::is_uppercase));
        let untold: Vec<&str> = listed.filter(|line| !is_told(line)).collect();
        assert!(untold.is_empty(), "{words} does not say what these are for: {untold:?}");
    }
    let commands = commands();
    assert!(commands.len() >= 25, "all of them: {commands:?}");
    for command in &commands {
        for help in ["--help", "-h"] {
            let shown = world.ok(&[command, help]);
            let usage = shown.lines().find(|line| line.starts_with("Usage: ")).unwrap_or_default();
            assert!(usage.contains(&format!(" {command} ")) || usage.ends_with(command), "{command} {help}: {shown}");
        }
    }
    assert_eq!(world.object(0, &["version"])["v"], 1);
}

#[test]
fn errors_as_json_stand_on_stderr() {
    let world = World::repository();
    let outside = World::empty();
    let cases: [(&World, i32, &[&str]); 6] = [
        (&world, 1, &["log", "nothing"]),
        (&world, 2, &["log", "--bad"]),
        (&world, 2, &["cat", "x"]),
        (&world, 1, &["init"]),
        (&outside, 1, &["status"]),
        (&outside, 1, &["commit", "-F", "missing"]),
    ];
    for (world, status, args) in cases {
        let output = world.run(&[args, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(status), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
        let error: Value = serde_json::from_slice(&output.stderr).expect("one object");
        has_fields(&error, &["v", "error", "hint", "status"]);
        assert_eq!((&error["v"], &error["status"]), (&Value::from(1), &Value::from(status)));
        assert!(!text(&error["error"]).is_empty());
    }
}

#[test]
fn strange_names() {
    let world = World::repository();
    // caf\xe9 is Latin-1, and its base64 is Y2Fm6Q==.
    let names: [&[u8]; 5] = [b"caf\xe9", b"new\nline", b"\x1b[31mred", b"tab\t\"quote\"\\", "schön".as_bytes()];
    for name in names {
        world.write(OsStr::from_bytes(name), name);
    }
    let shown = world.ok(&["-q", "status"]);
    let expected = [r#"A "\033[31mred""#, r#"A "caf\351""#, r#"A "new\nline""#, "A schön", r#"A "tab\t\"quote\"\\""#];
    assert_eq!(shown.lines().collect::<Vec<_>>(), expected);
    let shown = world.ok(&["commit"]);
    assert!(!shown.contains('\u{1b}'));
    world.ok(&["log"]);
    assert!(!world.ok(&["ls", "-l"]).contains('\u{1b}'));
    assert!(world.ok(&["ls"]).contains("\"new\\nline\"\n"));
    let raw = world.run(&["ls", "-z"]).stdout;
    let mut sorted = names;
    sorted.sort_unstable();
    assert_eq!(raw.split(|byte| *byte == 0).filter(|name| !name.is_empty()).collect::<Vec<_>>(), sorted);

    let lines = world.json(&["ls"]);
    let cafe = lines.iter().find(|line| line.get("path_bytes").is_some()).expect("one is not UTF-8");
    assert_eq!((text(&cafe["path_bytes"]), text(&cafe["path"])), ("Y2Fm6Q==", "caf\u{fffd}"));
    assert_eq!(lines.iter().filter(|line| line.get("path_bytes").is_some()).count(), 1);
    // They can be named, and come back.
    for name in names {
        std::fs::write(world.path(OsStr::from_bytes(name)), "changed").expect("it can be written");
        let output = world.command(&["restore", "--force", "--"]).arg(OsStr::from_bytes(name)).output().expect("runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(std::fs::read(world.path(OsStr::from_bytes(name))).expect("it is there"), name);
        let log = world.command(&["--json", "log", "--"]).arg(OsStr::from_bytes(name)).output().expect("runs");
        assert_eq!(log.stdout.iter().filter(|byte| **byte == b'\n').count(), 1);
    }
    let status = world.object(0, &["status"]);
    assert_eq!(status["clean"], true, "{status}");
    std::fs::rename(world.path(OsStr::from_bytes(b"caf\xe9")), world.path("cafe")).expect("it can be renamed");
    let status = world.object(0, &["status"]);
    assert_eq!(status["changes"][0]["from_bytes"], "Y2Fm6Q==", "{status}");
    // An error about one is still one line, and harmless.
    let err = world.fails(1, &["cat", "HEAD:\u{1b}[2J\nx"]);
    is_an_error(&err);
    assert!(!err.contains('\u{1b}'), "{err:?}");
    let err = world.fails(1, &["log", "x\n\u{1b}"]);
    is_an_error(&err);
    assert!(!err.contains('\u{1b}'), "{err:?}");
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let world = World::repository();
    world.write("big", vec![b'x'; 5_000_000]);
    for name in 0..3000 {
        world.write(format!("many/{name}-with-a-long-name-that-fills-the-pipe"), "");
    }
    world.commit();
    for args in [["cat", "HEAD:big"], ["ls", "-rl"], ["ls", "HEAD:many"], ["--json", "status"], ["log", "-v"]] {
        let mut child =
            world.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        let mut out = child.stdout.take().expect("a pipe");
        let mut one = [0];
        out.read_exact(&mut one).expect("a byte comes");
        drop(out);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(matches!(output.status.code(), Some(0 | 141)), "{args:?}: {}", output.status);
    }
}

#[test]
fn a_full_output_is_told() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    for args in [["cat", "HEAD:a"].as_slice(), &["ls"], &["status"], &["log"]] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it can be opened");
        let output = world.command(args).stdout(full).output().expect("runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
        let err = String::from_utf8_lossy(&output.stderr);
        is_an_error(&err);
        assert!(err.contains("No space left on device"), "{err}");
    }
    // What is done is done, and the error says so.
    world.write("a", "b");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("it can be opened");
    let output = world.command(&["commit"]).stdout(full).output().expect("runs");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(1) && err.contains("hint: what was asked for is done"), "{err}");
    assert_eq!(world.run(&["cat", "HEAD:a"]).stdout, b"b");
}

#[test]
fn without_terminal_and_locale() {
    let world = World::repository();
    world.write("schön", "x");
    let run = |args: &[&str]| {
        let mut command = world.command(args);
        command.env_clear().env("LANG", "C").env("LC_ALL", "C").output().expect("runs")
    };
    for args in [["status"].as_slice(), &["commit"], &["log"], &["ls"], &["fsck"], &["restore"]] {
        let output = run(args);
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(output.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stdout.contains(&0x1b), "{args:?} is coloured");
    }
    assert_eq!(run(&["ls"]).stdout, "schön\n".as_bytes());
    // Asked for, both come.
    world.write("schön", "y");
    let output = run(&["--color", "always", "--progress", "always", "status"]);
    assert!(output.stdout.contains(&0x1b));
    assert!(!output.stderr.contains(&b'\r') && !output.stderr.contains(&0x1b));
}

#[test]
fn a_foreign_repository_is_refused() {
    if !is_root() {
        skipped("only root can make a repository that belongs to another user");
        return;
    }
    let world = World::for_plain_user();
    world.ok(&["init"]);
    world.write("a", "a");
    world.ok(&["commit"]);
    // Nobody is asked to run code or read settings of root's.
    std::os::unix::fs::chown(world.path(".filesync"), Some(0), Some(0)).expect("root may take");
    let readers = [["status"].as_slice(), &["log"], &["ls"], &["cat", "HEAD:a"], &["fsck"], &["tag"], &["config"]];
    let writers = [["commit"].as_slice(), &["restore"], &["tag", "x"], &["config", "set", "node.name", "x"]];
    for args in readers.into_iter().chain(writers) {
        let err = world.fails(1, args);
        is_an_error(&err);
        assert!(err.contains("another user") && err.contains("hint: ") && err.contains("--allow-foreign"), "{err}");
    }
    // Nor is root asked to, but by the one who has it do his work.
    let of_another = World::repository();
    std::os::unix::fs::chown(of_another.path(".filesync"), Some(7), Some(7)).expect("root may give away");
    let err = of_another.fails(1, &["status"]);
    assert!(err.contains("another user") && err.contains("--allow-foreign"), "{err}");
    of_another.ok(&["--allow-foreign", "status"]);
    let behind = |uid: &str| of_another.command(&["status"]).env("SUDO_UID", uid).output().expect("runs").status;
    assert!(behind("7").success() && !behind("8").success());
    assert_eq!(world.ok(&["--allow-foreign", "ls"]), "a\n");
    assert_eq!(world.ok(&["ls", "--allow-foreign"]), "a\n");
}

/// No command leaves temporary files, and readers change nothing that counts.
#[test]
fn readers_change_nothing() {
    let world = World::repository();
    world.write("a", "a");
    world.commit();
    let store = |world: &World| {
        let mut tree = read_tree(&world.path(".filesync"));
        // Derived, and the files of the locks.
        let derived: [&[u8]; 4] = [b"index", b"lock", b"readers", b"stamp"];
        tree.retain(|path, _| !derived.iter().any(|name| path.starts_with(name)));
        tree
    };
    let before = store(&world);
    let looking = [["status"].as_slice(), &["log"], &["ls", "-r"], &["cat", "HEAD:a"], &["fsck"], &["tag"]];
    let more = [["restore", "--dry-run"].as_slice(), &["config"], &["config", "validate"], &["check-ignore", "a"]];
    for args in looking.into_iter().chain(more) {
        let output = world.run(args);
        assert!(output.stderr.is_empty(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(before == store(&world), "{args:?} changed the store");
    }
}

#[test]
fn quoted_hints_can_be_copied() {
    let world = World::repository();
    world.write("a b", "x");
    world.commit();
    let err = world.fails(1, &["log", "a b"]);
    assert!(err.contains("`-- 'a b'`"), "{err}");
    assert!(Path::new(&world.path("a b")).exists());
}
