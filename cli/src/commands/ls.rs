//! `ls`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use filesync_repo::{EntryKind, LsEntry, LsRequest, Repo};

use crate::context::{self, Context, hint_at_path};
use crate::error::{Exit, Failure};
use crate::{json, quote, time};

/// List a directory of a commit
///
/// Names are from the root of the repository.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync ls
  filesync ls -l HEAD~2:docs
  filesync ls -r --json | jq -r 'select(.kind == \"file\") | .path'")]
pub struct LsArgs {
    /// Which; REV is HEAD, main (what the cluster shows), a tag, a commit or the start of its id, each with ~N
    /// [default: the root of HEAD]
    #[arg(value_name = "REV[:PATH]")]
    target: Option<OsString>,
    /// Everything below, too
    #[arg(short, long)]
    recursive: bool,
    /// Mode, size, time and target as well
    #[arg(short, long)]
    long: bool,
    /// End records with NUL and quote nothing
    #[arg(short = 'z', conflicts_with = "json")]
    nul: bool,
}

pub fn run(args: LsArgs, context: &mut Context) -> Result<Exit, Failure> {
    let LsArgs { target, recursive, long, nul } = args;
    let as_json = context.global.json;
    let request = LsRequest { target: context::target(target.as_ref())?, recursive, hashes: as_json };
    let repo = context.open_reader()?;
    context.progress.finish();
    let list = |repo: &Repo, context: &mut Context| {
        let mut out = context.output.stream();
        repo.ls(&request, &mut |entry| {
            if as_json {
                out.json(&json::LsEntry::new(&entry))?;
            } else {
                show(&entry, long, nul, &mut out)?;
            }
            Ok(())
        })
    };
    let mut outcome = list(&repo, context);
    if context.bring(&outcome, request.target.rev.as_deref(), (request.target.path.as_slice(), true))? {
        outcome = list(&context.open_reader()?, context);
    }
    outcome.map_err(|error| hint_at_target(context, &repo, error, target.as_ref()))?;
    Ok(Exit::Done)
}

/// Adds the hint for those who named a path alone: it stands behind a colon, and not behind `--`.
pub(super) fn hint_at_target(
    context: &Context,
    repo: &Repo,
    error: filesync_repo::Error,
    target: Option<&OsString>,
) -> Failure {
    let target = target.and_then(|target| target.to_str());
    match (hint_at_path(error, target), target) {
        (Failure::Repo { error, hint: Some(_) }, Some(target)) => {
            let hint = Some(format!("a path stands behind a revision: {}", quote::shell(&format!("HEAD:{target}"))));
            Failure::Repo { error, hint }
        }
        (Failure::Repo { error, .. }, target) => context.hint_at_root(repo, error, target),
        (failure, _) => failure,
    }
}

fn show(entry: &LsEntry, long: bool, nul: bool, out: &mut impl Write) -> io::Result<()> {
    if long {
        // A directory has no time of its own: the column stays, so that names line up.
        let time = entry.mtime.map(time::for_listing).unwrap_or_default();
        write!(out, "{} {:>12} {time:16} ", mode(entry), entry.size)?;
    }
    if nul {
        out.write_all(&entry.path)?;
    } else {
        write!(out, "{}", quote::name(&entry.path))?;
    }
    if let (true, Some(target)) = (long, &entry.target) {
        out.write_all(b" -> ")?;
        if nul {
            out.write_all(target)?;
        } else {
            write!(out, "{}", quote::name(target))?;
        }
    }
    out.write_all(if nul { b"\0" } else { b"\n" })
}

/// `-rwxr-xr-x`. Symlinks have no mode; the system shows theirs as all there is.
fn mode(entry: &LsEntry) -> String {
    let (kind, bits) = match entry.kind {
        EntryKind::File | EntryKind::Executable => ('-', entry.mode),
        EntryKind::Symlink => ('l', 0o777),
        EntryKind::Directory => ('d', entry.mode),
    };
    let bit = |at: u32, letter| if bits >> at & 1 == 1 { letter } else { '-' };
    std::iter::once(kind).chain((0..9).rev().zip("rwxrwxrwx".chars()).map(|(at, letter)| bit(at, letter))).collect()
}

#[cfg(test)]
mod tests {
    use filesync_repo::Timestamp;

    use super::*;

    fn check(entry: &LsEntry, long: bool, nul: bool, expected: &str) {
        let mut out = Vec::new();
        show(entry, long, nul, &mut out).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn like_ls() {
        let time = Timestamp::new(86_400, 0).unwrap();
        let when = time::for_listing(time);
        let file = LsEntry {
            path: b"a\nb".to_vec(),
            kind: EntryKind::Executable,
            mode: 0o751,
            size: 1234,
            mtime: Some(time),
            id: None,
            b3: None,
            target: None,
        };
        check(&file, false, false, "\"a\\nb\"\n");
        check(&file, false, true, "a\nb\0");
        check(&file, true, false, &format!("-rwxr-x--x         1234 {when} \"a\\nb\"\n"));
        let link = LsEntry {
            path: b"l".to_vec(),
            kind: EntryKind::Symlink,
            mode: 0,
            size: 3,
            target: Some(b"a\tb".to_vec()),
            ..file.clone()
        };
        check(&link, false, false, "l\n");
        check(&link, true, false, &format!("lrwxrwxrwx            3 {when} l -> \"a\\tb\"\n"));
        check(&link, true, true, &format!("lrwxrwxrwx            3 {when} l -> a\tb\0"));
        let directory = LsEntry { kind: EntryKind::Directory, mode: 0o755, mtime: None, ..file };
        check(&directory, true, false, "drwxr-xr-x         1234                  \"a\\nb\"\n");
    }
}
