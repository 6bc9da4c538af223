//! Who comes late, or was away while members came and went.

use filesync_cas::pin;
use filesync_raft_log::Reason;
use filesync_raft_log::command::TryId;
use filesync_raft_log::ids::{Id, NodeId};

use super::*;
use crate::cluster::hold::Asked;
use crate::cluster::invite::InviteLine;
use crate::cluster::members;
use crate::cluster::remote::Remote;

fn promote(by: &Node, name: &str) {
    let request = PeersRequest::Promote { node: name.to_owned(), even: true };
    let peers = members::peers(by, &request, TIME).unwrap();
    assert!(peers.iter().any(|peer| peer.name == name && peer.role == "voter"), "{peers:?}");
}

fn demote(by: &Node, name: &str, role: Role) {
    members::peers(by, &PeersRequest::Demote { node: name.to_owned(), role }, TIME).unwrap();
}

fn joined(by: &Node, name: &str) -> (Dir, Node) {
    let dir = join(invite(by, Role::Candidate), name);
    let node = serve(&dir.0.join("repo"));
    (dir, node)
}

/// The log begins with voters that are none any more. Who comes late is sent it by one that came after them.
#[test]
fn who_comes_late_follows_a_leader_that_came_late() {
    let (dir, one) = published();
    // More than goes into one message.
    for n in 0..20 {
        dir.write("file", format!("{n}"));
        commit(&one.core.repo);
        sync_now(&one);
    }
    let (_second, two) = joined(&one, "two");
    promote(&one, "two");
    demote(&one, "one", Role::Reader);
    let (_third, three) = joined(&two, "three");
    promote(&two, "three");
    [one, two, three].into_iter().for_each(Node::shutdown);
}

/// One that leads by now was no member when this voter went.
#[test]
fn who_was_away_learns_of_a_leader_that_came_meanwhile() {
    let (_dir, one) = published();
    let [(_second, two), (third, three)] = ["two", "three"].map(|name| joined(&one, name));
    promote(&one, "two");
    promote(&one, "three");
    three.shutdown();
    let (_fourth, four) = joined(&one, "four");
    promote(&one, "four");
    for other in [&one, &two] {
        other.core.log.get().unwrap().stand_back(Reason::Leaves, true);
    }
    let leads = || four.core.log.get().unwrap().leading().is_some();
    eventually("the newest leads", leads);
    let three = serve(&third.0.join("repo"));
    let applied = |node: &Node| node.core.state().applied.map(|at| at.index);
    eventually("it follows", || applied(&three) >= applied(&four));
    assert!(leads());
    [one, two, three, four].into_iter().for_each(Node::shutdown);
}

/// One that leads by now has moved since this member was last told.
#[test]
fn who_was_away_learns_where_the_leader_is() {
    let (_dir, one) = published();
    let [(_second, two), (third, three)] = ["two", "three"].map(|name| joined(&one, name));
    promote(&one, "two");
    promote(&one, "three");
    let writer = join(invite(&one, Role::Writer), "writer");
    three.shutdown();
    let three = serve(&third.0.join("repo"));
    for other in [&one, &two] {
        other.core.log.get().unwrap().stand_back(Reason::Leaves, true);
    }
    eventually("it leads", || three.core.log.get().unwrap().leading().is_some());
    let synced = client(&writer.0.join("repo"), sync_now);
    assert_eq!(synced.outcome, SyncOutcome::Done, "{synced:?}");
    [one, two, three].into_iter().for_each(Node::shutdown);
}

/// A door that has been away knows nothing of an invite yet: nobody is turned away by that.
#[test]
fn a_door_that_has_not_heard_of_an_invite() {
    let (first, one) = published();
    let [(second, two), (_third, three)] = ["two", "three"].map(|name| joined(&one, name));
    promote(&one, "two");
    promote(&one, "three");
    // One is open, so that strangers are heard at all.
    let open = invite(&one, Role::Reader);
    eventually("two has heard of it", || two.core.state().invites.len() == one.core.state().invites.len());
    let (at_one, at_two) = (one.listening()[0], two.listening()[0]);
    two.shutdown();
    let mut line = InviteLine::decode(&invite(&one, Role::Writer)).unwrap();
    // The one that has not heard of it is asked first.
    line.doors.sort_by_key(|door| door.node != NodeId(2));
    let line = line.encode().unwrap();
    one.shutdown();
    three.shutdown();
    let two = serve_at(&second.0.join("repo"), at_two);
    let dir = Dir::new();
    let clone = |timeout| {
        let (invite, dir) = (line.clone(), dir.0.join("repo"));
        let request = CloneRequest { invite, dir, name: Some("four".to_owned()), paths: Vec::new(), timeout };
        crate::cluster::clone(&request, &OpenOptions::default(), &Silent)
    };
    let error = clone(Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::NoQuorum, "{error}");
    let one = serve_at(&first.0, at_one);
    assert_eq!(clone(TIME).unwrap().synced.head, one.core.repo.head());
    drop(open);
    [one, two].into_iter().for_each(Node::shutdown);
}

/// Who was removed is told so, and not that nobody answers; one who removes himself is asked for nothing more.
#[test]
fn who_was_removed_is_told() {
    let (_dir, one) = published();
    let [two, three] = ["two", "three"].map(|name| join(invite(&one, Role::Writer), name));
    members::peers(&one, &PeersRequest::Remove { node: "two".to_owned() }, TIME).unwrap();
    let synced = client(&two.0.join("repo"), sync_now);
    let error = synced.error.unwrap();
    assert_eq!((synced.outcome, error.kind()), (SyncOutcome::Refused, crate::ErrorKind::Refused), "{error}");
    assert!(error.to_string().contains("member any more"), "{error}");
    let removed = client(&three.0.join("repo"), |three| {
        members::peers(three, &PeersRequest::Remove { node: "three".to_owned() }, TIME)
    });
    assert_eq!(removed.unwrap().len(), 0);
    assert_eq!(peers(&one).len(), 1);
    one.shutdown();
}

/// Who is not let in has no repository left, in which a sync would found another cluster.
#[test]
fn who_is_not_let_in_leaves_nothing() {
    let (_dir, one) = published();
    let used = invite(&one, Role::Writer);
    let _first = join(used.clone(), "first");
    let dir = Dir::new();
    let request = CloneRequest { invite: used, dir: dir.0.join("repo"), name: None, paths: Vec::new(), timeout: TIME };
    let error = crate::cluster::clone(&request, &OpenOptions::default(), &Silent).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Refused, "{error}");
    assert_eq!(std::fs::read_dir(&dir.0).unwrap().count(), 0, "no directory either");
    one.shutdown();
}

/// It has its part of the log still, and nobody sends it anything.
#[test]
fn who_was_demoted_meanwhile_goes_on_without_the_log() {
    let (dir, one) = published();
    let (second, two) = joined(&one, "two");
    two.shutdown();
    demote(&one, "two", Role::Writer);
    dir.write("a/file", "later");
    commit(&one.core.repo);
    sync_now(&one);
    let two = Node::start(
        open(&second.0.join("repo")),
        &NodeOptions { listen: vec!["127.0.0.1:0".parse().unwrap()], moved: false },
        Arc::new(|_| {}),
    )
    .unwrap();
    assert_eq!(sync_now(&two).outcome, SyncOutcome::Done);
    assert_eq!(second.read("repo/a/file").as_deref(), Some(&b"later"[..]));
    [one, two].into_iter().for_each(Node::shutdown);
}

/// What it held when it was to vote stays pinned until it hears that it was decided, and no longer: no log tells it. The simulation
/// found such pins, which nothing ever took away.
#[test]
fn who_was_demoted_lets_go_what_was_decided() {
    let (dir, one) = published();
    let (second, two) = joined(&one, "two");
    two.shutdown();
    demote(&one, "two", Role::Writer);
    dir.write("a/file", "later");
    commit(&one.core.repo);
    sync_now(&one);
    let (leader, nonce) = one.core.state().member(NodeId(1)).unwrap().last_try.unwrap();
    let commit = Id(*one.core.repo.head().unwrap().0.as_bytes());
    let held = |nonce| Asked { id: TryId { client: NodeId(1), leader, nonce }, commit }.pin(0);
    let (decided, undecided) = (held(nonce), held(nonce + 1));
    let repo = open(&second.0.join("repo"));
    repo.store.pin(&decided).unwrap();
    repo.store.pin(&undecided).unwrap();
    drop(repo);
    let two = serve(&second.0.join("repo"));
    assert_eq!(sync_now(&two).outcome, SyncOutcome::Done);
    let pins: Vec<_> = pin::all(&**two.core.repo.store.vfs()).unwrap().into_iter().map(|pin| pin.id).collect();
    assert_eq!(pins, [undecided.id]);
    [one, two].into_iter().for_each(Node::shutdown);
}

/// Whoever was removed meanwhile may call a node to the log, and say what it likes. So one that calls is not asked, where others are known.
#[test]
fn who_calls_to_the_log_is_not_asked() {
    let (_dir, one) = published();
    let (_third, three) = joined(&one, "three");
    promote(&one, "three");
    let second = join(invite(&one, Role::Writer), "two");
    let two = second.0.join("repo");
    let number = |node: &Node, name: &str| NodeId(peers(node).iter().find(|peer| peer.name == name).unwrap().node);
    let (caller, other) = (number(&one, "three"), one.number());
    client(&two, |two| drop(sync_now(two)));
    demote(&one, "two", Role::Candidate);
    client(&two, |two| {
        let is_called = |caller| {
            let core = &two.core;
            let found = core.wait(core.is_called_rightly(caller, TIME)).unwrap();
            (found, core.view.read(|state| core.is_candidate(state)))
        };
        three.shutdown();
        assert_eq!(is_called(other), (false, false), "who does not call says nothing, and who calls is not asked");
        assert_eq!(is_called(caller), (true, true));
    });
    one.shutdown();
}

/// It may vote as soon as it follows the log. After a crash it must know that: who votes may be needed for it to hear of it.
#[test]
fn who_comes_to_follow_the_log_has_on_its_disk_that_it_does() {
    let (_dir, one) = published();
    let second = join(invite(&one, Role::Writer), "two");
    let two = serve(&second.0.join("repo"));
    assert!(two.core.log.get().is_none());
    demote(&one, "two", Role::Candidate);
    two.core.wait(two.core.opened_log()).unwrap();
    let known = Remote::read(&**two.core.repo.store.vfs()).unwrap().unwrap();
    assert!(two.core.is_candidate(&known.state), "{:?}", known.state.members);
    two.shutdown();
    one.shutdown();
}
