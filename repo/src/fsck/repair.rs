//! `fsck --repair`: what is damaged is stored again, from wherever its bytes can be had: another copy in the packs, then
//! the working copy, then other members. Then the packs that it lay in are written anew.

use std::collections::BTreeSet;

use filesync_cas::pack::PackName;
use filesync_cas::rows::RowBatch;
use filesync_cas::{Claim, ContentHash, Kind, Session};

use super::{Bring, Hurt, check};
use crate::collected;
use crate::commit;
use crate::error::{Error, ErrorKind};
use crate::repo::Repo;
use crate::request::{Event, FsckRequest, FsckResult, Observer, Warning};
use crate::roots::Roots;

/// Repairs what a check found, and checks again.
pub fn repair(
    repo: &Repo,
    request: &FsckRequest,
    bring: Option<Bring<'_>>,
    observer: &dyn Observer,
    found: FsckResult,
    hurt: &Hurt,
) -> Result<FsckResult, Error> {
    // What is lost may have come back somewhere.
    let damaged: Vec<ContentHash> = found.damaged.iter().chain(&found.lost).map(|object| object.id).collect();
    if damaged.is_empty() && hurt.spare.is_empty() && hurt.packs.is_empty() {
        return Ok(found);
    }
    // From now on they count as absent, so that whoever has the bytes stores them.
    repo.store.record_damage(damaged.iter().copied().chain(hurt.spare.iter().map(|(_, id)| *id)))?;
    let session = repo.store.session()?;
    copy(repo, &session, &hurt.spare)?;
    if !damaged.is_empty() {
        store_from_working_copy(repo, &session, observer)?;
    }
    if let Some(bring) = bring.filter(|_| !damaged.is_empty())
        && let Err(error) = bring(&session)
    {
        // What came is kept, and the rest shows below.
        let message = format!("cannot get what is damaged from other members: {error}");
        observer.event(Event::Warning(Warning { path: None, message }));
    }
    if damaged.is_empty() {
        // A voter that mends itself does so beside commits: the head is theirs.
        session.keep()?;
        // The collection below waits for sessions.
        drop(session);
    } else {
        session.finish(repo.store.head(), RowBatch::default())?;
    }
    match rewrite(repo, &hurt.packs, observer) {
        // What is still damaged keeps the packs as they are.
        Err(error) if error.kind() == ErrorKind::Damage => {}
        rewritten => rewritten?,
    }
    // What was unreadable may have hidden more.
    let (mut again, left) = check(repo, request, observer)?;
    let is_left = |id: &ContentHash| again.damaged.iter().chain(&again.lost).any(|object| object.id == *id);
    let repaired = damaged.iter().filter(|id| !is_left(id)).count();
    let moved = hurt.spare.iter().filter(|object| !left.spare.contains(object)).count();
    again.repaired = u64::try_from(repaired + moved).unwrap_or(u64::MAX);
    Ok(again)
}

/// Packs in which something does not fit are written anew, with what is needed of them, and others left alone.
fn rewrite(repo: &Repo, packs: &BTreeSet<PackName>, observer: &dyn Observer) -> Result<(), Error> {
    if packs.is_empty() {
        return Ok(());
    }
    let step = crate::gc::step(observer);
    let mut gc = repo.store.gc()?;
    gc.mark(Roots::read(repo)?.for_collection(repo)?, &step)?;
    let mut plan = gc.plan();
    plan.only(|pack| packs.contains(&pack));
    collected::note(&**repo.store.vfs(), &plan)?;
    gc.apply(&plan, RowBatch::default(), &step)?;
    Ok(())
}

/// Other copies in the packs.
fn copy(repo: &Repo, session: &Session<'_>, spare: &[(Kind, ContentHash)]) -> Result<(), Error> {
    let mut writer = session.writer();
    for (kind, id) in spare {
        crate::cancel::check()?;
        let object = repo.store.get(*kind, id)?;
        if session.claim(id)? == Claim::New {
            writer.put(*id, *kind, &object)?;
        }
    }
    Ok(writer.flush()?)
}

/// Every file is read; of what the head has, too what a rule leaves out. If trees cannot be read, they are made anew
/// from what there is: those that are equal are whole again.
pub fn store_from_working_copy(repo: &Repo, session: &Session<'_>, observer: &dyn Observer) -> Result<(), Error> {
    let head = match repo.head_tree() {
        Ok(tree) => tree,
        Err(error) if error.kind() == ErrorKind::Damage => None,
        Err(error) => return Err(error),
    };
    for base in [None, head] {
        match commit::store_again(repo, base, session, observer) {
            Err(error) if error.kind() != ErrorKind::Damage => return Err(error),
            _ => {}
        }
    }
    session.was_given_everything();
    Ok(())
}
