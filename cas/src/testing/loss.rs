//! [`LossVfs`]: a file system in memory that knows what is durable, and what a power cut may leave of the rest.
//!
//! The model is weaker than any real file system on purpose, within what POSIX allows:
//! - content, length, mode, time and attributes of a file become durable by syncing the file, never by syncing its
//!   directory; a name becomes durable by syncing its directory, never by syncing the file;
//! - unsynced writes survive in any combination, with zeros where an earlier one is missing, the last one perhaps torn
//!   at a sector, the file perhaps shorter than the writes or as long as it was with zeros at the end;
//! - unsynced changes of names survive in any combination in which a change that survives finds the names that it
//!   touches as its predecessors left them. Within one directory a rename is atomic. Between two it is for directories;
//!   a file may afterwards be seen under both names or under none.
//!
//! Modelled as durable together: a new file with its mode and no content, a symlink with its target. Not modelled:
//! permissions, hard links (but for half a rename), holes, a full disk, reordering of *synced* things.

mod copy;
mod crash;
mod fs;
mod states;
#[cfg(test)]
mod tests;

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use self::fs::{Body, Change, Fs, Ino};
use super::Killed;
use crate::vfs::{FileKind, FileStat, FileTime, Open, Refused, Rename, Vfs, VfsFile};

pub use crash::Loss;
pub use states::{CrashPoint, crash_states};

/// A file system in memory. Clones are the same file system; see [`LossVfs::fork`] for another one.
#[derive(Clone, Debug)]
pub struct LossVfs {
    state: Arc<Mutex<State>>,
}

#[derive(Clone, Debug)]
struct State {
    fs: Fs,
    mutations: u64,
    /// The value of `mutations` at which the next mutating call kills the process.
    stop_at: Option<u64>,
    dead: bool,
}

impl LossVfs {
    /// Empty but for its root.
    pub fn new() -> Self {
        Self::with(Fs::new())
    }

    /// A copy of a real directory, all of it durable, without the paths in `skip` and what is below them. FIFOs,
    /// sockets and devices are left out, and so are extended attributes.
    pub fn from_dir(root: &Path, skip: &[&Path]) -> io::Result<Self> {
        Ok(Self::with(copy::read(root, skip)?))
    }

    fn with(fs: Fs) -> Self {
        LossVfs { state: Arc::new(Mutex::new(State { fs, mutations: 0, stop_at: None, dead: false })) }
    }

    /// Another file system in the same state, unsynced changes included, with a living process and a count of 0.
    pub fn fork(&self) -> LossVfs {
        Self::with(self.lock().fs.clone())
    }

    /// What a power cut at this moment leaves, as a new file system in which everything is durable.
    pub fn crash(&self, loss: &Loss) -> LossVfs {
        Self::with(self.lock().fs.crashed(loss))
    }

    /// Writes what a power cut at this moment leaves into a real directory, which is created if it is missing; names
    /// that would be replaced are an error.
    pub fn materialise(&self, target: &Path, loss: &Loss) -> io::Result<()> {
        let left = self.lock().fs.crashed(loss);
        copy::write(&left, target)
    }

    /// Kills the process after `calls` further mutating calls: the one after them, and every call of any kind from
    /// then on, fails with [`Killed`] and has no effect.
    pub fn stop_after(&self, calls: u64) {
        let mut state = self.lock();
        state.stop_at = Some(state.mutations + calls);
    }

    /// Flips a bit of a file: the medium's doing, and nobody's call. It is flipped in what is durable, in what the
    /// process sees, and in what is on its way from one to the other. False if the file has no such bit.
    pub fn flip_bit(&self, path: &Path, bit: u64) -> io::Result<bool> {
        let mut state = self.lock();
        let ino = state.fs.resolve(path)?;
        Ok(state.fs.inode_mut(ino).flip(bit / 8, 1 << (bit % 8)))
    }

    /// Mutating calls so far, failed ones included, those of a dead process excluded.
    pub fn mutations(&self) -> u64 {
        self.lock().mutations
    }

    /// Whether [`LossVfs::stop_after`] has struck.
    pub fn is_dead(&self) -> bool {
        self.lock().dead
    }

    /// An extended attribute of a file, as the process sees it.
    pub fn xattr(&self, path: &Path, name: &OsStr) -> io::Result<Option<Vec<u8>>> {
        let state = self.lock();
        let ino = state.fs.resolve(path)?;
        Ok(state.fs.live(ino).xattrs.get(name).cloned())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A failed assertion in a test says what is wrong; a poisoned lock on top of it would hide that.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn looking(&self) -> io::Result<MutexGuard<'_, State>> {
        let state = self.lock();
        if state.dead { Err(Killed.into()) } else { Ok(state) }
    }

    fn mutating(&self) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.looking()?;
        if state.stop_at.is_some_and(|at| state.mutations >= at) {
            state.dead = true;
            return Err(Killed.into());
        }
        state.mutations += 1;
        state.fs.tick();
        Ok(state)
    }
}

impl Default for LossVfs {
    fn default() -> Self {
        Self::new()
    }
}

impl Vfs for LossVfs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>> {
        let ino = match how {
            Open::Create { mode } => self.mutating()?.fs.create(path, Body::File(Vec::new()), mode)?,
            Open::Read | Open::Write => {
                let state = self.looking()?;
                let ino = state.fs.resolve(path)?;
                match state.fs.live(ino).body.kind() {
                    FileKind::File => ino,
                    FileKind::Symlink => return Err(Refused::Symlink(path.to_owned()).into()),
                    _ => return Err(Refused::NotAFile(path.to_owned()).into()),
                }
            }
        };
        Ok(Arc::new(LossFile { vfs: self.clone(), ino, writable: how != Open::Read }))
    }

    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.mutating()?.fs.create(path, Body::Dir(Default::default()), mode).map(|_| ())
    }

    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.mutating()?.fs.create(path, Body::Symlink(target.to_owned()), 0o777).map(|_| ())
    }

    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        self.mutating()?.fs.rename(from, to, how)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.mutating()?.fs.remove(path, false)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.mutating()?.fs.remove(path, true)
    }

    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        let mut state = self.mutating()?;
        let ino = state.fs.resolve_dir(path)?;
        state.fs.change(ino, Change::Mode(mode & 0o7777));
        Ok(())
    }

    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
        let mut state = self.mutating()?;
        let ino = state.fs.resolve(path)?;
        state.fs.change(ino, Change::Mtime(FileTime { secs, nanos }));
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.mutating()?;
        let ino = state.fs.resolve_dir(path)?;
        state.fs.sync_dir(ino);
        Ok(())
    }

    fn sync_all_files(&self) -> io::Result<()> {
        self.mutating()?.fs.sync_everything();
        Ok(())
    }

    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        let state = self.looking()?;
        let ino = state.fs.resolve(path)?;
        Ok(state.fs.stat(ino))
    }

    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        let state = self.looking()?;
        let ino = state.fs.resolve(path)?;
        match &state.fs.live(ino).body {
            Body::Symlink(target) => Ok(target.clone()),
            _ => Err(fs::errno(rustix::io::Errno::INVAL)),
        }
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        let state = self.looking()?;
        let ino = state.fs.resolve_dir(path)?;
        let kind = |ino: &Ino| state.fs.live(*ino).body.kind();
        Ok(state.fs.entries(ino).iter().map(|(name, ino)| (name.clone(), kind(ino))).collect())
    }

    /// There is no end to this disk.
    fn free(&self) -> io::Result<u64> {
        self.looking().map(|_| u64::MAX)
    }
}

#[derive(Debug)]
struct LossFile {
    vfs: LossVfs,
    ino: Ino,
    writable: bool,
}

impl LossFile {
    fn change(&self, change: Change) -> io::Result<()> {
        self.vfs.mutating()?.fs.change(self.ino, change);
        Ok(())
    }

    /// Content changes need a writable descriptor and a length that fits into memory.
    fn change_content(&self, end: u64, change: impl FnOnce(FileTime) -> Change) -> io::Result<()> {
        let mut state = self.vfs.mutating()?;
        if !self.writable {
            return Err(fs::errno(rustix::io::Errno::BADF));
        }
        if end > fs::FILE_LEN_MAX {
            return Err(fs::errno(rustix::io::Errno::FBIG));
        }
        let now = state.fs.now();
        state.fs.change(self.ino, change(now));
        Ok(())
    }
}

impl VfsFile for LossFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let state = self.vfs.looking()?;
        let bytes = state.fs.content(self.ino);
        let rest = usize::try_from(offset).ok().and_then(|at| bytes.get(at..)).unwrap_or_default();
        let n = rest.len().min(buf.len());
        buf[..n].copy_from_slice(&rest[..n]);
        Ok(n)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let end = offset.saturating_add(buf.len() as u64);
        self.change_content(end, |at| Change::Write { offset, data: buf.to_vec(), at })?;
        Ok(buf.len())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.vfs.looking()?.fs.content(self.ino).len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.change_content(len, |at| Change::SetLen { len, at })
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.mutating()?.fs.sync_file(self.ino, Change::is_content);
        Ok(())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.vfs.mutating()?.fs.sync_file(self.ino, |_| true);
        Ok(())
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.change(Change::Mode(mode & 0o7777))
    }

    fn set_mtime(&self, secs: i64, nanos: u32) -> io::Result<()> {
        self.change(Change::Mtime(FileTime { secs, nanos }))
    }

    fn set_xattr(&self, name: &OsStr, value: &[u8]) -> io::Result<()> {
        self.change(Change::Xattr(name.to_owned(), value.to_vec()))
    }

    fn stat(&self) -> io::Result<FileStat> {
        Ok(self.vfs.looking()?.fs.stat(self.ino))
    }
}
