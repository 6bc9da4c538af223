//! Threads that hold frames against their checks, while another makes the frames out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::{About, Advance, Depth, PackReport};
use crate::error::GetError;
use crate::frame::Header;
use crate::pack::FrameAt;
use crate::store::Store;
use crate::store::packs::PackFile;
use crate::vfs::VfsFile;

/// A frame that waits for its check.
pub(super) struct Job<'a> {
    pub(super) pack: &'a PackFile,
    /// The place of the pack among all.
    pub(super) order: usize,
    pub(super) file: Arc<dyn VfsFile>,
    pub(super) header: Header,
    pub(super) frame: FrameAt,
}

/// What did not fit, by place.
type Found = Vec<((usize, u64), PackReport)>;

/// What all threads share.
struct Work<'a> {
    store: &'a Store,
    depth: Depth,
    advance: &'a Advance<'a>,
    is_ended: &'a AtomicBool,
}

/// Checks all frames that `walk` hands out, on all cores, and adds what it finds to the report in the order of packs. Once
/// `is_ended` is set, by `advance` or by a failure, nothing more is checked, and the walk is to end.
pub(super) fn check<'a>(
    store: &Store,
    depth: Depth,
    advance: &Advance<'_>,
    is_ended: &AtomicBool,
    report: &mut PackReport,
    walk: impl FnOnce(&mut PackReport, &mut dyn FnMut(Job<'a>)) -> Result<(), GetError>,
) -> Result<(), GetError> {
    let work = Work { store, depth, advance, is_ended };
    let threads = crate::cores();
    let (jobs, queue) = bounded(2 * threads);
    let mut parts = std::thread::scope(|scope| {
        let spawn = |_| {
            let (work, queue) = (&work, queue.clone());
            std::thread::Builder::new().spawn_scoped(scope, move || work.run(queue)).ok()
        };
        let others: Vec<_> = (0..threads).filter_map(spawn).collect();
        drop(queue);
        let mut here = Here { work: &work, jobs, payload: Vec::new(), found: Vec::new(), failed: None };
        let walked = walk(report, &mut |job| here.take(job));
        let Here { jobs, found, failed, .. } = here;
        drop(jobs);
        let panicked = || Err(GetError::Index("a thread that reads packs failed".to_owned()));
        let mut parts = vec![walked.map(|()| Vec::new()), failed.map_or(Ok(found), Err)];
        parts.extend(others.into_iter().map(|thread| thread.join().unwrap_or_else(|_| panicked())));
        parts.into_iter().collect::<Result<Vec<Found>, GetError>>()
    })?
    .concat();
    parts.sort_by_key(|(place, _)| *place);
    for (_, part) in parts {
        report.bad.extend(part.bad);
        report.findings.extend(part.findings);
    }
    Ok(())
}

/// The thread that walks: it checks by itself what nobody takes from it.
struct Here<'w, 'a> {
    work: &'w Work<'w>,
    jobs: Sender<Job<'a>>,
    payload: Vec<u8>,
    found: Found,
    failed: Option<GetError>,
}

impl<'a> Here<'_, 'a> {
    fn take(&mut self, job: Job<'a>) {
        if let Err(crossbeam_channel::SendError(job)) = self.jobs.send(job)
            && let Err(error) = self.work.check(&job, &mut self.payload, &mut self.found)
        {
            self.failed.get_or_insert(error);
        }
    }
}

impl Work<'_> {
    fn run(&self, queue: Receiver<Job<'_>>) -> Result<Found, GetError> {
        let (mut payload, mut found) = (Vec::new(), Vec::new());
        for job in queue {
            self.check(&job, &mut payload, &mut found)?;
        }
        Ok(found)
    }

    fn check(&self, job: &Job<'_>, payload: &mut Vec<u8>, found: &mut Found) -> Result<(), GetError> {
        if self.is_ended.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Job { pack, order, file, header, frame } = job;
        let mut part = PackReport::default();
        let checked = self.store.check_frame(&**file, header, frame, self.depth, payload, &mut part);
        let cause = checked.map_err(|source| {
            self.is_ended.store(true, Ordering::Relaxed);
            GetError::Io { path: pack.path(), source }
        })?;
        if let Some(cause) = cause {
            let ids = frame.slots.iter().map(|slot| slot.id).collect();
            part.find(pack.name, About::Objects(ids), format!("at byte {}: {cause}", frame.offset));
        }
        if !part.bad.is_empty() || !part.findings.is_empty() {
            found.push(((*order, frame.offset), part));
        }
        if (self.advance)(header.frame_len(), frame.slots.len() as u64).is_break() {
            self.is_ended.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}
