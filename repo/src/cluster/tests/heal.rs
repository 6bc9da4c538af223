//! Nodes that lack what they should have.

use filesync_raft_log::command::TryId;
use filesync_raft_log::ids::{Id, LeaderId, NodeId};

use super::*;
use crate::cluster::calls::Answer;
use crate::cluster::{heal, hold};
use crate::request::{CatRequest, FsckRequest, Target};

fn cat(repo: &Repo, path: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let target = Target { rev: Some("main".to_owned()), path: Some(path.as_bytes().to_vec()) };
    repo.cat(&CatRequest { target, offset: 0, length: None }, &mut bytes).unwrap();
    bytes
}

/// Flips a bit in the middle of each pack of data of a repository at rest.
fn damage(dir: &Path) {
    let packs = std::fs::read_dir(dir.join(".filesync/packs")).unwrap().flatten().map(|entry| entry.path());
    let large = packs.filter(|path| path.metadata().unwrap().len() > 1_000_000);
    let mut count = 0;
    for path in large {
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, bytes).unwrap();
        count += 1;
    }
    assert!(count > 0, "nothing was damaged");
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// Asks a node to hold what is published, for a leader that never was.
fn asked_to_hold(node: &Node) -> Answer {
    let leader = LeaderId { term: 1_000, node: NodeId(1) };
    let commit = Id(*node.core.remote().main().unwrap().0.as_bytes());
    let asked = hold::Asked { id: TryId { client: NodeId(1), leader, nonce: 1 }, commit };
    let core = Arc::clone(&node.core);
    node.core.wait(async move { hold::hold(&core, asked, vec![NodeId(1)]).await }).unwrap()
}

/// Two voters, so that nothing is published without the second.
fn pair() -> (Dir, Node, Dir, Node) {
    let (dir, one) = published();
    let other = join(invite(&one, Role::Candidate), "two");
    let two = serve(&other.0.join("repo"));
    let request = PeersRequest::Promote { node: "two".to_owned(), even: true };
    crate::cluster::members::peers(&one, &request, TIME).unwrap();
    eventually("both hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
    (dir, one, other, two)
}

fn is_deficient(node: &Node, number: u64) -> bool {
    node.core.state().members[&NodeId(number)].is_deficient
}

/// G4: who finds damage gives no receipt, gets what is damaged from the others, and counts again.
#[test]
fn a_voter_with_damage_gets_it_from_the_others() {
    let (dir, one, other, two) = pair();
    let (path, at) = (other.0.join("repo"), two.listening()[0]);
    two.shutdown();
    damage(&path);
    // Nobody to get it from yet.
    let at_one = one.listening()[0];
    one.shutdown();
    let two = serve_at(&path, at);
    assert!(!two.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean());
    assert!(matches!(asked_to_hold(&two), Answer::Failed(_)));
    let one = serve_at(&dir.0, at_one);
    eventually("it is whole", || two.core.check_whole().is_ok());
    assert!(two.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean());
    assert_eq!(Some(cat(&two.core.repo, "large")), dir.read("large"));
    eventually("it counts again", || !is_deficient(&one, 2));
    dir.write("after", "x");
    commit(&one.core.repo);
    assert_eq!(sync_now(&one).published.len(), 1);
    one.shutdown();
    two.shutdown();
}

/// G4: packs that are older than a receipt show by the record beside the log.
#[test]
fn a_voter_given_older_packs_gives_no_receipt_until_it_is_whole() {
    let (dir, one, other, two) = pair();
    let (path, at) = (other.0.join("repo"), two.listening()[0]);
    let (store, saved) = (path.join(".filesync"), other.0.join("saved"));
    let parts = ["packs", "index"];
    parts.iter().for_each(|part| copy_tree(&store.join(part), &saved.join(part)));
    std::fs::copy(store.join("HEAD"), saved.join("HEAD")).unwrap();
    dir.write("more", Rng::new(2).bytes(400_000));
    commit(&one.core.repo);
    assert_eq!(sync_now(&one).published.len(), 1);
    eventually("both hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
    let at_one = one.listening()[0];
    two.shutdown();
    one.shutdown();
    for part in parts {
        std::fs::remove_dir_all(store.join(part)).unwrap();
        copy_tree(&saved.join(part), &store.join(part));
    }
    std::fs::copy(saved.join("HEAD"), store.join("HEAD")).unwrap();
    let two = serve_at(&path, at);
    assert!(two.core.check_whole().is_err());
    assert!(matches!(asked_to_hold(&two), Answer::Failed(_)));
    let one = serve_at(&dir.0, at_one);
    eventually("it is whole", || two.core.check_whole().is_ok());
    assert_eq!(Some(cat(&two.core.repo, "more")), dir.read("more"));
    assert!(two.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean());
    eventually("it counts again", || !is_deficient(&one, 2));
    one.shutdown();
    two.shutdown();
}

/// What is published beyond the head of a voter is its duty too: damage there is found when everything is read again, and a
/// collection meanwhile takes nothing of it away.
#[test]
fn damage_beyond_the_head_is_no_less_damage() {
    let (dir, one, other, two) = pair();
    dir.write("more", Rng::new(3).bytes(1_200_000));
    commit(&one.core.repo);
    assert_eq!(sync_now(&one).published.len(), 1);
    eventually("both hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
    assert_ne!(two.core.repo.head(), one.core.repo.head(), "a voter's head stays where its user left it");
    let (path, at, at_one) = (other.0.join("repo"), two.listening()[0], one.listening()[0]);
    two.shutdown();
    damage(&path);
    one.shutdown();
    let two = serve_at(&path, at);
    assert!(!two.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap().is_clean());
    assert!(two.core.check_whole().is_err());
    // It fails closed, or leaves all of it.
    drop(two.core.repo.gc(&Default::default(), &Silent));
    let one = serve_at(&dir.0, at_one);
    eventually("it is whole", || two.core.check_whole().is_ok());
    for path in ["large", "more"] {
        assert_eq!(Some(cat(&two.core.repo, path)), dir.read(path), "{path}");
    }
    eventually("it counts again", || !is_deficient(&one, 2));
    one.shutdown();
    two.shutdown();
}

/// Packs that a collection took away are no loss: neither to a voter, nor to one who is alone and runs no daemon.
#[test]
fn what_was_collected_is_not_lost() {
    let (dir, one, other, two) = pair();
    let (path, at) = (other.0.join("repo"), two.listening()[0]);
    for round in 0..3 {
        dir.write("large", Rng::new(round).bytes(1_500_000));
        one.core.repo.commit(&CommitRequest { amend: round > 0, ..CommitRequest::default() }, &Silent).unwrap();
    }
    let result = one.core.repo.gc(&Default::default(), &Silent).unwrap();
    assert!(result.packs_rewritten + result.packs_removed > 0, "{result:?}");
    assert_eq!(sync_now(&one).published.len(), 1);
    two.shutdown();
    let removed = open(&path).gc(&Default::default(), &Silent).unwrap();
    let at_one = one.listening()[0];
    one.shutdown();
    let (one, two) = (serve_at(&dir.0, at_one), serve_at(&path, at));
    assert!(one.core.check_whole().is_ok() && two.core.check_whole().is_ok(), "{removed:?}");
    one.shutdown();
    two.shutdown();
    let alone = founded();
    commit(&open(&alone.0));
    client(&alone.0, sync_now);
    for round in 8..10 {
        alone.write("large", Rng::new(round).bytes(1_500_000));
        open(&alone.0).commit(&CommitRequest { amend: round > 8, ..CommitRequest::default() }, &Silent).unwrap();
    }
    drop(open(&alone.0).gc(&Default::default(), &Silent));
    alone.write("a/file", "after");
    commit(&open(&alone.0));
    client(&alone.0, sync_now);
}

/// What is in no other copy and not in the working copy either, a member gets from the voters.
#[test]
fn a_member_repairs_from_the_voters() {
    let (dir, one) = published();
    let other = join(invite(&one, Role::Reader), "two");
    let path = other.0.join("repo");
    damage(&path);
    std::fs::remove_file(path.join("large")).unwrap();
    let request = FsckRequest { repair: true, ..FsckRequest::default() };
    let alone = open(&path).fsck(&request, &Silent).unwrap();
    assert!(!alone.damaged.is_empty(), "by itself it cannot: {alone:?}");
    let result = client(&path, |node| heal::fsck(node, &request, &Silent).unwrap());
    assert!(result.is_clean() && result.repaired > 0, "{result:?}");
    assert_eq!(Some(cat(&open(&path), "large")), dir.read("large"));
    one.shutdown();
}

/// What nothing refers to may be damaged: a voter is whole without it, though nobody may rely on it.
#[test]
fn damaged_garbage_keeps_no_voter_from_counting() {
    let (_dir, _one, _other, two) = pair();
    let store = &two.core.repo.store;
    let session = store.session().unwrap();
    let mut writer = session.writer();
    let id = writer.store(filesync_cas::Kind::CHUNK, b"nothing refers to this").unwrap();
    writer.flush().unwrap();
    drop(writer);
    session.keep().unwrap();
    store.record_damage([id]).unwrap();
    assert!(two.core.check_whole().is_err(), "nobody has looked yet");
    eventually("it counts again", || two.core.check_whole().is_ok());
    assert!(store.damage().objects.contains(&id), "it is as damaged as before");
}
