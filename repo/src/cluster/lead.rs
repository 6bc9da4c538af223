//! Publishing, as the leader does it: hold, have others hold, and only then write to the log.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use filesync_merkle::{CommitId, is_ancestor};
use filesync_raft_log::command::{Outcome, RefChange, Refusal};
use filesync_raft_log::ids::{Id, NodeId};
use filesync_raft_log::state::majority;
use filesync_raft_log::{Log, State};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer::{DECIDE, proposed};
use super::calls::{Answer, Call};
use super::core::Core;
use super::hold::{self, Asked};
use super::jobs::Progress;
use super::remote::MAIN;

/// How long a voter may take to answer that it is at it.
const ANSWER: Duration = Duration::from_secs(15);
/// How long to leave a voter alone that cannot be reached.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long to wait for a majority of which none gets on.
const STALLED: Duration = Duration::from_secs(10);

/// Publishes for a member. Asked again with the same number, it goes on where it is.
pub async fn publish(core: &Arc<Core>, client: NodeId, seq: u64, change: RefChange) -> Answer {
    // What a ref of another name showed would be kept by nobody; and history does not go away.
    if change.name.as_str() != MAIN || change.new.is_none() {
        return Answer::Failed("only main moves, and only to a commit".to_owned());
    }
    let Some(log) = core.log.get() else { return Answer::NotLeader(None) };
    if log.leading().is_none() {
        return Answer::NotLeader(log.leader().filter(|leader| *leader != core.number));
    }
    let begin = |progress| {
        let core = Arc::clone(core);
        async move {
            match core.log.get() {
                Some(log) => run(&core, log, client, seq, change, progress).await,
                None => Answer::NotLeader(None),
            }
        }
    };
    core.publishes.run((client, seq), begin).await
}

async fn run(core: &Arc<Core>, log: &Log, client: NodeId, seq: u64, change: RefChange, progress: Progress) -> Answer {
    if let Some(outcome) = log.read(|state| decided(state, client, seq, &change)) {
        return Answer::Outcome(outcome);
    }
    let of = match log.begin_try(client) {
        Ok(of) => of,
        Err(error) => return proposed(Err(error)),
    };
    let mut holders = BTreeSet::new();
    let stands = log.read(|state| state.refs.get(&change.name).copied());
    // Where the ref stands elsewhere already, nobody need fetch anything: the log will say so.
    if let Some(new) = change.new.filter(|_| stands == change.expected) {
        let asked = Asked { id: of.id, commit: new };
        let _offer = core.view.offer(CommitId::from_bytes(new.0));
        match gather(core, log, &asked, &progress).await {
            Ok(found) => holders = found,
            Err(answer) => return answer,
        }
        if let Some(old) = change.expected
            && let Err(answer) = check_descent(core, old, new).await
        {
            return answer;
        }
    }
    match proposed(log.publish(of, seq, change, holders, DECIDE).await) {
        // The try is spent, and nothing is decided: another may do better.
        Answer::Outcome(Outcome::Refused(
            refusal @ (Refusal::OtherLeader | Refusal::SpentNonce | Refusal::TooFewHold { .. }),
        )) => Answer::Unknown(refusal.to_string()),
        answer => answer,
    }
}

/// The history goes on: what was published is never left behind.
async fn check_descent(core: &Arc<Core>, old: Id, new: Id) -> Result<(), Answer> {
    let here = Arc::clone(core);
    let looked = tokio::task::spawn_blocking(move || {
        let (old, new) = (CommitId::from_bytes(old.0), CommitId::from_bytes(new.0));
        is_ancestor(here.repo.node_source(), old, new)
    });
    match looked.await {
        Ok(Ok(true)) => Ok(()),
        Ok(Ok(false)) => Err(Answer::Failed("the commit does not build on what is published".to_owned())),
        Ok(Err(error)) => Err(Answer::Failed(error.to_string())),
        Err(_) => Err(Answer::Unknown("the leader is shutting down".to_owned())),
    }
}

/// What came of a publish, if that is known.
fn decided(state: &State, client: NodeId, seq: u64, change: &RefChange) -> Option<Outcome> {
    let last = state.members.get(&client)?.last.as_ref()?;
    (last.seq == seq && last.change == *change).then(|| last.outcome.clone())
}

/// Has voters hold, itself first, until a majority of each set does.
async fn gather(core: &Arc<Core>, log: &Log, asked: &Asked, progress: &Progress) -> Result<BTreeSet<NodeId>, Answer> {
    let (here, by, wanted) = (Arc::clone(core), progress.clone(), *asked);
    let sources = [asked.id.client];
    let holding = tokio::task::spawn_blocking(move || hold::hold_now(&here, &wanted, &sources, &by)).await;
    match holding {
        Ok(Ok(())) => {}
        Ok(Err(error)) => return Err(Answer::Failed(error.to_string())),
        Err(_) => return Err(Answer::Unknown("the leader is shutting down".to_owned())),
    }
    let mut holders = BTreeSet::from([core.number]);
    let mut asking = JoinSet::new();
    let mut asked_nodes = holders.clone();
    let heard = Progress::default();
    let (mut last, mut until) = (0, Instant::now() + STALLED);
    loop {
        let (is_enough, voters) = log.read(|state| (is_majority(state, &holders), voters(state)));
        if is_enough {
            return Ok(holders);
        }
        if log.leading() != Some(asked.id.leader) {
            return Err(Answer::NotLeader(log.leader()));
        }
        for node in voters {
            if asked_nodes.insert(node) {
                asking.spawn(ask_to_hold(Arc::clone(core), node, *asked, heard.clone()));
            }
        }
        match timeout_at(until, asking.join_next()).await {
            Ok(Some(Ok(node))) => {
                holders.insert(node);
                until = Instant::now() + STALLED;
            }
            // Voters may have changed meanwhile.
            Ok(_) => tokio::time::sleep(ASK_AGAIN).await,
            Err(_) if heard.get() > last => until = Instant::now() + STALLED,
            Err(_) => {
                let needed = log.read(|state| state.voters.iter().map(|set| majority(set.len())).max().unwrap_or(1));
                return Err(Answer::Failed(format!("{} of {needed} voters hold the commit", holders.len())));
            }
        }
        last = heard.get();
        progress.set(last);
    }
}

/// Asks a voter until it holds.
async fn ask_to_hold(core: Arc<Core>, node: NodeId, asked: Asked, heard: Progress) -> NodeId {
    let Asked { id, commit } = asked;
    let call = Call::Hold { id, commit };
    loop {
        match core.call(node, &call, ANSWER).await {
            Ok(Answer::Held) => return node,
            Ok(Answer::Working(done)) => heard.set(heard.get().max(done)),
            _ => tokio::time::sleep(ASK_AGAIN).await,
        }
    }
}

/// All who are asked: voters, and those who are to be.
fn voters(state: &State) -> BTreeSet<NodeId> {
    let target = state.change.as_ref().map(|change| &change.target);
    state.voters.iter().chain(target).flatten().copied().collect()
}

/// Whether these are a majority of each set that is asked. The state machine looks again.
fn is_majority(state: &State, holders: &BTreeSet<NodeId>) -> bool {
    let counts = |node: &&NodeId| {
        holders.contains(node) && state.member(**node).is_ok_and(|member| !member.is_deficient && !member.is_partial)
    };
    let target = state.change.as_ref().map(|change| &change.target);
    !state.voters.is_empty()
        && state.voters.iter().chain(target).all(|set| set.iter().filter(counts).count() >= majority(set.len()))
}
