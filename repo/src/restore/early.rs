//! Large files of a commit that is on its way, written while their chunks arrive. The restore moves them to their places,
//! and writes only what they lack.
//!
//! They are a help, and nothing relies on them: each lies under a temporary name beside the store, which is removed at the
//! end, or by the next writer after a crash. A chunk is written after it was verified and stored. A file that could not
//! be synced is not taken; if one cannot be written, all are given up, and the room that they took.

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
use filesync_merkle::{CommitId, Content, ListId, ListReader, Node, WalkError, diff};

use super::fill::{Job, WHOLE_MAX, sparse};
use crate::objects::StoreNodes;
use crate::repo::STORE_DIR;

/// Places of chunks, which are what takes its memory: 25 MiB. Files for which there is no room are not written early.
const PLACES_MAX: usize = 512 << 10;
/// Files that are open at once. Of more, none is begun.
const OPEN_MAX: usize = 64;
/// Bytes of a file after which it is synced while more of it comes.
const SYNC_BYTES: u64 = 32 << 20;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The large files of one commit, as far as their chunks come.
#[derive(Debug)]
pub struct EarlyFiles {
    work: Arc<dyn Vfs>,
    nodes: StoreNodes,
    commit: CommitId,
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
    offset: u64,
    file: u32,
    nth: u32,
}

#[derive(Debug)]
struct EarlyFile {
    size: u64,
    body: Mutex<Body>,
    open: Arc<AtomicUsize>,
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
    /// For a commit that is to be restored into a working copy without any.
    pub fn new(work: Arc<dyn Vfs>, store: Arc<Store>, commit: CommitId) -> Self {
        let (plan, syncer, is_given_up) = (OnceLock::new(), Mutex::default(), AtomicBool::new(false));
        Self { work, nodes: StoreNodes(store), commit, plan, syncer, is_given_up }
    }

    /// Moves the file with this content to where a job wants it, which is free, if that can be done; once.
    pub(super) fn take(&self, root: &ListId, job: &Job) -> Option<Taken> {
        self.join_syncer();
        let plan = self.plan.get()?;
        let early = plan.files.get(*plan.by_root.get(root)?)?;
        let mut body = lock(&early.body);
        let from = body.at.clone().filter(|_| !body.is_bad)?;
        self.work.rename(&from, &job.at, Rename::NoReplace).ok()?;
        body.at = None;
        let taken = early.close(&mut body).map_or_else(|| self.work.open(&job.at, Open::Write), Ok).and_then(|file| {
            file.set_mode(job.entry.mode.bits().into())?;
            Ok(Taken { file, written: std::mem::take(&mut body.written) })
        });
        // Then the restore finds its place free, and writes all of it.
        taken.inspect_err(|_| drop(self.work.unlink(&job.at))).ok()
    }

    fn plan(&self) -> &Plan {
        self.plan.get_or_init(|| {
            // What cannot be read stops the fetch or the restore, which say so.
            let plan = Plan::read(&self.nodes, &self.commit).unwrap_or_default();
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
            if !self.is_wanted(early, &mut body, place.nth)? {
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
            if is_complete || body.unsynced >= SYNC_BYTES {
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
            if early.open.fetch_add(1, Ordering::Relaxed) >= OPEN_MAX {
                early.open.fetch_sub(1, Ordering::Relaxed);
                return Ok(false);
            }
            let at = Path::new(STORE_DIR).join(temp_name()?);
            let file = self.work.open(&at, Open::Create { mode: 0o600 })?;
            body.at = Some(at);
            file.set_len(early.size)?;
            body.file = Some(file);
        }
        Ok(body.file.is_some())
    }

    /// Has a file synced: waits for that only if nobody would ask again.
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
        for early in self.plan.get().into_iter().flat_map(|plan| &plan.files) {
            let mut body = lock(&early.body);
            body.is_bad = true;
            early.close(&mut body);
            if let Some(at) = body.at.take() {
                // The next writer meets it again.
                drop(self.work.unlink(&at));
            }
        }
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
    fn read(nodes: &StoreNodes, commit: &CommitId) -> Result<Self, WalkError> {
        let mut plan = Self::default();
        let open = Arc::new(AtomicUsize::new(0));
        let tree = read_commit(nodes, commit)?.tree;
        for change in diff(nodes, None, Some(tree)) {
            let Some(Node::File { content: Content::List { root, height }, size, .. }) =
                change?.new.map(|new| new.node)
            else {
                continue;
            };
            let is_new = size > WHOLE_MAX && !plan.by_root.contains_key(&root);
            if is_new && !plan.add(ListReader::new(nodes, root, height, size, 0)?, root, size, &open)? {
                break;
            }
        }
        plan.places.sort_unstable_by_key(|place| (place.chunk, place.file, place.nth));
        Ok(plan)
    }

    /// Adds a file, if there is room for it.
    fn add(
        &mut self,
        list: ListReader<'_>,
        root: ListId,
        size: u64,
        open: &Arc<AtomicUsize>,
    ) -> Result<bool, WalkError> {
        let (begin, number) = (self.places.len(), self.files.len());
        let file = u32::try_from(number).expect("places are limited");
        for (nth, chunk) in (0..).zip(list) {
            let chunk = chunk?;
            if self.places.len() >= PLACES_MAX {
                self.places.truncate(begin);
                return Ok(false);
            }
            self.places.push(Place { chunk: chunk.id.0, offset: chunk.offset, file, nth });
        }
        let chunks = self.places.len() - begin;
        let body =
            Body { at: None, file: None, written: vec![false; chunks], left: chunks, unsynced: 0, is_bad: false };
        self.files.push(Arc::new(EarlyFile { size, body: Mutex::new(body), open: Arc::clone(open) }));
        self.by_root.insert(root, number);
        Ok(true)
    }

    fn places_of(&self, chunk: &ContentHash) -> &[Place] {
        let begin = self.places.partition_point(|place| place.chunk < *chunk);
        let len = self.places[begin..].partition_point(|place| place.chunk == *chunk);
        &self.places[begin..begin + len]
    }
}

impl EarlyFile {
    /// Takes the open file, if it is.
    fn close(&self, body: &mut Body) -> Option<Arc<dyn VfsFile>> {
        let file = body.file.take()?;
        self.open.fetch_sub(1, Ordering::Relaxed);
        Some(file)
    }

    fn sync(&self) {
        let Some(file) = lock(&self.body).file.clone() else { return };
        let synced = file.sync_data();
        let mut body = lock(&self.body);
        body.is_bad |= synced.is_err();
        if body.left == 0 {
            self.close(&mut body);
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
