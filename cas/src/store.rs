//! The store: packs, marks, index and claims as one thing that objects go into and come out of.
//!
//! Opening it recovers whatever a crash left: a torn tail is cut, an index that does not fit is brought up to
//! date or built again. `docs/format.md` rules what is on disk, `docs/guarantees.md` what it promises.

mod append;
mod cache;
pub(crate) mod packs;
mod pending;
mod read;
mod recover;
mod session;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

pub use pending::Claim;
pub use read::Object;
pub use session::{FrameWriter, Session, SessionStats};

use crate::damaged::{self, Damaged};
use crate::error::{OpenError, PutError};
use crate::hash::{ContentHash, Schema};
use crate::head::{Head, Mark};
use crate::index::memory::MemoryIndex;
use crate::index::rocks::{RocksIndex, RocksMode};
use crate::index::{Index, PackNumber};
use crate::lock::{ReaderLock, WriterLock};
use crate::pack::{Class, PackName, SEAL_LEN, read_pack_header};
use crate::params::{Params, ParamsError};
use crate::pin;
use crate::rows::{RowError, RowVisitor, Rows};
use crate::vfs::{Open, Vfs, read_to_end, replace};
use append::Writer;
use cache::FrameCache;
use packs::{PackTable, Survey, survey};
use pending::Pending;
use recover::Recovery;

/// The longest of the small files.
const SMALL_FILE_MAX: u64 = 64 << 20;

/// Where a store lies.
#[derive(Debug, Clone)]
pub struct Place {
    /// The directory `.filesync`: every file of the store but the index.
    pub vfs: Arc<dyn Vfs>,
    /// The index, which RocksDB opens by path.
    pub index_dir: PathBuf,
    /// Where the locks are; none in models of a disk.
    pub lock_dir: Option<PathBuf>,
}

/// A store of immutable objects and the head that stands on them.
///
/// Shared by threads. Closing happens on drop and is not needed for durability.
#[derive(Debug)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) place: Place,
    pub(crate) params: Params,
    pub(crate) schema: Arc<dyn Schema>,
    pub(crate) survey: Survey,
    pub(crate) table: PackTable,
    head: Head,
    index: RwLock<SharedIndex>,
    /// Built from the packs when the index turns out to be wrong.
    second_index: OnceLock<Option<Arc<MemoryIndex>>>,
    frames: FrameCache,
    pending: Pending,
    writer: Option<Writer>,
    sessions: AtomicU64,
    damage: Mutex<Damaged>,
    warnings: Mutex<Vec<String>>,
    // Last: released after everything above is closed.
    _locks: (Option<WriterLock>, Option<ReaderLock>),
}

#[derive(Clone)]
struct SharedIndex(Arc<dyn Index>);

impl std::fmt::Debug for SharedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedIndex")
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Makes an empty store in an empty directory. Durable on return, but for the directory's own name.
    pub fn create(place: &Place, params: &Params) -> Result<(), OpenError> {
        let vfs = &*place.vfs;
        let io = |path: &str| {
            let path = PathBuf::from(path);
            move |source| OpenError::Io { path, source }
        };
        for dir in ["packs", "refs", "refs/tags", "pins"] {
            vfs.mkdir(Path::new(dir), 0o755).map_err(io(dir))?;
        }
        for dir in ["refs", ""] {
            vfs.sync_dir(Path::new(dir)).map_err(io(dir))?;
        }
        for file in ["lock", "readers"] {
            vfs.open(Path::new(file), Open::Create { mode: 0o644 }).map_err(io(file))?;
        }
        replace(vfs, Path::new("format"), &params.encode(), 0o644).map_err(io("format"))?;
        RocksIndex::open(&place.index_dir, RocksMode::Create).map_err(|error| OpenError::Index(error.0))?;
        replace(vfs, Path::new("HEAD"), &Head::default().encode(), 0o644).map_err(io("HEAD"))
    }

    /// Reads what a store was made with, without opening it.
    pub fn params(vfs: &dyn Vfs) -> Result<Params, OpenError> {
        let path = Path::new("format");
        match read_to_end(vfs, path, SMALL_FILE_MAX) {
            Ok(bytes) => Params::decode(&bytes).map_err(|error| match error {
                ParamsError::Damaged(cause) => OpenError::Damaged { path: path.to_owned(), cause },
                ParamsError::Unsupported(cause) => OpenError::Unsupported { path: path.to_owned(), cause },
            }),
            Err(source) if source.kind() == io::ErrorKind::NotFound => {
                Err(OpenError::Damaged { path: path.to_owned(), cause: "it is missing".to_owned() })
            }
            Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
        }
    }

    /// Opens for writing, as the only one who does; waits up to `timeout` for another writer. `who` is the
    /// command, for the message that others get meanwhile.
    pub fn open_writer(place: Place, schema: Arc<dyn Schema>, who: &str, timeout: Duration) -> Result<Self, OpenError> {
        let params = Self::params(&*place.vfs)?;
        if let Some(word) = &params.unknown_write_word {
            let cause = format!("feature {word:?} is not known: open for reading only");
            return Err(OpenError::Unsupported { path: PathBuf::from("format"), cause });
        }
        let writer_lock = place.lock_dir.as_deref().map(|dir| WriterLock::take(dir, who, timeout)).transpose()?;
        Self::open(place, params, schema, (writer_lock, None), true)
    }

    /// Opens for reading, beside a writer if there is one. Writes nothing.
    pub fn open_reader(place: Place, schema: Arc<dyn Schema>) -> Result<Self, OpenError> {
        let params = Self::params(&*place.vfs)?;
        let reader_lock = place.lock_dir.as_deref().and_then(ReaderLock::take);
        Self::open(place, params, schema, (None, reader_lock), false)
    }

    fn open(
        place: Place,
        params: Params,
        schema: Arc<dyn Schema>,
        locks: (Option<WriterLock>, Option<ReaderLock>),
        writable: bool,
    ) -> Result<Self, OpenError> {
        let vfs = Arc::clone(&place.vfs);
        let head = read_head(&*vfs)?;
        let packs_io = |source| OpenError::Io { path: PathBuf::from("packs"), source };
        let mut survey = survey(&*vfs, &head).map_err(packs_io)?;
        let mut warnings: Vec<String> =
            survey.strays.iter().map(|file| format!("packs/{file}: not a pack: ignored")).collect();
        if writable {
            cut_tails(&*vfs, &mut survey).map_err(packs_io)?;
        }
        let mut damage = read_damage(&*vfs, &mut warnings);
        let missing = survey.missing.iter().copied();
        missing.clone().for_each(|pack| warnings.push(format!("pack {pack}: damaged: it is missing")));
        damage.packs.extend(missing);
        let table = PackTable::new(Arc::clone(&vfs));
        let mut bad_packs = Vec::new();
        let recovery = Recovery {
            vfs: &*vfs,
            dir: &place.index_dir,
            survey: &survey,
            table: &table,
            writable,
            warnings: &mut warnings,
            damaged: &mut bad_packs,
        };
        let index = recovery.index().map_err(|error| OpenError::Index(error.0))?;
        damage.packs.extend(bad_packs);
        let writer = writable.then(|| Writer::new(head.clone()));
        if let Some(writer) = &writer {
            resume_packs(writer, &*vfs, &survey, &table, &head, &damage);
        }
        let inner = Inner {
            place,
            params,
            schema,
            survey,
            table,
            head,
            index: RwLock::new(SharedIndex(index)),
            second_index: OnceLock::new(),
            frames: FrameCache::default(),
            pending: Pending::default(),
            writer,
            sessions: AtomicU64::new(1),
            damage: Mutex::new(damage),
            warnings: Mutex::new(warnings),
            _locks: locks,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What the repository was made with.
    pub fn parameters(&self) -> &Params {
        &self.inner.params
    }

    /// Where the store stands.
    pub fn head(&self) -> Option<ContentHash> {
        match &self.inner.writer {
            Some(writer) => writer.head().head,
            None => self.inner.head.head,
        }
    }

    /// The directory of the store, for small files that crates above keep there.
    pub fn vfs(&self) -> &Arc<dyn Vfs> {
        &self.inner.place.vfs
    }

    /// Whether this store may be written.
    pub fn is_writable(&self) -> bool {
        self.inner.writer.is_some()
    }

    /// Rows that crates above keep beside the index.
    pub fn rows(&self) -> Arc<dyn Rows> {
        Arc::new(StoreRows(Arc::clone(&self.inner)))
    }

    /// Saves rows without a commit. They may be lost: an error is none of the caller's concern.
    pub fn save_rows(&self, rows: crate::rows::RowBatch) -> Result<(), RowError> {
        self.inner.index().apply(crate::index::IndexUpdate { rows, ..Default::default() })
    }

    /// Takes what the user should be told since the last call.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *lock(&self.inner.warnings))
    }

    /// Writes a durable pin.
    pub fn pin(&self, pin: &pin::Pin) -> Result<(), PutError> {
        self.inner.writer()?.check()?;
        pin::put(&*self.inner.place.vfs, pin)
    }

    /// Removes a durable pin.
    pub fn unpin(&self, id: &ContentHash) -> Result<(), PutError> {
        self.inner.writer()?;
        pin::remove(&*self.inner.place.vfs, id)
    }

    /// Whether reads have found damage that has not been stored again.
    pub fn has_damage(&self) -> bool {
        !lock(&self.inner.damage).is_empty()
    }

    /// Notes objects as damaged, so that the next commit that has their bytes stores them again. Durable.
    pub fn record_damage(&self, objects: impl IntoIterator<Item = ContentHash>) -> Result<(), PutError> {
        self.inner.writer()?;
        objects.into_iter().for_each(|id| lock(&self.inner.damage).note(id));
        self.inner.save_damage()
    }
}

impl Inner {
    pub(crate) fn writer(&self) -> Result<&Writer, PutError> {
        self.writer.as_ref().ok_or(PutError::ReadOnly)
    }

    pub(crate) fn index(&self) -> Arc<dyn Index> {
        Arc::clone(&self.index.read().unwrap_or_else(PoisonError::into_inner).0)
    }

    pub(crate) fn warn(&self, warning: String) {
        lock(&self.warnings).push(warning);
    }

    /// Writes the list of damaged objects, if it has changed.
    fn save_damage(&self) -> Result<(), PutError> {
        let vfs = &*self.place.vfs;
        let path = Path::new(damaged::PATH);
        let list = lock(&self.damage).clone();
        let before = read_to_end(vfs, path, SMALL_FILE_MAX).ok().and_then(|bytes| Damaged::decode(&bytes).ok());
        if before.unwrap_or_default() == list {
            return Ok(());
        }
        replace(vfs, path, &list.encode(), 0o644).map_err(|source| PutError::Io { path: path.to_owned(), source })
    }

    /// After a commit: what it stored again is sound.
    fn clear_damage(&self) -> Result<(), PutError> {
        let listed: Vec<ContentHash> = lock(&self.damage).objects.iter().copied().collect();
        if listed.is_empty() && lock(&self.damage).packs.is_empty() {
            return Ok(());
        }
        for id in listed {
            if self.read_sound(&id) {
                lock(&self.damage).objects.remove(&id);
            }
        }
        self.save_damage()
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.inner.wind_up();
    }
}

/// Rows for crates above, through whatever index is in use.
struct StoreRows(Arc<Inner>);

impl Rows for StoreRows {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.0.index().get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        self.0.index().scan(from, to, visit)
    }
}

fn read_head(vfs: &dyn Vfs) -> Result<Head, OpenError> {
    let path = Path::new("HEAD");
    let damaged = |cause: String| OpenError::Damaged { path: path.to_owned(), cause };
    match read_to_end(vfs, path, SMALL_FILE_MAX) {
        Ok(bytes) => Head::decode(&bytes).map_err(damaged),
        Err(source) if source.kind() == io::ErrorKind::NotFound => Err(damaged("it is missing".to_owned())),
        Err(source) => Err(OpenError::Io { path: path.to_owned(), source }),
    }
}

/// A list that cannot be read is begun anew: what is bad will be found again.
fn read_damage(vfs: &dyn Vfs, warnings: &mut Vec<String>) -> Damaged {
    let path = Path::new(damaged::PATH);
    let decoded = match read_to_end(vfs, path, SMALL_FILE_MAX) {
        Ok(bytes) => Damaged::decode(&bytes),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Damaged::default(),
        Err(error) => Err(error.to_string()),
    };
    decoded.unwrap_or_else(|cause| {
        warnings.push(format!("{}: damaged: {cause}: ignored", damaged::PATH));
        Damaged::default()
    })
}

/// Cuts what lies past the marks. Nothing of it was ever acknowledged.
fn cut_tails(vfs: &dyn Vfs, survey: &mut Survey) -> io::Result<()> {
    for name in survey.torn.drain(..) {
        vfs.unlink(&name.open_path())?;
    }
    for pack in &mut survey.packs {
        if !pack.sealed && pack.len > pack.end {
            vfs.open(&pack.name.open_path(), Open::Write)?.set_len(pack.end)?;
            pack.len = pack.end;
        }
    }
    Ok(())
}

/// Open packs that are sound go on growing; others keep their marks and are left alone.
fn resume_packs(writer: &Writer, vfs: &dyn Vfs, survey: &Survey, table: &PackTable, head: &Head, damage: &Damaged) {
    for class in Class::ALL {
        let fits = |mark: &&Mark| {
            let there = survey.packs.iter().find(|pack| pack.name == mark.pack);
            mark.class == class
                && mark.len < SEAL_LEN
                && !damage.packs.contains(&mark.pack)
                && there.is_some_and(|pack| !pack.sealed && !pack.is_short())
        };
        let Some(mark) = head.marks.iter().filter(fits).max_by_key(|mark| mark.len) else { continue };
        let resumed = open_to_append(vfs, mark.pack, class);
        if let Some(file) = resumed {
            writer.resume(class, mark.pack, table.number(mark.pack), file, mark.len);
        }
    }
}

fn open_to_append(vfs: &dyn Vfs, name: PackName, class: Class) -> Option<Arc<dyn crate::vfs::VfsFile>> {
    let file = vfs.open(&name.open_path(), Open::Write).ok()?;
    let header = read_pack_header(&*file).ok()?;
    (header.name == name && header.class == class).then_some(file)
}

/// The number under which a pack is known, for messages.
pub(crate) fn place_of(table: &PackTable, pack: PackNumber, offset: u32) -> String {
    let name = table.name(pack).map_or_else(|| "unknown pack".to_owned(), |name: PackName| format!("pack {name}"));
    format!("{name} at byte {offset}")
}
