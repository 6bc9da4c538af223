//! `cat`.

use std::ffi::OsString;

use clap::Args;
use filesync_repo::CatRequest;

use crate::context::{self, Context};
use crate::error::{Exit, Failure};
use crate::{quote, units};

/// Write a file of a commit to standard output
///
/// Every byte is verified before it is written.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync cat HEAD:README.md
  filesync cat v1.0:disk.img --offset 1GiB --length 64KiB | xxd")]
pub struct CatArgs {
    /// REV is HEAD, main (what the cluster shows), a tag, a commit or the start of its id, each with ~N;
    /// PATH is from the root of the repository
    #[arg(value_name = "REV:PATH")]
    target: OsString,
    /// Skip so many bytes
    #[arg(long, value_name = "N", value_parser = units::parse_size, default_value = "0", hide_default_value = true)]
    offset: u64,
    /// Write at most so many bytes
    #[arg(long, value_name = "N", value_parser = units::parse_size)]
    length: Option<u64>,
}

pub fn run(args: CatArgs, context: &mut Context) -> Result<Exit, Failure> {
    let CatArgs { target, offset, length } = args;
    let word = target;
    let target = context::target(Some(&word))?;
    if target.path.is_none() {
        let hint = word.to_str().map(|word| format!("the head's: {}", quote::shell(&format!("HEAD:{word}"))));
        let message = format!("cat: {}: REV:PATH is wanted", quote::name(word.as_encoded_bytes()));
        return Err(Failure::Usage { message, hint });
    }
    let repo = context.open_reader()?;
    context.progress.finish();
    let request = CatRequest { target, offset, length };
    let mut outcome = repo.cat(&request, &mut context.output.stream());
    if context.bring(&outcome, request.target.rev.as_deref(), (request.target.path.as_slice(), false))? {
        outcome = context.open_reader()?.cat(&request, &mut context.output.stream());
    }
    outcome.map_err(|error| context.hint_at_root(&repo, error, word.to_str()))?;
    Ok(Exit::Done)
}
