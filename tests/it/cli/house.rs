//! `gc`, `forget`, `upgrade`, and `fsck` beyond looking.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::{World, noise};
use serde_json::Value;

use super::{has_fields, is_an_error, is_id, text};

/// So many commits, each with a file of its own content; their ids, the oldest first.
fn history(count: u64) -> (World, Vec<String>) {
    let world = World::repository();
    let commits = (0..count).map(|n| {
        world.write("file", noise(n, 300_000));
        world.write(format!("small/{n}"), n.to_string());
        world.commit()
    });
    let commits = commits.collect();
    (world, commits)
}

fn packs(world: &World) -> Vec<PathBuf> {
    let files = std::fs::read_dir(world.path(".filesync/packs")).expect("there are packs");
    files.map(|file| file.expect("a file").path()).collect()
}

fn write_tag(world: &World, name: &str, commit: &str) {
    let mut file = filesync_cas::small_file::Builder::new("filesync ref 1");
    file.line(&format!("commit {commit}"));
    world.write(format!(".filesync/refs/tags/{name}"), file.finish());
}

fn number(object: &Value, field: &str) -> u64 {
    object[field].as_u64().unwrap_or_else(|| panic!("no number {field}: {object}"))
}

fn expired_in_log(world: &World) -> Vec<bool> {
    world.json(&["log"]).iter().map(|entry| entry["expired"].as_bool().expect("a truth value")).collect()
}

// ---- forget

#[test]
fn forget_expires_by_rule() {
    let (world, commits) = history(5);
    let dry = world.object(0, &["forget", "--keep-last", "2", "--dry-run"]);
    has_fields(&dry, &["v", "expired", "kept"]);
    assert_eq!(dry["v"], 1);
    let expired: Vec<&str> = dry["expired"].as_array().expect("a list").iter().map(text).collect();
    assert_eq!(expired, [&commits[2], &commits[1], &commits[0]], "the newest first");
    assert_eq!(number(&dry, "kept"), 2);
    assert_eq!(expired_in_log(&world), [false; 5], "nothing happened");
    world.ok(&["restore", &commits[0], "--dry-run"]);

    assert_eq!(world.object(0, &["forget", "--keep-last", "2"])["expired"], dry["expired"]);
    assert_eq!(expired_in_log(&world), [false, false, true, true, true]);
    let shown = world.ok(&["log"]);
    assert_eq!(shown.matches(" [expired]\n").count(), 3, "{shown}");
    let again = world.object(0, &["forget", "--keep-last", "2"]);
    assert_eq!((again["expired"].as_array().map(Vec::len), number(&again, "kept")), (Some(0), 2));
    // A laxer rule brings nothing back.
    assert_eq!(number(&world.object(0, &["forget", "--keep-last", "4"]), "kept"), 2);
    assert_eq!(world.ok(&["forget", "--keep-last", "2"]), "0 commits expired, 2 kept\n");
    assert!(
        world.ok(&["forget", "--keep-last", "1"]).starts_with(&format!("expired {}\n1 commit expired", commits[3]))
    );
    assert_eq!(world.ok(&["-q", "forget", "--keep-last", "1"]), "");
}

#[test]
fn forget_needs_a_rule_and_writes() {
    let (world, _) = history(1);
    for args in [
        &["forget"][..],
        &["forget", "--dry-run"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-last", "x"],
        &["forget", "--keep-within", "soon"],
    ] {
        is_an_error(&world.fails(2, args));
    }
    // Before the first commit there is nothing to forget.
    let fresh = World::repository();
    let nothing = fresh.object(0, &["forget", "--keep-last", "1"]);
    assert_eq!((nothing["expired"].as_array().map(Vec::len), number(&nothing, "kept")), (Some(0), 0));
}

#[test]
fn forget_says_what_stays_for_being_published() {
    let (world, _) = history(4);
    let told = || world.ok(&["forget", "--keep-last", "1", "--dry-run"]);
    assert!(!told().contains("published"), "{}", told());
    world.ok(&["sync"]);
    let text = told();
    assert!(text.starts_with("0 commits would expire, 4 kept\n3 commits kept only for being published"), "{text}");
    let result = world.object(0, &["forget", "--keep-last", "1"]);
    assert_eq!((number(&result, "kept"), number(&result, "kept_published")), (4, 3));
}

#[test]
fn forget_within_counts_from_the_head() {
    let (world, commits) = history(3);
    // All are seconds old, as seen from the head, however long ago that was.
    assert_eq!(number(&world.object(0, &["forget", "--keep-within", "1h"]), "kept"), 3);
    assert_eq!(number(&world.object(0, &["forget", "--keep-within", "0s"]), "kept"), 1);
    assert_eq!(expired_in_log(&world), [false, true, true]);
    world.ok(&["restore", &commits[2], "--dry-run"]);
}

/// The head and what has a tag never expire.
#[test]
fn forget_leaves_tags_alone() {
    let (world, commits) = history(4);
    write_tag(&world, "v1", &commits[1]);
    write_tag(&world, "deep/v2", &commits[2]);
    let result = world.object(0, &["forget", "--keep-tagged"]);
    assert_eq!(result["expired"], serde_json::json!([commits[0]]));
    world.ok(&["gc"]);
    let tree = read_tree(world.root());
    for (at, commit) in commits.iter().enumerate().skip(1) {
        assert!(world.restored(commit).contains_key(format!("small/{at}").as_bytes()), "{commit}");
    }
    assert_same(&tree, &world.restored("HEAD"), "the head");
    world.ok(&["fsck"]);
}

/// What has expired is called that, before and after its files are gone.
#[test]
fn expired_is_said() {
    let (world, commits) = history(3);
    world.ok(&["forget", "--keep-last", "1"]);
    let (old, target) = (&commits[0], format!("{}:file", commits[0]));
    for collected in [false, true] {
        if collected {
            world.ok(&["gc"]);
        }
        let to = world.path("elsewhere");
        for args in [
            &["restore", old][..],
            &["restore", "HEAD~2", "--dry-run"],
            &["restore", old, "--to", to.to_str().expect("plain")],
            &["cat", &target],
            &["ls", old],
            &["ls", &target],
        ] {
            let err = world.fails(1, args);
            is_an_error(&err);
            assert!(err.contains("expired"), "{args:?}: {err}");
        }
        assert!(!to.exists());
        // History is all there.
        assert_eq!(world.json(&["log"]).len(), 3);
        assert_eq!(world.json(&["log", old]).len(), 1);
        // Of those that have expired it cannot be told what they changed.
        let touching = world.json(&["log", "--", "file"]);
        assert_eq!(touching.len(), 1, "{touching:?}");
        assert_eq!(touching[0]["commit"], commits[2].as_str());
        world.ok(&["fsck"]);
        world.ok(&["fsck", "--quick"]);
        assert!(world.changes().is_empty());
    }
    world.write("file", "and on");
    world.commit();
    world.ok(&["fsck"]);
}

/// The list names what cannot be found out again: damaged, it is told, and nothing is removed on its word.
#[test]
fn a_damaged_list_of_what_has_expired() {
    let (world, commits) = history(3);
    world.ok(&["forget", "--keep-last", "1"]);
    world.ok(&["gc"]);
    let list = world.path(".filesync/expired");
    let good = std::fs::read_to_string(&list).expect("it is there");
    std::fs::write(&list, good.replace("commit", "commot")).expect("it can be written");
    for args in [&["gc"][..], &["gc", "--dry-run"], &["forget", "--keep-last", "1"]] {
        is_an_error(&world.fails(5, args));
    }
    let fsck = world.object(5, &["fsck"]);
    assert!(fsck["findings"].to_string().contains("expired"), "{fsck}");
    assert_eq!(world.json(&["log"])[1]["expired"], Value::Null, "it cannot be told");
    world.ok(&["cat", "HEAD:small/2"]);
    world.write("more", "more");
    world.commit();
    // Without it, the same rule makes it again.
    std::fs::remove_file(&list).expect("it can be removed");
    is_an_error(&world.fails(5, &["gc"]));
    world.ok(&["forget", "--keep-last", "2"]);
    world.ok(&["gc"]);
    world.ok(&["fsck"]);
    assert!(world.fails(1, &["cat", &format!("{}:file", commits[0])]).contains("expired"));
}

// ---- gc

#[test]
fn gc_frees_what_nothing_needs() {
    let (world, _) = history(5);
    let nothing = world.object(0, &["gc"]);
    has_fields(&nothing, &["v", "live_bytes", "freed_bytes", "packs_rewritten"]);
    assert_eq!(nothing["v"], 1);
    assert_eq!((number(&nothing, "freed_bytes"), number(&nothing, "packs_rewritten")), (0, 0));
    world.ok(&["forget", "--keep-last", "1"]);
    let before = world.packs_len();
    let dry = world.object(0, &["gc", "--dry-run"]);
    assert_eq!(world.packs_len(), before);
    assert!(number(&dry, "freed_bytes") > 1_000_000, "{dry}");
    let tree = read_tree(world.root());
    let done = world.object(0, &["gc"]);
    let freed = before - world.packs_len();
    for (what, told) in [("dry", number(&dry, "freed_bytes")), ("done", number(&done, "freed_bytes"))] {
        assert!(told.abs_diff(freed) < 20_000, "{what}: {told} told, {freed} freed");
    }
    assert_eq!(dry["packs_rewritten"], done["packs_rewritten"]);
    assert!(number(&done, "live_bytes").abs_diff(world.packs_len()) < 20_000, "{done}");
    assert_same(&tree, &world.restored("HEAD"), "what is left");
    assert_same(&tree, &read_tree(world.root()), "the working copy");
    world.ok(&["fsck"]);
    assert_eq!(number(&world.object(0, &["gc"]), "freed_bytes"), 0);
    // What went comes back if it is committed again.
    world.write("file", noise(0, 300_000));
    world.commit();
    assert!(world.cat("file") == noise(0, 300_000));
    world.ok(&["fsck"]);
}

#[test]
fn gc_tells_what_it_did() {
    let (world, _) = history(3);
    assert!(world.ok(&["gc"]).starts_with("freed 0 B, "));
    world.ok(&["forget", "--keep-last", "1"]);
    let told = world.ok(&["gc", "-n"]);
    assert!(told.starts_with("would free ") && told.contains(" rewritten\n"), "{told}");
    let told = world.ok(&["gc"]);
    assert!(told.starts_with("freed ") && told.contains(" are needed: "), "{told}");
    assert_eq!(world.ok(&["-q", "gc"]), "");
    World::repository().ok(&["gc"]);
    is_an_error(&World::empty().fails(1, &["gc"]));
    is_an_error(&world.fails(2, &["gc", "now"]));
}

/// What an amended commit alone had goes; and what a commit left that came to nothing.
#[test]
fn gc_takes_what_was_amended_and_what_failed() {
    let world = World::repository();
    world.write("file", noise(1, 400_000));
    world.commit();
    world.write("file", noise(2, 400_000));
    world.ok(&["commit", "--amend"]);
    let result = world.object(0, &["gc"]);
    assert!(number(&result, "freed_bytes") > 390_000, "{result}");
    world.ok(&["fsck"]);
    assert_eq!(world.json(&["log"]).len(), 1);
    let before = world.packs_len();
    let written = kill_a_commit(&world, before + 2_000_000);
    assert!(written > before + 2_000_000, "it left {written} bytes of packs");
    // Nobody has looked at it yet: the first to do so is gc.
    world.object(0, &["gc"]);
    let after = world.packs_len();
    assert!(after < before + 20_000, "{after} bytes of packs are left, {before} were needed");
    world.ok(&["fsck"]);
    assert_eq!(world.json(&["log"]).len(), 1);
    assert!(world.cat("file") == noise(2, 400_000));
}

/// Kills a commit that would take hours, once it has written so much that the packs are longer than `len`; how long they are then.
fn kill_a_commit(world: &World, len: u64) -> u64 {
    for n in 0..40 {
        world.write(format!("a/{n}"), noise(100 + n, 500_000));
    }
    let huge = std::fs::File::create(world.path("huge")).expect("it can be made");
    huge.set_len(4 << 40).expect("it can be sparse");
    let mut commit = world.command(&["commit", "-m", "long"]).stdout(Stdio::null()).spawn().expect("it starts");
    let end = Instant::now() + Duration::from_secs(120);
    while world.packs_len() <= len {
        assert!(Instant::now() < end, "it writes nothing");
        assert!(commit.try_wait().expect("it can be asked").is_none(), "it has ended by itself");
        std::thread::yield_now();
    }
    commit.kill().expect("it can be killed");
    assert!(!commit.wait().expect("it ends").success(), "it was killed");
    std::fs::remove_dir_all(world.path("a")).expect("it is there");
    std::fs::remove_file(world.path("huge")).expect("it is there");
    world.packs_len()
}

/// A tree that cannot be read might need anything.
#[test]
fn gc_removes_nothing_where_something_is_damaged() {
    let (world, _) = history(4);
    world.ok(&["forget", "--keep-last", "2"]);
    let pack = packs(&world).into_iter().min_by_key(|path| path.metadata().expect("there").len()).expect("packs");
    let good = std::fs::read(&pack).expect("it can be read");
    // The last tree that was written, somewhere in its frame.
    for back in [200, 900] {
        let mut bad = good.clone();
        let at = bad.len() - back;
        bad[at] ^= 0x10;
        std::fs::write(&pack, &bad).expect("it can be written");
        let before = packs(&world).len();
        let err = world.fails(5, &["gc"]);
        is_an_error(&err);
        assert!(err.contains("nothing is removed"), "{err}");
        assert_eq!(packs(&world).len(), before);
    }
    std::fs::write(&pack, &good).expect("it can be written");
    world.ok(&["gc"]);
    world.ok(&["fsck"]);
    // Nor where roots cannot be read.
    std::fs::create_dir_all(world.path(".filesync/refs/tags/x")).expect("made");
    std::fs::write(world.path(".filesync/refs/tags/x/y"), "no tag").expect("written");
    is_an_error(&world.fails(5, &["gc"]));
    std::fs::remove_dir_all(world.path(".filesync/refs/tags")).expect("removed");
    is_an_error(&world.fails(5, &["gc"]));
    std::fs::create_dir(world.path(".filesync/refs/tags")).expect("made");
    std::fs::write(world.path(".filesync/journal"), "no journal").expect("written");
    is_an_error(&world.fails(5, &["gc"]));
    std::fs::remove_file(world.path(".filesync/journal")).expect("removed");
    world.ok(&["gc"]);
}

// ---- upgrade

#[test]
fn upgrade_has_nothing_to_do() {
    let world = World::repository();
    let result = world.object(0, &["upgrade"]);
    assert_eq!((&result["v"], &result["format"], &result["upgraded"]), (&1.into(), &1.into(), &false.into()));
    assert_eq!(world.ok(&["upgrade"]), "the repository has the newest format, version 1\n");
    assert_eq!(world.ok(&["-q", "upgrade"]), "");
    is_an_error(&World::empty().fails(1, &["upgrade"]));
    let format = world.path(".filesync/format");
    let text = std::fs::read_to_string(&format).expect("it can be read");
    let of_the_future = text.replace("filesync 1\n", "filesync 2\n");
    std::fs::write(&format, of_the_future).expect("it can be written");
    is_an_error(&world.fails(1, &["upgrade"]));
}

/// Changes lines of `format`, and leaves it sound.
pub fn rewrite_format(world: &World, change: impl Fn(&str) -> String) {
    let path = world.path(".filesync/format");
    let text = std::fs::read_to_string(&path).expect("it can be read");
    let mut lines = text.lines();
    let mut file = filesync_cas::small_file::Builder::new(lines.next().expect("a first line"));
    lines.filter(|line| !line.starts_with("check ")).for_each(|line| file.line(&change(line)));
    let new = file.finish();
    assert_ne!(new, text.as_bytes(), "nothing changed");
    std::fs::write(&path, new).expect("it can be written");
}

/// Features of later versions, in a file that is sound: what they forbid is refused, without a word of damage.
#[test]
fn words_of_later_versions_are_heeded() {
    let (template, _) = history(2);
    let readers: &[&[&str]] = &[
        &["status"],
        &["log"],
        &["ls", "-r"],
        &["cat", "HEAD:small/1"],
        &["diff"],
        &["show"],
        &["du"],
        &["tag"],
        &["config"],
        &["fsck"],
        &["fsck", "--quick"],
        &["gc", "--dry-run"],
        &["restore", "HEAD~1", "--dry-run", "--force"],
    ];
    let writers: &[&[&str]] = &[
        &["commit", "--allow-empty"],
        &["commit", "--dry-run"],
        &["restore"],
        &["tag", "t"],
        &["config", "set", "node.name", "x"],
        &["gc"],
        &["forget", "--keep-last", "1"],
        &["fsck", "--repair"],
        &["upgrade"],
        &["serve"],
    ];
    for (line, word, may_read) in [("read:", "sealed", false), ("write:", "thin", true)] {
        let world = World::copy_of(template.root());
        rewrite_format(&world, |old| if old == line { format!("{line} {word}") } else { old.to_owned() });
        let store = || {
            let mut tree = read_tree(&world.path(".filesync"));
            let derived: [&[u8]; 5] = [b"daemon", b"index", b"lock", b"readers", b"stamp"];
            tree.retain(|path, _| !derived.iter().any(|name| path.starts_with(name)));
            tree
        };
        let before = store();
        for args in readers {
            let ran = world.sane(args);
            assert_eq!(ran.status, Some(if may_read { 0 } else { 1 }), "{line} {args:?}: {ran:?}");
        }
        for args in writers {
            let err = world.fails(1, args);
            is_an_error(&err);
            assert!(err.contains(&format!("feature \"{word}\"")), "{line} {args:?}: {err}");
        }
        assert_same(&before, &store(), line);
    }
}

// ---- fsck

/// Flips bits in the payloads of some frames of the largest pack; how many bytes.
fn rot(world: &World, places: &[f64]) {
    let pack = packs(world).into_iter().max_by_key(|path| path.metadata().expect("there").len()).expect("packs");
    let mut bytes = std::fs::read(&pack).expect("it can be read");
    for place in places {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
        let at = (bytes.len() as f64 * place) as usize;
        bytes[at] ^= 1;
    }
    std::fs::write(&pack, &bytes).expect("it can be written");
}

#[test]
fn fsck_repairs_from_the_working_copy() {
    let world = World::repository();
    world.write("big", noise(7, 3_000_000));
    world.write("d/small", "small");
    world.write("kept", noise(8, 100_000));
    world.write(".filesyncignore", "ignored\n");
    world.commit();
    rot(&world, &[0.2, 0.5, 0.9]);
    let damaged = world.object(5, &["fsck"]);
    let count = damaged["damaged"].as_array().expect("a list").len() as u64;
    assert!(count >= 3 && number(&damaged, "repaired") == 0, "{damaged}");
    let repaired = world.object(0, &["fsck", "--repair"]);
    assert_eq!(number(&repaired, "repaired"), count, "{repaired}");
    assert_eq!((&repaired["damaged"], &repaired["findings"]), (&Value::Array(Vec::new()), &Value::Array(Vec::new())));
    assert_eq!(repaired["notes"], Value::Array(Vec::new()), "the bad copies are gone: {repaired}");
    assert!(world.cat("big") == noise(7, 3_000_000));
    assert_eq!(world.json(&["log"]).len(), 1, "no commit was made of it");
    let clean = world.object(0, &["fsck"]);
    assert_eq!(clean["notes"], Value::Array(Vec::new()), "{clean}");
    assert!(world.ok(&["fsck", "--repair"]).contains("all is well"));
}

/// What is wrong with a pack and with none of its objects.
#[test]
fn fsck_repairs_packs() {
    let world = World::repository();
    world.write("big", noise(13, 2_000_000));
    world.commit();
    for path in packs(&world) {
        // In the header: all its frames can be made out.
        let mut bytes = std::fs::read(&path).expect("it can be read");
        bytes[20] ^= 1;
        std::fs::write(&path, bytes).expect("it can be written");
    }
    let found = world.object(5, &["fsck"]);
    assert_eq!(found["findings"].as_array().map(Vec::len), Some(2), "{found}");
    let repaired = world.object(0, &["fsck", "--repair"]);
    assert_eq!((&repaired["findings"], &repaired["notes"]), (&Value::Array(Vec::new()), &Value::Array(Vec::new())));
    world.ok(&["fsck"]);
    assert!(world.cat("big") == noise(13, 2_000_000));
}

/// What nobody has any more is left, and named.
#[test]
fn fsck_repairs_what_it_can() {
    let world = World::repository();
    world.write("gone", noise(9, 1_000_000));
    world.write("here", noise(10, 1_000_000));
    world.commit();
    rot(&world, &[0.25, 0.75]);
    std::fs::remove_file(world.path("gone")).expect("it can be removed");
    let result = world.object(5, &["fsck", "--repair"]);
    assert!(number(&result, "repaired") > 0, "{result}");
    let left = result["damaged"].as_array().expect("a list");
    assert!(!left.is_empty(), "{result}");
    for object in left {
        assert!(is_id(&object["id"]) && object["paths"] == serde_json::json!(["gone"]), "{object}");
    }
    assert!(world.cat("here") == noise(10, 1_000_000));
    world.write("gone", noise(9, 1_000_000));
    world.object(0, &["fsck", "--repair"]);
    assert!(world.cat("gone") == noise(9, 1_000_000));
}

/// Trees are made anew from what there is, if that is as it was. The commit itself is in no working copy.
#[test]
fn fsck_repairs_trees() {
    let template = World::repository();
    for n in 0..20 {
        template.write(format!("dir{}/file{n}", n % 4), format!("content {n}"));
    }
    template.commit();
    let tree = read_tree(template.root());
    let (mut repaired, mut left) = (0, 0);
    let class_of = |path: &PathBuf| std::fs::read(path).expect("it can be read")[9];
    for at in [100, 300, 600, 900, 1200] {
        let world = World::copy_of(template.root());
        let pack = packs(&world).into_iter().find(|path| class_of(path) == 2).expect("a pack of metadata");
        let mut bytes = std::fs::read(&pack).expect("it can be read");
        let Some(byte) = bytes.get_mut(at) else { continue };
        *byte ^= 1;
        std::fs::write(&pack, &bytes).expect("it can be written");
        world.object(5, &["fsck"]);
        let ran = world.run(&["--json", "fsck", "--repair"]);
        let told: Value = serde_json::from_slice(&ran.stdout).expect("one object");
        if ran.status.code() == Some(0) {
            repaired += 1;
            assert!(number(&told, "repaired") > 0, "byte {at}: {told}");
            world.ok(&["fsck"]);
            assert_same(&tree, &world.restored("HEAD"), "what was repaired");
        } else {
            left += 1;
            let kinds = told["damaged"].as_array().expect("a list").iter().map(|object| text(&object["kind"]));
            assert_eq!(kinds.collect::<Vec<_>>(), ["commit"], "byte {at}: {told}");
        }
    }
    assert!(repaired + left > 2, "{repaired} repaired, {left} left");
}

#[test]
fn fsck_takes_a_sample() {
    let world = World::repository();
    world.write("big", noise(11, 8_000_000));
    world.commit();
    let all = number(&world.object(0, &["fsck"]), "bytes");
    let mut read = Vec::new();
    for _ in 0..12 {
        read.push(number(&world.object(0, &["fsck", "--sample", "25%"]), "bytes"));
    }
    let sum: u64 = read.iter().sum();
    assert!(sum > all && sum < all * 6, "{read:?} of {all}");
    assert!(read.iter().any(|bytes| *bytes != read[0]), "others each time: {read:?}");
    assert_eq!(number(&world.object(0, &["fsck", "--sample", "100%"]), "bytes"), all);
    // What is damaged is found sooner or later.
    rot(&world, &[0.5]);
    let found = (0..60).any(|_| world.run(&["fsck", "--sample", "30%"]).status.code() == Some(5));
    assert!(found, "never in 60 samples of 30 %");
    for args in [
        &["fsck", "--sample", "5"][..],
        &["fsck", "--sample", "0%"],
        &["fsck", "--sample", "101%"],
        &["fsck", "--quick", "--sample", "5%"],
    ] {
        is_an_error(&world.fails(2, args));
    }
}

/// Garbage is nobody's damage.
#[test]
fn fsck_leaves_garbage_be() {
    let world = World::repository();
    world.write("file", noise(12, 900_000));
    world.commit();
    world.write("file", "another");
    world.ok(&["commit", "--amend"]);
    rot(&world, &[0.5]);
    let result = world.object(0, &["fsck"]);
    assert_eq!((&result["damaged"], &result["findings"]), (&Value::Array(Vec::new()), &Value::Array(Vec::new())));
    assert!(result["notes"][0].as_str().is_some_and(|note| note.contains("nothing that is needed")), "{result}");
    world.object(0, &["fsck", "--quick"]);
    assert!(world.ok(&["fsck"]).contains("note: pack "));
    world.ok(&["gc"]);
    assert_eq!(world.object(0, &["fsck"])["notes"], Value::Array(Vec::new()));
}

/// But nobody is to rely on it: whoever comes to need what fsck found bad stores it anew.
#[test]
fn damaged_garbage_is_nothing_to_build_on() {
    let world = World::repository();
    let bytes = noise(13, 900_000);
    world.write("file", &bytes);
    world.commit();
    world.write("file", "another");
    world.ok(&["commit", "--amend"]);
    rot(&world, &[0.1, 0.5, 0.9]);
    world.object(0, &["fsck"]);
    world.write("file", &bytes);
    world.commit();
    world.object(0, &["fsck"]);
    world.ok(&["restore", "HEAD", "--to", "copy"]);
    assert_eq!(std::fs::read(world.path("copy/file")).expect("it is there"), bytes);
}
