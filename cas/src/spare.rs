//! Memory of frames that are done with, for those that come next. Given back to the system each time, it would come
//! again page by page, cleared by the kernel, and that takes longer than to read what goes into it.

use std::sync::{Mutex, PoisonError};

use crate::relay::FRAME_LEN_MAX;

/// Buffers that are kept: 8 MiB.
const KEPT_MAX: usize = 8;
/// Shorter ones the allocator keeps itself.
const LEN_MIN: usize = 64 << 10;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of this length, with some room behind it. What is in it means nothing.
pub(crate) fn take(len: usize, room: usize) -> Vec<u8> {
    let kept = if len < LEN_MIN { None } else { KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop() };
    let mut bytes = kept.unwrap_or_else(|| vec![0; len + room]);
    bytes.resize(len, 0);
    bytes
}

/// Takes a buffer back that held a frame; any will do.
pub fn give_back(bytes: Vec<u8>) {
    if (LEN_MIN..=2 * FRAME_LEN_MAX).contains(&bytes.len()) {
        let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < KEPT_MAX {
            kept.push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_again_and_never_grows() {
        for round in 0..3 * KEPT_MAX {
            let len = LEN_MIN + round * 1000;
            let mut bytes = take(len, 16);
            assert_eq!(bytes.len(), len);
            bytes.fill(7);
            give_back(bytes.clone());
            give_back(bytes);
        }
        assert!(KEPT.lock().unwrap().len() <= KEPT_MAX);
        give_back(vec![0; LEN_MIN - 1]);
        assert!(KEPT.lock().unwrap().iter().all(|kept| kept.len() >= LEN_MIN));
        assert_eq!(take(10, 5), [0; 10]);
    }
}
