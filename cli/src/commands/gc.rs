//! `gc`.

use std::io::{self, Write};

use clap::Args;
use filesync_repo::{GcRequest, GcResult};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, units};

/// Remove what nothing refers to
///
/// What HEAD, tags and their history need stays, and so does what is being read: readers are not disturbed and not
/// waited for. Commits that have expired (`filesync forget`) need no files any more. Cut off at any point, it is
/// simply run again.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync gc --dry-run
  filesync forget --keep-last 30 && filesync gc")]
pub struct GcArgs {
    /// Say what would be freed, and remove nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
}

pub fn run(args: &GcArgs, context: &mut Context) -> Result<Exit, Failure> {
    let dry_run = args.dry_run;
    let request = GcRequest { dry_run };
    let result = match dry_run {
        true => context.open_reader()?.gc(&request, &context.progress).map_err(Failure::from),
        false => context.carry_out(request),
    };
    context.progress.finish();
    let result = result?;
    if context.global.json {
        context.output.json(&json::Gc::new(&result, dry_run))
    } else {
        let chatty = context.is_chatty();
        show(&result, dry_run, chatty, &mut context.output)
    }
    .map_err(Failure::Output)?;
    Ok(if result.damaged.is_empty() { Exit::Done } else { Exit::Damage })
}

fn show(result: &GcResult, dry_run: bool, chatty: bool, out: &mut impl Write) -> io::Result<()> {
    for id in &result.damaged {
        writeln!(out, "damaged: {id}: its pack stays")?;
    }
    if !chatty {
        return Ok(());
    }
    let would = if dry_run { "would free" } else { "freed" };
    let (freed, live) = (units::show_bytes(result.freed_bytes), units::show_bytes(result.live_bytes));
    write!(out, "{would} {freed}, {live} are needed")?;
    if result.packs_removed + result.packs_rewritten > 0 {
        let (removed, rewritten) = (units::count(result.packs_removed, "pack"), result.packs_rewritten);
        write!(out, ": {removed} removed, {rewritten} rewritten")?;
    }
    writeln!(out, "{}", if dry_run { String::new() } else { format!(", {}", units::show_duration(result.elapsed)) })?;
    if result.waiting_bytes > 0 {
        let waiting = units::show_bytes(result.waiting_bytes);
        writeln!(out, "{waiting} more are still being read, and go with the next command that writes")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filesync_repo::ContentHash;

    use super::*;

    fn shown(result: &GcResult, dry_run: bool, chatty: bool) -> String {
        let mut out = Vec::new();
        show(result, dry_run, chatty, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_came_of_it() {
        let mut result = GcResult { live_bytes: 2048, elapsed: Duration::from_millis(10), ..GcResult::default() };
        assert_eq!(shown(&result, false, true), "freed 0 B, 2.0 KiB are needed, 0.01 s\n");
        assert_eq!(shown(&result, false, false), "");
        (result.freed_bytes, result.packs_removed, result.packs_rewritten) = (1024, 1, 2);
        let dry = "would free 1.0 KiB, 2.0 KiB are needed: 1 pack removed, 2 rewritten\n";
        assert_eq!(shown(&result, true, true), dry);
        result.waiting_bytes = 1 << 20;
        result.damaged.push(ContentHash::from_bytes([0xab; 32]));
        let text = shown(&result, false, true);
        assert!(text.starts_with("damaged: abab") && text.contains("\n1.0 MiB more are still being read"), "{text}");
    }
}
