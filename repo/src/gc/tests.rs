//! What a collection leaves beside the store: nothing that speaks of what is gone.

use std::os::fd::AsFd;

use filesync_merkle::{Name, RepoPath, lookup};

use super::*;
use crate::history::commit_of;
use crate::repo::OpenOptions;
use crate::request::{CatRequest, CommitRequest, ForgetRequest, InitRequest, Silent, Target};
use crate::scan::testing::TempDir;
use crate::scan::{Stat, open_file};
use crate::stat_cache::CacheUpdate;

fn open(dir: &TempDir) -> Repo {
    Repo::open_writer(dir.root(), "test", &OpenOptions::default(), &Silent).unwrap()
}

fn collect(repo: &Repo) -> GcResult {
    gc(repo, &GcRequest::default(), &Silent).unwrap()
}

/// A repository in which `f` once had content that is garbage now, and a row that speaks of it as if it stood there: as
/// a commit leaves it that was cut off after it had read the file.
fn with_stale_row(dir: &TempDir, content: &[u8]) -> Repo {
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    let repo = open(dir);
    dir.file("f", content);
    dir.file("g", b"stays");
    repo.commit(&CommitRequest::default(), &Silent).unwrap();
    let (_, commit) = commit_of(&repo, None).unwrap();
    let path = RepoPath::parse(b"f").unwrap();
    let entry = lookup(repo.node_source(), &commit.tree, &path).unwrap().unwrap();
    dir.file("f", b"another");
    repo.commit(&CommitRequest { amend: true, ..CommitRequest::default() }, &Silent).unwrap();
    dir.file("f", content);
    let (_, stat): (_, Stat) = open_file(repo.work_fd().unwrap().as_fd(), &path).unwrap();
    // Much later than the file: the row is as clean as a row can be.
    let stamp = filesync_merkle::Timestamp::new(i64::MAX, 0).unwrap();
    let mut update = CacheUpdate::new(repo.stat_cache(), stamp);
    update.change(&RepoPath::root(), None, [(Name::new(b"f").unwrap(), Some((stat, entry)))]).unwrap();
    repo.store.save_rows(update.finish()).unwrap();
    repo
}

fn cat_f(rev: &str) -> CatRequest {
    let target = Target::parse(format!("{rev}:f").as_bytes()).unwrap();
    CatRequest { target, offset: 0, length: None }
}

#[test]
fn rows_that_speak_of_what_is_collected_go_with_it() {
    let dir = TempDir::new();
    let content = vec![7; 500_000];
    let repo = with_stale_row(&dir, &content);
    let known = |repo: &Repo| repo.stat_cache().load(&RepoPath::root()).is_some();
    assert!(known(&repo), "the row is there");
    collect(&repo);
    assert!(!known(&repo), "it speaks of what is gone");
    drop(repo);
    // The next commit reads the file, and has all of it.
    let repo = open(&dir);
    assert!(!known(&repo));
    repo.commit(&CommitRequest::default(), &Silent).unwrap();
    let mut out = Vec::new();
    let request = cat_f("HEAD");
    repo.cat(&request, &mut out).unwrap();
    assert!(out == content);
    assert!(repo.fsck(&Default::default(), &Silent).unwrap().is_clean());
    // And what is needed is spoken of again, and stays so.
    assert!(known(&repo));
    collect(&repo);
    assert!(known(&repo));
}

/// What a collection tells of itself, in the order in which it is told.
#[derive(Default)]
struct Told(std::sync::Mutex<Vec<Event>>);

impl Observer for Told {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

/// What is to be copied is known before, and is what is copied: so the time that is left can be told.
#[test]
fn progress_has_a_total_and_comes_to_it() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest { no_compression: true, ..InitRequest::default() }).unwrap();
    let repo = open(&dir);
    for n in 0..2_u64 {
        dir.file("stays", &filesync_cas::testing::Rng::new(1).bytes(3_000_000));
        dir.file("goes", &filesync_cas::testing::Rng::new(2 + n).bytes(3_000_000));
        repo.commit(&CommitRequest { amend: n > 0, ..CommitRequest::default() }, &Silent).unwrap();
    }
    let told = Told::default();
    gc(&repo, &GcRequest::default(), &told).unwrap();
    let told = told.0.into_inner().unwrap();
    let is_phase = |event: &Event| matches!(event, Event::Phase { what: "collecting", .. });
    let at = told.iter().position(is_phase).expect("it collects");
    let Event::Phase { bytes: Some(total), .. } = told[at] else { panic!("no total: {:?}", told[at]) };
    assert!(total > 6_000_000, "two files of three are live: {total}");
    let advance = |event: &Event| if let Event::Advance { bytes, .. } = event { *bytes } else { 0 };
    assert_eq!(told[at..].iter().map(advance).sum::<u64>(), total);
}

/// Even where such a row is there, nothing is taken on its word.
#[test]
fn a_row_never_vouches_for_what_the_head_lacks() {
    let dir = TempDir::new();
    let content = vec![8; 500_000];
    let repo = with_stale_row(&dir, &content);
    let mut gc = repo.store.gc().unwrap();
    gc.mark(Roots::read(&repo).unwrap().for_collection(&repo).unwrap(), &|_, _| ControlFlow::Continue(())).unwrap();
    let plan = gc.plan();
    gc.apply(&plan, RowBatch::default(), &|_, _| ControlFlow::Continue(())).unwrap();
    repo.commit(&CommitRequest::default(), &Silent).unwrap();
    assert!(repo.fsck(&Default::default(), &Silent).unwrap().is_clean());
    let mut out = Vec::new();
    repo.cat(&cat_f("HEAD"), &mut out).unwrap();
    assert!(out == content);
}

/// A restore that was cut off needs what it was to bring back, whatever has become of that commit.
#[test]
fn the_commit_of_a_journal_is_kept() {
    let dir = TempDir::new();
    Repo::init(dir.root(), &InitRequest::default()).unwrap();
    let repo = open(&dir);
    let mut commits = Vec::new();
    for n in 0..3_u8 {
        dir.file("f", &vec![n; 100_000]);
        commits.push(repo.commit(&CommitRequest::default(), &Silent).unwrap().commit.unwrap());
    }
    let journal = crate::journal::Journal { commit: Some(commits[0]), ..Default::default() };
    journal.write(&**repo.store.vfs()).unwrap();
    let forget = ForgetRequest { keep_last: Some(1), ..ForgetRequest::default() };
    let result = repo.forget(&forget, &Silent).unwrap();
    assert_eq!((result.expired, result.kept), (vec![commits[1]], 2));
    collect(&repo);
    let cat = |rev: usize| {
        let mut out = Vec::new();
        let request = cat_f(&commits[rev].to_string());
        repo.cat(&request, &mut out).map(|()| out)
    };
    assert_eq!(cat(0).unwrap(), vec![0; 100_000]);
    assert!(cat(1).is_err());
    assert_eq!(cat(2).unwrap(), vec![2; 100_000]);
}
