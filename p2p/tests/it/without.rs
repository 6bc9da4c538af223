//! What nobody has any more, and a fetch goes on without.

use std::collections::{BTreeSet, HashSet};
use std::ops::ControlFlow;

use filesync_cas::{ContentHash, Kind};
use filesync_merkle::history::read_commit;
use filesync_merkle::{Content, Entry, LIST, ListReader, Node, TREE, lookup};
use filesync_p2p::source::StoreSource;
use filesync_p2p::testing::tree;

use super::*;

fn objects(repo: &Repo) -> Vec<(Kind, ContentHash)> {
    let mut found = Vec::new();
    let all = [[0; 32], [0xff; 32]].map(ContentHash::from_bytes);
    let each = &mut |id, kind| {
        found.push((kind, id));
        ControlFlow::Continue(())
    };
    repo.store.each_id(&all[0], &all[1], each).expect("read");
    found
}

/// Another repository with the same, but for some.
fn copy_without(repo: &Repo, lost: &[ContentHash]) -> Repo {
    let kept = objects(repo).into_iter().filter(|(_, id)| !lost.contains(id));
    let kept: Vec<_> = kept.map(|(kind, id)| (kind, repo.store.get(kind, &id).expect("good").to_vec())).collect();
    let copy = Repo::new();
    copy.put_raw(&kept);
    copy
}

fn entry(repo: &Repo, head: CommitId, path: &str) -> Entry {
    let source = StoreSource(&repo.store);
    let tree = read_commit(&source, &head).expect("a commit").tree;
    lookup(&source, &tree, &RepoPath::parse(path.as_bytes()).expect("a path")).expect("read").expect("there")
}

/// The object that an entry refers to.
fn object(entry: &Entry) -> ContentHash {
    match &entry.node {
        Node::File { content: Content::Chunk(id), .. } => id.0,
        Node::File { content: Content::List { root, .. }, .. } => root.0,
        Node::Directory(link) => link.id.0,
        other => panic!("{other:?}"),
    }
}

fn chunks(repo: &Repo, entry: &Entry) -> Vec<ContentHash> {
    let Node::File { size, content: Content::List { root, height }, .. } = &entry.node else { panic!("{entry:?}") };
    let source = StoreSource(&repo.store);
    let chunks = ListReader::new(&source, *root, *height, *size, 0).expect("a list");
    chunks.map(|chunk| chunk.expect("an item").id.0).collect()
}

/// A repository, and in it a chunk that is a file, one among others, a list, and a directory, with all that is below them.
fn with_lost() -> (Repo, CommitId, Vec<ContentHash>, Vec<ContentHash>) {
    let repo = Repo::new();
    let mut files = some_tree(1, 60);
    let mut rng = Rng::new(9);
    let more =
        tree([("gone/a", b"below".to_vec()), ("gone/deep/b", b"deep below".to_vec()), ("list", rng.bytes(2 << 20))]);
    files.extend(more);
    let head = repo.commit(&files, &[]);
    let small = files.keys().next().expect("a file").clone();
    let small = object(&entry(&repo, head, std::str::from_utf8(small.as_bytes()).expect("a path")));
    let (list, gone) = (entry(&repo, head, "list"), entry(&repo, head, "gone"));
    let of_large = chunks(&repo, &entry(&repo, head, "large"))[1];
    let lost = vec![small, of_large, object(&list), object(&gone)];
    let deep = ["gone/a", "gone/deep", "gone/deep/b"].map(|path| object(&entry(&repo, head, path)));
    let below = chunks(&repo, &list).into_iter().chain(deep).collect();
    (repo, head, lost, below)
}

fn these(lost: &[ContentHash]) -> Without {
    Without::These(Arc::new(lost.iter().copied().collect()))
}

fn sorted<T: Ord + Copy>(things: impl IntoIterator<Item = T>) -> BTreeSet<T> {
    things.into_iter().collect()
}

fn is_here(repo: &Repo, id: &ContentHash) -> bool {
    repo.store.locate(id).expect("read").is_some()
}

/// All comes but for what nobody has, and what that leads to: if it is known to be lost, or whatever it is.
#[test]
fn what_nobody_has_is_done_without() {
    let (whole_one, head, lost, below) = with_lost();
    let there = copy_without(&whole_one, &lost);
    let connect = |seed| {
        let mut net = Net::new(me(), seed);
        (1..=2).for_each(|n| honest(&mut net, peer(n), Line::default(), &there));
        net
    };
    for (seed, without) in
        [Without::Nothing, these(&lost[1..]), these(&lost), Without::Anything].into_iter().enumerate()
    {
        let (may, here) = (seed >= 2, Repo::new());
        let mut net = connect(seed as u64);
        let (result, stats) = fetch_without(&mut net, &here, whole(head, None), without);
        assert_eq!(net.blamed, []);
        if !may {
            assert!(matches!(result, Err(FetchError::Missing(id)) if lost.contains(&id)), "{result:?}");
            continue;
        }
        result.expect("it goes on");
        assert_eq!(sorted(stats.lacking.iter().map(|(_, id)| *id)), sorted(lost.iter().copied()));
        let kinds = stats.lacking.iter().map(|(kind, _)| *kind).filter(|kind| [TREE, LIST].contains(kind)).count();
        assert_eq!(kinds, 2, "{:?}", stats.lacking);
        let missing: HashSet<_> =
            objects(&whole_one).into_iter().map(|(_, id)| id).filter(|id| !is_here(&here, id)).collect();
        assert_eq!(sorted(missing), sorted(lost.iter().chain(&below).copied()));
    }
}

/// What is recorded as lost and is there after all comes like everything else.
#[test]
fn what_somebody_has_comes() {
    let (there, head, lost, _) = with_lost();
    let less = copy_without(&there, &lost);
    for without in [these(&lost), Without::Anything] {
        let here = Repo::new();
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line::default(), &less);
        honest(&mut net, peer(2), Line::default(), &there);
        let (result, stats) = fetch_without(&mut net, &here, whole(head, None), without);
        result.expect("all of it");
        assert_eq!(stats.lacking, []);
        here.check(head);
    }
}

/// Behind a commit lies history: nobody goes on without one.
#[test]
fn commits_are_never_done_without() {
    let there = Repo::new();
    let first = there.commit(&some_tree(1, 10), &[]);
    let head = there.commit(&some_tree(2, 10), &[first]);
    let less = copy_without(&there, &[first.0]);
    for without in [these(&[first.0]), Without::Anything] {
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line::default(), &less);
        let (result, _) = fetch_without(&mut net, &Repo::new(), whole(head, None), without);
        assert!(matches!(result, Err(FetchError::Missing(id)) if id == first.0), "{result:?}");
    }
}

/// What both sides should have has holes, where the new commit differs: on this side, on the other, or on both.
#[test]
fn a_base_with_holes_is_no_base() {
    let there = Repo::new();
    let mut files = some_tree(1, 200);
    let first = there.commit(&files, &[]);
    let path = "dir 0";
    let gone = object(&entry(&there, first, path));
    files.insert(RepoPath::parse(b"dir 0/new").expect("a path"), b"new".to_vec());
    let head = there.commit(&files, &[first]);
    assert_ne!(object(&entry(&there, head, path)), gone);
    let before = |lost: &[ContentHash]| {
        let new: Vec<_> = objects(&there).into_iter().map(|(_, id)| id).collect();
        let of_first = Repo::new();
        let mut net = Net::new(me(), 7);
        honest(&mut net, peer(1), Line::default(), &there);
        fetch(&mut net, &of_first, whole(first, None)).0.expect("fetched");
        assert!(new.iter().any(|id| !is_here(&of_first, id)));
        copy_without(&of_first, lost)
    };
    for (ours, theirs) in [(true, true), (true, false), (false, true)] {
        let some = |is_gone: bool| Vec::from_iter(is_gone.then_some(gone));
        let (here, giver) = (before(&some(ours)), copy_without(&there, &some(theirs)));
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line::default(), &giver);
        let (result, _) = fetch_without(&mut net, &here, whole(head, Some(first)), these(&[gone]));
        result.unwrap_or_else(|error| panic!("{ours} {theirs}: {error}"));
        assert_eq!(net.blamed, [], "{ours} {theirs}");
        for (_, id) in objects(&there).into_iter().filter(|(_, id)| *id != gone) {
            assert!(is_here(&here, &id), "{ours} {theirs}: {id}");
        }
    }
}

/// What was lost and is committed again comes with that, though what both sides should have refers to it already.
#[test]
fn what_came_back_is_asked_for_again() {
    let there = Repo::new();
    let mut files = tree([("dir/a", b"the same".to_vec()), ("dir/b", b"another".to_vec())]);
    let first = there.commit(&files, &[]);
    let gone = object(&entry(&there, first, "dir/a"));
    let here = copy_without(&there, &[gone]);
    files.insert(RepoPath::parse(b"dir/c").expect("a path"), b"the same".to_vec());
    let head = there.commit(&files, &[first]);
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    let (result, stats) = fetch_without(&mut net, &here, whole(head, Some(first)), these(&[gone]));
    result.expect("fetched");
    assert!(is_here(&here, &gone) && stats.lacking.is_empty());
    here.check(head);
}
