//! Three-way merges: against a model, by what they promise, and what they cost.

use std::collections::{BTreeMap, BTreeSet};

use filesync_cas::testing::seeds;
use filesync_merkle::testing::{MemoryStore, Rng, build_dir};
use filesync_merkle::{
    AttrsId, Conflict, ConflictKind, Content, DirCursor, Entry, Merged, Mode, Name, Node, Plan, RepoPath, Sides,
    Strategy, TREE, Timestamp, TreeId, TreeLink, TreeNode, edit_paths, lookup, merge, tree::Link,
};

use crate::merge_model::{Dir, Model, TAG};
use crate::{assert_sound, file, name, numbered, path, walk};

const STRATEGIES: [Strategy; 4] = [Strategy::Copies, Strategy::Ours, Strategy::Theirs, Strategy::Fail];

fn any<T: Copy>(rng: &mut Rng, of: &[T]) -> T {
    of[usize::try_from(rng.below(of.len() as u64)).unwrap()]
}

/// Few names and few contents, so that both sides often do the same, or different things to the same path.
fn some_name(rng: &mut Rng) -> Name {
    name(any(rng, &["a", "a.txt", "a.conflict-n-d.txt", "a.conflict-n-d", "b", "b-", "c", "d.e"]))
}

fn some_time(rng: &mut Rng) -> Timestamp {
    Timestamp::new(i64::try_from(rng.below(3)).unwrap(), 0).unwrap()
}

fn some_attrs(rng: &mut Rng) -> Option<AttrsId> {
    (rng.below(4) == 0).then(|| AttrsId::from_bytes([u8::try_from(rng.below(2)).unwrap(); 32]))
}

fn some_node(rng: &mut Rng) -> Node {
    let mtime = some_time(rng);
    match rng.below(6) {
        0 => Node::Symlink { mtime, target: any(rng, &[&b"x"[..], b"y"]).into() },
        1 => Node::File { mtime, size: 0, content: Content::Empty },
        number => file(number).with_mtime(mtime).node,
    }
}

fn some_mode(rng: &mut Rng, node: &Node) -> Mode {
    match node {
        Node::Symlink { .. } => Mode::SYMLINK,
        _ => any(rng, &[Mode::FILE, Mode::FILE, Mode::EXECUTABLE, Mode::new(0o600).unwrap()]),
    }
}

fn some_entry(rng: &mut Rng, depth: u32) -> (Entry, Dir) {
    if depth > 0 && rng.below(3) == 0 {
        let mode = any(rng, &[Mode::DIRECTORY, Mode::DIRECTORY, Mode::new(0o700).unwrap()]);
        return (Entry::directory(mode, TreeLink::empty()), some_dir(rng, depth - 1));
    }
    let node = some_node(rng);
    (Entry { mode: some_mode(rng, &node), attrs: some_attrs(rng), node }, Dir::default())
}

fn some_dir(rng: &mut Rng, depth: u32) -> Dir {
    Dir((0..rng.below(6)).map(|_| (some_name(rng), some_entry(rng, depth))).collect())
}

/// What somebody made of a directory.
fn changed(rng: &mut Rng, dir: &Dir, depth: u32) -> Dir {
    let mut changed = Dir::default();
    for (name, (entry, below)) in &dir.0 {
        let (mut entry, mut below) = (entry.clone(), below.clone());
        match rng.below(10) {
            0 => continue,
            1 => (entry, below) = some_entry(rng, depth),
            2 => entry.mode = some_mode(rng, &entry.node),
            3 => entry.attrs = some_attrs(rng),
            4 => entry = entry.with_mtime(some_time(rng)),
            5 if !entry.is_directory() => {
                entry.node = some_node(rng);
                entry.mode = some_mode(rng, &entry.node);
            }
            _ => {}
        }
        if entry.is_directory() && depth > 0 && rng.below(2) == 0 {
            below = self::changed(rng, &below, depth - 1);
        }
        changed.0.insert(name.clone(), (entry, below));
    }
    if rng.below(3) == 0 {
        changed.0.entry(some_name(rng)).or_insert(some_entry(rng, depth));
    }
    changed
}

fn plan_of(merged: Merged) -> Plan {
    match merged {
        Merged::Plan(plan) => plan,
        Merged::Conflicts(conflicts) => panic!("{conflicts:?}"),
    }
}

fn kinds(conflicts: &[Conflict]) -> Vec<(RepoPath, ConflictKind)> {
    conflicts.iter().map(|conflict| (conflict.path.clone(), conflict.kind)).collect()
}

/// Merges by nodes and by maps, compares, and says what came out.
fn check(store: &MemoryStore, sides: Sides, strategy: Strategy, seed: u64) -> (TreeLink, Plan) {
    let [base, ours, theirs] =
        [sides.base.unwrap_or(TreeLink::empty()), sides.ours, sides.theirs].map(|link| Dir::read(store, &link));
    let mut model = Model { strategy, conflicts: Vec::new(), copies: BTreeMap::new() };
    let expected = model.merge(&RepoPath::root(), &base, &ours, &theirs);
    let merged = merge(store, sides, strategy, TAG).unwrap();
    assert_eq!(merged, merge(store, sides, strategy, TAG).unwrap(), "seed {seed}");
    if strategy == Strategy::Fail && !model.conflicts.is_empty() {
        let Merged::Conflicts(found) = merged else { panic!("seed {seed}: {merged:?}") };
        assert_eq!(kinds(&found), model.conflicts, "seed {seed}");
        assert!(found.iter().all(|conflict| conflict.kept.is_none()));
        return (sides.theirs, Plan { changes: Vec::new(), conflicts: found });
    }
    let plan = plan_of(merged);
    let root = plan.clone().apply(store, &mut &*store, sides.theirs).unwrap();
    let found = Dir::read(store, &root);
    assert_eq!(found.flat(), expected.flat(), "seed {seed}, {strategy:?}");
    assert_eq!(kinds(&plan.conflicts), model.conflicts, "seed {seed}, {strategy:?}");
    assert!(plan.conflicts.is_sorted_by(|a, b| a.path < b.path));
    assert_eq!(root, expected.build(store), "seed {seed}, {strategy:?}");
    for conflict in &plan.conflicts {
        let copy = model.copies.get(&conflict.path).cloned();
        let stays = (strategy == Strategy::Ours && conflict.ours.is_some()).then(|| conflict.path.clone());
        assert_eq!(conflict.kept, copy.or(stays), "seed {seed}, {strategy:?}");
    }
    (root, plan)
}

fn content(entry: &Entry) -> Option<Node> {
    (!entry.is_directory()).then(|| entry.clone().with_mtime(Timestamp::default()).node)
}

fn contents(flat: &BTreeMap<RepoPath, Entry>) -> BTreeSet<String> {
    flat.values().filter_map(content).map(|node| format!("{node:?}")).collect()
}

/// What is promised to both sides, said without the model.
fn assert_nothing_lost(store: &MemoryStore, sides: Sides, merged: TreeLink, plan: &Plan, seed: u64) {
    let [base, ours, theirs, merged] = [sides.base.unwrap_or(TreeLink::empty()), sides.ours, sides.theirs, merged]
        .map(|link| Dir::read(store, &link).flat());
    for (path, entry) in &theirs {
        let Some(node) = content(entry) else { continue };
        if base.get(path).and_then(content) != Some(node.clone()) {
            assert_eq!(merged.get(path).and_then(content), Some(node), "seed {seed}: theirs at {path}");
        }
    }
    let known = contents(&base);
    for (path, entry) in &ours {
        let Some(node) = content(entry).filter(|node| !known.contains(&format!("{node:?}"))) else { continue };
        // At its path, or where the copy of it or of a directory above it is.
        let kept = plan.conflicts.iter().filter_map(|conflict| Some((&conflict.path, conflict.kept.as_ref()?)));
        let places = kept.filter(|(of, _)| path.starts_with(of)).map(|(of, copy)| {
            let below = &path.as_bytes()[of.as_bytes().len()..];
            RepoPath::parse(&[copy.as_bytes(), below].concat()).unwrap()
        });
        let mut places = places.chain([path.clone()]);
        let is_there = places.any(|place| merged.get(&place).and_then(content).as_ref() == Some(&node));
        assert!(is_there, "seed {seed}: ours of {path}");
    }
}

#[test]
fn random_trees_merge_as_their_maps_do() {
    let mut seen = BTreeSet::new();
    for seed in seeds(0, 1_500, 60_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let base = some_dir(&mut rng, 3);
        let [ours, theirs] = [(), ()].map(|()| changed(&mut rng, &base, 3).build(&store));
        let base = (rng.below(8) != 0).then(|| base.build(&store));
        let sides = Sides { base, ours, theirs };
        for strategy in STRATEGIES {
            let (root, plan) = check(&store, sides, strategy, seed);
            if strategy == Strategy::Copies {
                assert_nothing_lost(&store, sides, root, &plan, seed);
                assert_sound(&store, &root);
            }
            seen.extend(plan.conflicts.iter().map(|conflict| format!("{:?}", conflict.kind)));
        }
        let (there, plan) = check(&store, Sides { base: Some(ours), ..sides }, Strategy::Fail, seed);
        assert_eq!((there, plan), (theirs, Plan::default()), "seed {seed}: only theirs has changes");
        let (here, plan) = check(&store, Sides { base: Some(theirs), ..sides }, Strategy::Fail, seed);
        assert!(plan.conflicts.is_empty());
        assert_eq!(here, ours, "seed {seed}: only ours has changes");
    }
    assert_eq!(seen.len(), 6, "{seen:?}");
}

/// The same directories in other nodes: what somebody made whose rule for cuts is another one.
fn recut(store: &MemoryStore, rng: &mut Rng, link: &TreeLink) -> TreeLink {
    let mut entries: Vec<(Name, Entry)> = DirCursor::new(store, link).map(|item| item.unwrap()).collect();
    for (_, entry) in &mut entries {
        if let Some(below) = entry.as_directory().copied() {
            entry.node = Node::Directory(recut(store, rng, &below));
        }
    }
    let put = |node: &TreeNode| {
        let (entries, totals) = node.sum().unwrap();
        (TreeId(store.insert(TREE, &node.encode())), entries, totals)
    };
    let mut links = Vec::new();
    let mut rest = entries.as_slice();
    while links.is_empty() || !rest.is_empty() {
        let (head, tail) = rest.split_at(rest.len().min(1 + usize::try_from(rng.below(3)).unwrap()));
        let (id, entries, totals) = put(&TreeNode::Leaf(head.to_vec()));
        let last = head.last().map_or_else(|| name("none"), |(name, _)| name.clone());
        links.push(Link { last, id, entries, totals });
        rest = tail;
    }
    if let [only] = links.as_slice() {
        return TreeLink { id: only.id, height: 0, totals: only.totals };
    }
    let (id, _, totals) = put(&TreeNode::Inner { level: 1, links });
    TreeLink { id, height: 1, totals }
}

#[test]
fn merges_do_not_depend_on_cuts() {
    for seed in seeds(0, 400, 20_000) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let base = some_dir(&mut rng, 3);
        let [ours, theirs] = [(), ()].map(|()| changed(&mut rng, &base, 3).build(&store));
        let base = base.build(&store);
        let [other_base, other_ours] = [base, ours].map(|link| recut(&store, &mut rng, &link));
        for strategy in STRATEGIES {
            let of = |base, ours| merge(&store, Sides { base: Some(base), ours, theirs }, strategy, TAG).unwrap();
            let apply = |merged| match merged {
                Merged::Plan(plan) => (kinds(&plan.conflicts), plan.apply(&store, &mut &store, theirs).unwrap()),
                Merged::Conflicts(conflicts) => (kinds(&conflicts), theirs),
            };
            let (conflicts, root) = apply(of(base, ours));
            assert_eq!(apply(of(other_base, ours)), (conflicts.clone(), root), "seed {seed}");
            // What is taken from ours as a whole keeps its cuts.
            let (found, other_root) = apply(of(other_base, other_ours));
            assert_eq!(found, conflicts, "seed {seed}");
            assert_eq!(Dir::read(&store, &other_root), Dir::read(&store, &root), "seed {seed}");
        }
    }
}

fn edited(rng: &mut Rng, model: &BTreeMap<Name, Entry>) -> BTreeMap<Name, Entry> {
    let mut model = model.clone();
    for _ in 0..rng.below(60) {
        let at = format!("file-{:08}", rng.below(4_000));
        match rng.below(3) {
            0 => drop(model.remove(at.as_bytes())),
            1 => drop(model.insert(name(&at), file(rng.below(3)))),
            _ => drop(model.insert(name(&(at + "+")), file(rng.below(3)))),
        }
    }
    if rng.below(3) == 0 {
        let keys: Vec<_> = model.keys().skip(1_000).take(700).cloned().collect();
        keys.iter().for_each(|key| drop(model.remove(key)));
    }
    model
}

#[test]
fn large_directories_merge_as_their_maps_do() {
    for seed in seeds(0, 8, 400) {
        let store = MemoryStore::new();
        let mut rng = Rng::new(seed);
        let model = numbered(4_000);
        let [ours, theirs] = [(), ()].map(|()| build_dir(&store, &edited(&mut rng, &model)));
        let base = (seed % 4 != 3).then(|| build_dir(&store, &model));
        for strategy in STRATEGIES {
            check(&store, Sides { base, ours, theirs }, strategy, seed);
        }
    }
}

fn dir(mode: Mode) -> Option<Entry> {
    Some(Entry::directory(mode, TreeLink::empty()))
}

fn tree(store: &MemoryStore, entries: &[(&str, Option<Entry>)]) -> TreeLink {
    let mut changes: Vec<_> = entries.iter().map(|(at, entry)| (path(at), entry.clone())).collect();
    changes.sort_by(|(a, _), (b, _)| a.cmp(b));
    edit_paths(store, &mut &*store, None, changes).unwrap()
}

/// What is in a tree: names, and of files their sizes.
fn listing(store: &MemoryStore, root: &TreeLink) -> Vec<String> {
    let line = |(path, entry): (RepoPath, Entry)| match &entry.node {
        Node::File { size, .. } => format!("{path}={} {:o}", size - 1, entry.mode.bits()),
        _ => format!("{path} {:o}", entry.mode.bits()),
    };
    Dir::read(store, root).flat().into_iter().map(line).collect()
}

type Entries<'a> = &'a [(&'a str, Option<Entry>)];

/// `expected` is the merged tree with copies; `conflicts` are paths and where ours is kept.
fn case(base: Entries<'_>, ours: Entries<'_>, theirs: Entries<'_>, expected: &[&str], conflicts: &[(&str, &str)]) {
    let store = MemoryStore::new();
    let [base, ours, theirs] = [base, ours, theirs].map(|entries| tree(&store, entries));
    let (root, plan) = check(&store, Sides { base: Some(base), ours, theirs }, Strategy::Copies, 0);
    assert_eq!(listing(&store, &root), expected);
    let kept = |conflict: &Conflict| conflict.kept.as_ref().map(ToString::to_string).unwrap_or_default();
    let found: Vec<_> = plan.conflicts.iter().map(|conflict| (conflict.path.to_string(), kept(conflict))).collect();
    let expected: Vec<_> = conflicts.iter().map(|(path, kept)| ((*path).to_owned(), (*kept).to_owned())).collect();
    assert_eq!(found, expected);
}

fn sized(number: u64) -> Option<Entry> {
    Some(file(number))
}

fn with_mode(number: u64, mode: u16) -> Option<Entry> {
    Some(Entry { mode: Mode::new(mode).unwrap(), ..file(number) })
}

#[test]
fn mode_of_one_and_content_of_the_other() {
    case(&[("f", sized(1))], &[("f", with_mode(1, 0o755))], &[("f", sized(2))], &["f=2 755"], &[]);
    case(&[("f", sized(1))], &[("f", sized(2))], &[("f", with_mode(1, 0o755))], &["f=2 755"], &[]);
    // Where only modes collide there is nothing to keep.
    case(&[("f", sized(1))], &[("f", with_mode(1, 0o755))], &[("f", with_mode(2, 0o600))], &["f=2 600"], &[("f", "")]);
    case(
        &[("f", sized(1))],
        &[("f", with_mode(3, 0o755))],
        &[("f", with_mode(1, 0o600))],
        &["f=1 600", "f.conflict-n-d=3 755"],
        &[("f", "f.conflict-n-d")],
    );
    let (mode, other) = (Mode::DIRECTORY, Mode::new(0o700).unwrap());
    case(
        &[("d", dir(mode))],
        &[("d", dir(other))],
        &[("d", dir(mode)), ("d/f", sized(1))],
        &["d 700", "d/f=1 644"],
        &[],
    );
}

#[test]
fn deleted_against_changed() {
    case(&[("f.x", sized(1))], &[], &[("f.x", sized(2))], &["f.x=2 644"], &[("f.x", "")]);
    case(&[("f.x", sized(1))], &[("f.x", sized(2))], &[], &["f.conflict-n-d.x=2 644"], &[("f.x", "f.conflict-n-d.x")]);
    let later = file(1).with_mtime(Timestamp::new(9, 0).unwrap());
    case(&[("f", sized(1))], &[("f", Some(later))], &[], &[], &[]);
    let (d, before) = (dir(Mode::DIRECTORY), [("d", dir(Mode::DIRECTORY)), ("d/a", sized(1)), ("d/b", sized(2))]);
    // What was added stays, and the directory for it; what was changed is a conflict; the rest goes.
    let after = [("d", d.clone()), ("d/a", sized(1)), ("d/b", sized(3)), ("d/c", sized(4))];
    case(&before, &[], &after, &["d 755", "d/b=3 644", "d/c=4 644"], &[("d/b", "")]);
    case(&before, &after, &[], &["d 755", "d/b.conflict-n-d=3 644", "d/c=4 644"], &[("d/b", "d/b.conflict-n-d")]);
    // Of what both have emptied nothing stays, and of what one has emptied and both have, the directory.
    case(&before, &[], &before[..2], &[], &[]);
    case(&before, &[before[0].clone(), before[1].clone()], &[before[0].clone(), before[2].clone()], &["d 755"], &[]);
}

#[test]
fn directories_against_files() {
    let d = dir(Mode::DIRECTORY);
    let below = [("p", d.clone()), ("p/x", sized(1))];
    case(
        &[],
        &below,
        &[("p", sized(5))],
        &["p=5 644", "p.conflict-n-d 755", "p.conflict-n-d/x=1 644"],
        &[("p", "p.conflict-n-d")],
    );
    case(&[], &[("p", sized(5))], &below, &["p 755", "p/x=1 644", "p.conflict-n-d=5 644"], &[("p", "p.conflict-n-d")]);
    // One side only.
    case(&below, &[("p", sized(5))], &below, &["p=5 644"], &[]);
    case(&below, &below, &[("p", sized(5))], &["p=5 644"], &[]);
    case(&[("p", sized(5))], &below, &[("p", sized(5))], &["p 755", "p/x=1 644"], &[]);
    // An mtime below is no change.
    let touched = [("p", d), ("p/x", Some(file(1).with_mtime(Timestamp::new(9, 0).unwrap())))];
    case(&below, &[("p", sized(5))], &touched, &["p=5 644"], &[]);
}

#[test]
fn copies_take_no_name_that_is_there() {
    let (one, two) = ("a.conflict-n-d.txt", "a.conflict-n-d-2.txt");
    case(
        &[("a.txt", sized(1))],
        &[("a.txt", sized(2)), (one, sized(7))],
        &[("a.txt", sized(3)), (two, sized(8))],
        &["a.conflict-n-d-2.txt=8 644", "a.conflict-n-d-3.txt=2 644", "a.conflict-n-d.txt=7 644", "a.txt=3 644"],
        &[("a.txt", "a.conflict-n-d-3.txt")],
    );
    // Two long names of which the same is left.
    let [long, longer] = ["x", "y"].map(|end| "n".repeat(254) + end);
    let stem = "n".repeat(255 - ".conflict-n-d".len());
    let second = "n".repeat(255 - ".conflict-n-d-2".len());
    case(
        &[],
        &[(&long, sized(1)), (&longer, sized(2))],
        &[(&long, sized(3)), (&longer, sized(4))],
        &[
            &format!("{second}.conflict-n-d-2=2 644"),
            &format!("{stem}.conflict-n-d=1 644"),
            &format!("{long}=3 644"),
            &format!("{longer}=4 644"),
        ],
        &[(&long, &format!("{stem}.conflict-n-d")), (&longer, &format!("{second}.conflict-n-d-2"))],
    );
}

#[test]
fn without_a_base_nothing_is_overwritten_or_deleted() {
    let store = MemoryStore::new();
    let d = dir(Mode::DIRECTORY);
    let ours = tree(&store, &[("d", d.clone()), ("d/same", sized(1)), ("d/x", sized(2)), ("ours", sized(3))]);
    let theirs = tree(&store, &[("d", d), ("d/same", sized(1)), ("d/x", sized(4)), ("theirs", sized(5))]);
    let (root, plan) = check(&store, Sides { base: None, ours, theirs }, Strategy::Copies, 0);
    let expected = ["d 755", "d/same=1 644", "d/x=4 644", "d/x.conflict-n-d=2 644", "ours=3 644", "theirs=5 644"];
    assert_eq!(listing(&store, &root), expected);
    assert_eq!(kinds(&plan.conflicts), [(path("d/x"), ConflictKind::BothAdded)]);
}

/// Two directories of many files and many directories: what is alike is not read, and what is taken is not listed.
#[test]
fn a_merge_reads_what_differs() {
    let store = MemoryStore::new();
    let large = build_dir(&store, &numbered(50_000));
    let small = build_dir(&store, &numbered(3));
    let mut entries = vec![(path("large"), Some(Entry::directory(Mode::DIRECTORY, large)))];
    let at = |number: u64| path(&format!("small-{number:05}"));
    entries.extend((0..20_000).map(|number| (at(number), Some(Entry::directory(Mode::DIRECTORY, small)))));
    let base = edit_paths(&store, &mut &store, None, entries).unwrap();
    let edit = |changes: &[(&str, Option<Entry>)]| {
        let changes = changes.iter().map(|(at, entry)| (path(at), entry.clone()));
        edit_paths(&store, &mut &store, Some(base), changes).unwrap()
    };
    let ours = edit(&[
        ("large/file-00001000", sized(1)),
        ("large/file-00030000", None),
        ("small-00500", None),
        ("small-07000/x", sized(1)),
        ("small-09000x", Some(Entry::directory(Mode::DIRECTORY, large))),
    ]);
    let theirs = edit(&[("large/file-00001000", sized(2)), ("small-15000/y", sized(1)), ("small-19000", None)]);
    let cost = |sides| {
        store.reset_counts();
        let plan = plan_of(merge(&store, sides, Strategy::Copies, TAG).unwrap());
        println!("{} changes, {} nodes read", plan.changes.len(), store.gets());
        (plan.changes.len(), store.gets())
    };
    let (changes, reads) = cost(Sides { base: Some(base), ours, theirs });
    // The copy, the deletion, the directory that went, the one with x, and the new one.
    assert_eq!(changes, 5);
    assert!(reads <= 60, "{reads}");
    let (changes, reads) = cost(Sides { base: None, ours, theirs });
    // Without a base all that one side has is taken: the copy, x, the new one, and what they have deleted.
    assert_eq!(changes, 4);
    assert!(reads <= 60, "{reads}");
    for sides in [Sides { base: Some(base), ours: base, theirs }, Sides { base: Some(base), ours, theirs: ours }] {
        assert_eq!(cost(sides), (0, 0));
    }
}

#[test]
fn names_of_many_copies_are_found_in_one_pass() {
    let store = MemoryStore::new();
    let version = |offset: u64| {
        let entries = numbered(20_000).into_keys().zip((offset..).map(file));
        build_dir(&store, &entries.collect())
    };
    let [base, ours, theirs] = [0, 100_000, 200_000].map(version);
    store.reset_counts();
    let sides = Sides { base: Some(base), ours, theirs };
    let plan = plan_of(merge(&store, sides, Strategy::Copies, TAG).unwrap());
    assert_eq!((plan.changes.len(), plan.conflicts.len()), (20_000, 20_000));
    let (reads, once) = (store.gets(), walk(&store, &ours).nodes.len() as u64);
    assert!(reads <= 6 * once, "{reads} for {once}");
}

#[test]
fn deep_trees_merge_without_a_stack() {
    let store = MemoryStore::new();
    let deep = |last: u64| {
        let mut at = RepoPath::root();
        let mut changes = Vec::new();
        for _ in 0..4_000 {
            at.push(&name("d"));
            changes.push((at.clone(), dir(Mode::DIRECTORY)));
        }
        at.push(&name("f"));
        changes.push((at.clone(), sized(last)));
        edit_paths(&store, &mut &store, None, changes).unwrap()
    };
    let [base, ours, theirs] = [1, 2, 3].map(deep);
    let sides = Sides { base: Some(base), ours, theirs };
    let plan = plan_of(merge(&store, sides, Strategy::Copies, TAG).unwrap());
    assert_eq!((plan.changes.len(), plan.conflicts.len()), (1, 1));
    let gone = Sides { theirs: TreeLink::empty(), ..sides };
    let plan = plan_of(merge(&store, gone, Strategy::Copies, TAG).unwrap());
    assert_eq!((plan.changes.len(), plan.conflicts.len()), (4_001, 1));
    plan.apply(&store, &mut &store, TreeLink::empty()).unwrap();
    let gone = Sides { ours: TreeLink::empty(), ..sides };
    let plan = plan_of(merge(&store, gone, Strategy::Ours, TAG).unwrap());
    assert_eq!(plan.changes, [(path("d"), None)]);
}

#[test]
fn what_cannot_be_read_ends_it() {
    let store = MemoryStore::new();
    let d = dir(Mode::DIRECTORY);
    let [base, ours, theirs] =
        [1, 2, 3].map(|number| tree(&store, &[("d", d.clone()), ("d/f", sized(number)), ("e", sized(number))]));
    let lost = lookup(&store, &ours, &path("d")).unwrap().unwrap();
    store.remove(&lost.as_directory().unwrap().id.0);
    let error = merge(&store, Sides { base: Some(base), ours, theirs }, Strategy::Copies, TAG).unwrap_err();
    assert!(error.is_damage());
}
