//! A record of what lies on the disk, beside the log: durable before a receipt leaves.
//!
//! Whoever loses packs that he once attested, or is given older copies of them, finds that out when he starts, as long as
//! he still has the log. Packs that grow are noted apart from those that do not, of which there may be many.

use std::sync::{Mutex, PoisonError};

use filesync_cas::Store;
use filesync_cas::pack::PackName;
use filesync_raft_log::{Log, Note};

use super::calls::{decode, encode};
use crate::collected;
use crate::error::{Error, ErrorKind};

/// Packs, and how many bytes of each are durable.
type Packs = Vec<([u8; 16], u64)>;

/// What was noted last: packs that do not grow, and those that do.
#[derive(Debug, Default)]
pub struct Record(Mutex<Option<(Packs, Packs)>>);

impl Record {
    /// Notes what is on the disk, if it is not noted yet. Durable on return.
    pub fn keep(&self, store: &Store, log: &Log) -> Result<(), Error> {
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let growing = plain(&store.open_packs()?);
        // As long as the same packs grow, none was sealed.
        let sealed = match noted.take().filter(|(_, known)| names(known) == names(&growing)) {
            Some((sealed, known)) if known == growing => {
                *noted = Some((sealed, known));
                return Ok(());
            }
            Some((sealed, _)) => sealed,
            None => {
                let mut packs = plain(&store.durable_packs()?);
                packs.retain(|(name, _)| !names(&growing).contains(name));
                log.note(Note::Packs, &encode(&packs)).map_err(failed)?;
                packs
            }
        };
        log.note(Note::Growing, &encode(&growing)).map_err(failed)?;
        let recorded = |pack: PackName| [&sealed, &growing].iter().any(|packs| names(packs).contains(pack.as_bytes()));
        collected::keep_only(&**store.vfs(), recorded)?;
        *noted = Some((sealed, growing));
        Ok(())
    }
}

/// What of the record is not there any more, and was not collected; in words.
pub fn loss(store: &Store, log: &Log) -> Result<Option<String>, Error> {
    let there = plain(&store.durable_packs()?);
    let collected = collected::read(&**store.vfs())?;
    for note in [Note::Packs, Note::Growing] {
        let Some(noted) = log.noted(note).map_err(failed)? else { continue };
        let noted: Packs = decode(&noted).map_err(failed)?;
        for (name, len) in noted {
            let pack = PackName::from_bytes(name);
            match there.iter().find(|(found, _)| *found == name) {
                None if collected.contains(&pack) => {}
                None => return Ok(Some(format!("pack {pack} is gone"))),
                Some((_, found)) if *found < len => return Ok(Some(format!("pack {pack} is shorter than it was"))),
                Some(_) => {}
            }
        }
    }
    Ok(None)
}

fn names(packs: &Packs) -> Vec<[u8; 16]> {
    packs.iter().map(|(name, _)| *name).collect()
}

fn plain(packs: &[(PackName, u64)]) -> Packs {
    let mut packs: Packs = packs.iter().map(|(name, len)| (*name.as_bytes(), *len)).collect();
    packs.sort_unstable();
    packs
}

fn failed(error: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Failed, format!("cannot keep a record of what is on the disk: {error}"))
}
