//! `log`, and what REV means.

use std::os::unix::ffi::OsStrExt;

use filesync_repo::{CommitRequest, OpenOptions, Repo, Silent};
use filesync_tests::world::World;
use serde_json::Value;

use super::{has_fields, is_an_error, is_id, is_time, text};

/// Four commits of `a`, `b`, `a`, `d/x`, oldest first.
fn world() -> (World, Vec<String>) {
    let world = World::repository();
    let paths = ["a", "b", "a", "d/x"];
    let commit = |(number, path): (usize, &&str)| {
        world.write(path, format!("{number}"));
        world.ok(&["commit", "-m", &format!("change {number}")]);
        text(&world.json(&["log", "-n", "1"])[0]["commit"]).to_owned()
    };
    let ids = paths.iter().enumerate().map(commit).collect();
    (world, ids)
}

fn ids(world: &World, args: &[&str]) -> Vec<String> {
    world.json(&[&["log"], args].concat()).iter().map(|line| text(&line["commit"]).to_owned()).collect()
}

fn pick(ids: &[String], which: &[usize]) -> Vec<String> {
    which.iter().map(|at| ids[*at].clone()).collect()
}

/// No hint leads back to where one came from.
#[test]
fn main_is_said_to_begin_with_a_commit() {
    let world = World::repository();
    let hint = "`filesync commit` records what is here";
    let err = world.fails(1, &["log", "main"]);
    assert!(err.contains("never in touch") && err.contains(hint), "{err}");
    assert!(world.ok(&["sync"]).contains("`filesync commit` is what begins"));
    let err = world.fails(1, &["log", "main"]);
    assert!(err.contains("nothing is published yet") && err.contains(hint), "{err}");
    world.write("a", "a");
    world.commit();
    let err = world.fails(1, &["log", "main"]);
    assert!(err.contains("`filesync sync` publishes what is committed"), "{err}");
    world.ok(&["sync"]);
    assert_eq!(world.json(&["log", "main"]).len(), 1);
}

#[test]
fn a_line_a_commit() {
    let world = World::repository();
    assert_eq!(world.ok(&["log"]), "");
    assert!(world.json(&["log"]).is_empty());
    world.write("a", "a");
    let commit = world.object(0, &["commit", "-m", "the\nmessage", "--author", "Ada"]);
    let log = world.json(&["log"]);
    let [line] = log.as_slice() else { panic!("not one line: {log:?}") };
    let fields =
        ["v", "commit", "tree", "parents", "author", "node", "time", "message", "log_index", "as_of", "signature"];
    has_fields(line, &fields);
    assert_eq!(line["v"], 1);
    assert_eq!((&line["commit"], &line["tree"]), (&commit["commit"], &commit["tree"]));
    assert_eq!(line["parents"], Value::Array(Vec::new()));
    assert_eq!((text(&line["author"]), text(&line["message"])), ("Ada", "the\nmessage"));
    assert!(is_id(&line["node"]) && is_time(&line["time"]), "{line}");
    assert_eq!((&line["log_index"], &line["as_of"]), (&Value::Null, &Value::Null));
    assert_eq!(line["signature"], "good");
    let shown = world.ok(&["log"]);
    assert!(shown.starts_with(&format!("commit {} (HEAD)\nAuthor: Ada\nDate: ", text(&line["commit"]))), "{shown}");
    assert!(shown.contains("the\n") && shown.contains("message\n"), "{shown}");
}

#[test]
fn order_number_and_paths() {
    let (world, all) = world();
    assert_eq!(ids(&world, &[]), pick(&all, &[3, 2, 1, 0]));
    assert_eq!(ids(&world, &["--reverse"]), all);
    assert_eq!(ids(&world, &["-n", "2"]), pick(&all, &[3, 2]));
    assert_eq!(ids(&world, &["-n", "2", "--reverse"]), pick(&all, &[2, 3]));
    assert_eq!(ids(&world, &["-n", "0"]), pick(&all, &[]));
    assert_eq!(ids(&world, &["HEAD~1"]), pick(&all, &[2, 1, 0]));
    let lines = world.ok(&["log", "--oneline"]);
    let begin: Vec<&str> = lines.lines().filter_map(|line| line.split(' ').next()).collect();
    assert_eq!(begin, pick(&all, &[3, 2, 1, 0]).iter().map(|id| &id[..12]).collect::<Vec<_>>());
    assert_eq!(ids(&world, &["--", "a"]), pick(&all, &[2, 0]));
    assert_eq!(ids(&world, &["-n", "1", "--", "a"]), pick(&all, &[2]));
    assert_eq!(ids(&world, &["HEAD~2", "--", "a", "b"]), pick(&all, &[1, 0]));
    assert_eq!(ids(&world, &["--", "d"]), pick(&all, &[3]));
    assert_eq!(ids(&world, &["--", "."]), pick(&all, &[3, 2, 1, 0]));
    assert_eq!(ids(&world, &["--", "never-there"]), pick(&all, &[]));
    assert_eq!(ids(&world, &["-C", "d", "--", "x"]), pick(&all, &[3]));
    assert_eq!(ids(&world, &["-C", "d", "--", "../b"]), pick(&all, &[1]));
    is_an_error(&world.fails(2, &["log", "--", "../outside"]));
    is_an_error(&world.fails(2, &["log", "-n", "few"]));
    // Paths are literal.
    assert_eq!(ids(&world, &["--", "*"]), pick(&all, &[]));
    let parents: Vec<Value> = world.json(&["log"]).iter().map(|line| line["parents"][0].clone()).collect();
    assert_eq!(parents[..3], pick(&all, &[2, 1, 0]).into_iter().map(Value::String).collect::<Vec<_>>());
    // A removed path: the commit that removed it is among them.
    std::fs::remove_file(world.path("b")).expect("it is there");
    let removed = world.commit();
    assert_eq!(ids(&world, &["--", "b"]), [removed, all[1].clone()]);
}

#[test]
fn revisions() {
    let (world, all) = world();
    let first = |rev: &str| ids(&world, &["-n", "1", rev]).remove(0);
    for (rev, at) in [("HEAD", 3), ("HEAD~", 2), ("HEAD~0", 3), ("HEAD~1", 2), ("HEAD~3", 0)] {
        assert_eq!(first(rev), all[at], "{rev}");
    }
    for len in [12, 40, 64] {
        assert_eq!(first(&all[1][..len]), all[1]);
        assert_eq!(first(&format!("{}~1", &all[1][..len])), all[0]);
    }
    assert_eq!(world.run(&["cat", "HEAD~3:a"]).stdout, b"0");
    assert_eq!(world.run(&["cat", &format!("{}:a", &all[2][..16])]).stdout, b"2");

    for rev in ["HEAD~4", "nothing", "HEAD~x", "abc", &"0".repeat(64), "main", "HEAD^", "", "a..b", "../x"] {
        is_an_error(&world.fails(1, &["log", rev]));
    }
    // A path where a revision belongs.
    for args in [["log", "a"], ["restore", "a"]] {
        let err = world.fails(1, &args);
        is_an_error(&err);
        assert!(err.contains("hint: ") && err.contains("`-- a`"), "{args:?}: {err}");
    }
    for typo in ["HAED", "heda", "head", "@"] {
        let err = world.fails(1, &["log", typo]);
        assert!(err.contains("hint: did you mean HEAD?"), "{err}");
    }
    let err = world.fails(1, &["log", "no-such-path"]);
    assert!(!err.contains("hint: "), "{err}");
    let err = world.fails(1, &["ls", "a"]);
    assert!(err.contains("HEAD:a"), "{err}");
    let err = world.fails(2, &["cat", "a"]);
    assert!(err.contains("HEAD:a"), "{err}");
    world.ok(&["tag", "v1.0"]);
    for (rev, hint) in [
        ("v1,0", "did you mean v1.0?"),
        ("head", "did you mean HEAD?"),
        ("Head~2", "did you mean HEAD?"),
        ("@", "did you mean HEAD?"),
        ("HEAD^", "the parent of HEAD is HEAD~1"),
        ("HEAD~2..HEAD", "not a range"),
        ("master", "HEAD is its end"),
        ("abc", "4 digits or more"),
        (&all[0][..12].to_ascii_uppercase(), &all[0][..12]),
        ("HEAD:a", "`HEAD -- a`"),
    ] {
        let err = world.fails(1, &["log", rev]);
        is_an_error(&err);
        assert!(err.contains("hint: ") && err.contains(hint), "{rev}: {err}");
    }
    // A revision where a path belongs: nothing is found, and why is said.
    let output = world.run(&["log", "--", "v1.0"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), b"".as_slice()));
    let err = String::from_utf8_lossy(&output.stderr);
    assert_eq!(err, "filesync: warning: to name a revision, put it before --: `v1.0 -- PATH`\n");
    assert!(world.run(&["log", "--", "never-there"]).stderr.is_empty());
    // A path from the working directory behind a colon.
    for command in ["ls", "cat"] {
        let err = world.fails(1, &["-C", "d", command, "HEAD:x"]);
        is_an_error(&err);
        assert!(err.contains("hint: paths behind a colon are from the root: HEAD:d/x"), "{err}");
        for path in ["HEAD:/a", "HEAD:./a", "HEAD:d/../a"] {
            let err = world.fails(2, &[command, path]);
            assert!(err.contains("hint: paths behind a colon are from the root"), "{err}");
        }
    }
    let word = std::ffi::OsStr::from_bytes(b"\xff");
    let output = world.command(&["log"]).arg(word).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    is_an_error(&String::from_utf8_lossy(&output.stderr));
}

/// Ids of trees and chunks are no revisions, even if nothing else begins with those digits.
#[test]
fn only_commits_have_prefixes() {
    let (world, _) = world();
    let log = world.json(&["log"]);
    for line in &log {
        is_an_error(&world.fails(1, &["log", text(&line["tree"])]));
        is_an_error(&world.fails(1, &["log", &text(&line["tree"])[..16]]));
    }
}

#[test]
fn an_ambiguous_prefix_is_refused() {
    let world = World::repository();
    let options = OpenOptions::default();
    let repo = Repo::open_writer(world.root(), "test", &options, &Silent).expect("it opens");
    // Commits until two share four digits: some 300, by the birthday paradox.
    let mut seen = std::collections::BTreeMap::new();
    let (one, other) = loop {
        let request = CommitRequest { allow_empty: true, amend: !seen.is_empty(), ..CommitRequest::default() };
        let id = repo.commit(&request, &Silent).expect("it commits").commit.expect("a commit").to_string();
        if let Some(earlier) = seen.insert(id[..4].to_owned(), id.clone()) {
            break (earlier, id);
        }
    };
    drop(repo);
    let err = world.fails(1, &["log", &one[..4]]);
    is_an_error(&err);
    assert!(err.contains("several") && err.contains("hint: "), "{err}");
    let shared = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    for id in [&one, &other] {
        let found = world.json(&["log", "-n", "1", &id[..=shared]]);
        assert_eq!(text(&found[0]["commit"]), id.as_str());
    }
}
