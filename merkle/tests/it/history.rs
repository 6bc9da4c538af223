//! Commits and their ancestors.

use std::collections::BTreeSet;

use filesync_cas::testing::seeds;
use filesync_merkle::testing::{MemoryStore, Rng};
use filesync_merkle::{
    Ancestors, COMMIT, Commit, CommitId, FirstParents, Timestamp, TreeLink, is_ancestor, merge_base,
};

fn commit(store: &MemoryStore, time: i64, parents: &[CommitId]) -> CommitId {
    numbered_commit(store, time, time, parents)
}

fn numbered_commit(store: &MemoryStore, number: i64, time: i64, parents: &[CommitId]) -> CommitId {
    let commit = Commit {
        parents: parents.to_vec(),
        tree: TreeLink::empty(),
        time: Timestamp::new(time, 0).unwrap(),
        author: "a".to_owned(),
        message: format!("commit {number}"),
        node: [0; 32],
        signature: [0; 64],
    };
    CommitId(store.insert(COMMIT, &commit.encode().unwrap()))
}

#[test]
fn a_merge() {
    let store = MemoryStore::new();
    let root = commit(&store, 1, &[]);
    let (a, b) = (commit(&store, 2, &[root]), commit(&store, 3, &[root]));
    let c = commit(&store, 4, &[a]);
    let head = commit(&store, 5, &[c, b]);
    let first: Vec<_> = FirstParents::new(&store, Some(head)).map(|item| item.unwrap().0).collect();
    assert_eq!(first, [head, c, a, root]);
    let all: Vec<_> = Ancestors::new(&store, [head, a]).map(|item| item.unwrap().0).collect();
    assert_eq!(all, [head, c, b, a, root]);
    store.remove(&a.0);
    assert_eq!(Ancestors::new(&store, [head]).filter(Result::is_err).count(), 1);
    assert_eq!(Ancestors::new(&store, [head]).count(), 5);
    assert_eq!(FirstParents::new(&store, Some(head)).count(), 3);
    assert_eq!(FirstParents::new(&store, None).count(), 0);
}

#[test]
fn long_histories_need_no_stack() {
    let store = MemoryStore::new();
    let mut head = commit(&store, 0, &[]);
    for time in 1..50_000 {
        head = commit(&store, time, &[head]);
    }
    assert_eq!(Ancestors::new(&store, [head]).count(), 50_000);
    assert_eq!(FirstParents::new(&store, Some(head)).count(), 50_000);
}

#[test]
fn histories_meet_where_they_parted() {
    let store = MemoryStore::new();
    let root = commit(&store, 1, &[]);
    let (a, b) = (commit(&store, 2, &[root]), commit(&store, 3, &[root]));
    let stranger = commit(&store, 9, &[]);
    let base = |a, b| merge_base(&store, a, b).unwrap();
    assert_eq!(base(a, b), Some(root));
    assert_eq!(base(a, a), Some(a));
    assert_eq!(base(a, root), Some(root));
    assert_eq!(base(a, stranger), None);
    // After a merge, it is what was merged and not where all began.
    let merged = commit(&store, 4, &[b, a]);
    let next = commit(&store, 5, &[a]);
    assert_eq!(base(merged, next), Some(a));
    assert_eq!(base(next, merged), Some(a));
    // Each has merged the other: the newer of the two best.
    let crossed = commit(&store, 6, &[a, b]);
    let (here, there) = (commit(&store, 7, &[merged]), commit(&store, 8, &[crossed]));
    assert_eq!(base(here, there), Some(b));
    assert!(is_ancestor(&store, root, there).unwrap());
    assert!(is_ancestor(&store, there, there).unwrap());
    assert!(!is_ancestor(&store, there, here).unwrap());
    assert!(!is_ancestor(&store, there, root).unwrap());
    store.remove(&a.0);
    assert!(merge_base(&store, here, there).is_err());
}

/// Whatever the clocks say, the answer is right; where they are right, it is cheap.
#[test]
fn random_histories_meet_where_sets_of_ancestors_say() {
    for seed in seeds(0, 150, 5_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let mut all: Vec<(CommitId, i64, BTreeSet<CommitId>)> = Vec::new();
        for number in 0..30_i64 {
            let mut parents = BTreeSet::new();
            for _ in 0..[0, 1, 1, 1, 2, 2, 3][usize::try_from(rng.below(7)).unwrap()] {
                let back = 1 + usize::try_from(rng.below(8)).unwrap();
                parents.extend(all.len().checked_sub(back).map(|at| all[at].0));
            }
            let time = match seed % 3 {
                0 => number,
                1 => 0,
                _ => i64::try_from(rng.below(10)).unwrap(),
            };
            let list: Vec<_> = parents.iter().copied().collect();
            let id = numbered_commit(&store, number, time, &list);
            let mut ancestors: BTreeSet<_> =
                all.iter().filter(|(id, ..)| parents.contains(id)).flat_map(|(.., above)| above.clone()).collect();
            ancestors.insert(id);
            all.push((id, time, ancestors));
        }
        for (a, _, above_a) in &all {
            for (b, _, above_b) in &all {
                let common: BTreeSet<_> = above_a.intersection(above_b).copied().collect();
                let beaten = |id: &CommitId| {
                    all.iter().any(|(other, _, above)| common.contains(other) && other != id && above.contains(id))
                };
                let best = all.iter().filter(|(id, ..)| common.contains(id) && !beaten(id));
                let expected = best.map(|(id, time, _)| (time, id)).max().map(|(_, id)| *id);
                assert_eq!(merge_base(&store, *a, *b).unwrap(), expected, "seed {seed}");
                assert_eq!(is_ancestor(&store, *a, *b).unwrap(), above_b.contains(a), "seed {seed}");
            }
        }
    }
}

#[test]
fn a_base_costs_what_came_since() {
    let store = MemoryStore::new();
    let mut head = commit(&store, 0, &[]);
    for time in 1..5_000 {
        head = commit(&store, time, &[head]);
    }
    let ours = commit(&store, 10_000, &[commit(&store, 9_000, &[head])]);
    let theirs = commit(&store, 9_500, &[head]);
    store.reset_counts();
    assert_eq!(merge_base(&store, ours, theirs).unwrap(), Some(head));
    assert_eq!(store.gets(), 4);
    store.reset_counts();
    assert!(is_ancestor(&store, head, theirs).unwrap());
    assert_eq!(store.gets(), 2);
}
