//! Carrying on what a crash cut off.
//!
//! A path that is as it was before, or as it is to be, is made as it is to be; anything else is the user's edit and
//! stays. What lies under a temporary name is ours if the exchange has not taken place; after it, it is what stood there
//! before, or what the user put there in the last moment, and that is kept.

use std::collections::BTreeMap;

use filesync_cas::Chunker;
use filesync_cas::rows::RowBatch;
use filesync_merkle::{CommitId, Content, Entry, Node, RepoPath, Timestamp, TreeLink, lookup};

use super::Context;
use super::apply::Round;
use super::plan::{Finish, Old, Step, seen};
use super::present::{self, Cut, Found};
use crate::error::Error;
use crate::journal::{Journal, Line, State};
use crate::request::{Event, Warning};
use crate::scan::Kind;
use crate::worktree::{clock, keep, look, put_back, remove_tree, temp_path};

/// Finishes the journal of a restore that was cut off, if there is one. Every command that takes the working copy for
/// the user's calls this first; the store is a writer's.
pub fn finish(ctx: &Context<'_>) -> Result<(), Error> {
    let store = &**ctx.store.vfs();
    let io = |error: std::io::Error| Error::io("cannot read the journal", &error);
    let journal = match Journal::read(store).map_err(io)? {
        None => return Ok(()),
        Some(Ok(journal)) => journal,
        Some(Err(cause)) => {
            // It says nothing any more; what it would have finished shows as changes.
            warn(ctx, None, format!("journal: damaged: {cause}: ignored"));
            return Journal::remove(store).map_err(io);
        }
    };
    warn(ctx, None, "finishing a restore that was interrupted".to_owned());
    let target = match journal.commit.map(|commit| tree_of(ctx, &commit)).transpose() {
        Ok(target) => target,
        Err(error) => {
            warn(ctx, None, format!("journal: {error}: what it names is left as it is"));
            None
        }
    };
    let links = BTreeMap::new();
    let stamp = clock(store).map_err(|error| Error::io("cannot tell the time", &error))?;
    let recovery = Recovery { ctx, target, chunker: Chunker::new(ctx.store.parameters().chunks), stamp };
    let (mut steps, mut modes) = (Vec::new(), Vec::new());
    for line in &journal.lines {
        match recovery.step(line)? {
            Some(Step { path, old: Old::Directory(stat), new: Some(entry) }) if entry.is_directory() => {
                modes.push(Finish { path, old: Some(stat), new: Some(entry) });
            }
            Some(step) => {
                // What is made now may have to be closed again.
                if step.new.as_ref().is_some_and(Entry::is_directory) {
                    modes.push(Finish { path: step.path.clone(), old: None, new: step.new.clone() });
                }
                steps.push(step);
            }
            None => {}
        }
    }
    // Journals have directories before what is in them: modes are set from the inside out.
    modes.sort_by(|a, b| b.path.cmp(&a.path));
    modes.dedup_by(|a, b| a.path == b.path);
    let mut round = Round::new(ctx, &links);
    round.builds_fresh = false;
    round.carry_out(&[], &steps, &modes)?;
    round.settle()?;
    for path in &round.result.skipped {
        warn(ctx, Some(path.clone()), "changed meanwhile: kept".to_owned());
    }
    for damaged in &round.result.damaged {
        warn(ctx, Some(damaged.path.clone()), damaged.cause.clone());
    }
    if let Some(head) = journal.head
        && recovery.stands(&journal.lines)?
    {
        ctx.store.session()?.finish(Some(head.0), RowBatch::default())?;
    }
    Journal::remove(store).map_err(|error| Error::io("cannot remove the journal", &error))
}

fn warn(ctx: &Context<'_>, path: Option<Vec<u8>>, message: String) {
    ctx.observer.event(Event::Warning(Warning { path, message }));
}

fn tree_of(ctx: &Context<'_>, commit: &CommitId) -> Result<TreeLink, Error> {
    Ok(filesync_merkle::history::read_commit(ctx.source, commit)?.tree)
}

struct Recovery<'a> {
    ctx: &'a Context<'a>,
    target: Option<TreeLink>,
    chunker: Chunker,
    /// From before anything was looked at.
    stamp: Timestamp,
}

impl Recovery<'_> {
    /// What stands at `at`, which may be what `path` was or is to be.
    fn found(&self, at: &RepoPath, path: &RepoPath) -> Result<Found, Error> {
        let entry = |tree: TreeLink| lookup(self.ctx.source, &tree, path).ok().flatten();
        let (new, old) = (self.target.and_then(entry), self.ctx.head_tree.and_then(entry));
        let cut = Cut { chunker: self.chunker, nodes: self.ctx.source, known: [new.as_ref(), old.as_ref()] };
        present::read(&*self.ctx.work, self.ctx.work_fd, cut, at)
            .map_err(|error| Error::io(format_args!("cannot read {at}"), &error))
    }

    /// Whether everything stands as it is to be. A directory that was to go may stay for what was put into it.
    fn stands(&self, lines: &[Line]) -> Result<bool, Error> {
        for Line { path, old, new } in lines {
            let now = state(&self.found(path, path)?);
            let stays = (*old, *new, now) == (State::Directory, State::Nothing, Some(State::Directory));
            if now != Some(*new) && !stays {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// What is left to do at one path.
    fn step(&self, line: &Line) -> Result<Option<Step>, Error> {
        let Line { path, old, new } = line;
        let mut found = self.found(path, path)?;
        if self.settle_temp(line, state(&found))? {
            found = self.found(path, path)?;
        }
        let now = state(&found);
        let is_leaf = |state: &State| matches!(state, State::Leaf(_));
        // Between a file and a directory there is a moment with neither.
        let in_between = now == Some(State::Nothing)
            && (matches!((old, new), (State::Directory, new) if is_leaf(new))
                || matches!((old, new), (old, State::Directory) if is_leaf(old)));
        let is_done = now == Some(*new) && *new != State::Directory;
        if is_done || !(now == Some(*old) || now == Some(*new) || in_between) {
            return Ok(None);
        }
        let entry = match (new, &self.target) {
            (State::Nothing, _) => None,
            (_, None) => return Ok(None),
            (_, Some(target)) => match lookup(self.ctx.source, target, path) {
                Ok(entry) if State::of(entry.as_ref()) == *new => entry,
                Ok(_) => return Ok(None),
                Err(error) if error.is_damage() => {
                    warn(self.ctx, Some(path.as_bytes().to_vec()), error.to_string());
                    return Ok(None);
                }
                Err(error) => return Err(error.into()),
            },
        };
        let old = match found {
            Found::Nothing => Old::Nothing,
            Found::Directory(stat) => Old::Directory(stat),
            Found::Leaf(entry, stat) => seen(stat, Some(entry), self.stamp),
            Found::Other(stat) => seen(stat, None, self.stamp),
        };
        Ok(Some(Step { path: path.clone(), old, new: entry }))
    }

    /// Deals with what lies under the temporary name of a path. Whether the path itself may have changed by that.
    fn settle_temp(&self, line: &Line, now: Option<State>) -> Result<bool, Error> {
        let work = &*self.ctx.work;
        let (path, temp) = (&line.path, temp_path(&line.path));
        let io = |error: std::io::Error| Error::io(format_args!("cannot clean up beside {path}"), &error);
        let Some(found) = look(work, &temp).map_err(io)? else { return Ok(false) };
        if found.kind == Kind::Directory {
            // Of a new directory, ours; nothing else is ever moved there. Otherwise somebody's, caught on its way.
            if line.old == State::Nothing && line.new == State::Directory {
                remove_tree(work, &temp).map_err(io)?;
                return Ok(false);
            }
            return put_back(work, &temp, path, self.ctx.tag).map_err(io).map(|_| true);
        }
        // A successor that was never put at its place: the store has it. It was not if nothing stands there that an
        // exchange could have brought: that happens also where there was nothing to exchange, if somebody put a file
        // there in the last moment.
        let untouched = match line.old {
            State::Leaf(_) => now == Some(line.old) && now != Some(line.new),
            State::Nothing | State::Directory => matches!(now, Some(State::Nothing | State::Directory)),
        };
        if untouched || self.may_go(line, &temp)? {
            work.unlink(&temp).map_err(io)?;
            return Ok(false);
        }
        if line.new == State::Nothing && now == Some(State::Nothing) {
            put_back(work, &temp, path, self.ctx.tag).map_err(io)?;
            return Ok(true);
        }
        let copy = keep(work, &temp, path, self.ctx.tag).map_err(io)?;
        let copy = copy.into_os_string().into_encoded_bytes();
        warn(self.ctx, Some(copy), "changed while it was restored: kept".to_owned());
        Ok(false)
    }

    /// Whether what lies there is one of the two that the journal knows, or empty.
    fn may_go(&self, line: &Line, temp: &std::path::Path) -> Result<bool, Error> {
        let Ok(at) = RepoPath::parse(temp.as_os_str().as_encoded_bytes()) else { return Ok(false) };
        let Found::Leaf(entry, _) = self.found(&at, &line.path)? else { return Ok(false) };
        let state = State::of(Some(&entry));
        let is_empty = matches!(entry.node, Node::File { content: Content::Empty, .. });
        Ok(is_empty || state == line.old || state == line.new)
    }
}

/// What a journal would call it; nothing if it has no name there.
fn state(found: &Found) -> Option<State> {
    match found {
        Found::Nothing => Some(State::Nothing),
        Found::Directory(_) => Some(State::Directory),
        Found::Leaf(entry, _) => Some(State::of(Some(entry))),
        Found::Other(_) => None,
    }
}
