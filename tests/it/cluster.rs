//! Several nodes as processes of their own, over loopback.

mod chaos;
mod disk;
mod lan;
mod operator;
mod partial;
mod trouble;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use filesync_cas::testing::Rng;
use filesync_tests::model::{assert_same, read_tree};
use filesync_tests::process::address;
use filesync_tests::world::World;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// After what time something that is waited for will not come any more. A machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(300);

/// A daemon that listens for peers. Killed in the end.
struct Daemon(Child);

impl Daemon {
    #[track_caller]
    fn start(world: &World, address: &str) -> Self {
        Self::start_with(world, address, &[])
    }

    /// As [`Self::start`], with flags.
    #[track_caller]
    fn start_with(world: &World, address: &str, flags: &[&str]) -> Self {
        let mut command = world.command(&[&["serve", "--listen", address], flags].concat());
        command.stderr(Stdio::null());
        Self::spawn(command)
    }

    #[track_caller]
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the program runs");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut said).expect("it can be read");
        assert!(said.contains(&child.id().to_string()), "it does not serve: {said:?}");
        Self(child)
    }

    fn process(&self) -> Pid {
        i32::try_from(self.0.id()).ok().and_then(Pid::from_raw).expect("a child has an id")
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.process(), signal).expect("it can be sent");
    }

    /// How it ended, if it has.
    fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("it can be asked")
    }

    /// As a power cut has it.
    fn kill(mut self) {
        self.0.kill().expect("it can be killed");
        self.0.wait().expect("it has ended");
    }

    /// In order. That it takes no more than five seconds is tested where nothing else goes on: `daemon::ends`, and `trouble`.
    #[track_caller]
    fn end(mut self) {
        self.signal(Signal::TERM);
        let mut ended = None;
        until("it has ended", || {
            ended = self.ended();
            ended.is_some()
        });
        assert!(ended.is_some_and(|ended| ended.success()), "{ended:?}");
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never came to that: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A repository with something in it, named.
fn founder() -> World {
    let world = World::empty();
    world.ok(&["init", "--name", "one"]);
    world.write("text/a", "first\n");
    world.write("large", Rng::new(7).bytes(2_000_000));
    for n in 0..50_u64 {
        world.write(format!("many/{n}"), Rng::new(n).bytes(3_000));
    }
    world.commit();
    world
}

#[track_caller]
fn invite(world: &World, role: &str) -> String {
    world.ok(&["invite", "--role", role]).trim().to_owned()
}

/// Clones into a world of its own. The line goes in by standard input, where no list of processes shows it.
#[track_caller]
fn join(line: &str, name: &str) -> (World, Value) {
    let world = World::empty();
    let output = clone(&world, line, name);
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{name}: {}\n{out}{err}", output.status);
    (world, serde_json::from_str(&out).expect("one object"))
}

fn clone(world: &World, line: &str, name: &str) -> Output {
    clone_within("120s", world, line, name)
}

/// As [`clone`], and no longer than that where nobody answers.
fn clone_within(timeout: &str, world: &World, line: &str, name: &str) -> Output {
    with_line(world.command(&["--json", "clone", "-", ".", "--name", name, "--timeout", timeout]), line)
}

/// Runs a command with a line on its standard input.
fn with_line(mut command: Command, line: &str) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the program runs");
    // It may end before it has read.
    drop(writeln!(child.stdin.take().expect("piped"), "{line}"));
    child.wait_with_output().expect("it ends")
}

fn sync(world: &World) -> Value {
    world.object(0, &["sync", "--timeout", "120s"])
}

fn len(value: &Value) -> usize {
    value.as_array().expect("a list").len()
}

/// G3, G4: three voters, and what is acknowledged survives the end of any of them.
#[test]
fn cluster_of_three_survives_its_leader() {
    let one = founder();
    let addresses = [address(), address(), address()];
    let mut daemons = vec![Some(Daemon::start(&one, &addresses[0]))];
    let first = sync(&one);
    assert_eq!((first["outcome"].as_str(), len(&first["published"])), (Some("done"), 1));
    let mut voters = vec![one];
    for (name, address) in [("two", &addresses[1]), ("three", &addresses[2])] {
        let (world, cloned) = join(&invite(&voters[0], "voter"), name);
        assert_same(&read_tree(voters[0].root()), &read_tree(world.root()), name);
        assert!(cloned["bytes_received"].as_u64() > Some(2_000_000), "{cloned}");
        daemons.push(Some(Daemon::start(&world, address)));
        voters.push(world);
    }
    let peers = voters[0].json(&["peers", "promote", "two"]);
    assert_eq!(peers.iter().filter(|peer| peer["role"] == "voter").count(), 3, "{peers:?}");

    // A writer without a daemon publishes a small change: little travels.
    let (writer, _) = join(&invite(&voters[0], "writer"), "laptop");
    writer.write("text/a", "second\n");
    writer.commit();
    let published = sync(&writer);
    assert_eq!((published["outcome"].as_str(), len(&published["published"])), (Some("done"), 1));
    until("all voters hold the head", || {
        let peers = voters[0].json(&["peers"]);
        peers.iter().filter(|peer| peer["role"] == "voter").all(|peer| peer["holds_head"] == true)
    });

    // The leader is gone, without a word.
    let peers = voters[0].json(&["peers"]);
    let leader = peers.iter().position(|peer| peer["leader"] == true).expect("somebody leads");
    daemons[leader].take().expect("it runs").kill();
    writer.write("text/b", "without it\n");
    writer.commit();
    let published = sync(&writer);
    assert_eq!((published["outcome"].as_str(), len(&published["published"])), (Some("done"), 1));

    // It comes back, and knows.
    daemons[leader] = Some(Daemon::start(&voters[leader], &addresses[leader]));
    until("it has caught up", || voters[leader].json(&["peers"]).iter().all(|peer| peer["holds_head"] != false));
    let expected = read_tree(writer.root());
    for (number, voter) in voters.iter().enumerate() {
        sync(voter);
        assert_same(&expected, &read_tree(voter.root()), &format!("voter {number}"));
        let status = voter.object(0, &["status"]);
        assert_eq!((status["ahead"].as_u64(), status["behind"].as_u64()), (Some(0), Some(0)), "{status}");
        assert_eq!(status["head"], status["main"]);
        // Two held it when it was published; the third may have been away.
        let told = voter.ok(&["status"]);
        assert!([" on at least 2 of 3 voters", " on 3 voters"].iter().any(|held| told.contains(held)), "{told}");
    }
    // What the cluster shows is a revision, on every node and also when nobody is asked.
    let before = writer.ok(&["cat", "main~1:text/a"]);
    daemons.into_iter().flatten().for_each(Daemon::end);
    // A command answers for its own node, and nobody else reaches that.
    let peers = voters[0].json(&["peers", "--timeout", "5s"]);
    assert!(peers.iter().all(|peer| peer["reachable"] == false), "{peers:?}");
    assert!(voters[0].ok(&["peers", "--timeout", "5s"]).contains(", no daemon listens here\n"));
    for voter in voters.iter().chain([&writer]) {
        let log = voter.json(&["log", "main"]);
        assert_eq!(voter.json(&["log", "main~1"]), log[1..], "from one before what the cluster shows");
        let parent = log[1]["commit"].as_str().expect("an id");
        assert_eq!(voter.restored("main~1"), voter.restored(parent));
        assert_eq!(voter.ok(&["diff", "main~1", "main", "--name-status"]), "A\ttext/b\n");
        assert_eq!((before.as_str(), voter.ok(&["cat", "main~1:text/a"]).as_str()), ("second\n", "second\n"));
        voter.fails(1, &["show", &format!("main~{}", log.len())]);
        voter.ok(&["fsck"]);
        assert_same(&expected, &voter.restored("main"), "main");
    }
}

/// A file that is in no commit, since it is ignored, stands where a published one belongs. What was published by then is told.
#[test]
fn cluster_overwrites_nothing_that_is_ignored() {
    let one = founder();
    one.write(".filesyncignore", "/x\n");
    one.commit();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "writer"), "two");
    two.write("x", "of two\n");
    two.write("n", "n");
    two.commit();
    one.write(".filesyncignore", "");
    one.write("x", "of one\n");
    one.commit();
    sync(&one);
    let refused = two.object(1, &["sync"]);
    assert_eq!((refused["outcome"].as_str(), len(&refused["published"])), (Some("refused"), 2), "{refused}");
    assert_eq!(refused["cause"], "cannot sync: not overwritten: x");
    assert_eq!(std::fs::read_to_string(two.path("x")).expect("it is there"), "of two\n");
    std::fs::remove_file(two.path("x")).expect("removed");
    assert_eq!(sync(&two)["outcome"], "done");
    assert_eq!(std::fs::read_to_string(two.path("x")).expect("it came"), "of one\n");
    // A reader's tags are nobody else's.
    let (reader, _) = join(&invite(&one, "reader"), "reader");
    reader.ok(&["tag", "mine"]);
    let told = reader.run(&["sync"]);
    let err = String::from_utf8_lossy(&told.stderr);
    assert!(told.status.success() && err.contains("tag mine stays as it is here: this node may only read"), "{err}");
    daemon.end();
}

/// Both sides of one file: the published version stands, ours is beside it, and nothing is lost. What is not committed is
/// never overwritten.
#[test]
fn cluster_merges_and_keeps_what_is_not_committed() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "writer"), "two");
    one.write("text/a", "of one\n");
    one.write("only/one", "1");
    one.commit();
    sync(&one);
    two.write("text/a", "of two\n");
    two.write("only/two", "2");
    two.commit();
    let merged = two.object(3, &["sync"]);
    assert_eq!(merged["outcome"], "conflicts");
    assert_eq!(merged["conflicts"], serde_json::json!(["text/a"]));
    assert_eq!(merged["cause"], "both sides changed the same: 1 path");
    let message = format!("merge main at {} (from one)", &merged["pulled"][0].as_str().unwrap()[..12]);
    assert_eq!(two.json(&["log", "-n", "1"])[0]["message"], message);
    assert!(merged["merged"].is_string() && len(&merged["pulled"]) == 1, "{merged}");
    assert_eq!(std::fs::read_to_string(two.path("text/a")).unwrap(), "of one\n");
    let names: Vec<String> = std::fs::read_dir(two.path("text"))
        .unwrap()
        .flatten()
        .map(|it| it.file_name().into_string().unwrap())
        .collect();
    let copy = names.iter().find(|name| name.starts_with("a.conflict-two-")).expect("a copy");
    assert_eq!(std::fs::read_to_string(two.path("text").join(copy)).unwrap(), "of two\n");
    // To publish alone brings nothing here, and says so.
    two.write("text/a", "of two again\n");
    two.commit();
    sync(&two);
    one.write("text/a", "of one again\n");
    let head = one.commit();
    let told = one.run(&["sync", "--push"]);
    let (status, told) = (told.status.code(), String::from_utf8_lossy(&told.stdout).into_owned());
    let expected = "published 2 commits\nthe working copy stays as it is: `filesync sync` brings ";
    assert!(told.contains(expected) && !told.contains("took"), "{told}");
    assert_eq!((status, one.head(), one.cat("text/a")), (Some(3), Some(head), b"of one again\n".to_vec()));
    let waiting = one.object(0, &["sync", "--push"]);
    assert_eq!((len(&waiting["waiting"]), len(&waiting["pulled"])), (4, 0), "{waiting}");
    assert_eq!(len(&sync(&one)["pulled"]), 4);
    sync(&two);
    // An edit stands where the other side's work belongs.
    one.write("only/one", "not committed");
    two.write("only/one", "committed");
    two.commit();
    sync(&two);
    let err = one.fails(1, &["sync"]);
    assert!(err.contains("uncommitted changes") && err.contains("only/one"), "{err}");
    let refused = one.object(1, &["sync"]);
    assert_eq!(refused["outcome"], "refused", "{refused}");
    assert!(refused["cause"].as_str().is_some_and(|cause| cause.contains("only/one")), "{refused}");
    assert_eq!(std::fs::read_to_string(one.path("only/one")).unwrap(), "not committed");
    one.write("only/one", "1");
    sync(&one);
    assert_same(&read_tree(two.root()), &read_tree(one.root()), "both");
    daemon.end();
}

/// A clone that is cut off goes on; invites that are no good say so; without a majority it ends in time.
#[test]
fn cluster_trouble_is_told() {
    let one = founder();
    let listen = address();
    let daemon = Daemon::start(&one, &listen);
    sync(&one);
    let line = invite(&one, "writer");
    let (two, cloned) = join(&line, "two");
    assert_eq!(cloned["node"], 2);
    // Used up; damaged; nonsense; for a directory that holds something.
    let refused = clone(&World::empty(), &line, "three");
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let damaged = clone(&World::empty(), &line[..line.len() - 2], "three");
    assert_eq!(damaged.status.code(), Some(2), "{damaged:?}");
    assert!(!String::from_utf8_lossy(&damaged.stderr).contains(&line[20..60]), "a secret is shown: {damaged:?}");
    let full = World::empty();
    full.write("mine", "x");
    let line = invite(&one, "reader");
    assert_eq!(clone(&full, &line, "three").status.code(), Some(1));
    // The same command once more: it is in, and nothing is to be done.
    let (reader, _) = join(&line, "three");
    assert!(clone(&reader, &line, "three").status.success());
    // Another invite is not spent on who is in.
    let other = invite(&one, "writer");
    for member in [&reader, &one] {
        let refused = clone(member, &other, "again");
        let err = String::from_utf8_lossy(&refused.stderr);
        assert!(refused.status.code() == Some(1) && err.contains("a member's copy already"), "{err}");
    }
    let open = one.json(&["invite", "list"]);
    assert_eq!((open.len(), open[0]["uses"].as_u64()), (1, Some(1)));
    one.ok(&["invite", "revoke", open[0]["id"].as_str().unwrap()]);
    // A reader's commits stay local.
    reader.write("mine", "x");
    reader.commit();
    let local = reader.object(3, &["sync"]);
    assert_eq!((local["outcome"].as_str(), len(&local["published"])), (Some("done"), 0));
    assert_eq!(local["cause"], "local commits stay local: this node may only read");
    // Nor does a merge of them go anywhere.
    one.write("more", "x");
    one.commit();
    sync(&one);
    let waiting = reader.object(3, &["sync", "--push"]);
    assert_eq!((len(&waiting["waiting"]), len(&waiting["published"])), (1, 0), "{waiting}");
    // An invite that is revoked.
    let line = invite(&one, "writer");
    let list = one.json(&["invite", "list"]);
    assert_eq!((list.len(), list[0]["role"].as_str()), (1, Some("writer")));
    one.ok(&["invite", "revoke", list[0]["id"].as_str().unwrap()]);
    assert_ne!(clone_within("3s", &World::empty(), &line, "four").status.code(), Some(0));
    // The port is taken.
    let other = World::repository();
    let output = other.run(&["serve", "--listen", &listen]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains(&listen), "{output:?}");
    // Who was removed gets nothing more.
    one.ok(&["peers", "remove", "three"]);
    reader.fails(4, &["sync", "--timeout", "1s"]);
    assert_eq!(reader.object(0, &["status"])["removed"], false, "nobody has said so yet");
    until("it is told", || reader.run(&["sync", "--timeout", "30s"]).status.code() == Some(1));
    assert!(reader.ok(&["status"]).contains("\nremoved: no voter took this node for a member"));
    assert_eq!(two.object(0, &["status"])["removed"], false);
    // Nobody is there: it ends in time, and the commit is whole.
    daemon.end();
    two.write("kept", "here");
    let head = two.commit();
    let began = Instant::now();
    two.fails(4, &["sync", "--timeout", "2s"]);
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    assert_eq!(two.head(), Some(head));
    two.ok(&["fsck"]);
    let daemon = Daemon::start(&one, &listen);
    until("it is published after all", || two.run(&["sync", "--timeout", "5s"]).status.success());
    sync(&one);
    assert_eq!(std::fs::read_to_string(one.path("kept")).unwrap(), "here");
    daemon.end();
    // A copy of a repository is no node of its own.
    let copy = World::copy_of(one.root());
    let err = copy.fails(1, &["sync"]);
    assert!(err.contains("--moved"), "{err}");
}

/// The majority is gone for good. Somebody has to say so, twice, and then the survivor publishes alone.
#[test]
fn cluster_goes_on_with_its_only_survivor() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "voter"), "two");
    let other = Daemon::start(&two, &address());
    one.ok(&["peers", "promote", "two", "--even"]);
    other.kill();
    drop(two);
    one.write("text/a", "alone\n");
    one.commit();
    one.fails(4, &["sync", "--timeout", "2s"]);
    let recover = |said: &str| {
        let mut command = one.command(&["peers", "recover", "--only-survivor"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        child.stdin.take().expect("piped").write_all(said.as_bytes()).expect("it reads");
        child.wait_with_output().expect("it ends")
    };
    let refused = recover("only survivor\n");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("filesync stop"), "{refused:?}");
    daemon.end();
    for said in ["", "yes\n", "only survivor?\n"] {
        let refused = recover(said);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    one.fails(4, &["sync", "--timeout", "2s"]);
    let done = recover("only survivor\n");
    assert!(done.status.success(), "{done:?}");
    let published = sync(&one);
    assert_eq!((published["outcome"].as_str(), len(&published["published"])), (Some("done"), 1));
    one.ok(&["fsck"]);
}
