//! What only a walk can find.

use filesync_cas::ContentHash;
use filesync_cas::testing::seeds;
use filesync_merkle::testing::{MemoryStore, Rng, build_dir, random_tree, raw};
use filesync_merkle::{
    Entry, LIST, Link, Mode, Name, NodeSource, TREE, Totals, TreeId, TreeLink, TreeNode, Walk, WalkError, diff,
};

use crate::{Findings, assert_sound, boundary_name, file, name, numbered, symlink, tall, walk, wide};

fn put(store: &MemoryStore, bytes: &[u8]) -> TreeId {
    TreeId(store.insert(TREE, bytes))
}

/// The problem that a walk finds in what is made with totals that fit.
fn problem(store: &MemoryStore, id: TreeId, height: u8, totals: Totals) -> String {
    let findings = walk(store, &TreeLink { id, height, totals });
    findings.problems.iter().map(|(_, error)| error.to_string()).collect::<Vec<_>>().join("; ")
}

fn files(files: u64, bytes: u64) -> Totals {
    Totals { files, directories: 0, bytes }
}

/// A leaf of files of 1 byte, named by a letter and a number.
fn leaf(store: &MemoryStore, letter: char, range: std::ops::Range<u32>) -> (Vec<u8>, TreeId, u64) {
    let names: Vec<_> = range.map(|n| format!("{letter}{n:06}")).collect();
    let items: Vec<_> = names.iter().map(|name| raw::file(name.as_bytes(), 0o644, 1, &[9; 32])).collect();
    let id = put(store, &raw::tree(0, &items));
    (names.last().unwrap().clone().into_bytes(), id, names.len() as u64)
}

fn link(leaf: &(Vec<u8>, TreeId, u64)) -> Vec<u8> {
    raw::link(&leaf.0, leaf.1.as_bytes(), leaf.2, files(leaf.2, leaf.2))
}

#[test]
fn wrong_cuts() {
    let store = MemoryStore::new();
    let (a, b) = (leaf(&store, 'a', 0..100), leaf(&store, 'b', 0..100));
    let id = put(&store, &raw::tree(1, &[link(&a), link(&b)]));
    assert!(problem(&store, id, 1, files(200, 200)).contains("cut"), "two nodes where one is enough");

    let one = leaf(&store, 'c', 0..1024);
    let found = problem(&store, one.1, 0, files(1024, 1024));
    assert!(found.contains("cut"), "one node where a boundary lies within: {found}");

    let a = leaf(&store, 'd', 0..600);
    let b = leaf(&store, 'e', 0..600);
    let id = put(&store, &raw::tree(1, &[link(&a), link(&b)]));
    assert!(problem(&store, id, 1, files(1200, 1200)).contains("cut"));

    let id = put(&store, &raw::tree(1, &[link(&a)]));
    assert!(problem(&store, id, 1, files(600, 600)).contains("one link only"));
}

#[test]
fn nodes_that_do_not_fit_their_links() {
    let store = MemoryStore::new();
    let (a, b) = (leaf(&store, 'a', 0..300), leaf(&store, 'b', 0..300));
    let inner = |links: &[Vec<u8>]| put(&store, &raw::tree(1, links));
    let totals = files(600, 600);
    let wrong_sum = raw::link(&a.0, a.1.as_bytes(), 300, files(300, 301));
    assert!(problem(&store, inner(&[wrong_sum, link(&b)]), 1, files(600, 601)).contains("sums"));
    let wrong_count = raw::link(&a.0, a.1.as_bytes(), 299, files(300, 300));
    assert!(problem(&store, inner(&[wrong_count, link(&b)]), 1, totals).contains("sums"));
    let wrong_last = raw::link(b"a999999", a.1.as_bytes(), 300, files(300, 300));
    assert!(problem(&store, inner(&[wrong_last, link(&b)]), 1, totals).contains("last name"));
    let overlap = leaf(&store, 'a', 200..500);
    assert!(problem(&store, inner(&[link(&a), link(&overlap)]), 1, totals).contains("left neighbour"));
    let good = inner(&[link(&a), link(&b)]);
    assert!(problem(&store, good, 2, totals).contains("level"));
    assert!(problem(&store, good, 1, files(600, 599)).contains("sums"));
    let high = raw::link(&b.0, good.as_bytes(), 600, totals);
    assert!(problem(&store, inner(&[link(&a), high]), 1, files(900, 900)).contains("level"));
}

#[test]
fn claims_about_nodes_seen_before() {
    let store = MemoryStore::new();
    let link = build_dir(&store, &numbered(3));
    let lie = TreeLink { totals: Totals { files: 4, ..link.totals }, ..link };
    let entries =
        [(name("a"), link), (name("b"), lie)].map(|(name, link)| (name, Entry::directory(Mode::DIRECTORY, link)));
    let root = build_dir(&store, &entries.into());
    let findings = walk(&store, &root);
    assert_eq!(findings.problems.len(), 1);
    assert_eq!(findings.problems[0].0.to_string(), "b");
    assert_eq!(findings.problems[0].1.id(), Some(link.id.0));
}

#[test]
fn a_tree_bomb_takes_ten_nodes() {
    let store = MemoryStore::new();
    let mut link = build_dir(&store, &numbered(10));
    for _ in 0..10 {
        let entry = Entry::directory(Mode::DIRECTORY, link);
        link = build_dir(&store, &(0..10).map(|n| (name(&format!("d{n}")), entry.clone())).collect());
    }
    assert_eq!(link.totals.files, 100_000_000_000);
    store.reset_counts();
    let findings = assert_sound(&store, &link);
    assert_eq!((findings.nodes.len(), store.gets()), (11, 11));
    assert_eq!(diff(&store, Some(link), Some(link)).count(), 0);
    // Larger still: the sums overflow before the tree can be named.
    let huge = Entry::directory(Mode::DIRECTORY, TreeLink { totals: files(u64::MAX / 2, 0), ..link });
    let huge: Vec<_> = (0..3).map(|n| (name(&format!("d{n}")), huge.clone())).collect();
    assert!(TreeNode::decode(&TreeNode::Leaf(huge).encode()).is_err());
}

#[test]
fn depth_has_an_end() {
    let store = MemoryStore::new();
    let mut link = build_dir(&store, &numbered(1));
    for _ in 0..4_200 {
        link = build_dir(&store, &[(name("d"), Entry::directory(Mode::DIRECTORY, link))].into());
    }
    let findings = walk(&store, &link);
    assert!(matches!(findings.problems[..], [(_, WalkError::TooDeep { .. })]), "{:?}", findings.problems.len());
    let last = diff(&store, None, Some(link)).last().unwrap();
    assert!(matches!(last, Err(WalkError::TooDeep { .. })));
}

#[test]
fn versions_of_a_large_directory_share_what_was_seen() {
    let store = MemoryStore::new();
    let mut model = numbered(100_000);
    let mut findings = Findings::default();
    let mut costs = Vec::new();
    let mut rng = Rng::new(9);
    for _ in 0..10 {
        let root = build_dir(&store, &model);
        let before = findings.nodes.len();
        Walk::new(&store).tree(&mut findings, &root);
        costs.push(findings.nodes.len() - before);
        model.insert(name(&format!("file-{:08}", rng.below(100_000))), file(rng.u64()));
    }
    println!("a walk over versions of 100,000 entries reads {costs:?}");
    assert!(findings.problems.is_empty());
    assert!(costs[1..].iter().all(|cost| *cost <= 14), "{costs:?}");
}

#[test]
fn damage_does_not_stop_the_walk() {
    let store = MemoryStore::new();
    let mut rng = Rng::new(2);
    let mut model = numbered(20_000);
    let sub = random_tree(&store, &mut rng, 2, 8);
    model.insert(Name::new(b"zz").unwrap(), Entry::directory(Mode::DIRECTORY, sub));
    let root = build_dir(&store, &model);
    let leaves: Vec<ContentHash> = assert_sound(&store, &root).nodes.iter().map(|(_, id)| *id).collect();
    store.remove(&leaves[5]);
    let mut findings = Findings::default();
    Walk::new(&store).tree(&mut findings, &root);
    let missing: Vec<_> = findings.problems.iter().filter(|(_, error)| error.id() == Some(leaves[5])).collect();
    assert_eq!(missing.len(), 1);
    assert!(findings.nodes.iter().filter(|(kind, _)| *kind == TREE).count() >= leaves.len() - 3);
}

#[test]
fn lists_with_lies() {
    let store = MemoryStore::new();
    let chunk = |n: u8| ([n; 32], 10_000u64);
    let leaf = |from: u8, to: u8| {
        let items: Vec<_> = (from..to).map(chunk).collect();
        *store.insert(LIST, &raw::list(0, None, &items)).as_bytes()
    };
    let judge = |height: u8, size: u64, bytes: Vec<u8>| {
        let id = filesync_merkle::ListId(store.insert(LIST, &bytes));
        let mut findings = Findings::default();
        Walk::new(&store).list(&mut findings, &id, height, size).unwrap_err().to_string()
    };
    let (a, b) = (leaf(0, 100), leaf(100, 200));
    let root = |size| Some((size, [0; 32]));
    assert!(judge(1, 2_000_000, raw::list(1, root(2_000_000), &[(a, 1_000_000), (b, 1_000_000)])).contains("cut"));
    assert!(judge(1, 2_000_001, raw::list(1, root(2_000_001), &[(a, 1_000_000), (b, 1_000_001)])).contains("sum"));
    assert!(judge(2, 2_000_000, raw::list(2, root(2_000_000), &[(a, 1_000_000), (b, 1_000_000)])).contains("level"));
    assert!(judge(1, 2_000_001, raw::list(1, root(2_000_000), &[(a, 1_000_000), (b, 1_000_000)])).contains("size"));
    assert!(judge(0, 10_000, raw::list(0, None, &[chunk(1)])).contains("not the root"));
    assert!(judge(0, 10_000, raw::list(0, root(10_000), &[chunk(1)])).contains("too few"));
    // Ten levels of a thousand links each to one node: too many bytes to name. With a few less, the cuts are wrong.
    let mut id = leaf(0, 2);
    let mut len = 20_000;
    for level in 1..5 {
        id = *store.insert(LIST, &raw::list(level, None, &vec![(id, len); 1024])).as_bytes();
        len *= 1024;
    }
    assert!(judge(5, len * 2, raw::list(5, root(len * 2), &[(id, len), (id, len)])).contains("cut"));
}

/// The links of a root of level 1, and what one of its leaves holds.
fn open(store: &MemoryStore, link: &TreeLink) -> Vec<Link> {
    match TreeNode::decode(&store.get(TREE, &link.id.0).unwrap()).unwrap() {
        TreeNode::Inner { links, .. } => links,
        TreeNode::Leaf(_) => panic!("a leaf"),
    }
}

/// The directory with one leaf changed, and all other nodes as they are.
fn with_leaf(
    store: &MemoryStore,
    root: &TreeLink,
    at: usize,
    change: impl FnOnce(&mut Vec<(Name, Entry)>),
) -> TreeLink {
    let mut links = open(store, root);
    let TreeNode::Leaf(mut entries) = TreeNode::decode(&store.get(TREE, &links[at].id.0).unwrap()).unwrap() else {
        panic!("not a leaf")
    };
    change(&mut entries);
    links[at].last = entries.last().unwrap().0.clone();
    links[at].id = put(store, &TreeNode::Leaf(entries).encode());
    TreeLink { id: put(store, &TreeNode::Inner { level: 1, links }.encode()), ..*root }
}

/// A node that was right where it stood first need not be right beside another neighbour.
#[test]
fn nodes_seen_before_beside_other_neighbours() {
    for seed in seeds(0, 4, 40) {
        let store = MemoryStore::new();
        let mut model = wide(&mut Rng::new(seed), 1_500);
        let root = build_dir(&store, &model);
        let mut findings = Findings::default();
        Walk::new(&store).tree(&mut findings, &root);
        assert!(findings.problems.is_empty());
        for at in 1..open(&store, &root).len() {
            let mut first = None;
            let hostile = with_leaf(&store, &root, at, |entries| {
                first = Some(std::mem::replace(&mut entries[0].1, symlink(1)));
                model.insert(entries[0].0.clone(), symlink(1));
            });
            let honest = build_dir(&MemoryStore::new(), &model);
            let seen = findings.problems.len();
            Walk::new(&store).tree(&mut findings, &hostile);
            assert_eq!(findings.problems.len() > seen, honest != hostile, "seed {seed}, leaf {at}");
            let key = model.iter().find(|(_, entry)| **entry == symlink(1)).map(|(name, _)| name.clone());
            model.insert(key.unwrap(), first.unwrap());
        }
    }

    let store = MemoryStore::new();
    let root = build_dir(&store, &tall(4_096));
    let mut findings = Findings::default();
    Walk::new(&store).tree(&mut findings, &root);
    assert!(findings.problems.is_empty() && root.height == 1);
    // The last name of leaf 39 reaches into leaf 40, which is as it was.
    let hostile = with_leaf(&store, &root, 39, |entries| {
        entries.last_mut().unwrap().0 = boundary_name("002570", 1);
    });
    Walk::new(&store).tree(&mut findings, &hostile);
    assert!(findings.problems[0].1.to_string().contains("left neighbour"), "{:?}", findings.problems);
}

#[test]
fn directories_of_three_levels() {
    let store = MemoryStore::new();
    let mut model = tall(65_536);
    let mut findings = Findings::default();
    let mut costs = Vec::new();
    for step in 0..5 {
        let root = build_dir(&store, &model);
        let before = findings.nodes.len();
        Walk::new(&store).tree(&mut findings, &root);
        costs.push(findings.nodes.len() - before);
        let (at, _) = model.iter().nth(63 + 64 * 64 * 3 * (step + 1)).unwrap();
        let at = at.clone();
        model.remove(&at);
    }
    println!("a walk over versions of three levels reads {costs:?}");
    assert!(findings.problems.is_empty(), "{:?}", findings.problems);
    assert!(costs[1..].iter().all(|cost| *cost < 40), "{costs:?}");
}
