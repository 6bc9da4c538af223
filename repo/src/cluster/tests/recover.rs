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
    client(&writer.0.join("repo"), |node| assert_refused(node, "member"));
    three.shutdown();
}

/// What a command brought while the daemon did not run is in no entry of this log. It was acknowledged, and stays; and what comes
/// after is held as ever.
#[test]
fn what_a_survivor_got_without_its_log_stays() {
    let (dir, one, mut others) = three();
    let (survivor, node) = others.pop().unwrap();
    let path = survivor.0.join("repo");
    node.shutdown();
    for n in 0..5 {
        dir.write("a/file", format!("without its log {n}"));
        commit(&one.core.repo);
        sync_now(&one);
    }
    let head = one.core.repo.head();
    assert_eq!(client(&path, sync_now).head, head);
    one.shutdown();
    others.drain(..).for_each(|(_, node)| node.shutdown());
    recover(&open(&path)).unwrap();
    let three = serve(&path);
    assert_eq!(sync_now(&three).head, head, "nothing is lost");
    assert_eq!(three.core.remote().main(), head);
    // Somebody else publishes, and it is here when a collection comes.
    let four = join(invite(&three, Role::Writer), "four");
    four.write("repo/after", Rng::new(4).bytes(700_000));
    commit(&open(&four.0.join("repo")));
    let published = client(&four.0.join("repo"), sync_now).head;
    eventually("it is noted as held", || three.core.remote().held == published);
    let no_pins = || filesync_cas::pin::all(&**three.core.repo.store.vfs()).unwrap().is_empty();
    eventually("pins are let go", no_pins);
    three.core.repo.gc(&Default::default(), &Silent).unwrap();
    let checked = three.core.repo.fsck(&Default::default(), &Silent).unwrap();
    assert!(checked.is_clean(), "{checked:?}");
    assert_eq!(join(invite(&three, Role::Reader), "five").read("repo/after"), four.read("repo/after"));
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
