//! Durable pins: roots that something outside the refs relies on (`docs/format.md`, section 3).
//!
//! A pin is primary data. It is synced, with its directory, before whoever relies on it is told; it goes only
//! when the reason for it is durably gone. Never after a time.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{OpenError, PutError};
use crate::hash::{ContentHash, Kind};
use crate::small_file::{Builder, Lines, check_form};
use crate::vfs::{Vfs, read_to_end, replace};

const TITLE: &str = "filesync pin 1";
const DIR: &str = "pins";
const FILE_LEN_MAX: u64 = 64 << 20;

/// Roots that must stay, under a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// Names the pin: what it was given for.
    pub id: ContentHash,
    /// What must stay, with all that it refers to.
    pub roots: Vec<(Kind, ContentHash)>,
    /// For whoever gave it: what lets it go. One line, or empty.
    pub note: String,
}

fn path(id: &ContentHash) -> PathBuf {
    Path::new(DIR).join(id.to_hex())
}

/// Writes a pin; it is durable on return.
pub fn put(vfs: &dyn Vfs, pin: &Pin) -> Result<(), PutError> {
    let bytes = encode(&pin.roots, &pin.note);
    let path = path(&pin.id);
    replace(vfs, &path, &bytes, 0o644).map_err(|source| PutError::Io { path, source })
}

/// Removes a pin; a pin that is not there is no error.
pub fn remove(vfs: &dyn Vfs, id: &ContentHash) -> Result<(), PutError> {
    let path = path(id);
    match vfs.unlink(&path).and_then(|()| vfs.sync_dir(Path::new(DIR))) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PutError::Io { path, source: error }),
        _ => Ok(()),
    }
}

/// All pins. Fails if any cannot be read: no pins must never mean that nothing is pinned.
pub fn all(vfs: &dyn Vfs) -> Result<Vec<Pin>, OpenError> {
    let io = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let mut pins = Vec::new();
    for (name, _) in vfs.list(Path::new(DIR)).map_err(io(Path::new(DIR)))? {
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        let path = path(&id);
        let bytes = match read_to_end(vfs, &path, FILE_LEN_MAX) {
            // Another thread let it go since the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(io(&path))?,
        };
        let (roots, note) = decode(&bytes).map_err(|cause| OpenError::Damaged { path, cause })?;
        pins.push(Pin { id, roots, note });
    }
    pins.sort_by_key(|pin| pin.id);
    Ok(pins)
}

/// The file's bytes.
pub(crate) fn encode(roots: &[(Kind, ContentHash)], note: &str) -> Vec<u8> {
    let mut roots = roots.to_vec();
    roots.sort_unstable();
    roots.dedup();
    let mut file = Builder::new(TITLE);
    roots.iter().for_each(|(kind, id)| file.line(&format!("root {} {id}", kind.0)));
    if !note.is_empty() {
        file.line(&format!("note {}", note.replace('\n', " ")));
    }
    file.finish()
}

/// Parses the file's bytes: roots and note.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Vec<(Kind, ContentHash)>, String), String> {
    let root = |line: &str| {
        let (kind, id) = line.strip_prefix("root ")?.split_once(' ')?;
        Some((Kind(kind.parse().ok()?), id.parse().ok()?))
    };
    let (mut roots, mut note) = (Vec::new(), None);
    for line in Lines::parse(bytes, TITLE)?.iter() {
        match (line.strip_prefix("note "), root(line)) {
            // The last line, and the only one of its sort.
            (Some(found), _) if note.is_none() => note = Some(found.to_owned()),
            (None, Some(root)) if note.is_none() => roots.push(root),
            _ => return Err(format!("unknown line {line:?}")),
        }
    }
    let note = note.unwrap_or_default();
    check_form(bytes, &encode(&roots, &note))?;
    Ok((roots, note))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::testing::{Fault, FaultVfs, LossVfs, Op, Plan, Scope};

    /// A node lets pins go while its commands read what must stay: one that went in between is none, and no failure. What
    /// cannot be read is one.
    #[test]
    fn a_pin_that_goes_while_they_are_read_is_none() {
        const NOENT: i32 = 2;
        const IO: i32 = 5;
        let disk = LossVfs::new();
        disk.mkdir(Path::new(DIR), 0o755).unwrap();
        for n in 1..=3 {
            let roots = vec![(Kind(1), ContentHash::from_bytes([n; 32]))];
            put(&disk, &Pin { id: ContentHash::from_bytes([n; 32]), roots, note: String::new() }).unwrap();
        }
        let read = |errno: i32| {
            let plan = Plan { scope: Scope::Only(Op::OpenRead), at: 2, fault: Fault::ErrorOnce(errno) };
            let vfs = FaultVfs::with_plan(Arc::new(disk.clone()), plan);
            let read = all(&vfs);
            vfs.assert_hit();
            read
        };
        assert_eq!(read(NOENT).unwrap().len(), 2);
        assert!(matches!(read(IO), Err(OpenError::Io { .. })));
        assert_eq!(all(&disk).unwrap().len(), 3);
    }
}
