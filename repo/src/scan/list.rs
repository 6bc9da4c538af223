//! The names of one directory, in a form that a million of them fit in memory.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use filesync_merkle::{InvalidError, Mode, Name, RepoPath};
use rustix::fs::{AtFlags, FileType, RawDir, statat};
use rustix::io::Errno;

use super::dir::{SkipReason, Skipped};
use super::stat::Kind;
use crate::ignore::{IGNORE_FILE, Rules};

/// The name of the store; only the root's belongs to us.
const STORE: &[u8] = b".filesync";

/// What `getdents64` fills.
const BUFFER_LEN: usize = 64 << 10;

/// Buffers that a thread uses again and again.
pub(super) struct Scratch {
    buffer: Box<[MaybeUninit<u8>]>,
}

impl Scratch {
    pub(super) fn new() -> Self {
        Self { buffer: vec![MaybeUninit::uninit(); BUFFER_LEN].into_boxed_slice() }
    }
}

/// A directory's names, ascending.
#[derive(Debug)]
pub(crate) struct Listing {
    pub(super) path: RepoPath,
    pub(super) mode: Mode,
    /// The rules for its names: its own file's and those above.
    pub(super) rules: Rules,
    /// Whether the directory is left out as a whole.
    pub(super) left_out: bool,
    /// The names, each with a NUL behind it.
    names: Vec<u8>,
    items: Vec<Item>,
}

#[derive(Debug, Clone, Copy)]
struct Item {
    at: u32,
    len: u8,
    kind: Kind,
    ignored: bool,
}

/// One of the names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Listed<'a> {
    /// With a NUL behind it.
    raw: &'a [u8],
    pub(super) kind: Kind,
    pub(super) ignored: bool,
}

impl<'a> Listed<'a> {
    pub(super) fn name(&self) -> &'a [u8] {
        &self.raw[..self.raw.len() - 1]
    }

    pub(super) fn c_str(&self) -> &'a CStr {
        CStr::from_bytes_until_nul(self.raw).unwrap_or_default()
    }
}

impl Listing {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// The name at `index`, which is below [`Self::len`].
    pub(super) fn get(&self, index: usize) -> Listed<'_> {
        let Item { at, len, kind, ignored } = self.items[index];
        let at = at as usize;
        Listed { raw: &self.names[at..=at + usize::from(len)], kind, ignored }
    }

    /// Reads the names. What is not to be kept whatever the rules say comes second.
    pub(super) fn read(fd: BorrowedFd<'_>, path: RepoPath, mode: Mode, scratch: &mut Scratch) -> io::Result<Self> {
        let mut names = Vec::new();
        let mut items = Vec::new();
        let mut entries = RawDir::new(fd, &mut scratch.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name();
            let bytes = name.to_bytes();
            if bytes == b"." || bytes == b".." || (path.is_root() && bytes == STORE) {
                continue;
            }
            let kind = match entry.file_type() {
                FileType::Unknown => match statat(fd, name, AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => Kind::from_type(FileType::from_raw_mode(stat.st_mode)),
                    Err(Errno::NOENT) => continue,
                    // The one who asks for it meets the error.
                    Err(_) => Kind::File,
                },
                known => Kind::from_type(known),
            };
            let too_large = |_| io::Error::from(Errno::OVERFLOW);
            let at = u32::try_from(names.len()).map_err(too_large)?;
            let len = u8::try_from(bytes.len()).map_err(|_| io::Error::from(Errno::NAMETOOLONG))?;
            names.extend_from_slice(name.to_bytes_with_nul());
            items.push(Item { at, len, kind, ignored: false });
        }
        let name = |item: &Item| &names[item.at as usize..item.at as usize + usize::from(item.len)];
        items.sort_unstable_by(|a, b| name(a).cmp(name(b)));
        // A directory that changes meanwhile may give a name twice.
        items.dedup_by(|a, b| name(a) == name(b));
        items.shrink_to_fit();
        names.shrink_to_fit();
        Ok(Self { path, mode, rules: Rules::default(), left_out: false, names, items })
    }

    /// Whether there is an ignore file.
    pub(super) fn has_ignore_file(&self) -> bool {
        let found = (self.items).binary_search_by(|item| {
            self.names[item.at as usize..item.at as usize + usize::from(item.len)].cmp(IGNORE_FILE)
        });
        found.is_ok()
    }

    /// Marks what the rules leave out.
    pub(super) fn apply(&mut self, rules: Rules, left_out: bool) {
        self.rules = rules;
        self.left_out = left_out;
        if left_out {
            self.items.iter_mut().for_each(|item| item.ignored = true);
            return;
        }
        if self.rules.is_empty() {
            return;
        }
        let mut path = self.path.as_bytes().to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        let directory_len = path.len();
        for item in &mut self.items {
            path.truncate(directory_len);
            path.extend_from_slice(&self.names[item.at as usize..item.at as usize + usize::from(item.len)]);
            item.ignored = self.rules.leave_out(&path, item.kind == Kind::Directory);
        }
    }

    /// Takes out the names that the format refuses, so that nobody goes there.
    pub(super) fn take_refused(&mut self) -> Vec<Skipped> {
        let mut refused = Vec::new();
        let names = &self.names;
        self.items.retain(|item| {
            let name = &names[item.at as usize..item.at as usize + usize::from(item.len)];
            // What is refused begins with the dot, or with a code point that is dropped.
            if !matches!(name.first(), Some(b'.' | 0x80..)) {
                return true;
            }
            let Err(InvalidError(why)) = Name::new(name) else {
                return true;
            };
            if !item.ignored {
                let nested = name == STORE && item.kind == Kind::Directory;
                let why = if nested { SkipReason::NestedRepository } else { SkipReason::Refused(why) };
                refused.push(Skipped { name: name.to_vec(), why });
            }
            false
        });
        refused
    }
}
