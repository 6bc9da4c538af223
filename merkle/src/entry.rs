//! What a directory says about one name.
//!
//! `docs/format.md`, section 1.4, rules the bytes. An entry read by a decoder is valid; one built by hand is checked
//! by [`Entry::check`] when it enters a tree.

use std::ops::AddAssign;
use std::sync::LazyLock;

use crate::codec::{Reader, Writer};
use crate::error::{DecodeError, InvalidError};
use crate::id::{AttrsId, ChunkId, ListId, TreeId};
use crate::path::Name;

/// Nodes of one directory or list are stacked at most this high.
pub const HEIGHT_MAX: u8 = 10;
/// The longest chunk.
pub const CHUNK_LEN_MAX: u64 = 1 << 20;
/// The shortest chunk of any repository, but for the last of a file: who could send others would have every file cost as many objects as
/// it has bytes.
pub const CHUNK_LEN_MIN: u64 = 1 << 10;
/// The longest target of a symlink.
pub const TARGET_LEN_MAX: usize = 4095;

/// A point in time. `nanos` is below 10^9.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp {
    secs: i64,
    nanos: u32,
}

impl Timestamp {
    /// Seconds since 1970 (before it: negative) and nanoseconds since that second; `None` from 10^9 on.
    pub const fn new(secs: i64, nanos: u32) -> Option<Self> {
        if nanos < 1_000_000_000 { Some(Self { secs, nanos }) } else { None }
    }

    /// Seconds since 1970.
    pub const fn secs(self) -> i64 {
        self.secs
    }

    /// Nanoseconds since that second.
    pub const fn nanos(self) -> u32 {
        self.nanos
    }

    pub(crate) fn encode(self, out: &mut Writer) {
        out.i64(self.secs);
        out.u32(self.nanos);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (secs, nanos) = (from.i64()?, from.u32()?);
        Self::new(secs, nanos).map_or_else(|| from.fail("nanoseconds out of range"), Ok)
    }
}

/// Permission bits, at most 0777.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mode(u16);

impl Mode {
    /// 0644.
    pub const FILE: Mode = Mode(0o644);
    /// 0755.
    pub const DIRECTORY: Mode = Mode(0o755);
    /// 0755.
    pub const EXECUTABLE: Mode = Mode(0o755);
    /// 0: symlinks have no mode.
    pub const SYMLINK: Mode = Mode(0);

    /// `None` if there are other bits than 0777.
    pub const fn new(bits: u16) -> Option<Self> {
        if bits <= 0o777 { Some(Self(bits)) } else { None }
    }

    /// Keeps the permission bits of what `stat` says.
    pub const fn from_stat(mode: u32) -> Self {
        // The mask leaves nine bits.
        #[allow(clippy::cast_possible_truncation)]
        Self((mode & 0o777) as u16)
    }

    /// The bits.
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Whether the owner may execute.
    pub const fn is_executable(self) -> bool {
        self.0 & 0o100 != 0
    }
}

/// What lies below a directory or a link, counted recursively.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Totals {
    /// Everything that is not a directory.
    pub files: u64,
    /// Directories, without the one that is counted.
    pub directories: u64,
    /// Sizes of files.
    pub bytes: u64,
}

impl Totals {
    /// The sum; `None` if it overflows.
    pub fn checked_add(self, other: Self) -> Option<Self> {
        Some(Self {
            files: self.files.checked_add(other.files)?,
            directories: self.directories.checked_add(other.directories)?,
            bytes: self.bytes.checked_add(other.bytes)?,
        })
    }

    pub(crate) fn encode(self, out: &mut Writer) {
        out.u64(self.files);
        out.u64(self.directories);
        out.u64(self.bytes);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self { files: from.u64()?, directories: from.u64()?, bytes: from.u64()? })
    }
}

/// Saturating, for display only; trees are summed with [`Totals::checked_add`].
impl AddAssign for Totals {
    fn add_assign(&mut self, other: Self) {
        self.files = self.files.saturating_add(other.files);
        self.directories = self.directories.saturating_add(other.directories);
        self.bytes = self.bytes.saturating_add(other.bytes);
    }
}

/// How to reach a directory: its root node, that node's level, and what lies below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TreeLink {
    /// The root node.
    pub id: TreeId,
    /// Its level.
    pub height: u8,
    /// Sums of the whole directory.
    pub totals: Totals,
}

impl TreeLink {
    /// The empty directory. Its node must still be put; [`crate::TreeEditor`] does.
    pub fn empty() -> Self {
        static EMPTY: LazyLock<TreeId> = LazyLock::new(|| {
            TreeId(crate::schema::identify(TreeId::KIND, &crate::tree::TreeNode::Leaf(Vec::new()).encode()))
        });
        Self { id: *EMPTY, height: 0, totals: Totals::default() }
    }

    pub(crate) fn encode(self, out: &mut Writer) {
        out.bytes(self.id.as_bytes());
        out.u8(self.height);
        self.totals.encode(out);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = TreeId::from_bytes(from.array()?);
        let height = from.u8()?;
        from.check(height <= HEIGHT_MAX, "a height above 10")?;
        Ok(Self { id, height, totals: Totals::decode(from)? })
    }
}

/// Where the bytes of a file are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Content {
    /// There are none.
    Empty,
    /// All of them in one chunk.
    Chunk(ChunkId),
    /// In two chunks or more.
    List {
        /// The list's root node.
        root: ListId,
        /// Its level.
        height: u8,
    },
}

/// What stands under a name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Node {
    /// A regular file; executable if the mode says so.
    File {
        /// When it was last written.
        mtime: Timestamp,
        /// Its length in bytes.
        size: u64,
        /// Its bytes.
        content: Content,
    },
    /// A symbolic link.
    Symlink {
        /// When it was made.
        mtime: Timestamp,
        /// Where it points, as it is stored: 1 to 4095 bytes without NUL.
        target: Box<[u8]>,
    },
    /// A directory.
    Directory(TreeLink),
}

/// What a directory says about one name.
///
/// `==` compares everything, mtime too; [`Entry::same`] is the equality of the format.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Entry {
    /// Permission bits; 0 for symlinks.
    pub mode: Mode,
    /// Extended attributes, if there are any.
    pub attrs: Option<AttrsId>,
    /// What it is.
    pub node: Node,
}

const FILE: u8 = 1;
const EXECUTABLE: u8 = 2;
const SYMLINK: u8 = 3;
const DIRECTORY: u8 = 4;
const HAS_ATTRS: u8 = 1;

impl Entry {
    /// A directory.
    pub fn directory(mode: Mode, link: TreeLink) -> Self {
        Self { mode, attrs: None, node: Node::Directory(link) }
    }

    /// Whether kind, mode, content, target, attributes and, for directories, the root agree: all but the mtime.
    pub fn same(&self, other: &Self) -> bool {
        self.mode == other.mode && self.attrs == other.attrs && self.has_content_of(other)
    }

    /// Whether it has the bytes, the target, or what is below of another, whatever mode and attributes are.
    pub fn has_content_of(&self, other: &Self) -> bool {
        match (&self.node, &other.node) {
            (Node::File { size: a, content: x, .. }, Node::File { size: b, content: y, .. }) => a == b && x == y,
            (Node::Symlink { target: a, .. }, Node::Symlink { target: b, .. }) => a == b,
            (Node::Directory(a), Node::Directory(b)) => a.id == b.id,
            _ => false,
        }
    }

    /// The directory, if it is one.
    pub fn as_directory(&self) -> Option<&TreeLink> {
        match &self.node {
            Node::Directory(link) => Some(link),
            _ => None,
        }
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        self.as_directory().is_some()
    }

    /// When it was last written; directories do not say.
    pub fn mtime(&self) -> Option<Timestamp> {
        match &self.node {
            Node::File { mtime, .. } | Node::Symlink { mtime, .. } => Some(*mtime),
            Node::Directory(_) => None,
        }
    }

    /// The same with another mtime; directories stay as they are.
    #[must_use]
    pub fn with_mtime(mut self, time: Timestamp) -> Self {
        match &mut self.node {
            Node::File { mtime, .. } | Node::Symlink { mtime, .. } => *mtime = time,
            Node::Directory(_) => {}
        }
        self
    }

    /// What it adds to the totals of its directory; `None` if that overflows.
    pub fn totals(&self) -> Option<Totals> {
        match &self.node {
            Node::File { size, .. } => Some(Totals { files: 1, directories: 0, bytes: *size }),
            Node::Symlink { .. } => Some(Totals { files: 1, ..Totals::default() }),
            Node::Directory(link) => link.totals.checked_add(Totals { directories: 1, ..Totals::default() }),
        }
    }

    /// How journals name it (format, section 3.1): mtime and name do not count. Journals write directories as `d`.
    pub fn journal_id(&self) -> [u8; 16] {
        static HASHER: LazyLock<blake3::Hasher> =
            LazyLock::new(|| blake3::Hasher::new_derive_key("filesync journal v1"));
        let mut out = Writer::with_capacity(128);
        self.clone().with_mtime(Timestamp::default()).encode_with(&[], &mut out);
        let mut id = [0; 16];
        id.copy_from_slice(&HASHER.clone().update(&out.finish()).finalize().as_bytes()[..16]);
        id
    }

    /// Says why the format has no encoding for this value.
    pub fn check(&self) -> Result<(), InvalidError> {
        let good = match &self.node {
            Node::File { size, content, .. } => match content {
                Content::Empty => *size == 0,
                Content::Chunk(_) => (1..=CHUNK_LEN_MAX).contains(size),
                Content::List { height, .. } => *size >= 2 && *height <= HEIGHT_MAX,
            },
            Node::Symlink { target, .. } => {
                if self.mode != Mode::SYMLINK {
                    return Err(InvalidError("a symlink has a mode"));
                }
                if target.is_empty() || target.len() > TARGET_LEN_MAX || target.contains(&0) {
                    return Err(InvalidError("a symlink's target has 1 to 4095 bytes without NUL"));
                }
                true
            }
            Node::Directory(link) => link.height <= HEIGHT_MAX,
        };
        if good { Ok(()) } else { Err(InvalidError("size, content and height do not agree")) }
    }

    fn kind(&self) -> u8 {
        match &self.node {
            Node::File { .. } if self.mode.is_executable() => EXECUTABLE,
            Node::File { .. } => FILE,
            Node::Symlink { .. } => SYMLINK,
            Node::Directory(_) => DIRECTORY,
        }
    }

    /// The length of what [`Entry::encode`] writes.
    pub(crate) fn encoded_len(&self, name: &Name) -> usize {
        let by_kind = match &self.node {
            Node::File { content: Content::Empty, .. } => 21,
            Node::File { content: Content::Chunk(_), .. } => 53,
            Node::File { content: Content::List { .. }, .. } => 54,
            Node::Symlink { target, .. } => 14 + target.len(),
            Node::Directory(_) => 57,
        };
        6 + name.as_bytes().len() + by_kind + if self.attrs.is_some() { 32 } else { 0 }
    }

    pub(crate) fn encode(&self, name: &Name, out: &mut Writer) {
        self.encode_with(name.as_bytes(), out);
    }

    fn encode_with(&self, name: &[u8], out: &mut Writer) {
        out.len_u16(name.len());
        out.bytes(name);
        out.u8(self.kind());
        out.u8(if self.attrs.is_some() { HAS_ATTRS } else { 0 });
        out.u16(self.mode.bits());
        match &self.node {
            Node::File { mtime, size, content } => {
                mtime.encode(out);
                out.u64(*size);
                match content {
                    Content::Empty => out.u8(0),
                    Content::Chunk(id) => {
                        out.u8(1);
                        out.bytes(id.as_bytes());
                    }
                    Content::List { root, height } => {
                        out.u8(2);
                        out.bytes(root.as_bytes());
                        out.u8(*height);
                    }
                }
            }
            Node::Symlink { mtime, target } => {
                mtime.encode(out);
                out.len_u16(target.len());
                out.bytes(target);
            }
            Node::Directory(link) => link.encode(out),
        }
        if let Some(attrs) = &self.attrs {
            out.bytes(attrs.as_bytes());
        }
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<(Name, Self), DecodeError> {
        let name = decode_name(from)?;
        let (kind, flags, bits) = (from.u8()?, from.u8()?, from.u16()?);
        from.check(flags & !HAS_ATTRS == 0, "unknown flags")?;
        let Some(mode) = Mode::new(bits) else {
            return from.fail("a mode above 0777");
        };
        let node = match kind {
            FILE | EXECUTABLE => {
                let mtime = Timestamp::decode(from)?;
                let size = from.u64()?;
                let content = match from.u8()? {
                    0 => Content::Empty,
                    1 => Content::Chunk(ChunkId::from_bytes(from.array()?)),
                    2 => Content::List { root: ListId::from_bytes(from.array()?), height: from.u8()? },
                    _ => return from.fail("unknown content"),
                };
                Node::File { mtime, size, content }
            }
            SYMLINK => {
                let mtime = Timestamp::decode(from)?;
                let len = from.bounded_u16(TARGET_LEN_MAX, "a symlink's target is too long")?;
                Node::Symlink { mtime, target: from.take(len)?.into() }
            }
            DIRECTORY => Node::Directory(TreeLink::decode(from)?),
            _ => return from.fail("unknown kind of entry"),
        };
        let attrs = match flags {
            0 => None,
            _ => Some(AttrsId::from_bytes(from.array()?)),
        };
        let entry = Self { mode, attrs, node };
        from.check(entry.kind() == kind, "kind and owner-execute bit do not agree")?;
        if let Err(InvalidError(what)) = entry.check() {
            return from.fail(what);
        }
        Ok((name, entry))
    }
}

pub(crate) fn decode_name(from: &mut Reader<'_>) -> Result<Name, DecodeError> {
    let len = usize::from(from.u16()?);
    let bytes = from.take(len)?;
    match Name::new(bytes) {
        Ok(name) if name.is_temporary() => from.fail("a name is that of a temporary file"),
        Ok(name) => Ok(name),
        Err(InvalidError(what)) => from.fail(what),
    }
}
