//! Who is asked for what. Wants are given out in shares to all peers at once; a peer that stalls, lies or leaves is dropped
//! and its shares go to the others; what one lacks is asked of others. Pure: no sockets, no clock, no store.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use filesync_cas::frame::Slot;
use filesync_cas::{ContentHash, Kind};

use crate::pace::Pace;
use crate::peer::PeerKey;
use crate::wants::{Get, GetBuilder, WANTS_MAX, Want, WantedChildren};
use crate::wire::Moment;

/// Bytes of objects in one share, with many peers and with one: a frame at either end of a share is put together anew.
const SHARE_LEN: (u64, u64) = (8 << 20, 32 << 20);
/// Shares that a peer is asked for at a time: the second while the first is on its way.
const AHEAD: usize = 2;
/// A peer that owes and sends nothing for so long is dropped.
pub const STALL_TIME: Duration = Duration::from_secs(10);
/// How long a busy peer is left alone.
const BUSY_TIME: Duration = Duration::from_secs(1);
/// What is owed for so long may be asked of another too.
const LATE: Duration = Duration::from_secs(2);

/// Wants that are asked for together.
#[derive(Debug, Clone, Default)]
struct Share {
    nodes: Vec<WantedChildren>,
    /// Who is known not to have all of it.
    lacking: BTreeSet<PeerKey>,
}

impl Share {
    fn ids(&self) -> impl Iterator<Item = &Want> {
        self.nodes.iter().flat_map(|node| &node.wants)
    }

    /// Leaves what `keep` wants.
    fn retain(&mut self, mut keep: impl FnMut(&Want) -> bool) {
        self.nodes.iter_mut().for_each(|node| node.wants.retain(&mut keep));
        self.nodes.retain(|node| !node.wants.is_empty());
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Wanted,
    /// It has come and is being looked at.
    Arrived,
}

/// A share that a peer was asked for.
#[derive(Debug)]
struct Asked {
    share: Share,
    owed: HashMap<ContentHash, (Owed, Kind, u32)>,
    came: u32,
    at: Moment,
    /// The peer has nothing more of it to send.
    ended: bool,
    /// Another has been asked for part of it too.
    doubled: bool,
}

impl Asked {
    fn arriving(&self) -> usize {
        self.owed.values().filter(|(state, ..)| *state == Owed::Arrived).count()
    }

    /// What is still owed.
    fn rest(mut self) -> Share {
        let owed = self.owed;
        self.share.retain(|want| owed.contains_key(&want.id));
        self.share
    }
}

#[derive(Debug)]
struct Source {
    asked: VecDeque<Asked>,
    heard: Moment,
    pace: Pace,
    busy_until: Moment,
}

impl Source {
    fn owes(&self) -> bool {
        self.asked.iter().any(|asked| !asked.ended)
    }
}

/// What a peer did that it should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lie(pub String);

/// The shares of one fetch.
#[derive(Debug, Default)]
pub struct Swarm {
    sources: BTreeMap<PeerKey, Source>,
    queue: VecDeque<Share>,
    filling: Share,
    filling_len: u64,
    filling_count: usize,
    /// Everything that is queued or owed.
    pending: HashSet<ContentHash>,
}

impl Swarm {
    /// A peer can be asked.
    pub fn join(&mut self, peer: PeerKey, now: Moment) {
        self.sources.entry(peer).or_insert_with(|| Source {
            asked: VecDeque::new(),
            heard: now,
            pace: Pace::new(now),
            busy_until: Moment::ZERO,
        });
    }

    /// A peer cannot be asked any more: what it owes is queued again.
    pub fn leave(&mut self, peer: &PeerKey) {
        let Some(source) = self.sources.remove(peer) else { return };
        for asked in source.asked.into_iter().rev() {
            self.queue_rest(asked.rest());
        }
    }

    /// How many peers can be asked.
    pub fn peers(&self) -> usize {
        self.sources.len()
    }

    fn queue_rest(&mut self, share: Share) {
        if !share.nodes.is_empty() {
            self.queue.push_front(share);
        }
    }

    /// Whether it would rather have more wants before the next [`Swarm::ask`].
    pub fn is_hungry(&self) -> bool {
        self.queue.len() < self.sources.len().max(1)
    }

    /// Whether nothing is queued and nothing owed.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.filling.nodes.is_empty() && self.sources.values().all(|it| it.asked.is_empty())
    }

    /// Whether somebody owes something.
    pub fn is_waiting(&self) -> bool {
        self.sources.values().any(|source| !source.asked.is_empty())
    }

    /// Takes out what nobody who can be asked has, where `may` says that it may be done without. It is not taken up again.
    pub fn give_up(&mut self, may: impl Fn(Kind, &ContentHash) -> bool) -> Vec<(ContentHash, Kind)> {
        let mut given_up = Vec::new();
        if self.sources.is_empty() {
            return given_up;
        }
        for share in &mut self.queue {
            if self.sources.keys().all(|peer| share.lacking.contains(peer)) {
                share.retain(|want| {
                    let is_given_up = may(want.kind, &want.id);
                    given_up.extend(is_given_up.then_some((want.id, want.kind)));
                    !is_given_up
                });
            }
        }
        self.queue.retain(|share| !share.nodes.is_empty());
        given_up
    }

    /// One of those that are queued, where nothing is owed: nobody who is left has it.
    pub fn stuck_on(&self) -> Option<ContentHash> {
        let first = self.queue.front().filter(|_| !self.is_waiting())?;
        let is_hopeless = self.sources.keys().all(|peer| first.lacking.contains(peer));
        first.ids().next().map(|want| want.id).filter(|_| is_hopeless)
    }

    /// Takes wants up, in the order of the tree. What is pending already is left out.
    pub fn offer(&mut self, mut wanted: WantedChildren) {
        wanted.wants.retain(|want| self.pending.insert(want.id));
        let max = if self.sources.len() > 1 { SHARE_LEN.0 } else { SHARE_LEN.1 };
        while let Some(first) = wanted.wants.first() {
            let room = max.saturating_sub(self.filling_len);
            // Chunks of a byte are many before they are much.
            let is_full = u64::from(first.len) > room || self.filling_count + wanted.wants.len() > WANTS_MAX;
            if self.filling_count > 0 && is_full {
                self.close_share();
                continue;
            }
            let rest = cut_off(&mut wanted.wants, room);
            let is_cut = !rest.is_empty();
            self.filling_len += wanted.wants.iter().map(|want| u64::from(want.len)).sum::<u64>();
            self.filling_count += wanted.wants.len();
            let wants = std::mem::replace(&mut wanted.wants, rest);
            self.filling.nodes.push(WantedChildren { root: wanted.root, path: wanted.path.clone(), wants });
            // A node comes once in a share.
            if is_cut || self.filling_len >= max {
                self.close_share();
            }
        }
    }

    /// What has been gathered is given out, without waiting for more.
    pub fn close_share(&mut self) {
        let share = std::mem::take(&mut self.filling);
        (self.filling_len, self.filling_count) = (0, 0);
        if !share.nodes.is_empty() {
            self.queue.push_back(share);
        }
    }

    /// Whom to ask for what, if there is anybody to be asked for anything. `is_here` says what need not be asked for.
    pub fn ask<E>(
        &mut self,
        now: Moment,
        mut is_here: impl FnMut(&ContentHash) -> Result<bool, E>,
    ) -> Result<Option<(PeerKey, Get)>, E> {
        while let Some((peer, mut share)) = self.choose(now) {
            let mut here = Ok(());
            share.retain(|want| match is_here(&want.id) {
                Ok(true) => {
                    self.pending.remove(&want.id);
                    false
                }
                Ok(false) => true,
                Err(error) => {
                    here = Err(error);
                    true
                }
            });
            here?;
            let Some((get, share, rest)) = request(share) else { continue };
            self.queue_rest(rest);
            let owed = share.ids().map(|want| (want.id, (Owed::Wanted, want.kind, want.len))).collect();
            let asked = Asked { share, owed, came: 0, at: now, ended: false, doubled: false };
            let Some(source) = self.sources.get_mut(&peer) else { continue };
            if source.asked.is_empty() {
                source.heard = now;
            }
            if !source.owes() {
                source.pace = Pace::new(now);
            }
            source.asked.push_back(asked);
            return Ok(Some((peer, get)));
        }
        Ok(None)
    }

    /// The peer with the least to do, and a share for it: a queued one, or half of what another owes.
    fn choose(&mut self, now: Moment) -> Option<(PeerKey, Share)> {
        let mut idle: Vec<(usize, PeerKey)> = self
            .sources
            .iter()
            .filter(|(_, source)| source.asked.len() < AHEAD && source.busy_until <= now)
            .map(|(peer, source)| (source.asked.len(), *peer))
            .collect();
        idle.sort_unstable();
        for (load, peer) in idle {
            if let Some(at) = self.queue.iter().position(|share| !share.lacking.contains(&peer)) {
                return self.queue.remove(at).map(|share| (peer, share));
            }
            if load == 0
                && let Some(share) = self.double(&peer, now)
            {
                return Some((peer, share));
            }
        }
        None
    }

    /// Half of what has been owed longest by another.
    fn double(&mut self, peer: &PeerKey, now: Moment) -> Option<Share> {
        let late =
            self.sources.iter_mut().filter(|(other, _)| *other != peer).flat_map(|(_, source)| &mut source.asked);
        let late = late.filter(|asked| {
            asked.at + LATE <= now && !asked.ended && !asked.doubled && !asked.share.lacking.contains(peer)
        });
        let asked = late.min_by_key(|asked| asked.at)?;
        asked.doubled = true;
        let mut share = asked.share.clone();
        share.retain(|want| matches!(asked.owed.get(&want.id), Some((Owed::Wanted, ..))));
        let half = share.ids().count() / 2;
        let mut at = 0;
        share.retain(|_| {
            at += 1;
            at > half
        });
        (!share.nodes.is_empty()).then_some(share)
    }

    /// Objects came from a peer. Fails if they are not what it was asked for; nothing is to be made of them then.
    pub fn arrived(&mut self, peer: &PeerKey, slots: &[Slot], now: Moment) -> Result<(), Lie> {
        let source = self.sources.get_mut(peer).ok_or_else(|| Lie("it was not asked for anything".to_owned()))?;
        source.heard = now;
        let asked = source.asked.iter_mut().find(|asked| !asked.ended);
        let asked = asked.ok_or_else(|| Lie("it was not asked for anything".to_owned()))?;
        for slot in slots {
            match asked.owed.get_mut(&slot.id) {
                Some((state @ Owed::Wanted, kind, len)) if *kind == slot.kind && (*len == 0 || *len == slot.len) => {
                    *state = Owed::Arrived;
                }
                Some((Owed::Arrived, ..)) => return Err(Lie(format!("object {} twice", slot.id))),
                Some(_) => return Err(Lie(format!("object {} of another kind or length", slot.id))),
                None => return Err(Lie(format!("object {}, which was not asked for", slot.id))),
            }
        }
        asked.came += u32::try_from(slots.len()).unwrap_or(u32::MAX);
        source.pace.came(slots.iter().map(|slot| u64::from(slot.len)).sum(), now);
        Ok(())
    }

    /// Objects that arrived from a peer are verified and stored.
    pub fn stored(&mut self, peer: &PeerKey, slots: &[Slot]) {
        for slot in slots {
            self.pending.remove(&slot.id);
        }
        let Some(source) = self.sources.get_mut(peer) else { return };
        // Only where it has come: a peer may owe the same by a second request, that of another who left. It will send it, too.
        for asked in &mut source.asked {
            for slot in slots {
                if matches!(asked.owed.get(&slot.id), Some((Owed::Arrived, ..))) {
                    asked.owed.remove(&slot.id);
                }
            }
        }
        self.settle(peer);
    }

    /// A peer has sent all that it has of the oldest request.
    pub fn ended(&mut self, peer: &PeerKey, sent: u32, now: Moment) -> Result<(), Lie> {
        let source = self.sources.get_mut(peer).ok_or_else(|| Lie("it was not asked for anything".to_owned()))?;
        source.heard = now;
        let asked = source.asked.iter_mut().find(|asked| !asked.ended);
        let asked = asked.ok_or_else(|| Lie("an end of nothing".to_owned()))?;
        if asked.came != sent {
            return Err(Lie(format!("{sent} objects were sent, it says; {} came", asked.came)));
        }
        asked.ended = true;
        self.settle(peer);
        Ok(())
    }

    /// A peer does not answer its oldest request: it does not have what is asked for, or is busy.
    pub fn refused(&mut self, peer: &PeerKey, is_busy: bool, now: Moment) -> Result<(), Lie> {
        let source = self.sources.get_mut(peer).ok_or_else(|| Lie("it was not asked for anything".to_owned()))?;
        source.heard = now;
        let at = source.asked.iter().position(|asked| !asked.ended);
        let asked = at.and_then(|at| source.asked.remove(at)).ok_or_else(|| Lie("a refusal of nothing".to_owned()))?;
        if is_busy {
            source.busy_until = now + BUSY_TIME;
        }
        let mut rest = asked.rest();
        if !is_busy {
            rest.lacking.insert(*peer);
        }
        self.queue_rest(rest);
        Ok(())
    }

    /// Queues what is left of requests that are over and of which nothing is being looked at.
    fn settle(&mut self, peer: &PeerKey) {
        let Some(source) = self.sources.get_mut(peer) else { return };
        let mut rests = Vec::new();
        while source.asked.front().is_some_and(|asked| asked.ended && asked.arriving() == 0) {
            let Some(asked) = source.asked.pop_front() else { break };
            let mut rest = asked.rest();
            rest.lacking.insert(*peer);
            rests.push(rest);
        }
        rests.into_iter().for_each(|rest| self.queue_rest(rest));
    }

    /// Peers that owe something and have sent nothing for too long, or too little, where another could be asked.
    pub fn stalled(&self, now: Moment) -> Vec<PeerKey> {
        let owing = self.sources.iter().filter(|(_, source)| source.owes());
        let (silent, others): (Vec<_>, Vec<_>) = owing.partition(|(_, source)| source.heard + STALL_TIME <= now);
        let slow = others.into_iter().filter(|(peer, source)| source.pace.is_slow(now) && self.has_other(peer, now));
        silent.into_iter().chain(slow).map(|(peer, _)| *peer).collect()
    }

    /// Whether somebody else could be asked for what a peer owes, who does better.
    fn has_other(&self, peer: &PeerKey, now: Moment) -> bool {
        let does_better = |source: &Source| !(source.owes() && source.pace.is_slow(now));
        let others = self.sources.iter().filter(|(other, source)| *other != peer && does_better(source));
        let others: Vec<&PeerKey> = others.map(|(other, _)| other).collect();
        let mut owed = self.sources.get(peer).into_iter().flat_map(|source| &source.asked);
        owed.any(|asked| others.iter().any(|other| !asked.share.lacking.contains(*other)))
    }

    /// It was us who did not listen: nobody has stalled.
    pub fn was_deaf(&mut self, now: Moment) {
        for source in self.sources.values_mut() {
            source.heard = source.heard.max(now);
            source.pace = Pace::new(now);
        }
    }

    /// When to look again, though nothing came.
    pub fn deadline(&self) -> Option<Moment> {
        let stalls = self.sources.values().filter(|it| !it.asked.is_empty()).map(|it| it.heard + STALL_TIME);
        let busy = self.sources.values().map(|it| it.busy_until).filter(|until| !until.is_zero());
        let idle = self.sources.values().any(|source| source.asked.is_empty());
        let owed = self.sources.values().flat_map(|source| &source.asked);
        let late = owed.filter(|asked| idle && !asked.ended && !asked.doubled).map(|asked| asked.at + LATE);
        let is_alone = self.sources.len() < 2;
        let slow = self.sources.values().filter(|it| !is_alone && it.owes()).map(|it| it.pace.deadline());
        stalls.chain(slow).chain(busy.filter(|_| !self.queue.is_empty())).chain(late).min()
    }
}

/// Cuts wants off where their bytes exceed `room`; at least one stays.
fn cut_off(wants: &mut Vec<Want>, room: u64) -> Vec<Want> {
    let mut len = 0;
    let end = wants.iter().position(|want| {
        len += u64::from(want.len);
        len > room
    });
    end.map_or_else(Vec::new, |end| wants.split_off(end.max(1)))
}

/// A request for as much of a share as goes into one; what does not is left. `None` if there is nothing to ask for.
fn request(mut share: Share) -> Option<(Get, Share, Share)> {
    let mut builder = GetBuilder::default();
    let end = share.nodes.iter().position(|node| !builder.push(node)).unwrap_or(share.nodes.len());
    let rest = Share { nodes: share.nodes.split_off(end), lacking: share.lacking.clone() };
    (!builder.is_empty()).then(|| (builder.finish(), share, rest))
}

#[cfg(test)]
mod tests;
