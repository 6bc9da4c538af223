//! Bytes over a bare stream of the transport's libraries, from one process to another and without a store: what a clone is compared with.
//! `tests/bench` calls it.
//!
//! - `stream send`: listens on loopback, prints its address, and sends as many bytes as it is asked for, until it is killed
//! - `stream receive ADDRESS BYTES`: asks for so many and drops them

use std::error::Error;

use filesync_p2p::transport::Config;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, StreamExt as _};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Stream, StreamProtocol, Swarm, SwarmBuilder};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/filesync-bench/stream");
const BLOCK_LEN: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    // As many threads as the transport has.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["send"] => runtime.block_on(send()),
        ["receive", address, len] => runtime.block_on(receive(address.parse()?, len.parse()?)),
        _ => Err("usage: stream send | receive ADDRESS BYTES".into()),
    }
}

/// With the windows of the transport.
fn swarm() -> Result<Swarm<libp2p_stream::Behaviour>, Box<dyn Error>> {
    Ok(SwarmBuilder::with_new_identity()
        .with_tokio()
        .with_quic_config(|mut quic| {
            (quic.max_stream_data, quic.max_connection_data) = Config::new([0; 32]).windows;
            quic
        })
        .with_behaviour(|_| libp2p_stream::Behaviour::new())?
        .build())
}

async fn send() -> Result<(), Box<dyn Error>> {
    let mut swarm = swarm()?;
    let peer = *swarm.local_peer_id();
    let mut control = swarm.behaviour().new_control();
    let mut incoming = control.accept(PROTOCOL)?;
    swarm.listen_on("/ip4/127.0.0.1/udp/0/quic-v1".parse()?)?;
    tokio::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            tokio::spawn(answer(stream));
        }
    });
    loop {
        if let SwarmEvent::NewListenAddr { address, .. } = swarm.select_next_some().await {
            println!("{address}/p2p/{peer}");
        }
    }
}

async fn answer(mut stream: Stream) -> std::io::Result<()> {
    let mut len = [0; 8];
    stream.read_exact(&mut len).await?;
    let block = vec![7; BLOCK_LEN];
    let mut left = u64::from_le_bytes(len);
    while left > 0 {
        let now = usize::try_from(left).map_or(BLOCK_LEN, |left| left.min(BLOCK_LEN));
        stream.write_all(&block[..now]).await?;
        left -= now as u64;
    }
    stream.close().await
}

async fn receive(address: Multiaddr, len: u64) -> Result<(), Box<dyn Error>> {
    let Some(Protocol::P2p(peer)) = address.iter().last() else { return Err("the address names no peer".into()) };
    let mut swarm = swarm()?;
    swarm.dial(address)?;
    loop {
        match swarm.select_next_some().await {
            SwarmEvent::ConnectionEstablished { .. } => break,
            SwarmEvent::OutgoingConnectionError { error, .. } => return Err(error.into()),
            _ => {}
        }
    }
    let mut control = swarm.behaviour().new_control();
    tokio::spawn(async move {
        loop {
            swarm.select_next_some().await;
        }
    });
    let mut stream = control.open_stream(peer, PROTOCOL).await?;
    stream.write_all(&len.to_le_bytes()).await?;
    let mut buffer = vec![0; 64 << 10];
    let mut left = len;
    while left > 0 {
        match stream.read(&mut buffer).await? as u64 {
            0 => return Err("it ended early".into()),
            read => left = left.checked_sub(read).ok_or("more came than was asked for")?,
        }
    }
    Ok(())
}
