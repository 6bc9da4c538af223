//! Answers to what members ask.

use std::sync::{Arc, Weak};
use std::time::Duration;

use filesync_cas::testing::mistake;
use filesync_p2p::message::Status;
use filesync_p2p::peer::Class;
use filesync_p2p::transport::{self, Answers, Caller};
use filesync_raft_log::command::{Admit, Command, Outcome, Refusal};
use filesync_raft_log::error::{ProposeError, ReadError};
use filesync_raft_log::ids::{self, LeaderId, NodeId};
use filesync_raft_log::{Log, Sender, State, TryStatus};

use super::calls::{About, Answer, Call, TryState, decode, encode};
use super::core::Core;
use super::{hold, lead, lost, spot};

/// How long the log may take to decide something.
pub const DECIDE: Duration = Duration::from_secs(10);

/// Answers of a node, as long as it lives.
pub struct Answering(pub Weak<Core>);

impl Answers for Answering {
    fn answer(&self, caller: Caller, topic: u16, body: Vec<u8>) -> transport::Answer {
        let core = self.0.upgrade();
        Box::pin(async move {
            let Some(core) = core.filter(|core| !core.is_stopping()) else { return (Status::Busy, Vec::new()) };
            // On the runtime of the log, whose timers and tasks it needs.
            let runtime = core.env.runtime().clone();
            let answering = runtime.spawn(async move { answer(&core, caller, topic, &body).await });
            answering.await.unwrap_or((Status::Failed, Vec::new()))
        })
    }
}

async fn answer(core: &Arc<Core>, caller: Caller, topic: u16, body: &[u8]) -> (Status, Vec<u8>) {
    if caller.class == Class::Raft {
        let Some(log) = core.log.get().filter(|_| core.view.is_fresh()) else {
            core.called.send_replace(core.view.member(&caller.key));
            return (Status::Refused, Vec::new());
        };
        let sender = Sender { key: ids::PeerKey(caller.key.0), known_as: core.view.member(&caller.key) };
        return match log.handle(sender, body).await {
            Ok(answer) => (Status::Done, answer),
            Err(_) => (Status::Failed, Vec::new()),
        };
    }
    let call = match decode::<Call>(body) {
        // What was allowed is the topic.
        Ok(call) if call.topic() == topic => call,
        _ => return (Status::Failed, Vec::new()),
    };
    let answer = match (core.view.member(&caller.key), call) {
        // A member may carry what another has signed; who comes himself speaks for his own key.
        (member, Call::Join(admit)) if member.is_some() || comes_himself(&admit, &caller) => join(core, admit).await,
        (Some(node), call) => answer_call(core, node, call).await,
        (None, _) => return (Status::Refused, Vec::new()),
    };
    (Status::Done, encode(&answer))
}

/// Whether a stranger is who is to be let in.
fn comes_himself(admit: &Admit, caller: &Caller) -> bool {
    admit.peer.0 == caller.key.0 || mistake("an admission that a stranger carries")
}

/// Answers a member, or this node itself.
pub async fn answer_call(core: &Arc<Core>, from: NodeId, call: Call) -> Answer {
    match call {
        Call::About => Answer::About(about(core)),
        Call::Vouch => Answer::Facts(Box::new(core.state())),
        Call::Join(admit) => join(core, admit).await,
        Call::Publish { seq, change } => lead::publish(core, from, seq, change).await,
        // A receipt is for the leader that asks for it: the one that is followed here. What another had pinned would stay for ever.
        Call::Hold { id, .. } if id.leader.node != from || !follows(core, id.leader) => {
            Answer::Failed("a try of another leader".to_owned())
        }
        Call::Find(wanted) => lost::answer(core, from, wanted).await,
        Call::Show { key, objects } => spot::show(core, from, key, objects).await,
        Call::Hold { id, commit } => hold::hold(core, hold::Asked { id, commit }, vec![from]).await,
        call => match core.log.get() {
            None => Answer::NotLeader(None),
            Some(log) => answer_by_log(core, log, from, call).await,
        },
    }
}

/// Whether this node takes part in the log, and follows this leadership now.
fn follows(core: &Core, leader: LeaderId) -> bool {
    core.log.get().is_some_and(|log| {
        let status = log.status();
        (status.term, status.leader) == (leader.term, Some(leader.node))
    })
}

async fn answer_by_log(core: &Arc<Core>, log: &Log, from: NodeId, call: Call) -> Answer {
    match call {
        Call::Facts => match facts(log).await {
            Ok(state) => {
                // Who walks next is to find what he was told of.
                core.view.update(state.clone());
                Answer::Facts(Box::new(state))
            }
            Err(error) => read_failed(error),
        },
        Call::Wanted(id) => match log.try_status(id, DECIDE).await {
            Ok(TryStatus::Open) => Answer::Try(TryState::Open),
            Ok(TryStatus::Decided) => Answer::Try(TryState::Decided),
            Ok(TryStatus::Unknown) => Answer::Try(TryState::Unknown),
            Err(error) => read_failed(error),
        },
        Call::HeldAsOf => {
            // First: what is held later may lie in packs that are not on record yet.
            let held = core.held_as_of();
            match core.check_whole().map_err(|error| error.to_string()).and_then(|()| attest(core, log)) {
                Ok(flushed) => Answer::HeldAsOf(held.min(flushed.map_or(0, |index| index.0))),
                Err(error) => Answer::Failed(error),
            }
        }
        Call::Propose(command) if speaks_for(&command) == Some(from) => proposed(log.propose(command, DECIDE).await),
        // Who does not lead may not know who votes.
        Call::Propose(Command::Cancel { .. }) if log.leading().is_none() => Answer::NotLeader(log.leader()),
        Call::Propose(Command::Cancel { intent }) if core.view.read(|state| state.is_voter(from)) => {
            proposed(log.propose(Command::Cancel { intent }, DECIDE).await)
        }
        _ => Answer::Failed("not to be asked for by a member".to_owned()),
    }
}

/// Brings to disk what an attestation of all that is live relies on.
fn attest(core: &Core, log: &Log) -> Result<Option<ids::LogIndex>, String> {
    core.record.keep(&core.repo.store, log).map_err(|error| error.to_string())?;
    log.flush().map_err(|error| error.to_string())
}

/// For whom a command speaks, if a member may ask for it at all.
fn speaks_for(command: &Command) -> Option<NodeId> {
    match command {
        Command::Invite(invite) => Some(invite.by),
        Command::Intent(intent) => Some(intent.by),
        Command::Revoke { by, .. } | Command::Remove { by, .. } | Command::SetRole { by, .. } => Some(*by),
        Command::SetAddresses { node, .. }
        | Command::SetPartial { node, .. }
        | Command::Deficient { node }
        | Command::Whole { node }
        | Command::Lost { node, .. } => Some(*node),
        Command::Found(_) | Command::Publish(_) | Command::Admit(_) | Command::Ready(_) | Command::Cancel { .. } => {
            None
        }
    }
}

/// Lets somebody in. Who does not lead asks on; what is signed by the invite's key is for nobody else, whoever carries it.
async fn join(core: &Arc<Core>, admit: Admit) -> Answer {
    let Some(log) = core.log.get() else { return Answer::NotLeader(None) };
    // What will be refused is not written to the log first.
    let looked = match log.read(|state| state.check_admit(&admit)) {
        // Of an invite that was made meanwhile, who leads has heard.
        Err(Refusal::NoInvite) if log.leading().is_none() => return join_by_leader(core, log.leader(), admit).await,
        // Perhaps another does by now, and has; or this one has not applied all of what was decided before it led.
        Err(Refusal::NoInvite) if !mistake("a leader that is not asked whether it leads") => {
            match log.read_latest(DECIDE, |state| state.check_admit(&admit)).await {
                Ok(looked) => looked,
                Err(ReadError::NotLeader { leader }) => return join_by_leader(core, leader, admit).await,
                Err(error) => return read_failed(error),
            }
        }
        looked => looked,
    };
    if let Err(refusal) = looked {
        return Answer::Outcome(Outcome::Refused(refusal));
    }
    match log.propose(Command::Admit(admit.clone()), DECIDE).await {
        Ok(Outcome::Admitted(node)) => {
            let state = log.read(State::clone);
            core.view.update(state.clone());
            Answer::Joined(node, Box::new(state))
        }
        Err(ProposeError::NotLeader { leader }) => join_by_leader(core, leader, admit).await,
        answer => proposed(answer),
    }
}

async fn join_by_leader(core: &Arc<Core>, leader: Option<NodeId>, admit: Admit) -> Answer {
    let Some(leader) = leader.filter(|leader| *leader != core.number) else { return Answer::NotLeader(leader) };
    match core.call(leader, &Call::Join(admit), DECIDE).await {
        Ok(answer) => answer,
        Err(error) => Answer::Unknown(error.to_string()),
    }
}

/// What is true now, as of everything that was acknowledged before.
async fn facts(log: &Log) -> Result<State, ReadError> {
    log.read_latest(DECIDE, State::clone).await
}

fn about(core: &Core) -> About {
    let applied = core.view.read(super::remote::index_of);
    let log = core.log.get();
    let applied = log.map_or(applied, |log| log.read(super::remote::index_of));
    // Of what it has in part it holds nothing.
    let holds = core.repo.copied.is_whole() && core.check_whole().is_ok();
    let held = core.remote().held.filter(|_| holds).map(|id| ids::Id(*id.0.as_bytes()));
    About { applied, held, leader: log.and_then(Log::leader), clock: core.env.millis() }
}

pub fn read_failed(error: ReadError) -> Answer {
    match error {
        ReadError::NotLeader { leader } => Answer::NotLeader(leader),
        error => Answer::Unknown(error.to_string()),
    }
}

/// What came of a proposal.
pub fn proposed(answer: Result<Outcome, ProposeError>) -> Answer {
    match answer {
        Ok(outcome) => Answer::Outcome(outcome),
        Err(ProposeError::NotLeader { leader }) => Answer::NotLeader(leader),
        Err(ProposeError::Refused(refusal)) => Answer::Outcome(Outcome::Refused(refusal)),
        Err(error @ ProposeError::Busy) => Answer::Failed(error.to_string()),
        Err(error) => Answer::Unknown(error.to_string()),
    }
}
