//! Partial copies: they have some parts of every tree, take the ids of the rest over, and attest nothing.

use filesync_merkle::{Part, RepoPath, lookup};

use super::*;
use crate::parts::{self, Copied};
use crate::request::{CatRequest, DiffRequest, FsckRequest, GcRequest, LsRequest, RestoreRequest, Target};
use crate::{Error, ErrorKind};

/// `one` serves `a/file`, `b/one`, `b/deep/two` and `large`, of which nothing can be compressed.
fn serving() -> (Dir, Node) {
    let dir = founded();
    dir.write("b/one", "one");
    dir.write("b/deep/two", Rng::new(2).bytes(100_000));
    dir.write(".filesyncignore", "*.tmp\n");
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    sync_now(&one);
    (dir, one)
}

fn names(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|it| it.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn status(dir: &Path) -> crate::StatusResult {
    open(dir).status(&Default::default(), &Silent).unwrap()
}

fn fsck(dir: &Path) -> crate::FsckResult {
    open(dir).fsck(&FsckRequest::default(), &Silent).unwrap()
}

fn cat(dir: &Path, path: &str) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let target = Target { rev: None, path: Some(path.as_bytes().to_vec()) };
    open(dir).cat(&CatRequest { target, offset: 0, length: None }, &mut bytes).map(|()| bytes)
}

/// What the head has at a path, by its id; the nodes on the way have to be here.
fn entry(repo: &Repo, path: &str) -> Option<filesync_merkle::Entry> {
    let tree = repo.head_tree().unwrap().unwrap();
    lookup(repo.node_source(), &tree, &RepoPath::parse(path.as_bytes()).unwrap()).unwrap()
}

#[track_caller]
fn all_is_well(dir: &Path) {
    let status = status(dir);
    assert!(status.is_clean(), "{status:?}");
    for _ in 0..2 {
        let checked = fsck(dir);
        assert!(checked.is_clean(), "{:?} {:?}", checked.damaged, checked.findings);
        open(dir).gc(&GcRequest::default(), &Silent).unwrap();
    }
}

#[test]
fn parts_come_and_nothing_else_does() {
    let (_dir, one) = serving();
    let (two, cloned) = join_parts(invite(&one, Role::Writer), "two", &["b"]);
    let path = two.0.join("repo");
    // The rest is 1.5 MB that cannot be compressed.
    let received = cloned.synced.bytes_received;
    assert!((100_000..200_000).contains(&received), "{received}");
    assert!(cloned.not_found.is_empty());
    assert_eq!(names(&path), [".filesync", ".filesyncignore", "b"]);
    assert_eq!(two.read("repo/b/one").as_deref(), Some(&b"one"[..]));
    assert_eq!(two.read("repo/b/deep/two"), Some(Rng::new(2).bytes(100_000)));
    let partial = status(&path).partial.unwrap();
    assert_eq!(partial.paths, [b"b".to_vec()]);
    assert_eq!((partial.absent_files, partial.absent_bytes), (2, 1_500_005));
    all_is_well(&path);
    let number = cloned.node;
    let row = one.core.state().members[&filesync_raft_log::ids::NodeId(number)].clone();
    assert!(row.is_partial);
    let shown = client(&path, peers);
    assert_eq!(shown.iter().find(|peer| peer.node == number).unwrap().holds_head, Some(false));
    one.shutdown();
}

#[test]
fn what_is_absent_is_told() {
    let (_dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b"]);
    let path = two.0.join("repo");
    let repo = open(&path);
    let absent = |result: Result<(), Error>, what: &str| {
        let error = result.expect_err(what);
        assert_eq!(error.kind(), ErrorKind::Absent, "{what}: {error}");
        assert!(error.to_string().contains(what) && error.hint().is_some(), "{error}");
    };
    let paths = |path: &str| vec![path.as_bytes().to_vec()];
    for what in ["a/file", "large"] {
        let target = Target { rev: None, path: Some(what.as_bytes().to_vec()) };
        absent(repo.cat(&CatRequest { target, offset: 0, length: None }, &mut Vec::new()), what);
        let request = RestoreRequest { paths: paths(what), ..RestoreRequest::default() };
        absent(repo.restore(&request, &Silent).map(drop), what);
        let request = DiffRequest { paths: paths(what), ..DiffRequest::default() };
        absent(repo.diff(&request, &Silent, &mut |_| Ok(())), what);
        let request = crate::LogRequest { paths: paths(what), ..crate::LogRequest::default() };
        absent(repo.log(&request, &mut |_| Ok(())), what);
    }
    let request = LsRequest { target: Target::parse(b"HEAD:a").unwrap(), ..LsRequest::default() };
    absent(repo.ls(&request, &mut |_| Ok(())), "a");
    // By name everything on the way is there.
    let mut listed = Vec::new();
    let request = LsRequest { recursive: true, hashes: true, ..LsRequest::default() };
    let visit = &mut |entry: crate::LsEntry| {
        listed.push(String::from_utf8(entry.path).unwrap());
        Ok(())
    };
    repo.ls(&request, visit).unwrap();
    assert_eq!(listed, [".filesyncignore", "a", "b", "b/deep", "b/deep/two", "b/one", "large"]);
    let mut sums = Vec::new();
    let visit = &mut |entry: crate::DuEntry| {
        sums.push((String::from_utf8(entry.path).unwrap(), entry.totals.bytes));
        Ok(())
    };
    repo.du(&crate::DuRequest::default(), visit).unwrap();
    assert_eq!(sums[0], ("a".to_owned(), 5));
    assert_eq!(sums.last().unwrap().1, 1_500_000 + 100_000 + 5 + 3 + 6);
    repo.show(&Default::default(), &Silent, &mut |_| Ok(())).unwrap();
    drop(repo);
    // What is there can be brought back, and nothing else is tried.
    std::fs::remove_dir_all(path.join("b")).unwrap();
    let restored = open(&path).restore(&RestoreRequest::default(), &Silent).unwrap();
    assert_eq!((restored.written, restored.skipped.len(), restored.damaged.len()), (2, 0, 0), "{restored:?}");
    all_is_well(&path);
    one.shutdown();
}

#[test]
fn it_publishes_and_takes_and_merges() {
    let (dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b"]);
    let path = two.0.join("repo");
    // There.
    two.write("repo/b/one", "changed by two");
    two.write("repo/b/new/file", "new");
    let ids = || ["a", "large"].map(|name| entry(&open(&path), name));
    let before = ids();
    let made = open(&path).commit(&CommitRequest::default(), &Silent).unwrap();
    assert_eq!((made.added, made.modified, made.deleted), (1, 1, 0), "{made:?}");
    assert_eq!(ids(), before);
    assert_eq!(client(&path, sync_now).published.len(), 1);
    all_is_well(&path);
    sync_now(&one);
    assert_eq!(dir.read("b/one").as_deref(), Some(&b"changed by two"[..]));
    assert_eq!(dir.read("large"), Some(Rng::new(1).bytes(1_500_000)));
    // And back.
    dir.write("large", Rng::new(9).bytes(1_500_000));
    dir.write("b/deep/two", "short");
    commit(&one.core.repo);
    sync_now(&one);
    let taken = client(&path, sync_now);
    assert!(taken.pulled.len() == 1 && taken.bytes_received < 50_000, "{taken:?}");
    assert_eq!(two.read("repo/b/deep/two").as_deref(), Some(&b"short"[..]));
    all_is_well(&path);
    // And both at once: once apart, once at the same path.
    for same in [false, true] {
        dir.write("a/file", format!("of one, {same}"));
        dir.write("large", Rng::new(10 + u64::from(same)).bytes(1_500_000));
        two.write("repo/b/deep/three", format!("of two, {same}"));
        if same {
            dir.write("b/one", "of one");
            two.write("repo/b/one", "of two");
        }
        commit(&one.core.repo);
        sync_now(&one);
        commit(&open(&path));
        let merged = client(&path, sync_now);
        assert!(merged.merged.is_some() && merged.bytes_received < 50_000, "{merged:?}");
        let conflicts: &[Vec<u8>] = if same { &[b"b/one".to_vec()] } else { &[] };
        assert_eq!(merged.conflicts, conflicts);
        sync_now(&one);
        assert_eq!(dir.read("b/deep/three"), two.read("repo/b/deep/three"));
        assert_eq!(dir.read("large"), Some(Rng::new(10 + u64::from(same)).bytes(1_500_000)));
        assert_eq!(one.core.repo.head(), open(&path).head());
    }
    assert_eq!(names(&dir.0.join("b")), names(&path.join("b")));
    assert!(fsck(&path).is_clean());
    open(&path).gc(&GcRequest::default(), &Silent).unwrap();
    assert!(one.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean());
    one.shutdown();
}

/// What is moved into a part has an id that the base knows, and nothing of it is here.
#[test]
fn what_is_moved_into_a_part_comes() {
    let (dir, one) = serving();
    dir.write("a/more", Rng::new(3).bytes(50_000));
    commit(&one.core.repo);
    sync_now(&one);
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b", "c/d"]);
    let path = two.0.join("repo");
    std::fs::rename(dir.0.join("a"), dir.0.join("b/a")).unwrap();
    commit(&one.core.repo);
    sync_now(&one);
    client(&path, sync_now);
    assert_eq!(two.read("repo/b/a/more"), Some(Rng::new(3).bytes(50_000)));
    all_is_well(&path);
    // Into one that nothing had before.
    std::fs::create_dir(dir.0.join("c")).unwrap();
    std::fs::rename(dir.0.join("large"), dir.0.join("c/d")).unwrap();
    commit(&one.core.repo);
    sync_now(&one);
    client(&path, sync_now);
    assert_eq!(two.read("repo/c/d"), Some(Rng::new(1).bytes(1_500_000)));
    all_is_well(&path);
    // And out of it: what was there goes, and the way with it.
    std::fs::rename(dir.0.join("c/d"), dir.0.join("c/e")).unwrap();
    std::fs::rename(dir.0.join("b"), dir.0.join("x")).unwrap();
    commit(&one.core.repo);
    sync_now(&one);
    client(&path, sync_now);
    assert_eq!((two.read("repo/c/d"), two.read("repo/c/e"), path.join("b").exists()), (None, None, false));
    all_is_well(&path);
    // What was on the way is a file by now: it is outside, and what it replaced is gone.
    dir.write("c/d/x", "in");
    commit(&one.core.repo);
    sync_now(&one);
    client(&path, sync_now);
    assert_eq!(two.read("repo/c/d/x").as_deref(), Some(&b"in"[..]));
    std::fs::remove_dir_all(dir.0.join("c")).unwrap();
    dir.write("c", "a file");
    commit(&one.core.repo);
    sync_now(&one);
    client(&path, sync_now);
    assert!(two.read("repo/c/d/x").is_none() && two.read("repo/c").is_none());
    all_is_well(&path);
    two.write("repo/c/d/x", "mine");
    let error = open(&path).commit(&CommitRequest::default(), &Silent).unwrap_err();
    assert!(error.to_string().contains("cannot commit c:"), "{error}");
    one.shutdown();
}

#[test]
fn what_stands_outside_of_the_parts_keeps_from_committing() {
    let (_dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b/deep", "q/r"]);
    let path = two.0.join("repo");
    all_is_well(&path);
    for (outside, what) in [("new", "new"), ("a/file", "a"), ("b/one", "b/one"), ("q/x/y", "q/x")] {
        two.write(&format!("repo/{outside}"), "x");
        let partial = status(&path).partial.unwrap();
        assert_eq!(partial.outside, [what.as_bytes().to_vec()]);
        assert!(!status(&path).is_clean() && status(&path).changes.is_empty(), "{:?}", status(&path));
        let error = open(&path).commit(&CommitRequest::default(), &Silent).unwrap_err();
        assert!(error.to_string().contains(what) && error.hint().unwrap().contains("b/deep"), "{error}");
        std::fs::remove_file(path.join(outside)).unwrap();
        for dir in ["a", "q/x", "q"] {
            drop(std::fs::remove_dir(path.join(dir)));
        }
    }
    // By the rules of the directories above, which are here.
    two.write("repo/scratch.tmp", "x");
    assert!(status(&path).is_clean());
    // A directory on the way that is no directory any more hides what is not here.
    std::fs::remove_dir_all(path.join("b")).unwrap();
    two.write("repo/b", "a file");
    let error = open(&path).commit(&CommitRequest::default(), &Silent).unwrap_err();
    assert!(error.to_string().contains("cannot commit b:"), "{error}");
    // Without it, the part is gone, and no more than that.
    std::fs::remove_file(path.join("b")).unwrap();
    assert_eq!(status(&path).changes.len(), 1);
    let made = open(&path).commit(&CommitRequest::default(), &Silent).unwrap();
    assert_eq!((made.deleted, made.files), (1, 4), "{made:?}");
    client(&path, sync_now);
    sync_now(&one);
    let repo = &one.core.repo;
    assert!(entry(repo, "b/one").is_some() && entry(repo, "b/deep").is_none() && entry(repo, "a/file").is_some());
    // What nobody had is made with the way to it.
    two.write("repo/q/r/s", "new");
    commit(&open(&path));
    client(&path, sync_now);
    sync_now(&one);
    assert!(entry(repo, "q/r/s").is_some());
    all_is_well(&path);
    one.shutdown();
}

/// Directories on the way have nodes that no part lies in: they are here, so that names can be added to them.
#[test]
fn large_directories_on_the_way() {
    let dir = Dir::new();
    Repo::init(&dir.0, &InitRequest { name: Some("one".to_owned()), ..InitRequest::default() }).unwrap();
    for number in 0..3000 {
        dir.write(&format!("d/{number:04} {}", "x".repeat(100)), format!("{number}"));
    }
    dir.write("d/1500/in", "in");
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    sync_now(&one);
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["d/1500", "d/2999 new"]);
    let path = two.0.join("repo");
    all_is_well(&path);
    for round in 0..3 {
        two.write("repo/d/1500/in", format!("in {round}"));
        two.write("repo/d/2999 new", format!("new {round}"));
        commit(&open(&path));
        for number in (0..3000).step_by(7 + round) {
            dir.write(&format!("d/{number:04} {}", "x".repeat(100)), format!("{number} {round}"));
        }
        dir.write(&format!("d/{round} more"), "more");
        commit(&one.core.repo);
        sync_now(&one);
        let merged = client(&path, sync_now);
        assert!(merged.merged.is_some() && merged.conflicts.is_empty(), "{merged:?}");
        sync_now(&one);
        assert_eq!(dir.read("d/2999 new"), Some(format!("new {round}").into_bytes()));
        all_is_well(&path);
    }
    assert!(one.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean());
    one.shutdown();
}

/// A part that is a file: what both changed stands beside it, as anywhere else.
#[test]
fn a_conflict_copy_of_a_part_is_part_of_it() {
    let (dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b/one"]);
    let path = two.0.join("repo");
    two.write("repo/b/one", "of two");
    commit(&open(&path));
    dir.write("b/one", "of one");
    commit(&one.core.repo);
    sync_now(&one);
    let merged = client(&path, sync_now);
    assert_eq!(merged.conflicts, [b"b/one".to_vec()]);
    let here = names(&path.join("b"));
    assert_eq!(here.len(), 2, "{here:?}");
    let copy = here.iter().find(|name| name.contains(".conflict-two-")).unwrap();
    assert_eq!(two.read(&format!("repo/b/{copy}")).as_deref(), Some(&b"of two"[..]));
    std::fs::remove_file(path.join("b").join(copy)).unwrap();
    commit(&open(&path));
    client(&path, sync_now);
    sync_now(&one);
    assert_eq!(names(&dir.0.join("b")), ["deep", "one"]);
    all_is_well(&path);
    one.shutdown();
}

/// What is missing within a part is damage, and stops a collection; outside of them it is neither.
#[test]
fn what_is_missing_within_a_part_is_damage() {
    let (_dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b"]);
    let path = two.0.join("repo");
    all_is_well(&path);
    let vfs = Arc::clone(open(&path).store.vfs());
    let more = ["a", "b"].map(|path| RepoPath::parse(path.as_bytes()).unwrap());
    Copied::new(&more).unwrap().write(&*vfs).unwrap();
    let checked = fsck(&path);
    assert!(!checked.is_clean() && checked.damaged.iter().any(|it| it.paths.contains(&b"a".to_vec())), "{checked:?}");
    let error = open(&path).gc(&GcRequest::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
    // What the voters have can be had again.
    client(&path, |node| {
        let request = FsckRequest { repair: true, ..FsckRequest::default() };
        let repaired = crate::cluster::heal::fsck(node, &request, &Silent).unwrap();
        assert!(repaired.is_clean(), "{repaired:?}");
    });
    assert_eq!(cat(&path, "a/file").unwrap(), b"first");
    // Without the list it is not opened: everything else would count as deleted.
    std::fs::remove_file(path.join(".filesync").join(parts::PATH)).unwrap();
    let error = Repo::open_reader(&path, &OpenOptions::default(), &Silent).unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("parts: missing")), (ErrorKind::Damage, true), "{error}");
    one.shutdown();
}

#[test]
fn the_same_command_goes_on_and_another_does_not() {
    let (dir, one) = serving();
    let line = invite(&one, Role::Writer);
    let (two, first) = join_parts(line.clone(), "two", &["b/deep", "not/yet"]);
    let path = two.0.join("repo");
    assert_eq!(first.not_found, [b"not/yet".to_vec()]);
    let again = |paths: &[&str]| {
        let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
        let name = Some("two".to_owned());
        let request = CloneRequest { invite: line.clone(), dir: path.clone(), name, paths, timeout: TIME };
        super::super::clone(&request, &OpenOptions::default(), &Silent)
    };
    assert_eq!(again(&["not/yet", "b/deep"]).unwrap().node, first.node);
    for other in [&[][..], &["b"], &["b/deep"]] {
        let error = again(other).unwrap_err();
        assert!(error.to_string().contains("it was begun with other paths"), "{error}");
    }
    for wrong in ["/b", "a//b", "a/../b", "a/."] {
        assert_eq!(again(&[wrong]).unwrap_err().kind(), ErrorKind::Usage, "{wrong}");
    }
    // It comes when somebody publishes it.
    dir.write("not/yet/file", "now");
    commit(&one.core.repo);
    sync_now(&one);
    client(&path, sync_now);
    assert_eq!(two.read("repo/not/yet/file").as_deref(), Some(&b"now"[..]));
    assert_eq!(again(&["not/yet", "b/deep"]).unwrap().not_found, Vec::<Vec<u8>>::new());
    all_is_well(&path);
    one.shutdown();
}

/// Who is to vote has everything.
#[test]
fn it_is_no_candidate() {
    let (_dir, one) = serving();
    let dir = Dir::new();
    let request = CloneRequest {
        invite: invite(&one, Role::Candidate),
        dir: dir.0.join("repo"),
        name: None,
        paths: vec![b"b".to_vec()],
        timeout: TIME,
    };
    let error = super::super::clone(&request, &OpenOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Usage, "{error}");
    assert!(!dir.0.join("repo").exists());
    let (_two, cloned) = join_parts(invite(&one, Role::Writer), "two", &["b"]);
    let request = PeersRequest::Promote { node: cloned.node.to_string(), even: true };
    let error = super::super::members::peers(&one, &request, TIME).unwrap_err();
    assert!(error.to_string().contains("is no candidate"), "{error}");
    one.shutdown();
}

/// What is only here stops a collection though it lies outside of the parts: nobody else has it.
#[test]
fn only_what_is_published_may_be_missing() {
    let (_dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b"]);
    let path = two.0.join("repo");
    let repo = open(&path);
    let roots = crate::roots::Roots::read(&repo).unwrap();
    let missing = crate::absent::may_be_missing(&repo, &roots).unwrap();
    let tree = entry(&repo, "a").unwrap().as_directory().unwrap().id.0;
    assert!(missing.contains(&tree) && missing.len() == 2, "{missing:?}");
    let unpublished = crate::roots::Roots { published: None, ..roots };
    assert!(crate::absent::may_be_missing(&repo, &unpublished).unwrap().is_empty());
    assert_eq!(repo.copied.parts.part(&RepoPath::root()), Part::Some);
    one.shutdown();
}

/// All files below a directory, less the store.
fn files(root: &Path) -> std::collections::BTreeMap<String, Vec<u8>> {
    let mut files = std::collections::BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).unwrap().flatten().filter(|entry| entry.file_name() != ".filesync") {
            match entry.file_type().unwrap().is_dir() {
                true => open.push(entry.path()),
                false => {
                    let name = entry.path().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, std::fs::read(entry.path()).unwrap());
                }
            }
        }
    }
    files
}

/// Writes, removes and moves something below one of some directories.
fn change(root: &Path, rng: &mut Rng, below: &[&str]) {
    let mut pick = || format!("{}/{}", below[rng.index(below.len())], rng.index(6));
    let (from, target) = (root.join(pick()), root.join(pick()));
    match rng.index(5) {
        0 => drop(std::fs::remove_file(&from)),
        1 if from.exists() && !target.exists() => {
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::rename(from, target).unwrap();
        }
        _ => {
            let len = rng.index(3000);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            // A directory may stand there.
            drop(std::fs::write(target, rng.bytes(len)));
        }
    }
}

/// Both sides change what they like: what is in the part is the same on both in the end, and the rest is as the other left it.
#[test]
fn random_histories_of_a_part() {
    let seed = filesync_cas::testing::seed(11);
    let mut rng = Rng::new(seed);
    let (dir, one) = serving();
    let (two, _) = join_parts(invite(&one, Role::Writer), "two", &["b/deep", "c/d"]);
    let path = two.0.join("repo");
    let is_part = |name: &str| name.starts_with("b/deep/") || name.starts_with("c/d/");
    for round in 0..12 {
        let note = format!("seed {seed}, round {round}");
        for _ in 0..rng.index(8) {
            change(&dir.0, &mut rng, &["a", "b", "b/deep", "b/deep/e", "c", "c/d"]);
        }
        for _ in 0..rng.index(8) {
            change(&path, &mut rng, &["b/deep", "b/deep/e", "c/d"]);
        }
        commit(&one.core.repo);
        sync_now(&one);
        let before = files(&dir.0);
        open(&path).commit(&CommitRequest::default(), &Silent).unwrap_or_else(|error| panic!("{note}: {error}"));
        client(&path, sync_now);
        sync_now(&one);
        let (whole, part) = (files(&dir.0), files(&path));
        let only = |of: &std::collections::BTreeMap<String, Vec<u8>>, wanted: bool| {
            let kept = of.iter().filter(|(name, _)| is_part(name) == wanted && !name.ends_with("ignore"));
            kept.map(|(name, bytes)| (name.clone(), bytes.clone())).collect::<Vec<_>>()
        };
        assert_eq!(only(&part, true), only(&whole, true), "{note}");
        assert_eq!(only(&before, false), only(&whole, false), "{note}");
        assert!(only(&part, false).is_empty(), "{note}");
        if rng.index(3) == 0 {
            open(&path).gc(&GcRequest::default(), &Silent).unwrap_or_else(|error| panic!("{note}: {error}"));
        }
        assert!(fsck(&path).is_clean(), "{note}");
    }
    assert!(one.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean(), "seed {seed}");
    one.shutdown();
}
