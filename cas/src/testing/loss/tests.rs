//! The model against the kernel, and what it may and may not lose.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::*;
use crate::testing::{Fault, FaultVfs, Plan, Rng, Scope, seeds, was_killed};
use crate::vfs::{RealVfs, read_to_end, refused, temp_name, write_all_at};

fn p(path: &str) -> &Path {
    Path::new(path)
}

fn create(vfs: &dyn Vfs, path: &str, bytes: &[u8]) -> Arc<dyn VfsFile> {
    let file = vfs.open(p(path), Open::Create { mode: 0o644 }).unwrap();
    write_all_at(&*file, bytes, 0).unwrap();
    file
}

/// Every path with what stands there.
fn tree(vfs: &dyn Vfs) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut queue = vec![PathBuf::new()];
    while let Some(dir) = queue.pop() {
        for (name, kind) in vfs.list(&dir).unwrap() {
            let path = dir.join(name);
            let what = match kind {
                FileKind::File => format!("{:?}", read_to_end(vfs, &path, 1 << 20).unwrap()),
                FileKind::Symlink => format!("-> {:?}", vfs.read_link(&path).unwrap()),
                _ => "dir".to_owned(),
            };
            if kind == FileKind::Dir {
                queue.push(path.clone());
            }
            found.insert(path, what);
        }
    }
    found
}

fn random_path(rng: &mut Rng) -> PathBuf {
    let names = ["a", "b", "c", "d"];
    (0..=rng.below(3)).map(|_| names[rng.index(names.len())]).collect()
}

/// One random call; its outcome in words that must agree between model and kernel.
fn random_call(vfs: &dyn Vfs, rng: &mut Rng) -> String {
    let (path, other) = (random_path(rng), random_path(rng));
    let how = [Rename::Replace, Rename::NoReplace, Rename::Exchange][rng.index(3)];
    let (bytes, offset) = ([b"a", b"b", b"c"][rng.index(3)].repeat(rng.index(9)), rng.below(20));
    let done = match rng.below(12) {
        0..3 => vfs.open(&path, Open::Create { mode: 0o644 }).and_then(|f| f.write_at(&bytes, offset)).map(drop),
        3 => vfs.open(&path, Open::Write).and_then(|f| f.write_at(&bytes, offset).map(drop)),
        4 => vfs.open(&path, Open::Write).and_then(|f| f.set_len(offset)),
        5 => vfs.open(&path, Open::Read).and_then(|f| f.write_at(b"x", 0)).map(drop),
        6 => vfs.mkdir(&path, 0o755),
        7 => vfs.symlink(OsStr::new("a"), &path),
        8 | 9 => vfs.rename(&path, &other, how),
        10 => {
            if rng.coin() {
                vfs.unlink(&path)
            } else {
                vfs.rmdir(&path)
            }
        }
        _ => {
            if rng.coin() {
                vfs.list(&path).map(drop)
            } else {
                vfs.read_link(&path).map(drop)
            }
        }
    };
    let outcome = done.map_err(|e| match refused(&e) {
        Some(why) => format!("{why:?}").split('(').next().unwrap_or_default().to_owned(),
        None => format!("{:?}", e.raw_os_error()),
    });
    format!("{path:?} {other:?} {how:?}: {outcome:?}")
}

#[test]
fn the_model_behaves_as_the_kernel_does() {
    for seed in seeds(0, 60, 3_000) {
        let dir = std::env::temp_dir().join(temp_name().unwrap());
        std::fs::create_dir(&dir).unwrap();
        let (real, model) = (RealVfs::open(&dir).unwrap(), LossVfs::new());
        let (mut one, mut two) = (Rng::new(seed), Rng::new(seed));
        for call in 0..300 {
            assert_eq!(random_call(&real, &mut one), random_call(&model, &mut two), "seed {seed} call {call}");
        }
        assert_eq!(tree(&real), tree(&model), "seed {seed}");
        assert_eq!(tree(&LossVfs::from_dir(&dir, &[]).unwrap()), tree(&model), "seed {seed}");
        std::fs::remove_dir_all(&dir).unwrap();
    }
}

/// No choice may lose what was synced, make a circle of directories, or differ between two runs of one seed.
#[test]
fn random_losses_are_sound_and_repeatable() {
    for seed in seeds(0, 200, 10_000) {
        let vfs = LossVfs::new();
        let mut rng = Rng::new(seed);
        for _ in 0..60 {
            random_call(&vfs, &mut rng);
        }
        vfs.sync_all_files().unwrap();
        let synced = tree(&vfs);
        for loss in [Loss::DropAllUnsynced, Loss::KeepAll, Loss::Random(seed)] {
            assert_eq!(tree(&vfs.crash(&loss)), synced, "seed {seed} {loss:?}");
        }
        for _ in 0..60 {
            random_call(&vfs, &mut rng);
            if rng.chance(1, 8) {
                let _ = vfs.sync_dir(&random_path(&mut rng));
            }
        }
        assert_eq!(tree(&vfs.crash(&Loss::KeepAll)), tree(&vfs), "seed {seed}");
        for loss in (0..20).map(Loss::Random).chain([Loss::DropAllUnsynced]) {
            // `tree` would not end in a circle.
            assert_eq!(tree(&vfs.crash(&loss)), tree(&vfs.fork().crash(&loss)), "seed {seed} {loss:?}");
        }
    }
}

#[test]
fn a_name_needs_its_directory_and_content_its_file() {
    let vfs = LossVfs::new();
    create(&vfs, "f", b"abc").sync_all().unwrap();
    assert!(tree(&vfs.crash(&Loss::DropAllUnsynced)).is_empty(), "no name");
    vfs.sync_dir(p("")).unwrap();
    assert_eq!(tree(&vfs.crash(&Loss::DropAllUnsynced)).len(), 1);
    create(&vfs, "g", b"abc");
    vfs.sync_dir(p("")).unwrap();
    let left = vfs.crash(&Loss::DropAllUnsynced);
    assert_eq!(left.stat(p("g")).unwrap().size, 0, "no content");
    // The directory itself needs a name too.
    vfs.mkdir(p("d"), 0o755).unwrap();
    create(&vfs, "d/f", b"").sync_all().unwrap();
    vfs.sync_dir(p("d")).unwrap();
    assert_eq!(tree(&vfs.crash(&Loss::DropAllUnsynced)).len(), 2);
    vfs.sync_dir(p("")).unwrap();
    assert_eq!(tree(&vfs.crash(&Loss::DropAllUnsynced)).len(), 4);
    vfs.unlink(p("f")).unwrap();
    assert!(vfs.crash(&Loss::DropAllUnsynced).stat(p("f")).is_ok(), "the removal was not synced");
}

#[test]
fn data_and_metadata_are_synced_apart() {
    let vfs = LossVfs::new();
    let file = create(&vfs, "f", b"abc");
    vfs.sync_dir(p("")).unwrap();
    file.set_mode(0o755).unwrap();
    file.set_mtime(5, 6).unwrap();
    file.set_xattr(OsStr::new("user.k"), b"v").unwrap();
    file.sync_data().unwrap();
    let left = vfs.crash(&Loss::DropAllUnsynced);
    let stat = left.stat(p("f")).unwrap();
    assert_eq!((stat.size, stat.mode), (3, 0o644));
    assert_eq!(left.xattr(p("f"), OsStr::new("user.k")).unwrap(), None);
    file.sync_all().unwrap();
    let left = vfs.crash(&Loss::DropAllUnsynced);
    let stat = left.stat(p("f")).unwrap();
    assert_eq!((stat.mode, stat.mtime), (0o755, FileTime { secs: 5, nanos: 6 }));
    assert_eq!(left.xattr(p("f"), OsStr::new("user.k")).unwrap().unwrap(), b"v");
}

/// All that a lost write can look like must be seen, or tests rely on more than a disk promises.
#[test]
fn unsynced_writes_are_lost_in_every_way() {
    let vfs = LossVfs::new();
    let file = create(&vfs, "f", &[1; 1000]);
    file.sync_all().unwrap();
    vfs.sync_dir(p("")).unwrap();
    write_all_at(&*file, &[2; 2000], 1000).unwrap();
    write_all_at(&*file, &[3; 2000], 3000).unwrap();
    let mut seen = BTreeSet::new();
    for seed in 0..400 {
        let left = read_to_end(&vfs.crash(&Loss::Random(seed)), p("f"), 10_000).unwrap();
        assert!(left.len() >= 1000 && left[..1000] == [1; 1000], "seed {seed}: durable bytes are kept");
        let (middle, end) = (left.get(1000..3000).unwrap_or_default(), left.get(3000..).unwrap_or_default());
        seen.insert(match () {
            () if left.len() == 1000 => "neither",
            () if end == [3; 2000] && middle == [2; 2000] => "both",
            () if end == [3; 2000] && middle == [0; 2000] => "zeros where the first is missing",
            () if left.len() == 5000 && end == [0; 2000] => "length ahead of the content",
            () if end.contains(&3) && end.len() < 2000 => "torn or short",
            () if end.contains(&3) && end[0] == 0 => "torn at its begin",
            () if left.len() == 3000 => "first only",
            () => "shorter",
        });
    }
    assert_eq!(seen.len(), 8, "{seen:?}");
}

#[test]
fn half_of_a_rename_is_seen_between_two_directories_only() {
    let vfs = LossVfs::new();
    for dir in ["a", "b", "a/sub"] {
        vfs.mkdir(p(dir), 0o755).unwrap();
    }
    create(&vfs, "a/f", b"x");
    create(&vfs, "g", b"y");
    vfs.sync_all_files().unwrap();
    vfs.rename(p("a/f"), p("b/f"), Rename::Replace).unwrap();
    vfs.rename(p("a/sub"), p("b/sub"), Rename::Replace).unwrap();
    vfs.rename(p("g"), p("h"), Rename::Replace).unwrap();
    let (mut files, mut dirs, mut within) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for seed in seeds(0, 200, 10_000) {
        let left = vfs.crash(&Loss::Random(seed));
        let there = |path| left.stat(p(path)).is_ok();
        files.insert((there("a/f"), there("b/f")));
        dirs.insert((there("a/sub"), there("b/sub")));
        within.insert((there("g"), there("h")));
    }
    assert_eq!(files.len(), 4);
    assert_eq!(dirs, BTreeSet::from([(true, false), (false, true)]));
    assert_eq!(within, BTreeSet::from([(true, false), (false, true)]));
    vfs.sync_dir(p("b")).unwrap();
    let left = vfs.crash(&Loss::DropAllUnsynced);
    assert!(left.stat(p("a/f")).is_ok() && left.stat(p("b/f")).is_ok());
    assert!(left.stat(p("a/sub")).is_err() && left.stat(p("b/sub")).is_ok());
}

#[test]
fn a_bit_flips_in_all_that_there_is_of_a_byte_and_is_nobodys_call() {
    let vfs = LossVfs::new();
    let file = create(&vfs, "a", b"aa");
    file.sync_data().unwrap();
    vfs.sync_dir(p("")).unwrap();
    write_all_at(&*file, b"aa", 1).unwrap();
    let calls = vfs.mutations();
    vfs.stop_after(0);
    for (bit, is_there) in [(0, true), (8, true), (17, true), (24, false), (u64::MAX, false)] {
        assert_eq!(vfs.flip_bit(p("a"), bit).unwrap(), is_there, "{bit}");
    }
    assert!(vfs.flip_bit(p("b"), 0).is_err());
    assert_eq!(vfs.mutations(), calls);
    assert_eq!(read_to_end(&vfs, p("a"), 9).unwrap(), b"``c");
    let content = |loss| read_to_end(&vfs.crash(&loss), p("a"), 9).unwrap();
    assert_eq!((content(Loss::DropAllUnsynced), content(Loss::KeepAll)), (b"``".to_vec(), b"``c".to_vec()));
}

#[test]
fn a_dead_process_does_nothing_more() {
    let vfs = LossVfs::new();
    let file = create(&vfs, "f", b"abc");
    vfs.stop_after(1);
    assert_eq!(file.len().unwrap(), 3);
    file.set_len(2).unwrap();
    assert_eq!(file.len().unwrap(), 2);
    assert!(was_killed(&file.sync_all().unwrap_err()) && vfs.is_dead());
    assert!(was_killed(&file.len().unwrap_err()));
    assert!(was_killed(&vfs.list(p("")).unwrap_err()));
    let fork = vfs.fork();
    assert_eq!(fork.stat(p("f")).unwrap().size, 2);
    assert_eq!(vfs.mutations(), 3);
}

fn faulty(scope: Scope, at: u64, fault: Fault) -> FaultVfs {
    FaultVfs::with_plan(Arc::new(LossVfs::new()), Plan { scope, at, fault })
}

#[test]
fn faults_strike_where_they_are_planned() {
    let vfs = faulty(Scope::Mutating, 3, Fault::Kill);
    let file = create(&vfs, "f", b"abc");
    assert!(!vfs.hit());
    assert_eq!(file.len().unwrap(), 3, "reads are not counted");
    assert!(was_killed(&file.sync_all().unwrap_err()));
    assert!(was_killed(&vfs.stat(p("f")).unwrap_err()));
    assert!(vfs.hit());
    assert_eq!((vfs.counts().mutating(), vfs.counts().syncs(), vfs.counts().reads()), (3, 1, 2));

    let vfs = faulty(Scope::Syncs, 2, Fault::ErrorFrom(5));
    let file = create(&vfs, "f", b"abc");
    file.sync_all().unwrap();
    for _ in 0..2 {
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
    }
    file.set_len(0).unwrap();

    let vfs = faulty(Scope::Reads, 1, Fault::ErrorOnce(5));
    let file = create(&vfs, "f", b"abc");
    assert_eq!(file.len().unwrap_err().raw_os_error(), Some(5));
    assert_eq!(file.len().unwrap(), 3);
    vfs.assert_hit();
}

#[test]
#[should_panic(expected = "no fault was injected")]
fn a_fault_that_is_never_reached_is_reported() {
    let vfs = faulty(Scope::Mutating, 3, Fault::Kill);
    create(&vfs, "f", b"abc");
    assert!(!vfs.hit());
    vfs.assert_hit();
}

#[test]
fn death_is_recognised_below_other_errors() {
    #[derive(Debug)]
    struct Outer(io::Error);
    impl std::fmt::Display for Outer {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("outer")
        }
    }
    impl std::error::Error for Outer {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    assert!(was_killed(&Outer(Killed.into())));
    assert!(was_killed(&io::Error::other(Outer(Killed.into()))));
    assert!(!was_killed(&Outer(io::ErrorKind::NotFound.into())));
}
