//! What a commit reads when something is damaged; and one that is cut off, or meets errors, at every call of the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use filesync_cas::testing::{Fault, FaultVfs, Op, Plan, Scope};
use filesync_cas::vfs::RealVfs;

use super::*;
use crate::repo::{OpenOptions, STORE_DIR};
use crate::request::{InitRequest, RestoreRequest, Silent};
use crate::scan::testing::TempDir;

/// How many bytes of files were read.
#[derive(Default)]
struct Read(AtomicU64);

impl Observer for Read {
    fn event(&self, event: Event) {
        if let Event::Advance { bytes, .. } = event {
            self.0.fetch_add(bytes, Ordering::Relaxed);
        }
    }
}

/// What no file has any more is looked for once, not by every commit from then on.
#[test]
fn damage_that_does_not_come_back_is_looked_for_once() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    let repo = Repo::open_writer(dir.root(), "test", &OpenOptions::default(), &Silent).unwrap();
    dir.file("stays", &[1; 5_000]);
    dir.file("goes", &[2; 5_000]);
    let commit = || {
        let read = Read::default();
        repo.commit(&CommitRequest::default(), &read).unwrap();
        read.0.into_inner()
    };
    commit();
    std::fs::remove_file(dir.path("goes")).unwrap();
    commit();
    repo.store.record_damage([filesync_cas::ContentHash::of_chunk(&[2; 5_000])]).unwrap();
    assert_eq!([commit(), commit()], [5_000, 0], "nothing has changed");
    // More is damaged, and there.
    repo.store.record_damage([filesync_cas::ContentHash::of_chunk(&[1; 5_000])]).unwrap();
    assert_eq!([commit(), commit()], [5_000, 0]);
    dir.file("new", &[3; 7]);
    assert_eq!(commit(), 7);
}

fn open(root: &Path) -> Repo {
    Repo::open_writer(root, "test", &OpenOptions::default(), &Silent).unwrap()
}

/// Files of a commit, as a restore elsewhere writes them.
fn files(repo: &Repo, rev: &str) -> BTreeMap<PathBuf, Vec<u8>> {
    let out = TempDir::new();
    let request = RestoreRequest { rev: Some(rev.to_owned()), to: Some(out.path("copy")), ..RestoreRequest::default() };
    repo.restore(&request, &Silent).unwrap();
    let names = std::fs::read_dir(out.path("copy")).unwrap().map(|entry| entry.unwrap().path());
    let named = |path: PathBuf| (path.file_name().unwrap().into(), std::fs::read(&path).unwrap());
    names.map(named).collect()
}

fn expected(files: &[(&str, Vec<u8>)]) -> BTreeMap<PathBuf, Vec<u8>> {
    files.iter().map(|(name, bytes)| (name.into(), bytes.clone())).collect()
}

/// Afterwards the head is the old one or the new one, and that if it was told; all that either has is there; and the same
/// command goes on.
#[test]
fn a_commit_under_faults_at_every_call() {
    const EIO: i32 = 5;
    const EMFILE: i32 = 24;
    const ENOSPC: i32 = 28;
    let old = [("stays", vec![1; 70_000]), ("changes", vec![2; 300_000]), ("goes", vec![3; 10])];
    let new = [("stays", vec![1; 70_000]), ("changes", vec![4; 200_000]), ("comes", vec![5; 90_000])];
    let before = TempDir::new();
    Repo::init(before.root(), &InitRequest::default()).unwrap();
    old.iter().for_each(|(name, bytes)| before.file(name, bytes));
    let first = open(before.root()).commit(&CommitRequest::default(), &Silent).unwrap().commit.unwrap();
    let writes = Scope::Only(Op::WriteAt);
    for (fault, scope) in [
        (Fault::Kill, Scope::Mutating),
        (Fault::ErrorOnce(EIO), Scope::Mutating),
        (Fault::ErrorOnce(ENOSPC), Scope::Mutating),
        (Fault::ErrorOnce(EMFILE), Scope::Mutating),
        (Fault::ErrorFrom(EIO), Scope::Mutating),
        (Fault::ErrorFrom(ENOSPC), Scope::Mutating),
        (Fault::ErrorOnce(EIO), Scope::Reads),
        (Fault::ShortWrite, writes),
        (Fault::ShortFrom, writes),
    ] {
        for at in 1.. {
            let when = format!("{fault:?} at {at} of {scope:?}");
            let dir = TempDir::new();
            let copied = std::process::Command::new("cp").arg("-a").arg(before.path(".")).arg(dir.root()).status();
            assert!(copied.unwrap().success());
            std::fs::remove_file(dir.path("goes")).unwrap();
            new.iter().for_each(|(name, bytes)| dir.file(name, bytes));
            let real = Arc::new(RealVfs::open(&dir.path(STORE_DIR)).unwrap());
            let faulty = FaultVfs::with_plan(real, Plan { scope, at, fault });
            let repo = Repo::open_writer_on(dir.root(), Arc::new(faulty.clone()));
            let done = repo.and_then(|repo| repo.commit(&CommitRequest::default(), &Silent));
            let repo = open(dir.root());
            let checked = repo.fsck(&Default::default(), &Silent).unwrap();
            assert!(checked.is_clean(), "{when}: {checked:?}");
            assert_eq!(files(&repo, &first.to_string()), expected(&old), "{when}");
            match &done {
                Ok(result) => assert_eq!(repo.head(), result.commit, "{when}"),
                Err(error) => assert!(error.to_string().contains("cannot") || fault == Fault::Kill, "{when}: {error}"),
            }
            if repo.head() == Some(first) {
                assert!(done.is_err(), "{when}");
                repo.commit(&CommitRequest::default(), &Silent).unwrap_or_else(|error| panic!("{when}: {error}"));
            }
            assert_eq!(files(&repo, "HEAD"), expected(&new), "{when}");
            assert!(repo.status(&Default::default(), &Silent).unwrap().is_clean(), "{when}");
            if !faulty.hit() {
                done.unwrap_or_else(|error| panic!("{when}: {error}"));
                assert!(at > if scope == Scope::Mutating { 8 } else { 1 }, "{when}: only so many calls");
                break;
            }
        }
    }
}
