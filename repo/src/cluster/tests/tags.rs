//! Tags of many: each a ref of the cluster.

use filesync_merkle::CommitId;

use super::*;
use crate::request::{TagFate, TagRequest};
use crate::tags;

fn tag(repo: &Repo, name: &str) {
    let request = TagRequest::Make { name: name.to_owned(), rev: None, force: true };
    repo.tag(&request).unwrap();
}

fn found(dir: &Path, name: &str) -> Option<CommitId> {
    tags::find(&**open(dir).store.vfs(), name).unwrap()
}

#[test]
fn tags_are_shared() {
    let dir = founded();
    commit(&open(&dir.0));
    tag(&open(&dir.0), "before/1");
    let one = serve(&dir.0);
    let repo = &one.core.repo;
    let first = sync_now(&one).head;
    let two = join(invite(&one, Role::Writer), "two");
    let other = two.0.join("repo");
    assert_eq!(found(&other, "before/1"), first, "made before there was a cluster");
    tag(&open(&other), "v1");
    open(&other).tag(&TagRequest::Delete { name: "before/1".to_owned() }).unwrap();
    client(&other, sync_now);
    assert_eq!(sync_now(&one).outcome, SyncOutcome::Done);
    let here = |name: &str| tags::find(&**repo.store.vfs(), name).unwrap();
    assert_eq!((here("v1"), here("before/1")), (first, None));
    one.shutdown();
}

#[test]
fn who_is_late_with_a_tag_is_told() {
    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    let repo = &one.core.repo;
    let first = sync_now(&one).head;
    let two = join(invite(&one, Role::Writer), "two");
    let other = two.0.join("repo");
    two.write("repo/more", "2");
    commit(&open(&other));
    tag(&open(&other), "v1");
    tag(repo, "v1");
    assert_eq!(sync_now(&one).outcome, SyncOutcome::Done);
    // Its commit is published, and its tag is not.
    let late = client(&other, sync_now);
    assert_eq!((late.outcome, late.published.len()), (SyncOutcome::Conflicts, 1));
    let fates = |result: &SyncResult| -> Vec<_> {
        result.tags.iter().map(|tag| (tag.name.clone(), tag.commit, tag.fate)).collect()
    };
    // Taken in the end: it was another one here.
    assert_eq!(fates(&late), [TagFate::Lost, TagFate::Taken].map(|fate| ("v1".to_owned(), first, fate)));
    assert_eq!(found(&other, "v1"), first);
    assert_eq!(client(&other, sync_now).outcome, SyncOutcome::Done, "told once");
    one.shutdown();
}

#[test]
fn a_tag_waits_for_its_commit() {
    let (_dir, one) = published();
    let two = join(invite(&one, Role::Writer), "two");
    let other = two.0.join("repo");
    two.write("repo/more", "2");
    commit(&open(&other));
    tag(&open(&other), "mine");
    let pull = SyncRequest { pull_only: true, timeout: TIME, ..SyncRequest::default() };
    client(&other, |node| crate::cluster::sync::sync(node, &pull, &Silent).unwrap());
    assert!(found(&other, "mine").is_some());
    let shared = |one: &Node| one.core.state().refs.keys().any(|name| name.as_str() == "tags/mine");
    assert!(!shared(&one));
    client(&other, sync_now);
    assert!(shared(&one));
    one.shutdown();
}
