//! The task that owns the swarm. It only ever waits for the swarm and for commands.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use libp2p::core::ConnectedPoint;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, NetworkBehaviour, Swarm, SwarmEvent};
use libp2p::{Multiaddr, PeerId, SwarmBuilder, connection_limits, identity::Keypair, mdns};
use tokio::sync::{mpsc, oneshot, watch};

use super::address::{cause, explain, multiaddr, peer_key, socket_addr};
use super::config::{Config, StartError};
use super::idle;
use super::inner::{BULK_MAX, Inner, lock};
use crate::peer::{PeerKey, Role};
use crate::wire::Moment;

/// Strangers that may be connected at a time, and for how long, where one may ask to join.
const STRANGERS_MAX: usize = 16;
const STRANGER_TIME: Duration = Duration::from_secs(30);
/// Connections that others are making, at a time. Whoever sends first packets under addresses that are not his takes these
/// places for as long as a handshake may take: the library does not ask for an answer before it gives one away.
const PENDING_MAX: u32 = 1024;
/// How long a handshake may take.
const HANDSHAKE_TIME: Duration = Duration::from_secs(5);
/// How often it is looked at who is connected.
const LOOK: Duration = Duration::from_secs(1);
/// How long what was said last may take to go out.
const FAREWELL: Duration = Duration::from_millis(10);
/// Hints of one member's addresses that are kept.
const HINTS_MAX: usize = 16;
/// What ends sooner was not wanted by the other side.
const AT_ONCE: Duration = Duration::from_secs(2);

/// What the swarm is told to do.
pub(super) enum Command {
    Connect { peer: PeerId, addresses: Vec<Multiaddr>, done: oneshot::Sender<Result<(), String>> },
    Disconnect(PeerId),
    Shutdown { time: Duration, done: oneshot::Sender<()> },
}

#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(super) struct Behaviour {
    limits: connection_limits::Behaviour,
    streams: libp2p_stream::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

pub(super) type Listening = oneshot::Sender<Result<Vec<SocketAddr>, StartError>>;

/// A swarm that speaks QUIC and nothing else. To be called on the runtime.
pub(super) fn build(
    config: &Config,
    keypair: Keypair,
) -> Result<(Swarm<Behaviour>, libp2p_stream::Control), Box<dyn std::error::Error>> {
    let (stream, connection) = config.windows;
    let idle = u32::try_from(config.dead_after.as_millis())?;
    let keep_alive = config.dead_after / 5;
    let limits = connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_MAX))
        .with_max_pending_outgoing(Some(64))
        .with_max_established(Some(256))
        .with_max_established_per_peer(Some(4));
    let streams = libp2p_stream::Behaviour::new();
    let control = streams.new_control();
    let mdns = match config.mdns {
        true => Some(mdns::tokio::Behaviour::new(mdns::Config::default(), keypair.public().to_peer_id())?),
        false => None,
    };
    let behaviour = Behaviour { limits: connection_limits::Behaviour::new(limits), streams, mdns: mdns.into() };
    let swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_quic_config(|mut quic| {
            quic.max_stream_data = stream;
            quic.max_connection_data = connection;
            quic.max_idle_timeout = idle;
            quic.keep_alive_interval = keep_alive;
            quic.handshake_timeout = HANDSHAKE_TIME;
            quic.max_concurrent_stream_limit = 32;
            // Who only asks is there for a moment. Looking for the longest packets takes more bytes than it says, as a rule.
            if config.listen.is_empty() { quic.disable_path_mtu_discovery() } else { quic }
        })
        .with_behaviour(|_| behaviour)?
        // Members stay connected; who opens no streams goes after a while.
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(600)))
        .build();
    Ok((swarm, control))
}

/// What the task keeps in mind.
pub(super) struct State {
    inner: Arc<Inner>,
    /// Who waits for a connection that is being made.
    waiting: HashMap<PeerId, Vec<oneshot::Sender<Result<(), String>>>>,
    /// Connections that peers have made, and when.
    incoming: HashMap<ConnectionId, (PeerKey, Moment)>,
    /// Connections that we have made, and when.
    outgoing: HashMap<ConnectionId, Moment>,
    /// Where members may be reached, as somebody on this network says.
    hints: HashMap<PeerId, Vec<Multiaddr>>,
    connected: watch::Sender<HashSet<PeerKey>>,
}

/// Runs until it is told to stop, or nobody can tell it any more.
pub(super) async fn run(
    mut state: State,
    mut swarm: Swarm<Behaviour>,
    mut commands: mpsc::UnboundedReceiver<Command>,
    listen: Vec<SocketAddr>,
    ready: Listening,
) {
    match listen_on(&mut swarm, &listen).await {
        Ok(listening) => drop(ready.send(Ok(listening))),
        Err(error) => return drop(ready.send(Err(error))),
    }
    let mut look = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            event = swarm.select_next_some() => state.happened(&mut swarm, event),
            _ = look.tick() => state.look(&mut swarm),
            command = commands.recv() => match command {
                Some(Command::Shutdown { time, done }) => {
                    take_leave(&mut swarm, &state.inner, time).await;
                    let _ = done.send(());
                    return;
                }
                Some(command) => state.told(&mut swarm, command),
                None => return,
            },
        }
    }
}

/// Listens everywhere, and waits until the addresses are known.
async fn listen_on(swarm: &mut Swarm<Behaviour>, listen: &[SocketAddr]) -> Result<Vec<SocketAddr>, StartError> {
    let mut listening = Vec::new();
    for addr in listen {
        let failed = |cause: String| StartError::Listen { addr: *addr, cause };
        let id = swarm.listen_on(multiaddr(addr)).map_err(|error| failed(cause(&error)))?;
        loop {
            let next = tokio::time::timeout(Duration::from_secs(5), swarm.select_next_some()).await;
            match next.map_err(|_| failed("it took too long".to_owned()))? {
                SwarmEvent::NewListenAddr { listener_id, address } if listener_id == id => {
                    listening.extend(socket_addr(&address));
                    break;
                }
                SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == id => {
                    return Err(failed(reason.err().map_or_else(|| "closed".to_owned(), |error| cause(&error))));
                }
                SwarmEvent::ListenerError { listener_id, error } if listener_id == id => {
                    return Err(failed(cause(&error)));
                }
                _ => {}
            }
        }
    }
    Ok(listening)
}

/// Lets streams end, then closes connections and waits until that has been said.
async fn take_leave(swarm: &mut Swarm<Behaviour>, inner: &Inner, time: Duration) {
    let drained = async {
        let all = u32::try_from(BULK_MAX).unwrap_or(u32::MAX);
        drop(inner.bulk.acquire_many(all).await);
    };
    tokio::pin!(drained);
    let deadline = tokio::time::sleep(time);
    tokio::pin!(deadline);
    loop {
        tokio::select! {
            _ = swarm.select_next_some() => {}
            () = &mut drained => break,
            () = &mut deadline => break,
        }
    }
    let peers: Vec<PeerId> = swarm.connected_peers().copied().collect();
    for peer in peers {
        let _ = swarm.disconnect_peer_id(peer);
    }
    let closed = async {
        while swarm.connected_peers().next().is_some() {
            swarm.select_next_some().await;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(2), closed).await;
    // The library calls them closed when it has decided so; to tell the others it takes a moment more. One that is not told keeps
    // the connection, and takes who comes back for a twin, until it finds that nobody is there.
    tokio::time::sleep(FAREWELL).await;
}

impl State {
    /// Nobody is connected, which is what `connected` says too.
    pub(super) fn new(inner: Arc<Inner>, connected: watch::Sender<HashSet<PeerKey>>) -> Self {
        let (waiting, incoming, outgoing) = (HashMap::new(), HashMap::new(), HashMap::new());
        Self { inner, waiting, incoming, outgoing, hints: HashMap::new(), connected }
    }

    fn told(&mut self, swarm: &mut Swarm<Behaviour>, command: Command) {
        match command {
            Command::Connect { peer, done, .. } if swarm.is_connected(&peer) => drop(done.send(Ok(()))),
            Command::Connect { peer, mut addresses, done } => {
                addresses.extend(self.hints.get(&peer).into_iter().flatten().cloned());
                let waiting = self.waiting.entry(peer).or_default();
                waiting.retain(|done| !done.is_closed());
                waiting.push(done);
                let condition = PeerCondition::DisconnectedAndNotDialing;
                let dial = DialOpts::peer_id(peer).condition(condition).addresses(addresses).build();
                match swarm.dial(dial) {
                    // Somebody is dialing it already: the outcome is the same.
                    Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                    Err(error) => self.answer(&peer, &Err(explain(&error))),
                }
            }
            Command::Disconnect(peer) => {
                let _ = swarm.disconnect_peer_id(peer);
            }
            Command::Shutdown { .. } => {}
        }
    }

    fn answer(&mut self, peer: &PeerId, result: &Result<(), String>) {
        for done in self.waiting.remove(peer).unwrap_or_default() {
            drop(done.send(result.clone()));
        }
    }

    fn happened(&mut self, swarm: &mut Swarm<Behaviour>, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.established(swarm, peer_id, connection_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause: why, .. } => {
                self.incoming.remove(&connection_id);
                let Some(key) = peer_key(&peer_id) else { return };
                if let Some(since) = self.outgoing.remove(&connection_id) {
                    self.inner.note_reason(key, self.why_closed(since, why.as_ref()));
                }
                if num_established == 0 {
                    self.connected.send_if_modified(|connected| connected.remove(&key));
                }
            }
            SwarmEvent::OutgoingConnectionError { peer_id: Some(peer), error, .. } => {
                let result = if swarm.is_connected(&peer) { Ok(()) } else { Err(explain(&error)) };
                self.answer(&peer, &result);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Discovered(found))) => {
                found.into_iter().for_each(|(peer, address)| self.heard(swarm, peer, address));
            }
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(mdns::Event::Expired(gone))) => {
                for (peer, address) in gone {
                    self.hints.entry(peer).and_modify(|hints| hints.retain(|hint| *hint != address));
                }
            }
            _ => {}
        }
    }

    /// Somebody says where a member is to be found. Whether it is he shows when he is dialed.
    fn heard(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId, address: Multiaddr) {
        let Some(key) = peer_key(&peer).filter(|key| self.inner.shared.access.role(key).is_member()) else { return };
        let hints = self.hints.entry(peer).or_default();
        if hints.len() >= HINTS_MAX || hints.contains(&address) {
            return;
        }
        hints.push(address);
        if lock(&self.inner.kept).contains_key(&key) {
            let condition = PeerCondition::DisconnectedAndNotDialing;
            let dial = DialOpts::peer_id(peer).condition(condition).addresses(hints.clone()).build();
            // Who is connected already, or being dialed, is not dialed.
            drop(swarm.dial(dial));
        }
    }

    fn established(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId, id: ConnectionId, endpoint: &ConnectedPoint) {
        let now = self.inner.now();
        let Some(key) = peer_key(&peer) else {
            swarm.close_connection(id);
            lock(&self.inner.turned_away).strangers += 1;
            return;
        };
        if endpoint.is_dialer() {
            // Whom we dialed we wanted, whether it is a member or will make us one.
            self.outgoing.insert(id, now);
        } else if self.may_stay(&key, now, now) {
            self.incoming.insert(id, (key, now));
        } else {
            // Before it can open a stream.
            swarm.close_connection(id);
            self.note_turned_away(&key);
            return;
        }
        // It may have been started anew, and what is left of it may be dead without anybody knowing.
        drop(lock(&self.inner.idle).remove(&key));
        self.connected.send_if_modified(|connected| connected.insert(key));
        self.answer(&peer, &Ok(()));
    }

    /// Whether a peer that connected to us at some moment may stay.
    fn may_stay(&self, key: &PeerKey, since: Moment, now: Moment) -> bool {
        let access = &self.inner.shared.access;
        if access.role(key) != Role::Stranger {
            return !self.inner.shared.guard().is_banned(key, now);
        }
        let is_stranger = |key: &PeerKey| access.role(key) == Role::Stranger;
        let others = self.incoming.values().filter(|(other, _)| other != key && is_stranger(other)).count();
        access.expects_joiners() && since + STRANGER_TIME > now && others < STRANGERS_MAX
    }

    fn note_turned_away(&self, key: &PeerKey) {
        let is_stranger = self.inner.shared.access.role(key) == Role::Stranger;
        let mut turned_away = lock(&self.inner.turned_away);
        *(if is_stranger { &mut turned_away.strangers } else { &mut turned_away.banned }) += 1;
    }

    /// Who is no member any more, or never became one, goes; and who is banned; and streams that nobody has used for long.
    fn look(&mut self, swarm: &mut Swarm<Behaviour>) {
        idle::let_go(&self.inner);
        let now = self.inner.now();
        let late = self.incoming.iter().filter(|(_, (key, since))| !self.may_stay(key, *since, now));
        for id in late.map(|(id, _)| *id).collect::<Vec<_>>() {
            swarm.close_connection(id);
        }
    }

    fn why_closed(&self, since: Moment, why: Option<&libp2p::swarm::ConnectionError>) -> String {
        match why {
            _ if since + AT_ONCE > self.inner.now() => {
                "it closed the connection at once, as with somebody who is no member".to_owned()
            }
            Some(error) => format!("the connection was lost: {}", cause(error)),
            None => "the connection was closed".to_owned(),
        }
    }
}
