//! The program while it runs: what it is at, signals, and waiting for what is so rather than for a time.

use std::net::UdpSocket;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::world::TempDir;

/// After what time something that is waited for will not come any more. A machine that is busy takes its time.
const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until something is so.
#[track_caller]
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it never came to that: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A child that is killed in the end: one that stands still, or has much to do, does not outlive a test that fails.
#[derive(Debug)]
pub struct Running(pub Child);

impl Running {
    /// Starts a command.
    pub fn start(command: &mut Command) -> Self {
        Self(command.spawn().expect("the program runs"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Sends a signal to a child that was not waited for.
pub fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).expect("a child has an id");
    kill_process(pid, signal).expect("it can be sent");
}

/// Makes a child stand still. False if it was at its end already.
pub fn stop(child: &mut Child) -> bool {
    if child.try_wait().expect("it can be asked").is_some() {
        return false;
    }
    send(child, Signal::STOP);
    let stat = format!("/proc/{}/stat", child.id());
    loop {
        let text = std::fs::read_to_string(&stat).expect("a child that was not waited for has a state");
        match text.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next()) {
            Some('T') => return true,
            Some('Z') => return false,
            _ => std::thread::yield_now(),
        }
    }
}

/// How a child ended. One that does not is killed, and the test fails.
#[track_caller]
pub fn end(child: &mut Child) -> ExitStatus {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(status) = child.try_wait().expect("it can be asked") {
            return status;
        }
        if Instant::now() > end {
            drop(child.kill());
            drop(child.wait());
            panic!("it did not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What a child has read so far, of files and all else; nothing once it has ended.
pub fn bytes_read(child: &Child) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/io", child.id())).unwrap_or_default();
    text.lines().find_map(|line| line.strip_prefix("rchar: ")).map_or(0, |n| n.parse().expect("a number"))
}

/// Whether a child has a file open at the moment.
pub fn has_open(child: &Child, path: &Path) -> bool {
    let open = std::fs::read_dir(format!("/proc/{}/fd", child.id()));
    open.is_ok_and(|open| open.flatten().any(|fd| std::fs::read_link(fd.path()).is_ok_and(|to| to == path)))
}

/// An address that is free at the moment.
pub fn address() -> String {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("there are ports").to_string()
}

/// Tells threads to stop when it goes, also when a test fails: else it would wait for them for ever.
#[derive(Debug)]
pub struct Stop<'a>(pub &'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until the clock by which files are dated has ticked: what changes from now on is younger than what is there.
pub fn tick() {
    let dir = TempDir::new();
    let now = || {
        let path = dir.path().join("now");
        std::fs::write(&path, "").expect("it can be written");
        let meta = std::fs::metadata(&path).expect("it is there");
        std::fs::remove_file(&path).expect("it is there");
        (meta.ctime(), meta.ctime_nsec())
    };
    let before = now();
    until("the clock ticks", || now() > before);
}
