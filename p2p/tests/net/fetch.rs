//! Whole fetches, and what breaks them off.

use super::*;

#[test]
fn a_closure_over_real_sockets() {
    let (there, here) = (Node::new(1), Node::new(2));
    let first = there.repo.commit(&some_tree(1, 8 << 20), &[]);
    let head = there.repo.commit(&some_tree(2, 8 << 20), &[first]);
    here.connect(&there);
    let (result, stats) = here.fetch(head, &[there.key()], &mut |_| ());
    result.expect("fetched");
    here.repo.check(head);
    assert!(stats.whole_frames * 2 > stats.frames, "{stats:?}");
    let other = Node::new(3);
    here.connect(&other);
    let (result, stats) = here.fetch(head, &[other.key()], &mut |_| ());
    result.expect("it is all here");
    assert_eq!(other.shared.as_ref().expect("it is on the network").guard().streams(), 0, "nobody need be asked");
    assert_eq!((stats.walks, stats.gets), (0, 0));
    if let Some(net) = here.net {
        net.shutdown(WAIT);
    }
}

/// Opening a stream takes two round trips: the next fetch uses the one that is there, unless the peer was started anew.
#[test]
fn fetches_share_a_stream() {
    let (mut there, here) = (Node::new(1), Node::new(2));
    here.connect(&there);
    let streams = |there: &Node| there.shared.as_ref().expect("it is on the network").guard().streams();
    let echo = |there: &Node| here.net().call_and_wait(there.key(), Class::Call, PUBLISH, vec![0, 1], WAIT);
    let mut head = there.repo.commit(&some_tree(1, 1 << 20), &[]);
    for seed in 2..5 {
        here.fetch(head, &[there.key()], &mut |_| assert!(streams(&there) <= 2)).0.expect("fetched");
        here.repo.check(head);
        assert_eq!(echo(&there), Ok((Status::Done, vec![0, 1])));
        until("the stream is kept", || here.net().connections().iter().any(|peer| peer.has_idle_stream));
        assert_eq!(streams(&there), 2, "that for calls, and that which fetched");
        head = there.repo.commit(&some_tree(seed, 1 << 20), &[head]);
    }
    drop(there.net.take());
    there.start_at("127.0.0.1:0").expect("starts anew");
    until("the old connection is lost", || !here.is_connected(there.key()));
    here.connect(&there);
    here.fetch(head, &[there.key()], &mut |_| ()).0.expect("by a new stream");
    here.repo.check(head);
}

#[test]
fn two_sources() {
    let (a, b, here) = (Node::new(1), Node::new(2), Node::new(3));
    let tree = some_tree(1, 80 << 20);
    let head = a.repo.commit(&tree, &[]);
    assert_eq!(b.repo.commit(&tree, &[]), head);
    here.connect(&a);
    here.connect(&b);
    let (result, stats) = here.fetch(head, &[a.key(), b.key()], &mut |_| ());
    result.expect("fetched");
    here.repo.check(head);
    assert_eq!(stats.by_peer.len(), 2, "{stats:?}");
}

/// A peer that dies in the middle: the other goes on; alone, what came is kept and the next attempt goes on there.
#[test]
fn a_peer_is_killed_in_the_middle() {
    let tree = some_tree(1, 60 << 20);
    for alone in [false, true] {
        let (mut a, b, here) = (Node::new(1), Node::new(2), Node::new(3));
        let head = a.repo.commit(&tree, &[]);
        b.repo.commit(&tree, &[]);
        here.connect(&a);
        let peers = if alone { vec![a.key()] } else { vec![a.key(), b.key()] };
        if !alone {
            here.connect(&b);
        }
        let mut victim = a.net.take();
        let (result, first) = here.fetch(head, &peers, &mut |stats| {
            if stats.objects > 100 {
                drop(victim.take());
            }
        });
        assert!(victim.is_none(), "it was killed");
        if alone {
            assert!(matches!(result, Err(FetchError::NoPeers { .. })), "{result:?}");
            let key = PeerKey(raw::key(1).public().to_bytes());
            until("the old connection is lost", || !here.is_connected(key));
            a.start_at("127.0.0.1:0").expect("back again");
            here.connect(&a);
            let (result, second) = here.fetch(head, &[a.key()], &mut |_| ());
            result.expect("fetched");
            assert_eq!(first.new_objects + second.new_objects, a.repo.objects() as u64, "{first:?} {second:?}");
        } else {
            result.expect("the other has it all");
        }
        here.repo.check(head);
    }
}

#[test]
fn a_fetch_can_be_interrupted() {
    let (there, here) = (Node::new(1), Node::new(2));
    let head = there.repo.commit(&some_tree(1, 40 << 20), &[]);
    here.connect(&there);
    let cancel = AtomicBool::new(false);
    let stop = &mut |stats: &FetchStats| cancel.store(stats.objects > 10, Ordering::Relaxed);
    let (result, _) = here.fetch_unless(&cancel, head, &[there.key()], stop);
    assert!(matches!(result, Err(FetchError::Cancelled)), "{result:?}");
    here.fetch(head, &[there.key()], &mut |_| ()).0.expect("goes on");
    here.repo.check(head);
}
