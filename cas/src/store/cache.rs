//! Decoded frames, kept for the objects that are likely to be asked for next: their neighbours.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::frame::Frame;
use crate::index::PackNumber;

/// Bytes of decoded frames that are kept.
const MEMORY_MAX: usize = 32 << 20;

type Place = (PackNumber, u32);

#[derive(Debug, Default)]
struct Kept {
    frames: HashMap<Place, (Arc<Frame>, u64)>,
    memory: usize,
    clock: u64,
}

/// A cache of decoded frames; the least recently used go first.
#[derive(Debug, Default)]
pub struct FrameCache(Mutex<Kept>);

impl FrameCache {
    /// A frame, if it is kept.
    pub fn get(&self, place: Place) -> Option<Arc<Frame>> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        kept.frames.get_mut(&place).map(|(frame, used)| {
            *used = now;
            Arc::clone(frame)
        })
    }

    /// Keeps a frame.
    pub fn put(&self, place: Place, frame: &Arc<Frame>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.clock += 1;
        let now = kept.clock;
        if kept.frames.insert(place, (Arc::clone(frame), now)).is_none() {
            kept.memory += frame.memory_len();
        }
        while kept.memory > MEMORY_MAX && kept.frames.len() > 1 {
            let oldest = kept.frames.iter().min_by_key(|(_, (_, used))| *used).map(|(place, _)| *place);
            if let Some((frame, _)) = oldest.and_then(|place| kept.frames.remove(&place)) {
                kept.memory -= frame.memory_len();
            }
        }
    }
}
