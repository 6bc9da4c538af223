//! One value has one form: what decodes, encodes to the same bytes. Every single byte is changed to see.

use filesync_cas::testing::seeds;
use filesync_cas::{Kind, Schema};
use filesync_merkle::testing::{Rng, random_entry, random_name, raw};
use filesync_merkle::{
    ATTRS, Attrs, COMMIT, Commit, CommitId, Entry, LIST, Link, ListNode, MerkleSchema, Mode, PUB, Pub, PubId, TREE,
    Timestamp, Totals, TreeId, TreeLink, TreeNode,
};

/// Decodes and encodes again.
pub fn again(kind: Kind, bytes: &[u8]) -> Option<Vec<u8>> {
    match kind {
        LIST => Some(ListNode::decode(bytes).ok()?.encode()),
        TREE => Some(TreeNode::decode(bytes).ok()?.encode()),
        COMMIT => Some(Commit::decode(bytes).ok()?.encode().unwrap()),
        PUB => Some(Pub::decode(bytes).ok()?.encode().unwrap()),
        ATTRS => Some(Attrs::decode(bytes).ok()?.encode()),
        _ => None,
    }
}

/// Decodes and encodes again, and sees that the schema thinks the same of it.
fn canonical(kind: Kind, bytes: &[u8], what: &str) {
    let accepted = MerkleSchema.children(kind, bytes).is_ok();
    match again(kind, bytes) {
        Some(encoded) => assert!(encoded == bytes && accepted, "{what}: not canonical"),
        None => assert!(!accepted, "{what}: the schema takes it"),
    }
}

/// Everything that is one byte away.
fn neighbours(kind: Kind, bytes: &[u8], what: &str) {
    assert_eq!(again(kind, bytes).as_deref(), Some(bytes), "{what}");
    let mut copy = bytes.to_vec();
    for at in 0..bytes.len() {
        for flip in [1, 2, 4, 8, 16, 32, 64, 128, 255] {
            copy[at] ^= flip;
            canonical(kind, &copy, what);
            copy[at] ^= flip;
        }
        assert_eq!(again(kind, &bytes[..at]), None, "{what}: truncated to {at}");
    }
    for extra in [0, 1, 255] {
        copy.push(extra);
        assert_eq!(again(kind, &copy), None, "{what}: extended");
        copy.pop();
    }
}

fn totals(rng: &mut Rng) -> Totals {
    Totals { files: rng.below(1 << 40), directories: rng.below(1 << 40), bytes: rng.below(1 << 50) }
}

fn link(rng: &mut Rng) -> TreeLink {
    TreeLink { id: TreeId::from_bytes(rng.id()), height: u8::try_from(rng.below(11)).unwrap(), totals: totals(rng) }
}

/// A leaf of a few entries, a directory among them.
pub fn leaf(rng: &mut Rng) -> Vec<u8> {
    let mut entries: Vec<_> = (0..rng.below(6)).map(|_| (random_name(rng, 1 << 30), random_entry(rng))).collect();
    let directory = (random_name(rng, 1 << 30), Entry::directory(Mode::DIRECTORY, link(rng)));
    entries.push(directory);
    entries.sort_by(|(a, _), (b, _)| a.cmp(b));
    TreeNode::Leaf(entries).encode()
}

/// A node of a few links.
pub fn inner(rng: &mut Rng) -> Vec<u8> {
    let mut links: Vec<_> = (0..1 + rng.below(5))
        .map(|_| Link {
            last: random_name(rng, 1 << 30),
            id: TreeId::from_bytes(rng.id()),
            entries: 1 + rng.below(1 << 40),
            totals: totals(rng),
        })
        .collect();
    links.sort_by(|a, b| a.last.cmp(&b.last));
    TreeNode::Inner { level: 3, links }.encode()
}

/// A node of a list of a few items, a root or not.
pub fn list(rng: &mut Rng, level: u8) -> Vec<u8> {
    let items: Vec<_> = (0..2 + rng.below(4)).map(|_| (rng.id(), 1024 + rng.below(1023 << 10))).collect();
    let root = (rng.below(2) == 0).then(|| (items.iter().map(|item| item.1).sum(), rng.id()));
    raw::list(level, root, &items)
}

pub fn commit(rng: &mut Rng, message: &str) -> Vec<u8> {
    let commit = Commit {
        parents: (0..rng.below(9)).map(|_| CommitId::from_bytes(rng.id())).collect(),
        tree: link(rng),
        time: Timestamp::new(-5, 999_999_999).unwrap(),
        author: "Ä <a@b>".to_owned(),
        message: message.to_owned(),
        node: rng.id(),
        signature: [rng.id(), rng.id()].concat().try_into().unwrap(),
    };
    commit.encode().unwrap()
}

/// A step with some of its three ids, as the bits of `which` say.
pub fn step(rng: &mut Rng, which: u64) -> Vec<u8> {
    let has = |bit: u64| which & bit != 0;
    let step = Pub {
        ref_name: "main".to_owned(),
        log_index: rng.u64(),
        old: has(1).then(|| CommitId::from_bytes(rng.id())),
        new: has(2).then(|| CommitId::from_bytes(rng.id())),
        prev: has(4).then(|| PubId::from_bytes(rng.id())),
    };
    step.encode().unwrap()
}

pub fn attrs() -> Vec<u8> {
    let pair = |name: &[u8], value: &[u8]| (Box::from(name), Box::from(value));
    Attrs::new(vec![pair(b"user.a", b"1"), pair(b"user.b", b""), pair(b"user.xdg.tags", b"x,y")]).unwrap().encode()
}

#[test]
fn nodes() {
    for seed in seeds(0, 40, 1_000) {
        let mut rng = Rng::new(seed);
        neighbours(TREE, &leaf(&mut rng), &format!("leaf of seed {seed}"));
        neighbours(TREE, &inner(&mut rng), &format!("inner node of seed {seed}"));
        for level in [0, 1] {
            neighbours(LIST, &list(&mut rng, level), &format!("list of seed {seed}"));
        }
    }
}

#[test]
fn others() {
    for seed in seeds(0, 10, 500) {
        let mut rng = Rng::new(seed);
        let message = if seed % 10 == 0 { "" } else { "why\n\u{1F600}\u{7}" };
        neighbours(COMMIT, &commit(&mut rng, message), &format!("commit of seed {seed}"));
        neighbours(PUB, &step(&mut rng, seed % 8), &format!("pub of seed {seed}"));
        neighbours(ATTRS, &attrs(), "attrs");
    }
}

#[test]
fn commits_are_checked() {
    let good = Commit {
        parents: vec![CommitId::from_bytes([1; 32])],
        tree: TreeLink::empty(),
        time: Timestamp::default(),
        author: "a".to_owned(),
        message: String::new(),
        node: [0; 32],
        signature: [0; 64],
    };
    let bad = [
        Commit { parents: vec![CommitId::from_bytes([1; 32]); 2], ..good.clone() },
        Commit { parents: (0..9).map(|n| CommitId::from_bytes([n; 32])).collect(), ..good.clone() },
        Commit { author: String::new(), ..good.clone() },
        Commit { author: "x".repeat(1025), ..good.clone() },
        Commit { author: "a\nb".to_owned(), ..good.clone() },
        Commit { author: "a\u{85}b".to_owned(), ..good.clone() },
        Commit { message: "\0".to_owned(), ..good.clone() },
        Commit { message: "x".repeat(131_073), ..good.clone() },
    ];
    for commit in bad {
        assert!(commit.encode().is_err());
    }
    let largest = Commit { message: "x".repeat(131_072), author: "x".repeat(1024), ..good.clone() };
    assert_eq!(Commit::decode(&largest.encode().unwrap()).unwrap(), largest);
    let message = good.signed_message(&[3; 32]).unwrap();
    assert!(message.starts_with(b"filesync commit signature v1\0\x03\x03"));
    assert!(message.ends_with(&good.unsigned_bytes().unwrap()));
    assert_eq!(good.encode().unwrap().len(), good.unsigned_bytes().unwrap().len() + 64);
}
