//! `restore`.

use filesync_repo::{OpenOptions, Repo, Silent};
use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::World;
use serde_json::Value;

use super::{has_fields, is_an_error};

const FIELDS: [&str; 7] = ["v", "written", "deleted", "unchanged", "skipped", "bytes", "seconds"];

/// Two commits: `a` and `d/b`, then `a` changed and `new` added.
fn world() -> World {
    let world = World::repository();
    world.write("a", "one");
    world.write("d/b", "b");
    world.commit();
    world.write("a", "second");
    world.write("new", "new");
    world.commit();
    world
}

fn read(world: &World, path: &str) -> Option<String> {
    std::fs::read_to_string(world.path(path)).ok()
}

#[test]
fn tells_what_it_did() {
    let world = world();
    let head = world.object(0, &["status"])["head"].clone();
    let result = world.object(0, &["restore", "HEAD~1"]);
    has_fields(&result, &FIELDS);
    assert_eq!(result["v"], 1);
    let numbers = ["written", "deleted", "bytes"].map(|field| result[field].as_u64());
    assert_eq!(numbers, [Some(1), Some(0), Some(3)], "{result}");
    assert_eq!(result["skipped"], Value::Array(Vec::new()));
    assert_eq!((read(&world, "a").as_deref(), read(&world, "new").as_deref()), (Some("one"), Some("new")));
    // HEAD stays, so the old state is a change against it.
    assert_eq!(world.object(0, &["status"])["head"], head);
    assert_eq!(world.changes(), ["M a"]);
    // By its other name, and back.
    let result = world.object(0, &["checkout"]);
    assert_eq!(result["written"].as_u64(), Some(1), "{result}");
    assert!(result["unchanged"].as_u64().is_some_and(|unchanged| unchanged >= 2), "{result}");
    assert_eq!(world.changes(), Vec::<String>::new());
    assert!(world.ok(&["restore", "HEAD~1"]).starts_with("wrote 1 path"));
    assert_eq!(world.ok(&["-q", "restore"]), "");
}

#[test]
fn delete_and_dry_run() {
    let world = world();
    let before = read_tree(world.root());
    let plan = world.object(0, &["restore", "HEAD~1", "--delete", "--dry-run"]);
    has_fields(&plan, &FIELDS);
    assert_eq!((plan["written"].as_u64(), plan["deleted"].as_u64()), (Some(1), Some(1)), "{plan}");
    assert_same(&before, &read_tree(world.root()), "a dry run");
    let result = world.object(0, &["restore", "HEAD~1", "--delete"]);
    assert_eq!((result["written"].as_u64(), result["deleted"].as_u64()), (Some(1), Some(1)), "{result}");
    assert_eq!(read(&world, "new"), None);
    assert_eq!(world.changes(), ["M a", "D new"]);
}

#[test]
fn what_is_in_no_commit_is_skipped() {
    let world = world();
    world.write("a", "precious");
    let result = world.object(3, &["restore", "HEAD~1"]);
    assert_eq!(result["skipped"], serde_json::json!(["a"]));
    assert_eq!(read(&world, "a").as_deref(), Some("precious"));
    let shown = String::from_utf8(world.run(&["restore"]).stdout).expect("UTF-8");
    assert!(shown.contains("skipped a\n"), "{shown}");
    let result = world.object(0, &["restore", "--force"]);
    assert_eq!(result["skipped"], Value::Array(Vec::new()));
    assert_eq!(read(&world, "a").as_deref(), Some("second"));
    // What is tracked and gone comes back.
    std::fs::remove_dir_all(world.path("d")).expect("it is there");
    world.ok(&["restore"]);
    assert_eq!(read(&world, "d/b").as_deref(), Some("b"));
}

#[test]
fn only_the_paths_named() {
    let world = world();
    world.ok(&["restore", "HEAD~1", "--delete", "--", "new"]);
    assert_eq!((read(&world, "a").as_deref(), read(&world, "new")), (Some("second"), None));
    std::fs::remove_file(world.path("d/b")).expect("it is there");
    world.ok(&["-C", "d", "restore", "--", "b"]);
    assert_eq!(read(&world, "d/b").as_deref(), Some("b"));
    assert_eq!(read(&world, "new"), None);
    is_an_error(&world.fails(2, &["restore", "--", "../outside"]));
}

#[test]
fn to_a_directory() {
    let world = world();
    let other = World::empty();
    let to = other.path("deep/copy");
    let to_text = to.to_str().expect("UTF-8");
    for args in [["--to", to_text].as_slice(), &["--to", to_text, "--fsync"]] {
        drop(std::fs::remove_dir_all(&to));
        std::fs::create_dir_all(other.path("deep")).expect("it can be made");
        let result = world.object(0, &[&["restore"], args].concat());
        has_fields(&result, &FIELDS);
        assert_same(&read_tree(world.root()), &read_tree(&to), "a copy");
    }
    assert_eq!(world.changes(), Vec::<String>::new());
    // Not into one that has something in it.
    let err = world.fails(1, &["restore", "--to", to_text]);
    is_an_error(&err);
    is_an_error(&world.fails(2, &["restore", "--fsync"]));
    is_an_error(&World::repository().fails(1, &["restore"]));
}

/// What a dry run says is what is done, beside as in place; and it neither writes nor waits.
#[test]
fn a_dry_run_of_a_copy() {
    let world = world();
    std::os::unix::fs::symlink("a", world.path("link")).expect("it can be made");
    std::fs::create_dir(world.path("empty")).expect("it can be made");
    world.commit();
    let other = World::empty();
    let to = other.path("copy");
    let to = to.to_str().expect("UTF-8");
    for args in [["restore", "--to", to].as_slice(), &["restore", "HEAD~2", "--to", to, "--", "d"]] {
        let dry = [&["restore", "--dry-run"], &args[1..]].concat();
        let mut plan = world.object(0, &dry);
        has_fields(&plan, &FIELDS);
        assert!(!other.path("copy").exists());
        let shown = world.ok(&dry);
        assert!(shown.contains("write d/b\n") && shown.contains("would write "), "{shown}");
        let mut done = world.object(0, args);
        for result in [&mut plan, &mut done] {
            result.as_object_mut().expect("an object").remove("seconds");
        }
        let steps = plan.as_object_mut().expect("an object").remove("plan").expect("a plan");
        assert_eq!(plan, done);
        assert_eq!(steps.as_array().map(Vec::len), done["written"].as_u64().map(|n| usize::try_from(n).expect("few")));
        std::fs::remove_dir_all(other.path("copy")).expect("it was made");
    }
    // What would be refused is refused.
    other.write("copy/x", "x");
    is_an_error(&world.fails(1, &["restore", "--to", to, "--dry-run"]));
    is_an_error(&world.fails(1, &["restore", "--to", "new", "-n", "--", "missing"]));
    // No lock, and nothing to write on.
    let repo = Repo::open_writer(world.root(), "test", &OpenOptions::default(), &Silent).expect("it opens");
    world.write("a", "mine");
    let plan = world.object(3, &["restore", "-n", "--lock-timeout", "0"]);
    assert_eq!(plan["plan"], serde_json::json!([{"action": "skip", "path": "a"}]));
    drop(repo);
}

#[test]
fn places_that_are_none() {
    let world = world();
    let other = World::empty();
    other.write("file", "x");
    other.write("full/x", "x");
    std::os::unix::fs::symlink("nowhere", other.path("dangling")).expect("it can be made");
    for to in ["file", "full", "dangling", "no/parent"] {
        let to = other.path(to);
        is_an_error(&world.fails(1, &["restore", "--to", to.to_str().expect("UTF-8")]));
    }
    for to in [".filesync/x", ".filesync", "d/../.filesync/refs/x"] {
        let err = world.fails(1, &["restore", "--to", to]);
        is_an_error(&err);
        assert!(err.contains("in the store"), "{err}");
    }
    // Below the working copy it is a directory as any other.
    world.ok(&["restore", "--to", "copy"]);
    assert_eq!(read(&world, "copy/d/b").as_deref(), Some("b"));
    world.ok(&["fsck"]);
}

/// A path that is not there is an error, and not "nothing to do"; a revision in its place is recognised.
#[test]
fn paths_that_are_none() {
    let world = world();
    let before = read_tree(world.root());
    for args in
        [["restore", "--", "missing"].as_slice(), &["restore", "--", "d", "d/missing"], &["restore", "--", "a/b"]]
    {
        let err = world.fails(1, args);
        is_an_error(&err);
        assert!(err.contains("not in that commit"), "{err}");
    }
    world.ok(&["tag", "v1"]);
    for word in ["HEAD~1", "v1"] {
        let err = world.fails(1, &["restore", "--", word]);
        assert!(err.contains(&format!("hint: to name a revision, put it before --: `{word} -- PATH`")), "{err}");
    }
    let err = world.fails(1, &["restore", "HEAD:d"]);
    assert!(err.contains("`HEAD -- d`"), "{err}");
    assert_same(&before, &read_tree(world.root()), "errors");
}

/// With --force what is in no commit goes, and a symlink in a directory's place; untracked files wait for --delete.
#[test]
fn force_and_delete() {
    let world = world();
    std::fs::remove_dir_all(world.path("d")).expect("it is there");
    let elsewhere = World::empty();
    elsewhere.write("b", "precious");
    std::os::unix::fs::symlink(elsewhere.root(), world.path("d")).expect("it can be made");
    world.write("untracked", "mine");
    let result = world.object(3, &["restore"]);
    assert_eq!(result["skipped"], serde_json::json!(["d"]));
    let result = world.object(0, &["restore", "--force"]);
    assert_eq!((result["written"].as_u64(), read(&world, "d/b").as_deref()), (Some(1), Some("b")));
    assert_eq!(read(&elsewhere, "b").as_deref(), Some("precious"));
    assert_eq!(read(&world, "untracked").as_deref(), Some("mine"));
    // In no commit: --delete alone does not take it.
    let result = world.object(3, &["restore", "--delete"]);
    assert_eq!((&result["skipped"], read(&world, "untracked").is_some()), (&serde_json::json!(["untracked"]), true));
    let plan = world.ok(&["restore", "--delete", "--force", "-n"]);
    assert!(plan.starts_with("delete untracked\n"), "{plan}");
    assert_eq!(world.object(0, &["restore", "--delete", "--force"])["deleted"].as_u64(), Some(1));
    assert_eq!(read(&world, "untracked"), None);
    // What is equal is left alone, with its time.
    let time = |path: &str| std::fs::metadata(world.path(path)).and_then(|meta| meta.modified()).expect("a time");
    let file = std::fs::File::options().append(true).open(world.path("a")).expect("it opens");
    file.set_modified(std::time::UNIX_EPOCH).expect("it can be set");
    world.ok(&["restore", "--force", "--delete"]);
    assert_eq!(time("a"), std::time::UNIX_EPOCH);
}
