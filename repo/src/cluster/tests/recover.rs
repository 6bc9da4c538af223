//! Going on with one voter.

use filesync_raft_log::ids::NodeId;

use super::*;
use crate::cluster::calls::Call;
use crate::cluster::recover::recover;

/// Three voters; the last two with their directories.
fn three() -> (Dir, Node, Vec<(Dir, Node)>) {
    let (dir, one) = published();
    let others = ["two", "three"].map(|name| {
        let dir = join(invite(&one, Role::Candidate), name);
        let node = serve(&dir.0.join("repo"));
        (dir, node)
    });
    let request = PeersRequest::Promote { node: "two".to_owned(), even: false };
    crate::cluster::members::peers(&one, &request, TIME).unwrap();
    eventually("all hold the head", || peers(&one).iter().all(|peer| peer.holds_head == Some(true)));
    (dir, one, others.into())
}

/// The third node answers, and not to this one.
fn assert_refused(node: &Node, why: &str) {
    let core = Arc::clone(&node.core);
    let answer = node.core.wait(async move { core.call(NodeId(3), &Call::Facts, TIME).await }).unwrap();
    let error = answer.unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

#[test]
fn a_survivor_goes_on_alone() {
    let (dir, one, mut others) = three();
    let writer = join(invite(&one, Role::Writer), "four");
    dir.write("a/file", "second");
    commit(&one.core.repo);
    let head = sync_now(&one).head;
    eventually("all hold the head", || peers(&one).iter().take(3).all(|peer| peer.holds_head == Some(true)));
    let at: SocketAddr = one.listening()[0];
    one.shutdown();
    let (survivor, node) = others.pop().unwrap();
    let at_three = node.listening()[0];
    node.shutdown();
    let (_gone, node) = others.pop().unwrap();
    node.shutdown();
    let path = survivor.0.join("repo");
    recover(&open(&path)).unwrap();
    let three = serve_at(&path, at_three);
    assert_eq!(three.core.state().epoch, 2);
    assert_eq!(sync_now(&three).head, head, "nothing is lost");
    survivor.write("repo/after", "alone");
    commit(&three.core.repo);
    assert_eq!(sync_now(&three).published.len(), 1);
    let voters: Vec<_> = peers(&three).into_iter().filter(|peer| peer.role == "voter").map(|peer| peer.name).collect();
    assert_eq!(voters, ["three"]);
    // Whoever comes with a new invite is welcome.
    let five = join(invite(&three, Role::Writer), "five");
    assert_eq!(five.read("repo/after").as_deref(), Some(&b"alone"[..]));
    // Nobody of the old epoch is listened to, be it one who voted or one who wrote.
    let old = serve_at(&dir.0, at);
    assert_refused(&old, "member");
    old.shutdown();
    client(&writer.0.join("repo"), |node| assert_refused(node, "epoch"));
    three.shutdown();
}

/// What was published without the survivor is given up, and what it has is whole.
#[test]
fn a_survivor_gives_up_what_it_never_got() {
    let (dir, one, mut others) = three();
    let (survivor, node) = others.pop().unwrap();
    let path = survivor.0.join("repo");
    let had = node.core.remote().held;
    node.shutdown();
    dir.write("a/file", "without three");
    commit(&one.core.repo);
    let lost = sync_now(&one).head;
    assert!(lost.is_some() && lost != had);
    one.shutdown();
    others.drain(..).for_each(|(_, node)| node.shutdown());
    recover(&open(&path)).unwrap();
    let three = serve(&path);
    assert_eq!(sync_now(&three).head, had);
    survivor.write("repo/after", "alone");
    commit(&three.core.repo);
    assert_eq!(sync_now(&three).published.len(), 1);
    assert!(three.core.repo.fsck(&Default::default(), &Silent).unwrap().is_clean());
    three.shutdown();
}
