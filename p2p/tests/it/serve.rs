//! What an answerer gives to whom, and what a hostile asker costs it. Rows P5, P6, P13, P15, P18, P21 and P23 of the threat model.

use std::time::Duration;

use filesync_cas::{ContentHash, Kind};
use filesync_p2p::guard::{Guard, Limits};
use filesync_p2p::message::{Hello, Message, Side, topics};
use filesync_p2p::peer::Scope;
use filesync_p2p::serve::{Serving, Turn};
use filesync_p2p::testing::tree;
use filesync_p2p::wants::{GetBuilder, Want, WantedChildren};
use filesync_p2p::wire::Inbox;
use filesync_p2p::{Class, Refusal, Role, Status};

use super::*;

const ZERO: Duration = Duration::ZERO;

fn hello() -> Message {
    me().hello(Class::Bulk)
}

/// Sends messages on a new stream; what comes back, until there is nothing more.
fn say(serving: &mut Serving, repo: &Repo, messages: &[Message]) -> Result<Vec<Message>, filesync_p2p::WireError> {
    messages.iter().for_each(|message| serving.receive(&message.encode(), ZERO));
    let mut inbox = Inbox::new(Class::Bulk, Side::Answerer);
    let mut heard = Vec::new();
    let mut now = ZERO;
    for _ in 0..1_000_000 {
        match serving.turn(&repo.store, now)? {
            Turn::Send(bytes) => {
                inbox.push(&bytes, now);
                heard.extend(inbox.next(now).expect("we speak well"));
            }
            Turn::Again => {}
            Turn::Wait(until) => now = until,
            Turn::Read | Turn::Close | Turn::Call { .. } => return Ok(heard),
        }
    }
    panic!("it goes on and on");
}

fn stream(shared: &Arc<Shared>) -> Serving {
    Serving::new(Arc::clone(shared), US, Class::Bulk, ZERO)
}

fn is_welcome(message: &Message) -> bool {
    matches!(message, Message::Welcome(_))
}

fn get(root: CommitId, nodes: &[(&[u16], &[u16])]) -> Message {
    let mut builder = GetBuilder::default();
    for (path, positions) in nodes {
        let want = |position: &u16| Want { position: *position, kind: Kind::CHUNK, id: Repo::id(), len: 0 };
        let wants = positions.iter().map(want).collect();
        assert!(builder.push(&WantedChildren { root: Root::Commit(root), path: path.to_vec(), wants }));
    }
    Message::Get(builder.finish())
}

/// The objects that came, and how many were said to be sent.
fn objects(heard: &[Message]) -> (Vec<ContentHash>, u32) {
    let mut ids = Vec::new();
    for message in heard {
        match message {
            Message::Frame(bytes) => {
                let frame = filesync_cas::relay::StoredFrame::parse(bytes.clone()).expect("a good frame");
                ids.extend(frame.slots().iter().map(|slot| slot.id));
            }
            Message::GetEnd { sent } => return (ids, *sent),
            other => panic!("{other:?}"),
        }
    }
    panic!("no end: {heard:?}");
}

#[test]
fn greetings_that_do_not_fit_are_refused() {
    let repo = Repo::new();
    let shared = everything();
    let Message::Hello(good) = hello() else { panic!("a hello") };
    for (hello, refusal) in [
        (good, None),
        (Hello { epoch: 0, ..good }, None),
        (Hello { versions: (2, 9), ..good }, Some(Refusal::Version)),
        (Hello { repository: ContentHash::of_chunk(b"another"), ..good }, Some(Refusal::Repository)),
        (Hello { epoch: 2, ..good }, Some(Refusal::Epoch)),
        (Hello { class: Class::Raft, ..good }, Some(Refusal::Stranger)),
    ] {
        let heard = say(&mut stream(&shared), &repo, &[Message::Hello(hello)]).expect("no breach");
        match refusal {
            None => assert!(is_welcome(&heard[0]), "{heard:?}"),
            Some(refusal) => assert_eq!(heard, [Message::Refused(refusal)]),
        }
    }
    // Two processes with one identity.
    let mut first = stream(&shared);
    assert!(is_welcome(&say(&mut first, &repo, &[hello()]).expect("no breach")[0]));
    let other = Message::Hello(Hello { nonce: 5, ..good });
    assert_eq!(
        say(&mut stream(&shared), &repo, std::slice::from_ref(&other)),
        Ok(vec![Message::Refused(Refusal::Twin)])
    );
    drop(first);
    assert!(is_welcome(&say(&mut stream(&shared), &repo, &[other]).expect("no breach")[0]));
}

/// P2: who is no member learns that and nothing else, whatever else is wrong.
#[test]
fn a_stranger_gets_nothing() {
    let repo = Repo::new();
    let head = repo.commit(&some_tree(1, 5), &[]);
    let shared = shared(Everything { members: vec![peer(1)], ..Everything::default() });
    let Message::Hello(good) = hello() else { panic!("a hello") };
    for hello in [good, Hello { versions: (7, 7), ..good }, Hello { repository: head.0, ..good }] {
        let heard = say(&mut stream(&shared), &repo, &[Message::Hello(hello), Message::Walk(whole(head, None))]);
        assert_eq!(heard, Ok(vec![Message::Refused(Refusal::Stranger)]));
    }
    assert!(shared.guard().is_empty(), "nothing is remembered of strangers");
}

/// A stranger may ask to join while somebody is expected, and nothing else, whatever the stream.
#[test]
fn a_stranger_may_join_and_nothing_else() {
    let repo = Repo::new();
    let head = repo.commit(&some_tree(1, 5), &[]);
    for is_open in [true, false] {
        let shared = shared(Everything { members: vec![peer(1)], is_open, ..Everything::default() });
        for class in Class::ALL {
            let mut serving = Serving::new(Arc::clone(&shared), US, class, ZERO);
            serving.receive(&me().hello(class).encode(), ZERO);
            let Ok(Turn::Send(answer)) = serving.turn(&repo.store, ZERO) else { panic!("an answer") };
            let is_let_in = is_open && class == Class::Join;
            assert_eq!(answer != Message::Refused(Refusal::Stranger).encode(), is_let_in, "{class:?}");
            if !is_let_in {
                continue;
            }
            for (number, topic) in [(1, topics::PUBLISH), (2, topics::JOIN)] {
                serving.receive(&Message::Call { number, topic, body: vec![7; 4096] }.encode(), ZERO);
                let turn = loop {
                    match serving.turn(&repo.store, ZERO).expect("no breach") {
                        Turn::Again => {}
                        turn => break turn,
                    }
                };
                let refused = Message::Reply { number, status: Status::Refused, body: vec![] };
                match topic {
                    topics::JOIN => assert!(matches!(turn, Turn::Call { role: Role::Stranger, .. }), "{turn:?}"),
                    _ => assert_eq!(turn, Turn::Send(refused.encode())),
                }
            }
            serving.receive(&Message::Walk(whole(head, None)).encode(), ZERO);
            assert!(serving.turn(&repo.store, ZERO).is_err(), "no walks there");
            assert!(shared.guard().open(&US, Class::Join, 99, ZERO).is_ok(), "the first is closed");
            assert_eq!(shared.guard().open(&US, Class::Join, 99, ZERO), Err(Refusal::Busy), "one at a time");
        }
    }
}

#[test]
fn nothing_comes_before_hello_and_hello_once() {
    let repo = Repo::new();
    let head = repo.commit(&some_tree(1, 5), &[]);
    let shared = everything();
    assert!(say(&mut stream(&shared), &repo, &[Message::Walk(whole(head, None))]).is_err());
    assert!(say(&mut stream(&shared), &repo, &[hello(), hello()]).is_err());
    assert!(shared.guard().is_empty(), "closed");
}

/// Membership is asked for at each request: who is removed gets nothing more on streams that are open.
#[test]
fn a_member_that_is_removed_gets_nothing_more() {
    #[derive(Debug, Clone)]
    struct Switch(Arc<std::sync::atomic::AtomicBool>);
    impl filesync_p2p::Access for Switch {
        fn role(&self, _: &PeerKey) -> Role {
            match self.0.load(std::sync::atomic::Ordering::Relaxed) {
                true => Role::Voter,
                false => Role::Stranger,
            }
        }
        fn expects_joiners(&self) -> bool {
            false
        }
        fn scope(&self, _: &PeerKey, _: &Root) -> Scope {
            Scope::All
        }
        fn may_call(&self, _: &PeerKey, _: u16) -> bool {
            true
        }
    }
    let repo = Repo::new();
    let head = repo.commit(&some_tree(1, 5), &[]);
    let switch = Switch(Arc::new(true.into()));
    let shared = shared(switch.clone());
    let mut serving = stream(&shared);
    say(&mut serving, &repo, &[hello()]).expect("welcome");
    switch.0.store(false, std::sync::atomic::Ordering::Relaxed);
    for request in [Message::Walk(whole(head, None)), get(head, &[(&[0], &[0])])] {
        assert_eq!(say(&mut serving, &repo, &[request]), Ok(vec![Message::Refused(Refusal::Stranger)]));
    }
}

/// P18: knowing a hash is not access; absent and forbidden are one answer.
#[test]
fn absent_and_forbidden_are_told_alike() {
    let repo = Repo::new();
    let (open, closed) = (repo.commit(&some_tree(1, 5), &[]), repo.commit(&some_tree(2, 5), &[]));
    let absent = CommitId(ContentHash::of_chunk(b"nowhere"));
    let access = Everything::default();
    for id in [closed, absent] {
        access.scopes.lock().expect("ours").insert(Root::Commit(id), Scope::Nothing);
    }
    let shared = shared(access);
    let ask =
        |message: Message| say(&mut stream(&shared), &repo, &[hello(), message]).expect("no breach")[1..].to_vec();
    for id in [closed, absent] {
        assert_eq!(ask(Message::Walk(whole(id, None))), [Message::Refused(Refusal::Nothing)]);
        assert_eq!(ask(get(id, &[(&[0], &[0])])), [Message::Refused(Refusal::Nothing)]);
        assert_eq!(ask(Message::Walk(whole(open, Some(id)))), [Message::Refused(Refusal::Base)]);
    }
    assert!(matches!(ask(Message::Walk(whole(open, None)))[..], [Message::Nodes(_), .., Message::WalkEnd { .. }]));
    // What a path does not lead to is left out, and that is all that is said.
    let everywhere: Vec<u16> = (0..100).collect();
    for path in [&[0u16, 99][..], &[99], &[0, 0, 0, 0, 0, 0, 0], &[0; 8000]] {
        assert_eq!(objects(&ask(get(open, &[(path, &everywhere)]))), (vec![], 0), "{path:?}");
    }
}

/// P18, P19: a scope of paths gives what lies below them, of one commit, and the nodes on the way.
#[test]
fn scopes_of_paths() {
    let repo = Repo::new();
    let secret = repo.commit(&tree([("a/b/file", b"old secret".to_vec())]), &[]);
    let files = tree([
        ("a/b/file", b"given".to_vec()),
        ("a/b/sub/file", b"given too".to_vec()),
        ("a/c/file", b"not given".to_vec()),
        ("d", b"not given either".to_vec()),
    ]);
    let head = repo.commit(&files, &[secret]);
    let access = Everything::default();
    let below = |path: &[u8]| Scope::Below(vec![RepoPath::parse(path).expect("a path")]);
    access.scopes.lock().expect("ours").insert(Root::Commit(head), below(b"a/b"));
    access.scopes.lock().expect("ours").insert(Root::Commit(secret), Scope::Nothing);
    let shared = shared(access);
    let ask =
        |message: Message| say(&mut stream(&shared), &repo, &[hello(), message]).expect("no breach")[1..].to_vec();
    let chunk = |bytes: &[u8]| ContentHash::of_chunk(bytes);
    // commit -0-> root -0-> a -0-> b: children file, sub; a -1-> c.
    assert_eq!(objects(&ask(get(head, &[(&[0, 0, 0], &[0])]))).0, [chunk(b"given")]);
    assert_eq!(objects(&ask(get(head, &[(&[0, 0, 0, 1], &[0])]))).0, [chunk(b"given too")]);
    for (path, position) in [(&[0, 0, 1][..], 0), (&[0], 1), (&[1, 0, 0, 0], 0), (&[], 1), (&[0, 0], 1)] {
        assert_eq!(objects(&ask(get(head, &[(path, &[position])]))).0, [], "{path:?} {position}");
    }
    let walk = |path: &[u8], history| {
        let path = RepoPath::parse(path).expect("a path");
        ask(Message::Walk(Walk { path, history, ..whole(head, None) }))
    };
    assert!(matches!(walk(b"a/b", false)[..], [Message::Nodes(_), Message::WalkEnd { count: 5 }]));
    assert!(matches!(walk(b"a/b/sub", false)[..], [Message::Nodes(_), Message::WalkEnd { count: 5 }]));
    for (path, history) in [(&b""[..], false), (b"a", false), (b"a/c", false), (b"d", false), (b"a/b", true)] {
        assert_eq!(walk(path, history), [Message::Refused(Refusal::Nothing)], "{path:?}");
    }
}

/// A stored frame is sent whole only if each of its objects was asked for.
#[test]
fn frames_are_whole_or_made_anew() {
    let repo = Repo::new();
    let files = tree([("a", b"one".to_vec()), ("b", b"two".to_vec()), ("c", b"three".to_vec())]);
    let head = repo.commit(&files, &[]);
    let shared = everything();
    let ask = |positions: &[u16]| {
        let heard = say(&mut stream(&shared), &repo, &[hello(), get(head, &[(&[0], positions)])]).expect("no breach");
        let Some(Message::Frame(frame)) = heard.get(1) else { panic!("{heard:?}") };
        (objects(&heard[1..]), frame.clone())
    };
    let ids: Vec<_> = [&b"one"[..], b"two", b"three"].iter().map(|bytes| ContentHash::of_chunk(bytes)).collect();
    let location = repo.store.locate(&ids[0]).expect("looked up").expect("there");
    let stored = repo.store.stored_frame(&location, &ids[0]).expect("there").into_bytes();
    let ((all, sent), frame) = ask(&[0, 1, 2]);
    assert_eq!((all, sent, frame == stored), (ids.clone(), 3, true));
    let ((some, sent), frame) = ask(&[0, 2]);
    assert_eq!((some, sent, frame == stored), (vec![ids[0], ids[2]], 2, false));
}

/// P6: silence, a byte now and then, and an idle stream all end.
#[test]
fn slow_askers_are_closed() {
    let repo = Repo::new();
    let shared = everything();
    let mut silent = stream(&shared);
    assert_eq!(silent.turn(&repo.store, ZERO), Ok(Turn::Read));
    assert_eq!(silent.deadline(), Some(Duration::from_secs(5)));
    silent.expire(Duration::from_secs(5));
    assert_eq!(silent.turn(&repo.store, Duration::from_secs(5)), Ok(Turn::Close));

    let mut dripping = stream(&shared);
    let bytes = hello().encode();
    for (n, byte) in bytes.iter().enumerate() {
        let now = Duration::from_secs(n as u64);
        dripping.receive(&[*byte], now);
        if dripping.deadline().is_some_and(|deadline| deadline <= now) {
            assert!(n <= 5, "{n} seconds for a Hello");
            dripping.expire(now);
            break;
        }
        assert!(n < 10 && dripping.turn(&repo.store, now) == Ok(Turn::Read));
    }
    let mut idle = stream(&shared);
    say(&mut idle, &repo, &[hello()]).expect("welcome");
    assert_eq!(idle.deadline(), Some(Duration::from_secs(300)));
    // A request that does not come to an end.
    let request = Message::Walk(whole(CommitId(Repo::id()), None)).encode();
    idle.receive(&request[..20], Duration::from_secs(100));
    assert_eq!(idle.turn(&repo.store, Duration::from_secs(100)), Ok(Turn::Read));
    assert_eq!(idle.deadline(), Some(Duration::from_secs(110)));
}

/// P13, P15, P21: requests that are as long and as dear as can be cost a bounded amount of memory, and time at a rate.
#[test]
fn dear_requests_come_at_a_rate() {
    let repo = Repo::new();
    let mut files = tree([("x", b"x".to_vec())]);
    files.insert(RepoPath::parse(format!("{}file", "d/".repeat(200)).as_bytes()).expect("a path"), b"deep".to_vec());
    let head = repo.commit(&files, &[]);
    let shared = everything();
    let mut serving = stream(&shared);
    say(&mut serving, &repo, &[hello()]).expect("welcome");
    // Two hundred steps each time, from the root, since the paths turn back.
    let deep: Vec<u16> = vec![0; 200];
    let nodes: Vec<(&[u16], &[u16])> =
        (0..100).flat_map(|_| [(&deep[..], &[0u16][..]), (&deep[..1], &[1][..])]).collect();
    let request = get(head, &nodes);
    let mut spent = 0;
    for _ in 0..12 {
        let heard = say(&mut serving, &repo, std::slice::from_ref(&request)).expect("no breach");
        assert!(objects(&heard).1 <= 2);
        spent += 1;
    }
    let ready = shared.guard().ready_at(&US, Class::Bulk);
    assert!(ready > Duration::from_secs(1), "{spent} requests of 20,000 nodes: {ready:?}");
}

/// P21: answers come at a rate too, message by message, and calls do not wait for them.
#[test]
fn answers_come_at_a_rate() {
    let repo = Repo::new();
    let head = repo.commit(&tree([("large", Rng::new(1).bytes(4 << 20))]), &[]);
    let rate = 1 << 20;
    let limits = Limits { bytes: Limits::bytes_at(rate), ..Limits::default() };
    let shared = everything();
    *shared.guard() = Guard::new(limits);
    let all: Vec<u16> = (0..200).collect();
    let (mut bulk, mut calls) = (stream(&shared), Serving::new(Arc::clone(&shared), US, Class::Call, ZERO));
    say(&mut bulk, &repo, &[hello()]).expect("welcome");
    say(&mut calls, &repo, &[me().hello(Class::Call)]).expect("welcome");
    bulk.receive(&get(head, &[(&[0, 0], &all)]).encode(), ZERO);
    let (mut now, mut sent, mut waited) = (ZERO, 0u64, 0);
    loop {
        match bulk.turn(&repo.store, now).expect("no breach") {
            Turn::Send(bytes) => sent += bytes.len() as u64,
            Turn::Again => {}
            Turn::Wait(until) => {
                waited += 1;
                let call = Message::Call { number: waited, topic: topics::PUBLISH, body: Vec::new() };
                calls.receive(&call.encode(), now);
                assert!(matches!(calls.turn(&repo.store, now), Ok(Turn::Call { .. })), "a call waits for bulk");
                calls.reply(waited, Status::Done, Vec::new(), now);
                assert!(matches!(calls.turn(&repo.store, now), Ok(Turn::Send(_))));
                now = until;
            }
            Turn::Read | Turn::Close | Turn::Call { .. } => break,
        }
    }
    assert!(sent > 4 << 20 && waited > 0, "{sent} bytes, waited {waited} times");
    // Two seconds' worth at once, and the last message is sent before it is paid for.
    let least = Duration::from_secs((sent - (2 << 20) - (1 << 20)) / rate);
    assert!(now >= least, "{sent} bytes in {now:?}");
}

/// P5, P13: the longest requests, whether they lead anywhere or not, take a bounded amount of memory.
#[test]
fn dear_requests_take_little_memory() {
    let repo = Repo::new();
    let files = (0..3000).map(|n| (format!("file {n}"), format!("words of file {n}").into_bytes().repeat(20)));
    let files: Vec<(String, Vec<u8>)> = files.collect();
    let head = repo.commit(&tree(files.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()))), &[]);
    let all: Vec<u16> = (0..2000).collect();
    let (deep, near) = (vec![0u16; 8000], [0u16]);
    let many: Vec<(&[u16], &[u16])> =
        (0..4000).map(|n| (if n % 2 == 0 { &near[..] } else { &[] }, &all[..1])).collect();
    let wide: Vec<[u16; 2]> = (0..8).map(|n| [0, n]).collect();
    let wide: Vec<(&[u16], &[u16])> = wide.iter().map(|path| (&path[..], &all[..])).collect();
    let requests = [
        ("a walk", Message::Walk(whole(head, None))),
        ("a deep path", get(head, &[(&deep, &all)])),
        ("many nodes", get(head, &many)),
        ("many children", get(head, &wide)),
    ];
    for (what, request) in requests {
        let shared = everything();
        let mut serving = stream(&shared);
        let mut sent = 0;
        let cost = allocation_counter::measure(|| {
            serving.receive(&hello().encode(), ZERO);
            serving.receive(&request.encode(), ZERO);
            let mut now = ZERO;
            loop {
                match serving.turn(&repo.store, now).expect("no breach") {
                    Turn::Send(bytes) => sent += bytes.len(),
                    Turn::Again => {}
                    Turn::Wait(until) => now = until,
                    Turn::Read | Turn::Close | Turn::Call { .. } => break,
                }
            }
        });
        assert!(sent > Message::Refused(Refusal::Busy).encode().len() + 23, "{what}: no answer");
        assert!(cost.bytes_max < 4 << 20, "{what}: {} bytes", cost.bytes_max);
    }
}

/// P5: requests of any length that is announced.
#[test]
fn lengths_out_of_bounds_close_the_stream() {
    let repo = Repo::new();
    let shared = everything();
    for len in [0, 65_538, u32::MAX] {
        let mut serving = stream(&shared);
        say(&mut serving, &repo, &[hello()]).expect("welcome");
        serving.receive(&len.to_le_bytes(), ZERO);
        assert!(serving.turn(&repo.store, ZERO).is_err(), "{len}");
        assert!(serving.kept() < 100);
    }
    assert!(shared.guard().is_empty());
}

/// Garbage of any sort closes the stream and does nothing else.
#[test]
fn garbage() {
    let repo = Repo::new();
    let head = repo.commit(&some_tree(1, 5), &[]);
    let shared = everything();
    let mut rng = Rng::new(3);
    let good =
        [hello().encode(), Message::Walk(whole(head, None)).encode(), get(head, &[(&[0], &[0, 1])]).encode()].concat();
    let mut breaches = 0;
    for _ in 0..3000 {
        let mut bytes = good.clone();
        for _ in 0..=rng.below(3) {
            let at = rng.index(bytes.len());
            bytes[at] ^= 1 << rng.below(8);
        }
        let mut serving = stream(&shared);
        let mut now = ZERO;
        serving.receive(&bytes, now);
        for _ in 0..10_000 {
            match serving.turn(&repo.store, now) {
                Ok(Turn::Read | Turn::Close | Turn::Call { .. }) => break,
                Ok(Turn::Wait(until)) => now = until,
                Ok(_) => {}
                Err(_) => {
                    breaches += 1;
                    break;
                }
            }
        }
    }
    assert!(breaches > 300, "{breaches}");
    for _ in 0..4 {
        let later = Duration::from_secs(3600);
        assert_eq!(shared.guard().open(&US, Class::Bulk, 12345, later), Ok(()), "every stream is closed");
    }
}

/// P17: who may not call is told so; who calls too much waits.
#[test]
fn calls_are_checked_and_counted() {
    let repo = Repo::new();
    let shared = everything();
    let mut serving = Serving::new(Arc::clone(&shared), US, Class::Call, ZERO);
    serving.receive(&me().hello(Class::Call).encode(), ZERO);
    assert!(matches!(serving.turn(&repo.store, ZERO), Ok(Turn::Send(_))));
    let turn = |serving: &mut Serving| loop {
        match serving.turn(&repo.store, ZERO).expect("no breach") {
            Turn::Again => {}
            turn => return turn,
        }
    };
    let call = |number, topic| Message::Call { number, topic, body: b"x".to_vec() }.encode();
    serving.receive(&call(1, 1), ZERO);
    let refused = Message::Reply { number: 1, status: Status::Refused, body: vec![] };
    assert_eq!(turn(&mut serving), Turn::Send(refused.encode()), "a message of raft does not belong here");
    for number in 2..66 {
        serving.receive(&call(number, 17), ZERO);
        assert_eq!(turn(&mut serving), Turn::Call { number, role: Role::Voter, topic: 17, body: b"x".to_vec() });
    }
    serving.receive(&call(66, 17), ZERO);
    let busy = Message::Reply { number: 66, status: Status::Busy, body: vec![] };
    assert_eq!(turn(&mut serving), Turn::Send(busy.encode()));
    serving.reply(5, Status::Done, b"y".to_vec(), ZERO);
    assert_eq!(
        turn(&mut serving),
        Turn::Send(Message::Reply { number: 5, status: Status::Done, body: b"y".to_vec() }.encode())
    );
    serving.receive(&call(67, 17), ZERO);
    assert!(matches!(turn(&mut serving), Turn::Call { number: 67, .. }));
    assert_eq!(serving.deadline(), None, "who waits for answers is not idle");
}
