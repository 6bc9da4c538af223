//! How a node comes to follow the log: when it starts, or while it runs, by being made a candidate.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filesync_cas::vfs::{FileKind, Vfs};
use filesync_raft_log::command::Founder;
use filesync_raft_log::error::OpenError;
use filesync_raft_log::ids::{self, Millis, NodeId, RepositoryId};
use filesync_raft_log::{Log, Mode, Options, Parts, has_promised};

use super::core::{Core, RaftNetwork};
use super::env::Join;
use super::member::{self, Membership};
use super::node::{NodeOptions, RAFT_DIR, Told, addresses, open_error};
use super::{follow, heal, members, sync};
use crate::config::Config;
use crate::error::{Error, ErrorKind};
use crate::repo::STORE_DIR;

/// How long a node that is alone may take until it leads.
const LEAD: Duration = Duration::from_secs(15);
/// How long who is called to the log asks whether that is right, and rests then.
const CALLED: Duration = Duration::from_secs(5);
/// How long it takes at most to bring here what is published, before the log is followed.
const BRING: Duration = Duration::from_secs(60);

/// Threads of a node, to be waited for when it ends.
#[derive(Clone, Default)]
pub struct Threads(Arc<Mutex<Vec<Join>>>);

impl Threads {
    fn push(&self, thread: Join) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
    }

    /// One that was not waited for yet.
    pub fn pop(&self) -> Option<Join> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop()
    }
}

/// Has a node follow the log if it is to. Else it does so once it is called to it, if it is served, and its copy is no partial one.
pub fn begin(
    core: &Arc<Core>,
    membership: Option<Membership>,
    options: &NodeOptions,
    told: Told,
    threads: &Threads,
) -> Result<(), Error> {
    let is_alone = core.view.read(|state| match state.voters.as_slice() {
        [] => state.members.is_empty(),
        [set] => set.len() == 1 && set.contains(&core.number),
        _ => false,
    });
    let may_follow = core.repo.copied.is_whole() && !options.listen.is_empty();
    if membership.is_none() || is_alone || (may_follow && core.view.read(|state| core.is_candidate(state))) {
        let log = open_log(core, membership, options.moved)?;
        if is_alone && core.state().members.is_empty() {
            found(core, log)?;
        }
        // By what is in the log, applied or not: others may vote by that.
        if core.wait(log.votes_alone())? {
            await_lead(core, log)?;
        }
        follow_log(core, &told, threads)?;
    }
    if may_follow {
        let (own, moved, all) = (Arc::clone(core), options.moved, threads.clone());
        threads.push(spawn(core, "called", move || heed_calls(&own, moved, &told, &all))?);
    }
    Ok(())
}

fn spawn(core: &Core, name: &str, work: impl FnOnce() + Send + 'static) -> Result<Join, Error> {
    let failed = |error: std::io::Error| Error::new(ErrorKind::Failed, format!("cannot start a thread: {error}"));
    core.env.spawn(name, Box::new(work)).map_err(failed)
}

/// Opens the log: from here on messages of Raft are answered.
fn open_log(core: &Arc<Core>, membership: Option<Membership>, moved: bool) -> Result<&Log, Error> {
    let has_log = membership.is_some_and(|it| it.has_log);
    let log = open(core, has_log, moved)?;
    // Before a message passes: what it promises from here on must not be made anew.
    if !has_log {
        let membership = Membership { node: core.number, has_log: true, is_partial: false };
        member::write(&**core.repo.store.vfs(), membership)?;
    }
    core.set_condition(heal::condition(core, &log)?);
    let log = core.log.get_or_init(|| log);
    core.view.follows_log(core.number);
    core.opened.send_replace(true);
    Ok(log)
}

/// Has what the log says done.
fn follow_log(core: &Arc<Core>, told: &Told, threads: &Threads) -> Result<(), Error> {
    type Work = fn(&Arc<Core>, &dyn Fn(&Error));
    for (name, work) in [("follow", follow::follow as Work), ("drive", follow::drive), ("heal", heal::heal)] {
        let (own, told) = (Arc::clone(core), Arc::clone(told));
        threads.push(spawn(core, name, move || work(&own, &*told))?);
    }
    Ok(())
}

/// Waits for messages of Raft that are not heeded: of a node that follows no log, or of one that has not heard for long that it is a
/// candidate. It asks then, and does what follows.
fn heed_calls(core: &Arc<Core>, moved: bool, told: &Told, threads: &Threads) {
    let mut called = core.called.subscribe();
    while core.wait(called.changed()).is_ok_and(|changed| changed.is_ok()) {
        let caller = *called.borrow_and_update();
        if let Some(caller) = caller
            && let Err(error) = heed(core, caller, moved, told, threads)
        {
            told(&error);
        }
        if core.is_stopping() {
            return;
        }
        drop(core.wait(async { tokio::time::sleep(CALLED).await }));
    }
}

fn heed(core: &Arc<Core>, caller: NodeId, moved: bool, told: &Told, threads: &Threads) -> Result<(), Error> {
    if !core.wait(core.is_called_rightly(caller, CALLED))? {
        return Ok(());
    }
    let state = members::facts(core, CALLED)?;
    if core.log.get().is_some() || !core.is_candidate(&state) {
        return Ok(());
    }
    // What it is, and holds, is on its disk before it counts: it may vote as soon as it follows the log.
    sync::fetch(core, &state, BRING)?;
    open_log(core, member::read(&**core.repo.store.vfs())?, moved)?;
    follow_log(core, told, threads)?;
    tracing::info!("this node was made a candidate, and follows the log now");
    Ok(())
}

fn open(core: &Arc<Core>, has_log: bool, moved: bool) -> Result<Log, Error> {
    let vfs = &**core.repo.store.vfs();
    let dir = core.repo.root().join(STORE_DIR).join(RAFT_DIR);
    let io = |error: std::io::Error| Error::path("cannot write", &dir, &error);
    let open = |mode| {
        let network = Arc::new(RaftNetwork(Arc::downgrade(core)));
        let repository = RepositoryId(*core.repo.repository().as_bytes());
        let here = Arc::downgrade(core);
        let env = Arc::clone(&core.env);
        let clock = Arc::new(move || Millis(here.upgrade().map_or_else(|| env.millis(), |core| core.cluster_millis())));
        let parts =
            Parts { repository, node: core.number, network, step_id: follow::step_id, options: Options::new(clock) };
        core.env.wait(core.env.open_log(&dir, mode, parts))
    };
    let make = || -> Result<_, Error> {
        if vfs.stat(Path::new(RAFT_DIR)).is_ok() {
            remove_tree(vfs, Path::new(RAFT_DIR)).map_err(io)?;
        }
        vfs.mkdir(Path::new(RAFT_DIR), 0o700).map_err(io)?;
        vfs.sync_dir(Path::new("")).map_err(io)?;
        Ok(open(Mode::Create))
    };
    // An older `member` may have been put back beside it. By what a start that was cut off left, nobody was promised anything.
    let opened = match has_log || has_promised(&dir).map_err(io)? {
        true => open(if moved { Mode::Moved } else { Mode::Open }),
        false => make()?,
    };
    match opened {
        // What another node promised, as this one was before it joined anew, does not bind it.
        Err(OpenError::Foreign { .. }) if !has_log => make()?,
        opened => opened,
    }
    .map_err(|error| open_error(&error))
}

fn found(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    let name = Config::load(&**core.repo.store.vfs())?.node_name();
    let founder = Founder { key: ids::PeerKey(core.key.0), name, addresses: addresses(core) };
    let founded = core.wait(log.found(founder, LEAD))?;
    founded.map_err(|error| Error::new(ErrorKind::Failed, format!("cannot found a cluster: {error}")))
}

/// Who is alone leads as soon as he stands for election.
fn await_lead(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    core.wait(log.lead_alone(LEAD))?
        .map_err(|error| Error::new(ErrorKind::Failed, format!("cannot start: {error}")))?;
    match core.check_whole() {
        Ok(()) => follow::bring_here(core, log),
        // Whoever needs what is missing will say so.
        Err(_) => Ok(()),
    }
}

fn remove_tree(vfs: &dyn Vfs, dir: &Path) -> std::io::Result<()> {
    for (name, kind) in vfs.list(dir)? {
        let path = dir.join(name);
        match kind {
            FileKind::Dir => remove_tree(vfs, &path)?,
            _ => vfs.unlink(&path)?,
        }
    }
    vfs.rmdir(dir)
}
