//! `clone`.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use filesync_repo::{CloneRequest, Event, Observer, Warning};

use super::sync;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Join a cluster with an invite, and fetch what it has
///
/// Interrupted at any point, the same command goes on where it stopped. With `--path` it is a partial copy: it has these parts of
/// every commit, and leaves the others as they are when it commits and publishes. Such a copy cannot become a voter. `-` reads the invite from standard input, so that
/// it does not show in the list of processes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync clone filesync1… assets
  filesync clone - assets < invite.txt
  filesync clone filesync1… assets --path textures/wood --path docs

End: 3 if nothing published has one of the paths; it comes when somebody publishes it.")]
pub struct CloneArgs {
    /// The line that `filesync invite` printed
    #[arg(value_name = "INVITE")]
    invite: String,
    /// Where to; made if it is missing [default: .]
    #[arg(value_name = "DIR")]
    dir: Option<PathBuf>,
    /// What this node is called [default: the host's name]
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// Have only this, from the root of the repository, and what is below it; several are possible
    #[arg(long = "path", value_name = "PATH")]
    paths: Vec<OsString>,
    /// How long to wait for a quorum, or for bytes that do not come
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "60s")]
    timeout: Duration,
}

pub fn run(args: CloneArgs, context: &mut Context) -> Result<Exit, Failure> {
    let invite = match args.invite.as_str() {
        "-" => {
            let mut line = String::new();
            let read = std::io::stdin().read_line(&mut line);
            read.map_err(|error| Failure::local("clone: standard input", &error))?;
            if line.trim().is_empty() {
                return Err(Failure::usage("clone: standard input: no invite in it"));
            }
            line
        }
        line => line.to_owned(),
    };
    let dir = args.dir.unwrap_or_else(|| PathBuf::from("."));
    let paths = args.paths.iter().map(|path| part(path)).collect::<Result<_, _>>()?;
    let request = CloneRequest { invite, dir, name: args.name, paths, timeout: args.timeout };
    let cloned = filesync_repo::cluster::clone(&request, &context.open_options(), &context.progress);
    context.progress.finish();
    let cloned = cloned?;
    if context.global.json {
        context.output.json(&json::Cloned::new(&cloned)).map_err(Failure::Output)?;
        let ended = sync::ended(&cloned.synced)?;
        return Ok(if cloned.not_found.is_empty() { ended } else { Exit::Left });
    }
    if context.is_chatty() {
        let line = format!("joined as node {} in {}\n", cloned.node, quote::path(&cloned.path));
        context.output.write_all(line.as_bytes()).map_err(Failure::Output)?;
    }
    let shown = sync::show(&cloned.synced, false, context)?;
    if cloned.not_found.is_empty() {
        return Ok(shown);
    }
    for path in &cloned.not_found {
        let message = "not found in what is published: it comes when somebody publishes it".to_owned();
        context.progress.event(Event::Warning(Warning { path: Some(path.clone()), message }));
    }
    Ok(Exit::Left)
}

/// A path behind `--path`; a slash at its end says nothing.
fn part(word: &OsStr) -> Result<Vec<u8>, Failure> {
    let bytes = word.as_encoded_bytes();
    let bytes = bytes.strip_prefix(b"./").unwrap_or(bytes);
    let end = bytes.iter().rposition(|&byte| byte != b'/').map_or(0, |at| at + 1);
    match end {
        0 => Err(Failure::usage(format!("clone: --path {}: names nothing below the root", quote::name(bytes)))),
        _ => Ok(bytes[..end].to_vec()),
    }
}
