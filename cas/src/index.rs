//! Where objects lie. Derived from the packs: it may be lost at any time and proves nothing by itself.
//!
//! [`Index`] is the small trait that the store works with; [`rocks`] keeps it on disk, [`memory`] in memory.

pub mod memory;
pub mod rocks;

use crate::hash::{ContentHash, Kind};
use crate::pack::{Class, PackName};
use crate::rows::{RowBatch, RowError, Rows};

/// A number that stands for a pack's name in the index; never used twice within one index.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackNumber(pub u32);

/// Where an object lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Which pack.
    pub pack: PackNumber,
    /// Offset of the frame in the pack.
    pub offset: u32,
    /// Position in the frame.
    pub slot: u16,
    /// Kind of the object.
    pub kind: Kind,
    /// Length of the object in bytes.
    pub len: u32,
}

/// How much of a pack the index knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexedPack {
    /// Its name.
    pub name: PackName,
    /// Its number in locations.
    pub number: PackNumber,
    /// What it holds; `None` if its header cannot be read.
    pub class: Option<Class>,
    /// Its serial, 0 if its header cannot be read.
    pub serial: u64,
    /// Every frame that begins before this offset is known.
    pub len: u64,
    /// Objects in those frames.
    pub objects: u32,
}

/// What is changed in an index, all at once.
#[derive(Debug, Default)]
pub struct IndexUpdate {
    /// Objects and where they lie; of several for one id the last counts.
    pub objects: Vec<(ContentHash, Location)>,
    /// Packs whose known length moves.
    pub packs: Vec<IndexedPack>,
    /// Rows of crates above.
    pub rows: RowBatch,
    /// The generation of `HEAD` that is known to be durable.
    pub generation: Option<u64>,
    /// Names the list of damage that could not be stored again.
    pub given_up: Option<ContentHash>,
    /// Objects that are no longer known.
    pub removed: Vec<ContentHash>,
    /// Packs that are no longer known, and the number after the last that was ever given.
    pub dropped: Option<(Vec<PackName>, PackNumber)>,
}

impl IndexUpdate {
    /// Whether nothing would change.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
            && self.packs.is_empty()
            && self.rows.0.is_empty()
            && self.generation.is_none()
            && self.given_up.is_none()
            && self.removed.is_empty()
            && self.dropped.is_none()
    }
}

/// What a search for objects calls.
pub type ObjectVisitor<'a> = dyn FnMut(ContentHash, Location) -> std::ops::ControlFlow<()> + 'a;

/// Where objects lie.
pub trait Index: Rows {
    /// Where `id` lies, as far as known.
    fn lookup(&self, id: &ContentHash) -> Result<Option<Location>, RowError>;

    /// Visits the objects whose id lies in `from..=to`, ascending.
    fn objects(&self, from: &ContentHash, to: &ContentHash, visit: &mut ObjectVisitor<'_>) -> Result<(), RowError>;

    /// The packs that it knows.
    fn packs(&self) -> Result<Vec<IndexedPack>, RowError>;

    /// The last generation of `HEAD` that was applied: it was durable then.
    fn generation(&self) -> Result<Option<u64>, RowError>;

    /// The last list of damage that was applied as one that could not be stored again.
    fn given_up(&self) -> Result<Option<ContentHash>, RowError>;

    /// A number above that of every pack that was ever dropped.
    fn next_number(&self) -> Result<PackNumber, RowError>;

    /// Changes objects, packs and rows in one step. Survives the process, not a power cut.
    fn apply(&self, update: IndexUpdate) -> Result<(), RowError>;

    /// As [`Index::apply`], and it survives a power cut, with all that was applied before.
    fn apply_durably(&self, update: IndexUpdate) -> Result<(), RowError>;

    /// Gets ready for being asked for most of what there is: quicker afterwards, at the cost of memory in proportion.
    fn load(&self) {}

    /// Does what is to be done before the first [`Index::apply`], which will do it otherwise.
    fn prepare(&self) {}

    /// Makes the next open quick after much was added.
    fn settle(&self) -> Result<(), RowError>;
}
