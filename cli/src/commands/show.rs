//! `show`.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use filesync_repo::{ShowRequest, Shown};

use super::diff::{Form, View};
use super::log::{Quoting, text};
use crate::context::{Context, hint_at_path, revision};
use crate::error::{Exit, Failure};
use crate::json;

/// Show a commit and what it changed
///
/// The changes are those against its first parent; a first commit added all that it has.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync show
  filesync show v1.0 --stat
  filesync show HEAD -- src
  filesync show HEAD~2 --json | jq -r '.changes[].path'")]
pub struct ShowArgs {
    /// HEAD, main (what the cluster shows), a tag, a commit or the start of its id, each with ~N [default: HEAD]
    #[arg(value_name = "REV")]
    rev: Option<OsString>,
    #[command(flatten)]
    form: Form,
    /// Only the changes of these, from the working directory, and below them
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

pub fn run(args: ShowArgs, context: &mut Context) -> Result<Exit, Failure> {
    let repo = context.open_reader()?;
    let mut view = View::new(args.form, context);
    let paths = context.paths_in(repo.root(), &args.paths)?;
    let request = ShowRequest { rev: revision(args.rev)?, paths, contents: view.wants_contents() };
    let (as_json, verbose) = (context.global.json, context.global.verbose > 0);
    let progress = &context.progress;
    progress.finish();
    let mut out = context.output.stream();
    let mut first = true;
    let outcome = repo.show(&request, progress, &mut |shown| {
        match shown {
            Shown::Commit(entry) if as_json => out.write_all(json::show_head(&entry).as_bytes())?,
            Shown::Commit(entry) => out.write_all(text(&entry, verbose, Quoting::Quoted, out.paint()).as_bytes())?,
            Shown::Difference(difference) => {
                let is_first = std::mem::take(&mut first);
                if as_json {
                    let change = json::show_change(&difference, view.wants_contents(), is_first);
                    out.write_all(change.as_bytes())?;
                } else {
                    if is_first {
                        out.write_all(b"\n")?;
                    }
                    view.show(&difference, &mut out)?;
                }
            }
        }
        Ok(())
    });
    outcome.map_err(|error| hint_at_path(error, request.rev.as_deref()))?;
    if as_json { out.write_all(b"]}\n") } else { view.finish(&mut out) }.map_err(Failure::Output)?;
    Ok(Exit::Done)
}
