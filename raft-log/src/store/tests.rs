use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};

use filesync_cas::testing::assert_caught;
use openraft::entry::FromAppData;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{CommittedLeaderId, RaftLogReader, RaftSnapshotBuilder};

use super::*;
use crate::command::{Batch, Command};
use crate::error::OpenError;
use crate::ids::{Millis, NodeId};
use crate::testing::{FakeDisk, Numbers, REPOSITORY, step_id};
use crate::types::{Entry, LogId, Membership, SnapshotMeta, StorageError, TypeConfig, Vote};

const HEADER: Header = Header { repository: REPOSITORY, node: NodeId(1) };

/// A directory that goes with its test.
#[derive(Debug)]
struct Dir(PathBuf);

impl Dir {
    fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("filesync-raft-store-{}-{number}", std::process::id()));
        std::fs::create_dir(&path).expect("a temporary directory can be made");
        Self(path)
    }

    fn copy_of(from: &Path) -> Self {
        let copy = Self::new();
        std::fs::create_dir(copy.0.join("db")).expect("it can be made");
        for dir in ["", "db"] {
            for file in std::fs::read_dir(from.join(dir)).expect("it can be read").flatten() {
                if file.path().is_file() {
                    std::fs::copy(file.path(), copy.0.join(dir).join(file.file_name())).expect("it can be copied");
                }
            }
        }
        copy
    }

    /// The log of the database that is being written.
    fn wal(&self) -> PathBuf {
        let files = std::fs::read_dir(self.0.join("db")).expect("it can be read").flatten();
        let logs = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|e| e == "log"));
        logs.max().expect("there is one")
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, Dir> for Builder {
    async fn build(&self) -> Result<(Dir, LogStore, Machine), StorageError> {
        let dir = Dir::new();
        let (log, machine) = open(&dir.0, Mode::Create).expect("it can be made");
        Ok((dir, log, machine))
    }
}

fn open(dir: &Path, mode: Mode) -> Result<(LogStore, Machine), OpenError> {
    let damaged = |cause| OpenError::Damaged { dir: dir.to_owned(), cause };
    let db = Arc::new(Db::open(dir, HEADER, mode)?);
    let log = LogStore::open(Arc::clone(&db)).map_err(damaged)?;
    let memory = Arc::new(Memory::open(db, REPOSITORY).map_err(damaged)?);
    Ok((log, Machine { memory, step_id }))
}

#[test]
fn openrafts_own_suite() {
    Suite::test_all(Builder).expect("it passes");
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime can be made").block_on(future)
}

fn entry(index: u64) -> Entry {
    let commands = vec![Command::Whole { node: NodeId(index) }];
    let mut entry = Entry::from_app_data(Batch { now: Millis(index), commands });
    entry.log_id = LogId::new(CommittedLeaderId::new(1, NodeId(1)), index);
    entry
}

fn append(log: &mut LogStore, indexes: std::ops::Range<u64>) {
    block_on(log.blocking_append(indexes.map(entry))).expect("it can be appended");
}

fn indexes(log: &mut LogStore) -> Vec<u64> {
    let entries = block_on(log.try_get_log_entries(..)).expect("it can be read");
    entries.iter().map(|entry| entry.log_id.index).collect()
}

#[test]
fn what_was_acknowledged_is_there_at_every_moment() {
    let dir = Dir::new();
    let (mut log, _machine) = open(&dir.0, Mode::Create).expect("it can be made");
    let mut copies = Vec::new();
    for index in 0..12 {
        append(&mut log, index..index + 1);
        let vote = (index % 4 == 3).then(|| Vote::new(index, NodeId(1)));
        if let Some(vote) = &vote {
            block_on(log.save_vote(vote)).expect("it can be saved");
        }
        copies.push((index, vote, Dir::copy_of(&dir.0)));
    }
    let mut voted = None;
    for (last, vote, copy) in copies {
        voted = vote.or(voted);
        let (mut log, _machine) = open(&copy.0, Mode::Moved).expect("it can be opened");
        assert_eq!(indexes(&mut log), (0..=last).collect::<Vec<_>>());
        assert_eq!(block_on(log.read_vote()).expect("it can be read"), voted);
    }
}

/// The power goes after each acknowledgement, and takes all of what was not synced, or an end of it.
#[test]
fn a_power_cut_takes_nothing_that_was_acknowledged() {
    for seed in 0..20 {
        let disk = FakeDisk::new(Numbers(seed), None);
        let open = |mode| {
            let plugged = disk.plug(Arc::new(AtomicBool::new(true)));
            let db = Db::simulated(Box::new(plugged), HEADER, mode).expect("nothing that was acknowledged is gone");
            LogStore::open(Arc::new(db)).expect("it can be opened")
        };
        append(&mut open(Mode::Create), 0..3);
        disk.cut();
        let mut log = open(Mode::Open);
        assert_eq!(indexes(&mut log), [0, 1, 2], "entries were acknowledged");
        let vote = Vote::new(7, NodeId(1));
        block_on(log.save_vote(&vote)).expect("it can be saved");
        disk.cut();
        let voted = block_on(open(Mode::Open).read_vote()).expect("it can be read");
        assert_eq!(voted, Some(vote), "a vote was given");
    }
}

#[test]
fn a_vote_that_is_not_synced() {
    let test = "store::tests::a_power_cut_takes_nothing_that_was_acknowledged";
    assert_caught("a vote that is not synced", test, "a vote was given");
}

#[test]
fn entries_that_are_not_synced() {
    let test = "store::tests::a_power_cut_takes_nothing_that_was_acknowledged";
    assert_caught("entries that are not synced", test, "entries were acknowledged");
}

/// A power cut while something is written leaves part of it. That is cut, and nothing else.
#[test]
fn torn_ends_are_cut_and_nothing_that_was_acknowledged() {
    let dir = Dir::new();
    let (mut log, _machine) = open(&dir.0, Mode::Create).expect("it can be made");
    append(&mut log, 0..3);
    let before = Dir::copy_of(&dir.0);
    let acknowledged = before.wal().metadata().expect("it is there").len();
    append(&mut log, 3..4);
    let written = dir.wal().metadata().expect("it is there").len();
    assert!(written > acknowledged);
    for len in acknowledged..=written {
        // What was acknowledged is noted by the file of before: this write never was.
        let torn = Dir::copy_of(&dir.0);
        std::fs::copy(before.0.join("acknowledged"), torn.0.join("acknowledged")).expect("it can be copied");
        cut(&torn.wal(), len);
        let (mut log, _machine) = open(&torn.0, Mode::Moved).unwrap_or_else(|error| panic!("{len}: {error}"));
        let expected = if len == written { 4 } else { 3 };
        assert_eq!(indexes(&mut log), (0..expected).collect::<Vec<_>>(), "{len} of {written}");
    }
    for len in (0..written).rev().step_by(7) {
        // And now it was: less is damage.
        let damaged = Dir::copy_of(&dir.0);
        cut(&damaged.wal(), len);
        let opened = open(&damaged.0, Mode::Moved).map(|_| ());
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{len} of {written}: {opened:?}");
    }
}

fn cut(path: &Path, len: u64) {
    let file = std::fs::OpenOptions::new().write(true).open(path).expect("it can be opened");
    file.set_len(len).expect("it can be cut");
}

#[test]
fn a_lost_vote_is_damage() {
    let dir = Dir::new();
    let (mut log, _machine) = open(&dir.0, Mode::Create).expect("it can be made");
    block_on(log.save_vote(&Vote::new(1, NodeId(1)))).expect("it can be saved");
    let before = Dir::copy_of(&dir.0);
    for term in 2..5 {
        block_on(log.save_vote(&Vote::new(term, NodeId(1)))).expect("it can be saved");
    }
    // The database of before, whole in itself.
    let old = Dir::copy_of(&before.0);
    std::fs::copy(dir.0.join("acknowledged"), old.0.join("acknowledged")).expect("it can be copied");
    let opened = open(&old.0, Mode::Moved).map(|_| ());
    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
    // One slot of the other file may be torn, not both.
    for (slots, is_damage) in [(vec![0_usize], false), (vec![1], false), (vec![0, 1], true)] {
        let torn = Dir::copy_of(&dir.0);
        let mut bytes = std::fs::read(torn.0.join("acknowledged")).expect("it can be read");
        for slot in &slots {
            bytes[slot * 4096 + 3] ^= 1;
        }
        std::fs::write(torn.0.join("acknowledged"), bytes).expect("it can be written");
        let opened = open(&torn.0, Mode::Moved).map(|_| ());
        assert_eq!(matches!(opened, Err(OpenError::Damaged { .. })), is_damage, "{slots:?}: {opened:?}");
    }
}

#[test]
fn flipped_bits_never_change_what_is_read() {
    let dir = Dir::new();
    {
        let (mut log, machine) = open(&dir.0, Mode::Create).expect("it can be made");
        append(&mut log, 0..20);
        block_on(log.save_vote(&Vote::new(7, NodeId(1)))).expect("it can be saved");
        drop(machine);
    }
    let mut refused = 0;
    let mut tried = 0;
    let list = |sub: &str| std::fs::read_dir(dir.0.join(sub)).expect("it can be read").flatten().collect::<Vec<_>>();
    for file in list("db").into_iter().chain(list("")) {
        if !file.path().is_file() || file.file_name() == "LOCK" || file.file_name() == "IDENTITY" {
            continue;
        }
        let relative = file.path().strip_prefix(&dir.0).expect("below").to_owned();
        let len = usize::try_from(file.metadata().expect("it is there").len()).expect("small");
        for at in (0..len).step_by((len / 12).max(1)) {
            let copy = Dir::copy_of(&dir.0);
            let mut bytes = std::fs::read(copy.0.join(&relative)).expect("it can be read");
            bytes[at] ^= 0x10;
            std::fs::write(copy.0.join(&relative), bytes).expect("it can be written");
            tried += 1;
            // Either it is refused, or all is as it was.
            match open(&copy.0, Mode::Moved) {
                Err(_) => refused += 1,
                Ok((mut log, _machine)) => match block_on(log.try_get_log_entries(..)) {
                    Err(_) => refused += 1,
                    Ok(entries) => {
                        assert_eq!(entries, (0..20).map(entry).collect::<Vec<_>>(), "{}: {at}", relative.display());
                        let vote = block_on(log.read_vote());
                        assert!(vote.is_err() || vote == Ok(Some(Vote::new(7, NodeId(1)))), "{vote:?}");
                    }
                },
            }
        }
    }
    assert!(refused > 5, "{refused} of {tried} were noticed");
}

#[test]
fn copies_and_others_are_refused() {
    let dir = Dir::new();
    drop(open(&dir.0, Mode::Create).expect("it can be made"));
    assert!(matches!(open(&dir.0, Mode::Create), Err(OpenError::Exists(_))));
    let copy = Dir::copy_of(&dir.0);
    assert!(matches!(open(&copy.0, Mode::Open), Err(OpenError::Moved(_))));
    drop(open(&copy.0, Mode::Moved).expect("somebody says so"));
    drop(open(&copy.0, Mode::Open).expect("said once"));
    let foreign = Header { node: NodeId(2), ..HEADER };
    assert!(matches!(Db::open(&dir.0, foreign, Mode::Open), Err(OpenError::Foreign { .. })));
    let _held = open(&dir.0, Mode::Open).expect("it can be opened");
    assert!(matches!(open(&dir.0, Mode::Open), Err(OpenError::Busy(_))));
    let empty = Dir::new();
    assert!(matches!(open(&empty.0, Mode::Open), Err(OpenError::Missing(_))));
}

#[test]
fn a_missing_file_is_damage() {
    let dir = Dir::new();
    {
        let (mut log, _machine) = open(&dir.0, Mode::Create).expect("it can be made");
        append(&mut log, 0..20);
    }
    for file in std::fs::read_dir(dir.0.join("db")).expect("it can be read").flatten() {
        let name = file.file_name();
        if name == "LOCK" || name == "IDENTITY" || name.to_string_lossy().starts_with("OPTIONS") {
            continue;
        }
        let copy = Dir::copy_of(&dir.0);
        std::fs::remove_file(copy.0.join("db").join(&name)).expect("it can be removed");
        match open(&copy.0, Mode::Moved) {
            Err(OpenError::Damaged { .. } | OpenError::Missing(_)) => {}
            Ok((mut log, _machine)) => assert_eq!(indexes(&mut log), (0..20).collect::<Vec<_>>(), "{name:?}"),
            Err(error) => panic!("{name:?}: {error}"),
        }
    }
}

#[test]
fn long_logs_are_read_in_pieces() {
    let dir = Dir::new();
    let (mut log, _machine) = open(&dir.0, Mode::Create).expect("it can be made");
    let large = |index: u64| {
        let addresses = vec!["x".repeat(700 << 10)];
        let commands = vec![Command::SetAddresses { node: NodeId(1), addresses }];
        let mut entry = Entry::from_app_data(Batch { now: Millis(index), commands });
        entry.log_id = LogId::new(CommittedLeaderId::new(1, NodeId(1)), index);
        entry
    };
    block_on(log.blocking_append((0..4).map(large))).expect("it can be appended");
    let piece =
        |log: &mut LogStore, start| block_on(log.limited_get_log_entries(start, 4)).expect("it can be read").len();
    assert_eq!(piece(&mut log, 0), 1, "never none");
    assert_eq!(piece(&mut log, 3), 1);
}

#[test]
fn what_was_purged_stays_so() {
    let dir = Dir::new();
    let at = |index| LogId::new(CommittedLeaderId::new(1, NodeId(1)), index);
    {
        let (mut log, mut machine) = open(&dir.0, Mode::Create).expect("it can be made");
        append(&mut log, 0..10);
        block_on(machine.apply((0..5).map(entry))).expect("it can be applied");
        machine.memory.flush().expect("it can be flushed");
        block_on(log.purge(at(4))).expect("it can be purged");
        block_on(log.truncate(at(8))).expect("it can be truncated");
    }
    let (mut log, _machine) = open(&dir.0, Mode::Open).expect("it can be opened");
    assert_eq!(indexes(&mut log), [5, 6, 7]);
    let state = block_on(log.get_log_state()).expect("it can be read");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(at(4)), Some(at(7))));
    block_on(log.truncate(at(5))).expect("it can be truncated");
    let state = block_on(log.get_log_state()).expect("it can be read");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(at(4)), Some(at(4))));
}

/// Another node's state as of entry 9.
fn received() -> (SnapshotMeta, Vec<u8>) {
    let dir = Dir::new();
    let (_log, mut machine) = open(&dir.0, Mode::Create).expect("it can be made");
    block_on(machine.apply((0..10).map(entry))).expect("it can be applied");
    let snapshot = block_on(machine.build_snapshot()).expect("it can be made");
    (snapshot.meta, *snapshot.snapshot)
}

/// Whether a future waits for something.
async fn waits<T>(mut future: Pin<&mut impl Future<Output = T>>) -> bool {
    poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_pending())).await
}

/// openraft purges the log up to a state that it receives before that state is on disk. A crash in between left a log
/// that went on after entries which nobody had applied.
#[test]
fn a_log_goes_when_the_state_that_replaces_it_is_there() {
    let at = |index| LogId::new(CommittedLeaderId::new(1, NodeId(1)), index);
    let dir = Dir::new();
    let (mut log, mut machine) = open(&dir.0, Mode::Create).expect("it can be made");
    append(&mut log, 0..3);
    let (meta, data) = received();
    machine.memory.offer(&meta, &data).expect("it can be installed");
    let mut purging = log.clone();
    block_on(async {
        let mut purge = pin!(purging.purge(at(9)));
        assert!(waits(purge.as_mut()).await);
        assert_eq!(reopened(&dir), (vec![0, 1, 2], None, None));
        machine.install_snapshot(&meta, Box::new(data)).await.expect("it can be installed");
        assert_eq!(reopened(&dir), (vec![], Some(9), Some(9)), "both in the same moment");
        purge.await.expect("it can be purged");
    });
    append(&mut log, 10..12);
    assert_eq!(reopened(&dir), (vec![10, 11], Some(9), Some(9)));
}

/// What a crash would leave: the entries, the last that is purged, the last that is applied.
fn reopened(dir: &Dir) -> (Vec<u64>, Option<u64>, Option<u64>) {
    let copy = Dir::copy_of(&dir.0);
    let (mut log, machine) = open(&copy.0, Mode::Moved).expect("it can be opened");
    // Nothing in here waits for anything.
    let mut reading = pin!(async {
        let entries = log.try_get_log_entries(..).await.expect("it can be read");
        (entries, log.get_log_state().await.expect("it can be read"))
    });
    let Poll::Ready((entries, state)) = reading.as_mut().poll(&mut Context::from_waker(Waker::noop())) else {
        panic!()
    };
    let applied = machine.memory.read(|state| state.applied);
    let indexes = entries.iter().map(|entry| entry.log_id.index).collect();
    (indexes, state.last_purged_log_id.map(|id| id.index), applied.map(|at| at.index.0))
}

#[test]
fn a_state_that_cannot_be_installed_ends_the_purge() {
    let dir = Dir::new();
    let (mut log, mut machine) = open(&dir.0, Mode::Create).expect("it can be made");
    append(&mut log, 0..3);
    let (meta, data) = received();
    let wrong = SnapshotMeta { last_log_id: None, ..meta.clone() };
    assert!(machine.memory.offer(&wrong, &data).is_err(), "of another entry");
    let voters = openraft::Membership::new(vec![[NodeId(1)].into()], None);
    let other = SnapshotMeta { last_membership: Membership::new(meta.last_log_id, voters), ..meta.clone() };
    assert!(machine.memory.offer(&other, &data).is_err(), "other voters");
    assert!(machine.memory.offer(&meta, &data[1..]).is_err(), "of another version");
    machine.memory.offer(&meta, &data).expect("it can be installed");
    block_on(async {
        let mut purge = pin!(log.purge(meta.last_log_id.expect("there is one")));
        assert!(waits(purge.as_mut()).await);
        machine.install_snapshot(&wrong, Box::new(data)).await.expect_err("it is wrong");
        purge.await.expect_err("there is no state");
    });
    assert_eq!(reopened(&dir), (vec![0, 1, 2], None, None));
}

#[test]
fn a_purge_goes_by_places() {
    let dir = Dir::new();
    let (mut log, _machine) = open(&dir.0, Mode::Create).expect("it can be made");
    // Written by a later leadership and never committed.
    let mut never = entry(0);
    never.log_id = LogId::new(CommittedLeaderId::new(7, NodeId(2)), 0);
    block_on(log.blocking_append([never])).expect("it can be appended");
    let upto = LogId::new(CommittedLeaderId::new(3, NodeId(1)), 9);
    block_on(log.purge(upto)).expect("it can be purged");
    let state = block_on(log.get_log_state()).expect("it can be read");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(upto), Some(upto)));
    // And a log without the state before it is none.
    let opened = open(&Dir::copy_of(&dir.0).0, Mode::Moved).map(|_| ());
    assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
}

const CHILD_DIR: &str = "FILESYNC_RAFT_CHILD_DIR";

/// Not a test by itself: what is killed by the next one.
#[test]
fn child_that_appends() {
    let Some(dir) = std::env::var_os(CHILD_DIR) else { return };
    let (mut log, _machine) = open(Path::new(&dir), Mode::Open).expect("it can be opened");
    let first = indexes(&mut log).len() as u64;
    for index in first.. {
        append(&mut log, index..index + 1);
        println!("acknowledged {index}");
    }
}

#[test]
fn killed_from_outside_nothing_acknowledged_is_lost() {
    use std::io::BufRead;

    let dir = Dir::new();
    drop(open(&dir.0, Mode::Create).expect("it can be made"));
    for round in 0..4_usize {
        let mut child = std::process::Command::new(std::env::current_exe().expect("this is a program"))
            .args(["--exact", "store::tests::child_that_appends", "--nocapture"])
            .env(CHILD_DIR, &dir.0)
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("it can be started");
        let lines = std::io::BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let told =
            lines.map_while(Result::ok).filter_map(|line| line.split_once("acknowledged ")?.1.parse::<u64>().ok());
        let last = told.take(20 + round * 7).last().expect("it said something");
        child.kill().expect("it can be killed");
        child.wait().expect("it ends");
        let (mut log, _machine) = open(&dir.0, Mode::Open).expect("it can be opened");
        let there = indexes(&mut log);
        assert!(there.len() as u64 > last, "{last} was acknowledged, {} are there", there.len());
        assert_eq!(there, (0..there.len() as u64).collect::<Vec<_>>());
    }
}

const TOLD_DIR: &str = "FILESYNC_RAFT_TOLD_DIR";

/// Not a test by itself: what is watched by the next one.
#[test]
fn child_that_does_everything() {
    let Some(dir) = std::env::var_os(TOLD_DIR) else { return };
    let at = |index| LogId::new(CommittedLeaderId::new(1, NodeId(1)), index);
    let (meta, data) = received();
    let db = Arc::new(Db::open(Path::new(&dir), HEADER, Mode::Create).expect("it can be made"));
    println!("told made");
    let mut log = LogStore::open(Arc::clone(&db)).expect("it can be opened");
    let memory = Arc::new(Memory::open(Arc::clone(&db), REPOSITORY).expect("it can be opened"));
    let mut machine = Machine { memory, step_id };
    append(&mut log, 0..5);
    println!("told append");
    block_on(log.save_vote(&Vote::new(1, NodeId(1)))).expect("it can be saved");
    println!("told vote");
    block_on(log.truncate(at(4))).expect("it can be truncated");
    println!("told truncate");
    block_on(machine.apply((0..3).map(entry))).expect("it can be applied");
    block_on(machine.build_snapshot()).expect("it can be made");
    println!("told flush");
    block_on(log.purge(at(1))).expect("it can be purged");
    println!("told purge");
    machine.memory.offer(&meta, &data).expect("it can be installed");
    block_on(machine.install_snapshot(&meta, Box::new(data))).expect("it can be installed");
    println!("told install");
    db.note(Note::Packs, b"1").expect("it can be noted");
    println!("told note");
}

#[test]
fn everything_is_synced_before_it_is_acknowledged() {
    if std::env::var_os("FILESYNC_NO_STRACE").is_some() {
        filesync_cas::testing::skipped("strace cannot be used: nothing is watched");
        return;
    }
    let (dir, traces) = (Dir::new(), Dir::new());
    let trace = traces.0.join("trace");
    let output = std::process::Command::new("strace")
        .args(["-f", "-y", "-e", "trace=write,pwrite64,writev,pwritev,fsync,fdatasync", "-o"])
        .arg(&trace)
        .arg(std::env::current_exe().expect("this is a program"))
        .args(["--exact", "store::tests::child_that_does_everything", "--nocapture"])
        .env(TOLD_DIR, &dir.0)
        .output()
        .expect("strace is there");
    assert!(output.status.success(), "{output:?}");
    let trace = std::fs::read_to_string(&trace).expect("it can be read");
    let (db, guard) = (dir.0.join("db"), dir.0.join("acknowledged>"));
    let (db, guard) = (db.to_str().expect("it is text"), guard.to_str().expect("it is text"));
    let (mut is_written, mut is_dirty, mut is_counted) = (false, false, false);
    let mut told = Vec::new();
    for line in trace.lines() {
        let is_sync = line.contains("sync(") && !line.contains("unfinished") || line.contains("sync resumed");
        if let Some((_, what)) = line.split_once("told ").filter(|_| line.contains("write(1<")) {
            let what = what.split('\\').next().unwrap_or_default();
            assert!(is_written && !is_dirty, "{what} was told before it was synced:\n{trace}");
            assert!(is_counted || what != "vote", "a vote was told before its number was synced:\n{trace}");
            told.push(what.to_owned());
            (is_written, is_counted) = (false, false);
        } else if line.contains("write") && line.contains(db) && line.contains(".log>") {
            (is_written, is_dirty) = (true, true);
        } else if is_sync && line.contains(guard) {
            is_counted = true;
        } else if is_sync && (line.contains(".log>") || line.contains("resumed")) {
            is_dirty = false;
        }
    }
    assert_eq!(told, ["made", "append", "vote", "truncate", "flush", "purge", "install", "note"]);
}
