//! Whether the bytes of each file have the hash that its list gives for the whole: `ls --json` shows it, and people hold
//! it against what `b3sum` says.
//!
//! Files are read in the order in which the walk met them, which is about that of the packs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use filesync_cas::fsck::{Advance, Checked, WholeReader};
use filesync_cas::{ContentHash, GetError};
use filesync_merkle::{ListId, ListReader};

use crate::error::{Error, ErrorKind};
use crate::repo::Repo;

/// Files that one thread takes at a time, so that neighbours share a frame.
const RUN: usize = 16;

/// A file of more than one chunk.
#[derive(Debug, Clone, Copy)]
pub struct File {
    /// The root of its list.
    pub root: ListId,
    /// What the entry says of it.
    pub height: u8,
    /// Its size.
    pub size: u64,
}

/// Reads them all, and tells whose hash is wrong. What cannot be read is passed over: others tell of that.
pub fn check(
    repo: &Repo,
    checked: &Checked<'_>,
    files: Vec<File>,
    advance: &Advance<'_>,
) -> Result<Vec<(ContentHash, String)>, Error> {
    let (next, wrong) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let work = || {
        let mut reader = checked.reader();
        loop {
            let from = next.fetch_add(RUN, Ordering::Relaxed);
            let Some(run) = files.get(from..).filter(|run| !run.is_empty()) else { return Ok(()) };
            for file in &run[..run.len().min(RUN)] {
                crate::cancel::check()?;
                if !is_right(repo, &mut reader, file, advance)? {
                    let cause = "its hash of the whole file is not that of its chunks".to_owned();
                    wrong.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((file.root.0, cause));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        let token = crate::cancel::current();
        let spawn = |_| {
            let token = token.clone();
            std::thread::Builder::new().spawn_scoped(scope, move || token.scope(work)).ok()
        };
        let others: Vec<_> = (1..crate::commit::threads()).filter_map(spawn).collect();
        let here = work();
        let panicked = || Err(Error::new(ErrorKind::Failed, "a thread that reads files failed"));
        others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())).fold(here, Result::and)
    })?;
    Ok(wrong.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn is_right(repo: &Repo, reader: &mut WholeReader<'_>, file: &File, advance: &Advance<'_>) -> Result<bool, Error> {
    let chunks = match ListReader::new(repo.node_source(), file.root, file.height, file.size, 0) {
        Ok(chunks) => chunks,
        Err(error) if error.is_damage() => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    let wanted = ContentHash::from_bytes(chunks.file_hash());
    let mut failed = None;
    let mut ids = chunks.map(|chunk| match chunk {
        Ok(chunk) => Ok(chunk.id.0),
        Err(error) => {
            let is_damage = error.is_damage();
            failed = Some(error).filter(|_| !is_damage);
            Err(GetError::Missing(file.root.0))
        }
    });
    let found = reader.hash(&mut ids, advance);
    drop(ids);
    match (found, failed) {
        (_, Some(error)) => Err(error.into()),
        (Ok(found), None) => Ok(found == wanted),
        (Err(error), None) if error.is_damage() => Ok(true),
        (Err(error), None) => Err(error.into()),
    }
}
