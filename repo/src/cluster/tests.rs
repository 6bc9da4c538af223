//! Several nodes in one process, over loopback.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;

use super::outbox::{Outbox, Sending};
use super::remote::MAIN;
use super::{Node, NodeOptions};
use crate::repo::{OpenOptions, Repo};
use crate::request::{
    CloneRequest, CloneResult, CommitRequest, ForgetRequest, InitRequest, InviteRequest, Peer, PeersRequest, Role,
    Silent, SyncOutcome, SyncRequest, SyncResult,
};

mod access;
mod heal;
mod large;
mod late;
mod liars;
mod lost;
mod mistakes;
mod partial;
mod quota;
mod recover;
mod room;
mod sim;
mod spot;
mod tags;

const TIME: Duration = Duration::from_secs(30);

/// A directory that goes with its owner.
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        let path = std::env::temp_dir().join(filesync_cas::vfs::temp_name().unwrap());
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) {
        let path = self.0.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn read(&self, path: &str) -> Option<Vec<u8>> {
        std::fs::read(self.0.join(path)).ok()
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn open(dir: &Path) -> Arc<Repo> {
    let options = OpenOptions { lock_timeout: TIME, ..OpenOptions::default() };
    Arc::new(Repo::open_writer(dir, "test", &options, &Silent).unwrap())
}

fn serve(dir: &Path) -> Node {
    let listen: Vec<SocketAddr> = vec!["127.0.0.1:0".parse().unwrap()];
    let told = Arc::new(|error: &crate::Error| eprintln!("told: {error}"));
    let node = Node::start(open(dir), &NodeOptions { listen, moved: false }, told).unwrap();
    node.announce(TIME).unwrap();
    node
}

/// As [`serve`], where it was before. Others need not be there.
fn serve_at(dir: &Path, at: SocketAddr) -> Node {
    let options = NodeOptions { listen: vec![at], moved: false };
    Node::start(open(dir), &options, Arc::new(|error| eprintln!("told: {error}"))).unwrap()
}

/// For one command, as without a daemon.
fn client<T>(dir: &Path, run: impl FnOnce(&Node) -> T) -> T {
    let node = Node::start(open(dir), &NodeOptions::default(), Arc::new(|_| {})).unwrap();
    let result = run(&node);
    node.shutdown();
    result
}

fn sync_now(node: &Node) -> SyncResult {
    super::sync::sync(node, &SyncRequest { timeout: TIME, ..SyncRequest::default() }, &Silent).unwrap()
}

fn commit(repo: &Repo) {
    repo.commit(&CommitRequest::default(), &Silent).unwrap();
}

fn founded() -> Dir {
    let dir = Dir::new();
    Repo::init(&dir.0, &InitRequest { name: Some("one".to_owned()), ..InitRequest::default() }).unwrap();
    dir.write("a/file", "first");
    dir.write("large", Rng::new(1).bytes(1_500_000));
    dir
}

/// Who has founded a cluster, and published a commit.
fn published() -> (Dir, Node) {
    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    sync_now(&one);
    (dir, one)
}

fn invite(node: &Node, role: Role) -> String {
    super::members::invite(node, &InviteRequest { role, expires: Some(TIME), uses: 1, timeout: TIME }).unwrap().line
}

fn join(invite: String, name: &str) -> Dir {
    join_parts(invite, name, &[]).0
}

/// As [`join`], with these paths alone, if there are any.
fn join_parts(invite: String, name: &str, paths: &[&str]) -> (Dir, CloneResult) {
    let dir = Dir::new();
    let path = dir.0.join("repo");
    let paths = paths.iter().map(|path| path.as_bytes().to_vec()).collect();
    let request = CloneRequest { invite, dir: path.clone(), name: Some(name.to_owned()), paths, timeout: TIME };
    let cloned = super::clone(&request, &OpenOptions::default(), &Silent).unwrap();
    assert_eq!(cloned.path, std::fs::canonicalize(path).unwrap());
    (dir, cloned)
}

fn peers(node: &Node) -> Vec<Peer> {
    super::members::peers(node, &PeersRequest::List, TIME).unwrap()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + TIME;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {TIME:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn alone_a_node_publishes_to_itself() {
    let dir = founded();
    commit(&open(&dir.0));
    let first = client(&dir.0, sync_now);
    assert_eq!((first.outcome, first.published.len()), (SyncOutcome::Done, 1));
    assert_eq!(client(&dir.0, sync_now).published, []);
    dir.write("a/file", "second");
    commit(&open(&dir.0));
    let second = client(&dir.0, sync_now);
    assert_eq!(second.published.len(), 1);
    let status = open(&dir.0).status(&Default::default(), &Silent).unwrap();
    assert_eq!((status.main, status.ahead, status.behind), (second.head, Some(0), Some(0)));
}

#[test]
fn what_others_may_have_is_not_amended() {
    let dir = founded();
    let amend = |dry_run| {
        dir.write("a/file", format!("amended {dry_run}"));
        let request = CommitRequest { amend: true, dry_run, ..CommitRequest::default() };
        open(&dir.0).commit(&request, &Silent)
    };
    let refused = |why: &str| {
        for dry_run in [true, false] {
            let error = amend(dry_run).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    };
    commit(&open(&dir.0));
    amend(false).unwrap();
    client(&dir.0, sync_now);
    let published = open(&dir.0).head();
    refused("it is published");
    assert_eq!(open(&dir.0).head(), published);
    // On top of it there is something new, which is nobody's business yet.
    dir.write("a/file", "more");
    commit(&open(&dir.0));
    amend(false).unwrap();
    // Sent, and no answer came.
    let sending = Sending { name: MAIN.to_owned(), expected: published, new: open(&dir.0).head() };
    Outbox { seq: 9, sending: Some(sending) }.write(&**open(&dir.0).store.vfs()).unwrap();
    refused("it may be published");
}

#[test]
fn what_was_let_go_before_it_was_published_is_named() {
    let dir = founded();
    for round in 0..3 {
        dir.write("a/file", format!("round {round}"));
        dir.write("large", Rng::new(round).bytes(1_500_000));
        commit(&open(&dir.0));
    }
    let forget = ForgetRequest { keep_last: Some(1), ..ForgetRequest::default() };
    assert_eq!(open(&dir.0).forget(&forget, &Silent).unwrap().expired.len(), 2);
    open(&dir.0).gc(&Default::default(), &Silent).unwrap();
    let request = SyncRequest { timeout: TIME, ..SyncRequest::default() };
    let result = client(&dir.0, |node| super::sync::sync(node, &request, &Silent).unwrap());
    let error = result.error.unwrap();
    assert_eq!((result.outcome, error.kind()), (SyncOutcome::Refused, crate::ErrorKind::Refused));
    assert!(error.to_string().contains("has expired, and its files are gone"), "{error}");
}

#[test]
fn who_joins_gets_everything_and_publishes() {
    let (dir, one) = published();
    let two = join(invite(&one, Role::Writer), "two");
    assert_eq!(two.read("repo/large"), dir.read("large"));
    let other = two.0.join("repo");
    two.write("repo/from two", "hello");
    commit(&open(&other));
    let synced = client(&other, sync_now);
    assert_eq!((synced.outcome, synced.published.len()), (SyncOutcome::Done, 1));
    let taken = sync_now(&one);
    assert_eq!((taken.pulled.len(), taken.published.len()), (1, 0), "{taken:?}");
    assert_eq!(dir.read("from two").as_deref(), Some(&b"hello"[..]));
    one.shutdown();
}

#[test]
fn both_sides_move_and_nothing_is_lost() {
    let (dir, one) = published();
    let two = join(invite(&one, Role::Writer), "two");
    let other = two.0.join("repo");
    two.write("repo/a/file", "from two");
    two.write("repo/only two", "2");
    commit(&open(&other));
    dir.write("a/file", "from one");
    dir.write("only one", "1");
    commit(&one.core.repo);
    let dry = |node: &Node| super::sync::sync(node, &SyncRequest { dry_run: true, ..SyncRequest::default() }, &Silent);
    let would = dry(&one).unwrap();
    assert_eq!((would.published.len(), would.pulled.len(), would.outcome), (1, 0, SyncOutcome::Done));
    assert_eq!(sync_now(&one).published, would.published);
    let would = client(&other, |node| dry(node).unwrap());
    assert_eq!((would.published.len(), would.pulled.len(), would.outcome), (1, 1, SyncOutcome::Conflicts));
    assert_eq!((would.conflicts.as_slice(), would.merged), ([b"a/file".to_vec()].as_slice(), None));
    assert_eq!(two.read("repo/a/file").as_deref(), Some(&b"from two"[..]));
    let merged = client(&other, sync_now);
    assert_eq!(merged.outcome, SyncOutcome::Conflicts);
    assert_eq!(merged.conflicts, [b"a/file".to_vec()]);
    assert_eq!(two.read("repo/a/file").as_deref(), Some(&b"from one"[..]));
    let copies: Vec<_> = std::fs::read_dir(other.join("a")).unwrap().flatten().map(|it| it.file_name()).collect();
    let copy = copies.iter().find(|name| name.to_string_lossy().contains(".conflict-two-")).unwrap();
    assert_eq!(std::fs::read(other.join("a").join(copy)).unwrap(), b"from two");
    assert_eq!(merged.copies, [Some(format!("a/{}", copy.to_string_lossy()).into_bytes())]);
    let conflicts = open(&other).status(&Default::default(), &Silent).unwrap().conflicts;
    assert_eq!(conflicts, [format!("a/{}", copy.to_string_lossy()).into_bytes()]);
    sync_now(&one);
    for file in ["only one", "only two", "a/file"] {
        assert_eq!(dir.read(file), two.read(&format!("repo/{file}")), "{file}");
    }
    one.shutdown();
}

/// What was in a file between two publishes can be had from no other commit than the one that had it.
#[test]
fn commits_in_a_row_are_published_at_once() {
    let (dir, one) = published();
    let two = join(invite(&one, Role::Writer), "two");
    let path = two.0.join("repo");
    let commits = |from: u64| {
        for n in from..from + 3 {
            two.write("repo/a/file", format!("{n}"));
            two.write("repo/large", Rng::new(n).bytes(700_000));
            commit(&open(&path));
        }
    };
    commits(10);
    assert_eq!(client(&path, sync_now).published.len(), 3);
    // And when they have to be merged.
    sync_now(&one);
    dir.write("other", "of one");
    commit(&one.core.repo);
    sync_now(&one);
    commits(20);
    assert_eq!(client(&path, sync_now).published.len(), 4);
    sync_now(&one);
    assert_eq!(dir.read("large"), two.read("repo/large"));
    assert!(one.core.repo.fsck(&Default::default(), &Silent).unwrap().is_clean());
    one.shutdown();
}

/// Only what would be overwritten is in the way: not an edit of what this node alone has changed.
#[test]
fn an_edit_of_what_others_have_not_changed_is_no_hindrance() {
    let (dir, one) = published();
    let two = join(invite(&one, Role::Writer), "two");
    let path = two.0.join("repo");
    dir.write("other", "of one");
    commit(&one.core.repo);
    sync_now(&one);
    two.write("repo/mine", "committed");
    commit(&open(&path));
    two.write("repo/mine", "edited");
    assert_eq!(client(&path, sync_now).outcome, SyncOutcome::Done);
    assert_eq!(two.read("repo/mine").as_deref(), Some(&b"edited"[..]));
    assert_eq!(two.read("repo/other").as_deref(), Some(&b"of one"[..]));
    assert_eq!(one.ready(), Ok(()));
    one.shutdown();
}

#[test]
fn three_vote_and_one_may_die() {
    let (dir, one) = published();
    let others = [join(invite(&one, Role::Candidate), "two"), join(invite(&one, Role::Candidate), "three")];
    let mut nodes: Vec<Node> = others.iter().map(|dir| serve(&dir.0.join("repo"))).collect();
    let promoted =
        super::members::peers(&one, &PeersRequest::Promote { node: "two".to_owned(), even: false }, TIME).unwrap();
    assert_eq!(promoted.iter().filter(|peer| peer.role == "voter").count(), 3, "{promoted:?}");
    let writer = join(invite(&one, Role::Writer), "four");
    eventually("all hold the head", || peers(&one).iter().take(3).all(|peer| peer.holds_head == Some(true)));
    one.shutdown();
    let path = writer.0.join("repo");
    writer.write("repo/after", "it died");
    commit(&open(&path));
    let synced = client(&path, sync_now);
    assert_eq!((synced.outcome, synced.published.len()), (SyncOutcome::Done, 1));
    let one = serve(&dir.0);
    eventually("it comes back", || {
        sync_now(&one);
        dir.read("after").as_deref() == Some(&b"it died"[..])
    });
    nodes.drain(..).for_each(Node::shutdown);
    // One of three is no majority.
    dir.write("alone", "1");
    commit(&one.core.repo);
    let request = SyncRequest { timeout: Duration::from_secs(3), ..SyncRequest::default() };
    let kind = match super::sync::sync(&one, &request, &Silent) {
        Err(error) => error.kind(),
        Ok(result) => panic!("{result:?}"),
    };
    assert_eq!(kind, crate::ErrorKind::NoQuorum);
    one.shutdown();
}

/// A change of voters whose candidates do not come is given up: publishing goes on.
#[test]
fn a_promotion_that_does_not_come_true_stops_nobody() {
    let (dir, one) = published();
    let _others = [join(invite(&one, Role::Candidate), "two"), join(invite(&one, Role::Candidate), "three")];
    let request = PeersRequest::Promote { node: "two".to_owned(), even: false };
    let error = super::members::peers(&one, &request, Duration::from_secs(2)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NoQuorum, "{error}");
    dir.write("after", "x");
    commit(&one.core.repo);
    assert_eq!(sync_now(&one).published.len(), 1);
    one.shutdown();
}

/// What is ignored here, and published by another under that name, stays; and the head does not pretend that it came.
#[test]
fn what_stands_in_the_way_stays_and_the_head_too() {
    let dir = founded();
    dir.write(".filesyncignore", "secret\n");
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    sync_now(&one);
    let two = join(invite(&one, Role::Writer), "two");
    let other = two.0.join("repo");
    two.write("repo/secret", "of two alone");
    dir.write(".filesyncignore", "");
    dir.write("secret", "of one");
    commit(&one.core.repo);
    sync_now(&one);
    let head = open(&other).head();
    let refused = client(&other, sync_now);
    let error = refused.error.unwrap();
    assert!(refused.outcome == SyncOutcome::Refused && error.to_string().contains("secret"), "{error}");
    assert_eq!(two.read("repo/secret").as_deref(), Some(&b"of two alone"[..]));
    assert_eq!(open(&other).head(), head);
    std::fs::remove_file(other.join("secret")).unwrap();
    client(&other, sync_now);
    assert_eq!(two.read("repo/secret").as_deref(), Some(&b"of one"[..]));
    one.shutdown();
}

/// History is only added to, and no ref moves but `main` and tags.
#[test]
fn what_is_published_is_not_taken_back() {
    use filesync_raft_log::command::RefChange;
    use filesync_raft_log::ids::{Id, RefName};

    use super::calls::Answer;

    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    let first = sync_now(&one).head.unwrap();
    dir.write("a/file", "second");
    commit(&one.core.repo);
    let second = sync_now(&one).head.unwrap();
    let id = |commit: filesync_merkle::CommitId| Some(Id(*commit.0.as_bytes()));
    for (seq, (name, expected, new)) in
        (100..).zip([("main", id(second), None), ("main", id(second), id(first)), ("other", None, id(first))])
    {
        let change = RefChange { name: RefName::new(name).unwrap(), expected, new };
        let core = &one.core;
        let answer = core.wait(super::lead::publish(core, one.number(), seq, change)).unwrap();
        assert!(matches!(answer, Answer::Refused(_)), "{name}: {answer:?}");
    }
    assert_eq!(sync_now(&one).head, Some(second));
    one.shutdown();
}

/// A power cut takes what was applied and not flushed: a pin goes by no more than it leaves.
#[test]
fn what_is_let_go_was_decided_on_disk() {
    use filesync_raft_log::command::Outcome;
    use filesync_raft_log::ids::NodeId;

    let (_dir, one) = published();
    let last = one.core.state().member(NodeId(1)).unwrap().last.clone().unwrap();
    let Outcome::Published { index, .. } = last.outcome else { panic!("{last:?}") };
    let pins = || filesync_cas::pin::all(&**one.core.repo.store.vfs()).unwrap();
    eventually("it lets go", || !pins().iter().any(|pin| pin.note.starts_with("try ")));
    let flushed = one.core.log.get().unwrap().flushed();
    assert!(flushed >= Some(index), "let go before it was on disk: {flushed:?}, {index}");
    one.shutdown();
}

/// G4, G7: what is held for a try is a root, synced, until the pin goes; no ref leads to it.
#[test]
fn what_is_held_survives_a_collection() {
    use filesync_raft_log::command::TryId;
    use filesync_raft_log::ids::{Id, LeaderId, NodeId};

    use super::hold::{Asked, hold_now};
    use super::jobs::Progress;
    use crate::request::{CatRequest, GcRequest, Target};

    let dir = founded();
    let one = serve(&dir.0);
    let repo = &one.core.repo;
    dir.write("held", Rng::new(5).bytes(300_000));
    commit(repo);
    let held = repo.head().unwrap();
    // A leadership that is still to come: nobody can say yet that it is over.
    let leader = LeaderId { term: 1_000, node: NodeId(99) };
    let id = TryId { client: NodeId(1), leader, nonce: 1 };
    let asked = Asked { id, commit: Id(*held.0.as_bytes()) };
    hold_now(&one.core, &asked, &[], &Progress::default(), || ()).unwrap();
    dir.write("held", "other");
    repo.commit(&CommitRequest { amend: true, ..CommitRequest::default() }, &Silent).unwrap();
    let read = || {
        let mut bytes = Vec::new();
        let target = Target { rev: Some(held.to_string()), path: Some(b"held".to_vec()) };
        repo.cat(&CatRequest { target, offset: 0, length: None }, &mut bytes).map(|()| bytes)
    };
    repo.gc(&GcRequest::default(), &Silent).unwrap();
    assert_eq!(read().unwrap(), Rng::new(5).bytes(300_000));
    for pin in filesync_cas::pin::all(&**repo.store.vfs()).unwrap() {
        repo.store.unpin(&pin.id).unwrap();
    }
    repo.gc(&GcRequest::default(), &Silent).unwrap();
    assert!(read().is_err(), "without the pin nothing holds it");
    one.shutdown();
}

/// What came with one publish has its index, and what is only local has none.
#[test]
fn log_says_where_a_commit_was_published() {
    use crate::request::LogRequest;

    let (dir, one) = published();
    for name in ["b", "c"] {
        dir.write(name, name);
        commit(&one.core.repo);
    }
    sync_now(&one);
    dir.write("d", "d");
    commit(&one.core.repo);
    let log = |reverse| {
        let mut indexes = Vec::new();
        let request = LogRequest { reverse, ..LogRequest::default() };
        let mut note = |entry: crate::request::LogEntry| {
            indexes.push((entry.log_index, entry.as_of.is_some()));
            Ok(())
        };
        one.core.repo.log(&request, &mut note).unwrap();
        indexes
    };
    let [local, third, second, first] = log(false)[..] else { panic!("four commits") };
    assert_eq!(local, (None, true));
    assert!(third == second && third > first && first.0.is_some(), "{third:?} {second:?} {first:?}");
    assert_eq!(log(true).into_iter().rev().collect::<Vec<_>>(), log(false));
    one.shutdown();
}
