//! `commit`.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use filesync_repo::{CommitRequest, CommitResult, Unreadable};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::{json, quote, units};

/// What `-F` reads at most. The limit of a commit's message is the façade's to tell; this one keeps an endless
/// file from filling the memory.
const MESSAGE_FILE_LEN_MAX: u64 = 1 << 20;

/// Record the working copy
///
/// Takes the whole tree, less what `.filesyncignore` leaves out: there is no staging area. Without a message, one
/// is made from the changes. If nothing changed there is no commit, and the exit status is 0.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync commit
  filesync commit -m 'new logo' --author 'Ada <ada@example.org>'
  fortune | filesync commit -F -
  filesync commit --dry-run
  filesync commit --partial          leave out what cannot be read; exit status 3 if there is any")]
pub struct CommitArgs {
    /// What the commit is about; several make paragraphs
    #[arg(short, long, value_name = "MSG", allow_hyphen_values = true)]
    message: Vec<String>,
    /// Take the message from FILE; - is standard input
    #[arg(short = 'F', long, value_name = "FILE", conflicts_with = "message")]
    file: Option<PathBuf>,
    /// Who made it; as configured, or user@host, if not said
    #[arg(long, value_name = "AUTHOR")]
    author: Option<String>,
    /// Replace the head, as long as it is not published
    #[arg(long)]
    amend: bool,
    /// Commit even if nothing changed
    #[arg(long)]
    allow_empty: bool,
    /// Go on if something cannot be read: it keeps its state in the head
    #[arg(long)]
    partial: bool,
    /// Drop tracked files that .filesyncignore has come to match
    #[arg(long)]
    apply_ignore: bool,
    /// Read every file again
    #[arg(long)]
    no_cache: bool,
    /// Say what would be committed, and store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(args: CommitArgs, context: &mut Context) -> Result<Exit, Failure> {
    let message = match &args.file {
        Some(file) => Some(tidy(&read_message(file)?)?),
        None if args.message.is_empty() => None,
        None => Some(tidy(&args.message.join("\n\n"))?),
    };
    let request = CommitRequest {
        message,
        author: args.author,
        author_default: None,
        amend: args.amend,
        allow_empty: args.allow_empty,
        partial: args.partial,
        apply_ignore: args.apply_ignore,
        no_cache: args.no_cache,
        dry_run: args.dry_run,
    };
    let result = context.carry_out(request);
    context.progress.finish();
    let result = result?;
    if context.global.json {
        context.output.json(&json::Commit::new(&result))
    } else {
        let mut shown = unreadable(&result);
        if context.is_chatty() {
            shown.push_str(&text(&result, context.global.verbose > 0, context.output.paint));
        }
        context.output.write_all(shown.as_bytes())
    }
    .map_err(Failure::Output)?;
    Ok(if result.unreadable.is_empty() { Exit::Done } else { Exit::Left })
}

fn read_message(file: &Path) -> Result<String, Failure> {
    let failed = |error: io::Error| Failure::local(format!("commit: -F: {}", quote::path(file)), &error);
    let source: Box<dyn Read> =
        if file == Path::new("-") { Box::new(io::stdin()) } else { Box::new(File::open(file).map_err(failed)?) };
    let mut text = String::new();
    source.take(MESSAGE_FILE_LEN_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MESSAGE_FILE_LEN_MAX {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    Ok(text)
}

/// As git does it: no blank lines around, and no newline at the end.
fn tidy(message: &str) -> Result<String, Failure> {
    let blank = |line: &&str| line.trim().is_empty();
    let above: usize = message.split_inclusive('\n').take_while(blank).map(str::len).sum();
    match message.get(above..).map(str::trim_end) {
        Some(rest) if !rest.is_empty() => Ok(rest.to_owned()),
        _ => Err(Failure::Local {
            message: "commit: the message is empty".into(),
            hint: Some("without -m and -F, one is made from the changes".into()),
        }),
    }
}

/// What is left for the user: said even if he wants to hear of nothing else.
fn unreadable(result: &CommitResult) -> String {
    let line = |path: &Unreadable| format!("unreadable {}: {}\n", quote::name(&path.path), quote::line(&path.cause));
    result.unreadable.iter().map(line).collect()
}

fn text(result: &CommitResult, verbose: bool, paint: Paint) -> String {
    let mut out = String::new();
    let subject = quote::line(result.message.lines().next().unwrap_or_default());
    match &result.commit {
        Some(id) => out.push_str(&format!("[{}] {subject}\n", paint.id(&short(&id.to_string())))),
        None if result.would_commit == Some(true) => out.push_str(&format!("would commit: {subject}\n")),
        None => {
            out.push_str("nothing changed\n");
            return out;
        }
    }
    out.push_str(&format!(
        " {} added, {} modified, {} deleted; {} in {}\n",
        result.added,
        result.modified,
        result.deleted,
        units::show_bytes(result.bytes),
        units::count(result.files, "file"),
    ));
    if result.commit.is_some() {
        out.push_str(&format!(
            " {} new, stored in {}, {}\n",
            units::show_bytes(result.new_bytes),
            units::show_bytes(result.stored_bytes),
            units::show_duration(result.elapsed),
        ));
    }
    if verbose {
        out.push_str(&format!(" {} of metadata written\n", units::count(result.nodes_written, "object")));
    }
    out
}

/// Digits enough for a person to tell commits apart.
pub fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filesync_repo::CommitId;

    use super::*;

    #[test]
    fn messages_are_tidied() {
        assert_eq!(tidy("a\n\nb\n\n").unwrap(), "a\n\nb");
        assert_eq!(tidy("\n  \n  a").unwrap(), "  a");
        assert_eq!(tidy("\r\n\r\na\r\n").unwrap(), "a");
        for empty in ["", "\n", " \n\t\n"] {
            assert_eq!(tidy(empty).unwrap_err().report(None).status, 1);
        }
    }

    #[test]
    fn results_are_short() {
        let paint = Paint::new(false);
        assert_eq!(text(&CommitResult::default(), false, paint), "nothing changed\n");
        let dry = CommitResult { would_commit: Some(false), ..CommitResult::default() };
        assert_eq!(text(&dry, false, paint), "nothing changed\n");
        let mut result = CommitResult {
            commit: Some(CommitId::from_bytes([0xab; 32])),
            message: "first\n\nand more".into(),
            files: 2,
            bytes: 2048,
            added: 2,
            new_bytes: 1024,
            stored_bytes: 100,
            elapsed: Duration::from_millis(40),
            ..CommitResult::default()
        };
        assert_eq!(
            text(&result, false, paint),
            "[abababababab] first\n 2 added, 0 modified, 0 deleted; 2.0 KiB in 2 files\n 1.0 KiB new, stored in 100 B, 0.04 s\n"
        );
        result.commit = None;
        result.would_commit = Some(true);
        assert_eq!(
            text(&result, false, paint),
            "would commit: first\n 2 added, 0 modified, 0 deleted; 2.0 KiB in 2 files\n"
        );
        result.unreadable = vec![Unreadable { path: b"a\nb".to_vec(), cause: "Permission denied".into() }];
        assert_eq!(unreadable(&result), "unreadable \"a\\nb\": Permission denied\n");
    }
}
