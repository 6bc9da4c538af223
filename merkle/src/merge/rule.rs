//! What becomes of one name. Pure; directories that are compared name by name are not its concern.

use super::ConflictKind;
use crate::entry::{Entry, Mode};
use crate::id::AttrsId;

/// What the three trees say of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Three {
    pub(super) base: Option<Entry>,
    pub(super) ours: Option<Entry>,
    pub(super) theirs: Option<Entry>,
}

/// Which version of a name stands.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Theirs, or both alike.
    Theirs,
    /// Ours, which may be that there is nothing.
    Ours,
    /// What one side has changed together with what the other has.
    Combined(Entry),
    /// Neither.
    Conflict(ConflictKind),
}

/// Decides, two directories on both sides aside. `unchanged` says whether a side has what the base has: ours, theirs.
pub(super) fn judge(three: &Three, unchanged: (bool, bool)) -> Verdict {
    let Three { base, ours, theirs } = three;
    match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours.is_directory() == theirs.is_directory() => {
            match combine(base.as_ref(), ours, theirs) {
                Some(entry) => Verdict::Combined(entry),
                None if base.is_some() => Verdict::Conflict(ConflictKind::BothChanged),
                None => Verdict::Conflict(ConflictKind::BothAdded),
            }
        }
        _ if unchanged.0 => Verdict::Theirs,
        _ if unchanged.1 => Verdict::Ours,
        (None, None) => Verdict::Theirs,
        (Some(_), None) => Verdict::Conflict(ConflictKind::DeletedThere),
        (None, Some(_)) => Verdict::Conflict(ConflictKind::DeletedHere),
        (Some(ours), Some(_)) if ours.is_directory() => Verdict::Conflict(ConflictKind::DirectoryHere),
        (Some(_), Some(_)) => Verdict::Conflict(ConflictKind::DirectoryThere),
    }
}

/// Mode, attributes and content, each from the side that has changed it; `None` if both have changed one of them.
///
/// The mtime goes with the content. It is never a conflict: of two times that fit the same content, theirs stays.
fn combine(base: Option<&Entry>, ours: &Entry, theirs: &Entry) -> Option<Entry> {
    let is_base = |side: &Entry| base.is_some_and(|base| base.same(side));
    if !is_alike(ours, theirs) {
        // Mode and attributes mean another thing for each kind: they cannot be had from different sides.
        return if is_base(ours) { Some(theirs.clone()) } else { is_base(theirs).then(|| ours.clone()) };
    }
    let base = base.filter(|base| is_alike(base, ours));
    let has_base = |side: &Entry| base.is_some_and(|base| base.has_content_of(side));
    let content = if ours.has_content_of(theirs) {
        let untouched_there = base.is_some_and(|base| base.has_content_of(theirs) && base.mtime() == theirs.mtime());
        if untouched_there { ours } else { theirs }
    } else if has_base(ours) {
        theirs
    } else if has_base(theirs) {
        ours
    } else {
        return None;
    };
    let own = Own::combine(base.map(Own::of), Own::of(ours), Own::of(theirs)).ok()?;
    Some(own.with_node_of(content))
}

/// Whether both are files, both symlinks, or both directories.
fn is_alike(a: &Entry, b: &Entry) -> bool {
    std::mem::discriminant(&a.node) == std::mem::discriminant(&b.node)
}

/// Mode and attributes: what an entry is apart from its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Own {
    pub(super) mode: Mode,
    pub(super) attrs: Option<AttrsId>,
}

impl Own {
    pub(super) fn of(entry: &Entry) -> Self {
        Self { mode: entry.mode, attrs: entry.attrs }
    }

    pub(super) fn with_node_of(self, entry: &Entry) -> Entry {
        Entry { mode: self.mode, attrs: self.attrs, node: entry.node.clone() }
    }

    /// Each from the side that has changed it. The error is the same with theirs where both have.
    pub(super) fn combine(base: Option<Self>, ours: Self, theirs: Self) -> Result<Self, Self> {
        let mode = pick(base.map(|base| base.mode), ours.mode, theirs.mode);
        let attrs = pick(base.map(|base| base.attrs), ours.attrs, theirs.attrs);
        let own = Self { mode: mode.unwrap_or(theirs.mode), attrs: attrs.unwrap_or(theirs.attrs) };
        if mode.is_some() && attrs.is_some() { Ok(own) } else { Err(own) }
    }
}

fn pick<T: PartialEq>(base: Option<T>, ours: T, theirs: T) -> Option<T> {
    if ours == theirs || base.as_ref() == Some(&ours) { Some(theirs) } else { (base == Some(theirs)).then_some(ours) }
}

/// Whether ours has content or attributes that neither theirs nor the base has. If it has not, no copy is made of it.
pub(super) fn has_data_of_its_own(three: &Three) -> bool {
    let Some(ours) = &three.ours else { return false };
    let mut others = [&three.base, &three.theirs].into_iter().flatten();
    let mut again = others.clone();
    ours.is_directory()
        || !others.any(|other| other.has_content_of(ours))
        || (ours.attrs.is_some() && !again.any(|other| other.attrs == ours.attrs))
}
