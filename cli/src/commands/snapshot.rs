//! `snapshot`.

use std::io::Write;
use std::time::Duration;

use clap::{Args, Subcommand};
use filesync_repo::{ClusterAnswer, ClusterRequest, SnapshotInfo};

use crate::context::{Context, misunderstood};
use crate::error::{Exit, Failure};
use crate::{json, units};

/// Show the newest snapshot of the replicated log, or make one
///
/// A snapshot is the log's state (members, refs, invites) as of an entry: a node starts with it, and is sent it when it is too
/// far behind. It holds no files. They are made by themselves, so that this is for who looks after a cluster.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync snapshot
  filesync snapshot create           now, of what this node has applied")]
pub struct SnapshotArgs {
    #[command(subcommand)]
    command: Option<SnapshotCommand>,
    /// How long it may take
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "60s", global = true)]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, Subcommand)]
enum SnapshotCommand {
    /// Make one
    Create,
    /// Show the newest (what `snapshot` alone does)
    List,
}

pub fn run(args: &SnapshotArgs, context: &mut Context) -> Result<Exit, Failure> {
    let create = matches!(args.command, Some(SnapshotCommand::Create));
    let request = ClusterRequest::Snapshot { create, timeout: args.timeout };
    let ClusterAnswer::Snapshot(snapshot) = context.ask_cluster(&request)? else { return Err(misunderstood()) };
    match &snapshot {
        None => Ok(()),
        Some(snapshot) if context.global.json => context.output.json(&json::Snapshot::new(snapshot)),
        Some(_) if create && !context.is_chatty() => Ok(()),
        Some(snapshot) => context.output.write_all(line(snapshot).as_bytes()),
    }
    .map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn line(snapshot: &SnapshotInfo) -> String {
    let SnapshotInfo { node, log_index, term, bytes } = *snapshot;
    format!("node {node}: as of entry {log_index}, term {term}, {}\n", units::show_bytes(bytes))
}
