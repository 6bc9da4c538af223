//! Who answers calls by a script: rows P5, P6 and P10 of the threat model, for who asks.

use std::pin::pin;

use filesync_p2p::Message;
use filesync_p2p::message::Welcome;
use futures::future::{Either, join_all, select};

use super::*;

fn welcome() -> Vec<u8> {
    Message::Welcome(Welcome { version: 1, epoch: 1, nonce: 7 }).encode()
}

/// A node, and a peer connected to it that does as it is told.
fn with_raw(here: &Node, seed: u8) -> raw::Raw {
    let raw = raw::Raw::connect(seed, &here.key(), &here.addr());
    until("both know of it", || here.is_connected(raw::peer(seed)));
    raw
}

fn is_echoed(here: &Node, good: &Node) {
    let answer = here.net().call_and_wait(good.key(), Class::Call, PUBLISH, vec![0, 1], WAIT);
    assert_eq!(answer, Ok((Status::Done, vec![0, 1])));
}

/// Answers to nothing, and what is no answer: the call ends, the liar is shown out, and others are asked as before.
#[test]
fn answers_that_are_none() {
    let (here, good) = (Node::new(1), Node::new(2));
    here.connect(&good);
    let reply = |number| Message::Reply { number, status: Status::Done, body: vec![1] }.encode();
    let lies = [
        ("to a number that was never used", reply(99)),
        ("to number 0", reply(0)),
        ("a call", Message::Call { number: 1, topic: PUBLISH, body: vec![] }.encode()),
        ("a second welcome", welcome()),
        ("a frame", Message::Frame(vec![0; 100]).encode()),
        ("a length without end", u32::MAX.to_le_bytes().to_vec()),
        ("a status that there is not", {
            let mut reply = reply(1);
            reply[13] = 200;
            reply
        }),
    ];
    for (seed, (what, lie)) in (10..).zip(lies) {
        let raw = with_raw(&here, seed);
        let mut incoming = raw.listen(Class::Call);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| here.net().call_and_wait(raw::peer(seed), Class::Call, PUBLISH, vec![0], WAIT));
            let (mut stream, hello) = raw.accept(&mut incoming);
            assert_eq!(hello.len(), 66);
            raw.send(&mut stream, &[welcome(), lie].concat());
            let answer = call.join().expect("it does not panic");
            let is_none = matches!(answer, Err(CallError::Broken | CallError::Refused(_) | CallError::Unreachable(_)));
            assert!(is_none, "{what}: {answer:?}");
            until(what, || !raw.is_connected());
        });
        is_echoed(&here, &good);
    }
}

/// Who takes a call and says nothing, or a byte of an answer, costs that call alone, and no more time than it has.
#[test]
fn answers_that_do_not_come() {
    let (here, good) = (Node::new(1), Node::new(2));
    here.connect(&good);
    let time = Duration::from_millis(300);
    let reply = Message::Reply { number: 1, status: Status::Done, body: vec![1] }.encode();
    let words = [vec![], welcome(), [welcome(), reply[..reply.len() - 1].to_vec()].concat()];
    for (seed, words) in (10..).zip(words) {
        let raw = with_raw(&here, seed);
        let mut incoming = raw.listen(Class::Call);
        std::thread::scope(|scope| {
            let call = scope.spawn(|| {
                let call = |time| here.net().call(raw::peer(seed), Class::Call, PUBLISH, vec![0], time);
                // One that has more time is not at its end when theirs is over.
                let (few, one) = (join_all((0..8).map(|_| call(time))), pin!(call(WAIT)));
                match futures::executor::block_on(select(few, one)) {
                    Either::Left((answers, _)) => answers,
                    Either::Right((answer, _)) => panic!("it ended first: {answer:?}"),
                }
            });
            let (mut stream, _) = raw.accept(&mut incoming);
            if !words.is_empty() {
                raw.send(&mut stream, &words);
            }
            is_echoed(&here, &good);
            let answers = call.join().expect("it does not panic");
            assert!(answers.iter().all(|answer| *answer == Err(CallError::TimedOut)), "{answers:?}");
            is_echoed(&here, &good);
        });
    }
}
