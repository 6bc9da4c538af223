//! The first half of a fetch: metadata, from one peer at a time, in the order of the walk.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::{ContentHash, Kind, Session, Store};
use filesync_merkle::NodeSource;

use super::FetchStats;
use super::spool::{Overlay, Spool};
use super::without::Without;
use crate::error::{FetchError, Refusal, TourError, WireError};
use crate::message::{Message, Walk};
use crate::pace::Pace;
use crate::peer::PeerKey;
use crate::swarm::STALL_TIME;
use crate::tour::{Next, Tour};
use crate::walk::{check, open_delta, open_nodes};
use crate::wire::Moment;

const BUSY_TIME: Duration = Duration::from_secs(1);

/// What follows from a message.
pub(super) enum Then {
    GoOn,
    /// All metadata is here.
    Complete,
    /// Go over what is here again.
    Restart,
    /// The peer lied.
    Drop(String),
}

#[derive(Debug, Clone, Copy)]
struct With {
    peer: PeerKey,
    heard: Moment,
    pace: Pace,
    /// Something was absent at this peer.
    absent: bool,
    /// It was asked to leave something out at the beginning.
    is_continued: bool,
    /// What it sends is of no use any more, since we do not have all of the base. It is heard out.
    is_void: bool,
}

/// The walk of a fetch.
pub(super) struct Walking<'s> {
    store: &'s Store,
    session: &'s Session<'s>,
    walk: Walk,
    tour: Tour,
    spool: Spool,
    peers: BTreeMap<PeerKey, Moment>,
    /// Who does not have the object that is missing first.
    lacking: BTreeSet<PeerKey>,
    /// Who does not have the base.
    without_base: BTreeSet<PeerKey>,
    /// Who has to begin with the first object of the order: of those that are here he lacks some.
    from_first: BTreeSet<PeerKey>,
    with: Option<With>,
    /// The object that was missing first when we last looked.
    missing: Option<ContentHash>,
    /// What may be done without, and who has said of what of it that he does not have it.
    without: Without,
    absent: HashMap<ContentHash, BTreeSet<PeerKey>>,
    /// What was done without when we last looked.
    given_up: HashMap<ContentHash, Kind>,
}

impl<'s> Walking<'s> {
    pub(super) fn new(store: &'s Store, session: &'s Session<'s>, walk: &Walk) -> Self {
        Self {
            store,
            session,
            walk: walk.clone(),
            tour: Tour::new(walk),
            spool: Spool::default(),
            peers: BTreeMap::new(),
            lacking: BTreeSet::new(),
            without_base: BTreeSet::new(),
            from_first: BTreeSet::new(),
            with: None,
            missing: None,
            without: Without::Nothing,
            absent: HashMap::new(),
            given_up: HashMap::new(),
        }
    }

    pub(super) fn without(&mut self, without: Without) {
        self.without = without;
    }

    /// The base that is left.
    pub(super) fn base(&self) -> Option<ContentHash> {
        self.walk.base
    }

    /// What was done without.
    pub(super) fn take_given_up(&mut self) -> HashMap<ContentHash, Kind> {
        std::mem::take(&mut self.given_up)
    }

    pub(super) fn join(&mut self, peer: PeerKey) {
        self.peers.entry(peer).or_insert(Moment::ZERO);
    }

    /// Whether it was the one that we walk with.
    pub(super) fn leave(&mut self, peer: &PeerKey) -> bool {
        self.peers.remove(peer);
        self.with.take_if(|with| with.peer == *peer).is_some()
    }

    pub(super) fn is_with(&self, peer: &PeerKey) -> bool {
        self.with.is_some_and(|with| with.peer == *peer)
    }

    /// Goes the order over what is here, up to the first object that is not; `true` if all of it is.
    pub(super) fn restart(&mut self) -> Result<bool, FetchError> {
        self.spool.flush(self.session)?;
        self.with = None;
        self.tour = Tour::new(&self.walk);
        self.given_up.clear();
        let source = crate::source::StoreSource(self.store);
        loop {
            let next = match self.tour.next(&source) {
                Ok(Some(next)) => next,
                Ok(None) => return Ok(true),
                Err(error) if self.may_drop_base(&error) => return self.drop_base(),
                Err(error) => return Err(error.into()),
            };
            let bytes = match self.session.holds(&next.id)? {
                true => source.get(next.kind, &next.id),
                false => Err(filesync_cas::GetError::Missing(next.id)),
            };
            match bytes {
                Ok(bytes) => match self.tour.give(&bytes, &source) {
                    Ok(_) => {}
                    Err(error) if self.may_drop_base(&error) => return self.drop_base(),
                    Err(error) => return Err(error.into()),
                },
                Err(error) if error.is_damage() && self.is_with_nobody(&next) => {
                    self.given_up.insert(next.id, next.kind);
                    self.tour.skip()?;
                }
                // What turns out to be damaged counts as absent from now on: it is stored again.
                Err(error) if error.is_damage() => {
                    if self.lacks_counterpart(&next)? {
                        return self.drop_base();
                    }
                    if self.missing != Some(next.id) {
                        self.missing = Some(next.id);
                        self.lacking.clear();
                    }
                    return Ok(false);
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether an object may be done without, and everybody has said that he does not have it.
    fn is_with_nobody(&self, next: &Next) -> bool {
        let absent = self.absent.get(&next.id);
        let is_lacking = self.missing == Some(next.id);
        let lacks = |peer: &PeerKey| {
            absent.is_some_and(|absent| absent.contains(peer)) || (is_lacking && self.lacking.contains(peer))
        };
        self.without.allows(next.kind, &next.id) && !self.peers.is_empty() && self.peers.keys().all(lacks)
    }

    /// Whether what both sides should have is not here, where that may be.
    fn lacks_counterpart(&self, next: &Next) -> Result<bool, FetchError> {
        match next.counterpart.filter(|_| self.walk.base.is_some() && self.without.is_some()) {
            Some(counterpart) => Ok(!self.session.holds(&counterpart)? && !self.spool.contains(&counterpart)),
            None => Ok(false),
        }
    }

    fn may_drop_base(&self, error: &TourError) -> bool {
        let is_damage = matches!(error, TourError::Base(error) if error.is_damage());
        is_damage && self.walk.base.is_some() && self.without.is_some()
    }

    /// Goes on with no base: all of it, less what is here.
    fn drop_base(&mut self) -> Result<bool, FetchError> {
        self.forget_base();
        self.restart()
    }

    fn forget_base(&mut self) {
        self.walk.base = None;
        self.without_base.clear();
        self.lacking.clear();
        self.absent.clear();
    }

    /// What is sent on the base is of no use; the peer is not to blame.
    fn void(&mut self) -> Then {
        if let Some(with) = &mut self.with {
            with.is_void = true;
        }
        Then::GoOn
    }

    /// Asks somebody for a walk, if nobody is being asked.
    pub(super) fn ask(&mut self, now: Moment) -> Result<Option<(PeerKey, Walk)>, FetchError> {
        if self.with.is_some() {
            return Ok(None);
        }
        if !self.peers.keys().any(|peer| self.can_be_asked(peer)) {
            if self.walk.base.is_none() || !self.without.is_some() {
                return Err(FetchError::Missing(self.missing.unwrap_or(*self.walk.root.id())));
            }
            // They may lack what both sides should have, and without that not know what we ask for.
            self.forget_base();
            if self.restart()? {
                return Err(FetchError::Missing(*self.walk.root.id()));
            }
        }
        let can = |peer: &&PeerKey| self.can_be_asked(peer);
        let ready = self.peers.iter().filter(|(peer, at)| can(peer) && **at <= now).map(|(peer, _)| *peer).next();
        let Some(peer) = ready else { return Ok(None) };
        if self.from_first.contains(&peer) {
            self.tour = Tour::new(&self.walk);
        }
        let from = self.tour.count();
        self.with = Some(With {
            peer,
            heard: now,
            pace: Pace::new(now),
            absent: false,
            is_continued: from > 0,
            is_void: false,
        });
        Ok(Some((peer, Walk { from, ..self.walk.clone() })))
    }

    fn can_be_asked(&self, peer: &PeerKey) -> bool {
        !self.lacking.contains(peer) && !self.without_base.contains(peer)
    }

    pub(super) fn receive(
        &mut self,
        peer: &PeerKey,
        message: Message,
        stats: &mut FetchStats,
        now: Moment,
    ) -> Result<Then, FetchError> {
        match &mut self.with {
            Some(with) if with.peer == *peer => {
                with.heard = now;
                with.pace.came(message.encoded_len() as u64, now);
            }
            _ => return Ok(Then::Drop("a message that was not asked for".to_owned())),
        }
        if self.with.is_some_and(|with| with.is_void) {
            return Ok(match message {
                Message::WalkEnd { .. } | Message::Refused(_) => {
                    self.with = None;
                    self.forget_base();
                    Then::Restart
                }
                _ => Then::GoOn,
            });
        }
        match message {
            Message::Nodes(nodes) => {
                let raw = match open_nodes(&nodes) {
                    Ok(raw) => raw,
                    Err(error) => return Ok(lie(&error)),
                };
                let mut rest = &raw[..];
                for len in &nodes.lens {
                    let (bytes, after) = rest.split_at(*len as usize);
                    rest = after;
                    if let Some(lied) = self.take(bytes, None, stats)? {
                        return Ok(lied);
                    }
                }
                Ok(Then::GoOn)
            }
            Message::Delta { len, payload } => Ok(self.delta(len, &payload, stats)?.unwrap_or(Then::GoOn)),
            Message::Absent => self.absent(),
            Message::WalkEnd { count } => self.end(count),
            Message::Refused(refusal) => Ok(self.refused(refusal, now)),
            other => Ok(Then::Drop(format!("a message of type {} in a walk", other.kind()))),
        }
    }

    fn next(&mut self) -> Result<Option<Next>, FetchError> {
        let source = Overlay { store: self.store, spool: &self.spool };
        Ok(self.tour.next(&source)?)
    }

    fn delta(&mut self, len: u32, payload: &[u8], stats: &mut FetchStats) -> Result<Option<Then>, FetchError> {
        let Some(next) = self.next()? else { return Ok(Some(too_much())) };
        let Some(counterpart) = next.counterpart else {
            return Ok(Some(Then::Drop("a difference to nothing".to_owned())));
        };
        if self.lacks_counterpart(&next)? {
            return Ok(Some(self.void()));
        }
        let source = Overlay { store: self.store, spool: &self.spool };
        let counterpart = source.get(next.kind, &counterpart)?;
        match open_delta(len, payload, &counterpart) {
            Ok(bytes) => self.take(&bytes, Some(next), stats),
            Err(error) => Ok(Some(lie(&error))),
        }
    }

    /// Takes the next object of the order, if that is what it is.
    fn take(&mut self, bytes: &[u8], next: Option<Next>, stats: &mut FetchStats) -> Result<Option<Then>, FetchError> {
        let next = match next {
            Some(next) => next,
            None => match self.next()? {
                Some(next) => next,
                None => return Ok(Some(too_much())),
            },
        };
        if let Err(error) = check(&next, bytes) {
            return Ok(Some(lie(&error)));
        }
        if self.lacks_counterpart(&next)? {
            return Ok(Some(self.void()));
        }
        let source = Overlay { store: self.store, spool: &self.spool };
        self.tour.give(bytes, &source)?;
        stats.nodes += 1;
        if !self.spool.contains(&next.id) && !self.holds_good(&next)? {
            stats.new_objects += 1;
            stats.new_bytes += bytes.len() as u64;
            if self.spool.push(next.id, next.kind, Arc::from(bytes)) {
                self.spool.flush(self.session)?;
            }
        }
        Ok(None)
    }

    /// Whether an object that came is here already. It may have come since it is bad here, and nobody has read it.
    fn holds_good(&self, next: &Next) -> Result<bool, FetchError> {
        if !self.session.holds(&next.id)? {
            return Ok(false);
        }
        match crate::source::StoreSource(self.store).get(next.kind, &next.id) {
            Err(error) if error.is_damage() => Ok(false),
            Err(error) => Err(error.into()),
            Ok(_) => Ok(true),
        }
    }

    fn absent(&mut self) -> Result<Then, FetchError> {
        let Some(next) = self.next()? else { return Ok(too_much()) };
        if self.lacks_counterpart(&next)? {
            return Ok(self.void());
        }
        self.tour.skip()?;
        if let Some(with) = self.with.filter(|_| self.without.allows(next.kind, &next.id)) {
            self.absent.entry(next.id).or_default().insert(with.peer);
        }
        if let Some(with) = &mut self.with {
            with.absent = true;
        }
        Ok(Then::GoOn)
    }

    fn end(&mut self, count: u64) -> Result<Then, FetchError> {
        if self.next()?.is_some() || count != self.tour.count() {
            return Ok(Then::Drop(format!("the end of a walk after {count} objects, which is too early")));
        }
        match self.with.take() {
            // Its own hole, if it is what is missing still, is not filled by asking again.
            Some(with) if with.absent => self.mark_lacking(with.peer)?,
            _ => {
                self.spool.flush(self.session)?;
                return Ok(Then::Complete);
            }
        }
        Ok(Then::Restart)
    }

    /// The peer lacks what will be missing first from now on.
    fn mark_lacking(&mut self, peer: PeerKey) -> Result<(), FetchError> {
        self.restart()?;
        self.lacking.insert(peer);
        Ok(())
    }

    fn refused(&mut self, refusal: Refusal, now: Moment) -> Then {
        let Some(with) = self.with.take() else { return Then::GoOn };
        match refusal {
            Refusal::Busy => drop(self.peers.insert(with.peer, now + BUSY_TIME)),
            Refusal::Base => drop(self.without_base.insert(with.peer)),
            // A partial copy cannot count what it lacks: it may still have what is missing here.
            Refusal::Nothing if with.is_continued => drop(self.from_first.insert(with.peer)),
            _ => drop(self.lacking.insert(with.peer)),
        }
        let is_useless = |peer: &PeerKey| self.lacking.contains(peer) || self.without_base.contains(peer);
        if !self.without_base.is_empty() && self.peers.keys().all(is_useless) {
            // Nobody knows what we build on: then all of it.
            self.without_base.clear();
            self.walk.base = None;
        }
        Then::Restart
    }

    /// The one that we walk with, if it sends nothing, or too little and there are others.
    pub(super) fn stalled(&self, now: Moment) -> Option<PeerKey> {
        let with = self.with?;
        let has_other = || self.peers.keys().any(|peer| *peer != with.peer && self.can_be_asked(peer));
        let is_stalled = with.heard + STALL_TIME <= now || (with.pace.is_slow(now) && has_other());
        is_stalled.then_some(with.peer)
    }

    pub(super) fn was_deaf(&mut self, now: Moment) {
        if let Some(with) = &mut self.with {
            (with.heard, with.pace) = (with.heard.max(now), Pace::new(now));
        }
    }

    pub(super) fn deadline(&self) -> Option<Moment> {
        match self.with {
            Some(with) if self.peers.len() > 1 => Some((with.heard + STALL_TIME).min(with.pace.deadline())),
            Some(with) => Some(with.heard + STALL_TIME),
            None => self.peers.values().copied().min(),
        }
    }
}

fn lie(error: &WireError) -> Then {
    Then::Drop(error.to_string())
}

fn too_much() -> Then {
    Then::Drop("more objects than the walk has".to_owned())
}
