use std::collections::BTreeMap;
use std::sync::Arc;

use filesync_cas::ContentHash;
use filesync_cas::testing::{Fault, FaultVfs, LossVfs, Plan, Rng, Scope, crash_states, seeds};
use filesync_cas::vfs::TEMP_PREFIX;

use super::*;

fn id(byte: u8) -> CommitId {
    CommitId(ContentHash::from_bytes([byte; 32]))
}

/// A store's directories, with nothing in them.
fn empty() -> LossVfs {
    let vfs = LossVfs::new();
    for dir in ["refs", DIR] {
        vfs.mkdir(Path::new(dir), 0o755).unwrap();
    }
    vfs.sync_all_files().unwrap();
    vfs
}

fn with(tags: &[(&str, u8)]) -> LossVfs {
    let vfs = empty();
    for (name, commit) in tags {
        make(&vfs, name, id(*commit), false, None).unwrap();
    }
    vfs
}

fn all(vfs: &dyn Vfs) -> BTreeMap<String, CommitId> {
    tags(vfs).unwrap().into_iter().collect()
}

fn expect(tags: &[(&str, u8)]) -> BTreeMap<String, CommitId> {
    tags.iter().map(|(name, commit)| ((*name).to_owned(), id(*commit))).collect()
}

/// Directories below the outermost, and files that are no tags.
fn rest(vfs: &dyn Vfs) -> Vec<PathBuf> {
    let (mut open, mut rest) = (vec![PathBuf::from(DIR)], Vec::new());
    while let Some(dir) = open.pop() {
        for (name, kind) in vfs.list(&dir).unwrap() {
            let is_temp = name.to_str().unwrap().starts_with(TEMP_PREFIX);
            let path = dir.join(name);
            if kind == FileKind::Dir {
                open.push(path.clone());
            }
            if is_temp || kind != FileKind::File {
                rest.push(path);
            }
        }
    }
    rest
}

#[test]
fn names_that_can_be_given() {
    for name in ["v1", "v1.0", "a/b/c", "release_2-x", "abc", "deadbeefs", "0.1", "a.b./c.", "head", "mains", "1a/2b"] {
        check_new(name).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let long = "x/".repeat(127) + "xy";
    for (name, why) in [
        ("", "empty"),
        ("HEAD", "something else"),
        ("main", "something else"),
        ("dead", "commit's id"),
        ("DEAD12", "commit's id"),
        (&"0".repeat(64), "commit's id"),
        ("a..b", ".."),
        ("..", ".."),
        ("/a", "/"),
        ("a/", "/"),
        ("a//b", "/"),
        ("-a", "begins with"),
        ("a/-b", "begins with"),
        (".a", "begins with"),
        ("a/.b", "begins with"),
        ("a b", "characters"),
        ("a~1", "characters"),
        ("a:b", "characters"),
        ("ä", "characters"),
        ("a\n", "characters"),
        (&long, "250"),
    ] {
        let error = check_new(name).unwrap_err();
        assert!(error.kind() == ErrorKind::Usage && error.to_string().contains(why), "{name}: {error}");
        assert!(!error.to_string().contains('\n'), "{error}");
    }
}

#[test]
fn a_name_stands_for_a_tag_or_for_a_directory() {
    let vfs = with(&[("a", 1), ("b/c/d", 2)]);
    for (name, other) in [("a/x", "a"), ("a/x/y", "a"), ("b", "b/c/d"), ("b/c", "b/c/d"), ("b/c/d/e", "b/c/d")] {
        for force in [false, true] {
            let error = make(&vfs, name, id(3), force, None).unwrap_err().to_string();
            assert!(error.contains(&format!("there is a tag {other},")), "{name}: {error}");
        }
    }
    make(&vfs, "b/cc", id(3), false, None).unwrap();
    make(&vfs, "b/c-d", id(3), false, None).unwrap();
    assert_eq!(all(&vfs), expect(&[("a", 1), ("b/c-d", 3), ("b/c/d", 2), ("b/cc", 3)]));
    // Once it is gone the other can be.
    delete(&vfs, "b/c/d", None).unwrap();
    make(&vfs, "b/c", id(4), false, None).unwrap();
    delete(&vfs, "a", None).unwrap();
    make(&vfs, "a/x", id(5), false, None).unwrap();
    assert_eq!(all(&vfs), expect(&[("a/x", 5), ("b/c", 4), ("b/c-d", 3), ("b/cc", 3)]));
}

#[test]
fn what_is_there_is_moved_by_force_alone() {
    let vfs = with(&[("v1", 1)]);
    let error = make(&vfs, "v1", id(2), false, None).unwrap_err();
    assert_eq!(error.hint().as_deref(), Some("--force moves it"));
    assert_eq!(all(&vfs), expect(&[("v1", 1)]));
    assert_eq!(make(&vfs, "v1", id(2), true, None).unwrap().was, Some(id(1)));
    assert_eq!(make(&vfs, "v1", id(2), true, None).unwrap().was, None);
    assert_eq!(delete(&vfs, "v1", None).unwrap().commit, Some(id(2)));
    let error = with_hint(&with(&[("v1", 1)]), "v2", Error::new(ErrorKind::NotFound, "x"));
    assert_eq!(error.hint().as_deref(), Some("did you mean v1?"));
    assert_eq!(delete(&vfs, "v1", None).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(delete(&vfs, "no such", None).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_cannot_be_read_is_never_no_tag() {
    let vfs = with(&[("good", 1), ("bad", 2)]);
    replace(&vfs, Path::new("refs/tags/bad"), b"filesync ref 1\n", 0o644).unwrap();
    for error in [tags(&vfs).map(drop), find(&vfs, "bad").map(drop), make(&vfs, "bad", id(3), false, None).map(drop)] {
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Damage);
    }
    // It can be made good, or be removed.
    assert_eq!(make(&vfs, "bad", id(3), true, None).unwrap().was, None);
    assert_eq!(all(&vfs), expect(&[("bad", 3), ("good", 1)]));
    replace(&vfs, Path::new("refs/tags/bad"), b"", 0o644).unwrap();
    assert_eq!(delete(&vfs, "bad", None).unwrap().commit, None);
    assert_eq!(all(&vfs), expect(&[("good", 1)]));
    vfs.symlink("good".as_ref(), Path::new("refs/tags/link")).unwrap();
    assert_eq!(tags(&vfs).unwrap_err().kind(), ErrorKind::Damage);
    let missing = LossVfs::new();
    missing.mkdir(Path::new("refs"), 0o755).unwrap();
    assert_eq!(tags(&missing).unwrap_err().kind(), ErrorKind::Damage);
}

#[test]
fn only_what_was_written_is_read() {
    let vfs = with(&[("a", 7)]);
    let good = read_to_end(&vfs, Path::new("refs/tags/a"), 4096).unwrap();
    assert_eq!(decode(&good), Ok(id(7)));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert!(decode(&bad).is_err() && decode(&good[..at]).is_err(), "byte {at}");
    }
    let other = |lines: &[&str]| {
        let mut file = Builder::new(TITLE);
        lines.iter().for_each(|line| file.line(line));
        decode(&file.finish())
    };
    for lines in [[].as_slice(), &["commit none"], &["commit "], &[&format!("commit {}", id(1)), "more"]] {
        assert!(other(lines).is_err(), "{lines:?}");
    }
}

type Run = fn(&dyn Vfs) -> Result<Tag, Error>;

/// What there is before, what is done, and what there is after.
type Case = (&'static [(&'static str, u8)], Run, &'static [(&'static str, u8)]);

const CASES: [Case; 6] = [
    (&[("o", 9)], |vfs| make(vfs, "t", id(1), false, None), &[("o", 9), ("t", 1)]),
    (&[("o", 9)], |vfs| make(vfs, "a/b/t", id(1), false, None), &[("a/b/t", 1), ("o", 9)]),
    (&[("a/o", 9)], |vfs| make(vfs, "a/b/t", id(1), false, None), &[("a/b/t", 1), ("a/o", 9)]),
    (&[("a/t", 1)], |vfs| make(vfs, "a/t", id(2), true, None), &[("a/t", 2)]),
    (&[("a/b/t", 1), ("o", 9)], |vfs| delete(vfs, "a/b/t", None), &[("o", 9)]),
    (&[("a/b/t", 1), ("a/o", 9)], |vfs| delete(vfs, "a/b/t", None), &[("a/o", 9)]),
];

#[test]
fn power_cuts_leave_the_old_or_the_new_and_what_was_told_stays() {
    for (at, (before, run, after)) in CASES.into_iter().enumerate() {
        let start = with(before);
        start.sync_all_files().unwrap();
        let states = crash_states(
            &start,
            0..60,
            |vfs| run(&*vfs).map(drop),
            |_, told, left| {
                let found = all(&left);
                let is_new = found == expect(after);
                assert!(is_new || (told.is_err() && found == expect(before)), "case {at}: {told:?}: {found:?}");
                // Whatever stands there, the same can be done again, and a tag where a directory was left empty.
                if !is_new {
                    assert!(run(&left).is_ok(), "case {at}");
                }
                assert_eq!(all(&left), expect(after), "case {at}");
            },
        );
        assert!(states > 60 * 4, "case {at}: {states} states");
    }
}

#[test]
fn errors_are_told_and_change_nothing_or_all() {
    for (at, (before, run, after)) in CASES.into_iter().enumerate() {
        let mut failed = 0;
        for call in 1.. {
            let inner = with(before);
            let plan = Plan { scope: Scope::Mutating, at: call, fault: Fault::ErrorOnce(28) };
            let vfs = FaultVfs::with_plan(Arc::new(inner.clone()), plan);
            let told = run(&vfs);
            if !vfs.hit() {
                assert!(failed >= 2, "case {at}: {failed} errors");
                break;
            }
            let found = all(&inner);
            assert!(found == expect(after) || (told.is_err() && found == expect(before)), "case {at}, call {call}");
            if let Err(error) = told {
                failed += 1;
                let message = error.to_string();
                assert!(message.starts_with("cannot ") && message.contains("No space left"), "{message}");
            }
        }
    }
}

#[test]
fn empty_directories_go_with_the_last_tag() {
    let vfs = with(&[("a/b/c/t", 1), ("a/u", 2)]);
    delete(&vfs, "a/b/c/t", None).unwrap();
    assert_eq!(rest(&vfs), [Path::new("refs/tags/a")]);
    delete(&vfs, "a/u", None).unwrap();
    assert_eq!(rest(&vfs), Vec::<PathBuf>::new());
    // Left by a crash, they stand in nobody's way.
    for dir in ["a", "a/b", "a/c", "a/b/d"] {
        vfs.mkdir(&Path::new(DIR).join(dir), 0o755).unwrap();
    }
    make(&vfs, "a", id(1), false, None).unwrap();
    assert_eq!((all(&vfs), rest(&vfs)), (expect(&[("a", 1)]), Vec::new()));
}

#[test]
fn random_histories_agree_with_a_map() {
    let names = ["a", "a/b", "a/b/c", "a/d", "b", "b/a", "c/a/a/a", "c/a/a/b", "c/a"];
    for seed in seeds(0, 200, 5_000) {
        let mut rng = Rng::new(seed);
        let vfs = empty();
        let mut model = BTreeMap::new();
        for step in 0..40 {
            let (name, commit) = (names[rng.index(names.len())], id([1, 2, 3, 4][rng.index(4)]));
            let when = format!("seed {seed}, step {step}, {name}");
            if rng.chance(2, 3) {
                let force = rng.coin();
                let is_free = !model.keys().any(|other: &String| {
                    let (long, short) =
                        if other.len() > name.len() { (other.as_str(), name) } else { (name, other.as_str()) };
                    long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'))
                });
                let allowed = is_free && (force || !model.contains_key(name));
                assert_eq!(make(&vfs, name, commit, force, None).is_ok(), allowed, "{when}");
                if allowed {
                    model.insert(name.to_owned(), commit);
                }
            } else {
                assert_eq!(delete(&vfs, name, None).is_ok(), model.remove(name).is_some(), "{when}");
            }
            assert_eq!(all(&vfs), model, "{when}");
            let needed = |dir: &PathBuf| {
                let dir = dir.strip_prefix(DIR).unwrap();
                model.keys().any(|name| Path::new(name).starts_with(dir))
            };
            assert!(rest(&vfs).iter().all(needed), "{when}: {:?}", rest(&vfs));
        }
    }
}
