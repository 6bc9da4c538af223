use std::collections::BTreeMap;
use std::ops::ControlFlow;

use filesync_cas::rows::{MemoryRows, RowBatch};
use filesync_cas::testing::seeds;
use filesync_merkle::{ChunkId, Content, Mode, Node, Totals, TreeId};

use super::codec::{BLOCK_LEN_MAX, ROW_COUNT_MAX};
use super::*;
use crate::scan::testing::{Random, path};

type Model = BTreeMap<Name, (Stat, Entry)>;

fn time(secs: i64) -> Timestamp {
    Timestamp::new(secs, 7).unwrap()
}

fn name(text: impl AsRef<[u8]>) -> Name {
    Name::new(text.as_ref()).unwrap()
}

fn link(number: u8) -> TreeLink {
    let totals = Totals { files: u64::from(number), directories: 2, bytes: 3 };
    TreeLink { id: TreeId::from_bytes([number; 32]), height: 1, totals }
}

fn file(size: u64, secs: i64) -> (Stat, Entry) {
    let stat = Stat {
        kind: Kind::File,
        mode: 0o644,
        dev: 1,
        ino: size + 1,
        size,
        blocks: 8,
        mtime: time(secs),
        ctime: time(secs),
    };
    let content = if size == 0 { Content::Empty } else { Content::Chunk(ChunkId::from_bytes([9; 32])) };
    (stat, Entry { mode: Mode::FILE, attrs: None, node: Node::File { mtime: time(secs), size, content } })
}

struct World {
    rows: Arc<MemoryRows>,
    cache: StatCache,
}

impl World {
    fn new() -> Self {
        let rows = Arc::new(MemoryRows::default());
        let cache = StatCache::new(rows.clone(), b"s");
        Self { rows, cache }
    }

    fn update(&self, stamp: i64, change: impl FnOnce(&mut CacheUpdate)) {
        let mut update = CacheUpdate::new(self.cache.clone(), time(stamp));
        change(&mut update);
        self.rows.apply(update.finish());
    }

    fn all(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        let visit = &mut |key: &[u8], value: &[u8]| {
            all.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        };
        self.rows.scan(b"", b"\xff", visit).unwrap();
        all
    }

    fn set(&self, key: &[u8], value: Option<Vec<u8>>) {
        self.rows.apply(RowBatch(vec![(key.to_vec(), value)]));
    }
}

#[test]
fn random_changes_against_a_map() {
    for seed in seeds(0, 30, 1_000) {
        let mut random = Random::new(seed);
        let world = World::new();
        let mut model = Model::new();
        let at = path("some/directory");
        // Neighbours whose rows must stay.
        for other in ["some", "some/directory-2", "some/directory/below", "some/directorz"] {
            world.update(9, |update| {
                update.replace(&path(other), Some(link(1)), [(name("n"), file(1, 1).0, file(1, 1).1)]).unwrap()
            });
        }
        for round in 0..12 {
            let mut changes = BTreeMap::new();
            let (spread, count) = (1 + random.below(4000), random.below(1500));
            for _ in 0..count {
                let name = name(format!("{:0width$}", random.below(spread), width = 1 + random.below(40)));
                let value = (!random.chance(35)).then(|| file(u64::try_from(random.below(9000)).unwrap(), round));
                changes.insert(name, value);
            }
            for (name, value) in &changes {
                match value {
                    Some(value) => model.insert(name.clone(), value.clone()),
                    None => model.remove(name),
                };
            }
            let number = u8::try_from(round).unwrap();
            world.update(100 + round, |update| {
                if round == 0 || random.chance(10) {
                    let rows = model.iter().map(|(name, (stat, entry))| (name.clone(), *stat, entry.clone()));
                    update.replace(&at, Some(link(number)), rows).unwrap();
                } else {
                    update.change(&at, Some(link(number)), changes).unwrap();
                }
            });
            let cached = world.cache.load(&at).unwrap();
            assert_eq!(cached.link(), Some(link(number)), "seed {seed} round {round}");
            check(&cached, &model, b"", None);
            for _ in 0..5 {
                let bound =
                    |random: &mut Random| format!("{:0width$}", random.below(spread), width = 1 + random.below(40));
                let (from, to) = (bound(&mut random), bound(&mut random));
                check(&cached, &model, from.as_bytes(), Some(to.as_bytes()));
                check(&cached, &model, from.as_bytes(), None);
            }
            for (_, value) in world.all() {
                assert!(value.len() < 2 * BLOCK_LEN_MAX + ROW_COUNT_MAX);
            }
        }
        world.update(300, |update| update.remove_tree(&at).unwrap());
        assert!(world.cache.load(&at).is_none() && world.cache.load(&path("some/directory/below")).is_none());
        assert_eq!(world.all().len(), 3);
        world.update(301, |update| update.remove_tree(&RepoPath::root()).unwrap());
        assert_eq!(world.all().len(), 0);
    }
}

fn check(cached: &CachedDir, model: &Model, from: &[u8], to: Option<&[u8]>) {
    let rows = cached.rows(from, to).unwrap();
    let wanted = model.iter().filter(|(name, _)| name.as_bytes() >= from && to.is_none_or(|to| name.as_bytes() < to));
    assert!(rows.iter().map(|row| (&row.name, &row.entry)).eq(wanted.clone().map(|(name, (_, entry))| (name, entry))));
    assert!(rows.iter().zip(wanted).all(|(row, (_, (stat, _)))| row.is_clean(stat)));
}

#[test]
fn keys_are_in_the_order_of_a_walk() {
    let world = World::new();
    let paths = ["", "a", "a/b", "a/b/c", "a/b-", "a-", "a-b", "b"];
    let keys: Vec<_> = paths.iter().map(|it| world.cache.key(it.as_bytes()).unwrap()).collect();
    assert!(keys.is_sorted());
    assert!(world.cache.key(&vec![b'x'; KEY_LEN_MAX]).is_none());
}

#[test]
fn only_what_changed_is_written() {
    let world = World::new();
    let at = RepoPath::root();
    let rows = (0..3000).map(|number| (name(format!("{number:05}")), file(number, 1).0, file(number, 1).1));
    world.update(10, |update| update.replace(&at, Some(link(1)), rows).unwrap());
    let before = world.all();
    assert!(before.len() > 5);
    world.update(11, |update| {
        update.change(&at, Some(link(1)), []).unwrap();
        assert!(update.is_empty());
    });
    world.update(11, |update| update.change(&at, Some(link(2)), [(name("02000"), None)]).unwrap());
    let after = world.all();
    let differ = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!((before.len(), differ), (after.len(), 2));
}

#[test]
fn emptied_blocks_go() {
    let world = World::new();
    let at = path("d");
    let names: Vec<Name> = (0..2000).map(|number| name(format!("{number:05}"))).collect();
    let rows = names.iter().map(|name| (name.clone(), file(1, 1).0, file(1, 1).1));
    world.update(10, |update| update.replace(&at, None, rows).unwrap());
    let removed = names.into_iter().map(|name| (name, None));
    world.update(11, |update| update.change(&at, Some(link(3)), removed).unwrap());
    assert_eq!(world.all().len(), 1);
    assert_eq!(world.cache.load(&at).unwrap().into_rows().unwrap(), []);
}

#[test]
fn racily_clean_is_not_clean() {
    let (stat, entry) = file(5, 100);
    let row = |stamp| CachedRow::new(name("x"), entry.clone(), &stat, Timestamp::new(100, stamp).unwrap());
    assert!(row(8).is_clean(&stat), "older than the stamp");
    assert!(!row(7).is_clean(&stat), "in the same tick");
    assert!(!row(6).is_clean(&stat), "after it");
    let world = World::new();
    world.update(100, |update| update.replace(&path("d"), None, [(name("x"), stat, entry.clone())]).unwrap());
    world.update(200, |update| {
        let (stat, entry) = file(1, 1);
        update.change(&path("d"), None, [(name("y"), Some((stat, entry)))]).unwrap();
    });
    let rows = world.cache.load(&path("d")).unwrap().into_rows().unwrap();
    assert!(!rows[0].is_clean(&stat), "a later write of the block does not wash it");
    assert!(rows[1].is_clean(&file(1, 1).0));
}

#[test]
fn every_field_counts() {
    let (stat, entry) = file(5, 100);
    let row = CachedRow::new(name("x"), entry, &stat, time(200));
    let same = Stat { blocks: 99, ..stat };
    assert!(row.is_clean(&same));
    let others = [
        Stat { kind: Kind::Symlink, ..stat },
        Stat { mode: 0o600, ..stat },
        Stat { mode: 0o4644, ..stat },
        Stat { dev: 2, ..stat },
        Stat { ino: 2, ..stat },
        Stat { size: 6, ..stat },
        Stat { mtime: time(99), ..stat },
        Stat { ctime: time(99), ..stat },
    ];
    assert!(others.iter().all(|other| !row.is_clean(other)));
    let directory = Stat { kind: Kind::Directory, mode: 0o755, ..stat };
    let row = CachedRow::new(name("x"), Entry::directory(Mode::DIRECTORY, link(1)), &directory, time(1));
    assert!(row.is_clean(&Stat { ino: 77, mtime: time(300), ..directory }));
    assert!(!row.is_clean(&Stat { mode: 0o700, ..directory }) && !row.is_clean(&stat));
}

/// Whatever the bytes, no panic; and what cannot be read is as if it were not there.
#[test]
fn damaged_rows_are_no_rows() {
    let world = World::new();
    let at = path("d");
    let rows = (0..600).map(|number| (name(format!("{number:05}")), file(number, 1).0, file(number, 1).1));
    world.update(10, |update| update.replace(&at, Some(link(1)), rows).unwrap());
    let all = world.all();
    assert_eq!(all.len(), 2);
    let mut random = Random::new(1);
    for (key, value) in &all {
        for _ in 0..400 {
            let mut bytes = value.clone();
            match random.below(3) {
                0 => bytes.truncate(random.below(value.len())),
                1 => bytes.push(0),
                _ => {
                    let at = random.below(value.len());
                    bytes[at] ^= 1 << random.below(8);
                }
            }
            let has_length_changed = bytes.len() != value.len();
            world.set(key, Some(bytes));
            let rows = world.cache.load(&at).and_then(|cached| cached.rows(b"", None));
            assert!(!(has_length_changed && rows.is_some()), "a wrong length goes unnoticed");
            // Changes on top of it go through as well.
            let mut update = CacheUpdate::new(world.cache.clone(), time(20));
            update.change(&at, Some(link(2)), [(name("00500"), None)]).unwrap();
        }
        world.set(key, None);
        assert!(world.cache.load(&at).and_then(|cached| cached.rows(b"", None)).is_none());
        world.set(key, Some(value.clone()));
    }
}

#[test]
fn rows_of_two_writes_do_not_mix() {
    let world = World::new();
    let at = path("d");
    let rows = |secs| (0..600).map(move |n| (name(format!("{n:05}")), file(n, secs).0, file(n, secs).1));
    world.update(10, |update| update.replace(&at, Some(link(1)), rows(1)).unwrap());
    let (old_key, old_block) = world.all().pop().unwrap();
    world.update(11, |update| update.replace(&at, Some(link(2)), rows(2)).unwrap());
    world.set(&old_key, Some(old_block));
    let cached = world.cache.load(&at).unwrap();
    assert!(cached.rows(b"", None).is_none());
    assert_eq!(cached.rows(b"", Some(b"00100")).unwrap().len(), 100);
    // Whoever builds on that gets no link.
    world.update(12, |update| update.change(&at, Some(link(3)), [(name("00550"), None)]).unwrap());
    assert_eq!(world.cache.load(&at).unwrap().link(), None);
    // Nor does one who changes a directory of which nothing is known.
    let (stat, entry) = file(1, 1);
    world.update(12, |update| update.change(&path("e"), Some(link(3)), [(name("x"), Some((stat, entry)))]).unwrap());
    let cached = world.cache.load(&path("e")).unwrap();
    assert_eq!((cached.link(), cached.into_rows().unwrap().len()), (None, 1));
}
