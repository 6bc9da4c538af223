//! Reading directories: in order, from a name on, or one path.
//!
//! A cursor checks each node against the link that led to it (level, sums, last name) and against what came before
//! (order). It does not check the cuts: [`crate::walk`] does.

use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::id::TreeId;
use crate::path::{Name, RepoPath};
use crate::source::NodeSource;
use crate::tree::{Link, TreeNode};

/// The entries of one directory in order; an iterator with flat memory. It ends after an error.
pub struct DirCursor<'s>(Cursor<'s>);

impl<'s> DirCursor<'s> {
    /// At the first entry. Nothing is read yet.
    pub fn new(source: &'s dyn NodeSource, dir: &TreeLink) -> Self {
        Self(Cursor::new(source, *dir))
    }

    /// Goes forward to the first entry whose name is at least `name`. Never goes back.
    pub fn seek(&mut self, name: &[u8]) -> Result<(), WalkError> {
        self.0.seek(name)
    }

    /// The next entry, which stays the next one.
    pub fn peek(&mut self) -> Result<Option<&(Name, Entry)>, WalkError> {
        self.0.peek()
    }

    /// Goes forward to a name and takes its entry, if there is one.
    pub fn find(&mut self, name: &[u8]) -> Result<Option<Entry>, WalkError> {
        self.0.seek(name)?;
        match self.0.peek()? {
            Some((found, _)) if found.as_bytes() == name => Ok(self.0.next_entry()?.map(|(_, entry)| entry)),
            _ => Ok(None),
        }
    }
}

impl Iterator for DirCursor<'_> {
    type Item = Result<(Name, Entry), WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_entry().transpose()
    }
}

/// What stands at a path; `None` also for the root, which has no entry.
pub fn lookup(source: &dyn NodeSource, root: &TreeLink, path: &RepoPath) -> Result<Option<Entry>, WalkError> {
    let mut dir = *root;
    let mut found = None;
    for (depth, component) in path.components().enumerate() {
        if depth > 0 {
            match found.as_ref().and_then(Entry::as_directory) {
                Some(link) => dir = *link,
                None => return Ok(None),
            }
        }
        found = DirCursor::new(source, &dir).find(component)?;
    }
    Ok(found)
}

/// Reads and decodes one node.
pub(crate) fn read_node(source: &dyn NodeSource, id: &TreeId) -> Result<TreeNode, WalkError> {
    let bytes = source.get(TreeId::KIND, &id.0)?;
    TreeNode::decode(&bytes).map_err(|cause| WalkError::Malformed { kind: TreeId::KIND, id: id.0, cause })
}

/// A node of the directory that a cursor stands before.
#[derive(Clone, Copy)]
pub(crate) struct Pending<'c> {
    pub(crate) id: TreeId,
    pub(crate) level: u8,
    /// What leads to it; the root has none.
    pub(crate) link: Option<&'c Link>,
    /// What follows on its level or, where its parent ends too, on a level above; nothing after the last.
    pub(crate) next: Option<&'c Link>,
    /// Whether that is the last of its level.
    pub(crate) next_is_final: bool,
}

/// An inner node; the cursor stands before or in the node that `links[at]` leads to.
struct Frame {
    level: u8,
    links: Vec<Link>,
    at: usize,
}

impl Frame {
    fn at_end(&self) -> bool {
        self.at + 1 == self.links.len()
    }
}

struct Leaf {
    entries: std::vec::IntoIter<(Name, Entry)>,
    untouched: bool,
}

/// A position in one directory, either before a node or in a leaf.
pub(crate) struct Cursor<'s> {
    source: &'s dyn NodeSource,
    root: TreeLink,
    frames: Vec<Frame>,
    leaf: Option<Leaf>,
    /// The last name passed: all that follow must be greater.
    last: Option<Name>,
    done: bool,
}

impl<'s> Cursor<'s> {
    pub(crate) fn new(source: &'s dyn NodeSource, root: TreeLink) -> Self {
        let (frames, leaf, last) = (Vec::new(), None, None);
        Self { source, root, frames, leaf, last, done: false }
    }

    /// The last name passed.
    pub(crate) fn last(&self) -> Option<&Name> {
        self.last.as_ref()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    /// Whether a leaf is loaded, of which entries are left.
    pub(crate) fn in_leaf(&self) -> bool {
        self.leaf.is_some()
    }

    /// The inner node that was opened last, if the cursor stands before its first child.
    pub(crate) fn inner(&self) -> &[Link] {
        self.frames.last().map(|frame| frame.links.as_slice()).unwrap_or_default()
    }

    /// What is left of the leaf.
    pub(crate) fn leaf(&self) -> &[(Name, Entry)] {
        self.leaf.as_ref().map(|leaf| leaf.entries.as_slice()).unwrap_or_default()
    }

    /// The node at whose beginning the cursor stands: not read yet, or a leaf of which nothing was taken.
    pub(crate) fn pending(&self) -> Option<Pending<'_>> {
        if self.done || self.leaf.as_ref().is_some_and(|leaf| !leaf.untouched) {
            return None;
        }
        let Some(frame) = self.frames.last() else {
            return Some(Pending {
                id: self.root.id,
                level: self.root.height,
                link: None,
                next: None,
                next_is_final: true,
            });
        };
        let link = frame.links.get(frame.at)?;
        let mut above = self.frames.iter().rev().skip_while(|frame| frame.at_end());
        let (next, next_is_final) = match above.next() {
            Some(frame) => {
                (frame.links.get(frame.at + 1), frame.at + 2 == frame.links.len() && above.all(Frame::at_end))
            }
            None => (None, true),
        };
        Some(Pending { id: link.id, level: frame.level - 1, link: Some(link), next, next_is_final })
    }

    /// Reads the pending node and stands before its first child or at its first entry.
    pub(crate) fn descend(&mut self) -> Result<(), WalkError> {
        if self.leaf.is_some() {
            return Ok(());
        }
        let Some(Pending { id, level, link, .. }) = self.pending() else {
            return Ok(());
        };
        let node = read_node(self.source, &id)?;
        let first = match &node {
            TreeNode::Leaf(entries) => entries.first().map(|(name, _)| name),
            TreeNode::Inner { links, .. } => links.first().map(|link| &link.last),
        };
        let (Ok((entries, totals)), expected) = (node.sum(), link.map_or(self.root.totals, |link| link.totals)) else {
            return mismatch(id, "its totals overflow");
        };
        if node.level() != level {
            return mismatch(id, "its level is not what its parent says");
        }
        if totals != expected || link.is_some_and(|link| link.entries != entries) {
            return mismatch(id, "its sums are not what its parent says");
        }
        let last = match &node {
            TreeNode::Leaf(entries) => entries.last().map(|(name, _)| name),
            TreeNode::Inner { links, .. } => links.last().map(|link| &link.last),
        };
        if link.is_some_and(|link| Some(&link.last) != last) {
            return mismatch(id, "its last name is not what its parent says");
        }
        if self.last.is_some() && first <= self.last.as_ref() {
            return mismatch(id, "its first name is not above its left neighbour");
        }
        match node {
            TreeNode::Leaf(entries) => {
                self.leaf = Some(Leaf { entries: entries.into_iter(), untouched: true });
                self.settle();
            }
            TreeNode::Inner { level, links } => {
                if self.frames.is_empty() && links.len() < 2 {
                    return mismatch(id, "a root above level 0 has one link only");
                }
                self.frames.push(Frame { level, links, at: 0 });
            }
        }
        Ok(())
    }

    /// Passes the pending node; passes the rest of the leaf if the cursor stands in one.
    pub(crate) fn skip(&mut self) {
        let leaf_last = self.leaf.take().and_then(|leaf| leaf.entries.last()).map(|(name, _)| name);
        let link_last = || Some(self.frames.last().and_then(|frame| frame.links.get(frame.at))?.last.clone());
        self.last = leaf_last.or_else(link_last).or(self.last.take());
        self.pass();
    }

    /// Leaves behind what the cursor stood before or in.
    fn pass(&mut self) {
        while let Some(frame) = self.frames.last_mut() {
            frame.at += 1;
            if frame.at < frame.links.len() {
                return;
            }
            self.frames.pop();
        }
        self.done = true;
    }

    /// A leaf without entries left is passed.
    fn settle(&mut self) {
        if self.leaf.as_ref().is_some_and(|leaf| leaf.entries.as_slice().is_empty()) {
            self.leaf = None;
            self.pass();
        }
    }

    pub(crate) fn peek(&mut self) -> Result<Option<&(Name, Entry)>, WalkError> {
        while self.leaf.is_none() && !self.done {
            self.descend().inspect_err(|_| self.done = true)?;
        }
        Ok(self.leaf.as_ref().and_then(|leaf| leaf.entries.as_slice().first()))
    }

    pub(crate) fn next_entry(&mut self) -> Result<Option<(Name, Entry)>, WalkError> {
        self.peek()?;
        let Some(leaf) = &mut self.leaf else {
            return Ok(None);
        };
        leaf.untouched = false;
        let entry = leaf.entries.next();
        if leaf.entries.as_slice().is_empty() {
            self.last = entry.as_ref().map(|(name, _)| name.clone());
            self.settle();
        }
        Ok(entry)
    }

    pub(crate) fn seek(&mut self, name: &[u8]) -> Result<(), WalkError> {
        while !self.done {
            if let Some(leaf) = &mut self.leaf {
                let before = leaf.entries.as_slice().partition_point(|(other, _)| other.as_bytes() < name);
                if before == leaf.entries.as_slice().len() {
                    self.skip();
                    continue;
                }
                if before > 0 {
                    leaf.untouched = false;
                    leaf.entries.nth(before - 1);
                }
                return Ok(());
            }
            match self.pending().and_then(|pending| pending.link) {
                Some(link) if link.last.as_bytes() < name => self.skip(),
                _ => self.descend().inspect_err(|_| self.done = true)?,
            }
        }
        Ok(())
    }
}

fn mismatch<T>(id: TreeId, what: &'static str) -> Result<T, WalkError> {
    Err(WalkError::Mismatch { kind: TreeId::KIND, id: id.0, what })
}
