//! The way from version to version, with steps that there are not yet.

use std::sync::Arc;
use std::time::Duration;

use filesync_cas::small_file::{Builder, Lines};
use filesync_cas::testing::{Fault, FaultVfs, LossVfs, Plan, Scope, crash_states};
use filesync_cas::{ChunkSizes, Codec, ContentHash, Params};

use super::*;
use crate::repo::Repo;
use crate::request::{CommitRequest, InitRequest, LogRequest, Silent};
use crate::scan::testing::TempDir;

/// What version 2 is to have beside all that there was.
const ADDED: &str = "added by 2";

/// The same lines under the title of another version.
fn with_version(bytes: &[u8], from: u32, to: u32) -> Vec<u8> {
    let mut file = Builder::new(&format!("filesync {to}"));
    Lines::parse(bytes, &format!("filesync {from}")).unwrap().iter().for_each(|line| file.line(line));
    file.finish()
}

fn add(vfs: &dyn Vfs, bytes: &[u8]) -> Result<Vec<u8>, Error> {
    replace(vfs, Path::new(ADDED), b"two", 0o644)?;
    Ok(with_version(bytes, 1, 2))
}

const FROM_1: Step = Step { from: 1, prepare: add };
const FROM_2: Step = Step { from: 2, prepare: |_, bytes| Ok(with_version(bytes, 2, 3)) };

fn format_1() -> Vec<u8> {
    Params::new(ContentHash::of_chunk(b"r"), ChunkSizes::default(), Codec::Zstd).encode()
}

/// A disk with a `format` of version 1.
fn disk() -> LossVfs {
    let vfs = LossVfs::new();
    replace(&vfs, Path::new(PATH), &format_1(), 0o644).unwrap();
    vfs.sync_all_files().unwrap();
    vfs
}

/// Which version stands there, in full: with its lines, and with what belongs to it.
fn found(vfs: &dyn Vfs) -> u32 {
    let bytes = read_to_end(vfs, Path::new(PATH), LEN_MAX).unwrap();
    let format = version(&bytes).unwrap();
    assert_eq!(bytes, with_version(&format_1(), 1, format));
    let added = read_to_end(vfs, Path::new(ADDED), LEN_MAX);
    assert!(format == 1 || added.unwrap() == b"two", "version {format} without what belongs to it");
    format
}

#[test]
fn steps_follow_each_other() {
    let vfs = disk();
    let result = climb(&vfs, &[FROM_2, FROM_1], 3).unwrap();
    assert_eq!((result.format, result.upgraded, found(&vfs)), (3, true, 3));
    let again = climb(&vfs, &[FROM_2, FROM_1], 3).unwrap();
    assert_eq!((again.format, again.upgraded), (3, false));
    // Where a step is missing nothing is done, and that is said.
    let error = climb(&disk(), &[FROM_2], 3).unwrap_err();
    assert!(error.to_string().contains("nothing leads from version 1"), "{error}");
    let bad = disk();
    replace(&bad, Path::new(PATH), b"filesync 1\nnonsense\n", 0o644).unwrap();
    assert_eq!(climb(&bad, &[FROM_1], 2).unwrap_err().kind(), ErrorKind::Damage);
}

#[test]
fn killed_anywhere_it_is_the_old_version_or_the_new() {
    let (steps, mut seen) = ([FROM_1, FROM_2], [0; 4]);
    for at in 1.. {
        let inner = disk();
        let plan = Plan { scope: Scope::Mutating, at, fault: Fault::Kill };
        let vfs = FaultVfs::with_plan(Arc::new(inner.clone()), plan);
        let told = climb(&vfs, &steps, 3);
        if !vfs.hit() {
            assert_eq!(told.unwrap().format, 3);
            break;
        }
        told.unwrap_err();
        let left = found(&inner);
        seen[left as usize] += 1;
        // The same again goes on from there.
        let result = climb(&inner, &steps, 3).unwrap();
        assert_eq!((result.format, result.upgraded, found(&inner)), (3, left < 3, 3), "call {at}");
    }
    assert!(seen[1..].iter().all(|times| *times > 0), "{seen:?}");
}

#[test]
fn power_cuts_leave_the_old_version_or_the_new() {
    let steps = [FROM_1, FROM_2];
    let states = crash_states(
        &disk(),
        0..60,
        |vfs| climb(&*vfs, &steps, 3).map(drop),
        |_, told, left| {
            let format = found(&left);
            assert!(format == 3 || told.is_err(), "told to be done, and it is version {format}");
            assert_eq!(climb(&left, &steps, 3).unwrap().format, 3);
            assert_eq!(found(&left), 3);
        },
    );
    assert!(states > 60 * 4, "{states} states");
}

/// On a disk: under the lock, and until then it is a repository as before.
#[test]
fn a_repository_is_brought_up_under_the_lock() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    dir.file("f", b"content");
    let options = OpenOptions { lock_timeout: Duration::from_millis(50), ..OpenOptions::default() };
    let writer = Repo::open_writer(dir.root(), "commit", &options, &Silent).unwrap();
    writer.commit(&CommitRequest::default(), &Silent).unwrap();
    // As things are there is nothing to do, and nobody is waited for.
    assert!(upgrade(dir.root(), &options).unwrap().is_none());
    let busy = bring_up(dir.root(), &options, &[FROM_1], 2).unwrap_err();
    assert_eq!(busy.kind(), ErrorKind::Busy, "{busy}");
    drop(writer);
    // A step that fails leaves it as it was.
    let failing = Step { from: 1, prepare: |_, _| Err(Error::new(ErrorKind::Failed, "no room")) };
    assert_eq!(bring_up(dir.root(), &options, &[failing], 2).unwrap_err().to_string(), "no room");
    let reader = Repo::open_reader(dir.root(), &options, &Silent).unwrap();
    let mut commits = 0;
    let log = reader.log(&LogRequest::default(), &mut |_| {
        commits += 1;
        Ok(())
    });
    log.unwrap();
    assert_eq!(commits, 1);
    let result = bring_up(dir.root(), &options, &[FROM_1], 2).unwrap().expect("it was older");
    assert_eq!((result.format, result.upgraded), (2, true));
    assert!(bring_up(dir.root(), &options, &[FROM_1], 2).unwrap().is_none());
    // This program does not know the new one.
    let error = Repo::open_reader(dir.root(), &options, &Silent).unwrap_err();
    assert!(error.kind() == ErrorKind::Failed && error.to_string().contains("newer version"), "{error}");
    assert!(dir.path(".filesync").join(ADDED).exists());
}
