//! Files: a batch is complete and synced under temporary names before the first of them gets its own.

use std::io;

use filesync_merkle::{Entry, RepoPath};

use super::judge::Judge;
use super::{FEW, Round, cannot_write, lock};
use crate::error::Error;
use crate::restore::fill::{Feeder, Filled, Filler, Job, Sync};
use crate::restore::plan::{Old, Step};
use crate::restore::present::{self, Cut, Found};
use crate::scan::Stat;
use crate::worktree::{self, Changed, Expected, is_displaced, look, os_path, put, same_file, temp_path};

impl Round<'_> {
    /// Writes a batch of files: all under temporary names, synced, then each at its place.
    pub(super) fn write(&mut self, steps: &[&Step]) -> Result<(), Error> {
        let steps: Vec<&Step> = steps.iter().copied().filter(|step| !self.is_blocked(&step.path)).collect();
        if steps.is_empty() {
            return Ok(());
        }
        let done = self.fill(&steps).and_then(|made| self.put_all(&steps, &made));
        if done.is_err() {
            // Whatever still has its temporary name was not put anywhere: the content is in the store.
            for step in steps {
                let _ = self.drop_unused(step);
            }
        }
        done
    }

    /// Removes a temporary file after an error, unless it may be what an exchange brought out.
    fn drop_unused(&self, step: &Step) -> io::Result<()> {
        let temp = temp_path(&step.path);
        let Some(stat) = look(self.work(), &temp)? else { return Ok(()) };
        let judge = Judge { round: self, seen: None, new: step.new.as_ref() };
        // If it was put there, what is left is the old one, or the user's.
        let was_put = look(self.work(), os_path(&step.path))?.is_some() && judge.holds(os_path(&step.path));
        let is_ours = !was_put;
        let seen = if let Old::Leaf(seen) = &step.old { Some(seen) } else { None };
        let is_old = Judge { round: self, seen, new: None };
        if is_ours || is_old.is_untouched(&stat) || is_old.holds(&temp) {
            return self.work().unlink(&temp);
        }
        worktree::keep(self.work(), &temp, &step.path, self.ctx.tag).map(drop)
    }

    /// Fills temporary files and makes them durable. Says how each of them looks that is to be put at its place.
    fn fill(&mut self, steps: &[&Step]) -> Result<Vec<Option<Stat>>, Error> {
        let sync_each = steps.len() <= FEW;
        let filled = self.run_filler(sync_each, |feeder| {
            for (tag, step) in steps.iter().enumerate() {
                let Some(entry) = step.new.clone() else { continue };
                feeder.feed(Job { tag, path: step.path.clone(), at: temp_path(&step.path), entry })?;
            }
            Ok(())
        })?;
        if !sync_each {
            self.work().sync_all_files().map_err(|error| Error::io("cannot sync the working copy", &error))?;
        }
        Ok(self.book(steps, filled))
    }

    pub(super) fn run_filler(
        &self,
        sync_each: bool,
        produce: impl FnOnce(&mut Feeder<'_, '_>) -> Result<(), Error>,
    ) -> Result<Filled, Error> {
        let (ctx, chunker, evicted) = (self.ctx, self.chunker, &self.evicted);
        let (work, root, tag, nodes) = (self.work(), ctx.work_fd, ctx.tag, ctx.source);
        let make_way = move |job: &Job| -> io::Result<()> {
            let at = RepoPath::parse(job.at.as_os_str().as_encoded_bytes());
            let cut = Cut { chunker, nodes, known: [Some(&job.entry), None] };
            let found = at.ok().map(|at| present::read(work, root, cut, &at)).transpose()?;
            if matches!(found, Some(Found::Leaf(entry, _)) if entry.same(&job.entry)) {
                return work.unlink(&job.at);
            }
            let copy = worktree::keep(work, &job.at, &job.path, tag)?;
            lock(evicted).push(copy);
            Ok(())
        };
        let filler = Filler {
            store: ctx.store,
            work,
            observer: ctx.observer,
            // Whatever the umask and the directory's own rules are.
            umask: 0o777,
            in_place: Some(&make_way),
            sync: if sync_each { Sync::Each } else { Sync::Later },
            early: ctx.early,
        };
        filler.run(ctx.threads, ctx.source, produce)
    }

    /// Notes what could not be made, and says how each of the others looks.
    pub(super) fn book(&mut self, steps: &[&Step], filled: Filled) -> Vec<Option<Stat>> {
        let Filled { made, displaced, mut damaged, .. } = filled;
        self.result.damaged.append(&mut damaged);
        displaced.into_iter().filter_map(|tag| steps.get(tag)).for_each(|step| self.skip(&step.path));
        let mut stats = vec![None; steps.len()];
        for (tag, stat) in made {
            if let Some(slot) = stats.get_mut(tag) {
                *slot = Some(stat);
            }
        }
        stats
    }

    fn put_all(&mut self, steps: &[&Step], made: &[Option<Stat>]) -> Result<(), Error> {
        for (step, made) in steps.iter().zip(made) {
            crate::cancel::check()?;
            if let (Some(made), Some(entry)) = (made, &step.new) {
                self.put_one(step, made, entry)?;
            }
        }
        Ok(())
    }

    fn put_one(&mut self, step: &Step, made: &Stat, entry: &Entry) -> Result<(), Error> {
        let path = &step.path;
        let seen = if let Old::Leaf(seen) = &step.old { Some(seen) } else { None };
        let expected = Judge { round: self, seen, new: Some(entry) };
        match put(self.work(), &temp_path(path), path, &expected, self.ctx.tag) {
            Ok(Changed::Kept(copy)) => self.result.skipped.push(copy.into_os_string().into_encoded_bytes()),
            Ok(Changed::Done | Changed::Left) => {}
            Err(error) if is_displaced(&error) => {
                // Its directory was moved away, and the temporary file with it.
                self.skip(path);
                return Ok(());
            }
            Err(error) => return Err(cannot_write(path, &error)),
        }
        self.result.written += 1;
        self.result.bytes += step.bytes();
        self.touch(path);
        // Only if it still is the file that was put there do entry and stat belong together.
        let now = look(self.work(), os_path(path)).ok().flatten();
        self.row(path, now.filter(|now| same_file(now, made)).map(|now| (now, entry.clone())));
        Ok(())
    }
}
