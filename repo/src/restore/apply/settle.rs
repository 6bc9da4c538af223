//! What comes last: the modes of directories, the syncs, and then the stat cache.

use std::collections::BTreeMap;
use std::io;

use filesync_cas::vfs::Vfs;
use filesync_merkle::{Entry, RepoPath, Timestamp};

use super::{FEW, Round, Rows, cannot_write};
use crate::error::Error;
use crate::request::{Event, Unreadable, Warning};
use crate::restore::fill::read_attrs;
use crate::restore::plan::Finish;
use crate::stat_cache::CacheUpdate;
use crate::worktree::{self, clock, is_displaced, look, os_path};

impl Round<'_> {
    pub(super) fn set_mode(&mut self, finish: &Finish) -> Result<(), Error> {
        let Finish { path, old, new } = finish;
        if self.is_blocked(path) {
            return Ok(());
        }
        let before = old.map_or(0, |stat| u32::from(stat.mode));
        let mode = match new {
            None => before,
            Some(entry) => {
                self.set_attrs(path, entry)?;
                (before & 0o7000) | u32::from(entry.mode.bits())
            }
        };
        match self.work().set_dir_mode(os_path(path), mode) {
            Ok(()) => {}
            Err(error) if is_displaced(&error) => {
                // A directory that was opened in order to be emptied, and went, is not missed.
                if new.is_some() {
                    self.skip(path);
                }
                return Ok(());
            }
            Err(error) => return Err(cannot_write(path, &error)),
        }
        self.touched.insert(path.clone(), ());
        if let Some(entry) = new {
            self.result.written += u64::from(finish.is_change());
            let stat = look(self.work(), os_path(path)).ok().flatten();
            self.row(path, stat.map(|stat| (stat, entry.clone())));
        }
        Ok(())
    }

    /// A file system that takes no attributes is no reason to fail.
    fn set_attrs(&mut self, path: &RepoPath, entry: &Entry) -> Result<(), Error> {
        let attrs = match entry.attrs.as_ref().map(|id| read_attrs(self.ctx.source, id)).transpose() {
            Ok(attrs) => attrs,
            Err(error) if error.is_damage() => {
                let (path, cause) = (path.as_bytes().to_vec(), error.to_string());
                self.result.damaged.push(Unreadable { path, cause });
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        if let Err(error) = worktree::set_directory_attrs(self.ctx.work_fd, path, attrs.as_ref())
            && (attrs.is_some() || !is_displaced(&error))
        {
            let (path, message) = (Some(path.as_bytes().to_vec()), format!("cannot set attributes: {error}"));
            self.ctx.observer.event(Event::Warning(Warning { path, message }));
        }
        Ok(())
    }

    /// Makes all changes so far durable, and then tells the stat cache.
    pub(in crate::restore) fn settle(&mut self) -> Result<(), Error> {
        self.book_evicted();
        self.sync().map_err(|error| Error::io("cannot sync the working copy", &error))?;
        let rows = std::mem::take(&mut self.rows);
        let gone = std::mem::take(&mut self.gone);
        // The cache is a help only: without it files are read once more.
        let _ = self.save_rows(rows, &gone);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        let touched = std::mem::take(&mut self.touched);
        if touched.len() > FEW {
            return self.work().sync_all_files();
        }
        for (dir, ()) in touched {
            match self.work().sync_dir(os_path(&dir)) {
                Err(error) if is_displaced(&error) => {}
                // A directory that may not be read cannot be opened in order to sync it.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => self.work().sync_all_files()?,
                done => done?,
            }
        }
        Ok(())
    }

    fn save_rows(&self, rows: Rows, gone: &[RepoPath]) -> Result<(), Error> {
        let Some(cache) = self.ctx.cache.clone().filter(|_| !rows.is_empty()) else { return Ok(()) };
        let youngest = rows.values().flat_map(BTreeMap::values).flatten().map(|(stat, _)| stat.ctime.max(stat.mtime));
        let stamp = stamp_after(&**self.ctx.store.vfs(), youngest.max().unwrap_or_default())?;
        let mut update = CacheUpdate::new(cache.clone(), stamp);
        for dir in gone {
            update.remove_tree(dir)?;
        }
        for (dir, rows) in rows {
            if gone.iter().any(|gone| dir.starts_with(gone)) {
                continue;
            }
            // Rows that were the target's entries are so again, if each that changed is the target's.
            let link = self.links.get(&dir).copied().filter(|link| {
                let whole = rows.values().all(Option::is_some);
                whole && cache.load(&dir).and_then(|cached| cached.link()) == Some(*link)
            });
            update.change(&dir, link, rows)?;
        }
        Ok(self.ctx.store.save_rows(update.finish())?)
    }
}

/// A time of the file system's clock that is later than `youngest`, if that comes soon: files of the same tick as the
/// stamp would be read again.
fn stamp_after(vfs: &dyn Vfs, youngest: Timestamp) -> Result<Timestamp, Error> {
    let mut stamp = Timestamp::default();
    for _ in 0..20 {
        stamp = clock(vfs).map_err(|error| Error::io("cannot tell the time", &error))?;
        if stamp > youngest {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    Ok(stamp)
}
