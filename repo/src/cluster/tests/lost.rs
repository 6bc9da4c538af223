//! Objects that no voter has any more: publishing rule 5.

use std::collections::HashSet;

use filesync_cas::frame::{HEADER_LEN, SLOT_LEN};
use filesync_cas::hash::identify;
use filesync_cas::{ContentHash, Kind};
use filesync_merkle::{CommitId, Content, ListReader, MerkleSchema, Node as Entry, RepoPath, TREE};
use filesync_raft_log::ids::{Id, NodeId};

use super::*;
use crate::cluster::calls::{Answer, Call, Found};
use crate::cluster::core::CallFailure;
use crate::history::entry_at;
use crate::request::{CatRequest, FsckRequest, FsckResult, RestoreRequest, Target};

/// Long enough for a voter to look three times.
const THREE_LOOKS: Duration = Duration::from_secs(14);

/// The objects of the content of a path of the head of a repository at rest: chunks, or the directory.
fn content(repo: &Repo, path: &str) -> Vec<(Kind, ContentHash)> {
    let tree = repo.head_tree().unwrap().unwrap();
    let entry = entry_at(repo, &tree, &RepoPath::parse(path.as_bytes()).unwrap()).unwrap();
    match &entry.node {
        Entry::File { size, content: Content::List { root, height }, .. } => {
            let chunks = ListReader::new(repo.node_source(), *root, *height, *size, 0).unwrap();
            chunks.map(|chunk| (Kind::CHUNK, chunk.unwrap().id.0)).collect()
        }
        Entry::File { content: Content::Chunk(id), .. } => vec![(Kind::CHUNK, id.0)],
        Entry::Directory(link) => vec![(TREE, link.id.0)],
        other => panic!("{other:?}"),
    }
}

/// Makes objects of a repository at rest unreadable, and nothing else: what lies in the same frames is stored again before.
fn destroy(dir: &Path, objects: &[(Kind, ContentHash)]) {
    let mut frames = HashSet::new();
    {
        let repo = open(dir);
        let mut others = Vec::new();
        for (_, id) in objects {
            let location = repo.store.locate(id).unwrap().unwrap();
            let frame = repo.store.stored_frame(&location, id).unwrap();
            let payload = HEADER_LEN + SLOT_LEN * frame.slots().len();
            let beside = frame.slots().iter().filter(|slot| !objects.contains(&(slot.kind, slot.id)));
            others.extend(beside.map(|slot| (slot.kind, repo.store.get(slot.kind, &slot.id).unwrap().to_vec())));
            frames.insert((frame.into_bytes(), payload));
        }
        let session = repo.store.session().unwrap();
        let ids: Vec<ContentHash> =
            others.iter().map(|(kind, bytes)| identify(&MerkleSchema, *kind, bytes).unwrap()).collect();
        repo.store.record_damage(ids).unwrap();
        let mut writer = session.writer();
        for (kind, bytes) in &others {
            writer.store(*kind, bytes).unwrap();
        }
        writer.flush().unwrap();
        drop(writer);
        session.keep().unwrap();
        assert!(!repo.store.has_damage());
    }
    let packs = std::fs::read_dir(dir.join(".filesync/packs")).unwrap().flatten().map(|entry| entry.path());
    let mut hit = 0;
    for path in packs {
        let mut bytes = std::fs::read(&path).unwrap();
        for (frame, payload) in &frames {
            let places = bytes.windows(frame.len()).enumerate().filter(|(_, at)| at == frame);
            for at in places.map(|(at, _)| at).collect::<Vec<_>>() {
                hit += 1;
                bytes[at + payload..at + frame.len()].iter_mut().for_each(|byte| *byte ^= 0x55);
            }
        }
        std::fs::write(&path, bytes).unwrap();
    }
    assert!(hit >= frames.len());
}

/// Voters: where each lies, and where it listens.
struct Voters(Vec<(Dir, PathBuf, SocketAddr)>);

impl Voters {
    /// So many, who all have `large` and `a/file`, and are down.
    fn new(count: usize) -> (Self, Vec<Dir>) {
        Self::with_reader(count, false)
    }

    /// The same, and perhaps a reader.
    fn with_reader(count: usize, has_reader: bool) -> (Self, Vec<Dir>) {
        let (dir, one) = published();
        let mut voters = Vec::new();
        for name in ["two", "three"].iter().take(count - 1) {
            let other = join(invite(&one, Role::Candidate), name);
            let path = other.0.join("repo");
            let node = serve(&path);
            voters.push((other, path, node));
        }
        if count > 1 {
            let request = PeersRequest::Promote { node: "two".to_owned(), even: count == 2 };
            crate::cluster::members::peers(&one, &request, TIME).unwrap();
        }
        eventually("all hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
        let readers = has_reader.then(|| join(invite(&one, Role::Reader), "reader")).into_iter().collect();
        let at = one.listening()[0];
        let path = dir.0.clone();
        one.shutdown();
        let mut all = vec![(dir, path, at)];
        for (dir, path, node) in voters {
            all.push((dir, path, node.listening()[0]));
            node.shutdown();
        }
        (Self(all), readers)
    }

    fn path(&self, at: usize) -> &Path {
        &self.0[at].1
    }

    fn destroy(&self, which: &[usize], path: &str, is_in_working_copy_too: bool) -> Vec<(Kind, ContentHash)> {
        let objects = content(&open(self.path(0)), path);
        for at in which {
            destroy(self.path(*at), &objects);
            if is_in_working_copy_too {
                remove(self.path(*at), path);
            }
        }
        objects
    }

    fn start(&self, at: usize) -> Node {
        serve_at(self.path(at), self.0[at].2)
    }
}

fn remove(dir: &Path, path: &str) {
    let path = dir.join(path);
    if path.is_dir() { std::fs::remove_dir_all(path).unwrap() } else { std::fs::remove_file(path).unwrap() }
}

fn lost(node: &Node) -> HashSet<ContentHash> {
    crate::cluster::lost::of(&node.core.state())
}

fn ids(objects: &[(Kind, ContentHash)]) -> HashSet<ContentHash> {
    objects.iter().map(|(_, id)| *id).collect()
}

fn fsck(node: &Node) -> FsckResult {
    node.core.repo.fsck(&FsckRequest::default(), &Silent).unwrap()
}

fn is_whole(node: &Node) -> bool {
    let number = node.number();
    node.core.check_whole().is_ok() && !node.core.state().members[&number].is_deficient
}

fn cat(repo: &Repo, path: &str) -> Result<Vec<u8>, crate::Error> {
    let mut bytes = Vec::new();
    let target = Target { rev: Some("main".to_owned()), path: Some(path.as_bytes().to_vec()) };
    repo.cat(&CatRequest { target, offset: 0, length: None }, &mut bytes).map(|()| bytes)
}

fn sleep(time: Duration) {
    std::thread::sleep(time);
}

/// G4: what no voter has any more is recorded, by one who lacks it; from then on they are whole without it, publish, let others
/// join, collect, and say for ever what it was. When it comes back it is simply there.
#[test]
fn what_no_voter_has_is_recorded_and_they_go_on() {
    let (voters, _) = Voters::new(3);
    let large = std::fs::read(voters.path(0).join("large")).unwrap();
    let objects = voters.destroy(&[0, 1, 2], "large", true);
    let nodes: Vec<Node> = (0..3).map(|at| voters.start(at)).collect();
    // One finds out; the others are asked.
    assert!(!fsck(&nodes[0]).is_clean());
    eventually("it is recorded", || lost(&nodes[0]).is_superset(&ids(&objects)));
    eventually("all are whole", || nodes.iter().all(is_whole));
    assert_eq!(lost(&nodes[0]), ids(&objects), "nothing else is");
    for node in &nodes {
        let checked = fsck(node);
        assert!(checked.is_clean(), "{checked:?}");
        assert_eq!(checked.lost_recorded, objects.len() as u64);
        assert!(checked.lost.iter().all(|object| object.kind == "chunk" && object.paths == [b"large".to_vec()]));
        assert_eq!(checked.lost.iter().map(|object| object.id).collect::<HashSet<_>>(), ids(&objects));
        assert!(is_whole(node), "also when it was read again");
        assert_eq!(cat(&node.core.repo, "a/file").unwrap(), b"first");
        let error = cat(&node.core.repo, "large").unwrap_err();
        assert!(error.to_string().contains("recorded as lost"), "{error}");
    }
    // Whoever joins gets all else, and is told.
    let writer = join(invite(&nodes[0], Role::Writer), "four");
    let path = writer.0.join("repo");
    assert_eq!((writer.read("repo/a/file").as_deref(), writer.read("repo/large")), (Some(&b"first"[..]), None));
    let status = open(&path).status(&Default::default(), &Silent).unwrap();
    assert_eq!(status.lost, objects.len() as u64);
    let to = writer.0.join("restored");
    let restored = open(&path).restore(&RestoreRequest { to: Some(to), ..RestoreRequest::default() }, &Silent).unwrap();
    assert_eq!(restored.damaged.len(), 1);
    assert!(restored.damaged[0].path == b"large" && restored.damaged[0].cause.contains("recorded as lost"));
    let checked = open(&path).fsck(&FsckRequest::default(), &Silent).unwrap();
    assert!(checked.is_clean() && !checked.lost.is_empty(), "{checked:?}");
    // It publishes, also what stands beside it, and a collection takes nothing else.
    writer.write("repo/after", "after");
    writer.write("repo/a/more", "more");
    commit(&open(&path));
    assert_eq!(client(&path, sync_now).published.len(), 1);
    eventually("all hold the head", || peers(&nodes[0]).iter().take(3).all(|peer| peer.holds_head == Some(true)));
    for node in &nodes {
        let collected = node.core.repo.gc(&Default::default(), &Silent).unwrap();
        assert_eq!(collected.damaged, []);
        assert_eq!(cat(&node.core.repo, "after").unwrap(), b"after");
        assert!(is_whole(node) && fsck(node).is_clean());
    }
    // It comes back.
    writer.write("repo/large", &large);
    commit(&open(&path));
    assert_eq!(client(&path, sync_now).published.len(), 1);
    eventually("all hold the head", || peers(&nodes[0]).iter().take(3).all(|peer| peer.holds_head == Some(true)));
    for node in &nodes {
        assert_eq!(cat(&node.core.repo, "large").unwrap(), large);
        let checked = fsck(node);
        assert!(checked.is_clean() && checked.lost.is_empty() && is_whole(node), "{checked:?}");
        assert_eq!(checked.lost_recorded, objects.len() as u64, "for ever");
    }
    let checked = open(&path).fsck(&FsckRequest { repair: true, ..FsckRequest::default() }, &Silent).unwrap();
    assert!(checked.is_clean());
    nodes.into_iter().for_each(Node::shutdown);
}

/// As long as one voter has not said that he does not have it, nothing is lost.
#[test]
fn nothing_is_recorded_while_a_voter_is_away() {
    let (voters, _) = Voters::new(3);
    voters.destroy(&[0, 1], "large", true);
    let (one, two) = (voters.start(0), voters.start(1));
    for node in [&one, &two] {
        assert!(!fsck(node).is_clean());
    }
    sleep(THREE_LOOKS);
    assert!(lost(&one).is_empty() && lost(&two).is_empty());
    assert!(one.core.check_whole().is_err() && two.core.check_whole().is_err());
    let three = voters.start(2);
    eventually("they got it from the third", || is_whole(&one) && is_whole(&two));
    assert!(lost(&one).is_empty() && cat(&two.core.repo, "large").is_ok());
    [one, two, three].into_iter().for_each(Node::shutdown);
}

/// Nor is it if somebody who does not vote has it: then it is fetched from him.
#[test]
fn what_a_reader_has_is_not_lost() {
    let (voters, readers) = Voters::with_reader(2, true);
    voters.destroy(&[0, 1], "large", true);
    let (one, two) = (voters.start(0), voters.start(1));
    let reader = serve(&readers[0].0.join("repo"));
    sync_now(&reader);
    assert!(!fsck(&one).is_clean());
    eventually("they got it from the reader", || is_whole(&one) && cat(&one.core.repo, "large").is_ok());
    assert!(!fsck(&two).is_clean() || cat(&two.core.repo, "large").is_ok());
    eventually("both", || is_whole(&two) && cat(&two.core.repo, "large").is_ok());
    assert!(lost(&one).is_empty());
    [one, two, reader].into_iter().for_each(Node::shutdown);
}

/// Nor if it stands in the working copy of a voter.
#[test]
fn what_a_working_copy_has_is_not_lost() {
    let (voters, _) = Voters::new(2);
    voters.destroy(&[0, 1], "large", false);
    remove(voters.path(0), "large");
    let (one, two) = (voters.start(0), voters.start(1));
    assert!(!fsck(&one).is_clean());
    eventually("they have it again", || {
        [&one, &two].iter().all(|node| is_whole(node) && cat(&node.core.repo, "large").is_ok())
    });
    assert!(lost(&one).is_empty());
    [one, two].into_iter().for_each(Node::shutdown);
}

/// Who votes alone records it too, if it was published, and goes on as before.
#[test]
fn a_sole_voter_records_what_it_lacks() {
    let (voters, _) = Voters::new(1);
    let objects = voters.destroy(&[0], "large", true);
    let one = voters.start(0);
    assert!(!fsck(&one).is_clean());
    eventually("it is recorded", || lost(&one) == ids(&objects));
    eventually("commands know it", || fsck(&one).is_clean());
    let error = cat(&one.core.repo, "large").unwrap_err();
    assert!(error.to_string().contains("recorded as lost"), "{error}");
    voters.0[0].0.write("after", "after");
    commit(&one.core.repo);
    assert_eq!(sync_now(&one).published.len(), 1);
    assert_eq!(one.core.repo.gc(&Default::default(), &Silent).unwrap().damaged, []);
    one.shutdown();
}

/// A directory goes with what is below it.
#[test]
fn a_directory_is_lost_with_what_is_below_it() {
    let (voters, _) = Voters::new(2);
    let objects = voters.destroy(&[0, 1], "a", true);
    let (one, two) = (voters.start(0), voters.start(1));
    assert!(!fsck(&one).is_clean());
    eventually("it is recorded", || lost(&one).is_superset(&ids(&objects)));
    eventually("both are whole", || is_whole(&one) && is_whole(&two));
    for node in [&one, &two] {
        let checked = fsck(node);
        assert!(checked.is_clean(), "{checked:?}");
        assert!(checked.lost.iter().any(|object| object.kind == "tree" && object.paths.contains(&b"a".to_vec())));
        assert!(cat(&node.core.repo, "large").is_ok());
        assert!(cat(&node.core.repo, "a/file").unwrap_err().to_string().contains("recorded as lost"));
        assert_eq!(node.core.repo.gc(&Default::default(), &Silent).unwrap().damaged, []);
        assert!(fsck(node).is_clean());
    }
    let other = join(invite(&one, Role::Writer), "writer");
    assert!(other.read("repo/large").is_some() && other.read("repo/a/file").is_none());
    // A commit compares with what its head has, and that cannot be read there.
    other.write("repo/b", "new");
    let committed = open(&other.0.join("repo")).commit(&CommitRequest::default(), &Silent);
    assert_eq!(committed.unwrap_err().kind(), crate::ErrorKind::Damage);
    [one, two].into_iter().for_each(Node::shutdown);
}

/// Commits are not recorded: behind them lies history.
#[test]
fn commits_are_never_lost() {
    let (voters, _) = Voters::new(2);
    let first = open(voters.path(0)).head().unwrap();
    {
        let (one, two) = (voters.start(0), voters.start(1));
        voters.0[0].0.write("more", "more");
        commit(&one.core.repo);
        assert_eq!(sync_now(&one).published.len(), 1);
        eventually("both hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
        [one, two].into_iter().for_each(Node::shutdown);
    }
    for at in 0..2 {
        destroy(voters.path(at), &[(CommitId::KIND, first.0)]);
    }
    let (one, two) = (voters.start(0), voters.start(1));
    drop(one.core.repo.fsck(&FsckRequest::default(), &Silent));
    sleep(THREE_LOOKS);
    assert!(lost(&one).is_empty() && one.core.check_whole().is_err());
    [one, two].into_iter().for_each(Node::shutdown);
}

/// Rule 13: nobody but a voter is told whether an object is there; a voter is told what was read just now, and that it is nowhere
/// only after it was looked for.
#[test]
fn only_voters_are_told_what_is_there() {
    let (voters, _) = Voters::new(2);
    let objects = content(&open(voters.path(0)), "a/file");
    let (one, two) = (voters.start(0), voters.start(1));
    let (kind, id) = (objects[0].0.0, Id(*objects[0].1.as_bytes()));
    let wanted = vec![(kind, id), (kind, Id([7; 32])), (3, Id([8; 32]))];
    let ask = |node: &Node| node.core.wait(node.core.call(NodeId(1), &Call::Find(wanted.clone()), TIME)).unwrap();
    eventually("it is connected", || ask(&two).is_ok());
    eventually("all of it is known", || {
        ask(&two) == Ok(Answer::Found(vec![Found::Good, Found::Nowhere, Found::Nowhere]))
    });
    // It was never there, and is nothing that a voter has to have.
    assert!(one.core.check_whole().is_ok());
    let too_many = Call::Find(vec![(kind, id); 1_000]);
    assert!(matches!(two.core.wait(two.core.call(NodeId(1), &too_many, TIME)).unwrap(), Ok(Answer::Failed(_))));
    let writer = join(invite(&one, Role::Writer), "writer");
    let refused = client(&writer.0.join("repo"), ask);
    assert!(matches!(refused, Err(CallFailure::Refused(_))), "{refused:?}");
    [one, two].into_iter().for_each(Node::shutdown);
}
