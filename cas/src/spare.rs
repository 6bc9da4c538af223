//! Memory of frames that are done with, for those that come next. Given back to the system each time, it would come
//! again page by page, cleared by the kernel, and that takes longer than to read what goes into it.

use std::sync::{Mutex, PoisonError};

use crate::relay::FRAME_LEN_MAX;

/// Buffers that are kept, which makes 10 MiB.
const KEPT_MAX: usize = 8;
/// The largest that is kept: a frame and what a message puts before it.
const CAPACITY_MAX: usize = FRAME_LEN_MAX + 64;
/// Shorter ones the allocator keeps itself.
const LEN_MIN: usize = 64 << 10;

static KEPT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// A buffer of this length. What is in it means nothing. A new one has some room behind it.
pub(crate) fn take(len: usize, room: usize) -> Vec<u8> {
    let kept = if len < LEN_MIN { None } else { KEPT.lock().unwrap_or_else(PoisonError::into_inner).pop() };
    let mut bytes = kept.unwrap_or_else(|| vec![0; len + room]);
    bytes.resize(len, 0);
    bytes
}

/// Takes a buffer back that held a frame; any will do.
pub fn give_back(bytes: Vec<u8>) {
    if bytes.len() >= LEN_MIN && bytes.capacity() <= CAPACITY_MAX {
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
    fn memory_comes_again() {
        // Other tests of this process may take it.
        let came_again = (0..100).any(|_| {
            let bytes = vec![7; LEN_MIN + 5000];
            let at = bytes.as_ptr();
            give_back(bytes);
            let again = take(LEN_MIN, 16);
            assert_eq!(again.len(), LEN_MIN);
            again.as_ptr() == at
        });
        assert!(came_again);
        assert_eq!(take(LEN_MIN + 9000, 16).len(), LEN_MIN + 9000);
        assert_eq!(take(10, 5), [0; 10]);
    }

    #[test]
    fn not_too_much_is_kept() {
        let mut large = vec![0; LEN_MIN];
        large.reserve(CAPACITY_MAX);
        give_back(large);
        give_back(vec![0; LEN_MIN - 1]);
        (0..2 * KEPT_MAX).for_each(|_| give_back(vec![0; LEN_MIN]));
        let kept = KEPT.lock().unwrap();
        assert!(kept.len() <= KEPT_MAX);
        assert!(kept.iter().all(|kept| kept.len() >= LEN_MIN && kept.capacity() <= CAPACITY_MAX));
    }
}
