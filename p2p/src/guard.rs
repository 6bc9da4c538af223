//! What one peer may cost us: streams, requests, work, and how long we do not speak to one that broke the protocol.
//!
//! Pure: the time goes in. One guard serves a whole process. `docs/protocol.md`, section 7, has the numbers.

use std::collections::HashMap;
use std::time::Duration;

use crate::error::Refusal;
use crate::peer::{Class, PeerKey};
use crate::wire::Moment;

/// Peers that are remembered; more are not members of any cluster of ours.
const PEERS_MAX: usize = 4096;
const BAN_FIRST: Duration = Duration::from_secs(60);
const BAN_MAX: Duration = Duration::from_secs(3600);

/// Limits for one peer.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Streams at a time: bulk, call, raft, join.
    pub streams: [u32; 4],
    /// Nodes read a second, and how many at once after a rest.
    pub nodes: (u64, u64),
    /// Requests a second, and how many at once after a rest.
    pub requests: (u64, u64),
    /// Bytes of answers to bulk requests a second, and how many at once after a rest. 0 a second: as many as the line takes.
    pub bytes: (u64, u64),
}

impl Default for Limits {
    fn default() -> Self {
        let (nodes, requests) = ((20_000, 200_000), (2_000, 4_000));
        Self { streams: [4, 4, 2, 1], nodes, requests, bytes: Self::bytes_at(1 << 30) }
    }
}

impl Limits {
    /// So many bytes a second, and those of two seconds at once.
    pub fn bytes_at(rate: u64) -> (u64, u64) {
        (rate, rate.saturating_mul(2))
    }
}

/// Fills with time up to a maximum; may be overdrawn, and then takes time to fill again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    rate: u64,
    max: u64,
    /// When it will be, or was, full.
    full_at: Moment,
}

impl Bucket {
    fn new((rate, max): (u64, u64), now: Moment) -> Self {
        Self { rate, max, full_at: now }
    }

    /// No time at all where there is no limit.
    fn time_for(&self, amount: u64) -> Duration {
        let nanos = u128::from(amount) * 1_000_000_000 / u128::from(self.rate.max(1));
        if self.rate == 0 { Duration::ZERO } else { Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)) }
    }

    fn spend(&mut self, amount: u64, now: Moment) {
        self.full_at = self.full_at.max(now) + self.time_for(amount);
    }

    /// From when on there is something in it.
    fn ready_at(&self) -> Moment {
        self.full_at.saturating_sub(self.time_for(self.max))
    }
}

/// What something has cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Spent {
    /// Requests.
    pub requests: u64,
    /// Nodes that were read.
    pub nodes: u64,
    /// Bytes that are sent.
    pub bytes: u64,
}

#[derive(Debug)]
struct Peer {
    /// The process that it is connected with, while it has streams.
    nonce: u64,
    streams: [u32; 4],
    nodes: Bucket,
    requests: Bucket,
    bytes: Bucket,
    strikes: u32,
    banned_until: Moment,
}

impl Peer {
    fn is_idle(&self, now: Moment) -> bool {
        self.streams == [0; 4]
            && self.banned_until <= now
            && self.nodes.full_at <= now
            && self.requests.full_at <= now
            && self.bytes.full_at <= now
            && (self.strikes == 0 || self.banned_until + BAN_MAX <= now)
    }
}

/// Keeps account of peers.
#[derive(Debug)]
pub struct Guard {
    limits: Limits,
    peers: HashMap<PeerKey, Peer>,
}

impl Guard {
    /// Nobody is known.
    pub fn new(limits: Limits) -> Self {
        Self { limits, peers: HashMap::new() }
    }

    fn peer(&mut self, key: &PeerKey, now: Moment) -> Option<&mut Peer> {
        if !self.peers.contains_key(key) && self.peers.len() >= PEERS_MAX {
            self.peers.retain(|_, peer| !peer.is_idle(now));
            if self.peers.len() >= PEERS_MAX {
                return None;
            }
        }
        let limits = self.limits;
        Some(self.peers.entry(*key).or_insert_with(|| Peer {
            nonce: 0,
            streams: [0; 4],
            nodes: Bucket::new(limits.nodes, now),
            requests: Bucket::new(limits.requests, now),
            bytes: Bucket::new(limits.bytes, now),
            strikes: 0,
            banned_until: Moment::ZERO,
        }))
    }

    /// A member opens a stream with this nonce in its Hello. To be followed by [`Guard::close`] if granted.
    pub fn open(&mut self, key: &PeerKey, class: Class, nonce: u64, now: Moment) -> Result<(), Refusal> {
        let max = self.limits.streams[class as usize];
        let peer = self.peer(key, now).ok_or(Refusal::Busy)?;
        if peer.banned_until > now || peer.streams[class as usize] >= max {
            return Err(Refusal::Busy);
        }
        if peer.streams != [0; 4] && peer.nonce != nonce {
            return Err(Refusal::Twin);
        }
        peer.nonce = nonce;
        peer.streams[class as usize] += 1;
        Ok(())
    }

    /// A stream that was granted is closed.
    pub fn close(&mut self, key: &PeerKey, class: Class, now: Moment) {
        let Some(peer) = self.peers.get_mut(key) else { return };
        let streams = &mut peer.streams[class as usize];
        *streams = streams.saturating_sub(1);
        if peer.is_idle(now) {
            self.peers.remove(key);
        }
    }

    /// A request came, or work was done for one.
    pub fn spend(&mut self, key: &PeerKey, spent: Spent, now: Moment) {
        if let Some(peer) = self.peer(key, now) {
            peer.requests.spend(spent.requests, now);
            peer.nodes.spend(spent.nodes, now);
            peer.bytes.spend(spent.bytes, now);
        }
    }

    /// From when on more may be done for a peer: in the past, or a moment to wait for. What bulk has cost is bulk's own: calls and
    /// Raft's messages do not wait for it.
    pub fn ready_at(&self, key: &PeerKey, class: Class) -> Moment {
        let Some(peer) = self.peers.get(key) else { return Moment::ZERO };
        let requests = peer.requests.ready_at();
        match class {
            Class::Bulk => requests.max(peer.nodes.ready_at()).max(peer.bytes.ready_at()),
            _ => requests,
        }
    }

    /// A member broke the protocol: it is left alone for a while, longer each time, which is forgotten an hour after the last.
    /// Not for strangers: their keys cost nothing, and would push those of members out.
    pub fn strike(&mut self, key: &PeerKey, now: Moment) {
        let Some(peer) = self.peer(key, now) else { return };
        if peer.banned_until + BAN_MAX <= now {
            peer.strikes = 0;
        }
        let time = BAN_FIRST.saturating_mul(1 << peer.strikes.min(10)).min(BAN_MAX);
        peer.strikes += 1;
        peer.banned_until = now + time;
    }

    /// Whether a peer is left alone at present.
    pub fn is_banned(&self, key: &PeerKey, now: Moment) -> bool {
        self.peers.get(key).is_some_and(|peer| peer.banned_until > now)
    }

    /// Streams of all peers that are open.
    pub fn streams(&self) -> u32 {
        self.peers.values().flat_map(|peer| peer.streams).sum()
    }

    /// How many peers are remembered.
    pub fn len(&self) -> usize {
        self.peers.len()
    }

    /// Whether nobody is.
    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: PeerKey = PeerKey([1; 32]);

    fn second(n: u64) -> Moment {
        Duration::from_secs(n)
    }

    fn guard() -> Guard {
        Guard::new(Limits::default())
    }

    #[test]
    fn streams_are_counted_by_class() {
        let mut guard = guard();
        for _ in 0..4 {
            assert_eq!(guard.open(&PEER, Class::Bulk, 7, second(0)), Ok(()));
        }
        assert_eq!(guard.open(&PEER, Class::Bulk, 7, second(0)), Err(Refusal::Busy));
        assert_eq!(guard.open(&PEER, Class::Raft, 7, second(0)), Ok(()), "raft does not wait for bulk");
        guard.close(&PEER, Class::Bulk, second(0));
        assert_eq!(guard.open(&PEER, Class::Bulk, 7, second(0)), Ok(()));
    }

    #[test]
    fn of_two_processes_the_newer_is_refused() {
        let mut guard = guard();
        assert_eq!(guard.open(&PEER, Class::Bulk, 7, second(0)), Ok(()));
        assert_eq!(guard.open(&PEER, Class::Call, 8, second(1)), Err(Refusal::Twin));
        guard.close(&PEER, Class::Bulk, second(2));
        assert_eq!(guard.open(&PEER, Class::Call, 8, second(3)), Ok(()), "the older is gone");
        assert_eq!(guard.open(&PEER, Class::Call, 7, second(3)), Err(Refusal::Twin));
    }

    /// P21: who asks for much work, or for much, gets it at a rate, whatever he does; what is not bulk does not wait for that.
    #[test]
    fn work_comes_at_a_rate() {
        let mut guard = guard();
        let nodes = |nodes| Spent { requests: 1, nodes, bytes: 0 };
        guard.spend(&PEER, nodes(200_000), second(10));
        assert!(guard.ready_at(&PEER, Class::Bulk) <= second(10), "what it had saved");
        guard.spend(&PEER, nodes(40_000), second(10));
        assert_eq!(guard.ready_at(&PEER, Class::Bulk), second(12), "two seconds of overdraft");
        assert!(guard.ready_at(&PEER, Class::Raft) <= second(10), "which are bulk's");
        let bytes = Spent { bytes: 5 << 30, ..Spent::default() };
        guard.spend(&PEER, bytes, second(12));
        assert_eq!(guard.ready_at(&PEER, Class::Bulk), second(15), "a GiB a second, and two at once");
        assert!(guard.ready_at(&PEER, Class::Call) <= second(12));
        for _ in 0..8_000 {
            guard.spend(&PEER, nodes(0), second(20));
        }
        let all = [Class::Bulk, Class::Call, Class::Raft, Class::Join];
        assert_eq!(all.map(|class| guard.ready_at(&PEER, class)), [second(22); 4], "requests are all of theirs");
    }

    /// Where bytes have no limit, none of them takes time.
    #[test]
    fn without_a_rate_nothing_waits() {
        let mut guard = Guard::new(Limits { bytes: Limits::bytes_at(0), ..Limits::default() });
        guard.spend(&PEER, Spent { bytes: u64::MAX, ..Spent::default() }, second(10));
        assert!(guard.ready_at(&PEER, Class::Bulk) <= second(10));
    }

    #[test]
    fn strikes_double() {
        let mut guard = guard();
        guard.strike(&PEER, second(0));
        assert!(guard.is_banned(&PEER, second(59)) && !guard.is_banned(&PEER, second(60)));
        assert_eq!(guard.open(&PEER, Class::Bulk, 7, second(59)), Err(Refusal::Busy));
        guard.strike(&PEER, second(100));
        assert!(guard.is_banned(&PEER, second(219)) && !guard.is_banned(&PEER, second(220)));
        for _ in 0..100 {
            guard.strike(&PEER, second(1000));
        }
        assert!(!guard.is_banned(&PEER, second(1000 + 3600)));
        guard.strike(&PEER, second(1000 + 3600 + 3600));
        assert!(!guard.is_banned(&PEER, second(1000 + 3600 + 3600 + 60)), "an hour later it is the first again");
        let _ = guard.open(&PEER, Class::Bulk, 7, second(20_000));
        guard.close(&PEER, Class::Bulk, second(20_000));
        assert!(guard.is_empty(), "and it is not remembered for ever");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut guard = guard();
        let key = |n: u64| {
            let mut key = [0; 32];
            key[..8].copy_from_slice(&n.to_le_bytes());
            PeerKey(key)
        };
        for n in 0..10_000 {
            let _ = guard.open(&key(n), Class::Bulk, n, second(0));
        }
        assert_eq!(guard.len(), PEERS_MAX);
        for n in 0..10_000 {
            guard.close(&key(n), Class::Bulk, second(0));
        }
        assert!(guard.is_empty());
    }
}
