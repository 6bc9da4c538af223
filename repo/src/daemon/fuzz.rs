//! What goes over the control socket, with bytes that are nearly right (G8).

use std::time::Duration;

use bolero::check;
use filesync_cas::ContentHash;
use filesync_cas::testing::{Tally, Target};
use filesync_merkle::CommitId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::protocol::{Asked, Envelope, Given, Line};
use crate::error::{Error, ErrorKind};
use crate::fuzz::fuzz;
use crate::request::{
    Answer, BringRequest, ClusterRequest, CommitRequest, CommitResult, ConfigRequest, Event, ForgetRequest,
    FsckRequest, GcRequest, InviteRequest, PeersRequest, Request, RestoreRequest, Role, SyncRequest, Tag, TagRequest,
    Unreadable, UpgradeRequest, Warning,
};

const WORDS: [&[u8]; 14] = [
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b",",
    b":",
    b"null",
    b"-1",
    b"1e400",
    b"18446744073709551615",
    b"\\ud800",
    b"\"secs\":18446744073709551615",
    b"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[",
];

/// JSON has many forms of a value; so it is the value that must come out the same.
fn fuzz_json<T: Serialize + DeserializeOwned>(target: Target, samples: &[Vec<u8>]) -> Tally {
    fuzz(samples).words(&WORDS).room(1 << 20, 256).run(target, |bytes| {
        let encoded = serde_json::to_vec(&serde_json::from_slice::<T>(bytes).ok()?).unwrap();
        let value: T = serde_json::from_slice(&encoded).expect("what is written is read");
        let again = serde_json::to_vec(&value).unwrap();
        assert!(again == encoded || has_fraction(&encoded), "another value");
        Some(bytes.to_vec())
    })
}

/// No request has numbers with fractions. Where any value may stand, they are taken, and lose their last digits.
fn has_fraction(bytes: &[u8]) -> bool {
    fn is_in(value: &Value) -> bool {
        match value {
            Value::Number(number) => number.is_f64(),
            Value::Array(items) => items.iter().any(is_in),
            Value::Object(fields) => fields.values().any(is_in),
            _ => false,
        }
    }
    serde_json::from_slice(bytes).is_ok_and(|value| is_in(&value))
}

fn id(number: u8) -> ContentHash {
    ContentHash::from_bytes([number; 32])
}

#[test]
fn requests() {
    let restore = RestoreRequest {
        rev: Some("HEAD~2".to_owned()),
        to: Some("/some/where".into()),
        fsync: true,
        delete: false,
        force: true,
        dry_run: false,
        paths: vec![b"a\xff".to_vec(), b"b".to_vec()],
    };
    let commit = CommitRequest { message: Some("why \u{1F600}\n".to_owned()), amend: true, ..CommitRequest::default() };
    let forget = ForgetRequest { keep_within: Some(Duration::from_millis(1_500)), ..ForgetRequest::default() };
    let make = TagRequest::Make { name: "v1".to_owned(), rev: None, force: true };
    let set = ConfigRequest::Set { key: "commit.author".to_owned(), value: "Ada \"A\" <a@b>".to_owned() };
    let commands = [
        Request::Commit(commit),
        Request::Restore(restore),
        Request::Tag(make),
        Request::Config(set),
        Request::Gc(GcRequest { dry_run: true }),
        Request::Forget(forget),
        Request::Fsck(FsckRequest { quick: false, sample: Some(100), repair: true }),
        Request::Upgrade(UpgradeRequest {}),
        Request::FinishJournal,
        Request::RecordDamage(vec![id(1), id(2)]),
    ];
    let part = Asked::Part { name: "cluster".to_owned(), body: json!({"sync": {"timeout": [1, 2.5, null]}}) };
    let asked = commands.into_iter().map(Asked::Command).chain([part]);
    let envelope =
        |asked| Envelope { id: "0f".repeat(16), lock_timeout: Duration::from_secs(10), progress: true, asked };
    let samples: Vec<_> = asked.map(|asked| serde_json::to_vec(&envelope(asked)).unwrap()).collect();
    fuzz_json::<Envelope>(check!(), &samples).reaches(10_000);
}

#[test]
fn requests_to_the_cluster() {
    let timeout = Duration::from_millis(60_500);
    let invite = InviteRequest { role: Role::Writer, expires: Some(timeout), uses: 3, timeout };
    let node = || "desk".to_owned();
    let all = [
        ClusterRequest::Sync(SyncRequest::default()),
        ClusterRequest::Invite(invite),
        ClusterRequest::Invites(timeout),
        ClusterRequest::Revoke("abcd".to_owned(), timeout),
        ClusterRequest::Peers(PeersRequest::List, timeout),
        ClusterRequest::Peers(PeersRequest::Promote { node: node(), even: true }, timeout),
        ClusterRequest::Peers(PeersRequest::Demote { node: node(), role: Role::Reader }, timeout),
        ClusterRequest::Fsck(FsckRequest { quick: true, sample: None, repair: false }),
        ClusterRequest::Bring(BringRequest {
            rev: Some("HEAD".to_owned()),
            paths: vec![b"a\xff".to_vec()],
            names_only: true,
        }),
    ];
    let samples: Vec<_> = all.iter().map(|request| serde_json::to_vec(request).unwrap()).collect();
    fuzz_json::<ClusterRequest>(check!(), &samples).reaches(1_000);
}

/// What a client hears. Nothing with a fixed word in it, of which a process remembers only so many.
#[test]
fn lines_of_an_answer() {
    let commit = CommitId(id(3));
    let tag = Tag { name: "v1".to_owned(), commit: Some(commit), was: None };
    let unreadable = vec![Unreadable { path: b"a\xff".to_vec(), cause: "Permission denied".to_owned() }];
    let result = CommitResult { commit: Some(commit), unreadable, ..CommitResult::default() };
    let all = [
        Line::Event(Event::Advance { bytes: u64::MAX, items: 1 }),
        Line::Event(Event::Total { bytes: 1, items: 0 }),
        Line::Event(Event::Warning(Warning { path: Some(b"x".to_vec()), message: "skipped: a socket".to_owned() })),
        Line::Result(Given::Command(Answer::Tag(vec![tag]))),
        Line::Result(Given::Command(Answer::Commit(result))),
        Line::Result(Given::Command(Answer::Done)),
        Line::Result(Given::Part(json!({"peers": []}))),
        Line::Error(Error::new(ErrorKind::NoQuorum, "cannot sync: nobody leads").with_hint("wait")),
    ];
    let samples: Vec<_> = all.iter().map(|line| serde_json::to_vec(line).unwrap()).collect();
    fuzz_json::<Line>(check!(), &samples).reaches(1_000);
}

/// As deep as a request may be long.
#[test]
fn depth_is_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [200, 1_000_000] {
            let body = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let text = format!(
                "{{\"id\":\"0\",\"lock_timeout\":{{\"secs\":1,\"nanos\":0}},\"progress\":true,\"asked\":{{\"part\":{{\"name\":\"n\",\"body\":{body}}}}}}}"
            );
            assert!(serde_json::from_str::<Envelope>(&text).is_err(), "{depth} times {open}");
        }
    }
}
