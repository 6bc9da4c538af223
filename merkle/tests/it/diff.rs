//! Differences against a model, and what they cost.

use std::collections::BTreeMap;

use filesync_cas::testing::{is_long, seeds};
use filesync_merkle::testing::{MemoryStore, Rng, build_dir, random_entry, random_name, random_tree};
use filesync_merkle::{Change, DirCursor, Entry, Mode, RepoPath, Timestamp, TreeLink, diff, edit_paths};

use crate::{file, name, numbered, path};

fn flat(store: &MemoryStore, root: Option<TreeLink>) -> BTreeMap<RepoPath, Entry> {
    let mut found = BTreeMap::new();
    let mut stack: Vec<_> = root.map(|root| (RepoPath::root(), root)).into_iter().collect();
    while let Some((prefix, link)) = stack.pop() {
        for item in DirCursor::new(store, &link) {
            let (name, entry) = item.unwrap();
            let path = prefix.join(&name);
            stack.extend(entry.as_directory().map(|link| (path.clone(), *link)));
            found.insert(path, entry);
        }
    }
    found
}

fn expected(store: &MemoryStore, old: Option<TreeLink>, new: Option<TreeLink>, dirs: bool) -> Vec<Change> {
    let (old, new) = (flat(store, old), flat(store, new));
    let mut paths: Vec<_> = old.keys().chain(new.keys()).cloned().collect();
    paths.sort();
    paths.dedup();
    let mut changes = Vec::new();
    for path in paths {
        let (old, new) = (old.get(&path).cloned(), new.get(&path).cloned());
        let report = match (&old, &new) {
            (Some(a), Some(b)) if a.is_directory() && b.is_directory() => a.mode != b.mode || a.attrs != b.attrs,
            (Some(a), Some(b)) => !a.same(b),
            (Some(one), None) | (None, Some(one)) => dirs || !one.is_directory(),
            (None, None) => false,
        };
        changes.extend(report.then_some(Change { path, old, new }));
    }
    changes
}

#[test]
fn random_trees_differ_as_their_maps_do() {
    for seed in seeds(0, 60, 6_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let old = random_tree(&store, &mut rng, 3, 10);
        let mut changes = BTreeMap::new();
        for at in flat(&store, Some(old)).into_keys() {
            let covered = changes.keys().any(|above| at.starts_with(above));
            match rng.below(8) {
                _ if covered => {}
                0 => drop(changes.insert(at, None)),
                1 => drop(changes.insert(at, Some(random_entry(&mut rng)))),
                2 => {
                    let link = random_tree(&store, &mut rng, 2, 5);
                    changes.insert(at, Some(Entry::directory(Mode::DIRECTORY, link)));
                }
                _ => {}
            }
        }
        let new = edit_paths(&store, &mut &store, Some(old), changes).unwrap();
        for (old, new) in [(Some(old), Some(new)), (None, Some(new)), (Some(old), None), (Some(old), Some(old))] {
            let found: Result<Vec<_>, _> = diff(&store, old, new).collect();
            assert_eq!(found.unwrap(), expected(&store, old, new, false), "seed {seed}");
            let found: Result<Vec<_>, _> = diff(&store, old, new).with_directories().collect();
            assert_eq!(found.unwrap(), expected(&store, old, new, true), "seed {seed}");
        }
    }
}

#[test]
fn large_directories_differ_as_their_maps_do() {
    for seed in seeds(0, 6, 300) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let mut model: BTreeMap<_, _> =
            (0..8_000).map(|_| (random_name(&mut rng, 1 << 40), random_entry(&mut rng))).collect();
        let old = build_dir(&store, &model);
        for _ in 0..rng.below(300) {
            model.insert(random_name(&mut rng, 1 << 40), random_entry(&mut rng));
        }
        let keys: Vec<_> = model.keys().cloned().collect();
        let from = usize::try_from(rng.below(keys.len() as u64)).unwrap();
        for key in keys[from..].iter().take(700) {
            model.remove(key);
        }
        let new = build_dir(&store, &model);
        for (old, new) in [(old, new), (new, old)] {
            let found: Result<Vec<_>, _> = diff(&store, Some(old), Some(new)).collect();
            assert_eq!(found.unwrap(), expected(&store, Some(old), Some(new), false), "seed {seed}");
        }
    }
}

fn cost(count: u64) {
    let store = MemoryStore::new();
    let mut model = numbered(count);
    let old = build_dir(&store, &model);
    let mut rng = Rng::new(1);
    let mut most = 0;
    for step in 0..30 {
        let mut model = model.clone();
        let at = rng.below(count);
        match step % 3 {
            0 => drop(model.remove(&name(&format!("file-{at:08}")))),
            1 => drop(model.insert(name(&format!("file-{at:08}+")), file(1))),
            _ => drop(model.insert(name(&format!("file-{at:08}")), file(u64::MAX))),
        }
        let new = build_dir(&store, &model);
        store.reset_counts();
        assert_eq!(diff(&store, Some(old), Some(new)).count(), 1);
        most = most.max(store.gets());
        println!("{count}: diff of neighbours reads {} nodes", store.gets());
    }
    assert!(most <= 16, "{most}");
    model.retain(|name, _| name.as_bytes().ends_with(b"7"));
    let new = build_dir(&store, &model);
    assert_eq!(diff(&store, Some(old), Some(new)).count() as u64, count - count / 10);
}

#[test]
fn neighbours_of_a_large_directory_differ_in_few_nodes() {
    cost(100_000);
    if is_long() {
        cost(1_000_000);
    }
}

#[test]
fn pruning_and_flags() {
    let store = MemoryStore::new();
    let dir = |mode| Some(Entry::directory(mode, TreeLink::empty()));
    let before = [(path("d"), dir(Mode::DIRECTORY)), (path("d/a"), Some(file(1))), (path("e"), Some(file(2)))];
    let old = edit_paths(&store, &mut &store, None, before).unwrap();
    let after = [
        (path("d"), dir(Mode::new(0o700).unwrap())),
        (path("d/b"), Some(file(1))),
        (path("e"), Some(file(2).with_mtime(Timestamp::new(5, 0).unwrap()))),
        (path("f"), dir(Mode::DIRECTORY)),
        (path("f/x"), Some(file(3))),
    ];
    let new = edit_paths(&store, &mut &store, None, after).unwrap();
    let paths = |found: Vec<Change>| found.into_iter().map(|change| change.path.to_string()).collect::<Vec<_>>();
    let all: Result<Vec<_>, _> = diff(&store, Some(old), Some(new)).collect();
    assert_eq!(paths(all.unwrap()), ["d", "d/a", "d/b", "f/x"]);
    let all: Result<Vec<_>, _> = diff(&store, Some(old), Some(new)).with_directories().with_mtimes().collect();
    assert_eq!(paths(all.unwrap()), ["d", "d/a", "d/b", "e", "f", "f/x"]);
    let mut pruned = Vec::new();
    let mut changes = diff(&store, Some(old), Some(new)).with_directories();
    while let Some(change) = changes.next() {
        pruned.push(change.unwrap());
        changes.prune();
    }
    assert_eq!(paths(pruned), ["d", "f"]);
}
