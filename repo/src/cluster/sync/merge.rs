//! Merging what both sides committed: objects only.

use filesync_cas::Session;
use filesync_merkle::ancestry::merge_base;
use filesync_merkle::history::read_commit;
use filesync_merkle::merge::{self, ConflictTag, Merged, Sides};
use filesync_merkle::{Commit, CommitId, RepoPath, TreeLink};
use filesync_raft_log::ids::PeerKey;

use super::{Run, named};
use crate::commit;
use crate::error::{Error, ErrorKind};
use crate::identity::Identity;
use crate::objects::SessionNodes;
use crate::request::{CommitRequest, Strategy, SyncOutcome};
use crate::restore;

/// So many digits of an id are enough to name it in words.
const SHORT_LEN: usize = 12;

impl Run<'_> {
    /// Merges: objects only. What is theirs comes first among the parents.
    pub(super) fn merge(&mut self, ours: CommitId, theirs: CommitId) -> Result<CommitId, Error> {
        let repo = &self.core.repo;
        let session = repo.store.session()?;
        let (plan, published) = self.plan_merge(ours, theirs)?;
        let mut writer = session.writer();
        let tree = plan.apply(repo.node_source(), &mut SessionNodes(&mut writer), published)?;
        let id = self.put_merge(writer, tree, theirs, ours)?;
        session.keep()?;
        // Until it is published or HEAD, a pin is what refers to it.
        self.pin(id)?;
        drop::<Session<'_>>(session);
        self.result.merged = Some(id);
        Ok(id)
    }

    /// What a merge would change in their tree, and that tree. The conflicts are noted.
    pub(super) fn plan_merge(&mut self, ours: CommitId, theirs: CommitId) -> Result<(merge::Plan, TreeLink), Error> {
        let repo = &self.core.repo;
        let source = repo.node_source();
        let tree = |id: CommitId| read_commit(source, &id).map(|commit| commit.tree);
        let base = merge_base(source, ours, theirs)?.map(tree).transpose()?;
        let (mine, published) = (tree(ours)?, tree(theirs)?);
        let (node, date) = restore::conflict_names(repo, self.core.env.now());
        let tag = ConflictTag { node: &node, date: &date };
        let strategy = match self.request.strategy {
            Strategy::Copies => merge::Strategy::Copies,
            Strategy::Ours => merge::Strategy::Ours,
            Strategy::Theirs => merge::Strategy::Theirs,
            Strategy::Fail => merge::Strategy::Fail,
        };
        let plan = match merge::merge(source, Sides { base, ours: mine, theirs: published }, strategy, tag)? {
            Merged::Plan(plan) => plan,
            Merged::Conflicts(conflicts) => {
                let paths: Vec<RepoPath> = conflicts.into_iter().map(|conflict| conflict.path).collect();
                let message = format!("cannot merge: both sides changed {}", named(&paths));
                return Err(Error::new(ErrorKind::Refused, message).with_hint("--strategy copies keeps both"));
            }
        };
        let bytes = |path: &RepoPath| path.as_bytes().to_vec();
        self.result.conflicts = plan.conflicts.iter().map(|conflict| bytes(&conflict.path)).collect();
        self.result.kinds = plan.conflicts.iter().map(|conflict| conflict.kind.into()).collect();
        let beside =
            |conflict: &merge::Conflict| conflict.kept.as_ref().filter(|kept| **kept != conflict.path).map(bytes);
        self.result.copies = plan.conflicts.iter().map(beside).collect();
        // Who said who is right has nothing left to look at.
        self.result.is_decided = self.request.strategy != Strategy::Copies;
        if !self.result.conflicts.is_empty() && !self.result.is_decided {
            self.result.outcome = SyncOutcome::Conflicts;
        }
        Ok((plan, published))
    }

    fn put_merge(
        &self,
        mut writer: filesync_cas::store::FrameWriter<'_>,
        tree: TreeLink,
        theirs: CommitId,
        ours: CommitId,
    ) -> Result<CommitId, Error> {
        let repo = &self.core.repo;
        let mut commit = Commit {
            parents: vec![theirs, ours],
            tree,
            time: commit::time_at(self.core.env.now()),
            author: commit::author(repo, &CommitRequest::default())?,
            message: self.merge_message(theirs)?,
            node: [0; 32],
            signature: [0; 64],
        };
        let identity = Identity::load(&**repo.store.vfs())?;
        commit.node = identity.node();
        identity.sign(&mut commit, repo.repository())?;
        let id = writer.store(CommitId::KIND, &commit.encode()?)?;
        writer.flush()?;
        Ok(CommitId(id))
    }

    /// What was merged, and who had made it, by the name that the members know.
    fn merge_message(&self, theirs: CommitId) -> Result<String, Error> {
        let made_by = PeerKey(read_commit(self.core.repo.node_source(), &theirs)?.node);
        let name = self.core.view.read(|state| state.member_by_key(made_by).map(|(_, member)| member.name.clone()));
        // Members are called what they like.
        let name = name.filter(|name| !name.is_empty() && !name.contains(char::is_control));
        let from = name.map_or_else(String::new, |name| format!(" (from {name})"));
        Ok(format!("merge main at {}{from}", &theirs.to_string()[..SHORT_LEN]))
    }

    /// One pin for merges of this node that nothing refers to yet: the last of them.
    fn pin(&self, commit: CommitId) -> Result<(), Error> {
        let id = merge_pin();
        let pin = filesync_cas::pin::Pin { id, roots: vec![(CommitId::KIND, commit.0)], note: "merge".to_owned() };
        Ok(self.core.repo.store.pin(&pin)?)
    }
}

/// The pin of a merge that nothing refers to yet.
pub(super) fn merge_pin() -> filesync_cas::ContentHash {
    filesync_cas::ContentHash::of_metadata("filesync pin of a merge v1", b"")
}
