//! What a power cut leaves: the durable state and a choice among the changes that were not synced.

use std::collections::{BTreeMap, BTreeSet};

use super::fs::{Body, Change, Fs, Ino, Inode, Key, Node, ROOT};
use crate::testing::Rng;

const SECTOR: u64 = 512;

/// Which unsynced changes survive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// None.
    DropAllUnsynced,
    /// All, as when only the process dies.
    KeepAll,
    /// Some, see [`super::LossVfs`]; the same seed chooses the same again.
    Random(u64),
}

impl Fs {
    /// The file system after the power cut, everything durable, without inodes that no name leads to.
    pub(super) fn crashed(&self, loss: &Loss) -> Fs {
        let mut left = self.clone();
        match loss {
            Loss::DropAllUnsynced => {}
            Loss::KeepAll => left.sync_everything(),
            Loss::Random(seed) => left.lose_some(&mut Rng::new(*seed)),
        }
        let mut inodes = BTreeMap::new();
        let mut queue = vec![ROOT];
        while let Some(ino) = queue.pop() {
            if inodes.contains_key(&ino) {
                continue; // a second name of a file, after half a rename
            }
            let node = left.inodes[&ino].durable.clone();
            if let Body::Dir(entries) = &node.body {
                queue.extend(entries.values());
            }
            inodes.insert(ino, Inode { live: node.clone(), durable: node, pending: Vec::new() });
        }
        left.settled(inodes)
    }

    fn lose_some(&mut self, rng: &mut Rng) {
        self.lose_names(&mut rng.fork());
        let mut rng = rng.fork();
        for ino in self.inodes.keys().copied().collect::<Vec<Ino>>() {
            let inode = self.inode_mut(ino);
            if !inode.pending.is_empty() {
                inode.durable = survivor(inode, &mut rng.fork());
                inode.pending.clear();
            }
        }
    }

    fn lose_names(&mut self, rng: &mut Rng) {
        // Nearly nothing, half or nearly everything: a coin for each would hardly ever show long histories intact.
        let keep = 1 + rng.below(15);
        let mut lost: BTreeSet<Key> = BTreeSet::new();
        for step in std::mem::take(&mut self.steps) {
            let possible = !step.keys().any(|key| lost.contains(&key));
            if possible && rng.chance(keep, 16) {
                self.apply_durable(&step);
            } else {
                lost.extend(step.keys());
            }
        }
    }
}

/// A file (or the metadata of a directory or symlink) after the power cut.
fn survivor(inode: &Inode, rng: &mut Rng) -> Node {
    let mut node = inode.durable.clone();
    let keep = rng.below(17);
    let mut survives = |change: &&Change| {
        if change.is_content() { rng.chance(keep, 16) } else { rng.coin() }
    };
    let kept: Vec<&Change> = inode.pending.iter().filter(|change| survives(change)).collect();
    let last_write = kept.iter().rposition(|change| matches!(change, Change::Write { .. }));
    // Bytes below this are durable content, and not cut off by anything that survived.
    let mut floor = len(&node);
    for (at, change) in kept.iter().enumerate() {
        match change {
            Change::SetLen { len, .. } => floor = floor.min(*len),
            Change::Write { offset, data, at: time } if Some(at) == last_write && rng.coin() => {
                let (offset, data) = torn(*offset, data, rng);
                node.apply(&Change::Write { offset, data: data.to_vec(), at: *time });
                continue;
            }
            _ => {}
        }
        node.apply(change);
    }
    if inode.pending.iter().any(Change::is_content) {
        lose_length(&mut node, floor, len(&inode.live), rng);
    }
    node
}

fn len(node: &Node) -> u64 {
    match &node.body {
        Body::File(bytes) => bytes.len() as u64,
        _ => 0,
    }
}

/// A part of a write, from its begin or up to its end, cut where a sector begins.
fn torn<'a>(offset: u64, data: &'a [u8], rng: &mut Rng) -> (u64, &'a [u8]) {
    let first = offset.next_multiple_of(SECTOR).max(offset + 1);
    let first = first.next_multiple_of(SECTOR);
    let end = offset + data.len() as u64;
    if first >= end {
        return (offset, data);
    }
    let cut = first + SECTOR * rng.below((end - first).div_ceil(SECTOR));
    let at = usize::try_from(cut - offset).expect("within the data");
    if rng.chance(3, 4) { (offset, &data[..at]) } else { (cut, &data[at..]) }
}

/// The length is metadata and goes its own way: behind the writes, or ahead of them.
fn lose_length(node: &mut Node, floor: u64, live: u64, rng: &mut Rng) {
    let reached = len(node);
    let new = match rng.below(4) {
        0 if reached > floor => floor + rng.below(reached - floor + 1),
        1 if reached < live => live,
        _ => return,
    };
    node.apply(&Change::SetLen { len: new, at: node.mtime });
}
