//! Which nodes were sent, as far as is remembered: enough that nothing is sent twice within a quarter of a million, and that a
//! tree of few nodes and many paths comes to an end; little enough that twenty walks fit into memory.

use std::collections::HashSet;

use filesync_cas::ContentHash;

/// Ids in one generation.
const GENERATION: usize = 1 << 18;

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

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u32) -> ContentHash {
        ContentHash::of_chunk(&n.to_le_bytes())
    }

    #[test]
    fn the_last_are_remembered_and_memory_is_bounded() {
        let mut seen = Seen::default();
        let generation = u32::try_from(GENERATION).expect("small");
        for n in 0..3 * generation {
            assert!(!seen.contains(&id(n)));
            seen.note(&id(n));
            assert!(seen.contains(&id(n)) && seen.contains(&id(n.saturating_sub(generation - 1))));
            assert!(seen.young.len() + seen.old.len() < 2 * GENERATION + 1);
        }
        assert!(!seen.contains(&id(0)), "what is long ago is sent again");
    }
}
