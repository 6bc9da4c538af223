//! What is promised, and whether it is so: looked at after everything that happens.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::testing::{Loss, LossVfs};
use filesync_cas::{ContentHash, Place, Store};
use filesync_merkle::{Ancestors, ChunkId, CommitId, MerkleSchema, Pub, PubId, RepoPath, Walk, WalkError, WalkVisitor};
use filesync_p2p::PeerKey;
use filesync_raft_log::command::Role;
use filesync_raft_log::ids::{self, NodeId, RepositoryId};
use filesync_raft_log::state::majority;
use filesync_raft_log::{Log, State};

use super::record::Promise;
use super::world::{Life, World};
use crate::cluster::node::Node;
use crate::cluster::remote::{MAIN, index_of, main_of};
use crate::cluster::sync;
use crate::error::{Error, ErrorKind};
use crate::objects::StoreNodes;
use crate::request::{Silent, SyncRequest};

/// How long who asks for what is published may take.
const ASKED: Duration = Duration::from_secs(10);

/// What is known of the one log, and what was told.
pub struct Oracle {
    /// After the last entry that anybody applied.
    pub newest: State,
    /// Which machine a node runs on.
    pub numbers: BTreeMap<NodeId, usize>,
    /// Commits of which somebody was told that they are published.
    pub told: BTreeSet<CommitId>,
    /// Machines on whose disk bits were flipped: which, in which packs. Whether they are whole again shows in the end.
    pub rotten: BTreeMap<usize, Vec<(PathBuf, u64)>>,
    /// Members of whom somebody was told that they are removed.
    pub removed: BTreeSet<NodeId>,
    states: BTreeMap<u64, u64>,
}

impl Oracle {
    /// Before the first entry.
    pub fn new(repository: ContentHash) -> Self {
        let newest = State::new(RepositoryId(*repository.as_bytes()));
        let (numbers, told, rotten, removed, states) = Default::default();
        Self { newest, numbers, told, rotten, removed, states }
    }

    /// A node shows a state: the one that others showed as of that entry. `true` if nobody showed a later one.
    fn show(&mut self, state: &State) -> Result<bool, String> {
        let index = index_of(state);
        let digest = digest(&postcard::to_allocvec(state).expect("a state can be encoded"));
        if *self.states.entry(index).or_insert(digest) != digest {
            return Err(format!("another state after entry {index}"));
        }
        let is_new = index > index_of(&self.newest);
        if is_new {
            self.newest = state.clone();
        }
        Ok(is_new)
    }
}

impl World {
    /// Looks at what a node has applied.
    pub fn look_at(&self, life: &Life, log: &Log) {
        let state = log.read(State::clone);
        let (before, voters) = {
            let oracle = self.oracle();
            (main_of(&oracle.newest), oracle.newest.voters.clone())
        };
        let shown = self.oracle().show(&state);
        match shown {
            Ok(true) if main_of(&state) != before => {
                self.record.note(format_args!("main is {:?} as of {}", main_of(&state), index_of(&state)));
                self.record.count("publishes");
                self.check_held();
            }
            Ok(true) if state.voters != voters => self.check_held(),
            Ok(_) => {}
            Err(how) => self.record.broken(Promise::OneOrder, format!("{}: {how}", life.machine)),
        }
    }

    /// G4: a look onto the disks of all voters, without what a power cut would take.
    pub fn check_held(&self) {
        let (state, numbers, rotten) = {
            let oracle = self.oracle();
            (oracle.newest.clone(), oracle.numbers.clone(), oracle.rotten.clone())
        };
        let Some(main) = main_of(&state) else { return };
        let disks = self.disks();
        let holds = |node: &&NodeId| {
            let Some(machine) = numbers.get(node) else { return Err("it never started".to_owned()) };
            let found = holds(&disks[*machine], main);
            match rotten.get(machine) {
                None => found,
                Some(flips) => found.or_else(|_| holds(&without(&disks[*machine], flips), main)),
            }
        };
        for set in &state.voters {
            let lacking: Vec<_> = set.iter().filter_map(|node| Some((node, holds(&node).err()?))).collect();
            if set.len() - lacking.len() < majority(set.len()) {
                let how = format!("{main} as of {} is not held by {lacking:?} of {set:?}", index_of(&state));
                self.record.broken(Promise::Held, how);
            }
        }
    }

    /// What there is still to wait for, when there are no faults any more. On the thread of a fiber.
    pub fn unsettled(&self, nodes: &[(Life, Arc<Node>)]) -> Option<String> {
        let state = self.oracle().newest.clone();
        if self.has_errands() {
            return Some("somebody asks for something still".to_owned());
        }
        if nodes.len() < self.inhabited().len() {
            return Some("somebody has not started".to_owned());
        }
        if state.change.is_some() || state.voters.len() != 1 {
            return Some(format!("voters change from {:?}: {:?}", state.voters, state.change));
        }
        let (members, others): (Vec<_>, Vec<_>) =
            nodes.iter().partition(|(_, node)| state.member(node.number()).is_ok());
        let unsettled = members.iter().find_map(|(life, node)| {
            let what = match state.member(node.number()).map(|member| member.role) {
                // One that was something else for a while may know no voter any more that could say so: it hears when its user syncs.
                Ok(Role::Candidate) if node.core.log.get().is_some() => unsettled(node, &state).inspect(|_| {
                    if !node.core.view.is_fresh() {
                        drop(synced(node));
                    }
                }),
                // It is called to the log by who leads, once it knows him.
                Ok(Role::Candidate) => behind(node, &state).or(Some("does not follow the log yet".to_owned())),
                _ => behind(node, &state),
            };
            Some(format!("{} {}", life.machine, what?))
        });
        let keys: Vec<PeerKey> = members.iter().map(|(life, _)| life.key).collect();
        unsettled.or_else(|| {
            others
                .iter()
                .find_map(|(life, node)| Some(format!("{} {}", life.machine, self.left_behind(node, &state, &keys)?)))
        })
    }

    /// Who is a member no more is told so, if those whom it knows are members still, and takes nothing.
    fn left_behind(&self, node: &Node, state: &State, members: &[PeerKey]) -> Option<String> {
        let core = &node.core;
        if let Err(how) = self.oracle().show(&core.remote().state) {
            self.record.broken(Promise::OneOrder, format!("{} goes by {how}", node.number()));
        }
        let known: BTreeSet<NodeId> = core.view.read(|state| state.voters.iter().flatten().copied().collect());
        let mut known = known.iter().filter(|known| **known != node.number()).peekable();
        let is_known = known.peek().is_some()
            && known.all(|known| state.member(*known).is_ok_and(|member| member.role == Role::Candidate));
        match synced(node) {
            Err(error) if error.kind() == ErrorKind::Refused => {}
            Err(error) if error.kind() == ErrorKind::NoQuorum && !is_known => {}
            other => return Some(format!("is not told that it was removed: {other:?}")),
        }
        let main = main_of(state)?;
        let was_here = core.repo.store.locate(&main.0).ok()?.is_some();
        let (session, mut received) = (core.repo.store.session().ok()?, 0);
        let taken = core.fetch_as(&session, main, None, members, core.how(), &mut |stats| received = stats.received);
        if received > 0 || (taken.is_ok() && !was_here) {
            let how = format!("{} is no member, and took {received} bytes: {taken:?}", node.number());
            self.record.broken(Promise::Members, how);
        }
        None
    }

    /// All that was told is so, and stands once in the order of publishes; each disk has all of it.
    pub fn check_end(&self) {
        let (state, told, numbers, removed) = {
            let oracle = self.oracle();
            (oracle.newest.clone(), oracle.told.clone(), oracle.numbers.clone(), oracle.removed.clone())
        };
        if let Some(node) = removed.iter().find(|node| state.member(**node).is_ok()) {
            self.record.broken(Promise::Once, format!("{node} was told to be removed, and is a member"));
        }
        let is_it = |node: &NodeId, machine: usize| {
            state.members.get(node).is_some_and(|member| member.key == ids::PeerKey(self.key(machine).0))
        };
        if let Some((node, machine)) = numbers.iter().find(|(node, machine)| !is_it(node, **machine)) {
            self.record.broken(Promise::Once, format!("{machine} was let in as {node}, and never came"));
        }
        let Some(main) = main_of(&state) else { return };
        let (disks, inhabited) = (self.disks(), self.inhabited());
        for machine in inhabited.into_iter().filter(|machine| !self.has_left(*machine)) {
            let disk = &disks[machine];
            let kept = holds(disk, main).and_then(|()| published(disk, main, state.last_step));
            match kept {
                Err(how) => self.record.broken(Promise::Ends, format!("{machine}: {how}")),
                Ok(commits) => {
                    if let Some(lost) = told.iter().find(|id| !commits.contains(id)) {
                        self.record
                            .broken(Promise::Once, format!("{lost} was told to be published, and {machine} lacks it"));
                    }
                }
            }
        }
    }
}

/// What a node is still to do to be as the log says.
fn unsettled(node: &Node, state: &State) -> Option<String> {
    let core = &node.core;
    let log = core.log.get()?;
    let index = log.read(index_of);
    if index != index_of(state) {
        return Some(format!("has applied {index} of {}", index_of(state)));
    }
    if let Err(error) = core.check_whole() {
        return Some(error.to_string());
    }
    let remote = core.remote().clone();
    if remote.held != main_of(state) || remote.step != state.last_step.map(|id| PubId::from_bytes(id.0)) {
        return Some(format!("holds {:?} of {:?}", remote.held, main_of(state)));
    }
    pinned(node)
}

/// As [`unsettled`], of one that does not follow the log: it asks now.
fn behind(node: &Node, state: &State) -> Option<String> {
    if let Err(error) = synced(node) {
        return Some(format!("does not sync: {error}"));
    }
    let remote = node.core.remote().clone();
    if remote.state != *state || remote.held != main_of(state) {
        let (index, held) = (remote.index(), remote.held);
        return Some(format!("holds {held:?} of {:?}, as of {index} of {}", main_of(state), index_of(state)));
    }
    if remote.step != state.last_step.map(|id| PubId::from_bytes(id.0)) {
        return Some("lacks the order of publishes".to_owned());
    }
    pinned(node)
}

/// Asks whoever leads for what is published.
fn synced(node: &Node) -> Result<(), Error> {
    let request = SyncRequest { push_only: true, timeout: ASKED, ..SyncRequest::default() };
    let done = sync::sync(node, &request, &Silent)?;
    done.error.map_or(Ok(()), Err)
}

fn pinned(node: &Node) -> Option<String> {
    let pins = filesync_cas::pin::all(&**node.core.repo.store.vfs()).ok()?;
    let pin = pins.iter().find(|pin| pin.note.starts_with("try "));
    pin.map(|pin| format!("has a pin: {}", pin.note))
}

/// A disk without the bits that were flipped: what rots later says nothing of what was there when it was acknowledged.
fn without(disk: &LossVfs, flips: &[(PathBuf, u64)]) -> LossVfs {
    let disk = disk.fork();
    for (path, bit) in flips {
        // It may have been sealed since, or removed.
        for extension in ["open", "pack"] {
            let _ = disk.flip_bit(&path.with_extension(extension), *bit);
        }
    }
    disk
}

/// A store, as a power cut would leave it.
fn left(disk: &LossVfs) -> Result<Arc<Store>, String> {
    let vfs = Arc::new(disk.crash(&Loss::DropAllUnsynced));
    let place = Place { vfs, index_dir: PathBuf::from("/there/is/none"), lock_dir: None };
    Store::open_reader(place, Arc::new(MerkleSchema)).map(Arc::new).map_err(|error| error.to_string())
}

/// Whether a disk has a commit, its history, and all that they refer to.
fn holds(disk: &LossVfs, commit: CommitId) -> Result<(), String> {
    #[derive(Default)]
    struct Visitor {
        seen: HashSet<ContentHash>,
        chunks: HashSet<ContentHash>,
        wrong: Option<String>,
    }
    impl WalkVisitor for Visitor {
        fn first(&mut self, key: &ContentHash) -> bool {
            self.seen.insert(*key)
        }
        fn chunk(&mut self, id: &ChunkId, _: u64) {
            self.chunks.insert(id.0);
        }
        fn problem(&mut self, path: &RepoPath, error: WalkError) {
            self.wrong.get_or_insert(format!("{path}: {error}"));
        }
    }
    let store = left(disk)?;
    let nodes = StoreNodes(Arc::clone(&store));
    let (mut visitor, walk) = (Visitor::default(), Walk::new(&nodes));
    for ancestor in Ancestors::new(&nodes, [commit]) {
        let (id, _) = ancestor.map_err(|error| error.to_string())?;
        walk.commit(&mut visitor, &id);
    }
    if let Some(wrong) = visitor.wrong {
        return Err(wrong);
    }
    visitor.chunks.iter().try_for_each(|id| match store.get(ChunkId::KIND, id) {
        Ok(_) => Ok(()),
        Err(error) => Err(error.to_string()),
    })
}

/// All commits of a history, after a look at the order of publishes that made it: one upon the other, each once.
fn published(
    disk: &LossVfs,
    main: CommitId,
    last: Option<filesync_raft_log::ids::Id>,
) -> Result<HashSet<CommitId>, String> {
    let store = left(disk)?;
    let nodes = StoreNodes(Arc::clone(&store));
    let mut next = last.map(|id| PubId::from_bytes(id.0));
    let (mut shown, mut seen) = (Some(main), HashSet::new());
    while let Some(id) = next {
        let bytes = store.get(PubId::KIND, &id.0).map_err(|error| error.to_string())?;
        let step = Pub::decode(&bytes).map_err(|error| error.to_string())?;
        if step.ref_name == MAIN {
            if step.new != shown || !seen.insert(step.new) {
                return Err(format!("the order of publishes has {:?} where {shown:?} was shown", step.new));
            }
            shown = step.old;
        }
        next = step.prev;
    }
    if shown.is_some() {
        return Err(format!("the order of publishes begins after {shown:?}"));
    }
    let ancestors = Ancestors::new(&nodes, [main]);
    ancestors.map(|found| found.map(|(id, _)| id).map_err(|error| error.to_string())).collect()
}

/// A number for bytes, the same in every run.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}
