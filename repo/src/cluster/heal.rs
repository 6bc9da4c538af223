//! A node that lacks what it should have.
//!
//! It says so in the log, and from then on counts as no holder and gives no receipts, while it goes on voting. It gets
//! from the others what it lacks, reads again everything that it has, and only then says that it is whole. What it held
//! stays a root all the while, so that no collection takes away the good part of it.
//!
//! What no other has either may be recorded as lost (`lost.rs`), and is then no part of what it should have.
//!
//! Who votes alone has nobody to say it to, and goes on with what he has.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, TryLockError};
use std::time::Duration;

use filesync_cas::Session;
use filesync_merkle::PubId;
use filesync_p2p::Without;
use filesync_p2p::peer::PeerKey;
use filesync_raft_log::command::Command;
use filesync_raft_log::ids::NodeId;
use filesync_raft_log::{Log, Reason, State};
use tokio::time::Instant;

use super::answer::DECIDE;
use super::calls::Call;
use super::core::{Core, How};
use super::join::decided;
use super::node::Node;
use super::remote::{Remote, index_of, main_of};
use super::{hold, lost, record, room};
use crate::error::{Error, ErrorKind};
use crate::fsck;
use crate::request::{FsckRequest, FsckResult, Observer, Silent};

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How often it is seen whether another thread is done.
const BETWEEN: Duration = Duration::from_millis(20);
/// How long to leave it alone after an attempt that did not make it whole: at least so long, and ten times what it took.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Whether a node has what it should have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// As far as it knows.
    Whole,
    /// It lacked something, and has got and read everything since it started.
    Mended,
    /// It does not, and the log may not say so yet.
    Lacking,
}

/// The condition of a node that starts.
pub fn condition(core: &Core, log: &Log) -> Result<Condition, Error> {
    let is_known = log.read(|state| core.repo.store.has_damage_besides(&lost::of(state)))
        || log.read(|state| is_deficient(core, state));
    let is_lacking = is_known || record::loss(&core.repo.store, log)?.is_some();
    Ok(if is_lacking && !log.read(|state| is_alone(core.number, state)) {
        Condition::Lacking
    } else {
        Condition::Whole
    })
}

/// Whether nobody else votes or is to.
pub fn is_alone(node: NodeId, state: &State) -> bool {
    state.change.is_none() && state.voters.iter().flatten().all(|voter| *voter == node)
}

fn is_deficient(core: &Core, state: &State) -> bool {
    state.member(core.number).is_ok_and(|member| member.is_deficient)
}

/// Sees to it until everything ends. Blocks: for a thread of its own.
pub fn heal(core: &Arc<Core>, told: &dyn Fn(&Error)) {
    let Some(log) = core.log.get() else { return };
    let mut look_again = Instant::now();
    let mut was_stuck = false;
    while !core.is_stopping() {
        if log.stands_back_as(Reason::Unable) {
            room::look_after(core, log);
        }
        // Whoever met with it may have had nobody to tell. A command has the store opened anew, which ends this node.
        match core.repo.store.check_writable() {
            Err(error) if was_stuck => return told(&Error::from(error)),
            writable => was_stuck = writable.is_err(),
        }
        let began = Instant::now();
        if began >= look_again
            && let Err(error) =
                core.token.scope(|| look_after(core, log).and_then(|()| lost::look_after_alone(core, log)))
        {
            told(&error);
            // Who waited for others has done no work that others would be in need of.
            let work = if error.kind() == ErrorKind::NoQuorum { Duration::ZERO } else { began.elapsed() };
            look_again = Instant::now() + AFTER_FAILURE.max(work * 10);
        }
        drop(core.wait(async { tokio::time::sleep(LOOK).await }));
    }
}

/// Does what there is to do for the node to be whole: an error says that it is not. Blocks for as long as it takes to
/// read everything, if something is missing.
pub fn look_after(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    let _one = await_turn(core)?;
    if log.read(|state| is_alone(core.number, state)) {
        core.set_condition(Condition::Whole);
    } else if lost::has_damage(core) || is_said(core, log) {
        core.set_condition(Condition::Lacking);
    }
    if core.condition() == Condition::Lacking {
        make_whole(core, log)?;
    }
    // Also if it could not be said the last time.
    if log.read(|state| is_deficient(core, state)) { say(core, Command::Whole { node: core.number }) } else { Ok(()) }
}

/// Whether the log says that this node lacks something, and nothing was done about it since it started: an entry of before may
/// be applied only now.
fn is_said(core: &Core, log: &Log) -> bool {
    core.condition() == Condition::Whole && log.read(|state| is_deficient(core, state))
}

/// Another thread may be at it, which takes its time.
fn await_turn(core: &Core) -> Result<MutexGuard<'_, ()>, Error> {
    loop {
        match core.healing.try_lock() {
            Ok(turn) => return Ok(turn),
            Err(TryLockError::Poisoned(turn)) => return Ok(turn.into_inner()),
            Err(TryLockError::WouldBlock) => crate::cancel::check()?,
        }
        core.wait(async { tokio::time::sleep(BETWEEN).await })?;
    }
}

fn make_whole(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    if !log.read(|state| is_deficient(core, state)) {
        say(core, Command::Deficient { node: core.number })?;
    }
    loop {
        let mut damage = core.repo.store.damage();
        let lacking = gather(core, log)?;
        if lacking.is_empty() {
            // What of it is damaged still is garbage, and stays so until it is collected.
            let still = core.repo.store.damage();
            damage.packs.retain(|pack| still.packs.contains(pack));
            damage.objects.retain(|id| still.objects.contains(id));
            core.searched.nobody_needs(damage);
            break;
        }
        // If all of it is recorded, it lacks nothing: by another look, at everything.
        lost::record(core, log, &lacking)?;
    }
    core.record.keep(&core.repo.store, log)?;
    core.set_condition(Condition::Mended);
    Ok(())
}

/// Gets what can be had, and reads everything. What it lacks then, and is not recorded as lost.
fn gather(core: &Arc<Core>, log: &Log) -> Result<BTreeSet<lost::Wanted>, Error> {
    core.held_as_of.store(0, Ordering::Release);
    lost::remember(core, log)?;
    let decided = hold::decided(core, log)?;
    let state = log.read(State::clone);
    let session = core.repo.store.session()?;
    let mut lacking = fetch_all(core, &session, &state, &voters(&state))?;
    if !lacking.is_empty() {
        // Others than voters may have it.
        lacking = fetch_all(core, &session, &state, &members(&state))?;
    }
    session.keep()?;
    if lacking.is_empty() {
        // What is complete by its looks is a root from here on; what of it is bad shows when it is read.
        note(core, &state)?;
    }
    drop(session);
    if lacking.is_empty() {
        // Pins of what was decided without this node would be missed for ever.
        core.held_as_of.fetch_max(index_of(&state), Ordering::AcqRel);
        hold::release(core, log, decided)?;
    }
    lacking.extend(check(core)?);
    Ok(lacking)
}

/// As [`gather`], for a voter who is alone: from members who do not vote.
pub fn gather_alone(core: &Arc<Core>, state: &State) -> Result<BTreeSet<lost::Wanted>, Error> {
    let others = members(state);
    let peers = core.wait(core.connect_all(&others))?;
    if !peers.is_empty() {
        let session = core.repo.store.session()?;
        fetch_from(core, &session, state, &peers)?;
        session.keep()?;
    }
    check(core)
}

/// Reads everything. What is damaged, and not recorded as lost.
fn check(core: &Core) -> Result<BTreeSet<lost::Wanted>, Error> {
    let mut checked = core.repo.fsck(&FsckRequest::default(), &Silent)?;
    if checked.damaged.is_empty() && !checked.findings.is_empty() {
        // All that is needed is good: a pack that does not fit is written anew from that.
        checked = fsck::fsck(&core.repo, &FsckRequest { repair: true, ..FsckRequest::default() }, None, &Silent)?;
    }
    if let (true, Some(finding)) = (checked.damaged.is_empty(), checked.findings.first()) {
        let error = Error::new(ErrorKind::Damage, format!("this node is damaged: {finding}"));
        return Err(error.with_hint("`filesync fsck` there names what is affected"));
    }
    Ok(lost::wanted(&checked.damaged).collect())
}

/// Notes durably what has come here.
fn note(core: &Core, state: &State) -> Result<(), Error> {
    core.note_held(Remote {
        state: state.clone(),
        held: main_of(state),
        held_index: index_of(state),
        step: state.last_step.map(|step| PubId::from_bytes(step.0)),
    })
}

/// Has the log say it.
pub fn say(core: &Arc<Core>, command: Command) -> Result<(), Error> {
    decided(core.wait(core.ask_leader(&Call::Propose(command), DECIDE))??).map(drop)
}

fn voters(state: &State) -> Vec<NodeId> {
    state.voters.iter().flatten().copied().collect()
}

fn members(state: &State) -> Vec<NodeId> {
    state.members.iter().filter(|(_, member)| !member.is_removed).map(|(node, _)| *node).collect()
}

/// Fetches what is missing of all that is published, as far as some nodes have it. What they do not have, and is not recorded as lost.
fn fetch_all(
    core: &Arc<Core>,
    session: &Session<'_>,
    state: &State,
    nodes: &[NodeId],
) -> Result<BTreeSet<lost::Wanted>, Error> {
    let peers = core.wait(core.connect_all(nodes))?;
    fetch_from(core, session, state, &peers)
}

fn fetch_from(
    core: &Arc<Core>,
    session: &Session<'_>,
    state: &State,
    peers: &[PeerKey],
) -> Result<BTreeSet<lost::Wanted>, Error> {
    let mut lacking = BTreeSet::new();
    if let Some(main) = main_of(state) {
        let how = How { without: Without::Anything, ..core.how() };
        let lost = lost::of(state);
        let stats = core.fetch_as(session, main, None, peers, how, &mut |_| {})?;
        lacking.extend(stats.lacking.into_iter().filter(|(_, id)| !lost.contains(id)));
    }
    if let Some(step) = state.last_step {
        core.fetch_steps(session, PubId::from_bytes(step.0), None, peers)?;
    }
    Ok(lacking)
}

/// `fsck --repair` of a member: what cannot be had here is taken from the voters.
pub fn fsck(node: &Node, request: &FsckRequest, observer: &dyn Observer) -> Result<FsckResult, Error> {
    let core = &node.core;
    let bring = |session: &Session<'_>| {
        let state = core.state();
        fetch_all(core, session, &state, &voters(&state)).map(drop)
    };
    let result = crate::fsck::fsck(&core.repo, request, Some(&bring), observer)?;
    core.repo.pass_warnings(observer);
    if let Some(log) = core.log.get().filter(|_| result.is_clean()) {
        // It counts again as soon as the log says so; if nobody hears it now, the next start says it.
        drop(look_after(core, log));
    }
    Ok(result)
}
