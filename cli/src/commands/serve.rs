//! `serve`.

mod detach;

use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;

use clap::Args;
use filesync_repo::cluster::ClusterPart;
use filesync_repo::daemon::{self, ServeOptions, Server};

use crate::context::Context;
use crate::error::{Exit, Failure, STATUS_FAILED};
use crate::{json, log, process, quote, signals};

/// Keep the repository open and serve it
///
/// Carries out the commands of this repository that write, one at a time; they reach it over a socket in `.filesync`, and
/// come to the same result as without it. Commands that only read run beside it. SIGTERM, SIGINT and `filesync stop` end it
/// in order, within five seconds. It logs to stderr, or with --detach to `.filesync/daemon/log`: `filesync config` says how.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync serve
  filesync serve --detach && filesync commit && filesync stop
  filesync serve --http 127.0.0.1:9646      /healthz, /readyz and /metrics for Prometheus")]
pub struct ServeArgs {
    /// Where to listen for peers: 0.0.0.0:7946, or a multiaddr. Founds a cluster, as `sync` does, where there is none
    #[arg(long, value_name = "ADDR")]
    listen: Vec<String>,
    /// Where to answer HTTP, for those who watch over it; nothing there changes anything
    #[arg(long, value_name = "ADDR")]
    http: Option<String>,
    /// Commit and publish changes by itself
    #[arg(long, hide = true)] // Refused until there is a background mode.
    watch: bool,
    /// Return as soon as it answers, and leave it running
    #[arg(long)]
    detach: bool,
    /// This directory is the repository, and the place that it was copied or moved from is no more
    #[arg(long)]
    moved: bool,
}

pub fn run(args: ServeArgs, context: &mut Context) -> Result<Exit, Failure> {
    if args.watch {
        return Err(Failure::usage("serve: --watch: there is no background mode yet"));
    }
    let root = context.root()?;
    if args.detach && !context.environment.detached {
        return detach::run(&args, &root, context);
    }
    if context.environment.detached {
        // No terminal is to end it. It leads no group, since it was started by a command that does not.
        let _ = rustix::process::setsid();
    }
    let options = ServeOptions {
        open: context.open_options(),
        listen: args.listen,
        http: args.http,
        moved: args.moved,
        parts: vec![Arc::new(ClusterPart)],
    };
    log::start(&daemon::log_settings(&root), context.global.verbose);
    let server = Server::start(&root, &options, &context.progress)?;
    context.progress.finish();
    let stopper = server.stopper();
    signals::on_signal(move || stopper.stop());
    let http = server.http().map(|address| address.to_string());
    show(server.root(), std::process::id(), http, context).map_err(Failure::Output)?;
    if let Err(error) = server.wait() {
        let report = Failure::from(error).report(signals::received());
        report.print(context.global.json);
        process::end(STATUS_FAILED);
    }
    Ok(Exit::Done)
}

fn show(root: &Path, pid: u32, http: Option<String>, context: &mut Context) -> io::Result<()> {
    if context.global.json {
        context.output.json(&json::Serve::new(root, pid, http))?;
    } else if context.is_chatty() {
        let http = http.map(|address| format!(", http://{address}")).unwrap_or_default();
        writeln!(context.output, "serving {}, pid {pid}{http}", quote::path(root))?;
    }
    context.output.flush()
}
