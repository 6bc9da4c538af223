//! Holding: fetching the closure of a commit, and promising with a durable pin to keep it for one try to publish it.
//!
//! Order: everything synced, then the pin, its directory synced, then the answer. The pin names the try: it goes when that is
//! decided and the decision is on disk, or when its leader says that it will never be ([`release`], and
//! [`release_known`] where no log is followed).
//!
//! What comes for one member is bounded (`quota.rs`): beyond that the hold fails, and what has come so far is not pinned.

use std::sync::Arc;
use std::time::Duration;

use filesync_cas::pin::{self, Pin};
use filesync_cas::testing::mistake;
use filesync_cas::{ContentHash, Session};
use filesync_merkle::history::read_commit;
use filesync_merkle::{CommitId, is_ancestor};
use filesync_raft_log::Log;
use filesync_raft_log::command::TryId;
use filesync_raft_log::ids::{self, Id, LeaderId, NodeId};

use super::calls::{Answer, Call, TryState};
use super::core::{Core, How};
use super::jobs::Progress;
use super::quota;
use super::remote::{index_of, main_of};
use crate::error::{Error, ErrorKind};
use crate::identity;
use crate::limits;
use crate::request::SignatureState;

/// What a pin is for: a commit, for one try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// The try.
    pub id: TryId,
    /// What.
    pub commit: Id,
}

impl Asked {
    /// As the note of a pin begins.
    fn note(&self) -> String {
        let TryId { client, leader, nonce } = self.id;
        format!("try {client} {} {} {nonce}", leader.term, leader.node)
    }

    /// The pin, which says how many bytes came for it. Its name does not depend on that.
    pub fn pin(&self, bytes: u64) -> Pin {
        let commit = ContentHash::from_bytes(self.commit.0);
        let note = self.note();
        let of = if mistake("a pin for the commit alone") { "" } else { note.as_str() };
        let name = [commit.as_bytes(), of.as_bytes()].concat();
        let id = ContentHash::of_metadata("filesync pin of a try v1", &name);
        Pin { id, roots: vec![(CommitId::KIND, commit)], note: format!("{note} {bytes}") }
    }

    /// What the note of a pin says, and how many bytes came for it: of a pin of before, that is not known, and 0. None if it is
    /// for something else.
    pub fn of(pin: &Pin) -> Option<(Self, u64)> {
        let mut words = pin.note.strip_prefix("try ")?.split(' ').map(str::parse);
        let mut word = || words.next()?.ok();
        let client = NodeId(word()?);
        let leader = LeaderId { term: word()?, node: NodeId(word()?) };
        let nonce = word()?;
        let bytes = word().unwrap_or(0);
        let (_, commit) = pin.roots.first()?;
        Some((Self { id: TryId { client, leader, nonce }, commit: Id(*commit.as_bytes()) }, bytes))
    }
}

/// Holds, and answers when it is durable; asked again while it is at it, it goes on.
pub async fn hold(core: &Arc<Core>, asked: Asked, sources: Vec<NodeId>) -> Answer {
    let begin = |progress: Progress| {
        let core = Arc::clone(core);
        async move {
            let env = Arc::clone(&core.env);
            let holding = env.blocking(move || {
                core.check_whole()?;
                hold_now(&core, &asked, &sources, &progress, || ())?;
                // Nor is attested what was found bad meanwhile.
                core.check_whole()
            });
            match holding.await {
                Some(Ok(())) => Answer::Held,
                Some(Err(error)) => Answer::Failed(error.to_string()),
                None => Answer::Failed("the node is shutting down".to_owned()),
            }
        }
    };
    core.holds.run(asked.id, begin).await
}

/// Holds. `came` is called when all is here and was looked at, before it is durable. Blocks, and must not be called on a worker of
/// a runtime.
pub fn hold_now(
    core: &Arc<Core>,
    asked: &Asked,
    sources: &[NodeId],
    progress: &Progress,
    came: impl FnOnce(),
) -> Result<(), Error> {
    let client = asked.id.client;
    let received = Progress::default();
    let held = hold_counted(core, asked, sources, &received, progress, came);
    match &held {
        Ok(()) => core.quota.pinned(client, asked.commit),
        Err(_) => core.quota.came(client, asked.commit, received.get()),
    }
    held
}

/// Holds, and says how much is `received` for it.
fn hold_counted(
    core: &Arc<Core>,
    asked: &Asked,
    sources: &[NodeId],
    received: &Progress,
    progress: &Progress,
    came: impl FnOnce(),
) -> Result<(), Error> {
    let commit = CommitId::from_bytes(asked.commit.0);
    let session = core.repo.store.session()?;
    if !is_below_held(core, commit)? {
        let client = asked.id.client;
        let is_published = |commit: &Id| core.view.is_published(&CommitId::from_bytes(commit.0));
        let room = core.quota.room(&**core.repo.store.vfs(), client, is_published)?;
        let tell = &mut |bytes| {
            received.set(bytes);
            progress.set(bytes);
        };
        fetch_closure(core, &session, commit, sources, room, tell).map_err(|error| match received.get() > room {
            true => quota::too_much(client),
            false => error,
        })?;
    }
    check_signatures(core, commit)?;
    came();
    if !mistake("a receipt before the sync") {
        session.keep()?;
    }
    let before = core.quota.came_before(&**core.repo.store.vfs(), asked.id.client, asked.commit)?;
    let bytes = before.saturating_add(received.get());
    // Both rely on the packs, and neither on the other; the pin takes longer.
    let record = || match core.log.get().filter(|_| core.check_whole().is_ok()) {
        Some(log) => core.record.keep(&core.repo.store, log),
        // Who lacks what was on record must not have it forgotten.
        None => Ok(()),
    };
    let (pinned, recorded) = core.env.both(|| core.repo.store.pin(&asked.pin(bytes)), record);
    recorded.and(Ok(pinned?))
}

/// Whether a commit is part of what is held here whole, and so needs nothing.
fn is_below_held(core: &Core, commit: CommitId) -> Result<bool, Error> {
    let held = core.remote().held.filter(|_| core.check_whole().is_ok());
    match held {
        Some(held) if core.view.is_published(&commit) => Ok(is_ancestor(core.repo.node_source(), commit, held)?),
        _ => Ok(false),
    }
}

/// Brings the closure of a commit here: what is not below what is held. All of it is claimed by the session. No more than `room`
/// bytes come, or not many more; `tell` hears how many have.
pub fn fetch_closure(
    core: &Arc<Core>,
    session: &Session<'_>,
    commit: CommitId,
    sources: &[NodeId],
    room: u64,
    tell: &mut dyn FnMut(u64),
) -> Result<(), Error> {
    // The base is what this node holds itself, and never what somebody else says.
    let held = core.remote().held.filter(|_| core.check_whole().is_ok());
    let base = if mistake("a base that is not held") { core.view.read(main_of) } else { held };
    let base = base.filter(|base| *base != commit);
    let how = How { room, ..core.how() };
    // Mostly all of it is here by the time it is published, and nobody need be connected.
    let is_begun = core.repo.store.locate(&commit.0)?.is_some();
    if is_begun && core.fetch_as(session, commit, base, &[], how.clone(), &mut |_| ()).is_ok() {
        return Ok(());
    }
    let peers = core.wait(core.connect_all(sources))?;
    core.fetch_as(session, commit, base, &peers, how, &mut |stats| tell(stats.received)).map(drop)
}

/// Every commit that is to be published was signed by who was a member at some time, and is not too much for anybody. An
/// error of usage is the commit's fault, and final.
fn check_signatures(core: &Core, head: CommitId) -> Result<(), Error> {
    let state = core.state();
    let mut open = vec![head];
    let mut seen = std::collections::HashSet::new();
    while let Some(id) = open.pop() {
        if !seen.insert(id) || core.view.is_published(&id) {
            continue;
        }
        let commit = read_commit(core.repo.node_source(), &id)?;
        let refused = |message: String| Error::new(ErrorKind::Usage, message);
        let few = limits::check_paths(&format!("hold commit {id}"), &commit.tree, u64::MAX);
        few.map_err(|error| refused(error.to_string()))?;
        let is_member = state.member_by_key(ids::PeerKey(commit.node)).is_some();
        if !is_member || identity::verify(&commit, core.repo.repository()) != SignatureState::Good {
            return Err(refused(format!("cannot hold commit {id}: no member has signed it")));
        }
        open.extend(commit.parents);
    }
    Ok(())
}

/// How long a leader may take to say what it knows of a try.
const ASK: Duration = Duration::from_secs(5);

/// Pins of tries, and what had become of these.
pub struct Decided {
    /// The entry that had been applied.
    index: u64,
    /// Each pin, and whether its try was decided.
    pins: Vec<(Pin, TryId, bool)>,
}

/// Looks at what is held for tries. To be followed by bringing here what is published, and [`release`].
pub fn decided(core: &Core, log: &Log) -> Result<Decided, Error> {
    let pins = pin::all(&**core.repo.store.vfs())?;
    let tries = pins.into_iter().filter_map(|pin| Asked::of(&pin).map(|(asked, _)| (pin, asked.id)));
    Ok(log.read(|state| Decided {
        index: index_of(state),
        pins: tries.map(|(pin, id)| (pin, id, state.is_decided(id))).collect(),
    }))
}

/// Lets go what is decided, and what will never be. The state is brought to disk first, and what was published has another
/// root by now: `held` of the remote file.
pub fn release(core: &Arc<Core>, log: &Log, decided: Decided) -> Result<(), Error> {
    // Entries may be applied all the time: what counts is that nothing is missing of what was decided when it was looked at.
    if decided.pins.is_empty() || core.held_as_of() < decided.index {
        return Ok(());
    }
    let is_any_decided = decided.pins.iter().any(|(.., is_decided)| *is_decided);
    if is_any_decided && !mistake("a pin that goes before the state is on disk") {
        log.flush().map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
    }
    let mut is_told = true;
    for (pin, id, is_decided) in decided.pins {
        if is_decided || (is_told && will_never_be(core, log, id, &mut is_told)) {
            let_go(core, &pin)?;
        }
    }
    Ok(())
}

/// Lets go what is decided by what this node knows durably, if it also has all that was published by then. For one that follows no
/// log: it was a voter or a candidate, and held, and is neither now, or its daemon does not run. That its own log has not come so
/// far yet does no harm: what it knows durably is a root by itself, and never goes back. What is not decided stays: its receipt
/// may count.
pub fn release_known(core: &Core) -> Result<(), Error> {
    let pins = pin::all(&**core.repo.store.vfs())?;
    let decided: Vec<Pin> = {
        let remote = core.remote();
        let is_decided = |pin: &Pin| Asked::of(pin).is_some_and(|(asked, _)| remote.state.is_decided(asked.id));
        let holds = remote.held == remote.main();
        pins.into_iter().filter(|pin| holds && is_decided(pin)).collect()
    };
    decided.iter().try_for_each(|pin| let_go(core, pin))
}

fn let_go(core: &Core, pin: &Pin) -> Result<(), Error> {
    core.repo.store.unpin(&pin.id)?;
    let asked = Asked::of(pin).filter(|(it, _)| !core.view.is_published(&CommitId::from_bytes(it.commit.0)));
    match asked {
        Some((Asked { id, commit }, bytes)) => core.quota.let_go(&**core.repo.store.vfs(), id.client, commit, bytes),
        None => Ok(()),
    }
}

/// Whether the leader of a try says that it will never be in the log. `is_told` becomes `false` if it says nothing: then it is
/// not asked for others.
fn will_never_be(core: &Arc<Core>, log: &Log, id: TryId, is_told: &mut bool) -> bool {
    if log.leader() != Some(id.leader.node) {
        // Another leads: its first entry decides.
        return false;
    }
    let call = Call::Wanted(id);
    let answer = core.wait(async {
        if id.leader.node == core.number {
            Ok(super::answer::answer_call(core, core.number, call).await)
        } else {
            core.call(id.leader.node, &call, ASK).await
        }
    });
    *is_told = matches!(answer, Ok(Ok(_)));
    matches!(answer, Ok(Ok(Answer::Try(TryState::Unknown))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_says_what_it_is_for() {
        let leader = LeaderId { term: 7, node: NodeId(3) };
        let id = TryId { client: NodeId(9), leader, nonce: u64::MAX };
        let asked = Asked { id, commit: Id([5; 32]) };
        assert_eq!(Asked::of(&asked.pin(5)), Some((asked, 5)));
        let other = Asked { id: TryId { nonce: 1, ..id }, ..asked };
        assert_ne!(asked.pin(5).id, other.pin(5).id);
        let foreign = Pin { note: "another use".to_owned(), ..asked.pin(5) };
        assert_eq!(Asked::of(&foreign), None);
        // Those of before do not say how much came; they have the same name.
        let before = Pin { note: "try 9 7 3 18446744073709551615".to_owned(), ..asked.pin(5) };
        assert_eq!(Asked::of(&before), Some((asked, 0)));
        assert_eq!(asked.pin(6).id, before.id);
    }
}
