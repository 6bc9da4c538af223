//! What happens at open: the index is held against directory and marks, brought up to date, or built again.
//!
//! Nothing here decides what is durable: marks and sealed packs do. An index that knows of more than they
//! vouch for, or that cannot be read, is moved aside.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::packs::{PackFile, PackTable, Survey, frames_of, open_pack};
use crate::hash::ContentHash;
use crate::index::memory::MemoryIndex;
use crate::index::rocks::{RocksIndex, RocksMode};
use crate::index::{Index, IndexUpdate, IndexedPack, Location, ObjectVisitor, PackNumber};
use crate::pack::{FrameAt, PackName, read_pack_header};
use crate::rows::{RowError, RowVisitor, Rows};
use crate::vfs::Vfs;

/// Objects gathered before they go into the index.
const BATCH: usize = 50_000;

/// What recovery needs to know of the store.
pub struct Recovery<'a> {
    /// Where packs lie.
    pub vfs: &'a dyn Vfs,
    /// Where the index lies.
    pub dir: &'a Path,
    /// What `packs/` holds.
    pub survey: &'a Survey,
    /// Numbers of packs.
    pub table: &'a PackTable,
    /// Whether the index may be changed.
    pub writable: bool,
    /// What the user should know.
    pub warnings: &'a mut Vec<String>,
    /// Packs in which something was found bad.
    pub damaged: &'a mut Vec<PackName>,
}

impl Recovery<'_> {
    /// An index that knows every object before the marks.
    pub fn index(mut self) -> Result<Arc<dyn Index>, RowError> {
        match self.open().and_then(|index| Ok((self.fits(&index)?, index))) {
            Ok((known, index)) => {
                self.table.adopt(&known);
                self.catch_up(Arc::new(index), &known)
            }
            Err(error) => {
                self.warnings.push(format!("{error}: building it again"));
                self.rebuild()
            }
        }
    }

    fn open(&self) -> Result<RocksIndex, RowError> {
        if !self.dir.is_dir() {
            return Err(RowError("it is missing".to_owned()));
        }
        RocksIndex::open(self.dir, if self.writable { RocksMode::Write } else { RocksMode::Read })
    }

    /// Its packs and their lengths must be those of the directory.
    fn fits(&self, index: &RocksIndex) -> Result<Vec<IndexedPack>, RowError> {
        let known = index.packs()?;
        for pack in &known {
            let there = self.survey.packs.iter().find(|there| there.name == pack.name);
            if !there.is_some_and(|there| pack.len <= there.end) {
                return Err(RowError(format!("it does not fit pack {}", pack.name)));
            }
        }
        Ok(known)
    }

    fn rebuild(&mut self) -> Result<Arc<dyn Index>, RowError> {
        if self.writable {
            move_aside(self.dir)?;
            let index = RocksIndex::open(self.dir, RocksMode::Create)?;
            return self.catch_up(Arc::new(index), &[]);
        }
        self.catch_up(Arc::new(MemoryIndex::default()), &[])
    }

    fn catch_up(&mut self, index: Arc<dyn Index>, known: &[IndexedPack]) -> Result<Arc<dyn Index>, RowError> {
        let known_len = |name| known.iter().find(|pack| pack.name == name).map_or(0, |pack| pack.len);
        let mut behind: Vec<(PackFile, u64)> =
            self.survey.packs.iter().map(|pack| (*pack, known_len(pack.name))).collect();
        behind.retain(|(pack, len)| *len < pack.end);
        if behind.is_empty() {
            return Ok(index);
        }
        // Of two copies of an object the one in the younger pack counts: it is added last.
        behind.sort_by_cached_key(|(pack, _)| serial(self.vfs, pack.name));
        // A reader cannot change the index; what is missing from it stays in memory.
        let target: Arc<dyn Index> = if self.writable { Arc::clone(&index) } else { Arc::new(MemoryIndex::default()) };
        for (pack, from) in behind {
            self.add_pack(&*target, &pack, from)?;
        }
        if self.writable {
            target.settle()?;
            return Ok(index);
        }
        Ok(Arc::new(Layered { above: target, below: index }))
    }

    fn add_pack(&mut self, index: &dyn Index, pack: &PackFile, from: u64) -> Result<(), RowError> {
        let number = self.table.number(pack.name);
        let mut update = IndexUpdate::default();
        let mut causes = Vec::new();
        let walked = frames_of(
            self.vfs,
            pack,
            from,
            &mut |frame| {
                update.objects.extend(locations(number, &frame));
                if update.objects.len() >= BATCH {
                    index.apply(std::mem::take(&mut update)).map_err(io::Error::other)?;
                }
                Ok(())
            },
            &mut |cause| causes.push(cause),
        );
        if pack.is_short() {
            causes.push("it is shorter than what was durable".to_owned());
        }
        if let Err(error) = walked {
            causes.push(error.to_string());
        }
        if let Some(cause) = causes.first() {
            self.warnings.push(format!("pack {}: damaged: {cause}", pack.name));
            self.damaged.push(pack.name);
        }
        update.packs.push(IndexedPack { name: pack.name, number, len: pack.end });
        index.apply(update)
    }
}

fn serial(vfs: &dyn Vfs, name: PackName) -> u64 {
    let header = open_pack(vfs, name).ok().and_then(|file| read_pack_header(&*file).ok());
    header.map_or(0, |header| header.serial)
}

/// Where the objects of a frame lie.
pub fn locations(pack: PackNumber, frame: &FrameAt) -> impl Iterator<Item = (ContentHash, Location)> + '_ {
    let offset = u32::try_from(frame.offset).unwrap_or(u32::MAX);
    frame.slots.iter().enumerate().map(move |(slot, found)| {
        let slot = u16::try_from(slot).unwrap_or(u16::MAX);
        (found.id, Location { pack, offset, slot, kind: found.kind, len: found.len })
    })
}

/// Moves an index that is not to be believed out of the way. One is kept, for whoever wants to look at it.
pub fn move_aside(dir: &Path) -> Result<(), RowError> {
    let aside = PathBuf::from(format!("{}.bad", dir.display()));
    let moved = match std::fs::remove_dir_all(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => std::fs::rename(dir, &aside),
    };
    match moved {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            std::fs::remove_dir_all(dir).map_err(|error| RowError(format!("{}: {error}", dir.display())))
        }
        _ => Ok(()),
    }
}

/// Every object of the packs, in memory: what answers when the index is found wrong while it is used.
pub fn index_from_packs(vfs: &dyn Vfs, survey: &Survey, table: &PackTable) -> Result<MemoryIndex, RowError> {
    let index = MemoryIndex::default();
    let mut recovery = Recovery {
        vfs,
        dir: Path::new(""),
        survey,
        table,
        writable: false,
        warnings: &mut Vec::new(),
        damaged: &mut Vec::new(),
    };
    let mut packs = survey.packs.clone();
    packs.sort_by_cached_key(|pack| serial(vfs, pack.name));
    packs.iter().try_for_each(|pack| recovery.add_pack(&index, pack, 0))?;
    Ok(index)
}

/// An index that only knows what another lacks, above that other.
struct Layered {
    above: Arc<dyn Index>,
    below: Arc<dyn Index>,
}

impl Rows for Layered {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, RowError> {
        self.below.get(key)
    }

    fn scan(&self, from: &[u8], to: &[u8], visit: &mut RowVisitor<'_>) -> Result<(), RowError> {
        self.below.scan(from, to, visit)
    }
}

impl Index for Layered {
    fn lookup(&self, id: &ContentHash) -> Result<Option<Location>, RowError> {
        match self.above.lookup(id)? {
            None => self.below.lookup(id),
            found => Ok(found),
        }
    }

    fn objects(&self, from: &ContentHash, to: &ContentHash, visit: &mut ObjectVisitor<'_>) -> Result<(), RowError> {
        let mut merged = std::collections::BTreeMap::new();
        for index in [&self.below, &self.above] {
            index.objects(from, to, &mut |id, location| {
                merged.insert(id, location);
                std::ops::ControlFlow::Continue(())
            })?;
        }
        for (id, location) in merged {
            if visit(id, location).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn packs(&self) -> Result<Vec<IndexedPack>, RowError> {
        let mut packs = self.below.packs()?;
        packs.extend(self.above.packs()?);
        Ok(packs)
    }

    fn apply(&self, _: IndexUpdate) -> Result<(), RowError> {
        Err(RowError("open for reading only".to_owned()))
    }

    fn settle(&self) -> Result<(), RowError> {
        Ok(())
    }
}
