//! What a node needs of a network. [`Transport`] is the one with sockets; simulations have their own.

use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use filesync_cas::{Session, Store};

use super::{CallError, ConnectError, Connection, Traffic, Transport, TurnedAway};
use crate::error::FetchError;
use crate::fetch::{FetchStats, Without};
use crate::message::{Status, Walk};
use crate::peer::{Class, PeerKey};

/// What becomes of something that goes over the network.
pub type Sent<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Reaches peers. What each promises is said at [`Transport`].
pub trait Net: Send + Sync {
    /// Connects to a peer, unless it is connected.
    fn connecting(&self, peer: PeerKey, addresses: Vec<String>) -> Sent<Result<(), ConnectError>>;

    /// Asks a connected peer.
    fn call(
        &self,
        peer: PeerKey,
        class: Class,
        topic: u16,
        body: Vec<u8>,
        time: Duration,
    ) -> Sent<Result<(Status, Vec<u8>), CallError>>;

    /// Fetches the closure of a root from connected peers into the session. Blocks.
    #[allow(clippy::too_many_arguments)]
    fn fetch(
        &self,
        session: &Session<'_>,
        store: &Store,
        walk: Walk,
        without: Without,
        peers: &[PeerKey],
        cancel: &AtomicBool,
        progress: &mut dyn FnMut(&FetchStats),
    ) -> (Result<(), FetchError>, FetchStats);

    /// Where we listen.
    fn listening(&self) -> Vec<SocketAddr>;

    /// How it stands with peers.
    fn connections(&self) -> Vec<Connection>;

    /// How many tasks serve connections and streams, those that are always there included.
    fn tasks(&self) -> usize;

    /// What went over streams for bulk, by peer.
    fn traffic(&self) -> BTreeMap<PeerKey, Traffic>;

    /// How often others were turned away.
    fn turned_away(&self) -> TurnedAway;

    /// Takes leave, within the time. Blocks.
    fn shutdown(&self, time: Duration);
}

impl Net for Transport {
    fn connecting(&self, peer: PeerKey, addresses: Vec<String>) -> Sent<Result<(), ConnectError>> {
        Box::pin(Self::connecting(self, peer, addresses))
    }

    fn call(
        &self,
        peer: PeerKey,
        class: Class,
        topic: u16,
        body: Vec<u8>,
        time: Duration,
    ) -> Sent<Result<(Status, Vec<u8>), CallError>> {
        Box::pin(Self::call(self, peer, class, topic, body, time))
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
        Self::fetch(self, session, store, walk, without, peers, cancel, progress)
    }

    fn listening(&self) -> Vec<SocketAddr> {
        Self::listening(self).to_vec()
    }

    fn connections(&self) -> Vec<Connection> {
        Self::connections(self)
    }

    fn tasks(&self) -> usize {
        Self::tasks(self)
    }

    fn traffic(&self) -> BTreeMap<PeerKey, Traffic> {
        Self::traffic(self)
    }

    fn turned_away(&self) -> TurnedAway {
        Self::turned_away(self)
    }

    fn shutdown(&self, time: Duration) {
        Self::shutdown(self, time);
    }
}
