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
use tokio::sync::watch;

const WAIT: Duration = Duration::from_secs(20);

/// The key with a seed, as nodes of these tests have it.
pub fn key(seed: u8) -> ed25519::Keypair {
    ed25519::SecretKey::try_from_bytes(&mut [seed; 32]).expect("a key").into()
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
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
        let addr: std::net::SocketAddr = addr.parse().expect("an address");
        let addr = Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1);
        let peer = PublicKey::from(ed25519::PublicKey::try_from_bytes(&to.0).expect("a key")).to_peer_id();
        let (send, connected) = watch::channel(true);
        let control = runtime.block_on(async {
            let mut swarm = SwarmBuilder::with_existing_identity(Keypair::from(key(seed)))
                .with_tokio()
                .with_quic()
                .with_behaviour(|_| libp2p_stream::Behaviour::new())
                .expect("a behaviour")
                .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::from_secs(600)))
                .build();
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
        let name = match class {
            Class::Bulk => "/filesync/1/bulk",
            Class::Call => "/filesync/1/call",
            Class::Raft => "/filesync/1/raft",
            Class::Join => "/filesync/1/join",
        };
        let mut control = self.control.clone();
        self.wait(control.open_stream(self.peer, StreamProtocol::new(name))).expect("opened")
    }

    /// Says something.
    pub fn send(&self, stream: &mut Stream, bytes: &[u8]) {
        self.wait(async {
            stream.write_all(bytes).await.expect("written");
            stream.flush().await.expect("flushed");
        });
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
