//! A node: its working copy, its daemon, and commands, all in its own network namespace.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, RwLock};

use filesync_tests::world::{Ran, World, behind};
use rustix::process::Signal;
use serde_json::Value;

use super::super::{Daemon, until};
use super::proxy::{Net, address};

/// The last lines of a daemon's log that a failure shows.
const SHOWN: usize = 40;

pub struct Machine {
    /// Its place in the network.
    pub number: usize,
    pub name: String,
    pub world: World,
    net: Arc<Net>,
    log: PathBuf,
    daemon: Mutex<Option<Daemon>>,
    /// Open to commands but while the daemon starts.
    gate: RwLock<()>,
}

impl Machine {
    pub fn new(number: usize, name: &str, net: &Arc<Net>, logs: PathBuf) -> Self {
        let (world, log) = (World::empty(), logs.join(name));
        let (daemon, gate) = Default::default();
        Self { number, name: name.to_owned(), world, net: Arc::clone(net), log, daemon, gate }
    }

    /// A command that ends within a minute, or is killed.
    fn command(&self, args: &[&str]) -> Command {
        let words = ["timeout", "--signal=KILL", "60", "nsenter", &self.net.space(self.number)];
        behind(&words, &self.world.command(args))
    }

    /// Runs a command that may fail, but neither panics nor hangs.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Ran {
        let gate = self.gate.read().expect("nobody panics with it");
        let output = self.command(args).output().expect("it runs");
        drop(gate);
        self.checked(args, Ran::new(output))
    }

    #[track_caller]
    fn checked(&self, args: &[&str], ran: Ran) -> Ran {
        assert!(!ran.is_broken(), "{} {args:?}: {ran:?}", self.name);
        assert!(!matches!(ran.status, Some(2 | 5)), "{} {args:?}: {ran:?}", self.name);
        ran
    }

    /// Runs a command that must end with status 0.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> Ran {
        let ran = self.run(args);
        assert_eq!(ran.status, Some(0), "{} {args:?}: {ran:?}", self.name);
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
        let args = ["clone", "-", ".", "--name", &self.name, "--timeout", "20s"];
        let mut command = self.command(&args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it runs");
        // It may end before it has read.
        drop(writeln!(child.stdin.take().expect("piped"), "{line}"));
        self.checked(&args, Ran::new(child.wait_with_output().expect("it ends")))
    }

    /// Starts the daemon, as soon as no command has the store. It ends with the thread that does this, however that ends.
    #[track_caller]
    pub fn start(&self) {
        // Commands come one after the other: it would have to be lucky to get in between.
        let _gate = self.gate.write().expect("nobody panics with it");
        let log = File::options().create(true).append(true).open(&self.log).expect("it can be written");
        let (space, address) = (self.net.space(self.number), address(self.number).to_string());
        let words = ["setpriv", "--pdeathsig", "KILL", "nsenter", &space];
        let serve = ["serve", "--listen", &address, "--lock-timeout", "30s"];
        let mut command = behind(&words, &self.world.command(&serve));
        command.stderr(log);
        let started = Daemon::spawn(command);
        let before = self.daemon.lock().expect("nobody panics with it").replace(started);
        assert!(before.is_none(), "{} ran already", self.name);
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
        self.daemon.lock().expect("nobody panics with it").take().expect("it runs")
    }

    /// Stops the daemon where it is, or has it go on.
    pub fn signal(&self, signal: Signal) {
        self.daemon.lock().expect("nobody panics with it").as_ref().expect("it runs").signal(signal);
    }

    /// Fails if the daemon has ended by itself.
    #[track_caller]
    pub fn assert_runs(&self) {
        let mut daemon = self.daemon.lock().expect("nobody panics with it");
        let ended = daemon.as_mut().and_then(Daemon::ended);
        drop(daemon);
        assert_eq!(ended, None, "the daemon of {} ended by itself", self.name);
    }

    /// Carries out a command until it succeeds.
    #[track_caller]
    pub fn insist(&self, args: &[&str]) -> Ran {
        let mut last = None;
        until(&format!("{} {args:?}", self.name), || {
            let ran = self.run(args);
            let is_done = ran.status == Some(0);
            last = Some(ran);
            is_done
        });
        last.expect("it was run")
    }

    /// The end of what the daemon logged.
    pub fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
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
