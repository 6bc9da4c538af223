//! `sync`.

use std::io::Write;
use std::time::Duration;

use clap::{Args, ValueEnum};
use filesync_repo::{
    ClusterAnswer, ClusterRequest, ConflictKind, Strategy, SyncOutcome, SyncRequest, SyncResult, TagFate,
};

use super::commit::short;
use crate::context::{Context, misunderstood};
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::{json, quote, units};

/// What a reader hears whose commits nobody else gets.
pub const LOCAL: &str = "local commits stay local: this node may only read";

/// Publish local commits, and bring the working copy up to date
///
/// What is published comes here; what was committed here is published once a majority of the voters hold it. Where both
/// sides moved they are merged: different files by themselves, the same file by --strategy. Uncommitted changes are never
/// overwritten. Without a quorum it ends with status 4 within the time, and the commit is safe here.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync sync                      both ways
  filesync sync --commit             commit what has changed first
  filesync sync --pull               only take what is published")]
pub struct SyncArgs {
    /// Say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Only take what is published
    #[arg(long, conflicts_with = "push")]
    pull: bool,
    /// Only publish; the working copy stays as it is
    #[arg(long)]
    push: bool,
    /// Where both sides changed the same path: copies (the published version stays, ours beside it), ours, theirs, fail
    #[arg(long, value_name = "HOW", value_enum, default_value_t = How::Copies, hide_possible_values = true)]
    strategy: How,
    /// Commit uncommitted changes first
    #[arg(long, conflicts_with = "dry_run")]
    commit: bool,
    /// How long to wait for a quorum, or for bytes that do not come
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "60s")]
    timeout: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum How {
    Copies,
    Ours,
    Theirs,
    Fail,
}

pub fn run(args: &SyncArgs, context: &mut Context) -> Result<Exit, Failure> {
    let request = SyncRequest {
        dry_run: args.dry_run,
        pull_only: args.pull,
        push_only: args.push,
        strategy: match args.strategy {
            How::Copies => Strategy::Copies,
            How::Ours => Strategy::Ours,
            How::Theirs => Strategy::Theirs,
            How::Fail => Strategy::Fail,
        },
        commit: args.commit,
        timeout: args.timeout,
    };
    match context.ask_cluster(&ClusterRequest::Sync(request))? {
        ClusterAnswer::Sync(result) => show(&result, args.dry_run, context),
        _ => Err(misunderstood()),
    }
}

/// Shows what came of it, and how that ends.
pub fn show(result: &SyncResult, is_dry: bool, context: &mut Context) -> Result<Exit, Failure> {
    if context.global.json {
        context.output.json(&json::Sync::new(result))
    } else {
        let mut shown = left(result);
        if context.is_chatty() && result.error.is_none() {
            shown.push_str(&text(result, is_dry, context.output.paint));
        }
        context.output.write_all(shown.as_bytes())
    }
    .map_err(Failure::Output)?;
    ended(result)
}

/// How it ended.
pub fn ended(result: &SyncResult) -> Result<Exit, Failure> {
    match (&result.error, result.outcome) {
        (Some(error), _) => Err(error.clone().into()),
        (None, SyncOutcome::Conflicts) => Ok(Exit::Left),
        (None, _) if result.is_local => Ok(Exit::Left),
        (None, _) => Ok(Exit::Done),
    }
}

/// What is left for the user: said even if he wants to hear of nothing else.
fn left(result: &SyncResult) -> String {
    // Of what was refused, or is not known, none has happened.
    let is_left = !result.is_decided && result.error.is_none();
    let conflicts = result.conflicts.iter().zip(&result.copies).zip(&result.kinds).filter(|_| is_left);
    let conflicts = conflicts.map(|((path, copy), kind)| {
        let kept = kept(*kind, copy.as_deref());
        format!("conflict {}: {}; {kept}\n", quote::name(path), happened(*kind))
    });
    let skipped = result.skipped.iter().map(|path| format!("skipped {}\n", quote::name(path)));
    let mut out: String = conflicts.chain(skipped).collect();
    for tag in result.tags.iter().filter(|tag| tag.fate == TagFate::Lost) {
        let theirs = tag.commit.map_or("it was removed".to_owned(), |id| format!("it is {}", short(&id.to_string())));
        out.push_str(&format!("tag {}: another was faster, {theirs}\n", quote::name(tag.name.as_bytes())));
    }
    if result.is_local {
        out.push_str(&format!("{LOCAL}\n"));
    }
    out
}

/// What both sides did to a path.
fn happened(kind: ConflictKind) -> &'static str {
    match kind {
        ConflictKind::BothChanged => "both sides changed it",
        ConflictKind::DeletedHere => "deleted here, changed there",
        ConflictKind::DeletedThere => "changed here, deleted there",
        ConflictKind::Directory => "a directory on one side, something else on the other",
    }
}

/// What of it is there now, and where.
fn kept(kind: ConflictKind, copy: Option<&[u8]>) -> String {
    let stands = match kind {
        ConflictKind::DeletedThere => "it stays deleted",
        _ => "theirs stays",
    };
    match copy {
        Some(copy) => format!("{stands}, ours is {}", quote::name(copy)),
        None => stands.to_owned(),
    }
}

/// Each that was published, and how many came.
fn tags(result: &SyncResult) -> String {
    let of = |fate: TagFate| result.tags.iter().filter(move |tag| tag.fate == fate);
    let published = of(TagFate::Published).map(|tag| {
        let what = if tag.commit.is_some() { "published tag" } else { "published that there is no tag" };
        format!("{what} {}\n", quote::name(tag.name.as_bytes()))
    });
    let mut out: String = published.collect();
    let taken = of(TagFate::Taken).count() as u64;
    if taken > 0 {
        out.push_str(&format!("took {}\n", units::count(taken, "tag")));
    }
    out
}

fn text(result: &SyncResult, is_dry: bool, paint: Paint) -> String {
    let mut out = String::new();
    if result.is_decided {
        for (path, kind) in result.conflicts.iter().zip(&result.kinds) {
            out.push_str(&format!("{}: {}; decided by --strategy\n", quote::name(path), happened(*kind)));
        }
    }
    let id = |id: &filesync_repo::CommitId| paint.id(&short(&id.to_string()));
    if let Some(merged) = &result.merged {
        out.push_str(&format!("merged as {}\n", id(merged)));
    }
    let commits = |count: usize| units::count(count as u64, "commit");
    let (publish, take) = if is_dry { ("would publish", "would take") } else { ("published", "took") };
    match (result.published.len(), result.pulled.len()) {
        (0, 0) if !result.waiting.is_empty() || !result.tags.is_empty() => {}
        (0, 0) if result.head.is_none() => {
            out.push_str("nothing is published yet, and nothing is committed here: `filesync commit` is what begins\n");
        }
        (0, 0) => out.push_str("up to date\n"),
        (published, 0) => out.push_str(&format!("{publish} {}\n", commits(published))),
        (0, pulled) => out.push_str(&format!("{take} {}\n", commits(pulled))),
        (published, pulled) => {
            out.push_str(&format!("{publish} {}, {take} {}\n", commits(published), commits(pulled)));
        }
    }
    out.push_str(&tags(result));
    if !result.waiting.is_empty() {
        let waiting = commits(result.waiting.len());
        out.push_str(&format!("the working copy stays as it is: `filesync sync` brings {waiting}\n"));
    }
    if result.bytes_received > 0 {
        out.push_str(&format!(
            " {} came in {}\n",
            units::show_bytes(result.bytes_received),
            units::show_duration(result.elapsed)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use filesync_repo::SyncedTag;

    use super::*;

    #[test]
    fn what_the_strategy_has_decided_is_not_left() {
        let lost = SyncedTag { name: "v1".to_owned(), commit: None, fate: TagFate::Lost };
        let mut result = SyncResult {
            outcome: SyncOutcome::Conflicts,
            conflicts: vec![b"a".to_vec()],
            kinds: vec![ConflictKind::BothChanged],
            copies: vec![None],
            tags: vec![lost],
            ..SyncResult::default()
        };
        let tag = "tag v1: another was faster, it was removed\n";
        assert_eq!(left(&result), format!("conflict a: both sides changed it; theirs stays\n{tag}"));
        // What would have been left, had it been done.
        result.error = Some(filesync_repo::Error::new(filesync_repo::ErrorKind::Refused, "no"));
        assert_eq!(left(&result), tag);
        (result.error, result.is_decided) = (None, true);
        assert_eq!(left(&result), tag);
        assert!(
            text(&result, false, Paint::new(false)).starts_with("a: both sides changed it; decided by --strategy\n")
        );
    }
}
