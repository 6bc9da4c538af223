//! The working copy against a tree: what `status` and `diff` are made of. Files are read only where stat and size leave
//! it open, and what cannot be read is said to be so.

use std::collections::HashSet;
use std::os::fd::AsFd;
use std::time::Duration;

use filesync_cas::{Chunker, ContentHash};
use filesync_merkle::{Content, Entry, Mode, Name, Node, NodeSource, RepoPath, Timestamp, TreeLink, diff, walk_order};

use crate::changes::{Consumer, Finding, Found, WalkOptions, Walker};
use crate::commit::{ROWS_MAX, stamp, threads};
use crate::error::{Error, ErrorKind};
use crate::estimate::{AFTER, Stop, estimate};
use crate::ingest::{Feeder, Ingest, Read, Slot, Target};
use crate::limits;
use crate::path_set::{Part, PathSet};
use crate::renames::{self, Candidates};
use crate::repo::{OpenOptions, Repo};
use crate::request::{Change, ChangeKind, EntryKind, Observer, Side, Silent};
use crate::scan::{Kind, Scan, ScanOptions, Stat};
use crate::stat_cache::CacheUpdate;

/// What a comparison found.
pub struct Compared {
    /// What differs, in the order of a walk.
    pub changes: Vec<Change>,
    /// Conflict copies in the working copy, in that order.
    pub conflicts: Vec<RepoPath>,
    /// What stands where a partial copy has no part, in that order.
    pub outside: Vec<RepoPath>,
}

/// Compares the working copy with a tree, and tells what differs. What was read and found equal is remembered.
pub fn compare(
    repo: &Repo,
    base: Option<TreeLink>,
    no_cache: bool,
    only: &PathSet,
    observer: &dyn Observer,
) -> Result<Vec<Change>, Error> {
    compare_all(repo, base, no_cache, only, observer).map(|compared| compared.changes)
}

/// As [`compare`], and tells of conflict copies too.
pub fn compare_all(
    repo: &Repo,
    base: Option<TreeLink>,
    no_cache: bool,
    only: &PathSet,
    observer: &dyn Observer,
) -> Result<Compared, Error> {
    base.as_ref().map_or(Ok(()), |base| limits::check_paths("compare", base, u64::MAX))?;
    crate::restore::finish_journal_if_free(repo, observer)?;
    let options = WalkOptions { no_cache, ..WalkOptions::default() };
    // Before anything is read: what changes afterwards must not look old. Where it cannot be had, nothing is saved.
    let stamp = stamp(repo).ok();
    let nodes: &dyn NodeSource = repo.node_source();
    let mut comparison = Comparison::new(nodes, only);
    let again = || {
        let cache = Some(repo.stat_cache()).filter(|_| !no_cache);
        let options = ScanOptions { only: only.clone(), threads: 0, ..ScanOptions::default() };
        Ok(Scan::start(repo.work_fd()?, cache, options))
    };
    read_files(repo, observer, Some(&again), |feeder| {
        let cache = Some(repo.stat_cache()).filter(|_| !options.no_cache);
        let scan_options = ScanOptions { only: only.clone(), ..ScanOptions::default() };
        let scan = Scan::start(repo.work_fd()?, cache, scan_options);
        let walker = Walker::new(nodes, scan, feeder, observer, options, &mut comparison);
        walker.within(&repo.copied.parts).run(base)
    })?;
    let Comparison { mut changes, mut conflicts, mut outside, gone, new, same, .. } = comparison;
    if let Some(stamp) = stamp.filter(|_| !same.is_empty()) {
        save(repo, same, stamp);
    }
    pair_renames(repo, observer, &mut changes, gone, new)?;
    changes.sort_by(|a, b| walk_order(&a.path, &b.path));
    conflicts.sort_by(|a, b| walk_order(a.as_bytes(), b.as_bytes()));
    outside.sort();
    Ok(Compared { changes, conflicts, outside })
}

/// How two sides of a path differ, of which one at least is there.
pub fn kind_of(old: Option<&Side>, new: Option<&Side>) -> ChangeKind {
    let class = |side: &Side| match side.kind {
        EntryKind::File | EntryKind::Executable => 0,
        EntryKind::Symlink => 1,
        EntryKind::Directory => 2,
    };
    match (old, new) {
        (None, _) => ChangeKind::Added,
        (_, None) => ChangeKind::Deleted,
        (Some(old), Some(new)) if class(old) == class(new) => ChangeKind::Modified,
        _ => ChangeKind::TypeChanged,
    }
}

/// What decides whether two files are one by another name. Empty files are not.
pub fn content_id(entry: &Entry) -> Option<ContentHash> {
    match &entry.node {
        Node::File { content: Content::Chunk(id), .. } => Some(id.0),
        Node::File { content: Content::List { root, .. }, .. } => Some(root.0),
        _ => None,
    }
}

/// Runs `walk` with threads that read and store nothing.
fn read_files(
    repo: &Repo,
    observer: &dyn Observer,
    again: Option<Again<'_>>,
    walk: impl FnOnce(Feeder) -> Result<(), Error>,
) -> Result<(), Error> {
    let root = repo.work_fd()?;
    let chunker = Chunker::new(repo.store.parameters().chunks);
    let (ingest, feeder) = Ingest::new(root.as_fd(), Some(repo.node_source()), Target::Ids, chunker, observer);
    let stop = &Stop::default();
    let walked = std::thread::scope(|scope| {
        if let Some(again) = again.filter(|_| observer.wants_totals()) {
            let named = std::thread::Builder::new().name("estimate".to_owned());
            // Without it there is no time left to be shown, and no more.
            drop(named.spawn_scoped(scope, move || estimate(AFTER, again, stop, observer)));
        }
        let (ingest, token) = (&ingest, crate::cancel::current());
        let spawn = |number| {
            let token = token.clone();
            let work = move || token.scope(|| ingest.work());
            std::thread::Builder::new().name(format!("read-{number}")).spawn_scoped(scope, work).ok()
        };
        let workers: Vec<_> = (0..threads()).filter_map(spawn).collect();
        let walked = match workers.is_empty() {
            true => Err(Error::new(ErrorKind::Failed, "cannot start a thread")),
            false => walk(feeder),
        };
        stop.stop();
        walked
    });
    ingest.failure().map_or(walked, Err)
}

/// A look at the same files for how much there is to read.
type Again<'a> = &'a (dyn Fn() -> Result<Scan, Error> + Sync);

/// Rows of the stat cache, by name.
type Rows = Vec<(Name, Option<(Stat, Entry)>)>;
/// What was read again and found equal, by directory, to be kept for the next time.
type SameRows = Vec<(RepoPath, TreeLink, Rows)>;

/// Saves rows if nobody else writes at the moment; if somebody does, they are read again the next time.
///
/// Only entries of a commit are saved: nothing that is not stored may ever be taken for known.
fn save(repo: &Repo, same: SameRows, stamp: Timestamp) {
    let options = OpenOptions { allow_foreign: true, lock_timeout: Duration::ZERO, ..OpenOptions::default() };
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

struct Level {
    path: RepoPath,
    old: Option<TreeLink>,
    trusted: bool,
    is_way: bool,
    is_empty: bool,
    rows: Rows,
}

/// What differs of a path besides its mode.
#[derive(Clone, Copy)]
struct Differs {
    content: bool,
    attrs: bool,
}

impl Differs {
    const NOTHING: Self = Self { content: false, attrs: false };
    const CONTENT: Self = Self { content: true, attrs: false };
}

struct Comparison<'a> {
    nodes: &'a dyn NodeSource,
    only: &'a PathSet,
    stack: Vec<Level>,
    changes: Vec<Change>,
    conflicts: Vec<RepoPath>,
    outside: Vec<RepoPath>,
    /// Files that are gone, by content.
    gone: Candidates<ContentHash>,
    /// New files, by size: their content is not known yet.
    new: Candidates<u64>,
    same: SameRows,
    /// How many rows are to be saved, so far: those above the limit are read again the next time.
    rows: usize,
}

impl<'a> Comparison<'a> {
    fn new(nodes: &'a dyn NodeSource, only: &'a PathSet) -> Self {
        let (stack, changes, gone, new, same) = (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (conflicts, outside) = (Vec::new(), Vec::new());
        Self { nodes, only, stack, changes, conflicts, outside, gone, new, same, rows: 0 }
    }

    fn path(&self, name: &Name) -> RepoPath {
        self.stack.last().map_or_else(RepoPath::root, |level| level.path.join(name))
    }

    /// Notes a change; where it is, unless it is not asked about.
    fn change(&mut self, path: &RepoPath, old: Option<Side>, new: Option<Side>, how: Differs) -> Option<usize> {
        if self.only.part(path) != Part::All {
            return None;
        }
        let kind = kind_of(old.as_ref(), new.as_ref());
        let Differs { content, attrs } = how;
        self.changes.push(Change { old, new, content, attrs, ..Change::new(kind, path.as_bytes().to_vec()) });
        Some(self.changes.len() - 1)
    }

    fn unreadable(&mut self, path: &RepoPath) {
        if self.only.part(path) == Part::All {
            self.changes.push(Change::new(ChangeKind::Unreadable, path.as_bytes().to_vec()));
        }
    }

    /// Something that can be tracked, and is not what was there.
    fn differs(&mut self, name: &Name, new: Side, old: Option<Entry>, how: Differs) -> Result<(), Error> {
        let path = self.path(name);
        if let Some(link) = old.as_ref().and_then(Entry::as_directory) {
            self.gone_below(&path, link)?;
        }
        let at = self.change(&path, old.as_ref().map(Side::of), Some(new), how);
        if let Some(at) = at.filter(|_| old.is_none() && new.size > 0 && new.kind != EntryKind::Symlink) {
            self.new.push((new.size, at));
        }
        Ok(())
    }

    fn file(&mut self, name: Name, stat: Stat, old: Option<Entry>, found: Found) -> Result<(), Error> {
        let (entry, stat) = match found {
            Found::Entry(entry) => (*entry, stat),
            Found::Slot(slot) => match slot.wait() {
                Read::Entry(entry, stat) => (entry, stat),
                // It was not read since its size tells that it differs, or since there is nothing to compare it with.
                Read::Opened(stat) => return self.differs(&name, side_of(&stat), old, Differs::CONTENT),
                Read::Gone => return self.gone(&name, old.as_ref()),
                Read::Failed(_) => {
                    let path = self.path(&name);
                    self.unreadable(&path);
                    return Ok(());
                }
                Read::Abandoned => return Err(given_up()),
            },
        };
        match old {
            Some(old) if old.same(&entry) => {
                self.row(name, stat, old);
                Ok(())
            }
            old => {
                let content = old.as_ref().is_none_or(|old| !old.has_content_of(&entry));
                let attrs = old.as_ref().is_some_and(|old| old.attrs != entry.attrs);
                self.differs(&name, Side::of(&entry), old, Differs { content, attrs })
            }
        }
    }

    fn row(&mut self, name: Name, stat: Stat, entry: Entry) {
        if self.rows < ROWS_MAX
            && let Some(level) = self.stack.last_mut().filter(|level| level.trusted)
        {
            level.rows.push((name, Some((stat, entry))));
            self.rows += 1;
        }
    }

    fn gone(&mut self, name: &Name, old: Option<&Entry>) -> Result<(), Error> {
        let Some(old) = old else { return Ok(()) };
        let path = self.path(name);
        if let Some(link) = old.as_directory() {
            // A directory with something in it is told by that.
            if *link == TreeLink::empty() {
                self.change(&path, Some(Side::of(old)), None, Differs::NOTHING);
            }
            return self.gone_below(&path, link);
        }
        self.gone_file(&path, old);
        Ok(())
    }

    fn gone_file(&mut self, path: &RepoPath, old: &Entry) {
        let at = self.change(path, Some(Side::of(old)), None, Differs::CONTENT);
        self.gone.extend(content_id(old).zip(at));
    }

    /// Every file below a directory that is gone, and directories that were empty.
    fn gone_below(&mut self, path: &RepoPath, dir: &TreeLink) -> Result<(), Error> {
        if self.only.part(path) == Part::None {
            return Ok(());
        }
        for change in diff(self.nodes, Some(*dir), None).with_directories() {
            let change = change?;
            let full = change.path.names().fold(path.clone(), |path, name| path.join(&name));
            let Some(entry) = change.old else { continue };
            match entry.as_directory() {
                Some(link) if *link != TreeLink::empty() => {}
                Some(_) => drop(self.change(&full, Some(Side::of(&entry)), None, Differs::NOTHING)),
                None => self.gone_file(&full, &entry),
            }
        }
        Ok(())
    }

    fn leave(&mut self, mode: Mode, old: Option<&Entry>, is_root: bool) {
        let Some(level) = self.stack.pop() else { return };
        if let Some(link) = level.old.filter(|_| !level.rows.is_empty()) {
            self.same.push((level.path.clone(), link, level.rows));
        }
        // A directory on the way to parts is there for what is in it.
        if is_root || level.is_way {
            return;
        }
        let new = Side { kind: EntryKind::Directory, mode: mode.bits(), size: 0 };
        let differs = match old {
            None => level.is_empty,
            Some(old) => !old.is_directory() || old.mode != mode,
        };
        if differs {
            let content = old.is_some_and(|old| !old.is_directory());
            self.change(&level.path, old.map(Side::of), Some(new), Differs { content, attrs: false });
        }
    }
}

impl Consumer for Comparison<'_> {
    /// Another size is another content; without anything to compare with, there is nothing to learn.
    fn wants(&self, old: Option<&Entry>, stat: &Stat) -> bool {
        matches!(old.map(|old| &old.node), Some(Node::File { size, .. }) if *size == stat.size)
    }

    fn conflict_copy(&mut self, path: RepoPath) {
        if self.only.part(&path) == Part::All {
            self.conflicts.push(path);
        }
    }

    fn take(&mut self, finding: Finding) -> Result<(), Error> {
        if !matches!(finding, Finding::Gone { .. } | Finding::Leave { .. })
            && let Some(level) = self.stack.last_mut()
        {
            level.is_empty = false;
        }
        match finding {
            Finding::Enter { path, old, trusted, is_way } => {
                self.stack.push(Level { path, old, trusted, is_way, is_empty: true, rows: Vec::new() });
                Ok(())
            }
            Finding::Same { .. } => Ok(()),
            Finding::Outside(path) => {
                if self.only.part(&path) == Part::All {
                    self.outside.push(path);
                }
                Ok(())
            }
            Finding::File { name, stat, old, found } => self.file(name, stat, old, found),
            Finding::Gone { name, old } => self.gone(&name, old.as_ref()),
            Finding::Unreadable(what) => {
                self.unreadable(&RepoPath::parse(&what.path)?);
                Ok(())
            }
            Finding::Leave { name, mode, old, .. } => {
                self.leave(mode, old.as_ref(), name.is_none());
                Ok(())
            }
        }
    }
}

/// What a file's stat says.
pub fn side_of(stat: &Stat) -> Side {
    let mode = stat.permissions();
    let kind = match stat.kind {
        Kind::Symlink => EntryKind::Symlink,
        Kind::Directory => EntryKind::Directory,
        _ if mode.is_executable() => EntryKind::Executable,
        _ => EntryKind::File,
    };
    Side { kind, mode: mode.bits(), size: stat.size }
}

fn given_up() -> Error {
    match crate::cancel::check() {
        Err(cancelled) => cancelled,
        Ok(()) => Error::new(ErrorKind::Failed, "reading was given up"),
    }
}

/// Pairs deleted with added files of equal content. Only files whose size occurs on both sides are read.
fn pair_renames(
    repo: &Repo,
    observer: &dyn Observer,
    changes: &mut Vec<Change>,
    gone: Candidates<ContentHash>,
    new: Candidates<u64>,
) -> Result<(), Error> {
    let size_of = |at: usize| changes.get(at).and_then(|change| change.old).map(|side| side.size);
    let sizes: HashSet<u64> = gone.iter().filter_map(|(_, at)| size_of(*at)).collect();
    let mut slots: Vec<(Slot, usize)> = Vec::new();
    let wanted: Vec<_> = new.into_iter().filter(|(size, _)| sizes.contains(size)).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    read_files(repo, observer, None, |mut feeder| {
        for (size, at) in wanted {
            let Some(change) = changes.get(at) else { continue };
            slots.push((feeder.read(RepoPath::parse(&change.path)?, size, None), at));
        }
        Ok(())
    })?;
    let mut new = Candidates::new();
    for (slot, at) in slots {
        let Read::Entry(entry, _) = slot.wait() else { continue };
        if let Some(change) = changes.get_mut(at) {
            change.new = Some(Side::of(&entry));
        }
        new.extend(content_id(&entry).map(|id| (id, at)));
    }
    let pairs = renames::pair(changes, gone, new);
    renames::apply(changes, &pairs);
    Ok(())
}
