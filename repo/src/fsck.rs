//! `fsck`: every byte of every pack, every object against its hash, every tree against its rules; and who is affected.
//!
//! What counts is what something refers to. What the cluster has recorded as lost is no damage: it is told apart, for ever. The trees of commits that have expired are not looked for, and what is wrong
//! with garbage, or with a copy of something that is good elsewhere, is told and is no damage.

mod files;
mod repair;

pub use repair::store_from_working_copy;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use filesync_cas::fsck::{About, BadObject, Depth, Finding, Seen, SeenAt};
use filesync_cas::pack::PackName;
use filesync_cas::{ContentHash, GetError, Kind, Schema, Session};
use filesync_merkle::{
    Ancestors, ChunkId, Commit, Content, DirCursor, Entry, ListId, ListReader, MerkleSchema, Node, Pub, PubId,
    RepoPath, TreeLink, Walk, WalkError, WalkVisitor,
};

use crate::cluster::{lost, member};
use crate::collected;
use crate::daemon;
use crate::error::{Error, ErrorKind};
use crate::expired::Expired;
use crate::history;
use crate::identity::{self, Identity};
use crate::repo::{OpenOptions, Repo};
use crate::request::{DamagedObject, Event, FsckRequest, FsckResult, Observer, Request, SignatureState, Silent};
use crate::roots::Roots;
use crate::tags::wishes::Wishes;

/// Paths that are named for one object.
const PATHS_MAX: usize = 1000;

/// Brings what is damaged into a session from elsewhere, as far as it can.
pub type Bring<'a> = &'a dyn Fn(&Session<'_>) -> Result<(), Error>;

/// Carries out `fsck`. What a repair cannot find here, `bring` is asked for.
pub fn fsck(
    repo: &Repo,
    request: &FsckRequest,
    bring: Option<Bring<'_>>,
    observer: &dyn Observer,
) -> Result<FsckResult, Error> {
    let began = Instant::now();
    let (mut result, hurt) = check(repo, request, observer)?;
    if request.repair {
        result = repair::repair(repo, request, bring, observer, result, &hurt)?;
    }
    result.elapsed = began.elapsed();
    Ok(result)
}

/// What a repair sets out from, besides what is damaged.
#[derive(Default)]
struct Hurt {
    /// Objects that are needed, and are good only where the index does not lead.
    spare: Vec<(Kind, ContentHash)>,
    /// Packs in which something does not fit.
    packs: BTreeSet<PackName>,
}

/// Looks at everything, and notes what is damaged so that the next commit that has the bytes stores it again.
fn check(repo: &Repo, request: &FsckRequest, observer: &dyn Observer) -> Result<(FsckResult, Hurt), Error> {
    let depth = depth(request)?;
    // A store that has been open for long has objects in memory that are bad on the disk by now.
    repo.store.forget_frames();
    let bytes = match depth {
        Depth::Sample { share, .. } => repo.store.packs_len() / 10_000 * u64::from(share),
        _ => repo.store.packs_len(),
    };
    observer.event(Event::Phase { what: "checking", bytes: Some(bytes), items: None });
    let step = crate::gc::step(observer);
    let advance = |bytes, items| step(items, bytes);
    let (bad, seen, claims) = (BTreeMap::new(), repo.store.seen()?, HashSet::new());
    // What cannot be read of it shows by the roots.
    let lost = lost::recorded(repo).unwrap_or_default();
    let mut found = Findings { repo, bad, unneeded: BTreeSet::new(), lost, seen, claims, files: None, failed: None };
    let mut result = FsckResult::default();
    small_files(repo, &mut result.findings);
    let mut walk = |found: &mut Findings<'_>| {
        let trees = walk_history(repo, found, &mut result.findings)?;
        found.failed.take().map_or(Ok(trees), Err)
    };
    // Each frame is decompressed once, for the files that lie in it and for itself.
    let (trees, packs) = match depth {
        Depth::Objects => {
            let checked = repo.store.checked()?;
            let (trees, wrong) = files::check(repo, &checked, &advance, |files| {
                found.files = Some(files);
                let trees = walk(&mut found);
                found.files = None;
                trees
            })?;
            for (id, cause) in wrong {
                found.note(id, ListId::KIND, cause, None);
            }
            (trees, repo.store.check_packs_but(depth, Some(&checked), &advance)?)
        }
        Depth::Stored | Depth::Sample { .. } => {
            beside(|| repo.store.check_packs(depth, &advance), || walk(&mut found))?
        }
    };
    crate::cancel::check()?;
    repo.store.check_index();
    (result.objects, result.bytes) = (packs.objects, packs.bytes);
    let hurt_packs = packs.findings.iter().map(|finding| finding.pack).collect();
    let hurt = Hurt { spare: found.judge(packs.bad)?, packs: hurt_packs };
    if !found.bad.is_empty() {
        name_paths(repo, &trees, &mut found)?;
    }
    if !found.bad.is_empty() || !found.unneeded.is_empty() {
        record(repo, found.bad.keys().chain(&found.unneeded).copied());
    }
    let Findings { bad, lost, .. } = found;
    result.lost_recorded = lost.len() as u64;
    let (lost, damaged): (BTreeMap<_, _>, BTreeMap<_, _>) = bad.into_iter().partition(|(id, _)| lost.contains(id));
    result.tell(packs.findings, &damaged);
    result.damaged = damaged.into_iter().map(|(id, bad)| bad.describe(id)).collect();
    result.lost = lost.into_iter().map(|(id, bad)| bad.describe(id)).collect();
    Ok((result, hurt))
}

/// Reads the packs while the history is walked.
fn beside<P: Send>(
    packs: impl Fn() -> Result<P, GetError> + Sync,
    walk: impl FnOnce() -> Result<Vec<TreeLink>, Error>,
) -> Result<(Vec<TreeLink>, P), Error> {
    std::thread::scope(|scope| {
        let reading = std::thread::Builder::new().spawn_scoped(scope, &packs);
        let trees = walk();
        let packs = match reading {
            Ok(reading) => reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            Err(_) => packs(),
        };
        Ok((trees?, packs?))
    })
}

fn depth(request: &FsckRequest) -> Result<Depth, Error> {
    match (request.quick, request.sample) {
        (true, Some(_)) => Err(Error::new(ErrorKind::Usage, "cannot check: --quick and --sample exclude each other")),
        (true, None) => Ok(Depth::Stored),
        (false, None) => Ok(Depth::Objects),
        (false, Some(share)) => {
            let mut seed = [0; 8];
            getrandom::fill(&mut seed).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
            Ok(Depth::Sample { share, seed: u64::from_le_bytes(seed) })
        }
    }
}

impl FsckResult {
    /// Adds what is wrong with packs: as damage if something needed is affected, else as a note.
    fn tell(&mut self, findings: Vec<Finding>, bad: &BTreeMap<ContentHash, Bad>) {
        for finding in findings {
            let text = finding.to_string();
            let matters = match finding.about {
                About::Pack => true,
                About::Objects(ids) => ids.iter().any(|id| bad.contains_key(id)),
                About::Unknown => !bad.is_empty(),
            };
            if matters {
                self.findings.push(text);
            } else {
                self.notes.push(format!("{text}: nothing that is needed is affected"));
            }
        }
    }
}

/// What is wrong with one object, and whom it affects.
struct Bad {
    kind: Kind,
    cause: String,
    paths: BTreeSet<Vec<u8>>,
}

impl Bad {
    fn describe(self, id: ContentHash) -> DamagedObject {
        let paths = self.paths.into_iter().take(PATHS_MAX).collect();
        DamagedObject { id, kind: MerkleSchema.name(self.kind), cause: self.cause, paths }
    }
}

struct Findings<'a> {
    repo: &'a Repo,
    bad: BTreeMap<ContentHash, Bad>,
    /// Bad too, but nothing refers to it.
    unneeded: BTreeSet<ContentHash>,
    /// What is recorded as lost, bad or not.
    lost: HashSet<ContentHash>,
    /// Objects that something refers to.
    seen: Seen<'a>,
    /// What has been claimed about nodes.
    claims: HashSet<ContentHash>,
    /// Where files of more than one chunk go, if they are to be read.
    files: Option<files::Sender>,
    /// Why the walk could not go on.
    failed: Option<Error>,
}

impl Findings<'_> {
    fn note(&mut self, id: ContentHash, kind: Kind, cause: String, path: Option<Vec<u8>>) {
        let bad = self.bad.entry(id).or_insert_with(|| Bad { kind, cause, paths: BTreeSet::new() });
        bad.paths.extend(path);
    }

    /// Takes objects of which a copy is bad for damaged, if they are needed and there is no other copy. Those that have
    /// one in a place that the index does not give are spare.
    fn judge(&mut self, bad: Vec<BadObject>) -> Result<Vec<(Kind, ContentHash)>, Error> {
        // Behind a tree that cannot be read, nobody knows what is needed; unless it is lost, with all that only it leads to.
        let is_known = self.bad.iter().all(|(id, bad)| bad.kind.is_chunk() || self.lost.contains(id));
        let mut spare = BTreeSet::new();
        for BadObject { id, kind, cause } in bad {
            if self.bad.contains_key(&id) {
                continue;
            }
            let is_needed = !is_known || self.seen.has(&id)?;
            match self.repo.store.get(kind, &id) {
                // Who comes to need it is not to take it for something that is there.
                Err(error) if error.is_damage() && !is_needed => drop(self.unneeded.insert(id)),
                _ if !is_needed => {}
                Err(error) if error.is_damage() => self.note(id, kind, cause, None),
                Err(error) => return Err(error.into()),
                Ok(_) if self.repo.store.is_good_where_indexed(&id) => {}
                Ok(_) => drop(spare.insert((kind, id))),
            }
        }
        Ok(spare.into_iter().collect())
    }
}

impl WalkVisitor for Findings<'_> {
    fn first(&mut self, key: &ContentHash) -> bool {
        self.claims.insert(*key)
    }

    fn node(&mut self, _: Kind, id: &ContentHash) {
        if let Err(error) = self.seen.see(id) {
            self.failed.get_or_insert(error.into());
        }
    }

    fn file(&mut self, root: &ListId, height: u8, size: u64) {
        if let Some(files) = &mut self.files {
            files.send(files::File { root: *root, height, size });
        }
    }

    fn chunk(&mut self, id: &ChunkId, len: u64) {
        let at = match self.seen.see(&id.0) {
            Ok(SeenAt::Again) => return,
            Ok(SeenAt::First(location)) => Ok(location),
            // The index is not taken at its word.
            Ok(SeenAt::Unknown) => match self.repo.store.get(Kind::CHUNK, &id.0) {
                Ok(chunk) if chunk.len() as u64 == len => return,
                Ok(_) => Err("a file says another length".to_owned()),
                Err(error) => Err(error.to_string()),
            },
            Err(error) => {
                self.failed.get_or_insert(error.into());
                return;
            }
        };
        let cause = match at {
            Ok(location) if location.kind != Kind::CHUNK => "it is no chunk".to_owned(),
            Ok(location) if u64::from(location.len) != len => "a file says another length".to_owned(),
            Ok(_) => return,
            Err(cause) => cause,
        };
        self.note(id.0, Kind::CHUNK, cause, None);
    }

    fn problem(&mut self, path: &RepoPath, error: WalkError) {
        let id = error.id().unwrap_or(ContentHash::from_bytes([0; 32]));
        let kind = match &error {
            WalkError::Malformed { kind, .. } | WalkError::Mismatch { kind, .. } => *kind,
            _ => self.repo.store.locate(&id).ok().flatten().map_or(filesync_merkle::TREE, |location| location.kind),
        };
        self.note(id, kind, error.to_string(), Some(path.as_bytes().to_vec()));
    }
}

/// Not the settings: a mistake in them is their author's, and told by every command that needs them.
fn small_files(repo: &Repo, findings: &mut Vec<String>) {
    let vfs = &**repo.store.vfs();
    let mut check = |result: Result<(), String>| findings.extend(result.err());
    // It is its owner's alone: another user who reads the repository finds nothing wrong with that.
    if !Identity::is_closed(vfs) {
        check(Identity::load(vfs).map(drop).map_err(|error| error.to_string()));
    }
    check(Expired::read(vfs).map(drop).map_err(|error| error.to_string()));
    check(member::read(vfs).map(drop).map_err(|error| error.to_string()));
    check(Wishes::read(vfs).map(drop).map_err(|error| error.to_string()));
    check(collected::read(vfs).map(drop).map_err(|error| error.to_string()));
    check(filesync_cas::pin::all(vfs).map(drop).map_err(|error| error.to_string()));
}

/// Walks every commit that a ref leads to, and the trees of those that have not expired. Returns these, newest first.
fn walk_history(repo: &Repo, found: &mut Findings<'_>, findings: &mut Vec<String>) -> Result<Vec<TreeLink>, Error> {
    let mut commits: Vec<_> = repo.head().into_iter().collect();
    let mut expired = HashSet::new();
    match Roots::read(repo) {
        Ok(roots) => {
            walk_steps(repo, found, roots.step);
            commits.extend(roots.commits);
            expired = roots.expired;
        }
        // What of them can be read must do.
        Err(error) => {
            let error = error.to_string();
            if !findings.contains(&error) {
                findings.push(error);
            }
            commits.extend(history::roots(repo).unwrap_or_default());
            expired.extend(Expired::read(&**repo.store.vfs()).unwrap_or_default().0);
            expired.retain(|id| !commits.contains(id));
        }
    }
    let mut trees = Vec::new();
    for commit in Ancestors::new(repo.node_source(), commits) {
        crate::cancel::check()?;
        match commit {
            Ok((id, commit)) => {
                found.node(filesync_merkle::CommitId::KIND, &id.0);
                check_signature(repo, &id.0, &commit, findings);
                if !expired.contains(&id) {
                    Walk::new(repo.node_source()).within(&repo.copied.parts).tree(found, &commit.tree);
                    trees.push(commit.tree);
                }
            }
            Err(error) if error.is_damage() => found.problem(&RepoPath::root(), error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(trees)
}

/// Goes back in the order of publishes.
fn walk_steps(repo: &Repo, found: &mut Findings<'_>, last: Option<PubId>) {
    let mut next = last;
    while let Some(id) = next.take() {
        let step = repo.node_source().get(PubId::KIND, &id.0).map_err(|error| error.to_string());
        match step.and_then(|bytes| Pub::decode(&bytes).map_err(|error| error.to_string())) {
            Ok(step) => {
                found.node(PubId::KIND, &id.0);
                next = step.prev;
            }
            Err(cause) => found.note(id.0, PubId::KIND, cause, None),
        }
    }
}

fn check_signature(repo: &Repo, id: &ContentHash, commit: &Commit, findings: &mut Vec<String>) {
    if identity::verify(commit, repo.repository()) == SignatureState::Bad {
        findings.push(format!("commit {id}: its signature is not that of its node"));
    }
}

/// Finds the paths that need what is damaged. Each distinct tree is looked into once, where it is met first.
fn name_paths(repo: &Repo, trees: &[TreeLink], found: &mut Findings<'_>) -> Result<(), Error> {
    let mut seen = HashSet::new();
    for tree in trees {
        let mut open = vec![(RepoPath::root(), *tree)];
        while let Some((path, tree)) = open.pop() {
            crate::cancel::check()?;
            if !seen.insert(tree.id) || path.depth() > crate::scan::DEPTH_MAX {
                continue;
            }
            if let Some(bad) = found.bad.get_mut(&tree.id.0) {
                bad.paths.insert(path.as_bytes().to_vec());
            }
            for entry in DirCursor::new(repo.node_source(), &tree) {
                // What cannot be read has been noted under its own id.
                let Ok((name, entry)) = entry else { break };
                let path = path.join(&name);
                match entry.as_directory() {
                    Some(link) => open.push((path, *link)),
                    None => name_file(repo, &path, &entry, found),
                }
            }
        }
    }
    Ok(())
}

fn name_file(repo: &Repo, path: &RepoPath, entry: &Entry, found: &mut Findings<'_>) {
    let mut hit = |id: &ContentHash| {
        if let Some(bad) = found.bad.get_mut(id).filter(|bad| bad.paths.len() < PATHS_MAX) {
            bad.paths.insert(path.as_bytes().to_vec());
        }
    };
    entry.attrs.iter().for_each(|attrs| hit(&attrs.0));
    let Node::File { size, content, .. } = &entry.node else { return };
    match content {
        Content::Empty => {}
        Content::Chunk(id) => hit(&id.0),
        Content::List { root, height } => {
            hit(&root.0);
            match ListReader::new(repo.node_source(), *root, *height, *size, 0) {
                Ok(chunks) => chunks.map_while(Result::ok).for_each(|chunk| hit(&chunk.id.0)),
                Err(error) => error.id().iter().for_each(hit),
            }
        }
    }
}

/// Notes what was found, so that the next commit that has the bytes stores them again. Not while somebody writes.
fn record(repo: &Repo, bad: impl Iterator<Item = ContentHash>) {
    let options = OpenOptions { allow_foreign: true, lock_timeout: Duration::ZERO, ..OpenOptions::default() };
    if repo.store.is_writable() {
        drop(repo.store.record_damage(bad));
        return;
    }
    match Repo::open_writer(repo.root(), "fsck", &options, &Silent) {
        Ok(writer) => drop(writer.store.record_damage(bad)),
        Err(error) if error.kind() == ErrorKind::Busy => {
            drop(daemon::ask_in_passing(repo.root(), &Request::RecordDamage(bad.collect()), &Silent));
        }
        Err(_) => {}
    }
}
