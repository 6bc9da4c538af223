//! Looking up many paths of one tree.

use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::path::{Name, RepoPath};
use crate::read::DirCursor;
use crate::source::NodeSource;

/// Looks up paths. Asked in the order of a walk it reads each node once; other orders are answered too, only slower.
pub struct Finder<'s> {
    source: &'s dyn NodeSource,
    root: TreeLink,
    /// The directories on the way to what was asked for last.
    levels: Vec<Level<'s>>,
}

struct Level<'s> {
    link: TreeLink,
    cursor: DirCursor<'s>,
    /// What was asked for last, and what stands there.
    last: Option<(Name, Option<Entry>)>,
}

impl<'s> Finder<'s> {
    /// Of a tree. Nothing is read yet.
    pub fn new(source: &'s dyn NodeSource, root: TreeLink) -> Self {
        Self { source, root, levels: Vec::new() }
    }

    /// What stands at a path; `None` also for the root, which has no entry.
    pub fn find(&mut self, path: &RepoPath) -> Result<Option<Entry>, WalkError> {
        let mut found = None;
        let mut dir = self.root;
        for (depth, name) in path.names().enumerate() {
            if depth > 0 {
                match found.as_ref().and_then(Entry::as_directory) {
                    Some(link) => dir = *link,
                    None => return Ok(None),
                }
            }
            if self.levels.get(depth).is_none_or(|level| level.link != dir) {
                self.levels.truncate(depth);
                self.levels.push(Level { link: dir, cursor: DirCursor::new(self.source, &dir), last: None });
            }
            let Some(level) = self.levels.get_mut(depth) else { return Ok(None) };
            found = level.find(self.source, name).inspect_err(|_| self.levels.truncate(depth))?;
        }
        Ok(found)
    }
}

impl<'s> Level<'s> {
    fn find(&mut self, source: &'s dyn NodeSource, name: Name) -> Result<Option<Entry>, WalkError> {
        // The empty directory need not be stored.
        if self.link == TreeLink::empty() {
            return Ok(None);
        }
        match &self.last {
            Some((last, found)) if *last == name => return Ok(found.clone()),
            Some((last, _)) if *last > name => self.cursor = DirCursor::new(source, &self.link),
            _ => {}
        }
        let found = self.cursor.find(name.as_bytes())?;
        self.last = Some((name, found.clone()));
        Ok(found)
    }
}
