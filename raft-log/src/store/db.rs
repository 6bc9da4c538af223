//! The database: opening with every check, and the one way to write.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, DBRecoveryMode, InfoLogger, LogLevel, Options, WriteBatch, WriteOptions,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::guard::Guard;
use super::installs::Installs;
use super::place::Place;
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
    pub(super) db: DB,
    writer: Mutex<Writer>,
    /// How many times it was opened: makes nonces of different lives different.
    pub incarnation: u64,
    /// States of other nodes on their way to disk.
    pub installs: Installs,
}

#[derive(Debug)]
struct Writer {
    guard: Guard,
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
        let (db_dir, guard_path) = (dir.join("db"), dir.join("acknowledged"));
        if mode == Mode::Create {
            let mut entries = dir.read_dir().map_err(io(dir))?;
            if entries.next().is_some() {
                return Err(OpenError::Exists(dir.to_owned()));
            }
            return Self::create(dir, header, place);
        }
        // A node that was made has all three; if one is gone, so may be what it promised.
        if !db_dir.join("CURRENT").exists() || !guard_path.exists() {
            return Err(OpenError::Missing(dir.to_owned()));
        }
        only_files(dir, &[&db_dir])?;
        let (guard, acknowledged) = Guard::open(&guard_path).map_err(io(&guard_path))?;
        let db = DB::open(&options(), &db_dir).map_err(|error| open_error(dir, &error))?;
        Self::check(dir, db, guard, acknowledged, header, place, mode)
    }

    fn create(dir: &Path, header: Header, place: Place) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let guard = Guard::create(&dir.join("acknowledged")).map_err(io)?;
        let mut options = options();
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        let db = DB::open(&options, dir.join("db")).map_err(|error| open_error(dir, &error))?;
        let writer = Mutex::new(Writer { guard, number: 0, failed: None });
        let db = Self { db, writer, incarnation: 1, installs: Installs::default() };
        let mut batch = WriteBatch::default();
        batch.put(HEADER, encode(&header));
        batch.put(PLACE, encode(&place));
        batch.put(INCARNATION, encode(&1_u64));
        db.write(batch).map_err(|error| io(std::io::Error::other(error)))?;
        std::fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(io)?;
        Ok(db)
    }

    fn check(
        dir: &Path,
        db: DB,
        guard: Guard,
        acknowledged: Option<u64>,
        header: Header,
        place: Place,
        mode: Mode,
    ) -> Result<Self, OpenError> {
        let damaged = |cause: String| OpenError::Damaged { dir: dir.to_owned(), cause };
        let writer = Mutex::new(Writer { guard, number: 0, failed: None });
        let mut db = Self { db, writer, incarnation: 0, installs: Installs::default() };
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
        let acknowledged = acknowledged.ok_or_else(|| damaged("what was acknowledged cannot be told".to_owned()))?;
        if number < acknowledged {
            return Err(damaged(format!("write {acknowledged} was acknowledged, and {number} is the last there")));
        }
        let incarnation: u64 = db.get(INCARNATION).map_err(damaged)?.unwrap_or(0);
        db.incarnation = incarnation + 1;
        db.writer().number = number;
        let mut batch = WriteBatch::default();
        batch.put(INCARNATION, encode(&db.incarnation));
        batch.put(PLACE, encode(&place));
        let io = |cause: String| OpenError::Io { path: dir.to_owned(), source: std::io::Error::other(cause) };
        db.write(batch).map_err(io)?;
        Ok(db)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch; it is durable on return. After an error nothing is written any more.
    pub fn write(&self, batch: WriteBatch) -> Result<(), String> {
        self.write_counted(batch, |guard, number| guard.entry(number))
    }

    /// Writes a vote; it is durable on return, and its loss will be noticed.
    pub fn write_vote(&self, batch: WriteBatch) -> Result<(), String> {
        self.write_counted(batch, Guard::vote)
    }

    fn write_counted(
        &self,
        mut batch: WriteBatch,
        note: impl FnOnce(&mut Guard, u64) -> std::io::Result<()>,
    ) -> Result<(), String> {
        let mut writer = self.writer();
        if let Some(error) = &writer.failed {
            return Err(format!("stopped after an earlier error: {error}"));
        }
        let number = writer.number + 1;
        batch.put(NUMBER, encode(&number));
        let mut options = WriteOptions::default();
        options.set_sync(true);
        let written = self.db.write_opt(batch, &options).map_err(|error| error.to_string());
        let noted = written.and_then(|()| note(&mut writer.guard, number).map_err(|error| error.to_string()));
        match &noted {
            Ok(()) => writer.number = number,
            Err(error) => writer.failed = Some(error.clone()),
        }
        noted
    }

    /// Writes a note; it is durable on return.
    pub fn note(&self, note: Note, bytes: &[u8]) -> Result<(), String> {
        let mut batch = WriteBatch::default();
        batch.put([NOTE, note as u8], encode(&bytes));
        self.write(batch)
    }

    /// Reads a note.
    pub fn noted(&self, note: Note) -> Result<Option<Vec<u8>>, String> {
        self.get(&[NOTE, note as u8])
    }

    /// Writes what may be lost.
    pub fn write_unsynced(&self, batch: WriteBatch) -> Result<(), String> {
        self.db.write(batch).map_err(|error| error.to_string())
    }

    /// Reads one value.
    pub fn get<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, String> {
        let bytes = self.db.get_pinned(key).map_err(|error| error.to_string())?;
        bytes.map(|bytes| decode(&bytes)).transpose()
    }
}

impl Drop for Db {
    fn drop(&mut self) {
        // What is in memory is in the log on disk; written out it makes the next start faster.
        drop(self.db.flush());
        self.db.cancel_all_background_work(true);
    }
}

/// The database opens its files by path, and would follow a link to wherever that leads: there are none that it made.
fn only_files(dir: &Path, directories: &[&Path]) -> Result<(), OpenError> {
    let damaged = |path: &Path| {
        let cause = format!("{} is no file and no directory of its own", path.display());
        OpenError::Damaged { dir: dir.to_owned(), cause }
    };
    for parent in directories.iter().copied().chain([dir]) {
        let io = |source| OpenError::Io { path: parent.to_owned(), source };
        if !parent.symlink_metadata().map_err(io)?.is_dir() {
            return Err(damaged(parent));
        }
        for entry in parent.read_dir().map_err(io)? {
            let path = entry.map_err(io)?.path();
            let meta = path.symlink_metadata().map_err(|source| OpenError::Io { path: path.clone(), source })?;
            if !meta.is_file() && !directories.contains(&path.as_path()) {
                return Err(damaged(&path));
            }
        }
    }
    Ok(())
}

/// Small: what is in it is small. A torn end of the log is cut, since it was never acknowledged; the guard knows.
fn options() -> Options {
    let more = "manifest_preallocation_size=65536;track_and_verify_wals_in_manifest=true";
    let mut options = Options::default().get_options_from_string(more).unwrap_or_default();
    let mut table = BlockBasedOptions::default();
    table.set_block_size(16 << 10);
    table.set_format_version(5);
    options.set_block_based_table_factory(&table);
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options.set_paranoid_checks(true);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(8 << 20);
    options.set_max_write_buffer_number(2);
    options.set_max_total_wal_size(16 << 20);
    options.set_max_open_files(64);
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
    options
}

fn open_error(dir: &Path, error: &rocksdb::Error) -> OpenError {
    let dir: PathBuf = dir.to_owned();
    let text = error.to_string();
    let refused = ["No space left", "Read-only file system", "Permission denied", "Too many open files"];
    match error.kind() {
        _ if text.contains("lock hold by current process") || text.contains("While lock file") => OpenError::Busy(dir),
        rocksdb::ErrorKind::IOError if refused.iter().any(|words| text.contains(words)) => {
            OpenError::Io { path: dir, source: std::io::Error::other(text) }
        }
        _ => OpenError::Damaged { dir, cause: text },
    }
}
