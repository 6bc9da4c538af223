//! What a node does by itself: bring here what is published, let go what need not be held, and, where it leads, carry on
//! changes of voters.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use filesync_cas::testing::mistake;
use filesync_cas::{ContentHash, Session};
use filesync_merkle::{CommitId, Pub, PubId};
use filesync_raft_log::command::{Command, Ready};
use filesync_raft_log::ids::{Id, LogIndex, NodeId};
use filesync_raft_log::state::{Step, majority};
use filesync_raft_log::{Driven, Log, State, UnwrittenStep};
use tokio::time::Instant;

use super::answer::DECIDE;
use super::calls::{Answer, Call};
use super::core::Core;
use super::remote::{MAIN, Remote, index_of, main_of};
use super::turned_away::Told;
use super::{hold, spot};
use crate::error::{Error, ErrorKind};

/// The longest time between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// How long to wait for more once there is something: what is noted costs several syncs, whether of one publish or of many, and
/// who published something here does not wait for this thread.
const LINGER: Duration = Duration::from_millis(10);
/// At how many publishes that it missed a node stops on its way to the newest.
const STOPS_MAX: usize = 8;
/// How long nobody may lead before it is asked who there is.
const LEADERLESS: Duration = Duration::from_secs(3);
/// How often a leader looks at the others' clocks.
const CLOCKS: Duration = Duration::from_secs(30);
/// How often it reads at random what one of them says that it holds.
const SPOTS: Duration = Duration::from_secs(30);
/// How long to wait after something failed.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The object of a step, as the log names it.
pub fn step_object(step: &Step) -> Pub {
    let commit = |id: Option<Id>| id.map(|id| CommitId::from_bytes(id.0));
    Pub {
        ref_name: step.change.name.as_str().to_owned(),
        log_index: step.index.0,
        old: commit(step.change.expected),
        new: commit(step.change.new),
        prev: step.prev.map(|id| PubId::from_bytes(id.0)),
    }
}

/// Names a step by its object. The log's names of refs are what the object allows, so that there always is one.
pub fn step_id(step: &Step) -> Id {
    let id = step_object(step).id().unwrap_or_else(|_| PubId::from_bytes([0; 32]));
    Id(*id.0.as_bytes())
}

/// Follows the log until everything ends. Blocks: for a thread of its own.
pub fn follow(core: &Arc<Core>, told: &dyn Fn(&Error)) {
    let Some(log) = core.log.get() else { return };
    let mut applied = log.watch_applied();
    let mut released = Instant::now();
    while !core.is_stopping() {
        applied.borrow_and_update();
        // Pins may wait: what they cost is room.
        let decided = match released.elapsed() < LOOK {
            true => Ok(None),
            false => hold::decided(core, log).map(Some),
        };
        // A node that lacks something is being healed, and says so by itself.
        let brought =
            bring_here(core, log).or_else(|error| if core.check_whole().is_err() { Ok(()) } else { Err(error) });
        let done = brought.and(decided).and_then(|decided| {
            let Some(decided) = decided else { return Ok(()) };
            released = Instant::now();
            hold::release(core, log, decided)
        });
        let wait = match done {
            Ok(()) => LOOK,
            Err(error) => {
                told(&error);
                AFTER_FAILURE
            }
        };
        drop(core.wait(async {
            if tokio::time::timeout(wait, applied.changed()).await.is_ok() {
                tokio::time::sleep(LINGER).await;
            }
        }));
    }
}

/// Brings what is published here, and the order of publishes; then what this node knows is durable. Of publishes that it missed the
/// oldest come first. Where another thread is at it, its outcome is waited for: mostly it is what is wanted.
pub fn bring_here(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    let _turn = loop {
        match core.wait(async { tokio::time::timeout(LOOK, core.bringing.lock()).await })? {
            Ok(turn) => break turn,
            Err(_) => crate::cancel::check()?,
        }
    };
    let state = log.read(State::clone);
    let mut steps = log.unwritten_steps();
    let (index, known) = (index_of(&state), core.remote().clone());
    // What came after the state was looked at is for the next time; what is known to be written was, before a crash.
    steps.retain(|unwritten| (known.held_index + 1..=index).contains(&unwritten.step.index.0));
    core.view.update(state.clone());
    // What is known durably was told by others, maybe: this log has not come to it yet.
    if index < known.held_index.max(known.index()) {
        return Ok(());
    }
    let newest = Goal::newest(&state);
    let is_here = |commit: &CommitId| core.repo.store.locate(&commit.0).is_ok_and(|found| found.is_some());
    for goal in stops(&steps, &newest, is_here) {
        if let Err(error) = bring(core, log, &state, &goal, &mut steps) {
            crate::cancel::check()?;
            // What a survivor gave up when it went on alone, nobody has. All else shows with the newest, too.
            tracing::debug!(index = goal.index, %error, "a publish that was missed does not come by itself");
            break;
        }
    }
    bring(core, log, &state, &newest, &mut steps)
}

/// What is to be here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Goal {
    /// As of which index.
    index: u64,
    /// What was published last by then.
    main: Option<CommitId>,
    /// The last step in the order of publishes by then.
    step: Option<PubId>,
}

impl Goal {
    fn newest(state: &State) -> Self {
        Self { index: index_of(state), main: main_of(state), step: state.last_step.map(|id| PubId::from_bytes(id.0)) }
    }
}

/// On the way to the newest: publishes that this node missed and that are not here, oldest first, so that what it holds moves on as
/// they come. Of many only some: each takes a fetch, and syncs.
fn stops(missed: &[UnwrittenStep], newest: &Goal, is_here: impl Fn(&CommitId) -> bool) -> Vec<Goal> {
    let goal = |missed: &UnwrittenStep| {
        let change = &missed.step.change;
        let main = CommitId::from_bytes(change.new.filter(|_| change.name.as_str() == MAIN)?.0);
        let is_missed = Some(main) != newest.main && !is_here(&main);
        let step = Some(PubId::from_bytes(missed.id.0));
        is_missed.then_some(Goal { index: missed.step.index.0, main: Some(main), step })
    };
    let all: Vec<Goal> = missed.iter().filter_map(goal).collect();
    let nth = all.len().div_ceil(STOPS_MAX).max(1);
    all.into_iter().step_by(nth).collect()
}

/// Brings one goal here. `steps` are those that are still to be written; what the goal contains of them is taken out.
fn bring(core: &Arc<Core>, log: &Log, state: &State, goal: &Goal, steps: &mut Vec<UnwrittenStep>) -> Result<(), Error> {
    core.check_whole()?;
    let known = core.remote().clone();
    let mut step = goal.step;
    let is_new = known.held != goal.main || known.step != step || differ(&known.state, state);
    if is_new {
        let session = core.repo.store.session()?;
        if let Some(main) = goal.main.filter(|main| known.held != Some(*main)) {
            hold::fetch_closure(core, &session, main, &sources(core, log), u64::MAX, &mut |_| {})?;
        }
        let mut writer = session.writer();
        let mut last = known.step;
        let mut is_whole = true;
        for UnwrittenStep { step, .. } in steps.iter().take_while(|unwritten| unwritten.step.index.0 <= goal.index) {
            is_whole &= step.prev.map(|id| PubId::from_bytes(id.0)) == last;
            last = Some(write_step(&mut writer, &step_object(step))?);
        }
        writer.flush()?;
        drop(writer);
        // After a state that came as a whole, those before it are missing.
        if let Some(wanted) = step.filter(|_| !is_whole || last != step) {
            let peers = core.wait(core.connect_all(&sources(core, log)))?;
            // Somebody may publish meanwhile; what is held does not wait for it.
            if core.fetch_steps(&session, wanted, known.step, &peers).is_err() {
                step = known.step;
            }
        }
        if !mistake("a note of what is held before its sync") {
            session.keep()?;
        }
        // Damage that showed meanwhile is for whoever mends it: he begins anew.
        core.check_whole()?;
        core.note_held(Remote { state: state.clone(), held: goal.main, held_index: goal.index, step })?;
        drop::<Session<'_>>(session);
        tracing::debug!(index = goal.index, commit = ?goal.main.map(|id| id.to_string()), "holds what was published");
    }
    if step == goal.step {
        log.steps_written(LogIndex(goal.index));
    }
    steps.retain(|unwritten| unwritten.step.index.0 > goal.index);
    core.held_as_of.fetch_max(goal.index, Ordering::AcqRel);
    Ok(())
}

fn write_step(writer: &mut filesync_cas::store::FrameWriter<'_>, step: &Pub) -> Result<PubId, Error> {
    let id: ContentHash = writer.store(PubId::KIND, &step.encode()?)?;
    Ok(PubId(id))
}

/// Whether something is to be kept of a state, and not only the index that it is as of.
fn differ(known: &State, now: &State) -> bool {
    known.epoch != now.epoch
        || known.members != now.members
        || known.voters != now.voters
        || known.refs != now.refs
        || known.invites != now.invites
        || known.lost != now.lost
        || known.change != now.change
}

/// Who should have what is published: the leader first.
fn sources(core: &Core, log: &Log) -> Vec<NodeId> {
    let mut nodes: Vec<NodeId> = log.leader().into_iter().collect();
    log.read(|state| {
        for node in state.voters.iter().flatten() {
            if !nodes.contains(node) {
                nodes.push(*node);
            }
        }
    });
    nodes.retain(|node| *node != core.number);
    nodes
}

/// Carries on what a leader has to, until everything ends. Blocks: for a thread of its own.
pub fn drive(core: &Arc<Core>, told: &dyn Fn(&Error)) {
    let Some(log) = core.log.get() else { return };
    let mut led = Instant::now();
    let mut looked: Option<Instant> = None;
    let mut spotted = Instant::now();
    let mut turned_away = Told::default();
    while !core.is_stopping() {
        if let Some(transport) = core.transport.get() {
            turned_away.tell(transport.turned_away(), Instant::now());
        }
        if log.leading().is_some() && looked.is_none_or(|looked| looked.elapsed() > CLOCKS) {
            drop(core.wait(look_at_clocks(core)));
            looked = Some(Instant::now());
        }
        // Members are known at once: what is published may take long to bring here, and one of them may come to lead.
        if log.read(index_of) > core.view.read(index_of) {
            core.view.update(log.read(State::clone));
        }
        if log.leader().is_some() {
            led = Instant::now();
        } else if led.elapsed() > LEADERLESS {
            learn_of_members(core);
            led = Instant::now();
        }
        if log.leading().is_some()
            && let Err(error) = drive_once(core, log)
        {
            told(&error);
        }
        if log.leading().is_some() && spotted.elapsed() > SPOTS {
            drop(core.wait(spot::look(core)));
            spotted = Instant::now();
        }
        let mut applied = log.watch_applied();
        applied.borrow_and_update();
        drop(core.wait(async { tokio::time::timeout(LOOK, applied.changed()).await }));
    }
}

/// Who leads says what time it is: by the clocks of all voters.
async fn look_at_clocks(core: &Arc<Core>) {
    let voters: BTreeSet<NodeId> = core.view.read(|state| state.voters.iter().flatten().copied().collect());
    let others = voters.into_iter().filter(|node| *node != core.number);
    futures::future::join_all(others.map(|node| core.how_is(node))).await;
}

/// Whoever leads may have come while this node was away, and is none that it would hear.
fn learn_of_members(core: &Arc<Core>) {
    let voters: BTreeSet<NodeId> = core.view.read(|state| state.voters.iter().flatten().copied().collect());
    for node in voters.into_iter().filter(|node| *node != core.number) {
        if core.wait(core.learn_of_members(node, LEADERLESS)).unwrap_or(true) {
            return;
        }
    }
}

fn drive_once(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    let failed =
        |error: &dyn std::fmt::Display| Error::new(ErrorKind::Failed, format!("cannot change voters: {error}"));
    if let Some(ready) = is_ready(core, log) {
        drop(core.wait(log.propose(Command::Ready(ready), DECIDE))?.map_err(|error| failed(&error))?);
    }
    loop {
        match core.wait(log.drive(DECIDE))? {
            Ok(Driven::Nothing) => return Ok(()),
            Ok(_) => {}
            // Somebody else leads by now, or a step of before is not through yet.
            Err(
                filesync_raft_log::error::ProposeError::NotLeader { .. } | filesync_raft_log::error::ProposeError::Busy,
            ) => return Ok(()),
            Err(error) => return Err(failed(&error)),
        }
    }
}

/// What shows that a change of voters may come into force: once it is so.
fn is_ready(core: &Arc<Core>, log: &Log) -> Option<Ready> {
    let (change, voters) = log.read(|state| (state.change.clone(), state.voters.clone()));
    let change = change.filter(|change| !change.is_ready)?;
    let asked = change.target.iter().map(|node| async {
        let answer = if *node == core.number {
            super::answer::answer_call(core, core.number, Call::HeldAsOf).await
        } else {
            core.call(*node, &Call::HeldAsOf, DECIDE).await.ok()?
        };
        match answer {
            Answer::HeldAsOf(index) if index >= change.index.0 => Some((*node, LogIndex(index))),
            _ => None,
        }
    });
    let receipts = core.wait(futures::future::join_all(asked)).ok()?;
    let receipts: BTreeMap<NodeId, LogIndex> = receipts.into_iter().flatten().collect();
    let is_voter = |node: &NodeId| voters.iter().any(|set| set.contains(node));
    let added = change.target.iter().filter(|node| !is_voter(node)).all(|node| receipts.contains_key(node));
    let enough = receipts.len() >= majority(change.target.len());
    (added && enough).then_some(Ready { intent: change.id, receipts })
}

#[cfg(test)]
mod tests {
    use filesync_raft_log::command::RefChange;
    use filesync_raft_log::ids::RefName;

    use super::*;

    fn missed(index: u64) -> UnwrittenStep {
        let name = RefName::new(MAIN).expect("a name");
        let change = RefChange { name, expected: Some(id(index - 1)), new: Some(id(index)) };
        UnwrittenStep { id: id(1000 + index), step: Step { index: LogIndex(index), change, prev: None } }
    }

    fn id(number: u64) -> Id {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&number.to_le_bytes());
        Id(id)
    }

    fn indexes(last: u64, is_here: impl Fn(&CommitId) -> bool) -> Vec<u64> {
        let all: Vec<_> = (1..=last).map(missed).collect();
        let newest = Goal { index: last + 3, main: Some(CommitId::from_bytes(id(last).0)), step: None };
        stops(&all, &newest, is_here).iter().map(|goal| goal.index).collect()
    }

    #[test]
    fn the_oldest_comes_first() {
        assert_eq!(indexes(1, |_| false), [0; 0], "the newest is no stop");
        assert_eq!(indexes(4, |_| false), [1, 2, 3]);
        assert_eq!(indexes(4, |commit| commit.0 == CommitId::from_bytes(id(2).0).0), [1, 3], "one is here");
        assert_eq!(indexes(101, |_| false), [1, 14, 27, 40, 53, 66, 79, 92], "a few of many");
    }
}
