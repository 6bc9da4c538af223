//! From a node to its children: what is left out, what each has as counterpart, which chunks are wanted.

use std::collections::HashSet;
use std::sync::Arc;

use filesync_cas::{ContentHash, Kind, Schema};
use filesync_merkle::list::ListNode;
use filesync_merkle::{
    ATTRS, Attrs, Content, Entry, Follow, LIST, Link, MerkleSchema, Name, Node, NodeSource, TREE, TreeNode, WalkError,
};

use super::{DEPTH_MAX, Expect, Lead, Tour, Waiting, malformed};
use crate::error::TourError;
use crate::wants::Want;

/// A counterpart that has been read.
struct Other<T> {
    node: T,
    children: HashSet<ContentHash>,
}

impl Tour {
    /// Takes the children of a node up among those that wait.
    pub(super) fn expand(
        &mut self,
        node: &Waiting,
        bytes: &[u8],
        source: &dyn NodeSource,
    ) -> Result<Vec<Want>, TourError> {
        match node.expect {
            Expect::Directory { .. } | Expect::Node { .. } => self.expand_tree(node, bytes, source),
            Expect::List { .. } | Expect::Items { .. } => self.expand_list(node, bytes, source),
            Expect::Attrs => match Attrs::decode(bytes) {
                Ok(_) => Ok(Vec::new()),
                Err(cause) => Err(malformed(ATTRS, node.id, cause)),
            },
        }
    }

    fn expand_tree(&mut self, at: &Waiting, bytes: &[u8], source: &dyn NodeSource) -> Result<Vec<Want>, TourError> {
        let node = TreeNode::decode(bytes).map_err(|cause| malformed(TREE, at.id, cause))?;
        check_tree(at, &node)?;
        let mut other = match &at.counterpart {
            Some(id) => Some(read(source, TREE, id, TreeNode::decode)?),
            None => None,
        };
        let mut children = Children::new(self, at);
        if let Some(other) = &mut other {
            children.keep_walked(other);
        }
        match &node {
            TreeNode::Leaf(entries) => children.entries(entries, other.as_ref())?,
            TreeNode::Inner { level, links } => children.links(*level, links, other.as_ref()),
        }
        Ok(children.finish())
    }

    fn expand_list(&mut self, at: &Waiting, bytes: &[u8], source: &dyn NodeSource) -> Result<Vec<Want>, TourError> {
        let node = ListNode::decode(bytes).map_err(|cause| malformed(LIST, at.id, cause))?;
        check_list(at, &node)?;
        let other = match &at.counterpart {
            Some(id) => Some(read(source, LIST, id, ListNode::decode)?),
            None => None,
        };
        let mut children = Children::new(self, at);
        children.items(&node, other.as_ref());
        Ok(children.finish())
    }
}

/// Reads a counterpart, which both sides have.
fn read<T>(
    source: &dyn NodeSource,
    kind: Kind,
    id: &ContentHash,
    decode: fn(&[u8]) -> Result<T, filesync_merkle::DecodeError>,
) -> Result<Other<T>, TourError> {
    let bytes = source.get(kind, id).map_err(|error| TourError::Base(error.into()))?;
    let wrong = |cause| TourError::Base(WalkError::Malformed { kind, id: *id, cause });
    let node = decode(&bytes).map_err(wrong)?;
    let children = MerkleSchema.children(kind, &bytes).unwrap_or_default();
    Ok(Other { node, children: children.into_iter().map(|(_, id)| id).collect() })
}

fn check_tree(at: &Waiting, node: &TreeNode) -> Result<(), TourError> {
    let wrong = |what: &str| Err(malformed(TREE, at.id, what));
    let (entries, totals) = node.sum().map_err(|cause| malformed(TREE, at.id, cause))?;
    let fits = match at.expect {
        Expect::Directory { height, totals: said } => {
            let is_root = !matches!(node, TreeNode::Inner { links, .. } if links.len() < 2);
            is_root && node.level() == height && totals == said
        }
        Expect::Node { level, entries: of, totals: said } => node.level() == level && entries == of && totals == said,
        _ => false,
    };
    if fits { Ok(()) } else { wrong("its level or its sums are not what its parent says") }
}

fn check_list(at: &Waiting, node: &ListNode) -> Result<(), TourError> {
    // A decoder has seen that the sum does not overflow.
    let sum: u64 = node.items.iter().map(|item| item.len).sum();
    let fits = match at.expect {
        Expect::List { height, size } => {
            node.level == height && node.root.as_ref().is_some_and(|root| root.size == size)
        }
        Expect::Items { level, len, is_final } => {
            let ends_well = is_final || !node.ends_short();
            node.level == level && node.root.is_none() && sum == len && ends_well
        }
        _ => false,
    };
    if fits { Ok(()) } else { Err(malformed(LIST, at.id, "its level or its sums are not what its parent says")) }
}

/// Collects the children of one node.
struct Children<'a> {
    tour: &'a mut Tour,
    at: &'a Waiting,
    position: u16,
    begin: usize,
    chunks: Vec<Want>,
}

impl<'a> Children<'a> {
    fn new(tour: &'a mut Tour, at: &'a Waiting) -> Self {
        let begin = tour.waiting.len();
        Self { tour, at, position: 0, begin, chunks: Vec::new() }
    }

    /// What comes first is taken first.
    fn finish(self) -> Vec<Want> {
        self.tour.waiting[self.begin..].reverse();
        self.chunks
    }

    fn node(&mut self, id: ContentHash, expect: Expect, counterpart: Option<ContentHash>, way: Option<Lead>) {
        if counterpart == Some(id) {
            return;
        }
        let is_nested = matches!(expect, Expect::Directory { .. });
        self.tour.waiting.push(Waiting {
            id,
            expect,
            counterpart,
            position: self.position,
            parent_steps: self.at.parent_steps + 1,
            depth: self.at.depth + u16::from(is_nested),
            way,
        });
    }

    fn chunk(&mut self, id: ContentHash, len: u64) {
        let len = u32::try_from(len).unwrap_or(u32::MAX);
        self.chunks.push(Want { position: self.position, kind: Kind::CHUNK, id, len });
    }

    fn entries(&mut self, entries: &[(Name, Entry)], other: Option<&Other<TreeNode>>) -> Result<(), TourError> {
        let theirs = match other.map(|other| &other.node) {
            Some(TreeNode::Leaf(theirs)) => &theirs[..],
            _ => &[],
        };
        let is_known = |id: &ContentHash| other.is_some_and(|other| other.children.contains(id));
        let again = Arc::clone(&self.tour.again);
        for (name, entry) in entries {
            let before = theirs.binary_search_by(|(other, _)| other.cmp(name)).ok().map(|at| &theirs[at].1);
            let (followed, way) = self.follow(name);
            let is_end = way.is_none();
            match &entry.node {
                Node::File { content: Content::Empty, .. } | Node::Symlink { .. } => {}
                Node::File { size, content: Content::Chunk(id), .. } => {
                    if followed && is_end && (!is_known(&id.0) || again.contains(&id.0)) {
                        self.chunk(id.0, *size);
                    }
                    self.position += 1;
                }
                Node::File { size, content: Content::List { root, height }, .. } => {
                    if followed && is_end && !is_known(&root.0) {
                        let counterpart = before.and_then(list_of);
                        self.node(root.0, Expect::List { height: *height, size: *size }, counterpart, None);
                    }
                    self.position += 1;
                }
                Node::Directory(link) => {
                    if followed && !is_known(&link.id.0) {
                        if self.at.depth >= DEPTH_MAX {
                            return Err(malformed(TREE, link.id.0, "directories are nested too deeply"));
                        }
                        let expect = Expect::Directory { height: link.height, totals: link.totals };
                        let counterpart = before.and_then(Entry::as_directory).map(|link| link.id.0);
                        self.node(link.id.0, expect, counterpart, way);
                    }
                    self.position += 1;
                }
            }
            if let Some(attrs) = &entry.attrs {
                if has_attrs(followed, way, entry) && !is_known(&attrs.0) {
                    self.node(attrs.0, Expect::Attrs, None, None);
                }
                self.position += 1;
            }
        }
        Ok(())
    }

    /// Whether an entry is followed, and where on the way that leads; to what is walked if nowhere.
    fn follow(&self, name: &Name) -> (bool, Option<Lead>) {
        match self.at.way {
            None => (true, None),
            Some(Lead::Path(led)) => {
                let wanted = self.tour.path.get(usize::from(led));
                let rest = usize::from(led) + 1 < self.tour.path.len();
                (wanted == Some(name), rest.then_some(Lead::Path(led + 1)))
            }
            Some(Lead::Parts(way)) => match self.tour.parts.follow(way, name) {
                Follow::Out => (false, None),
                Follow::On(way) => (true, Some(Lead::Parts(way))),
                Follow::In => (true, None),
            },
        }
    }

    /// Which of the links of a node are followed; all, if none is named.
    fn followed_link(&self, links: &[Link]) -> Option<usize> {
        let Some(Lead::Path(led)) = self.at.way else { return None };
        let wanted = self.tour.path.get(usize::from(led))?;
        Some(links.iter().position(|link| link.last >= *wanted).unwrap_or(links.len()))
    }

    /// On the way, both sides have of a counterpart no more than what was walked of it: not all that it refers to.
    fn keep_walked(&self, other: &mut Other<TreeNode>) {
        if self.at.way.is_none() {
            return;
        }
        other.children = match &other.node {
            TreeNode::Inner { links, .. } => {
                let followed = self.followed_link(links);
                let is_followed = |at: &usize| followed.is_none_or(|followed| followed == *at);
                links.iter().enumerate().filter(|(at, _)| is_followed(at)).map(|(_, link)| link.id.0).collect()
            }
            TreeNode::Leaf(entries) => entries.iter().flat_map(|(name, entry)| self.walked_of(name, entry)).collect(),
        };
    }

    /// The children of an entry of which all is walked.
    fn walked_of(&self, name: &Name, entry: &Entry) -> impl Iterator<Item = ContentHash> + use<> {
        let (followed, way) = self.follow(name);
        let content = match &entry.node {
            Node::File { content: Content::Chunk(id), .. } => Some(id.0),
            Node::File { content: Content::List { root, .. }, .. } => Some(root.0),
            Node::Directory(link) => Some(link.id.0),
            Node::File { content: Content::Empty, .. } | Node::Symlink { .. } => None,
        };
        let attrs = entry.attrs.filter(|_| has_attrs(followed, way, entry)).map(|attrs| attrs.0);
        content.filter(|_| followed && way.is_none()).into_iter().chain(attrs)
    }

    fn links(&mut self, level: u8, links: &[Link], other: Option<&Other<TreeNode>>) {
        let followed = self.followed_link(links);
        for (at, link) in links.iter().enumerate() {
            let is_followed = followed.is_none_or(|followed| followed == at);
            if is_followed && !other.is_some_and(|other| other.children.contains(&link.id.0)) {
                let expect = Expect::Node { level: level - 1, entries: link.entries, totals: link.totals };
                let counterpart = other.and_then(|other| match &other.node {
                    TreeNode::Inner { level: theirs, links } if *theirs == level => {
                        let at = links.partition_point(|other| other.last < link.last).min(links.len() - 1);
                        Some(links[at].id.0).filter(|id| other.children.contains(id))
                    }
                    theirs if theirs.level() + 1 == level => self.at.counterpart,
                    _ => None,
                });
                self.node(link.id.0, expect, counterpart, self.at.way);
            }
            self.position += 1;
        }
    }

    fn items(&mut self, node: &ListNode, other: Option<&Other<ListNode>>) {
        let is_final = !matches!(self.at.expect, Expect::Items { is_final: false, .. });
        for (at, item) in node.items.iter().enumerate() {
            let is_final = is_final && at + 1 == node.items.len();
            let is_known = other.is_some_and(|other| other.children.contains(&item.id));
            if node.level == 0 {
                if !is_known || self.tour.again.contains(&item.id) {
                    self.chunk(item.id, item.len);
                }
            } else if !is_known {
                let expect = Expect::Items { level: node.level - 1, len: item.len, is_final };
                let counterpart = other.and_then(|other| match &other.node {
                    theirs if theirs.level == node.level => {
                        theirs.items.get(at).or(theirs.items.last()).map(|item| item.id)
                    }
                    theirs if theirs.level + 1 == node.level => self.at.counterpart,
                    _ => None,
                });
                self.node(item.id, expect, counterpart, None);
            }
            self.position += 1;
        }
    }
}

/// Whether the attributes of an entry are walked: of what stands on the way to parts, only a directory is there.
fn has_attrs(followed: bool, way: Option<Lead>, entry: &Entry) -> bool {
    followed
        && match way {
            None => true,
            Some(Lead::Parts(_)) => entry.is_directory(),
            Some(Lead::Path(_)) => false,
        }
}

/// The list of a file that has one.
fn list_of(entry: &Entry) -> Option<ContentHash> {
    match &entry.node {
        Node::File { content: Content::List { root, .. }, .. } => Some(root.0),
        _ => None,
    }
}
