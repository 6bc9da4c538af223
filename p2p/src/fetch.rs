//! Fetching the closure of a root from several peers into a store: first the metadata by a walk, then the chunks.
//!
//! A state machine: messages of peers and the time go in, actions come out; the store is read and written underneath.
//! Whatever has arrived is verified and stored, so that the same fetch, begun again, goes on where it stopped. What it
//! relies on is claimed by the session; the base must be a root of the caller's own as long as that lives. Nothing
//! becomes a root by a fetch: that is the caller's business, after a walk over the closure.
//!
//! What nobody has ends a fetch, unless the caller says that it may be done [`Without`]. Then all peers are asked first; that
//! none of them has it is what they say, and no proof.

mod spool;
mod walking;
mod without;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Duration;

use filesync_cas::relay::StoredFrame;
use filesync_cas::store::Accepted;
use filesync_cas::{ContentHash, Kind, PutError, Session, Store};
use filesync_merkle::MerkleSchema;

use crate::error::{FetchError, Refusal};
use crate::message::{Message, Walk};
use crate::peer::PeerKey;
use crate::source::StoreSource;
use crate::swarm::{Lie, Swarm};
use crate::tour::Tour;
use crate::wants::WantedChildren;
use crate::wire::Moment;
use walking::Walking;
pub use without::Without;

/// The least time to wait for before looking again.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// What is to be done with peers.
#[derive(Debug)]
pub enum Action {
    /// Send this to a peer.
    Send(PeerKey, Message),
    /// Have this verified and stored, on any thread; hand the [`Outcome`] to [`Fetch::stored`].
    Verify(Job),
    /// Close the stream of a peer, which is not asked again.
    Drop {
        /// Which.
        peer: PeerKey,
        /// Why.
        why: String,
        /// It broke the protocol, rather than being slow.
        lied: bool,
    },
}

/// A frame that came, to be verified and stored.
#[derive(Debug)]
pub struct Job {
    peer: PeerKey,
    frame: StoredFrame,
}

/// What became of a [`Job`].
#[derive(Debug)]
pub struct Outcome {
    peer: PeerKey,
    slots: Vec<filesync_cas::frame::Slot>,
    result: Result<Accepted, JobError>,
}

#[derive(Debug)]
enum JobError {
    Lie(String),
    Put(PutError),
}

impl Job {
    /// Bytes of the frame.
    pub fn frame_len(&self) -> usize {
        self.frame.bytes().len()
    }

    /// Decompresses, hashes and stores: the long part, which touches nothing but the store.
    pub fn run(self, session: &Session<'_>) -> Outcome {
        let slots = self.frame.slots().to_vec();
        let verified = self.frame.verify(&MerkleSchema).map_err(JobError::Lie);
        let result = verified.and_then(|frame| session.put_frame(&frame).map_err(JobError::Put));
        Outcome { peer: self.peer, slots, result }
    }
}

/// What a fetch did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FetchStats {
    /// Metadata objects that came.
    pub nodes: u64,
    /// Objects that came in frames.
    pub objects: u64,
    /// Objects that were not there before, of both sorts.
    pub new_objects: u64,
    /// Their bytes.
    pub new_bytes: u64,
    /// Bytes of messages that came.
    pub received: u64,
    /// Bytes of messages that were sent.
    pub sent: u64,
    /// Frames that were stored as they came.
    pub whole_frames: u64,
    /// All frames.
    pub frames: u64,
    /// What came, by who sent it.
    pub by_peer: BTreeMap<PeerKey, FromPeer>,
    /// Requests for walks.
    pub walks: u64,
    /// Requests for objects.
    pub gets: u64,
    /// What nobody who was asked had, and was done without.
    pub lacking: Vec<(Kind, ContentHash)>,
}

/// What came from one peer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FromPeer {
    /// Bytes of messages.
    pub bytes: u64,
    /// Objects that came in frames.
    pub objects: u64,
    /// Requests of which the answer began.
    pub answers: u64,
    /// How long these beginnings took, all together.
    pub waited: Duration,
}

enum Phase<'s> {
    Walking(Box<Walking<'s>>),
    Getting { tour: Box<Tour>, all_offered: bool },
    Done,
}

/// One fetch.
pub struct Fetch<'s> {
    store: &'s Store,
    session: &'s Session<'s>,
    walk: Walk,
    without: Without,
    /// Nodes that were done without, and chunks.
    given_up: HashMap<ContentHash, Kind>,
    phase: Phase<'s>,
    swarm: Swarm,
    /// Who can be asked. What comes of others came too late.
    peers: BTreeSet<PeerKey>,
    actions: VecDeque<Action>,
    stats: FetchStats,
    /// Who was asked, and when, and has not begun to answer.
    asked: BTreeMap<PeerKey, Moment>,
    /// Frames that are being verified.
    verifying: usize,
    last_lost: Option<(PeerKey, String)>,
}

impl std::fmt::Debug for Fetch<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fetch").field("walk", &self.walk).field("stats", &self.stats).finish_non_exhaustive()
    }
}

impl<'s> Fetch<'s> {
    /// Begins: goes over what is here already, which may take a while; if that is everything, it is done, and nobody need be asked. Of
    /// the walk, `from` does not count.
    pub fn new(store: &'s Store, session: &'s Session<'s>, walk: Walk) -> Result<Self, FetchError> {
        let mut fetch = Self {
            store,
            session,
            phase: Phase::Walking(Box::new(Walking::new(store, session, &walk))),
            walk,
            without: Without::Nothing,
            given_up: HashMap::new(),
            swarm: Swarm::default(),
            peers: BTreeSet::new(),
            actions: VecDeque::new(),
            stats: FetchStats::default(),
            asked: BTreeMap::new(),
            verifying: 0,
            last_lost: None,
        };
        fetch.restart()?;
        fetch.fill()?;
        if let Phase::Getting { all_offered: true, .. } = fetch.phase
            && fetch.swarm.is_empty()
        {
            fetch.phase = Phase::Done;
        }
        Ok(fetch)
    }

    /// Says what may be done without. Before anybody joins.
    #[must_use]
    pub fn without(mut self, without: Without) -> Self {
        if let Phase::Walking(walking) = &mut self.phase {
            walking.without(without.clone());
        }
        self.without = without;
        self
    }

    /// A stream to this peer is open and welcome.
    pub fn join(&mut self, peer: PeerKey, now: Moment) {
        self.peers.insert(peer);
        self.swarm.join(peer, now);
        if let Phase::Walking(walking) = &mut self.phase {
            walking.join(peer);
        }
    }

    /// The stream to a peer is gone.
    pub fn leave(&mut self, peer: &PeerKey, why: &str) -> Result<(), FetchError> {
        if !self.peers.remove(peer) {
            return Ok(());
        }
        self.last_lost = Some((*peer, why.to_owned()));
        self.swarm.leave(peer);
        self.asked.remove(peer);
        if let Phase::Walking(walking) = &mut self.phase
            && walking.leave(peer)
        {
            self.restart()?;
        }
        Ok(())
    }

    fn drop_peer(&mut self, peer: &PeerKey, why: String, lied: bool) -> Result<(), FetchError> {
        if self.peers.contains(peer) {
            self.leave(peer, &why)?;
            self.actions.push_back(Action::Drop { peer: *peer, why, lied });
        }
        Ok(())
    }

    /// Whether everything is here.
    pub fn is_done(&self) -> bool {
        matches!(self.phase, Phase::Done)
    }

    /// What has been done so far.
    pub fn stats(&self) -> FetchStats {
        // Some may have come by another request.
        let is_missing = |id: &ContentHash| !self.session.holds(id).unwrap_or(false);
        let lacking = self.given_up.iter().filter(|(id, _)| self.is_done() && is_missing(id));
        FetchStats { lacking: lacking.map(|(id, kind)| (*kind, *id)).collect(), ..self.stats.clone() }
    }

    /// Goes over what is here, from the beginning; asks for a walk from there, or goes on to the chunks.
    fn restart(&mut self) -> Result<(), FetchError> {
        if let Phase::Walking(walking) = &mut self.phase
            && walking.restart()?
        {
            self.begin_getting();
        }
        Ok(())
    }

    fn begin_getting(&mut self) {
        if let Phase::Walking(walking) = &mut self.phase {
            (self.walk.base, self.given_up) = (walking.base(), walking.take_given_up());
        }
        let tour = Tour::new(&self.walk).again(self.without.again());
        self.phase = Phase::Getting { tour: Box::new(tour), all_offered: false };
    }

    /// A message came from a peer.
    pub fn receive(&mut self, peer: &PeerKey, message: Message, len: usize, now: Moment) -> Result<(), FetchError> {
        self.stats.received += len as u64;
        let from = self.stats.by_peer.entry(*peer).or_default();
        from.bytes += len as u64;
        if let Some(asked) = self.asked.remove(peer) {
            from.answers += 1;
            from.waited += now.saturating_sub(asked);
        }
        if !self.peers.contains(peer) {
            return Ok(());
        }
        let lie = match message {
            Message::Frame(bytes) => self.frame(peer, bytes, now),
            Message::GetEnd { sent } => self.swarm.ended(peer, sent, now),
            Message::Refused(refusal) if !self.is_walking_with(peer) => {
                self.swarm.refused(peer, refusal == Refusal::Busy, now)
            }
            message => return self.walked(peer, message, now),
        };
        match lie {
            Ok(()) => Ok(()),
            Err(Lie(why)) => self.drop_peer(peer, why, true),
        }
    }

    fn is_walking_with(&self, peer: &PeerKey) -> bool {
        matches!(&self.phase, Phase::Walking(walking) if walking.is_with(peer))
    }

    fn walked(&mut self, peer: &PeerKey, message: Message, now: Moment) -> Result<(), FetchError> {
        let Phase::Walking(walking) = &mut self.phase else {
            return self.drop_peer(peer, "a message that was not asked for".to_owned(), true);
        };
        match walking.receive(peer, message, &mut self.stats, now)? {
            walking::Then::GoOn => Ok(()),
            walking::Then::Complete => {
                self.begin_getting();
                Ok(())
            }
            walking::Then::Restart => self.restart(),
            walking::Then::Drop(why) => self.drop_peer(peer, why, true),
        }
    }

    fn frame(&mut self, peer: &PeerKey, bytes: Vec<u8>, now: Moment) -> Result<(), Lie> {
        let frame = StoredFrame::parse(bytes).map_err(Lie)?;
        self.swarm.arrived(peer, frame.slots(), now)?;
        self.verifying += 1;
        self.actions.push_back(Action::Verify(Job { peer: *peer, frame }));
        Ok(())
    }

    /// A frame has been looked at.
    pub fn stored(&mut self, outcome: Outcome) -> Result<(), FetchError> {
        self.verifying -= 1;
        let Outcome { peer, slots, result } = outcome;
        match result {
            Ok(accepted) => {
                self.stats.frames += 1;
                self.stats.whole_frames += u64::from(accepted.whole);
                self.stats.objects += slots.len() as u64;
                self.stats.by_peer.entry(peer).or_default().objects += slots.len() as u64;
                self.stats.new_objects += accepted.new_objects;
                self.stats.new_bytes += accepted.new_bytes;
                self.swarm.stored(&peer, &slots);
                Ok(())
            }
            Err(JobError::Lie(why)) => self.drop_peer(&peer, why, true),
            Err(JobError::Put(error)) => Err(error.into()),
        }
    }

    /// What is to be done next; `None` if nothing is before something comes or the deadline passes. An error ends the fetch.
    pub fn poll(&mut self, now: Moment) -> Result<Option<Action>, FetchError> {
        if let Some(action) = self.actions.pop_front() {
            return Ok(Some(action));
        }
        let message = match &mut self.phase {
            Phase::Done => None,
            Phase::Walking(walking) => {
                if self.swarm.peers() == 0 {
                    return Err(FetchError::NoPeers { last: self.last_lost.take() });
                }
                let asked = walking.ask(now)?;
                self.stats.walks += u64::from(asked.is_some());
                asked.map(|(peer, walk)| (peer, Message::Walk(walk)))
            }
            Phase::Getting { .. } => {
                let without = &self.without;
                self.given_up.extend(self.swarm.give_up(|kind, id| without.allows(kind, id)));
                self.fill()?;
                let session = self.session;
                let asked = self.swarm.ask(now, |id| session.holds(id))?;
                self.stats.gets += u64::from(asked.is_some());
                if asked.is_none() {
                    self.look_whether_it_ends()?;
                }
                asked.map(|(peer, get)| (peer, Message::Get(get)))
            }
        };
        Ok(message.map(|(peer, message)| {
            self.stats.sent += message.encode().len() as u64;
            self.asked.entry(peer).or_insert(now);
            Action::Send(peer, message)
        }))
    }

    fn look_whether_it_ends(&mut self) -> Result<(), FetchError> {
        let Phase::Getting { all_offered, .. } = self.phase else { return Ok(()) };
        if self.verifying > 0 {
            return Ok(());
        }
        if all_offered && self.swarm.is_empty() {
            self.phase = Phase::Done;
        } else if self.swarm.peers() == 0 {
            return Err(FetchError::NoPeers { last: self.last_lost.take() });
        } else if let Some(id) = self.swarm.stuck_on() {
            return Err(FetchError::Missing(id));
        }
        Ok(())
    }

    /// Offers wants, node after node, as many as the swarm wants to have ahead.
    fn fill(&mut self) -> Result<(), FetchError> {
        let Phase::Getting { tour, all_offered } = &mut self.phase else { return Ok(()) };
        let source = StoreSource(self.store);
        while !*all_offered && self.swarm.is_hungry() {
            let Some(next) = tour.next(&source)? else {
                self.swarm.close_share();
                *all_offered = true;
                return Ok(());
            };
            if self.given_up.contains_key(&next.id) {
                tour.skip()?;
                continue;
            }
            let bytes = filesync_merkle::NodeSource::get(&source, next.kind, &next.id)?;
            let mut wants = tour.give(&bytes, &source)?;
            let mut here = Vec::with_capacity(wants.len());
            for want in &wants {
                here.push(self.session.holds(&want.id)?);
            }
            let mut here = here.into_iter();
            wants.retain(|_| !here.next().unwrap_or(false));
            if !wants.is_empty() {
                let (root, path) = tour.place();
                self.swarm.offer(WantedChildren { root, path: path.to_vec(), wants });
            }
        }
        Ok(())
    }

    /// Time has passed and nothing came.
    pub fn tick(&mut self, now: Moment) -> Result<(), FetchError> {
        let mut stalled = self.swarm.stalled(now);
        if let Phase::Walking(walking) = &self.phase {
            stalled.extend(walking.stalled(now));
        }
        for peer in stalled {
            self.drop_peer(&peer, "it sends nothing, or next to nothing".to_owned(), false)?;
        }
        Ok(())
    }

    /// We did not read what peers sent: that nothing came up to now is no fault of theirs.
    pub fn was_deaf(&mut self, now: Moment) {
        self.swarm.was_deaf(now);
        if let Phase::Walking(walking) = &mut self.phase {
            walking.was_deaf(now);
        }
    }

    /// When [`Fetch::tick`] is to be called though nothing came.
    pub fn deadline(&self, now: Moment) -> Option<Moment> {
        let walking = match &self.phase {
            Phase::Walking(walking) => walking.deadline(),
            _ => None,
        };
        let next = [walking, self.swarm.deadline()].into_iter().flatten().min()?;
        Some(next.max(now + LOOK_AGAIN))
    }

    /// The request that is being followed; once nodes are here, its base is gone if no peer had it.
    pub fn request(&self) -> &Walk {
        &self.walk
    }
}
