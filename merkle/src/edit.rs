//! Changing trees.

use crate::entry::{Entry, TreeLink};
use crate::error::EditError;
use crate::path::{Name, RepoPath};
use crate::source::{NodeSink, NodeSource};

/// Changes one directory. Names come in strictly ascending order.
pub struct TreeEditor<'s> {
    source: &'s dyn NodeSource,
}

impl<'s> TreeEditor<'s> {
    /// Starts from a directory, or from nothing.
    pub fn new(source: &'s dyn NodeSource, old: Option<TreeLink>) -> Self {
        let _ = old;
        Self { source }
    }

    /// Puts an entry under a name; says what was there.
    pub fn upsert(&mut self, sink: &mut dyn NodeSink, name: Name, entry: Entry) -> Result<Option<Entry>, EditError> {
        let _ = (self.source, sink, name, entry);
        unimplemented!()
    }

    /// Removes a name; says what was there.
    pub fn delete(&mut self, sink: &mut dyn NodeSink, name: &Name) -> Result<Option<Entry>, EditError> {
        let _ = (sink, name);
        unimplemented!()
    }

    /// What stands under a name that is above all changed ones. The name may still be changed.
    pub fn find(&mut self, sink: &mut dyn NodeSink, name: &Name) -> Result<Option<&Entry>, EditError> {
        let _ = (sink, name);
        unimplemented!()
    }

    /// Whether nothing has changed so far.
    pub fn is_unchanged(&self) -> bool {
        unimplemented!()
    }

    /// The new directory; the old link itself if nothing changed.
    pub fn finish(self, sink: &mut dyn NodeSink) -> Result<TreeLink, EditError> {
        let _ = sink;
        unimplemented!()
    }
}

/// Applies changes anywhere below a root. Paths strictly ascending in the order of [`RepoPath`]; `None` deletes (with all
/// below; of nothing is no error). A directory's entry carries the link to start from; changes below it may follow.
/// Directories that lose all entries stay. A change below something that is no directory is an error, a deletion is not.
pub fn edit_paths(
    source: &dyn NodeSource,
    sink: &mut dyn NodeSink,
    root: Option<TreeLink>,
    changes: impl IntoIterator<Item = (RepoPath, Option<Entry>)>,
) -> Result<TreeLink, EditError> {
    let _ = (source, sink, root, changes.into_iter().next());
    unimplemented!()
}
