//! Tags: those that were changed here are published, and those that others changed come here.

use std::collections::BTreeMap;

use filesync_merkle::CommitId;
use filesync_merkle::ancestry::is_ancestor;
use filesync_raft_log::State;

use super::Run;
use crate::cluster::members::facts;
use crate::error::Error;
use crate::request::{Event, SyncOutcome, SyncedTag, TagFate, Warning};
use crate::tags;
use crate::tags::wishes::{Wish, Wishes};

/// What the names of tags begin with in the log.
pub const PREFIX: &str = "tags/";

type Tags = BTreeMap<String, CommitId>;

impl Run<'_> {
    /// Brings the tags into line with those of the cluster. What is published is here by now.
    pub(super) fn tags(&mut self, state: &State, may_publish: bool) -> Result<(), Error> {
        if self.request.dry_run {
            return Ok(());
        }
        let vfs = &**self.core.repo.store.vfs();
        let mut shared = shared(state);
        let known = Wishes::read(vfs)?;
        let is_first = known.is_none();
        let mut wishes = match known {
            Some(wishes) => wishes,
            None => all_of_them(&shared, tags::tags(vfs)?),
        };
        if is_first {
            wishes.write(vfs)?;
        }
        if may_publish && !self.request.pull_only {
            self.publish_tags(&mut wishes, &mut shared)?;
        }
        for name in wishes.0.keys().filter(|_| !may_publish) {
            self.warn(format!("tag {name} stays as it is here: this node may only read"));
        }
        if self.request.push_only { Ok(()) } else { self.take_tags(&shared, &wishes) }
    }

    /// Publishes what is wished for; `shared` is what the cluster has then.
    fn publish_tags(&mut self, wishes: &mut Wishes, shared: &mut Tags) -> Result<(), Error> {
        let core = self.core;
        let vfs = &**core.repo.store.vfs();
        for (name, Wish { expected, new }) in wishes.0.clone() {
            if let Some(new) = new
                && !self.is_published(new)?
            {
                self.warn(format!("tag {name} stays local: its commit is not published"));
                continue;
            }
            // What is wished for may be so already: by an answer that never came, or by somebody else.
            if shared.get(&name) != new.as_ref() {
                let is_published = self.publish(&format!("{PREFIX}{name}"), expected, new)?;
                if is_published {
                    set(shared, &name, new);
                } else {
                    *shared = self::shared(&facts(core, self.request.timeout)?);
                }
                let commit = shared.get(&name).copied();
                match (is_published, commit == new) {
                    (true, _) => self.note(&name, commit, TagFate::Published),
                    (false, false) => self.lose(&name, commit),
                    // Somebody else wanted the same.
                    (false, true) => {}
                }
            }
            wishes.0.remove(&name);
            wishes.write(vfs)?;
        }
        Ok(())
    }

    /// Has tags stand as the cluster has them, where nothing else is wished for.
    fn take_tags(&mut self, shared: &Tags, wishes: &Wishes) -> Result<(), Error> {
        let vfs = &**self.core.repo.store.vfs();
        let is_ours = |name: &str| wishes.0.contains_key(name);
        for (name, _) in tags::tags(vfs)? {
            if !is_ours(&name) && !shared.contains_key(&name) {
                tags::unset(vfs, &name)?;
                self.note(&name, None, TagFate::Taken);
            }
        }
        for (name, commit) in shared.iter().filter(|(name, _)| !is_ours(name)) {
            // One that came after what was fetched comes with the next sync.
            if tags::find(vfs, name)? == Some(*commit) || !self.is_published(*commit)? {
                continue;
            }
            match tags::set(vfs, name, *commit) {
                Ok(_) => self.note(name, Some(*commit), TagFate::Taken),
                Err(error) => self.warn(format!("a tag of the cluster is left out: {error}")),
            }
        }
        Ok(())
    }

    fn is_published(&self, commit: CommitId) -> Result<bool, Error> {
        let held = self.core.remote().held;
        Ok(match held {
            Some(held) => is_ancestor(self.core.repo.node_source(), commit, held)?,
            None => false,
        })
    }

    fn note(&mut self, name: &str, commit: Option<CommitId>, fate: TagFate) {
        self.result.tags.push(SyncedTag { name: name.to_owned(), commit, fate });
    }

    /// Theirs stays.
    fn lose(&mut self, name: &str, commit: Option<CommitId>) {
        self.result.outcome = SyncOutcome::Conflicts;
        self.note(name, commit, TagFate::Lost);
    }

    fn warn(&self, message: String) {
        self.observer.event(Event::Warning(Warning { path: None, message }));
    }
}

fn set(tags: &mut Tags, name: &str, commit: Option<CommitId>) {
    match commit {
        Some(commit) => drop(tags.insert(name.to_owned(), commit)),
        None => drop(tags.remove(name)),
    }
}

/// The tags of the cluster.
fn shared(state: &State) -> Tags {
    let tag = |(name, id): (&filesync_raft_log::ids::RefName, &filesync_raft_log::ids::Id)| {
        let name = name.as_str().strip_prefix(PREFIX)?;
        Some((name.to_owned(), CommitId::from_bytes(id.0)))
    };
    state.refs.iter().filter_map(tag).collect()
}

/// Before the first sync every tag was made here.
fn all_of_them(shared: &Tags, local: Vec<(String, CommitId)>) -> Wishes {
    let mut wishes = Wishes::default();
    for (name, commit) in local.into_iter().filter(|(name, commit)| shared.get(name) != Some(commit)) {
        wishes.note(&name, None, Some(commit));
    }
    wishes
}
