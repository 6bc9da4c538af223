//! Comparing two trees. What has the same id on both sides is not read: whole directories, and within large directories
//! whole nodes. Two neighbours of a million entries differ in a few nodes.

use crate::entry::{Entry, TreeLink};
use crate::error::WalkError;
use crate::parts::{Follow, Parts, Way};
use crate::path::{Name, RepoPath};
use crate::read::Cursor;
use crate::source::NodeSource;
use crate::walk::DEPTH_MAX;

/// One path that differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Which path.
    pub path: RepoPath,
    /// What was there.
    pub old: Option<Entry>,
    /// What is there.
    pub new: Option<Entry>,
}

/// The changes from one tree to another in path order, a directory before what it contains; an iterator. It ends after
/// an error.
///
/// A directory that both sides have is reported if mode or attributes differ. One that only one side has is reported
/// with [`Diff::with_directories`] only; what it contains always is.
pub struct Diff<'s> {
    source: &'s dyn NodeSource,
    levels: Vec<Level<'s>>,
    /// Of each level, where it stands on the way to the parts that are compared; none within them.
    ways: Vec<Option<Way>>,
    parts: &'s Parts,
    /// The directory that the last of the levels compares.
    path: RepoPath,
    with_directories: bool,
    with_mtimes: bool,
    /// The last level was opened for the change reported last.
    entered: bool,
}

/// One directory on both sides, as far as it is there.
pub(crate) struct Level<'s> {
    old: Option<Cursor<'s>>,
    new: Option<Cursor<'s>>,
}

/// What two sides say of one name.
pub(crate) type Pair = (Option<(Name, Entry)>, Option<(Name, Entry)>);

static WHOLE: Parts = Parts::whole();

/// Compares two trees; `None` is the empty tree.
pub fn diff<'s>(source: &'s dyn NodeSource, old: Option<TreeLink>, new: Option<TreeLink>) -> Diff<'s> {
    let (path, levels, ways) = (RepoPath::root(), Vec::new(), vec![None]);
    let (with_directories, with_mtimes, entered) = (false, false, false);
    let mut diff = Diff { source, levels, ways, parts: &WHOLE, path, with_directories, with_mtimes, entered };
    if old.map(|link| link.id) != new.map(|link| link.id) {
        diff.levels.push(Level::open(source, old, new));
    }
    diff
}

impl<'s> Diff<'s> {
    /// Whether directories that only one side has are reported themselves. A path that is a directory on one side and
    /// something else on the other is reported in any case.
    #[must_use]
    pub fn with_directories(mut self) -> Self {
        self.with_directories = true;
        self
    }

    /// Reports also entries of which only the mtime differs.
    #[must_use]
    pub fn with_mtimes(mut self) -> Self {
        self.with_mtimes = true;
        self
    }

    /// Compares parts only; `way` is where on the way to them the two trees stand, none if within one. What is no part is
    /// neither reported nor read.
    #[must_use]
    pub fn within(mut self, parts: &'s Parts, way: Option<Way>) -> Self {
        (self.parts, self.ways) = (parts, vec![way]);
        self
    }

    /// Leaves out what is below the directory that the last call of `next` reported.
    pub fn prune(&mut self) {
        if std::mem::take(&mut self.entered) {
            self.leave();
        }
    }

    fn leave(&mut self) {
        self.levels.pop();
        self.ways.pop();
        self.path.pop();
    }

    /// Goes into directories that differ; whether it did.
    fn enter(
        &mut self,
        name: &Name,
        way: Option<Way>,
        old: Option<&Entry>,
        new: Option<&Entry>,
    ) -> Result<bool, WalkError> {
        let old = old.and_then(Entry::as_directory).copied();
        let new = new.and_then(Entry::as_directory).copied();
        if old.map(|link| link.id) == new.map(|link| link.id) {
            return Ok(false);
        }
        if let Some(link) = new.or(old)
            && self.levels.len() > DEPTH_MAX
        {
            return Err(WalkError::TooDeep { id: link.id.0, max: DEPTH_MAX });
        }
        self.levels.push(Level::open(self.source, old, new));
        self.ways.push(way);
        self.path.push(name);
        Ok(true)
    }

    /// The next change, if the pair of entries is one to report.
    fn judge(&mut self, pair: Pair) -> Result<Option<Change>, WalkError> {
        let (old, new) = pair;
        let Some(name) = old.as_ref().or(new.as_ref()).map(|(name, _)| name.clone()) else {
            return Ok(None);
        };
        let (old, new) = (old.map(|(_, entry)| entry), new.map(|(_, entry)| entry));
        let way = match self.ways.last().copied().flatten().map(|way| self.parts.follow(way, &name)) {
            None | Some(Follow::In) => None,
            Some(Follow::On(way)) => Some(way),
            Some(Follow::Out) => {
                self.entered = false;
                return Ok(None);
            }
        };
        let report = match (&old, &new) {
            (Some(old), Some(new)) if old.is_directory() && new.is_directory() => {
                old.mode != new.mode || old.attrs != new.attrs
            }
            (Some(old), Some(new)) => self.with_mtimes || !old.same(new),
            (Some(one), None) | (None, Some(one)) => self.with_directories || !one.is_directory(),
            (None, None) => false,
        };
        // What stands on the way is none of the parts.
        let path = (report && way.is_none()).then(|| self.path.join(&name));
        self.entered = self.enter(&name, way, old.as_ref(), new.as_ref())?;
        Ok(path.map(|path| Change { path, old, new }))
    }

    fn advance(&mut self) -> Result<Option<Change>, WalkError> {
        while let Some(level) = self.levels.last_mut() {
            self.entered = false;
            match level.next_pair()? {
                (None, None) => self.leave(),
                pair => {
                    if let Some(change) = self.judge(pair)? {
                        return Ok(Some(change));
                    }
                }
            }
        }
        Ok(None)
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Change, WalkError>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.levels.clear();
            self.entered = false;
        }
        next.transpose()
    }
}

impl<'s> Level<'s> {
    pub(crate) fn open(source: &'s dyn NodeSource, old: Option<TreeLink>, new: Option<TreeLink>) -> Self {
        // The empty directory need not be read, so that nobody has to store it in order to compare with it.
        let open = |link: Option<TreeLink>| {
            link.filter(|link| *link != TreeLink::empty()).map(|link| Cursor::new(source, link))
        };
        Self { old: open(old), new: open(new) }
    }

    /// The next name of which the two sides say different things, and what they say; nothing at the end.
    pub(crate) fn next_pair(&mut self) -> Result<Pair, WalkError> {
        loop {
            let (Some(old), Some(new)) = (&mut self.old, &mut self.new) else {
                let next = |side: &mut Option<Cursor<'_>>| side.as_mut().map(Cursor::next_entry).transpose();
                return Ok((next(&mut self.old)?.flatten(), next(&mut self.new)?.flatten()));
            };
            if skip_or_descend(old, new)? {
                continue;
            }
            match (old.peek()?, new.peek()?) {
                (Some((a, _)), Some((b, _))) if a < b => return Ok((old.next_entry()?, None)),
                (Some((a, _)), Some((b, _))) if a > b => return Ok((None, new.next_entry()?)),
                (Some((_, a)), Some((_, b))) => {
                    let equal = a == b;
                    let pair = (old.next_entry()?, new.next_entry()?);
                    if !equal {
                        return Ok(pair);
                    }
                }
                (Some(_), None) => return Ok((old.next_entry()?, None)),
                (None, _) => return Ok((None, new.next_entry()?)),
            }
        }
    }
}

/// Where both sides stand before a node: passes it if it is the same, and opens the higher one otherwise. Whether it did
/// anything.
fn skip_or_descend(old: &mut Cursor<'_>, new: &mut Cursor<'_>) -> Result<bool, WalkError> {
    let (Some(a), Some(b)) = (old.pending(), new.pending()) else {
        return Ok(false);
    };
    if a.id == b.id && a.level == b.level {
        old.skip();
        new.skip();
        return Ok(true);
    }
    let (a, b) = (a.level, b.level);
    if a == 0 && b == 0 {
        return Ok(false);
    }
    if a >= b {
        old.descend()?;
    }
    if b >= a {
        new.descend()?;
    }
    Ok(true)
}
