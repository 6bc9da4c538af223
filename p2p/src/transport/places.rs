//! Places for streams whose Hello has not come: few in all, few of one peer, and none of those of members for strangers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::inner::lock;
use crate::peer::PeerKey;

/// Streams of all members whose Hello has not come.
const MEMBERS_MAX: usize = 256;
/// Of one of them: more than it may have open, so that only who opens streams to say nothing is held up.
const OF_ONE_MAX: usize = 16;
/// Streams of all strangers, and of one of them.
const STRANGERS_MAX: usize = 16;
const OF_A_STRANGER_MAX: usize = 2;

/// Gives places away.
pub(super) struct Places {
    members: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    /// How many each peer has. Who has none is not in it.
    taken: Mutex<HashMap<PeerKey, usize>>,
}

/// A place. Dropped, it is free again.
pub(super) struct Place {
    places: Arc<Places>,
    peer: PeerKey,
    _place: OwnedSemaphorePermit,
}

impl Places {
    pub(super) fn new() -> Self {
        let (members, strangers) = (Semaphore::new(MEMBERS_MAX), Semaphore::new(STRANGERS_MAX));
        Self { members: Arc::new(members), strangers: Arc::new(strangers), taken: Mutex::default() }
    }

    /// A place for a stream of a peer, if there is one for it.
    pub(super) fn take(self: &Arc<Self>, peer: PeerKey, is_member: bool) -> Option<Place> {
        let (places, max) = if is_member { (&self.members, OF_ONE_MAX) } else { (&self.strangers, OF_A_STRANGER_MAX) };
        let mut taken = lock(&self.taken);
        if taken.get(&peer).is_some_and(|taken| *taken >= max) {
            return None;
        }
        let place = Arc::clone(places).try_acquire_owned().ok()?;
        *taken.entry(peer).or_default() += 1;
        Some(Place { places: Arc::clone(self), peer, _place: place })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = lock(&self.places.taken);
        if let Some(count) = taken.get_mut(&self.peer) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.peer);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(n: u8) -> PeerKey {
        PeerKey([n; 32])
    }

    /// P4, P6: one who takes all it can leaves places for others, and strangers take none of members.
    #[test]
    fn nobody_takes_all_places() {
        let places = Arc::new(Places::new());
        let mut held = Vec::new();
        for n in 0..100 {
            held.extend((0..100).map_while(|_| places.take(peer(n), false)));
        }
        assert_eq!(held.len(), STRANGERS_MAX);
        let of_one: Vec<_> = (0..100).map_while(|_| places.take(peer(200), true)).collect();
        assert_eq!(of_one.len(), OF_ONE_MAX);
        assert!(places.take(peer(201), true).is_some(), "another has his own");
        for n in 100..200 {
            held.extend((0..100).map_while(|_| places.take(peer(n), true)));
        }
        assert_eq!(held.len() + of_one.len(), STRANGERS_MAX + MEMBERS_MAX);
        drop((held, of_one));
        assert!(places.take(peer(1), false).is_some() && places.take(peer(1), true).is_some());
        assert!(lock(&places.taken).is_empty(), "nobody is remembered");
    }
}
