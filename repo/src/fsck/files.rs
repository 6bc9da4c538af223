//! Whether the bytes of each file have the hash that its list gives for the whole: `ls --json` shows it, and people hold
//! it against what `b3sum` says.
//!
//! Files are read in the order in which the walk met them, which is about that of the packs.

use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::Receiver;
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

/// Files on their way to those who read them.
#[derive(Debug)]
pub struct Sender {
    runs: crossbeam_channel::Sender<Vec<File>>,
    run: Vec<File>,
}

impl Sender {
    /// A file that was met.
    pub fn send(&mut self, file: File) {
        self.run.push(file);
        if self.run.len() >= RUN {
            self.flush();
        }
    }

    fn flush(&mut self) {
        // Whoever read them has failed, and will say so.
        drop(self.runs.send(std::mem::take(&mut self.run)));
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.flush();
    }
}

/// Has `walk` look for files, and reads what it sends while it does. Gives back what the walk does, and whose hash is wrong; what
/// cannot be read is passed over: others tell of that.
pub fn check<T>(
    repo: &Repo,
    checked: &Checked<'_>,
    advance: &Advance<'_>,
    walk: impl FnOnce(Sender) -> Result<T, Error>,
) -> Result<(T, Vec<(ContentHash, String)>), Error> {
    // The walk has failed: what it sent is of no interest.
    let is_over = AtomicBool::new(false);
    let work = |files: Receiver<Vec<File>>| {
        let (mut reader, mut wrong) = (checked.reader(), Vec::new());
        for file in files.into_iter().flatten().take_while(|_| !is_over.load(Ordering::Relaxed)) {
            crate::cancel::check()?;
            if !is_right(repo, &mut reader, &file, advance)? {
                wrong.push((file.root.0, "its hash of the whole file is not that of its chunks".to_owned()));
            }
        }
        Ok(wrong)
    };
    let (runs, files) = crossbeam_channel::unbounded();
    let (walked, parts) = std::thread::scope(|scope| {
        let token = crate::cancel::current();
        let spawn = |_| {
            let (token, files, work) = (token.clone(), files.clone(), &work);
            std::thread::Builder::new().spawn_scoped(scope, move || token.scope(|| work(files))).ok()
        };
        let others: Vec<_> = (0..crate::commit::threads()).filter_map(spawn).collect();
        let walked = walk(Sender { runs, run: Vec::new() });
        is_over.store(walked.is_err(), Ordering::Relaxed);
        let here = if others.is_empty() { work(files) } else { Ok(Vec::new()) };
        let panicked = || Err(Error::new(ErrorKind::Failed, "a thread that reads files failed"));
        let others = others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked()));
        (walked, std::iter::once(here).chain(others).collect::<Result<Vec<_>, Error>>())
    });
    Ok((walked?, parts?.concat()))
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
