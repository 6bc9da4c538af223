//! Goes down where the trees differ and gathers changes and conflicts.

use super::level::{Dirs, Level};
use super::rule::{Own, Three, Verdict, has_data_of_its_own, judge};
use super::{Conflict, ConflictKind, ConflictTag, Plan, Sides, Strategy};
use crate::diff::diff;
use crate::entry::{Entry, Node, TreeLink};
use crate::error::WalkError;
use crate::path::{Name, RepoPath};
use crate::source::NodeSource;
use crate::walk::DEPTH_MAX;

/// A merge on its way.
pub(super) struct Merger<'s, 't> {
    source: &'s dyn NodeSource,
    strategy: Strategy,
    tag: ConflictTag<'t>,
    levels: Vec<Level<'s>>,
    /// The directory of the last of the levels.
    path: RepoPath,
    plan: Plan,
}

impl<'s, 't> Merger<'s, 't> {
    pub(super) fn new(source: &'s dyn NodeSource, strategy: Strategy, tag: ConflictTag<'t>) -> Self {
        Self { source, strategy, tag, levels: Vec::new(), path: RepoPath::root(), plan: Plan::default() }
    }

    /// The plan, changes not in order yet.
    pub(super) fn run(mut self, sides: Sides) -> Result<Plan, WalkError> {
        let Sides { base, ours, theirs } = sides;
        if ours.id == theirs.id || base.is_some_and(|base| base.id == ours.id) {
            return Ok(self.plan);
        }
        let dirs = match base {
            Some(base) => Dirs::BaseAndOurs { base, ours, theirs: Some(theirs) },
            None => Dirs::OursAndTheirs { ours, theirs },
        };
        self.levels.push(Level::new(self.source, dirs, 0));
        while let Some(level) = self.levels.last_mut() {
            match level.next()? {
                Some((name, three)) => self.visit(&name, three)?,
                None => self.leave(),
            }
        }
        Ok(self.plan)
    }

    fn visit(&mut self, name: &Name, three: Three) -> Result<(), WalkError> {
        let dir = |entry: &Option<Entry>| entry.as_ref().and_then(Entry::as_directory).copied();
        match (dir(&three.base), dir(&three.ours), dir(&three.theirs)) {
            (base, Some(ours), Some(theirs)) => self.both(name, three, base, ours, theirs),
            (Some(base), Some(ours), None) if three.theirs.is_none() => self.deleted_there(name, three, base, ours),
            (Some(base), None, Some(theirs)) if three.ours.is_none() => self.deleted_here(name, three, base, theirs),
            _ => self.one(name, three),
        }
    }

    /// Both have the directory.
    fn both(
        &mut self,
        name: &Name,
        three: Three,
        base: Option<TreeLink>,
        ours: TreeLink,
        theirs: TreeLink,
    ) -> Result<(), WalkError> {
        let path = self.path.join(name);
        let (Some(our_entry), Some(their_entry)) = (&three.ours, &three.theirs) else { return Ok(()) };
        let (our_own, their_own) = (Own::of(our_entry), Own::of(their_entry));
        let base_own = three.base.as_ref().filter(|_| base.is_some()).map(Own::of);
        let own = Own::combine(base_own, our_own, their_own);
        let own_stands = match (own, self.strategy) {
            (Err(_), Strategy::Ours) => our_own,
            (Ok(own) | Err(own), _) => own,
        };
        let only_here = base.is_some_and(|base| base.id == theirs.id);
        let entry = own_stands.with_node_of(if only_here { our_entry } else { their_entry });
        let differs = entry != *their_entry;
        if own.is_err() {
            let kind = if base.is_some() { ConflictKind::BothChanged } else { ConflictKind::BothAdded };
            let kept = (self.strategy == Strategy::Ours).then(|| path.clone());
            self.conflict(path.clone(), kind, three, kept);
        }
        if differs {
            self.change(path, Some(entry));
        }
        if only_here || ours.id == theirs.id || base.is_some_and(|base| base.id == ours.id) {
            return Ok(());
        }
        let dirs = match base {
            Some(base) => Dirs::BaseAndOurs { base, ours, theirs: Some(theirs) },
            None => Dirs::OursAndTheirs { ours, theirs },
        };
        self.enter(name, dirs)
    }

    /// They have deleted the directory; what we have changed or added in it is looked for.
    fn deleted_there(&mut self, name: &Name, three: Three, base: TreeLink, ours: TreeLink) -> Result<(), WalkError> {
        let (Some(base_entry), Some(our_entry)) = (&three.base, &three.ours) else { return Ok(()) };
        let own = Own::of(our_entry);
        let changed = Own::of(base_entry) != own;
        self.enter(name, Dirs::BaseAndOurs { base, ours, theirs: None })?;
        if let Some(level) = self.levels.last_mut() {
            level.missing = Some(Entry { node: Node::Directory(TreeLink::empty()), ..our_entry.clone() });
        }
        if changed {
            let stays = self.strategy == Strategy::Ours;
            if stays {
                self.make_missing();
            }
            let kept = stays.then(|| self.path.clone());
            self.conflict(self.path.clone(), ConflictKind::DeletedThere, three, kept);
        }
        Ok(())
    }

    /// We have deleted the directory; what they have not changed in it goes.
    fn deleted_here(&mut self, name: &Name, three: Three, base: TreeLink, theirs: TreeLink) -> Result<(), WalkError> {
        let (Some(base_entry), Some(their_entry)) = (&three.base, &three.theirs) else { return Ok(()) };
        let changed = Own::of(base_entry) != Own::of(their_entry);
        if !changed && base.id == theirs.id {
            self.change(self.path.join(name), None);
            return Ok(());
        }
        self.enter(name, Dirs::BaseAndTheirs { base, theirs })?;
        if changed {
            if let Some(level) = self.levels.last_mut() {
                level.stays = self.strategy != Strategy::Ours;
            }
            self.conflict(self.path.clone(), ConflictKind::DeletedHere, three, None);
        }
        Ok(())
    }

    /// Anything but directories that are compared name by name.
    fn one(&mut self, name: &Name, three: Three) -> Result<(), WalkError> {
        let unchanged = (
            is_unchanged(self.source, three.base.as_ref(), three.ours.as_ref())?,
            is_unchanged(self.source, three.base.as_ref(), three.theirs.as_ref())?,
        );
        let path = self.path.join(name);
        let stands = match judge(&three, unchanged) {
            Verdict::Theirs => three.theirs.clone(),
            Verdict::Ours => three.ours.clone(),
            Verdict::Combined(entry) => Some(entry),
            Verdict::Conflict(kind) => return self.disagree(name, kind, three),
        };
        self.settle(path, three.theirs.as_ref(), stands);
        Ok(())
    }

    fn disagree(&mut self, name: &Name, kind: ConflictKind, three: Three) -> Result<(), WalkError> {
        let path = self.path.join(name);
        let (stands, kept) = match self.strategy {
            Strategy::Ours => (three.ours.clone(), three.ours.is_some().then(|| path.clone())),
            Strategy::Copies if has_data_of_its_own(&three) => {
                let copy = self.copy_name(name)?;
                self.change(copy.clone(), three.ours.clone());
                (three.theirs.clone(), Some(copy))
            }
            Strategy::Copies | Strategy::Theirs | Strategy::Fail => (three.theirs.clone(), None),
        };
        self.settle(path.clone(), three.theirs.as_ref(), stands);
        self.conflict(path, kind, three, kept);
        Ok(())
    }

    /// A name that nobody has in the directory that is being merged.
    fn copy_name(&mut self, name: &Name) -> Result<RepoPath, WalkError> {
        let Some(level) = self.levels.last_mut() else { return Ok(self.path.join(name)) };
        let mut number = 1;
        loop {
            let copy = Name::new(&self.tag.copy_name(name.as_bytes(), number))
                .expect("what the name of a copy is made of leaves it valid");
            if !level.is_taken(&copy)? {
                level.copies.insert(copy.clone());
                return Ok(self.path.join(&copy));
            }
            number += 1;
        }
    }

    /// What stands at a path of which all is known.
    fn settle(&mut self, path: RepoPath, theirs: Option<&Entry>, stands: Option<Entry>) {
        if let Some(level) = self.levels.last_mut() {
            level.stays |= stands.is_some();
        }
        if theirs != stands.as_ref() {
            self.change(path, stands);
        }
    }

    fn change(&mut self, path: RepoPath, entry: Option<Entry>) {
        if entry.is_some() {
            self.make_missing();
        }
        self.plan.changes.push((path, entry));
    }

    /// Has the directories made that they do not have, down to where something is to stand.
    fn make_missing(&mut self) {
        // Those that are to be made are the last ones: below what they do not have they have nothing.
        let first = self.levels.iter().rposition(|level| level.missing.is_none()).map_or(0, |at| at + 1);
        let mut made = Vec::new();
        let mut path = self.path.clone();
        for level in self.levels.iter_mut().skip(first).rev() {
            made.push((path.clone(), level.missing.take()));
            path.pop();
        }
        self.plan.changes.extend(made.into_iter().rev());
    }

    fn conflict(&mut self, path: RepoPath, kind: ConflictKind, three: Three, kept: Option<RepoPath>) {
        let Three { base, ours, theirs } = three;
        self.plan.conflicts.push(Conflict { path, kind, base, ours, theirs, kept });
    }

    fn enter(&mut self, name: &Name, dirs: Dirs) -> Result<(), WalkError> {
        if self.levels.len() > DEPTH_MAX {
            let (Dirs::BaseAndOurs { ours: link, .. }
            | Dirs::OursAndTheirs { ours: link, .. }
            | Dirs::BaseAndTheirs { theirs: link, .. }) = dirs;
            return Err(WalkError::TooDeep { id: link.id.0, max: DEPTH_MAX });
        }
        self.levels.push(Level::new(self.source, dirs, self.plan.changes.len()));
        self.path.push(name);
        Ok(())
    }

    fn leave(&mut self) {
        let Some(level) = self.levels.pop() else { return };
        if level.deleted_here {
            if !level.stays {
                // All that is in it goes with it.
                self.plan.changes.truncate(level.begun_at);
                self.plan.changes.push((self.path.clone(), None));
            } else if let Some(above) = self.levels.last_mut() {
                above.stays = true;
            }
        }
        self.path.pop();
    }
}

/// Whether a side has what the base has. Of directories all below is compared, as far as ids differ, without mtimes.
fn is_unchanged(source: &dyn NodeSource, base: Option<&Entry>, side: Option<&Entry>) -> Result<bool, WalkError> {
    let (Some(base), Some(side)) = (base, side) else { return Ok(base.is_none() && side.is_none()) };
    let (Some(before), Some(after)) = (base.as_directory(), side.as_directory()) else { return Ok(base.same(side)) };
    if Own::of(base) != Own::of(side) {
        return Ok(false);
    }
    match diff(source, Some(*before), Some(*after)).with_directories().next() {
        Some(first) => first.map(|_| false),
        None => Ok(true),
    }
}
