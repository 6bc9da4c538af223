//! Who is let in, who is kept connected, and what is said when that fails.

use super::*;

/// P2, P3: who is no member is shown out; who is somebody else than we think is not spoken to.
#[test]
fn strangers_and_impostors() {
    let there = Node::with(1, Everything { members: vec![PeerKey([9; 32])], ..Everything::default() });
    let here = Node::new(2);
    let head = there.repo.commit(&some_tree(1, 1000), &[]);
    drop(here.net().connect(there.key(), &[there.addr()]));
    until("it is counted", || there.net().turned_away() == TurnedAway { strangers: 1, ..TurnedAway::default() });
    let (result, _) = here.fetch(head, &[there.key()], &mut |_| ());
    assert!(matches!(result, Err(FetchError::NoPeers { .. })), "{result:?}");
    let refused = here.net().call_and_wait(there.key(), Class::Call, PUBLISH, vec![], WAIT);
    assert!(
        matches!(refused, Err(CallError::Refused(_) | CallError::Unreachable(_) | CallError::Broken)),
        "{refused:?}"
    );

    let other = Node::new(3);
    let impostor = here.net().connect(other.key(), &[there.addr()]);
    let why = format!("{}: somebody with another key answers there", there.addr());
    assert_eq!(impostor, Err(ConnectError::Unreachable(why)));
}

/// What a user reads is one line with the address in it.
#[test]
fn addresses_that_do_not_work_are_named() {
    let (a, mut b) = (Node::new(1), Node::new(2));
    let taken = b.start_at(&a.addr()).expect_err("it is taken").to_string();
    assert!(taken.starts_with(&format!("cannot listen on {}: Address already in use", a.addr())), "{taken}");

    let silent = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound").local_addr().expect("an address").to_string();
    for (addresses, why) in [
        (vec![], "no address is known".to_owned()),
        (vec!["no port".to_owned()], "no port: invalid socket address".to_owned()),
        (vec![silent.clone()], format!("{silent}: nobody answers there")),
    ] {
        let failed = b.net().connect(a.key(), &addresses);
        assert_eq!(failed, Err(ConnectError::Unreachable(why.clone())));
        // Whoever asks next is told the same.
        let call = b.net().call_and_wait(a.key(), Class::Call, PUBLISH, vec![], WAIT);
        assert_eq!(call, Err(CallError::Unreachable(format!("it is not connected ({why})"))));
    }
    // One good address among bad ones is enough.
    b.net().connect(a.key(), &[silent, a.addr()]).expect("connected");
}

/// A stranger may ask to join while somebody is expected, and nothing else; a member may do what its role allows; who is removed goes.
#[test]
fn joining_and_being_removed() {
    let club = Arc::new(Club::default());
    let there = Node::answering(1, club.clone(), Arc::new(Doorman(club.clone())));
    let here = Node::new(2);
    let head = there.repo.commit(&some_tree(1, 1000), &[]);
    let (net, to) = (here.net(), there.key());
    let call = |class, topic, body: &[u8]| net.call_and_wait(to, class, topic, body.to_vec(), WAIT);
    let is_shut_out = |class, topic| {
        let answer = call(class, topic, b"");
        assert!(
            matches!(answer, Err(CallError::Refused(_) | CallError::Unreachable(_) | CallError::Broken)),
            "{answer:?}"
        );
    };

    drop(net.connect(to, &[there.addr()]));
    until("nobody is expected, so strangers are shown out", || !here.is_connected(to));
    is_shut_out(Class::Join, JOIN);

    club.is_open.store(true, Ordering::Relaxed);
    here.connect(&there);
    is_shut_out(Class::Call, PUBLISH);
    is_shut_out(Class::Raft, RAFT);
    assert!(matches!(here.fetch(head, &[to], &mut |_| ()).0, Err(FetchError::NoPeers { .. })));
    assert_eq!(call(Class::Join, PUBLISH, b""), Ok((Status::Refused, vec![])));
    let long = call(Class::Join, JOIN, &[0; 4097]);
    assert_eq!(long, Err(CallError::TooLong(4097)));
    assert_eq!(call(Class::Join, JOIN, b"an invite"), Ok((Status::Done, b"Stranger".to_vec())));

    assert_eq!(call(Class::Call, PUBLISH, b""), Ok((Status::Done, b"Writer".to_vec())));
    is_shut_out(Class::Raft, RAFT);
    here.fetch(head, &[to], &mut |_| ()).0.expect("a member may");
    // An answer that fails is an answer, and takes no place for ever.
    for body in [&b"panic"[..], b"long"] {
        assert_eq!(call(Class::Call, PUBLISH, body), Ok((Status::Failed, vec![])));
    }
    club.set(here.key(), Role::Reader);
    assert_eq!(call(Class::Call, PUBLISH, b""), Ok((Status::Refused, vec![])));

    club.is_open.store(false, Ordering::Relaxed);
    club.set(here.key(), Role::Stranger);
    until("who is removed is shown out", || !here.is_connected(to));
    is_shut_out(Class::Call, PUBLISH);
}

/// Members are dialed again when they come back, wherever that is.
#[test]
fn connections_are_kept() {
    let (mut a, b) = (Node::new(1), Node::new(2));
    let (key, addr) = (a.key(), a.addr());
    b.net().keep([(key, vec![addr.clone()])].into());
    until("it is dialed", || b.is_connected(key));
    drop(a.net.take());
    until("its end is noticed", || !b.is_connected(key));
    let lost = b.net().connections();
    assert!(lost.len() == 1 && lost[0].why.is_some(), "{lost:?}");
    until("the port is free again", || a.start_at(&addr).is_ok());
    until("it is dialed again", || b.is_connected(key));
    drop(a.net.take());
    until("its end is noticed again", || !b.is_connected(key));
    a.start_at("127.0.0.1:0").expect("elsewhere");
    b.net().keep([(key, vec![a.addr()])].into());
    until("it is dialed elsewhere", || b.is_connected(key));
    b.net().keep(BTreeMap::new());
    b.net().disconnect(&key);
    until("who is let go of is not dialed again", || b.net().connections().is_empty());
}

/// Never answers, and says when it was asked.
#[derive(Default)]
struct Deaf(AtomicBool);

impl Answers for Deaf {
    fn answer(&self, _: Caller, _: u16, _: Vec<u8>) -> Answer {
        self.0.store(true, Ordering::Relaxed);
        Box::pin(std::future::pending())
    }
}

/// Leave is taken in the middle of an answer that would never come.
#[test]
fn leave_is_taken_within_a_time() {
    let deaf = Arc::new(Deaf::default());
    // Nobody finds out by silence what he is not told.
    let patient = |seed, answers| Node::patient(seed, Arc::new(Everything::default()), answers, 50 * WAIT);
    let (mut a, b) = (patient(1, deaf.clone()), patient(2, Arc::new(Echo)));
    b.connect(&a);
    let key = a.key();
    let asked = b.net().call(key, Class::Call, PUBLISH, vec![], 50 * WAIT);
    let asked = std::thread::spawn(|| futures::executor::block_on(asked));
    until("it is asked", || deaf.0.load(Ordering::Relaxed));
    a.net.take().expect("on the network").shutdown(Duration::from_secs(1));
    until("the other knows", || !b.is_connected(key));
    let answer = asked.join().expect("it does not panic");
    assert!(matches!(answer, Err(CallError::Broken | CallError::Unreachable(_))), "{answer:?}");
    let gone = b.net().call_and_wait(key, Class::Call, PUBLISH, vec![], WAIT);
    assert!(matches!(gone, Err(CallError::Unreachable(_))), "{gone:?}");
}
