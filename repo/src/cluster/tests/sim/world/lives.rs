//! How nodes begin and end.

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use filesync_cas::testing::Loss;
use filesync_raft_log::command::Role;
use filesync_raft_log::ids::{self, NodeId};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::super::env::Surroundings;
use super::super::fiber;
use super::super::record::Promise;
use super::machine::Life;
use super::{World, lock};
use crate::cluster::env::Env;
use crate::cluster::invite::{Door, InviteLine};
use crate::cluster::{self, Node, NodeOptions, join, member};
use crate::error::{Error, ErrorKind};
use crate::repo::Repo;

/// How long who joins, or tells where it is, tries.
const PATIENCE: Duration = Duration::from_secs(20);

impl World {
    /// Does work that blocks, for a node.
    pub fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        life: &Life,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<Option<T>> {
        let env = self.surroundings(life);
        self.runtime.spawn(async move {
            let env: &dyn Env = &env;
            env.blocking(work).await
        })
    }

    fn surroundings(self: &Arc<Self>, life: &Life) -> Surroundings {
        let (ahead, patience) = {
            let machines = self.machines();
            (machines[life.machine].ahead, machines[life.machine].patience)
        };
        let (world, numbers) = (Arc::clone(self), Mutex::new(self.numbers()));
        Surroundings { world, life: life.clone(), runtime: self.runtime.clone(), numbers, ahead, patience }
    }

    /// Starts a node: the first founds a cluster, others come in by an invite the first time.
    pub fn start(self: &Arc<Self>, machine: usize, invite: Option<String>) -> JoinHandle<Option<()>> {
        let (life, invite) = {
            let mut machines = self.machines();
            let of = &mut machines[machine];
            of.invite = invite.or(of.invite.take());
            (of.begin(machine), of.invite.clone())
        };
        self.record.note(format_args!("{machine} starts, life {}", life.number));
        let (world, own) = (Arc::clone(self), life.clone());
        self.blocking(&life, move || {
            let started = world.start_now(&own, invite.as_deref());
            world.started(&own, started);
        })
    }

    fn start_now(self: &Arc<Self>, life: &Life, invite: Option<&str>) -> Result<Arc<Node>, Error> {
        let repo = Arc::new(Repo::open_writer_on(&life.root.0, Arc::new(life.disk.clone()))?);
        let place = || -> Result<_, Error> { Ok((Arc::new(self.surroundings(life)) as Arc<dyn Env>, None)) };
        if let Some(invite) = invite
            && member::read(&**repo.store.vfs())?.is_none()
        {
            self.come_in(life, &place, &repo, &InviteLine::decode(invite)?)?;
        }
        let told = {
            let (world, machine) = (Arc::clone(self), life.machine);
            Arc::new(move |error: &Error| world.record.note(format_args!("{machine} says: {error}")))
        };
        let options = NodeOptions { listen: vec![life.address()], moved: false };
        let node = Arc::new(Node::start_in(place()?, repo, &options, told)?);
        *lock(&life.node) = Some(Arc::clone(&node));
        self.oracle().numbers.insert(node.number(), life.machine);
        let (world, own) = (Arc::clone(self), life.clone());
        node.when_log_stops(move |why| {
            if own.is_alive() && !world.is_over() {
                world.record.broken(Promise::GoesOn, format!("the log of {} stopped: {why}", own.machine));
            }
        })?;
        self.watch(life, &node);
        // Until it is known.
        while let Err(error) = node.announce(PATIENCE) {
            if node.is_stopping() {
                return Err(error);
            }
            if error.kind() == ErrorKind::Refused && self.is_removed(node.number()) {
                self.record.note(format_args!("{} is told that it was removed", life.machine));
                break;
            }
        }
        Ok(node)
    }

    /// Joins, however often it takes. It fails where that is right: the invite or the membership has ended.
    fn come_in(
        &self,
        life: &Life,
        place: &dyn Fn() -> Result<cluster::node::Place, Error>,
        repo: &Arc<Repo>,
        line: &InviteLine,
    ) -> Result<(), Error> {
        loop {
            let is_calm = self.is_calm();
            let error = match join::join(place, repo, line, PATIENCE) {
                Ok(node) => {
                    if !self.is_calm() {
                        self.record.count("joins in the storm");
                    }
                    node.shutdown();
                    return Ok(());
                }
                Err(error) => error,
            };
            self.record.note(format_args!("{} does not join: {error}", life.machine));
            life.lose_power_at_once();
            if !life.is_alive() || self.is_over() {
                return Err(error);
            }
            let is_void = self.is_void(life, line);
            match error.kind() {
                // What is not known here of faults is that it was heard: in a storm it may have to try again.
                ErrorKind::NoQuorum if !is_calm || !is_void => {}
                ErrorKind::NoQuorum | ErrorKind::Refused if is_void => {
                    self.machines()[life.machine].is_out = true;
                    return Err(error);
                }
                _ => return Err(error),
            }
        }
    }

    /// Whether nobody can come in by an invite any more: it has ended, or all whom it names may let nobody in.
    fn is_void(&self, life: &Life, line: &InviteLine) -> bool {
        let oracle = self.oracle();
        let state = &oracle.newest;
        let lets_in = |door: &Door| state.member(door.node).is_ok_and(|member| member.role == Role::Candidate);
        match state.member_by_key(ids::PeerKey(life.key.0)) {
            Some((_, member)) if member.is_removed => true,
            None if !state.invites.contains_key(&line.public()) => true,
            _ => !line.doors.iter().any(lets_in),
        }
    }

    fn is_removed(&self, node: NodeId) -> bool {
        self.oracle().newest.members.get(&node).is_some_and(|member| member.is_removed)
    }

    /// Whether the node on a machine is a member no more.
    pub fn has_left(&self, machine: usize) -> bool {
        let key = ids::PeerKey(self.key(machine).0);
        self.oracle().newest.member_by_key(key).is_some_and(|(_, member)| member.is_removed)
    }

    fn started(&self, life: &Life, started: Result<Arc<Node>, Error>) {
        life.lose_power_at_once();
        match started {
            Ok(node) => self.record.note(format_args!("{} is node {}", life.machine, node.number())),
            Err(_) if self.is_out(life.machine) => self.record.note(format_args!("{} stays outside", life.machine)),
            Err(error) if life.is_alive() && !self.is_over() && error.kind() != ErrorKind::Cancelled => {
                self.record.broken(Promise::GoesOn, format!("{} does not start: {error}", life.machine));
            }
            Err(_) => {}
        }
    }

    /// Looks at what a node applies.
    fn watch(self: &Arc<Self>, life: &Life, node: &Arc<Node>) {
        let (world, own, core) = (Arc::clone(self), life.clone(), Arc::clone(&node.core));
        drop(self.blocking(life, move || {
            let Ok(log) = core.wait(core.opened_log()) else { return };
            let mut applied = log.watch_applied();
            while own.is_alive() && !world.is_over() {
                applied.borrow_and_update();
                world.look_at(&own, log);
                if core.wait(applied.changed()).is_err() {
                    return;
                }
            }
        }));
    }

    /// Ends a node: what it had in memory is gone, and by a power cut what was not synced.
    pub fn crash(self: &Arc<Self>, machine: usize, is_power_cut: bool) {
        let (life, how) = {
            let mut machines = self.machines();
            let of = &mut machines[machine];
            let Some(life) = of.life.take() else { return };
            let loss = Loss::Random(self.draw());
            of.disk = if is_power_cut { life.disk.crash(&loss) } else { life.disk.fork() };
            life.disk.stop_after(0);
            life.is_alive.store(false, Ordering::Relaxed);
            if is_power_cut {
                of.raft.cut();
            }
            of.raft.fail_never();
            of.back_at = Instant::now() + Duration::from_millis(self.draw() % 4_000);
            (life, if is_power_cut { "power cuts" } else { "kills" })
        };
        self.record.note(format_args!("{machine} ends: {how}"));
        self.record.count(how);
        self.net.forget(&life);
        self.end_life(life);
        self.check_held();
    }

    /// What is left of a life comes to its end, and nobody hears of it.
    pub(super) fn end_life(self: &Arc<Self>, life: Life) {
        let own = life.clone();
        let node = lock(&life.node).take();
        drop(self.blocking(&own, move || {
            let Some(mut node) = node else { return };
            node.stop();
            // Whoever has it lets go as soon as he sees that.
            loop {
                match Arc::try_unwrap(node) {
                    Ok(node) => return node.shutdown(),
                    Err(shared) => node = shared,
                }
                fiber::block_on(std::pin::pin!(tokio::time::sleep(Duration::from_millis(20))));
            }
        }));
    }
}
