//! Reads at random of what voters say that they hold.
//!
//! A receipt is an answer: who lies, or is told so by a broken disk, gives one for what it has not. So who leads asks one voter after
//! the other, now and then, for a hash of some objects under a key that it has just made up. They are drawn from all that the voter
//! says it holds, and are read from its disk; the voter's number is hashed with them, so that nobody can pass the question on.
//! Whoever fails is told of in the log and in the figures. What is not drawn is not shown to be there, and who fetches what it
//! lacks when it is asked passes: this finds disks that are worse than they say, and clumsy liars, and no others
//! (`docs/guarantees.md`, G8).

use std::collections::{BTreeSet, HashSet};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filesync_cas::{ContentHash, Kind, Schema};
use filesync_merkle::{CommitId, MerkleSchema};
use filesync_raft_log::ids::{Id, NodeId};

use super::calls::{Answer, Call};
use super::core::Core;
use super::lost::{self, Wanted};
use crate::error::{Error, ErrorKind};

/// Objects of one look: each is read from a disk.
const DRAWN: usize = 4;
/// At most so many are read for somebody at a time.
pub const SHOWN_MAX: usize = 16;
/// How long one may take: others wait for whoever asks.
const ANSWER: Duration = Duration::from_secs(2);
/// What somebody says for himself is cut to so many characters.
const WHY_MAX: usize = 200;
/// A way down ends at one of so many objects, and where nothing is below.
const ENDS: usize = 16;

/// How often somebody was asked, and what came of it.
#[derive(Debug, Default)]
pub struct Spots {
    shown: AtomicU64,
    not_shown: AtomicU64,
}

impl Spots {
    /// Adds the figures.
    pub fn metrics(&self, out: &mut dyn Write) {
        let name = "filesync_spot_checks_total";
        let (shown, not_shown) = (self.shown.load(Ordering::Relaxed), self.not_shown.load(Ordering::Relaxed));
        // A string takes everything.
        let _ = writeln!(out, "# TYPE {name} counter\n{name}{{outcome=\"held\"}} {shown}");
        let _ = writeln!(out, "{name}{{outcome=\"not held\"}} {not_shown}");
    }
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// It has what was drawn.
    Held,
    /// It says that it holds what is published, and this of it was not shown.
    NotHeld(Vec<Wanted>, String),
    /// It says nothing of the kind, or nothing at all.
    NotSaid,
}

/// Looks at one of the other voters, and tells of it if it fails.
pub async fn look(core: &Arc<Core>) {
    let voters: BTreeSet<NodeId> = core.view.read(|state| state.voters.iter().flatten().copied().collect());
    let others: Vec<NodeId> = voters.into_iter().filter(|node| *node != core.number).collect();
    if others.is_empty() {
        return;
    }
    let Ok(drawn) = draw(core, others.len()) else { return };
    let node = others[drawn];
    match look_at(core, node).await {
        Ok(Seen::Held) => _ = core.spots.shown.fetch_add(1, Ordering::Relaxed),
        Ok(Seen::NotHeld(drawn, why)) => {
            core.spots.not_shown.fetch_add(1, Ordering::Relaxed);
            let drawn = drawn.iter().map(|(kind, id)| format!("{} {id}", MerkleSchema.name(*kind)));
            let drawn = drawn.collect::<Vec<_>>().join(", ");
            tracing::error!(%node, drawn, why, "a voter says that it holds what is published, and does not show it");
        }
        Ok(Seen::NotSaid) => {}
        Err(error) => tracing::debug!(%node, %error, "a voter could not be looked at"),
    }
}

/// Looks at one node.
pub async fn look_at(core: &Arc<Core>, node: NodeId) -> Result<Seen, Error> {
    let (held, index) = {
        let remote = core.remote();
        (remote.held, remote.held_index)
    };
    let Some(held) = held else { return Ok(Seen::NotSaid) };
    match core.call(node, &Call::HeldAsOf, ANSWER).await {
        Ok(Answer::HeldAsOf(said)) if said >= index => {}
        _ => return Ok(Seen::NotSaid),
    }
    let mut key = [0; 32];
    core.env.random(&mut key)?;
    let here = Arc::clone(core);
    let mine = core.env.blocking(move || {
        let drawn = draw_objects(&here, held)?;
        let proof = prove(&here, node, &key, &drawn)?;
        Ok::<_, Error>((drawn, proof))
    });
    let (drawn, proof) = mine.await.ok_or_else(|| Error::new(ErrorKind::Failed, "the node is shutting down"))??;
    let objects = drawn.iter().map(|(kind, id)| (kind.0, Id(*id.as_bytes()))).collect();
    Ok(match core.call(node, &Call::Show { key: Id(key), objects }, ANSWER).await {
        Ok(Answer::Shown(shown)) if shown == proof => Seen::Held,
        Ok(Answer::Shown(_)) => Seen::NotHeld(drawn, "what it shows is something else".to_owned()),
        // It may say what it likes, and at any length.
        Ok(Answer::Failed(why)) => Seen::NotHeld(drawn, why.chars().take(WHY_MAX).collect()),
        _ => Seen::NotSaid,
    })
}

/// Shows a voter what it asks for.
pub async fn show(core: &Arc<Core>, from: NodeId, key: Id, objects: Vec<(u8, Id)>) -> Answer {
    if !core.view.is_fresh() || !core.view.read(|state| state.is_voter(from)) {
        return Answer::Refused("only voters are shown".to_owned());
    }
    if objects.len() > SHOWN_MAX {
        return Answer::Refused("too many objects at a time".to_owned());
    }
    let objects: Vec<Wanted> =
        objects.into_iter().map(|(kind, id)| (Kind(kind), ContentHash::from_bytes(id.0))).collect();
    let here = Arc::clone(core);
    match core.env.blocking(move || prove(&here, here.number, &key.0, &objects)).await {
        Some(Ok(proof)) => Answer::Shown(proof),
        Some(Err(error)) => Answer::Failed(error.to_string()),
        None => Answer::Unknown("the node is shutting down".to_owned()),
    }
}

/// A number below `end`, which is above 0.
fn draw(core: &Core, end: usize) -> Result<usize, Error> {
    let mut bytes = [0; 8];
    core.env.random(&mut bytes)?;
    Ok(usize::try_from(u64::from_le_bytes(bytes) % end as u64).unwrap_or_default())
}

/// Some of all that a commit leads to: each at the end of a way down from it, at every fork of which each branch is as likely.
fn draw_objects(core: &Core, commit: CommitId) -> Result<Vec<Wanted>, Error> {
    let lost = lost::of(&core.state());
    (0..DRAWN).map(|_| draw_object(core, &lost, (CommitId::KIND, commit.0))).collect()
}

fn draw_object(core: &Core, lost: &HashSet<ContentHash>, mut at: Wanted) -> Result<Wanted, Error> {
    loop {
        let malformed = |cause| Error::new(ErrorKind::Damage, format!("{}: {cause}", at.1));
        let mut below = MerkleSchema.children(at.0, &core.repo.store.get(at.0, &at.1)?).map_err(malformed)?;
        // Nobody has to have what is recorded as lost.
        below.retain(|(_, id)| !lost.contains(id));
        if below.is_empty() || draw(core, ENDS)? == 0 {
            return Ok(at);
        }
        at = below[draw(core, below.len())?];
    }
}

/// What nobody can say who does not have all of these objects: their hash under a key, for one node. They are read from the disk.
fn prove(core: &Core, node: NodeId, key: &[u8; 32], objects: &[Wanted]) -> Result<Id, Error> {
    core.repo.store.forget_frames();
    let mut hasher = blake3::Hasher::new_keyed(key);
    hasher.update(&node.0.to_le_bytes());
    for (kind, id) in objects {
        let bytes = core.repo.store.get(*kind, id)?;
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(&bytes);
    }
    Ok(Id(*hasher.finalize().as_bytes()))
}
