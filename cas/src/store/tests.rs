//! Tests of the store, on the models of `testing`. The index is always a real directory, since RocksDB knows no other.
//!
//! The unit of work is a [`Planned`] session: some chunks, nodes over them, and a root that also refers to the root
//! before. So one head leads to everything that was ever acknowledged, and [`World::verify`] reads it all.

mod claims;
mod cuts;
mod faults;
mod gc;
mod gc_faults;
mod gc_readers;
mod processes;
mod relay;
mod repair_faults;
mod rot;
mod smoke;

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::limits::Limits;
use super::{Claim, Place, Session, SessionStats, Store};
use crate::error::{OpenError, PutError};
use crate::fsck::Depth;
use crate::gc::{GcError, GcReport, Plan, Roots};
use crate::hash::{ContentHash, Kind, Schema, identify};
use crate::params::{ChunkSizes, Codec, Params};
use crate::rows::RowBatch;
use crate::testing::{LossVfs, Rng};
use crate::vfs::{RealVfs, Vfs, temp_name};

const NODE: Kind = Kind(2);
const ROOT: Kind = Kind(3);

/// Nodes and roots alike: a count, as many references, and any bytes behind them.
#[derive(Debug)]
struct TestSchema;

impl Schema for TestSchema {
    fn context(&self, kind: Kind) -> Option<&'static str> {
        match kind {
            NODE => Some("filesync test node v1"),
            ROOT => Some("filesync test root v1"),
            _ => None,
        }
    }

    fn name(&self, kind: Kind) -> &'static str {
        match kind {
            NODE => "node",
            ROOT => "root",
            _ => "chunk",
        }
    }

    fn children(&self, _: Kind, bytes: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
        let (&count, mut rest) = bytes.split_first().ok_or("empty")?;
        let mut children = Vec::new();
        for _ in 0..count {
            let (child, after) = rest.split_first_chunk::<33>().ok_or("cut off")?;
            children.push((Kind(child[0]), ContentHash::from_bytes(*child[1..].first_chunk().ok_or("cut off")?)));
            rest = after;
        }
        Ok(children)
    }
}

fn schema() -> Arc<dyn Schema> {
    Arc::new(TestSchema)
}

fn params() -> Params {
    Params::new(ContentHash::of_chunk(b"a repository"), ChunkSizes::default(), Codec::Zstd)
}

/// One thread, so that the same work makes the same calls.
fn calm() -> Limits {
    Limits { threads: false, ..Limits::default() }
}

/// A thousandth of the real limits, and as many threads.
fn small() -> Limits {
    Limits { seal_len: 64 << 10, seal_objects: 1 << 10, pending_max: 1 << 8, writeback_len: 16 << 10, threads: true }
}

/// A directory under the system's temporary one, gone at the end.
#[derive(Debug)]
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        Self::in_dir(&std::env::temp_dir())
    }

    /// For an index that thousands of runs make anew: in memory where there is such a file system, unless told
    /// otherwise, since what RocksDB syncs is not what is tested.
    fn quick() -> Self {
        let memory = Path::new("/dev/shm");
        let usable = std::env::var_os("TMPDIR").is_none() && memory.is_dir();
        if usable { Self::in_dir(memory) } else { Self::new() }
    }

    fn in_dir(dir: &Path) -> Self {
        let path = dir.join(temp_name().expect("random"));
        std::fs::create_dir(&path).expect("a temporary directory");
        Self(path)
    }

    fn sub(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// Copies a directory of files. RocksDB may be removing some meanwhile: then all over again.
fn copy_dir(from: &Path, to: &Path) {
    let names = || -> BTreeSet<_> {
        std::fs::read_dir(from)
            .expect("a directory to copy")
            .map(|entry| entry.expect("an entry").file_name())
            .collect()
    };
    loop {
        drop(std::fs::remove_dir_all(to));
        std::fs::create_dir_all(to).expect("a directory");
        let before = names();
        let copied = before.iter().all(|name| match std::fs::copy(from.join(name), to.join(name)) {
            Ok(_) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => panic!("{error}"),
        });
        if copied && names() == before {
            return;
        }
    }
}

/// What one session stores, children first. The last is the root.
#[derive(Debug, Clone)]
struct Planned {
    head: ContentHash,
    objects: Vec<(ContentHash, Kind, Vec<u8>)>,
}

/// How much a session stores.
#[derive(Debug, Clone, Copy)]
struct Size {
    chunks: usize,
    chunk_len: usize,
}

const SMALL: Size = Size { chunks: 5, chunk_len: 3000 };

fn object(kind: Kind, bytes: Vec<u8>) -> (ContentHash, Kind, Vec<u8>) {
    (identify(&TestSchema, kind, &bytes).expect("a kind that exists"), kind, bytes)
}

fn node(kind: Kind, children: &[(Kind, ContentHash)], rest: &[u8]) -> (ContentHash, Kind, Vec<u8>) {
    let mut bytes = vec![u8::try_from(children.len()).expect("few children")];
    for (kind, id) in children {
        bytes.push(kind.0);
        bytes.extend_from_slice(id.as_bytes());
    }
    bytes.extend_from_slice(rest);
    object(kind, bytes)
}

/// The `n`th session of a run: the same for the same numbers. One chunk is new in every session, some come again.
fn plan(seed: u64, n: u64, before: Option<ContentHash>, size: Size) -> Planned {
    let mut rng = Rng::new(seed.wrapping_mul(1000).wrapping_add(n));
    let mut objects = Vec::new();
    for i in 0..size.chunks {
        let len = 1 + rng.index(size.chunk_len);
        let bytes = match rng.below(3) {
            0 => rng.bytes(len),
            1 => format!("words of session {n} and chunk {i}, ").into_bytes().repeat(len / 30 + 1),
            _ => format!("words of every session, {}, ", i % 3).into_bytes().repeat(20),
        };
        objects.push(object(Kind::CHUNK, bytes));
    }
    objects.push(object(Kind::CHUNK, format!("the chunk of session {n} of {seed}").into_bytes()));
    let mut nodes = Vec::new();
    for group in objects.chunks(4.max(objects.len() / 50)) {
        let children: Vec<_> = group.iter().map(|(id, kind, _)| (*kind, *id)).collect();
        nodes.push(node(NODE, &children, &[]));
    }
    let mut children: Vec<_> = nodes.iter().map(|(id, kind, _)| (*kind, *id)).collect();
    children.extend(before.map(|before| (ROOT, before)));
    objects.extend(nodes);
    let root = node(ROOT, &children, &n.to_le_bytes());
    let head = root.0;
    objects.push(root);
    Planned { head, objects }
}

/// Stores what is planned in frames of a few objects, without finishing.
fn store_all(session: &Session<'_>, planned: &Planned) -> Result<(), PutError> {
    let mut writer = session.writer();
    for (n, (id, kind, bytes)) in planned.objects.iter().enumerate() {
        if session.claim(id)? == Claim::New {
            writer.put(*id, *kind, bytes)?;
        }
        if n % 6 == 5 {
            writer.flush()?;
        }
    }
    writer.flush()
}

fn run(store: &Store, planned: &Planned) -> Result<SessionStats, PutError> {
    let session = store.session()?;
    store_all(&session, planned)?;
    session.finish(Some(planned.head), RowBatch::default())
}

/// What is kept besides the head: nothing.
fn only_head() -> Roots {
    Roots {
        head: ROOT,
        objects: Vec::new(),
        shallow: Default::default(),
        absent: Default::default(),
        lost: Default::default(),
    }
}

fn go_on(_: u64, _: u64) -> std::ops::ControlFlow<()> {
    std::ops::ControlFlow::Continue(())
}

/// Removes what the head does not need.
fn collect(store: &Store) -> Result<GcReport, GcError> {
    let mut gc = store.gc()?;
    gc.mark(only_head(), &go_on)?;
    let plan = gc.plan();
    gc.apply(&plan, RowBatch::default(), &go_on)
}

/// What a collection would do.
fn plan_of(store: &Store) -> Plan {
    let mut gc = store.gc().expect("begun");
    gc.mark(only_head(), &go_on).expect("marked");
    gc.plan()
}

/// A store's place, and everything that was ever to be stored there.
#[derive(Debug)]
struct World {
    vfs: Arc<dyn Vfs>,
    dir: Arc<TempDir>,
    limits: Limits,
    model: HashMap<ContentHash, (Kind, Vec<u8>)>,
}

impl World {
    fn over(vfs: Arc<dyn Vfs>, limits: Limits) -> Self {
        Self { vfs, dir: Arc::new(TempDir::quick()), limits, model: HashMap::new() }
    }

    /// In memory, with an empty store.
    fn in_memory(limits: Limits) -> (Self, LossVfs) {
        let vfs = LossVfs::new();
        let world = Self::over(Arc::new(vfs.clone()), limits);
        Store::create(&world.place(), &params()).expect("created");
        (world, vfs)
    }

    /// On the disk, with an empty store.
    fn on_disk(limits: Limits) -> Self {
        let dir = Arc::new(TempDir::new());
        std::fs::create_dir(dir.sub("store")).expect("a directory");
        let vfs = Arc::new(RealVfs::open(&dir.sub("store")).expect("opened"));
        let world = Self { vfs, dir, limits, model: HashMap::new() };
        Store::create(&world.place(), &params()).expect("created");
        world
    }

    fn index_dir(&self) -> PathBuf {
        self.dir.sub("index")
    }

    fn place(&self) -> Place {
        Place { vfs: Arc::clone(&self.vfs), index_dir: self.index_dir(), lock_dir: None }
    }

    fn try_writer(&self) -> Result<Store, OpenError> {
        Store::open_limited(self.place(), schema(), "test", Duration::ZERO, self.limits)
    }

    #[track_caller]
    fn writer(&self) -> Store {
        self.try_writer().expect("opens for writing")
    }

    #[track_caller]
    fn reader(&self) -> Store {
        Store::open_reader(self.place(), schema()).expect("opens for reading")
    }

    /// Notes what is to be stored.
    fn plan(&mut self, seed: u64, n: u64, before: Option<ContentHash>, size: Size) -> Planned {
        let planned = plan(seed, n, before, size);
        self.note(&planned);
        planned
    }

    /// What is not to be stored in this world.
    fn plan_only(&self, seed: u64, n: u64, before: Option<ContentHash>) -> Planned {
        plan(seed, n, before, SMALL)
    }

    fn note(&mut self, planned: &Planned) {
        self.model.extend(planned.objects.iter().map(|(id, kind, bytes)| (*id, (*kind, bytes.clone()))));
    }

    /// Everything that `head` leads to.
    fn closure(&self, head: Option<ContentHash>) -> BTreeSet<ContentHash> {
        let mut seen = BTreeSet::new();
        let mut open: Vec<ContentHash> = head.into_iter().collect();
        while let Some(id) = open.pop() {
            if seen.insert(id) {
                let (kind, bytes) = &self.model[&id];
                if !kind.is_chunk() {
                    let children = TestSchema.children(*kind, bytes).expect("our own");
                    open.extend(children.into_iter().map(|(_, id)| id));
                }
            }
        }
        seen
    }

    /// Reads everything that `head` leads to, and has the store check itself.
    #[track_caller]
    fn verify(&self, store: &Store, head: Option<ContentHash>) {
        self.verify_present(store, head);
        self.check_clean(store, head);
    }

    /// Reads everything that `head` leads to.
    #[track_caller]
    fn verify_present(&self, store: &Store, head: Option<ContentHash>) {
        for id in self.closure(head) {
            let (kind, bytes) = &self.model[&id];
            let object = store.get(*kind, &id).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(&object[..], &bytes[..], "object {id}");
        }
    }

    #[track_caller]
    fn check_clean(&self, store: &Store, head: Option<ContentHash>) {
        let report =
            store.check_packs(Depth::Objects, &|_, _| std::ops::ControlFlow::Continue(())).expect("packs can be read");
        assert!(report.bad.is_empty() && report.findings.is_empty(), "{report:?}");
        let roots: Vec<_> = head.iter().map(|head| (ROOT, *head)).collect();
        let missing = store.check_closure(&roots, &Default::default()).expect("the closure can be read");
        assert!(missing.is_empty(), "{missing:?}");
    }

    /// Names in `packs/`.
    fn packs(&self) -> Vec<String> {
        let files = self.vfs.list(Path::new("packs")).expect("a listing");
        files.into_iter().map(|(name, _)| name.into_string().expect("text")).collect()
    }

    /// Bytes of all files in `packs/`.
    fn packs_len(&self) -> u64 {
        let len = |name: String| self.vfs.stat(&Path::new("packs").join(name)).expect("there").size;
        self.packs().into_iter().map(len).sum()
    }

    /// All ids that the index knows.
    fn ids(&self, store: &Store) -> BTreeSet<ContentHash> {
        let mut ids = BTreeSet::new();
        let (from, to) = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([0xff; 32]));
        let visited = store.each_id(&from, &to, &mut |id, _| {
            ids.insert(id);
            std::ops::ControlFlow::Continue(())
        });
        visited.expect("visited");
        ids
    }

    fn sealed(&self) -> usize {
        self.packs().iter().filter(|name| name.ends_with(".pack")).count()
    }
}

/// More of the same when `FILESYNC_LONG` is set.
fn long(short: u64, long: u64) -> u64 {
    if crate::testing::is_long() { long } else { short }
}

/// A seed for a random test, printed so that a failure can be seen again with `FILESYNC_SEED`.
fn seed() -> u64 {
    crate::testing::seed(20_261_122)
}
