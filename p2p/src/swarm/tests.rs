//! Who is asked for what, with no bytes at all.

use std::convert::Infallible;

use filesync_merkle::CommitId;

use super::*;
use crate::peer::Root;

fn peer(n: u8) -> PeerKey {
    PeerKey([n; 32])
}

fn second(n: u64) -> Moment {
    Duration::from_secs(n)
}

/// `count` chunks of `len` bytes below one node.
fn wanted(node: u16, count: u16, len: u32) -> WantedChildren {
    let want = |position: u16| Want {
        position,
        kind: Kind::CHUNK,
        id: ContentHash::of_chunk(&[node.to_le_bytes(), position.to_le_bytes()].concat()),
        len,
    };
    WantedChildren {
        root: Root::Commit(CommitId::from_bytes([1; 32])),
        path: vec![0, node],
        wants: (0..count).map(want).collect(),
    }
}

fn slots(wants: &[Want]) -> Vec<Slot> {
    wants.iter().map(|want| Slot { id: want.id, kind: want.kind, len: want.len }).collect()
}

fn ask(swarm: &mut Swarm, now: Moment) -> Vec<(PeerKey, Get)> {
    std::iter::from_fn(|| match swarm.ask::<Infallible>(now, |_| Ok(false)) {
        Ok(asked) => asked,
        Err(never) => match never {},
    })
    .collect()
}

fn objects(get: &Get) -> usize {
    get.nodes.iter().flat_map(|node| &node.runs).map(|run| usize::from(run.count)).sum()
}

#[test]
fn all_peers_are_asked_and_each_for_its_own() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.join(peer(2), second(0));
    for node in 0..6 {
        swarm.offer(wanted(node, 16, 1 << 20));
    }
    swarm.close_share();
    let asked = ask(&mut swarm, second(0));
    let by = |peer| asked.iter().filter(|(to, _)| *to == peer).map(|(_, get)| objects(get)).collect::<Vec<_>>();
    assert_eq!((by(peer(1)), by(peer(2))), (vec![8, 8], vec![8, 8]), "two shares of 8 MiB each");
    assert!(!swarm.is_empty());
}

#[test]
fn what_is_pending_is_not_asked_for_twice() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.offer(wanted(1, 4, 100));
    swarm.offer(wanted(1, 4, 100));
    swarm.close_share();
    let asked = ask(&mut swarm, second(0));
    assert_eq!(asked.iter().map(|(_, get)| objects(get)).collect::<Vec<_>>(), [4]);
}

#[test]
fn one_that_leaves_owes_nothing_and_others_are_asked() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    let wants = wanted(1, 10, 100);
    swarm.offer(wants.clone());
    swarm.close_share();
    assert_eq!(ask(&mut swarm, second(0)).len(), 1);
    swarm.arrived(&peer(1), &slots(&wants.wants[..3]), second(1)).expect("wanted");
    swarm.stored(&peer(1), &slots(&wants.wants[..3]));
    swarm.leave(&peer(1));
    swarm.join(peer(2), second(1));
    let asked = ask(&mut swarm, second(1));
    assert_eq!(asked.iter().map(|(to, get)| (*to, objects(get))).collect::<Vec<_>>(), [(peer(2), 7)]);
    swarm.arrived(&peer(2), &slots(&wants.wants[3..]), second(1)).expect("wanted");
    swarm.ended(&peer(2), 7, second(1)).expect("right");
    assert!(!swarm.is_empty(), "it is being looked at");
    swarm.stored(&peer(2), &slots(&wants.wants[3..]));
    assert!(swarm.is_empty());
}

#[test]
fn what_one_lacks_is_asked_of_others_until_nobody_is_left() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.join(peer(2), second(0));
    let wants = wanted(1, 4, 100);
    swarm.offer(wants.clone());
    swarm.close_share();
    let (first, _) = ask(&mut swarm, second(0)).remove(0);
    swarm.arrived(&first, &slots(&wants.wants[..1]), second(0)).expect("wanted");
    swarm.stored(&first, &slots(&wants.wants[..1]));
    swarm.ended(&first, 1, second(0)).expect("right");
    assert_eq!(swarm.stuck_on(), None);
    let (other, get) = ask(&mut swarm, second(0)).remove(0);
    assert!(other != first && objects(&get) == 3);
    swarm.refused(&other, false, second(0)).expect("right");
    assert_eq!(ask(&mut swarm, second(0)), []);
    assert_eq!(swarm.stuck_on(), Some(wants.wants[1].id));
}

#[test]
fn a_busy_peer_is_asked_again_later() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.offer(wanted(1, 4, 100));
    swarm.close_share();
    assert_eq!(ask(&mut swarm, second(0)).len(), 1);
    swarm.refused(&peer(1), true, second(0)).expect("right");
    assert_eq!(ask(&mut swarm, second(0)), []);
    assert_eq!((swarm.stuck_on(), swarm.deadline()), (None, Some(second(1))));
    assert_eq!(ask(&mut swarm, second(1)).len(), 1);
}

/// P8, P10, P13: whatever comes that was not asked for, so, is a lie.
#[test]
fn lies() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.join(peer(2), second(0));
    let wants = wanted(1, 4, 100);
    swarm.offer(wants.clone());
    swarm.close_share();
    let (to, _) = ask(&mut swarm, second(0)).remove(0);
    let other = if to == peer(1) { peer(2) } else { peer(1) };
    let good = slots(&wants.wants);
    swarm.arrived(&other, &good, second(0)).expect_err("it was not asked");
    swarm.arrived(&peer(3), &good, second(0)).expect_err("a stranger");
    swarm.arrived(&to, &[Slot { len: 99, ..good[0] }], second(0)).expect_err("another length");
    swarm.arrived(&to, &[Slot { kind: Kind(3), ..good[0] }], second(0)).expect_err("another kind");
    swarm.arrived(&to, &[Slot { id: ContentHash::of_chunk(b"x"), ..good[0] }], second(0)).expect_err("something else");
    swarm.arrived(&to, &good[..1], second(0)).expect("good");
    swarm.arrived(&to, &good[..1], second(0)).expect_err("twice");
    swarm.ended(&to, 4, second(0)).expect_err("a wrong count");
    swarm.ended(&other, 0, second(0)).expect_err("an end of nothing");
    swarm.refused(&other, false, second(0)).expect_err("a refusal of nothing");
}

#[test]
fn silence_is_noticed_and_late_shares_are_doubled() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    let wants = wanted(1, 10, 100);
    swarm.offer(wants.clone());
    swarm.close_share();
    assert_eq!(ask(&mut swarm, second(0)).len(), 1);
    swarm.join(peer(2), second(0));
    assert_eq!(ask(&mut swarm, second(1)), [], "nobody is late");
    let asked = ask(&mut swarm, second(2));
    assert_eq!(asked.iter().map(|(to, get)| (*to, objects(get))).collect::<Vec<_>>(), [(peer(2), 5)]);
    assert_eq!(ask(&mut swarm, second(3)), [], "once is enough");
    assert_eq!(swarm.stalled(second(9)), []);
    swarm.arrived(&peer(2), &slots(&wants.wants[5..]), second(9)).expect("asked");
    assert_eq!(swarm.stalled(second(10)), [peer(1)]);
    swarm.was_deaf(second(10));
    assert_eq!(swarm.stalled(second(10)), [], "it was us");
}

/// A node of a thousand large files does not make one share.
#[test]
fn shares_are_bounded() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.offer(wanted(1, 1024, 1 << 20));
    swarm.offer(wanted(2, 2000, 1));
    swarm.close_share();
    let sizes: Vec<usize> = swarm.queue.iter().map(|share| share.ids().count()).collect();
    assert_eq!(sizes.iter().sum::<usize>(), 3024);
    assert!(sizes[..32].iter().all(|size| *size == 32), "{sizes:?}");
}

/// P13: nor do as many chunks of a byte as anybody cares to make: they are more in memory than they are.
#[test]
fn shares_are_bounded_in_number() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    for node in 0..50 {
        swarm.offer(wanted(node, 2000, 1));
    }
    assert!(!swarm.is_hungry(), "it wants no more before these are asked for");
    assert!(swarm.filling.ids().count() <= WANTS_MAX);
    let sizes: Vec<usize> = swarm.queue.iter().map(|share| share.ids().count()).collect();
    assert!(sizes.len() > 4 && sizes.iter().all(|size| *size <= WANTS_MAX), "{sizes:?}");
    swarm.close_share();
    assert_eq!(swarm.queue.iter().map(|share| share.ids().count()).sum::<usize>(), 100_000);
}

/// P6, P11: an object now and then is no way to keep others from being asked.
#[test]
fn who_sends_next_to_nothing_is_left_for_another() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    let (first, other) = (wanted(1, 100, 1000), wanted(2, 100, 1000));
    swarm.offer(first.clone());
    swarm.close_share();
    assert_eq!(ask(&mut swarm, second(0)).len(), 1);
    swarm.arrived(&peer(1), &slots(&first.wants[..1]), second(9)).expect("asked");
    assert_eq!(swarm.stalled(second(10)), [], "nobody else is there");
    swarm.join(peer(2), second(10));
    swarm.offer(other.clone());
    swarm.close_share();
    assert_eq!(swarm.stalled(second(10)), [peer(1)]);
    swarm.was_deaf(second(10));
    assert_eq!(swarm.stalled(second(10)), [], "it was us");
    // Two that are slow are both better than nobody.
    let asked = ask(&mut swarm, second(10));
    assert!(asked.iter().any(|(to, _)| *to == peer(2)), "{asked:?}");
    swarm.arrived(&peer(1), &slots(&first.wants[1..2]), second(19)).expect("asked");
    swarm.arrived(&peer(2), &slots(&other.wants[..1]), second(19)).expect("asked");
    assert_eq!(swarm.stalled(second(20)), []);
    swarm.leave(&peer(2));
    assert_eq!(swarm.stalled(second(20)), []);
}

/// A peer owes half of a late one's share, and then, when that one has left, all of it: the half comes twice.
#[test]
fn what_is_owed_twice_may_come_twice() {
    let mut swarm = Swarm::default();
    swarm.join(peer(1), second(0));
    swarm.join(peer(2), second(0));
    let wanted = wanted(0, 8, 1 << 20);
    let all = slots(&wanted.wants);
    swarm.offer(wanted);
    swarm.close_share();
    assert_eq!(ask(&mut swarm, second(0))[0].0, peer(1));
    let at = second(0) + LATE;
    let doubled = ask(&mut swarm, at);
    let half = objects(&doubled[0].1);
    assert!(doubled[0].0 == peer(2) && (1..8).contains(&half), "{doubled:?}");
    swarm.leave(&peer(1));
    assert_eq!(objects(&ask(&mut swarm, at)[0].1), 8);
    for slots in [&all[8 - half..], &all] {
        swarm.arrived(&peer(2), slots, at).expect("it was asked for");
        swarm.stored(&peer(2), slots);
        swarm.ended(&peer(2), u32::try_from(slots.len()).expect("few"), at).expect("all of it came");
    }
    assert!(swarm.is_empty());
}
