//! Numbers that look random and are the same for the same seed.

/// `SplitMix64`.
#[derive(Debug, Clone)]
pub struct Numbers(pub u64);

impl Numbers {
    /// The next.
    pub fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    /// One of `0..end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.draw() % end
    }

    /// Whether something comes to pass that does so in `per_mille` of a thousand cases.
    pub fn happens(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }

    /// One of these, if there is one.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.draw() % u64::try_from(of.len()).ok().filter(|len| *len > 0)?;
        of.get(usize::try_from(at).ok()?)
    }

    /// Numbers of somebody else's own.
    pub fn fork(&mut self) -> Self {
        Self(self.draw())
    }

    /// Some of `1..=end`.
    pub fn some_of(&mut self, end: u64) -> Vec<u64> {
        let bits = self.draw();
        (1..=end).filter(|node| bits & 1 << node != 0).collect()
    }
}
