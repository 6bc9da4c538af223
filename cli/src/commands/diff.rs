//! `diff`, and how differences are shown.

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use filesync_repo::{ChangeKind, DiffRequest, Difference};

use crate::context::{Context, hint_at_path, revision};
use crate::diffstat::DiffStat;
use crate::error::{Exit, Failure};
use crate::output::Paint;
use crate::{json, patch, quote};

/// Show what differs between two commits, or from one to the working copy
///
/// Without REV the head is compared with the working copy, with one REV that one. The text is a patch as git has it, and
/// `git apply -p1` takes it, but for files that are not text: of these it only says that they differ. A file that is gone and a new one of the same content are a rename.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync diff                         what did I change since the head?
  filesync diff HEAD~3 HEAD -- src      what did the last three commits change below src?
  filesync diff v1.0 v2.0 --stat
  filesync diff --name-status -z | xargs -0 -n 2 …
  filesync diff HEAD~1 HEAD >last.patch && git -C elsewhere apply last.patch

With --exit-code: 0 is equal, 1 differs, 2 or more failed (3: something could not be read).")]
pub struct DiffArgs {
    /// Revisions, from the first to the second or, if there is none, to the working copy: HEAD, main (what the cluster
    /// shows), a tag, a commit or the start of its id, each with ~N [default: HEAD]
    #[arg(value_name = "REV", num_args = 0..=2)]
    revs: Vec<OsString>,
    #[command(flatten)]
    form: Form,
    /// End with 1 if there are differences, with 2 or more on failure
    #[arg(long)]
    pub exit_code: bool,
    /// Files and directories, from the working directory
    #[arg(last = true, value_name = "PATH")]
    paths: Vec<OsString>,
}

/// How differences are shown, where not as a patch.
#[derive(Debug, Clone, Copy, Args)]
pub struct Form {
    /// Show how many lines came and went, a line a file
    #[arg(long, conflicts_with = "name_status")]
    stat: bool,
    /// Show a letter and the name, a line a path
    #[arg(long)]
    name_status: bool,
    /// With --name-status: end names with NUL and quote nothing
    #[arg(short = 'z', requires = "name_status", conflicts_with = "json")]
    nul: bool,
}

pub fn run(args: DiffArgs, context: &mut Context) -> Result<Exit, Failure> {
    let DiffArgs { revs, form, exit_code, paths } = args;
    let mut revs = revs.into_iter().map(|rev| revision(Some(rev)));
    let (from, to) = (revs.next().transpose()?.flatten(), revs.next().transpose()?.flatten());
    let repo = context.open_reader()?;
    let paths = context.paths_in(repo.root(), &paths)?;
    let mut view = View::new(form, context);
    let request = DiffRequest { from, to, paths, contents: view.wants_contents() };
    let mut seen = Seen::default();
    let progress = &context.progress;
    let mut out = context.output.stream();
    let outcome = repo.diff(&request, progress, &mut |difference| {
        if !seen.anything {
            progress.finish();
        }
        seen.note(&difference);
        Ok(view.show(&difference, &mut out)?)
    });
    progress.finish();
    outcome.map_err(|error| hint(error, &request))?;
    view.finish(&mut out).map_err(Failure::Output)?;
    Ok(seen.verdict(exit_code))
}

/// Either word may be a path.
fn hint(error: filesync_repo::Error, request: &DiffRequest) -> Failure {
    let words = [request.from.as_deref(), request.to.as_deref()];
    let message = error.to_string();
    // The message names the revision that is not one.
    let word = words.into_iter().flatten().find(|word| message.contains(&format!("revision {word}:")));
    hint_at_path(error, word)
}

/// What there was, as far as the exit status tells it.
#[derive(Default)]
pub struct Seen {
    anything: bool,
    unreadable: bool,
}

impl Seen {
    pub fn note(&mut self, difference: &Difference) {
        self.anything = true;
        self.unreadable |= difference.change.kind == ChangeKind::Unreadable;
    }

    fn verdict(&self, exit_code: bool) -> Exit {
        match self {
            // Neither equal nor different.
            Self { unreadable: true, .. } => Exit::Left,
            Self { anything: true, .. } if exit_code => Exit::Differs,
            _ => Exit::Done,
        }
    }
}

/// Differences, shown one after the other.
pub struct View {
    how: How,
    paint: Paint,
    columns: usize,
}

enum How {
    Patch,
    NameStatus { nul: bool },
    Stat(DiffStat),
    Json { count: bool },
}

impl View {
    pub fn new(form: Form, context: &Context) -> Self {
        let how = match form {
            _ if context.global.json => How::Json { count: form.stat },
            Form { stat: true, .. } => How::Stat(DiffStat::default()),
            Form { name_status: true, nul, .. } => How::NameStatus { nul },
            _ => How::Patch,
        };
        Self { how, paint: context.output.paint, columns: context.columns() }
    }

    /// Whether it has something to say of contents.
    pub fn wants_contents(&self) -> bool {
        matches!(self.how, How::Patch | How::Stat(_) | How::Json { count: true })
    }

    pub fn show(&mut self, difference: &Difference, out: &mut impl Write) -> io::Result<()> {
        match &mut self.how {
            How::Patch => patch::write(difference, self.paint, out),
            How::NameStatus { nul } => name_status(difference, *nul, self.paint, out),
            How::Json { count } => out.write_all(json::line(&json::Difference::new(difference, *count)).as_bytes()),
            How::Stat(stat) => {
                stat.add(difference);
                Ok(())
            }
        }
    }

    pub fn finish(&self, out: &mut impl Write) -> io::Result<()> {
        match &self.how {
            How::Stat(stat) => stat.write(self.columns, self.paint, out),
            _ => Ok(()),
        }
    }
}

/// As `git diff --name-status`.
fn name_status(difference: &Difference, nul: bool, paint: Paint, out: &mut impl Write) -> io::Result<()> {
    let change = &difference.change;
    let letter = match change.kind {
        ChangeKind::Renamed => "R100",
        kind => kind.letter(),
    };
    let names = change.from.iter().chain([&change.path]);
    if nul {
        write!(out, "{letter}\0")?;
        return names.into_iter().try_for_each(|name| out.write_all(&[name.as_slice(), b"\0"].concat()));
    }
    let letter = match change.kind {
        ChangeKind::Added => paint.good(letter),
        ChangeKind::Deleted | ChangeKind::Unreadable => paint.bad(letter),
        ChangeKind::Modified | ChangeKind::TypeChanged | ChangeKind::Renamed => paint.notable(letter),
    };
    let names: Vec<_> = names.map(|name| quote::name(name)).collect();
    writeln!(out, "{letter}\t{}", names.join("\t"))
}
