//! Opening: what a crash left is put right, and what is wrong is noted.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, RwLock};

use super::append::{Appender, SyncedFile, Writer};
use super::condemned::unlink_condemned;
use super::damage::read_damage;
use super::limits::Limits;
use super::packs::{PackTable, Survey, damage_of, header_of, survey, survey_settled};
use super::recover::{Recovery, is_there, open_index};
use super::{Inner, Place, SharedIndex, Store, read_head};
use crate::damaged::Damaged;
use crate::error::OpenError;
use crate::hash::Schema;
use crate::head::{Head, Mark};
use crate::index::{Index, IndexedPack};
use crate::lock::{ReaderLock, WriterLock};
use crate::pack::Class;
use crate::params::Params;
use crate::rows::RowError;
use crate::vfs::{FileKind, Open, TEMP_PREFIX, Vfs};

/// How often a reader looks again that meets an index in between two states.
const READER_TRIES: usize = 5;
/// Directories in which files are replaced.
const DIRS: [&str; 4] = ["", "packs", "pins", TAGS];
/// Names with slashes lie in directories below this one.
const TAGS: &str = "refs/tags";

fn io(path: &str) -> impl FnOnce(std::io::Error) -> OpenError {
    let path = PathBuf::from(path);
    |source| OpenError::Io { path, source }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn index_error(error: RowError) -> OpenError {
    OpenError::Index(error.cause().to_owned())
}

/// What has been learnt, and not yet made into a store.
struct Parts {
    place: Place,
    params: Params,
    schema: Arc<dyn Schema>,
    limits: Limits,
    head: Head,
    table: PackTable,
    index: Arc<dyn Index>,
    damage: Damaged,
    damage_saved: Damaged,
    warnings: Vec<String>,
    locks: (Option<WriterLock>, Option<ReaderLock>),
}

impl Parts {
    fn into_inner(self, writer: Option<Writer>) -> Inner {
        Inner {
            place: self.place,
            params: self.params,
            schema: self.schema,
            table: self.table,
            limits: self.limits,
            head: self.head,
            index: SharedIndex::new(self.index),
            elsewhere: Mutex::default(),
            moved: RwLock::default(),
            condemned: RwLock::default(),
            collection: RwLock::default(),
            index_writes: Mutex::default(),
            refused: AtomicBool::new(false),
            frames: Default::default(),
            pending: Default::default(),
            writer,
            sessions: Default::default(),
            damage: Mutex::new(self.damage),
            damage_saved: Mutex::new(self.damage_saved),
            restored: Mutex::default(),
            bad_frames: Mutex::default(),
            warnings: Mutex::new(self.warnings),
            _locks: self.locks,
        }
    }
}

pub fn reader(
    place: Place,
    params: Params,
    schema: Arc<dyn Schema>,
    lock: Option<ReaderLock>,
) -> Result<Store, OpenError> {
    let vfs = Arc::clone(&place.vfs);
    let mut tries = 1;
    let (opened, head, survey) = loop {
        // The index before `HEAD`, and `HEAD` before the packs: beside a writer, each of them knows of no more
        // than what is looked at after it.
        let opened = open_index(&place.index_dir, false);
        let (head, survey) = survey_settled(&*vfs, || read_head(&*vfs), |error| io("packs")(error))?;
        let opened = opened.and_then(|opened| opened.fits(&survey));
        if opened.is_ok() || tries == READER_TRIES || !is_there(&place.index_dir) {
            break (opened, head, survey);
        }
        tries += 1;
    };
    let mut warnings = Vec::new();
    let damage_saved = read_damage(&*vfs, &mut warnings)?;
    let mut damage = damage_saved.clone();
    note_survey(&survey, &mut warnings, &mut damage);
    let table = PackTable::new(Arc::clone(&vfs));
    let mut damaged = Vec::new();
    let mut recovery = Recovery { vfs: &*vfs, table: &table, warnings: &mut warnings, damaged: &mut damaged };
    let index = recovery.for_reader(opened, &survey).map_err(index_error)?;
    damage.packs.extend(damaged);
    let (limits, locks) = (Limits::default(), (None, lock));
    let parts = Parts { place, params, schema, limits, head, table, index, damage, damage_saved, warnings, locks };
    Ok(Store { inner: Arc::new(parts.into_inner(None)) })
}

pub fn writer(
    place: Place,
    params: Params,
    schema: Arc<dyn Schema>,
    lock: Option<WriterLock>,
    limits: Limits,
) -> Result<Store, OpenError> {
    let vfs = Arc::clone(&place.vfs);
    remove_leftovers(&*vfs);
    let head = read_head(&*vfs)?;
    let mut survey = survey(&*vfs, &head).map_err(io("packs"))?;
    cut_tails(&*vfs, &mut survey).map_err(io("packs"))?;
    // Those that stay are met again by the next writer.
    drop(unlink_condemned(&*vfs, place.lock_dir.as_deref(), &survey.condemned));
    let mut warnings = Vec::new();
    let damage_saved = read_damage(&*vfs, &mut warnings)?;
    let mut damage = damage_saved.clone();
    note_survey(&survey, &mut warnings, &mut damage);
    let opened = open_index(&place.index_dir, true).and_then(|opened| opened.fits(&survey));
    if !opened.as_ref().is_ok_and(|opened| opened.is_settled(&survey, head.generation)) {
        // Whoever wrote `HEAD`, or gave a pack its final name, may not have come to sync the directory. The index
        // must not learn, and nobody be told, what a power cut could still take back.
        for dir in ["packs", ""] {
            vfs.sync_dir(Path::new(dir)).map_err(io(dir))?;
        }
    }
    let table = PackTable::new(Arc::clone(&vfs));
    let mut damaged = Vec::new();
    let mut recovery = Recovery { vfs: &*vfs, table: &table, warnings: &mut warnings, damaged: &mut damaged };
    let index = recovery.for_writer(opened, &place.index_dir, &survey, head.generation).map_err(index_error)?;
    damage.packs.extend(damaged);
    let known = index.packs().map_err(index_error)?;
    let next_serial = known.iter().map(|pack| pack.serial).max().unwrap_or(0) + 1;
    let writer = Writer::new(without_sealed(&head, &survey), next_serial, limits.pending_max);
    for class in Class::ALL {
        let resumed = to_resume(class, &*vfs, &survey, &known, &head, &damage, limits.seal_len);
        if let Some(appender) = resumed.map_err(io("packs"))? {
            writer.resume(appender);
        }
    }
    let (limits, locks) = (limits, (lock, None));
    let parts = Parts { place, params, schema, limits, head, table, index, damage, damage_saved, warnings, locks };
    let inner = parts.into_inner(Some(writer));
    if let Err(error) = inner.save_damage() {
        inner.warn(error.to_string());
    }
    Ok(Store { inner: Arc::new(inner) })
}

/// Temporary files of replacements that a crash cut short.
fn remove_leftovers(vfs: &dyn Vfs) {
    let mut dirs = DIRS.map(PathBuf::from).to_vec();
    while let Some(dir) = dirs.pop() {
        for (name, kind) in vfs.list(&dir).unwrap_or_default() {
            let path = dir.join(&name);
            if name.to_str().is_some_and(|name| name.starts_with(TEMP_PREFIX)) {
                // One that stays is met again by the next writer.
                drop(vfs.unlink(&path));
            } else if kind == FileKind::Dir && dir.starts_with(TAGS) {
                dirs.push(path);
            }
        }
    }
}

/// Cuts what lies past the marks. Nothing of it was ever acknowledged.
fn cut_tails(vfs: &dyn Vfs, survey: &mut Survey) -> std::io::Result<()> {
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

/// What a look at the directory tells of damage.
fn note_survey(survey: &Survey, warnings: &mut Vec<String>, damage: &mut Damaged) {
    warnings.extend(survey.strays.iter().map(|file| format!("packs/{file}: not a pack: ignored")));
    for pack in &survey.missing {
        warnings.push(format!("pack {pack}: damaged: it is missing"));
        damage.packs.insert(*pack);
    }
    for pack in survey.packs.iter().filter(|pack| pack.is_short()) {
        let (name, len, end) = (pack.name, pack.len, pack.end);
        warnings.push(format!("pack {name}: damaged: {len} bytes long, {end} were durable"));
        damage.packs.insert(name);
    }
}

/// A pack that was sealed needs no mark any more. Its name is durable by now.
fn without_sealed(head: &Head, survey: &Survey) -> Head {
    let mut head = head.clone();
    head.marks.retain(|mark| !survey.packs.iter().any(|pack| pack.name == mark.pack && pack.sealed));
    head
}

/// The open pack that goes on growing: sound, and the youngest of its class, since of two copies of an object the
/// one in the younger pack counts. Others keep their marks and are left alone.
fn to_resume(
    class: Class,
    vfs: &dyn Vfs,
    survey: &Survey,
    known: &[IndexedPack],
    head: &Head,
    damage: &Damaged,
    seal_len: u64,
) -> std::io::Result<Option<Appender>> {
    let of_class = known.iter().filter(|pack| pack.class.is_none_or(|other| other == class));
    let Some(youngest) = of_class.max_by_key(|pack| pack.serial) else { return Ok(None) };
    let fits = |mark: &&Mark| mark.pack == youngest.name && mark.class == class && mark.len < seal_len;
    let Some(mark) = head.marks.iter().find(fits) else { return Ok(None) };
    let there = survey.packs.iter().find(|pack| pack.name == mark.pack);
    if damage.packs.contains(&mark.pack) || there.is_none_or(|pack| pack.sealed || pack.is_short()) {
        return Ok(None);
    }
    let file = vfs.open(&mark.pack.open_path(), Open::Write)?;
    let header = damage_of(header_of(&*file, mark.pack))?;
    Ok(header.ok().filter(|header| header.class == class).map(|header| Appender {
        name: mark.pack,
        number: youngest.number,
        class,
        serial: header.serial,
        file: SyncedFile::new(file),
        len: mark.len,
        objects: youngest.objects,
        written_back: mark.len,
    }))
}
