//! A repository that is being made, cut off or disturbed at every call: it is there as a whole, or not at all, and then
//! it can be made.

use std::fs;
use std::time::Duration;

use filesync_cas::rows::RowBatch;
use filesync_cas::testing::{Fault, FaultVfs, LossVfs, Op, Plan, Scope, crash_states, seed};
use filesync_merkle::MerkleSchema;

use super::*;
use crate::config::Config;
use crate::restore::testing::Sub;
use crate::scan::testing::TempDir;

/// First names of a repository and of the next one.
const NAMES: [&str; 2] = [".filesync-init-1", ".filesync-init-2"];

/// Makes a repository on a disk, but for its index, which is always a real directory.
fn make(disk: &Arc<dyn Vfs>, name: &'static str) -> Result<(), Error> {
    let dir = TempDir::new();
    fs::create_dir(dir.path(name)).unwrap();
    let params = Params::new(ContentHash::from_bytes([7; 32]), ChunkSizes::default(), Codec::Zstd);
    let identity = Identity::generate().unwrap();
    let copied = Copied::default();
    let new =
        New { root: dir.root(), unfinished: name, params: &params, identity: &identity, name: "here", copied: &copied };
    let below = |_: &str| -> io::Result<Arc<dyn Vfs>> { Ok(Arc::new(Sub(Arc::clone(disk), name))) };
    new.fill(&**disk, &below)?;
    new.put(&**disk).map_err(|error| Error::io("cannot write", &error))
}

/// Whether there is a repository. If so, all of it is there, and it can be worked with.
fn is_there(disk: &Arc<dyn Vfs>) -> bool {
    if let Err(error) = disk.stat(Path::new(STORE_DIR)) {
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        return false;
    }
    let vfs: Arc<dyn Vfs> = Arc::new(Sub(Arc::clone(disk), STORE_DIR));
    Identity::load(&*vfs).unwrap();
    assert_eq!(Config::load(&*vfs).unwrap().node_name(), "here");
    let index = TempDir::new();
    let place = Place { vfs, index_dir: index.path("index"), lock_dir: None };
    let schema = || Arc::new(MerkleSchema);
    assert_eq!(Store::open_reader(place.clone(), schema()).unwrap().head(), None);
    let store = Store::open_writer(place, schema(), "test", Duration::ZERO).unwrap();
    let session = store.session().unwrap();
    let mut writer = session.writer();
    let id = writer.store(filesync_cas::Kind::CHUNK, b"bytes").unwrap();
    writer.flush().unwrap();
    drop(writer);
    session.finish(Some(id), RowBatch::default()).unwrap();
    assert_eq!(&store.get(filesync_cas::Kind::CHUNK, &id).unwrap()[..], b"bytes");
    true
}

/// What must hold after anything: see the module. Whether there is a repository.
fn check(disk: &Arc<dyn Vfs>, is_told: bool) -> bool {
    let was_there = is_there(disk);
    assert!(was_there || !is_told, "it was told to be made");
    if !was_there {
        make(disk, NAMES[1]).unwrap();
        assert!(is_there(disk));
    }
    was_there
}

#[test]
fn power_cuts_leave_a_whole_repository_or_none() {
    let seed = seed(4);
    let (mut whole, mut none) = (0, 0);
    let run = |vfs: Arc<LossVfs>| {
        let disk: Arc<dyn Vfs> = vfs;
        make(&disk, NAMES[0]).is_ok()
    };
    crash_states(&LossVfs::new(), seed..seed + 4, run, |_, is_told, vfs| {
        let disk: Arc<dyn Vfs> = Arc::new(vfs);
        match check(&disk, *is_told) {
            true => whole += 1,
            false => none += 1,
        }
    });
    assert!(whole > 5 && none > 100, "{whole} {none}");
}

#[test]
fn the_directories_above_it_survive_a_power_cut() {
    let seed = seed(5);
    let path = Path::new("a/b/c");
    let (mut whole, mut less) = (0, 0);
    let run = |vfs: Arc<LossVfs>| make_missing(&*vfs, path).is_ok();
    crash_states(&LossVfs::new(), seed..seed + 4, run, |_, is_told, vfs| match vfs.stat(path).is_ok() {
        true => whole += 1,
        false => {
            assert!(!is_told, "it was told to be made");
            less += 1;
        }
    });
    assert!(whole > 0 && less > 3, "{whole} {less}");
}

#[test]
fn faults_leave_a_whole_repository_or_none() {
    let errors = [5, 28, 24].into_iter().flat_map(|errno| [Fault::ErrorOnce(errno), Fault::ErrorFrom(errno)]);
    for fault in errors.chain([Fault::Kill]) {
        let (mut whole, mut none) = (0, 0);
        for at in 1.. {
            let disk: Arc<dyn Vfs> = Arc::new(LossVfs::new());
            let faulty = FaultVfs::with_plan(Arc::clone(&disk), Plan { scope: Scope::Mutating, at, fault });
            let hit = faulty.clone();
            let during: Arc<dyn Vfs> = Arc::new(faulty);
            let made = make(&during, NAMES[0]);
            if !hit.hit() {
                made.unwrap();
                break;
            }
            // A sync that fails may come after the name.
            let error = made.expect_err("a call failed").to_string();
            assert!(error.contains("cannot"), "{fault:?} at {at}: {error}");
            match check(&disk, false) {
                true => whole += 1,
                false => none += 1,
            }
        }
        assert!(whole == 1 && none > 20, "{fault:?}: {whole} {none}");
    }
}

#[test]
fn short_writes_are_continued() {
    for fault in [Fault::ShortWrite, Fault::ShortFrom] {
        for at in 1.. {
            let disk: Arc<dyn Vfs> = Arc::new(LossVfs::new());
            let faulty = FaultVfs::with_plan(Arc::clone(&disk), Plan { scope: Scope::Only(Op::WriteAt), at, fault });
            let hit = faulty.clone();
            let during: Arc<dyn Vfs> = Arc::new(faulty);
            make(&during, NAMES[0]).unwrap();
            assert!(check(&disk, true));
            if !hit.hit() {
                assert!(at > 4, "only {at} writes");
                break;
            }
        }
    }
}
