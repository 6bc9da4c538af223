//! What all tasks of a node share.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use filesync_cas::Store;
use libp2p::StreamProtocol;
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::address::{look_up, multiaddr, peer_id};
use super::config::{Answers, ConnectError};
use super::places::Places;
use super::swarm_task::Command;
use super::{calls, idle, keep};
use crate::peer::{Class, PeerKey};
use crate::serve::Shared;
use crate::wire::Moment;

/// Bulk requests of all peers that are answered at a time.
pub(super) const BULK_MAX: usize = 32;
/// How long a connection may take to be made.
pub(super) const CONNECT_TIME: Duration = Duration::from_secs(10);
/// Peers of which it is remembered why they are not connected.
pub(super) const REASONS_MAX: usize = 256;
/// How long opening a stream may take, its Hello not counted.
pub(super) const OPEN_TIME: Duration = Duration::from_secs(5);

/// What all tasks share.
pub(super) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) store: Arc<Store>,
    pub(super) answers: Arc<dyn Answers>,
    pub(super) control: libp2p_stream::Control,
    pub(super) commands: mpsc::UnboundedSender<Command>,
    pub(super) bulk: Arc<Semaphore>,
    /// Steps of their answers that are taken at a time.
    pub(super) steps: Semaphore,
    pub(super) greeting: Arc<Places>,
    pub(super) started: Instant,
    pub(super) links: Mutex<HashMap<(PeerKey, Class), calls::Link>>,
    /// Streams for bulk that the next fetch may use.
    pub(super) idle: Mutex<HashMap<PeerKey, idle::Idle>>,
    pub(super) kept: Mutex<BTreeMap<PeerKey, keep::Kept>>,
    /// Who is connected; told by the task of the swarm.
    pub(super) connected: watch::Receiver<HashSet<PeerKey>>,
    /// Why peers that we wanted are not.
    pub(super) reasons: Mutex<HashMap<PeerKey, String>>,
    /// What went over streams for bulk.
    pub(super) traffic: Mutex<BTreeMap<PeerKey, Traffic>>,
    pub(super) turned_away: Mutex<TurnedAway>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What went to a peer and came from it on streams for bulk, since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that went there.
    pub sent: u64,
    /// Chunks, and metadata in frames, that went there.
    pub objects_sent: u64,
    /// Bytes that came from there.
    pub received: u64,
    /// Chunks, and metadata in frames, that came from there.
    pub objects_received: u64,
    /// Requests that were answered from there.
    pub answers: u64,
    /// How long it took until these answers began, all together.
    pub waited: Duration,
}

/// How often others were turned away, or gave reason to be, since the node started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TurnedAway {
    /// Connections of who is no member, while nobody was expected or too many were there.
    pub strangers: u64,
    /// Connections of members that are left alone for a while.
    pub banned: u64,
    /// Times that a member broke the protocol, or sent what it was not asked for. It is left alone for a while then.
    pub breaches: u64,
}

impl Inner {
    pub(super) fn count(&self, peer: &PeerKey, note: impl FnOnce(&mut Traffic)) {
        note(lock(&self.traffic).entry(*peer).or_default());
    }

    pub(super) fn now(&self) -> Moment {
        self.started.elapsed()
    }

    pub(super) fn is_connected(&self, peer: &PeerKey) -> bool {
        self.connected.borrow().contains(peer)
    }

    /// Waits until there is no connection with the peer.
    pub(super) async fn lost(&self, peer: &PeerKey) {
        let _ = self.connected.clone().wait_for(|connected| !connected.contains(peer)).await;
    }

    /// A peer broke the protocol. Strangers have no account, and no way back in anyway.
    pub(super) fn strike(&self, peer: &PeerKey) {
        if self.shared.access.role(peer).is_member() {
            self.shared.guard().strike(peer, self.now());
            lock(&self.turned_away).breaches += 1;
        }
    }

    /// Notes why a peer that we wanted is not connected.
    pub(super) fn note_reason(&self, peer: PeerKey, why: String) {
        let mut reasons = lock(&self.reasons);
        if reasons.len() >= REASONS_MAX {
            reasons.clear();
        }
        reasons.insert(peer, why);
    }

    pub(super) fn reason(&self, peer: &PeerKey) -> Option<String> {
        lock(&self.reasons).get(peer).cloned()
    }
}

pub(super) async fn connect(inner: &Inner, peer: PeerKey, addresses: &[String]) -> Result<(), ConnectError> {
    let id = peer_id(&peer).ok_or(ConnectError::NotAKey)?;
    if inner.is_connected(&peer) {
        return Ok(());
    }
    let result = match look_up(addresses).await {
        Ok(found) => {
            let (done, connected) = oneshot::channel();
            let addresses = found.iter().map(multiaddr).collect();
            let sent = inner.commands.send(Command::Connect { peer: id, addresses, done });
            sent.map_err(|_| ConnectError::Closed)?;
            match tokio::time::timeout(CONNECT_TIME, connected).await {
                Ok(result) => result.map_err(|_| ConnectError::Closed)?,
                Err(_) => Err("it took too long".to_owned()),
            }
        }
        Err(why) => Err(why),
    };
    result.map_err(|why| {
        inner.note_reason(peer, why.clone());
        ConnectError::Unreachable(why)
    })
}

pub(super) fn protocol(class: Class) -> StreamProtocol {
    StreamProtocol::new(match class {
        Class::Bulk => "/filesync/1/bulk",
        Class::Call => "/filesync/1/call",
        Class::Raft => "/filesync/1/raft",
        Class::Join => "/filesync/1/join",
    })
}

/// Waits until everything is to end.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
