//! `clone`.

use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use filesync_repo::CloneRequest;

use super::sync;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Join a cluster with an invite, and fetch what it has
///
/// Interrupted at any point, the same command goes on where it stopped. `-` reads the invite from standard input, so that
/// it does not show in the list of processes.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync clone filesync1… assets
  filesync clone - assets < invite.txt")]
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
            line
        }
        line => line.to_owned(),
    };
    let dir = args.dir.unwrap_or_else(|| PathBuf::from("."));
    let request = CloneRequest { invite, dir, name: args.name, timeout: args.timeout };
    let cloned = filesync_repo::cluster::clone(&request, &context.open_options(), &context.progress);
    context.progress.finish();
    let cloned = cloned?;
    if context.global.json {
        context.output.json(&json::Cloned::new(&cloned)).map_err(Failure::Output)?;
        return Ok(Exit::Done);
    }
    if context.is_chatty() {
        let line = format!("joined as node {} in {}\n", cloned.node, quote::path(&cloned.path));
        context.output.write_all(line.as_bytes()).map_err(Failure::Output)?;
    }
    sync::show(&cloned.synced, context)
}
