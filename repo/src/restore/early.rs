//! Large files of a commit that is on its way, written while their chunks arrive. The restore moves them to their places,
//! and writes only what they lack.
//!
//! They are a help, and nothing relies on them: each lies under a temporary name beside the store, which is removed at the
//! end, or by the next writer after a crash. A chunk is written after it was verified and stored. A file that could not
//! be synced is not taken; if one cannot be written, all are given up, and the room that they took. On a disk that may
//! not have room for everything none is begun, so that the store has it.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use filesync_cas::relay::VerifiedFrame;
use filesync_cas::store::Witness;
use filesync_cas::vfs::{Open, Rename, Vfs, VfsFile, temp_name, write_all_at};
use filesync_cas::{ContentHash, Kind, Store};
use filesync_merkle::history::read_commit;
use filesync_merkle::{CommitId, Content, ListChunk, ListId, ListReader, Node, TreeLink, WalkError, diff};

use super::fill::{Job, WHOLE_MAX, sparse};
use crate::objects::StoreNodes;
use crate::repo::STORE_DIR;

/// Of what there are so many at most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Places of chunks, which are what takes memory: 56 bytes each. Files are left out from the first for which there is
    /// no room.
    pub places: usize,
    /// Files that are open at once. While there are so many, no other is begun.
    pub open_files: usize,
    /// Bytes of a file after which it is synced while more of it comes.
    pub unsynced: u64,
}

const LIMITS: Limits = Limits { places: 512 << 10, open_files: 16, unsynced: 32 << 20 };

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The large files of one commit, as far as their chunks come.
#[derive(Debug)]
pub struct EarlyFiles {
    work: Arc<dyn Vfs>,
    nodes: StoreNodes,
    commit: CommitId,
    limits: Limits,
    /// Made when the first chunk comes: then all of the tree is here.
    plan: OnceLock<Plan>,
    syncer: Mutex<Option<Syncer>>,
    is_given_up: AtomicBool,
}

/// A file that the restore goes on with.
pub struct Taken {
    /// Open for writing, of its full length, at its place.
    pub file: Arc<dyn VfsFile>,
    /// Of each of its chunks, whether it is written.
    pub written: Vec<bool>,
}

#[derive(Debug, Default)]
struct Plan {
    /// By chunk.
    places: Vec<Place>,
    files: Vec<Arc<EarlyFile>>,
    by_root: HashMap<ListId, usize>,
}

/// Where a chunk belongs: as the so many-th of a file.
#[derive(Debug)]
struct Place {
    chunk: ContentHash,
    /// How long the list says that it is.
    len: u32,
    offset: u64,
    file: u32,
    nth: u32,
}

#[derive(Debug)]
struct EarlyFile {
    size: u64,
    body: Mutex<Body>,
    /// Of all files, how many are open.
    open_files: Arc<AtomicUsize>,
}

/// What there is of a file.
#[derive(Debug)]
struct Body {
    /// Where it lies, if it was begun and nobody took it.
    at: Option<PathBuf>,
    /// Until everything is written and synced: an error of the disk is told to who has the file open.
    file: Option<Arc<dyn VfsFile>>,
    written: Vec<bool>,
    left: usize,
    unsynced: u64,
    is_bad: bool,
}

/// The thread that syncs.
#[derive(Debug)]
struct Syncer {
    ask: SyncSender<Arc<EarlyFile>>,
    thread: JoinHandle<()>,
}

impl EarlyFiles {
    /// For a commit that is to be restored into an empty working copy.
    pub fn new(work: Arc<dyn Vfs>, store: Arc<Store>, commit: CommitId) -> Self {
        Self::within(LIMITS, work, store, commit)
    }

    pub(super) fn within(limits: Limits, work: Arc<dyn Vfs>, store: Arc<Store>, commit: CommitId) -> Self {
        let (plan, syncer, is_given_up) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        Self { work, nodes: StoreNodes(store), commit, limits, plan, syncer, is_given_up }
    }

    /// Moves the file with this content to where a job wants it, which is free, if that can be done; once.
    pub(super) fn take(&self, root: &ListId, job: &Job) -> Option<Taken> {
        self.join_syncer();
        let plan = self.plan.get()?;
        let early = plan.files.get(*plan.by_root.get(root)?)?;
        let mut body = lock(&early.body);
        let taken = self.try_take(early, &mut body, job);
        if taken.is_none() {
            // All of it is written anew, and needs the room.
            self.discard(early, &mut body);
        }
        taken
    }

    fn try_take(&self, early: &EarlyFile, body: &mut Body, job: &Job) -> Option<Taken> {
        let at = body.at.as_ref().filter(|_| !body.is_bad)?;
        let file = early.close(&mut body.file).map_or_else(|| self.work.open(at, Open::Write), Ok).ok()?;
        file.set_mode(job.entry.mode.bits().into()).ok()?;
        self.work.rename(at, &job.at, Rename::NoReplace).ok()?;
        (body.at, body.is_bad) = (None, true);
        Some(Taken { file, written: std::mem::take(&mut body.written) })
    }

    fn plan(&self) -> &Plan {
        self.plan.get_or_init(|| {
            // What cannot be read stops the fetch or the restore, which say so.
            let plan = self.read_plan().unwrap_or_default();
            if !plan.files.is_empty() {
                *lock(&self.syncer) = Syncer::start().ok();
            }
            plan
        })
    }

    fn write_chunk(&self, plan: &Plan, id: &ContentHash, bytes: &[u8]) -> io::Result<()> {
        let places = plan.places_of(id);
        let is_hole = !places.is_empty() && sparse::is_hole(bytes);
        for place in places {
            let early = &plan.files[place.file as usize];
            let mut body = lock(&early.body);
            // That a list tells the truth is seen when all of its file is read.
            if bytes.len() as u64 != u64::from(place.len) || !self.is_wanted(early, &mut body, place.nth)? {
                continue;
            }
            if let (Some(file), false) = (&body.file, is_hole) {
                for data in sparse::data(bytes, place.offset) {
                    let at = place.offset + data.start as u64;
                    write_all_at(&**file, &bytes[data], at)?;
                }
            }
            body.written[place.nth as usize] = true;
            body.left -= 1;
            body.unsynced += bytes.len() as u64;
            let is_complete = body.left == 0;
            if is_complete || body.unsynced >= self.limits.unsynced {
                body.unsynced = 0;
                drop(body);
                self.sync(early, is_complete);
            }
        }
        Ok(())
    }

    /// Whether a chunk is still to be written; then the file is open.
    fn is_wanted(&self, early: &EarlyFile, body: &mut Body, nth: u32) -> io::Result<bool> {
        if body.is_bad || body.written.get(nth as usize) != Some(&false) {
            return Ok(false);
        }
        if body.at.is_none() {
            if early.open_files.load(Ordering::Relaxed) >= self.limits.open_files {
                return Ok(false);
            }
            let at = Path::new(STORE_DIR).join(temp_name()?);
            let file = self.work.open(&at, Open::Create { mode: 0o600 })?;
            body.at = Some(at);
            file.set_len(early.size)?;
            body.file = Some(file);
            early.open_files.fetch_add(1, Ordering::Relaxed);
        }
        Ok(body.file.is_some())
    }

    /// Has a file synced. Waits for its turn only if nobody would ask again.
    fn sync(&self, early: &Arc<EarlyFile>, is_complete: bool) {
        let ask = lock(&self.syncer).as_ref().map(|syncer| syncer.ask.clone());
        let Some(ask) = ask else { return };
        if is_complete {
            drop(ask.send(Arc::clone(early)));
        } else {
            drop(ask.try_send(Arc::clone(early)));
        }
    }

    fn join_syncer(&self) {
        let syncer = lock(&self.syncer).take();
        if let Some(Syncer { ask, thread }) = syncer {
            drop(ask);
            drop(thread.join());
        }
    }

    /// Removes what nobody took.
    fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
        let files = self.plan.get().into_iter().flat_map(|plan| &plan.files);
        files.for_each(|early| self.discard(early, &mut lock(&early.body)));
    }

    fn discard(&self, early: &EarlyFile, body: &mut Body) {
        body.is_bad = true;
        early.close(&mut body.file);
        if let Some(at) = body.at.take() {
            // One that stays is met again by the next writer.
            drop(self.work.unlink(&at));
        }
    }

    fn read_plan(&self) -> Result<Plan, WalkError> {
        let tree = read_commit(&self.nodes, &self.commit)?.tree;
        let mut plan = Plan::default();
        // What is stored may not compress, and nothing of it is here yet.
        let wanted = tree.totals.bytes.saturating_mul(2);
        if self.work.free().is_ok_and(|free| free >= wanted) {
            plan.read(&self.nodes, tree, self.limits.places)?;
        }
        Ok(plan)
    }
}

impl Witness for EarlyFiles {
    fn put(&self, frame: &VerifiedFrame) {
        let is_data = frame.slots().first().is_some_and(|slot| slot.kind == Kind::CHUNK);
        if !is_data || self.is_given_up.load(Ordering::Relaxed) {
            return;
        }
        let plan = self.plan();
        if frame.objects().any(|(slot, bytes)| self.write_chunk(plan, &slot.id, bytes).is_err()) {
            self.give_up();
        }
    }
}

impl Drop for EarlyFiles {
    fn drop(&mut self) {
        self.join_syncer();
        self.give_up();
    }
}

impl Plan {
    fn read(&mut self, nodes: &StoreNodes, tree: TreeLink, places_max: usize) -> Result<(), WalkError> {
        let open_files = Arc::new(AtomicUsize::new(0));
        for change in diff(nodes, None, Some(tree)) {
            let Some(Node::File { content: Content::List { root, height }, size, .. }) =
                change?.new.map(|new| new.node)
            else {
                continue;
            };
            if size <= WHOLE_MAX || self.by_root.contains_key(&root) {
                continue;
            }
            let begin = self.places.len();
            if !self.add_places(ListReader::new(nodes, root, height, size, 0)?, places_max)? {
                self.places.truncate(begin);
                break;
            }
            let chunks = self.places.len() - begin;
            self.by_root.insert(root, self.files.len());
            self.files.push(Arc::new(EarlyFile::new(size, chunks, Arc::clone(&open_files))));
        }
        self.places.sort_unstable_by_key(|place| (place.chunk, place.file, place.nth));
        Ok(())
    }

    /// Adds the chunks of the next file; whether there was room for all of them.
    fn add_places(&mut self, list: ListReader<'_>, places_max: usize) -> Result<bool, WalkError> {
        let file = u32::try_from(self.files.len()).expect("places are limited");
        for (nth, chunk) in (0..).zip(list) {
            let ListChunk { offset, id, len } = chunk?;
            if self.places.len() >= places_max {
                return Ok(false);
            }
            self.places.push(Place { chunk: id.0, len, offset, file, nth });
        }
        Ok(true)
    }

    fn places_of(&self, chunk: &ContentHash) -> &[Place] {
        let begin = self.places.partition_point(|place| place.chunk < *chunk);
        let len = self.places[begin..].partition_point(|place| place.chunk == *chunk);
        &self.places[begin..begin + len]
    }
}

impl EarlyFile {
    fn new(size: u64, chunks: usize, open_files: Arc<AtomicUsize>) -> Self {
        let body =
            Body { at: None, file: None, written: vec![false; chunks], left: chunks, unsynced: 0, is_bad: false };
        Self { size, body: Mutex::new(body), open_files }
    }

    /// Takes the open file, if it is.
    fn close(&self, file: &mut Option<Arc<dyn VfsFile>>) -> Option<Arc<dyn VfsFile>> {
        let file = file.take()?;
        self.open_files.fetch_sub(1, Ordering::Relaxed);
        Some(file)
    }

    /// Syncs what is written; if that is everything, the file is closed.
    fn sync(&self) {
        let (file, is_complete) = {
            let body = lock(&self.body);
            (body.file.clone(), body.left == 0)
        };
        let Some(file) = file else { return };
        let synced = file.sync_data();
        let mut body = lock(&self.body);
        body.is_bad |= synced.is_err();
        // What came meanwhile has been asked for in a turn of its own.
        if is_complete {
            self.close(&mut body.file);
        }
    }
}

impl Syncer {
    fn start() -> io::Result<Self> {
        let (ask, asked): (_, Receiver<Arc<EarlyFile>>) = sync_channel(1);
        let work = move || asked.into_iter().for_each(|early| early.sync());
        let thread = std::thread::Builder::new().name("early-sync".to_owned()).spawn(work)?;
        Ok(Self { ask, thread })
    }
}

#[cfg(test)]
mod tests {
    use filesync_cas::relay::{FramePacker, StoredFrame};
    use filesync_cas::{Codec, ContentHash, Kind};
    use filesync_merkle::{CommitId, MerkleSchema};

    use super::*;
    use crate::restore::testing::Fixture;

    /// A list that lies about the length of a chunk must not have others of its file overwritten.
    #[test]
    fn a_chunk_of_another_length_is_not_written() {
        let fixture = Fixture::new();
        let bytes = b"twelve bytes";
        let chunk = ContentHash::of_chunk(bytes);
        let early = EarlyFiles::new(
            Arc::new(fixture.disk.clone()),
            Arc::clone(&fixture.nodes().0),
            CommitId::from_bytes([1; 32]),
        );
        let mut plan = Plan::default();
        for (file, len) in [(0, 5), (1, 12)] {
            plan.places.push(Place { chunk, len, offset: 0, file, nth: 0 });
            plan.files.push(Arc::new(EarlyFile::new(100, 2, Arc::default())));
        }
        early.plan.set(plan).unwrap();
        let mut packer = FramePacker::new(Codec::Zstd);
        packer.push(chunk, Kind::CHUNK, bytes);
        early.put(&StoredFrame::parse(packer.finish().unwrap()).unwrap().verify(&MerkleSchema).unwrap());
        let written = early.plan().files.iter().map(|file| lock(&file.body).written.clone());
        assert_eq!(written.collect::<Vec<_>>(), [[false, false], [true, false]]);
    }
}
