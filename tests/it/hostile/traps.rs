//! Trees and stores in which something lies in wait: for whoever keeps all of it in memory, prepares a file under a name
//! that can be foretold, or opens a file by its path.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use filesync_cas::hash::hex;
use filesync_cas::vfs::TEMP_PREFIX;
use filesync_cas::{ContentHash, Kind};
use filesync_merkle::TREE;
use filesync_merkle::testing::raw;
use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::{TempDir, World};

use super::trees::bomb;
use super::{Ground, link, put, totals};

/// 10^10 files out of eleven objects: a command that would have to keep what it does to each of them says so, and neither
/// takes all memory nor is killed.
#[test]
fn hostile_bombs_are_not_kept_in_memory() {
    let place = Ground::new();
    place.plant(&[], bomb);
    for args in [
        ["restore", "--dry-run"].as_slice(),
        &["restore"],
        &["restore", "--delete", "--force"],
        &["status"],
        &["diff", "--name-status"],
        &["commit", "-m", "on top"],
    ] {
        let (status, err) = place.run(args);
        let err: String = err.chars().take(300).collect();
        assert!(matches!(status, Some(0 | 1 | 3)), "{args:?}: {status:?}: {err}");
        assert!(!err.contains("internal error"), "{args:?}: {err}");
        assert_same(&place.before, &place.outside(), &format!("{args:?}"));
    }
}

/// Where a restore prepares the file of a path, in the same directory.
fn temp_name(path: &str) -> String {
    let id = ContentHash::of_metadata("filesync temporary name v1", path.as_bytes());
    format!("{TEMP_PREFIX}{}", hex(&id.as_bytes()[..16]))
}

/// A tree has a file of the name under which another of its files is prepared. It is no tree.
#[test]
fn hostile_temporary_names_are_refused() {
    for (first, second) in [("of both", "of both"), ("of the first", "of the second")] {
        let place = Ground::new();
        let temp = temp_name("x");
        place.plant(&[], |w| {
            let mut entry = |name: &str, bytes: &str| {
                let chunk = put(w, Kind::CHUNK, bytes.as_bytes());
                raw::file(name.as_bytes(), 0o644, bytes.len() as u64, &chunk)
            };
            let entries = [entry(&temp, first), entry("x", second)];
            let id = put(w, TREE, &raw::tree(0, &entries));
            link(id, 0, totals(2, 0, (first.len() + second.len()) as u64))
        });
        let to = place.dir.path().join("to");
        for (args, root) in [
            (["restore", "--to", to.to_str().expect("UTF-8")].as_slice(), to.clone()),
            (["restore", "--delete", "--force"].as_slice(), place.work()),
        ] {
            let (status, err) = place.run(args);
            let read = |name: &str| fs::read_to_string(root.join(name)).ok();
            let (there, other) = (read(&temp), read("x"));
            let what = format!("{args:?}: {status:?}: {err}: {there:?}, {other:?}");
            // Such a tree is damage: nothing of it is written.
            assert_eq!((status, &there, &other), (Some(5), &None, &None), "{what}");
        }
    }
}

/// Names of files that the index may make next, and of those that it has.
fn names_of_the_index(index: &Path, before: &str, after: &str) -> Vec<String> {
    let numbered = (1..200).map(|number| format!("{before}{number:06}{after}"));
    numbered.filter(|name| index.join(name).symlink_metadata().is_err()).collect()
}

/// Links inside of the index, under every name that its database may open for writing: nothing is written over one,
/// and nothing is made where one leads. What cannot be believed is built again.
#[test]
fn hostile_links_within_the_index_lead_nowhere() {
    let template = World::repository();
    for words in ["one", "two"] {
        template.write("a", words);
        template.commit();
    }
    let index = template.path(".filesync/index");
    let mut plots: Vec<Vec<String>> =
        [("MANIFEST-", ""), ("", ".dbtmp"), ("", ".sst"), ("", ".log"), ("OPTIONS-", ".dbtmp")]
            .iter()
            .map(|(before, after)| names_of_the_index(&index, before, after))
            .collect();
    plots.extend(["LOCK", "LOG", "IDENTITY", "CURRENT"].map(|name| vec![name.to_owned()]));
    for names in plots {
        for is_dangling in [false, true] {
            let (world, outside) = (World::copy_of(template.root()), TempDir::new());
            let precious = outside.path().join("precious");
            fs::write(&precious, "precious").expect("it can be written");
            let target = if is_dangling { outside.path().join("nothing") } else { precious };
            for name in &names {
                let at = world.path(".filesync/index").join(name);
                drop(fs::remove_file(&at));
                symlink(&target, &at).expect("it can be made");
            }
            let before = read_tree(outside.path());
            world.write("a", "three");
            for args in [["status"].as_slice(), &["commit", "-m", "third"], &["gc"], &["fsck"]] {
                let ran = world.sane(args);
                let what = format!("{}, dangling: {is_dangling}: {args:?}: {ran:?}", names[0]);
                assert_same(&before, &read_tree(outside.path()), &what);
            }
            // The index is derived: whatever was done to it, nothing is lost.
            world.ok(&["commit", "--allow-empty", "-m", "fourth"]);
            assert_eq!(world.cat("a"), b"three", "{}", names[0]);
        }
    }
}
