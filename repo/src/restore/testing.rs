//! A small repository for tests: a store, trees built from maps, and directories read back into maps.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filesync_cas::testing::{FaultVfs, Rng};
use filesync_cas::vfs::{FileKind, FileStat, Open, RealVfs, Rename, Vfs, VfsFile};
use filesync_cas::{ChunkSizes, Chunker, Codec, ContentHash, Kind, Params, Place, Store};
use filesync_merkle::{
    Attrs, AttrsId, ChunkId, Commit, CommitId, Content, Entry, ListBuilder, MerkleSchema, Mode, Node, NodeSink, Parts,
    RepoPath, Timestamp, TreeLink, edit_paths, lookup,
};

use super::{ConflictTag, Context};
use crate::objects::{SessionNodes, StoreNodes};
use crate::request::{Event, Observer};

static WHOLE: Parts = Parts::whole();
use crate::scan::testing::TempDir;
use crate::stat_cache::StatCache;

pub const TAG: ConflictTag<'static> = ConflictTag { node: "here", date: "today" };

/// What stands at a path.
#[derive(Clone, PartialEq, Eq)]
pub enum Item {
    File { bytes: Vec<u8>, mode: u16, mtime: i64 },
    Link(Vec<u8>),
    Dir { mode: u16 },
}

impl std::fmt::Debug for Item {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Item::File { bytes, mode, mtime } => {
                let start = String::from_utf8_lossy(&bytes[..bytes.len().min(12)]).into_owned();
                write!(f, "{start:?}+{} {mode:o} {mtime}", bytes.len())
            }
            Item::Link(target) => write!(f, "-> {}", String::from_utf8_lossy(target)),
            Item::Dir { mode } => write!(f, "dir {mode:o}"),
        }
    }
}

/// Says where two trees differ.
#[track_caller]
pub fn assert_same(found: &Model, expected: &Model, when: &str) {
    let differ = |at: &&RepoPath| found.get(*at) != expected.get(*at);
    let all: std::collections::BTreeSet<&RepoPath> = found.keys().chain(expected.keys()).collect();
    let wrong: Vec<_> = all.into_iter().filter(differ).map(|at| (at, found.get(at), expected.get(at))).collect();
    assert!(wrong.is_empty(), "{when}: path, found, expected: {wrong:#?}");
}

/// A whole tree; directories too, which are added where a path needs them.
pub type Model = BTreeMap<RepoPath, Item>;

pub fn path(bytes: impl AsRef<[u8]>) -> RepoPath {
    RepoPath::parse(bytes.as_ref()).unwrap()
}

pub fn file(bytes: impl AsRef<[u8]>) -> Item {
    Item::File { bytes: bytes.as_ref().to_vec(), mode: 0o644, mtime: 1_000_000_000 }
}

pub fn link(target: &str) -> Item {
    Item::Link(target.as_bytes().to_vec())
}

pub fn model<const N: usize>(items: [(&str, Item); N]) -> Model {
    let mut model: Model = items.into_iter().map(|(at, item)| (path(at), item)).collect();
    with_parents(&mut model);
    model
}

pub fn with_parents(model: &mut Model) {
    let paths: Vec<RepoPath> = model.keys().cloned().collect();
    for mut at in paths {
        while let Some(parent) = at.parent().filter(|parent| !parent.is_root()) {
            model.entry(parent.clone()).or_insert(Item::Dir { mode: 0o755 });
            at = parent;
        }
    }
}

/// Events, noted.
#[derive(Default)]
pub struct Notes(pub Mutex<Vec<Event>>);

impl Observer for Notes {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

impl Notes {
    pub fn warnings(&self) -> Vec<String> {
        let text = |event: &Event| match event {
            Event::Warning(warning) => Some(warning.message.clone()),
            _ => None,
        };
        self.0.lock().unwrap().iter().filter_map(text).collect()
    }
}

/// A directory of a vfs, as a vfs: one disk, and one process that dies, for store and working copy.
#[derive(Debug)]
pub struct Sub(pub Arc<dyn Vfs>, pub &'static str);

impl Sub {
    fn at(&self, path: &Path) -> PathBuf {
        if path.as_os_str().is_empty() { self.1.into() } else { Path::new(self.1).join(path) }
    }
}

impl Vfs for Sub {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>> {
        self.0.open(&self.at(path), how)
    }
    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.0.mkdir(&self.at(path), mode)
    }
    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.0.symlink(target, &self.at(path))
    }
    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        self.0.rename(&self.at(from), &self.at(to), how)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.0.unlink(&self.at(path))
    }
    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.0.rmdir(&self.at(path))
    }
    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.0.set_dir_mode(&self.at(path), mode)
    }
    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
        self.0.set_link_mtime(&self.at(path), secs, nanos)
    }
    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.0.sync_dir(&self.at(path))
    }
    fn sync_all_files(&self) -> io::Result<()> {
        self.0.sync_all_files()
    }
    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.0.stat(&self.at(path))
    }
    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        self.0.read_link(&self.at(path))
    }
    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        self.0.list(&self.at(path))
    }
    fn free(&self) -> io::Result<u64> {
        self.0.free()
    }
}

/// A repository in a temporary directory.
pub struct Fixture {
    pub dir: Rc<TempDir>,
    /// The whole disk: the working copy, and the store in it.
    pub disk: FaultVfs,
    open: Option<(Arc<Store>, StoreNodes)>,
    pub fd: OwnedFd,
    pub notes: Notes,
    pub head: Option<TreeLink>,
    pub threads: usize,
}

impl Fixture {
    pub fn new() -> Self {
        let dir = TempDir::new();
        dir.dir(".filesync");
        let disk: Arc<dyn Vfs> = Arc::new(RealVfs::open(dir.root()).unwrap());
        let sizes = ChunkSizes::from_average(4 << 10).unwrap();
        let params = Params::new(ContentHash::from_bytes([9; 32]), sizes, Codec::Zstd);
        let place = Place {
            vfs: Arc::new(Sub(Arc::clone(&disk), ".filesync")),
            index_dir: dir.path(".filesync/index"),
            lock_dir: None,
        };
        Store::create(&place, &params).unwrap();
        Self::open(Rc::new(dir), disk)
    }

    /// Opens a repository that is there. The index is in the directory in any case.
    pub fn open(dir: Rc<TempDir>, disk: Arc<dyn Vfs>) -> Self {
        let fd = dir.fd();
        let disk = FaultVfs::new(disk);
        let mut fixture = Self { dir, disk, open: None, fd, notes: Notes::default(), head: None, threads: 1 };
        fixture.start();
        fixture
    }

    fn start(&mut self) {
        let vfs = Arc::new(Sub(Arc::new(self.disk.clone()), ".filesync"));
        let place = Place { vfs, index_dir: self.dir.path(".filesync/index"), lock_dir: None };
        let store = Store::open_writer(place, Arc::new(MerkleSchema), "test", Duration::from_secs(1)).unwrap();
        let store = Arc::new(store);
        self.open = Some((Arc::clone(&store), StoreNodes(store)));
    }

    /// Another process after the death of the one before.
    pub fn restart(&mut self) {
        self.open = None;
        self.disk = FaultVfs::new(Arc::new(RealVfs::open(self.dir.root()).unwrap()));
        self.start();
    }

    pub fn store(&self) -> &Store {
        &self.open.as_ref().unwrap().0
    }

    pub fn nodes(&self) -> &StoreNodes {
        &self.open.as_ref().unwrap().1
    }

    /// A context whose working copy is the fixture's directory.
    pub fn ctx(&self) -> Context<'_> {
        self.ctx_with(Arc::new(self.disk.clone()))
    }

    pub fn ctx_with(&self, work: Arc<dyn Vfs>) -> Context<'_> {
        Context {
            store: self.store(),
            source: self.nodes(),
            work,
            work_fd: self.fd.as_fd(),
            cache: Some(StatCache::new(self.store().rows(), b"s")),
            observer: &self.notes,
            parts: &WHOLE,
            head_tree: self.head,
            roots: crate::roots::Roots::of_head(self.store().head().map(CommitId)),
            tag: TAG,
            threads: self.threads,
            early: None,
        }
    }

    /// Stores a tree and a commit of it, after those before.
    pub fn commit(&self, model: &Model) -> (CommitId, TreeLink) {
        let session = self.store().session().unwrap();
        let mut writer = session.writer();
        let mut changes = Vec::new();
        for (path, item) in model {
            let mtime = Timestamp::new(1_000_000_000, 123_456_789).unwrap();
            let entry = match item {
                Item::File { bytes, mode, mtime } => {
                    let content = self.content(&mut SessionNodes(&mut writer), bytes);
                    let mtime = Timestamp::new(*mtime, 123_456_789).unwrap();
                    let node = Node::File { mtime, size: bytes.len() as u64, content };
                    Entry { mode: Mode::new(*mode).unwrap(), attrs: None, node }
                }
                Item::Link(target) => {
                    let node = Node::Symlink { mtime, target: target.clone().into() };
                    Entry { mode: Mode::SYMLINK, attrs: None, node }
                }
                Item::Dir { mode } => Entry::directory(Mode::new(*mode).unwrap(), TreeLink::empty()),
            };
            changes.push((path.clone(), Some(entry)));
        }
        let tree = edit_paths(self.nodes(), &mut SessionNodes(&mut writer), None, changes).unwrap();
        let commit = Commit {
            parents: self.store().head().map(CommitId).into_iter().collect(),
            tree,
            time: Timestamp::default(),
            author: "test".to_owned(),
            message: String::new(),
            node: [0; 32],
            signature: [0; 64],
        };
        let id = SessionNodes(&mut writer).put(CommitId::KIND, &commit.encode().unwrap()).unwrap();
        writer.flush().unwrap();
        drop(writer);
        session.finish(Some(id), Default::default()).unwrap();
        (CommitId(id), tree)
    }

    fn content(&self, sink: &mut SessionNodes<'_, '_>, bytes: &[u8]) -> Content {
        let mut list = ListBuilder::new();
        let mut at = 0;
        Chunker::new(self.store().parameters().chunks).cut(bytes, true, |len| {
            let chunk = &bytes[at..at + len];
            at += len;
            let id = sink.0.store(Kind::CHUNK, chunk).unwrap();
            list.push(sink, ChunkId(id), u32::try_from(len).unwrap()).unwrap();
        });
        list.finish(sink, *ContentHash::of_chunk(bytes).as_bytes()).unwrap()
    }

    /// Stores attributes.
    pub fn attrs(&self, name: &[u8], value: &[u8]) -> AttrsId {
        let session = self.store().session().unwrap();
        let mut writer = session.writer();
        let attrs = Attrs::new(vec![(name.into(), value.into())]).unwrap();
        let id = SessionNodes(&mut writer).put(AttrsId::KIND, &attrs.encode()).unwrap();
        writer.flush().unwrap();
        drop(writer);
        session.finish(self.store().head(), Default::default()).unwrap();
        AttrsId(id)
    }

    /// The same tree, in which these paths have attributes.
    pub fn with_attrs(&self, tree: TreeLink, paths: &[&str], attrs: AttrsId) -> TreeLink {
        let session = self.store().session().unwrap();
        let mut writer = session.writer();
        let changes = paths.iter().map(|at| {
            let entry = lookup(self.nodes(), &tree, &path(at)).unwrap().unwrap();
            (path(at), Some(Entry { attrs: Some(attrs), ..entry }))
        });
        let tree = edit_paths(self.nodes(), &mut SessionNodes(&mut writer), Some(tree), changes).unwrap();
        writer.flush().unwrap();
        drop(writer);
        session.finish(self.store().head(), Default::default()).unwrap();
        tree
    }

    /// Makes the working copy what a model says.
    pub fn write(&self, model: &Model) {
        clear_dir(self.dir.root());
        write_dir(self.dir.root(), model);
    }

    pub fn read(&self) -> Model {
        read_dir(self.dir.root())
    }
}

/// Removes everything but the store.
pub fn clear_dir(root: &Path) {
    for entry in fs::read_dir(root).unwrap() {
        let entry = entry.unwrap();
        if entry.file_name() == ".filesync" {
            continue;
        }
        match entry.file_type().unwrap().is_dir() {
            true => fs::remove_dir_all(entry.path()).unwrap(),
            false => fs::remove_file(entry.path()).unwrap(),
        }
    }
}

pub fn write_dir(root: &Path, model: &Model) {
    for (path, item) in model {
        let at = root.join(OsStr::from_bytes(path.as_bytes()));
        match item {
            Item::Dir { .. } => fs::create_dir(&at).unwrap(),
            Item::Link(target) => std::os::unix::fs::symlink(OsStr::from_bytes(target), &at).unwrap(),
            Item::File { bytes, mode, mtime } => {
                fs::write(&at, bytes).unwrap();
                fs::set_permissions(&at, fs::Permissions::from_mode(u32::from(*mode))).unwrap();
                let time = std::time::UNIX_EPOCH + Duration::new(u64::try_from(*mtime).unwrap(), 123_456_789);
                fs::File::open(&at).unwrap().set_modified(time).unwrap();
            }
        }
    }
    for (path, item) in model.iter().rev() {
        if let Item::Dir { mode } = item {
            let at = root.join(OsStr::from_bytes(path.as_bytes()));
            fs::set_permissions(&at, fs::Permissions::from_mode(u32::from(*mode))).unwrap();
        }
    }
}

pub fn read_dir(root: &Path) -> Model {
    let mut model = Model::new();
    let mut dirs = vec![RepoPath::root()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(root.join(OsStr::from_bytes(dir.as_bytes()))).unwrap() {
            let entry = entry.unwrap();
            if dir.is_root() && entry.file_name() == ".filesync" {
                continue;
            }
            let path = dir.join(&filesync_merkle::Name::new(entry.file_name().as_bytes()).unwrap());
            let meta = entry.path().symlink_metadata().unwrap();
            let mode = u16::try_from(meta.mode() & 0o7777).unwrap();
            let item = if meta.is_dir() {
                dirs.push(path.clone());
                Item::Dir { mode }
            } else if meta.is_symlink() {
                Item::Link(fs::read_link(entry.path()).unwrap().as_os_str().as_bytes().to_vec())
            } else if meta.is_file() {
                assert!(meta.mtime() != 1_000_000_000 || meta.mtime_nsec() == 123_456_789, "{path}");
                Item::File { bytes: fs::read(entry.path()).unwrap(), mode, mtime: meta.mtime() }
            } else {
                continue;
            };
            model.insert(path, item);
        }
    }
    model
}

/// Bytes that compress, and are cut into several chunks where there are many.
pub fn text(rng: &mut Rng, len: usize) -> Vec<u8> {
    let words: Vec<Vec<u8>> = (0..50).map(|_| rng.bytes(6)).collect();
    let mut bytes = Vec::with_capacity(len + 6);
    while bytes.len() < len {
        bytes.extend_from_slice(&words[rng.index(words.len())]);
    }
    bytes.truncate(len);
    bytes
}

/// A random tree.
pub fn random(rng: &mut Rng, entries: usize) -> Model {
    let mut model = Model::new();
    let mut dirs = vec![RepoPath::root()];
    for _ in 0..entries {
        let dir = dirs[rng.index(dirs.len())].clone();
        let mut name = format!("n{}", rng.below(entries as u64)).into_bytes();
        if rng.chance(1, 10) {
            name.extend_from_slice(b"\xff\n ");
        }
        let path = dir.join(&filesync_merkle::Name::new(&name).unwrap());
        if model.contains_key(&path) {
            continue;
        }
        let item = match rng.below(10) {
            0..=2 => {
                dirs.push(path.clone());
                Item::Dir { mode: [0o755, 0o700, 0o775, 0o555, 0o500][rng.index(5)] }
            }
            3 => Item::Link(vec![b't'; 1 + rng.index(20)]),
            4 => file(""),
            _ => {
                let max = if rng.chance(1, 8) { 60_000 } else { 2_000 };
                let len = rng.index(max);
                let mode = [0o644, 0o755, 0o600, 0o444, 0o777][rng.index(5)];
                Item::File { bytes: text(rng, len), mode, mtime: 900_000_000 + i64::try_from(rng.below(1000)).unwrap() }
            }
        };
        model.insert(path, item);
    }
    model
}
