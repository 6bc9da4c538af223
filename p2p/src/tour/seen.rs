//! Which nodes were sent, as far as is remembered: enough that nothing is sent twice in a row of a million, and that a
//! tree of few nodes and many paths comes to an end.

use std::collections::HashSet;

use filesync_cas::ContentHash;

/// Ids in one generation.
const GENERATION: usize = 1 << 20;

/// Two generations of ids, by their first bytes: who makes two nodes with the same ones makes a commit that is never
/// complete anywhere.
#[derive(Debug, Default)]
pub(super) struct Seen {
    young: HashSet<u64>,
    old: HashSet<u64>,
}

fn short(id: &ContentHash) -> u64 {
    u64::from_le_bytes(id.as_bytes().first_chunk().copied().unwrap_or_default())
}

impl Seen {
    pub(super) fn contains(&self, id: &ContentHash) -> bool {
        let short = short(id);
        self.young.contains(&short) || self.old.contains(&short)
    }

    pub(super) fn note(&mut self, id: &ContentHash) {
        self.young.insert(short(id));
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
    }
}
