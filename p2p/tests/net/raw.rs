//! A peer that says whatever it is told to, with the libraries alone.

use std::time::Duration;

use filesync_p2p::serve::Me;
use filesync_p2p::testing::Repo;
use filesync_p2p::{Class, PeerKey};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::identity::{Keypair, PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{SwarmEvent, dial_opts::DialOpts};
use libp2p::{Multiaddr, PeerId, Stream, StreamProtocol, SwarmBuilder};
use libp2p_stream::IncomingStreams;
use tokio::sync::watch;

const WAIT: Duration = Duration::from_secs(20);
/// After what time nothing more is taken.
const SILENCE: Duration = Duration::from_secs(1);

/// The key with a seed, as nodes of these tests have it.
pub fn key(seed: u8) -> ed25519::Keypair {
    ed25519::SecretKey::try_from_bytes(&mut [seed; 32]).expect("a key").into()
}

/// The key of the peer with a seed.
pub fn peer(seed: u8) -> PeerKey {
    PeerKey(key(seed).public().to_bytes())
}

fn multiaddr(addr: std::net::SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

fn protocol(class: Class) -> StreamProtocol {
    StreamProtocol::new(match class {
        Class::Bulk => "/filesync/1/bulk",
        Class::Call => "/filesync/1/call",
        Class::Raft => "/filesync/1/raft",
        Class::Join => "/filesync/1/join",
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// A swarm that takes little before somebody reads it.
fn swarm(seed: u8) -> libp2p::Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_existing_identity(Keypair::from(key(seed)))
        .with_tokio()
        .with_quic_config(|mut quic| {
            quic.max_stream_data = 1 << 20;
            quic
        })
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .expect("a behaviour")
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
        .build()
}

/// The first packets of so many connections, from somebody who then falls silent.
pub fn first_packets(count: usize) -> Vec<Vec<u8>> {
    let catcher = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
    catcher.set_read_timeout(Some(WAIT)).expect("set");
    let addr = multiaddr(catcher.local_addr().expect("an address"));
    let runtime = runtime();
    runtime.spawn(async move {
        let mut swarm = swarm(99);
        (0..count).for_each(|_| swarm.dial(addr.clone()).expect("dials"));
        loop {
            // Packets that were lost are made up for by others.
            if let SwarmEvent::OutgoingConnectionError { .. } = swarm.select_next_some().await {
                swarm.dial(addr.clone()).expect("dials");
            }
        }
    });
    let mut packets = std::collections::BTreeMap::new();
    let mut packet = vec![0; 2000];
    while packets.len() < count {
        let len = catcher.recv(&mut packet).expect("they come");
        // A long header: flags, version, and then the name that its sender chose for the connection.
        let name = packet[6..][..usize::from(packet[5])].to_vec();
        packets.entry(name).or_insert_with(|| packet[..len].to_vec());
    }
    runtime.shutdown_background();
    packets.into_values().collect()
}

/// A good first message.
pub fn hello(class: Class) -> Vec<u8> {
    Me { repository: Repo::id(), epoch: 1, nonce: 5 }.hello(class).encode()
}

/// A connection to one node.
pub struct Raw {
    runtime: tokio::runtime::Runtime,
    control: libp2p_stream::Control,
    peer: PeerId,
    connected: watch::Receiver<bool>,
}

impl Raw {
    /// Connects as the peer with a seed.
    pub fn connect(seed: u8, to: &PeerKey, addr: &str) -> Self {
        let runtime = runtime();
        let addr = multiaddr(addr.parse().expect("an address"));
        let peer = PublicKey::from(ed25519::PublicKey::try_from_bytes(&to.0).expect("a key")).to_peer_id();
        let (send, connected) = watch::channel(true);
        let control = runtime.block_on(async {
            let mut swarm = swarm(seed);
            swarm.dial(DialOpts::peer_id(peer).addresses(vec![addr]).build()).expect("dials");
            while !matches!(swarm.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
            let control = swarm.behaviour().new_control();
            tokio::spawn(async move {
                loop {
                    if matches!(swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {
                        send.send_replace(false);
                    }
                }
            });
            control
        });
        Self { runtime, control, peer, connected }
    }

    /// Whether the other side has not hung up.
    pub fn is_connected(&self) -> bool {
        *self.connected.borrow()
    }

    fn wait<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(async { tokio::time::timeout(WAIT, future).await.expect("in time") })
    }

    /// Opens a stream and says nothing.
    pub fn open(&self, class: Class) -> Stream {
        let mut control = self.control.clone();
        self.wait(control.open_stream(self.peer, protocol(class))).expect("opened")
    }

    /// The same, if it is let.
    pub fn try_open(&self, class: Class) -> Option<Stream> {
        let mut control = self.control.clone();
        self.wait(control.open_stream(self.peer, protocol(class))).ok()
    }

    /// From here on it takes streams that the other side opens.
    pub fn listen(&self, class: Class) -> IncomingStreams {
        self.control.clone().accept(protocol(class)).expect("nobody else does")
    }

    /// The next one, and what it begins with: a Hello.
    pub fn accept(&self, incoming: &mut IncomingStreams) -> (Stream, Vec<u8>) {
        self.wait(async {
            let (_, mut stream) = incoming.next().await.expect("one comes");
            let mut hello = vec![0; 66];
            stream.read_exact(&mut hello).await.expect("a Hello");
            (stream, hello)
        })
    }

    /// Says something.
    pub fn send(&self, stream: &mut Stream, bytes: &[u8]) {
        self.wait(async {
            stream.write_all(bytes).await.expect("written");
            stream.flush().await.expect("flushed");
        });
    }

    /// Says something, if it is let.
    pub fn try_send(&self, stream: &mut Stream, bytes: &[u8]) {
        self.wait(async { drop(stream.write_all(bytes).await.and(stream.flush().await)) });
    }

    /// Says the same again and again, each time by itself, until so much is said or no more is taken for a while. How much that is.
    pub fn pour(&self, stream: &mut Stream, piece: &[u8], most: usize) -> usize {
        let mut said = 0;
        self.runtime.block_on(async {
            let mut say = async || stream.write_all(piece).await.and(stream.flush().await).is_ok();
            while said < most && tokio::time::timeout(SILENCE, say()).await == Ok(true) {
                said += piece.len();
                tokio::task::yield_now().await;
            }
        });
        said
    }

    /// Opens a stream with a good Hello; the answer, whole.
    pub fn greet(&self, class: Class) -> (Stream, Vec<u8>) {
        let mut stream = self.open(class);
        self.send(&mut stream, &hello(class));
        let answer = self.wait(async {
            let mut answer = vec![0; 4];
            stream.read_exact(&mut answer).await.expect("an answer");
            let len = u32::from_le_bytes(answer[..4].try_into().expect("four"));
            answer.resize(4 + usize::try_from(len).expect("short"), 0);
            stream.read_exact(&mut answer[4..]).await.expect("all of it");
            answer
        });
        (stream, answer)
    }

    /// Everything up to the end, or to where it breaks.
    pub fn read_to_end(&self, stream: &mut Stream) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.wait(async { drop(stream.read_to_end(&mut bytes).await) });
        bytes
    }
}
