//! [`Rng`]: the same numbers from the same seed, on every machine and for ever.

/// SplitMix64: small, fast, good enough for tests, useless for secrets.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Any seed is as good as any other.
    pub fn new(seed: u64) -> Self {
        Rng(seed)
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, which is above 0.
    pub fn below(&mut self, end: u64) -> u64 {
        assert!(end > 0, "nothing is below 0");
        // The bias of a plain remainder is below end / 2^64.
        self.next_u64() % end
    }

    /// An index into something of `len` elements, which is above 0.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).expect("below a usize")
    }

    /// True in `num` of `den` cases.
    pub fn chance(&mut self, num: u64, den: u64) -> bool {
        self.below(den) < num
    }

    /// True in half of the cases.
    pub fn coin(&mut self) -> bool {
        self.chance(1, 2)
    }

    /// Random bytes.
    pub fn fill(&mut self, buf: &mut [u8]) {
        for piece in buf.chunks_mut(8) {
            piece.copy_from_slice(&self.next_u64().to_le_bytes()[..piece.len()]);
        }
    }

    /// Random bytes, `len` of them.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.fill(&mut bytes);
        bytes
    }

    /// Any order of the elements, each as likely.
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        for end in (2..=items.len()).rev() {
            items.swap(end - 1, self.index(end));
        }
    }

    /// A generator of its own for a part of the work, so that one part's use does not shift another's numbers.
    pub fn fork(&mut self) -> Rng {
        Rng(self.next_u64())
    }
}

#[cfg(any(test, feature = "testing"))]
thread_local! {
    static SOWN: std::cell::RefCell<Option<Rng>> = const { std::cell::RefCell::new(None) };
}

/// From here on, what would be random on this thread follows from a seed; without one it is random again.
#[cfg(any(test, feature = "testing"))]
pub fn sow(seed: Option<u64>) {
    SOWN.set(seed.map(Rng::new));
}

/// Fills in what follows from the seed of this thread, if it has one.
#[cfg(any(test, feature = "testing"))]
pub fn drawn(bytes: &mut [u8]) -> bool {
    SOWN.with_borrow_mut(|sown| sown.as_mut().map(|rng| rng.fill(bytes)).is_some())
}
