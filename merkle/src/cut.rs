//! Where a sequence of items is cut into nodes: section 1.2 of the format, for trees and lists, at every level.
//!
//! The cutter holds one node, never more. Rule 1 (few items: one node) is decided only when the sequence ends or grows
//! beyond it; until then the first node is held back, uncut, and no boundary is hashed.

use std::collections::VecDeque;
use std::sync::LazyLock;

/// The most items in one node.
pub const ITEM_COUNT_MAX: usize = 1024;
/// The most bytes of items in one node.
pub const ITEM_BYTES_MAX: usize = 262_080;
/// A sequence of at most so many items …
const ONE_NODE_COUNT_MAX: usize = 512;
/// … of at most so many bytes is one node.
const ONE_NODE_BYTES_MAX: usize = 65_536;
/// No boundary ends a node with fewer items.
pub(crate) const BOUNDARY_COUNT_MIN: usize = 64;

/// What sequences are made of.
pub trait Item {
    /// Length of the encoding.
    fn size(&self) -> usize;
    /// What the boundary hash is taken of.
    fn key(&self) -> &[u8];
}

/// Whether an item ends its node, if that has enough items.
pub(crate) fn is_boundary(level: u8, key: &[u8]) -> bool {
    static HASHER: LazyLock<blake3::Hasher> =
        LazyLock::new(|| blake3::Hasher::new_derive_key("filesync node boundary v1"));
    let mut hasher = HASHER.clone();
    hasher.update(&[level]);
    hasher.update(key);
    hasher.finalize().as_bytes()[0] == 0
}

/// Cuts the items of one level.
#[derive(Debug)]
pub(crate) struct Cutter<T> {
    level: u8,
    node: Vec<T>,
    bytes: usize,
    /// The sequence has outgrown rule 1: nodes are cut by rule 2 from its beginning on.
    decided: bool,
}

impl<T: Item> Cutter<T> {
    pub(crate) fn new(level: u8) -> Self {
        Self { level, node: Vec::new(), bytes: 0, decided: false }
    }

    /// Whether the next item surely begins a node, cut by rule 2.
    pub(crate) fn in_sync(&self) -> bool {
        self.decided && self.node.is_empty()
    }

    /// Whether no item waits for its node to become complete.
    pub(crate) fn is_empty(&self) -> bool {
        self.node.is_empty()
    }

    /// Takes the next item; nodes that are thereby complete go to `done`.
    pub(crate) fn push(&mut self, item: T, done: &mut Vec<Vec<T>>) {
        if self.decided {
            return self.push_decided(item, done);
        }
        self.bytes += item.size();
        self.node.push(item);
        if self.node.len() > ONE_NODE_COUNT_MAX || self.bytes > ONE_NODE_BYTES_MAX {
            self.decided = true;
            self.bytes = 0;
            for item in std::mem::take(&mut self.node) {
                self.push_decided(item, done);
            }
        }
    }

    fn push_decided(&mut self, item: T, done: &mut Vec<Vec<T>>) {
        let size = item.size();
        if self.bytes + size > ITEM_BYTES_MAX {
            self.close(done);
        }
        let count = self.node.len() + 1;
        let ends = count == ITEM_COUNT_MAX || (count >= BOUNDARY_COUNT_MIN && is_boundary(self.level, item.key()));
        self.bytes += size;
        self.node.push(item);
        if ends {
            self.close(done);
        }
    }

    fn close(&mut self, done: &mut Vec<Vec<T>>) {
        let next = Vec::with_capacity(self.node.len());
        done.push(std::mem::replace(&mut self.node, next));
        self.bytes = 0;
    }

    /// The sequence ends: its last node, if it is not complete already.
    pub(crate) fn finish(&mut self) -> Option<Vec<T>> {
        self.bytes = 0;
        let last = std::mem::take(&mut self.node);
        (!last.is_empty()).then_some(last)
    }
}

/// Checks that nodes which were read are cut by the rule.
#[derive(Debug)]
pub(crate) struct CutCheck<T> {
    cutter: Cutter<T>,
    /// Lengths of nodes whose end the cutter has not reached.
    found: VecDeque<usize>,
}

/// A node that ends where the rule does not end it.
pub(crate) const WRONG_CUT: &str = "nodes are not cut by the rule";

impl<T: Item> CutCheck<T> {
    pub(crate) fn new(level: u8) -> Self {
        Self { cutter: Cutter::new(level), found: VecDeque::new() }
    }

    /// Whether the next node begins where the rule begins one, without regard to what was before.
    pub(crate) fn in_sync(&self) -> bool {
        self.cutter.in_sync() && self.found.is_empty()
    }

    /// Takes the items of the next node; `false` if a node does not end where it should. The empty directory has no items at all.
    pub(crate) fn node(&mut self, items: impl ExactSizeIterator<Item = T>) -> bool {
        if items.len() == 0 {
            return true;
        }
        self.found.push_back(items.len());
        let mut done = Vec::new();
        items.for_each(|item| self.cutter.push(item, &mut done));
        done.iter().all(|node| self.found.pop_front() == Some(node.len()))
    }

    /// The level ends; `false` if it should have ended otherwise.
    pub(crate) fn finish(&mut self) -> bool {
        let last = self.cutter.finish();
        last.iter().all(|node| self.found.pop_front() == Some(node.len())) && self.found.is_empty()
    }
}
