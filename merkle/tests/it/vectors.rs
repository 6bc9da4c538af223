//! The vectors in `tests/testdata/vectors.json`: one object a line. The file is the authority, also for other readers.
//!
//! `FILESYNC_UPDATE_VECTORS=1` writes these lines again and keeps what other crates have there, one object
//! a line. A change of existing lines is a new version of the format.

use std::path::PathBuf;

use filesync_cas::Kind;
use filesync_cas::Schema;
use filesync_cas::hash::{hex, identify, unhex};
use filesync_merkle::testing::{MemoryStore, raw};
use filesync_merkle::{
    ATTRS, Attrs, AttrsId, COMMIT, ChunkId, Commit, CommitId, Content, Entry, LIST, Link, ListBuilder, ListId,
    MerkleSchema, Mode, Node, PUB, Pub, PubId, TREE, Timestamp, Totals, TreeId, TreeLink, TreeNode,
};

use crate::name;

fn file() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/testdata/vectors.json")
}

fn entries() -> Vec<(&'static str, &'static str, Entry)> {
    let mtime = Timestamp::new(1_700_000_000, 123_456_789).unwrap();
    let chunk = ChunkId(filesync_cas::ContentHash::of_chunk(b"hello, world\n"));
    let list = Content::List { root: ListId::from_bytes([0x22; 32]), height: 1 };
    let attrs = Some(AttrsId::from_bytes([0x66; 32]));
    let totals = Totals { files: 3, directories: 1, bytes: 70_000_000 };
    let file = |mode, attrs, size, content| Entry { mode, attrs, node: Node::File { mtime, size, content } };
    let before_1970 = Timestamp::new(-1, 999_999_999).unwrap();
    let symlink = Node::Symlink { mtime: before_1970, target: b"../x"[..].into() };
    let link = TreeLink { id: TreeId::from_bytes([0x33; 32]), height: 0, totals };
    vec![
        ("empty file", "a.empty", file(Mode::FILE, None, 0, Content::Empty)),
        ("file of one chunk", "b.txt", file(Mode::FILE, None, 13, Content::Chunk(chunk))),
        ("executable with attributes", "c.sh", file(Mode::EXECUTABLE, attrs, 13, Content::Chunk(chunk))),
        ("directory", "d", Entry::directory(Mode::DIRECTORY, link)),
        ("file in a list", "e.img", file(Mode::new(0o600).unwrap(), None, 5_000_000_000, list)),
        ("symlink", "f", Entry { mode: Mode::SYMLINK, attrs: None, node: symlink }),
    ]
}

fn objects() -> Vec<(&'static str, Kind, Vec<u8>)> {
    let leaf = entries().into_iter().map(|(_, at, entry)| (name(at), entry)).collect();
    let link = |last, id, entries, bytes| {
        let totals = Totals { files: entries, directories: 0, bytes };
        Link { last: name(last), id: TreeId::from_bytes([id; 32]), entries, totals }
    };
    let inner = TreeNode::Inner { level: 1, links: vec![link("m", 1, 300, 12), link("z", 2, 400, 34)] };
    let store = MemoryStore::new();
    let mut list = ListBuilder::new();
    list.push(&mut &store, ChunkId::from_bytes([1; 32]), 1 << 20).unwrap();
    list.push(&mut &store, ChunkId::from_bytes([2; 32]), 1).unwrap();
    list.finish(&mut &store, [3; 32]).unwrap();
    let (_, _, list) = store.objects().pop().unwrap();
    let pair = |name: &[u8], value: &[u8]| (Box::from(name), Box::from(value));
    let attrs = Attrs::new(vec![pair(b"user.comment", b"x"), pair(b"user.empty", b"")]).unwrap();
    let commit = Commit {
        parents: Vec::new(),
        tree: TreeLink::empty(),
        time: Timestamp::new(1_700_000_000, 5).unwrap(),
        author: "Ada <ada@example.org>".to_owned(),
        message: "first\n".to_owned(),
        node: [0xAA; 32],
        signature: [0xBB; 64],
    };
    let parents = vec![CommitId::from_bytes([9; 32]), CommitId::from_bytes([8; 32])];
    let merge = Commit { parents, message: String::new(), ..commit.clone() };
    let step = |old: Option<u8>, new: Option<u8>, prev: Option<u8>| Pub {
        ref_name: "main".to_owned(),
        log_index: 42,
        old: old.map(|byte| CommitId::from_bytes([byte; 32])),
        new: new.map(|byte| CommitId::from_bytes([byte; 32])),
        prev: prev.map(|byte| PubId::from_bytes([byte; 32])),
    };
    vec![
        ("chunk", Kind::CHUNK, b"hello, world\n".to_vec()),
        ("tree: the empty directory", TREE, TreeNode::Leaf(Vec::new()).encode()),
        ("tree: a leaf with every kind of entry", TREE, TreeNode::Leaf(leaf).encode()),
        ("tree: two links", TREE, inner.encode()),
        ("list: a root of two chunks", LIST, list.to_vec()),
        ("list: a node that is not the root", LIST, raw::list(0, None, &[([1; 32], 65_536)])),
        ("list: a root above level 0", LIST, raw::list(1, Some((300, [3; 32])), &[([1; 32], 100), ([2; 32], 200)])),
        ("attrs", ATTRS, attrs.encode()),
        ("commit without parents; the signature is not one", COMMIT, commit.encode().unwrap()),
        ("commit with two parents and no message", COMMIT, merge.encode().unwrap()),
        ("pub: a new ref", PUB, step(None, Some(1), None).encode().unwrap()),
        ("pub: a ref that moves", PUB, step(Some(1), Some(2), Some(3)).encode().unwrap()),
    ]
}

fn boundary(level: u8, key: &str) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("filesync node boundary v1");
    hasher.update(&[level]).update(key.as_bytes()).finalize().to_hex()[..2].to_owned()
}

fn lines() -> Vec<String> {
    let mut lines = Vec::new();
    for (what, kind, bytes) in objects() {
        let id = identify(&MerkleSchema, kind, &bytes).unwrap();
        let name = MerkleSchema.name(kind);
        lines.push(format!(r#"{{"object": "{what}", "kind": "{name}", "hex": "{}", "id": "{id}"}}"#, hex(&bytes)));
    }
    for (what, _, entry) in entries() {
        lines.push(format!(r#"{{"journal id": "{what}", "id": "{}"}}"#, hex(&entry.journal_id())));
    }
    for (level, key) in [(0, "a"), (1, "a"), (0, "file-00000244")] {
        lines.push(format!(r#"{{"boundary": "{key}", "level": {level}, "first byte": "{}"}}"#, boundary(level, key)));
    }
    lines
}

#[test]
fn vectors_are_what_is_encoded() {
    let lines = lines();
    if std::env::var_os("FILESYNC_UPDATE_VECTORS").is_some() {
        let ours = ["{\"object\"", "{\"journal id\"", "{\"boundary\""];
        let old = std::fs::read_to_string(file()).unwrap_or_default();
        let others = old.lines().map(|line| line.trim_end_matches(','));
        let others = others.filter(|line| line.starts_with('{') && !ours.iter().any(|key| line.starts_with(key)));
        let all: Vec<_> = lines.iter().map(String::as_str).chain(others).collect();
        std::fs::write(file(), format!("[\n{}\n]\n", all.join(",\n"))).unwrap();
    }
    let text = std::fs::read_to_string(file()).unwrap();
    for line in lines {
        assert!(text.contains(&line), "not in the file: {line}");
    }
    for (what, kind, bytes) in objects() {
        if !kind.is_chunk() {
            assert_eq!(crate::codec::again(kind, &bytes).as_deref(), Some(&bytes[..]), "{what}");
            MerkleSchema.children(kind, &bytes).unwrap();
        }
        assert_eq!(unhex(&hex(&bytes)).as_deref(), Some(&bytes[..]));
    }
}
