//! Real sockets on loopback: two and three nodes in one process. What hostile peers can do is mostly tried with the rules, which need no sockets.

mod answers;
mod apart;
mod calls;
mod crowds;
mod fetch;
mod members;
mod raw;
mod wire;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_merkle::{CommitId, Parts, RepoPath};
use filesync_p2p::guard::{Guard, Limits};
use filesync_p2p::message::topics::{JOIN, PUBLISH, RAFT};
use filesync_p2p::serve::{Me, Shared};
use filesync_p2p::testing::{Everything, Repo, Tree};
use filesync_p2p::transport::{
    Answer, Answers, CallError, Caller, Config, ConnectError, StartError, Transport, TurnedAway,
};
use filesync_p2p::{Access, Class, FetchError, FetchStats, PeerKey, Refusal, Role, Root, Scope, Status, Walk, Without};

const WAIT: Duration = Duration::from_secs(20);

/// Says what it was asked, after as many milliseconds as the first byte says.
struct Echo;

impl Answers for Echo {
    fn answer(&self, _: Caller, _: u16, body: Vec<u8>) -> Answer {
        Box::pin(async move {
            let time = body.first().map_or(0, |time| u64::from(*time));
            tokio::time::sleep(Duration::from_millis(time)).await;
            (Status::Done, body)
        })
    }
}

/// Members that come and go; whoever asks to join becomes a writer, if somebody is expected.
#[derive(Default)]
struct Club {
    roles: Mutex<BTreeMap<PeerKey, Role>>,
    is_open: AtomicBool,
}

impl Club {
    fn set(&self, peer: PeerKey, role: Role) {
        self.roles.lock().expect("not poisoned").insert(peer, role);
    }
}

impl Access for Club {
    fn role(&self, peer: &PeerKey) -> Role {
        self.roles.lock().expect("not poisoned").get(peer).copied().unwrap_or(Role::Stranger)
    }
    fn expects_joiners(&self) -> bool {
        self.is_open.load(Ordering::Relaxed)
    }
    fn scope(&self, peer: &PeerKey, _: &Root) -> Scope {
        if self.role(peer).is_member() { Scope::All } else { Scope::Nothing }
    }
    fn may_call(&self, peer: &PeerKey, _: u16) -> bool {
        self.role(peer) >= Role::Writer
    }
}

/// Takes in who asks, and tells everybody what he is.
struct Doorman(Arc<Club>);

impl Answers for Doorman {
    fn answer(&self, caller: Caller, topic: u16, body: Vec<u8>) -> Answer {
        assert_ne!(body, b"panic", "as it was told to");
        if topic == JOIN {
            self.0.set(caller.key, Role::Writer);
        }
        let long = vec![0; if body == b"long" { 2 << 20 } else { 0 }];
        let said = [format!("{:?}", caller.role).into_bytes(), long].concat();
        Box::pin(async move { (Status::Done, said) })
    }
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < WAIT, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

struct Node {
    repo: Repo,
    net: Option<Transport>,
    shared: Option<Arc<Shared>>,
    seed: u8,
    /// After what time of silence another is taken for dead.
    dead_after: Duration,
}

impl Node {
    fn new(seed: u8) -> Self {
        Self::with(seed, Everything::default())
    }

    fn with(seed: u8, access: impl Access + 'static) -> Self {
        Self::answering(seed, Arc::new(access), Arc::new(Echo))
    }

    fn answering(seed: u8, access: Arc<dyn Access>, answers: Arc<dyn Answers>) -> Self {
        Self::patient(seed, access, answers, Duration::from_secs(2))
    }

    fn patient(seed: u8, access: Arc<dyn Access>, answers: Arc<dyn Answers>, dead_after: Duration) -> Self {
        let mut node = Self { repo: Repo::new(), net: None, shared: None, seed, dead_after };
        node.start("127.0.0.1:0", access, answers).expect("starts");
        node
    }

    fn start_at(&mut self, addr: &str) -> Result<(), StartError> {
        self.start(addr, Arc::new(Everything::default()), Arc::new(Echo))
    }

    fn start(&mut self, addr: &str, access: Arc<dyn Access>, answers: Arc<dyn Answers>) -> Result<(), StartError> {
        let listen = vec![addr.parse().expect("an address")];
        let config = Config { listen, dead_after: self.dead_after, ..Config::new([self.seed; 32]) };
        let nonce =
            u64::from_le_bytes(*filesync_cas::vfs::temp_name().expect("random").as_bytes().last_chunk().expect("long"));
        let me = Me { repository: Repo::id(), epoch: 1, nonce };
        let guard = Mutex::new(Guard::new(Limits::default()));
        let shared = Arc::new(Shared { me, access, guard });
        self.net = Some(Transport::start(&config, Arc::clone(&shared), Arc::clone(&self.repo.store), answers)?);
        self.shared = Some(shared);
        Ok(())
    }

    fn net(&self) -> &Transport {
        self.net.as_ref().expect("it is on the network")
    }

    fn key(&self) -> PeerKey {
        self.net().key()
    }

    fn addr(&self) -> String {
        self.net().listening()[0].to_string()
    }

    fn is_connected(&self, peer: PeerKey) -> bool {
        self.net().connections().iter().any(|it| it.peer == peer && it.is_connected)
    }

    #[track_caller]
    fn connect(&self, other: &Node) {
        self.net().connect(other.key(), &[other.addr()]).expect("connected");
    }

    fn fetch(
        &self,
        head: CommitId,
        peers: &[PeerKey],
        progress: &mut dyn FnMut(&FetchStats),
    ) -> (Result<(), FetchError>, FetchStats) {
        self.fetch_unless(&AtomicBool::new(false), head, peers, progress)
    }

    fn fetch_unless(
        &self,
        cancel: &AtomicBool,
        head: CommitId,
        peers: &[PeerKey],
        progress: &mut dyn FnMut(&FetchStats),
    ) -> (Result<(), FetchError>, FetchStats) {
        let walk = Walk {
            root: Root::Commit(head),
            base: None,
            history: true,
            path: RepoPath::root(),
            parts: Parts::whole(),
            from: 0,
        };
        let session = self.repo.store.session().expect("a session");
        let fetched = self.net().fetch(&session, &self.repo.store, walk, Without::Nothing, peers, cancel, progress);
        self.repo.finish(session);
        fetched
    }
}

fn some_tree(seed: u64, large: usize) -> Tree {
    let mut rng = Rng::new(seed);
    let mut tree: Tree = BTreeMap::new();
    let path = |text: &str| RepoPath::parse(text.as_bytes()).expect("a path");
    for n in 0..300 {
        let text = format!("words of file {n} and seed {seed}, ").into_bytes().repeat(1 + rng.index(100));
        tree.insert(path(&format!("dir {}/sub {}/file {n}", n % 7, n % 3)), text);
    }
    tree.insert(path("large"), rng.bytes(large));
    tree
}
