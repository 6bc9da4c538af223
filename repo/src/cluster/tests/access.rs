//! Who may have what, as it is decided for real.

use filesync_merkle::CommitId;
use filesync_p2p::message::topics;
use filesync_p2p::peer::{Access, PeerKey, Role as PeerRole, Root, Scope};
use filesync_raft_log::command::{Command, Publish, Receipts, RefChange};
use filesync_raft_log::ids::{Id, LeaderId, NodeId, RefName};

use super::*;
use crate::cluster::calls::{Answer, Call};

fn key(node: &Node, number: u64) -> PeerKey {
    PeerKey(node.core.state().members[&NodeId(number)].key.0)
}

fn has(node: &Node, peer: &PeerKey, commit: CommitId) -> bool {
    match node.core.view.scope(peer, &Root::Commit(commit)) {
        Scope::All => true,
        Scope::Nothing => false,
        scope @ Scope::Below(_) => panic!("{scope:?}"),
    }
}

#[test]
fn what_is_not_published_is_for_voters_while_it_is_offered() {
    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    let published = sync_now(&one).head.unwrap();
    let _others = [Role::Reader, Role::Writer, Role::Candidate].map(|role| join(invite(&one, role), "it"));
    dir.write("a/file", "not for everybody");
    commit(&one.core.repo);
    let local = one.core.repo.head().unwrap();
    let roles = [(2, PeerRole::Reader), (3, PeerRole::Writer), (4, PeerRole::Candidate), (1, PeerRole::Voter)];
    let stranger = PeerKey([9; 32]);
    for (number, role) in roles {
        let peer = key(&one, number);
        assert_eq!(one.core.view.role(&peer), role);
        assert!(has(&one, &peer, published), "{role:?}");
        assert!(!has(&one, &peer, local), "{role:?}: it is local");
        let offer = one.core.view.offer(local);
        assert_eq!(has(&one, &peer, local), role >= PeerRole::Candidate, "{role:?}: it is offered");
        drop(offer);
        assert!(!has(&one, &peer, local), "{role:?}: it is no longer offered");
        let may = |topic| one.core.view.may_call(&peer, topic);
        assert_eq!(may(topics::PUBLISH), role >= PeerRole::Writer, "{role:?}");
        assert_eq!(may(topics::HOLD), role >= PeerRole::Candidate, "{role:?}");
        assert_eq!(may(topics::WANTED), role >= PeerRole::Candidate, "{role:?}");
        assert_eq!(may(topics::RAFT), role >= PeerRole::Candidate, "{role:?}");
        assert!(may(topics::READ_INDEX), "{role:?}");
    }
    assert!(!has(&one, &stranger, published) && !one.core.view.may_call(&stranger, topics::READ_INDEX));
    let removed = key(&one, 2);
    crate::cluster::members::peers(&one, &PeersRequest::Remove { node: "2".to_owned() }, TIME).unwrap();
    eventually("it is a stranger", || one.core.view.role(&removed) == PeerRole::Stranger);
    assert!(!has(&one, &removed, published));
    one.shutdown();
}

/// Who does not follow the log serves others only after it has asked who is a member.
#[test]
fn what_is_old_decides_nothing() {
    let (_dir, one) = published();
    let two = join(invite(&one, Role::Writer), "two");
    client(&two.0.join("repo"), |two| {
        let (peer, head) = (key(&one, 1), two.core.repo.head().unwrap());
        let may = || (has(two, &peer, head), two.core.view.may_call(&peer, topics::VOUCH));
        assert_eq!(may(), (false, false));
        assert!(two.core.view.may_call(&peer, topics::CLUSTER), "it says how it is");
        assert!(two.core.view.may_call(&peer, topics::RAFT), "it asks whether it is to follow the log");
        let offer = two.core.view.offer(head);
        assert!(has(two, &peer, head), "what it publishes");
        drop(offer);
        sync_now(two);
        assert_eq!(may(), (true, true));
    });
    one.shutdown();
}

/// Nobody writes receipts, or the outcome of anything, into the log but the leader itself; and nobody speaks for another.
#[test]
fn members_speak_for_themselves() {
    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    let head = sync_now(&one).head.unwrap();
    let _other = join(invite(&one, Role::Reader), "reader");
    let leader = LeaderId { term: 1, node: NodeId(1) };
    let receipts = Receipts { leader, nonce: 9, nodes: [NodeId(1)].into() };
    let (name, id) = (RefName::new("main").unwrap(), Id(*head.0.as_bytes()));
    let change = RefChange { name, expected: Some(id), new: Some(Id([7; 32])) };
    let publish = Publish { client: NodeId(2), seq: 1, change, receipts: Some(receipts) };
    for command in [
        Command::Publish(publish),
        Command::Remove { node: NodeId(2), by: NodeId(1) },
        Command::SetRole { node: NodeId(2), role: Role::Candidate, by: NodeId(1) },
        Command::SetAddresses { node: NodeId(1), addresses: Vec::new() },
        Command::Deficient { node: NodeId(1) },
    ] {
        let core = Arc::clone(&one.core);
        let call = Call::Propose(command.clone());
        let answer = one.core.wait(async move { crate::cluster::answer::answer_call(&core, NodeId(2), call).await });
        assert!(matches!(answer, Ok(Answer::Failed(_))), "{command:?}: {answer:?}");
    }
    assert_eq!(sync_now(&one).head, Some(head));
    one.shutdown();
}
