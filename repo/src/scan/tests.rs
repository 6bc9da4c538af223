use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::{fs, io};

use filesync_cas::rows::MemoryRows;
use filesync_merkle::{ChunkId, Content, Entry, Mode as EntryMode, Name, Node, Timestamp, Totals, TreeId, TreeLink};
use rustix::fs::{FileType, Mode, OFlags, mkdirat, mknodat, openat};

use super::testing::{Random, TempDir, path, tick};
use super::*;
use crate::stat_cache::CacheUpdate;

/// Everything that a walk finds, by path; the flag is `ignored`.
#[derive(Debug, Default, PartialEq)]
struct Found {
    entries: BTreeMap<Vec<u8>, (Kind, bool)>,
    skipped: BTreeMap<Vec<u8>, SkipReason>,
    failed: Vec<String>,
}

fn walk(root: &TempDir, options: ScanOptions) -> Found {
    walk_where(root, options, |_| true)
}

fn walk_where(root: &TempDir, options: ScanOptions, mut enter: impl FnMut(&RepoPath) -> bool) -> Found {
    let mut scan = Scan::start(root.fd(), None, options);
    let mut found = Found::default();
    let mut stack = vec![RepoPath::root()];
    while let Some(at) = stack.pop() {
        let mut dir = match scan.dir(&at) {
            Ok(dir) => dir,
            Err(cause) => {
                found.failed.push(cause.to_string());
                continue;
            }
        };
        assert_eq!(dir.path(), &at);
        let mut below = Vec::new();
        let mut last = None;
        while let Some(batch) = dir.next_batch().unwrap() {
            for entry in batch.entries {
                assert!(last.as_ref() < Some(&entry.name), "in order");
                let path = at.join(&entry.name);
                assert_eq!(entry.stat.is_none(), entry.ignored);
                if entry.kind == Kind::Directory && !entry.ignored && enter(&path) {
                    below.push(path.clone());
                }
                found.entries.insert(path.as_bytes().to_vec(), (entry.kind, entry.ignored));
                last = Some(entry.name);
            }
            for skipped in batch.skipped {
                let slash: &[u8] = if at.is_root() { b"" } else { b"/" };
                found.skipped.insert([at.as_bytes(), slash, &skipped.name].concat(), skipped.why);
            }
            found.failed.extend(batch.failed.iter().map(ToString::to_string));
        }
        stack.extend(below.into_iter().rev());
    }
    found
}

fn names(found: &Found) -> Vec<String> {
    found.entries.keys().map(|path| path.escape_ascii().to_string()).collect()
}

#[test]
fn what_is_found_and_what_is_skipped() {
    let root = TempDir::new();
    root.file("file", b"x");
    root.file(b"not utf-8 \xff\xfe", b"x");
    root.file("new\nline", b"x");
    root.file(".hidden/.gitignore", b"*");
    root.dir("empty");
    root.symlink("empty", "link");
    root.symlink("nowhere", "dangling");
    root.dir(".filesync/packs");
    root.dir("nested/.filesync/packs");
    root.file("nested/kept", b"");
    root.file("other/.filesync", b"");
    root.dir("other/.FileSync/x");
    root.file("other/.file\u{200c}sync", b"");
    root.file("other/.filesync..", b"");
    mknodat(root.fd(), "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(root.path("socket")).unwrap();
    let found = walk(&root, ScanOptions::default());
    drop(socket);
    let wanted = [
        (".hidden", Kind::Directory),
        (".hidden/.gitignore", Kind::File),
        ("dangling", Kind::Symlink),
        ("empty", Kind::Directory),
        ("file", Kind::File),
        ("link", Kind::Symlink),
        ("nested", Kind::Directory),
        ("nested/kept", Kind::File),
        ("new\\nline", Kind::File),
        ("not utf-8 \\xff\\xfe", Kind::File),
        ("other", Kind::Directory),
    ];
    let shown: Vec<_> = names(&found).into_iter().zip(found.entries.values().map(|(kind, _)| *kind)).collect();
    assert_eq!(shown, wanted.map(|(name, kind)| (name.to_owned(), kind)));
    assert!(found.failed.is_empty());
    let why = |path: &[u8]| found.skipped.get(path).copied();
    assert_eq!(why(b"fifo"), Some(SkipReason::NotKept));
    assert_eq!(why(b"socket"), Some(SkipReason::NotKept));
    assert_eq!(why(b"nested/.filesync"), Some(SkipReason::NestedRepository));
    for refused in ["other/.filesync", "other/.FileSync", "other/.file\u{200c}sync", "other/.filesync.."] {
        assert!(matches!(why(refused.as_bytes()), Some(SkipReason::Refused(_))), "{refused}");
    }
    assert_eq!(found.skipped.len(), 7);
}

fn random_tree(random: &mut Random, root: &TempDir, count: usize) {
    let mut directories = vec![String::new()];
    for number in 0..count {
        let parent = directories[random.below(directories.len())].clone();
        let path = format!("{parent}{}{number}", random.pick(&["a", "a-", "b.", "B", "\u{e9}"]));
        if random.chance(40) {
            root.dir(&path);
            directories.push(path + "/");
        } else {
            root.file(&path, b"");
        }
    }
}

fn naive(root: &Path, found: &mut BTreeMap<Vec<u8>, (Kind, bool)>, at: &Path) {
    for entry in fs::read_dir(at).unwrap().map(Result::unwrap) {
        let is_dir = entry.file_type().unwrap().is_dir();
        let path = entry.path();
        let kind = if is_dir { Kind::Directory } else { Kind::File };
        found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), (kind, false));
        if is_dir {
            naive(root, found, &path);
        }
    }
}

#[test]
fn threads_and_look_ahead_never_change_the_answer() {
    let mut random = Random::new(5);
    for count in [1, 30, 600] {
        let root = TempDir::new();
        random_tree(&mut random, &root, count);
        let mut wanted = BTreeMap::new();
        naive(root.root(), &mut wanted, root.root());
        for threads in [0, 1, 2, 5] {
            for look_ahead in [0, 1, 50, 1 << 20] {
                assert_eq!(walk(&root, ScanOptions { threads, look_ahead, ..ScanOptions::default() }).entries, wanted);
            }
        }
        // One who leaves out subtrees gets the rest all the same.
        let mut seen = Vec::new();
        let found = walk_where(&root, ScanOptions::default(), |path| {
            let enter = random.chance(60);
            seen.push((path.as_bytes().to_vec(), enter));
            enter
        });
        let left: Vec<_> =
            seen.iter().filter(|(_, enter)| !enter).map(|(path, _)| [path, b"/".as_slice()].concat()).collect();
        wanted.retain(|path, _| !left.iter().any(|left| path.starts_with(left)));
        assert_eq!(found.entries, wanted);
    }
}

#[test]
fn any_order_is_answered() {
    let mut random = Random::new(6);
    let root = TempDir::new();
    random_tree(&mut random, &root, 300);
    root.file(".filesyncignore", b"B*/\n");
    let all = walk(&root, ScanOptions::default());
    let mut tree = BTreeMap::new();
    naive(root.root(), &mut tree, root.root());
    let directories: Vec<_> =
        tree.iter().filter(|(_, (kind, _))| *kind == Kind::Directory).map(|(path, _)| path).collect();
    let mut scan = Scan::start(root.fd(), None, ScanOptions::default());
    for _ in 0..500 {
        let at = RepoPath::parse(directories[random.below(directories.len())]).unwrap();
        let left_out = at.components().any(|name| name.starts_with(b"B"));
        let batch = scan.dir(&at).unwrap().next_batch().unwrap().unwrap();
        for entry in batch.entries {
            assert!(entry.ignored >= left_out, "below what is left out, everything is");
            if !left_out {
                let (kind, ignored) = all.entries[at.join(&entry.name).as_bytes()];
                assert_eq!((entry.kind, entry.ignored), (kind, ignored));
            }
        }
    }
}

#[test]
fn few_descriptors_are_enough() {
    let this = std::env::current_exe().unwrap();
    let status = Command::new("sh")
        .args(["-c", "ulimit -n 64; exec \"$0\" \"$@\" >/dev/null"])
        .arg(this)
        .args(["--exact", "scan::tests::threads_and_look_ahead_never_change_the_answer", "--test-threads=1"])
        .status();
    assert!(status.unwrap().success());
}

fn deep(root: &TempDir, name: &str, levels: usize) -> OwnedFd {
    let mut at = root.fd();
    for _ in 0..levels {
        mkdirat(&at, name, Mode::from_raw_mode(0o755)).unwrap();
        at = openat(&at, name, OFlags::DIRECTORY, Mode::empty()).unwrap();
    }
    at
}

fn remove(root: &TempDir) {
    assert!(Command::new("rm").arg("-rf").arg(root.root()).status().unwrap().success());
}

#[test]
fn paths_longer_than_the_kernel_takes() {
    let root = TempDir::new();
    let name = "n".repeat(200);
    let bottom = deep(&root, &name, 100);
    openat(&bottom, "file", OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644)).unwrap();
    let found = walk(&root, ScanOptions::default());
    assert_eq!(found.entries.len(), 101);
    let (longest, _) = found.entries.last_key_value().unwrap();
    assert_eq!(longest.len(), 100 * 201 + 4);
    let (_, stat) = open_file(root.fd().as_fd(), &RepoPath::parse(longest).unwrap()).unwrap();
    assert_eq!(stat.size, 0);
    remove(&root);
}

#[test]
fn too_many_levels_are_an_error() {
    let root = TempDir::new();
    deep(&root, "d", DEPTH_MAX + 2);
    root.file("e", b"");
    let found = walk(&root, ScanOptions::default());
    remove(&root);
    assert_eq!(found.entries.len(), DEPTH_MAX + 2);
    assert_eq!(found.failed, ["directories are nested more than 4096 levels deep"]);
}

#[test]
fn what_cannot_be_read_is_named() {
    let root = TempDir::new();
    root.file("file", b"");
    root.dir("real");
    root.symlink("real", "link");
    let mut scan = Scan::start(root.fd(), None, ScanOptions::default());
    assert!(scan.dir(&path("gone")).err().unwrap().is_vanished());
    assert!(scan.dir(&path("file")).err().unwrap().is_replaced());
    let cause = scan.dir(&path("link")).err().unwrap();
    assert!(cause.is_replaced());
    assert!(cause.to_string().starts_with("cannot read directory link: "), "{cause}");
    assert!(scan.dir(&path("real")).is_ok());
    if rustix::process::geteuid().is_root() {
        return;
    }
    use std::os::unix::fs::PermissionsExt;
    root.file("closed/x", b"");
    fs::set_permissions(root.path("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    let found = walk(&root, ScanOptions::default());
    fs::set_permissions(root.path("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    assert_eq!(found.failed, ["cannot read directory closed: Permission denied (os error 13)"]);
    assert!(found.entries.contains_key(b"real".as_slice()));
}

/// Somebody swaps a directory with a symlink that leads outside, again and again.
#[test]
fn nothing_outside_is_ever_seen() {
    let outside = TempDir::new();
    outside.file("secret", b"");
    outside.file("sub/secret", b"");
    let root = TempDir::new();
    for number in 0..20 {
        root.file(format!("d/{number}/sub/file"), b"");
    }
    std::os::unix::fs::symlink(outside.root(), root.path("link")).unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                for number in 0..20 {
                    let (dir, away) = (root.path(format!("d/{number}")), root.path("away"));
                    fs::rename(&dir, &away).unwrap();
                    fs::rename(root.path("link"), &dir).unwrap();
                    fs::rename(&dir, root.path("link")).unwrap();
                    fs::rename(&away, &dir).unwrap();
                }
            }
        });
        for _ in 0..300 {
            let found = walk(&root, ScanOptions::default());
            assert!(!found.entries.keys().any(|path| path.ends_with(b"secret")));
        }
        stop.store(true, Ordering::Relaxed);
    });
}

#[test]
fn left_out_but_tracked() {
    let root = TempDir::new();
    root.file(".filesyncignore", b"*.o\nout/\n");
    root.file("out/.filesyncignore", b"!*\n");
    root.file("out/a/b", b"");
    root.file("x.o", b"");
    mknodat(root.fd(), "fifo.o", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let found = walk(&root, ScanOptions::default());
    assert_eq!(names(&found), [".filesyncignore", "out", "x.o"]);
    assert!(found.skipped.is_empty(), "no warning of what is left out");
    let mut scan = Scan::start(root.fd(), None, ScanOptions::default());
    scan.dir(&path("")).unwrap();
    for at in ["out", "out/a"] {
        let batch = scan.dir(&path(at)).unwrap().next_batch().unwrap().unwrap();
        assert!(batch.entries.iter().all(|entry| entry.ignored) && !batch.entries.is_empty());
    }
    let told = explain(root.fd().as_fd(), &path("out/a/b"), false).unwrap().unwrap();
    assert_eq!((told.line, told.rule.as_slice(), told.negated), (2, b"out/".as_slice(), false));
    assert_eq!(explain(root.fd().as_fd(), &path("nothing/here"), false).unwrap(), None);
}

#[test]
fn ignore_files_that_are_no_files() {
    let root = TempDir::new();
    root.dir("a/.filesyncignore");
    root.file("b/rules", b"*");
    root.symlink("rules", "b/.filesyncignore");
    let found = walk(&root, ScanOptions::default());
    assert!(found.failed.is_empty() && found.entries.values().all(|(_, ignored)| !ignored));
}

/// Ignore files come with the trees of others, and their rules are kept in memory.
#[test]
fn ignore_files_have_a_limit() {
    use super::rules::IGNORE_FILE_LEN_MAX;

    let mut file = b"left-out\n".to_vec();
    file.resize(IGNORE_FILE_LEN_MAX, b'#');
    let root = TempDir::new();
    root.file(".filesyncignore", &file);
    root.file("a/.filesyncignore", &file);
    root.file("a/left-out", b"");
    let found = walk(&root, ScanOptions::default());
    assert!(found.failed.is_empty(), "{:?}", found.failed);
    // Together with those above it, one byte is too much.
    root.file("a/b/.filesyncignore", b"x");
    let found = walk(&root, ScanOptions::default());
    assert_eq!(found.failed.len(), 1, "{:?}", found.failed);
    file.push(b'#');
    root.file(".filesyncignore", &file);
    assert_eq!(walk(&root, ScanOptions::default()).failed.len(), 1);
}

// With the stat cache.

fn entry(entry: &ScanEntry) -> Entry {
    let stat = entry.stat.unwrap();
    let node = match entry.kind {
        Kind::Directory => return Entry::directory(stat.permissions(), link(0)),
        Kind::Symlink => {
            Node::Symlink { mtime: stat.mtime, target: vec![b'x'; usize::try_from(stat.size).unwrap()].into() }
        }
        _ if stat.size == 0 => Node::File { mtime: stat.mtime, size: 0, content: Content::Empty },
        _ => {
            let content = Content::Chunk(ChunkId::from_bytes([1; 32]));
            Node::File { mtime: stat.mtime, size: stat.size, content }
        }
    };
    Entry { mode: stat.permissions(), attrs: None, node }
}

fn link(number: u8) -> TreeLink {
    TreeLink { id: TreeId::from_bytes([number; 32]), height: 0, totals: Totals::default() }
}

/// Writes the rows of everything that is there and not left out.
fn fill(root: &TempDir, rows: &Arc<MemoryRows>, stamp: Timestamp) -> StatCache {
    let cache = StatCache::new(rows.clone(), b"s");
    let mut update = CacheUpdate::new(cache.clone(), stamp);
    let mut scan = Scan::start(root.fd(), None, ScanOptions::default());
    let mut stack = vec![RepoPath::root()];
    while let Some(at) = stack.pop() {
        let mut dir = scan.dir(&at).unwrap();
        let mut all = Vec::new();
        while let Some(batch) = dir.next_batch().unwrap() {
            let kept = batch.entries.into_iter().filter(|it| !it.ignored);
            all.extend(kept.map(|it| (it.name.clone(), it.stat.unwrap(), entry(&it))));
        }
        stack.extend(all.iter().filter(|(_, _, it)| it.is_directory()).map(|(name, _, _)| at.join(name)));
        update.replace(&at, Some(link(1)), all).unwrap();
    }
    rows.apply(update.finish());
    cache
}

/// What is not as the cache says: paths, with `-` before those gone and `?` where the link is not known.
fn changed(root: &TempDir, cache: &StatCache) -> Vec<String> {
    let mut scan = Scan::start(root.fd(), Some(cache.clone()), ScanOptions::default());
    let mut changed = Vec::new();
    let mut stack = vec![RepoPath::root()];
    while let Some(at) = stack.pop() {
        let mut dir = scan.dir(&at).unwrap();
        let mut below = Vec::new();
        while let Some(batch) = dir.next_batch().unwrap() {
            let before = changed.len();
            let is_unchanged = batch.is_unchanged();
            changed.extend(batch.gone.iter().map(|name| format!("-{}", at.join(name))));
            for entry in batch.entries {
                let path = at.join(&entry.name);
                if entry.cached.is_none() && !(entry.ignored && entry.stat.is_none()) {
                    changed.push(path.to_string());
                }
                if entry.kind == Kind::Directory && !entry.ignored {
                    below.push(path);
                }
            }
            assert_eq!(is_unchanged, changed.len() == before);
        }
        if dir.link() != Some(link(1)) {
            changed.push(format!("?{at}"));
        }
        stack.extend(below.into_iter().rev());
    }
    changed
}

fn far_future() -> Timestamp {
    Timestamp::new(i64::MAX, 0).unwrap()
}

#[test]
fn changes_are_seen() {
    let root = TempDir::new();
    for file in ["a/1", "a/2", "a/3", "b/4", "b/c/5", "6", "7.o"] {
        root.file(file, b"content");
    }
    root.symlink("6", "link");
    root.file(".filesyncignore", b"*.o\n");
    let rows = Arc::new(MemoryRows::default());
    let cache = fill(&root, &rows, far_future());
    assert!(changed(&root, &cache).is_empty());

    // Same size, same mtime: the ctime tells.
    let times = fs::metadata(root.path("a/1")).unwrap().modified().unwrap();
    tick();
    fs::write(root.path("a/1"), b"CONTENT").unwrap();
    fs::File::options().write(true).open(root.path("a/1")).unwrap().set_modified(times).unwrap();
    fs::remove_file(root.path("a/2")).unwrap();
    root.file("a/new", b"");
    root.file("new.o", b"");
    fs::remove_dir_all(root.path("b/c")).unwrap();
    fs::remove_file(root.path("6")).unwrap();
    root.dir("6");
    let mut now = changed(&root, &cache);
    now.sort();
    assert_eq!(now, ["-a/2", "-b/c", "6", "?6", "a/1", "a/new"]);
}

#[test]
fn a_tracked_file_that_is_left_out_now() {
    let root = TempDir::new();
    root.file("x.o", b"x");
    let rows = Arc::new(MemoryRows::default());
    let cache = fill(&root, &rows, far_future());
    root.file(".filesyncignore", b"*.o\n");
    assert_eq!(changed(&root, &cache), [".filesyncignore"]);
    root.file("x.o", b"longer");
    assert_eq!(changed(&root, &cache), [".filesyncignore", "x.o"]);
}

#[test]
fn nothing_is_clean_that_is_as_young_as_the_stamp() {
    let root = TempDir::new();
    root.file("old", b"x");
    let stamp = Stat::from(&rustix::fs::fstat(fs::File::open(root.path("old")).unwrap()).unwrap()).ctime;
    let rows = Arc::new(MemoryRows::default());
    let cache = fill(&root, &rows, stamp);
    assert_eq!(changed(&root, &cache), ["old"]);
    let cache = fill(&root, &rows, far_future());
    assert!(changed(&root, &cache).is_empty());
}

#[test]
fn large_directories_come_in_batches() {
    let root = TempDir::new();
    root.dir("d");
    for number in 0..10_000 {
        fs::write(root.path(format!("d/{number:05}")), b"").unwrap();
    }
    for number in [5, 4095, 4096, 9000] {
        root.dir(format!("d/{number:05}-sub/x"));
    }
    let rows = Arc::new(MemoryRows::default());
    let cache = fill(&root, &rows, far_future());
    for threads in [0, 2] {
        let found = walk(&root, ScanOptions { threads, look_ahead: 100, ..ScanOptions::default() });
        assert_eq!(found.entries.len(), 1 + 10_000 + 8);
    }
    assert!(changed(&root, &cache).is_empty());
    fs::remove_file(root.path("d/04096")).unwrap();
    fs::remove_file(root.path("d/09999")).unwrap();
    fs::write(root.path("d/07000"), b"x").unwrap();
    root.file("d/00000-", b"");
    let mut now = changed(&root, &cache);
    now.sort();
    assert_eq!(now, ["-d/04096", "-d/09999", "d/00000-", "d/07000"]);
    // A row that is lost takes the link with it.
    let mut key = b"sd\0\0".to_vec();
    key.extend_from_slice(b"08");
    let mut lost = filesync_cas::rows::RowBatch::default();
    use filesync_cas::rows::Rows;
    rows.scan(&key, b"sd\0\x01", &mut |key, _| {
        lost.delete(key);
        std::ops::ControlFlow::Break(())
    })
    .unwrap();
    rows.apply(lost);
    let mut scan = Scan::start(root.fd(), Some(cache), ScanOptions::default());
    let mut dir = scan.dir(&path("d")).unwrap();
    assert!(dir.link().is_some());
    while dir.next_batch().unwrap().is_some() {}
    assert!(dir.link().is_none());
}

// Reading.

#[test]
fn only_regular_files_are_opened() {
    let root = TempDir::new();
    root.file("dir/file", b"12345");
    root.symlink("dir/file", "link");
    root.symlink("dir", "dirlink");
    mknodat(root.fd(), "fifo", FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(root.path("socket")).unwrap();
    let fd = root.fd();
    let open = |at: &str| open_file(fd.as_fd(), &path(at));
    assert_eq!(open("dir/file").unwrap().1.size, 5);
    for not_a_file in ["dir", "fifo", "socket"] {
        assert_eq!(open(not_a_file).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{not_a_file}");
    }
    assert!(open("link").is_err() && open("dirlink/file").is_err());
    let (target, stat) = read_link(fd.as_fd(), &path("link")).unwrap();
    assert_eq!((target.as_slice(), stat.kind, stat.size), (b"dir/file".as_slice(), Kind::Symlink, 8));
    assert_eq!(read_link(fd.as_fd(), &path("dir/file")).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    assert_eq!(stat.permissions(), EntryMode::SYMLINK);
}

#[test]
fn extended_attributes() {
    use rustix::fs::{XattrFlags, fsetxattr};
    let root = TempDir::new();
    root.file("file", b"");
    root.file("plain", b"");
    let (file, _) = open_file(root.fd().as_fd(), &path("file")).unwrap();
    let many: Vec<String> = (0..40).map(|number| format!("user.{number:030}")).collect();
    if fsetxattr(&file, "user.b", &[1; 2000], XattrFlags::empty()).is_err() {
        return; // The file system of temporary files has no such thing.
    }
    fsetxattr(&file, "user.a", b"", XattrFlags::empty()).unwrap();
    let found = user_xattrs(file.as_fd()).unwrap();
    assert_eq!(found, [(b"user.a".to_vec(), vec![]), (b"user.b".to_vec(), vec![1; 2000])]);
    for name in &many {
        fsetxattr(&file, name.as_str(), b"v", XattrFlags::empty()).unwrap();
    }
    assert_eq!(user_xattrs(file.as_fd()).unwrap().len(), 42);
    let (plain, _) = open_file(root.fd().as_fd(), &path("plain")).unwrap();
    assert_eq!(user_xattrs(plain.as_fd()).unwrap(), []);
}

#[test]
fn holes() {
    use std::os::unix::fs::FileExt;
    let root = TempDir::new();
    let file = fs::File::create_new(root.path("sparse")).unwrap();
    file.set_len(10 << 20).unwrap();
    file.write_at(b"data", 4 << 20).unwrap();
    let ranges = data_ranges(&file, 10 << 20).unwrap();
    let covered: u64 = ranges.iter().map(|range| range.end - range.start).sum();
    assert!(ranges.iter().any(|range| range.contains(&(4 << 20))) && covered <= 10 << 20);
    assert_eq!(data_ranges(&file, 0).unwrap(), []);
    root.file("full", &[1; 100_000]);
    let full = data_ranges(fs::File::open(root.path("full")).unwrap(), 100_000).unwrap();
    assert!(full.iter().eq(std::iter::once(&(0..100_000))));
    let name = Name::new(b"sparse").unwrap();
    let (_, stat) = open_file(root.fd().as_fd(), &RepoPath::from(name)).unwrap();
    assert_eq!(stat.may_have_holes(), covered < 10 << 20);
}
