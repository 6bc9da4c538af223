//! `du`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use filesync_repo::{DuEntry, DuRequest};

use super::ls::hint_at_target;
use crate::context::{self, Context};
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Show what the directories of a commit come to
///
/// A line a directory, those below before it: bytes of all files in it, and its name from the root of the repository.
/// What is the same in several places counts in each.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync du -s                    all of the head
  filesync du -d 1 v1.0 | sort -n   which directory is it?
  filesync du HEAD:docs -H")]
pub struct DuArgs {
    /// Which; REV is HEAD, main (what the cluster shows), a tag, a commit or the start of its id, each with ~N
    /// [default: the root of HEAD]
    #[arg(value_name = "REV[:PATH]")]
    target: Option<OsString>,
    /// The target alone
    #[arg(short, long, conflicts_with = "max_depth")]
    summarize: bool,
    /// Directories N levels below the target at most
    #[arg(short = 'd', long, value_name = "N")]
    max_depth: Option<usize>,
    /// Sizes as 1.2 GiB
    #[arg(short = 'H', long)]
    human_readable: bool,
    /// End records with NUL and quote nothing
    #[arg(short = 'z', conflicts_with = "json")]
    nul: bool,
}

pub fn run(args: DuArgs, context: &mut Context) -> Result<Exit, Failure> {
    let DuArgs { target, summarize, max_depth, human_readable, nul } = args;
    let depth = if summarize { Some(0) } else { max_depth };
    let request = DuRequest { target: context::target(target.as_ref())?, depth };
    let repo = context.open_reader()?;
    context.progress.finish();
    let as_json = context.global.json;
    let mut out = context.output.stream();
    let outcome = repo.du(&request, &mut |entry| {
        if as_json {
            out.json(&json::Du::new(&entry))?;
        } else {
            show(&entry, human_readable, nul, &mut out)?;
        }
        Ok(())
    });
    outcome.map_err(|error| hint_at_target(context, &repo, error, target.as_ref()))?;
    Ok(Exit::Done)
}

fn show(entry: &DuEntry, human_readable: bool, nul: bool, out: &mut impl Write) -> io::Result<()> {
    let bytes = entry.totals.bytes;
    let size = if human_readable { units::show_bytes(bytes) } else { bytes.to_string() };
    write!(out, "{size}\t")?;
    let path: &[u8] = if entry.path.is_empty() { b"." } else { &entry.path };
    if nul { out.write_all(&[path, b"\0"].concat()) } else { writeln!(out, "{}", quote::name(path)) }
}
