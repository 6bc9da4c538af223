//! Crowds of peers that take places and do nothing with them, beside one that wants something: rows P4, P6 and P21 of the
//! threat model.

use filesync_cas::Kind;
use filesync_p2p::Message;
use filesync_p2p::wants::{GetBuilder, Want, WantedChildren};

use super::*;

/// Connects anew, asks, and fetches.
#[track_caller]
fn is_served(there: &Node, seed: u8, head: CommitId) {
    let here = Node::new(seed);
    here.connect(there);
    let answer = here.net().call_and_wait(there.key(), Class::Call, PUBLISH, vec![0, seed], WAIT);
    assert_eq!(answer, Ok((Status::Done, vec![0, seed])));
    here.fetch(head, &[there.key()], &mut |_| ()).0.expect("served");
    here.repo.check(head);
}

/// P4: connections that are begun and not made, more than there are members, keep nobody out.
#[test]
fn connections_that_are_never_made() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 1 << 20), &[]);
    let before = Node::new(2);
    before.connect(&there);
    let packets = raw::first_packets(300);
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.set_read_timeout(Some(Duration::from_millis(20))).expect("set");
    let mut answer = [0; 2000];
    for packet in &packets {
        socket.send_to(packet, there.addr()).expect("sent");
        // An answer says that it was taken up: so none is lost for want of room on the way.
        drop(socket.recv(&mut answer));
    }
    is_served(&there, 3, head);
    let answer = before.net().call_and_wait(there.key(), Class::Call, PUBLISH, vec![0, 1], WAIT);
    assert_eq!(answer, Ok((Status::Done, vec![0, 1])), "who was there stays there");
    assert!(there.net().connections().len() <= 2, "none of them is a connection");
}

/// P4, P6: some members open all the streams they can, and say nothing, or part of a Hello.
#[test]
fn streams_on_which_nothing_is_said() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 1 << 20), &[]);
    let members = (10..14).flat_map(|seed| [seed; 4]);
    let members: Vec<_> = members.map(|seed| raw::Raw::connect(seed, &there.key(), &there.addr())).collect();
    let hello = raw::hello(Class::Call);
    let mut streams = Vec::new();
    for (n, member) in members.iter().enumerate() {
        for _ in 0..20 {
            // Those that are too many are closed at once.
            let Some(mut stream) = member.try_open(Class::Call) else { continue };
            if n % 2 == 0 {
                member.try_send(&mut stream, &hello[..30]);
            }
            streams.push(stream);
        }
    }
    is_served(&there, 3, head);
    drop(streams);
    let shared = there.shared.as_ref().expect("it is on the network");
    until("no stream is counted", || shared.guard().streams() == 0);
}

pub fn get(root: CommitId, path: &[u16], count: u16) -> Vec<u8> {
    let want = |position| Want { position, kind: Kind::CHUNK, id: Repo::id(), len: 0 };
    let wants = (0..count).map(want).collect();
    let mut builder = GetBuilder::default();
    assert!(builder.push(&WantedChildren { root: Root::Commit(root), path: path.to_vec(), wants }));
    Message::Get(builder.finish()).encode()
}

/// P6, P21: members ask for megabytes on all the streams they may have, and read none of it.
#[test]
fn answers_that_nobody_reads() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 16 << 20), &[]);
    // The commit's tree, and in it, behind seven directories, the large file: some hundred chunks.
    let asked = get(head, &[0, 7], 200).repeat(4);
    let members: Vec<_> = (10..14).map(|seed| raw::Raw::connect(seed, &there.key(), &there.addr())).collect();
    let mut streams = Vec::new();
    for member in &members {
        for _ in 0..4 {
            let (mut stream, answer) = member.greet(Class::Bulk);
            assert_eq!(answer[4], 2, "it is welcome");
            member.send(&mut stream, &asked);
            streams.push(stream);
        }
    }
    let sent = || there.net().traffic().values().filter(|traffic| traffic.sent > 1 << 20).count();
    until("all are being answered", || sent() == members.len());
    is_served(&there, 3, head);
    let shared = there.shared.as_ref().expect("it is on the network");
    let held = usize::try_from(shared.guard().streams()).expect("a few");
    assert!(held >= streams.len(), "{held}: some were given up, which made room");
    drop((streams, members));
    until("no stream is counted", || shared.guard().streams() == 0);
}

/// P21: who has been sent more than his rate waits; if he leaves meanwhile nothing of him stays, and he may come again.
#[test]
fn who_waits_for_his_rate_may_leave() {
    let there = Node::new(1);
    let head = there.repo.commit(&some_tree(1, 16 << 20), &[]);
    let shared = there.shared.as_ref().expect("it is on the network");
    *shared.guard() = Guard::new(Limits { bytes: Limits::bytes_at(1 << 10), ..Limits::default() });
    let member = raw::Raw::connect(10, &there.key(), &there.addr());
    let (mut stream, _) = member.greet(Class::Bulk);
    member.send(&mut stream, &get(head, &[0, 7], 200));
    // For minutes, at that rate.
    until("it waits", || shared.guard().ready_at(&raw::peer(10), Class::Bulk) > Duration::from_secs(100));
    drop((stream, member));
    until("no stream is counted", || shared.guard().streams() == 0);
    let again = raw::Raw::connect(10, &there.key(), &there.addr());
    assert_eq!(again.greet(Class::Call).1[4], 2, "it is welcome");
}
