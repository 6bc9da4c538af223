//! How two commits are related: where their histories meet.
//!
//! Both histories are painted from their ends, the newest commit first, until all that is left is common to both. Clocks
//! decide how much is read, never what comes out: with right ones no more than the commits since the histories parted.
//! Memory: id, parents and time of each commit that was read.

use std::collections::{BinaryHeap, HashMap};

use crate::entry::Timestamp;
use crate::error::WalkError;
use crate::history::read_commit;
use crate::id::CommitId;
use crate::source::NodeSource;

/// The best common ancestor of two commits: none of their other common ancestors descends from it. A commit counts
/// as its own ancestor. `None` if the histories have nothing in common.
///
/// Where several are best (each side has merged the other's before), it is the newest of them, then that of the
/// greatest id: the same on every node, and whichever of the two is named first. Its commit object is there; its tree may have expired.
pub fn merge_base(source: &dyn NodeSource, a: CommitId, b: CommitId) -> Result<Option<CommitId>, WalkError> {
    let mut found = Painting::new(source).run(&[a], &[b])?;
    found.sort_unstable();
    while let Some((_, best)) = found.pop() {
        // Wrong clocks can let an ancestor be met before its descendant.
        if found.is_empty() || !is_ancestor_of_any(source, best, &found)? {
            return Ok(Some(best));
        }
    }
    Ok(None)
}

/// Whether `ancestor` is `of` or one of its ancestors.
pub fn is_ancestor(source: &dyn NodeSource, ancestor: CommitId, of: CommitId) -> Result<bool, WalkError> {
    // An ancestor is itself the one place where the histories meet.
    Ok(merge_base(source, ancestor, of)? == Some(ancestor))
}

/// Which commits the history of `a` has and that of `b` lacks, and the other way round, newest first. `None` is an empty
/// history. For showing: with wrong clocks some may be named that both have.
pub fn apart(
    source: &dyn NodeSource,
    a: Option<CommitId>,
    b: Option<CommitId>,
) -> Result<(Vec<CommitId>, Vec<CommitId>), WalkError> {
    let mut painting = Painting::new(source);
    painting.spread(a.as_slice(), b.as_slice())?;
    let only = |paint: u8| {
        let painted = painting.seen.iter().filter(|(_, commit)| commit.paint == paint);
        let mut found: Vec<Candidate> = painted.map(|(id, commit)| (commit.time, *id)).collect();
        found.sort_unstable_by(|one, other| other.cmp(one));
        found.into_iter().map(|(_, id)| id).collect()
    };
    Ok((only(A), only(B)))
}

fn is_ancestor_of_any(source: &dyn NodeSource, id: CommitId, others: &[Candidate]) -> Result<bool, WalkError> {
    let others: Vec<_> = others.iter().map(|(_, other)| *other).collect();
    let found = Painting::new(source).run(&[id], &others)?;
    Ok(found.iter().any(|(_, found)| *found == id))
}

type Candidate = (Timestamp, CommitId);

/// Reached from the one side.
const A: u8 = 1;
/// Reached from the other.
const B: u8 = 2;
/// An ancestor of a commit that both reach. It is not what is looked for, and nor is anything behind it.
const STALE: u8 = 4;

/// What is known of a commit. Paint comes and never goes.
struct Seen {
    paint: u8,
    queued: bool,
    time: Timestamp,
    parents: Vec<CommitId>,
}

struct Painting<'s> {
    source: &'s dyn NodeSource,
    seen: HashMap<CommitId, Seen>,
    queue: BinaryHeap<Candidate>,
    /// How many commits in the queue are not stale.
    open: usize,
}

impl<'s> Painting<'s> {
    fn new(source: &'s dyn NodeSource) -> Self {
        Self { source, seen: HashMap::new(), queue: BinaryHeap::new(), open: 0 }
    }

    /// All best common ancestors, and only if clocks are wrong maybe some of their ancestors.
    ///
    /// No commit between an end and a best common ancestor is common itself, so none is stale, and paint has come all the
    /// way when only stale ones are left. A commit that gets new paint is queued again, whatever its time.
    fn run(mut self, a: &[CommitId], b: &[CommitId]) -> Result<Vec<Candidate>, WalkError> {
        let mut met = self.spread(a, b)?;
        met.retain(|(_, id)| self.seen.get(id).is_some_and(|commit| commit.paint & STALE == 0));
        Ok(met)
    }

    /// Paints, and says where the two met.
    fn spread(&mut self, a: &[CommitId], b: &[CommitId]) -> Result<Vec<Candidate>, WalkError> {
        a.iter().try_for_each(|id| self.paint(*id, A))?;
        b.iter().try_for_each(|id| self.paint(*id, B))?;
        let mut met = Vec::new();
        while self.open > 0
            && let Some((time, id)) = self.queue.pop()
        {
            let Some(commit) = self.seen.get_mut(&id) else { continue };
            commit.queued = false;
            let mut paint = commit.paint;
            if paint & STALE == 0 {
                self.open -= 1;
            }
            if paint == A | B {
                met.push((time, id));
                if self.open == 0 {
                    break;
                }
            }
            if paint & (A | B) == A | B {
                paint |= STALE;
            }
            for parent in commit.parents.clone() {
                self.paint(parent, paint)?;
            }
        }
        Ok(met)
    }

    fn paint(&mut self, id: CommitId, paint: u8) -> Result<(), WalkError> {
        let commit = match self.seen.get_mut(&id) {
            Some(commit) => commit,
            None => {
                let commit = read_commit(self.source, &id)?;
                let seen = Seen { paint: 0, queued: false, time: commit.time, parents: commit.parents };
                self.seen.entry(id).or_insert(seen)
            }
        };
        if commit.paint | paint == commit.paint {
            return Ok(());
        }
        let was_open = commit.queued && commit.paint & STALE == 0;
        commit.paint |= paint;
        let is_open = commit.paint & STALE == 0;
        self.open = self.open - usize::from(was_open) + usize::from(is_open);
        if !commit.queued {
            commit.queued = true;
            self.queue.push((commit.time, id));
        }
        Ok(())
    }
}
