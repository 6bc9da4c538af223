//! The index at open: held against directory and marks, brought up to date, or built again.
//!
//! Nothing here decides what is durable: marks and sealed packs do. An index that knows of more than they
//! vouch for, or that cannot be read, is moved aside.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::packs::{PackFile, PackTable, Survey, damage_of, frames_of, header_of, open_pack};
use crate::hash::ContentHash;
use crate::index::memory::MemoryIndex;
use crate::index::rocks::{RocksIndex, RocksMode};
use crate::index::{Index, IndexUpdate, IndexedPack, Location, ObjectVisitor, PackNumber};
use crate::pack::{FrameAt, PackHeader, PackName};
use crate::rows::{RowError, RowVisitor, Rows};
use crate::vfs::Vfs;

/// Objects gathered before they go into the index.
const BATCH: usize = 50_000;

/// The index on disk, with the packs that it knows and the generation of `HEAD` that it has seen.
pub struct Opened {
    index: RocksIndex,
    known: Vec<IndexedPack>,
    generation: Option<u64>,
    next_number: PackNumber,
}

/// Whether there is a directory. RocksDB opens by path and would follow a link to wherever that leads.
pub fn is_there(dir: &Path) -> bool {
    dir.symlink_metadata().is_ok_and(|meta| meta.is_dir())
}

/// Opens the index. It is not yet known whether it fits.
pub fn open_index(dir: &Path, writable: bool) -> Result<Opened, RowError> {
    if !is_there(dir) {
        return Err(RowError::damaged("it is missing"));
    }
    // The same goes for what is in it.
    let entries = std::fs::read_dir(dir)
        .and_then(|entries| entries.map(|entry| entry?.file_type()).collect::<Result<Vec<_>, _>>());
    let entries = entries.map_err(|error| RowError::refused(format!("{}: {error}", dir.display())))?;
    if !entries.iter().all(std::fs::FileType::is_file) {
        return Err(RowError::damaged("there is something in it that is no file"));
    }
    let index = RocksIndex::open(dir, if writable { RocksMode::Write } else { RocksMode::Read })?;
    let (known, generation, next_number) = (index.packs()?, index.generation()?, index.next_number()?);
    Ok(Opened { index, known, generation, next_number })
}

impl Opened {
    /// Its packs and their lengths must be those of the directory.
    pub fn fits(self, survey: &Survey) -> Result<Self, RowError> {
        for pack in &self.known {
            let there = survey.packs.iter().find(|there| there.name == pack.name);
            if there.is_none_or(|there| pack.len > there.end) {
                return Err(RowError::damaged(format!("it does not fit pack {}", pack.name)));
            }
        }
        Ok(self)
    }

    /// Whether it knows everything, and that all of it was durable once.
    pub fn is_settled(&self, survey: &Survey, generation: u64) -> bool {
        self.generation == Some(generation) && behind(survey, &self.known).is_empty()
    }
}

/// A pack of which an index does not know all.
struct Behind {
    pack: PackFile,
    /// What it knows: so many bytes, and the objects in them.
    len: u64,
    objects: u32,
}

fn behind(survey: &Survey, known: &[IndexedPack]) -> Vec<Behind> {
    let behind = survey.packs.iter().map(|pack| {
        let known = known.iter().find(|known| known.name == pack.name);
        let (len, objects) = known.map_or((0, 0), |known| (known.len, known.objects));
        Behind { pack: *pack, len, objects }
    });
    // Of a pack that is empty nothing can be known: it is damaged, and looked at each time.
    behind.filter(|behind| behind.len < behind.pack.end || behind.pack.end == 0).collect()
}

/// What recovery needs to know of the store.
pub struct Recovery<'a> {
    /// Where packs lie.
    pub vfs: &'a dyn Vfs,
    /// Numbers of packs.
    pub table: &'a PackTable,
    /// What the user should know.
    pub warnings: &'a mut Vec<String>,
    /// Packs in which something was found bad.
    pub damaged: &'a mut Vec<PackName>,
}

impl Recovery<'_> {
    /// An index that a writer may go on with. What is wrong with it is put right, on disk.
    pub fn for_writer(
        &mut self,
        opened: Result<Opened, RowError>,
        dir: &Path,
        survey: &Survey,
        generation: u64,
    ) -> Result<Arc<dyn Index>, RowError> {
        let tried = match opened {
            Ok(opened) if opened.is_settled(survey, generation) => {
                self.table.adopt(&opened.known, opened.next_number);
                return Ok(Arc::new(opened.index));
            }
            Ok(opened) => {
                self.table.adopt(&opened.known, opened.next_number);
                self.fill(opened.index, survey, &opened.known, generation)
            }
            Err(error) => Err(error),
        };
        match tried {
            Err(error) if error.is_damage() => {
                self.warnings.push(format!("{error}: building it again"));
                move_aside(dir)?;
                self.fill(RocksIndex::open(dir, RocksMode::Create)?, survey, &[], generation)
            }
            tried => tried,
        }
    }

    fn fill(
        &mut self,
        index: RocksIndex,
        survey: &Survey,
        known: &[IndexedPack],
        generation: u64,
    ) -> Result<Arc<dyn Index>, RowError> {
        self.add_packs(&index, None, survey, known)?;
        index.apply(IndexUpdate { generation: Some(generation), ..IndexUpdate::default() })?;
        index.settle()?;
        Ok(Arc::new(index))
    }

    /// An index for a reader, who changes nothing: what is missing from it stays in memory.
    pub fn for_reader(
        &mut self,
        opened: Result<Opened, RowError>,
        survey: &Survey,
    ) -> Result<Arc<dyn Index>, RowError> {
        let above = MemoryIndex::default();
        let opened = match opened {
            Ok(opened) => opened,
            Err(error) => {
                self.warnings.push(format!("{error}: using the packs instead"));
                self.add_packs(&above, None, survey, &[])?;
                return Ok(Arc::new(above));
            }
        };
        self.table.adopt(&opened.known, opened.next_number);
        if behind(survey, &opened.known).is_empty() {
            return Ok(Arc::new(opened.index));
        }
        self.add_packs(&above, Some(&opened.index), survey, &opened.known)?;
        Ok(Arc::new(Layered { above, below: opened.index }))
    }

    /// Adds to `index` what it, or another `below` it, does not know yet. Of two copies of an object the one in the
    /// younger pack counts: of those that are added it is added last, and one that is known already stays.
    pub fn add_packs(
        &mut self,
        index: &dyn Index,
        below: Option<&dyn Index>,
        survey: &Survey,
        known: &[IndexedPack],
    ) -> Result<(), RowError> {
        let refused = |error: io::Error| RowError::refused(format!("cannot read packs: {error}"));
        let mut packs = Vec::new();
        for behind in behind(survey, known) {
            let header = header(self.vfs, behind.pack.name).map_err(refused)?;
            packs.push((header.map_or(0, |header| header.serial), header.map(|header| header.class), behind));
        }
        packs.sort_by_key(|(serial, ..)| *serial);
        for (serial, class, behind) in &packs {
            // An older pack comes after a younger one only if it was to be removed and is still there.
            let is_younger = |known: &&IndexedPack| {
                known.serial > *serial && (known.class.is_none() || class.is_none() || known.class == *class)
            };
            let younger: HashSet<PackNumber> = known.iter().filter(is_younger).map(|known| known.number).collect();
            let has_younger = |id: &ContentHash| -> Result<bool, RowError> {
                if younger.is_empty() {
                    return Ok(false);
                }
                let found = below.unwrap_or(index).lookup(id)?;
                Ok(found.is_some_and(|found| younger.contains(&found.pack)))
            };
            self.add_pack(index, behind, &has_younger)?;
        }
        Ok(())
    }

    fn add_pack(
        &mut self,
        index: &dyn Index,
        behind: &Behind,
        has_younger: &dyn Fn(&ContentHash) -> Result<bool, RowError>,
    ) -> Result<(), RowError> {
        let pack = &behind.pack;
        let mut objects = behind.objects;
        let number = self.table.number(pack.name);
        let mut update = IndexUpdate::default();
        let mut causes = Vec::new();
        let mut failed = None;
        let walked = frames_of(
            self.vfs,
            pack,
            behind.len,
            &mut |frame| {
                objects = objects.saturating_add(u32::try_from(frame.slots.len()).unwrap_or(u32::MAX));
                let mut add = || {
                    for (id, location) in locations(number, &frame) {
                        if !has_younger(&id)? {
                            update.objects.push((id, location));
                        }
                    }
                    match update.objects.len() {
                        BATCH.. => index.apply(std::mem::take(&mut update)),
                        _ => Ok(()),
                    }
                };
                add().map_err(|error| {
                    failed = Some(error);
                    io::ErrorKind::Other.into()
                })
            },
            &mut |cause| causes.push(cause),
        );
        if let Some(error) = failed {
            return Err(error);
        }
        let header = walked.map_err(|error| RowError::refused(format!("cannot read pack {}: {error}", pack.name)))?;
        if let Some(cause) = causes.first() {
            self.warnings.push(format!("pack {}: damaged: {cause}", pack.name));
            self.damaged.push(pack.name);
        }
        let (class, serial) = (header.map(|header| header.class), header.map_or(0, |header| header.serial));
        update.packs.push(IndexedPack { name: pack.name, number, class, serial, len: pack.end, objects });
        index.apply(update)
    }
}

/// The header of a pack; `None` if it is damaged or gone.
pub fn header(vfs: &dyn Vfs, name: PackName) -> io::Result<Option<PackHeader>> {
    match open_pack(vfs, name) {
        Ok(file) => Ok(damage_of(header_of(&*file, name))?.ok()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
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
    let refused = |error: io::Error| RowError::refused(format!("{}: {error}", dir.display()));
    let aside = PathBuf::from(format!("{}.bad", dir.display()));
    remove(&aside).map_err(refused)?;
    match std::fs::rename(dir, &aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => remove(dir).map_err(refused),
        _ => Ok(()),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(path),
        Ok(_) => std::fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// An index that only knows what another lacks, above that other.
struct Layered {
    above: MemoryIndex,
    below: RocksIndex,
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
        let mut newer = Vec::new();
        self.above.objects(from, to, &mut |id, location| {
            newer.push((id, location));
            std::ops::ControlFlow::Continue(())
        })?;
        let mut newer = newer.into_iter().peekable();
        let mut ended = false;
        self.below.objects(from, to, &mut |id, location| {
            while let Some((id, location)) = newer.next_if(|(other, _)| *other < id) {
                if visit(id, location).is_break() {
                    ended = true;
                    return std::ops::ControlFlow::Break(());
                }
            }
            let replaced = newer.next_if(|(other, _)| *other == id);
            let flow = visit(id, replaced.map_or(location, |(_, location)| location));
            ended = flow.is_break();
            flow
        })?;
        if !ended {
            let _ended = newer.try_for_each(|(id, location)| visit(id, location));
        }
        Ok(())
    }

    fn packs(&self) -> Result<Vec<IndexedPack>, RowError> {
        let mut packs = self.above.packs()?;
        let below = self.below.packs()?;
        packs.extend(
            below.into_iter().filter(|pack| packs.iter().all(|other| other.name != pack.name)).collect::<Vec<_>>(),
        );
        Ok(packs)
    }

    fn generation(&self) -> Result<Option<u64>, RowError> {
        self.below.generation()
    }

    fn given_up(&self) -> Result<Option<ContentHash>, RowError> {
        self.below.given_up()
    }

    fn next_number(&self) -> Result<PackNumber, RowError> {
        self.below.next_number()
    }

    fn apply(&self, _: IndexUpdate) -> Result<(), RowError> {
        Err(RowError::refused("open for reading only"))
    }

    fn apply_durably(&self, update: IndexUpdate) -> Result<(), RowError> {
        self.apply(update)
    }

    fn settle(&self) -> Result<(), RowError> {
        Ok(())
    }
}
