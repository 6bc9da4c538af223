//! Small repositories.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filesync_cas::rows::RowBatch;
use filesync_cas::store::FrameWriter;
use filesync_cas::testing::LossVfs;
use filesync_cas::vfs::{RealVfs, Vfs, temp_name};
use filesync_cas::{ChunkSizes, Chunker, Codec, ContentHash, Kind, Params, Place, PutError, Session, Store};
use filesync_merkle::{
    ChunkId, Commit, CommitId, Content, Entry, ListBuilder, MerkleSchema, Mode, Name, Node, NodeSink, RepoPath,
    Timestamp, TreeEditor, TreeLink, WalkVisitor,
};

use crate::guard::{Guard, Limits};
use crate::peer::{Access, PeerKey, Role, Root, Scope};
use crate::serve::{Me, Shared};
use crate::source::StoreSource;

/// Files by path.
pub type Tree = BTreeMap<RepoPath, Vec<u8>>;

/// A tree from pairs of path and content.
pub fn tree<'a>(files: impl IntoIterator<Item = (&'a str, Vec<u8>)>) -> Tree {
    let path = |text: &str| RepoPath::parse(text.as_bytes()).expect("a path of a test");
    files.into_iter().map(|(text, bytes)| (path(text), bytes)).collect()
}

/// A directory that goes away.
#[derive(Debug)]
struct TempDir(PathBuf);

impl TempDir {
    fn new() -> Self {
        let memory = Path::new("/dev/shm");
        let usable = std::env::var_os("TMPDIR").is_none() && memory.is_dir();
        let parent = if usable { memory.to_owned() } else { std::env::temp_dir() };
        let path = parent.join(temp_name().expect("random"));
        std::fs::create_dir(&path).expect("a temporary directory");
        Self(path)
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// A store with commits.
#[derive(Debug)]
pub struct Repo {
    /// The store.
    pub store: Arc<Store>,
    vfs: Arc<dyn Vfs>,
    dir: TempDir,
}

/// Puts nodes into a session.
struct Nodes<'a, 's>(&'a mut FrameWriter<'s>);

impl NodeSink for Nodes<'_, '_> {
    fn put(&mut self, kind: Kind, bytes: &[u8]) -> Result<ContentHash, PutError> {
        self.0.store(kind, bytes)
    }
}

impl Repo {
    /// The repository that all of them are.
    pub fn id() -> ContentHash {
        ContentHash::of_chunk(b"the repository of a test")
    }

    /// An empty store in memory.
    pub fn new() -> Self {
        Self::over(Arc::new(LossVfs::new()), TempDir::new())
    }

    /// An empty store on the disk.
    pub fn on_disk() -> Self {
        let dir = TempDir::new();
        std::fs::create_dir(dir.0.join("store")).expect("a directory");
        Self::over(Arc::new(RealVfs::open(&dir.0.join("store")).expect("opened")), dir)
    }

    fn over(vfs: Arc<dyn Vfs>, dir: TempDir) -> Self {
        let place = Place { vfs: Arc::clone(&vfs), index_dir: dir.0.join("index"), lock_dir: None };
        let params = Params::new(Self::id(), ChunkSizes::default(), Codec::Zstd);
        Store::create(&place, &params).expect("created");
        let store = Store::open_writer(place, Arc::new(MerkleSchema), "test", Duration::ZERO).expect("opened");
        Self { store: Arc::new(store), vfs, dir }
    }

    /// The files of the store, to damage them.
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.vfs
    }

    /// Where it lies, if it lies on the disk.
    pub fn dir(&self) -> PathBuf {
        self.dir.0.join("store")
    }

    /// Commits a tree.
    pub fn commit(&self, tree: &Tree, parents: &[CommitId]) -> CommitId {
        self.commit_at(tree, parents, 0)
    }

    /// Commits a tree at a time.
    pub fn commit_at(&self, tree: &Tree, parents: &[CommitId], secs: i64) -> CommitId {
        let session = self.store.session().expect("a session");
        let mut writer = session.writer();
        let files: Vec<(Vec<Name>, &[u8])> =
            tree.iter().map(|(path, bytes)| (path.names().collect(), &bytes[..])).collect();
        let link = self.directory(&mut writer, &files, 0);
        let commit = Commit {
            parents: parents.to_vec(),
            tree: link,
            time: Timestamp::new(secs, 0).expect("a time"),
            author: "somebody".to_owned(),
            message: String::new(),
            node: [0; 32],
            signature: [0; 64],
        };
        let bytes = commit.encode().expect("a commit");
        let id = writer.store(CommitId::KIND, &bytes).expect("stored");
        writer.flush().expect("flushed");
        drop(writer);
        session.finish(Some(id), RowBatch::default()).expect("finished");
        CommitId(id)
    }

    fn directory(&self, writer: &mut FrameWriter<'_>, files: &[(Vec<Name>, &[u8])], depth: usize) -> TreeLink {
        let source = StoreSource(&self.store);
        let mut editor = TreeEditor::new(&source, None);
        for group in files.chunk_by(|(a, _), (b, _)| a[depth] == b[depth]) {
            let (names, bytes) = &group[0];
            let entry = match names.len() == depth + 1 {
                true => file(writer, self.store.parameters().chunks, bytes),
                false => Entry::directory(Mode::DIRECTORY, self.directory(writer, group, depth + 1)),
            };
            editor.upsert(&mut Nodes(writer), names[depth].clone(), entry).expect("in order");
        }
        editor.finish(&mut Nodes(writer)).expect("written")
    }

    /// Stores objects as they are, without looking at them.
    pub fn put_raw(&self, objects: &[(Kind, Vec<u8>)]) -> Vec<ContentHash> {
        let session = self.store.session().expect("a session");
        let mut writer = session.writer();
        let ids = objects.iter().map(|(kind, bytes)| writer.store(*kind, bytes).expect("stored")).collect();
        writer.flush().expect("flushed");
        drop(writer);
        session.finish(None, RowBatch::default()).expect("finished");
        ids
    }

    /// Fails unless a commit and all that it leads to, its history included, is here, whole, and nothing else is damaged.
    #[track_caller]
    pub fn check(&self, head: CommitId) {
        #[derive(Debug, Default)]
        struct Visitor(std::collections::HashSet<ContentHash>, Vec<(ChunkId, u64)>, Vec<String>);
        impl WalkVisitor for Visitor {
            fn first(&mut self, key: &ContentHash) -> bool {
                self.0.insert(*key)
            }
            fn chunk(&mut self, id: &ChunkId, len: u64) {
                self.1.push((*id, len));
            }
            fn problem(&mut self, path: &RepoPath, error: filesync_merkle::WalkError) {
                self.2.push(format!("{path:?}: {error}"));
            }
        }
        let source = StoreSource(&self.store);
        let mut visitor = Visitor::default();
        let walk = filesync_merkle::Walk::new(&source);
        for commit in filesync_merkle::Ancestors::new(&source, [head]) {
            let (id, _) = commit.expect("a commit");
            walk.commit(&mut visitor, &id);
        }
        assert!(visitor.2.is_empty(), "{:?}", visitor.2);
        for (id, len) in &visitor.1 {
            let chunk = self.store.get(ChunkId::KIND, &id.0).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(chunk.len() as u64, *len);
        }
        let report = self
            .store
            .check_packs(filesync_cas::fsck::Depth::Objects, &|_, _| std::ops::ControlFlow::Continue(()))
            .expect("read");
        assert!(report.bad.is_empty() && report.findings.is_empty(), "{report:?}");
    }

    /// Ends a session with everything durable and the head where it was.
    pub fn finish(&self, session: Session<'_>) {
        session.finish(self.store.head(), RowBatch::default()).expect("finished");
    }

    /// How many objects the store holds, by its index.
    pub fn objects(&self) -> usize {
        let mut count = 0;
        let all = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([255; 32]));
        let visit = &mut |_, _| {
            count += 1;
            std::ops::ControlFlow::Continue(())
        };
        self.store.each_id(&all.0, &all.1, visit).expect("the index can be read");
        count
    }
}

impl Default for Repo {
    fn default() -> Self {
        Self::new()
    }
}

fn file(writer: &mut FrameWriter<'_>, sizes: ChunkSizes, bytes: &[u8]) -> Entry {
    let mut list = ListBuilder::new();
    let mut ends = Vec::new();
    if !bytes.is_empty() {
        let mut at = 0;
        Chunker::new(sizes).cut(bytes, true, |len| {
            ends.push((at, at + len));
            at += len;
        });
    }
    for (start, end) in ends {
        let chunk = ChunkId(writer.store(Kind::CHUNK, &bytes[start..end]).expect("stored"));
        let len = u32::try_from(end - start).expect("short");
        list.push(&mut Nodes(writer), chunk, len).expect("pushed");
    }
    let hash = *ContentHash::of_chunk(bytes).as_bytes();
    let content = list.finish(&mut Nodes(writer), hash).expect("finished");
    let content = if bytes.is_empty() { Content::Empty } else { content };
    let mtime = Timestamp::default();
    Entry { mode: Mode::FILE, attrs: None, node: Node::File { mtime, size: bytes.len() as u64, content } }
}

/// Lets some peers do everything, and others nothing. What may be read can be limited.
#[derive(Debug, Default)]
pub struct Everything {
    /// Who is a member; everybody if there is nobody.
    pub members: Vec<PeerKey>,
    /// Whether strangers may ask to join.
    pub is_open: bool,
    /// What may be read of roots; all of any that is not here.
    pub scopes: Mutex<BTreeMap<Root, Scope>>,
}

impl Access for Everything {
    fn role(&self, peer: &PeerKey) -> Role {
        if self.members.is_empty() || self.members.contains(peer) { Role::Voter } else { Role::Stranger }
    }

    fn expects_joiners(&self) -> bool {
        self.is_open
    }

    fn scope(&self, _: &PeerKey, root: &Root) -> Scope {
        self.scopes.lock().expect("not poisoned").get(root).cloned().unwrap_or(Scope::All)
    }

    fn may_call(&self, _: &PeerKey, _: u16) -> bool {
        true
    }
}

/// What a process shares that answers by this access.
pub fn shared(access: impl Access + 'static) -> Arc<Shared> {
    let me = Me { repository: Repo::id(), epoch: 1, nonce: 11 };
    Arc::new(Shared { me, access: Arc::new(access), guard: Mutex::new(Guard::new(Limits::default())) })
}
