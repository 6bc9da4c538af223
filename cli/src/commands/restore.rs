//! `restore`, also called `checkout`.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use filesync_repo::{ErrorKind, RestoreRequest, RestoreResult};

use crate::context::{Context, hint_at_path, hint_at_revision, revision};
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Bring back files of a commit
///
/// Makes paths of the working copy (all that is tracked, if none are named) equal to a commit. The head stays where
/// it is. A file whose content is in no commit is left alone, listed, and the exit status is 3.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync restore -- notes.txt             undo my changes to a file
  filesync restore HEAD~3 --dry-run         what would the state of three commits ago change?
  filesync restore v1.0 --delete            make everything as it was, newer files gone
  filesync restore v1.0 --to /tmp/v1        a copy elsewhere; the working copy is not touched")]
pub struct RestoreArgs {
    /// What to restore: HEAD, main (what the cluster shows), a tag, a commit or the start of its id, each with ~N
    /// [default: HEAD]
    #[arg(value_name = "REV")]
    rev: Option<OsString>,
    /// Write a copy into DIR, which must be new or empty
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Return only when the copy is safe from a power cut
    #[arg(long, requires = "to")]
    fsync: bool,
    /// Also remove files that REV lacks; of what is in no commit, only with --force
    #[arg(long)]
    delete: bool,
    /// Also replace what is in no commit
    #[arg(long)]
    force: bool,
    /// Show what would be done, and do nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// End records with NUL, quote nothing, and leave the summary out
    #[arg(short = 'z', conflicts_with = "json")]
    nul: bool,
    /// Files and directories, from the working directory
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

pub fn run(args: RestoreArgs, context: &mut Context) -> Result<Exit, Failure> {
    let RestoreArgs { rev, to, fsync, delete, force, dry_run, nul, paths } = args;
    let rev = revision(rev)?;
    let words = paths;
    let paths = context.paths_in(&context.root()?, &words)?;
    let word = rev.clone();
    let request = RestoreRequest { rev, to, fsync, delete, force, dry_run, paths };
    let result = match request.to.is_some() || dry_run {
        true => {
            let mut outcome = context.open_reader()?.restore(&request, &context.progress);
            if request.to.is_some() && context.bring(&outcome, request.rev.as_deref(), (&request.paths, false))? {
                outcome = context.open_reader()?.restore(&request, &context.progress);
            }
            outcome.map_err(Failure::from)
        }
        false => context.carry_out(request),
    };
    context.progress.finish();
    let result = result.map_err(|failure| {
        failure.with_hint(|error| {
            let repo = context.peek().filter(|_| error.kind() == ErrorKind::NotFound);
            match repo.and_then(|repo| hint_at_revision(&repo, &words)) {
                Some(hint) => Failure::Repo { error, hint: Some(hint) },
                None => hint_at_path(error, word.as_deref()),
            }
        })
    })?;
    if context.global.json {
        context.output.json(&json::Restore::new(&result, dry_run))
    } else if nul {
        records(&result, dry_run, &mut context.output)
    } else {
        let chatty = context.is_chatty();
        show(&result, Told { dry_run, force, chatty }, &mut context.output)
    }
    .map_err(Failure::Output)?;
    Ok(verdict(&result))
}

fn verdict(result: &RestoreResult) -> Exit {
    if !result.damaged.is_empty() {
        Exit::Damage
    } else if !result.skipped.is_empty() {
        Exit::Left
    } else {
        Exit::Done
    }
}

/// What is done to a path, a blank, and its name.
fn records(result: &RestoreResult, dry_run: bool, out: &mut impl Write) -> io::Result<()> {
    let mut record = |word: &str, path: &[u8]| out.write_all(&[word.as_bytes(), b" ", path, b"\0"].concat());
    if dry_run {
        result.plan.iter().try_for_each(|step| record(step.action, &step.path))?;
    }
    result.damaged.iter().try_for_each(|damaged| record("damaged", &damaged.path))?;
    // The plan has a record for each of these.
    let skipped: &[Vec<u8>] = if dry_run { &[] } else { &result.skipped };
    skipped.iter().try_for_each(|path| record("skipped", path))
}

/// What was asked for, as far as the words depend on it.
#[derive(Clone, Copy)]
struct Told {
    dry_run: bool,
    force: bool,
    chatty: bool,
}

fn show(result: &RestoreResult, told: Told, out: &mut impl Write) -> io::Result<()> {
    let Told { dry_run, force, chatty } = told;
    if dry_run {
        for step in &result.plan {
            writeln!(out, "{} {}", step.action, quote::name(&step.path))?;
        }
    }
    for damaged in &result.damaged {
        writeln!(out, "damaged {}: {}", quote::name(&damaged.path), quote::line(&damaged.cause))?;
    }
    // The plan has a line for each of these.
    if !dry_run {
        for path in &result.skipped {
            writeln!(out, "skipped {}", quote::name(path))?;
        }
    }
    if !chatty {
        return Ok(());
    }
    let verb = if dry_run { "would write" } else { "wrote" };
    write!(out, "{verb} {} ({})", units::count(result.written, "path"), units::show_bytes(result.bytes))?;
    for (number, word) in [(result.deleted, "deleted"), (result.unchanged, "unchanged")] {
        if number > 0 {
            write!(out, ", {number} {word}")?;
        }
    }
    match result.skipped.len() {
        0 => writeln!(out),
        number if force => {
            writeln!(out, ", {number} skipped: in no commit, and in the way (--delete removes them), or not readable")
        }
        number => writeln!(out, ", {number} skipped since no commit has their content (--force replaces them)"),
    }
}

#[cfg(test)]
mod tests {
    use filesync_repo::{PlannedStep, Unreadable};

    use super::*;

    fn shown(result: &RestoreResult, dry_run: bool, chatty: bool) -> String {
        let mut out = Vec::new();
        show(result, Told { dry_run, force: false, chatty }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_was_done_and_what_is_left() {
        let mut result = RestoreResult { written: 1, bytes: 5, unchanged: 2, ..RestoreResult::default() };
        assert_eq!(shown(&result, false, true), "wrote 1 path (5 B), 2 unchanged\n");
        assert_eq!(verdict(&result), Exit::Done);
        result.skipped = vec![b"s\n".to_vec()];
        assert_eq!(shown(&result, false, false), "skipped \"s\\n\"\n");
        assert_eq!(verdict(&result), Exit::Left);
        result.damaged = vec![Unreadable { path: b"d".to_vec(), cause: "chunk missing".into() }];
        assert_eq!(shown(&result, false, false), "damaged d: chunk missing\nskipped \"s\\n\"\n");
        assert_eq!(verdict(&result), Exit::Damage);
    }

    #[test]
    fn a_dry_run_shows_the_plan() {
        let step = |action, path: &[u8]| PlannedStep { action, path: path.to_vec() };
        let result = RestoreResult {
            written: 1,
            deleted: 1,
            plan: vec![step("write", b"a"), step("delete", b"b\t")],
            ..RestoreResult::default()
        };
        assert_eq!(shown(&result, true, true), "write a\ndelete \"b\\t\"\nwould write 1 path (0 B), 1 deleted\n");
        let mut out = Vec::new();
        records(&result, true, &mut out).unwrap();
        assert_eq!(out, b"write a\0delete b\t\0");
    }
}
