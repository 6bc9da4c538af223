//! Publishing, as the leader does it: hold, have others hold, and only then write to the log.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use filesync_cas::testing::mistake;
use filesync_merkle::{CommitId, is_ancestor};
use filesync_raft_log::command::{Outcome, RefChange, Refusal};
use filesync_raft_log::ids::{Id, NodeId, RefName};
use filesync_raft_log::state::majority;
use filesync_raft_log::{Log, State, Try};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::answer::{DECIDE, proposed, read_failed};
use super::calls::{Answer, Call};
use super::core::Core;
use super::hold::{self, Asked};
use super::jobs::Progress;
use super::remote::MAIN;
use super::room;
use super::sync::tags::PREFIX;
use crate::error::ErrorKind;
use crate::tags;

/// How long a voter may take to answer that it is at it.
const ANSWER: Duration = Duration::from_secs(15);
/// How long to leave a voter alone that cannot be reached.
const ASK_AGAIN: Duration = Duration::from_millis(250);
/// How long to wait for a majority of which none gets on.
const STALLED: Duration = Duration::from_secs(10);

/// Publishes for a member. Asked again with the same number, it goes on where it is.
pub async fn publish(core: &Arc<Core>, client: NodeId, seq: u64, change: RefChange) -> Answer {
    // What a ref of another name showed would be kept by nobody; and history does not go away.
    let is_tag = change.name.as_str().strip_prefix(PREFIX).is_some_and(tags::is_name);
    if !is_tag && (change.name.as_str() != MAIN || change.new.is_none()) {
        return Answer::Refused("only tags and main move, and main only to a commit".to_owned());
    }
    let Some(log) = core.log.get() else { return Answer::NotLeader(None) };
    if log.leading().is_none() {
        return Answer::NotLeader(log.leader().filter(|leader| *leader != core.number));
    }
    // What is held for a member that is not decided is bounded: by one publish.
    if core.publishes.any(|(node, number)| *node == client && *number != seq) {
        return Answer::Failed("another publish of this node is under way".to_owned());
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
    if change.name.as_str() != MAIN {
        return run_tag(core, log, of, seq, change, &progress).await;
    }
    let Some(new) = change.new else { return Answer::Refused("no commit to publish".to_owned()) };
    let asked = Asked { id: of.id, commit: new };
    let _offer = core.view.offer(CommitId::from_bytes(new.0));
    // Bulk comes first: what is here by the time it is his turn need not be fetched then.
    let held = hold_everywhere(core, log, &asked, &progress, async {
        // Nor by others, where the ref stands elsewhere already: it will be merged, and come again.
        if log.read(|state| state.refs.get(&change.name).copied()) != change.expected {
            return Ok(BTreeSet::new());
        }
        let holders = gather(core, log, &asked, &progress).await?;
        if let Some(old) = change.expected {
            check_descent(core, old, new).await?;
        }
        Ok(holders)
    });
    let holders = match held.await {
        Ok(holders) => holders,
        Err(answer) => return answer,
    };
    let turn = core.turn.take(client, &progress).await;
    let answer = propose(core, log, of, seq, change, holders).await;
    if matches!(answer, Answer::Outcome(Outcome::Lost { .. })) {
        core.turn.keep(client, turn);
    }
    answer
}

/// A tag names what is published: then its closure is held as part of that, and is pinned for this try like any other.
async fn run_tag(core: &Arc<Core>, log: &Log, of: Try, seq: u64, change: RefChange, progress: &Progress) -> Answer {
    let Some(new) = change.new else { return propose(core, log, of, seq, change, BTreeSet::new()).await };
    // What is refused below is refused for good: not by an old state.
    if let Err(error) = log.read_latest(DECIDE, |_| ()).await {
        return read_failed(error);
    }
    if let Err(answer) = log.read(|state| check_room(state, &change)) {
        return answer;
    }
    let main = RefName::new(MAIN).ok().and_then(|main| log.read(|state| state.refs.get(&main).copied()));
    match main {
        Some(main) if main != new => match check_descent(core, new, main).await {
            Err(Answer::Refused(_)) => return Answer::Refused("its commit is not published".to_owned()),
            Err(answer) => return answer,
            Ok(()) => {}
        },
        Some(_) => {}
        None => return Answer::Refused("nothing is published yet".to_owned()),
    }
    let asked = Asked { id: of.id, commit: new };
    match hold_everywhere(core, log, &asked, progress, gather(core, log, &asked, progress)).await {
        Ok(holders) => propose(core, log, of, seq, change, holders).await,
        Err(answer) => answer,
    }
}

/// A ref that is not there yet is to be told of with all others. The state machine looks again: here it is for not having
/// others hold what will be refused.
fn check_room(state: &State, change: &RefChange) -> Result<(), Answer> {
    match change.expected {
        Some(_) => Ok(()),
        None => state.check_room_for_ref(&change.name).map_err(|refusal| Answer::Refused(refusal.to_string())),
    }
}

async fn propose(
    core: &Core,
    log: &Log,
    of: Try,
    seq: u64,
    change: RefChange,
    mut holders: BTreeSet<NodeId>,
) -> Answer {
    // What was found bad while the others were asked, or while it was not his turn, is not held.
    if core.check_whole().is_err() {
        holders.remove(&core.number);
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
    let looked = core.env.blocking(move || {
        let (old, new) = (CommitId::from_bytes(old.0), CommitId::from_bytes(new.0));
        is_ancestor(here.repo.node_source(), old, new)
    });
    match looked.await {
        Some(Ok(true)) => Ok(()),
        Some(Ok(false)) => Err(Answer::Refused("the commit does not build on what is published".to_owned())),
        Some(Err(error)) => Err(Answer::Failed(error.to_string())),
        None => Err(Answer::Unknown("the leader is shutting down".to_owned())),
    }
}

/// What came of a publish, if that is known.
fn decided(state: &State, client: NodeId, seq: u64, change: &RefChange) -> Option<Outcome> {
    let last = state.members.get(&client)?.last.as_ref()?;
    (last.seq == seq && last.change == *change).then(|| last.outcome.clone())
}

/// Has the leader hold, and others as soon as it has what they fetch from it. Who holds by then: no sooner than it does itself.
async fn hold_everywhere(
    core: &Arc<Core>,
    log: &Log,
    asked: &Asked,
    progress: &Progress,
    others: impl Future<Output = Result<BTreeSet<NodeId>, Answer>>,
) -> Result<BTreeSet<NodeId>, Answer> {
    let (came, has_come) = oneshot::channel();
    let others = async {
        match has_come.await {
            Ok(()) => others.await,
            // It could not be fetched: who holds here tells why.
            Err(_) => std::future::pending().await,
        }
    };
    tokio::try_join!(hold_here(core, log, asked, progress, came), others).map(|((), holders)| holders)
}

/// Has the leader itself hold. `came` is told when all is here, and readable for others, though not durable. If there is no room
/// for that, another is to lead.
async fn hold_here(
    core: &Arc<Core>,
    log: &Log,
    asked: &Asked,
    progress: &Progress,
    came: oneshot::Sender<()>,
) -> Result<(), Answer> {
    let (here, by, wanted) = (Arc::clone(core), progress.clone(), *asked);
    let sources = [asked.id.client];
    let tell = move || {
        let _ = came.send(());
    };
    let held = core.env.blocking(move || {
        let held = hold::hold_now(&here, &wanted, &sources, &by, tell);
        let stands_back = held.is_err() && here.log.get().is_some_and(|log| room::look_after(&here, log));
        (held, stands_back)
    });
    match held.await {
        Some((_, true)) => Err(Answer::NotLeader(log.leader())),
        Some((Ok(()), _)) => Ok(()),
        // What is wrong with the commit stays so.
        Some((Err(error), _)) if error.kind() == ErrorKind::Usage => Err(Answer::Refused(error.to_string())),
        Some((Err(error), _)) => Err(Answer::Failed(error.to_string())),
        None => Err(Answer::Unknown("the leader is shutting down".to_owned())),
    }
}

/// Has the other voters hold, until a majority of each set does.
async fn gather(core: &Arc<Core>, log: &Log, asked: &Asked, progress: &Progress) -> Result<BTreeSet<NodeId>, Answer> {
    // It goes on leading when it lacks something of before, and others hold.
    let is_whole = core.check_whole().is_ok();
    let mut holders: BTreeSet<NodeId> = is_whole.then_some(core.number).into_iter().collect();
    let mut asking = JoinSet::new();
    let mut asked_nodes = BTreeSet::from([core.number]);
    let heard = Progress::default();
    let said = Arc::new(Mutex::new(None));
    let before = progress.get();
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
                if mistake("a receipt that nobody gave") {
                    holders.insert(node);
                }
                asking.spawn(ask_to_hold(Arc::clone(core), node, *asked, heard.clone(), Arc::clone(&said)));
            }
        }
        match timeout_at(until, asking.join_next()).await {
            Ok(Some(Ok(node))) => {
                holders.insert(node);
                until = Instant::now() + STALLED;
            }
            // Voters may have changed meanwhile.
            Ok(_) if Instant::now() < until => tokio::time::sleep(ASK_AGAIN).await,
            _ if heard.get() > last => until = Instant::now() + STALLED,
            _ => {
                let needed = log.read(|state| state.voters.iter().map(|set| majority(set.len())).max().unwrap_or(1));
                let said = said.lock().unwrap_or_else(PoisonError::into_inner).take();
                let why = said.map(|said| format!(" ({said})")).unwrap_or_default();
                return Err(Answer::Failed(format!("{} of {needed} voters hold the commit{why}", holders.len())));
            }
        }
        last = heard.get();
        progress.set(before + last);
    }
}

/// Asks a voter until it holds. `said` is why one did not.
async fn ask_to_hold(
    core: Arc<Core>,
    node: NodeId,
    asked: Asked,
    heard: Progress,
    said: Arc<Mutex<Option<String>>>,
) -> NodeId {
    let Asked { id, commit } = asked;
    let call = Call::Hold { id, commit };
    loop {
        match core.call(node, &call, ANSWER).await {
            Ok(Answer::Held) => return node,
            Ok(Answer::Working(done)) => heard.set(heard.get().max(done)),
            Ok(Answer::Failed(cause)) => {
                *said.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("node {node}: {cause}"));
                tokio::time::sleep(ASK_AGAIN).await;
            }
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

#[cfg(test)]
mod tests {
    use filesync_raft_log::ids::RepositoryId;

    use super::super::calls::encode;
    use super::*;

    fn change(number: u64, expected: Option<Id>) -> RefChange {
        let name = RefName::new(&format!("{PREFIX}{number:0>200}")).unwrap();
        RefChange { name, expected, new: Some(Id([2; 32])) }
    }

    /// A writer that makes tag after tag is refused, before what is known of the cluster is too long to be told.
    #[test]
    fn no_more_tags_are_made_than_can_be_told_of() {
        let mut state = State::new(RepositoryId([7; 32]));
        let made = (0..100_000).find(|number| {
            let change = change(*number, None);
            let refused = check_room(&state, &change);
            state.refs.insert(change.name, Id([1; 32]));
            refused.is_err()
        });
        let made = made.unwrap();
        assert!(made > 1_000, "{made}");
        assert!(matches!(check_room(&state, &change(made + 1, None)), Err(Answer::Refused(_))));
        assert!(check_room(&state, &change(7, Some(Id([1; 32])))).is_ok(), "those that are there move on");
        assert!(encode(&Answer::Facts(Box::new(state))).len() < 1 << 20);
    }
}
