//! `stop`.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use filesync_repo::daemon::Daemon;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote, signals};

/// End the daemon of this repository
///
/// Commands that it carries out are stopped, as Ctrl-C would. Returns when it has ended.
#[derive(Debug, Args)]
pub struct StopArgs {}

/// It ends within five seconds, or is cut off.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

pub fn run(context: &mut Context) -> Result<Exit, Failure> {
    let root = context.root()?;
    let daemon = Daemon::find(&root)?;
    let hello = daemon.as_ref().map(|daemon| daemon.greet(context.global.lock_timeout)).transpose()?.flatten();
    let Some((hello, daemon)) = hello.zip(daemon) else {
        let message = format!("cannot stop the daemon: {}: none answers here", quote::path(&root));
        return Err(Failure::Local { message, hint: None });
    };
    // Before it is asked: afterwards the number may be another's.
    let process = i32::try_from(hello.pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
    daemon.stop();
    if let Some(Ok(process)) = process {
        let end = Instant::now() + PATIENCE;
        loop {
            signals::check().map_err(Failure::Output)?;
            let mut ended = [PollFd::new(&process, PollFlags::IN)];
            if poll(&mut ended, Some(&LOOK)).is_ok_and(|ready| ready > 0) {
                break;
            }
            if Instant::now() > end {
                let message = format!("cannot stop the daemon: pid {}: it does not end", hello.pid);
                return Err(Failure::Local { message, hint: None });
            }
        }
    }
    let written = if context.global.json {
        context.output.json(&json::Stop { pid: hello.pid })
    } else if context.is_chatty() {
        writeln!(context.output, "stopped the daemon, pid {}", hello.pid)
    } else {
        Ok(())
    };
    written.map_err(Failure::Output)?;
    Ok(Exit::Done)
}
