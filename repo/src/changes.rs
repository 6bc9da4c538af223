//! The walk that compares the working copy with a tree: what stands, what is new, what is gone.
//!
//! Directories are visited depth first and by name; what is found goes, in that order, to a [`Consumer`] (commit
//! or status). Files that must be read are given to the threads of [`crate::ingest`] as they are met, and the
//! consumer gets their entries when it comes to them.
//!
//! A scan of some paths only gives what lies on the way to them: names beside it that the tree has are found gone,
//! and the consumer has to leave them out.
//!
//! In a partial copy, what is no part of it is not looked for: its names are not mentioned, unless something stands there.
//! Directories on the way to parts are there in any case; what is missing of them in the working copy is as if it were empty.
//!
//! A directory is *trusted* if the stat cache holds exactly the entries of the tree that it is compared with: then only
//! what is not clean is looked at, and no node of that tree is loaded for the rest.

use std::collections::VecDeque;

use filesync_merkle::merge::is_copy_name;
use filesync_merkle::{DirCursor, Entry, Follow, Mode, Name, Node, NodeSource, Parts, RepoPath, TreeLink, Way};

use crate::error::Error;
use crate::ingest::{Feeder, Slot};
use crate::path_set::Part;
use crate::request::{Event, Observer, Unreadable, Warning};
use crate::scan::{self, Batch, DirScan, Kind, Scan, ScanEntry, ScanError, SkipReason, Skipped, Stat};

/// Findings that may wait for the consumer.
const QUEUE_MAX: usize = 16 << 10;
static WHOLE: Parts = Parts::whole();

/// What a file's entry is, or will be.
#[derive(Debug)]
pub enum Found {
    /// Known: a symlink.
    Entry(Box<Entry>),
    /// Being read, or only opened where the consumer wants no more.
    Slot(Slot),
}

/// What the walk found under one name of the directory it is in.
#[derive(Debug)]
pub enum Finding {
    /// A directory begins.
    Enter {
        /// Its path.
        path: RepoPath,
        /// What it is compared with; none if there is no directory.
        old: Option<TreeLink>,
        /// Whether names that are not mentioned are unchanged. Names may be mentioned all the same.
        trusted: bool,
        /// Whether it is on the way to parts: then names that are no parts are not mentioned, and unchanged.
        is_way: bool,
    },
    /// Equal to what was there. With a stat, its row in the cache is to be made anew.
    Same {
        /// Its name.
        name: Name,
        /// The entry.
        entry: Entry,
        /// What `stat` says now.
        stat: Option<Stat>,
    },
    /// A file or symlink that has to be compared.
    File {
        /// Its name.
        name: Name,
        /// What `stat` said.
        stat: Stat,
        /// What was there.
        old: Option<Entry>,
        /// What is there.
        found: Found,
    },
    /// Nothing that can be tracked stands there any more.
    Gone {
        /// Its name.
        name: Name,
        /// What was there; none if only the cache knew it.
        old: Option<Entry>,
    },
    /// Something that could be tracked stands where there is no part of this partial copy.
    Outside(RepoPath),
    /// Cannot be read: nothing is known of it.
    Unreadable(Unreadable),
    /// The directory ends.
    Leave {
        /// Its name; none for the root.
        name: Option<Name>,
        /// Its permissions; of one on the way to parts those that it had.
        mode: Mode,
        /// What was there, directory or not.
        old: Option<Entry>,
        /// Its stat; none for the root.
        stat: Option<Stat>,
    },
}

/// Who is told.
pub trait Consumer {
    /// Takes the next finding.
    fn take(&mut self, finding: Finding) -> Result<(), Error>;

    /// Whether a file must be read. If not, it is opened all the same: of what cannot be read nothing is known.
    fn wants(&self, old: Option<&Entry>, stat: &Stat) -> bool;

    /// Is told of every conflict copy, whether it is in the tree or not.
    fn conflict_copy(&mut self, _: RepoPath) {}
}

/// How to walk.
#[derive(Debug, Clone, Copy, Default)]
pub struct WalkOptions {
    /// Tracked paths that a rule leaves out count as gone.
    pub apply_ignore: bool,
    /// Nothing is taken for clean.
    pub no_cache: bool,
}

/// The walk.
pub struct Walker<'a, C> {
    source: &'a dyn NodeSource,
    scan: Scan,
    feeder: Feeder,
    observer: &'a dyn Observer,
    options: WalkOptions,
    parts: &'a Parts,
    consumer: &'a mut C,
    queue: VecDeque<Finding>,
    stack: Vec<Level<'a>>,
}

/// A directory that is being walked.
struct Level<'a> {
    name: Option<Name>,
    path: RepoPath,
    scan: DirScan,
    /// What is left of the present batch, the next name last.
    names: Vec<Met>,
    old_entry: Option<Entry>,
    stat: Option<Stat>,
    trusted: bool,
    /// Where it stands on the way to parts; none within one.
    way: Option<Way>,
    cursor: Option<DirCursor<'a>>,
}

/// Something under a name.
enum Met {
    Entry(ScanEntry),
    Gone(Name),
    Failed(Name, std::io::Error),
}

impl Met {
    fn name(&self) -> &Name {
        match self {
            Self::Entry(entry) => &entry.name,
            Self::Gone(name) | Self::Failed(name, _) => name,
        }
    }
}

impl<'a, C: Consumer> Walker<'a, C> {
    /// A walk over what `scan` sees, read through `feeder`.
    pub fn new(
        source: &'a dyn NodeSource,
        scan: Scan,
        feeder: Feeder,
        observer: &'a dyn Observer,
        options: WalkOptions,
        consumer: &'a mut C,
    ) -> Self {
        let (queue, stack) = (VecDeque::new(), Vec::new());
        Self { source, scan, feeder, observer, options, parts: &WHOLE, consumer, queue, stack }
    }

    /// Looks at parts only, and at what lies on the way to them.
    #[must_use]
    pub fn within(mut self, parts: &'a Parts) -> Self {
        self.parts = parts;
        self
    }

    /// Walks everything, comparing with `old`.
    pub fn run(mut self, old: Option<TreeLink>) -> Result<(), Error> {
        let root = self.scan.dir(&RepoPath::root())?;
        self.enter(None, self.parts.root(), root, old, None, None)?;
        while let Some(level) = self.stack.last_mut() {
            crate::cancel::check()?;
            match level.names.pop() {
                Some(met) => self.meet(met)?,
                None => {
                    if !self.next_batch()? {
                        self.leave()?;
                    }
                }
            }
        }
        self.feeder.flush();
        while let Some(finding) = self.queue.pop_front() {
            self.consumer.take(finding)?;
        }
        Ok(())
    }

    fn push(&mut self, finding: Finding) -> Result<(), Error> {
        self.queue.push_back(finding);
        if self.queue.len() > QUEUE_MAX {
            // What is taken now may be among the files that still wait to be sent.
            self.feeder.flush();
            while self.queue.len() > QUEUE_MAX / 2 {
                let Some(finding) = self.queue.pop_front() else { break };
                self.consumer.take(finding)?;
            }
        }
        Ok(())
    }

    fn enter(
        &mut self,
        name: Option<Name>,
        way: Option<Way>,
        scan: DirScan,
        old: Option<TreeLink>,
        old_entry: Option<Entry>,
        stat: Option<Stat>,
    ) -> Result<(), Error> {
        let path = scan.path().clone();
        let is_cached = old.is_some() && scan.link() == old && way.is_none();
        let trusted = is_cached && !self.options.apply_ignore && !self.options.no_cache;
        let cursor = old.as_ref().map(|old| DirCursor::new(self.source, old));
        self.push(Finding::Enter { path: path.clone(), old, trusted, is_way: way.is_some() })?;
        self.stack.push(Level { name, path, scan, names: Vec::new(), old_entry, stat, trusted, way, cursor });
        self.next_batch()?;
        Ok(())
    }

    /// Loads the next names of the directory; false after the last.
    fn next_batch(&mut self) -> Result<bool, Error> {
        let only = self.scan.only();
        let Some(level) = self.stack.last_mut() else { return Ok(false) };
        let Some(mut batch) = level.scan.next_batch()? else { return Ok(false) };
        // What a restore prepares, or left behind: it is in no tree.
        for left in batch.entries.extract_if(.., |entry| entry.name.is_temporary()) {
            let why = SkipReason::Refused("a file that filesync was preparing");
            batch.skipped.push(Skipped { name: left.name.as_bytes().to_vec(), why });
        }
        for skipped in std::mem::take(&mut batch.skipped) {
            let message = match skipped.why {
                SkipReason::NotKept => "skipped: a FIFO, socket or device".to_owned(),
                SkipReason::NestedRepository => "skipped: another repository's".to_owned(),
                SkipReason::Refused(why) => format!("skipped: {why}"),
            };
            let mut path = level.path.as_bytes().to_vec();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&skipped.name);
            if !only.is_all() && RepoPath::parse(&path).is_ok_and(|path| only.part(&path) != Part::All) {
                continue;
            }
            self.observer.event(Event::Warning(Warning { path: Some(path), message }));
        }
        let is_out = |name: &Name| level.way.is_some_and(|way| self.parts.follow(way, name) == Follow::Out);
        let is_copy = |entry: &&ScanEntry| !entry.ignored && is_copy_name(entry.name.as_bytes());
        for copy in batch.entries.iter().filter(|entry| is_copy(entry) && !is_out(&entry.name)) {
            self.consumer.conflict_copy(level.path.join(&copy.name));
        }
        if level.trusted && level.scan.link().is_none() {
            // Some of the rows turn out to be lost: what is gone of their names is known from the tree alone.
            level.trusted = false;
            if let Some(cursor) = &mut level.cursor {
                cursor.seek(level.scan.batch_start())?;
            }
        }
        level.names = if level.trusted { level.unclean(batch) } else { all(batch) };
        if !only.is_all() {
            level.names.retain(|met| only.part(&level.path.join(met.name())) != Part::None);
        }
        if let Some(way) = level.way {
            let is_out = |met: &mut Met| self.parts.follow(way, met.name()) == Follow::Out;
            let is_seen = |met: &Met| matches!(met, Met::Entry(entry) if !entry.ignored);
            let out: Vec<Met> = level.names.extract_if(.., is_out).filter(is_seen).collect();
            let paths: Vec<RepoPath> = out.iter().rev().map(|met| level.path.join(met.name())).collect();
            paths.into_iter().try_for_each(|path| self.push(Finding::Outside(path)))?;
        }
        Ok(true)
    }

    fn leave(&mut self) -> Result<(), Error> {
        if let Some(level) = self.stack.last_mut().filter(|level| !level.trusted) {
            let mut gone = Vec::new();
            if let Some(cursor) = &mut level.cursor {
                while let Some(entry) = cursor.next().transpose()? {
                    gone.push(entry);
                }
            }
            gone.into_iter().try_for_each(|(name, entry)| self.gone(name, entry))?;
        }
        let Some(level) = self.stack.pop() else { return Ok(()) };
        let of_old = level.old_entry.as_ref().filter(|_| level.way.is_some()).map(|entry| entry.mode);
        let mode = of_old.unwrap_or_else(|| level.scan.permissions());
        self.push(Finding::Leave { name: level.name, mode, old: level.old_entry, stat: level.stat })
    }

    fn meet(&mut self, met: Met) -> Result<(), Error> {
        let Some(level) = self.stack.last_mut() else { return Ok(()) };
        let name = met.name().clone();
        let mut gone = Vec::new();
        let old = match &met {
            // The rows of a trusted directory are the tree's entries: none of its nodes is needed.
            Met::Entry(ScanEntry { kind: Kind::Directory, cached: Some(cached), .. }) if level.trusted => {
                Some(cached.clone())
            }
            _ => level.old(&name, &mut gone)?,
        };
        for (name, entry) in gone {
            self.gone(name, entry)?;
        }
        match met {
            Met::Gone(name) => self.push(Finding::Gone { name, old }),
            Met::Failed(name, error) => self.unreadable(&name, &error.to_string()),
            Met::Entry(entry) => self.meet_entry(entry, old),
        }
    }

    /// What the tree has, and the working copy has not.
    fn gone(&mut self, name: Name, entry: Entry) -> Result<(), Error> {
        let Some(level) = self.stack.last() else { return Ok(()) };
        match level.way.map(|way| self.parts.follow(way, &name)) {
            None | Some(Follow::In) => self.push(Finding::Gone { name, old: Some(entry) }),
            Some(Follow::On(way)) => {
                let path = level.path.join(&name);
                self.gone_on_the_way(path, name, way, entry)
            }
            Some(Follow::Out) => Ok(()),
        }
    }

    /// A directory on the way to parts: these are gone, and the rest of it is what is not here anyway.
    fn gone_on_the_way(&mut self, path: RepoPath, name: Name, way: Way, entry: Entry) -> Result<(), Error> {
        struct Below<'s> {
            path: RepoPath,
            name: Name,
            way: Way,
            entry: Entry,
            cursor: DirCursor<'s>,
        }
        let source = self.source;
        let open = |path, name, way, entry: Entry| {
            let cursor = DirCursor::new(source, entry.as_directory()?);
            Some(Below { path, name, way, entry, cursor })
        };
        let enter = |below: &Below<'_>| {
            let old = below.entry.as_directory().copied();
            Finding::Enter { path: below.path.clone(), old, trusted: false, is_way: true }
        };
        let mut stack: Vec<Below<'_>> = open(path, name, way, entry).into_iter().collect();
        if let Some(below) = stack.last() {
            self.push(enter(below))?;
        }
        while let Some(below) = stack.last_mut() {
            match below.cursor.next().transpose()? {
                Some((name, entry)) => match self.parts.follow(below.way, &name) {
                    Follow::Out => {}
                    Follow::In => self.push(Finding::Gone { name, old: Some(entry) })?,
                    Follow::On(way) => {
                        if let Some(next) = open(below.path.join(&name), name, way, entry) {
                            self.push(enter(&next))?;
                            stack.push(next);
                        }
                    }
                },
                None => {
                    if let Some(Below { name, entry, .. }) = stack.pop() {
                        let mode = entry.mode;
                        self.push(Finding::Leave { name: Some(name), mode, old: Some(entry), stat: None })?;
                    }
                }
            }
        }
        Ok(())
    }

    /// Something on the way to parts that is no directory here, or none in the tree, of which the rest is not here.
    fn in_the_way(&mut self, name: &Name) -> Result<(), Error> {
        let Some(level) = self.stack.last() else { return Ok(()) };
        let path = level.path.join(name);
        self.push(Finding::Outside(path))
    }

    fn unreadable(&mut self, name: &Name, cause: &str) -> Result<(), Error> {
        let Some(level) = self.stack.last() else { return Ok(()) };
        let path = level.path.join(name).as_bytes().to_vec();
        self.push(Finding::Unreadable(Unreadable { path, cause: without_number(cause) }))
    }

    fn meet_entry(&mut self, entry: ScanEntry, old: Option<Entry>) -> Result<(), Error> {
        let ScanEntry { name, kind, ignored, stat, cached } = entry;
        if ignored && (old.is_none() || self.options.apply_ignore) {
            return if old.is_some() { self.push(Finding::Gone { name, old }) } else { Ok(()) };
        }
        if kind == Kind::Directory {
            return self.meet_directory(name, stat, old);
        }
        let Some(level) = self.stack.last() else { return Ok(()) };
        if level.way.is_some_and(|way| matches!(self.parts.follow(way, &name), Follow::On(_))) {
            return self.in_the_way(&name);
        }
        let path = level.path.join(&name);
        // Nobody asked for the stat of a path that a rule leaves out, and it is tracked: now somebody does.
        let stat = match stat {
            Some(stat) => stat,
            None => match self.stat(&path) {
                Ok(stat) if stat.kind == Kind::Directory => return self.meet_directory(name, Some(stat), old),
                Ok(stat) => stat,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return self.push(Finding::Gone { name, old });
                }
                Err(error) => return self.unreadable(&name, &error.to_string()),
            },
        };
        // The cache never vouches for content that the tree does not have: that content may not be stored.
        let known = cached.filter(|_| !self.options.no_cache);
        if let (Some(old), Some(cached)) = (&old, &known)
            && old.same(cached)
        {
            return self.push(Finding::Same { name, entry: old.clone(), stat: Some(stat) });
        }
        let found = match stat.kind {
            Kind::Symlink => match scan::read_link(self.scan.root(), &path) {
                Ok((target, stat)) => {
                    let node = Node::Symlink { mtime: stat.mtime, target: target.into() };
                    Found::Entry(Box::new(Entry { mode: Mode::SYMLINK, attrs: None, node }))
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return self.push(Finding::Gone { name, old });
                }
                Err(error) => return self.unreadable(&name, &error.to_string()),
            },
            _ if self.consumer.wants(old.as_ref(), &stat) => {
                Found::Slot(self.feeder.read(path, stat.size, old.as_ref()))
            }
            _ => Found::Slot(self.feeder.open(path)),
        };
        self.push(Finding::File { name, stat, old, found })
    }

    fn stat(&self, path: &RepoPath) -> Result<Stat, std::io::Error> {
        let parent = path.parent().unwrap_or_else(RepoPath::root);
        let (fd, _) = scan::open_directory(self.scan.root(), &parent)?;
        let name = path.name().ok_or(std::io::ErrorKind::InvalidInput)?;
        let stat = rustix::fs::statat(fd, name.as_bytes(), rustix::fs::AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Stat::from(&stat))
    }

    fn meet_directory(&mut self, name: Name, stat: Option<Stat>, old: Option<Entry>) -> Result<(), Error> {
        let Some(level) = self.stack.last() else { return Ok(()) };
        let path = level.path.join(&name);
        let way = match level.way.map(|way| self.parts.follow(way, &name)) {
            // What a directory that has become something else leaves here, if nothing is in it, is nobody's.
            Some(Follow::On(_)) if old.as_ref().is_some_and(|old| !old.is_directory()) => {
                let first = self.scan.dir(&path).and_then(|mut scan| scan.next_batch());
                let is_empty = first.is_ok_and(|first| first.is_none_or(|batch| batch.entries.is_empty()));
                return if is_empty { Ok(()) } else { self.in_the_way(&name) };
            }
            Some(Follow::On(way)) => Some(way),
            _ => None,
        };
        match self.scan.dir(&path) {
            Ok(scan) => {
                let link = old.as_ref().and_then(Entry::as_directory).copied();
                self.enter(Some(name), way, scan, link, old, stat.filter(|_| way.is_none()))
            }
            Err(error) if error.is_vanished() => match old {
                Some(old) => self.gone(name, old),
                None => self.push(Finding::Gone { name, old }),
            },
            Err(error @ ScanError::TooDeep { .. }) => Err(error.into()),
            Err(error) => {
                let cause = match &error {
                    ScanError::Directory { source, .. } => source.to_string(),
                    other => other.to_string(),
                };
                self.unreadable(&name, &cause)
            }
        }
    }
}

impl Level<'_> {
    /// In a trusted directory: what is not clean, and every subdirectory; the next name last.
    fn unclean(&self, batch: Batch) -> Vec<Met> {
        let is_left_out = |entry: &ScanEntry| entry.ignored && entry.cached.is_none() && entry.stat.is_none();
        let entries = batch
            .entries
            .into_iter()
            .filter(|entry| (entry.kind == Kind::Directory || entry.cached.is_none()) && !is_left_out(entry));
        let mut names: Vec<Met> = entries.map(Met::Entry).collect();
        names.extend(batch.gone.into_iter().map(Met::Gone));
        names.extend(batch.failed.into_iter().map(|failed| Met::Failed(failed.name, failed.source)));
        names.sort_by(|a, b| b.name().cmp(a.name()));
        names
    }

    /// What the tree has under `name`. In a directory that is not trusted, names before it that have not been met
    /// are gone.
    fn old(&mut self, name: &Name, gone: &mut Vec<(Name, Entry)>) -> Result<Option<Entry>, Error> {
        let Some(cursor) = &mut self.cursor else { return Ok(None) };
        if self.trusted {
            return Ok(cursor.find(name.as_bytes())?);
        }
        loop {
            match cursor.peek()? {
                Some((next, _)) if next < name => {
                    if let Some(entry) = cursor.next().transpose()? {
                        gone.push(entry);
                    }
                }
                Some((next, _)) if next == name => {
                    return Ok(cursor.next().transpose()?.map(|(_, entry)| entry));
                }
                _ => return Ok(None),
            }
        }
    }
}

/// All names of a batch, the next one last. What is gone is known from the tree.
fn all(batch: Batch) -> Vec<Met> {
    let mut names: Vec<Met> = batch.entries.into_iter().map(Met::Entry).collect();
    names.extend(batch.failed.into_iter().map(|failed| Met::Failed(failed.name, failed.source)));
    names.sort_by(|a, b| b.name().cmp(a.name()));
    names
}

fn without_number(cause: &str) -> String {
    cause.find(" (os error ").map_or_else(|| cause.to_owned(), |at| cause[..at].to_owned())
}

#[cfg(test)]
mod tests;
