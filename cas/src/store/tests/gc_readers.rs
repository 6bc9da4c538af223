//! Readers beside a collection: they go on to read what they read, and it does not wait for them.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::lock::{NoReaders, ReaderLock};

const LIMITS: Limits =
    Limits { seal_len: 64 << 10, seal_objects: 1 << 10, pending_max: 1 << 8, writeback_len: 16 << 10, threads: true };
const BIG: Size = Size { chunks: 30, chunk_len: 9000 };

/// On the disk, with locks.
struct Locked {
    world: World,
    dir: PathBuf,
}

impl Locked {
    fn new() -> Self {
        let world = World::on_disk(LIMITS);
        let dir = world.dir.sub("store");
        Self { world, dir }
    }

    fn place(&self) -> Place {
        Place { lock_dir: Some(self.dir.clone()), ..self.world.place() }
    }

    fn writer(&self) -> Store {
        Store::open_limited(self.place(), schema(), "test", Duration::from_secs(10), LIMITS).expect("opened")
    }

    fn reader(&self) -> Store {
        Store::open_reader(self.place(), schema()).expect("opened")
    }

    fn condemned(&self) -> usize {
        self.world.packs().iter().filter(|name| name.ends_with(".condemned")).count()
    }
}

#[test]
fn a_reader_from_before_reads_to_its_end() {
    let mut locked = Locked::new();
    let old = locked.world.plan(100, 0, None, BIG);
    let new = locked.world.plan(100, 1, None, BIG);
    run(&locked.writer(), &old).expect("stored");
    let early = locked.reader();
    run(&locked.writer(), &new).expect("stored");
    let late = locked.reader();
    let writer = locked.writer();
    let report = collect(&writer).expect("collected, without waiting");
    assert!(report.waiting_bytes > 0 && report.unlinked_bytes == 0, "{report:?}");
    assert!(locked.condemned() > 0);
    // Neither of them has had a pack open yet.
    locked.world.verify(&early, Some(old.head));
    locked.world.verify(&late, Some(new.head));
    // The next collection does not disturb them either, nor the next writer.
    assert_eq!(collect(&writer).expect("collected").unlinked_bytes, 0);
    drop(writer);
    drop(locked.writer());
    locked.world.verify(&early, Some(old.head));
    for reader in [&early, &late] {
        assert_eq!(reader.take_warnings(), [""; 0]);
        assert!(!reader.has_damage());
    }
    // One that begins now does not see what was removed, and keeps it there all the same.
    let young = locked.reader();
    assert_eq!(young.take_warnings(), [""; 0]);
    locked.world.verify(&young, Some(new.head));
    drop((early, late));
    drop(locked.writer());
    assert!(locked.condemned() > 0);
    drop(young);
    drop(locked.writer());
    assert_eq!(locked.condemned(), 0);
    locked.world.verify(&locked.reader(), Some(new.head));
}

/// A medium may have no locks: then what is gone is looked for anew, where it is now.
#[test]
fn a_reader_without_a_lock_finds_what_was_moved() {
    let mut locked = Locked::new();
    let old = locked.world.plan(101, 0, None, BIG);
    let new = locked.world.plan(101, 1, Some(old.head), Size { chunks: 3, chunk_len: 100 });
    run(&locked.writer(), &old).expect("stored");
    run(&locked.writer(), &locked.world.plan_only(101, 7, None)).expect("stored");
    run(&locked.writer(), &new).expect("stored");
    let reader = Store::open_reader(locked.world.place(), schema()).expect("opened");
    // Everything moves.
    {
        let store = locked.writer();
        store.record_damage(locked.world.closure(Some(new.head))).expect("recorded");
        for pack in store.inner.survey_now().expect("surveyed").packs {
            store.inner.detach(&pack).expect("detached");
        }
        let objects = locked.world.model.iter().map(|(id, (kind, bytes))| (*id, *kind, bytes.clone())).collect();
        run(&store, &Planned { head: new.head, objects }).expect("stored again");
        assert!(collect(&store).expect("collected").packs_removed > 1);
    }
    locked.world.verify_present(&reader, Some(new.head));
    assert!(!reader.has_damage());
    let report = reader.check_packs(Depth::Objects, &|_, _| std::ops::ControlFlow::Continue(())).expect("read");
    assert!(report.bad.is_empty() && report.findings.is_empty(), "{report:?}");
}

/// Readers that open again and again while a writer commits and collects.
#[test]
fn readers_are_never_disturbed() {
    let mut locked = Locked::new();
    let plans: Vec<Planned> = (0..4).map(|n| locked.world.plan(102, n, None, BIG)).collect();
    run(&locked.writer(), &plans[0]).expect("stored");
    let done = AtomicBool::new(false);
    let (locked, done, plans) = (&locked, &done, &plans);
    let opened = std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2)
            .map(|_| {
                scope.spawn(move || {
                    let mut opened = 0;
                    while !done.load(Ordering::Relaxed) {
                        let reader = locked.reader();
                        // What it opened with, whatever has become of it.
                        locked.world.verify(&reader, reader.head());
                        assert_eq!(reader.take_warnings(), [""; 0]);
                        assert!(!reader.has_damage());
                        opened += 1;
                    }
                    opened
                })
            })
            .collect();
        for n in 0..long(25, 1000) {
            let planned = &plans[usize::try_from(n % 4).expect("small")];
            run(&locked.writer(), planned).expect("stored");
            collect(&locked.writer()).expect("collected");
        }
        done.store(true, Ordering::Relaxed);
        readers.into_iter().map(|reader| reader.join().expect("no panic")).sum::<u32>()
    });
    assert!(opened > 5, "only {opened} readers");
    drop(locked.writer());
    assert_eq!(locked.condemned(), 0, "space comes back when nobody reads");
}

#[test]
fn locks_of_readers() {
    let dir = TempDir::new();
    // Made where it is missing.
    assert!(NoReaders::take(&dir.0).expect("taken").is_some());
    let reader = ReaderLock::take(&dir.0).expect("free");
    let other = ReaderLock::take(&dir.0).expect("together");
    assert!(NoReaders::take(&dir.0).expect("no error").is_none());
    drop((reader, other));
    let alone = NoReaders::take(&dir.0).expect("no error").expect("free");
    assert!(ReaderLock::take(&dir.0).is_none(), "held for longer than unlinking takes");
    drop(alone);
    assert!(ReaderLock::take(&dir.0).is_some());
}
