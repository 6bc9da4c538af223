//! Closures from one peer, from several, over lines that break; how many bytes and round trips.

use std::time::Duration;

use filesync_cas::Schema;
use filesync_merkle::MerkleSchema;
use filesync_p2p::testing::tree;

use super::*;

fn path(text: &str) -> RepoPath {
    RepoPath::parse(text.as_bytes()).expect("a path")
}

#[test]
fn a_closure_from_one_peer() {
    let (there, here) = (Repo::new(), Repo::new());
    let first = there.commit(&some_tree(1, 100), &[]);
    let head = there.commit(&some_tree(2, 120), &[first]);
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    let (result, stats) = fetch(&mut net, &here, whole(head, None));
    result.expect("fetched");
    here.check(head);
    assert_eq!(here.objects(), there.objects());
    assert!(stats.whole_frames * 10 >= stats.frames * 7, "most frames as they lay: {stats:?}");
    // Once more: nothing is asked.
    let (result, stats) = fetch(&mut net, &here, whole(head, None));
    result.expect("it is all here");
    assert_eq!(stats, FetchStats::default());
}

/// The table: at most five round trips at any depth; greeting, walk and get are three here.
#[test]
fn round_trips_do_not_grow_with_depth() {
    for depth in [1, 30, 300] {
        let (there, here) = (Repo::new(), Repo::new());
        let mut files = some_tree(1, 20);
        files.insert(path(&format!("{}file", "d/".repeat(depth))), b"deep".to_vec());
        let head = there.commit(&files, &[]);
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line { latency: Duration::from_millis(500), ..Line::default() }, &there);
        fetch(&mut net, &here, whole(head, None)).0.expect("fetched");
        here.check(head);
        assert!(net.now() <= Duration::from_millis(2_100), "{:?} with round trips of 1 s, depth {depth}", net.now());
    }
}

#[test]
fn a_small_change_costs_little() {
    let (there, here) = (Repo::new(), Repo::new());
    let mut files = some_tree(1, 2000);
    let base = there.commit(&files, &[]);
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    fetch(&mut net, &here, whole(base, None)).0.expect("fetched");
    // One file in a hundred.
    let noise = Rng::new(5).bytes(20 * 700);
    for (n, (_, bytes)) in files.iter_mut().enumerate().filter(|(n, _)| n % 100 == 3) {
        *bytes = noise[n / 100 * 700..][..700].to_vec();
    }
    let head = there.commit(&files, &[base]);
    let before = net.bytes(&peer(1));
    let (result, stats) = fetch(&mut net, &here, whole(head, Some(base)));
    result.expect("fetched");
    here.check(head);
    let after = net.bytes(&peer(1));
    let bytes = after.0 + after.1 - before.0 - before.1;
    assert!(bytes < 20 * 700 + (6 << 10), "{bytes} bytes for 20 files of 700: {stats:?}");
    assert_eq!((stats.walks, stats.gets), (1, 1));
    // A commit that changes nothing but itself.
    let same = there.commit_at(&files, &[head], 7);
    let before = net.bytes(&peer(1));
    let (result, stats) = fetch(&mut net, &here, whole(same, Some(head)));
    result.expect("fetched");
    let after = net.bytes(&peer(1));
    assert!(after.0 + after.1 - before.0 - before.1 <= 4096 && stats.gets == 0, "{stats:?}");
}

/// A byte at the beginning of a large file: one chunk, the root of its list, one node.
#[test]
fn an_inserted_byte_costs_a_chunk() {
    let (there, here) = (Repo::new(), Repo::new());
    let large = Rng::new(1).bytes(40 << 20);
    let base = there.commit(&tree([("large", large.clone())]), &[]);
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    fetch(&mut net, &here, whole(base, None)).0.expect("fetched");
    let head = there.commit(&tree([("large", [&b"x"[..], &large].concat())]), &[base]);
    let before = net.bytes(&peer(1));
    let (result, stats) = fetch(&mut net, &here, whole(head, Some(base)));
    result.expect("fetched");
    here.check(head);
    let bytes = net.bytes(&peer(1)).1 - before.1;
    assert!(stats.objects <= 3 && bytes < 300 << 10, "{bytes} bytes: {stats:?}");
}

#[test]
fn two_peers_share_the_work() {
    let (there, here) = (Repo::new(), Repo::new());
    let files = tree([("a", Rng::new(1).bytes(60 << 20)), ("b", Rng::new(2).bytes(60 << 20))]);
    let head = there.commit(&files, &[]);
    let line = || Line { rate: Some(12_500_000), ..Line::default() };
    let time = |peers: u8, repo: &Repo| {
        let mut net = Net::new(me(), 1);
        (1..=peers).for_each(|n| honest(&mut net, peer(n), line(), &there));
        fetch(&mut net, repo, whole(head, None)).0.expect("fetched");
        repo.check(head);
        net.now()
    };
    let one = time(1, &Repo::new());
    let two = time(2, &here);
    assert!(one.as_secs_f64() / two.as_secs_f64() >= 1.8, "{one:?} with one, {two:?} with two");
}

/// P11, P23: a line may break after any number of bytes. What came is kept; another goes on, or the same again.
#[test]
fn lines_that_break_anywhere() {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 60), &[]);
    let total = {
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line::default(), &there);
        fetch(&mut net, &Repo::new(), whole(head, None)).0.expect("fetched");
        net.bytes(&peer(1)).1
    };
    for n in 0..12 {
        let here = Repo::new();
        let cut = total * n / 12;
        let mut net = Net::new(me(), n);
        let line = Line { cut_after: Some(cut), piece: 3000, ..Line::default() };
        honest(&mut net, peer(1), line, &there);
        let (result, first) = fetch(&mut net, &here, whole(head, None));
        assert!(matches!(result, Err(FetchError::NoPeers { .. })), "{result:?}");
        assert_eq!(net.blamed, [], "breaking is no lie");
        // The next attempt goes on where this one stopped.
        let mut net = Net::new(me(), n);
        honest(&mut net, peer(1), Line { piece: 3000, ..Line::default() }, &there);
        let (result, second) = fetch(&mut net, &here, whole(head, None));
        result.expect("fetched");
        here.check(head);
        assert_eq!(
            first.new_objects + second.new_objects,
            there.objects() as u64,
            "nothing twice: {first:?} {second:?}"
        );
        if n == 11 {
            assert!(net.bytes(&peer(1)).1 < total / 2, "most was there");
        }
    }
}

#[test]
fn one_of_two_breaks_and_the_other_goes_on() {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 60), &[]);
    for n in 1..8u64 {
        for silent in [false, true] {
            let here = Repo::new();
            let mut net = Net::new(me(), n);
            let bytes = Some(n * 200_000);
            let line =
                Line { cut_after: bytes.filter(|_| !silent), mute_after: bytes.filter(|_| silent), ..Line::default() };
            honest(&mut net, peer(1), line, &there);
            honest(&mut net, peer(2), Line::default(), &there);
            let (result, _) = fetch(&mut net, &here, whole(head, None));
            result.expect("the other has it all");
            here.check(head);
            assert_eq!(net.blamed, []);
            assert!(net.now() < Duration::from_secs(30), "{:?}", net.now());
        }
    }
}

/// What one lacks, another has: the two together are enough.
#[test]
fn two_halves_make_a_whole() {
    let (there, other, here) = (Repo::new(), Repo::new(), Repo::new());
    let head = there.commit(&some_tree(1, 200), &[]);
    // The other has all metadata and none of the large file; the first loses some chunks.
    let mut net = Net::new(me(), 1);
    let line = Line { cut_after: Some(150_000), ..Line::default() };
    honest(&mut net, peer(1), line, &there);
    drop(fetch(&mut net, &other, whole(head, None)));
    assert!(other.objects() < there.objects());
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &other);
    honest(&mut net, peer(2), Line::default(), &there);
    fetch(&mut net, &here, whole(head, None)).0.expect("fetched");
    here.check(head);
    // Alone, the one that lacks something is not enough, and that is what is said.
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &other);
    let (result, _) = fetch(&mut net, &Repo::new(), whole(head, None));
    assert!(matches!(result, Err(FetchError::Missing(_))), "{result:?}");
    assert_eq!(net.blamed, []);
}

#[test]
fn who_does_not_know_the_base_sends_everything() {
    let (there, here) = (Repo::new(), Repo::new());
    let base = here.commit(&some_tree(1, 50), &[]);
    let head = there.commit(&some_tree(1, 60), &[]);
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    let (result, stats) = fetch(&mut net, &here, whole(head, Some(base)));
    result.expect("fetched");
    here.check(head);
    assert_eq!(stats.walks, 2);
}

#[test]
fn a_path_alone() {
    let (there, here) = (Repo::new(), Repo::new());
    let head = there.commit(&some_tree(1, 200), &[]);
    let mut net = Net::new(me(), 1);
    honest(&mut net, peer(1), Line::default(), &there);
    let walk = Walk { path: path("dir 3/sub 1"), history: false, ..whole(head, None) };
    let (result, stats) = fetch(&mut net, &here, walk);
    result.expect("fetched");
    assert!(here.objects() < 20 && stats.objects > 5, "{stats:?}");
    let source = filesync_p2p::source::StoreSource(&here.store);
    let commit = filesync_merkle::history::read_commit(&source, &head).expect("here");
    let entry = filesync_merkle::lookup(&source, &commit.tree, &path("dir 3/sub 1")).expect("the way is here");
    let dir = entry.and_then(|entry| entry.as_directory().copied()).expect("a directory");
    let bytes = here.store.get(filesync_merkle::TREE, &dir.id.0).expect("here");
    for (kind, id) in MerkleSchema.children(filesync_merkle::TREE, &bytes).expect("good") {
        here.store.get(kind, &id).expect("what is below is here");
    }
}

/// A partial copy gets its parts, of every commit and whatever was moved; and who holds the rest gets from it what is new.
#[test]
fn parts_and_who_has_only_these() {
    let (there, here) = (Repo::new(), Repo::new());
    let mut tree = some_tree(1, 200);
    let first = there.commit(&tree, &[]);
    tree.insert(path("dir 3/sub 1/new"), b"new".to_vec());
    let second = there.commit(&tree, &[first]);
    // What was outside is moved into a part: the base knows its id, and the asker has nothing of it.
    let moved: Tree = tree
        .iter()
        .filter(|(path, _)| path.as_bytes().starts_with(b"dir 4/"))
        .map(|(path, bytes)| {
            let text = String::from_utf8_lossy(path.as_bytes()).replacen("dir 4/", "dir 3/sub 1/moved/", 1);
            (self::path(&text), bytes.clone())
        })
        .collect();
    tree.extend(moved);
    let third = there.commit(&tree, &[second]);
    let parts = Parts::new(&["dir 3/sub 1", "not/there"].map(path));
    let of_parts = |root, base| Walk { parts: parts.clone(), ..whole(root, base) };
    for (head, base) in [(first, None), (second, Some(first)), (third, Some(second))] {
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line::default(), &there);
        let (result, stats) = fetch(&mut net, &here, of_parts(head, base));
        result.expect("fetched");
        assert!(stats.received < 200_000, "the large file is no part: {stats:?}");
        // All of it is here: nothing is asked for again.
        let (result, stats) = fetch(&mut Net::new(me(), 1), &here, of_parts(head, None));
        assert!(result.is_ok() || stats.received == 0, "{result:?} {stats:?}");
        check_parts(&here, head, &parts);
    }
    // It says what it lacks, wherever one begins.
    for has_newest in [false, true] {
        let holder = Repo::new();
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), Line::default(), &there);
        let walk = match has_newest {
            false => whole(first, None),
            true => Walk { history: false, ..whole(third, None) },
        };
        fetch(&mut net, &holder, walk).0.expect("fetched");
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(2), Line::default(), &here);
        let (result, _) = fetch(&mut net, &holder, whole(third, None));
        result.expect("the rest is there");
        holder.check(third);
    }
}

/// Fails unless the parts of a commit's tree and of its history's are here.
fn check_parts(repo: &Repo, head: CommitId, parts: &Parts) {
    let source = filesync_p2p::source::StoreSource(&repo.store);
    for commit in filesync_merkle::Ancestors::new(&source, [head]) {
        let (_, commit) = commit.expect("here");
        let found = parts.found_in(&source, &commit.tree).expect("the way is here");
        assert_eq!(found.len(), 1);
        let mut open: Vec<_> =
            found.iter().filter_map(|(_, entry)| entry.as_directory()).map(|link| link.id.0).collect();
        while let Some(id) = open.pop() {
            let bytes = repo.store.get(filesync_merkle::TREE, &id).expect("a directory of a part");
            for (kind, id) in MerkleSchema.children(filesync_merkle::TREE, &bytes).expect("good") {
                repo.store.get(kind, &id).expect("what is below is here");
                open.extend((kind == filesync_merkle::TREE).then_some(id));
            }
        }
    }
}

/// The same run twice is the same: seeds mean something.
#[test]
fn a_seed_runs_the_same_twice() {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 100), &[]);
    let run = || {
        let mut net = Net::new(me(), 42);
        for n in 1..=3 {
            honest(&mut net, peer(n), Line { piece: 5000, rate: Some(1 << 20), ..Line::default() }, &there);
        }
        let (result, stats) = fetch(&mut net, &Repo::new(), whole(head, None));
        result.expect("fetched");
        (stats, net.now(), (1..=3).map(|n| net.bytes(&peer(n))).collect::<Vec<_>>())
    };
    assert_eq!(run(), run());
}
