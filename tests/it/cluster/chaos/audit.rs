//! What one voter holds, read from its store while nothing runs: the order of publishes, and the commits.

use std::collections::{HashMap, HashSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use filesync_cas::vfs::RealVfs;
use filesync_cas::{ContentHash, GetError, Kind, Place, Store};
use filesync_merkle::history::read_commit;
use filesync_merkle::{Commit, CommitId, MerkleSchema, NodeSource, Pub, PubId};

use super::history::Made;
use super::work::{Clock, Work, join};

/// A clock that is no more off than by so many seconds is right.
const CLOSE: i64 = 600;

struct Source(Store);

impl NodeSource for Source {
    fn get(&self, kind: Kind, id: &ContentHash) -> Result<Arc<[u8]>, GetError> {
        Ok(Arc::from(&*self.0.get(kind, id)?))
    }
}

/// The history of `main`.
pub struct Audit {
    /// Its values, the oldest first.
    pub order: Vec<String>,
    /// Every commit that was published.
    commits: HashMap<CommitId, Commit>,
    /// Which changes are in the tree of each.
    clocks: HashMap<CommitId, Clock>,
}

impl Audit {
    /// Reads it all. Fails if it is no chain, or if a value of `main` lacks something that an earlier one had.
    pub fn read(root: &Path, made: &[Made]) -> Self {
        let dir = root.join(".filesync");
        let vfs = Arc::new(RealVfs::open(&dir).expect("it can be opened"));
        let place = Place { vfs, index_dir: dir.join("index"), lock_dir: Some(dir) };
        let store = Store::open_reader(place, Arc::new(MerkleSchema)).expect("it can be opened");
        let source = Source(store);
        let pubs = pubs(&source);
        check_chain(&pubs);
        let (mut commits, mut clocks) = (HashMap::new(), HashMap::new());
        let changes = made.iter().map(|it| (it.commit.as_str(), (it.node, it.change))).collect();
        for step in &pubs {
            let new = published(&source, step, &mut commits);
            count(&new, &commits, &changes, &mut clocks);
        }
        let order = pubs.iter().filter_map(|step| step.new).map(|new| new.to_string()).collect();
        Self { order, commits, clocks }
    }

    /// G3: what was acknowledged is there once, and so is what else was made: in the end everything is published.
    pub fn check_once(&self, made: &[Made]) {
        let mut messages: HashMap<&str, Vec<&CommitId>> = HashMap::new();
        for (id, commit) in &self.commits {
            messages.entry(&commit.message).or_default().push(id);
        }
        for it in made {
            let message = Work::message(it.node, it.change);
            let there: Vec<String> =
                messages.get(message.as_str()).into_iter().flatten().map(ToString::to_string).collect();
            assert_eq!(there, std::slice::from_ref(&it.commit), "published: {it:?}");
            assert!(it.is_acknowledged, "never acknowledged: {it:?}");
        }
    }

    /// How many commits were made by a clock that was off, if all were made between two moments.
    pub fn count_off(&self, from: SystemTime, to: SystemTime) -> usize {
        let secs = |at: SystemTime| at.duration_since(UNIX_EPOCH).expect("it is later").as_secs().cast_signed();
        let honest = secs(from) - CLOSE..=secs(to) + CLOSE;
        self.commits.values().filter(|commit| !honest.contains(&commit.time.secs())).count()
    }

    /// Every commit that was published.
    pub fn commits(&self) -> impl Iterator<Item = String> {
        self.commits.keys().map(ToString::to_string)
    }

    /// What a commit must hold.
    pub fn clock(&self, commit: &str) -> &Clock {
        &self.clocks[&commit.parse::<ContentHash>().map(CommitId).expect("an id")]
    }
}

/// All steps in the order of publishes that the store has.
fn pubs(source: &Source) -> Vec<Pub> {
    let (first, last) = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([0xff; 32]));
    let mut ids = Vec::new();
    let mut visit = |id, kind| {
        if kind == PubId::KIND {
            ids.push(id);
        }
        ControlFlow::Continue(())
    };
    source.0.each_id(&first, &last, &mut visit).expect("the index can be read");
    let read =
        |id: &ContentHash| Pub::decode(&source.get(PubId::KIND, id).expect("it is whole")).expect("it is canonical");
    let mut pubs: Vec<Pub> = ids.iter().map(read).collect();
    pubs.sort_by_key(|step| step.log_index);
    pubs
}

/// One chain of compare-and-swap: each step begins where the one before ended, and no value comes twice.
fn check_chain(pubs: &[Pub]) {
    assert!(!pubs.is_empty(), "nothing was published");
    let mut values = HashSet::new();
    for (at, step) in pubs.iter().enumerate() {
        let before = at.checked_sub(1).map(|before| &pubs[before]);
        assert_eq!(step.ref_name, "main");
        assert_eq!(step.prev, before.map(|before| before.id().expect("it was decoded")), "step {at}: {step:?}");
        assert_eq!(step.old, before.and_then(|before| before.new), "step {at}: {step:?}");
        assert!(before.is_none_or(|before| before.log_index < step.log_index), "step {at}: {step:?}");
        assert!(step.new.is_some_and(|new| values.insert(new)), "step {at} is not the first with its value: {step:?}");
    }
}

/// Takes what a step made visible among the commits. It must have the value before among its ancestors.
fn published(source: &Source, step: &Pub, commits: &mut HashMap<CommitId, Commit>) -> Vec<CommitId> {
    let mut open: Vec<CommitId> = step.new.into_iter().collect();
    let (mut new, mut has_old) = (Vec::new(), step.old.is_none());
    while let Some(id) = open.pop() {
        has_old |= step.old == Some(id);
        if commits.contains_key(&id) {
            continue;
        }
        let commit = read_commit(source, &id).unwrap_or_else(|error| panic!("commit {id} of {step:?}: {error}"));
        open.extend(&commit.parents);
        commits.insert(id, commit);
        new.push(id);
    }
    assert!(has_old, "what was published before is lost: {step:?}");
    new
}

/// Finds out which changes are in the trees of new commits.
fn count(
    new: &[CommitId],
    commits: &HashMap<CommitId, Commit>,
    changes: &HashMap<&str, (usize, u32)>,
    clocks: &mut HashMap<CommitId, Clock>,
) {
    let mut open = new.to_vec();
    while let Some(id) = open.pop() {
        let parents = &commits[&id].parents;
        let missing: Vec<CommitId> = parents.iter().filter(|parent| !clocks.contains_key(*parent)).copied().collect();
        if !missing.is_empty() {
            open.push(id);
            open.extend(missing);
            continue;
        }
        let mut clock = Clock::new();
        parents.iter().for_each(|parent| join(&mut clock, &clocks[parent]));
        if let Some((node, change)) = changes.get(id.to_string().as_str()) {
            assert_eq!(clock.insert(*node, *change).unwrap_or(0) + 1, *change, "commit {id} is out of order");
        }
        clocks.insert(id, clock);
    }
}
