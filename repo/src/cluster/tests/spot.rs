//! Reads at random of what others say that they hold: row P12 of the threat model.

use filesync_p2p::message::topics;
use filesync_raft_log::ids::{Id, NodeId};

use super::liars::{Says, cluster, leave, who_says};
use super::*;
use crate::cluster::calls::{Answer, Call, encode};
use crate::cluster::core::CallFailure;
use crate::cluster::spot::{SHOWN_MAX, Seen, look, look_at};

fn seen(by: &Node, node: u64) -> Seen {
    by.core.wait(look_at(&by.core, NodeId(node))).unwrap().unwrap()
}

/// A false receipt: who says that it holds what is published, and does not have it, cannot show it.
#[test]
fn who_only_says_that_it_holds_is_found() {
    let (_dir, one, _) = cluster();
    let two = join(invite(&one, Role::Candidate), "two");
    let repo = open(&two.0.join("repo"));
    let says = |index, shown: Answer| {
        move |topic| match topic {
            topics::CLUSTER => encode(&Answer::HeldAsOf(index)),
            topics::FIND => encode(&shown),
            _ => Vec::new(),
        }
    };
    let lies = [
        (u64::MAX, Answer::Shown(Id([7; 32])), Some("what it shows is something else")),
        (u64::MAX, Answer::Failed("it is not there".to_owned()), Some("it is not there")),
        // No answer is no lie; nor is it one to lack what one never said to have.
        (u64::MAX, Answer::Held, None),
        (0, Answer::Shown(Id([7; 32])), None),
    ];
    for (nonce, (index, shown, told)) in (1..).zip(lies) {
        let net = who_says(&repo, nonce, &one, Says(says(index, shown)));
        match (seen(&one, 2), told) {
            (Seen::NotHeld(drawn, why), Some(told)) => assert!(!drawn.is_empty() && why == told, "{why}"),
            (Seen::NotSaid, None) => {}
            other => panic!("{other:?}"),
        }
        leave(net, &one);
    }
    one.shutdown();
}

/// Who holds it shows it, each time something else; to voters alone, and only so much at a time.
#[test]
fn who_holds_it_shows_it() {
    let (_dir, one) = published();
    let dirs = [join(invite(&one, Role::Candidate), "two"), join(invite(&one, Role::Candidate), "three")];
    let nodes: Vec<Node> = dirs.iter().map(|dir| serve(&dir.0.join("repo"))).collect();
    let ask = |node: &Node, of: u64, key, objects| {
        let call = Call::Show { key: Id(key), objects };
        node.core.wait(node.core.call(NodeId(of), &call, TIME)).unwrap()
    };
    let root = (filesync_merkle::CommitId::KIND.0, Id(*one.core.remote().held.unwrap().0.as_bytes()));
    let shown = ask(&nodes[0], 1, [1; 32], vec![root]);
    assert!(matches!(shown, Err(CallFailure::Refused(None))), "who does not vote is not shown: {shown:?}");
    let promote = PeersRequest::Promote { node: "two".to_owned(), even: false };
    crate::cluster::members::peers(&one, &promote, TIME).unwrap();
    // Who is busy says nothing, or says later that it holds; it never fails to show what it says.
    for _ in 0..20 {
        eventually("it shows it", || match seen(&one, 2) {
            Seen::NotHeld(drawn, why) => panic!("{drawn:?}: {why}"),
            other => other == Seen::Held,
        });
    }
    let (first, other) = (ask(&one, 2, [1; 32], vec![root]), ask(&one, 2, [2; 32], vec![root]));
    assert!(matches!(first, Ok(Answer::Shown(_))) && first != other, "{first:?}: a key makes it another hash");
    assert!(matches!(ask(&one, 2, [1; 32], vec![(root.0, Id([7; 32]))]), Ok(Answer::Failed(_))), "what is not there");
    assert!(matches!(ask(&one, 2, [1; 32], vec![root; SHOWN_MAX + 1]), Ok(Answer::Refused(_))));
    let figures = || {
        let mut figures = String::new();
        one.metrics(&mut figures);
        figures
    };
    // It looks by itself too, now and then.
    eventually("it is counted", || {
        one.core.wait(look(&one.core)).unwrap();
        !figures().contains("filesync_spot_checks_total{outcome=\"held\"} 0\n")
    });
    assert!(figures().contains("filesync_spot_checks_total{outcome=\"not held\"} 0\n"), "{}", figures());
    nodes.into_iter().for_each(Node::shutdown);
    one.shutdown();
}
