//! The sockets: who gets in, from where, and what nonsense does.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;

use filesync_tests::world::{PLAIN_USER, World, is_root, noise, skipped};

use super::{Served, error, until};

/// Sends bytes and reads to the end.
fn ask(mut stream: impl Read + Write, bytes: &[u8]) -> String {
    // It may be closed before all has been read.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn control(world: &World) -> PathBuf {
    world.path(".filesync/daemon/control")
}

fn post(world: &World, path: &str, headers: &str, body: &str) -> String {
    let stream = UnixStream::connect(control(world)).expect("it listens");
    let len = body.len();
    ask(
        stream,
        format!("POST {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {len}\r\n{headers}\r\n{body}")
            .as_bytes(),
    )
}

#[test]
fn only_the_owner_gets_in() {
    let world = World::repository();
    let daemon = Served::start(&world);
    let mode = |path: PathBuf| std::fs::metadata(path).expect("it is there").permissions().mode() & 0o777;
    assert_eq!(mode(world.path(".filesync/daemon")), 0o700);
    let hello = b"GET /v1/hello HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert!(ask(UnixStream::connect(control(&world)).expect("it listens"), hello).contains("200 OK"));
    if !is_root() {
        skipped("only root can be another user");
        return;
    }
    let path = control(&world);
    let as_another = move || {
        let user = rustix::process::Uid::from_raw(PLAIN_USER);
        // Of this thread alone, which ends with it.
        rustix::thread::set_thread_res_uid(user, user, user).expect("root may");
        UnixStream::connect(&path).map(|stream| ask(stream, hello))
    };
    let refused = std::thread::spawn(as_another.clone()).join().expect("it ends").unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::PermissionDenied);
    // Somebody has opened it: the other end is looked at all the same.
    for path in [world.root().to_owned(), world.path(".filesync"), world.path(".filesync/daemon"), control(&world)] {
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o777)).expect("modes can be set");
    }
    let answer = std::thread::spawn(as_another).join().expect("it ends").expect("it can connect");
    assert_eq!(answer, "");
    // A place that others may write to is none of ours either.
    let err = world.fails(1, &["commit", "--lock-timeout", "0s"]);
    assert!(err.contains(&format!("store is busy: serve, pid {}", daemon.pid())), "{err}");
}

#[test]
fn deep_down_it_works_too() {
    let world = World::empty();
    let deep = "a-rather-long-name-of-a-directory/".repeat(12);
    std::fs::create_dir_all(world.path(&deep)).expect("it can be made");
    let at = |args: &[&str]| {
        let mut command = world.command(args);
        command.current_dir(world.path(&deep));
        command
    };
    let run = |args: &[&str]| {
        let output = at(args).output().expect("the program runs");
        assert!(output.status.success(), "{args:?}: {}", error(&output));
    };
    run(&["init"]);
    let daemon = Served::spawn(at(&["serve"]));
    std::fs::write(world.path(&deep).join("a"), "a").expect("it can be written");
    run(&["commit", "-m", "deep"]);
    let lock = std::fs::read_to_string(world.path(&deep).join(".filesync/lock")).expect("it is there");
    assert_eq!(lock, format!("serve, pid {}\n", daemon.pid()));
    run(&["stop"]);
}

#[test]
fn what_a_killed_daemon_leaves_is_in_nobodys_way() {
    let world = World::repository();
    for round in 0..3 {
        drop(Served::start(&world));
        assert!(control(&world).exists(), "a killed one cannot remove it");
        world.write("a", format!("{round}"));
        world.commit();
    }
    // Whatever else stands there is not touched.
    std::fs::remove_file(control(&world)).expect("it is there");
    std::fs::create_dir(control(&world)).expect("it can be made");
    let err = world.fails(1, &["serve"]);
    assert!(err.contains("cannot use"), "{err}");
    world.ok(&["commit", "--allow-empty", "-m", "x"]);
}

#[test]
fn nonsense_is_refused_and_hurts_nobody() {
    let world = World::repository();
    let daemon = Served::start(&world);
    let version = format!("filesync-version: {}\r\n", env!("CARGO_PKG_VERSION"));
    let envelope = r#"{"id":"1","lock_timeout":{"secs":1,"nanos":0},"progress":false,"asked":{"command":{"gc":{"dry_run":false}}}}"#;
    assert!(post(&world, "/v1/command", &version, envelope).contains("\"result\":{\"command\":{\"gc\":"));
    // Another version is told so.
    for headers in ["", "filesync-version: 0.0.1\r\n"] {
        let answer = post(&world, "/v1/command", headers, envelope);
        assert!(answer.contains("426 Upgrade Required") && answer.contains("filesync stop"), "{answer}");
    }
    for body in ["", "{", "[]", &envelope.replace("gc", "no_such_command"), &envelope.replace('1', "\\u0000")[..40]] {
        assert!(post(&world, "/v1/command", &version, body).contains("400 Bad Request"), "{body}");
    }
    let unknown =
        envelope.replace(r#"{"command":{"gc":{"dry_run":false}}}"#, r#"{"part":{"name":"sync","body":null}}"#);
    assert!(post(&world, "/v1/command", &version, &unknown).contains("this daemon does not know how"));
    assert!(post(&world, "/v1/cancel", "", "nobody").contains("404 Not Found"));
    assert!(post(&world, "/v1/nowhere", "", "").contains("404 Not Found"));
    let long = "x".repeat(17 << 20);
    assert!(post(&world, "/v1/command", &version, &long).contains("413 Payload Too Large"));
    let connect = || UnixStream::connect(control(&world)).expect("it listens");
    assert!(ask(connect(), &vec![b'x'; 1 << 20]).starts_with("HTTP/1.1 4"));
    // Many who say nothing: others are still answered.
    let silent: Vec<_> = (0..200).map(|_| connect()).collect();
    world.write("a", "a");
    world.commit();
    drop(silent);
    let status = std::fs::read_to_string(format!("/proc/{}/status", daemon.pid())).expect("it runs");
    let resident = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it is told");
    let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
    assert!(kib < 256 << 10, "{kib} KiB");
}

/// Where it answers HTTP.
pub fn http_address(daemon: &Served) -> String {
    let address = daemon.said.trim().rsplit_once("http://").expect("it says where").1;
    address.to_owned()
}

pub fn get(address: &str, path: &str) -> String {
    let stream = TcpStream::connect(address).expect("it listens");
    ask(stream, format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
}

#[test]
fn http_tells_how_it_is() {
    let world = World::repository();
    let daemon = Served::with(&world, &["--http", "127.0.0.1:0"]);
    let address = http_address(&daemon);
    assert!(get(&address, "/healthz").ends_with("ok\n"));
    assert!(get(&address, "/readyz").ends_with("ready\n"));
    world.write("a", vec![b'a'; 100_000]);
    world.commit();
    world.ok(&["gc"]);
    world.fails(1, &["tag", "v1", "nothing"]);
    let metrics = get(&address, "/metrics");
    assert!(metrics.contains("content-type: text/plain; version=0.0.4"), "{metrics}");
    for line in [
        "filesync_commits_total 1",
        "filesync_gc_runs_total 1",
        "filesync_commands_total{command=\"commit\",outcome=\"done\"} 1",
        "filesync_commands_total{command=\"tag\",outcome=\"failed\"} 1",
        "filesync_store_packs{kind=\"data\"} 1",
        "filesync_store_packs{kind=\"metadata\"} 1",
        "filesync_ready 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "no {line} in\n{metrics}");
    }
    let number = |name: &str| -> f64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_else(|| panic!("no {name}"));
        line.trim().parse().expect("a number")
    };
    assert!(number("filesync_sync_seconds_count ") > 3.0 && number("filesync_sync_seconds_sum ") > 0.0);
    assert!(number("filesync_store_objects{kind=\"data\"}") >= 1.0);
    // Each figure is explained, and every line is one of the format.
    for line in metrics.split_once("\r\n\r\n").expect("a body").1.lines().filter(|line| line.starts_with("filesync_")) {
        let (name, value) = line.rsplit_once(' ').expect("a name and a value");
        assert!(value.parse::<f64>().is_ok(), "{line}");
        let bare = name.split('{').next().expect("a name");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| bare.strip_suffix(end)).unwrap_or(bare);
        assert!(
            metrics.contains(&format!("# TYPE {family} ")) || metrics.contains(&format!("# TYPE {bare} ")),
            "{line}"
        );
    }
    // Nothing there changes anything.
    for path in ["/v1/hello", "/v1/stop", "/v1/command", "/"] {
        assert!(get(&address, path).contains("404 Not Found"), "{path}");
    }
}

/// A daemon whose disk was full goes on once there is room: a sync that failed needs the store opened again.
#[test]
fn a_full_disk_is_survived() {
    let Some(mount) = crate::places::Mount::new(&["-t", "tmpfs", "-o", "size=12m", "tmpfs"]) else { return };
    mount.ok(&["init"]);
    let mut command = Command::new(filesync_tests::world::program());
    command.args(["serve"]).current_dir(&mount.0).env_remove("FILESYNC_DIR");
    let daemon = Served::spawn(command);
    std::fs::write(mount.0.join("a"), "a").expect("there is room");
    mount.ok(&["commit", "-m", "first"]);
    let mut seed = 1;
    // To the last byte: writes fail, and the replacement of HEAD.
    let fill = mount.0.join("filler");
    let written = std::fs::write(mount.0.join(".filesyncignore"), "filler\n");
    written.expect("there is room");
    for round in 0..4 {
        seed += 1;
        std::fs::write(mount.0.join("b"), noise(seed, 300_000)).expect("there is room");
        let mut filler = std::fs::File::create(&fill).expect("it can be made");
        while filler.write_all(&[0; 4096]).is_ok() {}
        drop(filler);
        let output = mount.run(&["commit", "-m", "full"]);
        let err = error(&output);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains("No space left on device") || err.contains("stopped after"), "{err}");
        std::fs::remove_file(&fill).expect("it is there");
        let mut tries = 0;
        until("there is room again", || {
            tries += 1;
            mount.run(&["commit", "-m", &format!("round {round}")]).status.success()
        });
        assert!(tries <= 2, "{tries} tries");
    }
    assert_eq!(mount.ok(&["log"]).matches("round ").count(), 4);
    mount.ok(&["fsck"]);
    let lock = std::fs::read_to_string(mount.0.join(".filesync/lock")).expect("it is there");
    assert_eq!(lock, format!("serve, pid {}\n", daemon.pid()));
}
