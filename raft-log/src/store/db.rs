//! The database: whose it is and where it lies, and the one way to write.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::disk::{Changes, Disk};
use super::installs::Installs;
use super::place::Place;
use super::rocks::{self, Rocks};
use crate::error::OpenError;
use crate::ids::{NodeId, RepositoryId};
use crate::types::{decode, encode};

/// Keys of which there is one. Entries are `l` and their index.
pub(super) const HEADER: &[u8] = b"h";
pub(super) const PLACE: &[u8] = b"d";
pub(super) const NUMBER: &[u8] = b"n";
pub(super) const INCARNATION: &[u8] = b"i";
pub(super) const VOTE: &[u8] = b"v";
pub(super) const PURGED: &[u8] = b"p";
pub(super) const COMMITTED: &[u8] = b"c";
pub(super) const CHECKPOINT: &[u8] = b"s";
/// Before the letter of a note.
const NOTE: u8 = b'o';

/// Whose it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// Of which repository.
    pub repository: RepositoryId,
    /// Of which node.
    pub node: NodeId,
}

/// How to open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Made new, in an empty directory that the caller has made and synced: only for a node that never was.
    ///
    /// Once it is open the caller notes durably that it was made, and only then passes messages or founds anything. What is
    /// found there without that note was broken off: it may be removed and made again. With the note, only `Open` is
    /// right, and [`OpenError::Missing`] means that a memory is lost.
    Create,
    /// As it was left.
    Open,
    /// Somebody says that the directory was moved, and the original is gone.
    Moved,
}

/// What the owner of the data notes beside the log, so that a loss of data shows as long as the log is there. The bytes are
/// its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Note {
    /// What is on disk and will not grow, before a receipt for it leaves: less than that later is a deficiency.
    Packs,
    /// As `Packs`, of what grows.
    Growing,
}

/// The database.
#[derive(Debug)]
pub struct Db {
    pub(super) disk: Box<dyn Disk>,
    writer: Mutex<Writer>,
    /// How many times it was opened: makes nonces of different lives different.
    pub incarnation: u64,
    /// States of other nodes on their way to disk.
    pub installs: Installs,
}

#[derive(Debug)]
struct Writer {
    number: u64,
    /// The first write that failed: what is on disk is not known since.
    failed: Option<String>,
}

impl Db {
    /// Opens the state of `header`'s node in `dir`.
    pub fn open(dir: &Path, header: Header, mode: Mode) -> Result<Self, OpenError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Io { path, source }
        };
        let place = match Place::of(dir) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(OpenError::Missing(dir.to_owned()));
            }
            place => place.map_err(io(dir))?,
        };
        if mode == Mode::Create {
            let mut entries = dir.read_dir().map_err(io(dir))?;
            if entries.next().is_some() {
                return Err(OpenError::Exists(dir.to_owned()));
            }
            let db = Self::create(dir, Box::new(Rocks::create(dir)?), header, place)?;
            rocks::sync_dir(dir).map_err(io(dir))?;
            return Ok(db);
        }
        Self::check(dir, Box::new(Rocks::open(dir)?), header, place, mode)
    }

    /// Opens what is on a disk that is simulated, in a place that is always the same.
    pub fn simulated(disk: Box<dyn Disk>, header: Header, mode: Mode) -> Result<Self, OpenError> {
        let (dir, place) = (Path::new("simulated"), Place::default());
        match mode {
            Mode::Create => Self::create(dir, disk, header, place),
            Mode::Open | Mode::Moved => Self::check(dir, disk, header, place, mode),
        }
    }

    fn create(dir: &Path, disk: Box<dyn Disk>, header: Header, place: Place) -> Result<Self, OpenError> {
        let writer = Mutex::new(Writer { number: 0, failed: None });
        let db = Self { disk, writer, incarnation: 1, installs: Installs::default() };
        let mut changes = Changes::default();
        changes.put(HEADER, encode(&header));
        changes.put(PLACE, encode(&place));
        changes.put(INCARNATION, encode(&1_u64));
        let io = |cause: String| OpenError::Io { path: dir.to_owned(), source: std::io::Error::other(cause) };
        db.write(changes).map_err(io)?;
        Ok(db)
    }

    fn check(dir: &Path, disk: Box<dyn Disk>, header: Header, place: Place, mode: Mode) -> Result<Self, OpenError> {
        let damaged = |cause: String| OpenError::Damaged { dir: dir.to_owned(), cause };
        let writer = Mutex::new(Writer { number: 0, failed: None });
        let mut db = Self { disk, writer, incarnation: 0, installs: Installs::default() };
        let found: Option<Header> = db.get(HEADER).map_err(damaged)?;
        let found = found.ok_or_else(|| damaged("it does not say whose it is".to_owned()))?;
        if found != header {
            let found = format!("node {} of repository {}", found.node, found.repository);
            return Err(OpenError::Foreign { dir: dir.to_owned(), found });
        }
        let was: Option<Place> = db.get(PLACE).map_err(damaged)?;
        if was != Some(place) && mode != Mode::Moved {
            return Err(OpenError::Moved(dir.to_owned()));
        }
        let number: u64 = db.get(NUMBER).map_err(damaged)?.unwrap_or(0);
        let acknowledged =
            db.disk.counted().ok_or_else(|| damaged("what was acknowledged cannot be told".to_owned()))?;
        if number < acknowledged {
            return Err(damaged(format!("write {acknowledged} was acknowledged, and {number} is the last there")));
        }
        let incarnation: u64 = db.get(INCARNATION).map_err(damaged)?.unwrap_or(0);
        db.incarnation = incarnation + 1;
        db.writer().number = number;
        let mut changes = Changes::default();
        changes.put(INCARNATION, encode(&db.incarnation));
        changes.put(PLACE, encode(&place));
        let io = |cause: String| OpenError::Io { path: dir.to_owned(), source: std::io::Error::other(cause) };
        db.write(changes).map_err(io)?;
        Ok(db)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes changes; they are durable on return. After an error nothing is written any more.
    pub fn write(&self, changes: Changes) -> Result<(), String> {
        self.write_counted(changes, false)
    }

    /// Writes a vote; it is durable on return, and its loss will be noticed.
    pub fn write_vote(&self, changes: Changes) -> Result<(), String> {
        self.write_counted(changes, true)
    }

    fn write_counted(&self, mut changes: Changes, is_vote: bool) -> Result<(), String> {
        let mut writer = self.writer();
        if let Some(error) = &writer.failed {
            return Err(format!("stopped after an earlier error: {error}"));
        }
        let number = writer.number + 1;
        changes.put(NUMBER, encode(&number));
        let written = self.disk.write(changes, true).and_then(|()| self.disk.count(number, is_vote));
        match &written {
            Ok(()) => writer.number = number,
            Err(error) => writer.failed = Some(error.clone()),
        }
        written
    }

    /// Writes a note; it is durable on return.
    pub fn note(&self, note: Note, bytes: &[u8]) -> Result<(), String> {
        let mut changes = Changes::default();
        changes.put([NOTE, note as u8], encode(&bytes));
        self.write(changes)
    }

    /// Reads a note.
    pub fn noted(&self, note: Note) -> Result<Option<Vec<u8>>, String> {
        self.get(&[NOTE, note as u8])
    }

    /// Writes what may be lost.
    pub fn write_unsynced(&self, changes: Changes) -> Result<(), String> {
        self.disk.write(changes, false)
    }

    /// Reads one value.
    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, String> {
        self.disk.get(key)?.map(|bytes| decode(&bytes)).transpose()
    }
}
