//! `gc`: what nothing refers to goes, and the room that it took is free again.

use std::ops::ControlFlow;
use std::time::Instant;

use filesync_cas::gc::{Fate, Gc, GcError, GcReport, Plan};
use filesync_cas::rows::RowBatch;

use crate::cancel;
use crate::collected;
use crate::error::{Error, ErrorKind};
use crate::repo::Repo;
use crate::request::{Event, GcRequest, GcResult, Observer};
use crate::roots::Roots;

/// Carries out `gc`.
pub fn gc(repo: &Repo, request: &GcRequest, observer: &dyn Observer) -> Result<GcResult, Error> {
    let began = Instant::now();
    let step = step(observer);
    // As many as there are at most: those that are garbage are not come by.
    let items = repo.store.sizes().ok().map(|sizes| sizes.data.objects + sizes.metadata.objects);
    observer.event(Event::Phase { what: "marking", bytes: None, items });
    let mut gc = repo.store.gc()?;
    // After it has begun: what becomes a root from now on has been claimed.
    let roots = Roots::read(repo)?.for_collection(repo).map_err(failed_closed)?;
    let lost = roots.lost.clone();
    gc.mark(roots, &step).map_err(|error| failed_closed(error.into()))?;
    let plan = gc.plan();
    let mut result = GcResult { live_bytes: plan.live_bytes(), ..GcResult::default() };
    if request.dry_run {
        result.freed_bytes = plan.freed_bytes();
        (result.packs_rewritten, result.packs_removed) = (plan.count(Fate::Rewrite), plan.count(Fate::Remove));
    } else {
        observer.event(Event::Phase { what: "collecting", bytes: Some(plan.copied_bytes()), items: None });
        let rows = stale_rows(repo, &gc, &plan)?;
        collected::note(&**repo.store.vfs(), &plan)?;
        let report = gc.apply(&plan, rows, &step)?;
        let GcReport { unlinked_bytes, copied_bytes, waiting_bytes, packs_rewritten, packs_removed, bad } = report;
        result.freed_bytes = unlinked_bytes.saturating_sub(copied_bytes);
        (result.packs_rewritten, result.packs_removed) = (packs_rewritten, packs_removed);
        (result.waiting_bytes, result.damaged) = (waiting_bytes, bad);
        result.damaged.retain(|id| !lost.contains(id));
    }
    result.elapsed = began.elapsed();
    Ok(result)
}

/// Tells of what is done, and ends it when the user wants that.
pub fn step(observer: &dyn Observer) -> impl Fn(u64, u64) -> ControlFlow<()> + Sync + '_ {
    // The steps are taken on threads of the store.
    let token = cancel::current();
    move |items, bytes| {
        observer.event(Event::Advance { bytes, items });
        if token.scope(cancel::requested) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Rows of the stat cache that speak of what is about to go. They vouch for nothing that the head lacks; but what is gone
/// should not be spoken of.
fn stale_rows(repo: &Repo, gc: &Gc<'_>, plan: &Plan) -> Result<RowBatch, Error> {
    if plan.count(Fate::Remove) + plan.count(Fate::Rewrite) == 0 {
        return Ok(RowBatch::default());
    }
    repo.stat_cache().stale(&|id| Ok(gc.is_live(id)?))
}

fn failed_closed(error: Error) -> Error {
    if error.kind() != ErrorKind::Damage {
        return error;
    }
    error
        .during("cannot tell what is needed, so nothing is removed")
        .with_hint("`filesync fsck` names what is affected")
}

impl From<GcError> for Error {
    fn from(error: GcError) -> Self {
        match error {
            GcError::Get(error) => error.into(),
            GcError::Put(error) => error.into(),
            GcError::Open(error) => error.into(),
            GcError::Busy => Self::new(ErrorKind::Busy, error.to_string()),
            GcError::Stopped => Self::new(ErrorKind::Cancelled, "interrupted"),
        }
    }
}

#[cfg(test)]
mod tests;
