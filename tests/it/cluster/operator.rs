//! What an operator does with a cluster, and sees of it.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::trouble::{publish, three, work};
use super::*;
use crate::crash::has_strace;
use filesync_tests::world::{TempDir, behind};

/// What is answered over HTTP; nothing if nobody answers.
pub(super) fn get(address: &str, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        drop(write!(stream, "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"));
        drop(stream.read_to_string(&mut answer));
    }
    answer
}

/// The figure of a name, with what stands in braces behind it.
#[track_caller]
fn figure(metrics: &str, name: &str) -> f64 {
    let value = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    let value = value.unwrap_or_else(|| panic!("no {name} in\n{metrics}"));
    value.parse().expect("a number")
}

/// A voter tells of the log, of who holds the head, and of what came from whom; it is ready when it has joined in.
#[test]
fn cluster_tells_how_it_is() {
    let (voters, mut daemons, addresses) = three(founder());
    daemons[0].take().expect("it runs").end();
    let http = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").to_string();
    let told = Daemon::start_with(&voters[0], &addresses[0], &["--http", &http]);
    until("it is ready", || get(&http, "/readyz").contains("200 OK"));
    voters[1].write("from two", Rng::new(9).bytes(300_000));
    voters[1].commit();
    publish(&voters[1]);
    until("it holds the head", || get(&http, "/metrics").contains("\nfilesync_cluster_holds_head 1\n"));
    let metrics = get(&http, "/metrics");
    for (name, value) in [("filesync_cluster_members", 3.0), ("filesync_cluster_voters", 3.0), ("filesync_ready", 1.0)]
    {
        assert!((figure(&metrics, name) - value).abs() < 0.1, "{name} in\n{metrics}");
    }
    assert!(figure(&metrics, "filesync_cluster_holders") > 1.5, "{metrics}");
    assert!(figure(&metrics, "filesync_raft_applied_index") > 3.0 && figure(&metrics, "filesync_raft_leader") > 0.5);
    let of_peers = |name: &str| -> f64 {
        [2, 3]
            .map(|node| format!("{name}{{node=\"{node}\"}}"))
            .iter()
            .filter(|name| metrics.contains(*name))
            .map(|name| figure(&metrics, name))
            .sum()
    };
    assert!(of_peers("filesync_peer_received_bytes_total") > 300_000.0, "{metrics}");
    assert!(of_peers("filesync_peer_received_objects_total") > 1.5, "{metrics}");
    assert!(of_peers("filesync_peer_fetch_seconds_count") > 0.5 && of_peers("filesync_peer_fetch_seconds_sum") > 0.0);
    assert!(get(&http, "/healthz").contains("200 OK"));
    // The others are gone: it may well lead still, and can do nothing.
    daemons.into_iter().flatten().for_each(Daemon::kill);
    until("it is not ready", || get(&http, "/readyz").contains("503"));
    assert!(get(&http, "/healthz").contains("200 OK"));
    told.end();
}

/// A datagram that begins as a connection of QUIC does, in some version; what is encrypted in it is noise.
fn first_packet(rng: &mut Rng, version: u32) -> Vec<u8> {
    let mut packet = vec![0xc3];
    packet.extend(version.to_be_bytes());
    for _ in 0..2 {
        packet.push(8);
        packet.extend(rng.bytes(8));
    }
    // No token; then all that is left, as a length of two bytes.
    packet.extend([0, 0x44, 0x96]);
    packet.extend(rng.bytes(1_200 - packet.len()));
    packet
}

/// Thousands of datagrams that are nothing, or that begin what nobody can go on with, are no lines in the log.
#[test]
fn cluster_noise_fills_no_log() {
    let (one, dir, address) = (founder(), TempDir::new(), address());
    let log = dir.path().join("log");
    let mut command = one.command(&["serve", "--listen", &address]);
    command.stderr(std::fs::File::create(&log).expect("a file"));
    let daemon = Daemon::spawn(command);
    let socket = UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.connect(&address).map(|()| socket));
    let socket = socket.expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(1))).expect("set");
    let (mut rng, mut answered) = (Rng::new(11), 0);
    for _ in 0..60 {
        for _ in 0..40 {
            let len = 1 + rng.index(1_400);
            let noise = rng.bytes(len);
            for packet in [noise, first_packet(&mut rng, 1)] {
                socket.send(&packet).expect("sent");
            }
        }
        // A version that nobody speaks is answered: then what came before has been looked at.
        socket.send(&first_packet(&mut rng, 0x0a1a_2a3a)).expect("sent");
        answered += usize::from(socket.recv(&mut [0; 2_000]).is_ok());
    }
    assert!(answered > 20, "{answered}: it was not heard");
    sync(&one);
    daemon.end();
    let said = std::fs::read_to_string(&log).expect("a log");
    assert!(said.lines().count() < 20, "{} lines\n{said}", said.lines().count());
}

/// The unit for systemd lets the daemon have every kind of socket that it opens.
#[test]
fn cluster_unit_allows_what_the_daemon_opens() {
    if !has_strace() {
        return;
    }
    let one = founder();
    let dir = TempDir::new();
    let trace = dir.path().join("trace");
    let port = address().rsplit_once(':').expect("a port").1.to_owned();
    let serve = one.command(&["serve", "--listen", &format!("0.0.0.0:{port}")]);
    let mut command =
        behind(&["strace", "-f", "-qq", "-e", "trace=socket", "-o", trace.to_str().expect("UTF-8")], &serve);
    command.stderr(Stdio::null()).stdout(Stdio::piped());
    let mut daemon = command.spawn().expect("strace runs");
    until("it serves", || one.run(&["peers"]).status.success());
    one.ok(&["stop"]);
    until("it has ended", || daemon.try_wait().expect("it can be asked").is_some());
    let trace = std::fs::read_to_string(&trace).expect("a trace");
    let opened: BTreeSet<&str> = trace
        .lines()
        .filter_map(|line| line.split_once("socket(")?.1.split_once(','))
        .map(|(family, _)| family)
        .collect();
    assert!(opened.contains("AF_INET") && opened.contains("AF_UNIX"), "{opened:?}");
    let unit = include_str!("../../../scripts/filesync@.service");
    let allowed = unit.lines().find_map(|line| line.strip_prefix("RestrictAddressFamilies=")).expect("a line");
    let allowed: BTreeSet<&str> = allowed.split_whitespace().collect();
    assert!(opened.is_subset(&allowed), "opened {opened:?}, allowed {allowed:?}");
}

/// A node whose directory was moved says so once, and is the node that it was.
#[test]
fn cluster_nodes_move_by_their_own_word() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "writer"), "two");
    daemon.end();
    let moved = World::copy_of(one.root());
    drop(one);
    let listen = address();
    assert!(moved.fails(1, &["serve", "--listen", &listen]).contains("--moved"));
    Daemon::start_with(&moved, &listen, &["--moved"]).end();
    // The next time it need not.
    let mut daemon = Daemon::start(&moved, &listen);
    work(&moved, "of who moved");
    publish(&moved);
    assert_eq!(daemon.ended(), None);
    let peers = moved.json(&["peers"]);
    assert_eq!((peers.len(), peers[0]["name"].as_str()), (2, Some("one")), "{peers:?}");
    drop(two);
    daemon.end();
}

/// One votes, three, five, and fewer again, while two writers publish all the time: what they were told is so.
#[test]
fn cluster_grows_and_shrinks_while_others_publish() {
    let one = founder();
    let mut daemons = vec![Daemon::start(&one, &address())];
    sync(&one);
    let mut others = Vec::new();
    for name in ["two", "three", "four", "five"] {
        let (world, _) = join(&invite(&one, "voter"), name);
        daemons.push(Daemon::start(&world, &address()));
        others.push(world);
    }
    let writers = ["ada", "bob"].map(|name| (name, join(&invite(&one, "writer"), name).0));
    let (is_over, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let publish_all_the_time = |name: &str, writer: &World| {
        let mut heads = Vec::new();
        while !is_over.load(Ordering::Relaxed) {
            heads.push(work(writer, &format!("{name} {}", heads.len())));
            publish(writer);
            count.fetch_add(1, Ordering::Relaxed);
        }
        heads
    };
    let mut during = 0;
    let change = |args: &[&str], voters: usize| {
        let before = count.load(Ordering::Relaxed);
        let peers = one.json(&[&["peers"], args, &["--timeout", "120s"]].concat());
        assert_eq!(peers.iter().filter(|peer| peer["role"] == "voter").count(), voters, "{args:?}: {peers:?}");
        count.load(Ordering::Relaxed) - before
    };
    let published: Vec<String> = std::thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let threads = writers.each_ref().map(|(name, writer)| scope.spawn(|| publish_all_the_time(name, writer)));
        while during < 3 {
            during += change(&["promote", "two"], 3) + change(&["promote", "four"], 5);
            for (name, left) in [("five", 4), ("four", 3), ("three", 2), ("two", 1)] {
                during += change(&["demote", name, "--role", "candidate"], left);
            }
        }
        is_over.store(true, Ordering::Relaxed);
        threads.into_iter().flat_map(|thread| thread.join().expect("it publishes")).collect()
    });
    println!("{} publishes, {during} of them during a change", published.len());
    sync(&one);
    let log: Vec<Value> = one.json(&["log", "main"]);
    for head in &published {
        assert!(log.iter().any(|commit| commit["commit"] == **head), "{head} was told to be published");
    }
    one.ok(&["fsck"]);
    daemons.into_iter().for_each(Daemon::end);
}

/// An ERROR in the log of a daemon is for its operator: that another is down is none.
#[test]
fn cluster_logs_no_error_for_a_voter_that_is_down() {
    let one = founder();
    let dir = TempDir::new();
    let path = dir.path().join("log");
    let mut command = one.command(&["serve", "--listen", &address()]);
    command.stderr(std::fs::File::create(&path).expect("it can be made"));
    let daemon = Daemon::spawn(command);
    sync(&one);
    let (two, _) = join(&invite(&one, "voter"), "two");
    let other = Daemon::start(&two, &address());
    one.ok(&["peers", "promote", "two", "--even"]);
    other.kill();
    one.write("text/a", "alone\n");
    one.commit();
    one.fails(4, &["sync", "--timeout", "3s"]);
    // As long as nobody else answers, it is tried again and again.
    std::thread::sleep(Duration::from_secs(5));
    daemon.end();
    let log = std::fs::read_to_string(&path).expect("it can be read");
    assert!(log.contains("serving") && !log.contains("ERROR"), "{log}");
}

/// Ends what waits for it, also when a test fails.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A writer that is served is made a candidate, and then a voter, without being started anew; and again when it
/// has been a writer for a while.
#[test]
fn cluster_a_writer_comes_to_vote() {
    let one = founder();
    let daemon = Daemon::start(&one, &address());
    sync(&one);
    let (two, _) = join(&invite(&one, "writer"), "two");
    let at = address();
    let other = Daemon::start(&two, &at);
    let refused = one.fails(1, &["peers", "promote", "two", "--even"]);
    assert!(refused.contains("peers demote 2 --role candidate"), "{refused}");
    let votes = |world: &World| world.json(&["peers"]).iter().filter(|peer| peer["role"] == "voter").count();
    one.ok(&["peers", "demote", "two", "--role", "candidate"]);
    one.ok(&["peers", "promote", "two", "--even", "--timeout", "120s"]);
    assert_eq!(votes(&two), 2);
    one.ok(&["peers", "demote", "two", "--role", "writer"]);
    assert_eq!(votes(&one), 1);
    one.ok(&["peers", "demote", "two", "--role", "candidate"]);
    one.ok(&["peers", "promote", "two", "--even", "--timeout", "120s"]);
    // It knows on its disk that it votes: nothing is decided without it.
    other.kill();
    let other = Daemon::start(&two, &at);
    two.write("text/a", "by two\n");
    two.commit();
    assert_eq!((sync(&two)["outcome"].as_str(), votes(&two)), (Some("done"), 2));
    other.end();
    daemon.end();
    assert_eq!(two.ok(&["cat", "main:text/a"]), "by two\n");
    two.ok(&["fsck"]);
}

/// As `docs/operations.md` says: a new one, promoted to make four, and the dead one removed. Then one of three may die again.
#[test]
fn cluster_replaces_a_dead_voter() {
    let (mut voters, mut daemons, _) = three(founder());
    daemons[2].take().expect("it runs").kill();
    drop(voters.remove(2));
    let (four, _) = join(&invite(&voters[0], "voter"), "four");
    let new = Daemon::start(&four, &address());
    voters[0].ok(&["peers", "promote", "four", "--even"]);
    voters[0].ok(&["peers", "remove", "three"]);
    let peers = voters[0].json(&["peers"]);
    let mut names: Vec<_> =
        peers.iter().filter(|peer| peer["role"] == "voter").map(|peer| peer["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, [Some("four"), Some("one"), Some("two")], "{peers:?}");
    daemons[1].take().expect("it runs").kill();
    let head = work(&voters[0], "with the new one");
    publish(&voters[0]);
    sync(&four);
    assert_eq!(four.head(), Some(head));
    four.ok(&["fsck"]);
    new.end();
    daemons[0].take().expect("it runs").end();
}
