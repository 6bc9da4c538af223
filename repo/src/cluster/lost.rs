//! What nobody has any more: publishing rule 5.
//!
//! A voter that lacks an object, and got it neither from the others nor from its own working copy, asks every voter in force, those
//! who are to vote, and whoever else of the members can be reached, whether he has it. Who is asked reads it, and before he says
//! no he looks for it in his own working copy. Only if every voter has said no, and nobody has said yes or has yet to find out,
//! the log is told that it is lost. From then on nobody has to have it; if it comes back, it is simply there.
//!
//! What is read badly once may be read well the next time: so a voter says that something is lost, or that it does not have it,
//! only of what it has looked for before. Commits are never lost, nor is the order of publishes: what lies behind them would be
//! lost with them, and nobody would know what that is.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use filesync_cas::damaged::Damaged;
use filesync_cas::{ContentHash, Kind, Schema};
use filesync_merkle::{CommitId, MerkleSchema, PubId};
use filesync_raft_log::command::Command;
use filesync_raft_log::ids::{Id, NodeId};
use filesync_raft_log::state::LOST_MAX_OF_ENTRY;
use filesync_raft_log::{Log, State};
use tokio::time::Instant;

use super::answer::DECIDE;
use super::calls::{Answer, Call, Found};
use super::core::{CallFailure, Core};
use super::heal;
use super::remote::{Remote, main_of};
use crate::error::{Error, ErrorKind};
use crate::fsck;
use crate::repo::Repo;
use crate::request::{DamagedObject, Silent, Unreadable};

/// Objects that are asked for at a time: each is read.
const ASK_MAX: usize = 200;
/// How long one may take to read them.
const ANSWER: Duration = Duration::from_secs(50);
/// How often it is looked whether this node has heard what was decided.
const LOOK: Duration = Duration::from_millis(20);
/// More than this is not remembered.
const KNOWN_MAX: usize = 100_000;

/// What is wanted: its kind, and which it is.
pub type Wanted = (Kind, ContentHash);

/// What is recorded as lost, by a state.
pub fn of(state: &State) -> HashSet<ContentHash> {
    state.lost.iter().map(|id| ContentHash::from_bytes(id.0)).collect()
}

/// What is recorded as lost, as far as it is known here. Reads a file.
pub fn recorded(repo: &Repo) -> Result<HashSet<ContentHash>, Error> {
    Ok(Remote::read(&**repo.store.vfs())?.map(|remote| of(&remote.state)).unwrap_or_default())
}

/// Whether a message is about something that is recorded as lost: messages name objects by their ids.
pub fn is_named(lost: &HashSet<ContentHash>, message: &str) -> bool {
    let words = message.split(|it: char| !it.is_ascii_hexdigit()).filter(|word| word.len() == 64);
    !lost.is_empty() && words.filter_map(|word| word.parse().ok()).any(|id: ContentHash| lost.contains(&id))
}

/// Says of a message about something that is recorded as lost that it is.
pub fn tell(lost: &HashSet<ContentHash>, message: &mut String) {
    if is_named(lost, message) {
        message.push_str("; it is recorded as lost: no voter had it any more");
    }
}

/// The same, of an error.
pub fn explain(repo: &Repo, error: Error) -> Error {
    if error.kind() != ErrorKind::Damage {
        return error;
    }
    let mut message = error.to_string();
    tell(&recorded(repo).unwrap_or_default(), &mut message);
    let told = Error::new(error.kind(), message);
    error.hint().into_iter().fold(told, Error::with_hint)
}

/// The same, of what could not be restored.
pub fn explain_all(repo: &Repo, unreadable: &mut [Unreadable]) {
    if !unreadable.is_empty() {
        let lost = recorded(repo).unwrap_or_default();
        unreadable.iter_mut().for_each(|it| tell(&lost, &mut it.cause));
    }
}

/// Whether something is damaged here that is not known to be lost, or to be needed by nobody.
pub fn has_damage(core: &Core) -> bool {
    let damage = core.repo.store.damage();
    if damage.is_empty() {
        return false;
    }
    let lost = of(&core.state());
    let mut known = core.searched.known();
    // What is on the list no more was stored anew: should that be damaged too, it is another matter.
    known.unneeded.packs.retain(|pack| damage.packs.contains(pack));
    known.unneeded.objects.retain(|id| damage.objects.contains(id));
    damage.packs.iter().any(|pack| !known.unneeded.packs.contains(pack))
        || damage.objects.iter().any(|id| !lost.contains(id) && !known.unneeded.objects.contains(id))
}

/// What a node has looked for, and did not find.
#[derive(Debug, Default)]
pub struct Searched(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// To be looked for.
    open: BTreeMap<ContentHash, Kind>,
    /// Not found.
    done: HashSet<ContentHash>,
    /// Somebody is at it.
    is_searching: bool,
    /// What is damaged and is part of nothing that this node should have, as everything that was read afterwards has shown. It stays on the
    /// list of what is damaged: whoever comes to need it stores it anew.
    unneeded: Damaged,
}

impl Searched {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it was looked for; if not, it is to be.
    fn was_looked_for(&self, (kind, id): &Wanted) -> bool {
        let mut known = self.known();
        if known.done.contains(id) {
            return true;
        }
        if known.open.len() < KNOWN_MAX {
            known.open.insert(*id, *kind);
        }
        false
    }

    fn is_here(&self, id: &ContentHash) {
        let mut known = self.known();
        known.open.remove(id);
        known.done.remove(id);
    }

    /// Nothing that this node should have needs what was known to be damaged before it was looked at.
    pub fn nobody_needs(&self, damage: Damaged) {
        self.known().unneeded = damage;
    }

    /// Takes over the search for what is to be looked for; none if there is nothing, or another is at it.
    fn begin(&self) -> Option<Vec<ContentHash>> {
        let mut known = self.known();
        if known.is_searching || known.open.is_empty() {
            return None;
        }
        known.is_searching = true;
        Some(known.open.keys().copied().collect())
    }

    fn end(&self, looked_for: Vec<ContentHash>, is_done: bool) {
        let mut known = self.known();
        known.is_searching = false;
        if !is_done {
            return;
        }
        if known.done.len() > KNOWN_MAX {
            known.done.clear();
        }
        for id in looked_for {
            known.open.remove(&id);
            known.done.insert(id);
        }
    }
}

/// Reads objects, now. What is not there and was not looked for yet is not known: it is to be looked for.
fn read(core: &Core, wanted: &[Wanted]) -> Vec<Found> {
    // From the disk, and not from memory.
    core.repo.store.forget_frames();
    let read = |wanted: &Wanted| match core.repo.store.get(wanted.0, &wanted.1) {
        Ok(_) => {
            core.searched.is_here(&wanted.1);
            Found::Good
        }
        Err(error) if error.is_damage() && core.searched.was_looked_for(wanted) => Found::Nowhere,
        Err(_) => Found::NotYet,
    };
    wanted.iter().map(read).collect()
}

/// Looks in the working copy for all that is to be looked for: what is found is stored, durably. Blocks while every file is read.
fn search(core: &Core) -> Result<(), Error> {
    let Some(wanted) = core.searched.begin() else { return Ok(()) };
    let searched = core.token.scope(|| {
        // Who has no commit there has nothing of anybody's.
        if core.repo.head().is_none() {
            return Ok(());
        }
        let session = core.repo.store.session()?;
        fsck::store_from_working_copy(&core.repo, &session, &Silent)?;
        Ok(session.keep()?)
    });
    core.searched.end(wanted, searched.is_ok());
    searched
}

/// Answers a voter that asks whether this node has some objects.
pub fn answer(
    core: &Arc<Core>,
    from: NodeId,
    wanted: Vec<(u8, Id)>,
) -> Pin<Box<dyn Future<Output = Answer> + Send + '_>> {
    Box::pin(async move {
        // Who does not follow the log may know an old one: what is there is nobody's business but voters'.
        if core.followed_log().is_none()
            && let Ok(Answer::Facts(state)) = core.ask_leader(&Call::Facts, DECIDE).await
        {
            core.view.hear(*state);
        }
        if !core.view.is_fresh() || !core.view.read(|state| state.is_voter(from)) {
            return Answer::Failed("only voters are told".to_owned());
        }
        if wanted.len() > ASK_MAX {
            return Answer::Failed("too many objects at a time".to_owned());
        }
        let wanted =
            wanted.into_iter().map(|(kind, id)| (Kind(kind), ContentHash::from_bytes(id.0))).collect::<Vec<_>>();
        let here = Arc::clone(core);
        let read = core.env.blocking(move || read(&here, &wanted)).await;
        let here = Arc::clone(core);
        // It takes its time: who asks will ask again.
        drop(core.env.spawn_blocking(Box::new(move || drop(search(&here)))));
        read.map_or(Answer::Failed("the node is shutting down".to_owned()), Answer::Found)
    })
}

/// What a check of the store found damaged, by kind.
pub fn wanted(damaged: &[DamagedObject]) -> impl Iterator<Item = Wanted> + '_ {
    let kind_of = |word: &str| (0..=u8::MAX).map(Kind).find(|kind| MerkleSchema.name(*kind) == word);
    damaged.iter().filter_map(move |object| Some((kind_of(object.kind)?, object.id)))
}

/// Has the log record as lost what this node lacks, if nobody has it. An error says that it lacks something still. Blocks.
pub fn record(core: &Arc<Core>, log: &Log, lacking: &BTreeSet<Wanted>) -> Result<(), Error> {
    let lacks = |cause: &str| {
        let message = format!("this node lacks {} objects that the other voters do not give it{cause}", lacking.len());
        Err(Error::new(ErrorKind::Damage, message).with_hint("`filesync fsck` there names what is affected"))
    };
    if lacking.iter().any(|(kind, _)| matches!(*kind, CommitId::KIND | PubId::KIND)) {
        return lacks("; among them commits");
    }
    let lacking_now: Vec<Wanted> = lacking.iter().copied().collect();
    let found = read(core, &lacking_now);
    search(core)?;
    if found.contains(&Found::NotYet) {
        return lacks("");
    }
    let gone = lacking_now.iter().zip(&found).filter(|(_, found)| **found == Found::Nowhere);
    let gone: Vec<Wanted> = gone.map(|(wanted, _)| *wanted).collect();
    let mut left = 0;
    for some in gone.chunks(ASK_MAX.min(LOST_MAX_OF_ENTRY)) {
        let (lost, asked) = match ask_everybody(core, log, some)? {
            Ok(answered) => answered,
            Err(silent) => return lacks(&format!("; node {silent} did not say whether it has them")),
        };
        left += some.len() - lost.len();
        if !lost.is_empty() {
            heal::say(core, Command::Lost { node: core.number, asked, objects: lost.clone() })?;
            await_recorded(core, log, &lost)?;
        }
    }
    remember(core, log)?;
    if left > 0 { lacks("; others have them, or have yet to look for them") } else { Ok(()) }
}

/// Which of some objects nobody has, and whom that is known of; or who has not answered.
type Asked = Result<(BTreeSet<Id>, BTreeSet<NodeId>), NodeId>;

/// Asks all members but this one. Voters, and those who are to be, must answer; of the others those who can be reached.
fn ask_everybody(core: &Arc<Core>, log: &Log, wanted: &[Wanted]) -> Result<Asked, Error> {
    let state = log.read(State::clone);
    let target = state.change.as_ref().map(|change| &change.target);
    let mut asked: BTreeSet<NodeId> = state.voters.iter().chain(target).flatten().copied().collect();
    asked.insert(core.number);
    let members = state.members.iter().filter(|(node, member)| !member.is_removed && **node != core.number);
    let call = Call::Find(wanted.iter().map(|(kind, id)| (kind.0, Id(*id.as_bytes()))).collect());
    let asking = members.map(|(node, _)| async { (*node, core.call(*node, &call, ANSWER).await) });
    let answers = core.wait(futures::future::join_all(asking))?;
    let mut nowhere = vec![true; wanted.len()];
    for (node, answer) in answers {
        match answer {
            Ok(Answer::Found(found)) if found.len() == wanted.len() => {
                nowhere.iter_mut().zip(found).for_each(|(nowhere, found)| *nowhere &= found == Found::Nowhere);
            }
            Err(CallFailure::Unreachable(_)) if !asked.contains(&node) => {}
            _ => return Ok(Err(node)),
        }
    }
    let lost = wanted.iter().zip(nowhere).filter(|(_, nowhere)| *nowhere).map(|((_, id), _)| Id(*id.as_bytes()));
    Ok(Ok((lost.collect(), asked)))
}

fn await_recorded(core: &Core, log: &Log, lost: &BTreeSet<Id>) -> Result<(), Error> {
    let until = Instant::now() + DECIDE;
    while !log.read(|state| lost.is_subset(&state.lost)) {
        if Instant::now() >= until {
            return Err(Error::new(ErrorKind::NoQuorum, "what is lost was recorded, and is not known here yet"));
        }
        core.wait(async { tokio::time::sleep(LOOK).await })?;
    }
    Ok(())
}

/// Notes durably what is recorded as lost: commands that ask nobody go by it.
pub fn remember(core: &Core, log: &Log) -> Result<(), Error> {
    let mut remote = core.remote();
    let lost = log.read(|state| state.lost.clone());
    if lost.is_subset(&remote.state.lost) {
        return Ok(());
    }
    remote.state.lost.extend(lost);
    remote.write(&**core.repo.store.vfs())
}

/// As a voter who is alone does: he has nobody to whom to say that he lacks something, and goes on meanwhile. But what was published,
/// and nobody has any more, is recorded. An error says that he lacks something still.
pub fn look_after_alone(core: &Arc<Core>, log: &Log) -> Result<(), Error> {
    let state = log.read(State::clone);
    if !heal::is_alone(core.number, &state) || main_of(&state).is_none() {
        return Ok(());
    }
    let known = of(&state);
    let mut damaged = core.repo.store.damage();
    if damaged.objects.iter().all(|id| known.contains(id) || core.searched.known().unneeded.objects.contains(id)) {
        return Ok(());
    }
    remember(core, log)?;
    let lacking = heal::gather_alone(core, &state)?;
    if !lacking.is_empty() {
        record(core, log, &lacking)?;
    }
    let lacks = |id: &ContentHash| lacking.iter().any(|(_, lacking)| lacking == id);
    damaged.objects.retain(|id| !lacks(id));
    core.searched.nobody_needs(damaged);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_about_what_is_lost_say_so() {
        let id = |byte: u8| ContentHash::from_bytes([byte; 32]);
        let lost: HashSet<_> = [id(0xab)].into();
        let told = |message: String| {
            let mut told = message.clone();
            tell(&lost, &mut told);
            told.len() > message.len()
        };
        assert!(told(format!("object {} is missing", id(0xab))));
        assert!(told(format!("cannot show a: object {} is damaged: pack x: its bytes", id(0xab))));
        assert!(!told(format!("object {} is missing", id(0xac))));
        assert!(!told(format!("object {}0 is missing", id(0xab))));
        assert!(!told("no object at all".to_owned()));
    }

    #[test]
    fn nothing_is_gone_before_it_was_looked_for() {
        let searched = Searched::default();
        let (one, other) =
            ((Kind::CHUNK, ContentHash::from_bytes([1; 32])), (Kind(2), ContentHash::from_bytes([2; 32])));
        assert!(!searched.was_looked_for(&one) && !searched.was_looked_for(&one));
        let open = searched.begin().unwrap();
        assert_eq!(open, [one.1]);
        // What comes meanwhile is for the next search.
        assert!(!searched.was_looked_for(&other));
        assert_eq!(searched.begin(), None, "one at a time");
        searched.end(open, false);
        assert!(!searched.was_looked_for(&one), "it was cut off");
        let open = searched.begin().unwrap();
        searched.end(open, true);
        assert!(searched.was_looked_for(&one) && searched.was_looked_for(&other));
        assert_eq!(searched.begin(), None);
        // It was there again, and is gone once more.
        searched.is_here(&one.1);
        assert!(!searched.was_looked_for(&one));
    }
}
