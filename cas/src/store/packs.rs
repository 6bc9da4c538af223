//! The packs of a store: which there are, how long, and their open files.

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::head::Head;
use crate::index::{IndexedPack, PackNumber};
use crate::pack::{
    Class, FrameAt, PackHeader, PackName, ScanError, is_lost, read_footer, read_pack_header, walk_frames,
};
use crate::vfs::{FileKind, Open, Vfs, VfsFile};

/// Files kept open for reading: few, since a process may have 64 descriptors in all.
const OPEN_FILES_MAX: usize = 8;

/// A pack as directory and marks tell of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackFile {
    /// Its name.
    pub name: PackName,
    /// Whether it is sealed.
    pub sealed: bool,
    /// What counts: the mark of an open pack, all of a sealed one.
    pub end: u64,
    /// Length of the file.
    pub len: u64,
}

impl PackFile {
    /// Where it lies.
    pub fn path(&self) -> PathBuf {
        if self.sealed { self.name.sealed_path() } else { self.name.open_path() }
    }

    /// Whether bytes that were durable are gone.
    pub fn is_short(&self) -> bool {
        self.len < self.end
    }
}

/// What lies in `packs/`.
#[derive(Debug, Default)]
pub struct Survey {
    /// Packs that count, ascending by name.
    pub packs: Vec<PackFile>,
    /// Open packs without a mark: nothing of them was ever acknowledged.
    pub torn: Vec<PackName>,
    /// Packs that a mark names and that are not there.
    pub missing: Vec<PackName>,
    /// Packs that nothing needs any more: they are none of the store's, and wait for readers to end.
    pub condemned: Vec<PackName>,
    /// Files that are no packs.
    pub strays: Vec<String>,
}

/// Looks into `packs/`.
pub fn survey(vfs: &dyn Vfs, head: &Head) -> io::Result<Survey> {
    let mut found = Survey::default();
    let mut files: HashMap<PackName, bool> = HashMap::new();
    for (file, kind) in vfs.list(Path::new("packs"))? {
        match file.to_str().and_then(pack_name).filter(|_| kind == FileKind::File) {
            Some((name, State::Condemned)) => found.condemned.push(name),
            Some((name, state)) => *files.entry(name).or_default() |= state == State::Sealed,
            None if file.to_str().is_some_and(|name| name.starts_with(crate::vfs::TEMP_PREFIX)) => {}
            None => found.strays.push(file.to_string_lossy().into_owned()),
        }
    }
    for (&name, &sealed) in &files {
        let mark = head.marks.iter().find(|mark| mark.pack == name);
        let path = if sealed { name.sealed_path() } else { name.open_path() };
        let len = match vfs.stat(&path) {
            Ok(stat) => stat.size,
            // Sealed by a writer since it was listed.
            Err(error) if error.kind() == io::ErrorKind::NotFound => match vfs.stat(&name.sealed_path()) {
                Ok(stat) => {
                    found.packs.push(PackFile { name, sealed: true, end: stat.size, len: stat.size });
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    found.missing.extend(mark.map(|mark| mark.pack));
                    continue;
                }
                Err(error) => return Err(error),
            },
            Err(error) => return Err(error),
        };
        match mark {
            _ if sealed => found.packs.push(PackFile { name, sealed, end: len, len }),
            Some(mark) => found.packs.push(PackFile { name, sealed, end: mark.len, len }),
            None => found.torn.push(name),
        }
    }
    for mark in head.marks.iter().filter(|mark| !files.contains_key(&mark.pack)) {
        // A listing may miss a file that is being renamed: only a look of its own tells.
        match vfs.stat(&mark.pack.sealed_path()) {
            Ok(stat) => {
                found.packs.push(PackFile { name: mark.pack, sealed: true, end: stat.size, len: stat.size });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => found.missing.push(mark.pack),
            Err(error) => return Err(error),
        }
    }
    found.packs.sort_by_key(|pack| pack.name);
    found.torn.sort_unstable();
    found.condemned.sort_unstable();
    found.strays.sort();
    Ok(found)
}

/// As [`survey`], with the marks that `head` reads. Beside a writer that removes packs, a mark that was read before may
/// name one that is gone: a pack is missing only if the marks did not move meanwhile.
pub fn survey_settled<E>(
    vfs: &dyn Vfs,
    head: impl Fn() -> Result<Head, E>,
    io: impl Fn(io::Error) -> E,
) -> Result<(Head, Survey), E> {
    let mut read = head()?;
    loop {
        let found = survey(vfs, &read).map_err(&io)?;
        if found.missing.is_empty() {
            return Ok((read, found));
        }
        let again = head()?;
        if again == read {
            return Ok((read, found));
        }
        read = again;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Sealed,
    Condemned,
}

fn pack_name(file: &str) -> Option<(PackName, State)> {
    let (name, state) = match file.split_once('.')? {
        (name, "pack") => (name, State::Sealed),
        (name, "open") => (name, State::Open),
        (name, "condemned") => (name, State::Condemned),
        _ => return None,
    };
    Some((name.parse().ok()?, state))
}

/// Opens a pack for reading, whether or not it has been sealed or condemned meanwhile.
pub fn open_pack(vfs: &dyn Vfs, name: PackName) -> io::Result<Arc<dyn VfsFile>> {
    // In the order in which it is renamed, and the first once more.
    for path in [name.open_path(), name.sealed_path(), name.open_path(), name.condemned_path()] {
        match vfs.open(&path, Open::Read) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The header of a pack's file, which must be this pack's; an error that is none of the system is damage.
pub fn header_of(file: &dyn VfsFile, name: PackName) -> Result<PackHeader, ScanError> {
    let header = read_pack_header(file)?;
    if header.name != name {
        return Err(ScanError::Damaged { at: 0, cause: "it is another pack's file".to_owned() });
    }
    Ok(header)
}

/// Turns damage into words, and passes on what the system refused.
pub fn damage_of<T>(result: Result<T, ScanError>) -> io::Result<Result<T, String>> {
    match result {
        Ok(found) => Ok(Ok(found)),
        Err(ScanError::Io(error)) if !is_lost(&error) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// All frames of a pack that begin at or after `from`: from the footer where there is a good one, else by
/// walking. `damage` is told of what could not be read; the walk goes on behind it. An error is the system's, and
/// says nothing against the pack.
pub fn frames_of(
    vfs: &dyn Vfs,
    pack: &PackFile,
    from: u64,
    visit: &mut dyn FnMut(FrameAt) -> io::Result<()>,
    damage: &mut dyn FnMut(String),
) -> io::Result<Option<PackHeader>> {
    let file = match open_pack(vfs, pack.name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            damage("it is missing".to_owned());
            return Ok(None);
        }
        opened => opened?,
    };
    let end = pack.end.min(pack.len);
    let header = damage_of(header_of(&*file, pack.name))?.map_err(&mut *damage).ok();
    if pack.sealed {
        match damage_of(read_footer(&*file, end))? {
            Ok((frames, _)) => {
                frames.into_iter().filter(|frame| frame.offset >= from).try_for_each(visit)?;
                return Ok(header);
            }
            Err(cause) => damage(cause),
        }
    }
    // Without a header the class is not known: the frames themselves tell, since only one of them fits.
    let classes = header.map_or(Class::ALL.to_vec(), |header| vec![header.class]);
    for class in classes {
        let mut note = |_: u64, cause: String| -> io::Result<()> {
            if header.is_some() && !pack.sealed {
                damage(cause);
            }
            Ok(())
        };
        walk_frames::<io::Error>(&*file, class, from, end, &mut |_, frame| visit(frame), &mut note)?;
    }
    Ok(header)
}

#[derive(Debug, Default)]
struct Numbers {
    names: HashMap<PackNumber, PackName>,
    numbers: HashMap<PackName, PackNumber>,
    next: u32,
}

/// Packs by number, and their files.
#[derive(Debug)]
pub struct PackTable {
    vfs: Arc<dyn Vfs>,
    numbers: RwLock<Numbers>,
    files: Mutex<VecDeque<(PackNumber, Arc<dyn VfsFile>)>>,
}

impl PackTable {
    /// An empty table.
    pub fn new(vfs: Arc<dyn Vfs>) -> Self {
        Self { vfs, numbers: RwLock::default(), files: Mutex::default() }
    }

    /// Takes over what an index knows, and that numbers below `next` have been given.
    pub fn adopt(&self, packs: &[IndexedPack], next: PackNumber) {
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        numbers.next = numbers.next.max(next.0);
        for pack in packs {
            numbers.names.insert(pack.number, pack.name);
            numbers.numbers.insert(pack.name, pack.number);
            numbers.next = numbers.next.max(pack.number.0 + 1);
        }
    }

    /// The number of a pack, given now if it has none.
    pub fn number(&self, name: PackName) -> PackNumber {
        let mut numbers = self.numbers.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(&number) = numbers.numbers.get(&name) {
            return number;
        }
        let number = PackNumber(numbers.next);
        numbers.next += 1;
        numbers.names.insert(number, name);
        numbers.numbers.insert(name, number);
        number
    }

    /// The name behind a number.
    pub fn name(&self, number: PackNumber) -> Option<PackName> {
        self.numbers.read().unwrap_or_else(PoisonError::into_inner).names.get(&number).copied()
    }

    /// A number above all that were ever given.
    pub fn next_number(&self) -> PackNumber {
        PackNumber(self.numbers.read().unwrap_or_else(PoisonError::into_inner).next)
    }

    /// Closes the files of packs that are to go. Their numbers go on to mean them.
    pub fn close(&self, packs: &HashSet<PackNumber>) {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        files.retain(|(number, _)| !packs.contains(number));
    }

    /// The pack's file, opened for reading or kept from before.
    pub fn file(&self, number: PackNumber) -> io::Result<Arc<dyn VfsFile>> {
        let mut files = self.files.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = files.iter().position(|(open, _)| *open == number) {
            let (_, file) = &files[at];
            return Ok(Arc::clone(file));
        }
        let name = self.name(number).ok_or(io::ErrorKind::NotFound)?;
        let file = open_pack(&*self.vfs, name)?;
        if files.len() >= OPEN_FILES_MAX {
            files.pop_front();
        }
        files.push_back((number, Arc::clone(&file)));
        Ok(file)
    }
}
