//! The small files of a repository, with bytes that are nearly right (G8): see [`filesync_cas::testing::Fuzz`]. What else is
//! read is tried beside its decoder.

use std::collections::BTreeSet;
use std::path::Path;

use bolero::check;
use filesync_cas::ContentHash;
use filesync_cas::pack::PackName;
use filesync_cas::small_file::Builder;
use filesync_cas::testing::{Fuzz, LossVfs, SMALL_FILE_WORDS, Tally, Target, seal_small_file};
use filesync_cas::vfs::{Open, Vfs, read_to_end, replace, write_all_at};
use filesync_merkle::{CommitId, PubId, RepoPath};
use filesync_raft_log::State;
use filesync_raft_log::ids::{Id, NodeId, PeerKey, RefName, RepositoryId};
use filesync_raft_log::state::Member;

use crate::cluster::member::{self, Membership};
use crate::cluster::outbox::{self, Outbox, Sending};
use crate::cluster::remote::{self, Remote};
use crate::collected;
use crate::expired::{self, Expired};
use crate::identity::Identity;
use crate::journal::{self, Journal, Line};
use crate::parts::{self, Copied};
use crate::tags;
use crate::tags::wishes::{self, Wish, Wishes};

/// A run over `samples`, which knows what was allocated.
pub(crate) fn fuzz(samples: &[Vec<u8>]) -> Fuzz<'_> {
    fn peak(run: &mut dyn FnMut()) -> u64 {
        allocation_counter::measure(run).bytes_max
    }
    Fuzz::new(samples, peak)
}

/// A file system with empty directories for tags and pins.
pub(crate) fn empty() -> LossVfs {
    let vfs = LossVfs::new();
    ["refs", "refs/tags", "pins"].iter().for_each(|dir| vfs.mkdir(Path::new(dir), 0o755).expect("memory takes it"));
    vfs
}

pub(crate) fn content(vfs: &dyn Vfs, path: &str) -> Vec<u8> {
    read_to_end(vfs, Path::new(path), 1 << 20).expect("it is there")
}

/// What is written to `path`.
fn written(path: &str, write: impl FnOnce(&dyn Vfs)) -> Vec<u8> {
    let vfs = empty();
    write(&vfs);
    content(&vfs, path)
}

/// The file system with these bytes at `path`.
pub(crate) fn holding(path: &str, bytes: &[u8]) -> LossVfs {
    let vfs = empty();
    let file = vfs.open(Path::new(path), Open::Create { mode: 0o644 }).expect("memory takes it");
    write_all_at(&*file, bytes, 0).expect("memory takes it");
    vfs
}

/// Tries the file at `path`: what is read of it, and written again, is the same file.
fn try_file<T>(
    target: Target,
    path: &str,
    samples: &[Vec<u8>],
    read: impl Fn(&dyn Vfs) -> Option<T>,
    write: impl Fn(&dyn Vfs, &T),
) -> Tally {
    fuzz(samples).sealed(seal_small_file).words(&SMALL_FILE_WORDS).run(target, |bytes| {
        let value = read(&holding(path, bytes))?;
        Some(written(path, |vfs| write(vfs, &value)))
    })
}

fn commit(number: u8) -> CommitId {
    CommitId::from_bytes([number; 32])
}

#[test]
fn journals() {
    let line = |path: &[u8], old, new| Line { path: RepoPath::parse(path).unwrap(), old, new };
    let lines = vec![
        line(b"a", journal::State::Leaf([1; 16]), journal::State::Nothing),
        line(b"a b\n/\xff", journal::State::Nothing, journal::State::Leaf([2; 16])),
        line(b"d", journal::State::Leaf([3; 16]), journal::State::Directory),
    ];
    let all = [
        Journal::default(),
        Journal { commit: Some(commit(7)), head: None, lines: lines[..1].to_vec() },
        Journal { commit: Some(commit(7)), head: Some(commit(8)), lines },
    ];
    let samples = all.map(|journal| written(journal::PATH, |vfs| journal.write(vfs).unwrap()));
    let read = |vfs: &dyn Vfs| Journal::read(vfs).unwrap().expect("it is there").ok();
    try_file(check!(), journal::PATH, &samples, read, |vfs, journal| journal.write(vfs).unwrap()).reaches(1_000);
}

#[test]
fn lists_of_expired() {
    let samples = [vec![], vec![1], vec![1, 2, 0xaf]].map(|numbers: Vec<u8>| {
        let list = Expired(numbers.into_iter().map(commit).collect());
        written(expired::PATH, |vfs| list.write(vfs).unwrap())
    });
    let read = |vfs: &dyn Vfs| Expired::read(vfs).ok();
    try_file(check!(), expired::PATH, &samples, read, |vfs, list| list.write(vfs).unwrap()).reaches(1_000);
}

#[test]
fn tags_of_a_repository() {
    let bytes = |id: &CommitId| {
        let mut file = Builder::new("filesync ref 1");
        file.line(&format!("commit {id}"));
        file.finish()
    };
    let samples = [1, 0xaf].map(|number| bytes(&commit(number)));
    let read = |vfs: &dyn Vfs| tags::find(vfs, "v1").ok().flatten();
    let write = |vfs: &dyn Vfs, id: &CommitId| {
        let file = vfs.open(Path::new("refs/tags/v1"), Open::Create { mode: 0o644 }).unwrap();
        write_all_at(&*file, &bytes(id), 0).unwrap();
    };
    try_file(check!(), "refs/tags/v1", &samples, read, write).reaches(1_000);
}

#[test]
fn wishes_for_tags() {
    let wish = |expected: Option<u8>, new: Option<u8>| Wish { expected: expected.map(commit), new: new.map(commit) };
    let all = [("v1", wish(None, Some(1))), ("a/b", wish(Some(2), None)), ("a.c", wish(Some(1), Some(3)))];
    let samples = [0, 1, 3].map(|count| {
        let wishes = Wishes(all[..count].iter().map(|(name, wish)| ((*name).to_owned(), *wish)).collect());
        written(wishes::PATH, |vfs| wishes.write(vfs).unwrap())
    });
    let read = |vfs: &dyn Vfs| Wishes::read(vfs).ok().flatten();
    try_file(check!(), wishes::PATH, &samples, read, |vfs, wishes| wishes.write(vfs).unwrap()).reaches(1_000);
}

#[test]
fn identities() {
    let samples = [0, 0x7f].map(|number| {
        let mut file = Builder::new("filesync identity 1");
        file.line(&format!("secret {}", ContentHash::from_bytes([number; 32])));
        file.finish()
    });
    let read = |vfs: &dyn Vfs| Identity::load(vfs).ok();
    try_file(check!(), "identity", &samples, read, |vfs, identity| identity.save(vfs).unwrap()).reaches(1_000);
}

#[test]
fn memberships() {
    let all = [(1, false, false), (12, true, false), (u64::MAX, false, true)];
    let all = all.map(|(node, has_log, is_partial)| Membership { node: NodeId(node), has_log, is_partial });
    let samples = all.map(|membership| written(member::PATH, |vfs| member::write(vfs, membership).unwrap()));
    let read = |vfs: &dyn Vfs| member::read(vfs).ok().flatten();
    try_file(check!(), member::PATH, &samples, read, |vfs, membership| member::write(vfs, *membership).unwrap())
        .reaches(1_000);
}

#[test]
fn parts_of_a_partial_copy() {
    let path = |text: &str| RepoPath::parse(text.as_bytes()).unwrap();
    let samples = [&["a"][..], &["a/b", "c d"]].map(|paths| {
        let copied = Copied::new(&paths.iter().map(|text| path(text)).collect::<Vec<_>>()).unwrap();
        written(parts::PATH, |vfs| copied.write(vfs).unwrap())
    });
    let read = |vfs: &dyn Vfs| Copied::read(vfs).ok();
    try_file(check!(), parts::PATH, &samples, read, |vfs, copied| copied.write(vfs).unwrap()).reaches(1_000);
}

#[test]
fn outboxes() {
    let sending = |name: &str, expected: Option<u8>, new: Option<u8>| {
        Some(Sending { name: name.to_owned(), expected: expected.map(commit), new: new.map(commit) })
    };
    let all = [
        Outbox { seq: 7, sending: None },
        Outbox { seq: 1, sending: sending("main", None, Some(1)) },
        Outbox { seq: u64::MAX, sending: sending("tags/a b", Some(2), None) },
    ];
    let samples = all.map(|outbox| written(outbox::PATH, |vfs| outbox.write(vfs).unwrap()));
    let read = |vfs: &dyn Vfs| Outbox::read(vfs).ok();
    try_file(check!(), outbox::PATH, &samples, read, |vfs, outbox| outbox.write(vfs).unwrap()).reaches(1_000);
}

#[test]
fn remotes() {
    let mut state = State::new(RepositoryId([7; 32]));
    let plain = Remote::new(state.clone());
    state.refs.insert(RefName::new("main").unwrap(), Id([9; 32]));
    state.members.insert(NodeId(1), Member::known(PeerKey([3; 32]), vec!["127.0.0.1:1".to_owned()]));
    state.voters = vec![[NodeId(1), NodeId(2)].into()];
    let mut lived_in = Remote::new(state);
    (lived_in.held, lived_in.held_index) = (Some(commit(9)), 12);
    lived_in.step = Some(PubId(ContentHash::from_bytes([4; 32])));
    let samples = [plain, lived_in].map(|remote| written(remote::PATH, |vfs| remote.write(vfs).unwrap()));
    let read = |vfs: &dyn Vfs| Remote::read(vfs).ok().flatten();
    try_file(check!(), remote::PATH, &samples, read, |vfs, remote| remote.write(vfs).unwrap()).reaches(1_000);
}

#[test]
fn lists_of_collected() {
    let write = |vfs: &dyn Vfs, packs: &BTreeSet<PackName>| {
        let mut file = Builder::new("filesync collected 1");
        packs.iter().for_each(|pack| file.line(&format!("pack {pack}")));
        replace(vfs, Path::new("collected"), &file.finish(), 0o644).unwrap();
    };
    let samples = [vec![], vec![1], vec![1, 2, 0xaf]].map(|numbers: Vec<u8>| {
        let packs = numbers.into_iter().map(|number| PackName::from_bytes([number; 16])).collect();
        written("collected", |vfs| write(vfs, &packs))
    });
    try_file(check!(), "collected", &samples, |vfs: &dyn Vfs| collected::read(vfs).ok(), write).reaches(1_000);
}
