//! The state machine, watched: what each node makes of each entry is told to the world. And state machines with mistakes.

use std::collections::BTreeSet;
use std::sync::Arc;

use openraft::storage::RaftStateMachine;
use openraft::{EntryPayload, OptionalSend, Snapshot};

use super::bugs::Bug;
use super::world::World;
use crate::command::{Command, Outcome, Publish, Receipts, Refusal};
use crate::ids::{LogIndex, NodeId};
use crate::state::{Change, Decided, State, majority};
use crate::store::{Machine, Memory};
use crate::types::{Entry, LogId, Membership, Reply, SnapshotMeta, StorageError, TypeConfig, position};

/// The real one, and who watches it.
#[derive(Debug)]
pub struct Watched {
    pub machine: Machine,
    pub node: NodeId,
    pub world: Arc<World>,
}

impl RaftStateMachine<TypeConfig> for Watched {
    type SnapshotBuilder = Machine;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, Membership), StorageError> {
        self.machine.applied_state().await
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Reply>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replies = Vec::new();
        for entry in entries {
            let mut taken = entry.clone();
            let change = before(self.world.bug, &self.machine.memory, &mut taken);
            let applied = self.machine.apply([taken]).await?;
            after(self.world.bug, &self.machine.memory, &entry, &applied, change);
            if self.world.bug == Some(Bug::OwnClock) {
                self.machine.memory.tamper(|state| state.now.0 += self.node.0);
            }
            let outcomes: Vec<_> = applied.iter().flat_map(|reply| reply.0.clone()).collect();
            let state = self.machine.memory.read(Clone::clone);
            self.world.applied(self.node, &entry, &outcomes, &state);
            replies.extend(applied);
        }
        Ok(replies)
    }

    async fn get_snapshot_builder(&mut self) -> Machine {
        self.machine.get_snapshot_builder().await
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Vec<u8>>, StorageError> {
        self.machine.begin_receiving_snapshot().await
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: Box<Vec<u8>>) -> Result<(), StorageError> {
        self.machine.install_snapshot(meta, snapshot).await?;
        let state = self.machine.memory.read(Clone::clone);
        self.world.installed(self.node, &state);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError> {
        self.machine.get_current_snapshot().await
    }
}

fn publishes(entry: &Entry) -> impl Iterator<Item = &Publish> {
    let commands = match &entry.payload {
        EntryPayload::Normal(batch) => batch.commands.as_slice(),
        _ => &[],
    };
    commands.iter().filter_map(|command| match command {
        Command::Publish(publish) => Some(publish),
        _ => None,
    })
}

fn commands_mut(entry: &mut Entry) -> &mut [Command] {
    match &mut entry.payload {
        EntryPayload::Normal(batch) => batch.commands.as_mut_slice(),
        _ => &mut [],
    }
}

fn publishes_mut(entry: &mut Entry) -> impl Iterator<Item = &mut Publish> {
    commands_mut(entry).iter_mut().filter_map(|command| match command {
        Command::Publish(publish) => Some(publish),
        _ => None,
    })
}

fn is_only_publishes(entry: &Entry) -> bool {
    let is_publish = |command: &Command| matches!(command, Command::Publish(_));
    matches!(&entry.payload, EntryPayload::Normal(batch) if batch.commands.iter().all(is_publish))
}

fn receipts(entry: &mut Entry) -> impl Iterator<Item = &mut Receipts> {
    publishes_mut(entry).filter_map(|publish| publish.receipts.as_mut())
}

/// What a state machine with a mistake does before an entry. Gives back the change of voters that it does not look at.
fn before(bug: Option<Bug>, memory: &Memory, entry: &mut Entry) -> Option<Change> {
    match bug? {
        Bug::OlderReceiptTaken => {
            let leader = position(&entry.log_id).leader;
            receipts(entry).for_each(|receipts| receipts.leader = leader);
        }
        Bug::LearnerCounted => {
            let asked = memory.read(asked);
            let is_enough = |nodes: usize| asked.iter().all(|set| nodes >= majority(set.len()));
            for receipts in receipts(entry).filter(|receipts| is_enough(receipts.nodes.len())) {
                receipts.nodes.extend(asked.iter().flatten());
            }
        }
        Bug::AppliedTwice => {
            for publish in publishes(entry) {
                memory.tamper(|state| {
                    state.members.entry(publish.client).and_modify(|row| row.last = None);
                });
            }
        }
        Bug::NotCompared => {
            for publish in publishes_mut(entry) {
                publish.change.expected = memory.read(|state| state.refs.get(&publish.change.name).copied());
            }
        }
        Bug::ReadyUnchecked => {
            let target = memory.read(|state| state.change.as_ref().map(|change| change.target.clone()));
            for command in commands_mut(entry) {
                let Command::Ready(ready) = command else { continue };
                ready.receipts.extend(target.iter().flatten().map(|node| (*node, LogIndex(u64::MAX))));
            }
        }
        Bug::IntentUnbound if is_only_publishes(entry) => {
            let mut change = None;
            memory.tamper(|state| change = state.change.take());
            return change;
        }
        _ => {}
    }
    None
}

/// All sets of which a majority must hold.
fn asked(state: &State) -> Vec<BTreeSet<NodeId>> {
    let target = state.change.as_ref().map(|change| &change.target);
    state.voters.iter().chain(target).cloned().collect()
}

fn after(bug: Option<Bug>, memory: &Memory, entry: &Entry, applied: &[Reply], change: Option<Change>) {
    if let Some(change) = change {
        memory.tamper(|state| state.change = Some(change));
    }
    let EntryPayload::Normal(batch) = &entry.payload else { return };
    if bug != Some(Bug::WantRecorded) {
        return;
    }
    for (command, outcome) in batch.commands.iter().zip(applied.iter().flat_map(|reply| &reply.0)) {
        let (Command::Publish(publish), Outcome::Refused(Refusal::TooFewHold { .. })) = (command, outcome) else {
            continue;
        };
        let decided = Decided { seq: publish.seq, change: publish.change.clone(), outcome: outcome.clone() };
        memory.tamper(|state| {
            state.members.entry(publish.client).and_modify(|row| row.last = Some(decided));
        });
    }
}
