//! What the system says about one name.

use filesync_merkle::{Mode, Timestamp};
use rustix::fs::FileType;

/// What kind of thing stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A directory.
    Directory,
    /// A FIFO, socket or device: not kept.
    Other,
}

impl Kind {
    pub(super) fn from_type(kind: FileType) -> Self {
        match kind {
            FileType::RegularFile => Self::File,
            FileType::Symlink => Self::Symlink,
            FileType::Directory => Self::Directory,
            _ => Self::Other,
        }
    }
}

/// What `stat` says. Two equal values mean "not written in between", but for the racily clean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stat {
    /// The kind.
    pub kind: Kind,
    /// All mode bits but the kind's: at most 07777.
    pub mode: u16,
    /// The device.
    pub dev: u64,
    /// The number of the inode.
    pub ino: u64,
    /// The length in bytes.
    pub size: u64,
    /// Blocks of 512 bytes in use: fewer than the size asks for if there are holes.
    pub blocks: u64,
    /// When the content was last written.
    pub mtime: Timestamp,
    /// When anything last changed.
    pub ctime: Timestamp,
}

impl Stat {
    /// What the format keeps of the mode.
    pub fn permissions(&self) -> Mode {
        match self.kind {
            Kind::Symlink => Mode::SYMLINK,
            _ => Mode::from_stat(u32::from(self.mode)),
        }
    }

    /// Whether fewer blocks are in use than the size asks for.
    pub fn may_have_holes(&self) -> bool {
        self.blocks.saturating_mul(512) < self.size
    }

    /// Whether nothing happened to it since another look. Reading moves nothing of what is compared.
    pub fn is_untouched_since(&self, before: &Self) -> bool {
        let times = before.mtime == self.mtime && before.ctime == self.ctime;
        times && before.size == self.size && before.mode == self.mode && before.ino == self.ino
    }

    /// Whether the file was not older than `stamp`, so that a later change need not show in its times.
    pub fn is_racy(&self, stamp: Timestamp) -> bool {
        self.mtime >= stamp || self.ctime >= stamp
    }
}

impl From<&rustix::fs::Stat> for Stat {
    // Types differ between architectures; none of these values is negative, and the mask leaves 12 bits.
    #[allow(clippy::cast_possible_truncation, clippy::unnecessary_cast, clippy::useless_conversion)]
    fn from(stat: &rustix::fs::Stat) -> Self {
        Self {
            kind: Kind::from_type(FileType::from_raw_mode(stat.st_mode)),
            mode: (stat.st_mode & 0o7777) as u16,
            dev: stat.st_dev as u64,
            ino: stat.st_ino as u64,
            size: stat.st_size as u64,
            blocks: stat.st_blocks as u64,
            mtime: timestamp(stat.st_mtime as i64, stat.st_mtime_nsec as u64),
            ctime: timestamp(stat.st_ctime as i64, stat.st_ctime_nsec as u64),
        }
    }
}

fn timestamp(secs: i64, nanos: u64) -> Timestamp {
    let nanos = u32::try_from(nanos).ok();
    // A file system that says more than a second of nanoseconds is taken to say none.
    nanos.and_then(|nanos| Timestamp::new(secs, nanos)).or(Timestamp::new(secs, 0)).unwrap_or_default()
}
