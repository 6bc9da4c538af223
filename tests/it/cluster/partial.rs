//! Partial copies, as users have them.

use super::*;

/// Clones some paths into a world of its own; says how that ended.
fn join_parts(line: &str, name: &str, paths: &[&str]) -> (World, Output) {
    let world = World::empty();
    let mut args = vec!["--json", "clone", "-", ".", "--name", name, "--timeout", "120s"];
    paths.iter().for_each(|path| args.extend(["--path", path]));
    let output = with_line(world.command(&args), line);
    (world, output)
}

fn names(world: &World) -> Vec<String> {
    let entries = std::fs::read_dir(world.root()).expect("a directory").flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().into_string().expect("UTF-8")).collect();
    names.sort();
    names
}

/// Some parts come, and nothing else; what is not there is not deleted, and comes to be looked at when it is asked for.
#[test]
fn cluster_partial_copies_have_their_parts() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, output) = join_parts(&invite(&one, "writer"), "two", &["text/", "not/yet"]);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    let cloned: Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(cloned["not_found"], serde_json::json!(["not/yet"]));
    assert!(cloned["bytes_received"].as_u64() < Some(100_000), "{cloned}");
    assert_eq!(names(&two), [".filesync", "text"]);
    let status = two.object(0, &["status", "--exit-code"]);
    assert_eq!((status["changes"].as_array().map(Vec::len), &status["clean"]), (Some(0), &Value::Bool(true)));
    assert_eq!(status["partial"]["absent_files"], 51, "{status}");
    let shown = two.ok(&["status"]);
    assert!(shown.contains("partial: not/yet, text; 51 files of the head (2.1 MiB) not here"), "{shown}");

    // What it publishes leaves the rest as it is, and both sides merge.
    two.write("text/b", "of two\n");
    two.commit();
    one.write("large", Rng::new(8).bytes(2_000_000));
    one.write("text/c", "of one\n");
    one.commit();
    sync(&one);
    let merged = sync(&two);
    assert!(merged["merged"].is_string() && merged["bytes_received"].as_u64() < Some(100_000), "{merged}");
    sync(&one);
    assert_eq!(std::fs::read(one.path("large")).expect("it stays"), Rng::new(8).bytes(2_000_000));
    assert_eq!(std::fs::read(one.path("text/b")).expect("it came"), b"of two\n");
    for command in [&["fsck"][..], &["gc"], &["fsck", "--quick"]] {
        two.object(0, command);
    }
    let peers = two.json(&["peers"]);
    let said: Vec<_> = peers.iter().map(|peer| (peer["holds_head"].as_bool(), peer["partial"].as_bool())).collect();
    assert_eq!(said, [(Some(true), Some(false)), (Some(false), Some(true))]);

    // What stands elsewhere is told, and keeps from committing.
    two.write("elsewhere", "x");
    let status = two.object(1, &["status", "--exit-code"]);
    assert_eq!(status["partial"]["outside"], serde_json::json!(["elsewhere"]));
    let refused = two.run(&["commit"]);
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && err.contains("cannot commit elsewhere") && err.contains("hint:"),
        "{err}"
    );
    std::fs::remove_file(two.path("elsewhere")).expect("removed");

    // Asked for, it is fetched; it does not become a part by that.
    assert_eq!(two.run(&["cat", "HEAD:large"]).stdout, Rng::new(8).bytes(2_000_000));
    assert_eq!(two.ok(&["ls", "HEAD:many"]).lines().count(), 50);
    two.ok(&["restore", "--to", "../copy", "--", "many/7"]);
    assert_eq!(std::fs::read(two.path("../copy/many/7")).expect("restored"), Rng::new(7).bytes(3_000));
    std::fs::remove_dir_all(two.path("../copy")).expect("removed");
    let parts = two.run(&["restore", "--to", "../copy"]);
    let err = String::from_utf8_lossy(&parts.stderr);
    assert!(parts.status.success() && err.contains("not all of the commit: this partial copy has "), "{err}");
    std::fs::remove_dir_all(two.path("../copy")).expect("removed");
    let refused = two.run(&["restore", "--", "many/7"]);
    assert_eq!(refused.status.code(), Some(1), "in place it would stand outside of the parts");
    assert!(two.object(0, &["status"])["clean"] == true);
    two.object(0, &["gc"]);
    two.object(0, &["fsck"]);
    daemon.end();

    // Nobody is there to be asked.
    let alone = two.run(&["cat", "HEAD:many/9"]);
    let err = String::from_utf8_lossy(&alone.stderr).into_owned();
    assert!(alone.status.code() == Some(4) && err.contains("not in this partial copy: many/9"), "{err}");
    assert_eq!(two.run(&["cat", "HEAD:text/b"]).stdout, b"of two\n");
}

/// What makes no sense is said before anything is made.
#[test]
fn cluster_paths_of_partial_copies_are_checked() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let line = invite(&one, "writer");
    for wrong in ["", "/", "/text", "a//b", "../text", ".filesync"] {
        let (world, output) = join_parts(&line, "two", &[wrong]);
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), names(&world).len()), (Some(2), 0), "{wrong:?}: {err}");
    }
    let (_, output) = join_parts(&invite(&one, "voter"), "two", &["text"]);
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    daemon.end();
}
