//! Whatever the history, the directory is the one that is built from scratch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use filesync_cas::testing::{is_long, seeds};
use filesync_merkle::testing::{MemoryStore, Rng, build_dir, random_entry, random_name, random_tree};
use filesync_merkle::{
    DirCursor, EditError, Entry, Mode, Name, Node, TREE, Timestamp, TreeEditor, TreeLink, TreeNode, edit_paths, lookup,
};

use crate::{assert_sound, file, name, numbered, path, symlink, tall, wide};

type Changes = BTreeMap<Name, Option<Entry>>;

fn edit(store: &MemoryStore, old: Option<TreeLink>, changes: &Changes) -> TreeLink {
    let mut editor = TreeEditor::new(store, old);
    for (name, change) in changes {
        match change {
            Some(entry) => drop(editor.upsert(&mut &*store, name.clone(), entry.clone()).unwrap()),
            None => drop(editor.delete(&mut &*store, name).unwrap()),
        }
    }
    editor.finish(&mut &*store).unwrap()
}

fn apply(model: &mut BTreeMap<Name, Entry>, changes: &Changes) {
    for (name, change) in changes {
        match change {
            Some(entry) => model.insert(name.clone(), entry.clone()),
            None => model.remove(name),
        };
    }
}

/// Runs of random edits on a directory that starts with `start` entries made by `make`.
fn histories(seed: u64, start: u64, variety: u64, make: fn(&mut Rng) -> Entry) {
    let store = MemoryStore::new();
    let mut rng = Rng::new(seed);
    let mut model: BTreeMap<_, _> = (0..start).map(|_| (random_name(&mut rng, variety), make(&mut rng))).collect();
    let mut link = build_dir(&store, &model);
    for step in 0..25 {
        let mut changes = Changes::new();
        let keys: Vec<_> = model.keys().cloned().collect();
        for _ in 0..rng.below([1, 2, 4, 40, 400][step % 5]) + 1 {
            let known = keys.get(usize::try_from(rng.below(1 + keys.len() as u64)).unwrap());
            match (rng.below(4), known) {
                (0, Some(known)) => drop(changes.insert(known.clone(), None)),
                (1, Some(known)) => drop(changes.insert(known.clone(), Some(make(&mut rng)))),
                _ => drop(changes.insert(random_name(&mut rng, variety), Some(make(&mut rng)))),
            }
        }
        // A run in one place: deletions that join nodes, or additions that split them.
        if rng.below(3) == 0 && !keys.is_empty() {
            let from = usize::try_from(rng.below(keys.len() as u64)).unwrap();
            let len = usize::try_from(rng.below(1500)).unwrap();
            changes.extend(keys[from..].iter().take(len).map(|key| (key.clone(), None)));
        }
        apply(&mut model, &changes);
        link = edit(&store, Some(link), &changes);
        let scratch = build_dir(&MemoryStore::new(), &model);
        assert_eq!(link, scratch, "seed {seed}, step {step}, {} entries", model.len());
        if step % 8 == 0 {
            assert_sound(&store, &link);
            let read: Result<Vec<_>, _> = DirCursor::new(&store, &link).collect();
            assert!(read.unwrap().into_iter().eq(model.clone()), "seed {seed}, step {step}");
        }
    }
}

#[test]
fn random_histories_give_what_building_from_scratch_gives() {
    for seed in seeds(0, 12, 600) {
        histories(seed, [0, 10, 500, 520, 700, 3_000][usize::try_from(seed).unwrap() % 6], 1 << 14, random_entry);
    }
}

#[test]
fn large_directories_have_histories_too() {
    for seed in seeds(100, 3, 60) {
        histories(seed, 60_000, 1 << 40, random_entry);
    }
}

/// Nodes that end because of their bytes depend on the size of the entry behind them.
#[test]
fn large_entries_have_histories_too() {
    fn link(rng: &mut Rng) -> Entry {
        let len = [4095, 4095, 4095, 3900, 10][usize::try_from(rng.below(5)).unwrap()];
        let target = vec![b'x'; len].into();
        Entry { mode: Mode::SYMLINK, attrs: None, node: Node::Symlink { mtime: Timestamp::default(), target } }
    }
    for seed in seeds(200, 8, 400) {
        histories(seed, 2_000, 1 << 14, link);
    }
}

fn cost_of_one_change(count: u64) {
    let store = MemoryStore::new();
    let mut model = numbered(count);
    let started = Instant::now();
    let mut link = build_dir(&store, &model);
    println!("{count} entries built in {:?}, {} nodes, height {}", started.elapsed(), store.new_nodes(), link.height);
    let mut rng = Rng::new(7);
    let (mut written, mut read, mut time) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..50 {
        let at = name(&format!("file-{:08}", rng.below(count)));
        let changes = Changes::from([(at, Some(file(rng.u64())))]);
        apply(&mut model, &changes);
        store.reset_counts();
        let started = Instant::now();
        link = edit(&store, Some(link), &changes);
        time.push(started.elapsed());
        written.push(store.new_nodes());
        read.push(store.gets());
    }
    assert_eq!(link, build_dir(&MemoryStore::new(), &model));
    written.sort();
    read.sort();
    time.sort();
    println!(
        "one change of {count}: written {} (most {}), read {} (most {}), {:?}",
        written[25], written[49], read[25], read[49], time[25]
    );
    assert!(written[25] <= u64::from(link.height) + 1 && written[49] <= 8, "{written:?}");
    assert!(read[49] <= 40, "{read:?}");
}

#[test]
fn one_change_in_a_large_directory_writes_a_few_nodes() {
    cost_of_one_change(100_000);
    if is_long() {
        cost_of_one_change(1_000_000);
    }
}

#[test]
fn no_change_gives_the_old_link_and_writes_nothing() {
    let store = MemoryStore::new();
    let model = numbered(5_000);
    let link = build_dir(&store, &model);
    store.reset_counts();
    let mut editor = TreeEditor::new(&store, Some(link));
    let (at, entry) = model.iter().nth(2_500).unwrap();
    assert_eq!(editor.upsert(&mut &store, at.clone(), entry.clone()).unwrap().as_ref(), Some(entry));
    assert_eq!(editor.delete(&mut &store, &name("nothing")).unwrap(), None);
    assert!(editor.is_unchanged());
    assert_eq!(editor.finish(&mut &store).unwrap(), link);
    assert_eq!(store.new_nodes(), 0);
}

#[test]
fn order_and_values_are_checked() {
    let store = MemoryStore::new();
    let mut editor = TreeEditor::new(&store, None);
    editor.upsert(&mut &store, name("b"), file(1)).unwrap();
    assert!(matches!(editor.upsert(&mut &store, name("b"), file(1)), Err(EditError::Order(_))));
    assert!(matches!(editor.delete(&mut &store, &name("a")), Err(EditError::Order(_))));
    let bad = Entry {
        mode: Mode::FILE,
        ..Entry {
            mode: Mode::SYMLINK,
            attrs: None,
            node: Node::Symlink { mtime: Timestamp::default(), target: b"x"[..].into() },
        }
    };
    assert!(matches!(editor.upsert(&mut &store, name("c"), bad), Err(EditError::Invalid(_))));
    let empty = TreeEditor::new(&store, None).finish(&mut &store).unwrap();
    assert_eq!(empty, TreeLink::empty());
}

/// A tree as a map from path to entry, links of directories left out.
fn flat(store: &MemoryStore, root: &TreeLink) -> BTreeMap<String, Option<Entry>> {
    let mut found = BTreeMap::new();
    let mut stack = vec![(String::new(), *root)];
    while let Some((prefix, link)) = stack.pop() {
        for item in DirCursor::new(store, &link) {
            let (name, entry) = item.unwrap();
            let path = format!("{prefix}{name}");
            match entry.as_directory() {
                Some(link) => {
                    stack.push((format!("{path}/"), *link));
                    found.insert(path, None);
                }
                None => drop(found.insert(path, Some(entry))),
            }
        }
    }
    found
}

#[test]
fn changes_of_paths_rewrite_only_the_spine() {
    let store = MemoryStore::new();
    let dir = |link| Some(Entry::directory(Mode::DIRECTORY, link));
    let root = edit_paths(
        &store,
        &mut &store,
        None,
        [
            (path("a"), dir(TreeLink::empty())),
            (path("a/b"), dir(TreeLink::empty())),
            (path("a/b/f"), Some(file(1))),
            (path("a/b/g"), Some(file(2))),
            (path("a-"), Some(file(3))),
            (path("b"), dir(TreeLink::empty())),
            (path("b/f"), Some(file(4))),
        ],
    )
    .unwrap();
    assert_eq!(root.totals.files, 4);
    assert_eq!(root.totals.directories, 3);
    assert_sound(&store, &root);
    store.reset_counts();
    let next = edit_paths(&store, &mut &store, Some(root), [(path("a/b/f"), Some(file(9)))]).unwrap();
    assert_eq!((store.new_nodes(), store.gets()), (3, 3));
    assert_eq!(lookup(&store, &next, &path("a/b/f")).unwrap(), Some(file(9)));
    assert_eq!(lookup(&store, &next, &path("a/b/f/x")).unwrap(), None);
    assert_eq!(lookup(&store, &next, &path("")).unwrap(), None);

    let changes = [(path("a"), None), (path("a/b/f"), None), (path("b/f"), None), (path("zz/y"), None)];
    let next = edit_paths(&store, &mut &store, Some(root), changes).unwrap();
    assert_eq!(flat(&store, &next).into_keys().collect::<Vec<_>>(), ["a-", "b"]);
    assert_eq!(lookup(&store, &next, &path("b")).unwrap().unwrap().as_directory(), Some(&TreeLink::empty()));

    let changes = [(path("a"), Some(file(5))), (path("a/b"), None)];
    let next = edit_paths(&store, &mut &store, Some(root), changes).unwrap();
    assert_eq!(lookup(&store, &next, &path("a")).unwrap(), Some(file(5)));
    for bad in ["a-/x", "c/d", "b/f/x"] {
        let result = edit_paths(&store, &mut &store, Some(root), [(path(bad), Some(file(1)))]);
        assert!(matches!(result, Err(EditError::NotADirectory(_))), "{bad}");
    }
    let unsorted = [(path("b/f"), None), (path("a-"), None)];
    assert!(matches!(edit_paths(&store, &mut &store, Some(root), unsorted), Err(EditError::Order(_))));
    let same = edit_paths(&store, &mut &store, Some(root), [(path("a/b/f"), Some(file(1)))]).unwrap();
    assert_eq!(same, root);
}

#[test]
fn random_changes_of_paths_do_what_the_model_does() {
    for seed in seeds(0, 30, 3_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let root = random_tree(&store, &mut rng, 3, 12);
        let mut model = flat(&store, &root);
        let mut paths: BTreeSet<_> = model.keys().cloned().collect();
        let dirs: Vec<_> = model.iter().filter(|(_, entry)| entry.is_none()).map(|(path, _)| path.clone()).collect();
        paths.extend((0..5).map(|n| format!("new-{n}")));
        paths.extend(dirs.iter().map(|dir| format!("{dir}/new")));
        let mut changes = BTreeMap::new();
        for text in paths {
            let gone = |path: &str| {
                changes.keys().any(|other: &filesync_merkle::RepoPath| path.starts_with(&format!("{other}/")))
            };
            if rng.below(4) != 0 || gone(&text) {
                continue;
            }
            let below = format!("{text}/");
            model.retain(|path, _| *path != text && !path.starts_with(&below));
            let entry = (rng.below(2) == 0).then(|| random_entry(&mut rng));
            if let Some(entry) = &entry {
                model.insert(text.clone(), Some(entry.clone()));
            }
            changes.insert(path(&text), entry);
        }
        let next = edit_paths(&store, &mut &store, Some(root), changes).unwrap();
        assert_eq!(flat(&store, &next), model, "seed {seed}");
        assert_sound(&store, &next);
    }
}

#[test]
fn deep_trees_need_no_stack() {
    let store = MemoryStore::new();
    let mut text = String::new();
    let mut changes = Vec::new();
    for _ in 0..4_000 {
        text.push_str(if text.is_empty() { "d" } else { "/d" });
        changes.push((path(&text), Some(Entry::directory(Mode::DIRECTORY, TreeLink::empty()))));
    }
    changes.push((path(&format!("{text}/f")), Some(file(1))));
    let root = edit_paths(&store, &mut &store, None, changes).unwrap();
    assert_eq!(root.totals.directories, 4_000);
    assert_sound(&store, &root);
}

/// What a commit of a working copy spends here: every path new, 100 files in each directory.
#[test]
fn speed_of_a_commit_of_80_000_files() {
    let store = MemoryStore::new();
    let mut changes = Vec::new();
    for dir in 0..800 {
        changes.push((path(&format!("dir-{dir:04}")), Some(Entry::directory(Mode::DIRECTORY, TreeLink::empty()))));
        changes.extend((0..100).map(|n| (path(&format!("dir-{dir:04}/file-{n:04}.txt")), Some(file(dir * 100 + n)))));
    }
    let again = changes.clone();
    let started = Instant::now();
    let root = edit_paths(&store, &mut &store, None, changes).unwrap();
    println!("80,000 files in 800 directories: {:?}", started.elapsed());
    let started = Instant::now();
    let touched = again.into_iter().filter(|(_, entry)| !entry.as_ref().unwrap().is_directory());
    assert_eq!(edit_paths(&store, &mut &store, Some(root), touched).unwrap(), root);
    println!("the same once more: {:?}", started.elapsed());
}

/// The names that begin and end the nodes of level 0.
fn edges(store: &MemoryStore, link: &TreeLink) -> Vec<Name> {
    let mut edges = Vec::new();
    for (_, kind, bytes) in store.objects() {
        if kind == TREE
            && let Ok(TreeNode::Leaf(entries)) = TreeNode::decode(&bytes)
        {
            edges.extend([entries.first(), entries.last()].into_iter().flatten().map(|(name, _)| name.clone()));
        }
    }
    edges.sort();
    assert!(link.height > 0);
    edges
}

fn one_by_one(model: &BTreeMap<Name, Entry>, at: impl Iterator<Item = Name>, values: &[Option<Entry>]) {
    let store = MemoryStore::new();
    let link = build_dir(&store, model);
    for at in at {
        for value in values {
            let changes = Changes::from([(at.clone(), value.clone())]);
            let mut model = model.clone();
            apply(&mut model, &changes);
            let scratch = build_dir(&MemoryStore::new(), &model);
            assert_eq!(edit(&store, Some(link), &changes), scratch, "{at} becomes {value:?}");
        }
    }
}

/// Where a node is ended by the size of the entry behind it, that entry's change moves the cut.
#[test]
fn changes_where_bytes_end_nodes() {
    for seed in seeds(0, 6, 60) {
        let model = wide(&mut Rng::new(seed), 1_500);
        let store = MemoryStore::new();
        let link = build_dir(&store, &model);
        let edges = edges(&store, &link);
        one_by_one(&model, edges.into_iter(), &[None, Some(symlink(1)), Some(symlink(4095))]);
    }
}

#[test]
fn changes_in_a_directory_of_three_levels() {
    let model = tall(65_536);
    let store = MemoryStore::new();
    let link = build_dir(&store, &model);
    assert_eq!(link.height, 2);
    let edges = edges(&store, &link);
    assert_eq!(edges.len(), 2 * 1024);
    // Of level 1, and some of level 0: an odd step meets both beginnings and ends.
    let at: Vec<_> = edges.iter().skip(127).step_by(128).chain(edges.iter().skip(5).step_by(211)).collect();
    one_by_one(&model, at.iter().map(|at| (*at).clone()), &[None, Some(file(1 << 40))]);
    one_by_one(&model, at.iter().map(|at| name(&format!("{at}+"))), &[Some(file(1))]);
    // Two changes far apart: the nodes between them are out of step for a while.
    for seed in seeds(0, 20, 400) {
        let mut rng = Rng::new(seed);
        let mut changes = Changes::new();
        for _ in 0..2 + rng.below(3) {
            let at = &edges[usize::try_from(rng.below(2048)).unwrap()];
            changes.insert(at.clone(), (rng.below(2) == 0).then(|| file(rng.u64())));
        }
        let mut model = model.clone();
        apply(&mut model, &changes);
        store.reset_counts();
        let next = edit(&store, Some(link), &changes);
        assert!(store.gets() < 80, "{}", store.gets());
        assert_eq!(next, build_dir(&MemoryStore::new(), &model), "seed {seed}");
    }
}
