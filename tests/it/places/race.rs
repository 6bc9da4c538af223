//! Files that change while they are looked at, and changes that hide.

use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use filesync_tests::process::{Stop, tick};
use filesync_tests::world::World;
use serde_json::Value;

use super::set_mtime;

/// Same size, same mtime, other bytes: ctime tells.
#[test]
fn a_change_that_keeps_size_and_mtime() {
    let world = World::repository();
    let path = world.path("f");
    for round in 0..3_u8 {
        for (at, old) in [(0, true), (1, false)] {
            let bytes = [b'a' + 2 * round + at; 1000];
            if old {
                // Long before the commit, so that the cache may trust it.
                world.write("f", bytes);
                set_mtime(&path, 1_000_000_000, 5);
                tick();
                world.commit();
            } else {
                std::fs::write(&path, bytes).expect("it can be written");
                set_mtime(&path, 1_000_000_000, 5);
                assert_eq!(world.changes(), ["M f"]);
                world.commit();
            }
            assert_eq!(world.cat("f"), bytes);
        }
    }
}

/// Written again at once, within the clock's tick, with as many bytes.
#[test]
fn a_change_right_after_a_commit() {
    let world = World::repository();
    let path = world.path("f");
    let mut number = 0_u32;
    let mut next = || {
        number += 1;
        let bytes = format!("{number:08}");
        std::fs::write(&path, &bytes).expect("it can be written");
        bytes.into_bytes()
    };
    for _ in 0..15 {
        let first = next();
        world.commit();
        let second = next();
        assert_eq!(world.cat("f"), first);
        assert_eq!(world.changes(), ["M f"]);
        world.commit();
        assert_eq!(world.cat("f"), second);
    }
}

#[test]
fn a_touched_file_makes_no_commit() {
    let world = World::repository();
    world.write("f", "f");
    let head = world.commit();
    for secs in [1, 1_000_000_000, 2_000_000_000] {
        set_mtime(&world.path("f"), secs, 0);
        assert_eq!(world.changes(), Vec::<String>::new());
        assert_eq!(world.object(0, &["commit"])["commit"], Value::Null);
    }
    assert_eq!(world.json(&["log"])[0]["commit"], head.as_str());
}

/// A thread rewrites one file while commits run: each holds a version that the file had, or fails and names it.
#[test]
fn a_file_that_changes_all_the_time() {
    let world = World::repository();
    world.write("still", "still");
    world.write("busy", version(0));
    world.commit();
    let stop = AtomicBool::new(false);
    // How often it was written, commits that had a version of it, those that were refused, and how many of both it was
    // written beside.
    let written = AtomicUsize::new(0);
    let (mut committed, mut refused, mut met) = (0, 0, 0);
    std::thread::scope(|scope| {
        let _told = Stop(&stop);
        scope.spawn(|| {
            let file = File::options().write(true).open(world.path("busy")).expect("it can be opened");
            let (mut number, began) = (0_u8, std::time::Instant::now());
            while !stop.load(Ordering::Relaxed) {
                number = number.wrapping_add(1);
                let bytes = version(number);
                // In place, in pieces, growing and shrinking on the way.
                file.write_all_at(&bytes[..LEN / 2], 0).expect("it can be written");
                file.set_len(LEN as u64 / 2).expect("it can shrink");
                file.write_all_at(&bytes[LEN / 2..], LEN as u64 / 2).expect("it can be written");
                written.fetch_add(1, Ordering::Relaxed);
                // For a second without end, then for one with pauses.
                if number.is_multiple_of(4) && began.elapsed().as_secs() % 2 == 1 {
                    // Long enough for a commit to see that no write is under way.
                    std::thread::sleep(std::time::Duration::from_millis(120));
                }
            }
        });
        while met < 8 || committed == 0 || refused == 0 {
            assert!(committed + refused < 400, "{committed} were committed, {refused} refused, {met} met a change");
            let before = written.load(Ordering::Relaxed);
            let output = world.run(&["commit", "--allow-empty"]);
            met += usize::from(written.load(Ordering::Relaxed) > before);
            match output.status.code() {
                Some(0) => {
                    committed += 1;
                    let bytes = world.cat("busy");
                    let whole = bytes.iter().all(|byte| *byte == bytes[0]);
                    assert!(whole && [LEN / 2, LEN].contains(&bytes.len()), "a mixture of {} bytes", bytes.len());
                }
                status => {
                    refused += 1;
                    let err = String::from_utf8_lossy(&output.stderr);
                    assert!(status == Some(1) && err.contains("busy: it changes while it is read"), "{err}");
                    // The rest is committed with --partial.
                    let output = world.run(&["commit", "--partial", "--allow-empty"]);
                    assert!(matches!(output.status.code(), Some(0 | 3)));
                }
            }
        }
    });
    println!("{committed} commits had a version of the file, {refused} were refused, {met} met a change");
    world.ok(&["commit", "--allow-empty"]);
    assert_eq!(world.cat("busy"), std::fs::read(world.path("busy")).expect("it can be read"));
    world.ok(&["fsck"]);
}

const LEN: usize = 3 << 20;

fn version(number: u8) -> Vec<u8> {
    vec![number; LEN]
}

/// Files appear and vanish while commits run: no error, and what is there at the end is committed at the end.
#[test]
fn files_that_come_and_go() {
    let world = World::repository();
    for name in 0..200 {
        world.write(format!("stay/{name}"), format!("{name}"));
    }
    let stop = AtomicBool::new(false);
    let turns = AtomicUsize::new(0);
    let (mut committed, mut met) = (0, 0);
    std::thread::scope(|scope| {
        let _told = Stop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let number = 1 + turns.fetch_add(1, Ordering::Relaxed);
                world.write(format!("stay/brief-{}", number % 7), "brief");
                world.write(format!("dir-{}/sub/x", number % 5), "x");
                drop(std::fs::remove_file(world.path(format!("stay/brief-{}", (number + 3) % 7))));
                drop(std::fs::remove_dir_all(world.path(format!("dir-{}", (number + 2) % 5))));
            }
        });
        // Each time a file has come and one has gone, at least.
        while met < 8 {
            assert!(committed < 400, "only {met} of {committed} commits met a change");
            let before = turns.load(Ordering::Relaxed);
            world.ok(&["commit"]);
            met += usize::from(turns.load(Ordering::Relaxed) > before + 7);
            committed += 1;
            world.ok(&["status"]);
            assert!(world.ok(&["ls", "HEAD:stay"]).lines().count() >= 200);
        }
    });
    world.ok(&["commit", "--allow-empty"]);
    assert_eq!(world.changes(), Vec::<String>::new());
    world.ok(&["fsck"]);
}

/// Commits at once: each comes through or is told that the store is busy, and the history has all of them.
fn at_once(number: usize, timeout: &str) -> usize {
    let world = World::repository();
    world.write("base", "base");
    world.commit();
    let children: Vec<_> = (0..number)
        .map(|at| {
            world.write(format!("f{at}"), format!("{at}"));
            let message = format!("commit {at}");
            let args = ["commit", "--allow-empty", "-m", &message, "--lock-timeout", timeout];
            world.command(&args).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("the program runs")
        })
        .collect();
    let mut done = Vec::new();
    for (at, child) in children.into_iter().enumerate() {
        let output = child.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr);
        match output.status.code() {
            Some(0) => done.push(format!("commit {at}")),
            status => assert!(status == Some(1) && err.contains("store is busy"), "{status:?}: {err}"),
        }
    }
    let log = world.json(&["log"]);
    let mut messages: Vec<_> = log.iter().map(|line| line["message"].as_str().expect("a text").to_owned()).collect();
    assert_eq!(messages.pop().as_deref(), Some("add base"));
    messages.sort();
    done.sort();
    assert_eq!(messages, done);
    for pair in log.windows(2) {
        assert_eq!(pair[0]["parents"][0], pair[1]["commit"]);
    }
    world.ok(&["fsck"]);
    world.ok(&["commit", "--allow-empty"]);
    assert_eq!(world.changes(), Vec::<String>::new());
    done.len()
}

#[test]
fn two_commits_at_once() {
    assert_eq!(at_once(2, "60s"), 2);
}

#[test]
fn twenty_commits_at_once() {
    assert_eq!(at_once(20, "120s"), 20);
}

#[test]
fn twenty_commits_that_do_not_wait() {
    assert!(at_once(20, "0s") >= 1);
}

/// The cache must not take another file for the one that it knows.
#[test]
fn files_that_swap_names() {
    let world = World::repository();
    for (name, bytes) in [("a", "first"), ("b", "other")] {
        world.write(name, bytes);
        set_mtime(&world.path(name), 1_000_000_000, 0);
    }
    world.commit();
    for (from, to) in [("a", "c"), ("b", "a"), ("c", "b")] {
        std::fs::rename(world.path(from), world.path(to)).expect("it can be renamed");
    }
    let inode = |name: &str| std::fs::metadata(world.path(name)).expect("it is there").ino();
    assert_ne!(inode("a"), inode("b"));
    world.commit();
    assert_eq!((world.cat("a"), world.cat("b")), (b"other".to_vec(), b"first".to_vec()));
}
