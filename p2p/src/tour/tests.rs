//! The order is the same on both sides, complete, and short.

use std::collections::{BTreeMap, HashSet};

use filesync_cas::Schema;
use filesync_cas::testing::seeds;
use filesync_merkle::testing::{MemoryStore, Rng, build_dir, random_entry, random_name, random_tree};
use filesync_merkle::{
    COMMIT, Commit, Content, Entry, MerkleSchema, Mode, Node, Parts, Pub, RepoPath, Timestamp, TreeLink,
};

use super::*;

fn commit(store: &MemoryStore, tree: TreeLink, parents: &[CommitId], secs: i64) -> CommitId {
    let commit = Commit {
        parents: parents.to_vec(),
        tree,
        time: Timestamp::new(secs, 0).expect("a time"),
        author: "somebody".to_owned(),
        message: String::new(),
        node: [0; 32],
        signature: [0; 64],
    };
    CommitId(store.insert(COMMIT, &commit.encode().expect("a commit")))
}

fn walk(root: CommitId, base: Option<CommitId>, history: bool) -> Walk {
    let base = base.map(|base| base.0);
    Walk { root: Root::Commit(root), base, history, path: RepoPath::root(), parts: Parts::whole(), from: 0 }
}

/// Random trees name lists and attributes that are nowhere: plain files will do.
fn plain(entry: Entry) -> Entry {
    match entry.node {
        Node::File { content: Content::List { .. }, mtime, .. } => Entry {
            attrs: None,
            node: Node::File { mtime, size: 7, content: Content::Chunk(filesync_merkle::ChunkId::from_bytes([7; 32])) },
            ..entry
        },
        node => Entry { attrs: None, mode: entry.mode, node },
    }
}

fn plain_dir(store: &MemoryStore, rng: &mut Rng, depth: u32, width: u64) -> TreeLink {
    let mut entries = BTreeMap::new();
    for _ in 0..=rng.below(width) {
        let entry = match depth > 0 && rng.below(3) == 0 {
            true => Entry::directory(Mode::DIRECTORY, plain_dir(store, rng, depth - 1, width)),
            false => plain(random_entry(rng)),
        };
        entries.insert(random_name(rng, 40), entry);
    }
    build_dir(store, &entries)
}

/// Goes an order over what a sender has; a receiver goes it beside, with what it gets and its base. What was sent.
fn both(sender: &MemoryStore, receiver: &MemoryStore, walk: &Walk) -> Vec<Next> {
    let (mut there, mut here) = (Tour::new(walk), Tour::new(walk));
    let mut order = Vec::new();
    while let Some(next) = there.next(sender).expect("the sender has it") {
        assert_eq!(here.next(receiver).expect("the receiver can follow"), Some(next));
        let bytes = sender.get(next.kind, &next.id).expect("the sender has it");
        receiver.insert(next.kind, &bytes);
        let sent = there.give(&bytes, sender).expect("good");
        assert_eq!(here.give(&bytes, receiver).expect("good"), sent);
        assert_eq!(here.place(), there.place());
        // The place is that of the object: positions lead to it.
        let (root, steps) = there.place();
        let mut at = (root.kind(), *root.id());
        for step in if next.kind == COMMIT { &[][..] } else { steps } {
            let bytes = sender.get(at.0, &at.1).expect("on the way");
            at = MerkleSchema.children(at.0, &bytes).expect("good")[usize::from(*step)];
        }
        assert_eq!(at, (next.kind, next.id));
        order.push(next);
    }
    assert_eq!(here.next(receiver).expect("the end"), None);
    assert_eq!((here.count(), there.count()), (order.len() as u64, order.len() as u64));
    order
}

/// All metadata that a root leads to.
fn closure(store: &MemoryStore, root: CommitId) -> HashSet<ContentHash> {
    let mut open = vec![(COMMIT, root.0)];
    let mut seen = HashSet::new();
    while let Some((kind, id)) = open.pop() {
        if !kind.is_chunk() && seen.insert(id) {
            let bytes = store.get(kind, &id).expect("there");
            open.extend(MerkleSchema.children(kind, &bytes).expect("good"));
        }
    }
    seen
}

fn copy(from: &MemoryStore, root: CommitId) -> MemoryStore {
    let to = MemoryStore::new();
    let ids = closure(from, root);
    for (id, kind, bytes) in from.objects() {
        if ids.contains(&id) {
            to.insert(kind, &bytes);
        }
    }
    to
}

#[test]
fn both_sides_go_the_same_way_and_nothing_is_left_out() {
    for seed in seeds(0, 60, 2_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let mut commits: Vec<CommitId> = Vec::new();
        for n in 0..12i64 {
            let tree = plain_dir(&store, &mut rng, 3, 6);
            let mut parents: Vec<CommitId> = Vec::new();
            for _ in 0..rng.below(3).min(commits.len() as u64) {
                let parent = commits[usize::try_from(rng.below(commits.len() as u64)).expect("few")];
                if !parents.contains(&parent) {
                    parents.push(parent);
                }
            }
            commits.push(commit(&store, tree, &parents, n));
        }
        for root in &commits {
            let everything = both(&store, &MemoryStore::new(), &walk(*root, None, true));
            let sent: HashSet<_> = everything.iter().map(|next| next.id).collect();
            assert_eq!(sent, closure(&store, *root), "seed {seed}");
            assert_eq!(sent.len(), everything.len(), "once each");
            for base in &commits {
                let receiver = copy(&store, *base);
                both(&store, &receiver, &walk(*root, Some(*base), true));
                for id in closure(&store, *root) {
                    assert!(receiver.objects().iter().any(|(there, ..)| *there == id), "seed {seed}: {id}");
                }
            }
        }
    }
}

/// One file changes at the end of a chain of directories beside many others: only the chain is sent.
#[test]
fn a_change_costs_its_path() {
    let store = MemoryStore::new();
    let mut rng = Rng::new(1);
    let side = plain_dir(&store, &mut rng, 3, 8);
    let deep = |content: u8| {
        let mtime = Timestamp::default();
        let chunk = Content::Chunk(filesync_merkle::ChunkId::from_bytes([content; 32]));
        let mut entry = Entry { mode: Mode::FILE, attrs: None, node: Node::File { mtime, size: 5, content: chunk } };
        for _ in 0..50 {
            let entries = [
                (Name::new(b"side").expect("a name"), Entry::directory(Mode::DIRECTORY, side)),
                (Name::new(b"way").expect("a name"), entry),
            ];
            entry = Entry::directory(Mode::DIRECTORY, build_dir(&store, &entries.into_iter().collect()));
        }
        *entry.as_directory().expect("a directory")
    };
    let old = commit(&store, deep(1), &[], 1);
    let new = commit(&store, deep(2), &[old], 2);
    let order = both(&store, &copy(&store, old), &walk(new, Some(old), true));
    assert_eq!(order.len(), 51, "a commit and 50 directories");
    assert!(order[1..].iter().all(|next| next.counterpart.is_some()), "all of them are compared");
    // Nothing is new.
    let same = commit(&store, deep(2), &[new], 3);
    assert_eq!(both(&store, &copy(&store, new), &walk(same, Some(new), true)).len(), 1);
    assert_eq!(both(&store, &copy(&store, new), &walk(new, Some(new), true)), []);
}

/// A directory of a hundred thousand names in which one changes: two or three nodes.
#[test]
fn a_change_in_a_large_directory_costs_its_height() {
    let store = MemoryStore::new();
    let file = |content: u8| {
        let chunk = Content::Chunk(filesync_merkle::ChunkId::from_bytes([content; 32]));
        let node = Node::File { mtime: Timestamp::default(), size: 5, content: chunk };
        Entry { mode: Mode::FILE, attrs: None, node }
    };
    let name = |n: u32| Name::new(format!("file {n:06}").as_bytes()).expect("a name");
    let mut entries: BTreeMap<_, _> = (0..100_000).map(|n| (name(n), file(1))).collect();
    let old = commit(&store, build_dir(&store, &entries), &[], 1);
    entries.insert(name(55_555), file(2));
    let new = commit(&store, build_dir(&store, &entries), &[old], 2);
    let order = both(&store, &copy(&store, old), &walk(new, Some(old), true));
    assert!(order.len() <= 6, "{} objects", order.len());
    // Half of it is gone, and the directory is less high: no harm.
    let few = entries.iter().take(300).map(|(name, entry)| (name.clone(), entry.clone())).collect();
    let less = commit(&store, build_dir(&store, &few), &[new], 3);
    both(&store, &copy(&store, new), &walk(less, Some(new), true));
    both(&store, &copy(&store, less), &walk(new, Some(less), true));
}

/// P14: ten levels of ten links to one directory each stand for ten thousand million files.
#[test]
fn bombs_of_links_are_short() {
    let store = MemoryStore::new();
    let mut link = random_tree(&store, &mut Rng::new(3), 0, 0);
    for _ in 0..10 {
        let entries =
            (0..10u8).map(|n| (Name::new(&[b'a' + n]).expect("a name"), Entry::directory(Mode::DIRECTORY, link)));
        link = build_dir(&store, &entries.collect());
    }
    let root = commit(&store, link, &[], 1);
    assert_eq!(both(&store, &MemoryStore::new(), &walk(root, None, true)).len(), 12);
}

/// P15: no stack overflows, and what is too deep is refused.
#[test]
fn depth_is_bounded() {
    let store = MemoryStore::new();
    let mut link = random_tree(&store, &mut Rng::new(3), 0, 0);
    let mut roots = Vec::new();
    for depth in 0..4200u32 {
        if [4000, 4199].contains(&depth) {
            roots.push(commit(&store, link, &[], 1));
        }
        let entry = (Name::new(b"d").expect("a name"), Entry::directory(Mode::DIRECTORY, link));
        link = build_dir(&store, &[entry].into_iter().collect());
    }
    assert_eq!(both(&store, &MemoryStore::new(), &walk(roots[0], None, true)).len(), 4002);
    let mut tour = Tour::new(&walk(roots[1], None, true));
    let error = loop {
        let next = tour.next(&store).expect("readable").expect("it does not end");
        let bytes = store.get(next.kind, &next.id).expect("there");
        if let Err(error) = tour.give(&bytes, &store) {
            break error;
        }
    };
    assert!(error.to_string().contains("nested too deeply"), "{error}");
}

/// History is followed to what the base has, however the branches lie, and not much further.
#[test]
fn merges_of_old_branches_do_not_send_all_history() {
    let store = MemoryStore::new();
    let tree = TreeLink::empty();
    store.insert(filesync_merkle::TREE, &filesync_merkle::TreeNode::Leaf(vec![]).encode());
    let mut chain = vec![commit(&store, tree, &[], 0)];
    for n in 1..2000 {
        chain.push(commit(&store, tree, &[chain[n - 1]], i64::try_from(n).expect("few")));
    }
    let base = chain[1999];
    let branch = commit(&store, tree, &[chain[1500]], 5000);
    let merged = commit(&store, tree, &[base, branch], 5001);
    let order = both(&store, &copy(&store, base), &walk(merged, Some(base), true));
    assert!(order.len() <= 2 + 150, "{} objects for two new commits", order.len());
    // Linear: exactly what is new.
    assert_eq!(both(&store, &copy(&store, chain[1900]), &walk(base, Some(chain[1900]), true)).len(), 99);
    // Without history: one commit and its tree.
    assert_eq!(both(&store, &MemoryStore::new(), &walk(base, None, false)).len(), 2);
}

#[test]
fn a_path_is_walked_alone_and_its_absence_is_shown() {
    let store = MemoryStore::new();
    let mut rng = Rng::new(5);
    let name = |text: &str| Name::new(text.as_bytes()).expect("a name");
    let dir = |link| Entry::directory(Mode::DIRECTORY, link);
    let inner = plain_dir(&store, &mut rng, 2, 6);
    let a = build_dir(&store, &[(name("b"), dir(inner)), (name("c"), dir(plain_dir(&store, &mut rng, 2, 6)))].into());
    let root = build_dir(&store, &[(name("a"), dir(a)), (name("z"), dir(plain_dir(&store, &mut rng, 2, 6)))].into());
    let head = commit(&store, root, &[], 1);
    let at = |path: &str| Walk { path: RepoPath::parse(path.as_bytes()).expect("a path"), ..walk(head, None, false) };
    let order = both(&store, &MemoryStore::new(), &at("a/b"));
    let below = both(&store, &MemoryStore::new(), &walk(commit(&store, inner, &[], 2), None, false)).len() - 1;
    assert_eq!(order.len(), 3 + below, "commit, root, a, and b with what is below");
    for path in ["nothing", "a/nothing", "a/b/nothing/at/all"] {
        assert!(both(&store, &MemoryStore::new(), &at(path)).len() <= 4, "{path}");
    }
}

#[test]
fn pubs_are_a_chain() {
    let store = MemoryStore::new();
    let mut prev = None;
    let mut ids = Vec::new();
    for log_index in 0..10 {
        let step = Pub { ref_name: "main".to_owned(), log_index, old: None, new: None, prev };
        let id = PubId(store.insert(PubId::KIND, &step.encode().expect("a pub")));
        prev = Some(id);
        ids.push(id);
    }
    let walk = |root: usize, base: Option<usize>| Walk {
        root: Root::Pub(ids[root]),
        base: base.map(|base| ids[base].0),
        history: true,
        path: RepoPath::root(),
        parts: Parts::whole(),
        from: 0,
    };
    for (root, base, count) in [(9, None, 10), (9, Some(3), 6), (9, Some(9), 0), (0, None, 1)] {
        let (mut tour, mut order) = (Tour::new(&walk(root, base)), 0);
        while let Some(next) = tour.next(&store).expect("readable") {
            tour.give(&store.get(next.kind, &next.id).expect("there"), &store).expect("good");
            order += 1;
        }
        assert_eq!(order, count, "from {root} to {base:?}");
    }
}

/// P16: what has its hash and is not canonical, or does not fit, condemns the commit.
#[test]
fn hostile_objects_are_refused() {
    use filesync_merkle::testing::raw;
    let store = MemoryStore::new();
    let good = raw::tree(0, &[raw::file(b"f", 0o644, 5, &[1; 32])]);
    let totals = |files, bytes| Totals { files, directories: 0, bytes };
    let link = |bytes: &[u8], height, totals| TreeLink {
        id: filesync_merkle::TreeId(store.insert(filesync_merkle::TREE, bytes)),
        height,
        totals,
    };
    let unsorted = raw::tree(0, &[raw::file(b"b", 0o644, 5, &[1; 32]), raw::file(b"a", 0o644, 5, &[1; 32])]);
    let evil_name = raw::tree(0, &[raw::file(b"..", 0o644, 5, &[1; 32])]);
    for (tree, is_good) in [
        (link(&good, 0, totals(1, 5)), true),
        (link(&good, 0, totals(2, 5)), false),
        (link(&good, 0, totals(1, 6)), false),
        (link(&good, 1, totals(1, 5)), false),
        (link(&unsorted, 0, totals(2, 10)), false),
        (link(&evil_name, 0, totals(1, 5)), false),
        (link(&[&good[..], b"x"].concat(), 0, totals(1, 5)), false),
    ] {
        let head = commit(&store, tree, &[], 1);
        let mut tour = Tour::new(&walk(head, None, true));
        let next = tour.next(&store).expect("readable").expect("a commit");
        tour.give(&store.get(next.kind, &next.id).expect("there"), &store).expect("good");
        let next = tour.next(&store).expect("readable").expect("a tree");
        let given = tour.give(&store.get(next.kind, &next.id).expect("there"), &store);
        assert_eq!(given.is_ok(), is_good, "{given:?}");
    }
}
