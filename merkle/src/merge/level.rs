//! One directory of the three trees, name by name: which names have to be looked at depends on who has the directory.

use std::cmp::Ordering;
use std::collections::HashSet;

use super::rule::Three;
use crate::diff::{Level as Pairs, Pair};
use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::path::Name;
use crate::read::DirCursor;
use crate::source::NodeSource;

/// Who has a directory. That only one side has it is not compared: it is taken or left as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) enum Dirs {
    /// The base and we; they may have deleted it, or have something else there.
    BaseAndOurs { base: TreeLink, ours: TreeLink, theirs: Option<TreeLink> },
    /// We and they, but not the base.
    OursAndTheirs { ours: TreeLink, theirs: TreeLink },
    /// The base and they: we have deleted it.
    BaseAndTheirs { base: TreeLink, theirs: TreeLink },
}

/// Which names are looked at.
enum Names<'s> {
    /// Those that we have changed: elsewhere theirs stands. Theirs is looked up.
    Changed { pairs: Pairs<'s>, theirs: Option<DirCursor<'s>> },
    /// Those on which ours and theirs differ.
    Differing { pairs: Pairs<'s> },
    /// All, since what is unchanged goes.
    All { base: Option<DirCursor<'s>>, theirs: Option<DirCursor<'s>> },
}

/// A directory that is being merged.
pub(super) struct Level<'s> {
    names: Names<'s>,
    /// What ours and theirs have, for the names of copies.
    probes: Vec<Probe<'s>>,
    /// We have deleted it.
    pub(super) deleted_here: bool,
    /// They do not have it: how it is made once something is to stand in it.
    pub(super) missing: Option<Entry>,
    /// How many changes there were when it was begun.
    pub(super) begun_at: usize,
    /// We have deleted it: whether something of theirs stays in it.
    pub(super) stays: bool,
    /// Names of conflict copies in it.
    pub(super) copies: HashSet<Name>,
}

impl<'s> Level<'s> {
    pub(super) fn new(source: &'s dyn NodeSource, dirs: Dirs, begun_at: usize) -> Self {
        let deleted_here = matches!(dirs, Dirs::BaseAndTheirs { .. });
        let (names, ours, theirs) = match dirs {
            Dirs::BaseAndOurs { base, ours, theirs } => {
                let pairs = Pairs::open(source, Some(base), Some(ours));
                let names = Names::Changed { pairs, theirs: theirs.and_then(|theirs| open(source, theirs)) };
                (names, Some(ours), theirs)
            }
            Dirs::OursAndTheirs { ours, theirs } => {
                let names = Names::Differing { pairs: Pairs::open(source, Some(theirs), Some(ours)) };
                (names, Some(ours), Some(theirs))
            }
            Dirs::BaseAndTheirs { base, theirs } => {
                (Names::All { base: open(source, base), theirs: open(source, theirs) }, None, Some(theirs))
            }
        };
        let probes = [ours, theirs].into_iter().flatten().map(|link| Probe::new(source, link)).collect();
        let (missing, copies) = (None, HashSet::new());
        Self { names, probes, deleted_here, missing, begun_at, stays: false, copies }
    }

    /// The next name that has to be looked at, in order.
    pub(super) fn next(&mut self) -> Result<Option<(Name, Three)>, WalkError> {
        Ok(match &mut self.names {
            Names::Changed { pairs, theirs } => {
                let Some((name, base, ours)) = split(pairs.next_pair()?) else { return Ok(None) };
                let theirs = match theirs {
                    Some(theirs) => theirs.find(name.as_bytes())?,
                    None => None,
                };
                Some((name, Three { base, ours, theirs }))
            }
            Names::Differing { pairs } => {
                split(pairs.next_pair()?).map(|(name, theirs, ours)| (name, Three { base: None, ours, theirs }))
            }
            Names::All { base, theirs } => {
                split(join(base, theirs)?).map(|(name, base, theirs)| (name, Three { base, ours: None, theirs }))
            }
        })
    }

    /// Whether one of the sides has a name here, or a copy has got it.
    pub(super) fn is_taken(&mut self, name: &Name) -> Result<bool, WalkError> {
        for probe in &mut self.probes {
            if probe.has(name)? {
                return Ok(true);
            }
        }
        Ok(self.copies.contains(name))
    }
}

/// Answers for names in any order, and cheaply for those that ascend, as names of copies mostly do.
struct Probe<'s> {
    source: &'s dyn NodeSource,
    link: TreeLink,
    dir: Option<DirCursor<'s>>,
    last: Option<Name>,
}

impl<'s> Probe<'s> {
    fn new(source: &'s dyn NodeSource, link: TreeLink) -> Self {
        Self { source, link, dir: open(source, link), last: None }
    }

    fn has(&mut self, name: &Name) -> Result<bool, WalkError> {
        if self.last.as_ref() >= Some(name) {
            self.dir = open(self.source, self.link);
        }
        self.last = Some(name.clone());
        Ok(self.dir.as_mut().map(|dir| dir.find(name.as_bytes())).transpose()?.flatten().is_some())
    }
}

/// The empty directory need not be there.
fn open(source: &dyn NodeSource, link: TreeLink) -> Option<DirCursor<'_>> {
    (link != TreeLink::empty()).then(|| DirCursor::new(source, &link))
}

fn split(pair: Pair) -> Option<(Name, Option<Entry>, Option<Entry>)> {
    let (a, b) = pair;
    let name = a.as_ref().or(b.as_ref()).map(|(name, _)| name.clone())?;
    Some((name, a.map(|(_, entry)| entry), b.map(|(_, entry)| entry)))
}

/// The next name of either, equal or not.
fn join(a: &mut Option<DirCursor<'_>>, b: &mut Option<DirCursor<'_>>) -> Result<Pair, WalkError> {
    fn peek<'c>(dir: &'c mut Option<DirCursor<'_>>) -> Result<Option<&'c Name>, WalkError> {
        Ok(dir.as_mut().map(DirCursor::peek).transpose()?.flatten().map(|(name, _)| name))
    }
    let order = match (peek(a)?, peek(b)?) {
        (Some(a), Some(b)) => a.cmp(b),
        (Some(_), None) => Ordering::Less,
        (None, _) => Ordering::Greater,
    };
    let take = |dir: &mut Option<DirCursor<'_>>, is_first: bool| match dir {
        Some(dir) if is_first => dir.next().transpose(),
        _ => Ok(None),
    };
    Ok((take(a, order.is_le())?, take(b, order.is_ge())?))
}
