//! What the store is told about our kinds.

use std::sync::LazyLock;

use filesync_cas::{ContentHash, Kind, Schema};

use crate::attrs::Attrs;
use crate::commit::Commit;
use crate::entry::{Content, Node};
use crate::id::{ATTRS, COMMIT, ChunkId, LIST, ListId, PUB, TREE, TreeId};
use crate::list::ListNode;
use crate::pubs::Pub;
use crate::tree::TreeNode;

/// Lists, trees, commits, pubs and attributes, for a store that knows only chunks.
#[derive(Debug, Clone, Copy, Default)]
pub struct MerkleSchema;

const CONTEXTS: [(Kind, &str, &str); 5] = [
    (LIST, "list", "filesync list v1"),
    (TREE, "tree", "filesync tree v1"),
    (COMMIT, "commit", "filesync commit v1"),
    (PUB, "pub", "filesync pub v1"),
    (ATTRS, "attrs", "filesync attrs v1"),
];

/// The most bytes that an object of a kind has; 0 for a kind that does not exist.
pub const fn object_len_max(kind: Kind) -> usize {
    match kind {
        Kind::CHUNK => 1 << 20,
        LIST | TREE | COMMIT => 256 << 10,
        ATTRS => 64 << 10,
        PUB => 4 << 10,
        _ => 0,
    }
}

/// The id of `bytes` as an object of a metadata kind. Keyed hashers are prepared once: trees have many nodes.
pub(crate) fn identify(kind: Kind, bytes: &[u8]) -> ContentHash {
    static HASHERS: LazyLock<[blake3::Hasher; 5]> =
        LazyLock::new(|| CONTEXTS.map(|(_, _, context)| blake3::Hasher::new_derive_key(context)));
    let hasher = CONTEXTS.iter().zip(HASHERS.iter()).find(|((known, ..), _)| *known == kind);
    match hasher {
        Some((_, hasher)) => ContentHash::from_bytes(*hasher.clone().update(bytes).finalize().as_bytes()),
        None => ContentHash::of_chunk(bytes),
    }
}

impl Schema for MerkleSchema {
    fn context(&self, kind: Kind) -> Option<&'static str> {
        CONTEXTS.iter().find(|(known, ..)| *known == kind).map(|(_, _, context)| *context)
    }

    fn name(&self, kind: Kind) -> &'static str {
        match CONTEXTS.iter().find(|(known, ..)| *known == kind) {
            Some((_, name, _)) => name,
            None if kind.is_chunk() => "chunk",
            None => "unknown",
        }
    }

    fn children(&self, kind: Kind, bytes: &[u8]) -> Result<Vec<(Kind, ContentHash)>, String> {
        if bytes.len() > object_len_max(kind) {
            return Err("too large for its kind, or no such kind".to_owned());
        }
        match kind {
            Kind::CHUNK => Ok(Vec::new()),
            LIST => ListNode::decode(bytes).map(|node| list_children(&node)),
            TREE => TreeNode::decode(bytes).map(|node| tree_children(&node)),
            COMMIT => Commit::decode(bytes).map(|commit| commit.children().collect()),
            PUB => Pub::decode(bytes).map(|step| pub_children(&step)),
            ATTRS => Attrs::decode(bytes).map(|_| Vec::new()),
            _ => return Err("no such kind".to_owned()),
        }
        .map_err(|cause| cause.to_string())
    }
}

fn list_children(node: &ListNode) -> Vec<(Kind, ContentHash)> {
    let kind = if node.level == 0 { ChunkId::KIND } else { ListId::KIND };
    node.items.iter().map(|item| (kind, item.id)).collect()
}

fn tree_children(node: &TreeNode) -> Vec<(Kind, ContentHash)> {
    let entries = match node {
        TreeNode::Inner { links, .. } => {
            return links.iter().map(|link| (TreeId::KIND, link.id.0)).collect();
        }
        TreeNode::Leaf(entries) => entries,
    };
    let mut children = Vec::with_capacity(entries.len());
    for (_, entry) in entries {
        match &entry.node {
            Node::File { content: Content::Chunk(id), .. } => children.push((ChunkId::KIND, id.0)),
            Node::File { content: Content::List { root, .. }, .. } => children.push((ListId::KIND, root.0)),
            Node::Directory(link) => children.push((TreeId::KIND, link.id.0)),
            Node::File { content: Content::Empty, .. } | Node::Symlink { .. } => {}
        }
        children.extend(entry.attrs.map(|id| (ATTRS, id.0)));
    }
    children
}

fn pub_children(step: &Pub) -> Vec<(Kind, ContentHash)> {
    let commits = step.old.into_iter().chain(step.new).map(|id| (COMMIT, id.0));
    commits.chain(step.prev.map(|id| (PUB, id.0))).collect()
}
