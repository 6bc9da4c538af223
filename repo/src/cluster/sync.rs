//! `sync`: what is published comes here, what was committed here is published, and where both happened they are merged.
//!
//! Order (`docs/protocol.md`, section 8): what may be under way is settled; the head is learnt from the leader; it is fetched;
//! the merge makes objects only; it is published; and then the working copy is written, under a journal, and HEAD moves.
//! Cut off anywhere, the next `sync` goes on: nothing that was published is lost, and nothing of the user's is touched.

use std::sync::Arc;
use std::time::{Duration, Instant};

use filesync_cas::Session;
use filesync_cas::rows::RowBatch;
use filesync_merkle::ancestry::{apart, is_ancestor, merge_base};
use filesync_merkle::history::read_commit;
use filesync_merkle::merge::{self, ConflictTag, Merged, Sides};
use filesync_merkle::{Commit, CommitId, PubId, RepoPath, TreeLink, diff, lookup};
use filesync_raft_log::State;
use filesync_raft_log::command::{Outcome, RefChange, Role};
use filesync_raft_log::ids::{Id, RefName};

use super::calls::{Answer, Call};
use super::core::Core;
use super::follow;
use super::members::facts;
use super::node::Node;
use super::outbox::{Outbox, Sending};
use super::remote::{MAIN, Remote, index_of, main_of};
use crate::commit;
use crate::compare::compare;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::objects::SessionNodes;
use crate::path_set::PathSet;
use crate::request::{
    CommitRequest, Event, Observer, RestoreRequest, Silent, Strategy, SyncOutcome, SyncRequest, SyncResult,
};
use crate::restore;

/// Attempts to publish that lost against others, at most; each lost to a publish of somebody else.
const LOST_MAX: u32 = 100;
/// Paths that an error names.
const NAMED_MAX: usize = 3;

/// Carries out `sync`.
pub fn sync(node: &Node, request: &SyncRequest, observer: &dyn Observer) -> Result<SyncResult, Error> {
    let began = Instant::now();
    let core = &node.core;
    restore::finish_journal(&core.repo, observer)?;
    if request.commit && !request.dry_run {
        commit::commit(&core.repo, &CommitRequest::default(), observer)?;
    }
    let mut run = Run { core, request, observer, result: SyncResult::default() };
    let done = run.run();
    let mut result = run.result;
    result.head = core.repo.head();
    result.elapsed = began.elapsed();
    match done {
        Ok(()) => Ok(result),
        // The outcome is what scripts ask for; the error says why.
        Err(error) if error.kind() == ErrorKind::Unknown => {
            Ok(SyncResult { outcome: SyncOutcome::Unknown, cause: Some(error.to_string()), ..result })
        }
        Err(error) => Err(error),
    }
}

/// Brings here what is published, and writes it into the working copy if that has no commit yet.
pub fn bring_up_to_date(node: &Node, timeout: Duration, observer: &dyn Observer) -> Result<SyncResult, Error> {
    sync(node, &SyncRequest { pull_only: true, timeout, ..SyncRequest::default() }, observer)
}

struct Run<'a> {
    core: &'a Arc<Core>,
    request: &'a SyncRequest,
    observer: &'a dyn Observer,
    result: SyncResult,
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
        for _ in 0..LOST_MAX {
            let state = facts(self.core, self.request.timeout)?;
            self.result.round_trips += 1;
            let may_publish = state.member(self.core.number).is_ok_and(|member| member.role >= Role::Writer);
            self.fetch(&state)?;
            let main = main_of(&state);
            self.result.pulled = apart(self.core.repo.node_source(), main, self.core.repo.head())?.0;
            match self.relation(main)? {
                Relation::Same => return Ok(()),
                Relation::Behind(theirs) => return self.write(theirs),
                Relation::Ahead(_) if !may_publish => {
                    self.result.is_local = true;
                    return Ok(());
                }
                Relation::Ahead(_) if self.request.pull_only => return Ok(()),
                Relation::Ahead(ours) => {
                    if self.request.dry_run || self.publish(ours, main_of(&state))? {
                        return Ok(());
                    }
                }
                Relation::Apart { ours, theirs } => {
                    if self.request.dry_run {
                        return Ok(());
                    }
                    self.look_for_edits(theirs)?;
                    let merged = self.merge(ours, theirs)?;
                    if self.request.pull_only || !may_publish {
                        self.result.is_local = !may_publish;
                        return self.write(merged);
                    }
                    if self.publish(merged, Some(theirs))? {
                        return self.write(merged);
                    }
                    self.result.merged = None;
                    self.result.conflicts.clear();
                }
            }
        }
        Err(Error::new(ErrorKind::NoQuorum, "cannot publish: others were always faster"))
    }

    /// Finds out what became of a publish whose answer never came.
    fn settle(&mut self) -> Result<(), Error> {
        let vfs = &**self.core.repo.store.vfs();
        let Outbox { seq, sending: Some(sending) } = Outbox::read(vfs)? else { return Ok(()) };
        let Some(new) = sending.new else { return Outbox { seq, sending: None }.write(vfs) };
        let state = facts(self.core, self.request.timeout)?;
        // Who may only read by now is not answered: whatever was sent is decided or refused.
        if state.member(self.core.number).is_ok_and(|member| member.role < Role::Writer) {
            return Outbox { seq, sending: None }.write(vfs);
        }
        // Whatever came of it, the loop that follows sees where things stand.
        self.send(seq, &sending, new).map(drop)
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

    /// Brings what is published here, whole, and notes that durably.
    fn fetch(&mut self, state: &State) -> Result<(), Error> {
        let core = self.core;
        if let Some(log) = core.log.get() {
            let behind =
                |error: &dyn std::fmt::Display| Error::new(ErrorKind::NoQuorum, format!("cannot sync: {error}"));
            let index = filesync_raft_log::ids::LogIndex(index_of(state));
            core.wait(log.wait_applied(index, self.request.timeout))?.map_err(|error| behind(&error))?;
            return follow::bring_here(core, log);
        }
        let known = core.remote().clone();
        let main = main_of(state);
        let is_here = known.held == main && known.step == last_step(state);
        if is_here && known.index() >= index_of(state) {
            return Ok(());
        }
        let session = core.repo.store.session()?;
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
                for (peer, bytes) in &stats.by_peer {
                    if let Some(node) = core.view.member(peer) {
                        self.result.peers.push((node.0, *bytes));
                    }
                }
                self.result.round_trips += stats.walks + 1;
            }
            // Somebody may publish meanwhile: then the order comes with the next sync.
            if let Some(wanted) = last_step(state).filter(|wanted| step != Some(*wanted))
                && core.fetch_steps(&session, wanted, step, &peers).is_ok()
            {
                step = Some(wanted);
            }
        }
        session.keep()?;
        let remote = Remote { state: state.clone(), held: main, held_index: index_of(state), step };
        remote.write(&**core.repo.store.vfs())?;
        *core.remote() = remote;
        drop::<Session<'_>>(session);
        Ok(())
    }

    /// Publishes a commit in place of another. `false` if somebody was faster.
    fn publish(&mut self, new: CommitId, expected: Option<CommitId>) -> Result<bool, Error> {
        let vfs = &**self.core.repo.store.vfs();
        let last = self.core.state().members.get(&self.core.number).and_then(|it| it.last.as_ref().map(|it| it.seq));
        let seq = Outbox::read(vfs)?.seq.max(last.unwrap_or(0)) + 1;
        let sending = Sending { name: MAIN.to_owned(), expected, new: Some(new) };
        Outbox { seq, sending: Some(sending.clone()) }.write(vfs)?;
        self.observer.event(Event::Phase { what: "publishing", bytes: None, items: None });
        self.send(seq, &sending, new)
    }

    /// Asks until it is decided, or the time is over. `true` if it was published.
    fn send(&mut self, seq: u64, sending: &Sending, new: CommitId) -> Result<bool, Error> {
        let core = self.core;
        let vfs = &**core.repo.store.vfs();
        let id = |id: CommitId| Id(*id.0.as_bytes());
        let name = RefName::new(&sending.name).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        let change = RefChange { name, expected: sending.expected.map(id), new: Some(id(new)) };
        let call = Call::Publish { seq, change };
        let _offer = core.view.offer(new);
        let settled = || Outbox { seq, sending: None }.write(vfs);
        let (mut until, mut done) = (Instant::now() + self.request.timeout, 0);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let answer = match core.wait(core.ask_leader(&call, left))? {
                Ok(answer) => answer,
                Err(error) => return Err(unknown(&error.to_string())),
            };
            self.result.round_trips += 1;
            match answer {
                Answer::Outcome(Outcome::Published { index, .. }) => {
                    self.note_published(sending, new, index.0)?;
                    settled()?;
                    return Ok(true);
                }
                Answer::Outcome(Outcome::Lost { .. }) => {
                    settled()?;
                    return Ok(false);
                }
                Answer::Outcome(Outcome::Refused(refusal)) => {
                    settled()?;
                    return Err(Error::new(ErrorKind::Failed, format!("cannot publish: {refusal}")));
                }
                Answer::Working(now) if now > done => {
                    done = now;
                    until = Instant::now() + self.request.timeout;
                }
                Answer::Working(_) => {}
                // Not by this try; an earlier one may still be decided.
                Answer::Failed(cause) if Instant::now() >= until => return Err(unknown(&cause)),
                Answer::Failed(_) => std::thread::sleep(Duration::from_millis(200)),
                _ => std::thread::sleep(Duration::from_millis(50)),
            }
            if Instant::now() >= until {
                return Err(unknown("no decision in time"));
            }
            crate::cancel::check()?;
        }
    }

    /// What was published is here, and whole: it was made here.
    fn note_published(&mut self, sending: &Sending, new: CommitId, index: u64) -> Result<(), Error> {
        let core = self.core;
        self.result.published = apart(core.repo.node_source(), Some(new), sending.expected)?.0;
        if let Some(log) = core.log.get() {
            let at = filesync_raft_log::ids::LogIndex(index);
            drop(core.wait(log.wait_applied(at, self.request.timeout))?);
            return follow::bring_here(core, log);
        }
        let mut state = core.view.read(State::clone);
        if let Ok(name) = RefName::new(&sending.name) {
            state.refs.insert(name, Id(*new.0.as_bytes()));
        }
        let mut remote = core.remote();
        if index > remote.held_index {
            // The order of publishes is fetched with the next sync.
            remote.state = state.clone();
            (remote.held, remote.held_index) = (Some(new), index);
            remote.write(&**core.repo.store.vfs())?;
        }
        drop(remote);
        core.view.update(state);
        Ok(())
    }

    /// Merges: objects only. What is theirs comes first among the parents.
    fn merge(&mut self, ours: CommitId, theirs: CommitId) -> Result<CommitId, Error> {
        let repo = &self.core.repo;
        let source = repo.node_source();
        let session = repo.store.session()?;
        let tree = |id: CommitId| read_commit(source, &id).map(|commit| commit.tree);
        let base = merge_base(source, ours, theirs)?.map(tree).transpose()?;
        let (mine, published) = (tree(ours)?, tree(theirs)?);
        let (node, date) = restore::conflict_names(repo);
        let tag = ConflictTag { node: &node, date: &date };
        let strategy = match self.request.strategy {
            Strategy::Copies => merge::Strategy::Copies,
            Strategy::Ours => merge::Strategy::Ours,
            Strategy::Theirs => merge::Strategy::Theirs,
            Strategy::Fail => merge::Strategy::Fail,
        };
        let plan = match merge::merge(source, Sides { base, ours: mine, theirs: published }, strategy, tag)? {
            Merged::Plan(plan) => plan,
            Merged::Conflicts(conflicts) => {
                let paths: Vec<RepoPath> = conflicts.into_iter().map(|conflict| conflict.path).collect();
                let message = format!("cannot merge: both sides changed {}", named(&paths));
                return Err(Error::new(ErrorKind::Failed, message).with_hint("--strategy copies keeps both"));
            }
        };
        self.result.conflicts = plan.conflicts.iter().map(|conflict| conflict.path.as_bytes().to_vec()).collect();
        if !self.result.conflicts.is_empty() {
            self.result.outcome = SyncOutcome::Conflicts;
        }
        let mut writer = session.writer();
        let tree = plan.apply(source, &mut SessionNodes(&mut writer), published)?;
        let id = self.put_merge(writer, tree, vec![theirs, ours])?;
        session.keep()?;
        // Until it is published or HEAD, a pin is what refers to it.
        self.pin(id)?;
        drop::<Session<'_>>(session);
        self.result.merged = Some(id);
        Ok(id)
    }

    fn put_merge(
        &self,
        mut writer: filesync_cas::store::FrameWriter<'_>,
        tree: TreeLink,
        parents: Vec<CommitId>,
    ) -> Result<CommitId, Error> {
        let repo = &self.core.repo;
        let mut commit = Commit {
            parents,
            tree,
            time: commit::now(),
            author: commit::author(repo, &CommitRequest::default())?,
            message: "merge".to_owned(),
            node: [0; 32],
            signature: [0; 64],
        };
        let identity = Identity::load(&**repo.store.vfs())?;
        commit.node = identity.node();
        identity.sign(&mut commit, repo.repository())?;
        let id = writer.store(CommitId::KIND, &commit.encode()?)?;
        writer.flush()?;
        Ok(CommitId(id))
    }

    /// One pin for merges of this node that nothing refers to yet: the last of them.
    fn pin(&self, commit: CommitId) -> Result<(), Error> {
        let id = merge_pin();
        let pin = filesync_cas::pin::Pin { id, roots: vec![(CommitId::KIND, commit.0)], note: "merge".to_owned() };
        Ok(self.core.repo.store.pin(&pin)?)
    }

    /// Fails if there are changes in the working copy, in no commit, where the commit would have to write.
    fn look_for_edits(&self, target: CommitId) -> Result<Vec<Vec<u8>>, Error> {
        let repo = &self.core.repo;
        let source = repo.node_source();
        let head = repo.head_tree()?;
        let tree = read_commit(source, &target)?.tree;
        let mut paths = Vec::new();
        for change in diff(source, head, Some(tree)).with_directories() {
            paths.push(change?.path);
        }
        if paths.is_empty() || head.is_none() {
            return Ok(paths.into_iter().map(|path| path.as_bytes().to_vec()).collect());
        }
        let only = PathSet::new(&paths);
        let edits = compare(repo, head, false, &only, &Silent)?;
        if !edits.is_empty() {
            let wanted = compare(repo, Some(tree), false, &only, &Silent)?;
            let is_both = |path: &Vec<u8>| wanted.iter().any(|change| change.path == *path);
            let edits: Vec<RepoPath> = edits
                .iter()
                .filter(|change| is_both(&change.path))
                .filter_map(|change| RepoPath::parse(&change.path).ok())
                .collect();
            if !edits.is_empty() {
                let message =
                    format!("cannot sync: uncommitted changes would have to be overwritten: {}", named(&edits));
                return Err(Error::new(ErrorKind::Failed, message).with_hint("commit them first, or --commit"));
            }
        }
        Ok(paths.into_iter().map(|path| path.as_bytes().to_vec()).collect())
    }

    /// Writes a commit into the working copy, where it differs from the head, and moves the head.
    fn write(&mut self, target: CommitId) -> Result<(), Error> {
        if self.request.push_only || self.request.dry_run {
            return Ok(());
        }
        let repo = &self.core.repo;
        let paths = self.look_for_edits(target)?;
        if !paths.is_empty() || repo.head().is_none() {
            let is_first = repo.head().is_none();
            let tree = read_commit(repo.node_source(), &target)?.tree;
            let written = paths.clone();
            let request = RestoreRequest {
                rev: Some(target.to_string()),
                delete: !is_first,
                paths: if is_first { Vec::new() } else { paths },
                ..RestoreRequest::default()
            };
            let restored = restore::restore(repo, &request, self.observer)?;
            if let Some(damaged) = restored.damaged.first() {
                let path = String::from_utf8_lossy(&damaged.path).into_owned();
                return Err(Error::new(ErrorKind::Damage, format!("cannot write {path}: {}", damaged.cause)));
            }
            let stands = |path: &&Vec<u8>| match RepoPath::parse(path) {
                Ok(parsed) if is_first => lookup(repo.node_source(), &tree, &parsed).is_ok_and(|entry| entry.is_some()),
                Ok(_) => written.contains(path),
                Err(_) => false,
            };
            // The head must not be where the files are not: the next commit would undo what came.
            if let Some(path) = restored.skipped.iter().find(stands) {
                let message = format!("cannot sync: not overwritten: {}", String::from_utf8_lossy(path));
                let error = Error::new(ErrorKind::Failed, message);
                return Err(error.with_hint("it holds what is in no commit: move it away, and sync again"));
            }
            self.result.skipped = restored.skipped;
            if !self.result.skipped.is_empty() {
                self.result.outcome = SyncOutcome::Conflicts;
            }
        }
        // Files first: a head without its files would look as if the user had undone what came.
        repo.store.session()?.finish(Some(target.0), RowBatch::default())?;
        repo.store.unpin(&merge_pin())?;
        Ok(())
    }
}

fn merge_pin() -> filesync_cas::ContentHash {
    filesync_cas::ContentHash::of_metadata("filesync pin of a merge v1", b"")
}

fn last_step(state: &State) -> Option<PubId> {
    state.last_step.map(|id| PubId::from_bytes(id.0))
}

fn unknown(cause: &str) -> Error {
    let message = format!("cannot tell whether it was published: {cause}");
    Error::new(ErrorKind::Unknown, message).with_hint("the commit is safe here; the next `filesync sync` finds out")
}

fn named(paths: &[RepoPath]) -> String {
    let shown: Vec<String> = paths.iter().take(NAMED_MAX).map(ToString::to_string).collect();
    let more = if paths.len() > NAMED_MAX { format!(" (and {} more)", paths.len() - NAMED_MAX) } else { String::new() };
    format!("{}{more}", shown.join(", "))
}
