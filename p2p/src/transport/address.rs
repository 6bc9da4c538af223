//! Keys and addresses, ours and those of libp2p; names looked up; what went wrong with a peer in one line.

use std::net::SocketAddr;
use std::time::Duration;

use libp2p::identity::{PublicKey, ed25519};
use libp2p::multiaddr::Protocol;
use libp2p::swarm::DialError;
use libp2p::{Multiaddr, PeerId, TransportError};

use crate::peer::PeerKey;

/// How long the addresses of a name may take.
const LOOK_UP_TIME: Duration = Duration::from_secs(5);
/// Addresses of one peer that are tried.
const ADDRESSES_MAX: usize = 16;

pub(super) fn multiaddr(addr: &SocketAddr) -> Multiaddr {
    Multiaddr::from(addr.ip()).with(Protocol::Udp(addr.port())).with(Protocol::QuicV1)
}

pub(super) fn socket_addr(addr: &Multiaddr) -> Option<SocketAddr> {
    let mut parts = addr.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => ip.into(),
        Protocol::Ip6(ip) => ip.into(),
        _ => return None,
    };
    match parts.next()? {
        Protocol::Udp(port) => Some(SocketAddr::new(ip, port)),
        _ => None,
    }
}

pub(super) fn peer_id(key: &PeerKey) -> Option<PeerId> {
    let key = ed25519::PublicKey::try_from_bytes(&key.0).ok()?;
    Some(PublicKey::from(key).to_peer_id())
}

/// The key that a peer id is made of; `None` if it is not an Ed25519 key, which ours all are.
pub(super) fn peer_key(peer: &PeerId) -> Option<PeerKey> {
    let hash = peer.as_ref();
    // Identity: short keys are not hashed.
    if hash.code() != 0 {
        return None;
    }
    let key = PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(PeerKey(key.try_into_ed25519().ok()?.to_bytes()))
}

/// What `host:port` stands for, of each; with nothing found, why.
pub(super) async fn look_up(addresses: &[String]) -> Result<Vec<SocketAddr>, String> {
    let mut found = Vec::new();
    let mut failed = Vec::new();
    for address in addresses.iter().take(ADDRESSES_MAX) {
        match tokio::time::timeout(LOOK_UP_TIME, tokio::net::lookup_host(address)).await {
            Ok(Ok(all)) => found.extend(all),
            Ok(Err(error)) => failed.push(format!("{address}: {error}")),
            Err(_) => failed.push(format!("{address}: looking it up took too long")),
        }
    }
    found.truncate(ADDRESSES_MAX);
    match (found.is_empty(), failed.is_empty()) {
        (false, _) => Ok(found),
        (true, false) => Err(failed.join("; ")),
        (true, true) => Err("no address is known".to_owned()),
    }
}

/// The innermost cause, which is the one that says something.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn place(addr: &Multiaddr) -> String {
    socket_addr(addr).map_or_else(|| addr.to_string(), |addr| addr.to_string())
}

/// Why a peer could not be reached, in one line.
pub(super) fn explain(error: &DialError) -> String {
    match error {
        DialError::Transport(tried) => {
            let each = tried.iter().map(|(addr, error)| {
                let why = match error {
                    TransportError::MultiaddrNotSupported(_) => "no such address can be reached from here".to_owned(),
                    TransportError::Other(error) => cause(error),
                };
                // The library's own words for it name neither side nor port.
                let why = if why.starts_with("Handshake") || why == "timed out" {
                    "nobody answers there".to_owned()
                } else {
                    why
                };
                format!("{}: {why}", place(addr))
            });
            each.collect::<Vec<_>>().join("; ")
        }
        DialError::WrongPeerId { address, .. } => {
            format!("{}: somebody with another key answers there", place(address))
        }
        DialError::LocalPeerId { address } => format!("{}: that is ourselves", place(address)),
        DialError::NoAddresses => "no address is known".to_owned(),
        DialError::Denied { .. } => "there are too many connections already".to_owned(),
        DialError::Aborted => "it was given up".to_owned(),
        error @ DialError::DialPeerConditionFalse(_) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_addresses_come_back() {
        let secret = ed25519::SecretKey::try_from_bytes(&mut [7; 32]).expect("a key");
        let key = PeerKey(ed25519::Keypair::from(secret).public().to_bytes());
        assert_eq!(peer_id(&key).and_then(|id| peer_key(&id)), Some(key));
        let hash = PeerId::from_bytes(&[&[0x12, 32][..], &[7; 32]].concat()).expect("a hash by SHA-256");
        assert_eq!(peer_key(&hash), None, "a hash is no key");
        for addr in ["127.0.0.1:7946", "[::1]:1"] {
            let addr: SocketAddr = addr.parse().expect("an address");
            assert_eq!(socket_addr(&multiaddr(&addr)), Some(addr));
        }
    }
}
