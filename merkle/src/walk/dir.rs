//! Walking over one directory, leaf by leaf.

use std::sync::Arc;

use filesync_cas::ContentHash;

use super::{Path, Step, WalkVisitor, Work, attrs, file, full, key};
use crate::cut::{CutCheck, Item, WRONG_CUT};
use crate::edit::ends_itself;
use crate::entry::{Content, Entry, Node, Totals, TreeLink};
use crate::error::WalkError;
use crate::id::{ChunkId, TreeId};
use crate::parts::{Follow, Parts, Way};
use crate::path::Name;
use crate::read::Cursor;
use crate::source::NodeSource;

/// What the rule looks at.
struct Cut {
    size: usize,
    name: Name,
}

impl Item for Cut {
    fn size(&self) -> usize {
        self.size
    }

    fn key(&self) -> &[u8] {
        self.name.as_bytes()
    }
}

/// A directory of which some leaves are still to be visited.
pub(super) struct DirWalk<'s> {
    source: &'s dyn NodeSource,
    link: TreeLink,
    path: Path,
    depth: usize,
    /// Where it stands on the way to the parts that are visited; none within one.
    way: Option<(&'s Parts, Way)>,
    cursor: Cursor<'s>,
    /// One for each level; none once the cuts were found wrong, or cannot be known for want of a node.
    checks: Vec<CutCheck<Cut>>,
}

/// All that an entry claims about a directory.
pub(super) fn claim(link: &TreeLink) -> ContentHash {
    key(&[b"dir", link.id.as_bytes(), &[link.height], &totals_bytes(link.totals)])
}

fn totals_bytes(totals: Totals) -> [u8; 24] {
    let mut bytes = [0; 24];
    let values = [totals.files, totals.directories, totals.bytes];
    for (to, value) in bytes.chunks_exact_mut(8).zip(values) {
        to.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

impl<'s> DirWalk<'s> {
    pub(super) fn new(
        source: &'s dyn NodeSource,
        link: TreeLink,
        path: Path,
        depth: usize,
        way: Option<(&'s Parts, Way)>,
    ) -> Self {
        let checks = (0..=link.height).map(CutCheck::new).collect();
        Self { source, link, path, depth, way, cursor: Cursor::new(source, link), checks }
    }

    /// Goes on to the next leaf and leaves its directories, and the rest of this one, as work.
    pub(super) fn go(mut self: Box<Self>, visitor: &mut dyn WalkVisitor, work: &mut Vec<Work<'s>>) {
        while !self.cursor.is_done() {
            if self.pass_known(visitor) {
                continue;
            }
            let Some((id, level)) = self.cursor.pending().map(|pending| (pending.id, pending.level)) else {
                self.cursor.skip();
                continue;
            };
            if let Err(error) = self.cursor.descend() {
                self.problem(visitor, error);
                self.checks.clear();
                self.cursor.skip();
                continue;
            }
            visitor.node(TreeId::KIND, &id.0);
            self.check_cut(visitor, id, level);
            if self.cursor.in_leaf() {
                let dirs = self.visit_leaf(visitor);
                self.cursor.skip();
                work.push(Work::Continue(self));
                work.extend(dirs);
                return;
            }
        }
        if !self.checks.iter_mut().all(CutCheck::finish) {
            self.problem(visitor, wrong_cut(self.link.id));
        }
    }

    /// Passes a node that was judged before, in the same state: in step with the rule, between the same neighbours.
    fn pass_known(&mut self, visitor: &mut dyn WalkVisitor) -> bool {
        // What was seen of a node here is not all that is seen of it elsewhere.
        if self.way.is_some() {
            return false;
        }
        let Some(pending) = self.cursor.pending() else { return false };
        let Some(link) = pending.link else { return false };
        let below = self.checks.get(..=usize::from(pending.level));
        if !below.is_some_and(|below| below.iter().all(CutCheck::in_sync)) {
            return false;
        }
        // The right neighbour counts only where its first item may have a say in where this node ends.
        let next: &[u8] = match pending.next {
            None => b"last",
            Some(_) if ends_itself(&pending) => b"any",
            Some(next) => next.id.as_bytes(),
        };
        let before = self.cursor.last().map(Name::as_bytes).unwrap_or_default();
        let claim = key(&[
            b"node",
            link.id.as_bytes(),
            &[pending.level],
            before,
            next,
            link.last.as_bytes(),
            &link.entries.to_le_bytes(),
            &totals_bytes(link.totals),
        ]);
        let known = !visitor.first(&claim);
        if known {
            self.cursor.skip();
        }
        known
    }

    fn check_cut(&mut self, visitor: &mut dyn WalkVisitor, id: TreeId, level: u8) {
        let Some(check) = self.checks.get_mut(usize::from(level)) else { return };
        let good = if level == 0 {
            check.node(self.cursor.leaf().iter().map(|item| Cut { size: item.size(), name: item.0.clone() }))
        } else {
            check.node(self.cursor.inner().iter().map(|item| Cut { size: item.size(), name: item.last.clone() }))
        };
        if !good {
            self.checks.clear();
            self.problem(visitor, wrong_cut(id));
        }
    }

    fn visit_leaf(&self, visitor: &mut dyn WalkVisitor) -> Vec<Work<'s>> {
        let mut dirs = Vec::new();
        for (name, entry) in self.cursor.leaf() {
            let way = match self.way.map(|(parts, way)| parts.follow(way, name)) {
                None | Some(Follow::In) => None,
                Some(Follow::On(way)) if entry.is_directory() => Some(way),
                Some(Follow::On(_) | Follow::Out) => continue,
            };
            if let Err(error) = self.visit_entry(visitor, entry) {
                visitor.problem(&full(&self.path).join(name), error);
            }
            if let Node::Directory(link) = &entry.node {
                let path = Some(Arc::new(Step { parent: self.path.clone(), name: name.clone() }));
                dirs.push(Work::Open { link: *link, path, depth: self.depth + 1, way });
            }
        }
        dirs.reverse();
        dirs
    }

    fn visit_entry(&self, visitor: &mut dyn WalkVisitor, entry: &Entry) -> Result<(), WalkError> {
        if let Some(id) = &entry.attrs {
            attrs(self.source, visitor, id)?;
        }
        match &entry.node {
            Node::File { content: Content::Chunk(ChunkId(id)), size, .. } => {
                visitor.chunk(&ChunkId(*id), *size);
                Ok(())
            }
            Node::File { content: Content::List { root, height }, size, .. } => {
                file::list(self.source, visitor, root, *height, *size)
            }
            _ => Ok(()),
        }
    }

    fn problem(&self, visitor: &mut dyn WalkVisitor, error: WalkError) {
        visitor.problem(&full(&self.path), error);
    }
}

fn wrong_cut(id: TreeId) -> WalkError {
    WalkError::Mismatch { kind: TreeId::KIND, id: id.0, what: WRONG_CUT }
}
