//! `fsck`.

use std::io::{self, Write};

use clap::Args;
use filesync_repo::{ClusterAnswer, ClusterRequest, ConfigRequest, FsckRequest, FsckResult};

use crate::context::{Context, misunderstood};
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Paths shown for one object; JSON has a thousand.
const PATHS_SHOWN: usize = 10;

/// Verify the store
///
/// Reads everything. Damage is named with the paths that it affects, and the exit status is 5. Nothing is changed but the
/// list of what is damaged: with it, the next commit that has the bytes stores them again. It is left as it was where
/// this user may not write. What is wrong with garbage, or with a copy of something that is good elsewhere, is told and
/// is no damage. Neither is what the cluster has recorded as lost, since no voter had it any more: it is named apart. A mistake
/// in config.toml is an error, and the exit status 1.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync fsck
  filesync fsck --quick
  filesync fsck --sample 5%          a different part each time
  filesync fsck --repair             take damaged parts from other copies, the working copy or members
  filesync fsck --json | jq -r '.damaged[].paths[]'")]
pub struct FsckArgs {
    /// Check checksums, and that nothing is missing; decompress nothing
    #[arg(long)]
    quick: bool,
    /// Read only a part of the data, others each time; metadata as always
    #[arg(long, value_name = "PERCENT", value_parser = units::parse_share, conflicts_with = "quick")]
    sample: Option<u32>,
    /// Store again what is damaged and can be had from another copy, the working copy or other members
    #[arg(long)]
    repair: bool,
}

pub fn run(args: &FsckArgs, context: &mut Context) -> Result<Exit, Failure> {
    let FsckArgs { quick, sample, repair } = *args;
    let request = FsckRequest { quick, sample, repair };
    let result = match repair {
        true => repair_as_far_as_can_be(request, context),
        false => context.open_reader()?.fsck(&request, &context.progress).map_err(Failure::from),
    };
    context.progress.finish();
    let result = result?;
    if context.global.json {
        context.output.json(&json::Fsck::new(&result))
    } else {
        let (chatty, verbose) = (context.is_chatty(), context.global.verbose > 0);
        show(&result, chatty, verbose, &mut context.output)
    }
    .map_err(Failure::Output)?;
    if !result.is_clean() {
        return Ok(Exit::Damage);
    }
    // A mistake in the settings is no damage, and all is not well either.
    context.open_reader()?.config(&ConfigRequest::Show)?;
    Ok(Exit::Done)
}

/// Who is a member takes from the others what it lacks.
fn repair_as_far_as_can_be(request: FsckRequest, context: &Context) -> Result<FsckResult, Failure> {
    if !filesync_repo::cluster::is_member(&context.root()?) {
        return context.carry_out(request);
    }
    match context.ask_cluster(&ClusterRequest::Fsck(request))? {
        ClusterAnswer::Fsck(result) => Ok(result),
        _ => Err(misunderstood()),
    }
}

fn show(result: &FsckResult, chatty: bool, verbose: bool, out: &mut impl Write) -> io::Result<()> {
    for note in result.notes.iter().filter(|_| chatty) {
        writeln!(out, "note: {}", quote::line(note))?;
    }
    for finding in &result.findings {
        writeln!(out, "damaged: {}", quote::line(finding))?;
    }
    let damaged = result.damaged.iter().map(|object| ("damaged", object));
    let lost = result.lost.iter().map(|object| ("lost", object)).filter(|_| chatty);
    for (word, object) in damaged.chain(lost) {
        writeln!(out, "{word} {} {}: {}", object.kind, object.id, quote::line(&object.cause))?;
        let shown = if verbose { object.paths.len() } else { PATHS_SHOWN };
        for path in object.paths.iter().take(shown) {
            writeln!(out, "    {}", quote::name(path))?;
        }
        if let Some(more @ 1..) = object.paths.len().checked_sub(shown) {
            writeln!(out, "    and {more} more (-v shows all)")?;
        }
    }
    if chatty {
        let looked_at = units::count(result.objects, "object");
        let bytes = units::show_bytes(result.bytes);
        let verdict = match result.damaged.len() + result.findings.len() {
            0 => "all is well".to_owned(),
            number => format!("{number} damaged"),
        };
        write!(out, "{looked_at}, {bytes} read in {}: {verdict}", units::show_duration(result.elapsed))?;
        if result.repaired > 0 {
            write!(out, ", {} repaired", result.repaired)?;
        }
        if result.lost_recorded > 0 {
            write!(out, ", {} recorded as lost", units::count(result.lost_recorded, "object"))?;
        }
        writeln!(out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use filesync_repo::{ContentHash, DamagedObject};

    use super::*;

    fn shown(result: &FsckResult, chatty: bool, verbose: bool) -> String {
        let mut out = Vec::new();
        show(result, chatty, verbose, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn damage_is_named_with_its_paths() {
        let mut result =
            FsckResult { objects: 1, bytes: 2048, elapsed: Duration::from_millis(10), ..FsckResult::default() };
        assert_eq!(shown(&result, true, false), "1 object, 2.0 KiB read in 0.01 s: all is well\n");
        assert_eq!(shown(&result, false, false), "");
        result.notes = vec!["pack x: torn".into()];
        assert!(shown(&result, true, false).starts_with("note: pack x: torn\n1 object"));
        assert_eq!(shown(&result, false, false), "");
        result.notes.clear();
        result.findings = vec!["packs/x: torn frame\n".into()];
        result.damaged = vec![DamagedObject {
            id: ContentHash::from_bytes([0xab; 32]),
            kind: "chunk",
            cause: "missing".into(),
            paths: (0..12).map(|n| format!("p{n}").into_bytes()).collect(),
        }];
        let text = shown(&result, true, false);
        assert!(text.starts_with("damaged: packs/x: torn frame\\n\ndamaged chunk abab"), "{text}");
        assert!(text.contains(": missing\n    p0\n"), "{text}");
        assert!(text.contains("    p9\n    and 2 more (-v shows all)\n"), "{text}");
        assert!(text.ends_with(": 2 damaged\n"), "{text}");
        assert!(shown(&result, false, true).ends_with("    p11\n"));
        // What is recorded as lost has a heading of its own, and is no damage.
        let lost = DamagedObject { kind: "tree", ..result.damaged.remove(0) };
        let result = FsckResult { findings: Vec::new(), lost: vec![lost], lost_recorded: 2, ..result };
        assert!(result.is_clean());
        let text = shown(&result, true, true);
        assert!(text.starts_with("lost tree abab") && text.contains(": missing\n    p0\n"), "{text}");
        assert!(text.ends_with(": all is well, 2 objects recorded as lost\n"), "{text}");
        assert_eq!(shown(&result, false, false), "");
    }
}
