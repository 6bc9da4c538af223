//! Properties of trees, lists and commits, against models and hostile bytes. Seeds are printed with failures.

mod codec;
mod diff;
mod edit;
mod fuzz;
mod history;
mod hostile;
mod list;
mod merge;
mod merge_model;
mod trail;
mod vectors;
mod walk;

use std::collections::{BTreeMap, HashSet};

use filesync_cas::{ContentHash, Kind};
use filesync_merkle::testing::{MemoryStore, Rng};
use filesync_merkle::{
    ChunkId, Content, Entry, Mode, Name, Node, RepoPath, Timestamp, TreeLink, Walk, WalkError, WalkVisitor,
};

fn name(text: &str) -> Name {
    Name::new(text.as_bytes()).unwrap()
}

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).unwrap()
}

/// A file of one chunk, told apart by a number.
fn file(number: u64) -> Entry {
    let id = ChunkId(ContentHash::of_chunk(&number.to_le_bytes()));
    let node = Node::File { mtime: Timestamp::default(), size: 1 + number % 1000, content: Content::Chunk(id) };
    Entry { mode: Mode::FILE, attrs: None, node }
}

/// A directory of numbered files.
fn numbered(count: u64) -> BTreeMap<Name, Entry> {
    (0..count).map(|number| (name(&format!("file-{number:08}")), file(number))).collect()
}

#[derive(Default)]
struct Findings {
    keys: HashSet<ContentHash>,
    nodes: Vec<(Kind, ContentHash)>,
    chunks: u64,
    problems: Vec<(RepoPath, WalkError)>,
}

impl WalkVisitor for Findings {
    fn first(&mut self, key: &ContentHash) -> bool {
        self.keys.insert(*key)
    }

    fn node(&mut self, kind: Kind, id: &ContentHash) {
        self.nodes.push((kind, *id));
    }

    fn chunk(&mut self, _: &ChunkId, _: u64) {
        self.chunks += 1;
    }

    fn problem(&mut self, path: &RepoPath, error: WalkError) {
        self.problems.push((path.clone(), error));
    }
}

/// Walks over a tree; what is missing in the store does not count, since random entries refer to nothing.
fn walk(store: &MemoryStore, root: &TreeLink) -> Findings {
    let mut findings = Findings::default();
    Walk::new(store).tree(&mut findings, root);
    findings.problems.retain(|(_, error)| !matches!(error, WalkError::Get(_)));
    findings
}

fn assert_sound(store: &MemoryStore, root: &TreeLink) -> Findings {
    let findings = walk(store, root);
    assert!(findings.problems.is_empty(), "{:?}", findings.problems);
    findings
}

/// Whether a name ends a node of a level, computed as the format says it.
fn is_boundary(level: u8, key: &[u8]) -> bool {
    let mut hasher = blake3::Hasher::new_derive_key("filesync node boundary v1");
    hasher.update(&[level]).update(key).finalize().as_bytes()[0] == 0
}

/// The first name that begins so and ends nodes of all levels below `levels`.
fn boundary_name(prefix: &str, levels: u8) -> Name {
    (0..)
        .map(|salt: u32| name(&format!("{prefix}-{salt:x}")))
        .find(|name| (0..levels).all(|level| is_boundary(level, name.as_bytes())))
        .unwrap()
}

/// A directory whose nodes all have 64 items: three levels from 32,769 entries on.
fn tall(count: u64) -> BTreeMap<Name, Entry> {
    (0..count)
        .map(|number| {
            let levels = if number % 4096 == 4095 { 2 } else { u8::from(number % 64 == 63) };
            (boundary_name(&format!("{number:06}"), levels), file(number))
        })
        .collect()
}

/// A directory of symlinks so long that bytes end most nodes.
fn wide(rng: &mut Rng, count: u64) -> BTreeMap<Name, Entry> {
    (0..count)
        .map(|number| {
            let len = [4095, 4095, 3900, 3000, 10][usize::try_from(rng.below(5)).unwrap()];
            (name(&format!("{number:06}")), symlink(len))
        })
        .collect()
}

fn symlink(len: usize) -> Entry {
    let node = Node::Symlink { mtime: Timestamp::default(), target: vec![b'x'; len].into() };
    Entry { mode: Mode::SYMLINK, attrs: None, node }
}
