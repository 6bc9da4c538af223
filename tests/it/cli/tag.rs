//! `tag`.

use filesync_tests::world::World;
use serde_json::{Value, json};

use super::{has_fields, is_an_error, text};

/// Three commits, oldest first.
fn world() -> (World, Vec<String>) {
    let world = World::repository();
    let commit = |number: u32| {
        world.write("a", format!("{number}"));
        world.commit()
    };
    let ids = (0..3).map(commit).collect();
    (world, ids)
}

fn tags(world: &World) -> Vec<(String, String)> {
    let lines = world.json(&["tag"]);
    lines.iter().map(|line| (text(&line["name"]).to_owned(), text(&line["commit"]).to_owned())).collect()
}

#[test]
fn made_listed_and_removed() {
    let (world, ids) = world();
    assert_eq!(world.ok(&["tag"]), "");
    assert!(world.json(&["tag"]).is_empty());
    let made = world.object(0, &["tag", "v1"]);
    has_fields(&made, &["v", "name", "commit"]);
    assert_eq!(made, json!({"v": 1, "name": "v1", "commit": ids[2]}));
    assert_eq!(world.ok(&["tag", "old/first", "HEAD~2"]), format!("tag old/first: {}\n", &ids[0][..12]));
    assert_eq!(world.ok(&["-q", "tag", "old/second", &ids[1][..10]]), "");
    let all = [("old/first", &ids[0]), ("old/second", &ids[1]), ("v1", &ids[2])];
    let all: Vec<_> = all.into_iter().map(|(name, id)| (name.to_owned(), id.clone())).collect();
    assert_eq!(tags(&world), all);
    assert_eq!(world.ok(&["tag"]), "old/first\nold/second\nv1\n");
    assert_eq!(world.ok(&["-q", "tag"]), "old/first\nold/second\nv1\n");
    assert!(world.ok(&["tag", "-v"]).contains(&format!("v1          {}\n", &ids[2][..12])));
    // They are revisions.
    assert_eq!(world.run(&["cat", "old/first:a"]).stdout, b"0");
    assert_eq!(world.run(&["cat", "v1~1:a"]).stdout, b"1");
    let log = world.json(&["log"]);
    assert_eq!(log[0]["refs"], json!(["HEAD", "v1"]));
    assert_eq!(log[2]["refs"], json!(["old/first"]));

    assert_eq!(
        world.ok(&["tag", "--delete", "old/second"]),
        format!("removed tag old/second, was {}\n", &ids[1][..12])
    );
    let removed = world.object(0, &["tag", "-d", "old/first"]);
    assert_eq!(removed, json!({"v": 1, "name": "old/first", "commit": ids[0]}));
    assert!(!world.path(".filesync/refs/tags/old").exists());
    assert_eq!(world.ok(&["tag"]), "v1\n");
    world.ok(&["fsck"]);
}

#[test]
fn one_that_is_there_is_moved_by_force_alone() {
    let (world, ids) = world();
    world.ok(&["tag", "t", "HEAD~1"]);
    let err = world.fails(1, &["tag", "t"]);
    is_an_error(&err);
    assert!(err.contains("already") && err.contains("hint: --force"), "{err}");
    assert_eq!(tags(&world), [("t".to_owned(), ids[1].clone())]);
    let moved = world.object(0, &["tag", "--force", "t"]);
    assert_eq!(moved, json!({"v": 1, "name": "t", "commit": ids[2], "was": ids[1]}));
    assert!(world.ok(&["tag", "-f", "t", "HEAD~2"]).contains(&format!("was {}", &ids[2][..12])));
    // Where it stays there is nothing to tell.
    assert!(world.object(0, &["tag", "-f", "t", "HEAD~2"]).get("was").is_none());
    world.ok(&["tag", "-f", "new"]);
}

#[test]
fn what_is_no_name() {
    let (world, _) = world();
    for name in
        ["HEAD", "main", "dead", "0123456789", "..", "a..b", "-x", ".x", "a/.x", "a/-x", "a b", "a~1", "/a", "a/", ""]
    {
        let err = world.fails(2, &["tag", "--", name]);
        is_an_error(&err);
        assert!(err.contains("cannot name a tag"), "{name}: {err}");
    }
    is_an_error(&world.fails(2, &["tag", "new\nline"]));
    for args in
        [["tag", "--delete"].as_slice(), &["tag", "--force"], &["tag", "-d", "a", "HEAD"], &["tag", "a", "b", "c"]]
    {
        is_an_error(&world.fails(2, args));
    }
    world.ok(&["tag", "a"]);
    for args in [["tag", "a/b"], ["tag", "a/b/c"]] {
        let err = world.fails(1, &args);
        is_an_error(&err);
        assert!(err.contains("there is a tag a,"), "{err}");
    }
    world.ok(&["tag", "-d", "a"]);
    world.ok(&["tag", "a/b"]);
    assert!(world.fails(1, &["tag", "a", "-f"]).contains("there is a tag a/b,"));
    // What is not there.
    let err = world.fails(1, &["tag", "--delete", "a/c"]);
    is_an_error(&err);
    assert!(err.contains("no tag of that name") && err.contains("did you mean a/b?"), "{err}");
    is_an_error(&world.fails(1, &["tag", "x", "nothing"]));
    assert!(world.fails(1, &["tag", "x", "a"]).contains("`-- a`"));
    assert_eq!(world.ok(&["tag"]), "a/b\n");
    is_an_error(&World::repository().fails(1, &["tag", "x"]));
}

#[test]
fn a_damaged_one_is_told_and_can_be_replaced() {
    let (world, ids) = world();
    world.ok(&["tag", "good"]);
    world.ok(&["tag", "bad"]);
    world.write(".filesync/refs/tags/bad", "filesync ref 1\n");
    for args in [["tag"].as_slice(), &["log", "bad"], &["tag", "bad"]] {
        let err = world.fails(5, args);
        is_an_error(&err);
        assert!(err.contains("refs/tags/bad: damaged"), "{args:?}: {err}");
    }
    assert_eq!(world.run(&["fsck"]).status.code(), Some(5));
    let removed = world.object(0, &["tag", "--delete", "bad"]);
    assert_eq!(removed["commit"], Value::Null);
    world.ok(&["fsck"]);
    world.write(".filesync/refs/tags/good", "");
    world.ok(&["tag", "--force", "good", "HEAD~1"]);
    assert_eq!(tags(&world), [("good".to_owned(), ids[1].clone())]);
    world.ok(&["fsck"]);
}

/// What a crash left in a directory of tags goes with the next command that writes.
#[test]
fn leftovers_go() {
    let (world, _) = world();
    world.ok(&["tag", "a/b"]);
    let left = ".filesync/refs/tags/a/.filesync-tmp-00112233445566778899aabbccddeeff";
    world.write(left, "half");
    assert_eq!(world.ok(&["tag"]), "a/b\n");
    world.ok(&["tag", "--delete", "a/b"]);
    assert!(!world.path(".filesync/refs/tags/a").exists());
}

#[test]
fn two_writers_wait_for_each_other() {
    let (world, _) = world();
    let mut children: Vec<_> = (0..8)
        .map(|number| world.command(&["-q", "tag", &format!("dir/{number}")]).spawn().expect("the program runs"))
        .collect();
    assert!(children.iter_mut().all(|child| child.wait().expect("it ends").success()));
    assert_eq!(world.ok(&["tag"]).lines().count(), 8);
}
