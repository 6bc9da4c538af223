//! Packs that nothing needs any more: out of the store by a rename, and gone when no reader is left.
//!
//! The name says it, and nothing else does: so it holds whatever becomes of the index. A condemned pack is never
//! looked into when an index is built; who has had it open goes on to read it.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::packs::PackFile;
use super::{Inner, lock};
use crate::error::PutError;
use crate::head::Mark;
use crate::index::PackNumber;
use crate::lock::NoReaders;
use crate::pack::PackName;
use crate::vfs::{Rename, Vfs};

/// Unlinks condemned packs and says how many bytes they had; `None` if somebody reads at this moment.
pub fn unlink_condemned(vfs: &dyn Vfs, lock_dir: Option<&Path>, packs: &[PackName]) -> io::Result<Option<u64>> {
    if packs.is_empty() {
        return Ok(Some(0));
    }
    let _nobody_reads = match lock_dir.map(NoReaders::take).transpose()? {
        Some(None) => return Ok(None),
        lock => lock,
    };
    let mut bytes = 0;
    for pack in packs {
        let path = pack.condemned_path();
        let unlinked = vfs.stat(&path).and_then(|stat| {
            vfs.unlink(&path)?;
            Ok(stat.size)
        });
        match unlinked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            unlinked => bytes += unlinked?,
        }
    }
    Ok(Some(bytes))
}

impl Inner {
    /// Sees to it that nothing more is appended to a pack; false if something was since it was looked at.
    pub(crate) fn detach(&self, pack: &PackFile) -> Result<bool, PutError> {
        if pack.sealed {
            return Ok(true);
        }
        let writer = self.writer()?;
        for current in &writer.appenders {
            let mut current = lock(current);
            if current.as_ref().is_some_and(|appender| appender.name == pack.name) {
                return Ok(current.take_if(|appender| appender.len == pack.end).is_some());
            }
        }
        // It may have been filled up meanwhile, and is being sealed.
        let seals = std::mem::take(&mut *lock(&writer.seals));
        Self::join_seals(writer, seals)?;
        let is_full = lock(&writer.sealed).contains(&pack.name)
            || lock(&writer.retired).iter().any(|retired| retired.name == pack.name);
        let has_mark = |mark: &Mark| mark.pack == pack.name && mark.len == pack.end;
        Ok(!is_full && writer.head().marks.iter().any(has_mark))
    }

    /// Takes a pack out of the store. Its index rows and its mark are gone, durably; so either name will do.
    pub(crate) fn rename_condemned(&self, pack: &PackFile) -> Result<(), PutError> {
        let path = pack.path();
        match self.place.vfs.rename(&path, &pack.name.condemned_path(), Rename::Replace) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(PutError::Io { path, source: error }),
            _ => Ok(()),
        }
    }

    /// As the function of that name.
    pub(crate) fn unlink_condemned(&self, packs: &[PackName]) -> Result<Option<u64>, PutError> {
        let unlinked = unlink_condemned(&*self.place.vfs, self.place.lock_dir.as_deref(), packs);
        unlinked.map_err(|source| PutError::Io { path: PathBuf::from("packs"), source })
    }

    /// Forgets what was remembered of packs that are condemned, and closes their files.
    pub(crate) fn forget_packs(&self, numbers: &HashSet<PackNumber>, names: &HashSet<PackName>) {
        self.table.close(numbers);
        self.moved.write().unwrap_or_else(PoisonError::into_inner).retain(|_, at| !numbers.contains(&at.pack));
        *lock(&self.elsewhere) = None;
        lock(&self.damage).packs.retain(|pack| !names.contains(pack));
    }

    /// Packs that are no longer the store's, of those that were when it was opened.
    pub(crate) fn condemned(&self) -> HashSet<PackNumber> {
        self.condemned.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing may rely on what lies in a pack.
    pub(crate) fn is_condemned(&self, pack: PackNumber) -> bool {
        self.condemned.read().unwrap_or_else(PoisonError::into_inner).contains(&pack)
    }
}
