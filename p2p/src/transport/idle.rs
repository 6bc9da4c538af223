//! Bulk streams that nobody uses at the moment: the next fetch from the same peer need not open one, which takes two round trips.

use futures::{AsyncReadExt as _, FutureExt as _};
use libp2p::Stream;

use super::inner::{Inner, lock};
use super::link::Opened;
use crate::ask::Asking;
use crate::peer::PeerKey;
use crate::serve::IDLE_TIME;
use crate::wire::Moment;

/// A stream that is welcome, on which nothing is owed.
pub(super) struct Idle {
    pub(super) asking: Asking,
    pub(super) from: futures::io::ReadHalf<Stream>,
    pub(super) to: futures::io::WriteHalf<Stream>,
    since: Moment,
}

impl Idle {
    /// One that has just been opened; what came behind its welcome is for the caller.
    pub(super) fn new(opened: Opened) -> (Self, Vec<crate::message::Message>) {
        let Opened { stream, asking, first } = opened;
        let (from, to) = stream.split();
        (Self { asking, from, to, since: Moment::ZERO }, first)
    }
}

/// Keeps one for the next who asks this peer. One for each is enough: more at a time are rare.
pub(super) fn keep(inner: &Inner, peer: PeerKey, mut idle: Idle) {
    if idle.asking.is_between_messages() {
        idle.since = inner.now();
        drop(lock(&inner.idle).insert(peer, idle));
    }
}

/// One that was kept, if it is still good as far as that can be told: the peer ends those that are idle for long.
pub(super) fn take(inner: &Inner, peer: &PeerKey) -> Option<Idle> {
    let mut idle = lock(&inner.idle).remove(peer)?;
    let is_fresh = is_fresh(&idle, inner.now()) && inner.is_connected(peer);
    // Whatever comes unasked, its end among it, is a reason not to use it.
    let is_silent = idle.from.read(&mut [0]).now_or_never().is_none();
    (is_fresh && is_silent).then_some(idle)
}

/// Lets go what is too old to be used: a stream keeps its connection open.
pub(super) fn let_go(inner: &Inner) {
    let now = inner.now();
    lock(&inner.idle).retain(|_, idle| is_fresh(idle, now));
}

fn is_fresh(idle: &Idle, now: Moment) -> bool {
    idle.since + IDLE_TIME / 2 > now
}
