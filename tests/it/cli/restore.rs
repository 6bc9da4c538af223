//! `restore`.

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
