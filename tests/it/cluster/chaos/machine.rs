//! A node: its working copy, its daemon, and commands, all in its own network namespace and by its own clock.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, RwLock};

use filesync_tests::world::{Ran, World, behind};
use rustix::process::{Pid, Signal};
use serde_json::Value;

use super::super::disk::Disk;
use super::super::{Daemon, until};
use super::clock::Clock;
use super::proxy::{Net, address};
use super::rest::Rest;

/// The last lines of a daemon's log that a failure shows.
const SHOWN: usize = 40;
/// After so many seconds a command hangs.
const HANGS: &str = "300";
/// The system's words for a full disk.
pub const FULL: &str = "No space left on device";

pub struct Machine {
    /// Its place in the network.
    pub number: usize,
    pub rest: Rest,
    pub clock: Clock,
    daemon: Mutex<Option<Running>>,
    net: Arc<Net>,
    log: PathBuf,
    home: RwLock<Home>,
    /// Open to commands but while the daemon starts.
    gate: RwLock<()>,
    /// What it holds was damaged on purpose, and it has not healed yet.
    is_damaged: AtomicBool,
}

struct Running {
    daemon: Daemon,
    /// How long the log was when it began.
    log_from: usize,
}

/// Who it is, as long as it is the same member.
struct Home {
    name: String,
    // Gone before the directory that it is mounted at.
    disk: Option<Arc<Disk>>,
    world: Arc<World>,
}

impl Home {
    fn new(name: &str) -> Self {
        Self { name: name.to_owned(), disk: None, world: Arc::new(World::empty()) }
    }
}

impl Machine {
    pub fn new(number: usize, name: &str, net: &Arc<Net>, clock: Clock, log: PathBuf) -> Self {
        let (rest, daemon, gate, is_damaged) = Default::default();
        let home = RwLock::new(Home::new(name));
        Self { number, rest, clock, daemon, net: Arc::clone(net), log, home, gate, is_damaged }
    }

    /// What it is called in the cluster.
    pub fn name(&self) -> String {
        self.home.read().expect("nobody panics with it").name.clone()
    }

    /// Its working copy.
    pub fn world(&self) -> Arc<World> {
        Arc::clone(&self.home.read().expect("nobody panics with it").world)
    }

    /// Its small disk, if it has one.
    pub fn disk(&self) -> Option<Arc<Disk>> {
        self.home.read().expect("nobody panics with it").disk.clone()
    }

    /// Puts it on a small disk, while there is nothing yet. False where there can be none.
    pub fn shrink(&self) -> bool {
        let disk = Disk::mount(self.world().root()).map(Arc::new);
        let is_there = disk.is_some();
        self.home.write().expect("nobody panics with it").disk = disk;
        is_there
    }

    /// Another machine in its place, with nothing on it. The daemon must have ended.
    pub fn renew(&self, name: &str) {
        *self.home.write().expect("nobody panics with it") = Home::new(name);
    }

    /// A command that ends soon, or is killed.
    fn command(&self, args: &[&str]) -> Command {
        let mut words: Vec<String> = ["timeout", "--signal=KILL", HANGS].map(str::to_owned).to_vec();
        words.extend(self.inside());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        behind(&words, &self.world().command(args))
    }

    /// What runs a program in its network and by its clock.
    fn inside(&self) -> Vec<String> {
        let enter = ["nsenter".to_owned(), self.net.space(self.number)];
        enter.into_iter().chain(self.clock.words()).collect()
    }

    /// Runs a command that may fail, but neither panics nor hangs, nor finds damage that nobody made.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        let gate = self.gate.read().expect("nobody panics with it");
        let was_damaged = self.is_damaged();
        let output = self.command(args).output().expect("it runs");
        drop(gate);
        self.checked(args, was_damaged, Ran::new(output))
    }

    #[track_caller]
    fn checked(&self, args: &[&str], was_damaged: bool, ran: Ran) -> Ran {
        let name = self.name();
        assert!(!ran.is_broken(), "{name} {args:?}: {ran:?}");
        let may_be_damaged = was_damaged || self.is_damaged();
        assert!(ran.status != Some(2) && (may_be_damaged || ran.status != Some(5)), "{name} {args:?}: {ran:?}");
        ran
    }

    /// Whether what it holds was damaged on purpose, and it has not healed yet.
    fn is_damaged(&self) -> bool {
        self.is_damaged.load(Ordering::SeqCst)
    }

    /// From here on it may find damage, or none any more.
    pub fn set_damaged(&self, is_damaged: bool) {
        self.is_damaged.store(is_damaged, Ordering::SeqCst);
    }

    /// Runs a command that must end with status 0.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(0), "{} {args:?}: {ran:?}", self.name());
        ran
    }

    /// What a command with `--json` prints, a value a line; none if its status is not 0.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Option<Vec<Value>> {
        let ran = self.run(&[&["--json"], args].concat());
        (ran.status == Some(0)).then(|| values(&ran))
    }

    /// Joins with an invite, which goes in by standard input.
    #[track_caller]
    pub fn join(&self, line: &str) -> Ran {
        let args = ["clone", "-", ".", "--name", &self.name(), "--timeout", "20s"];
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        // It may end before it has read.
        drop(writeln!(child.stdin.take().expect("piped"), "{line}"));
        self.checked(&args, false, Ran::new(child.wait_with_output().expect("it ends")))
    }

    /// Starts the daemon, as soon as no command has the store. It ends with the thread that does this, however that ends.
    #[track_caller]
    pub fn start(&self) {
        let mut daemon = self.daemon.lock().expect("nobody panics with it");
        assert!(daemon.is_none(), "{} runs already", self.name());
        *daemon = Some(self.started());
    }

    #[track_caller]
    fn started(&self) -> Running {
        // Commands come one after the other: it would have to be lucky to get in between.
        let _gate = self.gate.write().expect("nobody panics with it");
        let log_from = self.log_len();
        let log = File::options().create(true).append(true).open(&self.log).expect("it can be written");
        let mut words: Vec<String> = ["setpriv", "--pdeathsig", "KILL"].map(str::to_owned).to_vec();
        words.extend(self.inside());
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let address = address(self.number).to_string();
        let serve = ["serve", "--listen", &address, "--lock-timeout", "120s"];
        let mut command = behind(&words, &self.world().command(&serve));
        command.stderr(log);
        Running { daemon: Daemon::spawn(command), log_from }
    }

    /// As a power cut has it.
    pub fn kill(&self) {
        self.take().kill();
    }

    /// In order.
    #[track_caller]
    pub fn end(&self) {
        self.take().end();
    }

    #[track_caller]
    fn take(&self) -> Daemon {
        self.daemon.lock().expect("nobody panics with it").take().expect("it runs").daemon
    }

    /// Stops the daemon where it is, or has it go on.
    pub fn signal(&self, signal: Signal) {
        self.daemon.lock().expect("nobody panics with it").as_ref().expect("it runs").daemon.signal(signal);
    }

    /// The process of the daemon.
    pub fn process(&self) -> Pid {
        self.daemon.lock().expect("nobody panics with it").as_ref().expect("it runs").daemon.process()
    }

    /// Fails if the daemon has ended by itself; but one whose disk was full is started again, as whoever looks after it would.
    #[track_caller]
    pub fn assert_runs(&self) {
        let mut daemon = self.daemon.lock().expect("nobody panics with it");
        let Some(running) = daemon.as_mut() else { return };
        let Some(ended) = running.daemon.ended() else { return };
        let name = self.name();
        let was_full = self.has_logged(running.log_from, FULL);
        assert!(was_full, "the daemon of {name} ended by itself: {ended}");
        assert!(!ended.success(), "the daemon of {name} ended as if it had been told to");
        *daemon = Some(self.started());
    }

    /// How long the log is.
    pub fn log_len(&self) -> usize {
        self.log().len()
    }

    /// Whether these words were logged since the log was so long.
    pub fn has_logged(&self, from: usize, words: &str) -> bool {
        String::from_utf8_lossy(self.log().get(from..).unwrap_or_default()).contains(words)
    }

    /// Carries out a command until it succeeds.
    #[track_caller]
    pub fn insist(&self, args: &[&str]) -> Ran {
        let mut last = None;
        until(&format!("{} {args:?}", self.name()), || {
            let ran = self.run(args);
            let is_done = ran.status == Some(0);
            last = Some(ran);
            is_done
        });
        last.expect("it was run")
    }

    /// All that its daemons have logged.
    fn log(&self) -> Vec<u8> {
        std::fs::read(&self.log).unwrap_or_default()
    }

    /// The end of what its daemons logged.
    pub fn last_words(&self) -> String {
        let log = self.log();
        let text = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(SHOWN)..].join("\n")
    }
}

/// One value a line.
#[track_caller]
pub fn values(ran: &Ran) -> Vec<Value> {
    let text = String::from_utf8_lossy(&ran.out);
    text.lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect()
}
