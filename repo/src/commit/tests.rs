//! What a commit reads when something is damaged.

use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::repo::OpenOptions;
use crate::request::{InitRequest, Silent};
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
