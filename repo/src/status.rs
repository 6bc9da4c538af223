//! `status`: what differs from the head. Files are read only where stat and size leave it open.

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::time::Duration;

use filesync_cas::Chunker;
use filesync_merkle::{Entry, Mode, Name, Node, NodeSource, RepoPath, Timestamp, TreeLink, diff};

use crate::changes::{Consumer, Finding, Found, WalkOptions, Walker};
use crate::commit::{stamp, threads};
use crate::error::{Error, ErrorKind};
use crate::ingest::{Ingest, Read, Target};
use crate::repo::{OpenOptions, Repo};
use crate::request::{Change, ChangeKind, Event, Observer, Silent, StatusRequest, StatusResult};
use crate::scan::{Scan, ScanOptions, Stat};
use crate::stat_cache::CacheUpdate;

/// Compares the working copy with the head.
pub fn status(repo: &Repo, request: &StatusRequest, observer: &dyn Observer) -> Result<StatusResult, Error> {
    observer.event(Event::Phase { what: "comparing", bytes: None, items: None });
    let head = repo.head();
    let base = repo.head_tree()?;
    let options = WalkOptions { no_cache: request.no_cache, ..WalkOptions::default() };
    // Before anything is read: what changes afterwards must not look old. Where it cannot be had, nothing is saved.
    let stamp = stamp(repo).ok();
    let nodes: &dyn NodeSource = repo.node_source();
    let mut comparison =
        Comparison { nodes, stack: Vec::new(), changes: Vec::new(), files: Files::default(), same: Vec::new() };
    read_files(repo, observer, |ingest_feeder| {
        let cache = Some(repo.stat_cache()).filter(|_| !options.no_cache);
        let scan = Scan::start(repo.work_fd()?, cache, ScanOptions::default());
        Walker::new(nodes, scan, ingest_feeder, observer, options, &mut comparison).run(base)
    })?;
    let Comparison { mut changes, files, same, .. } = comparison;
    if let Some(stamp) = stamp.filter(|_| !same.is_empty()) {
        save(repo, same, stamp);
    }
    pair_renames(repo, observer, &mut changes, files)?;
    changes.sort_by(|a, b| a.path.cmp(&b.path));
    let conflicts = Vec::new();
    Ok(StatusResult { head, main: None, ahead: None, behind: None, changes, conflicts })
}

/// Runs `walk` with threads that read and store nothing.
fn read_files(
    repo: &Repo,
    observer: &dyn Observer,
    walk: impl FnOnce(crate::ingest::Feeder) -> Result<(), Error>,
) -> Result<(), Error> {
    let root = repo.work_fd()?;
    let chunker = Chunker::new(repo.store.parameters().chunks);
    let (ingest, feeder) = Ingest::new(root.as_fd(), Target::Ids, chunker, observer);
    let walked = std::thread::scope(|scope| {
        let spawn = |number| {
            std::thread::Builder::new().name(format!("read-{number}")).spawn_scoped(scope, || ingest.work()).ok()
        };
        let workers: Vec<_> = (0..threads()).filter_map(spawn).collect();
        if workers.is_empty() {
            return Err(Error::new(ErrorKind::Failed, "cannot start a thread"));
        }
        walk(feeder)
    });
    ingest.failure().map_or(walked, Err)
}

/// What was read again and found equal, to be kept for the next time.
type SameRows = Vec<(RepoPath, TreeLink, Vec<(Name, Option<(Stat, Entry)>)>)>;

/// Saves rows if nobody else writes at the moment; if somebody does, they are read again the next time.
///
/// Only entries of the head are saved: nothing that is not stored may ever be taken for known.
fn save(repo: &Repo, same: SameRows, stamp: Timestamp) {
    let options = OpenOptions { allow_foreign: true, lock_timeout: Duration::ZERO };
    let save_into = |writer: &Repo| {
        let mut update = CacheUpdate::new(writer.stat_cache(), stamp);
        for (path, link, rows) in same {
            drop(update.change(&path, Some(link), rows));
        }
        drop(writer.store.save_rows(update.finish()));
    };
    if repo.store.is_writable() {
        save_into(repo);
    } else if let Ok(writer) = Repo::open_writer(repo.root(), "status", &options, &Silent) {
        save_into(&writer);
    }
}

/// Files by what they could be renames of.
#[derive(Default)]
struct Files {
    deleted: Vec<(RepoPath, Entry)>,
    added: Vec<(RepoPath, Stat)>,
}

struct Level {
    path: RepoPath,
    old: Option<TreeLink>,
    trusted: bool,
    is_empty: bool,
    rows: Vec<(Name, Option<(Stat, Entry)>)>,
}

struct Comparison<'a> {
    nodes: &'a dyn NodeSource,
    stack: Vec<Level>,
    changes: Vec<Change>,
    files: Files,
    same: SameRows,
}

impl Comparison<'_> {
    fn path(&self, name: &Name) -> RepoPath {
        self.stack.last().map_or_else(RepoPath::root, |level| level.path.join(name))
    }

    fn change(&mut self, kind: ChangeKind, path: &RepoPath) {
        self.changes.push(Change { kind, path: path.as_bytes().to_vec(), from: None });
    }

    /// Something that can be tracked, and is not what was there.
    fn differs(&mut self, name: &Name, stat: &Stat, old: Option<Entry>, entry: Option<&Entry>) -> Result<(), Error> {
        let path = self.path(name);
        match old {
            None => {
                self.change(ChangeKind::Added, &path);
                if stat.size > 0 && stat.kind == crate::scan::Kind::File {
                    self.files.added.push((path, *stat));
                }
            }
            Some(old) if old.is_directory() => {
                self.gone_below(&path, &old)?;
                self.change(ChangeKind::TypeChanged, &path);
            }
            Some(old) => {
                let was_link = matches!(old.node, Node::Symlink { .. });
                let is_link = entry.map_or(stat.kind == crate::scan::Kind::Symlink, |entry| {
                    matches!(entry.node, Node::Symlink { .. })
                });
                let kind = if was_link == is_link { ChangeKind::Modified } else { ChangeKind::TypeChanged };
                self.change(kind, &path);
            }
        }
        Ok(())
    }

    fn file(&mut self, name: Name, stat: Stat, old: Option<Entry>, found: Found) -> Result<(), Error> {
        let (entry, stat) = match found {
            Found::Unread => return self.differs(&name, &stat, old, None),
            Found::Entry(entry) => (*entry, stat),
            Found::Slot(slot) => match slot.wait() {
                Read::Entry(entry, stat) => (entry, stat),
                Read::Gone => return self.gone(&name, old.as_ref()),
                Read::Failed(_) => {
                    let path = self.path(&name);
                    self.change(ChangeKind::Unreadable, &path);
                    return Ok(());
                }
                Read::Abandoned => {
                    crate::cancel::check()?;
                    return Err(Error::new(ErrorKind::Failed, "reading was given up"));
                }
            },
        };
        match old {
            Some(old) if old.same(&entry) => {
                self.row(name, stat, old);
                Ok(())
            }
            old => self.differs(&name, &stat, old, Some(&entry)),
        }
    }

    fn row(&mut self, name: Name, stat: Stat, entry: Entry) {
        if let Some(level) = self.stack.last_mut().filter(|level| level.trusted) {
            level.rows.push((name, Some((stat, entry))));
        }
    }

    fn gone(&mut self, name: &Name, old: Option<&Entry>) -> Result<(), Error> {
        let Some(old) = old else { return Ok(()) };
        let path = self.path(name);
        if old.is_directory() {
            return self.gone_below(&path, old);
        }
        self.change(ChangeKind::Deleted, &path);
        self.files.deleted.push((path, old.clone()));
        Ok(())
    }

    /// Every file below a directory that is gone, and directories that were empty.
    fn gone_below(&mut self, path: &RepoPath, old: &Entry) -> Result<(), Error> {
        let Some(link) = old.as_directory() else { return Ok(()) };
        if *link == TreeLink::empty() {
            self.change(ChangeKind::Deleted, path);
        }
        for change in diff(self.nodes, Some(*link), None).with_directories() {
            let change = change?;
            let full = change.path.names().fold(path.clone(), |path, name| path.join(&name));
            let Some(entry) = change.old else { continue };
            match entry.as_directory() {
                // A directory with something in it is told by that.
                Some(link) if *link != TreeLink::empty() => {}
                Some(_) => self.change(ChangeKind::Deleted, &full),
                None => {
                    self.change(ChangeKind::Deleted, &full);
                    self.files.deleted.push((full, entry));
                }
            }
        }
        Ok(())
    }

    fn leave(&mut self, mode: Mode, old: Option<&Entry>, is_root: bool) {
        let Some(level) = self.stack.pop() else { return };
        if let Some(link) = level.old.filter(|_| !level.rows.is_empty()) {
            self.same.push((level.path.clone(), link, level.rows));
        }
        if is_root {
            return;
        }
        match old {
            None if level.is_empty => self.change(ChangeKind::Added, &level.path),
            Some(old) if !old.is_directory() => self.change(ChangeKind::TypeChanged, &level.path),
            Some(old) if old.mode != mode => self.change(ChangeKind::Modified, &level.path),
            _ => {}
        }
    }
}

impl Consumer for Comparison<'_> {
    /// Another size is another content; without anything to compare with, there is nothing to learn.
    fn wants(&self, old: Option<&Entry>, stat: &Stat) -> bool {
        matches!(old.map(|old| &old.node), Some(Node::File { size, .. }) if *size == stat.size)
    }

    fn take(&mut self, finding: Finding) -> Result<(), Error> {
        if let (Some(level), Finding::Same { .. } | Finding::File { .. } | Finding::Enter { .. }) =
            (self.stack.last_mut(), &finding)
        {
            level.is_empty = false;
        }
        match finding {
            Finding::Enter { path, old, trusted } => {
                self.stack.push(Level { path, old, trusted, is_empty: true, rows: Vec::new() });
                Ok(())
            }
            Finding::Same { .. } => Ok(()),
            Finding::File { name, stat, old, found } => self.file(name, stat, old, found),
            Finding::Gone { name, old } => self.gone(&name, old.as_ref()),
            Finding::Unreadable(what) => {
                self.changes.push(Change { kind: ChangeKind::Unreadable, path: what.path, from: None });
                Ok(())
            }
            Finding::Leave { name, mode, old, .. } => {
                self.leave(mode, old.as_ref(), name.is_none());
                Ok(())
            }
        }
    }
}

/// Pairs deleted with added files of equal content, each once. Only files whose size occurs on both sides are read.
fn pair_renames(repo: &Repo, observer: &dyn Observer, changes: &mut Vec<Change>, files: Files) -> Result<(), Error> {
    let mut deleted: HashMap<u64, Vec<(RepoPath, Entry)>> = HashMap::new();
    for (path, entry) in files.deleted {
        if let Node::File { size, .. } = entry.node
            && size > 0
        {
            deleted.entry(size).or_default().push((path, entry));
        }
    }
    let candidates: Vec<_> = files.added.into_iter().filter(|(_, stat)| deleted.contains_key(&stat.size)).collect();
    if candidates.is_empty() {
        return Ok(());
    }
    let mut slots = Vec::new();
    read_files(repo, observer, |mut feeder| {
        slots = candidates.into_iter().map(|(path, stat)| (feeder.read(path.clone(), stat.size), path)).collect();
        Ok(())
    })?;
    for (slot, path) in slots {
        let Read::Entry(Entry { node: Node::File { size, content, .. }, .. }, _) = slot.wait() else { continue };
        let Some(from) = deleted.get_mut(&size) else { continue };
        let equal =
            |(_, entry): &(RepoPath, Entry)| matches!(&entry.node, Node::File { content: old, .. } if *old == content);
        let Some(at) = from.iter().position(equal) else { continue };
        let (from, _) = from.remove(at);
        changes.retain(|change| !(change.kind == ChangeKind::Deleted && change.path == from.as_bytes()));
        if let Some(change) = changes.iter_mut().find(|change| change.path == path.as_bytes()) {
            change.kind = ChangeKind::Renamed;
            change.from = Some(from.as_bytes().to_vec());
        }
    }
    Ok(())
}
