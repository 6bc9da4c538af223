//! Who belongs: inviting, promoting, removing, and how everybody is.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use filesync_raft_log::State;
use filesync_raft_log::command::{Command, Intent, Invite, Outcome, Role};
use filesync_raft_log::ids::{InviteKey, Millis, NodeId};
use tokio::time::Instant;

use super::calls::{About, Answer, Call};
use super::clocks::median;
use super::core::Core;
use super::invite::{Door, InviteLine};
use super::join::decided;
use super::node::Node;
use super::removed;
use crate::error::{Error, ErrorKind};
use crate::request::{InviteRequest, Invited, OpenInvite, Peer, PeersRequest};

/// How long to wait for who leads before all is shown by what was known last.
const LIST: Duration = Duration::from_secs(5);
/// How long to wait for one that is to be promoted, and was started just now.
const COME: Duration = Duration::from_secs(10);
/// How long to try to take a change back.
const CANCEL: Duration = Duration::from_secs(10);
/// How long to wait between looks at a change of voters.
const LOOK: Duration = Duration::from_millis(100);

/// Makes an invite: the line is shown once, and the cluster knows no more than the public half of its key.
pub fn invite(node: &Node, request: &InviteRequest) -> Result<Invited, Error> {
    let core = &node.core;
    let state = facts(core, request.timeout)?;
    let mut seed = [0; 32];
    core.env.random(&mut seed)?;
    let doors: Vec<Door> = doors(&state);
    if doors.is_empty() {
        let error = Error::new(ErrorKind::Failed, "cannot invite: no voter says where it is reached");
        return Err(error.with_hint("a voter listens with `filesync serve --listen 0.0.0.0:7946`"));
    }
    let params = core.repo.store.parameters();
    let line = InviteLine {
        repository: state.repository,
        seed,
        role: request.role,
        chunk_size: params.chunks.avg,
        is_compressed: params.codec == filesync_cas::Codec::Zstd,
        doors,
    };
    let lives = request.expires.map(|lives| u64::try_from(lives.as_millis()).unwrap_or(u64::MAX));
    // The time of the log never goes back, and it is what the invite is held against.
    let expires = lives.map(|lives| Millis(core.env.millis().max(state.now.0).saturating_add(lives)));
    let invite = Invite { key: line.public(), role: request.role, uses: request.uses, expires, by: core.number };
    propose(core, Command::Invite(invite), request.timeout)?;
    let id = line.public().to_string();
    Ok(Invited { line: line.encode()?, id, role: request.role, uses: request.uses, expires: expires.map(|at| at.0) })
}

/// Voters that say where they are reached.
fn doors(state: &State) -> Vec<Door> {
    let voters: BTreeSet<NodeId> = state.voters.iter().flatten().copied().collect();
    let door = |node: &NodeId| {
        let member = state.member(*node).ok()?;
        let addresses = member.addresses.clone();
        (!addresses.is_empty()).then_some(Door { node: *node, key: member.key, addresses })
    };
    voters.iter().filter_map(door).collect()
}

/// Invites that can still be used.
pub fn invites(node: &Node, timeout: Duration) -> Result<Vec<OpenInvite>, Error> {
    let state = facts(&node.core, timeout)?;
    let shown = state.invites.iter().filter(|(_, open)| open.uses > 0);
    Ok(shown
        .map(|(key, open)| OpenInvite {
            id: key.to_string(),
            role: open.role,
            uses: open.uses,
            expires: open.expires.map(|at| at.0),
            by: open.by.0,
        })
        .collect())
}

/// Ends an invite: `id` is its id or the beginning of it.
pub fn revoke(node: &Node, id: &str, timeout: Duration) -> Result<String, Error> {
    let state = facts(&node.core, timeout)?;
    let found: Vec<InviteKey> = state.invites.keys().filter(|key| key.to_string().starts_with(id)).copied().collect();
    let key = match found.as_slice() {
        [key] if id.len() >= 4 => *key,
        [] => return Err(Error::new(ErrorKind::NotFound, format!("cannot revoke {id}: no invite of that id"))),
        _ => return Err(Error::new(ErrorKind::NotFound, format!("cannot revoke {id}: several invites begin with it"))),
    };
    let revoked = propose(&node.core, Command::Revoke { key, by: node.core.number }, timeout);
    // Whose answer was lost has done it by now.
    revoked.map(drop).or_else(|error| match facts(&node.core, timeout)?.invites.contains_key(&key) {
        true => Err(error),
        false => Ok(()),
    })?;
    Ok(key.to_string())
}

/// Carries out `peers`.
pub fn peers(node: &Node, request: &PeersRequest, timeout: Duration) -> Result<Vec<Peer>, Error> {
    let core = &node.core;
    match request {
        // Recovery comes before the node starts.
        PeersRequest::List | PeersRequest::Recover => return list(core, timeout.min(LIST)),
        PeersRequest::Remove { node: word } => {
            let state = facts(core, timeout)?;
            let wanted = find(&state, word)?;
            give_up_change(core, &state, wanted, timeout)?;
            if state.is_voter(wanted) {
                let target = without(&state, wanted)?;
                change_voters(core, target, true, timeout)?;
            }
            let removed = propose(core, Command::Remove { node: wanted, by: core.number }, timeout);
            // Whose answer was lost has done it by now.
            removed.map(drop).or_else(|error| match facts(core, timeout)?.member(wanted) {
                Ok(_) => Err(error),
                Err(_) => Ok(()),
            })?;
            if wanted == core.number {
                removed::note(&**core.repo.store.vfs(), true);
                // Nobody tells it of the others any more.
                return Ok(Vec::new());
            }
        }
        PeersRequest::Promote { node: word, even } => {
            let state = facts(core, timeout)?;
            let wanted = find(&state, word)?;
            let here = who_answers(core, wanted, timeout)?;
            let target = with(&state, wanted, *even, &here)?;
            if !here.contains(&wanted) {
                let message =
                    format!("cannot promote node {wanted}: it does not answer, and has to get what is published");
                return Err(Error::new(ErrorKind::NoQuorum, message).with_hint("`filesync serve --listen` there"));
            }
            change_voters(core, target, *even, timeout)?;
        }
        PeersRequest::Demote { node: word, role } => {
            let state = facts(core, timeout)?;
            let wanted = find(&state, word)?;
            give_up_change(core, &state, wanted, timeout)?;
            if state.is_voter(wanted) {
                change_voters(core, without(&state, wanted)?, true, timeout)?;
            }
            propose(core, Command::SetRole { node: wanted, role: *role, by: core.number }, timeout)?;
        }
    }
    list(core, timeout)
}

fn propose(core: &Arc<Core>, command: Command, timeout: Duration) -> Result<Outcome, Error> {
    decided(core.wait(core.ask_leader(&Call::Propose(command), timeout))??)
}

/// What is true now.
pub fn facts(core: &Arc<Core>, timeout: Duration) -> Result<State, Error> {
    core.wait(ask_facts(core, timeout))?
}

/// As [`facts`], for who does not wait.
pub async fn ask_facts(core: &Arc<Core>, timeout: Duration) -> Result<State, Error> {
    let answer = core.ask_leader(&Call::Facts, timeout).await;
    let is_removed = answer.as_ref().is_err_and(|error| error.kind() == ErrorKind::Refused);
    if is_removed || answer.is_ok() {
        removed::note(&**core.repo.store.vfs(), is_removed);
    }
    match answer? {
        Answer::Facts(state) => {
            core.view.hear((*state).clone());
            Ok(*state)
        }
        other => Err(Error::new(ErrorKind::Failed, format!("an answer to something else: {other:?}"))),
    }
}

/// A member by its number, name, or the beginning of its key.
fn find(state: &State, word: &str) -> Result<NodeId, Error> {
    let is_it = |node: &NodeId, name: &str, key: &str| {
        node.to_string() == word || name == word || (word.len() >= 4 && key.starts_with(word))
    };
    let there = state.members.iter().filter(|(_, member)| !member.is_removed);
    let mut found = there.filter(|(node, member)| is_it(node, &member.name, &member.key.to_string()));
    match (found.next(), found.next()) {
        (Some((node, _)), None) => Ok(*node),
        (None, _) => Err(Error::new(ErrorKind::NotFound, format!("cannot find member {word}: no node of that name"))),
        (Some(_), Some(_)) => {
            let message = format!("cannot tell which member {word} is: several go by it");
            Err(Error::new(ErrorKind::NotFound, message).with_hint("`filesync peers` shows their numbers"))
        }
    }
}

/// Who can be reached. One that is wanted may be about to start.
fn who_answers(core: &Arc<Core>, wanted: NodeId, timeout: Duration) -> Result<BTreeSet<NodeId>, Error> {
    let until = Instant::now() + timeout.min(COME);
    loop {
        let here = list(core, timeout)?.into_iter().filter(|peer| peer.is_reachable);
        let here: BTreeSet<NodeId> = here.map(|peer| NodeId(peer.node)).collect();
        let is_candidate = |it: &filesync_raft_log::state::Member| it.role == Role::Candidate;
        if here.contains(&wanted) || Instant::now() >= until || !core.state().member(wanted).is_ok_and(is_candidate) {
            return Ok(here);
        }
        core.wait(async { tokio::time::sleep(LOOK).await })?;
    }
}

/// The voters with one more, and with a second one so that their number stays odd: one of those that answer, if there is one.
fn with(
    state: &State,
    wanted: NodeId,
    is_even_meant: bool,
    here: &BTreeSet<NodeId>,
) -> Result<BTreeSet<NodeId>, Error> {
    let failed = |cause: String| Error::new(ErrorKind::Failed, format!("cannot promote node {wanted}: {cause}"));
    let mut target: BTreeSet<NodeId> = state.voters.last().cloned().unwrap_or_default();
    if !target.insert(wanted) {
        return Err(failed("it votes already".to_owned()));
    }
    if let Ok(member) = state.member(wanted)
        && member.role != Role::Candidate
    {
        let error = failed(format!("it is no candidate, but a {}", word(member.role)));
        return Err(error.with_hint(match member.is_partial {
            true => "it is a partial copy, and cannot vote: clone with an invite of `filesync invite --role voter`"
                .to_owned(),
            false => format!("`filesync peers demote {wanted} --role candidate` makes one of it, where it is served"),
        }));
    }
    if target.len().is_multiple_of(2) && !is_even_meant {
        let is_candidate = |node: &NodeId| {
            !target.contains(node)
                && state.member(*node).is_ok_and(|it| it.role == Role::Candidate && !it.is_partial && !it.is_deficient)
        };
        let candidates = state.members.keys().filter(|node| is_candidate(node));
        let second = candidates.min_by_key(|node| !here.contains(node)).copied();
        let hint = "candidates are promoted in pairs: invite another voter, or say --even";
        target.insert(second.ok_or_else(|| {
            failed(format!("{} voters bear no more failures than {}", target.len(), target.len() - 1)).with_hint(hint)
        })?);
    }
    Ok(target)
}

/// The voters without one.
fn without(state: &State, wanted: NodeId) -> Result<BTreeSet<NodeId>, Error> {
    let mut target: BTreeSet<NodeId> = state.voters.last().cloned().unwrap_or_default();
    target.remove(&wanted);
    if target.is_empty() {
        let message = format!("cannot do without node {wanted}: it is the only voter");
        return Err(Error::new(ErrorKind::Failed, message));
    }
    Ok(target)
}

/// Takes a change of voters back that waits for a node which is to go.
fn give_up_change(core: &Arc<Core>, state: &State, node: NodeId, timeout: Duration) -> Result<(), Error> {
    let waits = |change: &&filesync_raft_log::state::Change| change.target.contains(&node) && !state.is_voter(node);
    match state.change.as_ref().filter(waits) {
        Some(change) => propose(core, Command::Cancel { intent: change.id }, timeout).map(drop),
        None => Ok(()),
    }
}

/// Says what voters are wanted, and waits until they vote.
pub(super) fn change_voters(
    core: &Arc<Core>,
    target: BTreeSet<NodeId>,
    is_even: bool,
    timeout: Duration,
) -> Result<(), Error> {
    let until = Instant::now() + timeout;
    let under_way = facts(core, timeout)?.change.filter(|change| change.target == target);
    let intended = match under_way {
        // Somebody wanted the same, and could not take it back.
        Some(change) => Outcome::Intended(change.id),
        None => {
            let intent = Intent { target: target.clone(), is_even_allowed: is_even, by: core.number };
            propose(core, Command::Intent(intent), timeout)?
        }
    };
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let state = facts(core, left.max(LOOK))?;
        if state.voters == [target.clone()] {
            return Ok(());
        }
        if left.is_zero() {
            // As long as it stands, nothing is published without a majority of those that do not come.
            let cancelled = match intended {
                Outcome::Intended(intent) => propose(core, Command::Cancel { intent }, CANCEL).is_ok(),
                _ => false,
            };
            let message = match cancelled {
                true => "the change of voters was given up: the candidates did not come to hold everything in time",
                false => "the change of voters is under way still, and could not be taken back",
            };
            return Err(Error::new(ErrorKind::NoQuorum, message).with_hint("`filesync peers` shows how far it is"));
        }
        core.wait(async { tokio::time::sleep(LOOK).await })?;
    }
}

/// How everybody is. What is not reached is shown by what the log says of it.
fn list(core: &Arc<Core>, timeout: Duration) -> Result<Vec<Peer>, Error> {
    let state = match facts(core, timeout) {
        Ok(state) => state,
        // Then what was known last, with who is reachable now.
        Err(error) if error.kind() == ErrorKind::NoQuorum => core.state(),
        Err(error) => return Err(error),
    };
    let main = super::remote::main_of(&state);
    let nodes: Vec<NodeId> = state.members.iter().filter(|(_, it)| !it.is_removed).map(|(node, _)| *node).collect();
    let asked = nodes.iter().map(|node| async move {
        if *node == core.number {
            return match super::answer::answer_call(core, core.number, Call::About).await {
                Answer::About(about) => Some(about),
                _ => None,
            };
        }
        core.how_is(*node).await
    });
    let abouts: Vec<Option<About>> = core.wait(futures::future::join_all(asked))?;
    // Others may say what they like.
    let of_voters = nodes.iter().zip(&abouts).filter(|(node, _)| state.is_voter(**node));
    let leader = of_voters.filter_map(|(_, about)| about.as_ref());
    let leader = leader.max_by_key(|about| (about.leader.is_some(), about.applied));
    let leader = leader.and_then(|about| about.leader);
    // A command's own node answers itself, and ends with the command: others reach it where it listens, as a daemon does.
    let listens = core.transport.get().is_some_and(|net| !net.listening().is_empty());
    let off = |node: &NodeId| if *node == core.number { Some(0) } else { core.clock_off(*node) };
    let voters = nodes.iter().zip(&abouts).filter(|(node, about)| state.is_voter(**node) && about.is_some());
    let right = median(voters.filter_map(|(node, _)| off(node)).collect());
    let shown = nodes.iter().zip(&abouts).filter_map(|(node, about)| {
        let member = state.members.get(node)?;
        Some(Peer {
            node: node.0,
            name: member.name.clone(),
            key: member.key.to_string(),
            role: if state.is_voter(*node) { "voter" } else { word(member.role) },
            addresses: member.addresses.clone(),
            is_reachable: about.is_some() && (*node != core.number || listens),
            is_leader: leader == Some(*node),
            applied_index: about.as_ref().map(|about| about.applied),
            holds_head: about
                .as_ref()
                .map(|about| about.held.map(|id| id.0) == main.map(|id| *id.0.as_bytes()) && !member.is_partial),
            is_partial: member.is_partial,
            clock_off: about.as_ref().and_then(|_| off(node)).map(|off| off.saturating_sub(right)),
        })
    });
    Ok(shown.collect())
}

/// The word for a role that does not vote.
fn word(role: Role) -> &'static str {
    match role {
        Role::Reader => "reader",
        Role::Writer => "writer",
        Role::Candidate => "candidate",
    }
}
