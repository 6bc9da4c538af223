//! `serve --detach`: the same program in a session of its own, and a look whether it answers.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use filesync_repo::daemon::{Daemon, LOG};
use rustix::process::{Pid, Signal, kill_process};

use super::{ServeArgs, show};
use crate::args::{ARENAS, DETACHED, MAPPED_FROM};
use crate::context::Context;
use crate::error::{Exit, Failure, STATUS_FAILED};
use crate::signals;

/// How often it is seen whether it answers.
const LOOK: Duration = Duration::from_millis(20);
/// What is read of its last words.
const LAST_WORDS_MAX: u64 = 64 << 10;

pub fn run(args: &ServeArgs, root: &Path, context: &mut Context) -> Result<Exit, Failure> {
    let root = root.canonicalize().map_err(|error| Failure::local(format!("serve: {}", root.display()), &error))?;
    let path = root.join(LOG);
    let (mut log, begin) =
        open_log(&path).map_err(|error| Failure::local(format!("serve: {}", path.display()), &error))?;
    let mut child = start(args, &root, &log, context).map_err(|error| Failure::local("serve: --detach", &error))?;
    loop {
        if let Some(status) = child.try_wait().map_err(|error| Failure::local("serve: --detach", &error))? {
            let status = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(STATUS_FAILED);
            return Err(last_words(&mut log, begin, status, &path));
        }
        let hello = Daemon::find(&root)?.and_then(|daemon| daemon.hello());
        if let Some(hello) = hello.filter(|hello| hello.pid == child.id()) {
            // A port may have been the system's choice.
            show(&root, hello.pid, hello.http, context).map_err(Failure::Output)?;
            return Ok(Exit::Done);
        }
        if signals::received().is_some() {
            end(&mut child);
            return Err(Failure::usage("interrupted"));
        }
        std::thread::sleep(LOOK);
    }
}

/// The log, and where its end is.
fn open_log(path: &Path) -> io::Result<(File, u64)> {
    if let Some(dir) = path.parent() {
        match DirBuilder::new().mode(0o700).create(dir) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
    }
    let no_follow = i32::try_from(rustix::fs::OFlags::NOFOLLOW.bits()).unwrap_or(0);
    let mut options = OpenOptions::new();
    let file = options.read(true).append(true).create(true).mode(0o600).custom_flags(no_follow).open(path)?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

fn start(args: &ServeArgs, root: &Path, log: &File, context: &Context) -> io::Result<Child> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(std::iter::repeat_n("-v", context.global.verbose.into()));
    if context.global.allow_foreign {
        command.arg("--allow-foreign");
    }
    command.arg("--lock-timeout").arg(format!("{}ms", context.global.lock_timeout.as_millis()));
    command.args(["serve", "--detach"]);
    command.args(args.listen.iter().flat_map(|address| ["--listen", address.as_str()]));
    command.args(args.http.iter().flat_map(|address| ["--http", address.as_str()]));
    command.args(args.moved.then_some("--moved"));
    // Its working directory is nobody's: a file system that it does not serve can be unmounted.
    command.current_dir("/").env("FILESYNC_DIR", root).env(DETACHED, "1");
    // Threads for each of many peers take turns with large buffers: by default there are eight arenas a processor, and each keeps all.
    if !context.environment.tunes_malloc {
        command.env(ARENAS, std::thread::available_parallelism().map_or(2, usize::from).max(2).to_string());
        command.env(MAPPED_FROM, (128 << 10).to_string());
    }
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?);
    command.spawn()
}

/// What a daemon said that did not come to answer.
fn last_words(log: &mut File, begin: u64, status: u8, path: &Path) -> Failure {
    let mut said = Vec::new();
    let read = log.seek(SeekFrom::Start(begin)).and_then(|_| log.take(LAST_WORDS_MAX).read_to_end(&mut said));
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().collect();
    let is_error = |line: &&str| line.starts_with("filesync: ") && !line.starts_with("filesync: warning: ");
    let at = lines.iter().rposition(is_error).filter(|_| read.is_ok());
    let message = at.and_then(|at| lines[at].strip_prefix("filesync: ")).map(str::to_owned);
    let hint = at.and_then(|at| lines.get(at + 1)?.strip_prefix("hint: ")).map(str::to_owned);
    let silent = || format!("serve: it ended at once: {} tells more", path.display());
    Failure::Told { status, message: message.unwrap_or_else(silent), hint }
}

fn end(child: &mut Child) {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    if let Some(pid) = pid {
        // It has not been waited for, so that the number is still its own.
        let _ = kill_process(pid, Signal::TERM);
        let _ = child.wait();
    }
}
