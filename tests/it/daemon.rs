//! The daemon: the same with it and without, and nothing lost whatever becomes of it.

mod ends;
mod same;
mod socket;

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

use filesync_tests::process::{send, until};
use filesync_tests::world::World;
use rustix::process::Signal;

/// A daemon that answers. Killed in the end.
struct Served {
    child: Child,
    /// What it said: where it serves.
    said: String,
}

impl Served {
    fn start(world: &World) -> Self {
        Self::with(world, &[])
    }

    #[track_caller]
    fn with(world: &World, args: &[&str]) -> Self {
        Self::spawn(world.command(&[&["serve"], args].concat()))
    }

    #[track_caller]
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the program runs");
        let mut said = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut said).expect("it can be read");
        assert!(said.contains(&child.id().to_string()), "it does not serve: {said:?}");
        Self { child, said }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn signal(&self, signal: Signal) {
        send(&self.child, signal);
    }

    /// Waits for its end; its status.
    #[track_caller]
    fn ended(&mut self) -> Option<i32> {
        until("the daemon ends", || self.child.try_wait().expect("it can be asked").is_some());
        self.child.wait().expect("it has ended").code()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A commit that takes many minutes, which the daemon has begun.
#[track_caller]
fn long_commit(world: &World) -> Child {
    let huge = std::fs::File::create(world.path("huge")).expect("it can be made");
    huge.set_len(4 << 40).expect("it can be sparse");
    let mut command = world.command(&["commit", "-m", "long"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
    let busy = format!("store is busy: commit, pid {}", child.id());
    until("the commit has begun", || error(&world.run(&["tag", "x", "--lock-timeout", "0s"])).contains(&busy));
    child
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// All commits of the history.
fn history(world: &World) -> Vec<String> {
    let id = |commit: &serde_json::Value| commit["commit"].as_str().expect("an id").to_owned();
    world.json(&["log"]).iter().map(id).collect()
}
