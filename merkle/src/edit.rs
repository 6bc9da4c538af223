//! Changing one directory: the entries that stay and the new ones go through the cutter in order.
//!
//! Nodes of the old directory are taken over unread where the cutter is known to give the same nodes again: it stands at
//! the beginning of a node on all levels below, no change falls into the node, and the node's end does not depend
//! on what follows. So a change costs a few nodes however large the directory is, and the result is that of building
//! it anew. Memory: one node of each level.

mod paths;
mod tower;

pub use paths::edit_paths;

use tower::Tower;

use crate::cut::{BOUNDARY_COUNT_MIN, ITEM_COUNT_MAX, is_boundary};
use crate::entry::{Entry, TreeLink};
use crate::error::{EditError, WalkError};
use crate::path::{Name, RepoPath};
use crate::read::{Cursor, Pending};
use crate::source::{NodeSink, NodeSource};

/// Changes one directory. Names come in strictly ascending order.
///
/// The old directory is trusted to be cut by the rule (ours are; what comes from others passes [`crate::Walk`] first): if it
/// is not, the result holds the right entries, and may keep its wrong cuts. Nodes are written while it goes. If it is dropped, they stay behind without a reference.
pub struct TreeEditor<'s> {
    old: Option<TreeLink>,
    cursor: Option<Cursor<'s>>,
    tower: Tower,
    last: Option<Name>,
    changed: bool,
}

impl<'s> TreeEditor<'s> {
    /// Starts from a directory, or from nothing. Nothing is read yet; the empty directory never is.
    pub fn new(source: &'s dyn NodeSource, old: Option<TreeLink>) -> Self {
        let cursor = old.filter(|old| *old != TreeLink::empty()).map(|old| Cursor::new(source, old));
        Self { old, cursor, tower: Tower::new(), last: None, changed: false }
    }

    /// Puts an entry under a name; says what was there. Of an entry that is there already nothing changes.
    pub fn upsert(&mut self, sink: &mut dyn NodeSink, name: Name, entry: Entry) -> Result<Option<Entry>, EditError> {
        entry.check()?;
        let old = self.take(sink, &name)?;
        self.changed |= old.as_ref() != Some(&entry);
        self.tower.push(sink, name.clone(), entry)?;
        self.last = Some(name);
        Ok(old)
    }

    /// Removes a name; says what was there.
    pub fn delete(&mut self, sink: &mut dyn NodeSink, name: &Name) -> Result<Option<Entry>, EditError> {
        let old = self.take(sink, name)?;
        self.changed |= old.is_some();
        self.last = Some(name.clone());
        Ok(old)
    }

    /// What stands under a name that is above all changed ones. The name may still be changed.
    pub fn find(&mut self, sink: &mut dyn NodeSink, name: &Name) -> Result<Option<&Entry>, EditError> {
        if self.last.as_ref().is_some_and(|last| last >= name) {
            return Err(EditError::Order(name.clone().into()));
        }
        self.advance(sink, Some(name))?;
        match &mut self.cursor {
            Some(cursor) => Ok(cursor.peek()?.filter(|(found, _)| found == name).map(|(_, entry)| entry)),
            None => Ok(None),
        }
    }

    /// The last name that was changed.
    pub fn last_changed(&self) -> Option<&Name> {
        self.last.as_ref()
    }

    /// Whether nothing has changed so far.
    pub fn is_unchanged(&self) -> bool {
        !self.changed && self.old.is_some()
    }

    /// The new directory; the old link itself if nothing changed.
    pub fn finish(mut self, sink: &mut dyn NodeSink) -> Result<TreeLink, EditError> {
        if let Some(old) = self.old.filter(|_| !self.changed) {
            if self.cursor.is_none() {
                self.tower.finish(sink)?;
            }
            return Ok(old);
        }
        self.advance(sink, None)?;
        self.tower.finish(sink)
    }

    fn take(&mut self, sink: &mut dyn NodeSink, name: &Name) -> Result<Option<Entry>, EditError> {
        if self.find(sink, name)?.is_none() {
            return Ok(None);
        }
        let taken = self.cursor.as_mut().map(Cursor::next_entry).transpose()?;
        Ok(taken.flatten().map(|(_, entry)| entry))
    }

    /// Carries over what is below `name`, or all that is left.
    fn advance(&mut self, sink: &mut dyn NodeSink, name: Option<&Name>) -> Result<(), EditError> {
        let Some(cursor) = &mut self.cursor else {
            return Ok(());
        };
        while !cursor.is_done() {
            if let Some(pending) = cursor.pending() {
                if let Some(link) = pending.link
                    && self.tower.in_sync(pending.level)
                    && ends_alike(&pending, name)
                {
                    self.tower.push_link(sink, pending.level + 1, link.clone())?;
                    cursor.skip();
                    continue;
                }
                cursor.descend()?;
                if !cursor.in_leaf() {
                    continue;
                }
            }
            match (cursor.peek()?, name) {
                (Some((found, _)), Some(name)) if found >= name => break,
                _ => {}
            }
            if let Some((name, entry)) = cursor.next_entry()? {
                self.tower.push(sink, name, entry)?;
            }
        }
        Ok(())
    }
}

/// Whether a node that begins where the rule begins one also ends where it did, the next change being at `name`, or there
/// being no further change.
///
/// Where a node ends depends on its items and, by its size, on the one behind. So it is enough that the node behind has no
/// change either: if that is not the last, it is followed by others on each level, and its own first items, on each level,
/// are what they were. (A node above level 0 that is not the last has at least 64 items, or it would not have ended.)
fn ends_alike(pending: &Pending<'_>, name: Option<&Name>) -> bool {
    let (Some(link), Some(name)) = (pending.link, name) else {
        return true;
    };
    match pending.next {
        Some(next) if link.last < *name => ends_itself(pending) || (!pending.next_is_final && next.last < *name),
        _ => false,
    }
}

/// Whether a leaf that is not the last ends because of its own entries, and not of the size of the one behind.
pub(crate) fn ends_itself(pending: &Pending<'_>) -> bool {
    let Some(link) = pending.link else { return false };
    let full = link.entries == ITEM_COUNT_MAX as u64;
    let enough = link.entries >= BOUNDARY_COUNT_MIN as u64;
    pending.level == 0 && (full || (enough && is_boundary(0, link.last.as_bytes())))
}

impl From<filesync_cas::GetError> for EditError {
    fn from(error: filesync_cas::GetError) -> Self {
        Self::Walk(WalkError::Get(error))
    }
}

impl EditError {
    /// An error about a name in a directory becomes one about a path.
    fn below(self, dir: &RepoPath) -> Self {
        match self {
            Self::Order(name) => match name.name() {
                Some(name) => Self::Order(dir.join(&name)),
                None => Self::Order(dir.clone()),
            },
            other => other,
        }
    }
}
