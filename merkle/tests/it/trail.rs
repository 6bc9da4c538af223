//! One path through many trees: the answers of a plain look-up, at the cost of what differs.

use std::collections::BTreeMap;

use filesync_cas::testing::seeds;
use filesync_merkle::testing::{MemoryStore, Rng, build_dir, random_entry, random_tree};
use filesync_merkle::{
    COMMIT, Commit, CommitId, Entry, Finder, FirstParents, Mode, RepoPath, Timestamp, Touches, Trail, TreeLink,
    WalkError, diff, edit_paths, lookup,
};

use crate::{file, name, numbered, path};

fn commit(store: &MemoryStore, tree: TreeLink, parent: Option<CommitId>) -> CommitId {
    commit_at(store, tree, parent.as_slice(), 0)
}

fn commit_at(store: &MemoryStore, tree: TreeLink, parents: &[CommitId], seconds: i64) -> CommitId {
    let commit = Commit {
        parents: parents.to_vec(),
        tree,
        time: Timestamp::new(seconds, 0).unwrap(),
        author: "a".to_owned(),
        message: String::new(),
        node: [0; 32],
        signature: [0; 64],
    };
    CommitId(store.insert(COMMIT, &commit.encode().unwrap()))
}

fn edit(store: &MemoryStore, tree: TreeLink, at: &RepoPath, entry: Option<Entry>) -> TreeLink {
    edit_paths(store, &mut &*store, Some(tree), [(at.clone(), entry)]).unwrap()
}

/// What the definition says: look up on both sides and compare.
fn differs(store: &MemoryStore, old: Option<TreeLink>, new: Option<TreeLink>, at: &RepoPath) -> bool {
    if at.is_root() {
        return old.map(|link| link.id) != new.map(|link| link.id);
    }
    let find = |tree: Option<TreeLink>| tree.and_then(|tree| lookup(store, &tree, at).unwrap());
    match (find(old), find(new)) {
        (Some(old), Some(new)) => !old.same(&new),
        (old, new) => old.is_some() != new.is_some(),
    }
}

/// All paths of a tree, and some that are not there.
fn paths_of(store: &MemoryStore, tree: TreeLink) -> Vec<RepoPath> {
    let changes = diff(store, None, Some(tree)).with_directories();
    let there: Vec<_> = changes.map(|change| change.unwrap().path).collect();
    let below = there.iter().map(|path| path.join(&name("x")));
    let mut all = vec![RepoPath::root(), path("0"), path("~/y")];
    all.extend(below.collect::<Vec<_>>());
    all.extend(there);
    all
}

#[test]
fn trails_answer_as_look_ups_do() {
    for seed in seeds(0, 40, 2_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let mut trees = vec![None, Some(random_tree(&store, &mut rng, 3, 9))];
        for _ in 0..12 {
            let last = trees.iter().rev().flatten().next().copied().unwrap();
            let paths = paths_of(&store, last);
            let at = &paths[usize::try_from(rng.below(paths.len() as u64)).unwrap()];
            let entry = match rng.below(4) {
                0 => None,
                1 => Some(Entry::directory(Mode::DIRECTORY, random_tree(&store, &mut rng, 1, 4))),
                _ => Some(random_entry(&mut rng)),
            };
            let is_plain = !at.is_root()
                && at.parent().is_some_and(|up| {
                    up.is_root() || lookup(&store, &last, &up).unwrap().is_some_and(|entry| entry.is_directory())
                });
            trees.push(if is_plain { Some(edit(&store, last, at, entry)) } else { None });
        }
        let mut paths: Vec<_> = trees.iter().flatten().flat_map(|tree| paths_of(&store, *tree)).collect();
        paths.sort();
        paths.dedup();
        for at in paths {
            let mut trail = Trail::new(&at);
            let mut old = None;
            for new in &trees {
                let expected = differs(&store, old, *new, &at);
                assert_eq!(trail.go(&store, *new).unwrap(), expected, "seed {seed}, {at:?}");
                let found = new.and_then(|tree| lookup(&store, &tree, &at).unwrap());
                assert_eq!(trail.entry(), found.as_ref(), "seed {seed}, {at:?}");
                old = *new;
            }
        }
    }
}

/// A tree with `a/b/c/file` and something beside it on every level.
fn deep(store: &MemoryStore) -> TreeLink {
    let dir = Entry::directory(Mode::DIRECTORY, TreeLink::empty());
    let paths = ["a", "a/b", "a/b/c", "a/b/c/file", "a/b/c/other", "a/b/other", "a/other", "other", "z", "z/other"];
    let entry = |at: &str| if at.ends_with("er") || at.ends_with("file") { file(0) } else { dir.clone() };
    edit_paths(store, &mut &*store, None, paths.map(|at| (path(at), Some(entry(at))))).unwrap()
}

#[test]
fn a_history_of_one_path_reads_what_differs_on_the_way_to_it() {
    let store = MemoryStore::new();
    let mut tree = deep(&store);
    let mut head = commit(&store, tree, None);
    let mut expected = vec![head];
    // Nodes on the way to the path that each commit made anew.
    let mut made = 4;
    for number in 1..1000_u64 {
        let (at, nodes) = match number % 10 {
            0 => ("a/b/c/file", 4),
            3 => ("a/b/c/other", 4),
            5 => ("a/b/other", 3),
            7 => ("a/other", 2),
            _ => ("z/other", 1),
        };
        tree = edit(&store, tree, &path(at), Some(file(number)));
        head = commit(&store, tree, Some(head));
        made += nodes;
        if number % 10 == 0 {
            expected.push(head);
        }
    }
    store.reset_counts();
    let touches: Result<Vec<_>, WalkError> =
        Touches::new(&store, Some(head), &[path("a/b/c/file")], |_| false).collect();
    let touched: Vec<_> = touches.unwrap().into_iter().filter(|touch| touch.touched).map(|touch| touch.id).collect();
    expected.reverse();
    assert_eq!(touched, expected);
    // Each commit once, and of each tree what its child did not have.
    assert_eq!(store.gets(), 1000 + made);
    let all: Vec<_> = Touches::new(&store, Some(head), &[], |_| false).map(|touch| touch.unwrap().id).collect();
    assert_eq!(all, FirstParents::new(&store, Some(head)).map(|item| item.unwrap().0).collect::<Vec<_>>());
}

#[test]
fn neighbours_of_a_large_directory_cost_what_differs() {
    let store = MemoryStore::new();
    let mut model: BTreeMap<_, _> = numbered(100_000);
    let mut trail = Trail::new(&path("file-00050000"));
    let tree = build_dir(&store, &model);
    store.reset_counts();
    trail.go(&store, Some(tree)).unwrap();
    assert_eq!(store.gets(), u64::from(tree.height) + 1);
    let mut far = 0;
    for number in 0..50_u64 {
        model.insert(name(&format!("file-{:08}", number * 2000)), file(1_000_000 + number));
        let tree = build_dir(&store, &model);
        store.reset_counts();
        let changed = trail.go(&store, Some(tree)).unwrap();
        assert_eq!(changed, number == 25);
        far += store.gets();
    }
    // The root each time, the leaf when something near the name changed.
    assert!((50..=60).contains(&far), "{far}");
}

/// A merge is no change of what one side alone has changed; then only that side is followed, and the other one's commits are
/// not asked for. Where both have, it is one, and both are.
#[test]
fn a_merge_leads_to_the_side_that_changed_it() {
    let store = MemoryStore::new();
    let first = deep(&store);
    let (file, other) = (path("a/b/c/file"), path("z/other"));
    let base = commit_at(&store, first, &[], 1);
    let ours = commit_at(&store, edit(&store, first, &file, Some(crate::file(7))), &[base], 2);
    let theirs = commit_at(&store, edit(&store, first, &other, Some(crate::file(8))), &[base], 3);
    let both = edit(&store, edit(&store, first, &file, Some(crate::file(7))), &other, Some(crate::file(8)));
    let merge = commit_at(&store, both, &[theirs, ours], 4);
    let last = commit_at(&store, edit(&store, both, &path("a/other"), None), &[merge], 5);
    let log = |at: &[&RepoPath]| -> Vec<_> {
        let paths: Vec<RepoPath> = at.iter().map(|at| (*at).clone()).collect();
        let touches = Touches::new(&store, Some(last), &paths, |_| false).map(|touch| touch.unwrap());
        touches.map(|touch| (touch.id, touch.touched)).collect()
    };
    assert_eq!(log(&[&file]), [(last, false), (merge, false), (ours, true), (base, true)]);
    assert_eq!(log(&[&other]), [(last, false), (merge, false), (theirs, true), (base, true)]);
    // Of both paths no side alone has what the merge has.
    assert_eq!(log(&[&file, &other]), [(last, false), (merge, true), (theirs, true), (ours, true), (base, true)]);
}

#[test]
fn what_is_bare_is_passed_over() {
    let store = MemoryStore::new();
    let first = deep(&store);
    let second = edit(&store, first, &path("a/b/c/file"), Some(file(7)));
    let third = edit(&store, second, &path("z/other"), Some(file(8)));
    let oldest = commit(&store, first, None);
    let bare = commit(&store, second, Some(oldest));
    let head = commit(&store, third, Some(bare));
    // Its tree is not there, and is not asked for.
    store.remove(&second.id.0);
    let touches = Touches::new(&store, Some(head), &[path("a/b/c/file")], |id| *id == bare);
    let found: Vec<_> = touches.map(|touch| touch.map(|touch| (touch.id, touch.touched)).unwrap()).collect();
    // What the bare one changed shows in the one behind it.
    assert_eq!(found, [(head, true), (oldest, true)]);
}

#[test]
fn an_error_ends_it() {
    let store = MemoryStore::new();
    let tree = deep(&store);
    let first = commit(&store, tree, None);
    let later = edit(&store, tree, &path("a/other"), None);
    let head = commit(&store, later, Some(first));
    let paths = [path("a/other")];
    store.remove(&tree.id.0);
    let found: Vec<_> = Touches::new(&store, Some(head), &paths, |_| false).collect();
    assert!(matches!(found.as_slice(), [Err(_)]), "{found:?}");
    store.remove(&first.0);
    let found: Vec<_> = Touches::new(&store, Some(head), &paths, |_| false).collect();
    assert!(matches!(found.as_slice(), [Err(_)]), "{found:?}");
}

#[test]
fn finders_answer_as_look_ups_do_and_read_each_node_once() {
    for seed in seeds(0, 30, 3_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let tree = random_tree(&store, &mut rng, 3, 9);
        let mut paths = paths_of(&store, tree);
        paths.sort();
        let expected: Vec<_> = paths.iter().map(|at| lookup(&store, &tree, at).unwrap()).collect();
        let nodes = store.objects().len() as u64;
        store.reset_counts();
        let mut finder = Finder::new(&store, tree);
        for (at, expected) in paths.iter().zip(&expected) {
            assert_eq!(finder.find(at).unwrap(), *expected, "seed {seed}, {at:?}");
        }
        assert!(store.gets() <= nodes, "seed {seed}: {} of {nodes}", store.gets());
        for _ in 0..100 {
            let at = usize::try_from(rng.below(paths.len() as u64)).unwrap();
            assert_eq!(finder.find(&paths[at]).unwrap(), expected[at], "seed {seed}, {:?}", paths[at]);
        }
    }
}
