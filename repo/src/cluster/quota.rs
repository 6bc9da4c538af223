//! How much a voter holds for one member that is not applied yet: publishing rule 2.
//!
//! What came for tries to publish stays pinned until they are decided, and what came for one that failed stays on the disk until
//! it is collected. Of the room that there would be without all that, one member may have half, so that none alone fills a
//! voter's disk. Counted are bytes as they came: for pins in their notes, for the rest in memory, until the node ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use filesync_cas::pin;
use filesync_cas::vfs::Vfs;
use filesync_raft_log::ids::{Id, NodeId};

use super::hold::Asked;
use crate::error::{Error, ErrorKind};

/// More commits than this are not told apart.
const COMMITS_MAX: usize = 1_000;

/// What came for members and was not pinned.
#[derive(Debug, Default)]
pub struct Quota {
    unpinned: Mutex<BTreeMap<(NodeId, Id), u64>>,
    /// What tests say is free.
    #[cfg(test)]
    pub free: Mutex<Option<u64>>,
}

impl Quota {
    /// How many bytes may come for a member now. What was published meanwhile does not count any more.
    pub fn room(&self, vfs: &dyn Vfs, client: NodeId, is_published: impl Fn(&Id) -> bool) -> Result<u64, Error> {
        let commits: Vec<Id> = lock(&self.unpinned).keys().filter(|it| it.0 == client).map(|it| it.1).collect();
        for commit in commits.into_iter().filter(is_published) {
            self.pinned(client, commit);
        }
        let pinned = pinned(vfs, client)?.into_values().fold(0, u64::saturating_add);
        let held = pinned.saturating_add(self.unpinned_of(client));
        let free = self.free(vfs).map_err(|error| Error::io("cannot tell how much is free on the disk", &error))?;
        Ok(room(free, held))
    }

    fn free(&self, vfs: &dyn Vfs) -> std::io::Result<u64> {
        #[cfg(test)]
        if let Some(free) = *lock(&self.free) {
            return Ok(free);
        }
        vfs.free()
    }

    fn unpinned_of(&self, client: NodeId) -> u64 {
        let unpinned = lock(&self.unpinned);
        unpinned.iter().filter(|((node, _), _)| *node == client).fold(0, |sum, (_, bytes)| sum.saturating_add(*bytes))
    }

    /// So much came of a commit, and is not pinned.
    pub fn came(&self, client: NodeId, commit: Id, bytes: u64) {
        let mut unpinned = lock(&self.unpinned);
        let is_known = unpinned.len() < COMMITS_MAX || unpinned.contains_key(&(client, commit));
        let sum = unpinned.entry((client, if is_known { commit } else { Id::default() })).or_default();
        *sum = sum.saturating_add(bytes);
    }

    /// What came of a commit at earlier attempts, pinned or not.
    pub fn came_before(&self, vfs: &dyn Vfs, client: NodeId, commit: Id) -> Result<u64, Error> {
        let unpinned = lock(&self.unpinned).get(&(client, commit)).copied().unwrap_or(0);
        let pinned = pinned(vfs, client)?.get(&commit).copied().unwrap_or(0);
        Ok(pinned.saturating_add(unpinned))
    }

    /// A pin of a commit that was not published is gone. What came for it is here still, until it is collected.
    pub fn let_go(&self, vfs: &dyn Vfs, client: NodeId, commit: Id, bytes: u64) -> Result<(), Error> {
        if !pinned(vfs, client)?.contains_key(&commit) {
            self.came(client, commit, bytes);
        }
        Ok(())
    }

    /// All that came of a commit is pinned now, or is published.
    pub fn pinned(&self, client: NodeId, commit: Id) {
        lock(&self.unpinned).remove(&(client, commit));
    }
}

/// What is pinned for tries of a member. Of several pins of one commit, the later say all that came.
fn pinned(vfs: &dyn Vfs, client: NodeId) -> Result<BTreeMap<Id, u64>, Error> {
    let mut by_commit: BTreeMap<Id, u64> = BTreeMap::new();
    let asked = pin::all(vfs)?.into_iter().filter_map(|pin| Asked::of(&pin));
    for (asked, bytes) in asked.filter(|(asked, _)| asked.id.client == client) {
        let most = by_commit.entry(asked.commit).or_default();
        *most = bytes.max(*most);
    }
    Ok(by_commit)
}

/// Half of what would be free without what there is for a member, less that.
fn room(free: u64, held: u64) -> u64 {
    (free.saturating_add(held) / 2).saturating_sub(held)
}

/// What a member is told that may not have so much.
pub fn too_much(client: NodeId) -> Error {
    let message = format!(
        "what node {client} publishes and is not decided would take more than half of the free disk of this node"
    );
    Error::new(ErrorKind::Failed, message)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use filesync_cas::testing::LossVfs;
    use filesync_raft_log::command::TryId;
    use filesync_raft_log::ids::LeaderId;

    use super::*;

    #[test]
    fn a_member_has_half_at_most() {
        for (free, held, left) in [(100, 0, 50), (50, 50, 0), (80, 20, 30), (0, 0, 0), (10, 90, 0), (1, 0, 0)] {
            assert_eq!(room(free, held), left, "{held} held, {free} free");
        }
        assert_eq!(room(u64::MAX, 1), u64::MAX / 2 - 1);
        // However often it comes, more than half is never taken.
        let (mut free, mut held) = (1_000_000u64, 0);
        for _ in 0..100 {
            let more = room(free, held);
            (free, held) = (free - more, held + more);
        }
        assert_eq!((free, held), (500_000, 500_000));
    }

    #[test]
    fn all_that_came_for_a_member_counts() {
        let vfs = LossVfs::new();
        vfs.mkdir(Path::new("pins"), 0o755).unwrap();
        let quota = Quota::default();
        *lock(&quota.free) = Some(1_000);
        let leader = LeaderId { term: 1, node: NodeId(1) };
        let left = |client: u64| quota.room(&vfs, NodeId(client), |_| false).unwrap();
        // The second try of the first commit says what came for both.
        for (client, commit, nonce, bytes) in [(7, 5, 1, 90), (7, 5, 4, 100), (7, 6, 2, 50), (8, 5, 3, 400)] {
            let id = TryId { client: NodeId(client), leader, nonce };
            pin::put(&vfs, &Asked { id, commit: Id([commit; 32]) }.pin(bytes)).unwrap();
        }
        assert_eq!(quota.came_before(&vfs, NodeId(7), Id([5; 32])).unwrap(), 100);
        assert_eq!((left(7), left(8), left(9)), (575 - 150, 700 - 400, 500));
        // What was not pinned, too, until that commit is.
        quota.came(NodeId(9), Id([1; 32]), 60);
        quota.came(NodeId(9), Id([1; 32]), 40);
        quota.came(NodeId(9), Id([2; 32]), 100);
        assert_eq!((left(9), quota.came_before(&vfs, NodeId(9), Id([1; 32])).unwrap()), (600 - 200, 100));
        quota.pinned(NodeId(9), Id([1; 32]));
        assert_eq!(left(9), 550 - 100);
        // A pin that goes leaves what it was for, unless another has it, or it was published.
        let asked = |nonce| Asked { id: TryId { client: NodeId(7), leader, nonce }, commit: Id([5; 32]) };
        for (nonce, bytes) in [(1, 90), (4, 100)] {
            pin::remove(&vfs, &asked(nonce).pin(0).id).unwrap();
            quota.let_go(&vfs, NodeId(7), Id([5; 32]), bytes).unwrap();
            assert_eq!(left(7), 575 - 150, "{nonce}");
        }
        assert_eq!(quota.room(&vfs, NodeId(7), |commit| *commit == Id([5; 32])).unwrap(), 525 - 50);
        assert_eq!(left(7), 525 - 50, "for good");
        // Nor do many commits take memory, or get lost.
        for number in 0..3_000u64 {
            let mut commit = [3; 32];
            commit[..8].copy_from_slice(&number.to_le_bytes());
            quota.came(NodeId(9), Id(commit), 1);
        }
        assert!(lock(&quota.unpinned).len() <= COMMITS_MAX + 1);
        assert_eq!(quota.unpinned_of(NodeId(9)), 3_100);
    }
}
