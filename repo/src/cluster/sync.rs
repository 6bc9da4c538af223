//! `sync`: what is published comes here, what was committed here is published, and where both happened they are merged.
//!
//! Order (`docs/protocol.md`, section 8): what may be under way is settled; the head is learnt from the leader; it is fetched;
//! the merge makes objects only; it is published; and then the working copy is written, under a journal, and HEAD moves.
//! Cut off anywhere, the next `sync` goes on: nothing that was published is lost, and nothing of the user's is touched.

mod merge;
mod publish;
pub mod tags;
mod write;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use filesync_cas::Session;
use filesync_merkle::ancestry::{apart, is_ancestor};
use filesync_merkle::{CommitId, PubId, RepoPath};
use filesync_raft_log::State;
use filesync_raft_log::command::Role;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::core::Core;
use super::members::{ask_facts, facts};
use super::node::Node;
use super::remote::{MAIN, Remote, index_of, main_of};
use super::{follow, heal, hold};
use crate::commit;
use crate::error::{Error, ErrorKind};
use crate::repo::STORE_DIR;
use crate::request::{CommitRequest, Event, Observer, Silent, SyncOutcome, SyncRequest, SyncResult, Warning};
use crate::restore::{self, EarlyFiles};

/// Attempts to publish that lost against others, at most; each lost to a publish of somebody else.
const LOST_MAX: u32 = 100;
/// How old an answer may be for another question to be spared.
const FRESH: Duration = Duration::from_secs(1);
/// How long to wait before what could not be fetched is asked for again.
const AGAIN: Duration = Duration::from_millis(200);
/// Paths that an error names.
const NAMED_MAX: usize = 3;

/// Carries out `sync`.
pub fn sync(node: &Node, request: &SyncRequest, observer: &dyn Observer) -> Result<SyncResult, Error> {
    let began = Instant::now();
    let core = &node.core;
    if !request.dry_run {
        restore::finish_journal(&core.repo, observer)?;
    }
    let mut asked = None;
    if request.commit && !request.dry_run {
        let asking = AskedEarly::begin(core, request.timeout);
        commit::commit(&core.repo, &CommitRequest::default(), observer)?;
        asked = Some(asking);
    }
    let mut run = Run { core, request, observer, result: SyncResult::default(), early: None, asked };
    let done = run.run();
    let mut result = run.result;
    if request.push_only {
        // They came as far as a merge needs them, and the head does not have them.
        result.waiting = std::mem::take(&mut result.pulled);
        let is_published = done.is_ok() && !request.dry_run && !result.is_local;
        result.waiting.extend(result.merged.filter(|_| is_published));
    }
    result.head = core.repo.head();
    result.elapsed = began.elapsed();
    let Err(error) = done else { return Ok(result) };
    // The outcome is what scripts ask for; the error says why.
    result.outcome = match error.kind() {
        ErrorKind::Unknown => SyncOutcome::Unknown,
        ErrorKind::Refused => SyncOutcome::Refused,
        _ => return Err(error),
    };
    result.error = Some(error);
    Ok(result)
}

/// Brings here what is published, and writes it into the working copy if that has no commit yet.
pub fn bring_up_to_date(node: &Node, timeout: Duration, observer: &dyn Observer) -> Result<SyncResult, Error> {
    sync(node, &SyncRequest { pull_only: true, timeout, ..SyncRequest::default() }, observer)
}

/// Brings here what is published by a state, whole, and notes it durably. Neither the working copy nor what is to be published is touched.
pub fn fetch(core: &Arc<Core>, state: &State, timeout: Duration) -> Result<(), Error> {
    let request = SyncRequest { dry_run: true, timeout, ..SyncRequest::default() };
    let mut run =
        Run { core, request: &request, observer: &Silent, result: SyncResult::default(), early: None, asked: None };
    run.fetch(state)
}

struct Run<'a> {
    core: &'a Arc<Core>,
    request: &'a SyncRequest,
    observer: &'a dyn Observer,
    result: SyncResult,
    /// Large files that were written while they came, for a working copy that is empty.
    early: Option<Arc<EarlyFiles>>,
    /// What was asked while the commit was made.
    asked: Option<AskedEarly>,
}

/// What is true of the cluster, asked for while something else is done. Dropped, nobody asks any more.
struct AskedEarly {
    began: Instant,
    asking: JoinSet<Result<State, Error>>,
}

impl AskedEarly {
    fn begin(core: &Arc<Core>, timeout: Duration) -> Self {
        let (own, mut asking) = (Arc::clone(core), JoinSet::new());
        asking.spawn_on(async move { ask_facts(&own, timeout).await }, core.env.runtime());
        Self { began: Instant::now(), asking }
    }

    /// The answer, unless it is better to ask again: after some time, or when there was none by now.
    fn answer(mut self, core: &Core) -> Result<Option<State>, Error> {
        if self.began.elapsed() > FRESH {
            return Ok(None);
        }
        match self.asking.try_join_next() {
            Some(Ok(Ok(state))) => return Ok(Some(state)),
            Some(_) => return Ok(None),
            None => {}
        }
        match core.wait(self.asking.join_next())? {
            Some(Ok(answer)) => answer.map(Some),
            // It was cut off: asked again, there is a better error.
            Some(Err(_)) | None => Ok(None),
        }
    }
}

/// How the local head and what is published are related.
enum Relation {
    Same,
    /// What is published has all that is here.
    Behind(CommitId),
    /// What is here has all that is published.
    Ahead(CommitId),
    /// Both have what the other lacks.
    Apart {
        ours: CommitId,
        theirs: CommitId,
    },
}

impl Run<'_> {
    fn run(&mut self) -> Result<(), Error> {
        self.settle()?;
        let state = self.run_main()?;
        let may_publish = self.may_publish(&state);
        self.tags(&state, may_publish)
    }

    fn may_publish(&self, state: &State) -> bool {
        state.member(self.core.number).is_ok_and(|member| member.role >= Role::Writer)
    }

    /// Brings `main` into line. Returns what was true of the cluster when it began for the last time.
    fn run_main(&mut self) -> Result<State, Error> {
        for _ in 0..LOST_MAX {
            let asked = self.asked.take().map_or(Ok(None), |asked| asked.answer(self.core))?;
            let state = asked.map_or_else(|| facts(self.core, self.request.timeout), Ok)?;
            self.result.round_trips += 1;
            let may_publish = self.may_publish(&state);
            self.fetch_in_time(&state)?;
            let main = main_of(&state);
            let (pulled, local) = apart(self.core.repo.node_source(), main, self.core.repo.head())?;
            self.result.pulled = pulled;
            if self.request.dry_run && may_publish && !self.request.pull_only {
                self.result.published = local;
            }
            match self.relation(main)? {
                Relation::Same => {}
                Relation::Behind(theirs) => self.write(theirs)?,
                Relation::Ahead(_) if !may_publish => self.result.is_local = true,
                Relation::Ahead(_) if self.request.pull_only => {}
                Relation::Ahead(ours) => {
                    if !self.request.dry_run && !self.publish(MAIN, main, Some(ours))? {
                        continue;
                    }
                }
                Relation::Apart { ours, theirs } if self.request.dry_run => {
                    self.plan_merge(ours, theirs)?;
                    self.result.is_local = !may_publish;
                }
                Relation::Apart { ours, theirs } => {
                    let merged = self.merge(ours, theirs)?;
                    // Only what the merge would write must not have been edited, and nothing is published that cannot come here.
                    if !self.request.push_only
                        && let Err(error) = self.look_for_edits(merged)
                    {
                        self.core.repo.store.unpin(&merge::merge_pin())?;
                        return Err(error);
                    }
                    self.result.is_local = !may_publish;
                    if may_publish && !self.request.pull_only && !self.publish(MAIN, Some(theirs), Some(merged))? {
                        self.result.merged = None;
                        self.result.conflicts.clear();
                        self.result.kinds.clear();
                        self.result.copies.clear();
                        self.result.outcome = SyncOutcome::Done;
                        continue;
                    }
                    self.write(merged)?;
                }
            }
            return Ok(state);
        }
        Err(Error::new(ErrorKind::NoQuorum, "cannot publish: others were always faster"))
    }

    fn relation(&self, main: Option<CommitId>) -> Result<Relation, Error> {
        let source = self.core.repo.node_source();
        Ok(match (self.core.repo.head(), main) {
            (None, None) => Relation::Same,
            (Some(ours), Some(theirs)) if ours == theirs => Relation::Same,
            (Some(ours), None) => Relation::Ahead(ours),
            (None, Some(theirs)) => Relation::Behind(theirs),
            (Some(ours), Some(theirs)) if is_ancestor(source, ours, theirs)? => Relation::Behind(theirs),
            (Some(ours), Some(theirs)) if is_ancestor(source, theirs, ours)? => Relation::Ahead(ours),
            (Some(ours), Some(theirs)) => Relation::Apart { ours, theirs },
        })
    }

    /// As [`Run::fetch`], again as long as there is time: those who hold it may be the ones that could not be reached.
    fn fetch_in_time(&mut self, state: &State) -> Result<(), Error> {
        let until = Instant::now() + self.request.timeout;
        loop {
            match self.fetch(state) {
                Err(error) if error.kind() == ErrorKind::NoQuorum && Instant::now() < until => {
                    crate::cancel::check()?;
                    self.core.wait(async { tokio::time::sleep(AGAIN).await })?;
                }
                fetched => return fetched,
            }
        }
    }

    /// Whether everything that is fetched is written into a working copy that is empty. In one that is not, files are created where
    /// they belong, by the rules of their directories.
    fn fills_empty(&self) -> bool {
        let repo = &self.core.repo;
        let is_empty = || {
            let there = repo.work.list(Path::new(""));
            there.is_ok_and(|there| there.iter().all(|(name, _)| name == STORE_DIR))
        };
        let writes = !self.request.dry_run && !self.request.push_only;
        writes && repo.head().is_none() && repo.copied.is_whole() && is_empty()
    }

    /// Brings what is published here, whole, and notes that durably.
    fn fetch(&mut self, state: &State) -> Result<(), Error> {
        let core = self.core;
        if let Some(log) = core.followed_log() {
            let behind =
                |error: &dyn std::fmt::Display| Error::new(ErrorKind::NoQuorum, format!("cannot sync: {error}"));
            let index = filesync_raft_log::ids::LogIndex(index_of(state));
            core.wait(log.wait_applied(index, self.request.timeout))?.map_err(|error| behind(&error))?;
            heal::look_after(core, log)?;
            return follow::bring_here(core, log);
        }
        let known = core.remote().clone();
        let main = main_of(state);
        let is_here = known.held == main && known.step == last_step(state);
        if is_here && known.index() >= index_of(state) {
            self.let_go();
            return Ok(());
        }
        let mut session = core.repo.store.session()?;
        if let Some(main) = main.filter(|_| self.fills_empty()) {
            let early = Arc::new(EarlyFiles::new(Arc::clone(&core.repo.work), Arc::clone(&core.repo.store), main));
            self.early = Some(Arc::clone(&early));
            session = session.witnessed_by(early);
        }
        let mut step = known.step;
        if known.held != main || known.step != last_step(state) {
            let voters: Vec<_> = state.voters.iter().flatten().copied().collect();
            let peers = core.wait(core.connect_all(&voters))?;
            if let Some(main) = main.filter(|main| known.held != Some(*main)) {
                self.observer.event(Event::Phase { what: "fetching", bytes: None, items: None });
                let observer = self.observer;
                let mut seen = (0, 0);
                let stats = core.fetch(&session, main, known.held, &peers, &mut |stats| {
                    let (bytes, items) = (stats.received, stats.objects + stats.nodes);
                    observer.event(Event::Advance { bytes: bytes - seen.0, items: items - seen.1 });
                    seen = (bytes, items);
                })?;
                self.result.bytes_sent += stats.sent;
                self.result.bytes_received += stats.received;
                self.result.chunks_received += stats.objects;
                for (peer, from) in &stats.by_peer {
                    if let Some(node) = core.view.member(peer) {
                        self.result.peers.push((node.0, from.bytes));
                    }
                }
                self.result.round_trips += stats.walks + 1;
            }
            // Somebody may publish meanwhile: then the order comes with the next sync.
            if let Some(wanted) = last_step(state).filter(|wanted| step != Some(*wanted)) {
                self.result.round_trips += 1;
                if core.fetch_steps(&session, wanted, step, &peers).is_ok() {
                    step = Some(wanted);
                }
            }
        }
        session.keep()?;
        core.note_held(Remote { state: state.clone(), held: main, held_index: index_of(state), step })?;
        drop::<Session<'_>>(session);
        self.let_go();
        Ok(())
    }

    /// Lets go what this node held and need not any more. What stays for an error costs room, and nothing else.
    fn let_go(&self) {
        if !self.request.dry_run
            && let Err(error) = hold::release_known(self.core)
        {
            let message = format!("what was held for others is kept: {error}");
            self.observer.event(Event::Warning(Warning { path: None, message }));
        }
    }
}

fn last_step(state: &State) -> Option<PubId> {
    state.last_step.map(|id| PubId::from_bytes(id.0))
}

fn named(paths: &[RepoPath]) -> String {
    let shown: Vec<String> = paths.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if paths.len() > NAMED_MAX { format!(" (and {} more)", paths.len() - NAMED_MAX) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
