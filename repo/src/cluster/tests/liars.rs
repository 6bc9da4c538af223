//! Members and strangers that say over the network what is not for them to say: rows P11, P12, P17, P19 and P23 of the threat model.

use filesync_cas::ContentHash;
use filesync_merkle::history::read_commit;
use filesync_merkle::{Commit, CommitId};
use filesync_p2p::guard::{Guard, Limits};
use filesync_p2p::message::{Status, topics};
use filesync_p2p::peer::{Class, PeerKey};
use filesync_p2p::serve::{Me, Shared};
use filesync_p2p::testing::Everything;
use filesync_p2p::transport::{self, Answers, CallError, Caller, Config, Transport};
use filesync_raft_log::State;
use filesync_raft_log::command::{
    Admit, Command, Founder, Intent, IntentId, Invite, Outcome, Ready, RefChange, Refusal, TryId,
};
use filesync_raft_log::ids::{self, Id, LeaderId, NodeId, RefName, RepositoryId};
use filesync_raft_log::state::Member;

use super::*;
use crate::cluster::calls::{About, Answer, Call, encode};
use crate::cluster::core::CallFailure;
use crate::cluster::invite::InviteLine;
use crate::cluster::remote::Remote;
use crate::identity::Identity;

/// Somebody connected to a node, who says to it what he likes.
struct Liar {
    node: Node,
    to: PeerKey,
    addresses: Vec<String>,
}

impl Liar {
    fn new(node: Node, to: &Node) -> Self {
        let liar = Self { node, to: to.core.key, addresses: to.addresses() };
        liar.connect().unwrap();
        liar
    }

    /// A member, by its repository.
    fn member(dir: &Dir, to: &Node) -> Self {
        let repo = open(&dir.0.join("repo"));
        Self::new(Node::start(repo, &NodeOptions::default(), Arc::new(|_| {})).unwrap(), to)
    }

    /// Somebody who has an invite, and no more.
    fn stranger(line: &InviteLine, dir: &Dir, to: &Node) -> Self {
        let path = dir.0.join("repo");
        crate::init::init_with(&path, &line.params().unwrap(), "stranger", &crate::parts::Copied::default()).unwrap();
        let mut state = State::new(line.repository);
        state.epoch = 0;
        for door in &line.doors {
            state.members.insert(door.node, Member::known(door.key, door.addresses.clone()));
        }
        let place = crate::cluster::node::here().unwrap();
        Self::new(Node::assemble(place, open(&path), NodeId(0), Remote::new(state), &[]).unwrap(), to)
    }

    fn connect(&self) -> Result<(), CallFailure> {
        let core = &self.node.core;
        core.wait(core.connect(self.to, &self.addresses)).unwrap()
    }

    fn key(&self) -> ids::PeerKey {
        ids::PeerKey(self.node.core.key.0)
    }

    fn say(&self, call: &Call) -> Result<Answer, CallFailure> {
        let core = &self.node.core;
        core.wait(core.call_peer(self.to, call, TIME)).unwrap()
    }

    fn send(&self, class: Class, topic: u16, body: Vec<u8>) -> Result<(Status, Vec<u8>), CallError> {
        let core = &self.node.core;
        core.wait(core.transport().unwrap().call(self.to, class, topic, body, TIME)).unwrap()
    }

    /// Asks to publish until that is decided.
    fn publish(&self, seq: u64, expected: CommitId, new: Id) -> Answer {
        let expected = Some(Id(*expected.0.as_bytes()));
        let change = RefChange { name: RefName::new("main").unwrap(), expected, new: Some(new) };
        loop {
            match self.say(&Call::Publish { seq, change: change.clone() }).unwrap() {
                Answer::Working(_) => {}
                answer => return answer,
            }
        }
    }
}

/// A cluster of one, which has published something.
pub fn cluster() -> (Dir, Node, CommitId) {
    let dir = founded();
    commit(&open(&dir.0));
    let one = serve(&dir.0);
    let head = sync_now(&one).head.unwrap();
    (dir, one, head)
}

fn line_of(text: &str) -> InviteLine {
    InviteLine::decode(text).unwrap()
}

fn refused(refusal: Refusal) -> Result<Answer, CallFailure> {
    Ok(Answer::Outcome(Outcome::Refused(refusal)))
}

/// What nobody but the log changes.
fn what_counts(node: &Node) -> State {
    let state = node.core.state();
    State { applied: None, now: ids::Millis(0), ..state }
}

/// P19: what was heard of somebody's joining lets nobody else in, in no other role, and a second time changes nothing.
#[test]
fn an_invite_that_was_overheard() {
    let (_dir, one, _) = cluster();
    let used = invite(&one, Role::Writer);
    let two = join(used.clone(), "two");
    // While one is open, strangers are heard.
    let open_line = line_of(&invite(&one, Role::Reader));
    let before = what_counts(&one);
    let member = Liar::member(&two, &one);
    let said_by_two = line_of(&used).admit(member.key(), "two", Vec::new(), false);
    let place = Dir::new();
    let stranger = Liar::stranger(&open_line, &place, &one);
    let ask = |admit: Admit| stranger.say(&Call::Join(admit));
    assert_eq!(ask(said_by_two.clone()), Err(CallFailure::Refused(None)), "in another's name");
    let mine = Admit { peer: stranger.key(), ..said_by_two.clone() };
    assert_eq!(ask(mine), refused(Refusal::InviteMismatch), "what was signed for another");
    let admit = |line: &InviteLine| line.admit(stranger.key(), "stranger", Vec::new(), false);
    assert_eq!(ask(admit(&line_of(&used))), refused(Refusal::InviteUsedUp));
    let escalated = Admit { role: Role::Candidate, ..admit(&open_line) };
    assert_eq!(ask(escalated), refused(Refusal::InviteMismatch), "another role than was signed");
    let escalated = InviteLine { role: Role::Candidate, ..open_line.clone() };
    assert_eq!(ask(admit(&escalated)), refused(Refusal::InviteMismatch), "another role than was meant");
    let elsewhere = InviteLine { repository: RepositoryId([1; 32]), ..open_line.clone() };
    assert_eq!(ask(admit(&elsewhere)), refused(Refusal::InviteMismatch), "for another repository");
    let made_up = InviteLine { seed: [7; 32], ..open_line.clone() };
    assert_eq!(ask(admit(&made_up)), refused(Refusal::NoInvite));
    // Strangers ask nothing else.
    assert!(stranger.say(&Call::Facts).is_err() && stranger.say(&Call::About).is_err());
    // Again, by whoever may carry it: the same number.
    let again = member.say(&Call::Join(said_by_two));
    assert!(matches!(again, Ok(Answer::Joined(NodeId(2), _))), "{again:?}");
    assert_eq!(what_counts(&one), before);
    let joined = ask(admit(&open_line));
    assert!(matches!(joined, Ok(Answer::Joined(NodeId(3), _))), "{joined:?}");
    stranger.node.shutdown();
    member.node.shutdown();
    one.shutdown();
}

/// A member that was removed is a stranger at once: where it is connected, with its old invite, and with those that it made.
#[test]
fn a_member_that_was_removed() {
    let (_dir, one, head) = cluster();
    let text = invite(&one, Role::Writer);
    let two = join(text.clone(), "two");
    let _open = invite(&one, Role::Reader);
    let liar = Liar::member(&two, &one);
    assert!(matches!(liar.say(&Call::Facts), Ok(Answer::Facts(_))));
    let own = InviteLine { seed: [7; 32], role: Role::Reader, ..line_of(&text) };
    let key = own.public();
    let made = Invite { key, role: Role::Reader, uses: 9, expires: None, by: NodeId(2) };
    assert_eq!(liar.say(&Call::Propose(Command::Invite(made.clone()))), Ok(Answer::Outcome(Outcome::Done)));
    crate::cluster::members::peers(&one, &PeersRequest::Remove { node: "2".to_owned() }, TIME).unwrap();
    eventually("it is a stranger", || one.core.view.member(&liar.node.core.key).is_none());
    let change = RefChange { name: RefName::new("main").unwrap(), expected: None, new: Some(Id([7; 32])) };
    for call in [
        Call::Facts,
        Call::About,
        Call::HeldAsOf,
        Call::Publish { seq: 1, change },
        Call::Propose(Command::Invite(made)),
        Call::Propose(Command::SetAddresses { node: NodeId(2), addresses: Vec::new() }),
    ] {
        // It may have been shown out by now; while somebody is expected it may come back.
        drop(liar.connect());
        let answer = liar.say(&call);
        assert!(answer.is_err(), "{call:?}: {answer:?}");
    }
    let session = liar.node.core.repo.store.session().unwrap();
    drop(liar.connect());
    let old = liar.node.core.fetch(&session, CommitId::from_bytes([7; 32]), None, &[liar.to], &mut |_| {});
    assert!(old.is_err(), "nor is it given anything");
    drop(session);
    liar.connect().unwrap();
    let admit = line_of(&text).admit(liar.key(), "two", Vec::new(), false);
    assert_eq!(liar.say(&Call::Join(admit)), refused(Refusal::WasRemoved));
    assert_eq!(liar.say(&Call::Join(own.admit(liar.key(), "two", Vec::new(), false))), refused(Refusal::WasRemoved));
    assert!(!one.core.state().invites.contains_key(&key), "what it made goes with it");
    assert_eq!(sync_now(&one).head, Some(head));
    liar.node.shutdown();
    one.shutdown();
}

/// P17: a role is what the log says. Nobody takes another, neither in his own name nor in another's, by whatever way.
#[test]
fn roles_are_not_taken() {
    let (_dir, one, head) = cluster();
    let two = join(invite(&one, Role::Reader), "two");
    let before = what_counts(&one);
    let liar = Liar::member(&two, &one);
    let (me, other) = (NodeId(2), NodeId(1));
    let not_allowed = || refused(Refusal::NotAllowed(me));
    let commit = Id(*head.0.as_bytes());
    let id = TryId { client: me, leader: LeaderId { term: 1, node: me }, nonce: 1 };
    let change = RefChange { name: RefName::new("main").unwrap(), expected: Some(commit), new: Some(commit) };
    for call in [Call::Publish { seq: 1, change }, Call::Hold { id, commit }, Call::Wanted(id)] {
        assert_eq!(liar.say(&call), Err(CallFailure::Refused(None)), "{call:?}");
        // Nor under the topic of something that it may ask.
        assert_eq!(liar.send(Class::Call, topics::READ_INDEX, encode(&call)), Ok((Status::Failed, Vec::new())));
    }
    let invite = |by| Invite { key: ids::InviteKey([8; 32]), role: Role::Candidate, uses: 9, expires: None, by };
    let intent = |by| Intent { target: [me].into(), is_even_allowed: true, by };
    let lost = |node| Command::Lost { node, asked: [me, other].into(), objects: [commit].into() };
    for command in [
        Command::SetRole { node: me, role: Role::Candidate, by: me },
        Command::Remove { node: other, by: me },
        Command::Invite(invite(me)),
        Command::Intent(intent(me)),
        lost(me),
    ] {
        assert_eq!(liar.say(&Call::Propose(command.clone())), not_allowed(), "{command:?}");
    }
    let founder = Founder { key: liar.key(), name: String::new(), addresses: Vec::new() };
    for command in [
        Command::SetRole { node: me, role: Role::Candidate, by: other },
        Command::Remove { node: me, by: other },
        Command::Invite(invite(other)),
        Command::Intent(intent(other)),
        Command::SetAddresses { node: other, addresses: Vec::new() },
        Command::Deficient { node: other },
        lost(other),
        Command::Found(founder),
        Command::Ready(Ready { intent: IntentId(1), receipts: [(me, ids::LogIndex(1))].into() }),
        Command::Cancel { intent: IntentId(1) },
    ] {
        let answer = liar.say(&Call::Propose(command.clone()));
        assert!(matches!(answer, Ok(Answer::Failed(_))), "{command:?}: {answer:?}");
    }
    let raft = liar.send(Class::Raft, topics::RAFT, vec![1; 100]);
    assert!(matches!(raft, Err(CallError::Refused(_) | CallError::Unreachable(_) | CallError::Broken)), "{raft:?}");
    assert_eq!(what_counts(&one), before);
    liar.node.shutdown();
    one.shutdown();
}

/// P12: who is a candidate and plays the leader has nothing fetched and nothing pinned: such a pin would never go.
#[test]
fn holds_for_a_leader_that_is_none() {
    let (_dir, one, _) = cluster();
    let two = join(invite(&one, Role::Candidate), "two");
    two.write("repo/bulk", Rng::new(3).bytes(100_000));
    let liar = Liar::member(&two, &one);
    commit(&liar.node.core.repo);
    let mine = liar.node.core.repo.head().unwrap();
    let offer = liar.node.core.view.offer(mine);
    let term = one.core.log.get().unwrap().status().term;
    for leader in [
        LeaderId { term: u64::MAX, node: NodeId(2) },
        LeaderId { term, node: NodeId(2) },
        LeaderId { term, node: NodeId(1) },
    ] {
        let id = TryId { client: NodeId(2), leader, nonce: 1 };
        let answer = liar.say(&Call::Hold { id, commit: Id(*mine.0.as_bytes()) });
        assert!(matches!(answer, Ok(Answer::Failed(_))), "{leader:?}: {answer:?}");
    }
    assert!(!is_pinned(&one, mine));
    assert!(one.core.repo.store.locate(&mine.0).unwrap().is_none(), "nothing of it was fetched");
    drop(offer);
    liar.node.shutdown();
    one.shutdown();
}

/// Whether a node has promised somebody to keep a commit.
fn is_pinned(node: &Node, commit: CommitId) -> bool {
    let pins = filesync_cas::pin::all(&**node.core.repo.store.vfs()).unwrap();
    pins.iter().any(|pin| pin.roots.contains(&(CommitId::KIND, commit.0)))
}

/// Stores a commit as it is, and gives it to voters.
fn store(liar: &Liar, commit: &Commit) -> CommitId {
    let session = liar.node.core.repo.store.session().unwrap();
    let mut writer = session.writer();
    let id = writer.store(CommitId::KIND, &commit.encode().unwrap()).unwrap();
    writer.flush().unwrap();
    drop(writer);
    session.keep().unwrap();
    CommitId(id)
}

/// A member may publish what members have signed, and nothing else.
#[test]
fn commits_that_no_member_signed() {
    let (_dir, one, head) = cluster();
    let two = join(invite(&one, Role::Writer), "two");
    let liar = Liar::member(&two, &one);
    let repo = &liar.node.core.repo;
    let good = Commit { parents: vec![head], ..read_commit(repo.node_source(), &head).unwrap() };
    let own = Identity::load(&**repo.store.vfs()).unwrap();
    type Forge<'a> = &'a dyn Fn(&mut Commit);
    let forged: [(&str, Forge<'_>); 4] = [
        ("what another signed, changed", &|_| ()),
        ("nobody's signature", &|commit| commit.signature = [0; 64]),
        ("the key of no member", &|commit| {
            let stranger = Identity::generate().unwrap();
            commit.node = stranger.node();
            stranger.sign(commit, repo.repository()).unwrap();
        }),
        ("for another repository", &|commit| {
            commit.node = own.node();
            own.sign(commit, &ContentHash::from_bytes([3; 32])).unwrap();
        }),
    ];
    for (seq, (what, forge)) in (1..).zip(forged) {
        let mut commit = good.clone();
        forge(&mut commit);
        let id = store(&liar, &commit);
        let _offer = liar.node.core.view.offer(id);
        let answer = liar.publish(seq, head, Id(*id.0.as_bytes()));
        let is_refused = matches!(&answer, Answer::Refused(cause) if cause.contains("no member has signed it"));
        assert!(is_refused, "{what}: {answer:?}");
        assert!(!is_pinned(&one, id), "{what}");
    }
    assert_eq!(sync_now(&one).head, Some(head));
    // Signed as it should be, the same is published.
    let mut commit = good;
    commit.node = own.node();
    own.sign(&mut commit, repo.repository()).unwrap();
    let id = store(&liar, &commit);
    let offer = liar.node.core.view.offer(id);
    let answer = liar.publish(9, head, Id(*id.0.as_bytes()));
    assert!(matches!(answer, Answer::Outcome(Outcome::Published { .. })), "{answer:?}");
    drop(offer);
    liar.node.shutdown();
    one.shutdown();
}

/// P11, P23: who publishes and then gives nothing, or goes away, is nobody's trouble but his own.
#[test]
fn publishes_of_what_is_not_given() {
    let (dir, one, head) = cluster();
    let (two, three) = (join(invite(&one, Role::Writer), "two"), join(invite(&one, Role::Writer), "three"));
    let liar = Liar::member(&two, &one);
    let answer = liar.publish(1, head, Id([7; 32]));
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    // One that is there and kept to itself.
    two.write("repo/bulk", Rng::new(3).bytes(100_000));
    commit(&liar.node.core.repo);
    let mine = liar.node.core.repo.head().unwrap();
    let answer = liar.publish(2, head, Id(*mine.0.as_bytes()));
    assert!(matches!(answer, Answer::Failed(_)), "{answer:?}");
    // One that is given while its giver goes away.
    let offer = liar.node.core.view.offer(mine);
    let change = RefChange {
        name: RefName::new("main").unwrap(),
        expected: Some(Id(*head.0.as_bytes())),
        new: Some(Id(*mine.0.as_bytes())),
    };
    let core = &liar.node.core;
    let soon = Duration::from_millis(1);
    drop(core.wait(core.call_peer(liar.to, &Call::Publish { seq: 3, change }, soon)).unwrap());
    drop(offer);
    liar.node.shutdown();
    three.write("repo/from three", "hello");
    let path = three.0.join("repo");
    commit(&open(&path));
    assert!(!client(&path, sync_now).published.is_empty());
    sync_now(&one);
    assert_eq!(dir.read("from three").as_deref(), Some(&b"hello"[..]));
    let no_pins = || filesync_cas::pin::all(&**one.core.repo.store.vfs()).unwrap().is_empty();
    eventually("what was held for it is let go of", no_pins);
    one.shutdown();
}

/// Answers by the topic, whatever is asked.
pub struct Says<F>(pub F);

impl<F: Fn(u16) -> Vec<u8> + Send + Sync + 'static> Answers for Says<F> {
    fn answer(&self, _: Caller, topic: u16, _: Vec<u8>) -> transport::Answer {
        let body = (self.0)(topic);
        Box::pin(async move { (Status::Done, body) })
    }
}

/// A member, of whom there is nothing but its repository, and what it says; connected.
pub fn who_says(repo: &Repo, nonce: u64, to: &Node, says: impl Answers) -> Transport {
    let seed = Identity::load(&**repo.store.vfs()).unwrap().seed();
    let me = Me { repository: *repo.repository(), epoch: 1, nonce };
    let guard = std::sync::Mutex::new(Guard::new(Limits::default()));
    let shared = Shared { me, access: Arc::new(Everything::default()), guard };
    let store = Arc::clone(&repo.store);
    let net = Transport::start(&Config::new(seed), Arc::new(shared), store, Arc::new(says)).unwrap();
    net.connect(to.core.key, &to.addresses()).unwrap();
    eventually("it is there", || is_anybody_connected(to));
    net
}

/// Ends it.
pub fn leave(net: Transport, from: &Node) {
    net.shutdown(Duration::from_millis(200));
    eventually("it is gone", || !is_anybody_connected(from));
}

fn is_anybody_connected(node: &Node) -> bool {
    node.core.transport().unwrap().connections().iter().any(|it| it.is_connected)
}

/// What a member says when it is asked how it is, is believed of itself at most; and nonsense is no answer.
#[test]
fn what_members_say_of_themselves() {
    let (_dir, one, _) = cluster();
    let two = join(invite(&one, Role::Reader), "two");
    let repo = open(&two.0.join("repo"));
    let leads = About { applied: u64::MAX, held: None, leader: Some(NodeId(2)), clock: u64::MAX };
    let nonsense = [vec![0xff; 1 << 20], Vec::new(), [encode(&Answer::Held), vec![0]].concat(), encode(&Answer::Held)];
    for (nonce, said) in (1..).zip([encode(&Answer::About(leads))].into_iter().chain(nonsense)) {
        let net = who_says(&repo, nonce, &one, Says(move |_| said.clone()));
        let shown = peers(&one);
        assert!(shown.iter().all(|peer| peer.is_leader == (peer.node == 1)), "{shown:?}");
        assert_eq!(shown[1].is_reachable, nonce == 1, "{shown:?}");
        leave(net, &one);
    }
    one.shutdown();
}
