//! Peers in one thread: bytes go over lines that are slow, cut messages anywhere, and break.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::testing::Rng;
use filesync_cas::{Session, Store};

use crate::ask::{AskError, Asking};
use crate::error::FetchError;
use crate::fetch::{Action, Fetch, FetchStats};
use crate::message::{Message, Side};
use crate::peer::{Class, PeerKey};
use crate::serve::{Me, Serving, Shared, Turn};
use crate::wire::{Inbox, Moment};

/// How a line behaves, in each direction.
#[derive(Debug, Clone)]
pub struct Line {
    /// From end to end.
    pub latency: Duration,
    /// The longest piece that arrives at once.
    pub piece: usize,
    /// Bytes a second.
    pub rate: Option<u64>,
    /// Breaks after so many bytes to the asker.
    pub cut_after: Option<u64>,
    /// Falls silent after so many bytes to the asker.
    pub mute_after: Option<u64>,
}

impl Default for Line {
    fn default() -> Self {
        Self { latency: Duration::from_millis(10), piece: 1 << 20, rate: None, cut_after: None, mute_after: None }
    }
}

/// Bytes under way in one direction.
#[derive(Debug, Default)]
struct Pipe {
    pieces: VecDeque<(Moment, Vec<u8>)>,
    free_at: Moment,
    total: u64,
}

impl Pipe {
    fn send(&mut self, line: &Line, rng: &mut Rng, bytes: &[u8], now: Moment) {
        for piece in pieces(bytes, line.piece, rng) {
            let time = line.rate.map_or(Duration::ZERO, |rate| {
                Duration::from_nanos((piece.len() as u64).saturating_mul(1_000_000_000) / rate)
            });
            self.free_at = self.free_at.max(now) + time;
            self.pieces.push_back((self.free_at + line.latency, piece.to_vec()));
            self.total += piece.len() as u64;
        }
    }

    fn arrived(&mut self, now: Moment) -> Option<Vec<u8>> {
        let (at, _) = self.pieces.front()?;
        if *at <= now { self.pieces.pop_front().map(|(_, bytes)| bytes) } else { None }
    }

    fn next(&self) -> Option<Moment> {
        self.pieces.front().map(|(at, _)| *at)
    }
}

fn pieces<'a>(bytes: &'a [u8], max: usize, rng: &mut Rng) -> Vec<&'a [u8]> {
    let mut rest = bytes;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let len = if max >= 1 << 20 { rest.len() } else { (1 + rng.index(max)).min(rest.len()) };
        let (piece, after) = rest.split_at(len);
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The other end of a line.
pub trait Remote {
    /// Bytes came.
    fn receive(&mut self, bytes: &[u8], now: Moment);
    /// What to send now; `None` if nothing. An error closes the line.
    fn turn(&mut self, now: Moment) -> Result<Option<Vec<u8>>, String>;
    /// When to be asked again, though nothing came.
    fn deadline(&self) -> Option<Moment>;
}

/// Answers as it should.
#[derive(Debug)]
pub struct Honest {
    serving: Serving,
    store: Arc<Store>,
    waits: Option<Moment>,
}

impl Honest {
    /// Answers `asker` from a store.
    pub fn new(shared: Arc<Shared>, store: Arc<Store>, asker: PeerKey) -> Self {
        Self::at(Duration::ZERO, shared, store, asker)
    }

    /// As [`Honest::new`], at some time.
    pub fn at(now: Moment, shared: Arc<Shared>, store: Arc<Store>, asker: PeerKey) -> Self {
        Self { serving: Serving::new(shared, asker, Class::Bulk, now), store, waits: None }
    }
}

impl Remote for Honest {
    fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.serving.receive(bytes, now);
    }

    fn turn(&mut self, now: Moment) -> Result<Option<Vec<u8>>, String> {
        self.waits = None;
        loop {
            match self.serving.turn(&self.store, now).map_err(|error| error.to_string())? {
                Turn::Send(bytes) => return Ok(Some(bytes)),
                Turn::Again => {}
                Turn::Read => {
                    if self.serving.deadline().is_some_and(|deadline| deadline <= now) {
                        return Err(self.serving.expire(now).to_string());
                    }
                    return Ok(None);
                }
                Turn::Wait(until) => {
                    self.waits = Some(until);
                    return Ok(None);
                }
                Turn::Call { .. } => return Err("a call on a bulk stream".to_owned()),
                Turn::Close => return Err("closed".to_owned()),
            }
        }
    }

    fn deadline(&self) -> Option<Moment> {
        self.waits.or(self.serving.deadline())
    }
}

/// Answers by a script: from a message that came to bytes that are sent.
pub struct Scripted<F> {
    inbox: Inbox,
    script: F,
    out: VecDeque<Vec<u8>>,
}

impl<F: FnMut(Message) -> Vec<Vec<u8>>> Scripted<F> {
    /// Answers by this script.
    pub fn new(script: F) -> Self {
        Self { inbox: Inbox::new(Class::Bulk, Side::Asker), script, out: VecDeque::new() }
    }
}

impl<F: FnMut(Message) -> Vec<Vec<u8>>> Remote for Scripted<F> {
    fn receive(&mut self, bytes: &[u8], now: Moment) {
        self.inbox.push(bytes, now);
        while let Ok(Some(message)) = self.inbox.next(now) {
            self.out.extend((self.script)(message));
        }
    }

    fn turn(&mut self, _: Moment) -> Result<Option<Vec<u8>>, String> {
        Ok(self.out.pop_front())
    }

    fn deadline(&self) -> Option<Moment> {
        None
    }
}

struct Wired {
    line: Line,
    remote: Box<dyn Remote>,
    asking: Asking,
    to: Pipe,
    from: Pipe,
    is_open: bool,
}

/// What happens beside a fetch while time passes: how much does, and how far it is; whose lines break then.
pub type Pass<'a> = &'a mut dyn FnMut(Duration, &FetchStats) -> Result<Vec<PeerKey>, FetchError>;

/// A network of lines from one asker.
pub struct Net {
    now: Moment,
    me: Me,
    rng: Rng,
    wires: BTreeMap<PeerKey, Wired>,
    /// Who was dropped for a breach of the protocol, and why.
    pub blamed: Vec<(PeerKey, String)>,
    /// Whoever was lost otherwise, and why.
    pub lost: Vec<(PeerKey, String)>,
    /// Ends a run that would go on.
    pub time_max: Duration,
}

impl std::fmt::Debug for Net {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Net").field("now", &self.now).finish_non_exhaustive()
    }
}

impl Net {
    /// Nobody is there.
    pub fn new(me: Me, seed: u64) -> Self {
        Self::at(Duration::ZERO, me, seed)
    }

    /// As [`Net::new`], at some time.
    pub fn at(now: Moment, me: Me, seed: u64) -> Self {
        Self {
            now,
            me,
            rng: Rng::new(seed),
            wires: BTreeMap::new(),
            blamed: Vec::new(),
            lost: Vec::new(),
            time_max: now + Duration::from_secs(3600),
        }
    }

    /// A line to a peer.
    pub fn connect(&mut self, peer: PeerKey, line: Line, remote: impl Remote + 'static) {
        let (asking, hello) = Asking::new(self.me, Class::Bulk, self.now);
        let mut to = Pipe::default();
        to.send(&line, &mut self.rng, &hello, self.now);
        let remote = Box::new(remote);
        self.wires.insert(peer, Wired { line, remote, asking, to, from: Pipe::default(), is_open: true });
    }

    /// What time it is.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// Bytes that were sent to a peer, and that it sent.
    pub fn bytes(&self, peer: &PeerKey) -> (u64, u64) {
        self.wires.get(peer).map_or((0, 0), |wire| (wire.to.total, wire.from.total))
    }

    /// Runs a fetch to its end, over all lines that are open.
    pub fn run(&mut self, fetch: &mut Fetch<'_>, session: &Session<'_>) -> Result<(), FetchError> {
        self.run_beside(fetch, session, &mut |_, _| Ok(Vec::new()))
    }

    /// As [`Net::run`], beside something else that happens while time passes: it is told how much does, and tells whose lines break.
    pub fn run_beside(
        &mut self,
        fetch: &mut Fetch<'_>,
        session: &Session<'_>,
        pass: Pass<'_>,
    ) -> Result<(), FetchError> {
        let open: Vec<PeerKey> = self.wires.iter().filter(|(_, wire)| wire.is_open).map(|(peer, _)| *peer).collect();
        open.iter().for_each(|peer| fetch.join(*peer, self.now));
        while !fetch.is_done() {
            assert!(self.now < self.time_max, "it goes on and on: {fetch:?}");
            let moved = self.act(fetch, session)? | self.answer() | self.deliver(fetch)?;
            if fetch.is_done() {
                break;
            }
            if !moved {
                let before = self.now;
                self.sleep(fetch)?;
                for peer in pass(self.now - before, &fetch.stats())? {
                    self.cut(&peer, fetch)?;
                }
            }
        }
        Ok(())
    }

    /// Carries out what the fetch wants.
    fn act(&mut self, fetch: &mut Fetch<'_>, session: &Session<'_>) -> Result<bool, FetchError> {
        let mut moved = false;
        while let Some(action) = fetch.poll(self.now)? {
            moved = true;
            match action {
                Action::Send(peer, message) => {
                    if let Some(wire) = self.wires.get_mut(&peer).filter(|wire| wire.is_open) {
                        wire.to.send(&wire.line, &mut self.rng, &message.encode(), self.now);
                    }
                }
                Action::Verify(job) => fetch.stored(job.run(session))?,
                Action::Drop { peer, why, lied } => {
                    if let Some(wire) = self.wires.get_mut(&peer) {
                        wire.is_open = false;
                    }
                    let list = if lied { &mut self.blamed } else { &mut self.lost };
                    list.push((peer, why));
                }
            }
        }
        Ok(moved)
    }

    /// Lets the other ends answer what has reached them.
    fn answer(&mut self) -> bool {
        let mut moved = false;
        for wire in self.wires.values_mut().filter(|wire| wire.is_open) {
            while let Some(bytes) = wire.to.arrived(self.now) {
                wire.remote.receive(&bytes, self.now);
                moved = true;
            }
            loop {
                match wire.remote.turn(self.now) {
                    Ok(Some(bytes)) => wire.from.send(&wire.line, &mut self.rng, &bytes, self.now),
                    Ok(None) => break,
                    Err(_) => {
                        // What was sent before still arrives.
                        wire.line.cut_after = Some(wire.line.cut_after.unwrap_or(u64::MAX).min(wire.from.total));
                        break;
                    }
                }
                moved = true;
            }
        }
        moved
    }

    /// Hands over what has come back.
    fn deliver(&mut self, fetch: &mut Fetch<'_>) -> Result<bool, FetchError> {
        let mut moved = false;
        let peers: Vec<PeerKey> = self.wires.keys().copied().collect();
        for peer in peers {
            let mut end: Option<(bool, String)> = None;
            let Some(wire) = self.wires.get_mut(&peer).filter(|wire| wire.is_open) else { continue };
            let mut messages = Vec::new();
            while let Some(mut bytes) = wire.from.arrived(self.now) {
                moved = true;
                let before = wire.from.total - wire.from.pieces.iter().map(|(_, it)| it.len() as u64).sum::<u64>();
                let begin = before - bytes.len() as u64;
                if let Some(cut) = wire.line.mute_after {
                    bytes.truncate(usize::try_from(cut.saturating_sub(begin)).unwrap_or(usize::MAX));
                }
                let cut = wire.line.cut_after.unwrap_or(u64::MAX);
                bytes.truncate(usize::try_from(cut.saturating_sub(begin)).unwrap_or(usize::MAX));
                wire.asking.receive(&bytes, self.now);
                loop {
                    match wire.asking.next(self.now) {
                        Ok(Some(message)) => messages.push(message),
                        Ok(None) => break,
                        Err(AskError::Wire(error)) => {
                            end.get_or_insert((true, error.to_string()));
                            break;
                        }
                        Err(error) => {
                            end.get_or_insert((false, error.to_string()));
                            break;
                        }
                    }
                }
                if end.is_some() {
                    break;
                }
                if before >= cut {
                    end = Some((false, "the line is cut".to_owned()));
                    break;
                }
            }
            let is_cut = wire.line.cut_after.is_some_and(|cut| cut <= wire.from.total && wire.from.pieces.is_empty());
            if is_cut && end.is_none() {
                end = Some((false, "the line is cut".to_owned()));
            }
            if end.is_some() {
                wire.is_open = false;
                moved = true;
            }
            for message in messages {
                let len = message.encoded_len();
                fetch.receive(&peer, message, len, self.now)?;
            }
            if let Some((lied, why)) = end {
                fetch.leave(&peer, &why)?;
                let list = if lied { &mut self.blamed } else { &mut self.lost };
                list.push((peer, why));
            }
        }
        Ok(moved)
    }

    /// Breaks a line.
    fn cut(&mut self, peer: &PeerKey, fetch: &mut Fetch<'_>) -> Result<(), FetchError> {
        let Some(wire) = self.wires.get_mut(peer).filter(|wire| wire.is_open) else { return Ok(()) };
        wire.is_open = false;
        let why = "the line is cut";
        self.lost.push((*peer, why.to_owned()));
        fetch.leave(peer, why)
    }

    /// Lets time pass until something happens.
    fn sleep(&mut self, fetch: &mut Fetch<'_>) -> Result<(), FetchError> {
        let open = || self.wires.values().filter(|wire| wire.is_open);
        let arrivals = open().flat_map(|wire| [wire.to.next(), wire.from.next()]).flatten();
        let remotes = open().filter_map(|wire| wire.remote.deadline());
        let asking = open().filter_map(|wire| wire.asking.deadline());
        let next = arrivals.chain(remotes).chain(asking).chain(fetch.deadline(self.now)).min();
        let next = next.unwrap_or(self.now + Duration::from_secs(1));
        self.now = next.max(self.now + Duration::from_micros(1));
        let late: Vec<PeerKey> = self
            .wires
            .iter()
            .filter(|(_, wire)| wire.is_open && wire.asking.deadline().is_some_and(|at| at <= self.now))
            .map(|(peer, _)| *peer)
            .collect();
        for peer in late {
            if let Some(wire) = self.wires.get_mut(&peer) {
                wire.is_open = false;
            }
            self.lost.push((peer, "a message took too long".to_owned()));
            fetch.leave(&peer, "a message took too long")?;
        }
        fetch.tick(self.now)
    }
}
