//! `forget`.

use std::io::{self, Write};
use std::time::Duration;

use clap::{ArgGroup, Args};
use filesync_repo::{ForgetRequest, ForgetResult};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, units};

/// Let old commits expire
///
/// An expired commit stays in the history, and its files are no longer kept: the next `filesync gc` removes what nothing
/// else needs. There is no way back. What any of the rules keeps is kept; HEAD, tags and what is published always are. A
/// commit's age is how long before HEAD it was made.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("rule").required(true).multiple(true))]
#[command(after_long_help = "\
Examples:
  filesync forget --keep-last 30 --dry-run
  filesync forget --keep-last 10 --keep-within 90d
  filesync forget --keep-tagged               keep HEAD and what has a tag, nothing else")]
pub struct ForgetArgs {
    /// Keep the newest N commits
    #[arg(long, value_name = "N", group = "rule", value_parser = clap::value_parser!(u64).range(1..))]
    keep_last: Option<u64>,
    /// Keep what is at most so much older than HEAD
    #[arg(long, value_name = "TIME", group = "rule", value_parser = units::parse_duration)]
    keep_within: Option<Duration>,
    /// Keep what has a tag
    #[arg(long, group = "rule")]
    keep_tagged: bool,
    /// Say what would expire, and change nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(args: &ForgetArgs, context: &mut Context) -> Result<Exit, Failure> {
    let ForgetArgs { keep_last, keep_within, keep_tagged, dry_run } = *args;
    let request = ForgetRequest { keep_last, keep_within, keep_tagged, dry_run };
    let result = match dry_run {
        true => context.open_reader()?.forget(&request, &context.progress).map_err(Failure::from),
        false => context.carry_out(request),
    };
    context.progress.finish();
    let result = result?;
    if context.global.json {
        context.output.json(&json::Forget::new(&result, dry_run))
    } else {
        let chatty = context.is_chatty();
        show(&result, dry_run, chatty, &mut context.output)
    }
    .map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn show(result: &ForgetResult, dry_run: bool, chatty: bool, out: &mut impl Write) -> io::Result<()> {
    let verb = if dry_run { "would expire" } else { "expired" };
    for id in &result.expired {
        writeln!(out, "{verb} {id}")?;
    }
    if chatty {
        let expired = units::count(u64::try_from(result.expired.len()).unwrap_or(u64::MAX), "commit");
        writeln!(out, "{expired} {verb}, {} kept", result.kept)?;
        if result.kept_published > 0 {
            let published = units::count(result.kept_published, "commit");
            writeln!(out, "{published} kept only for being published: the others have them, and may ask for them")?;
        }
        if !dry_run && !result.expired.is_empty() {
            writeln!(out, "`filesync gc` frees what they alone needed")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use filesync_repo::CommitId;

    use super::*;

    fn shown(result: &ForgetResult, dry_run: bool, chatty: bool) -> String {
        let mut out = Vec::new();
        show(result, dry_run, chatty, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_came_of_it() {
        let mut result = ForgetResult { kept: 3, ..ForgetResult::default() };
        assert_eq!(shown(&result, false, true), "0 commits expired, 3 kept\n");
        assert_eq!(shown(&result, false, false), "");
        result.expired.push(CommitId::from_bytes([0xab; 32]));
        let id = "ab".repeat(32);
        let text = shown(&result, false, true);
        assert!(text.starts_with(&format!("expired {id}\n1 commit expired, 3 kept\n")), "{text}");
        let dry = format!("would expire {id}\n1 commit would expire, 3 kept\n");
        assert_eq!(shown(&result, true, true), dry);
        result.kept_published = 2;
        let line = "2 commits kept only for being published: the others have them, and may ask for them\n";
        assert_eq!(shown(&result, true, true), format!("{dry}{line}"));
        assert_eq!(shown(&result, true, false), format!("would expire {id}\n"));
    }
}
