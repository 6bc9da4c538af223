//! A head whose file was cut by other sizes than the repository's.

use std::path::Path;
use std::time::{Duration, SystemTime};

use filesync_cas::testing::Rng;
use filesync_cas::{ChunkSizes, Chunker, Kind};
use filesync_merkle::{
    ChunkId, Commit, CommitId, ListBuilder, Mode, NodeSink, RepoPath, Timestamp, TreeLink, edit_paths,
};

use super::*;
use crate::objects::SessionNodes;
use crate::repo::{OpenOptions, Repo};
use crate::request::{ChangeKind, CommitRequest, InitRequest, RestoreRequest, Silent, StatusRequest};
use crate::scan::testing::TempDir;

fn open(root: &Path) -> Repo {
    Repo::open_writer(root, "test", &OpenOptions::default(), &Silent).unwrap()
}

/// Commits a file `f` of these chunks, whose list says that their hash is that of `claimed`.
fn plant(repo: &Repo, chunks: &[&[u8]], claimed: &[u8]) {
    let session = repo.store.session().unwrap();
    let mut writer = session.writer();
    let mut list = ListBuilder::new();
    for chunk in chunks {
        let id = writer.store(Kind::CHUNK, chunk).unwrap();
        list.push(&mut SessionNodes(&mut writer), ChunkId(id), u32::try_from(chunk.len()).unwrap()).unwrap();
    }
    let content = list.finish(&mut SessionNodes(&mut writer), *ContentHash::of_chunk(claimed).as_bytes()).unwrap();
    let size = chunks.iter().map(|chunk| chunk.len() as u64).sum();
    let node = Node::File { mtime: Timestamp::new(1_000_000_000, 0).unwrap(), size, content };
    let entry = Entry { mode: Mode::new(0o644).unwrap(), attrs: None, node };
    let change = (RepoPath::parse(b"f").unwrap(), Some(entry));
    let tree: TreeLink = edit_paths(repo.node_source(), &mut SessionNodes(&mut writer), None, [change]).unwrap();
    let commit = Commit {
        parents: repo.head().into_iter().collect(),
        tree,
        time: Timestamp::default(),
        author: "somebody else".to_owned(),
        message: String::new(),
        node: [0; 32],
        signature: [0; 64],
    };
    let id = SessionNodes(&mut writer).put(CommitId::KIND, &commit.encode().unwrap()).unwrap();
    writer.flush().unwrap();
    drop(writer);
    session.finish(Some(id), Default::default()).unwrap();
}

fn cut(bytes: &[u8]) -> Vec<&[u8]> {
    let (mut chunks, mut rest) = (Vec::new(), bytes);
    Chunker::new(ChunkSizes::from_average(8 << 10).unwrap()).cut(bytes, true, |len| {
        let (chunk, after) = rest.split_at(len);
        chunks.push(chunk);
        rest = after;
    });
    chunks
}

fn changes(repo: &Repo) -> Vec<ChangeKind> {
    let request = StatusRequest { no_cache: true, ..StatusRequest::default() };
    repo.status(&request, &Silent).unwrap().changes.into_iter().map(|change| change.kind).collect()
}

fn commit(repo: &Repo) -> Option<CommitId> {
    repo.commit(&CommitRequest { no_cache: true, ..CommitRequest::default() }, &Silent).unwrap().commit
}

/// Small ones in one piece, large ones read piece by piece, and one that has a single chunk when it is cut here.
#[test]
fn what_was_cut_elsewhere_is_as_it_was() {
    for len in [20_000, 600_000, 3_000_000] {
        let dir = TempDir::new();
        Repo::init(dir.root(), &InitRequest::default()).unwrap();
        let repo = open(dir.root());
        let mut bytes = Rng::new(len as u64).bytes(len);
        let chunks = cut(&bytes);
        assert!(chunks.len() > 1, "{len}");
        plant(&repo, &chunks, &bytes);
        let restore = || repo.restore(&RestoreRequest::default(), &Silent).unwrap();
        assert_eq!(restore().written, 1, "{len}");
        assert_eq!(std::fs::read(dir.path("f")).unwrap(), bytes);
        assert_eq!((changes(&repo), commit(&repo)), (vec![], None), "{len}");
        // A touch is no change either, and no work of the user's.
        let file = std::fs::File::options().write(true).open(dir.path("f")).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_234_567_890)).unwrap();
        assert_eq!(changes(&repo), []);
        let result = restore();
        assert!(result.skipped.is_empty() && result.written <= 1, "{len}: {result:?}");
        assert_eq!((changes(&repo), commit(&repo)), (vec![], None), "{len}");
        // Of the same size, one byte is one.
        bytes[len - 1] ^= 1;
        dir.file("f", &bytes);
        assert_eq!(changes(&repo), [ChangeKind::Modified], "{len}");
        assert_eq!(restore().skipped.len(), 1, "{len}: in no commit");
        assert!(commit(&repo).is_some(), "{len}");
        assert_eq!(changes(&repo), [], "{len}");
    }
}

/// A list whose hash of the whole is that of another file does not make that one pass for stored.
#[test]
fn a_lie_about_the_whole_hides_no_change() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    let repo = open(dir.root());
    let (theirs, ours) = (Rng::new(1).bytes(600_000), Rng::new(2).bytes(600_000));
    plant(&repo, &cut(&theirs), &ours);
    dir.file("f", &ours);
    assert_eq!(changes(&repo), [ChangeKind::Modified]);
    let result = repo.restore(&RestoreRequest::default(), &Silent).unwrap();
    assert_eq!((result.written, result.skipped.len()), (0, 1), "in no commit");
    assert!(commit(&repo).is_some());
    std::fs::remove_file(dir.path("f")).unwrap();
    repo.restore(&RestoreRequest::default(), &Silent).unwrap();
    assert!(std::fs::read(dir.path("f")).unwrap() == ours);
}
