//! Objects that somebody hostile wrote, and somebody who changes the working copy while it is restored.
//!
//! The objects are put into a store as raw bytes, under their true ids, below a head; then every command that reads
//! runs. Whatever they say: nothing outside of the target changes, nothing hangs, nothing panics.

mod places;
mod random;
mod traps;
mod trees;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use filesync_cas::rows::RowBatch;
use filesync_cas::store::FrameWriter;
use filesync_cas::vfs::RealVfs;
use filesync_cas::{ContentHash, Kind, Place, Store};
use filesync_merkle::testing::raw;
use filesync_merkle::{COMMIT, Commit, CommitId, LIST, MerkleSchema, TREE, Timestamp, Totals, TreeId, TreeLink};
use filesync_tests::model::{Tree, assert_same, read_tree};
use filesync_tests::process::Stop;
use filesync_tests::world::{TempDir, is_long, program, within};

/// What the hostile files hold.
const BYTES: &[u8] = b"hostile bytes";

/// A repository, and beside it what nobody may touch.
struct Ground {
    dir: TempDir,
    before: Tree,
}

impl Ground {
    fn new() -> Self {
        Self::with(&["init"])
    }

    fn with(init: &[&str]) -> Self {
        let dir = TempDir::new();
        for (path, bytes) in [("outside/secret", "secret"), ("outside/x", "x of outside"), ("work/file", "mine")] {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        let place = Self { dir, before: Tree::new() };
        assert_eq!(place.run(init).0, Some(0));
        assert_eq!(place.run(&["commit", "-m", "mine"]).0, Some(0));
        let before = place.outside();
        Self { before, ..place }
    }

    fn work(&self) -> PathBuf {
        self.dir.path().join("work")
    }

    /// All but the working copy, and the files of the store that no command run here may change.
    fn outside(&self) -> Tree {
        let mut tree = read_tree(self.dir.path());
        tree.retain(|path, _| !path.starts_with(b"work") && !path.starts_with(b"to"));
        for name in ["format", "identity", "config.toml"] {
            let bytes = fs::read(self.work().join(".filesync").join(name)).unwrap();
            tree.insert(name.as_bytes().to_vec(), filesync_tests::model::Item::File(0, (0, 0), bytes));
        }
        tree
    }

    /// Runs a command for at most two minutes and in 2 GiB; its status and what it said.
    fn run(&self, args: &[&str]) -> (Option<i32>, String) {
        let mut command = Command::new("prlimit");
        command.arg("--as=2147483648").arg(program()).args(args);
        command.current_dir(self.work()).env_remove("FILESYNC_DIR");
        let mut timed = within(120, &command);
        let err_path = self.dir.path().join("err");
        timed.stdout(Stdio::null()).stderr(fs::File::create(&err_path).unwrap());
        let status = timed.status().expect("timeout runs");
        let err = String::from_utf8_lossy(&fs::read(&err_path).unwrap()).into_owned();
        fs::remove_file(&err_path).unwrap();
        (status.code(), err)
    }

    /// Every command that reads; the statuses of those that have to refuse what is malformed.
    fn run_all(&self, what: &str, is_malformed: bool, all: bool) {
        let to = self.dir.path().join("to");
        let to = to.to_str().unwrap();
        // What a decoder refuses is refused for all alike: some take the few.
        let few: [&[&str]; 3] = [&["ls", "-r"], &["restore", "--to", to], &["restore", "--delete", "--force"]];
        let more: [&[&str]; 7] = [
            &["ls", "-r", "--json"],
            &["status"],
            &["log", "-n", "2"],
            &["restore", "--dry-run"],
            &["restore"],
            &["commit", "-m", "on top"],
            &["fsck"],
        ];
        let commands = few.iter().chain(more.iter().filter(|_| all || is_long()));
        let mut refused = 0;
        for &args in commands {
            let began = Instant::now();
            let (status, err) = self.run(args);
            let what = format!("{what}: {args:?}: {status:?} after {:?}: {err}", began.elapsed());
            assert!(matches!(status, Some(0 | 1 | 3 | 5)), "{what}");
            assert!(!err.contains("internal error"), "{what}");
            assert_same(&self.before, &self.outside(), &what);
            for root in [self.work(), to.into()] {
                assert_no_special_bits(&root, &what);
            }
            refused += u32::from(matches!(status, Some(1 | 5)));
            if is_malformed && (matches!(args[0], "ls" | "fsck") || args.contains(&"--to")) {
                assert!(matches!(status, Some(1 | 5)), "{what}");
            }
            if to_exists(to) {
                fs::remove_dir_all(to).unwrap();
            }
        }
        assert!(!is_malformed || refused >= 2, "{what}: only {refused} commands refused it");
    }

    /// What fsck finds besides signatures, as JSON.
    fn damage_found(&self) -> String {
        let mut command = Command::new(program());
        command.args(["fsck", "--json"]).current_dir(self.work()).env_remove("FILESYNC_DIR");
        let output = within(120, &command).output().expect("timeout runs");
        let value: serde_json::Value = serde_json::from_slice(&output.stdout).expect("fsck prints JSON");
        let damaged = value["damaged"].as_array().expect("a list");
        damaged.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    /// Stores objects and makes a commit of the tree that they end in the head.
    fn plant(&self, parents: &[CommitId], build: impl FnOnce(&mut FrameWriter<'_>) -> TreeLink) -> CommitId {
        let dir = self.work().join(".filesync");
        let vfs = Arc::new(RealVfs::open(&dir).unwrap());
        let place = Place { vfs, index_dir: dir.join("index"), lock_dir: Some(dir) };
        let store = Store::open_writer(place, Arc::new(MerkleSchema), "test", Duration::from_secs(10)).unwrap();
        let session = store.session().unwrap();
        let mut writer = session.writer();
        let tree = build(&mut writer);
        let commit = Commit {
            parents: parents.to_vec(),
            tree,
            time: Timestamp::new(1_700_000_000, 0).unwrap(),
            author: "somebody".to_owned(),
            message: "hostile".to_owned(),
            node: [7; 32],
            signature: [0; 64],
        };
        let id = writer.store(COMMIT, &commit.encode().unwrap()).unwrap();
        writer.flush().unwrap();
        drop(writer);
        session.finish(Some(id), RowBatch::default()).unwrap();
        CommitId(id)
    }
}

fn to_exists(to: &str) -> bool {
    Path::new(to).symlink_metadata().is_ok()
}

/// Files with set-user bits and their like.
fn assert_no_special_bits(root: &Path, what: &str) {
    let mut open = vec![root.to_owned()];
    while let Some(dir) = open.pop() {
        // Paths of a tree that is very deep are longer than the system takes.
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let Ok(meta) = entry.path().symlink_metadata() else { continue };
            assert_eq!(meta.mode() & 0o6000, 0, "{what}: {}", entry.path().display());
            if meta.is_dir() {
                open.push(entry.path());
            }
        }
    }
}

fn put(writer: &mut FrameWriter<'_>, kind: Kind, bytes: &[u8]) -> [u8; 32] {
    *writer.store(kind, bytes).unwrap().as_bytes()
}

fn totals(files: u64, directories: u64, bytes: u64) -> Totals {
    Totals { files, directories, bytes }
}

fn link(id: [u8; 32], height: u8, totals: Totals) -> TreeLink {
    TreeLink { id: TreeId(ContentHash::from_bytes(id)), height, totals }
}

/// A file with [`BYTES`].
fn file(writer: &mut FrameWriter<'_>, name: &[u8]) -> Vec<u8> {
    let chunk = put(writer, Kind::CHUNK, BYTES);
    raw::file(name, 0o644, BYTES.len() as u64, &chunk)
}

fn files(count: u64) -> Totals {
    totals(count, 0, count * BYTES.len() as u64)
}

/// One node of entries, all files as far as the totals go.
fn node(writer: &mut FrameWriter<'_>, entries: &[Vec<u8>]) -> TreeLink {
    let id = put(writer, TREE, &raw::tree(0, entries));
    link(id, 0, files(entries.len() as u64))
}

fn directory(name: &[u8], below: TreeLink) -> Vec<u8> {
    raw::directory(name, 0o755, below.id.0.as_bytes(), below.height, below.totals)
}

/// The totals of a directory with nothing but one directory in it.
fn around(below: TreeLink) -> Totals {
    totals(below.totals.files, below.totals.directories + 1, below.totals.bytes)
}

#[test]
fn hostile_names_are_refused() {
    let mut names: Vec<&[u8]> = vec![b"..", b".", b"a/b", b"../escaped", b"/escaped", b"", b"a\0b"];
    names.extend([b".filesync".as_slice(), b".FILESYNC", b".FileSync", b".filesync ", b".filesync.", b".filesync. ."]);
    let hidden = [".file\u{200c}sync", "\u{feff}.filesync", ".filesync\u{202e}", ".filesync\u{206a} ."];
    names.extend(hidden.iter().map(|name| name.as_bytes()));
    let long = vec![b'n'; 256];
    names.push(&long);
    let place = Ground::new();
    for (number, name) in names.into_iter().enumerate() {
        let what = format!("the name {:?}", String::from_utf8_lossy(name));
        place.plant(&[], |writer| {
            let entry = match number % 3 {
                0 => file(writer, name),
                1 => raw::symlink(name, b"../outside"),
                _ => {
                    let entry = file(writer, b"x");
                    let below = node(writer, &[entry]);
                    directory(name, below)
                }
            };
            let sum = match number % 3 {
                0 => files(1),
                1 => totals(1, 0, 0),
                _ => totals(1, 1, BYTES.len() as u64),
            };
            let id = put(writer, TREE, &raw::tree(0, &[entry]));
            let bad = link(id, 0, sum);
            // Half of them one level down.
            if number % 2 == 0 {
                return bad;
            }
            let id = put(writer, TREE, &raw::tree(0, &[directory(b"sub", bad)]));
            link(id, 0, around(bad))
        });
        place.run_all(&what, true, number < 3);
    }
}

type Build = fn(&mut FrameWriter<'_>) -> TreeLink;

#[test]
fn hostile_nodes_are_refused() {
    let cases: Vec<(&str, Build)> = vec![
        ("a name twice", |w| {
            let entries = [file(w, b"a"), file(w, b"a")];
            node(w, &entries)
        }),
        ("names out of order", |w| {
            let entries = [file(w, b"b"), file(w, b"a")];
            node(w, &entries)
        }),
        ("a symlink and a directory of one name", |w| {
            let entry = file(w, b"x");
            let below = node(w, &[entry]);
            let entries = [raw::symlink(b"a", b"../outside"), directory(b"a", below)];
            let id = put(w, TREE, &raw::tree(0, &entries));
            link(id, 0, totals(2, 1, BYTES.len() as u64))
        }),
        ("a symlink and a path below it", |w| {
            let entries = [raw::symlink(b"a", b"../outside"), file(w, b"a/x")];
            let id = put(w, TREE, &raw::tree(0, &entries));
            link(id, 0, totals(2, 0, BYTES.len() as u64))
        }),
        ("set-user mode", |w| {
            let chunk = put(w, Kind::CHUNK, BYTES);
            node(w, &[raw::file(b"a", 0o4755, BYTES.len() as u64, &chunk)])
        }),
        ("set-group mode", |w| {
            let chunk = put(w, Kind::CHUNK, BYTES);
            node(w, &[raw::file(b"a", 0o2644, BYTES.len() as u64, &chunk)])
        }),
        ("a sticky directory", |w| {
            let entry = file(w, b"x");
            let below = node(w, &[entry]);
            let entry = raw::directory(b"d", 0o1777, below.id.0.as_bytes(), 0, below.totals);
            let id = put(w, TREE, &raw::tree(0, &[entry]));
            link(id, 0, around(below))
        }),
        ("an empty target", |w| node(w, &[raw::symlink(b"a", b"")])),
        ("a target with NUL", |w| node(w, &[raw::symlink(b"a", b"x\0y")])),
        ("a target that is too long", |w| node(w, &[raw::symlink(b"a", &vec![b't'; 4096])])),
        ("wrong totals of a directory", |w| {
            let entry = file(w, b"x");
            let below = node(w, &[entry]);
            let entry = raw::directory(b"d", 0o755, below.id.0.as_bytes(), 0, files(5));
            let id = put(w, TREE, &raw::tree(0, &[entry]));
            link(id, 0, totals(5, 1, 5 * BYTES.len() as u64))
        }),
        ("totals that overflow", |w| {
            let entry = file(w, b"x");
            let below = node(w, &[entry]);
            let large = totals(u64::MAX, u64::MAX, u64::MAX);
            let entry = |name| raw::directory(name, 0o755, below.id.0.as_bytes(), 0, large);
            let id = put(w, TREE, &raw::tree(0, &[entry(b"d"), entry(b"e")]));
            link(id, 0, totals(2, 2, 2))
        }),
        ("wrong totals of the root", |w| {
            let entry = file(w, b"x");
            link(*node(w, &[entry]).id.0.as_bytes(), 0, files(7))
        }),
        ("a wrong height", |w| {
            let entry = file(w, b"x");
            let tree = node(w, &[entry]);
            TreeLink { height: 3, ..tree }
        }),
        ("a cut where none belongs", |w| {
            let (a, b) = (file(w, b"a"), file(w, b"b"));
            let (a, b) = (node(w, &[a]), node(w, &[b]));
            let links =
                [raw::link(b"a", a.id.0.as_bytes(), 1, a.totals), raw::link(b"b", b.id.0.as_bytes(), 1, b.totals)];
            let id = put(w, TREE, &raw::tree(1, &links));
            link(id, 1, files(2))
        }),
        ("a link that lies about its last name", |w| {
            let (a, b) = (file(w, b"a"), file(w, b"c"));
            let (a, b) = (node(w, &[a]), node(w, &[b]));
            let links =
                [raw::link(b"b", a.id.0.as_bytes(), 1, a.totals), raw::link(b"c", b.id.0.as_bytes(), 1, b.totals)];
            let id = put(w, TREE, &raw::tree(1, &links));
            link(id, 1, files(2))
        }),
        ("bytes left over", |w| {
            let mut bytes = raw::tree(0, &[file(w, b"a")]);
            bytes.push(0);
            let id = put(w, TREE, &bytes);
            link(id, 0, files(1))
        }),
        ("a count that is not true", |w| {
            let id = put(w, TREE, &[1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]);
            link(id, 0, files(1))
        }),
        ("a tree that is a chunk", |w| {
            let id = put(w, Kind::CHUNK, &raw::tree(0, &[]));
            link(id, 0, Totals::default())
        }),
        ("a tree that is missing", |_| link([9; 32], 0, Totals::default())),
        ("a commit as a tree", |w| {
            let id = put(w, TREE, &[1; 200]);
            link(id, 0, Totals::default())
        }),
    ];
    let place = Ground::new();
    for (number, (what, build)) in cases.into_iter().enumerate() {
        place.plant(&[], build);
        // One form of one directory: a single node cannot show it, so that only a walk over all of them finds it.
        let is_form = what == "a cut where none belongs";
        assert_ne!(place.damage_found(), "", "{what}: fsck finds nothing");
        place.run_all(what, !is_form, number % 7 == 1);
    }
}

/// Files whose content is not what their entry says: each is refused where its bytes are wanted.
#[test]
fn hostile_files_are_refused() {
    fn listed(w: &mut FrameWriter<'_>, list: &[u8], size: u64, height: u8) -> TreeLink {
        let list = put(w, LIST, list);
        let rest = [&[0; 12], size.to_le_bytes().as_slice(), &[2], &list, &[height]].concat();
        let id = put(w, TREE, &raw::tree(0, &[raw::entry(b"a", 1, 0, 0o644, &rest)]));
        link(id, 0, totals(1, 0, size))
    }
    let cases: Vec<(&str, Build)> = vec![
        ("a size that is not that of the chunk", |w| {
            let chunk = put(w, Kind::CHUNK, BYTES);
            let id = put(w, TREE, &raw::tree(0, &[raw::file(b"a", 0o644, 1000, &chunk)]));
            link(id, 0, totals(1, 0, 1000))
        }),
        ("a chunk that is missing", |w| {
            let id = put(w, TREE, &raw::tree(0, &[raw::file(b"a", 0o644, 1000, &[8; 32])]));
            link(id, 0, totals(1, 0, 1000))
        }),
        ("a chunk that is a tree", |w| {
            let tree = put(w, TREE, &raw::tree(0, &[]));
            let id = put(w, TREE, &raw::tree(0, &[raw::file(b"a", 0o644, 8, &tree)]));
            link(id, 0, totals(1, 0, 8))
        }),
        ("a list of another file's hash", |w| {
            let chunk = put(w, Kind::CHUNK, &BYTES.repeat(100));
            let len = 100 * BYTES.len() as u64;
            listed(w, &raw::list(0, Some((2 * len, [3; 32])), &[(chunk, len), (chunk, len)]), 2 * len, 0)
        }),
        ("a list of one chunk", |w| {
            let chunk = put(w, Kind::CHUNK, &BYTES.repeat(100));
            let len = 100 * BYTES.len() as u64;
            listed(w, &raw::list(0, Some((len, [3; 32])), &[(chunk, len)]), len, 0)
        }),
        ("a list whose lengths are not true", |w| {
            let chunk = put(w, Kind::CHUNK, &BYTES.repeat(100));
            listed(w, &raw::list(0, Some((4000, [3; 32])), &[(chunk, 2000), (chunk, 2000)]), 4000, 0)
        }),
        ("a list that sums to something else", |w| {
            let chunk = put(w, Kind::CHUNK, &BYTES.repeat(100));
            let len = 100 * BYTES.len() as u64;
            listed(w, &raw::list(0, Some((1 << 40, [3; 32])), &[(chunk, len), (chunk, len)]), 1 << 40, 0)
        }),
        ("a list of lists that overflows", |w| {
            let chunk = put(w, Kind::CHUNK, &BYTES.repeat(100));
            let inner = put(w, LIST, &raw::list(0, None, &[(chunk, 1300), (chunk, 1300)]));
            let items = [(inner, u64::MAX), (inner, u64::MAX)];
            listed(w, &raw::list(1, Some((2600, [3; 32])), &items), 2600, 1)
        }),
        ("a list that is cut where none belongs", |w| {
            let chunk = put(w, Kind::CHUNK, &BYTES.repeat(100));
            let inner = put(w, LIST, &raw::list(0, None, &[(chunk, 1300), (chunk, 1300)]));
            let hash = *ContentHash::of_chunk(&BYTES.repeat(400)).as_bytes();
            listed(w, &raw::list(1, Some((5200, hash)), &[(inner, 2600), (inner, 2600)]), 5200, 1)
        }),
    ];
    let place = Ground::new();
    for (what, build) in cases {
        place.plant(&[], build);
        place.run_all(what, false, false);
        // The hash of the whole file and the cuts of its list are the writer's word, until all of it is read.
        let is_word = what == "a list of another file's hash" || what == "a list that is cut where none belongs";
        if !is_word {
            assert_ne!(place.damage_found(), "", "{what}: fsck finds nothing");
        }
        let (status, err) = place.run(&["cat", "HEAD:a"]);
        assert_eq!(status, Some(5), "{what}: cat: {err}");
        let (status, err) = place.run(&["cat", "HEAD:a", "--length", "10"]);
        assert!(matches!(status, Some(0 | 5)), "{what}: cat of a part: {status:?} {err}");
        if what == "a list of another file's hash" {
            assert!(err.is_empty() && status == Some(0), "{what}: {err}");
        }
    }
}

/// Both commits are well-formed: first `a` is a symlink that leads out, then a directory with a file in it.
#[test]
fn hostile_symlinks_are_replaced_and_not_followed() {
    for target in [b"../outside".as_slice(), b".filesync"] {
        let place = Ground::new();
        let what = String::from_utf8_lossy(target);
        let first = place.plant(&[], |w| {
            let id = put(w, TREE, &raw::tree(0, &[raw::symlink(b"a", target)]));
            link(id, 0, totals(1, 0, 0))
        });
        let second = place.plant(&[first], |w| {
            let entries = [file(w, b"format"), file(w, b"secret"), file(w, b"x")];
            let below = node(w, &entries);
            let id = put(w, TREE, &raw::tree(0, &[directory(b"a", below)]));
            link(id, 0, around(below))
        });
        let (first, second) = (first.to_string(), second.to_string());
        for round in 0..2 {
            for (commit, is_link) in [(&first, true), (&second, false)] {
                let (status, err) = place.run(&["restore", commit, "--delete", "--force"]);
                assert_eq!(status, Some(0), "{what}, round {round}: {err}");
                assert_same(&place.before, &place.outside(), &what);
                let a = place.work().join("a");
                assert_eq!(a.is_symlink(), is_link, "{what}");
                assert!(is_link || fs::read(a.join("secret")).unwrap() == BYTES, "{what}");
                // Of single paths below it, too.
                let (status, _) = place.run(&["restore", &second, "--", "a/secret"]);
                assert!(matches!(status, Some(0 | 1 | 3)), "{what}: {status:?}");
                assert_same(&place.before, &place.outside(), &what);
            }
        }
        place.run_all(&what, false, false);
    }
}

/// Ten levels of ten links each to one directory: 10^10 files out of eleven objects.
#[test]
fn hostile_bombs_take_no_time() {
    let place = Ground::new();
    place.plant(&[], |w| {
        let entry = file(w, b"f");
        let mut below = node(w, &[entry]);
        for _ in 0..10 {
            let entries: Vec<_> = (b'0'..=b'9').map(|name| directory(&[name], below)).collect();
            let id = put(w, TREE, &raw::tree(0, &entries));
            let Totals { files, directories, bytes } = below.totals;
            below = link(id, 0, totals(files * 10, directories * 10 + 10, bytes * 10));
        }
        below
    });
    for args in [["fsck", "-q"], ["ls", "HEAD:0/1/2"], ["log", "--json"], ["cat", "HEAD:0/1/2/3/4/5/6/7/8/9/f"]] {
        let began = Instant::now();
        let (status, err) = place.run(&args);
        // Its signature is bad, and that is all.
        let expected = if args[0] == "fsck" { 5 } else { 0 };
        assert_eq!(status, Some(expected), "{args:?} after {:?}: {err}", began.elapsed());
    }
    // What has to name every file goes on for as long as somebody listens, in flat memory.
    let mut child = Command::new("prlimit")
        .arg("--as=2147483648")
        .arg(program())
        .args(["ls", "-r"])
        .current_dir(place.work())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    for _ in 0..100_000 {
        line.clear();
        assert!(std::io::BufRead::read_line(&mut out, &mut line).unwrap() > 0, "it ends after {line}");
    }
    drop(out);
    let status = child.wait().unwrap();
    assert!(!status.success(), "{status}: nobody listened any more");
}

#[test]
fn hostile_depth_is_refused_or_walked() {
    let place = Ground::new();
    let levels = if is_long() { 1_000_000 } else { 10_000 };
    place.plant(&[], |w| {
        let entry = file(w, b"f");
        let mut below = node(w, &[entry]);
        for _ in 0..levels {
            let id = put(w, TREE, &raw::tree(0, &[directory(b"d", below)]));
            below = link(id, 0, around(below));
        }
        below
    });
    let to = place.dir.path().join("to");
    for args in [
        &["fsck"][..],
        &["status"],
        &["restore", "--to", to.to_str().unwrap()],
        &["restore", "--dry-run"],
        &["restore"],
        &["log"],
        &["ls"],
    ] {
        let (status, err) = place.run(args);
        let err: String = err.chars().take(300).collect();
        assert!(matches!(status, Some(0 | 1 | 5)), "{args:?}: {status:?}: {err}");
        assert!(!err.contains("internal error"), "{args:?}: {err}");
        if args[0] == "restore" {
            assert!(matches!(status, Some(1 | 5)), "{args:?}: {status:?}: {err}");
        }
        assert_same(&place.before, &place.outside(), &format!("{args:?}"));
    }
}

/// Somebody swaps directories for symlinks to a directory outside, all the time, while restore runs.
#[test]
fn hostile_swaps_lead_nowhere() {
    let place = Ground::new();
    let work = place.work();
    let dirs = ["d0", "d0/sub", "d1"];
    let mut commits = Vec::new();
    for round in 0..2 {
        for dir in dirs {
            fs::create_dir_all(work.join(dir)).unwrap();
            for n in 0..20 {
                fs::write(work.join(dir).join(format!("f{n}")), format!("round {round} file {n}").repeat(n + 1))
                    .unwrap();
            }
        }
        let (status, err) = place.run(&["commit", "-m", "x"]);
        assert_eq!(status, Some(0), "{err}");
        let head = fs::read_to_string(work.join(".filesync/HEAD")).unwrap();
        commits.push(head.lines().find_map(|line| line.strip_prefix("head ")).unwrap().to_owned());
    }
    let outside = place.dir.path().join("outside");
    fs::create_dir_all(outside.join("sub")).unwrap();
    for n in 0..25 {
        fs::write(outside.join(format!("f{n}")), "not yours").unwrap();
        fs::write(outside.join(format!("sub/f{n}")), "not yours").unwrap();
    }
    let before = read_tree(&outside);
    let links = place.dir.path().join("links");
    fs::create_dir(&links).unwrap();
    let (stop, swaps) = (AtomicBool::new(false), AtomicU64::new(0));
    // Restores, and those that came upon a swap.
    let (mut restores, mut met) = (0, 0);
    std::thread::scope(|scope| {
        let _told = Stop(&stop);
        scope.spawn(|| {
            let link = links.join("l");
            while !stop.load(Ordering::Relaxed) {
                for dir in dirs {
                    let at = work.join(dir);
                    if link.symlink_metadata().is_err() {
                        symlink(&outside, &link).unwrap();
                    }
                    let exchange = || {
                        let cwd = rustix::fs::CWD;
                        rustix::fs::renameat_with(cwd, &at, cwd, &link, rustix::fs::RenameFlags::EXCHANGE).is_ok()
                    };
                    let so_far = swaps.fetch_add(u64::from(exchange()), Ordering::Relaxed);
                    std::thread::sleep(Duration::from_micros(so_far * 37 % 800));
                    let so_far = swaps.fetch_add(u64::from(exchange()), Ordering::Relaxed);
                    // What restore made of the link in between is thrown away.
                    if !link.is_symlink() && link.is_dir() {
                        drop(fs::remove_dir_all(&link));
                    }
                    std::thread::sleep(Duration::from_micros(so_far * 53 % 500));
                }
            }
        });
        let wanted = if is_long() { 60 } else { 6 };
        while restores < 10 * wanted || met < wanted || swaps.load(Ordering::Relaxed) <= 20 {
            assert!(restores < 1000 * wanted, "{swaps:?} swaps, {restores} restores, {met} came upon one");
            let (status, err) = place.run(&["restore", &commits[restores % 2], "--delete", "--force"]);
            assert!(matches!(status, Some(0 | 1 | 3)), "{status:?}: {err}");
            assert!(!err.contains("internal error"), "{err}");
            restores += 1;
            met += usize::from(status != Some(0));
        }
    });
    println!("{swaps:?} swaps, {restores} restores, {met} came upon one");
    assert_same(&before, &read_tree(&outside), "outside");
    // What was left under a temporary name by a swap in the middle is kept beside, and told of, once.
    let (status, err) = place.run(&["restore", &commits[0], "--delete", "--force"]);
    assert!(matches!(status, Some(0 | 3)), "{status:?}: {err}");
    let (status, err) = place.run(&["restore", &commits[0], "--delete", "--force"]);
    assert_eq!(status, Some(0), "{err}");
}
