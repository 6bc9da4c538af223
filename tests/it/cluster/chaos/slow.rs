//! A disk that is slow to sync: strace holds up each such call of a process, and of nothing else.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// All by which anything is made durable.
const SYNCS: &str = "fsync,fdatasync,syncfs,sync_file_range";

/// Slow until dropped.
pub struct Slow {
    strace: Child,
    log: PathBuf,
}

impl Slow {
    /// Each sync of a process takes so much longer from here on.
    pub fn begin(process: Pid, delay: Duration, log: &Path) -> Self {
        drop(std::fs::remove_file(log));
        let mut strace = Command::new("strace");
        strace.args(["-f", "-q", "-p", &process.as_raw_nonzero().to_string(), "-o"]).arg(log);
        strace.args(["-e", &format!("trace={SYNCS}"), "-e"]);
        strace.arg(format!("inject={SYNCS}:delay_enter={}", delay.as_micros()));
        strace.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { strace: strace.spawn().expect("strace runs"), log: log.to_owned() }
    }

    /// How many were held up so far.
    pub fn count(&self) -> usize {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.matches("(DELAYED)").count()
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        // In order: it lets go of every thread before it ends.
        if let Some(strace) = i32::try_from(self.strace.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(strace, Signal::TERM);
        }
        drop(self.strace.wait());
    }
}
