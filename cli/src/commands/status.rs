//! `status`.

use std::borrow::Cow;
use std::io::{self, Write};

use clap::Args;
use filesync_repo::{Change, ChangeKind, StatusRequest, StatusResult};

use super::commit::short;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::{json, quote};

/// Show what changed since the head
///
/// A line a change: A added, M modified, D deleted, T another kind of thing, R renamed. What cannot be read is
/// `unreadable`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync status
  filesync status --exit-code -q >/dev/null && echo clean
  filesync status -z | tr '\\0' '\\n'   names as they are; a rename's old name is a record of its own

With --exit-code: 0 is clean, 1 differs, 2 or more failed (3: something could not be read).")]
pub struct StatusArgs {
    /// End with 1 if there are changes, with 2 or more on failure
    #[arg(long)]
    pub exit_code: bool,
    /// Read every file again
    #[arg(long)]
    no_cache: bool,
    /// End records with NUL and quote nothing
    #[arg(short = 'z', conflicts_with = "json")]
    nul: bool,
}

pub fn run(args: &StatusArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = StatusRequest { no_cache: args.no_cache };
    let result = context.open_reader()?.status(&request, &context.progress);
    context.progress.finish();
    let result = result?;
    if context.global.json {
        context.output.json(&json::Status::new(&result))
    } else if args.nul {
        records(&result, &mut context.output)
    } else {
        let (chatty, paint) = (context.is_chatty(), context.output.paint);
        lines(&result, chatty, paint, &mut context.output)
    }
    .map_err(Failure::Output)?;
    Ok(if args.exit_code { verdict(&result) } else { Exit::Done })
}

fn verdict(result: &StatusResult) -> Exit {
    if result.changes.iter().any(|change| change.kind == ChangeKind::Unreadable) {
        // Neither equal nor different.
        Exit::Left
    } else if result.is_clean() {
        Exit::Done
    } else {
        Exit::Differs
    }
}

fn lines(result: &StatusResult, chatty: bool, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    if chatty {
        header(result, paint, out)?;
    }
    for change in &result.changes {
        let name = quote::name(&change.path);
        let (letter, name) = match &change.from {
            Some(from) => (change.kind.letter(), Cow::Owned(format!("{} -> {name}", quote::name(from)))),
            None => (change.kind.letter(), name),
        };
        let letter = match change.kind {
            ChangeKind::Added => paint.good(letter),
            ChangeKind::Deleted | ChangeKind::Unreadable => paint.bad(letter),
            ChangeKind::Modified | ChangeKind::TypeChanged | ChangeKind::Renamed => paint.notable(letter),
        };
        writeln!(out, "{letter} {name}")?;
    }
    for conflict in &result.conflicts {
        writeln!(out, "{} {}", paint.bad("conflict"), quote::name(conflict))?;
    }
    if chatty && result.is_clean() {
        writeln!(out, "clean")?;
    }
    Ok(())
}

fn header(result: &StatusResult, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    match &result.head {
        Some(head) => writeln!(out, "head {}", paint.id(&short(&head.to_string())))?,
        None => writeln!(out, "no commits yet")?,
    }
    if let Some(main) = &result.main {
        write!(out, "main {}", paint.id(&short(&main.to_string())))?;
        for (number, word) in [(result.ahead, "ahead"), (result.behind, "behind")] {
            if let Some(number @ 1..) = number {
                write!(out, ", {number} {word}")?;
            }
        }
        writeln!(out)?;
    }
    Ok(())
}

/// As `git status -z`: the new name first, the old one as the next record.
fn records(result: &StatusResult, out: &mut impl Write) -> io::Result<()> {
    for Change { kind, path, from, .. } in &result.changes {
        out.write_all(&[kind.letter().as_bytes(), b" ", path, b"\0"].concat())?;
        if let Some(from) = from {
            out.write_all(&[from, b"\0".as_slice()].concat())?;
        }
    }
    for conflict in &result.conflicts {
        out.write_all(&[b"conflict ", conflict.as_slice(), b"\0"].concat())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use filesync_repo::CommitId;

    use super::*;

    fn change(kind: ChangeKind, path: &[u8], from: Option<&[u8]>) -> Change {
        Change { from: from.map(<[u8]>::to_vec), ..Change::new(kind, path.to_vec()) }
    }

    fn sample() -> StatusResult {
        StatusResult {
            head: Some(CommitId::from_bytes([0xab; 32])),
            main: Some(CommitId::from_bytes([0xcd; 32])),
            as_of: Some(7),
            ahead: Some(2),
            behind: Some(0),
            changes: vec![
                change(ChangeKind::Modified, b"a b", None),
                change(ChangeKind::Renamed, b"new\n", Some(b"old")),
            ],
            conflicts: vec![b"c".to_vec()],
        }
    }

    fn shown(result: &StatusResult, chatty: bool) -> String {
        let mut out = Vec::new();
        lines(result, chatty, Paint::new(false), &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_a_change() {
        assert_eq!(
            shown(&sample(), true),
            "head abababababab\nmain cdcdcdcdcdcd, 2 ahead\nM a b\nR old -> \"new\\n\"\nconflict c\n"
        );
        assert_eq!(shown(&sample(), false), "M a b\nR old -> \"new\\n\"\nconflict c\n");
        assert_eq!(shown(&StatusResult::default(), true), "no commits yet\nclean\n");
        assert_eq!(shown(&StatusResult::default(), false), "");
    }

    #[test]
    fn records_are_raw() {
        let mut out = Vec::new();
        records(&sample(), &mut out).unwrap();
        assert_eq!(out, b"M a b\0R new\n\0old\0conflict c\0");
    }

    #[test]
    fn what_cannot_be_read_is_no_answer() {
        assert_eq!(verdict(&StatusResult::default()), Exit::Done);
        let mut result = sample();
        assert_eq!(verdict(&result), Exit::Differs);
        result.changes.push(change(ChangeKind::Unreadable, b"x", None));
        assert_eq!(verdict(&result), Exit::Left);
    }
}
