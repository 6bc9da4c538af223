//! Where the log of the cluster says that a commit was published: read from the order of publishes, as far as it is here.

use std::collections::HashSet;

use filesync_merkle::ancestry::apart;
use filesync_merkle::{CommitId, NodeSource, Pub, PubId};

use crate::cluster::remote::{MAIN, Remote};
use crate::error::{Error, ErrorKind};
use crate::repo::Repo;

/// Goes back in the order of publishes along with whoever goes back in history.
pub struct Published<'a> {
    source: &'a dyn NodeSource,
    /// What the start has and no publish that is known here made visible.
    unknown: HashSet<CommitId>,
    next: Option<PubId>,
    /// A publish, and what it made visible.
    current: Option<(u64, HashSet<CommitId>)>,
    /// The index as of which this is known; none if never in touch with a cluster.
    pub as_of: Option<u64>,
}

impl<'a> Published<'a> {
    /// For the history of `start`.
    pub fn of(repo: &'a Repo, start: Option<CommitId>) -> Result<Self, Error> {
        let source: &dyn NodeSource = repo.node_source();
        let remote = match Remote::read(&**repo.store.vfs()) {
            // History can be shown without.
            Err(error) if error.kind() == ErrorKind::Damage => None,
            remote => remote?,
        };
        let as_of = remote.as_ref().and_then(Remote::as_of);
        let next = remote.and_then(|remote| remote.step);
        let mut published = Self { source, unknown: HashSet::new(), next, current: None, as_of };
        let last = published.step()?;
        // Where nothing was ever published, all of it is unknown anyhow.
        if last.is_some() && start != last {
            published.unknown = apart(source, start, last)?.0.into_iter().collect();
        }
        Ok(published)
    }

    /// The entry of the log that made a commit visible; none if it is not published, or if that is not known here. To be
    /// asked of commits in the order of history, newest first.
    pub fn index(&mut self, commit: &CommitId) -> Result<Option<u64>, Error> {
        if self.unknown.contains(commit) {
            return Ok(None);
        }
        while let Some((index, commits)) = &self.current {
            if commits.contains(commit) {
                return Ok(Some(*index));
            }
            self.step()?;
        }
        Ok(None)
    }

    /// Goes to the publish before, and gives back where `main` stood since. What is not here, or damaged, ends it.
    fn step(&mut self) -> Result<Option<CommitId>, Error> {
        self.current = None;
        while let Some(id) = self.next.take() {
            let Some(step) = self.source.get(PubId::KIND, &id.0).ok().and_then(|bytes| Pub::decode(&bytes).ok()) else {
                break;
            };
            self.next = step.prev;
            if step.ref_name == MAIN {
                let visible = apart(self.source, step.new, step.old)?.0;
                self.current = Some((step.log_index, visible.into_iter().collect()));
                return Ok(step.new);
            }
        }
        Ok(None)
    }
}
