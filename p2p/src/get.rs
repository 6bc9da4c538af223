//! The answer to Get: from positions to objects, along the way that the asker shows, in our own store; then frames, in the
//! order of packs, whole where all of a frame is asked for.
//!
//! No id comes from the asker but those of roots, and nothing is remembered between two requests.

use std::collections::{HashMap, HashSet, VecDeque};

use filesync_cas::index::Location;
use filesync_cas::relay::FramePacker;
use filesync_cas::{Codec, ContentHash, GetError, Kind, Schema, Store};
use filesync_merkle::{CommitId, MerkleSchema, Name, NodeSource, PubId, RepoPath, TREE, TreeNode};

use crate::error::Refusal;
use crate::message::Message;
use crate::peer::{Root, Scope};
use crate::source::StoreSource;
use crate::walk::Step;
use crate::wants::{Get, NodeWants};

/// Answers a Get: asked for one message after the other.
pub struct GetAnswer {
    scopes: Vec<Scope>,
    resolving: Option<Resolver>,
    /// What was found, by the frame that it lies in.
    frames: VecDeque<InFrame>,
    /// Objects of the frame under way that travel by themselves.
    loose: VecDeque<(Kind, ContentHash)>,
    packer: FramePacker,
    packed: u32,
    sent: u32,
    ended: bool,
    work: u64,
}

/// Wanted objects that lie in one frame.
struct InFrame {
    location: Location,
    wanted: Vec<(Kind, ContentHash)>,
}

impl std::fmt::Debug for GetAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GetAnswer")
            .field("frames", &self.frames.len())
            .field("sent", &self.sent)
            .finish_non_exhaustive()
    }
}

impl GetAnswer {
    /// Begins. `scopes` says what of each root the asker may read; one that it may not at all is refused before.
    pub fn new(get: Get, scopes: Vec<Scope>) -> Self {
        Self {
            scopes,
            resolving: Some(Resolver::new(get)),
            frames: VecDeque::new(),
            loose: VecDeque::new(),
            packer: FramePacker::new(Codec::Zstd),
            packed: 0,
            sent: 0,
            ended: false,
            work: 0,
        }
    }

    /// Nodes read since the last call.
    pub fn take_work(&mut self) -> u64 {
        std::mem::take(&mut self.work)
    }

    /// What comes next. After an error nothing does.
    pub fn step(&mut self, store: &Store) -> Result<Step, Refusal> {
        if let Some(resolver) = &mut self.resolving {
            let before = resolver.reads;
            let more = resolver.advance(store, &self.scopes)?;
            self.work += resolver.reads - before;
            if !more {
                let found = std::mem::take(&mut resolver.found);
                self.resolving = None;
                self.frames = by_frame(store, found)?;
            }
            return Ok(Step::Working);
        }
        if let Some((kind, id)) = self.loose.pop_front() {
            return self.give_loose(store, kind, id);
        }
        if let Some(frame) = self.frames.pop_front() {
            return self.give_frame(store, frame);
        }
        if !self.packer.is_empty() {
            return self.send_packed();
        }
        if self.ended {
            return Ok(Step::End);
        }
        self.ended = true;
        Ok(Step::Send(Message::GetEnd { sent: self.sent }))
    }

    fn give_frame(&mut self, store: &Store, frame: InFrame) -> Result<Step, Refusal> {
        let Some((_, first)) = frame.wanted.first() else { return Ok(Step::Working) };
        self.work += 1;
        match store.stored_frame(&frame.location, first) {
            Ok(stored) => {
                let wanted: HashSet<_> = frame.wanted.iter().map(|(_, id)| *id).collect();
                if stored.slots().iter().all(|slot| wanted.contains(&slot.id)) {
                    self.sent += len32(stored.slots().len());
                    return Ok(Step::Send(Message::Frame(stored.into_bytes())));
                }
            }
            Err(error) if error.is_damage() => {}
            Err(_) => return Err(Refusal::Failed),
        }
        self.loose.extend(frame.wanted);
        Ok(Step::Working)
    }

    fn give_loose(&mut self, store: &Store, kind: Kind, id: ContentHash) -> Result<Step, Refusal> {
        let object = match store.get(kind, &id) {
            Ok(object) => object,
            Err(error) if error.is_damage() => return Ok(Step::Working),
            Err(_) => return Err(Refusal::Failed),
        };
        let sent = match self.packer.has_room(kind, object.len()) {
            true => Step::Working,
            false => self.send_packed()?,
        };
        self.packer.push(id, kind, &object);
        self.packed += 1;
        Ok(sent)
    }

    fn send_packed(&mut self) -> Result<Step, Refusal> {
        self.sent += std::mem::take(&mut self.packed);
        self.packer.finish().map(|bytes| Step::Send(Message::Frame(bytes))).map_err(|_| Refusal::Failed)
    }
}

fn len32(len: usize) -> u32 {
    u32::try_from(len).expect("frames hold fewer")
}

/// Sorts objects by where they lie. What is not here is left out.
fn by_frame(store: &Store, found: Vec<(Kind, ContentHash)>) -> Result<VecDeque<InFrame>, Refusal> {
    let mut frames: HashMap<_, InFrame> = HashMap::new();
    let mut taken = HashSet::with_capacity(found.len());
    for (kind, id) in found {
        if !taken.insert(id) {
            continue;
        }
        let Some(location) = store.locate(&id).map_err(|_| Refusal::Failed)? else { continue };
        let place = (location.pack, location.offset);
        let frame = frames.entry(place).or_insert_with(|| InFrame { location, wanted: Vec::new() });
        if frame.wanted.is_empty() {
            frame.location = location;
        }
        frame.wanted.push((kind, id));
    }
    let mut frames: Vec<_> = frames.into_values().collect();
    frames.sort_by_key(|frame| (frame.location.pack, frame.location.offset));
    Ok(frames.into())
}

/// A node on the way to what is wanted.
#[derive(Debug, Clone, Copy)]
struct OnTheWay {
    kind: Kind,
    id: ContentHash,
    /// Length of the path of names that leads here.
    names: usize,
}

/// Follows paths of positions, node by node.
struct Resolver {
    get: Get,
    at: usize,
    /// The root and the nodes of the present path.
    way: Vec<OnTheWay>,
    /// The names of the present path, for scopes that are limited to some.
    names: Vec<Name>,
    found: Vec<(Kind, ContentHash)>,
    reads: u64,
}

impl Resolver {
    fn new(get: Get) -> Self {
        Self { get, at: 0, way: Vec::new(), names: Vec::new(), found: Vec::new(), reads: 0 }
    }

    /// Resolves the children of one node; `false` when there are no more.
    fn advance(&mut self, store: &Store, scopes: &[Scope]) -> Result<bool, Refusal> {
        let Some(wants) = self.get.nodes.get(self.at).cloned() else { return Ok(false) };
        self.at += 1;
        let root = self.get.roots[usize::from(wants.root)];
        let scope = scopes.get(usize::from(wants.root)).ok_or(Refusal::Failed)?;
        match self.resolve(store, &root, scope, &wants) {
            // What does not lead anywhere gives nothing; neither do paths that are built on it.
            Err(error) if error.is_damage() => Ok(true),
            Err(_) => Err(Refusal::Failed),
            Ok(()) => Ok(true),
        }
    }

    fn resolve(&mut self, store: &Store, root: &Root, scope: &Scope, wants: &NodeWants) -> Result<(), GetError> {
        let source = StoreSource(store);
        if wants.keep == 0 {
            self.way = vec![OnTheWay { kind: root.kind(), id: *root.id(), names: 0 }];
        }
        // The path before may have led nowhere.
        if self.way.len() <= usize::from(wants.keep) {
            self.way.clear();
            return Ok(());
        }
        self.way.truncate(usize::from(wants.keep) + 1);
        for step in &wants.steps {
            let Some(next) = self.child(&source, scope, *step)? else {
                self.way.clear();
                return Ok(());
            };
            self.way.push(next);
        }
        let Some(at) = self.way.last().copied() else { return Ok(()) };
        self.names.truncate(at.names);
        self.reads += 1;
        let bytes = source.get(at.kind, &at.id)?;
        let children = MerkleSchema.children(at.kind, &bytes).unwrap_or_default();
        let named = Named::of(at.kind, &bytes, scope);
        let wanted = wants.runs.iter().flat_map(|run| (run.first..).take(usize::from(run.count)));
        for position in wanted {
            let Some((kind, id)) = children.get(usize::from(position)) else { break };
            if is_led_to(at.kind, *kind, scope) && named.may_have(&self.names, usize::from(position), *kind, scope) {
                self.found.push((*kind, *id));
            }
        }
        Ok(())
    }

    /// The child at a position of the last node on the way.
    fn child(&mut self, source: &StoreSource<'_>, scope: &Scope, position: u16) -> Result<Option<OnTheWay>, GetError> {
        let Some(at) = self.way.last().copied() else { return Ok(None) };
        self.reads += 1;
        let bytes = source.get(at.kind, &at.id)?;
        let children = MerkleSchema.children(at.kind, &bytes).unwrap_or_default();
        let position = usize::from(position);
        let Some((kind, id)) = children.get(position).copied() else { return Ok(None) };
        if !is_led_to(at.kind, kind, scope) {
            return Ok(None);
        }
        self.names.truncate(at.names);
        if let Some(name) = Named::of(at.kind, &bytes, scope).name(position) {
            self.names.push(name.clone());
            if !scope.leads(&path(&self.names)) {
                return Ok(None);
            }
        }
        Ok(Some(OnTheWay { kind, id, names: self.names.len() }))
    }
}

/// Whether a kind of child is followed: no commit from a pub, and no parents where the scope is one commit's.
fn is_led_to(parent: Kind, child: Kind, scope: &Scope) -> bool {
    match (parent, child) {
        (PubId::KIND, CommitId::KIND) => false,
        (CommitId::KIND, CommitId::KIND) => *scope == Scope::All,
        _ => true,
    }
}

fn path(names: &[Name]) -> RepoPath {
    let mut path = RepoPath::root();
    names.iter().for_each(|name| path.push(name));
    path
}

/// The names of a leaf's children, by position; empty where no names matter.
struct Named(Vec<Name>);

impl Named {
    fn of(kind: Kind, bytes: &[u8], scope: &Scope) -> Self {
        let entries = match (scope, TreeNode::decode(bytes)) {
            (Scope::Below(_), Ok(TreeNode::Leaf(entries))) if kind == TREE => entries,
            _ => return Self(Vec::new()),
        };
        let mut names = Vec::new();
        for (name, entry) in entries {
            use filesync_merkle::{Content, Node};
            let has_content = match &entry.node {
                Node::File { content, .. } => *content != Content::Empty,
                Node::Directory(_) => true,
                Node::Symlink { .. } => false,
            };
            let children = usize::from(has_content) + usize::from(entry.attrs.is_some());
            names.extend(std::iter::repeat_n(name, children));
        }
        Self(names)
    }

    fn name(&self, position: usize) -> Option<&Name> {
        self.0.get(position)
    }

    /// Whether the child at a position may be had. Nodes on the way may, what hangs on them only if it is covered.
    fn may_have(&self, names: &[Name], position: usize, kind: Kind, scope: &Scope) -> bool {
        if !matches!(scope, Scope::Below(_)) {
            return *scope == Scope::All;
        }
        let mut path = path(names);
        if let Some(name) = self.name(position) {
            path.push(name);
        }
        if kind == TREE { scope.leads(&path) } else { scope.covers(&path) }
    }
}
