//! What of a file's bytes is written, and what is left out as a hole.

use std::ops::Range;

/// Zeros in blocks of this length, at least so many bytes in a row, become a hole.
pub const BLOCK: usize = 4 << 10;
const HOLE_MIN: usize = 64 << 10;

/// The ranges of `bytes` that are written, in order. `offset` is where in the file they begin.
pub fn data(bytes: &[u8], offset: u64) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while at < bytes.len() {
            let (data, hole) = next_hole(&bytes[at..], offset + at as u64);
            let begin = at;
            at += data + hole;
            if data > 0 {
                return Some(begin..begin + data);
            }
        }
        None
    })
}

/// Whether all of a chunk is a hole.
pub fn is_hole(bytes: &[u8]) -> bool {
    bytes.len() >= BLOCK && is_zero(bytes)
}

/// How many bytes come before the next hole, and how long that is. `offset` is where in the file the bytes begin.
fn next_hole(bytes: &[u8], offset: u64) -> (usize, usize) {
    if bytes.len() < HOLE_MIN {
        // A shorter chunk is a hole only if there is nothing else in it.
        return if is_hole(bytes) { (0, bytes.len()) } else { (bytes.len(), 0) };
    }
    if is_zero(bytes) {
        return (0, bytes.len());
    }
    // The remainder is below BLOCK.
    let misaligned = usize::try_from(offset % BLOCK as u64).unwrap_or(0);
    let mut at = if misaligned == 0 { 0 } else { BLOCK - misaligned };
    let mut run = at;
    while at + BLOCK <= bytes.len() {
        let zero = is_zero(&bytes[at..at + BLOCK]);
        at += BLOCK;
        if zero && at + BLOCK <= bytes.len() {
            continue;
        }
        let end = if zero { at } else { at - BLOCK };
        if end - run >= HOLE_MIN {
            return (run, end - run);
        }
        run = at;
    }
    (bytes.len(), 0)
}

fn is_zero(bytes: &[u8]) -> bool {
    // Most data shows at once that it is not: the first bytes are looked at before all.
    let (head, rest) = bytes.split_at(bytes.len().min(16));
    head.iter().all(|&byte| byte == 0)
        && rest.chunks(256).all(|block| block.iter().fold(0, |all, byte| all | byte) == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holes() {
        let zeros = |len: usize| vec![0u8; len];
        let ones = |len: usize| vec![1u8; len];
        let find = |parts: &[Vec<u8>], offset| next_hole(&parts.concat(), offset);
        assert_eq!(find(&[zeros(BLOCK)], 0), (0, BLOCK));
        assert_eq!(find(&[zeros(BLOCK - 1)], 0), (BLOCK - 1, 0));
        assert_eq!(find(&[zeros(3 * HOLE_MIN)], 5), (0, 3 * HOLE_MIN));
        assert_eq!(find(&[ones(100_000)], 0), (100_000, 0));
        assert_eq!(find(&[zeros(HOLE_MIN), ones(1)], 0), (0, HOLE_MIN));
        assert_eq!(find(&[zeros(HOLE_MIN), ones(1)], 1), (HOLE_MIN + 1, 0));
        assert_eq!(find(&[ones(1), zeros(HOLE_MIN + BLOCK)], 0), (BLOCK, HOLE_MIN));
        assert_eq!(find(&[ones(1), zeros(HOLE_MIN), ones(BLOCK)], 4095), (1, HOLE_MIN));
        assert_eq!(find(&[ones(BLOCK), zeros(BLOCK), ones(HOLE_MIN)], 0).1, 0);
        assert_eq!(find(&[ones(BLOCK), zeros(HOLE_MIN - 1), ones(HOLE_MIN)], 0).1, 0);
    }

    #[test]
    fn data_between_holes() {
        let bytes = [vec![1; BLOCK], vec![0; HOLE_MIN], vec![1; 10], vec![0; 3 * HOLE_MIN]].concat();
        let pieces: Vec<_> = data(&bytes, 0).collect();
        // The last ten are no block.
        let end = bytes.len();
        assert_eq!(pieces, [0..BLOCK, BLOCK + HOLE_MIN..2 * BLOCK + HOLE_MIN, end - 10..end]);
        assert_eq!(data(&vec![0; HOLE_MIN], 7).count(), 0);
        assert_eq!(data(&[], 0).count(), 0);
    }
}
