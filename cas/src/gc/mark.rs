//! Marking: from the roots to all that they lead to.
//!
//! It fails closed. A tree, list or commit that is missing or damaged might lead to anything, and what an index
//! denies may have been lost by the index: in both cases nothing may be removed. A chunk whose bytes are bad leads nowhere
//! else: its pack stays, and that is all. Who has a partial copy says what may be missing; that is passed over where the index
//! does not know it, and fails like everything else if it is there and bad. What is recorded as lost is passed over in either case.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::live::{LiveSet, Noted};
use super::{GcError, Roots};
use crate::error::GetError;
use crate::hash::{ContentHash, Kind};
use crate::store::Inner;

/// Objects between two looks at whether to stop.
const STEP: u64 = 1024;
/// How often all is followed again since the index turned out to be wrong.
const TRIES: usize = 3;

/// Called now and then with the number of objects since; may end the work.
pub type Step<'a> = dyn Fn(u64, u64) -> ControlFlow<()> + Sync + 'a;

/// What was met on the way.
#[derive(Debug, Default)]
pub struct Marked {
    /// Live chunks that cannot be read, and what is recorded as lost.
    pub bad: HashSet<ContentHash>,
    /// Listed as damaged, and not met: nothing needs them.
    pub unneeded: HashSet<ContentHash>,
}

/// Notes all that the roots lead to, with the same index from the beginning to the end.
pub fn mark(inner: &Inner, live: &LiveSet, roots: &Roots, step: &Step<'_>) -> Result<Marked, GcError> {
    for _ in 0..TRIES {
        let index = inner.index();
        let mut walk = Walk {
            inner,
            live,
            shallow: &roots.shallow,
            absent: &roots.absent,
            lost: &roots.lost,
            open: Vec::new(),
            foreign: HashSet::new(),
            marked: Marked { unneeded: inner.listed_damage(), ..Marked::default() },
            since: 0,
            step,
        };
        for (kind, id) in &roots.objects {
            walk.meet(*kind, *id)?;
        }
        walk.run()?;
        if Arc::ptr_eq(&index, &inner.index()) {
            return Ok(walk.marked);
        }
        live.unfollow();
    }
    Err(GetError::Index("it was found wrong again and again".to_owned()).into())
}

struct Walk<'a> {
    inner: &'a Inner,
    live: &'a LiveSet,
    shallow: &'a HashSet<ContentHash>,
    absent: &'a HashSet<ContentHash>,
    lost: &'a HashSet<ContentHash>,
    /// Metadata to be followed.
    open: Vec<(Kind, ContentHash)>,
    /// What has been followed in packs that came later.
    foreign: HashSet<ContentHash>,
    marked: Marked,
    since: u64,
    step: &'a Step<'a>,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), GcError> {
        while let Some((kind, id)) = self.open.pop() {
            let object = match self.inner.get(kind, &id) {
                Err(error) if self.is_lost(&id, &error) => {
                    self.marked.bad.insert(id);
                    continue;
                }
                object => object?,
            };
            let children = self.inner.schema.children(kind, &object);
            let children = children.map_err(|cause| {
                let place = self.inner.schema.name(kind).to_owned();
                GetError::Corrupt { id, place, cause }
            })?;
            drop(object);
            let is_shallow = self.shallow.contains(&id);
            for (child_kind, child) in children {
                if !is_shallow || child_kind == kind {
                    self.meet(child_kind, child)?;
                }
            }
        }
        Ok(())
    }

    fn is_lost(&self, id: &ContentHash, error: &GetError) -> bool {
        error.is_damage() && self.lost.contains(id)
    }

    /// Notes an object; metadata is followed the first time.
    fn meet(&mut self, kind: Kind, id: ContentHash) -> Result<(), GcError> {
        self.since += 1;
        if self.since == STEP && (self.step)(std::mem::take(&mut self.since), 0).is_break() {
            return Err(GcError::Stopped);
        }
        if !self.marked.unneeded.is_empty() {
            self.marked.unneeded.remove(&id);
        }
        match self.note(kind, &id)? {
            Noted::New if !kind.is_chunk() => self.open.push((kind, id)),
            Noted::New | Noted::Known => {}
            Noted::Foreign | Noted::Unplaced => self.meet_elsewhere(kind, id)?,
        }
        Ok(())
    }

    fn note(&self, kind: Kind, id: &ContentHash) -> Result<Noted, GcError> {
        match self.inner.locate(id)? {
            Some(location) if location.kind != kind => {
                Err(GetError::WrongKind { id: *id, wanted: kind, found: location.kind }.into())
            }
            Some(location) if kind.is_chunk() => Ok(self.live.note(id, &location)),
            Some(location) => Ok(self.live.follow(id, &location)),
            None => Ok(Noted::Unplaced),
        }
    }

    /// An object that lies in none of the packs in question, as the index has it: it is read, to see whether it lies
    /// there indeed. That may have the index corrected, or another copy taken.
    fn meet_elsewhere(&mut self, kind: Kind, id: ContentHash) -> Result<(), GcError> {
        if self.foreign.contains(&id) || (self.absent.contains(&id) && self.inner.locate(&id)?.is_none()) {
            return Ok(());
        }
        match self.inner.get(kind, &id) {
            Ok(_) => {}
            Err(error) if self.is_lost(&id, &error) => return Ok(()),
            // What has a place has a pack, and that stays.
            Err(error @ GetError::Corrupt { .. }) if kind.is_chunk() && self.inner.locate(&id)?.is_some() => {
                drop(error);
                self.marked.bad.insert(id);
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        match self.note(kind, &id)? {
            Noted::Known => {}
            Noted::New if kind.is_chunk() => {}
            Noted::New => self.open.push((kind, id)),
            Noted::Foreign => {
                self.foreign.insert(id);
                if !kind.is_chunk() {
                    self.open.push((kind, id));
                }
            }
            // It reads well, from a place that cannot be told: then nothing can.
            Noted::Unplaced => return Err(GetError::Index("it does not say where objects lie".to_owned()).into()),
        }
        Ok(())
    }
}
