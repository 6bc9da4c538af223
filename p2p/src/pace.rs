//! Whether one who sends keeps up a pace. Pure: the time goes in.

use std::time::Duration;

use crate::wire::Moment;

/// The span that is looked at: as long as one may say nothing at all.
const SPAN: Duration = crate::swarm::STALL_TIME;
/// The least that must come in a span, where others could be asked instead: 16 KiB a second.
pub const SPAN_LEN_MIN: u64 = 160 << 10;

/// What has come since some moment.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    since: Moment,
    came: u64,
}

impl Pace {
    /// Begins.
    pub fn new(now: Moment) -> Self {
        Self { since: now, came: 0 }
    }

    /// So many bytes came.
    pub fn came(&mut self, len: u64, now: Moment) {
        self.came += len;
        if self.came >= SPAN_LEN_MIN && self.since + SPAN <= now {
            *self = Self::new(now);
        }
    }

    /// Whether too little came in a whole span.
    pub fn is_slow(&self, now: Moment) -> bool {
        self.since + SPAN <= now && self.came < SPAN_LEN_MIN
    }

    /// When that may be so.
    pub fn deadline(&self) -> Moment {
        self.since + SPAN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(n: u64) -> Moment {
        Duration::from_secs(n)
    }

    #[test]
    fn a_pace_is_kept_over_each_span() {
        let mut pace = Pace::new(second(5));
        assert!(!pace.is_slow(second(14)) && pace.is_slow(second(15)));
        pace.came(SPAN_LEN_MIN - 1, second(14));
        assert!(pace.is_slow(second(15)));
        pace.came(1, second(15));
        assert!(!pace.is_slow(second(24)) && pace.is_slow(second(25)), "the next span counts for itself");
        // What came early counts to the end of its span, and not for another.
        let mut pace = Pace::new(second(0));
        pace.came(SPAN_LEN_MIN * 100, second(1));
        pace.came(1, second(10));
        assert!(pace.is_slow(second(20)));
    }
}
