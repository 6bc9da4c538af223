//! `fsck`: every byte of every pack, every object against its hash, every tree against its rules; and who is affected.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use filesync_cas::fsck::Depth;
use filesync_cas::{ContentHash, Kind, Schema};
use filesync_merkle::{
    Ancestors, ChunkId, Commit, Content, DirCursor, Entry, ListReader, MerkleSchema, Node, RepoPath, TreeLink, Walk,
    WalkError, WalkVisitor,
};

use crate::error::Error;
use crate::history;
use crate::identity::{self, Identity};
use crate::repo::{OpenOptions, Repo};
use crate::request::{DamagedObject, Event, FsckRequest, FsckResult, Observer, SignatureState, Silent};

/// Paths that are named for one object.
const PATHS_MAX: usize = 1000;

/// Carries out `fsck`.
pub fn fsck(repo: &Repo, request: &FsckRequest, observer: &dyn Observer) -> Result<FsckResult, Error> {
    let began = Instant::now();
    let depth = if request.quick { Depth::Stored } else { Depth::Objects };
    observer.event(Event::Phase { what: "checking", bytes: Some(repo.store.packs_len()), items: None });
    let advance = |bytes, items| observer.event(Event::Advance { bytes, items });
    let packs = repo.store.check_packs(depth, &advance)?;
    crate::cancel::check()?;

    let mut found = Findings { repo, bad: BTreeMap::new(), seen: HashSet::new(), checked: HashSet::new() };
    for object in packs.bad {
        // Stored again since: there is a good copy, and the bad one goes with the next gc.
        if repo.store.get(object.kind, &object.id).is_err() {
            found.note(object.id, object.kind, object.cause, None);
        }
    }
    let mut result =
        FsckResult { objects: packs.objects, bytes: packs.bytes, findings: packs.findings, ..FsckResult::default() };
    small_files(repo, &mut result.findings);
    let trees = walk_history(repo, &mut found, &mut result.findings)?;
    if !found.bad.is_empty() {
        name_paths(repo, &trees, &mut found)?;
        record(repo, found.bad.keys().copied());
    }
    result.damaged = found.bad.into_iter().map(|(id, bad)| bad.describe(id)).collect();
    result.elapsed = began.elapsed();
    Ok(result)
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
    /// What has been claimed about nodes.
    seen: HashSet<ContentHash>,
    /// Chunks that have been looked for.
    checked: HashSet<ContentHash>,
}

impl Findings<'_> {
    fn note(&mut self, id: ContentHash, kind: Kind, cause: String, path: Option<Vec<u8>>) {
        let bad = self.bad.entry(id).or_insert_with(|| Bad { kind, cause, paths: BTreeSet::new() });
        bad.paths.extend(path);
    }
}

impl WalkVisitor for Findings<'_> {
    fn first(&mut self, key: &ContentHash) -> bool {
        self.seen.insert(*key)
    }

    fn chunk(&mut self, id: &ChunkId, len: u64) {
        if self.bad.contains_key(&id.0) || !self.checked.insert(id.0) {
            return;
        }
        let cause = match self.repo.store.locate(&id.0) {
            Ok(Some(location)) if location.kind != Kind::CHUNK => Some("it is no chunk".to_owned()),
            Ok(Some(location)) if u64::from(location.len) != len => Some("a file says another length".to_owned()),
            Ok(Some(_)) => None,
            // The index is not taken at its word.
            Ok(None) | Err(_) => self.repo.store.get(Kind::CHUNK, &id.0).err().map(|error| error.to_string()),
        };
        if let Some(cause) = cause {
            self.note(id.0, Kind::CHUNK, cause, None);
        }
    }

    fn problem(&mut self, path: &RepoPath, error: WalkError) {
        let kind = match &error {
            WalkError::Malformed { kind, .. } | WalkError::Mismatch { kind, .. } => *kind,
            _ => filesync_merkle::TREE,
        };
        let id = error.id().unwrap_or(ContentHash::from_bytes([0; 32]));
        self.note(id, kind, error.to_string(), Some(path.as_bytes().to_vec()));
    }
}

fn small_files(repo: &Repo, findings: &mut Vec<String>) {
    let vfs = &**repo.store.vfs();
    let mut check = |result: Result<(), String>| findings.extend(result.err());
    check(Identity::load(vfs).map(drop).map_err(|error| error.to_string()));
    check(crate::config::Config::load(vfs).map(drop).map_err(|error| error.to_string()));
    check(filesync_cas::pin::all(vfs).map(drop).map_err(|error| error.to_string()));
}

/// Walks every commit that a ref leads to. Returns their trees, newest first.
fn walk_history(repo: &Repo, found: &mut Findings<'_>, findings: &mut Vec<String>) -> Result<Vec<TreeLink>, Error> {
    let roots = match history::roots(repo) {
        Ok(roots) => roots,
        Err(error) => {
            findings.push(error.to_string());
            repo.head().into_iter().collect()
        }
    };
    let mut trees = Vec::new();
    for commit in Ancestors::new(repo.node_source(), roots) {
        crate::cancel::check()?;
        match commit {
            Ok((id, commit)) => {
                check_signature(repo, &id.0, &commit, findings);
                Walk::new(repo.node_source()).tree(found, &commit.tree);
                trees.push(commit.tree);
            }
            Err(error) if error.is_damage() => found.problem(&RepoPath::root(), error),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(trees)
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
    let options = OpenOptions { allow_foreign: true, lock_timeout: Duration::ZERO };
    if repo.store.is_writable() {
        drop(repo.store.record_damage(bad));
    } else if let Ok(writer) = Repo::open_writer(repo.root(), "fsck", &options, &Silent) {
        drop(writer.store.record_damage(bad));
    }
}
