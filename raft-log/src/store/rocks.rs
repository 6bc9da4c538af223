//! RocksDB, opened with every check, and the count of what was acknowledged beside it ([`Guard`]).

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rocksdb::{
    BlockBasedOptions, DB, DBCompressionType, DBRecoveryMode, Direction, InfoLogger, IteratorMode, LogLevel, Options,
    WriteBatch, WriteOptions,
};

use super::disk::{Change, Changes, Disk, Pair};
use super::guard::Guard;
use crate::error::OpenError;

/// A database in a directory.
#[derive(Debug)]
pub struct Rocks {
    db: DB,
    guard: Mutex<Guard>,
    /// What the guard knew when it was opened.
    counted: Option<u64>,
}

impl Rocks {
    /// Makes one in an empty directory; durable when the directory is synced ([`sync_dir`]).
    pub fn create(dir: &Path) -> Result<Self, OpenError> {
        let io = |source| OpenError::Io { path: dir.to_owned(), source };
        let guard = Guard::create(&dir.join("acknowledged")).map_err(io)?;
        let mut options = options();
        options.create_if_missing(true);
        options.set_error_if_exists(true);
        let db = DB::open(&options, dir.join("db")).map_err(|error| open_error(dir, &error))?;
        Ok(Self { db, guard: Mutex::new(guard), counted: Some(0) })
    }

    /// Opens what was made there.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let (db_dir, guard_path) = (dir.join("db"), dir.join("acknowledged"));
        // A node that was made has all three; if one is gone, so may be what it promised.
        if !db_dir.join("CURRENT").exists() || !guard_path.exists() {
            return Err(OpenError::Missing(dir.to_owned()));
        }
        only_files(dir, &[&db_dir])?;
        let opened = Guard::open(&guard_path).map_err(|source| OpenError::Io { path: guard_path, source });
        let (guard, counted) = opened?;
        let db = DB::open(&options(), &db_dir).map_err(|error| open_error(dir, &error))?;
        Ok(Self { db, guard: Mutex::new(guard), counted })
    }
}

/// Whether what lies in a directory, if anything does, has promised anything to anybody: a vote, an entry.
pub fn has_promised(dir: &Path) -> std::io::Result<bool> {
    Guard::has_promised(&dir.join("acknowledged"))
}

impl Disk for Rocks {
    fn write(&self, changes: Changes, is_synced: bool) -> Result<(), String> {
        let mut batch = WriteBatch::default();
        for change in changes.0 {
            match change {
                Change::Put { key, value } => batch.put(key, value),
                Change::Delete { start, end } => batch.delete_range(start, end),
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(is_synced);
        self.db.write_opt(batch, &options).map_err(|error| error.to_string())
    }

    fn count(&self, number: u64, is_vote: bool) -> Result<(), String> {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = if is_vote { guard.vote(number) } else { guard.entry(number) };
        noted.map_err(|error| error.to_string())
    }

    fn counted(&self) -> Option<u64> {
        self.counted
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        self.db.get(key).map_err(|error| error.to_string())
    }

    fn pairs_from(&self, start: &[u8]) -> Box<dyn Iterator<Item = Result<Pair, String>> + '_> {
        let pairs = self.db.iterator(IteratorMode::From(start, Direction::Forward));
        Box::new(pairs.map(|pair| pair.map_err(|error| error.to_string())))
    }
}

impl Drop for Rocks {
    fn drop(&mut self) {
        // What is in memory is in the log on disk; written out it makes the next start faster.
        drop(self.db.flush());
        self.db.cancel_all_background_work(true);
    }
}

/// Makes the names in a directory durable.
pub fn sync_dir(dir: &Path) -> std::io::Result<()> {
    std::fs::File::open(dir).and_then(|dir| dir.sync_all())
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
