//! Walking over one list.

use super::{WalkVisitor, key};
use crate::error::WalkError;
use crate::id::{ChunkId, ListId};
use crate::list::ListNodes;
use crate::source::NodeSource;

pub(super) fn list(
    source: &dyn NodeSource,
    visitor: &mut dyn WalkVisitor,
    root: &ListId,
    height: u8,
    size: u64,
) -> Result<(), WalkError> {
    if !visitor.first(&key(&[b"list", root.as_bytes(), &[height], &size.to_le_bytes()])) {
        return Ok(());
    }
    let (mut nodes, _) = ListNodes::open(source, *root, height, size)?;
    visitor.node(ListId::KIND, &root.0);
    visitor.file(root, height, size);
    while let Some(pending) = nodes.pending() {
        let item = pending.item;
        if pending.level == 0 {
            visitor.chunk(&ChunkId(item.id), item.len);
            nodes.skip();
            continue;
        }
        // In step with the rule, a node and all below it are judged alike wherever they stand, but for the last.
        if nodes.in_sync(pending.level) {
            let place = [pending.level, u8::from(pending.is_final)];
            if !visitor.first(&key(&[b"list node", item.id.as_bytes(), &place, &item.len.to_le_bytes()])) {
                nodes.skip();
                continue;
            }
        }
        nodes.descend()?;
        visitor.node(ListId::KIND, &item.id);
    }
    nodes.finish()
}
