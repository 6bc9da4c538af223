//! How a daemon begins and ends, and how commands do that it carries out: in order, by signals, killed.

use std::fs::File;
use std::process::Stdio;
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::world::{World, is_long, seed, within};
use rustix::process::Signal;

use super::socket::{get, http_address};
use super::{Served, error, history, long_commit, send, until};

/// Whether nobody has the writer's lock.
fn is_free(world: &World) -> bool {
    let lock = File::open(world.path(".filesync/lock")).expect("it is there");
    rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

#[test]
fn two_daemons_are_one_too_many() {
    let world = World::repository();
    let daemon = Served::start(&world);
    let busy = format!("store is busy: serve, pid {}", daemon.pid());
    for args in [&["serve"][..], &["serve", "--detach"], &["serve", "--lock-timeout", "0s"]] {
        let began = Instant::now();
        let err = world.fails(1, args);
        assert!(err.contains(&busy) && err.contains("hint: `filesync stop`"), "{args:?}: {err}");
        assert!(began.elapsed() < Duration::from_secs(5), "{args:?}: it waited");
    }
    world.write("a", "a");
    world.commit();
}

#[test]
fn stop_waits_until_it_has_ended() {
    let world = World::repository();
    let err = world.fails(1, &["stop"]);
    assert!(err.contains("none answers here"), "{err}");
    let mut daemon = Served::start(&world);
    assert_eq!(world.ok(&["stop"]), format!("stopped the daemon, pid {}\n", daemon.pid()));
    assert!(is_free(&world));
    assert_eq!(daemon.ended(), Some(0));
    assert!(!world.path(".filesync/daemon/control").exists());
    world.fails(1, &["stop"]);
    let mut daemon = Served::start(&world);
    assert_eq!(world.object(0, &["stop"]), serde_json::json!({"v": 1, "pid": daemon.pid()}));
    assert_eq!(daemon.ended(), Some(0));
}

/// Whoever finds one that is halted hears of it in time; nothing that was given up is begun when it goes on.
#[test]
fn one_that_is_halted_is_told_in_time() {
    let world = World::repository();
    let daemon = Served::start(&world);
    world.write("a", "a");
    daemon.signal(Signal::STOP);
    let told = format!("cannot ask the daemon: pid {}: it does not answer", daemon.pid());
    for args in [&["stop", "--lock-timeout", "1s"][..], &["commit", "--lock-timeout", "1s"]] {
        let output = within(120, &world.command(args)).output().expect("it runs");
        assert_eq!(output.status.code(), Some(1), "{args:?}: {output:?}");
        assert!(error(&output).contains(&told) && error(&output).contains("hint: "), "{args:?}: {output:?}");
    }
    daemon.signal(Signal::CONT);
    assert_eq!(world.changes(), ["A a"]);
    world.commit();
    world.ok(&["stop"]);
}

#[test]
fn detached_it_answers_when_the_command_returns() {
    let world = World::repository();
    world.ok(&["config", "set", "log.format", "json"]);
    let served = world.object(0, &["serve", "--detach", "--http", "127.0.0.1:0"]);
    let address = served["http"].as_str().expect("where it answers");
    assert!(get(address, "/healthz").ends_with("ok\n"), "{address}");
    let pid = served["pid"].as_u64().expect("a number");
    assert_eq!(served["path"], world.root().to_str().expect("UTF-8"));
    world.write("a", "a");
    let head = world.commit();
    let err = world.fails(1, &["serve", "--detach"]);
    assert!(err.contains(&format!("store is busy: serve, pid {pid}")), "{err}");
    // A session of its own: no terminal ends it.
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let session = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(3)).expect("a number");
    assert_eq!(session, pid.to_string());
    assert_eq!(world.object(0, &["stop"])["pid"], pid);
    assert!(is_free(&world));
    let log = std::fs::read_to_string(world.path(".filesync/daemon/log")).expect("there is one");
    let lines = log.lines().filter(|line| line.starts_with('{'));
    let told: Vec<serde_json::Value> = lines.map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let says = |word: &str| told.iter().any(|line| line["fields"]["message"] == word);
    assert!(says("serving") && says("done") && says("ended"), "{log}");
    assert_eq!(history(&world), [head]);
    // What keeps it from beginning is told, with its status.
    world.write(".filesync/config.toml", "[log]\nformat = \"xml\"\n");
    let err = world.fails(1, &["serve", "--detach"]);
    assert!(err.contains("log.format cannot be \"xml\""), "{err}");
}

#[test]
fn what_is_not_there_yet_is_refused() {
    let world = World::repository();
    for (args, word) in [
        (&["serve", "--watch"][..], "no background mode yet"),
        (&["serve", "--listen", "nowhere"], "not an address and a port"),
        (&["serve", "--http", "0.0.0.0:0"], "others could reach it"),
        (&["serve", "--http", "nowhere"], "not an address and a port"),
    ] {
        let err = world.fails(2, args);
        assert!(err.contains(word), "{args:?}: {err}");
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let address = taken.local_addr().expect("it has one").to_string();
    let err = world.fails(1, &["serve", "--http", &address]);
    assert!(err.contains(&format!("cannot listen on {address}: Address already in use")), "{err}");
    assert!(is_free(&world) && !world.path(".filesync/daemon/control").exists());
}

#[test]
fn signals_end_it_within_five_seconds() {
    for sent in [Signal::TERM, Signal::INT] {
        let world = World::repository();
        world.write("kept", "kept");
        let head = world.commit();
        let mut daemon = Served::start(&world);
        let commit = long_commit(&world);
        // One that waits for its turn.
        let waiting = world.command(&["tag", "v1", "--lock-timeout", "60s"]).stderr(Stdio::piped()).spawn();
        let waiting = waiting.expect("the program runs");
        let began = Instant::now();
        daemon.signal(sent);
        assert_eq!(daemon.ended(), Some(0));
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        let output = commit.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(1), "{}", error(&output));
        assert!(error(&output).contains("interrupted: the daemon was stopped"), "{}", error(&output));
        // It was stopped, or came to carry itself out.
        let output = waiting.wait_with_output().expect("it ends");
        let told = error(&output);
        assert!(output.status.success() || told.contains("the daemon was stopped"), "{told}");
        assert!(is_free(&world));
        assert_eq!(history(&world), [head]);
        std::fs::remove_file(world.path("huge")).expect("it is there");
        world.ok(&["fsck"]);
    }
}

#[test]
fn an_interrupted_command_is_stopped_and_the_daemon_goes_on() {
    let world = World::repository();
    world.write("kept", "kept");
    let head = world.commit();
    let mut daemon = Served::with(&world, &["--http", "127.0.0.1:0"]);
    for (sent, status) in [(Signal::INT, Some(130)), (Signal::TERM, Some(143)), (Signal::KILL, None)] {
        let mut commit = long_commit(&world);
        let began = Instant::now();
        send(&commit, sent);
        let output = commit.wait().expect("it ends");
        assert_eq!(output.code(), status);
        // The next one gets its turn.
        world.ok(&["tag", "v1", "--force", "--lock-timeout", "5s"]);
        assert!(began.elapsed() < Duration::from_secs(5), "{sent:?}: {:?}", began.elapsed());
        assert_eq!(history(&world), [head.as_str()]);
        std::fs::remove_file(world.path("huge")).expect("it is there");
    }
    // So does one that stands behind it in the queue, and one that has gone from there.
    let mut commit = long_commit(&world);
    let mut gone = world.command(&["tag", "gone", "--lock-timeout", "60s"]).spawn().expect("the program runs");
    let mut waits = world.command(&["tag", "waits", "--lock-timeout", "60s"]).spawn().expect("the program runs");
    let address = http_address(&daemon);
    until("both stand in the queue", || {
        get(&address, "/metrics").lines().any(|line| line == "filesync_commands_under_way 3")
    });
    send(&gone, Signal::INT);
    assert_eq!(gone.wait().expect("it ends").code(), Some(130));
    assert!(waits.try_wait().expect("it can be asked").is_none(), "it did not wait");
    send(&commit, Signal::INT);
    commit.wait().expect("it ends");
    assert!(waits.wait().expect("it ends").success());
    let tags = world.ok(&["tag"]);
    assert!(tags.contains("waits") && !tags.contains("gone"), "{tags}");
    daemon.signal(Signal::TERM);
    assert_eq!(daemon.ended(), Some(0));
    world.ok(&["fsck"]);
}

/// Killed at any moment of a commit: what was told to be done is there, the rest is there as a whole or not at all.
#[test]
fn a_daemon_that_is_killed_loses_nothing() {
    let mut rng = Rng::new(seed(23));
    let world = World::repository();
    world.write("a", "a");
    let mut known = vec![world.commit()];
    let (mut done, mut cut) = (0, 0);
    let rounds = if is_long() { 300 } else { 14 };
    // How long it may live on. What is done takes a while on one machine and hardly any time on another: it is killed earlier
    // after a command that was through, and later after one that was not.
    let mut within = 120_000_u64;
    for round in 0.. {
        if round >= rounds && cut > 1 {
            break;
        }
        assert!(round < rounds + 200, "{done} done, {cut} cut off");
        let mut daemon = Served::start(&world);
        for name in 0..60 {
            world.write(format!("d{}/{name}", round % 5), format!("{round} {name}").repeat(50));
        }
        world.write("noise", rng.bytes(400_000));
        let mut command = world.command(&["--json", "commit", "-m", "x"]);
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        std::thread::sleep(Duration::from_micros(rng.below(within)));
        daemon.signal(Signal::KILL);
        daemon.ended();
        let output = child.wait_with_output().expect("it ends");
        match output.status.code() {
            Some(0) => {
                let result: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
                known.insert(0, result["commit"].as_str().expect("something changed").to_owned());
                assert_eq!(history(&world), known, "round {round}");
                done += 1;
                within = (within * 4 / 5).max(1_000);
            }
            Some(4) => {
                assert!(error(&output).contains("cannot tell whether it was done"), "{}", error(&output));
                let now = history(&world);
                assert!(now.ends_with(&known) && now.len() <= known.len() + 1, "round {round}");
                known = now;
                cut += 1;
                within = (within * 5 / 4).min(120_000);
            }
            other => panic!("round {round}: {other:?}: {}", error(&output)),
        }
    }
    println!("{done} done, {cut} cut off");
    world.ok(&["commit", "--allow-empty", "-m", "in the end"]);
    assert_same(&read_tree(world.root()), &world.restored("HEAD"), "in the end");
    world.ok(&["fsck"]);
}

/// Who only reads is not held up by a daemon, nor by what it does.
#[test]
fn readers_beside_a_daemon() {
    let world = World::repository();
    world.write("kept/a", "a");
    let head = world.commit();
    let _daemon = Served::start(&world);
    for beside in [false, true] {
        let commit = beside.then(|| long_commit(&world));
        assert_eq!(world.cat("kept/a"), b"a");
        assert!(world.ok(&["log"]).contains(&head));
        world.ok(&["fsck"]);
        world.ok(&["gc", "--dry-run"]);
        world.restored("HEAD");
        assert_eq!(world.changes(), if beside { &["A huge"][..] } else { &[][..] });
        if let Some(mut commit) = commit {
            send(&commit, Signal::INT);
            commit.wait().expect("it ends");
        }
    }
}

/// What a daemon that was killed left of a restore is ended by the next, and by any that a reader asks who meets it.
#[test]
fn a_restore_that_was_cut_off_is_ended() {
    let world = World::repository();
    for text in ["first", "second"] {
        for name in 0..300 {
            world.write(format!("many/{name}"), format!("{text} {name}").repeat(20));
        }
        world.commit();
    }
    let journal = world.path(".filesync/journal");
    let mut left = None;
    for _ in 0..40 {
        let mut daemon = Served::start(&world);
        let mut restore =
            world.command(&["restore", "HEAD~1"]).stderr(Stdio::null()).spawn().expect("the program runs");
        until("the restore is under way", || {
            journal.exists() || restore.try_wait().expect("it can be asked").is_some()
        });
        daemon.signal(Signal::KILL);
        daemon.ended();
        restore.wait().expect("it ends");
        left = std::fs::read(&journal).ok();
        if left.is_some() {
            break;
        }
        world.ok(&["restore"]);
    }
    let left = left.expect("one of them was cut off");
    let _daemon = Served::start(&world);
    assert!(!journal.exists());
    assert_eq!(world.changes().len(), 300);
    std::fs::write(&journal, left).expect("it can be written");
    let output = world.run(&["status"]);
    assert!(output.status.success() && !journal.exists(), "{}", error(&output));
    assert!(error(&output).contains("finishing a restore"), "{}", error(&output));
    assert_eq!(world.changes().len(), 300);
}
