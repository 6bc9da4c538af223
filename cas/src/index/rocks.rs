//! The index in RocksDB.
//!
//! One column family, so that what survives a crash is always a prefix of what was written: the known
//! length of a pack is never there without the objects before it. Keys begin with a byte of their own:
//! `o` objects, `p` packs, `r` rows of crates above.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompactionStyle, DBCompressionType, Direction, ErrorKind, InfoLogger, IteratorMode,
    LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};

use super::{Index, IndexUpdate, IndexedPack, Location, ObjectVisitor, PackNumber};
use crate::hash::{ContentHash, Kind};
use crate::pack::{Class, PackName};
use crate::rows::{RowError, RowVisitor, Rows};

const OBJECT: u8 = b'o';
const PACK: u8 = b'p';
const ROW: u8 = b'r';
/// Keys of which there is one: the generation of `HEAD`, damage that was given up, and the number after the last that
/// a dropped pack had.
const GENERATION: &[u8] = b"h";
const GIVEN_UP: &[u8] = b"g";
const NEXT_NUMBER: &[u8] = b"n";
/// Above this much log, or this many logs, opening would replay for longer than writing a table takes.
const LOG_LEN_MAX: u64 = 2 << 20;
const LOGS_MAX: usize = 12;
/// What setters do not reach. A log that was replayed at open is left alone: most commands write a few rows, and
/// a table for each of them would cost more syncs than all else that they do.
const MORE_OPTIONS: &str = "avoid_flush_during_recovery=true;manifest_preallocation_size=65536";

/// The index in RocksDB.
///
/// Opening for writing takes several syncs, so it waits until something is to be written: until then a writer reads
/// as a reader does.
pub struct RocksIndex {
    dir: PathBuf,
    writable: bool,
    cache: Cache,
    /// As it was at open.
    before: Option<DB>,
    /// All objects of `before`, where it was worth it.
    loaded: OnceLock<HashMap<ContentHash, Location>>,
    /// Once something was to be written.
    now: OnceLock<DB>,
    opening: Mutex<()>,
    /// Being filled: no log, and a table at the end.
    filling: AtomicBool,
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
    ///
    /// A reader writes nothing, not even a log.
    pub fn open(dir: &Path, mode: RocksMode) -> Result<Self, RowError> {
        let cache = Cache::new_lru_cache(CACHE_LEN);
        let writable = mode != RocksMode::Read;
        let create = mode == RocksMode::Create;
        let mut index = Self {
            dir: dir.to_owned(),
            writable,
            cache,
            before: None,
            loaded: OnceLock::new(),
            now: OnceLock::new(),
            opening: Mutex::default(),
            filling: AtomicBool::new(create),
        };
        if create {
            let mut options = index.options();
            options.create_if_missing(true);
            options.set_error_if_exists(true);
            let db = DB::open(&options, dir).map_err(row_error)?;
            drop(index.now.set(db));
        } else {
            index.before = Some(index.open_before()?);
        }
        Ok(index)
    }

    /// A secondary instance sees a consistent state beside a writer. It keeps all tables open, since the writer
    /// may remove them; where there are too many for that, a read-only instance is the next best.
    fn open_before(&self) -> Result<DB, RowError> {
        let mut options = self.options();
        options.set_max_open_files(-1);
        // The second path is where it would keep a log of its own: it is told elsewhere not to.
        match DB::open_as_secondary(&options, &self.dir, &self.dir) {
            Err(error) if !row_error(error.clone()).is_damage() => {
                options.set_max_open_files(OPEN_FILES_MAX);
                DB::open_for_read_only(&options, &self.dir, false).map_err(|_| row_error(error))
            }
            opened => opened.map_err(row_error),
        }
    }

    /// Small enough for the memory that is promised: 32 MiB of cache, two write buffers of 8 MiB, few files.
    fn options(&self) -> Options {
        let mut table = BlockBasedOptions::default();
        table.set_bloom_filter(10.0, false);
        table.set_block_cache(&self.cache);
        table.set_block_size(8 << 10);
        table.set_format_version(5);
        let mut options = Options::default().get_options_from_string(MORE_OPTIONS).unwrap_or_default();
        options.set_block_based_table_factory(&table);
        options.set_compression_type(DBCompressionType::None);
        options.set_write_buffer_size(8 << 20);
        options.set_max_write_buffer_number(2);
        // Keys come in no order: merging small tables with small ones costs a small commit little.
        options.set_compaction_style(DBCompactionStyle::Universal);
        options.set_level_zero_file_num_compaction_trigger(6);
        options.set_level_zero_slowdown_writes_trigger(40);
        options.set_level_zero_stop_writes_trigger(60);
        options.set_max_open_files(OPEN_FILES_MAX);
        options.set_max_file_opening_threads(1);
        options.set_max_background_jobs(2);
        // Also bounds what is allocated for a log in advance.
        options.set_max_total_wal_size(1 << 20);
        options.set_skip_stats_update_on_db_open(true);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_avoid_unnecessary_blocking_io(true);
        options.set_info_logger(InfoLogger::new_callback_logger(LogLevel::Fatal, |_, _| {}));
        options
    }

    fn db(&self) -> &DB {
        self.now.get().or(self.before.as_ref()).expect("opened one way or the other")
    }

    fn db_to_write(&self) -> Result<&DB, RowError> {
        if !self.writable {
            return Err(RowError::refused("open for reading only"));
        }
        let _one_at_a_time = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(db) = self.now.get() {
            return Ok(db);
        }
        let db = DB::open(&self.options(), &self.dir).map_err(row_error)?;
        // What was read so far and what is written from now on must be one thing.
        if let Some(before) = &self.before
            && (packs_of(before)? != packs_of(&db)? || generation_of(before)? != generation_of(&db)?)
        {
            return Err(RowError::damaged("it does not read the same twice"));
        }
        Ok(self.now.get_or_init(|| db))
    }

    /// Number and length of the logs.
    fn logs(&self) -> (usize, u64) {
        let Ok(files) = std::fs::read_dir(&self.dir) else { return (0, 0) };
        let logs = files.flatten().filter(|file| file.path().extension().is_some_and(|e| e == "log"));
        logs.filter_map(|file| file.metadata().ok()).fold((0, 0), |(n, len), meta| (n + 1, len + meta.len()))
    }
}

impl std::fmt::Debug for RocksIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RocksIndex").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Drop for RocksIndex {
    fn drop(&mut self) {
        if let Some(db) = self.now.get() {
            db.cancel_all_background_work(true);
        }
    }
}

/// The most objects that are held in memory at once, of about 60 bytes each in a table that may be half empty.
const LOADED_MAX: u64 = 1 << 19;
const CACHE_LEN: usize = 32 << 20;
/// The least that RocksDB accepts. A process may have 64 descriptors in all.
const OPEN_FILES_MAX: i32 = 20;

/// A full disk says nothing against the index; missing or wrong files do.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn row_error(error: rocksdb::Error) -> RowError {
    let gone = ["No such file or directory", "Not a directory", "Is a directory", "Input/output error", "too short"];
    let text = error.to_string();
    let damage = match error.kind() {
        ErrorKind::IOError => gone.iter().any(|words| text.contains(words)),
        ErrorKind::Busy | ErrorKind::TimedOut | ErrorKind::Aborted => false,
        _ => true,
    };
    if damage { RowError::damaged(text) } else { RowError::refused(text) }
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
    RowError::damaged("a malformed row")
}

/// Visits all keys with `prefix` from `from` on.
fn each(db: &DB, prefix: u8, from: &[u8], to: Option<&[u8]>, visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
    let mut read = ReadOptions::default();
    let upper = match to {
        Some(to) => key(prefix, to),
        None => vec![prefix + 1],
    };
    read.set_iterate_upper_bound(upper);
    let from = key(prefix, from);
    for row in db.iterator_opt(IteratorMode::From(&from, Direction::Forward), read) {
        let (key, value) = row.map_err(row_error)?;
        if visit(&key[1..], &value).is_break() {
            break;
        }
    }
    Ok(())
}

fn encode_pack(pack: &IndexedPack) -> [u8; 25] {
    let mut value = [0; 25];
    value[..4].copy_from_slice(&pack.number.0.to_le_bytes());
    value[4] = match pack.class {
        None => 0,
        Some(Class::Data) => 1,
        Some(Class::Meta) => 2,
    };
    value[5..13].copy_from_slice(&pack.serial.to_le_bytes());
    value[13..21].copy_from_slice(&pack.len.to_le_bytes());
    value[21..].copy_from_slice(&pack.objects.to_le_bytes());
    value
}

fn decode_pack(key: &[u8], value: &[u8]) -> Option<IndexedPack> {
    let (name, value) = (<[u8; 16]>::try_from(key).ok()?, <[u8; 25]>::try_from(value).ok()?);
    Some(IndexedPack {
        name: PackName::from_bytes(name),
        number: PackNumber(u32::from_le_bytes(*value.first_chunk()?)),
        class: match value[4] {
            0 => None,
            1 => Some(Class::Data),
            2 => Some(Class::Meta),
            _ => return None,
        },
        serial: u64::from_le_bytes(*value[5..].first_chunk()?),
        len: u64::from_le_bytes(*value[13..].first_chunk()?),
        objects: u32::from_le_bytes(*value[21..].first_chunk()?),
    })
}

fn packs_of(db: &DB) -> Result<Vec<IndexedPack>, RowError> {
    let mut packs = Vec::new();
    let mut bad = false;
    each(db, PACK, &[], None, &mut |key, value| {
        match decode_pack(key, value) {
            Some(pack) => packs.push(pack),
            None => bad = true,
        }
        ControlFlow::Continue(())
    })?;
    if bad { Err(malformed()) } else { Ok(packs) }
}

fn generation_of(db: &DB) -> Result<Option<u64>, RowError> {
    let Some(value) = db.get_pinned(GENERATION).map_err(row_error)? else { return Ok(None) };
    Ok(Some(u64::from_le_bytes(value[..].try_into().map_err(|_| malformed())?)))
}

impl Rows for RocksIndex {
    fn get(&self, row: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.db().get(key(ROW, row)).map_err(row_error)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        if from >= to {
            return Ok(());
        }
        each(self.db(), ROW, from, Some(to), visit)
    }
}

impl Index for RocksIndex {
    fn lookup(&self, id: &ContentHash) -> Result<Option<Location>, RowError> {
        if let (None, Some(loaded)) = (self.now.get(), self.loaded.get()) {
            return Ok(loaded.get(id).copied());
        }
        let mut key = [OBJECT; 33];
        key[1..].copy_from_slice(id.as_bytes());
        let found = self.db().get_pinned(key).map_err(row_error)?;
        found.map(|bytes| decode_location(&bytes)).transpose()
    }

    fn objects(&self, from: &ContentHash, to: &ContentHash, visit: &mut ObjectVisitor<'_>) -> Result<(), RowError> {
        let mut failed = None;
        each(self.db(), OBJECT, from.as_bytes(), None, &mut |key, value| {
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
        packs_of(self.db())
    }

    fn generation(&self) -> Result<Option<u64>, RowError> {
        generation_of(self.db())
    }

    fn given_up(&self) -> Result<Option<ContentHash>, RowError> {
        let Some(value) = self.db().get_pinned(GIVEN_UP).map_err(row_error)? else { return Ok(None) };
        Ok(Some(ContentHash::from_bytes(value[..].try_into().map_err(|_| malformed())?)))
    }

    fn next_number(&self) -> Result<PackNumber, RowError> {
        let Some(value) = self.db().get_pinned(NEXT_NUMBER).map_err(row_error)? else { return Ok(PackNumber(0)) };
        Ok(PackNumber(u32::from_le_bytes(value[..].try_into().map_err(|_| malformed())?)))
    }

    fn apply(&self, update: IndexUpdate) -> Result<(), RowError> {
        let mut write = WriteOptions::default();
        write.disable_wal(self.filling.load(Ordering::Acquire));
        self.write(&update, &write)
    }

    fn apply_durably(&self, update: IndexUpdate) -> Result<(), RowError> {
        if self.filling.load(Ordering::Acquire) {
            // What was filled in has no log: a table stands for it.
            self.settle()?;
        }
        let mut write = WriteOptions::default();
        write.set_sync(true);
        self.write(&update, &write)
    }

    fn load(&self) {
        let Some(before) = self.before.as_ref().filter(|_| self.now.get().is_none()) else { return };
        // Where it cannot be read as a whole, each lookup says so.
        let Ok(packs) = packs_of(before) else { return };
        let count: u64 = packs.iter().map(|pack| u64::from(pack.objects)).sum();
        if count > LOADED_MAX {
            return;
        }
        let mut loaded = HashMap::with_capacity(usize::try_from(count).unwrap_or(0));
        let (first, last) = (ContentHash::from_bytes([0; 32]), ContentHash::from_bytes([0xff; 32]));
        let all = self.objects(&first, &last, &mut |id, location| {
            loaded.insert(id, location);
            if loaded.len() as u64 > LOADED_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
        if all.is_ok() && loaded.len() as u64 <= LOADED_MAX {
            drop(self.loaded.set(loaded));
        }
    }

    fn prepare(&self) {
        // Whoever applies meets the error again.
        drop(self.db_to_write().map(|_| ()));
    }

    fn settle(&self) -> Result<(), RowError> {
        let Some(db) = self.now.get() else { return Ok(()) };
        let filling = self.filling.load(Ordering::Acquire);
        let (logs, len) = self.logs();
        if !filling && logs <= LOGS_MAX && len <= LOG_LEN_MAX {
            return Ok(());
        }
        db.flush().map_err(row_error)?;
        self.filling.store(false, Ordering::Release);
        Ok(())
    }
}

impl RocksIndex {
    fn write(&self, update: &IndexUpdate, options: &WriteOptions) -> Result<(), RowError> {
        let db = self.db_to_write()?;
        let mut batch = WriteBatch::default();
        for (id, location) in &update.objects {
            batch.put(key(OBJECT, id.as_bytes()), encode_location(location));
        }
        for pack in &update.packs {
            batch.put(key(PACK, pack.name.as_bytes()), encode_pack(pack));
        }
        for (row, value) in &update.rows.0 {
            match value {
                Some(value) => batch.put(key(ROW, row), value),
                None => batch.delete(key(ROW, row)),
            }
        }
        if let Some(generation) = update.generation {
            batch.put(GENERATION, generation.to_le_bytes());
        }
        if let Some(list) = update.given_up {
            batch.put(GIVEN_UP, list.as_bytes());
        }
        for id in &update.removed {
            batch.delete(key(OBJECT, id.as_bytes()));
        }
        if let Some((packs, next)) = &update.dropped {
            packs.iter().for_each(|pack| batch.delete(key(PACK, pack.as_bytes())));
            batch.put(NEXT_NUMBER, next.0.to_le_bytes());
        }
        db.write_opt(batch, options).map_err(row_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;
    use crate::vfs::temp_name;

    fn at(offset: u32) -> Location {
        Location { pack: PackNumber(1), offset, slot: 3, kind: Kind::CHUNK, len: 7 }
    }

    fn update(objects: Vec<(ContentHash, Location)>) -> IndexUpdate {
        let (name, number) = (PackName::from_bytes([1; 16]), PackNumber(1));
        let pack = IndexedPack { name, number, class: None, serial: 1, len: 9, objects: 1_000 };
        IndexUpdate { objects, packs: vec![pack], ..IndexUpdate::default() }
    }

    #[test]
    fn what_is_in_memory_is_what_is_on_disk() {
        let path = std::env::temp_dir().join(temp_name().expect("random"));
        let mut rng = Rng::new(1);
        let mut id = || ContentHash::from_bytes(rng.bytes(32).try_into().expect("32 of them"));
        let objects: Vec<_> = (0..1_000).map(|offset| (id(), at(offset))).collect();
        let (unknown, later) = (id(), id());
        let index = RocksIndex::open(&path, RocksMode::Create).expect("it can be made");
        index.apply_durably(update(objects.clone())).expect("it can be written");
        drop(index);
        for mode in [RocksMode::Read, RocksMode::Write] {
            let index = RocksIndex::open(&path, mode).expect("it can be opened");
            index.load();
            assert_eq!(index.loaded.get().map(HashMap::len), Some(1_000));
            for (id, location) in &objects {
                assert_eq!(index.lookup(id).expect("it can be read"), Some(*location));
            }
            assert_eq!(index.lookup(&unknown).expect("it can be read"), None);
            if mode == RocksMode::Write {
                // What is written from now on counts.
                let moved = (objects[0].0, at(5_000));
                index.apply(update(vec![moved, (later, at(6_000))])).expect("it can be written");
                assert_eq!(index.lookup(&moved.0).expect("it can be read"), Some(moved.1));
                assert_eq!(index.lookup(&later).expect("it can be read"), Some(at(6_000)));
            }
        }
        std::fs::remove_dir_all(&path).expect("it is there");
    }
}
