//! What a merge is, said with maps: no ids, no nodes, no order of writing.

use std::collections::{BTreeMap, BTreeSet};

use filesync_merkle::{
    AttrsId, ConflictKind, ConflictTag, DirCursor, Entry, Mode, Name, Node, RepoPath, Strategy, Timestamp, TreeLink,
    edit_paths, testing::MemoryStore,
};

pub const TAG: ConflictTag<'static> = ConflictTag { node: "n", date: "d" };

/// A directory; entries of directories have no link, and only they have something below.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Dir(pub BTreeMap<Name, (Entry, Dir)>);

impl Dir {
    pub fn read(store: &MemoryStore, link: &TreeLink) -> Self {
        let read = |item: Result<(Name, Entry), _>| {
            let (name, entry) = item.unwrap();
            match entry.as_directory() {
                Some(below) => (name, (blank(&entry), Self::read(store, below))),
                None => (name, (entry, Self::default())),
            }
        };
        // Where nothing is, nobody need have stored that.
        let entries = (*link != TreeLink::empty()).then(|| DirCursor::new(store, link));
        Self(entries.into_iter().flatten().map(read).collect())
    }

    pub fn build(&self, store: &MemoryStore) -> TreeLink {
        let changes = self.flat().into_iter().map(|(path, entry)| (path, Some(entry)));
        edit_paths(store, &mut &*store, None, changes).unwrap()
    }

    pub fn flat(&self) -> BTreeMap<RepoPath, Entry> {
        let mut found = BTreeMap::new();
        self.flatten(&RepoPath::root(), &mut found);
        found
    }

    fn flatten(&self, at: &RepoPath, found: &mut BTreeMap<RepoPath, Entry>) {
        for (name, (entry, below)) in &self.0 {
            let path = at.join(name);
            below.flatten(&path, found);
            found.insert(path, entry.clone());
        }
    }
}

fn blank(entry: &Entry) -> Entry {
    Entry { node: Node::Directory(TreeLink::empty()), ..entry.clone() }
}

/// Without times, with all below.
fn timeless(side: Option<&(Entry, Dir)>) -> Option<(Entry, BTreeMap<RepoPath, Entry>)> {
    let still = |entry: Entry| entry.with_mtime(Timestamp::default());
    side.map(|(entry, below)| {
        (still(entry.clone()), below.flat().into_iter().map(|(path, entry)| (path, still(entry))).collect())
    })
}

fn three_way<T: PartialEq + Clone>(base: Option<&T>, ours: &T, theirs: &T) -> Result<T, ()> {
    match (ours == theirs, base == Some(ours), base == Some(theirs)) {
        (true, ..) | (_, true, _) => Ok(theirs.clone()),
        (_, _, true) => Ok(ours.clone()),
        _ => Err(()),
    }
}

type Parts = (Node, Mode, Option<AttrsId>);

fn parts(entry: &Entry) -> Parts {
    let still = entry.clone().with_mtime(Timestamp::default());
    (still.node, still.mode, still.attrs)
}

/// Files or symlinks on both sides.
fn leaf(base: Option<&Entry>, ours: &Entry, theirs: &Entry) -> Result<Entry, ()> {
    let kind = |entry: &Entry| matches!(entry.node, Node::File { .. });
    let [o, t] = [parts(ours), parts(theirs)];
    if kind(ours) != kind(theirs) {
        let whole = three_way(base.map(parts).as_ref(), &o, &t)?;
        return Ok(if whole == o { ours.clone() } else { theirs.clone() });
    }
    let base = base.filter(|base| !base.is_directory() && kind(base) == kind(ours));
    let b = base.map(parts);
    let node = three_way(b.as_ref().map(|b| &b.0), &o.0, &t.0)?;
    let mode = three_way(b.as_ref().map(|b| &b.1), &o.1, &t.1)?;
    let attrs = three_way(b.as_ref().map(|b| &b.2), &o.2, &t.2)?;
    let untouched = base.is_some_and(|base| base.mtime() == theirs.mtime() && parts(base).0 == t.0);
    let from = if node != t.0 || (o.0 == t.0 && untouched) { ours } else { theirs };
    Ok(Entry { mode, attrs, node: from.node.clone() })
}

pub struct Model {
    pub strategy: Strategy,
    pub conflicts: Vec<(RepoPath, ConflictKind)>,
    /// Which copies were made of which paths.
    pub copies: BTreeMap<RepoPath, RepoPath>,
}

impl Model {
    pub fn merge(&mut self, at: &RepoPath, base: &Dir, ours: &Dir, theirs: &Dir) -> Dir {
        let mut merged = Dir::default();
        let names: BTreeSet<_> = [base, ours, theirs].into_iter().flat_map(|dir| dir.0.keys()).collect();
        for name in names {
            let path = at.join(name);
            let sides = [base, ours, theirs].map(|dir| dir.0.get(name));
            if let Some(stands) = self.name(&path, sides, [ours, theirs], &mut merged) {
                merged.0.insert(name.clone(), stands);
            }
        }
        merged
    }

    fn name(
        &mut self,
        path: &RepoPath,
        sides: [Option<&(Entry, Dir)>; 3],
        dirs: [&Dir; 2],
        merged: &mut Dir,
    ) -> Option<(Entry, Dir)> {
        let dir = |side: Option<&(Entry, Dir)>| side.is_some_and(|(entry, _)| entry.is_directory());
        let [base, ours, theirs] = sides;
        let below = |side: Option<&(Entry, Dir)>| side.map(|(_, below)| below.clone()).unwrap_or_default();
        let base_dir = base.filter(|_| dir(base));
        let prefers_ours = self.strategy == Strategy::Ours;
        let own = |entry: &Entry| (entry.mode, entry.attrs);
        match (ours, theirs) {
            (Some((o, _)), Some((t, _))) if dir(ours) && dir(theirs) => {
                let b = base_dir.map(|(b, _)| b);
                let mode = three_way(b.map(|b| &b.mode), &o.mode, &t.mode);
                let attrs = three_way(b.map(|b| &b.attrs), &o.attrs, &t.attrs);
                if mode.is_err() || attrs.is_err() {
                    let kind = if base_dir.is_some() { ConflictKind::BothChanged } else { ConflictKind::BothAdded };
                    self.conflicts.push((path.clone(), kind));
                }
                let entry = match prefers_ours && (mode.is_err() || attrs.is_err()) {
                    true => o.clone(),
                    false => {
                        Entry { mode: mode.unwrap_or(t.mode), attrs: attrs.unwrap_or(t.attrs), node: t.node.clone() }
                    }
                };
                Some((entry, self.merge(path, &below(base_dir), &below(ours), &below(theirs))))
            }
            (Some((o, _)), None) if dir(ours) && base_dir.is_some() => {
                let changed = base_dir.is_some_and(|(b, _)| own(b) != own(o));
                self.conflicts.extend(changed.then_some((path.clone(), ConflictKind::DeletedThere)));
                let below = self.merge(path, &below(base_dir), &below(ours), &Dir::default());
                (!below.0.is_empty() || (changed && prefers_ours)).then(|| (o.clone(), below))
            }
            (None, Some((t, _))) if dir(theirs) && base_dir.is_some() => {
                let changed = base_dir.is_some_and(|(b, _)| own(b) != own(t));
                self.conflicts.extend(changed.then_some((path.clone(), ConflictKind::DeletedHere)));
                let below = self.merge(path, &below(base_dir), &Dir::default(), &below(theirs));
                (!below.0.is_empty() || (changed && !prefers_ours)).then(|| (t.clone(), below))
            }
            _ => self.other(path, sides, dirs, merged),
        }
    }

    fn other(
        &mut self,
        path: &RepoPath,
        [base, ours, theirs]: [Option<&(Entry, Dir)>; 3],
        [our_dir, their_dir]: [&Dir; 2],
        merged: &mut Dir,
    ) -> Option<(Entry, Dir)> {
        let kind = match (ours, theirs) {
            (Some((o, _)), Some((t, _))) if !o.is_directory() && !t.is_directory() => {
                if let Ok(entry) = leaf(base.map(|(entry, _)| entry), o, t) {
                    return Some((entry, Dir::default()));
                }
                if base.is_some() { ConflictKind::BothChanged } else { ConflictKind::BothAdded }
            }
            _ if timeless(base) == timeless(ours) => return theirs.cloned(),
            _ if timeless(base) == timeless(theirs) => return ours.cloned(),
            (None, None) => return None,
            (Some(_), None) => ConflictKind::DeletedThere,
            (None, Some(_)) => ConflictKind::DeletedHere,
            (Some((o, _)), _) if o.is_directory() => ConflictKind::DirectoryHere,
            _ => ConflictKind::DirectoryThere,
        };
        self.conflicts.push((path.clone(), kind));
        if self.strategy == Strategy::Ours {
            return ours.cloned();
        }
        if let (Strategy::Copies, Some((o, _))) = (self.strategy, ours) {
            let others = [base, theirs].into_iter().flatten().map(|(entry, _)| parts(entry));
            let others: Vec<_> = others.collect();
            let (node, _, attrs) = parts(o);
            let new_attrs = attrs.is_some() && others.iter().all(|other| other.2 != attrs);
            if o.is_directory() || new_attrs || others.iter().all(|other| other.0 != node) {
                let name = path.name().unwrap();
                let copy = (1..).map(|number| Name::new(&TAG.copy_name(name.as_bytes(), number)).unwrap());
                let taken = |name: &Name| [our_dir, their_dir, merged].iter().any(|dir| dir.0.contains_key(name));
                let copy = copy.into_iter().find(|name| !taken(name)).unwrap();
                self.copies.insert(path.clone(), path.parent().unwrap().join(&copy));
                merged.0.insert(copy, ours.unwrap().clone());
            }
        }
        theirs.cloned()
    }
}
