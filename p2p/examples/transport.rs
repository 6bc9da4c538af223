//! How fast a closure is fetched over loopback, against bytes over a bare stream of the same libraries.
//!
//! `cargo run --release -p filesync-p2p --example transport [MIB]`: prints both rates and their ratio, and how long calls take on an idle line and
//! beside a fetch; run it on a quiet machine.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_merkle::{CommitId, Parts, RepoPath};
use filesync_p2p::guard::{Guard, Limits};
use filesync_p2p::message::topics::RAFT;
use filesync_p2p::serve::{Me, Shared};
use filesync_p2p::testing::{Everything, Repo, tree};
use filesync_p2p::transport::{Answer, Answers, Caller, Config, Transport};
use filesync_p2p::{Class, PeerKey, Root, Status, Walk, Without};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::swarm::{SwarmEvent, dial_opts::DialOpts};
use libp2p::{Multiaddr, StreamProtocol, Swarm, SwarmBuilder};

struct Echo;
impl Answers for Echo {
    fn answer(&self, _: Caller, _: u16, body: Vec<u8>) -> Answer {
        Box::pin(async { (Status::Done, body) })
    }
}

fn swarm() -> Swarm<libp2p_stream::Behaviour> {
    SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic_config(|mut quic| {
            (quic.max_stream_data, quic.max_connection_data) = Config::new([0; 32]).windows;
            quic
        })
        .with_behaviour(|_| libp2p_stream::Behaviour::new())
        .expect("a behaviour")
        .build()
}

/// Seconds for so many bytes over a bare stream.
fn bare(len: u64) -> f64 {
    let protocol = StreamProtocol::new("/rates");
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (mut from, mut to) = (swarm(), swarm());
        from.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse::<Multiaddr>().expect("an address")).expect("listens");
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = from.select_next_some().await {
                break address;
            }
        };
        let (peer, mut control) = (*from.local_peer_id(), from.behaviour().new_control());
        let mut incoming = control.accept(protocol.clone()).expect("not taken");
        tokio::spawn(async move { while from.next().await.is_some() {} });
        tokio::spawn(async move {
            while let Some((_, mut stream)) = incoming.next().await {
                let block = vec![7; 1 << 20];
                let mut left = len;
                while left > 0 {
                    let now = usize::try_from(left.min(1 << 20)).expect("small");
                    stream.write_all(&block[..now]).await.expect("written");
                    left -= now as u64;
                }
                stream.close().await.expect("closed");
            }
        });
        to.dial(DialOpts::peer_id(peer).addresses(vec![address]).build()).expect("dials");
        while !matches!(to.select_next_some().await, SwarmEvent::ConnectionEstablished { .. }) {}
        let mut control = to.behaviour().new_control();
        tokio::spawn(async move { while to.next().await.is_some() {} });
        let begun = Instant::now();
        let mut stream = control.open_stream(peer, protocol).await.expect("opened");
        let mut buffer = vec![0; 64 << 10];
        let mut got = 0;
        while got < len {
            got += stream.read(&mut buffer).await.expect("read") as u64;
        }
        begun.elapsed().as_secs_f64()
    })
}

fn node(seed: u8, repo: &Repo) -> Transport {
    let listen = vec!["127.0.0.1:0".parse().expect("an address")];
    let me = Me { repository: Repo::id(), epoch: 1, nonce: u64::from(seed) };
    let guard = Mutex::new(Guard::new(Limits::default()));
    let shared = Arc::new(Shared { me, access: Arc::new(Everything::default()), guard });
    let config = Config { listen, ..Config::new([seed; 32]) };
    Transport::start(&config, shared, Arc::clone(&repo.store), Arc::new(Echo)).expect("starts")
}

/// How long one call takes.
fn call(from: &Transport, to: PeerKey) -> Duration {
    let begun = Instant::now();
    from.call_and_wait(to, Class::Raft, RAFT, vec![0; 1000], Duration::from_secs(30)).expect("answered");
    begun.elapsed()
}

fn quantiles(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |share: usize| times.get(times.len() * share / 1000).copied().unwrap_or_default();
    format!("{:?} (median), {:?} (99 %), {:?} (slowest) of {}", at(500), at(990), at(999), times.len())
}

/// Seconds and bytes on the wire for a closure from one store to another.
fn fetched(there: &Repo, head: CommitId) -> (f64, u64) {
    let here = Repo::on_disk();
    let (server, client) = (node(1, there), node(2, &here));
    client.connect(server.key(), &[server.listening()[0].to_string()]).expect("connected");
    let walk = Walk {
        root: Root::Commit(head),
        base: None,
        history: true,
        path: RepoPath::root(),
        parts: Parts::whole(),
        from: 0,
    };
    for _ in 0..200 {
        call(&client, server.key());
    }
    let mut idle: Vec<Duration> = (0..500).map(|_| call(&client, server.key())).collect();
    let begun = Instant::now();
    let session = here.store.session().expect("a session");
    let never = AtomicBool::new(false);
    let running = AtomicBool::new(true);
    let (result, stats, mut beside) = std::thread::scope(|scope| {
        let calls = scope.spawn(|| {
            let mut times = Vec::new();
            while running.load(Ordering::Relaxed) {
                times.push(call(&client, server.key()));
                // As often as heartbeats to many; not so often that it is a load.
                std::thread::sleep(Duration::from_millis(5));
            }
            times
        });
        let (result, stats) =
            client.fetch(&session, &here.store, walk, Without::Nothing, &[server.key()], &never, &mut |_| ());
        running.store(false, Ordering::Relaxed);
        (result, stats, calls.join().expect("every call is answered"))
    });
    result.expect("fetched");
    here.finish(session);
    let seconds = begun.elapsed().as_secs_f64();
    println!(
        "    calls of 1 kB on an idle line: {}; beside the fetch: {}",
        quantiles(&mut idle),
        quantiles(&mut beside)
    );
    println!("    {stats:?}");
    client.shutdown(Duration::from_secs(1));
    (seconds, stats.received)
}

fn main() {
    let mib: usize = std::env::args().nth(1).and_then(|mib| mib.parse().ok()).unwrap_or(512);
    let there = Repo::on_disk();
    let mut rng = Rng::new(1);
    let noise: Vec<(String, Vec<u8>)> = (0..mib / 16).map(|n| (format!("large {n}"), rng.bytes(16 << 20))).collect();
    let noise = there.commit(&tree(noise.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()))), &[]);
    let words: Vec<(String, Vec<u8>)> = (0..mib * 64)
        .map(|n| {
            let text: Vec<u8> = (0..800).flat_map(|_| format!("{:x} word ", rng.below(1 << 20)).into_bytes()).collect();
            (format!("dir {}/file {n}", n % 997), text)
        })
        .collect();
    let words = there.commit(&tree(words.iter().map(|(name, bytes)| (name.as_str(), bytes.clone()))), &[]);
    for (name, head) in [("large files that do not shrink", noise), ("small files of text", words)] {
        println!("{name}:");
        for _ in 0..3 {
            let (seconds, bytes) = fetched(&there, head);
            let bare = bare(bytes);
            let rate = |seconds: f64| bytes as f64 / 1e6 / seconds;
            println!(
                "  fetched {:.0} MB at {:.0} MB/s, bare stream {:.0} MB/s: {:.2}",
                bytes as f64 / 1e6,
                rate(seconds),
                rate(bare),
                bare / seconds
            );
        }
    }
}
