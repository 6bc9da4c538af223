//! The store: packs, marks, index and claims as one thing that objects go into and come out of.
//!
//! Opening it recovers whatever a crash left: a torn tail is cut, an index that does not fit is brought up to
//! date or built again. `docs/format.md` rules what is on disk, `docs/guarantees.md` what it promises.

mod append;
mod cache;
mod commit;
mod condemned;
mod damage;
mod figures;
mod frames;
mod heal;
mod limits;
mod open;
pub(crate) mod packs;
mod pending;
mod read;
mod recover;
mod relay;
mod seal;
mod session;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

pub use figures::{PackSizes, Sizes};
pub use pending::Claim;
pub use read::Object;
pub use relay::{Accepted, Witness};
pub use session::{FrameWriter, Session, SessionStats};

use crate::damaged::Damaged;
use crate::error::{OpenError, PutError};
use crate::gc::LiveSet;
use crate::hash::{ContentHash, Schema};
use crate::head::Head;
use crate::index::rocks::{RocksIndex, RocksMode};
use crate::index::{Index, IndexUpdate, Location, PackNumber};
use crate::lock::{ReaderLock, WriterLock};
use crate::pack::PackName;
use crate::params::{Params, ParamsError};
use crate::pin;
use crate::rows::{RowBatch, RowError, RowVisitor, Rows};
use crate::vfs::{Open, Vfs, read_to_end, replace};
use append::Writer;
use cache::FrameCache;
pub(crate) use frames::{Frames, target_of};
use heal::Elsewhere;
use limits::Limits;
use packs::{PackTable, Survey, survey, survey_settled};
use pending::Pending;
use session::Sessions;

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
    pub(crate) table: PackTable,
    pub(crate) limits: Limits,
    /// As it was at open; a writer has its own.
    pub(crate) head: Head,
    index: RwLock<SharedIndex>,
    /// What the index does not lead to; looked for once, when something is missing.
    elsewhere: Mutex<Option<Arc<Elsewhere>>>,
    /// Objects that are read from another place than the index gives, since there they are bad.
    pub(crate) moved: RwLock<HashMap<ContentHash, Location>>,
    /// Packs that are being, or have been, removed: nothing may rely on what lies there.
    pub(crate) condemned: RwLock<HashSet<PackNumber>>,
    /// The collection that is under way, which has to know of every claim.
    pub(crate) collection: RwLock<Option<Arc<LiveSet>>>,
    /// Held while something is written into the index that a look at it decided.
    pub(crate) index_writes: Mutex<()>,
    /// The index has refused to take something.
    refused: AtomicBool,
    pub(crate) frames: FrameCache,
    pub(crate) pending: Pending,
    pub(crate) writer: Option<Writer>,
    pub(crate) sessions: Sessions,
    damage: Mutex<Damaged>,
    damage_saved: Mutex<Damaged>,
    /// Damaged objects that have been appended again.
    restored: Mutex<HashSet<ContentHash>>,
    /// Frames that could not be read: nothing that lies in one is there for who asks.
    bad_frames: Mutex<HashSet<(PackNumber, u32)>>,
    warnings: Mutex<Vec<String>>,
    // Last: released after everything above is closed.
    _locks: (Option<WriterLock>, Option<ReaderLock>),
}

struct SharedIndex(Arc<dyn Index>);

impl std::fmt::Debug for SharedIndex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SharedIndex")
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
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
        RocksIndex::open(&place.index_dir, RocksMode::Create)
            .map_err(|error| OpenError::Index(error.cause().to_owned()))?;
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
    ///
    /// What a crash left is put right: after this, everything that the store holds is durable.
    pub fn open_writer(place: Place, schema: Arc<dyn Schema>, who: &str, timeout: Duration) -> Result<Self, OpenError> {
        Self::open_limited(place, schema, who, timeout, Limits::default())
    }

    /// Opens for reading, beside a writer if there is one. Writes nothing.
    pub fn open_reader(place: Place, schema: Arc<dyn Schema>) -> Result<Self, OpenError> {
        let params = Self::params(&*place.vfs)?;
        let lock = place.lock_dir.as_deref().and_then(ReaderLock::take);
        open::reader(place, params, schema, lock)
    }

    fn open_limited(
        place: Place,
        schema: Arc<dyn Schema>,
        who: &str,
        timeout: Duration,
        limits: Limits,
    ) -> Result<Self, OpenError> {
        let params = Self::params(&*place.vfs)?;
        if let Some(word) = &params.unknown_write_word {
            let cause = format!("feature {word:?} is not known: open for reading only");
            return Err(OpenError::Unsupported { path: PathBuf::from("format"), cause });
        }
        let lock = place.lock_dir.as_deref().map(|dir| WriterLock::take(dir, who, timeout)).transpose()?;
        open::writer(place, params, schema, lock, limits)
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

    /// Rows that crates above keep beside the index. As long as they are kept, so are the store's locks.
    pub fn rows(&self) -> Arc<dyn Rows> {
        Arc::new(StoreRows(Arc::clone(&self.inner)))
    }

    /// Saves rows without a commit. They may be lost: an error is none of the caller's concern.
    pub fn save_rows(&self, rows: RowBatch) -> Result<(), RowError> {
        let update = IndexUpdate { rows, ..IndexUpdate::default() };
        self.inner.with_index(|index| index.apply(update)).inspect_err(|error| self.inner.index_refused(error))
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
}

impl Inner {
    pub(crate) fn writer(&self) -> Result<&Writer, PutError> {
        self.writer.as_ref().ok_or(PutError::ReadOnly)
    }

    pub(crate) fn warn(&self, warning: String) {
        lock(&self.warnings).push(warning);
    }

    /// What lies in `packs/` now, as the present marks see it.
    pub(crate) fn survey_now(&self) -> io::Result<Survey> {
        let vfs = &*self.place.vfs;
        let mut survey = match &self.writer {
            Some(writer) => survey(vfs, &writer.head())?,
            None => survey_settled(vfs, || read_head(vfs).map_err(io::Error::other), |error| error)?.1,
        };
        let gone = self.condemned();
        survey.packs.retain(|pack| !gone.contains(&self.table.number(pack.name)));
        Ok(survey)
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
        self.0.index().get(key).inspect_err(|error| self.0.index_refused(error))
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        self.0.index().scan(from, to, visit).inspect_err(|error| self.0.index_refused(error))
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

/// The number under which a pack is known, for messages.
pub(crate) fn place_of(table: &PackTable, pack: PackNumber, offset: u32) -> String {
    let name = table.name(pack).map_or_else(|| "unknown pack".to_owned(), |name: PackName| format!("pack {name}"));
    format!("{name} at byte {offset}")
}
