//! Decoded frames, kept for the objects that are likely to be asked for next: their neighbours.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use super::lock;
use crate::frame::Frame;
use crate::index::PackNumber;

/// Bytes of decoded frames that are kept.
const MEMORY_MAX: usize = 32 << 20;
/// What each of them takes besides its bytes.
const ENTRY_LEN: usize = 256;

type Place = (PackNumber, u32);

#[derive(Debug, Default)]
struct Kept {
    frames: HashMap<Place, (Arc<Frame>, u64)>,
    /// By when they were last used: there may be tens of thousands of small ones.
    by_use: BTreeMap<u64, Place>,
    memory: usize,
    clock: u64,
}

/// A cache of decoded frames; the least recently used go first.
#[derive(Debug, Default)]
pub struct FrameCache(Mutex<Kept>);

impl Kept {
    fn tick(&mut self, place: Place) -> u64 {
        self.clock += 1;
        self.by_use.insert(self.clock, place);
        self.clock
    }
}

impl FrameCache {
    /// A frame, if it is kept.
    pub fn get(&self, place: Place) -> Option<Arc<Frame>> {
        let kept = &mut *lock(&self.0);
        if !kept.frames.contains_key(&place) {
            return None;
        }
        let now = kept.tick(place);
        let (frame, used) = kept.frames.get_mut(&place)?;
        kept.by_use.remove(used);
        *used = now;
        Some(Arc::clone(frame))
    }

    /// Forgets all of them.
    pub fn clear(&self) {
        *lock(&self.0) = Kept::default();
    }

    /// Keeps a frame.
    pub fn put(&self, place: Place, frame: &Arc<Frame>) {
        let kept = &mut *lock(&self.0);
        let now = kept.tick(place);
        kept.memory += frame.memory_len() + ENTRY_LEN;
        if let Some((old, used)) = kept.frames.insert(place, (Arc::clone(frame), now)) {
            kept.memory -= old.memory_len() + ENTRY_LEN;
            kept.by_use.remove(&used);
        }
        while kept.memory > MEMORY_MAX && kept.frames.len() > 1 {
            let Some((_, oldest)) = kept.by_use.pop_first() else { return };
            if let Some((frame, _)) = kept.frames.remove(&oldest) {
                kept.memory -= frame.memory_len() + ENTRY_LEN;
            }
        }
    }
}
