//! Changes anywhere in a tree: an editor for each directory on the way, and only the spine is written anew.

use super::TreeEditor;
use crate::entry::{Entry, Node, TreeLink};
use crate::error::EditError;
use crate::path::{Name, RepoPath};
use crate::source::{NodeSink, NodeSource};

/// A directory below the root that is being changed.
struct Open<'s> {
    name: Name,
    /// Its entry, but for the link.
    entry: Entry,
    editor: TreeEditor<'s>,
}

/// The directories from the root to where the last change was.
struct Spine<'s> {
    source: &'s dyn NodeSource,
    root: TreeEditor<'s>,
    open: Vec<Open<'s>>,
    /// The path of the last of them.
    path: RepoPath,
}

/// Applies changes anywhere below a root, `None` being the empty tree.
///
/// Paths are strictly ascending in the order of [`RepoPath`]. An entry is put there, whatever was there before; `None`
/// deletes, with all that is below, and deleting nothing is no error. The entry of a directory carries the link to start
/// from ([`TreeLink::empty`] for a new one); changes below it may follow. Directories that lose all entries stay.
/// Putting something where no directory is above it is [`EditError::NotADirectory`].
///
/// If nothing changes, the result is the old link and nothing new is written. Memory: a few nodes for each open level.
pub fn edit_paths(
    source: &dyn NodeSource,
    sink: &mut dyn NodeSink,
    root: Option<TreeLink>,
    changes: impl IntoIterator<Item = (RepoPath, Option<Entry>)>,
) -> Result<TreeLink, EditError> {
    let root = TreeEditor::new(source, root);
    let mut spine = Spine { source, root, open: Vec::new(), path: RepoPath::root() };
    let mut last = RepoPath::root();
    for (path, entry) in changes {
        if path <= last {
            return Err(EditError::Order(path));
        }
        spine.change(sink, &path, entry)?;
        last = path;
    }
    spine.ascend(sink, 0)?;
    spine.root.finish(sink)
}

impl<'s> Spine<'s> {
    fn change(&mut self, sink: &mut dyn NodeSink, path: &RepoPath, entry: Option<Entry>) -> Result<(), EditError> {
        let shared = self.path.components().zip(path.components()).take_while(|(a, b)| a == b).count();
        self.ascend(sink, shared)?;
        let mut names = path.names().skip(shared).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_some() {
                if self.descend(sink, &name)? {
                    continue;
                }
                return match entry {
                    Some(_) => Err(EditError::NotADirectory(self.path.join(&name))),
                    None => Ok(()),
                };
            }
            let link = entry.as_ref().and_then(Entry::as_directory).copied();
            return match (entry, link) {
                (None, _) => self.last().delete(sink, &name).map(drop),
                (Some(entry), Some(link)) => {
                    self.open(name, entry, link);
                    Ok(())
                }
                (Some(entry), None) => self.last().upsert(sink, name, entry).map(drop),
            }
            .map_err(|error| error.below(&self.path));
        }
        Ok(())
    }

    fn last(&mut self) -> &mut TreeEditor<'s> {
        match self.open.last_mut() {
            Some(open) => &mut open.editor,
            None => &mut self.root,
        }
    }

    /// Opens a directory that is there; `false` if there is none.
    fn descend(&mut self, sink: &mut dyn NodeSink, name: &Name) -> Result<bool, EditError> {
        // What was just deleted or replaced is no directory: one that was put is open still.
        if self.last().last_changed() == Some(name) {
            return Ok(false);
        }
        let Some(entry) = self.last().find(sink, name)?.cloned() else {
            return Ok(false);
        };
        let Some(link) = entry.as_directory().copied() else {
            return Ok(false);
        };
        self.open(name.clone(), entry, link);
        Ok(true)
    }

    fn open(&mut self, name: Name, entry: Entry, link: TreeLink) {
        self.path.push(&name);
        self.open.push(Open { name, entry, editor: TreeEditor::new(self.source, Some(link)) });
    }

    /// Finishes directories until `depth` of them are open.
    fn ascend(&mut self, sink: &mut dyn NodeSink, depth: usize) -> Result<(), EditError> {
        while self.open.len() > depth {
            let Some(Open { name, entry, editor }) = self.open.pop() else { break };
            self.path.pop();
            let link = editor.finish(sink)?;
            self.last().upsert(sink, name, Entry { node: Node::Directory(link), ..entry })?;
        }
        Ok(())
    }
}
