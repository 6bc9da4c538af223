//! What is written: every change of every node is known from the seed, and so is every tree.

use std::collections::BTreeMap;

use filesync_cas::testing::Rng;

use super::super::disk::BALLAST;

/// Files of a node, which its changes take in turn.
const SLOTS: u32 = 8;
/// Each of so many changes is a large one, of several chunks.
const LARGE_EVERY: u32 = 32;

/// The bytes of files, by path.
pub type Files = BTreeMap<String, Vec<u8>>;
/// How many changes of each node there are in a tree: its first ones.
pub type Clock = BTreeMap<usize, u32>;

pub struct Work {
    seed: u64,
    /// What was there before the first change.
    pub base: Files,
}

impl Work {
    pub fn new(seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        let mut base: Files = (0..20).map(|n| (format!("base/{n}"), rng.bytes(2_000))).collect();
        base.insert("base/large".to_owned(), rng.bytes(700_000));
        base.insert(".filesyncignore".to_owned(), format!("{BALLAST}\n").into_bytes());
        Self { seed, base }
    }

    /// Where a change of a node goes; they are counted from 1.
    pub fn path(node: usize, change: u32) -> String {
        format!("node-{node}/{}", change % SLOTS)
    }

    /// What a change writes. No two write the same.
    pub fn content(&self, node: usize, change: u32) -> Vec<u8> {
        let mut rng = Rng::new(self.seed ^ (node as u64) << 48 ^ u64::from(change) << 16);
        let len = if change.is_multiple_of(LARGE_EVERY) { 200_000 } else { 20 + rng.index(3_000) };
        let mut bytes = format!("{node} {change}\n").into_bytes();
        bytes.extend(rng.bytes(len));
        bytes
    }

    /// What a commit of that change says, and nothing else does.
    pub fn message(node: usize, change: u32) -> String {
        format!("node {node} change {change}")
    }

    /// The newest change of a node in each of its files.
    fn newest(node: usize, changes: u32) -> impl Iterator<Item = (usize, u32)> {
        (changes.saturating_sub(SLOTS - 1).max(1)..=changes).map(move |change| (node, change))
    }

    /// All files of a tree.
    pub fn files(&self, clock: &Clock) -> Files {
        let newest = clock.iter().flat_map(|(node, changes)| Self::newest(*node, *changes));
        let changed = newest.map(|(node, change)| (Self::path(node, change), self.content(node, change)));
        self.base.clone().into_iter().chain(changed).collect()
    }
}

/// In a tree are the changes of each side.
pub fn join(clock: &mut Clock, other: &Clock) {
    for (node, changes) in other {
        let known = clock.entry(*node).or_default();
        *known = (*known).max(*changes);
    }
}

#[test]
fn a_tree_has_the_newest_change_of_each_file() {
    let work = Work::new(1);
    let files = work.files(&Clock::from([(3, 20), (4, 2)]));
    assert_eq!(files.len(), work.base.len() + 8 + 2);
    for (node, change) in [(3, 20), (3, 13), (4, 1)] {
        assert_eq!(files[&Work::path(node, change)], work.content(node, change));
    }
}
