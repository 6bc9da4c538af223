//! `log`.

use std::ffi::OsString;
use std::io::Write;

use clap::Args;
use filesync_repo::{Event, LogEntry, LogRequest, Observer, SignatureState, Warning};

use crate::context::{Context, hint_at_path, hint_at_revision, revision};
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::{json, quote, time};

/// Show the history, newest first
///
/// With paths, only commits that changed one of them. Of a merge, all sides are followed; with paths, one alone if that has
/// all that the merge has there. Before the first commit there is nothing to show.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync log -n 5
  filesync log --oneline
  filesync log v1.0 -- src docs/index.md
  filesync log --json | jq -r .commit")]
pub struct LogArgs {
    /// Where to begin: HEAD, main (what the cluster shows), a tag, a commit or the start of its id, each with ~N
    /// [default: HEAD]
    #[arg(value_name = "REV")]
    rev: Option<OsString>,
    /// At most N commits
    #[arg(short = 'n', long = "max-count", value_name = "N")]
    limit: Option<u64>,
    /// A line for each: the beginning of its id, and the first line of its message
    #[arg(long, conflicts_with = "json")]
    oneline: bool,
    /// Oldest first
    #[arg(long)]
    reverse: bool,
    /// End records with NUL and quote nothing
    #[arg(short = 'z', conflicts_with = "json")]
    nul: bool,
    /// Files and directories, from the working directory
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

pub fn run(args: LogArgs, context: &mut Context) -> Result<Exit, Failure> {
    let LogArgs { rev, limit, oneline, reverse, nul, paths: words } = args;
    let repo = context.open_reader()?;
    let request = LogRequest { limit, reverse, rev: revision(rev)?, paths: context.paths_in(repo.root(), &words)? };
    context.progress.finish();
    let (as_json, verbose) = (context.global.json, context.global.verbose > 0);
    let mut out = context.output.stream();
    let (mut first, mut any) = (true, false);
    let outcome = repo.log(&request, &mut |entry| {
        any = true;
        if as_json {
            out.json(&json::LogEntry::new(&entry))?;
        } else if nul {
            let shown = match oneline {
                true => line(&entry, Quoting::Raw, out.paint()),
                false => text(&entry, verbose, Quoting::Raw, out.paint()),
            };
            out.write_all(&[shown.as_bytes(), b"\0"].concat())?;
        } else if oneline {
            out.write_all(&[line(&entry, Quoting::Quoted, out.paint()).as_bytes(), b"\n"].concat())?;
        } else {
            if !std::mem::take(&mut first) {
                out.write_all(b"\n")?;
            }
            out.write_all(text(&entry, verbose, Quoting::Quoted, out.paint()).as_bytes())?;
        }
        Ok(())
    });
    outcome.map_err(|error| hint_at_path(error, request.rev.as_deref()))?;
    // A path that no commit changed is no mistake, unless it is none.
    if let Some(hint) = Some(&words).filter(|_| !any).and_then(|words| hint_at_revision(&repo, words)) {
        context.progress.event(Event::Warning(Warning { path: None, message: hint }));
    }
    Ok(Exit::Done)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    Quoted,
    Raw,
}

/// Which commit it is, and what it is about.
fn line(entry: &LogEntry, quoting: Quoting, paint: Paint) -> String {
    let subject = entry.message.lines().next().unwrap_or_default();
    let subject = match quoting {
        Quoting::Quoted => quote::line(subject),
        Quoting::Raw => subject.into(),
    };
    format!("{}{} {subject}", paint.id(&super::commit::short(&entry.commit.to_string())), marks(entry, paint))
}

/// What refers to it, and whether its files may be gone.
fn marks(entry: &LogEntry, paint: Paint) -> String {
    let mut out = String::new();
    if !entry.refs.is_empty() {
        out.push_str(&format!(" ({})", paint.notable(&quote::line(&entry.refs.join(", ")))));
    }
    if entry.expired == Some(true) {
        out.push_str(&format!(" [{}]", paint.bad("expired")));
    }
    out
}

pub(super) fn text(entry: &LogEntry, verbose: bool, quoting: Quoting, paint: Paint) -> String {
    let (author, message) = match quoting {
        Quoting::Quoted => (quote::line(&entry.author), quote::text(&entry.message)),
        Quoting::Raw => (entry.author.as_str().into(), entry.message.as_str().into()),
    };
    let mut out = paint.id(&format!("commit {}", entry.commit));
    out.push_str(&marks(entry, paint));
    if let [_, _, ..] = entry.parents.as_slice() {
        let parents: Vec<String> = entry.parents.iter().map(|id| super::commit::short(&id.to_string())).collect();
        out.push_str(&format!("\nMerge:  {}", parents.join(" ")));
    }
    out.push_str(&format!("\nAuthor: {author}\nDate:   {}\n", time::for_log(entry.time)));
    if verbose {
        out.push_str(&format!("Node:   {}\nTree:   {}\n", entry.node, entry.tree));
    }
    match entry.signature {
        SignatureState::Bad => out.push_str(&format!("{}\n", paint.bad("Signature: bad"))),
        SignatureState::Good | SignatureState::Unknown if verbose => {
            out.push_str(&format!("Signature: {}\n", entry.signature.word()));
        }
        SignatureState::Good | SignatureState::Unknown => {}
    }
    out.push('\n');
    for line in message.lines() {
        let line = format!("    {line}");
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use filesync_repo::{CommitId, ContentHash, Timestamp, TreeId};

    use super::*;

    fn entry() -> LogEntry {
        LogEntry {
            commit: CommitId::from_bytes([0xab; 32]),
            tree: TreeId::from_bytes([0xcd; 32]),
            parents: Vec::new(),
            author: "Ada\u{1b}[2J".into(),
            node: ContentHash::from_bytes([0xef; 32]),
            time: Timestamp::new(0, 0).unwrap(),
            message: "first\n\nmore \u{1b}[31m\n".into(),
            log_index: None,
            as_of: None,
            signature: SignatureState::Good,
            refs: vec!["HEAD".into(), "v1".into()],
            expired: Some(false),
        }
    }

    #[test]
    fn as_git_shows_it() {
        let shown = text(&entry(), false, Quoting::Quoted, Paint::new(false));
        let date = time::for_log(Timestamp::new(0, 0).unwrap());
        assert_eq!(
            shown,
            format!(
                "commit {} (HEAD, v1)\nAuthor: Ada\\033[2J\nDate:   {date}\n\n    first\n\n    more \\033[31m\n",
                "ab".repeat(32)
            )
        );
    }

    #[test]
    fn what_is_wrong_is_said() {
        let mut entry = entry();
        assert!(!text(&entry, false, Quoting::Quoted, Paint::new(false)).contains("Signature"));
        assert!(text(&entry, true, Quoting::Quoted, Paint::new(false)).contains("\nSignature: good\n"));
        entry.signature = SignatureState::Bad;
        assert!(text(&entry, false, Quoting::Quoted, Paint::new(false)).contains("\nSignature: bad\n"));
    }

    #[test]
    fn what_has_expired_is_marked() {
        let mut entry = entry();
        entry.expired = Some(true);
        let shown = text(&entry, false, Quoting::Quoted, Paint::new(false));
        assert!(shown.lines().next().unwrap().ends_with(" (HEAD, v1) [expired]"), "{shown}");
    }

    #[test]
    fn a_line_each() {
        let mut entry = entry();
        entry.message = "fi\u{1b}rst\n\nmore".into();
        entry.expired = Some(true);
        let paint = Paint::new(false);
        assert_eq!(line(&entry, Quoting::Quoted, paint), "abababababab (HEAD, v1) [expired] fi\\033rst");
        assert_eq!(line(&entry, Quoting::Raw, paint), "abababababab (HEAD, v1) [expired] fi\u{1b}rst");
    }

    #[test]
    fn records_are_raw() {
        assert!(text(&entry(), false, Quoting::Raw, Paint::new(false)).contains("more \u{1b}[31m\n"));
    }
}
