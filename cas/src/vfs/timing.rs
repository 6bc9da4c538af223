//! How long syncs take: counted for the process, since disks know nothing of stores.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Upper bounds by which syncs are counted.
pub const SYNC_BOUNDS: [Duration; 10] = [
    Duration::from_micros(100),
    Duration::from_micros(300),
    Duration::from_millis(1),
    Duration::from_millis(3),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(100),
    Duration::from_millis(300),
    Duration::from_secs(1),
    Duration::from_secs(3),
];

static COUNTS: [AtomicU64; SYNC_BOUNDS.len()] = [const { AtomicU64::new(0) }; SYNC_BOUNDS.len()];
static TOTAL: AtomicU64 = AtomicU64::new(0);
static NANOS: AtomicU64 = AtomicU64::new(0);

/// Syncs that this process has waited for.
#[derive(Debug, Clone, Copy)]
pub struct Syncs {
    /// How many took at most as long as the bound of the same place in [`SYNC_BOUNDS`], and longer than the one before.
    pub counts: [u64; SYNC_BOUNDS.len()],
    /// How many there were.
    pub total: u64,
    /// How long they took together.
    pub took: Duration,
}

/// Syncs so far.
pub fn syncs() -> Syncs {
    let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
    Syncs { counts: COUNTS.each_ref().map(load), total: load(&TOTAL), took: Duration::from_nanos(load(&NANOS)) }
}

/// Carries out a sync, and counts it.
pub(super) fn timed(sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let began = Instant::now();
    let result = sync();
    let took = began.elapsed();
    if let Some(count) = SYNC_BOUNDS.iter().position(|bound| took <= *bound).and_then(|at| COUNTS.get(at)) {
        count.fetch_add(1, Ordering::Relaxed);
    }
    TOTAL.fetch_add(1, Ordering::Relaxed);
    NANOS.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn syncs_are_counted_where_they_belong() {
        let before = syncs();
        timed(|| Ok(())).unwrap();
        assert!(timed(|| Err(io::ErrorKind::StorageFull.into())).is_err());
        timed(|| {
            std::thread::sleep(Duration::from_millis(4));
            Ok(())
        })
        .unwrap();
        let after = syncs();
        // Other tests sync meanwhile.
        assert!(after.total >= before.total + 3);
        assert!(after.took >= before.took + Duration::from_millis(4));
        let slow = |syncs: &Syncs| syncs.counts[4..].iter().sum::<u64>();
        assert!(slow(&after) > slow(&before));
    }
}
