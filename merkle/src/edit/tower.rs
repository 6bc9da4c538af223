//! One cutter for each level of a directory; complete nodes are written and referred to from the level above.

use crate::cut::Cutter;
use crate::entry::{Entry, HEIGHT_MAX, TreeLink};
use crate::error::{EditError, InvalidError};
use crate::id::TreeId;
use crate::path::Name;
use crate::source::NodeSink;
use crate::tree::{Link, TOTALS_OVERFLOW, encode_inner, encode_leaf, sum_entries, sum_links};

/// Nodes of a directory that grows from left to right.
pub(super) struct Tower {
    leaf: Cutter<(Name, Entry)>,
    /// Levels 1 and above, as far as there are links.
    upper: Vec<Cutter<Link>>,
    done: Vec<Vec<(Name, Entry)>>,
}

impl Tower {
    pub(super) fn new() -> Self {
        Self { leaf: Cutter::new(0), upper: Vec::new(), done: Vec::new() }
    }

    /// Whether a node of this level, with all below it, would be cut without regard to what was pushed so far.
    pub(super) fn in_sync(&self, level: u8) -> bool {
        self.leaf.in_sync()
            && match self.upper.get(..usize::from(level)) {
                Some(upper) => upper.iter().all(Cutter::in_sync),
                None => false,
            }
    }

    pub(super) fn push(&mut self, sink: &mut dyn NodeSink, name: Name, entry: Entry) -> Result<(), EditError> {
        self.leaf.push((name, entry), &mut self.done);
        if self.done.is_empty() {
            return Ok(());
        }
        for node in std::mem::take(&mut self.done) {
            let link = put_leaf(sink, &node)?;
            self.push_link(sink, 1, link)?;
        }
        Ok(())
    }

    /// Takes a link whose node is written: at most ten levels of calls.
    pub(super) fn push_link(&mut self, sink: &mut dyn NodeSink, level: u8, link: Link) -> Result<(), EditError> {
        if level > HEIGHT_MAX {
            return Err(InvalidError("a directory is too high").into());
        }
        let index = usize::from(level) - 1;
        if self.upper.len() == index {
            self.upper.push(Cutter::new(level));
        }
        let mut done = Vec::new();
        if let Some(cutter) = self.upper.get_mut(index) {
            cutter.push(link, &mut done);
        }
        for node in done {
            let link = put_inner(sink, level, &node)?;
            self.push_link(sink, level + 1, link)?;
        }
        Ok(())
    }

    /// The directory ends: writes what is left.
    pub(super) fn finish(&mut self, sink: &mut dyn NodeSink) -> Result<TreeLink, EditError> {
        let last = self.leaf.finish();
        if self.upper.is_empty() {
            let entries = last.unwrap_or_default();
            let (_, totals) = sum_entries(&entries).ok_or(TOTALS_OVERFLOW)?;
            let id = TreeId(sink.put(TreeId::KIND, &encode_leaf(&entries))?);
            return Ok(TreeLink { id, height: 0, totals });
        }
        if let Some(node) = last {
            let link = put_leaf(sink, &node)?;
            self.push_link(sink, 1, link)?;
        }
        let mut level = 1;
        loop {
            let is_top = self.upper.len() == usize::from(level);
            let last = self.upper.get_mut(usize::from(level) - 1).and_then(Cutter::finish);
            match last {
                // A single node below is the root itself.
                Some(links) if is_top && links.len() == 1 => {
                    let link = links.into_iter().next().ok_or(TOTALS_OVERFLOW)?;
                    return Ok(TreeLink { id: link.id, height: level - 1, totals: link.totals });
                }
                Some(links) if is_top => {
                    let link = put_inner(sink, level, &links)?;
                    return Ok(TreeLink { id: link.id, height: level, totals: link.totals });
                }
                Some(links) => {
                    let link = put_inner(sink, level, &links)?;
                    self.push_link(sink, level + 1, link)?;
                }
                None => {}
            }
            level += 1;
        }
    }
}

fn put_leaf(sink: &mut dyn NodeSink, node: &[(Name, Entry)]) -> Result<Link, EditError> {
    let (entries, totals) = sum_entries(node).ok_or(TOTALS_OVERFLOW)?;
    let (last, _) = node.last().ok_or(InvalidError("a node without entries"))?;
    let id = TreeId(sink.put(TreeId::KIND, &encode_leaf(node))?);
    Ok(Link { last: last.clone(), id, entries, totals })
}

fn put_inner(sink: &mut dyn NodeSink, level: u8, node: &[Link]) -> Result<Link, EditError> {
    let (entries, totals) = sum_links(node).ok_or(TOTALS_OVERFLOW)?;
    let last = node.last().ok_or(InvalidError("a node without links"))?;
    let id = TreeId(sink.put(TreeId::KIND, &encode_inner(level, node))?);
    Ok(Link { last: last.last.clone(), id, entries, totals })
}
