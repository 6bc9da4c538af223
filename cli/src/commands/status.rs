//! `status`.

use std::borrow::Cow;
use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use clap::Args;
use filesync_repo::{Change, ChangeKind, Partial, Silent, StatusRequest, StatusResult};

use super::commit::short;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::units::{count, show_bytes};
use crate::{json, quote, signals};

/// Show what changed since the head
///
/// A line a change: A added, M modified, D deleted, T another kind of thing, R renamed. What cannot be read is
/// `unreadable`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync status
  filesync status --exit-code -q >/dev/null && echo clean
  filesync status src
  filesync status --watch
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
    /// Show it again whenever it changes, until interrupted
    #[arg(long, conflicts_with_all = ["exit_code", "nul"])]
    watch: bool,
    /// Only these, from the working directory, and what is below them
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
}

/// A watch rests so many times as long as it took to look, and so long at least.
const REST_FACTOR: u32 = 5;
const REST_MIN: Duration = Duration::from_millis(500);

pub fn run(args: &StatusArgs, context: &mut Context) -> Result<Exit, Failure> {
    let repo = context.open_reader()?;
    let paths = context.paths_in(repo.root(), &args.paths)?;
    let request = StatusRequest { no_cache: args.no_cache, paths };
    let result = repo.status(&request, &context.progress);
    drop(repo);
    context.progress.finish();
    let result = result?;
    let shown = rendered(args, &result, context).map_err(Failure::Output)?;
    context.output.write_all(&shown).map_err(Failure::Output)?;
    if args.watch {
        return watch(args, &request, shown, context);
    }
    Ok(if args.exit_code { verdict(&result) } else { Exit::Done })
}

fn rendered(args: &StatusArgs, result: &StatusResult, context: &Context) -> io::Result<Vec<u8>> {
    let mut shown = Vec::new();
    if context.global.json {
        shown = json::line(&json::Status::new(result)).into_bytes();
    } else if args.nul {
        records(result, &mut shown)?;
    } else {
        lines(result, context.is_chatty(), context.output.paint, &mut shown)?;
    }
    Ok(shown)
}

/// Shows what there is whenever it is something else than before, until a signal comes.
///
/// It looks again rather than be told by the system: notices get lost, and trees may have more directories than can be
/// watched. It rests several times as long as it looks, so that it takes a small part of one core at any size.
fn watch(
    args: &StatusArgs,
    request: &StatusRequest,
    mut before: Vec<u8>,
    context: &mut Context,
) -> Result<Exit, Failure> {
    let clears = io::stdout().is_terminal() && !context.environment.plain && !context.global.json;
    let between: &[u8] = match (clears, context.global.json) {
        (true, _) => b"\x1b[H\x1b[2J",
        (false, true) => b"",
        (false, false) => b"\n",
    };
    context.output.flush().map_err(Failure::Output)?;
    let mut took = Duration::ZERO;
    loop {
        rest(took.saturating_mul(REST_FACTOR).max(REST_MIN))?;
        let begun = Instant::now();
        // A repository is as it was when it was opened. What was warned of once is not repeated.
        let result = context.open_reader()?.status(request, &Silent)?;
        let now = rendered(args, &result, context).map_err(Failure::Output)?;
        if now != before {
            let shown = context.output.write_all(between).and_then(|()| context.output.write_all(&now));
            shown.and_then(|()| context.output.flush()).map_err(Failure::Output)?;
            before = now;
        }
        took = begun.elapsed();
    }
}

fn rest(time: Duration) -> Result<(), Failure> {
    let end = Instant::now() + time;
    loop {
        signals::check().map_err(Failure::Output)?;
        let left = end.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(());
        }
        std::thread::sleep(left.min(Duration::from_millis(50)));
    }
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
    for (number, conflict) in result.conflicts.iter().enumerate() {
        write!(out, "{} {}", paint.bad("conflict"), quote::name(conflict))?;
        match result.deleted.get(number) {
            Some(Some(deleted)) => writeln!(out, ": there is no {} any more", quote::name(deleted))?,
            _ => writeln!(out)?,
        }
    }
    if chatty && !result.conflicts.is_empty() {
        writeln!(out, "  (conflict copies: take from them what is wanted, delete them, and commit)")?;
    }
    for path in result.partial.iter().flat_map(|partial| &partial.outside) {
        writeln!(out, "{} {}", paint.bad("outside"), quote::name(path))?;
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
        if let Some((holders, voters)) = &result.holders {
            match holders.len() as u64 {
                held if held < *voters => write!(out, ", on at least {held} of {voters} voters")?,
                _ => write!(out, ", on {}", count(*voters, "voter"))?,
            }
        }
        for (number, word) in [(result.ahead, "ahead"), (result.behind, "behind")] {
            if let Some(number @ 1..) = number {
                write!(out, ", {number} {word}")?;
            }
        }
        writeln!(out)?;
    }
    if result.is_removed {
        let what =
            "no voter took this node for a member when it asked last: clone with a new invite, into another directory";
        writeln!(out, "{}: {what}", paint.bad("removed"))?;
    }
    if result.lost > 0 {
        writeln!(
            out,
            "{}: {} (`filesync fsck` names them)",
            paint.bad("recorded as lost"),
            count(result.lost, "object")
        )?;
    }
    if let Some(Partial { paths, absent_files, absent_bytes, .. }) = &result.partial {
        let paths: Vec<_> = paths.iter().map(|path| quote::name(path)).collect();
        let absent = count(*absent_files, "file");
        writeln!(out, "partial: {}; {absent} of the head ({}) not here", paths.join(", "), show_bytes(*absent_bytes))?;
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
    for path in result.partial.iter().flat_map(|partial| &partial.outside) {
        out.write_all(&[b"outside ", path.as_slice(), b"\0"].concat())?;
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
            holders: Some((vec![1, 3], 3)),
            changes: vec![
                change(ChangeKind::Modified, b"a b", None),
                change(ChangeKind::Renamed, b"new\n", Some(b"old")),
            ],
            conflicts: vec![b"c".to_vec()],
            deleted: vec![None],
            partial: None,
            lost: 0,
            is_removed: false,
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
            "head abababababab\nmain cdcdcdcdcdcd, on at least 2 of 3 voters, 2 ahead\nM a b\nR old -> \"new\\n\"\nconflict c\n  \
             (conflict copies: take from them what is wanted, delete them, and commit)\n"
        );
        assert_eq!(shown(&sample(), false), "M a b\nR old -> \"new\\n\"\nconflict c\n");
        let deleted = StatusResult { deleted: vec![Some(b"o\n".to_vec())], ..sample() };
        assert!(shown(&deleted, false).ends_with("\nconflict c: there is no \"o\\n\" any more\n"));
        let partial = |outside: &[&[u8]]| {
            let outside = outside.iter().map(|path| path.to_vec()).collect();
            let paths = vec![b"a".to_vec(), b"b c".to_vec()];
            let partial = Partial { paths, absent_files: 1, absent_bytes: 2048, outside };
            shown(&StatusResult { partial: Some(partial), ..StatusResult::default() }, true)
        };
        let head = "no commits yet\npartial: a, b c; 1 file of the head (2.0 KiB) not here\n";
        assert_eq!(partial(&[]), format!("{head}clean\n"));
        assert_eq!(partial(&[b"x"]), format!("{head}outside x\n"));
        let lost = StatusResult { lost: 1, ..StatusResult::default() };
        let text = "no commits yet\nrecorded as lost: 1 object (`filesync fsck` names them)\nclean\n";
        assert_eq!((shown(&lost, true).as_str(), lost.is_clean()), (text, true));
        let removed = StatusResult { is_removed: true, ..StatusResult::default() };
        assert!(shown(&removed, true).starts_with("no commits yet\nremoved: no voter took this node for a member"));
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
