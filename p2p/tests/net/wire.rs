//! What hostile peers cost on real sockets: rows P1, P4, P5, P6, P21 and P23 of the threat model.

use filesync_cas::testing::seed;

use super::*;

/// P1, P4: what is no QUIC is dropped, and who connects and says nothing holds up nobody.
#[test]
fn noise_and_crowds() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 1 << 20), &[]);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    let seed = seed(7);
    let mut rng = Rng::new(seed);
    for _ in 0..2000 {
        let len = 1 + rng.index(1400);
        let mut packet = rng.bytes(len);
        // Half of them with the first bit of a long header.
        packet[0] |= if rng.index(2) == 0 { 0xc0 } else { 0 };
        socket.send_to(&packet, there.addr()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    // Packets with which connections begin, cut off, and with a byte changed.
    for packet in raw::first_packets(3) {
        for len in 1..packet.len() {
            let mut changed = packet.clone();
            changed[len] ^= 1 << rng.index(8);
            for packet in [&packet[..len], &changed[..]] {
                socket.send_to(packet, there.addr()).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            }
        }
    }
    let crowd: Vec<raw::Raw> =
        (10..30).map(|seed| raw::Raw::connect(seed, &there.net().key(), &there.addr())).collect();
    let here = Node::new(2);
    here.connect(&there);
    here.fetch(head, &[there.key()], &mut |_| ()).0.expect("served as if alone");
    here.repo.check(head);
    drop(crowd);
}

/// P5, P6, P21: streams are counted; who breaks the protocol is shown out; who says nothing is not waited for.
#[test]
fn limits_hold_on_the_wire() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 1 << 20), &[]);
    let (good, bad) =
        (raw::Raw::connect(10, &there.key(), &there.addr()), raw::Raw::connect(11, &there.key(), &there.addr()));
    let mut silent = good.open(Class::Bulk);
    let mut streams: Vec<_> = (0..4).map(|_| good.greet(Class::Bulk)).collect();
    assert!(streams.iter().all(|(_, answer)| answer[4] == 2), "four are welcome");
    let refused = filesync_p2p::Message::Refused(Refusal::Busy).encode();
    assert_eq!(good.greet(Class::Bulk).1, refused, "and no fifth");
    assert_eq!(good.greet(Class::Raft).1[4], 2, "another class does not mind");
    streams.clear();
    until("what is closed does not count", || good.greet(Class::Bulk).1[4] == 2);

    let (mut stream, _) = bad.greet(Class::Bulk);
    bad.send(&mut stream, &u32::MAX.to_le_bytes());
    assert_eq!(bad.read_to_end(&mut stream), b"", "nothing is said to it any more");
    until("it is shown out", || !bad.is_connected());
    let turned_away = there.net().turned_away();
    assert_eq!((turned_away.breaches, turned_away.strangers), (1, 0), "{turned_away:?}");
    let again = raw::Raw::connect(11, &there.key(), &there.addr());
    until("it is not let in again", || !again.is_connected() && there.net().turned_away().banned > 0);
    assert_eq!(good.read_to_end(&mut silent), b"", "no Hello, no answer");
    let here = Node::new(2);
    here.connect(&there);
    here.fetch(head, &[there.key()], &mut |_| ()).0.expect("others are served");
}

/// P23: whoever breaks off wherever leaves nothing behind.
#[test]
fn breaking_off_anywhere_leaves_nothing() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 1 << 20), &[]);
    let walk = Walk {
        root: Root::Commit(head),
        base: None,
        history: true,
        path: RepoPath::root(),
        parts: Parts::whole(),
        from: 0,
    };
    let asked = [raw::hello(Class::Bulk), filesync_p2p::Message::Walk(walk).encode()].concat();
    for (seed, cut) in (10..).zip((0..asked.len()).step_by(9).chain([asked.len()])) {
        let raw = raw::Raw::connect(seed, &there.key(), &there.addr());
        let mut stream = raw.open(Class::Bulk);
        raw.send(&mut stream, &asked[..cut]);
    }
    let shared = there.shared.as_ref().expect("it is on the network");
    // At most a strike is remembered of one that fell silent in the middle of a message.
    until("no stream is counted any more", || shared.guard().streams() == 0);
    until("no connection is left", || there.net().connections().is_empty());
}
