use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use filesync_cas::rows::RowBatch;

use crate::commit::ROWS_MAX;
use crate::repo::{OpenOptions, Repo};
use crate::request::{
    ChangeKind, CommitRequest, CommitResult, Event, InitRequest, LsRequest, Observer, Silent, StatusRequest,
    StatusResult, Target,
};
use crate::scan::testing::{TempDir, tick};

fn open(root: &Path) -> Repo {
    let options = OpenOptions { allow_foreign: false, lock_timeout: Duration::from_secs(5), ..OpenOptions::default() };
    Repo::open_writer(root, "test", &options, &Silent).unwrap()
}

fn commit(repo: &Repo) -> CommitResult {
    repo.commit(&CommitRequest::default(), &Silent).unwrap()
}

fn changes(repo: &Repo) -> Vec<(ChangeKind, String)> {
    let StatusResult { changes, .. } = repo.status(&StatusRequest::default(), &Silent).unwrap();
    changes.into_iter().map(|change| (change.kind, String::from_utf8(change.path).unwrap())).collect()
}

/// Loses the last of the rows of the directory `many` that stand for themselves.
fn lose_a_block(repo: &Repo) {
    let mut keys = Vec::new();
    let visit = &mut |key: &[u8], _: &[u8]| {
        keys.push(key.to_vec());
        ControlFlow::Continue(())
    };
    repo.store.rows().scan(b"smany\0\0", b"smany\0\x01", visit).unwrap();
    assert!(keys.len() > 10, "a directory of many rows: {}", keys.len());
    let mut batch = RowBatch::default();
    batch.delete(keys.pop().unwrap());
    repo.store.save_rows(batch).unwrap();
}

/// Rows are derived and may vanish. In a directory of several batches that shows only when a later batch is read, after
/// the directory has been taken for one of which all rows are there; what was deleted in it must be seen all the same.
#[test]
fn rows_that_are_lost_hide_no_deletion() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    for number in 0..6000 {
        dir.file(format!("many/f{number:04}"), b"x");
    }
    let repo = open(dir.root());
    commit(&repo);
    assert_eq!(changes(&repo), []);
    for name in ["many/f0007", "many/f5990", "many/f5999"] {
        std::fs::remove_file(dir.path(name)).unwrap();
    }
    dir.file("many/f5995", b"changed");
    dir.file("many/f5998a", b"new");
    lose_a_block(&repo);
    let expected = [
        (ChangeKind::Deleted, "many/f0007"),
        (ChangeKind::Deleted, "many/f5990"),
        (ChangeKind::Modified, "many/f5995"),
        (ChangeKind::Added, "many/f5998a"),
        (ChangeKind::Deleted, "many/f5999"),
    ];
    let expected = expected.map(|(kind, name)| (kind, name.to_owned()));
    assert_eq!(changes(&repo), expected);
    let result = commit(&repo);
    assert_eq!((result.files, result.added, result.modified, result.deleted), (5998, 1, 1, 3));
    let mut names = Vec::new();
    let request = LsRequest { target: Target::parse(b"HEAD:many").unwrap(), ..LsRequest::default() };
    repo.ls(&request, &mut |entry| {
        names.push(String::from_utf8(entry.path).unwrap());
        Ok(())
    })
    .unwrap();
    assert_eq!(names.len(), 5998);
    assert!(!names.contains(&"many/f5990".to_owned()) && names.contains(&"many/f5998a".to_owned()));
    // From then on all is known again.
    assert_eq!(changes(&repo), []);
    std::fs::remove_file(dir.path("many/f5991")).unwrap();
    assert_eq!(changes(&repo), [(ChangeKind::Deleted, "many/f5991".to_owned())]);
}

/// However many files were touched, only so many rows wait at a time; the rest is read again, and known in the end.
#[test]
fn a_touch_of_everything_is_settled_in_little_memory() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    let names: Vec<String> = (0..6 * ROWS_MAX).map(|number| format!("many/f{number:04}")).collect();
    names.iter().for_each(|name| dir.file(name, name.as_bytes()));
    let repo = open(dir.root());
    commit(&repo);
    let counted = |run: &dyn Fn(&dyn Observer)| {
        let read = Read::default();
        run(&read);
        read.0.load(Ordering::Relaxed)
    };
    let status = |observer: &dyn Observer| {
        assert!(repo.status(&StatusRequest::default(), observer).unwrap().is_clean());
    };
    let commit_counted = |observer: &dyn Observer| {
        repo.commit(&CommitRequest::default(), observer).unwrap();
    };
    let touch = |days: u64| {
        let time = std::time::UNIX_EPOCH + Duration::from_secs(days * 86_400);
        for name in &names {
            std::fs::File::open(dir.path(name)).unwrap().set_modified(time).unwrap();
        }
        // What is as young as the stamp is read again in any case.
        tick();
    };
    tick();
    counted(&commit_counted);
    assert_eq!(counted(&status), 0, "all is known");
    // Status keeps some rows each time.
    touch(1);
    let all = names.len() as u64;
    for round in 0..6 {
        assert_eq!(counted(&status), all - round * ROWS_MAX as u64, "round {round}");
    }
    assert_eq!(counted(&status), 0);
    // A commit keeps some, and the next one all.
    touch(2);
    assert_eq!(counted(&commit_counted), all);
    assert_eq!(counted(&commit_counted), all - ROWS_MAX as u64);
    assert_eq!(counted(&commit_counted), 0);
    assert_eq!(counted(&status), 0);
    // Changed in earnest, every change is seen, and none is seen twice.
    for name in &names {
        dir.file(name, b"changed");
    }
    assert_eq!(commit(&repo).modified, all);
    assert_eq!(changes(&repo), []);
    assert_eq!(commit(&repo).commit, None);
}

/// Counts the files that are read.
#[derive(Default)]
struct Read(AtomicU64);

impl Observer for Read {
    fn event(&self, event: Event) {
        if let Event::Advance { items, .. } = event {
            self.0.fetch_add(items, Ordering::Relaxed);
        }
    }
}
