//! `init`.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use filesync_repo::{InitRequest, InitResult, Repo};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Make a repository
///
/// Makes `.filesync/` in DIR, and DIR itself if it is missing. A repository that is already there is refused and
/// stays as it is.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync init
  filesync init photos --no-compression
  filesync init --chunk-size 256KiB --name laptop")]
pub struct InitArgs {
    /// Where [default: FILESYNC_DIR, or the working directory]
    // Not called `directory`: clap would take it for the global one of that name, -C.
    #[arg(value_name = "DIR")]
    target: Option<PathBuf>,
    /// Average length of the chunks that files are cut into [default: 64KiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_chunk_size)]
    chunk_size: Option<u32>,
    /// What this node is called [default: the host's name]
    #[arg(long, value_name = "NODE")]
    name: Option<String>,
    /// Store everything as it is
    #[arg(long)]
    no_compression: bool,
}

fn parse_chunk_size(text: &str) -> Result<u32, String> {
    u32::try_from(units::parse_size(text)?).map_err(|_| format!("{text:?} is too large"))
}

pub fn run(args: InitArgs, context: &mut Context) -> Result<Exit, Failure> {
    let InitArgs { target, chunk_size, name, no_compression } = args;
    let directory = target.or_else(|| context.environment.repository.clone()).unwrap_or_else(|| ".".into());
    let result = Repo::init(&directory, &InitRequest { chunk_size, name, no_compression })?;
    show(&result, context).map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn show(result: &InitResult, context: &mut Context) -> io::Result<()> {
    if context.global.json {
        return context.output.json(&json::Init::new(result));
    }
    if context.is_chatty() {
        writeln!(context.output, "made an empty repository in {}", quote::path(&result.path))?;
    }
    Ok(())
}
