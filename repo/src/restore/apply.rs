//! Carrying out a plan in the working copy, in rounds: journal, changes, syncs, stat cache, journal gone.
//!
//! The order within a round: what goes, then directories, then files in batches, then the modes of directories. The
//! files of a batch are complete and synced under temporary names before the first of them gets its own, so that a
//! path never stands for an empty or a torn file, whatever is cut off when. A directory that is new is built as a whole
//! under a temporary name ([`fresh`]).
//!
//! A sync moves the head as the last thing under the last journal, so that what came never looks like the user's work.
//!
//! An error ends the restore where it is: temporary files are removed, what was done is synced and kept, and the journal
//! goes, since HEAD has not moved and the user has been told. After a crash [`super::finish_journal`] carries on.

mod files;
mod fresh;
mod judge;
mod settle;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use filesync_cas::Chunker;
use filesync_cas::vfs::Vfs;
use filesync_merkle::{CommitId, Entry, Name, RepoPath, TreeLink};

use self::judge::Judge;
use super::Context;
use super::plan::{Finish, Old, Plan, Step};
use crate::error::Error;
use crate::journal::Journal;
use crate::request::{Event, RestoreResult, Warning};
use crate::scan::{Kind, Stat};
use crate::worktree::{self, Changed, is_displaced, look, os_path, stat_of, take, temp_path};

/// Paths of a round, and bytes of its journal, about.
const ROUND_STEPS: usize = 256 << 10;
const ROUND_BYTES: usize = 24 << 20;
/// Files and bytes of a batch, which are twice on disk for a moment.
const BATCH_FILES: usize = 4096;
const BATCH_BYTES: u64 = 256 << 20;
/// So few things are synced one by one; more of them by a sync of the file system.
const FEW: usize = 16;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How the head moves to the commit that was written.
pub struct HeadMove<'a> {
    /// Whether it may, by what was kept: asked before the first change, and again after the last.
    pub may: &'a dyn Fn(&RestoreResult) -> Result<(), Error>,
    /// Moves it; durable on return.
    pub finish: &'a dyn Fn() -> Result<(), Error>,
}

/// Does what a plan says.
#[cfg(test)]
pub fn apply(ctx: &Context<'_>, plan: &Plan) -> Result<RestoreResult, Error> {
    apply_and_move(ctx, plan, None)
}

/// Does what a plan says, and then moves the head to its commit, if that is wanted.
pub fn apply_and_move(ctx: &Context<'_>, plan: &Plan, head: Option<&HeadMove<'_>>) -> Result<RestoreResult, Error> {
    let mut round = Round::new(ctx, &plan.links);
    round.result.unchanged = plan.unchanged;
    round.result.damaged = plan.damaged.clone();
    round.result.skipped = plan.skipped.iter().map(|path| path.as_bytes().to_vec()).collect();
    head.map_or(Ok(()), |head| (head.may)(&round.result))?;
    let writes = plan.steps.iter().filter(|step| step.is_write());
    let (items, bytes) = writes.fold((0, 0), |(items, bytes), step| (items + 1, bytes + step.bytes()));
    ctx.observer.event(Event::Phase { what: "restoring", bytes: Some(bytes), items: Some(items) });
    let mut steps = plan.steps.as_slice();
    let mut opens = plan.opens.as_slice();
    while !(steps.is_empty() && plan.modes.is_empty()) {
        let (now, later) = steps.split_at(round_len(steps));
        let modes = if later.is_empty() { plan.modes.as_slice() } else { &[] };
        let head = head.filter(|_| later.is_empty());
        round
            .journaled(plan.commit, head, opens, now, modes)
            .inspect_err(|_| round.tell_skipped(plan.skipped.len()))?;
        if later.is_empty() {
            return Ok(round.finish());
        }
        (steps, opens) = (later, &[]);
    }
    // There was nothing to do.
    head.map_or(Ok(()), |head| (head.finish)())?;
    Ok(round.finish())
}

fn round_len(steps: &[Step]) -> usize {
    let mut bytes = 0;
    let fits = |step: &&Step| {
        bytes += 96 + step.path.as_bytes().len() * 4 / 3;
        bytes <= ROUND_BYTES
    };
    steps.iter().take(ROUND_STEPS).take_while(fits).count().max(steps.len().min(1))
}

type Rows = BTreeMap<RepoPath, BTreeMap<Name, Option<(Stat, Entry)>>>;

/// What goes on in the rounds of one restore.
pub(super) struct Round<'a> {
    ctx: &'a Context<'a>,
    chunker: Chunker,
    links: &'a BTreeMap<RepoPath, TreeLink>,
    pub(super) result: RestoreResult,
    /// Whether new directories are built as a whole. Not after a crash: then it is not known that nothing stood there.
    pub(super) builds_fresh: bool,
    /// New directories that are built under temporary names; none below another.
    fresh: BTreeSet<RepoPath>,
    /// What had a temporary name and is nobody's that we know: kept beside.
    evicted: Mutex<Vec<PathBuf>>,
    /// Directories that were made writable, and the modes that they had.
    opened: Vec<(RepoPath, u32)>,
    /// What could not be made room for: nothing is put below.
    blocked: Vec<RepoPath>,
    /// Rows of the stat cache.
    rows: Rows,
    /// Directories that are gone.
    gone: Vec<RepoPath>,
    /// Directories in which names, or whose own modes, have changed.
    touched: BTreeMap<RepoPath, ()>,
}

impl<'a> Round<'a> {
    pub(super) fn new(ctx: &'a Context<'a>, links: &'a BTreeMap<RepoPath, TreeLink>) -> Self {
        Self {
            ctx,
            chunker: Chunker::new(ctx.store.parameters().chunks),
            links,
            result: RestoreResult::default(),
            builds_fresh: true,
            fresh: BTreeSet::new(),
            evicted: Mutex::default(),
            opened: Vec::new(),
            blocked: Vec::new(),
            rows: Rows::new(),
            gone: Vec::new(),
            touched: BTreeMap::new(),
        }
    }

    fn finish(mut self) -> RestoreResult {
        self.result.skipped.sort();
        self.result.skipped.dedup();
        self.result
    }

    fn journaled(
        &mut self,
        commit: CommitId,
        head: Option<&HeadMove<'_>>,
        opens: &[(RepoPath, Stat)],
        steps: &[Step],
        modes: &[Finish],
    ) -> Result<(), Error> {
        let store = &**self.ctx.store.vfs();
        let io = |error: io::Error| Error::io("cannot write the journal", &error);
        self.evict(steps)?;
        let lines = steps.iter().map(Step::line).chain(modes.iter().map(Finish::line)).collect();
        Journal { commit: Some(commit), head: head.map(|_| commit), lines }.write(store).map_err(io)?;
        let mut done = self.carry_out(opens, steps, modes);
        if done.is_err() {
            self.close_again();
        }
        let settled = self.settle();
        // Files first: a head without its files would look as if the user had undone what came.
        if let (true, Some(head)) = (done.is_ok() && settled.is_ok(), head) {
            done = (head.may)(&self.result).and_then(|()| (head.finish)());
        }
        let removed = settled.and_then(|()| Journal::remove(store).map_err(io));
        done.and(removed)
    }

    /// Moves away what has a temporary name that this round wants. It is nobody's that we know, since a restore that was
    /// cut off has been finished; once there is a journal, it would be taken for what this one left.
    fn evict(&mut self, steps: &[Step]) -> Result<(), Error> {
        let mut fresh = BTreeSet::new();
        for Step { path, old, new } in steps {
            // In what is not there yet, nothing can be.
            if fresh::root_of(&fresh, path).is_some() {
                continue;
            }
            let temp = temp_path(path);
            match look(self.work(), &temp) {
                Ok(None) => {}
                Ok(Some(_)) => self.keep_evicted(&temp, path).map_err(|error| cannot_write(path, &error))?,
                Err(error) => return Err(cannot_write(path, &error)),
            }
            if *old == Old::Nothing && new.as_ref().is_some_and(Entry::is_directory) {
                fresh.insert(path.clone());
            }
        }
        Ok(())
    }

    /// All changes of a round, not yet durable.
    pub(super) fn carry_out(
        &mut self,
        opens: &[(RepoPath, Stat)],
        steps: &[Step],
        modes: &[Finish],
    ) -> Result<(), Error> {
        for (path, stat) in opens {
            match self.work().set_dir_mode(os_path(path), u32::from(stat.mode) | 0o700) {
                // What is in it will be missed where it is needed.
                Err(error) if !is_displaced(&error) => return Err(cannot_write(path, &error)),
                _ => self.opened.push((path.clone(), u32::from(stat.mode))),
            }
        }
        for step in steps {
            crate::cancel::check()?;
            self.clear(step)?;
        }
        let made = steps.iter().try_for_each(|step| self.make_directory(step));
        let fresh = std::mem::take(&mut self.fresh);
        self.build_fresh(&fresh, steps, made)?;
        let mut writes: Vec<&Step> = Vec::new();
        let mut bytes = 0;
        for step in steps.iter().filter(|step| step.is_write() && fresh::root_of(&fresh, &step.path).is_none()) {
            if writes.len() >= BATCH_FILES || (!writes.is_empty() && bytes + step.bytes() > BATCH_BYTES) {
                self.write(&std::mem::take(&mut writes))?;
                bytes = 0;
            }
            bytes += step.bytes();
            writes.push(step);
        }
        self.write(&writes)?;
        modes.iter().try_for_each(|finish| self.set_mode(finish))
    }

    /// After an error nobody sees the result: what was kept beside so far is told by warnings.
    fn tell_skipped(&self, from: usize) {
        for path in self.result.skipped.iter().skip(from) {
            let message = "changed meanwhile: kept".to_owned();
            self.ctx.observer.event(Event::Warning(Warning { path: Some(path.clone()), message }));
        }
    }

    /// After an error: directories that were made writable get back what they had.
    fn close_again(&mut self) {
        for (path, mode) in std::mem::take(&mut self.opened) {
            // The first error is the one to tell.
            let _ = self.work().set_dir_mode(os_path(&path), mode);
            self.touched.insert(path, ());
        }
    }

    fn work(&self) -> &'a dyn Vfs {
        &*self.ctx.work
    }

    fn skip(&mut self, path: &RepoPath) {
        self.result.skipped.push(path.as_bytes().to_vec());
    }

    fn is_blocked(&self, path: &RepoPath) -> bool {
        self.blocked.iter().any(|above| path.starts_with(above))
    }

    fn touch(&mut self, path: &RepoPath) {
        self.touched.insert(path.parent().unwrap_or_default(), ());
    }

    fn row(&mut self, path: &RepoPath, row: Option<(Stat, Entry)>) {
        if let (Some(parent), Some(name)) = (path.parent(), path.name()) {
            self.rows.entry(parent).or_default().insert(name, row);
        }
    }

    /// Removes what a step finds, unless a file takes its place in one move later.
    fn clear(&mut self, step: &Step) -> Result<(), Error> {
        let path = &step.path;
        match (&step.old, &step.new) {
            (Old::Leaf(seen), new) if !step.is_write() => {
                let expected = Judge { round: self, seen: Some(seen), new: None };
                let take = || match take(self.work(), path, &expected, self.ctx.tag) {
                    Err(error) if is_displaced(&error) => Ok(Changed::Left),
                    taken => taken,
                };
                let taken = match take() {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                        self.keep_evicted(&temp_path(path), path).and_then(|()| take())
                    }
                    taken => taken,
                };
                match taken.map_err(|error| cannot_write(path, &error))? {
                    Changed::Done if new.is_none() => self.result.deleted += 1,
                    Changed::Done => {}
                    Changed::Kept(copy) => self.result.skipped.push(copy.into_os_string().into_encoded_bytes()),
                    Changed::Left => self.block(path),
                }
                self.touch(path);
                self.row(path, None);
            }
            (Old::Directory(_), new) if step.is_write() || new.is_none() => {
                match self.work().rmdir(os_path(path)) {
                    Ok(()) => {
                        self.touch(path);
                        self.touched.remove(path);
                        self.gone.push(path.clone());
                        self.row(path, None);
                    }
                    Err(error) if is_displaced(&error) => {}
                    // Somebody put something into it: it stays, and so does all that was to come in its place.
                    Err(error) if is_occupied(&error) => {
                        if new.is_some() {
                            self.block(path);
                        }
                    }
                    Err(error) => return Err(cannot_write(path, &error)),
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn make_directory(&mut self, step: &Step) -> Result<(), Error> {
        let (Some(entry), false) = (&step.new, matches!(step.old, Old::Directory(_))) else { return Ok(()) };
        let path = &step.path;
        if !entry.is_directory() || self.is_blocked(path) {
            return Ok(());
        }
        // Only where nothing stood is it known that a temporary directory is nobody's but ours.
        let is_inside = fresh::root_of(&self.fresh, path).is_some();
        let is_fresh = is_inside || (self.builds_fresh && step.old == Old::Nothing);
        if is_fresh && !is_inside {
            self.fresh.insert(path.clone());
        }
        let at = self.place(path);
        let stat = match self.mkdir(&at, path, u32::from(entry.mode.bits()) | 0o700, is_fresh) {
            Ok(stat) => Some(stat),
            Err(error) if !is_fresh && error.kind() == io::ErrorKind::AlreadyExists => {
                let there = look(self.work(), &at).map_err(|error| cannot_write(path, &error))?;
                if there.is_none_or(|there| there.kind != Kind::Directory) {
                    self.block(path);
                    return Ok(());
                }
                there
            }
            Err(error) if is_displaced(&error) => {
                self.fresh.remove(path);
                self.block(path);
                return Ok(());
            }
            Err(error) => return Err(cannot_write(path, &error)),
        };
        if !is_fresh {
            self.touched.insert(path.clone(), ());
        }
        if !is_inside {
            self.touch(path);
        }
        if entry.as_directory().is_some_and(|link| *link == TreeLink::empty()) {
            self.result.written += 1;
        }
        self.row(path, stat.map(|stat| (stat, entry.clone())));
        Ok(())
    }

    /// Where a path is built: below a temporary directory if it is in a new one.
    fn place(&self, path: &RepoPath) -> PathBuf {
        fresh::place(&self.fresh, path)
    }

    /// Keeps beside what has the temporary name of a path.
    fn keep_evicted(&self, at: &Path, path: &RepoPath) -> io::Result<()> {
        let copy = worktree::keep(self.work(), at, path, self.ctx.tag)?;
        lock(&self.evicted).push(copy);
        Ok(())
    }

    fn book_evicted(&mut self) {
        let evicted = std::mem::take(&mut *lock(&self.evicted));
        self.result.skipped.extend(evicted.into_iter().map(|copy| copy.into_os_string().into_encoded_bytes()));
    }

    fn mkdir(&self, at: &Path, path: &RepoPath, mode: u32, is_fresh: bool) -> io::Result<Stat> {
        let work = self.work();
        match work.mkdir(at, mode) {
            Err(error) if is_fresh && error.kind() == io::ErrorKind::AlreadyExists => {
                self.keep_evicted(at, path)?;
                work.mkdir(at, mode)?;
            }
            made => made?,
        }
        let stat = work.stat(at)?;
        if stat.mode & 0o777 == mode {
            return Ok(stat_of(&stat));
        }
        work.set_dir_mode(at, (stat.mode & 0o7000) | mode)?;
        Ok(stat_of(&work.stat(at)?))
    }

    /// Nothing is put at or below a path.
    fn block(&mut self, path: &RepoPath) {
        self.skip(path);
        self.blocked.push(path.clone());
    }
}

fn cannot_write(path: &RepoPath, error: &io::Error) -> Error {
    Error::io(format_args!("cannot write {path}"), error)
}

fn is_occupied(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::AlreadyExists | io::ErrorKind::ResourceBusy
    )
}
