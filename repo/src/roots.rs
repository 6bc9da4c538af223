//! What must stay: the commits that something refers to, and which of their ancestors have expired.

use std::collections::HashSet;

use filesync_cas::{ContentHash, pin};
use filesync_merkle::{CommitId, PubId};

use crate::absent::may_be_missing;
use crate::cluster::outbox::Outbox;
use crate::cluster::remote::Remote;
use crate::cluster::{lost, member};
use crate::error::{Error, ErrorKind};
use crate::expired::Expired;
use crate::history;
use crate::journal::Journal;
use crate::repo::Repo;

/// All roots of a repository.
#[derive(Debug)]
pub struct Roots {
    /// Head, tags, what a restore that was cut off is to bring back, and pinned commits. Their trees stay.
    pub commits: HashSet<CommitId>,
    /// The end of the order of publishes, as far as it is here: with those before it, it stays.
    pub step: Option<PubId>,
    /// The newest published commit that is here: with its history it is everybody's.
    pub published: Option<CommitId>,
    /// Of what they lead to, the commits that have expired. Never one of the roots.
    pub expired: HashSet<CommitId>,
}

impl Roots {
    /// Reads them all. Fails if any cannot be read: no roots must never mean that nothing is needed.
    pub fn read(repo: &Repo) -> Result<Self, Error> {
        let vfs = &**repo.store.vfs();
        let mut commits: HashSet<CommitId> = history::roots(repo)?.into_iter().collect();
        match Journal::read(vfs).map_err(|error| Error::io("cannot read the journal", &error))? {
            None => {}
            Some(Ok(journal)) => commits.extend(journal.commit),
            Some(Err(cause)) => {
                return Err(Error::new(ErrorKind::Damage, format!("journal: damaged: {cause}"))
                    .with_hint("the next commit or restore removes it"));
            }
        }
        let pinned = pin::all(vfs)?.into_iter().flat_map(|pin| pin.roots);
        commits.extend(pinned.filter(|(kind, _)| *kind == CommitId::KIND).map(|(_, id)| CommitId(id)));
        let remote = Remote::read(vfs)?;
        // A member's file that is gone may have named anything.
        if remote.is_none() && member::read(vfs)?.is_some() {
            return Err(Error::new(ErrorKind::Damage, "remote: missing").with_hint("`filesync sync` makes it again"));
        }
        commits.extend(remote.as_ref().and_then(|remote| remote.held));
        commits.extend(Outbox::read(vfs)?.sending.and_then(|sending| sending.new));
        let published = remote.as_ref().and_then(|remote| remote.held);
        let step = remote.and_then(|remote| remote.step);
        let mut expired: HashSet<CommitId> = Expired::read(vfs)?.0.into_iter().collect();
        expired.retain(|id| !commits.contains(id));
        Ok(Self { commits, step, published, expired })
    }

    /// Of a repository in which nothing but the head is known.
    pub fn of_head(head: Option<CommitId>) -> Self {
        Self { commits: head.into_iter().collect(), step: None, published: None, expired: HashSet::new() }
    }

    /// As the store wants them.
    pub fn for_collection(&self, repo: &Repo) -> Result<filesync_cas::gc::Roots, Error> {
        let ids = |commits: &HashSet<CommitId>| commits.iter().map(|id| id.0).collect::<HashSet<ContentHash>>();
        let commits = self.commits.iter().map(|id| (CommitId::KIND, id.0));
        Ok(filesync_cas::gc::Roots {
            head: CommitId::KIND,
            objects: commits.chain(self.step.map(|step| (PubId::KIND, step.0))).collect(),
            shallow: ids(&self.expired),
            absent: may_be_missing(repo, self)?,
            lost: lost::recorded(repo)?,
        })
    }
}
