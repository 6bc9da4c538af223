//! Going on with one voter when the majority is lost for good.
//!
//! What the log of the survivor has counts as decided, also what a majority may never have seen: nothing that was
//! acknowledged and is here is lost. What others had decided and this one never heard of *is* lost, which is why somebody
//! has to ask for this, and why it begins a new epoch: who still lives in the old one is not spoken to.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use crate::command::Role;
use crate::error::OpenError;
use crate::ids::{Id, NodeId, RefName};
use crate::state::{State, StepId};
use crate::store::{Db, Header, LogStore, Memory, Mode};

/// What the survivor has, and what is to be left of refs that it does not have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Held {
    /// Where refs are to stand instead, since what they show is not here.
    pub refs: BTreeMap<RefName, Option<Id>>,
    /// The last step of the order of publishes that is here, if it is not the last of all.
    pub last_step: Option<Option<Id>>,
}

/// Makes the node whose log lies in `dir` the only voter, in a new epoch. `held` is asked what of the state is here, and
/// nothing is done if it does not know. Nobody may have the log open. Durable on return; done again it begins another epoch.
pub fn recover(
    dir: &Path,
    header: Header,
    step_id: StepId,
    held: impl FnOnce(&State) -> Option<Held>,
) -> Result<Option<State>, OpenError> {
    let damaged = |cause: String| OpenError::Damaged { dir: dir.to_owned(), cause };
    let db = Arc::new(Db::open(dir, header, Mode::Open)?);
    let log = LogStore::open(Arc::clone(&db)).map_err(damaged)?;
    let memory = Memory::open(Arc::clone(&db), header.repository).map_err(damaged)?;
    for entry in log.after(memory.last()).map_err(damaged)? {
        drop(memory.apply(entry, step_id));
    }
    let batch = log.emptied(header.node).map_err(damaged)?;
    let Some(held) = memory.read(held) else { return Ok(None) };
    let replaced = memory.replace(batch, header.node, |state| leave_alone(state, header.node, held));
    let io = |cause: String| OpenError::Io { path: dir.to_owned(), source: std::io::Error::other(cause) };
    replaced.map(Some).map_err(io)
}

/// The state with one voter: nobody else is a member any more, since nobody of another epoch is spoken to. Who comes back has a
/// new identity.
fn leave_alone(state: &mut State, survivor: NodeId, held: Held) {
    for (name, id) in held.refs {
        match id {
            Some(id) => drop(state.refs.insert(name, id)),
            None => drop(state.refs.remove(&name)),
        }
    }
    if let Some(step) = held.last_step {
        state.last_step = step;
    }
    state.epoch += 1;
    state.voters = vec![BTreeSet::from([survivor])];
    state.holders = BTreeSet::from([survivor]);
    state.change = None;
    let mut removed = BTreeSet::new();
    for (node, member) in &mut state.members {
        if *node == survivor {
            (member.role, member.is_deficient) = (Role::Candidate, false);
        } else if !member.is_removed {
            member.is_removed = true;
            member.addresses.clear();
            removed.insert(*node);
        }
    }
    state.invites.retain(|_, invite| !removed.contains(&invite.by));
}
