//! `--to DIR`: a copy in a new directory, built beside it and renamed at the end.
//!
//! Until then nothing has the name that was asked for, so that a copy is whole or not there; a temporary directory is
//! all that a crash leaves. An empty DIR that is there already is replaced; where that cannot be (a mount point, the
//! working directory itself, a parent that may not be written) the copy is built inside it, and its names are moved up
//! one by one at the end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use filesync_cas::ContentHash;
use filesync_cas::hash::hex;
use filesync_cas::vfs::{RealVfs, Rename, TEMP_PREFIX, Vfs, temp_name};
use filesync_merkle::{DirCursor, Entry, Mode, RepoPath, TreeLink, WalkError};
use rustix::fs::{FlockOperation, Mode as Bits, OFlags};

use super::fill::{Feeder, Filled, Filler, Job, Sync, read_attrs};
use super::select::{Part, Selection};
use super::{Context, DEPTH_MAX};
use crate::error::{Error, ErrorKind};
use crate::request::{Event, RestoreResult, Unreadable, Warning};
use crate::worktree::{self, os_path};

/// Writes a tree, or some of its paths, into a directory that is new or empty.
pub fn to_directory(
    ctx: &Context<'_>,
    target: TreeLink,
    paths: &[RepoPath],
    to: &Path,
    fsync: bool,
) -> Result<RestoreResult, Error> {
    let place = Place::find(to)?;
    let open = |dir: &Path| {
        let vfs: Arc<dyn Vfs> = Arc::new(RealVfs::open(dir).map_err(|error| failed(dir, &error))?);
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(dir, flags, Bits::empty()).ok();
        Ok::<_, Error>(Build { ctx, target, paths, to, vfs, root, fsync })
    };
    if let Place::Beside { parent, name, existing } = &place {
        let build = open(parent)?;
        match Temporary::make(&*build.vfs, parent, name) {
            Ok(temp) => return build.beside(&temp.path, name, *existing),
            Err(error) if existing.is_none() => return Err(failed(to, &error)),
            // The directory may allow what its parent forbids.
            Err(_) => {}
        }
    }
    let dir = std::fs::canonicalize(to).map_err(|error| failed(to, &error))?;
    open(&dir)?.inside()
}

/// The directory that a copy is built in, beside its place. Its name depends on that place, so that who comes after a crash finds
/// what was left; the lock tells that from one that is being built. It is held before anybody can see that name.
pub(super) struct Temporary {
    pub(super) path: PathBuf,
    _lock: Option<OwnedFd>,
}

impl Temporary {
    pub(super) fn make(vfs: &dyn Vfs, parent: &Path, name: &Path) -> io::Result<Self> {
        let path = PathBuf::from(temp_name()?);
        vfs.mkdir(&path, 0o777)?;
        let held = lock(&parent.join(&path));
        let known = temporary_of(name);
        if held.is_some() {
            // What cannot be removed is in nobody's way.
            drop(remove_left(vfs, parent, &known));
            if vfs.rename(&path, &known, Rename::NoReplace).is_ok() {
                return Ok(Self { path: known, _lock: held });
            }
        }
        Ok(Self { path, _lock: held })
    }
}

/// Removes what one that was killed left. What somebody holds is being built.
fn remove_left(vfs: &dyn Vfs, parent: &Path, known: &Path) -> io::Result<()> {
    let Some(held) = lock(&parent.join(known)) else { return Ok(()) };
    // Who held it before may have taken it away, and another have put his own there.
    let (there, mine) = (vfs.stat(known)?, rustix::fs::fstat(&held)?);
    if (there.dev, there.ino) != (mine.st_dev, mine.st_ino) {
        return Ok(());
    }
    let away = PathBuf::from(temp_name()?);
    vfs.rename(known, &away, Rename::NoReplace)?;
    worktree::remove_tree(vfs, &away)
}

pub(super) fn temporary_of(name: &Path) -> PathBuf {
    let id = ContentHash::of_metadata("filesync temporary copy v1", name.as_os_str().as_bytes());
    PathBuf::from(format!("{TEMP_PREFIX}{}", hex(&id.as_bytes()[..16])))
}

/// Holds a directory as long as the descriptor is open; none if somebody else does, or it cannot be held.
pub(super) fn lock(dir: &Path) -> Option<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let dir = rustix::fs::open(dir, flags, Bits::empty()).ok()?;
    rustix::fs::flock(&dir, FlockOperation::NonBlockingLockExclusive).ok().map(|()| dir)
}

/// Fails where [`to_directory`] would refuse to begin.
pub(super) fn check_place(to: &Path) -> Result<(), Error> {
    Place::find(to).map(drop)
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::io(format_args!("cannot write {}", path.display()), error)
}

/// Where a copy is built.
enum Place {
    /// In the parent.
    Beside {
        parent: PathBuf,
        name: PathBuf,
        /// The mode of the empty directory that is there already.
        existing: Option<u32>,
    },
    /// In the directory itself.
    Inside,
}

impl Place {
    fn find(to: &Path) -> Result<Self, Error> {
        let whole = match std::fs::canonicalize(to) {
            Ok(whole) => Some(whole),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(to, &error)),
        };
        let Some(whole) = whole else {
            // A dangling symlink is found out by the rename.
            let Some(name) = to.file_name() else { return Err(refused(to, "not the name of a directory")) };
            let parent = to.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
            let parent = std::fs::canonicalize(parent).map_err(|error| failed(to, &error))?;
            if to.symlink_metadata().is_ok() {
                return Err(refused(to, "it is there already"));
            }
            return Ok(Self::Beside { parent, name: name.into(), existing: None });
        };
        let meta = std::fs::metadata(&whole).map_err(|error| failed(to, &error))?;
        if !meta.is_dir() {
            return Err(refused(to, "it is not a directory"));
        }
        let mut entries = std::fs::read_dir(&whole).map_err(|error| failed(to, &error))?;
        if entries.next().is_some() {
            return Err(refused(to, "it is not empty"));
        }
        let is_working_directory = std::env::current_dir().is_ok_and(|dir| dir == whole);
        let (Some(parent), Some(name)) = (whole.parent(), whole.file_name()) else { return Ok(Self::Inside) };
        let is_mount_point = std::fs::metadata(parent).is_ok_and(|above| above.dev() != meta.dev());
        if is_working_directory || is_mount_point {
            return Ok(Self::Inside);
        }
        let existing = Some(meta.mode() & 0o777);
        Ok(Self::Beside { parent: parent.to_owned(), name: name.into(), existing })
    }
}

fn refused(to: &Path, why: &str) -> Error {
    Error::new(ErrorKind::Failed, format!("cannot restore to {}: {why}", to.display()))
        .with_hint("--to wants a new or an empty directory")
}

/// One copy under way.
pub(super) struct Build<'a> {
    pub(super) ctx: &'a Context<'a>,
    pub(super) target: TreeLink,
    pub(super) paths: &'a [RepoPath],
    /// What messages call it.
    pub(super) to: &'a Path,
    /// The directory that the temporary one lies in.
    pub(super) vfs: Arc<dyn Vfs>,
    /// The same, for what the vfs cannot do.
    pub(super) root: Option<OwnedFd>,
    pub(super) fsync: bool,
}

impl Build<'_> {
    /// Fills `temp`, which is there and empty, and gives it its name.
    pub(super) fn beside(&self, temp: &Path, name: &Path, existing: Option<u32>) -> Result<RestoreResult, Error> {
        self.filled(temp, |_| {
            if let Some(mode) = existing {
                self.vfs.set_dir_mode(temp, mode)?;
            }
            // Over an empty directory, and over nothing else.
            let how = if existing.is_some() { Rename::Replace } else { Rename::NoReplace };
            match self.vfs.rename(temp, name, how) {
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INVAL.raw_os_error()) => {
                    self.vfs.rename(temp, name, Rename::Replace)
                }
                done => done,
            }
        })
    }

    /// Builds in the directory itself.
    fn inside(&self) -> Result<RestoreResult, Error> {
        let temp = PathBuf::from(temp_name()?);
        self.vfs.mkdir(&temp, 0o700).map_err(|error| failed(self.to, &error))?;
        self.filled(&temp, |vfs| {
            for (name, _) in vfs.list(&temp)? {
                vfs.rename(&temp.join(&name), Path::new(&name), Rename::NoReplace)?;
            }
            vfs.rmdir(&temp)
        })
    }

    /// Fills `temp` and lets `name` give it its name. Whatever goes wrong, nothing of it is left.
    fn filled(&self, temp: &Path, name: impl FnOnce(&dyn Vfs) -> io::Result<()>) -> Result<RestoreResult, Error> {
        let vfs = &*self.vfs;
        let result = self.fill(temp).and_then(|result| {
            crate::cancel::check()?;
            let io = |error: io::Error| failed(self.to, &error);
            if self.fsync {
                vfs.sync_all_files().map_err(io)?;
            }
            name(vfs).map_err(io)?;
            if self.fsync {
                vfs.sync_dir(Path::new("")).map_err(io)?;
            }
            Ok(result)
        });
        if result.is_err() {
            // The first error is the one to tell; what stays has the name of a leftover.
            let _ = worktree::remove_tree(vfs, temp);
        }
        result
    }

    fn fill(&self, temp: &Path) -> Result<RestoreResult, Error> {
        let ctx = self.ctx;
        let whole = self.paths.is_empty().then_some(self.target.totals);
        ctx.observer.event(Event::Phase {
            what: "restoring",
            bytes: whole.map(|totals| totals.bytes),
            items: whole.map(|totals| totals.files),
        });
        let umask = self.umask(temp)?;
        let sync = if self.fsync { Sync::Later } else { Sync::No };
        let filler = Filler {
            store: ctx.store,
            work: &*self.vfs,
            observer: ctx.observer,
            umask,
            in_place: None,
            sync,
            early: None,
        };
        let mut walk = Walk { build: self, temp, umask, modes: Vec::new(), damaged: Vec::new() };
        let selection = Selection::of(ctx, &self.target, self.paths, super::select::Place::Beside)?;
        let filled = filler.run(ctx.threads, ctx.source, |feeder| walk.run(&selection, feeder))?;
        walk.finish_directories()?;
        let Filled { mut damaged, count, bytes, .. } = filled;
        damaged.append(&mut walk.damaged);
        damaged.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(RestoreResult { written: count, bytes, damaged, ..RestoreResult::default() })
    }

    /// What new files are not given: the umask, or anything if the directory has rules of its own.
    fn umask(&self, temp: &Path) -> Result<u32, Error> {
        let umask = worktree::umask();
        let probe = temp.join(temp_name()?);
        let io = |error: io::Error| failed(self.to, &error);
        self.vfs.mkdir(&probe, 0o777).map_err(io)?;
        let mode = self.vfs.stat(&probe).map_err(io)?.mode & 0o777;
        self.vfs.rmdir(&probe).map_err(io)?;
        Ok(if mode == 0o777 & !umask { umask } else { 0o777 })
    }
}

/// The walk over the tree: makes directories and gives files to the feeder.
struct Walk<'w> {
    build: &'w Build<'w>,
    temp: &'w Path,
    umask: u32,
    /// Directories that are to have another mode, or attributes, once they are filled.
    modes: Vec<(RepoPath, Entry)>,
    damaged: Vec<Unreadable>,
}

impl Walk<'_> {
    fn run(&mut self, selection: &Selection, feeder: &mut Feeder<'_, '_>) -> Result<(), Error> {
        let source = self.build.ctx.source;
        let root = RepoPath::root();
        let mut stack = vec![(root, DirCursor::new(source, &self.build.target))];
        while let Some((dir, cursor)) = stack.last_mut() {
            let Some(next) = cursor.next() else {
                stack.pop();
                continue;
            };
            let (name, entry) = match next {
                Ok(next) => next,
                Err(error) => {
                    let dir = dir.clone();
                    self.damaged(&dir, error)?;
                    stack.pop();
                    continue;
                }
            };
            let path = dir.join(&name);
            let part = selection.part(&path);
            if part == Part::None {
                continue;
            }
            let Some(link) = entry.as_directory().copied() else {
                if part == Part::All {
                    let at = self.temp.join(os_path(&path));
                    feeder.feed(Job { tag: 0, path, at, entry })?;
                }
                continue;
            };
            if stack.len() >= DEPTH_MAX {
                return Err(super::too_deep(&path));
            }
            self.make_directory(&path, entry)?;
            stack.push((path, DirCursor::new(source, &link)));
        }
        Ok(())
    }

    /// A damaged directory is missing, or ends early; the rest goes on.
    fn damaged(&mut self, path: &RepoPath, error: WalkError) -> Result<(), Error> {
        if !error.is_damage() {
            return Err(error.into());
        }
        self.damaged.push(Unreadable { path: path.as_bytes().to_vec(), cause: error.to_string() });
        Ok(())
    }

    fn make_directory(&mut self, path: &RepoPath, entry: Entry) -> Result<(), Error> {
        let mode = u32::from(entry.mode.bits());
        let at = self.temp.join(os_path(path));
        let made = self.build.vfs.mkdir(&at, mode | 0o700);
        made.map_err(|error| Error::io(format_args!("cannot write {path}"), &error))?;
        let is_final = mode & 0o700 == 0o700 && mode & self.umask == 0;
        if !is_final || entry.attrs.is_some() {
            self.modes.push((path.clone(), entry));
        }
        Ok(())
    }

    /// Modes and attributes, from the inside out: a directory that forbids entering must have nothing left to do.
    fn finish_directories(&mut self) -> Result<(), Error> {
        let Build { ctx, vfs, .. } = self.build;
        for (path, Entry { mode, attrs, .. }) in std::mem::take(&mut self.modes).into_iter().rev() {
            let at = self.temp.join(os_path(&path));
            if let Some(id) = attrs {
                match read_attrs(ctx.source, &id) {
                    Ok(attrs) => self.set_attrs(&at, &path, &attrs),
                    Err(error) => self.damaged(&path, error)?,
                }
            }
            let set = if mode == Mode::DIRECTORY && self.umask & 0o755 == 0 {
                Ok(())
            } else {
                vfs.set_dir_mode(&at, mode.bits().into())
            };
            set.map_err(|error| Error::io(format_args!("cannot write {path}"), &error))?;
        }
        Ok(())
    }

    fn set_attrs(&self, at: &Path, path: &RepoPath, attrs: &filesync_merkle::Attrs) {
        let unsupported = || io::Error::from(io::ErrorKind::Unsupported);
        let set = self.build.root.as_ref().ok_or_else(unsupported).and_then(|root| {
            let at = RepoPath::parse(at.as_os_str().as_bytes()).map_err(|error| io::Error::other(error.to_string()))?;
            worktree::set_directory_attrs(root.as_fd(), &at, Some(attrs))
        });
        if let Err(error) = set {
            let (path, message) = (Some(path.as_bytes().to_vec()), format!("cannot set attributes: {error}"));
            self.build.ctx.observer.event(Event::Warning(Warning { path, message }));
        }
    }
}
