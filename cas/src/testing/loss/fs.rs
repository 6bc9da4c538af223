//! The model behind [`super::LossVfs`]: inodes with what is live, what is durable, and the changes between the two.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::io::Errno;

use crate::vfs::{FileKind, FileStat, FileTime, Refused, Rename, check_path, split_last};

pub(super) type Ino = u64;

pub(super) const ROOT: Ino = 1;

/// Files are kept as plain bytes.
pub(super) const FILE_LEN_MAX: u64 = 1 << 32;

/// Any number that is not a device of this machine.
const DEV: u64 = 0x1055;

/// One name in one directory, as a step touches it.
pub(super) type Key = (Ino, OsString);

#[derive(Clone, Debug)]
pub(super) struct Fs {
    pub(super) inodes: BTreeMap<Ino, Inode>,
    /// Unsynced changes of names, oldest first.
    pub(super) steps: Vec<Step>,
    next_ino: Ino,
    /// Milliseconds; moves with every mutating call.
    clock: i64,
}

#[derive(Clone, Debug)]
pub(super) struct Inode {
    pub(super) live: Node,
    pub(super) durable: Node,
    /// What leads from `durable` to `live`, oldest first; names have their own list, `Fs::steps`.
    pub(super) pending: Vec<Change>,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) body: Body,
    pub(super) mode: u32,
    pub(super) mtime: FileTime,
    pub(super) ctime: FileTime,
    pub(super) xattrs: BTreeMap<OsString, Vec<u8>>,
}

#[derive(Clone, Debug)]
pub(super) enum Body {
    File(Vec<u8>),
    Dir(BTreeMap<OsString, Ino>),
    Symlink(OsString),
}

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, data: Vec<u8>, at: FileTime },
    SetLen { len: u64, at: FileTime },
    Mode(u32),
    Mtime(FileTime),
    Xattr(OsString, Vec<u8>),
}

/// A change of names that is seen as a whole or not at all.
#[derive(Clone, Debug)]
pub(super) struct Step {
    pub(super) sets: Vec<(Key, Option<Ino>)>,
    /// A directory changed its parent. Such steps survive in order, or two of them could make a circle.
    pub(super) moves_dir: bool,
}

impl Step {
    /// What this step finds as earlier ones left it.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        let order = self.moves_dir.then(|| (Ino::MAX, OsString::new()));
        self.sets.iter().map(|(key, _)| key.clone()).chain(order)
    }

    fn touches(&self, dir: Ino) -> bool {
        self.sets.iter().any(|((at, _), _)| *at == dir)
    }
}

impl Body {
    pub(super) fn kind(&self) -> FileKind {
        match self {
            Body::File(_) => FileKind::File,
            Body::Dir(_) => FileKind::Dir,
            Body::Symlink(_) => FileKind::Symlink,
        }
    }
}

impl Inode {
    /// Flips bits of the byte at `at`, wherever it stands. Whether it does.
    pub(super) fn flip(&mut self, at: u64, bits: u8) -> bool {
        let mut is_there = false;
        for node in [&mut self.live, &mut self.durable] {
            if let Body::File(bytes) = &mut node.body {
                is_there |= flip(bytes, at, bits);
            }
        }
        for change in &mut self.pending {
            if let Change::Write { offset, data, .. } = change
                && at >= *offset
            {
                is_there |= flip(data, at - *offset, bits);
            }
        }
        is_there
    }
}

fn flip(bytes: &mut [u8], at: u64, bits: u8) -> bool {
    let byte = usize::try_from(at).ok().and_then(|at| bytes.get_mut(at));
    byte.map(|byte| *byte ^= bits).is_some()
}

impl Change {
    pub(super) fn is_content(&self) -> bool {
        matches!(self, Change::Write { .. } | Change::SetLen { .. })
    }
}

impl Node {
    pub(super) fn new(body: Body, mode: u32, time: FileTime) -> Self {
        Node { body, mode, mtime: time, ctime: time, xattrs: BTreeMap::new() }
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match (change, &mut self.body) {
            (Change::Write { offset, data, at }, Body::File(bytes)) => {
                let start = usize::try_from(*offset).expect("bounded by FILE_LEN_MAX");
                let end = start + data.len();
                if bytes.len() < end && !data.is_empty() {
                    bytes.resize(end, 0);
                }
                if !data.is_empty() {
                    bytes[start..end].copy_from_slice(data);
                }
                self.mtime = *at;
            }
            (Change::SetLen { len, at }, Body::File(bytes)) => {
                bytes.resize(usize::try_from(*len).expect("bounded by FILE_LEN_MAX"), 0);
                self.mtime = *at;
            }
            (Change::Write { .. } | Change::SetLen { .. }, _) => {
                unreachable!("only files are opened")
            }
            (Change::Mode(mode), _) => self.mode = *mode,
            (Change::Mtime(mtime), _) => self.mtime = *mtime,
            (Change::Xattr(name, value), _) => {
                self.xattrs.insert(name.clone(), value.clone());
            }
        }
    }

    fn entries_mut(&mut self) -> &mut BTreeMap<OsString, Ino> {
        match &mut self.body {
            Body::Dir(entries) => entries,
            _ => unreachable!("steps name directories only"),
        }
    }
}

pub(super) fn errno(errno: Errno) -> io::Error {
    errno.into()
}

impl Fs {
    pub(super) fn new() -> Self {
        let mut fs = Fs { inodes: BTreeMap::new(), steps: Vec::new(), next_ino: ROOT, clock: 1_000_000_000_000 };
        let root = Node::new(Body::Dir(BTreeMap::new()), 0o755, fs.now());
        fs.add(root);
        fs
    }

    /// The same clock and numbers, but all of `inodes` durable.
    pub(super) fn settled(&self, inodes: BTreeMap<Ino, Inode>) -> Fs {
        Fs { inodes, steps: Vec::new(), next_ino: self.next_ino, clock: self.clock }
    }

    pub(super) fn now(&self) -> FileTime {
        let nanos = u32::try_from(self.clock.rem_euclid(1000)).expect("below 1000") * 1_000_000;
        FileTime { secs: self.clock.div_euclid(1000), nanos }
    }

    pub(super) fn tick(&mut self) {
        self.clock += 1;
    }

    /// Moves the clock past a time that was met elsewhere.
    pub(super) fn not_before(&mut self, time: FileTime) {
        self.clock = self.clock.max((time.secs + 1) * 1000);
    }

    /// A new inode, durable as it is, without a name.
    fn add(&mut self, node: Node) -> Ino {
        let ino = self.next_ino;
        self.next_ino += 1;
        self.inodes.insert(ino, Inode { live: node.clone(), durable: node, pending: Vec::new() });
        ino
    }

    /// A new inode under a name, everything durable.
    pub(super) fn add_settled(&mut self, dir: Ino, name: &OsStr, node: Node) -> Ino {
        let ino = self.add(node);
        let dir = self.inode_mut(dir);
        dir.live.entries_mut().insert(name.to_owned(), ino);
        dir.durable.entries_mut().insert(name.to_owned(), ino);
        ino
    }

    pub(super) fn live(&self, ino: Ino) -> &Node {
        &self.inodes[&ino].live
    }

    pub(super) fn inode_mut(&mut self, ino: Ino) -> &mut Inode {
        self.inodes.get_mut(&ino).expect("inodes are never removed")
    }

    pub(super) fn entries(&self, dir: Ino) -> &BTreeMap<OsString, Ino> {
        match &self.live(dir).body {
            Body::Dir(entries) => entries,
            _ => unreachable!("resolved as a directory"),
        }
    }

    pub(super) fn content(&self, ino: Ino) -> &[u8] {
        match &self.live(ino).body {
            Body::File(bytes) => bytes,
            _ => unreachable!("only files are opened"),
        }
    }

    /// What stands at `path`; a symlink only at its end.
    pub(super) fn resolve(&self, path: &Path) -> io::Result<Ino> {
        check_path(path)?;
        let mut at = ROOT;
        for name in path.as_os_str().as_bytes().split(|&b| b == b'/').filter(|name| !name.is_empty()) {
            at = self.look_up(at, OsStr::from_bytes(name), path)?.ok_or_else(|| errno(Errno::NOENT))?;
        }
        Ok(at)
    }

    /// A directory; a symlink is refused.
    pub(super) fn resolve_dir(&self, path: &Path) -> io::Result<Ino> {
        let ino = self.resolve(path)?;
        self.as_dir(ino, path)?;
        Ok(ino)
    }

    fn as_dir(&self, ino: Ino, path: &Path) -> io::Result<&BTreeMap<OsString, Ino>> {
        match &self.live(ino).body {
            Body::Dir(entries) => Ok(entries),
            Body::Symlink(_) => Err(Refused::Symlink(path.to_owned()).into()),
            Body::File(_) => Err(errno(Errno::NOTDIR)),
        }
    }

    fn look_up(&self, dir: Ino, name: &OsStr, path: &Path) -> io::Result<Option<Ino>> {
        let entries = self.as_dir(dir, path)?;
        if name.len() > 255 {
            return Err(errno(Errno::NAMETOOLONG));
        }
        Ok(entries.get(name).copied())
    }

    /// Parent and name of `path`, and what stands there.
    fn place(&self, path: &Path) -> io::Result<(Key, Option<Ino>)> {
        let (parent, name) = split_last(path)?;
        let dir = self.resolve_dir(parent)?;
        Ok(((dir, name.to_owned()), self.look_up(dir, name, path)?))
    }

    pub(super) fn stat(&self, ino: Ino) -> FileStat {
        let node = self.live(ino);
        let size = match &node.body {
            Body::File(bytes) => bytes.len() as u64,
            Body::Symlink(target) => target.len() as u64,
            Body::Dir(_) => 4096,
        };
        FileStat {
            kind: node.body.kind(),
            dev: DEV,
            ino,
            nlink: if node.body.kind() == FileKind::Dir { 2 } else { 1 },
            uid: rustix::process::getuid().as_raw(),
            size,
            blocks: size.div_ceil(4096) * 8,
            mode: node.mode,
            mtime: node.mtime,
            ctime: node.ctime,
        }
    }

    pub(super) fn create(&mut self, path: &Path, body: Body, mode: u32) -> io::Result<Ino> {
        let (key, found) = self.place(path)?;
        if found.is_some() {
            return Err(errno(Errno::EXIST));
        }
        let ino = self.add(Node::new(body, mode & 0o7777, self.now()));
        self.step(vec![(key, Some(ino))], false);
        Ok(ino)
    }

    pub(super) fn remove(&mut self, path: &Path, dir: bool) -> io::Result<()> {
        let (key, found) = self.place(path)?;
        let ino = found.ok_or_else(|| errno(Errno::NOENT))?;
        match &self.live(ino).body {
            Body::Dir(_) if !dir => return Err(errno(Errno::ISDIR)),
            Body::Dir(entries) if !entries.is_empty() => return Err(errno(Errno::NOTEMPTY)),
            Body::File(_) | Body::Symlink(_) if dir => return Err(errno(Errno::NOTDIR)),
            _ => {}
        }
        self.step(vec![(key, None)], false);
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path, how: Rename) -> io::Result<()> {
        // Mistakes are looked for in the kernel's order.
        let ((from_parent, _), (to_parent, _)) = (split_last(from)?, split_last(to)?);
        self.resolve_dir(from_parent)?;
        self.resolve_dir(to_parent)?;
        let (from_key, found) = self.place(from)?;
        let moved = found.ok_or_else(|| errno(Errno::NOENT))?;
        let (to_key, there) = self.place(to)?;
        let is_dir = |ino: Ino| self.live(ino).body.kind() == FileKind::Dir;
        match (how, there) {
            (Rename::NoReplace, Some(_)) => return Err(errno(Errno::EXIST)),
            (Rename::Exchange, None) => return Err(errno(Errno::NOENT)),
            _ if from != to && to.starts_with(from) => return Err(errno(Errno::INVAL)),
            (Rename::Exchange, _) if from != to && from.starts_with(to) => {
                return Err(errno(Errno::INVAL));
            }
            _ if from != to && from.starts_with(to) => return Err(errno(Errno::NOTEMPTY)),
            (_, Some(there)) if there == moved => return Ok(()),
            (Rename::Replace, Some(there)) => match (is_dir(moved), is_dir(there)) {
                (true, false) => return Err(errno(Errno::NOTDIR)),
                (false, true) => return Err(errno(Errno::ISDIR)),
                (true, true) if !self.entries(there).is_empty() => {
                    return Err(errno(Errno::NOTEMPTY));
                }
                _ => {}
            },
            _ => {}
        }
        let left = if how == Rename::Exchange { there } else { None };
        let one_dir = from_key.0 == to_key.0;
        let moves_dir = !one_dir && (is_dir(moved) || left.is_some_and(is_dir));
        let now = self.now();
        for ino in [Some(moved), left].into_iter().flatten() {
            self.inode_mut(ino).live.ctime = now;
        }
        let (vacate, arrive) = ((from_key, left), (to_key, Some(moved)));
        if one_dir || moves_dir {
            self.step(vec![vacate, arrive], moves_dir);
        } else {
            self.step(vec![arrive], false);
            self.step(vec![vacate], false);
        }
        Ok(())
    }

    fn step(&mut self, sets: Vec<(Key, Option<Ino>)>, moves_dir: bool) {
        let step = Step { sets, moves_dir };
        let now = self.now();
        for (key, ino) in &step.sets {
            let node = &mut self.inode_mut(key.0).live;
            set(node, &key.1, *ino);
            (node.mtime, node.ctime) = (now, now);
        }
        self.steps.push(step);
    }

    pub(super) fn apply_durable(&mut self, step: &Step) {
        for (key, ino) in &step.sets {
            set(&mut self.inode_mut(key.0).durable, &key.1, *ino);
        }
    }

    pub(super) fn change(&mut self, ino: Ino, change: Change) {
        let now = self.now();
        let inode = self.inode_mut(ino);
        inode.live.apply(&change);
        inode.live.ctime = now;
        inode.pending.push(change);
    }

    /// Makes the chosen pending changes of one inode durable.
    pub(super) fn sync_file(&mut self, ino: Ino, which: impl Fn(&Change) -> bool) {
        let inode = self.inode_mut(ino);
        let (durable, ctime) = (&mut inode.durable, inode.live.ctime);
        inode.pending.retain(|change| {
            let synced = which(change);
            if synced {
                durable.apply(change);
                durable.ctime = ctime;
            }
            !synced
        });
    }

    /// Makes the entries of a directory durable, and whatever elsewhere they cannot be seen without.
    pub(super) fn sync_dir(&mut self, dir: Ino) {
        let mut needed: BTreeSet<Key> = BTreeSet::new();
        let mut now = vec![false; self.steps.len()];
        for (at, step) in self.steps.iter().enumerate().rev() {
            now[at] = step.touches(dir) || step.keys().any(|key| needed.contains(&key));
            if now[at] {
                needed.extend(step.keys());
            }
        }
        let mut later = Vec::new();
        for (step, now) in std::mem::take(&mut self.steps).into_iter().zip(now) {
            if now { self.apply_durable(&step) } else { later.push(step) }
        }
        self.steps = later;
        self.sync_file(dir, |_| true);
    }

    pub(super) fn sync_everything(&mut self) {
        for step in std::mem::take(&mut self.steps) {
            self.apply_durable(&step);
        }
        for ino in self.inodes.keys().copied().collect::<Vec<_>>() {
            self.sync_file(ino, |_| true);
        }
    }
}

fn set(node: &mut Node, name: &OsStr, ino: Option<Ino>) {
    let entries = node.entries_mut();
    match ino {
        Some(ino) => entries.insert(name.to_owned(), ino),
        None => entries.remove(name),
    };
}
