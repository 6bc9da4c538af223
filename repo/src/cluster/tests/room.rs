//! A cluster with as much to tell of as it may have.

use filesync_raft_log::command::{Command, Outcome, RefChange, Refusal};
use filesync_raft_log::error::ProposeError;
use filesync_raft_log::ids::{self, Id, RefName};

use super::*;
use crate::cluster::calls::Answer;
use crate::cluster::invite::InviteLine;
use crate::cluster::lead;

/// Members whose rows are as long as can be; how many of them are let in.
fn come(one: &Node, line: &InviteLine, numbers: std::ops::Range<u16>) -> usize {
    let log = one.core.log.get().unwrap();
    let addresses = vec!["a".repeat(256); 8];
    let asked = numbers.map(|number| {
        let mut key = [9; 32];
        key[..2].copy_from_slice(&number.to_le_bytes());
        let admit = line.admit(ids::PeerKey(key), &"x".repeat(255), addresses.clone(), false);
        log.propose(Command::Admit(admit), TIME)
    });
    let answers = one.core.wait(futures::future::join_all(asked)).unwrap();
    let count = |answer: &Result<Outcome, ProposeError>| match answer {
        Ok(Outcome::Admitted(_)) => true,
        Err(ProposeError::Refused(Refusal::TooMuch(_))) => false,
        other => panic!("{other:?}"),
    };
    answers.iter().filter(|answer| count(answer)).count()
}

/// Half is for everybody, and the rest for members; who is let in is told of all of it, and goes on when there is no more room.
#[test]
fn what_is_known_can_always_be_told() {
    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    let head = sync_now(&one).head.unwrap();
    let many = InviteRequest { role: Role::Writer, expires: None, uses: 1_000, timeout: TIME };
    let line = InviteLine::decode(&crate::cluster::members::invite(&one, &many).unwrap().line).unwrap();
    assert_eq!(come(&one, &line, 0..190), 190);
    let tag = |seq, name: &str| {
        let new = Some(Id(*head.0.as_bytes()));
        let change = RefChange { name: RefName::new(name).unwrap(), expected: None, new };
        one.core.wait(lead::publish(&one.core, one.number(), seq, change)).unwrap()
    };
    let refused = tag(100, "tags/late");
    assert!(matches!(&refused, Answer::Refused(cause) if cause.contains("as it can tell of")), "{refused:?}");
    let two = join(invite(&one, Role::Writer), "two");
    let came = come(&one, &line, 190..400);
    assert!((100..200).contains(&came), "{came}");
    let other = two.0.join("repo");
    two.write("repo/from two", "hello");
    commit(&open(&other));
    assert_eq!(client(&other, sync_now).published.len(), 1);
    assert_eq!(sync_now(&one).pulled.len(), 1);
    one.shutdown();
}
