//! The network: what is sent is lost, late, comes twice, and is stopped at cuts. Each way from node to node has chances of its own, so that what
//! happens on one does not depend on who came first on another. Walk and Get go by the state machines of `filesync_p2p`, over lines of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filesync_cas::{Session, Store};
use filesync_p2p::error::Refusal;
use filesync_p2p::fetch::Without;
use filesync_p2p::peer::is_admitted;
use filesync_p2p::serve::Shared;
use filesync_p2p::testing::{Honest, Line, Net as Lines};
use filesync_p2p::transport::{Answers, CallError, Caller, ConnectError, Connection, Net, Sent, Traffic, TurnedAway};
use filesync_p2p::{Class, Fetch, FetchError, FetchStats, PeerKey, Role, Status, Walk};
use filesync_raft_log::testing::Numbers;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::fiber;
use super::settings::Settings;
use super::world::{Life, World};

/// After how long who connects in vain notices it.
const LOST: Duration = Duration::from_millis(500);

/// A node that lives, as others reach it.
#[derive(Clone)]
pub struct Endpoint {
    pub life: Life,
    pub shared: Arc<Shared>,
    pub store: Arc<Store>,
    pub answers: Arc<dyn Answers>,
}

/// All ways.
pub struct Weather(Mutex<Inner>);

struct Inner {
    numbers: Numbers,
    ends: BTreeMap<PeerKey, Endpoint>,
    ways: BTreeMap<(usize, usize), Numbers>,
    /// From and to.
    cut: BTreeSet<(usize, usize)>,
    lost: u64,
    delay: u64,
}

/// What becomes of something that is sent and not lost.
struct Fate {
    delay: Duration,
    is_repeated: bool,
}

impl Weather {
    /// A calm one.
    pub fn new(numbers: Numbers) -> Self {
        let (ends, ways, cut) = Default::default();
        Self(Mutex::new(Inner { numbers, ends, ways, cut, lost: 0, delay: 1 }))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From here on it misbehaves.
    pub fn misbehave(&self, settings: &Settings) {
        let mut inner = self.inner();
        (inner.lost, inner.delay) = (settings.lost, settings.delay);
    }

    /// From here on it does not, and nothing is cut.
    pub fn calm(&self) {
        let mut inner = self.inner();
        (inner.lost, inner.delay) = (0, 1);
        inner.cut.clear();
    }

    /// Other ways are cut than before.
    pub fn cut(&self, ways: BTreeSet<(usize, usize)>) {
        self.inner().cut = ways;
    }

    /// A node can be reached.
    pub fn attach(&self, endpoint: Endpoint) {
        self.inner().ends.insert(endpoint.life.key, endpoint);
    }

    /// Whoever has this key and lives.
    fn end(&self, key: &PeerKey) -> Option<Endpoint> {
        self.inner().ends.get(key).filter(|end| end.life.is_alive()).cloned()
    }

    /// Lets go of the dead: they hold their stores.
    pub fn forget(&self, life: &Life) {
        self.inner().ends.retain(|_, end| !end.life.is(life));
    }

    fn is_open(&self, from: usize, to: usize) -> bool {
        let inner = self.inner();
        !inner.cut.contains(&(from, to)) && !inner.cut.contains(&(to, from))
    }

    fn fate(&self, from: usize, to: usize) -> Option<Fate> {
        let mut guard = self.inner();
        let inner = &mut *guard;
        let seed = inner.numbers.0 ^ (from as u64) << 8 ^ to as u64;
        let numbers = inner.ways.entry((from, to)).or_insert_with(|| Numbers(seed).fork());
        // All are drawn in any case: a cut does not change what comes after it.
        let (is_lost, is_repeated) = (numbers.happens(inner.lost), numbers.happens(inner.lost));
        let (delay, is_late) = (numbers.below(inner.delay + 1), numbers.happens(20));
        let delay = Duration::from_millis(if is_late { delay * 10 } else { delay });
        let is_cut = inner.cut.contains(&(from, to));
        (!is_lost && !is_cut).then_some(Fate { delay, is_repeated })
    }
}

/// The network as one node has it.
pub struct End {
    pub world: Arc<World>,
    pub own: Endpoint,
}

impl Net for End {
    fn connecting(&self, peer: PeerKey, _: Vec<String>) -> Sent<Result<(), ConnectError>> {
        let (world, own) = (Arc::clone(&self.world), self.own.clone());
        Box::pin(async move {
            let there = world.net.end(&peer).filter(|there| world.net.is_open(own.life.machine, there.life.machine));
            match there {
                Some(_) if own.life.is_alive() => Ok(()),
                _ => {
                    sleep(LOST).await;
                    Err(ConnectError::Unreachable("nobody answers".to_owned()))
                }
            }
        })
    }

    fn call(
        &self,
        peer: PeerKey,
        class: Class,
        topic: u16,
        body: Vec<u8>,
        time: Duration,
    ) -> Sent<Result<(Status, Vec<u8>), CallError>> {
        let call = Call { world: Arc::clone(&self.world), own: self.own.clone(), class, topic, body };
        let until = Instant::now() + time;
        Box::pin(async move {
            let answer = timeout_at(until, call.carry(peer)).await.unwrap_or(Err(CallError::TimedOut));
            if answer == Err(CallError::TimedOut) {
                sleep_until(until).await;
            }
            answer
        })
    }

    fn fetch(
        &self,
        session: &Session<'_>,
        store: &Store,
        walk: Walk,
        without: Without,
        peers: &[PeerKey],
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> (Result<(), FetchError>, FetchStats) {
        match Fetch::new(store, session, walk) {
            Ok(fetch) => self.fetch_from(session, fetch.without(without), peers, cancel, progress),
            Err(error) => (Err(error), FetchStats::default()),
        }
    }

    fn listening(&self) -> Vec<SocketAddr> {
        vec![self.own.life.address()]
    }

    fn connections(&self) -> Vec<Connection> {
        Vec::new()
    }

    fn tasks(&self) -> usize {
        0
    }

    fn traffic(&self) -> BTreeMap<PeerKey, Traffic> {
        BTreeMap::new()
    }

    fn turned_away(&self) -> TurnedAway {
        TurnedAway::default()
    }

    fn shutdown(&self, _: Duration) {
        self.world.net.forget(&self.own.life);
    }
}

impl End {
    fn fetch_from(
        &self,
        session: &Session<'_>,
        mut fetch: Fetch<'_>,
        peers: &[PeerKey],
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> (Result<(), FetchError>, FetchStats) {
        let (world, own) = (&self.world, &self.own);
        let now = world.record.elapsed();
        let mut lines = Lines::at(now, own.shared.me, world.draw());
        let mut there = Vec::new();
        for peer in peers {
            let Some(end) = world.net.end(peer) else { continue };
            let is_let_in = is_admitted(&*end.shared.access, &own.life.key, Class::Bulk) && own.greets(&end).is_ok();
            if is_let_in && world.net.is_open(own.life.machine, end.life.machine) {
                let line = Line { latency: Duration::from_millis(1 + world.draw() % 20), ..Line::default() };
                let remote = Honest::at(now, Arc::clone(&end.shared), Arc::clone(&end.store), own.life.key);
                lines.connect(*peer, line, remote);
                there.push((*peer, end.life));
            }
        }
        world.record.note(format_args!("{} fetches from {}", own.life.machine, there.len()));
        let pass = &mut |time, stats: &FetchStats| {
            progress(stats);
            if fiber::is_one() {
                fiber::block_on(std::pin::pin!(sleep(time)));
            }
            if cancel.load(Ordering::Relaxed) || !own.life.is_alive() {
                return Err(FetchError::Cancelled);
            }
            let is_cut = |life: &Life| !life.is_alive() || !world.net.is_open(own.life.machine, life.machine);
            Ok(there.iter().filter(|(_, life)| is_cut(life)).map(|(peer, _)| *peer).collect())
        };
        let fetched = lines.run_beside(&mut fetch, session, pass);
        world.record.note(format_args!("{} fetched: {fetched:?}", own.life.machine));
        if let Some((_, why)) = lines.blamed.first() {
            world.record.broken(super::record::Promise::GoesOn, format!("an honest peer is blamed: {why}"));
        }
        (fetched, fetch.stats())
    }
}

impl Endpoint {
    /// Whether two lives speak of the same cluster.
    fn greets(&self, there: &Self) -> Result<(), Refusal> {
        let epoch = self.shared.me.epoch;
        if epoch != 0 && epoch != there.shared.me.epoch { Err(Refusal::Epoch) } else { Ok(()) }
    }
}

struct Call {
    world: Arc<World>,
    own: Endpoint,
    class: Class,
    topic: u16,
    body: Vec<u8>,
}

impl Call {
    async fn carry(self, peer: PeerKey) -> Result<(Status, Vec<u8>), CallError> {
        let net = &self.world.net;
        let from = self.own.life.machine;
        if !self.own.life.is_alive() {
            return Err(CallError::Closed);
        }
        let there = net.end(&peer).ok_or_else(|| CallError::Unreachable("it is down".to_owned()))?;
        let to = there.life.machine;
        let fate = net.fate(from, to).ok_or(CallError::TimedOut)?;
        sleep(fate.delay).await;
        if !there.life.is_alive() {
            return Err(CallError::Broken);
        }
        if fate.is_repeated {
            self.repeat(there.clone(), fate.delay * 3 + Duration::from_millis(5));
        }
        let answer = self.answered(&there).await;
        let back = net.fate(to, from).ok_or(CallError::TimedOut)?;
        sleep(back.delay).await;
        // What died before it could say so has said nothing.
        if there.life.is_alive() && self.own.life.is_alive() { answer } else { Err(CallError::Broken) }
    }

    async fn answered(&self, there: &Endpoint) -> Result<(Status, Vec<u8>), CallError> {
        let (access, key) = (&there.shared.access, self.own.life.key);
        self.own.greets(there).map_err(CallError::Refused)?;
        if !is_admitted(&**access, &key, self.class) {
            return Err(CallError::Refused(Refusal::Stranger));
        }
        if self.class != Class::Join && !access.may_call(&key, self.topic) {
            return Ok((Status::Refused, Vec::new()));
        }
        let role: Role = access.role(&key);
        let caller = Caller { key, role, class: self.class };
        Ok(there.answers.answer(caller, self.topic, self.body.clone()).await)
    }

    /// It comes a second time.
    fn repeat(&self, there: Endpoint, later: Duration) {
        let again = Self { world: Arc::clone(&self.world), own: self.own.clone(), body: self.body.clone(), ..*self };
        self.world.record.count("calls that came twice");
        tokio::spawn(async move {
            sleep(later).await;
            if there.life.is_alive() {
                drop(again.answered(&there).await);
            }
        });
    }
}
