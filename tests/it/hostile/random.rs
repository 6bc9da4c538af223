//! Random trees, most of them with something wrong in them, written raw and read by everything that reads trees.
//!
//! Each tree is made from its own seed and kept twice: in the store of a repository, and in memory, where the walk of
//! fsck looks at it. Whatever it says: no panic, nothing outside of the target, no special bits. What fsck finds nothing
//! wrong with must come back whole; what cannot be listed must be called damage.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::rows::RowBatch;
use filesync_cas::store::FrameWriter;
use filesync_cas::testing::Rng;
use filesync_cas::vfs::RealVfs;
use filesync_cas::{ChunkSizes, Chunker, ContentHash, Kind, Place, Store};
use filesync_merkle::testing::{MemoryStore, raw};
use filesync_merkle::{
    ATTRS, COMMIT, ChunkId, Commit, LIST, MerkleSchema, RepoPath, TREE, Timestamp, Totals, TreeLink, Walk, WalkError,
    WalkVisitor,
};
use filesync_repo::{
    EntryKind, Error, ErrorKind, LsEntry, LsRequest, OpenOptions, Repo, RestoreRequest, RestoreResult, Silent,
    StatusRequest, Target,
};
use filesync_tests::model::{Tree, assert_same, read_tree};
use filesync_tests::world::{is_long, seed};

use super::{Ground, link, totals};

/// Trees that one repository gets.
const FIELD: u64 = 1000;

const NAMES: [&[u8]; 10] = [b"a", b"b", b"c", b"A", b"a b", b"\xff", b"-x", b"caf\xc3\xa9", b"cafe\xcc\x81", b"z.txt"];

const BAD_NAMES: [&[u8]; 16] = [
    b"..",
    b".",
    b"",
    b"a/b",
    b"/",
    b"../x",
    b"/tmp/x",
    b"a\0b",
    b".filesync",
    b".FileSync",
    b".filesync. .",
    b"\xef\xbb\xbf.filesync",
    b".file\xe2\x80\x8dsync",
    b"..\0",
    b"a/../../x",
    &[b'n'; 256],
];

const TARGETS: [&[u8]; 6] = [b"../outside", b"/etc/passwd", b"..", b".filesync", b"a", b"../../../../tmp"];

/// Both places that a tree is put into.
struct Sower<'a, 's> {
    rng: Rng,
    writer: &'a mut FrameWriter<'s>,
    memory: &'a MemoryStore,
    chunks: HashSet<ContentHash>,
    /// Of every kind some, to be named where another is wanted.
    ids: Vec<[u8; 32]>,
    /// How many entries and nodes there may still be.
    left: u32,
}

impl Sower<'_, '_> {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> [u8; 32] {
        let id = match self.writer.store(kind, bytes) {
            Ok(id) => id,
            // What is larger than its kind may be is stored nowhere.
            Err(_) => return [7; 32],
        };
        if kind == Kind::CHUNK {
            self.chunks.insert(id);
        } else {
            assert_eq!(self.memory.insert(kind, bytes), id);
        }
        self.ids.push(*id.as_bytes());
        *id.as_bytes()
    }

    /// Now and then.
    fn slip(&mut self) -> bool {
        self.rng.chance(1, 60)
    }

    fn any_id(&mut self) -> [u8; 32] {
        match self.ids.len() {
            0 => [9; 32],
            len => self.ids[self.rng.index(len)],
        }
    }

    fn number(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => 0,
            1 => u64::MAX - self.rng.below(3),
            2 => self.rng.next_u64(),
            _ => self.rng.below(100_000),
        }
    }

    fn any_totals(&mut self) -> Totals {
        totals(self.number(), self.number(), self.number())
    }

    /// The part of a file's entry behind its mode, and its size.
    fn file(&mut self) -> (Vec<u8>, u64) {
        let nanos = if self.slip() { u32::MAX } else { 5 };
        let mut rest = [5_i64.to_le_bytes().as_slice(), &nanos.to_le_bytes()].concat();
        let len = 1 + self.rng.index(40);
        let (mut content, mut size, mut id) = (1_u8, len as u64, [0; 32]);
        let mut height = 0_u8;
        match self.rng.below(5) {
            0 => (content, size) = (0, 0),
            1 => {
                // Cut as everybody cuts: what was cut otherwise is another file once it has been restored.
                let bytes = Rng::new(self.rng.below(20)).bytes(5000);
                let mut lens = Vec::new();
                Chunker::new(ChunkSizes::from_average(4 << 10).unwrap()).cut(&bytes, true, |len| lens.push(len));
                let mut at = 0;
                let mut chunks = Vec::new();
                for len in lens {
                    chunks.push((self.put(Kind::CHUNK, &bytes[at..at + len]), len as u64));
                    at += len;
                }
                size = bytes.len() as u64;
                let hash = if self.slip() { [3; 32] } else { *ContentHash::of_chunk(&bytes).as_bytes() };
                let whole = if self.slip() { self.number() } else { size };
                id = self.put(LIST, &raw::list(0, Some((whole, hash)), &chunks));
                content = 2;
                height = u8::from(self.slip());
            }
            _ => id = self.put(Kind::CHUNK, &vec![b'0' + u8::try_from(len % 10).unwrap(); len]),
        }
        if self.slip() {
            size = self.number();
        }
        if self.slip() {
            content = u8::try_from(self.rng.below(5)).unwrap();
        }
        if self.slip() {
            id = self.any_id();
        }
        rest.extend(size.to_le_bytes());
        rest.push(content);
        if content != 0 {
            rest.extend(id);
        }
        if content == 2 {
            rest.push(height);
        }
        (rest, size)
    }

    fn symlink(&mut self) -> Vec<u8> {
        let target = match self.slip() {
            true => [b"".as_slice(), b"x\0y", &[b't'; 4096]][self.rng.index(3)].to_vec(),
            false => TARGETS[self.rng.index(TARGETS.len())].to_vec(),
        };
        let len = u16::try_from(target.len()).unwrap();
        [[0; 12].as_slice(), &len.to_le_bytes(), &target].concat()
    }

    /// An entry, its name, and what it adds to the totals.
    fn entry(&mut self, name: &[u8], depth: u32) -> (Vec<u8>, Totals) {
        let (mut kind, mut mode, rest, adds) = match self.rng.below(if depth == 0 { 4 } else { 6 }) {
            0 => (3, 0, self.symlink(), totals(1, 0, 0)),
            1..=3 => {
                let (rest, size) = self.file();
                let mode = [0o644, 0o755, 0o600, 0o400, 0o777][self.rng.index(5)];
                (if mode & 0o100 == 0 { 1 } else { 2 }, mode, rest, totals(1, 0, size))
            }
            _ => {
                let below = self.tree(depth - 1);
                let Totals { files, directories, bytes } = below.totals;
                let claimed = if self.slip() { self.any_totals() } else { below.totals };
                let mut rest = below.id.0.as_bytes().to_vec();
                rest.push(below.height);
                [claimed.files, claimed.directories, claimed.bytes]
                    .iter()
                    .for_each(|number| rest.extend(number.to_le_bytes()));
                (4, [0o755, 0o700, 0o555][self.rng.index(3)], rest, totals(files, directories.wrapping_add(1), bytes))
            }
        };
        if self.slip() {
            kind = u8::try_from(self.rng.below(8)).unwrap();
        }
        if self.slip() {
            mode = u16::try_from(self.rng.below(1 << 16)).unwrap();
        }
        let (mut flags, mut rest) = (0, rest);
        if self.rng.chance(1, 20) {
            let value = [b"user.note".as_slice(), b"trusted.x", b"user."][self.rng.index(3)];
            let len = u16::try_from(value.len()).unwrap();
            let attrs = [&[1, 0, 1, 0], len.to_le_bytes().as_slice(), value, &1_u32.to_le_bytes(), b"v"].concat();
            let id = if self.slip() { self.any_id() } else { self.put(ATTRS, &attrs) };
            rest.extend(id);
            flags = 1;
        }
        if self.slip() {
            flags = u8::try_from(self.rng.below(256)).unwrap();
        }
        (raw::entry(name, kind, flags, mode, &rest), adds)
    }

    /// A directory, and how one would refer to it.
    fn tree(&mut self, depth: u32) -> TreeLink {
        let mut names: Vec<&[u8]> = NAMES.to_vec();
        self.rng.shuffle(&mut names);
        names.truncate(self.rng.index(5).min(self.left as usize));
        self.left -= u32::try_from(names.len()).unwrap();
        if self.rng.chance(1, 40) {
            names.push(BAD_NAMES[self.rng.index(BAD_NAMES.len())]);
        }
        names.sort_unstable();
        if self.slip() {
            self.rng.shuffle(&mut names);
        }
        if self.slip() {
            names.extend(names.first().copied());
        }
        let mut sum = totals(0, 0, 0);
        let mut entries = Vec::new();
        for name in &names {
            let (entry, adds) = self.entry(name, depth);
            sum.files = sum.files.wrapping_add(adds.files);
            sum.directories = sum.directories.wrapping_add(adds.directories);
            sum.bytes = sum.bytes.wrapping_add(adds.bytes);
            entries.push(entry);
        }
        let mut height = 0;
        let mut id = self.node(0, &entries);
        if self.slip() {
            // A level where none belongs, or one that lies.
            let last = names.last().copied().unwrap_or(b"x");
            let count = if self.slip() { self.number() } else { names.len() as u64 };
            let below = raw::link(last, &id, count, if self.slip() { self.any_totals() } else { sum });
            id = self.node(1, &[below]);
            height = 1;
        }
        if self.slip() {
            id = self.any_id();
        }
        if self.slip() {
            height = u8::try_from(self.rng.below(256)).unwrap();
        }
        link(id, height, if self.slip() { self.any_totals() } else { sum })
    }

    fn node(&mut self, level: u8, items: &[Vec<u8>]) -> [u8; 32] {
        let level = if self.slip() { u8::try_from(self.rng.below(12)).unwrap() } else { level };
        let mut bytes = raw::tree(level, items);
        if self.rng.chance(1, 30) {
            let at = self.rng.index(bytes.len());
            match self.rng.below(4) {
                0 => bytes.truncate(at),
                1 => bytes.push(0),
                2 => bytes[at] ^= 1 << self.rng.below(8),
                _ => bytes[at] = u8::MAX,
            }
        }
        self.put(TREE, &bytes)
    }
}

/// One tree and all that was known of it when it was made.
struct Sown {
    seed: u64,
    commit: String,
    tree: TreeLink,
}

/// What fsck would say.
#[derive(Default)]
struct Judge {
    seen: HashSet<ContentHash>,
    chunks: Vec<(ContentHash, u64)>,
    problems: u32,
}

impl WalkVisitor for Judge {
    fn first(&mut self, key: &ContentHash) -> bool {
        self.seen.insert(*key)
    }
    fn chunk(&mut self, id: &ChunkId, len: u64) {
        self.chunks.push((id.0, len));
    }
    fn problem(&mut self, _: &RepoPath, _: WalkError) {
        self.problems += 1;
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    trees: u64,
    sound: u64,
    listed: u64,
    restored: u64,
    in_place: u64,
}

/// A repository with many trees.
struct Field {
    ground: Ground,
    memory: MemoryStore,
    lens: BTreeMap<ContentHash, u64>,
    sown: Vec<Sown>,
}

impl Field {
    fn sow(seeds: std::ops::Range<u64>) -> Self {
        let ground = Ground::with(&["init", "--chunk-size", "4KiB"]);
        let memory = MemoryStore::new();
        let mut chunks = HashSet::new();
        let mut sown = Vec::new();
        let dir = ground.work().join(".filesync");
        let vfs = Arc::new(RealVfs::open(&dir).unwrap());
        let place = Place { vfs, index_dir: dir.join("index"), lock_dir: Some(dir) };
        let store = Store::open_writer(place, Arc::new(MerkleSchema), "test", Duration::from_secs(10)).unwrap();
        let session = store.session().unwrap();
        let mut writer = session.writer();
        for seed in seeds {
            let (rng, left) = (Rng::new(seed), 30);
            let mut sower = Sower { rng, writer: &mut writer, memory: &memory, chunks, ids: Vec::new(), left };
            let tree = sower.tree(3);
            chunks = sower.chunks;
            let commit = Commit {
                parents: Vec::new(),
                tree,
                time: Timestamp::new(i64::try_from(seed).unwrap(), 0).unwrap(),
                author: "somebody".to_owned(),
                message: format!("seed {seed}"),
                node: [7; 32],
                signature: [0; 64],
            };
            // What cannot be a commit is told to whoever encodes it.
            let Ok(bytes) = commit.encode() else { continue };
            let commit = writer.store(COMMIT, &bytes).unwrap().to_string();
            sown.push(Sown { seed, commit, tree });
        }
        writer.flush().unwrap();
        drop(writer);
        session.finish(store.head(), RowBatch::default()).unwrap();
        let len = |id: &ContentHash| (*id, store.get(Kind::CHUNK, id).unwrap().len() as u64);
        let lens = chunks.iter().map(len).collect();
        drop(store);
        Self { ground, memory, lens, sown }
    }

    fn harvest(&self, counts: &mut Counts) {
        let options =
            OpenOptions { allow_foreign: false, lock_timeout: Duration::from_secs(10), ..OpenOptions::default() };
        let repo = Repo::open_writer(&self.ground.work(), "test", &options, &Silent).unwrap();
        for (number, sown) in self.sown.iter().enumerate() {
            let mut run = || self.look_at(&repo, sown, number, counts);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(&mut run)) {
                println!("the tree of seed {} (FILESYNC_SEED={} begins with it)", sown.seed, sown.seed);
                std::panic::resume_unwind(panic);
            }
        }
    }

    fn look_at(&self, repo: &Repo, sown: &Sown, number: usize, counts: &mut Counts) {
        let mut judge = Judge::default();
        Walk::new(&self.memory).tree(&mut judge, &sown.tree);
        let has = |(id, len): &(ContentHash, u64)| self.lens.get(id) == Some(len);
        let is_sound = judge.problems == 0 && judge.chunks.iter().all(has);
        let listed = ls(repo, &sown.commit);
        let to = self.ground.dir.path().join("to");
        let request = RestoreRequest { rev: Some(sown.commit.clone()), to: Some(to.clone()), ..Default::default() };
        let copied = repo.restore(&request, &Silent);
        counts.trees += 1;
        counts.sound += u64::from(is_sound);
        counts.listed += u64::from(listed.is_ok());
        for error in [listed.as_ref().err(), copied.as_ref().err()].into_iter().flatten() {
            assert_eq!(error.kind(), ErrorKind::Damage, "{error}");
        }
        assert!(!is_sound || (listed.is_ok() && copied.as_ref().is_ok_and(|copied| copied.damaged.is_empty())));
        if to.exists() {
            let tree = read_tree(&to);
            check_copy(&to, &tree, listed.as_ref().ok(), copied.as_ref().ok());
            counts.restored += u64::from(copied.is_ok());
            fs::remove_dir_all(&to).unwrap();
        }
        let names: Vec<_> = fs::read_dir(self.ground.dir.path()).unwrap().flatten().map(|it| it.file_name()).collect();
        assert_eq!(names.len(), 2, "beside the working copy: {names:?}");
        // Both take syncs or the whole working copy: only some of them.
        if number.is_multiple_of(25) {
            let both = |dry_run| RestoreRequest {
                rev: Some(sown.commit.clone()),
                delete: true,
                force: true,
                dry_run,
                ..Default::default()
            };
            let planned = repo.restore(&both(true), &Silent);
            let restored = repo.restore(&both(false), &Silent);
            for error in [planned.as_ref().err(), restored.as_ref().err()].into_iter().flatten() {
                let is_too_much = error.to_string().contains(" paths, of at most ");
                assert!(is_too_much || error.kind() == ErrorKind::Damage, "{error}");
            }
            assert_eq!(planned.is_ok(), restored.is_ok(), "{planned:?} {restored:?}");
            repo.status(&StatusRequest::default(), &Silent).unwrap();
            if let (true, Ok(result)) = (is_sound, &restored) {
                let tree = read_tree(&self.ground.work());
                check_copy(&self.ground.work(), &tree, listed.as_ref().ok(), Some(result));
                assert!(result.damaged.is_empty() && result.skipped.is_empty(), "{result:?}");
                counts.in_place += 1;
            }
            assert_same(&self.ground.before, &self.ground.outside(), "outside");
        }
    }
}

fn ls(repo: &Repo, commit: &str) -> Result<Vec<LsEntry>, Error> {
    let mut entries = Vec::new();
    let request = LsRequest {
        target: Target { rev: Some(commit.to_owned()), path: None },
        recursive: true,
        ..LsRequest::default()
    };
    repo.ls(&request, &mut |entry| {
        entries.push(entry);
        Ok(())
    })?;
    Ok(entries)
}

/// What was written is what was listed, and nothing else; without damage, all of it.
fn check_copy(root: &Path, tree: &Tree, listed: Option<&Vec<LsEntry>>, copied: Option<&RestoreResult>) {
    use filesync_tests::model::Item;
    for path in tree.keys() {
        let meta = root.join(std::ffi::OsStr::from_bytes(path)).symlink_metadata().unwrap();
        assert_eq!(meta.mode() & 0o7000, 0, "{}", path.escape_ascii());
    }
    let Some(listed) = listed else { return };
    let by_path: BTreeMap<&[u8], &LsEntry> = listed.iter().map(|entry| (entry.path.as_slice(), entry)).collect();
    for (path, item) in tree {
        let entry = by_path.get(path.as_slice()).unwrap_or_else(|| panic!("{} is not listed", path.escape_ascii()));
        let fits = match item {
            Item::Directory(mode) => entry.kind == EntryKind::Directory && *mode == u32::from(entry.mode),
            Item::Symlink(target) => entry.target.as_ref() == Some(target),
            Item::File(mode, _, bytes) => {
                let is_file = matches!(entry.kind, EntryKind::File | EntryKind::Executable);
                is_file && *mode == u32::from(entry.mode) && bytes.len() as u64 == entry.size
            }
        };
        assert!(fits, "{}: {item:?}, listed as {entry:?}", path.escape_ascii());
    }
    if copied.is_some_and(|copied| copied.damaged.is_empty()) {
        assert_eq!(tree.len(), by_path.len(), "not all of it was written");
    }
}

#[test]
fn hostile_random_trees() {
    let first = seed(1);
    let count = if is_long() { 1_000_000 } else { 3_000 };
    let fields = count / FIELD;
    let counts = std::sync::Mutex::new(Counts::default());
    std::thread::scope(|scope| {
        for part in 0..2 {
            let counts = &counts;
            scope.spawn(move || {
                for field in (part..fields).step_by(2) {
                    let from = first + field * FIELD;
                    let mut here = Counts::default();
                    Field::sow(from..from + FIELD).harvest(&mut here);
                    let mut counts = counts.lock().unwrap();
                    counts.trees += here.trees;
                    counts.sound += here.sound;
                    counts.listed += here.listed;
                    counts.restored += here.restored;
                    counts.in_place += here.in_place;
                }
            });
        }
    });
    let Counts { trees, sound, listed, restored, in_place } = *counts.lock().unwrap();
    println!("{trees} trees: {sound} sound, {listed} listed, {restored} restored, {in_place} in place");
    assert!(
        trees > count / 2 && sound > trees / 20 && sound < trees && listed >= sound && restored > 0 && in_place > 0
    );
}
