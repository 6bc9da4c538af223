//! The index in RocksDB.
//!
//! One column family, so that what survives a crash is always a prefix of what was written: the known
//! length of a pack is never there without the objects before it. Keys begin with a byte of their own:
//! `o` objects, `p` packs, `r` rows of crates above.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, Direction, IteratorMode, Options, ReadOptions, WriteBatch,
};

use super::{Index, IndexUpdate, IndexedPack, Location, ObjectVisitor, PackNumber};
use crate::hash::{ContentHash, Kind};
use crate::pack::PackName;
use crate::rows::{RowError, RowVisitor, Rows};

const OBJECT: u8 = b'o';
const PACK: u8 = b'p';
const ROW: u8 = b'r';
/// Above this much log, opening would replay for longer than writing a table takes.
const LOG_MAX: u64 = 2 << 20;

/// The index in RocksDB.
pub struct RocksIndex {
    db: DB,
    dir: PathBuf,
    /// Scratch directory of a secondary instance, removed with it.
    scratch: Option<PathBuf>,
    writable: bool,
}

/// How to open it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RocksMode {
    /// Made new, in a directory that does not exist.
    Create,
    /// One process writes.
    Write,
    /// Beside a writer.
    Read,
}

impl RocksIndex {
    /// Opens the index in `dir`. Never creates one except in [`RocksMode::Create`].
    pub fn open(dir: &Path, mode: RocksMode) -> Result<Self, RowError> {
        let mut options = options();
        match mode {
            RocksMode::Create | RocksMode::Write => {
                options.create_if_missing(mode == RocksMode::Create);
                options.set_error_if_exists(mode == RocksMode::Create);
                let db = DB::open(&options, dir).map_err(row_error)?;
                Ok(Self { db, dir: dir.to_owned(), scratch: None, writable: true })
            }
            RocksMode::Read => Self::open_reader(options, dir),
        }
    }

    /// A secondary instance sees a consistent state beside a writer, and needs a directory of its own for
    /// its log. Where there is no place for one, or it fails, a read-only instance is the next best.
    fn open_reader(mut options: Options, dir: &Path) -> Result<Self, RowError> {
        options.set_max_open_files(-1);
        if let Some(scratch) = scratch_dir() {
            match DB::open_as_secondary(&options, dir, &scratch) {
                Ok(db) => return Ok(Self { db, dir: dir.to_owned(), scratch: Some(scratch), writable: false }),
                Err(_) => drop(std::fs::remove_dir_all(&scratch)),
            }
        }
        let db = DB::open_for_read_only(&options, dir, false).map_err(row_error)?;
        Ok(Self { db, dir: dir.to_owned(), scratch: None, writable: false })
    }

    fn log_len(&self) -> u64 {
        let Ok(files) = std::fs::read_dir(&self.dir) else { return 0 };
        let logs = files.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "log"));
        logs.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum()
    }
}

impl std::fmt::Debug for RocksIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksIndex").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Drop for RocksIndex {
    fn drop(&mut self) {
        self.db.cancel_all_background_work(true);
        if let Some(scratch) = &self.scratch {
            drop(std::fs::remove_dir_all(scratch));
        }
    }
}

/// Small enough for the memory that is promised: 32 MiB of cache, two write buffers of 8 MiB, few files.
fn options() -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_bloom_filter(10.0, false);
    table.set_block_cache(&Cache::new_lru_cache(32 << 20));
    table.set_block_size(8 << 10);
    table.set_format_version(5);
    let mut options = Options::default();
    options.set_block_based_table_factory(&table);
    options.set_compression_type(DBCompressionType::None);
    options.set_write_buffer_size(8 << 20);
    options.set_max_write_buffer_number(2);
    options.set_max_open_files(24);
    options.set_max_file_opening_threads(1);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(1);
    options.set_max_log_file_size(1 << 20);
    options.set_stats_dump_period_sec(0);
    options.set_stats_persist_period_sec(0);
    options.set_avoid_unnecessary_blocking_io(true);
    options.set_log_level(rocksdb::LogLevel::Fatal);
    options
}

fn scratch_dir() -> Option<PathBuf> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).ok()?;
    let dir = std::env::temp_dir().join(format!("filesync-{}", crate::hash::hex(&random)));
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&dir).ok()?;
    Some(dir)
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn row_error(error: rocksdb::Error) -> RowError {
    RowError(error.to_string())
}

fn key(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + rest.len());
    key.push(prefix);
    key.extend_from_slice(rest);
    key
}

fn encode_location(location: &Location) -> [u8; 15] {
    let mut bytes = [0; 15];
    bytes[..4].copy_from_slice(&location.pack.0.to_le_bytes());
    bytes[4..8].copy_from_slice(&location.offset.to_le_bytes());
    bytes[8..10].copy_from_slice(&location.slot.to_le_bytes());
    bytes[10] = location.kind.0;
    bytes[11..].copy_from_slice(&location.len.to_le_bytes());
    bytes
}

fn decode_location(bytes: &[u8]) -> Result<Location, RowError> {
    let bytes: &[u8; 15] = bytes.try_into().map_err(|_| malformed())?;
    let word = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    Ok(Location {
        pack: PackNumber(word(0)),
        offset: word(4),
        slot: u16::from_le_bytes([bytes[8], bytes[9]]),
        kind: Kind(bytes[10]),
        len: word(11),
    })
}

fn malformed() -> RowError {
    RowError("a malformed row".to_owned())
}

impl RocksIndex {
    /// Visits all keys with `prefix` from `from` on.
    fn each(&self, prefix: u8, from: &[u8], to: Option<&[u8]>, visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        let mut read = ReadOptions::default();
        let upper = match to {
            Some(to) => key(prefix, to),
            None => vec![prefix + 1],
        };
        read.set_iterate_upper_bound(upper);
        let from = key(prefix, from);
        for row in self.db.iterator_opt(IteratorMode::From(&from, Direction::Forward), read) {
            let (key, value) = row.map_err(row_error)?;
            if visit(&key[1..], &value).is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl Rows for RocksIndex {
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.db.get(key(ROW, row)).map_err(row_error)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        if from >= to {
            return Ok(());
        }
        self.each(ROW, from, Some(to), visit)
    }
}

impl Index for RocksIndex {
    fn lookup(&self, id: &ContentHash) -> Result<Option<Location>, RowError> {
        let found = self.db.get_pinned(key(OBJECT, id.as_bytes())).map_err(row_error)?;
        found.map(|bytes| decode_location(&bytes)).transpose()
    }

    fn objects(&self, from: &ContentHash, to: &ContentHash, visit: &mut ObjectVisitor<'_>) -> Result<(), RowError> {
        let mut failed = None;
        self.each(OBJECT, from.as_bytes(), None, &mut |key, value| {
            let row = <[u8; 32]>::try_from(key).map_err(|_| malformed());
            match row.and_then(|id| Ok((ContentHash::from_bytes(id), decode_location(value)?))) {
                Ok((id, _)) if id > *to => ControlFlow::Break(()),
                Ok((id, location)) => visit(id, location),
                Err(error) => {
                    failed = Some(error);
                    ControlFlow::Break(())
                }
            }
        })?;
        failed.map_or(Ok(()), Err)
    }

    fn packs(&self) -> Result<Vec<IndexedPack>, RowError> {
        let mut packs = Vec::new();
        let mut bad = false;
        self.each(PACK, &[], None, &mut |key, value| {
            match (<[u8; 16]>::try_from(key), <[u8; 12]>::try_from(value)) {
                (Ok(name), Ok(value)) => packs.push(IndexedPack {
                    name: PackName::from_bytes(name),
                    number: PackNumber(u32::from_le_bytes([value[0], value[1], value[2], value[3]])),
                    len: value[4..].iter().rev().fold(0, |len, byte| len << 8 | u64::from(*byte)),
                }),
                _ => bad = true,
            }
            ControlFlow::Continue(())
        })?;
        if bad { Err(malformed()) } else { Ok(packs) }
    }

    fn apply(&self, update: IndexUpdate) -> Result<(), RowError> {
        if !self.writable {
            return Err(RowError("open for reading only".to_owned()));
        }
        let mut batch = WriteBatch::default();
        for (id, location) in &update.objects {
            batch.put(key(OBJECT, id.as_bytes()), encode_location(location));
        }
        for pack in &update.packs {
            let mut value = pack.number.0.to_le_bytes().to_vec();
            value.extend_from_slice(&pack.len.to_le_bytes());
            batch.put(key(PACK, pack.name.as_bytes()), value);
        }
        for (row, value) in &update.rows.0 {
            match value {
                Some(value) => batch.put(key(ROW, row), value),
                None => batch.delete(key(ROW, row)),
            }
        }
        self.db.write(batch).map_err(row_error)
    }

    fn settle(&self) -> Result<(), RowError> {
        if self.writable && self.log_len() > LOG_MAX { self.db.flush().map_err(row_error) } else { Ok(()) }
    }
}
