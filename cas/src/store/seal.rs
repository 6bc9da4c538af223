//! Sealing: a full pack gets its table and its final name, in the background.
//!
//! The order is the promise: frames, fdatasync, footer, fdatasync, rename, directory. So a pack with the name of a
//! sealed one is whole.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use super::append::{Appender, Writer, put_error};
use super::recover::locations;
use super::{Inner, lock};
use crate::error::PutError;
use crate::index::IndexedPack;
use crate::pack::{FrameAt, PACK_HEADER_LEN, encode_footer, walk_frames};
use crate::rows::RowBatch;
use crate::vfs::{Rename, VfsFile, write_all_at};

/// Seals that may be under way at once.
const SEALS_MAX: usize = 2;

impl Inner {
    /// Seals a full pack in the background; at most a few at a time.
    pub(super) fn seal(self: &Arc<Self>, writer: &Writer, pack: Appender) {
        let mut seals = lock(&writer.seals);
        while seals.len() >= SEALS_MAX {
            drop(Self::join_seals(writer, [seals.remove(0)]));
        }
        let pack = Arc::new(pack);
        if self.limits.threads {
            let (inner, theirs) = (Arc::clone(self), Arc::clone(&pack));
            let seal = move || inner.seal_or_retire(&theirs);
            if let Ok(thread) = std::thread::Builder::new().name("seal".to_owned()).spawn(seal) {
                return seals.push(thread);
            }
        }
        // No thread to be had: then here and now.
        self.seal_or_retire(&pack);
    }

    /// Waits for seals. Fails if one of them, or anything else before, could not make durable what it had to.
    pub(crate) fn join_seals(writer: &Writer, seals: impl IntoIterator<Item = JoinHandle<()>>) -> Result<(), PutError> {
        for seal in seals {
            if seal.join().is_err() {
                writer.poison(PutError::Poisoned("a thread that seals packs failed".to_owned()));
            }
        }
        writer.check()
    }

    fn seal_or_retire(&self, pack: &Arc<Appender>) {
        let Ok(writer) = self.writer() else { return };
        match self.seal_now(writer, pack) {
            Ok(None) => {}
            // Damage is never sealed over: the pack stays open, with a mark, and what was appended stays readable.
            Ok(Some(cause)) => {
                self.warn(format!("pack {}: damaged: {cause}", pack.name));
                lock(&self.damage).packs.insert(pack.name);
                lock(&writer.retired).push(Arc::clone(pack));
            }
            Err(error) => drop(writer.poison(error)),
        }
    }

    /// Says what is damaged, if anything is.
    fn seal_now(&self, writer: &Writer, pack: &Appender) -> Result<Option<String>, PutError> {
        let vfs = &*self.place.vfs;
        let path = pack.name.open_path();
        let io = || put_error(path.clone());
        let file = &*pack.file.file;
        pack.file.sync().map_err(io())?;
        let frames = match frames_for_footer(file, pack).map_err(io())? {
            Ok(frames) => frames,
            Err(cause) => return Ok(Some(cause)),
        };
        let footer = encode_footer(&frames);
        let len = pack.len + footer.len() as u64;
        // The trailer must be the end: a write that failed may have left something behind it.
        if file.len().map_err(io())? > pack.len {
            file.set_len(pack.len).map_err(io())?;
        }
        write_all_at(file, &footer, pack.len).map_err(io())?;
        pack.file.sync().map_err(io())?;
        vfs.rename(&path, &pack.name.sealed_path(), Rename::NoReplace).map_err(io())?;
        vfs.sync_dir(Path::new("packs")).map_err(put_error("packs"))?;
        lock(&writer.sealed).push(pack.name);
        let objects: Vec<_> = frames.iter().flat_map(|frame| locations(pack.number, frame)).collect();
        let Appender { name, number, class, serial, objects: count, .. } = *pack;
        let known = IndexedPack { name, number, class: Some(class), serial, len, objects: count };
        self.index_written(objects, vec![known], RowBatch::default(), None);
        Ok(None)
    }
}

/// All frames of a pack, or what is wrong with one of them.
fn frames_for_footer(file: &dyn VfsFile, pack: &Appender) -> io::Result<Result<Vec<FrameAt>, String>> {
    let mut frames = Vec::new();
    let mut bad = None;
    walk_frames::<io::Error>(
        file,
        pack.class,
        PACK_HEADER_LEN,
        pack.len,
        &mut |_, frame| {
            frames.push(frame);
            Ok(())
        },
        &mut |_, cause| {
            bad.get_or_insert(cause);
            Ok(())
        },
    )?;
    Ok(bad.map_or(Ok(frames), Err))
}
