//! Commits and their ancestors.

use filesync_merkle::testing::MemoryStore;
use filesync_merkle::{Ancestors, COMMIT, Commit, CommitId, FirstParents, Timestamp, TreeLink};

fn commit(store: &MemoryStore, time: i64, parents: &[CommitId]) -> CommitId {
    let commit = Commit {
        parents: parents.to_vec(),
        tree: TreeLink::empty(),
        time: Timestamp::new(time, 0).unwrap(),
        author: "a".to_owned(),
        message: format!("at {time}"),
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
