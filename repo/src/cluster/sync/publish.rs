//! Publishing, as the one does it whose commit it is: durable before it is sent, asked for until it is decided.

use std::time::Duration;

use filesync_merkle::ancestry::apart;
use filesync_merkle::history::read_commit;
use filesync_merkle::{CommitId, TreeLink};
use filesync_p2p::transport::Traffic;
use filesync_raft_log::State;
use filesync_raft_log::command::{Outcome, RefChange, Role};
use filesync_raft_log::ids::{Id, RefName};
use tokio::time::{Instant, sleep};

use super::Run;
use crate::cluster::calls::{Answer, Call};
use crate::cluster::core::Core;
use crate::cluster::follow;
use crate::cluster::members::facts;
use crate::cluster::outbox::{Outbox, Sending};
use crate::cluster::remote::{MAIN, index_of};
use crate::error::{Error, ErrorKind};
use crate::expired::Expired;
use crate::request::{Event, Warning};

impl Run<'_> {
    /// Finds out what became of a publish whose answer never came.
    pub(super) fn settle(&mut self) -> Result<(), Error> {
        let vfs = &**self.core.repo.store.vfs();
        let Outbox { seq, sending: Some(sending) } = Outbox::read(vfs)? else { return Ok(()) };
        if self.request.dry_run {
            let message = "no answer came to an earlier publish: the next sync finds out what became of it".to_owned();
            self.observer.event(Event::Warning(Warning { path: None, message }));
            return Ok(());
        }
        // What was asked meanwhile was true before it was decided.
        self.asked = None;
        let state = facts(self.core, self.request.timeout)?;
        // Who may only read by now is not answered: whatever was sent is decided or refused.
        if state.member(self.core.number).is_ok_and(|member| member.role < Role::Writer) {
            return Outbox { seq, sending: None }.write(vfs);
        }
        // Whatever came of it, what follows sees where things stand.
        match self.send(seq, &sending) {
            Err(error) if Outbox::read(vfs)?.sending.is_some() => Err(error),
            _ => Ok(()),
        }
    }

    /// Moves a ref of the cluster. `false` if somebody was faster.
    pub(super) fn publish(
        &mut self,
        name: &str,
        expected: Option<CommitId>,
        new: Option<CommitId>,
    ) -> Result<bool, Error> {
        let vfs = &**self.core.repo.store.vfs();
        ref_name(name)?;
        self.check_whole(expected, new)?;
        let last = self.core.state().members.get(&self.core.number).and_then(|it| it.last.as_ref().map(|it| it.seq));
        let seq = Outbox::read(vfs)?.seq.max(last.unwrap_or(0)) + 1;
        let sending = Sending { name: name.to_owned(), expected, new };
        Outbox { seq, sending: Some(sending.clone()) }.write(vfs)?;
        self.observer.event(Event::Phase { what: "publishing", bytes: None, items: None });
        self.send(seq, &sending)
    }

    /// Voters hold what they show whole: a history of which parts were let go here before it was ever published cannot be.
    fn check_whole(&self, expected: Option<CommitId>, new: Option<CommitId>) -> Result<(), Error> {
        let repo = &self.core.repo;
        let expired = Expired::read(&**repo.store.vfs())?.0;
        if expired.is_empty() || new.is_none() {
            return Ok(());
        }
        for id in apart(repo.node_source(), new, expected)?.0.into_iter().filter(|id| expired.contains(id)) {
            let tree = read_commit(repo.node_source(), &id)?.tree;
            if tree != TreeLink::empty() && repo.store.locate(&tree.id.0)?.is_none() {
                let error = refused(&format!("commit {id} has expired, and its files are gone"));
                return Err(error.with_hint("publish before `filesync forget` and `filesync gc`"));
            }
        }
        Ok(())
    }

    /// Asks until it is decided, or the time is over. `true` if it was published.
    fn send(&mut self, seq: u64, sending: &Sending) -> Result<bool, Error> {
        let core = self.core;
        let vfs = &**core.repo.store.vfs();
        let id = |id: CommitId| Id(*id.0.as_bytes());
        let name = ref_name(&sending.name)?;
        let change = RefChange { name, expected: sending.expected.map(id), new: sending.new.map(id) };
        let call = Call::Publish { seq, change };
        let _offer = sending.new.map(|new| core.view.offer(new));
        let mut before = sent(core);
        let settled = || Outbox { seq, sending: None }.write(vfs);
        let (mut until, mut done) = (Instant::now() + self.request.timeout, 0);
        let (mut last, mut why) = ("no decision in time".to_owned(), None);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = match core.wait(core.ask_leader(&call, left))? {
                Ok(answer) => answer,
                // What kept it the last time says more than that the time is over.
                Err(error) => return Err(unknown(&why.unwrap_or_else(|| error.to_string()))),
            };
            self.result.round_trips += 1;
            let now = sent(core);
            // Who votes no more does not count any more.
            self.result.bytes_sent += now.sent.saturating_sub(before.sent);
            self.result.chunks_sent += now.objects_sent.saturating_sub(before.objects_sent);
            before = now;
            match answer {
                Answer::Outcome(Outcome::Published { index, .. }) => {
                    // It is decided whether both are written or none is: asked again, the answer is the same.
                    let (noted, settled) = core.env.both(|| self.note_published(sending, index.0), settled);
                    return noted.and(settled).map(|()| true);
                }
                Answer::Outcome(Outcome::Lost { .. }) => {
                    settled()?;
                    return Ok(false);
                }
                Answer::Outcome(Outcome::Refused(refusal)) => {
                    settled()?;
                    return Err(refused(&refusal.to_string()));
                }
                Answer::Refused(cause) => {
                    settled()?;
                    return Err(refused(&cause));
                }
                Answer::Working(now) if now > done => {
                    done = now;
                    until = Instant::now() + self.request.timeout;
                }
                Answer::Working(_) => {}
                // Not by this try; an earlier one may still be decided.
                Answer::Failed(cause) => {
                    last.clone_from(&cause);
                    why = Some(cause);
                    core.wait(async { sleep(Duration::from_millis(200)).await })?;
                }
                _ => core.wait(async { sleep(Duration::from_millis(50)).await })?,
            }
            if Instant::now() >= until {
                return Err(unknown(&last));
            }
            crate::cancel::check()?;
        }
    }

    /// What was published is here, and whole: it was made here, or is part of what is.
    fn note_published(&mut self, sending: &Sending, index: u64) -> Result<(), Error> {
        let core = self.core;
        let is_main = sending.name == MAIN;
        if is_main {
            // After those of a publish that an earlier sync had sent.
            self.result.published.extend(apart(core.repo.node_source(), sending.new, sending.expected)?.0);
        }
        if let Some(log) = core.followed_log() {
            let at = filesync_raft_log::ids::LogIndex(index);
            drop(core.wait(log.wait_applied(at, self.request.timeout))?);
            return follow::bring_here(core, log);
        }
        let mut state = core.view.read(State::clone);
        // By a later one somebody else may have published on top of it.
        if index <= index_of(&state) {
            return Ok(());
        }
        if is_main {
            // Who holds it is told with the next sync.
            state.holders.clear();
        }
        if let Ok(name) = RefName::new(&sending.name) {
            match sending.new {
                Some(new) => drop(state.refs.insert(name, Id(*new.0.as_bytes()))),
                None => drop(state.refs.remove(&name)),
            }
        }
        let mut remote = core.remote();
        if is_main && index > remote.held_index {
            // The order of publishes is fetched with the next sync.
            remote.state = state.clone();
            (remote.held, remote.held_index) = (sending.new, index);
            remote.write(&**core.repo.store.vfs())?;
        }
        drop(remote);
        core.view.update(state);
        Ok(())
    }
}

/// What voters have fetched from here: what is published, as good as nothing else.
fn sent(core: &Core) -> Traffic {
    let mut all = Traffic::default();
    let Ok(transport) = core.transport() else { return all };
    for (peer, traffic) in transport.traffic() {
        if core.view.member(&peer).is_some_and(|node| core.view.read(|state| state.is_voter(node))) {
            all.sent += traffic.sent;
            all.objects_sent += traffic.objects_sent;
        }
    }
    all
}

fn ref_name(name: &str) -> Result<RefName, Error> {
    RefName::new(name).map_err(|error| refused(&error.to_string()))
}

fn refused(cause: &str) -> Error {
    Error::new(ErrorKind::Refused, format!("cannot publish: {cause}"))
}

fn unknown(cause: &str) -> Error {
    let message = format!("cannot tell whether it was published: {cause}");
    Error::new(ErrorKind::Unknown, message).with_hint("the commit is safe here; the next `filesync sync` finds out")
}
