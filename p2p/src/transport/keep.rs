//! Connections that are kept: a task for each peer dials it, waits until it is lost, and dials again after a pause that grows.

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::inner::{CONNECT_TIME, Inner, connect, lock, stopped};
use crate::peer::PeerKey;

/// The first pause; each is twice the one before.
const PAUSE_MIN: Duration = Duration::from_millis(200);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// What held so long was a connection; what did not is an attempt that failed.
const HELD: Duration = Duration::from_secs(10);

/// A peer that is kept connected. Dropped, it is let go of: its task ends.
pub(super) struct Kept {
    addresses: watch::Sender<Vec<String>>,
}

/// These peers are kept from now on, and no others.
pub(super) fn keep(inner: &Arc<Inner>, runtime: &tokio::runtime::Handle, peers: BTreeMap<PeerKey, Vec<String>>) {
    let mut kept = lock(&inner.kept);
    kept.retain(|peer, _| peers.contains_key(peer));
    for (peer, addresses) in peers {
        if let Some(kept) = kept.get(&peer) {
            kept.addresses.send_if_modified(|known| {
                let is_new = *known != addresses;
                *known = addresses;
                is_new
            });
            continue;
        }
        let (send, addresses) = watch::channel(addresses);
        runtime.spawn(run(Arc::clone(inner), peer, addresses));
        kept.insert(peer, Kept { addresses: send });
    }
}

async fn run(inner: Arc<Inner>, peer: PeerKey, mut addresses: watch::Receiver<Vec<String>>) {
    let mut stop = inner.stop.clone();
    let mut tries = 0;
    loop {
        let known = addresses.borrow_and_update().clone();
        let begun = inner.now();
        let until_lost = async {
            if connect(&inner, peer, &known).await.is_ok() {
                inner.lost(&peer).await;
            }
        };
        // New addresses do not cut a connection that there is: whether they are good shows with the next.
        tokio::select! {
            () = until_lost => {}
            () = let_go(addresses.clone()) => return,
            () = stopped(&mut stop) => return,
        }
        tries = if inner.now() - begun >= HELD + CONNECT_TIME { 0 } else { tries + 1 };
        let random = RandomState::new().build_hasher().finish();
        tokio::select! {
            () = tokio::time::sleep(pause(tries, random)) => {}
            changed = addresses.changed() => match changed {
                Ok(()) => tries = 0,
                Err(_) => return,
            },
            () = stopped(&mut stop) => return,
        }
    }
}

/// Waits until nobody wants the peer to be kept any more.
async fn let_go(mut addresses: watch::Receiver<Vec<String>>) {
    while addresses.changed().await.is_ok() {}
}

/// How long to wait before the next attempt: longer each time, and not the same for all who lost one peer at once.
fn pause(tries: u32, random: u64) -> Duration {
    let pause = PAUSE_MIN.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(PAUSE_MAX);
    // Three to five quarters.
    pause * (768 + u32::try_from(random % 512).unwrap_or(0)) / 1024
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit() {
        let ms = |tries, random| u64::try_from(pause(tries, random).as_millis()).expect("short");
        assert_eq!((ms(0, 256), ms(1, 256), ms(2, 256), ms(6, 256)), (200, 200, 400, 6400));
        assert_eq!((ms(7, 256), ms(u32::MAX, 256)), (10_000, 10_000));
        for random in 0..2000 {
            assert!((150..=250).contains(&ms(1, random)), "{random}");
        }
    }
}
