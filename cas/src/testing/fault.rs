//! [`FaultVfs`]: counts every call to another vfs, and injects one planned fault.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Killed;
use crate::vfs::{FileKind, FileStat, Open, Rename, Vfs, VfsFile};

/// What was called. One variant a method of [`Vfs`] and [`VfsFile`], but for the three ways to open; and for
/// [`Vfs::free`], which touches nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "named as the calls are")]
pub enum Op {
    OpenRead,
    OpenWrite,
    Create,
    Mkdir,
    Symlink,
    Rename,
    Unlink,
    Rmdir,
    SetDirMode,
    SetLinkMtime,
    SyncDir,
    SyncAllFiles,
    Stat,
    ReadLink,
    List,
    ReadAt,
    WriteAt,
    Len,
    SetLen,
    SyncData,
    SyncAll,
    SetMode,
    SetMtime,
    SetXattr,
    StatFile,
}

impl Op {
    /// Every kind, in the order of declaration.
    pub const ALL: [Op; 25] = [
        Op::OpenRead,
        Op::OpenWrite,
        Op::Create,
        Op::Mkdir,
        Op::Symlink,
        Op::Rename,
        Op::Unlink,
        Op::Rmdir,
        Op::SetDirMode,
        Op::SetLinkMtime,
        Op::SyncDir,
        Op::SyncAllFiles,
        Op::Stat,
        Op::ReadLink,
        Op::List,
        Op::ReadAt,
        Op::WriteAt,
        Op::Len,
        Op::SetLen,
        Op::SyncData,
        Op::SyncAll,
        Op::SetMode,
        Op::SetMtime,
        Op::SetXattr,
        Op::StatFile,
    ];

    /// Whether it changes nothing: reading, looking, opening what exists.
    pub fn is_read(self) -> bool {
        use Op::*;
        matches!(self, OpenRead | OpenWrite | Stat | ReadLink | List | ReadAt | Len | StatFile)
    }

    /// Whether it makes something durable. Syncs count as mutating.
    pub fn is_sync(self) -> bool {
        matches!(self, Op::SyncDir | Op::SyncAllFiles | Op::SyncData | Op::SyncAll)
    }
}

/// How many calls were seen, failed ones and those of a dead process included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts([u64; Op::ALL.len()]);

impl Counts {
    /// Of one kind.
    pub fn of(&self, op: Op) -> u64 {
        self.0[op as usize]
    }

    /// Of the kinds in a scope.
    pub fn within(&self, scope: Scope) -> u64 {
        Op::ALL.iter().filter(|op| scope.holds(**op)).map(|op| self.of(*op)).sum()
    }

    /// All that change something, syncs included.
    pub fn mutating(&self) -> u64 {
        self.within(Scope::Mutating)
    }

    /// All syncs.
    pub fn syncs(&self) -> u64 {
        self.within(Scope::Syncs)
    }

    /// All that change nothing.
    pub fn reads(&self) -> u64 {
        self.within(Scope::Reads)
    }

    /// What was added since an earlier count.
    pub fn since(&self, earlier: &Counts) -> Counts {
        Counts(std::array::from_fn(|i| self.0[i] - earlier.0[i]))
    }
}

/// The calls that a plan counts and hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// All that change something, syncs included.
    Mutating,
    /// Syncs only.
    Syncs,
    /// Calls that change nothing.
    Reads,
    /// One kind only.
    Only(Op),
}

impl Scope {
    fn holds(self, op: Op) -> bool {
        match self {
            Scope::Mutating => !op.is_read(),
            Scope::Syncs => op.is_sync(),
            Scope::Reads => op.is_read(),
            Scope::Only(only) => op == only,
        }
    }
}

/// What happens at the planned call. Numbers are errno values, say 5 for EIO or 28 for ENOSPC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies: this call and all later ones, of any kind, fail with [`Killed`] and have no effect.
    Kill,
    /// This call fails without effect, later ones work.
    ErrorOnce(i32),
    /// This call and all later ones in the scope fail without effect.
    ErrorFrom(i32),
    /// The first `write_at` of two bytes or more, from this call on, writes half of them and says so.
    ShortWrite,
    /// Every `write_at` of two bytes or more, from this call on, does that.
    ShortFrom,
}

/// One fault at one call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Which calls are counted.
    pub scope: Scope,
    /// The call to hit, counted from 1 at the moment the plan is set.
    pub at: u64,
    /// What happens there.
    pub fault: Fault,
}

/// A vfs that only counts: [`FaultVfs`] without a plan.
pub type CountingVfs = FaultVfs;

/// Passes calls on to another vfs, counts them and injects the fault of its [`Plan`]. Clones share everything.
///
/// A run that injected nothing proves nothing: end it with [`FaultVfs::assert_hit`].
#[derive(Clone, Debug)]
pub struct FaultVfs {
    inner: Arc<dyn Vfs>,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    counts: Counts,
    plan: Option<Plan>,
    /// Calls in the plan's scope since it was set.
    in_scope: u64,
    hit: bool,
    dead: bool,
}

/// How a call that was let through goes on.
#[derive(PartialEq)]
enum Pass {
    Whole,
    Short,
}

impl FaultVfs {
    /// Counts only, until a plan is set.
    pub fn new(inner: Arc<dyn Vfs>) -> Self {
        FaultVfs { inner, state: Arc::default() }
    }

    /// With a plan from the first call on.
    pub fn with_plan(inner: Arc<dyn Vfs>, plan: Plan) -> Self {
        let vfs = Self::new(inner);
        vfs.set_plan(Some(plan));
        vfs
    }

    /// Replaces the plan and forgets whether the earlier one was hit. A dead process stays dead.
    pub fn set_plan(&self, plan: Option<Plan>) {
        let mut state = self.lock();
        state.plan = plan;
        state.in_scope = 0;
        state.hit = false;
    }

    /// All calls so far.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// Whether the planned fault took place.
    pub fn hit(&self) -> bool {
        self.lock().hit
    }

    /// Panics unless the planned fault took place.
    pub fn assert_hit(&self) {
        let state = self.lock();
        assert!(state.hit, "no fault was injected: {:?}, {} calls in its scope", state.plan, state.in_scope);
    }

    /// Kills the process now.
    pub fn kill(&self) {
        self.lock().dead = true;
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic of `assert_hit` leaves the state as it was.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, op: Op) -> io::Result<()> {
        self.pass_len(op, 0).map(|_| ())
    }

    /// Counts a call, of `len` bytes if it writes, and decides what becomes of it.
    fn pass_len(&self, op: Op, len: usize) -> io::Result<Pass> {
        let mut state = self.lock();
        state.counts.0[op as usize] += 1;
        if state.dead {
            return Err(Killed.into());
        }
        let Some(plan) = state.plan else {
            return Ok(Pass::Whole);
        };
        let in_scope = plan.scope.holds(op);
        state.in_scope += u64::from(in_scope);
        let due = state.in_scope >= plan.at;
        let first = due && in_scope && !state.hit;
        match plan.fault {
            Fault::Kill if first => {
                state.hit = true;
                state.dead = true;
                Err(Killed.into())
            }
            Fault::ErrorOnce(errno) if first => {
                state.hit = true;
                Err(io::Error::from_raw_os_error(errno))
            }
            Fault::ErrorFrom(errno) if due && in_scope => {
                state.hit = true;
                Err(io::Error::from_raw_os_error(errno))
            }
            Fault::ShortWrite if due && !state.hit && op == Op::WriteAt && len > 1 => {
                state.hit = true;
                Ok(Pass::Short)
            }
            Fault::ShortFrom if due && op == Op::WriteAt && len > 1 => {
                state.hit = true;
                Ok(Pass::Short)
            }
            _ => Ok(Pass::Whole),
        }
    }
}

impl Vfs for FaultVfs {
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn VfsFile>> {
        self.pass(match how {
            Open::Read => Op::OpenRead,
            Open::Write => Op::OpenWrite,
            Open::Create { .. } => Op::Create,
        })?;
        Ok(Arc::new(FaultFile { inner: self.inner.open(path, how)?, vfs: self.clone() }))
    }

    fn mkdir(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.pass(Op::Mkdir)?;
        self.inner.mkdir(path, mode)
    }

    fn symlink(&self, target: &OsStr, path: &Path) -> io::Result<()> {
        self.pass(Op::Symlink)?;
        self.inner.symlink(target, path)
    }

    fn rename(&self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        self.pass(Op::Rename)?;
        self.inner.rename(from, to, how)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.pass(Op::Unlink)?;
        self.inner.unlink(path)
    }

    fn rmdir(&self, path: &Path) -> io::Result<()> {
        self.pass(Op::Rmdir)?;
        self.inner.rmdir(path)
    }

    fn set_dir_mode(&self, path: &Path, mode: u32) -> io::Result<()> {
        self.pass(Op::SetDirMode)?;
        self.inner.set_dir_mode(path, mode)
    }

    fn set_link_mtime(&self, path: &Path, secs: i64, nanos: u32) -> io::Result<()> {
        self.pass(Op::SetLinkMtime)?;
        self.inner.set_link_mtime(path, secs, nanos)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.pass(Op::SyncDir)?;
        self.inner.sync_dir(path)
    }

    fn sync_all_files(&self) -> io::Result<()> {
        self.pass(Op::SyncAllFiles)?;
        self.inner.sync_all_files()
    }

    fn stat(&self, path: &Path) -> io::Result<FileStat> {
        self.pass(Op::Stat)?;
        self.inner.stat(path)
    }

    fn read_link(&self, path: &Path) -> io::Result<OsString> {
        self.pass(Op::ReadLink)?;
        self.inner.read_link(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<(OsString, FileKind)>> {
        self.pass(Op::List)?;
        self.inner.list(path)
    }

    fn free(&self) -> io::Result<u64> {
        self.inner.free()
    }
}

#[derive(Debug)]
struct FaultFile {
    inner: Arc<dyn VfsFile>,
    vfs: FaultVfs,
}

impl VfsFile for FaultFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.vfs.pass(Op::ReadAt)?;
        self.inner.read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<usize> {
        let buf = match self.vfs.pass_len(Op::WriteAt, buf.len())? {
            Pass::Whole => buf,
            Pass::Short => &buf[..buf.len() / 2],
        };
        self.inner.write_at(buf, offset)
    }

    fn len(&self) -> io::Result<u64> {
        self.vfs.pass(Op::Len)?;
        self.inner.len()
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.vfs.pass(Op::SetLen)?;
        self.inner.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.vfs.pass(Op::SyncData)?;
        self.inner.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.vfs.pass(Op::SyncAll)?;
        self.inner.sync_all()
    }

    fn set_mode(&self, mode: u32) -> io::Result<()> {
        self.vfs.pass(Op::SetMode)?;
        self.inner.set_mode(mode)
    }

    fn set_mtime(&self, secs: i64, nanos: u32) -> io::Result<()> {
        self.vfs.pass(Op::SetMtime)?;
        self.inner.set_mtime(secs, nanos)
    }

    fn set_xattr(&self, name: &OsStr, value: &[u8]) -> io::Result<()> {
        self.vfs.pass(Op::SetXattr)?;
        self.inner.set_xattr(name, value)
    }

    fn stat(&self) -> io::Result<FileStat> {
        self.vfs.pass(Op::StatFile)?;
        self.inner.stat()
    }
}
