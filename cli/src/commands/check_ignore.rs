//! `check-ignore`.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use filesync_repo::{CheckIgnoreRequest, IgnoreAnswer};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote};

/// Tell which rule leaves a path out
///
/// Prints those of the paths that `.filesyncignore` files leave out; with -v, also the rule that decides, as
/// `FILE:LINE:RULE<TAB>PATH`. What is tracked is not left out, whatever a rule says. A path that ends in `/` is taken
/// for a directory, and one where nothing stands for a file.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync check-ignore -v build/main.o
  filesync check-ignore -v -n *      also what no rule matches, as `::<TAB>PATH`

Exit status, as of `git check-ignore`: 0 one or more are left out, 1 none is, 2 or more failed. As there, -v also shows
a rule that takes a path in again (!), and counts it.")]
pub struct CheckIgnoreArgs {
    /// Files and directories, from the working directory
    #[arg(value_name = "PATH", required = true)]
    paths: Vec<OsString>,
    /// With -v, also show paths that no rule matches
    #[arg(short = 'n', long)]
    non_matching: bool,
    /// End records with NUL and quote nothing
    #[arg(short = 'z', conflicts_with = "json")]
    nul: bool,
}

pub fn run(args: &CheckIgnoreArgs, context: &mut Context) -> Result<Exit, Failure> {
    let repo = context.open_reader()?;
    let verbose = context.global.verbose > 0;
    if args.non_matching && !verbose && !context.global.json {
        return Err(Failure::usage("check-ignore: -n only makes sense with -v"));
    }
    let mut paths = context.paths_in(repo.root(), &args.paths)?;
    for (path, word) in paths.iter_mut().zip(&args.paths) {
        if word.as_encoded_bytes().ends_with(b"/") && !path.is_empty() {
            path.push(b'/');
        }
    }
    let answers = repo.check_ignore(&CheckIgnoreRequest { paths });
    context.progress.finish();
    let answers = answers?;
    let form = Form { verbose, non_matching: args.non_matching, nul: args.nul };
    if context.global.json {
        answers.iter().try_for_each(|answer| context.output.json(&json::IgnoreAnswer::new(answer)))
    } else if context.is_chatty() {
        answers.iter().try_for_each(|answer| show(answer, form, &mut context.output))
    } else {
        Ok(())
    }
    .map_err(Failure::Output)?;
    let any = answers.iter().any(|answer| decided(answer, verbose));
    Ok(if any { Exit::Done } else { Exit::Differs })
}

#[derive(Debug, Clone, Copy)]
struct Form {
    verbose: bool,
    non_matching: bool,
    nul: bool,
}

/// Whether a rule is to be told of: with -v that includes those that take in again.
fn decided(answer: &IgnoreAnswer, verbose: bool) -> bool {
    answer.ignored || (verbose && answer.rule.is_some())
}

fn show(answer: &IgnoreAnswer, form: Form, out: &mut impl Write) -> io::Result<()> {
    if !decided(answer, form.verbose) && !form.non_matching {
        return Ok(());
    }
    let rule = answer.rule.as_ref().filter(|_| form.verbose);
    let line = rule.map(|rule| rule.line.to_string()).unwrap_or_default();
    let (source, pattern) = rule.map_or((b"".as_slice(), b"".as_slice()), |rule| (&rule.source, &rule.pattern));
    match (form.nul, form.verbose) {
        (true, true) => {
            for field in [source, line.as_bytes(), pattern, &answer.path] {
                out.write_all(field)?;
                out.write_all(b"\0")?;
            }
            Ok(())
        }
        (true, false) => out.write_all(&[answer.path.as_slice(), b"\0"].concat()),
        (false, false) => writeln!(out, "{}", quote::name(&answer.path)),
        (false, true) => {
            let source = if source.is_empty() { "".into() } else { quote::name(source) };
            let pattern = String::from_utf8_lossy(pattern);
            writeln!(out, "{source}:{line}:{}\t{}", quote::line(&pattern), quote::name(&answer.path))
        }
    }
}

#[cfg(test)]
mod tests {
    use filesync_repo::IgnoreRule;

    use super::*;

    fn answer(path: &[u8], rule: Option<(&[u8], bool)>) -> IgnoreAnswer {
        let rule = rule.map(|(pattern, negated)| IgnoreRule {
            source: b"d/.filesyncignore".to_vec(),
            line: 7,
            pattern: pattern.to_vec(),
            negated,
        });
        let ignored = rule.as_ref().is_some_and(|rule| !rule.negated);
        IgnoreAnswer { path: path.to_vec(), ignored, rule }
    }

    fn check(form: &str, expected: &str) {
        let form = Form { verbose: form.contains('v'), non_matching: form.contains('n'), nul: form.contains('z') };
        let mut out = Vec::new();
        for answer in
            [answer(b"d/x\n", Some((b"*\t", false))), answer(b"d/in", Some((b"!in", true))), answer(b"d/free", None)]
        {
            show(&answer, form, &mut out).unwrap();
        }
        assert_eq!(String::from_utf8(out).unwrap(), expected, "{form:?}");
    }

    #[test]
    fn as_git_shows_it() {
        check("", "\"d/x\\n\"\n");
        check("z", "d/x\n\0");
        check("v", "d/.filesyncignore:7:*\\t\t\"d/x\\n\"\nd/.filesyncignore:7:!in\td/in\n");
        check("vn", "d/.filesyncignore:7:*\\t\t\"d/x\\n\"\nd/.filesyncignore:7:!in\td/in\n::\td/free\n");
        check("vz", "d/.filesyncignore\x007\0*\t\0d/x\n\0d/.filesyncignore\x007\0!in\0d/in\0");
        check("vnz", "d/.filesyncignore\x007\0*\t\0d/x\n\0d/.filesyncignore\x007\0!in\0d/in\0\0\0\0d/free\0");
    }
}
