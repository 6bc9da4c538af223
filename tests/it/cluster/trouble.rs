//! Ordinary trouble: what is told, what goes on, and what is there afterwards.

use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::ExitStatusExt;

use filesync_tests::world::{TempDir, behind};

use super::chaos::clock::{HOUR, Library};
use super::disk::{BALLAST, Disk};
use super::operator::get;
use super::*;
use crate::crash::has_strace;

/// Three voters, of which the first has founded the cluster, with their daemons and where these listen.
pub(super) fn three(one: World) -> (Vec<World>, Vec<Option<Daemon>>, Vec<String>) {
    let addresses = vec![address(), address(), address()];
    let mut daemons = vec![Some(Daemon::start(&one, &addresses[0]))];
    sync(&one);
    let mut voters = vec![one];
    for (name, address) in [("two", &addresses[1]), ("three", &addresses[2])] {
        let (world, _) = join(&invite(&voters[0], "voter"), name);
        daemons.push(Some(Daemon::start(&world, address)));
        voters.push(world);
    }
    voters[0].ok(&["peers", "promote", "two", "--timeout", "120s"]);
    until("all hold the head", || holds_head(&voters[0], &["one", "two", "three"]));
    (voters, daemons, addresses)
}

fn holds_head(asked: &World, names: &[&str]) -> bool {
    let output = asked.run(&["--json", "peers", "--timeout", "5s"]);
    let peers: Vec<Value> =
        String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let holds = |name: &&str| peers.iter().any(|peer| peer["name"] == **name && peer["holds_head"] == true);
    output.status.success() && names.iter().all(holds)
}

/// Writes and commits something, whose id is that of the new head.
pub(super) fn work(world: &World, what: &str) -> String {
    world.write(format!("work/{what}"), what);
    world.commit()
}

/// Until it is published; each attempt ends by itself.
pub(super) fn publish(world: &World) {
    until("it is published", || world.run(&["sync", "--timeout", "5s"]).status.success());
    assert_eq!(world.object(0, &["status"])["ahead"], 0);
}

/// What a voter missed comes to it oldest first, and what it holds moves on meanwhile.
#[test]
fn cluster_voters_catch_up_from_the_oldest_on() {
    let (voters, mut daemons, addresses) = three(founder());
    daemons[2].take().expect("it runs").kill();
    let missed: Vec<String> = (0..4)
        .map(|n| {
            let head = work(&voters[0], &format!("missed {n}"));
            publish(&voters[0]);
            head
        })
        .collect();
    voters[2].ok(&["config", "set", "log.level", "debug"]);
    let dir = TempDir::new();
    let log = dir.path().join("log");
    let mut command = voters[2].command(&["serve", "--listen", &addresses[2]]);
    command.stderr(std::fs::File::create(&log).expect("a file"));
    let back = Daemon::spawn(command);
    let held = || -> Vec<String> {
        let text = std::fs::read_to_string(&log).expect("a log");
        let lines = text.lines().filter(|line| line.contains("holds what was published"));
        lines.filter_map(|line| missed.iter().find(|head| line.contains(*head)).cloned()).collect()
    };
    until("it holds all that it missed", || held().last() == missed.last());
    assert_eq!(held(), missed);
    back.end();
    daemons.into_iter().flatten().for_each(Daemon::end);
}

/// SIGTERM is obeyed within five seconds, also by a voter on which a sync waits for a majority: of the two others one is gone, and
/// one hangs and keeps its connections.
#[test]
fn cluster_daemons_end_within_five_seconds() {
    let (voters, mut daemons, addresses) = three(founder());
    daemons[0].take().expect("it runs").end();
    let http = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let mut daemon = Daemon::start_with(&voters[0], &addresses[0], &["--http", &http]);
    until("it has come back", || get(&http, "/readyz").contains("200 OK"));
    daemons[2].take().expect("it runs").kill();
    let hanging = daemons[1].take().expect("it runs");
    hanging.signal(Signal::STOP);
    let head = work(&voters[0], "alone");
    let mut waits = voters[0].command(&["sync", "--timeout", "300s"]).stderr(Stdio::piped()).spawn().expect("it runs");
    until("the sync waits", || get(&http, "/metrics").contains("\nfilesync_commands_under_way 1\n"));
    assert!(waits.try_wait().expect("it can be asked").is_none());

    let began = Instant::now();
    daemon.signal(Signal::TERM);
    let status = daemon.0.wait().expect("it ends");
    assert!(status.success() && began.elapsed() < Duration::from_secs(5), "{status} after {:?}", began.elapsed());
    let output = waits.wait_with_output().expect("it ends");
    let err = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && err.contains("the daemon was stopped"), "{}: {err}", output.status);

    // What was not published is there still, and is published later.
    hanging.signal(Signal::CONT);
    let back = Daemon::start(&voters[0], &addresses[0]);
    publish(&voters[0]);
    assert_eq!(voters[0].head(), Some(head));
    [back, hanging].into_iter().for_each(Daemon::end);
}

/// Invites that have run out, that lead elsewhere, or to nobody; addresses that are none of this machine.
#[test]
fn cluster_doors_that_do_not_open_are_told() {
    let (one, other) = (founder(), founder());
    let (daemon, elsewhere) = (Daemon::start(&one, &address()), Daemon::start(&other, &address()));
    sync(&one);
    sync(&other);
    let expired = one.ok(&["invite", "--expires", "1ms"]).trim().to_owned();
    let empty = World::empty();
    let refused = clone_within("3s", &empty, &expired, "late");
    let err = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(1) && err.contains("expired"), "{refused:?}");
    assert_eq!(empty.run(&["clone", &expired, "new"]).status.code(), Some(1));
    assert!(!empty.path("new").exists(), "nothing was made there");
    // The next attempt there is as good as the first.
    assert!(clone(&empty, &invite(&one, "writer"), "in time").status.success());
    // A repository of one cluster joins no other.
    let (member, _) = join(&invite(&one, "writer"), "member");
    let before = (member.head(), std::fs::read(member.path(".filesync/member")).expect("it is one"));
    let refused = clone(&member, &invite(&other, "writer"), "member");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert_eq!(before, (member.head(), std::fs::read(member.path(".filesync/member")).expect("it is one")));
    sync(&member);
    // Nobody is there any more.
    let line = invite(&other, "writer");
    elsewhere.end();
    let alone = World::empty();
    let refused = clone_within("1s", &alone, &line, "nobody");
    assert_eq!(refused.status.code(), Some(4), "{refused:?}");
    // What it left is no repository of its own: nothing is founded in it.
    let err = alone.fails(1, &["sync"]);
    assert!(err.contains("has not finished joining") && err.contains("clone"), "{err}");
    assert!(alone.object(0, &["status"])["as_of"].is_null());
    // An address that is none of ours, and one that is no address.
    let err = other.fails(1, &["serve", "--listen", "192.0.2.7:7946"]);
    assert!(err.contains("192.0.2.7:7946"), "{err}");
    other.fails(2, &["serve", "--listen", "no address"]);
    daemon.end();
}

/// Two directories with one identity: the copy says what it is and does nothing, and the original goes on, also while it runs.
#[test]
fn cluster_copies_do_not_start_beside_their_original() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let copy = World::copy_of(one.root());
    for args in [&["serve", "--listen", &address()][..], &["sync"], &["peers"]] {
        let err = copy.fails(1, args);
        assert!(err.contains("--moved"), "{args:?}: {err}");
    }
    // What needs no cluster works there.
    work(&copy, "of the copy");
    copy.ok(&["fsck"]);
    let err = one.fails(1, &["serve"]);
    assert!(err.contains("store is busy: serve, pid "), "{err}");
    work(&one, "of the original");
    publish(&one);
    daemon.end();
}

/// What a voter has promised is gone, or forgotten by what stands beside it: it does not begin anew as if it had promised nothing.
#[test]
fn cluster_voter_without_its_log_does_not_vote() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "voter"), "two");
    let before = std::fs::read(two.path(".filesync/member")).expect("it is one");
    let listen = address();
    let other = Daemon::start(&two, &listen);
    one.ok(&["peers", "promote", "two", "--even", "--timeout", "120s"]);
    other.end();
    let (log, aside) = (two.path(".filesync/raft"), two.path(".filesync/aside"));
    std::fs::rename(&log, &aside).expect("moved");
    let err = two.fails(1, &["serve", "--listen", &listen]);
    assert!(err.contains("must not vote") && err.contains("join again"), "{err}");
    std::fs::rename(&aside, &log).expect("moved back");
    // As of when it had no log yet.
    // Held open, so that no other gets its number.
    let promised = std::fs::File::open(&log).expect("it is there");
    let now = std::fs::read(two.path(".filesync/member")).expect("it is one");
    assert_ne!(now, before);
    std::fs::write(two.path(".filesync/member"), before).expect("put back");
    let other = Daemon::start(&two, &listen);
    work(&two, "with all that it promised");
    publish(&two);
    let ino = |meta: std::io::Result<std::fs::Metadata>| meta.expect("it is there").ino();
    assert_eq!(ino(std::fs::metadata(&log)), ino(promised.metadata()));
    assert_eq!(std::fs::read(two.path(".filesync/member")).expect("it is one"), now);
    other.end();
    daemon.end();
}

/// A writer's directory that was copied is one member twice. Whichever of the two publishes, nothing that one of them has committed is
/// lost, and neither takes the other's publish for its own.
#[test]
fn cluster_copies_of_a_writer_take_nothing_from_each_other() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (writer, _) = join(&invite(&one, "writer"), "laptop");
    work(&writer, "before");
    publish(&writer);
    let copy = World::copy_of(writer.root());
    let heads = [work(&writer, "of the original"), work(&copy, "of the copy")];
    for world in [&writer, &copy, &writer, &copy] {
        let output = world.run(&["sync", "--timeout", "5s"]);
        println!("{output:?}");
    }
    for (world, head) in [&writer, &copy].into_iter().zip(&heads) {
        let log = world.json(&["log"]);
        assert!(log.iter().any(|commit| commit["commit"] == **head), "{head} is gone");
        world.ok(&["fsck"]);
    }
    sync(&one);
    let log = one.json(&["log"]);
    assert!(heads.iter().all(|head| log.iter().any(|commit| commit["commit"] == **head)), "{heads:?} of {log:?}");
    daemon.end();
}

/// `fsck --repair` of a member from the others: a whole pack is gone, and so is what was made of it.
#[test]
fn cluster_members_repair_from_each_other() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (writer, _) = join(&invite(&one, "writer"), "laptop");
    let packs = std::fs::read_dir(writer.path(".filesync/packs")).expect("packs").flatten();
    let largest = packs.max_by_key(|pack| pack.metadata().map_or(0, |meta| meta.len())).expect("a pack");
    std::fs::remove_file(largest.path()).expect("removed");
    std::fs::remove_file(writer.path("large")).expect("removed");
    writer.fails(5, &["fsck"]);
    writer.ok(&["fsck", "--repair"]);
    writer.ok(&["fsck"]);
    writer.ok(&["restore"]);
    assert_same(&read_tree(one.root()), &read_tree(writer.root()), "it is as it was");
    daemon.end();
}

/// What one has deleted and the other changed: who did what is said, and what is there now.
#[test]
fn cluster_tells_of_what_was_deleted_and_changed() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    for name in ["gone", "left"] {
        one.write(name, "first\n");
    }
    one.commit();
    publish(&one);
    let (two, _) = join(&invite(&one, "writer"), "two");
    for (world, gone, changed) in [(&one, "gone", "left"), (&two, "left", "gone")] {
        std::fs::remove_file(world.path(gone)).expect("it is there");
        world.write(changed, "changed\n");
        world.commit();
    }
    publish(&one);
    let told = two.run(&["sync", "--timeout", "120s"]);
    let (status, told) = (told.status.code(), String::from_utf8_lossy(&told.stdout).into_owned());
    assert_eq!(status, Some(3), "{told}");
    for said in [
        "conflict gone: changed here, deleted there; it stays deleted, ours is gone.conflict-two-",
        "conflict left: deleted here, changed there; theirs stays\n",
    ] {
        assert!(told.contains(said), "{told}");
    }
    assert_eq!(std::fs::read_to_string(two.path("left")).expect("it is there"), "changed\n");
    let status = two.ok(&["status"]);
    for said in ["\nconflict gone.conflict-two-", ": there is no gone any more\n"] {
        assert!(status.contains(said), "{status}");
    }
    daemon.end();
}

/// Tags are published, taken and lost with a word each.
#[test]
fn cluster_tells_of_tags() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "writer"), "two");
    let second = work(&one, "more");
    one.ok(&["tag", "v1"]);
    one.ok(&["tag", "old", "HEAD~1"]);
    assert_eq!(one.ok(&["sync"]), "published 1 commit\npublished tag old\npublished tag v1\n");
    assert_eq!(one.ok(&["sync"]), "up to date\n");
    two.ok(&["tag", "v1"]);
    let told = two.run(&["-q", "sync", "--push"]);
    let (status, told) = (told.status.code(), String::from_utf8_lossy(&told.stdout).into_owned());
    assert_eq!((status, told), (Some(3), format!("tag v1: another was faster, it is {}\n", &second[..12])));
    assert!(two.ok(&["sync"]).starts_with("took 1 commit\ntook 2 tags\n"));
    one.ok(&["tag", "--delete", "old"]);
    assert_eq!(one.ok(&["sync"]), "published that there is no tag old\n");
    assert_eq!(two.ok(&["sync"]), "took 1 tag\n");
    two.ok(&["tag", "v1", "HEAD~1", "--force"]);
    one.ok(&["tag", "--delete", "v1"]);
    let synced = two.object(0, &["sync"]);
    assert_eq!(synced["tags"][0]["fate"], "published", "{synced}");
    let late = one.object(3, &["sync"]);
    assert_eq!(late["cause"], "another was faster: 1 tag");
    daemon.end();
}

/// What `--strategy` says becomes of a file that both have changed.
#[test]
fn cluster_strategies_decide_who_is_right() {
    for (strategy, status, left) in
        [("ours", Some(0), "of two\n"), ("theirs", Some(0), "of one\n"), ("fail", Some(1), "of two\n")]
    {
        let one = founder();
        let daemon = Daemon::start(&one, &address());
        sync(&one);
        let (two, _) = join(&invite(&one, "writer"), "two");
        one.write("text/a", "of one\n");
        one.commit();
        publish(&one);
        two.write("text/a", "of two\n");
        two.write("only/two", "2");
        two.commit();
        let output = two.run(&["sync", "--strategy", strategy, "--timeout", "120s"]);
        println!("{strategy}: {output:?}");
        assert_eq!(output.status.code(), status, "{strategy}");
        assert_eq!(std::fs::read_to_string(two.path("text/a")).expect("it is there"), left, "{strategy}");
        assert!(two.path("only/two").exists());
        daemon.end();
    }
}

/// Two of three are gone: it ends in its time, says so, and the commit is whole. One of them is enough to go on.
#[test]
fn cluster_without_a_majority_ends_in_time() {
    let (voters, mut daemons, addresses) = three(founder());
    for gone in [1, 2] {
        daemons[gone].take().expect("it runs").kill();
    }
    let head = work(&voters[0], "alone");
    for args in [
        &["sync", "--timeout", "2s"][..],
        &["sync", "--push", "--timeout", "2s"],
        &["sync", "--pull", "--timeout", "2s"],
    ] {
        let began = Instant::now();
        voters[0].fails(4, args);
        // What a busy machine adds is not told apart.
        assert!(began.elapsed() < Duration::from_secs(30), "{args:?}: {:?}", began.elapsed());
    }
    let told = voters[0].run(&["--json", "sync", "--timeout", "2s"]);
    assert_eq!(told.status.code(), Some(4), "{told:?}");
    assert_eq!(voters[0].head(), Some(head.clone()));
    // What is asked while the commit is made does not decide whether it is made.
    voters[0].write("work/beside", "the question");
    voters[0].fails(4, &["sync", "--commit", "--timeout", "2s"]);
    let before = head;
    let head = voters[0].head().expect("there is one");
    assert_ne!(head, before);
    voters[0].ok(&["fsck"]);
    daemons[1] = Some(Daemon::start(&voters[1], &addresses[1]));
    publish(&voters[0]);
    sync(&voters[1]);
    assert_eq!(voters[1].head(), Some(head));
    daemons.into_iter().flatten().for_each(Daemon::end);
}

/// The disk of the voter that leads is full: the others go on without it. Once there is room it comes back, and has everything.
#[test]
fn cluster_goes_on_beside_a_full_disk() {
    let one = World::empty();
    let Some(disk) = Disk::mount(one.root()) else { return };
    one.ok(&["init", "--name", "one"]);
    one.write(".filesyncignore", format!("{BALLAST}\n"));
    one.write("large", Rng::new(7).bytes(2_000_000));
    one.commit();
    let (voters, mut daemons, addresses) = three(one);
    let (writer, _) = join(&invite(&voters[0], "writer"), "laptop");
    disk.fill();
    // Until it is known there: nobody can tell what fits in somewhere still.
    let mut round = 0;
    until("the disk is full", || {
        round += 1;
        writer.write(format!("round/{round}"), Rng::new(round).bytes(100_000));
        writer.commit();
        publish(&writer);
        // It ends, or lacks what is published.
        daemons[0].as_mut().is_some_and(|daemon| daemon.ended().is_some()) || !holds_head(&voters[1], &["one"])
    });
    let head = work(&writer, "beside it");
    publish(&writer);
    until("the others hold the head", || holds_head(&voters[1], &["two", "three"]));
    disk.free();
    until("it serves, and holds everything", || {
        if let Some(ended) = daemons[0].as_mut().and_then(Daemon::ended) {
            assert!(!ended.success(), "nobody told it to end");
            daemons[0] = Some(Daemon::start(&voters[0], &addresses[0]));
        }
        holds_head(&voters[1], &["one", "two", "three"])
    });
    publish(&voters[0]);
    assert_eq!(voters[0].head(), Some(head));
    for voter in &voters {
        voter.ok(&["fsck"]);
    }
    daemons.into_iter().flatten().for_each(Daemon::end);
    // Before the directory goes.
    drop(disk);
}

/// Calls at which a clone is killed: what it writes, syncs, renames and sends.
const CALLS: [&str; 7] = ["mkdirat", "openat", "pwrite64", "fsync", "fdatasync", "renameat", "sendmsg"];

/// A clone, of everything or of a part, that is killed anywhere goes on when the same command is run again, with the same line.
#[test]
fn cluster_clones_that_are_killed_go_on() {
    if !has_strace() {
        return;
    }
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let line = one.ok(&["invite", "--uses", "200"]).trim().to_owned();
    let expected = read_tree(one.root());
    let mut killed = 0;
    let parts: [&str; 2] = ["--path", "text"];
    let places = [(1, &[][..]), (4, &[]), (16, &[]), (2, &parts), (8, &parts)];
    for (call, (n, parts)) in CALLS.iter().flat_map(|call| places.map(|place| (call, place))) {
        let world = World::empty();
        let name = format!("{call}-{n}");
        let log = TempDir::new();
        let program = world.command(&[&["clone", "-", ".", "--name", &name, "--timeout", "120s"], parts].concat());
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o"]).arg(log.path().join("log")).args(["-e", &format!("trace={call}"), "-e"]);
        command.arg(format!("inject={call}:signal=KILL:when={n}")).arg(program.get_program()).args(program.get_args());
        command.current_dir(world.root()).env_remove("FILESYNC_DIR").env_remove("LD_LIBRARY_PATH");
        let status = with_line(command, &line).status;
        killed += usize::from(status.signal() == Some(9) || status.code() == Some(137));
        let again = &[&["clone", "-", ".", "--name", &name, "--timeout", "120s"], parts].concat();
        let again = with_line(world.command(again), &line);
        assert!(again.status.success(), "killed at {call} {n}: {again:?}");
        if parts.is_empty() {
            assert_same(&expected, &read_tree(world.root()), &name);
        } else {
            assert_eq!(std::fs::read(world.path("text/a")).expect("the part is here"), b"first\n", "{name}");
            assert!(!world.path("large").exists() && world.object(0, &["status"])["clean"] == true, "{name}");
        }
        world.ok(&["fsck"]);
    }
    assert!(killed >= CALLS.len(), "killed only {killed} times");
    daemon.end();
}

/// A clock that was ahead once ends no invite that is made afterwards; and whose clock is off is told.
#[test]
fn cluster_clocks_that_are_wrong() {
    let library = Library::new();
    let clock = library.clock(1);
    let by_clock = |command: Command| {
        let words = clock.words();
        behind(&words.each_ref().map(String::as_str), &command)
    };
    let one = founder();
    let at = address();
    clock.set(31 * 24 * HOUR);
    let daemon = Daemon::spawn(by_clock(one.command(&["serve", "--listen", &at])));
    sync(&one);
    daemon.end();
    let daemon = Daemon::start(&one, &at);
    let (two, _) = join(one.ok(&["invite", "--expires", "1h"]).trim(), "two");
    let other = Daemon::spawn(by_clock(two.command(&["serve", "--listen", &address()])));
    let peers = || one.json(&["peers"]);
    let offset =
        |name: &str| peers().iter().find(|peer| peer["name"] == name).and_then(|it| it["clock_offset"].as_f64());
    until("its clock is looked at", || offset("two").is_some_and(|off| off > 30.0 * 24.0 * 3_600.0));
    assert!(offset("one").is_some_and(|off| off.abs() < 60.0));
    let shown = one.ok(&["peers"]);
    assert!(shown.lines().any(|line| line.contains("two") && line.contains("its clock is ")), "{shown}");
    assert!(shown.lines().all(|line| !line.contains(" one ") || !line.contains("its clock is ")), "{shown}");
    other.end();
    daemon.end();
}

/// A cluster is founded by the first sync, and not by who only looks.
#[test]
fn cluster_is_not_founded_by_looking() {
    let world = founder();
    let before = read_tree(&world.path(".filesync"));
    for args in [["peers"].as_slice(), &["invite"], &["invite", "list"], &["snapshot"]] {
        let err = world.fails(1, args);
        assert!(err.contains("belongs to no cluster") && err.contains("hint: "), "{args:?}: {err}");
    }
    let would = world.object(0, &["sync", "--dry-run"]);
    assert_eq!(would["published"], serde_json::json!([world.head()]));
    let derived: [&[u8]; 4] = [b"index", b"lock", b"readers", b"stamp"];
    let counts = |mut tree: filesync_tests::model::Tree| {
        tree.retain(|path, _| !derived.iter().any(|name| path.starts_with(name)));
        tree
    };
    assert!(counts(before) == counts(read_tree(&world.path(".filesync"))), "looking changed something");
    assert_eq!(world.run(&["sync", "--commit", "--dry-run"]).status.code(), Some(2));
    sync(&world);
    assert_eq!(world.json(&["peers"]).len(), 1);
}
