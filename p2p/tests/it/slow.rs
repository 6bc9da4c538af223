//! Answerers that do what they should, and next to nothing of it: rows P6 and P11 of the threat model. Each piece comes in time, and
//! all of them never would: whoever is beside them is asked instead.

use std::collections::VecDeque;
use std::time::Duration;

use filesync_cas::Codec;
use filesync_cas::relay::{FramePacker, StoredFrame};
use filesync_merkle::MerkleSchema;
use filesync_p2p::Class;
use filesync_p2p::message::{Message, Nodes, Side};
use filesync_p2p::testing::Remote;
use filesync_p2p::walk::open_nodes;
use filesync_p2p::wire::{Inbox, Moment};

use super::*;

/// Just before silence would be noticed.
const PAUSE: Duration = Duration::from_secs(9);

/// Says everything in pieces as small as can be, with a pause before each that is one of these.
struct Trickling {
    inner: Honest,
    inbox: Inbox,
    out: VecDeque<Message>,
    is_slow: fn(&Message) -> bool,
    free_at: Moment,
}

fn trickling(repo: &Repo, is_slow: fn(&Message) -> bool) -> Trickling {
    let inner = Honest::new(everything(), Arc::clone(&repo.store), US);
    let inbox = Inbox::new(Class::Bulk, Side::Answerer);
    Trickling { inner, inbox, out: VecDeque::new(), is_slow, free_at: Duration::ZERO }
}

impl Remote for Trickling {
    fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.inner.receive(bytes, now);
    }

    fn turn(&mut self, now: Moment) -> Result<Option<Vec<u8>>, String> {
        while let Some(bytes) = self.inner.turn(now)? {
            self.inbox.push(&bytes, now);
            while let Some(message) = self.inbox.next(now).map_err(|error| error.to_string())? {
                self.out.extend(in_pieces(message));
            }
        }
        let is_slow = self.out.front().is_some_and(self.is_slow);
        if is_slow && self.free_at > now {
            return Ok(None);
        }
        if is_slow {
            self.free_at = now + PAUSE;
        }
        Ok(self.out.pop_front().map(|message| message.encode()))
    }

    fn deadline(&self) -> Option<Moment> {
        let next = (!self.out.is_empty()).then_some(self.free_at);
        [next, self.inner.deadline()].into_iter().flatten().min()
    }
}

/// The same, one object at a time.
fn in_pieces(message: Message) -> Vec<Message> {
    match message {
        Message::Nodes(nodes) => {
            let raw = open_nodes(&nodes).expect("we speak well");
            let mut rest = &raw[..];
            let mut one = |len: &u32| {
                let (bytes, after) = rest.split_at(*len as usize);
                rest = after;
                Message::Nodes(Nodes { lens: vec![*len], compressed: false, payload: bytes.to_vec() })
            };
            nodes.lens.iter().map(&mut one).collect()
        }
        Message::Frame(bytes) => {
            let frame = StoredFrame::parse(bytes).and_then(|frame| frame.verify(&MerkleSchema)).expect("a good frame");
            let one = |(slot, bytes): (&filesync_cas::frame::Slot, &[u8])| {
                let mut packer = FramePacker::new(Codec::Zstd);
                packer.push(slot.id, slot.kind, bytes);
                Message::Frame(packer.finish().expect("encodes"))
            };
            frame.objects().map(one).collect()
        }
        other => vec![other],
    }
}

/// An object at a time, each before silence is noticed: in the walk, and in what is got.
#[test]
fn a_trickle_is_left_where_there_are_others() {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 40), &[]);
    let slow: [fn(&Message) -> bool; 2] =
        [|message| matches!(message, Message::Nodes(_)), |message| matches!(message, Message::Frame(_))];
    for is_slow in slow {
        let here = Repo::new();
        let mut net = Net::new(me(), 1);
        net.connect(peer(1), Line::default(), trickling(&there, is_slow));
        honest(&mut net, peer(2), Line::default(), &there);
        fetch(&mut net, &here, whole(head, None)).0.expect("the other has it all");
        here.check(head);
        assert_eq!(net.lost.iter().map(|(peer, _)| *peer).collect::<Vec<_>>(), [peer(1)], "{:?}", net.lost);
        assert_eq!(net.blamed, [], "to be slow is no lie");
        assert!(net.now() < Duration::from_secs(40), "{:?}", net.now());
    }
}

/// Where nobody else is there, little is better than nothing: and each that comes is kept.
#[test]
fn alone_a_slow_one_is_waited_for() {
    let (there, here) = (Repo::new(), Repo::new());
    let head = there.commit(&some_tree(1, 3), &[]);
    let mut net = Net::new(me(), 1);
    net.connect(peer(1), Line::default(), trickling(&there, |message| matches!(message, Message::Nodes(_))));
    fetch(&mut net, &here, whole(head, None)).0.expect("it comes in the end");
    here.check(head);
    assert!(net.now() > Duration::from_secs(60), "{:?}", net.now());
}

/// A message of which a few bytes come now and then has an end too.
#[test]
fn some_bytes_at_a_time_are_not_waited_for() {
    let there = Repo::new();
    let head = there.commit(&some_tree(1, 40), &[]);
    let line = Line { piece: 10, rate: Some(30), ..Line::default() };
    for is_alone in [true, false] {
        let here = Repo::new();
        let mut net = Net::new(me(), 1);
        honest(&mut net, peer(1), line.clone(), &there);
        if !is_alone {
            honest(&mut net, peer(2), Line::default(), &there);
        }
        let (result, _) = fetch(&mut net, &here, whole(head, None));
        assert_eq!(matches!(result, Err(FetchError::NoPeers { .. })), is_alone, "{result:?}");
        assert_eq!((net.lost.len(), net.blamed.len()), (1, 0), "{:?}", net.lost);
        assert!(net.now() < Duration::from_secs(40), "{:?}", net.now());
        if !is_alone {
            here.check(head);
        }
    }
}
