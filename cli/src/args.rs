//! The words that every command takes, and what the environment says. Nothing else here reads the environment.

use std::ffi::{OsStr, OsString};
use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, Args, ColorChoice, CommandFactory, FromArgMatches, Parser, ValueEnum};

use crate::commands::Command;
use crate::error::{Exit, Failure};
use crate::{quote, units};

/// Content-addressed storage with a history: commit a directory, look back, restore, verify.
#[derive(Debug, Parser)]
#[command(name = "filesync", version, max_term_width = 100)]
#[command(after_help = "`filesync COMMAND --help` shows examples.")]
#[command(after_long_help = "\
Examples:
  filesync init                      make a repository of this directory
  filesync commit -m 'first'         record all that is in it
  filesync log -n 3                  the last three commits
  filesync restore HEAD~1 -- notes   bring an older state of notes/ back

Exit status:
  0  all done
  1  failed; nothing was changed beyond what the message says
  2  usage
  3  done, but something is left for you (files skipped or unreadable)
  4  no quorum, no peer could be reached, or the outcome is unknown
  5  damage found in the store
  128 + its number after a signal

The repository is found by walking up from the working directory, or named by FILESYNC_DIR.
NO_COLOR turns colours off.")]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Common options")]
pub struct Global {
    /// Run as if started in DIR
    #[arg(short = 'C', value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Print JSON: one object, or one a line for lists
    #[arg(long, global = true)]
    pub json: bool,
    /// No progress, no warnings, no summaries
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Say more
    #[arg(short, long, action = ArgAction::Count, global = true)]
    pub verbose: u8,
    /// Show progress: auto (a bar on a terminal), always, never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, global = true, hide_possible_values = true)]
    pub progress: When,
    /// Use colours: auto (on a terminal), always, never
    #[arg(long, value_name = "WHEN", value_enum, default_value_t = When::Auto, global = true, hide_possible_values = true)]
    pub color: When,
    /// How long to wait for another command that writes
    #[arg(long, value_name = "TIME", value_parser = units::parse_duration, default_value = "10s", global = true)]
    pub lock_timeout: Duration,
    /// Use a repository that another user owns
    #[arg(long, global = true)]
    pub allow_foreign: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    Auto,
    Always,
    Never,
}

/// Set by `serve --detach` for the process that it starts, and by nobody else.
pub const DETACHED: &str = "FILESYNC_DETACHED";
/// Of the C library: from how many parts of memory threads are served, each of which keeps the most that it ever gave out.
pub const ARENAS: &str = "MALLOC_ARENA_MAX";
/// Of the C library: from which length on memory is the system's again as soon as it is free. By default that grows with use, to more than
/// a frame.
pub const MAPPED_FROM: &str = "MALLOC_MMAP_THRESHOLD_";

/// What is in the environment.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `FILESYNC_DIR`: the root of the repository.
    pub repository: Option<PathBuf>,
    /// This is the process that `serve --detach` left running.
    pub detached: bool,
    /// `MALLOC_ARENA_MAX` or `MALLOC_MMAP_THRESHOLD_` is set.
    pub tunes_malloc: bool,
    /// `SUDO_UID`: whoever has root do it for him.
    pub behind_sudo: Option<u32>,
    /// `NO_COLOR` is set, or the terminal is a dumb one.
    pub plain: bool,
}

impl Environment {
    pub fn read() -> Self {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self {
            repository: set("FILESYNC_DIR").map(PathBuf::from),
            detached: set(DETACHED).is_some(),
            tunes_malloc: set(ARENAS).or_else(|| set(MAPPED_FROM)).is_some(),
            behind_sudo: set("SUDO_UID").and_then(|uid| uid.to_str()?.parse().ok()),
            plain: set("NO_COLOR").is_some() || set("TERM").is_some_and(|term| term == "dumb"),
        }
    }
}

/// What must be known of the words before they are parsed, to complain about them properly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Early {
    pub json: bool,
    pub verbose: bool,
    color: Option<When>,
}

impl Early {
    pub fn read() -> Self {
        Self::scan(std::env::args_os().skip(1))
    }

    fn scan(words: impl Iterator<Item = OsString>) -> Self {
        let mut early = Self::default();
        let mut words = words.take_while(|word| word != "--").peekable();
        while let Some(word) = words.next() {
            match word.to_str() {
                Some("--json") => early.json = true,
                Some("-vv" | "-vvv") => early.verbose = true,
                Some("--color") => early.color = words.peek().and_then(|when| Self::when(when)),
                Some(other) => {
                    if let Some(when) = other.strip_prefix("--color=") {
                        early.color = Self::when(OsStr::new(when));
                    }
                }
                None => {}
            }
        }
        early
    }

    fn when(word: &OsStr) -> Option<When> {
        When::from_str(word.to_str()?, false).ok()
    }
}

/// Reads the words of this process.
pub fn parse(early: Early) -> Result<Cli, clap::Error> {
    let color = match early.color {
        Some(When::Always) => ColorChoice::Always,
        Some(When::Never) => ColorChoice::Never,
        Some(When::Auto) | None => ColorChoice::Auto,
    };
    let words: Vec<OsString> = std::env::args_os().collect();
    Cli::from_arg_matches(&read(&|| Cli::command().color(color), &words)?)
}

/// Commands are made when they are needed; a list of all of them needs all.
fn read(command: &dyn Fn() -> clap::Command, words: &[OsString]) -> Result<clap::ArgMatches, clap::Error> {
    command().try_get_matches_from(words).or_else(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let mut whole = command();
            whole.build();
            whole.try_get_matches_from(words)
        }
        _ => Err(error),
    })
}

/// Help and version are results; all else is a mistake in the words, told in our own form.
pub fn explain(error: &clap::Error) -> Result<Exit, Failure> {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            error.print().and_then(|()| std::io::stdout().flush()).map_err(Failure::Output)?;
            Ok(Exit::Done)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // No reader of stderr is left if this fails.
            let _ = error.print();
            Ok(Exit::Usage)
        }
        _ => Err(usage(error)),
    }
}

fn usage(error: &clap::Error) -> Failure {
    let text = error.render().to_string();
    let mut message = String::new();
    let mut hint = None;
    for line in text.lines() {
        let line = line.trim();
        if let Some(tip) = line.strip_prefix("tip: ") {
            // Words that begin with a dash and are values are rare; flags that there are not are meant.
            if !tip.starts_with("to pass ") {
                hint.get_or_insert_with(|| tip.to_owned());
            }
        } else if line.starts_with("Usage:") || line.starts_with("For more information") {
            break;
        } else if !line.is_empty() {
            if !message.is_empty() {
                message.push(' ');
            }
            message.push_str(line.strip_prefix("error: ").unwrap_or(line));
        }
    }
    // The path may stand where clap wants no further word: `filesync log notes.txt other.txt`.
    if error.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidArg)
        && std::fs::symlink_metadata(word).is_ok()
    {
        if text.contains("[-- <PATH>...]") {
            hint = Some(format!("paths follow --: `-- {}`", quote::shell(word)));
        } else if text.contains("filesync commit") {
            hint = Some("there is no staging area: a commit is the whole tree".to_owned());
        }
    }
    if error.kind() == ErrorKind::InvalidSubcommand
        && let Some(ContextValue::String(word)) = error.get(ContextKind::InvalidSubcommand)
        && let Some(habit) = habit(word)
    {
        hint = Some(habit.to_owned());
    }
    Failure::Usage {
        message,
        hint: hint.or_else(|| Some("`filesync COMMAND --help` says what a command takes".into())),
    }
}

/// What to say to who looks for a command of git, or of a backup program.
fn habit(word: &str) -> Option<&'static str> {
    Some(match word {
        "add" | "stage" => "there is no staging area: `filesync commit` takes the whole tree",
        "mv" | "rm" => "files are moved and removed as always: `filesync commit` records what it finds",
        "reset" | "revert" | "switch" => "`filesync restore REV` brings files back; HEAD stays where it is",
        "branch" | "merge" | "rebase" | "stash" => "there is one line of history, and no branches",
        "backup" | "save" => "`filesync commit` records the working copy",
        "snapshots" | "history" => "`filesync log` shows the history",
        "check" | "verify" => "`filesync fsck` verifies the store",
        _ => return None,
    })
}

impl When {
    /// Decides for a stream.
    pub fn holds(self, stream: &impl IsTerminal) -> bool {
        match self {
            Self::Auto => stream.is_terminal(),
            Self::Always => true,
            Self::Never => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_words(words: &[&str]) -> Result<Cli, clap::Error> {
        Cli::try_parse_from([&["filesync"], words].concat())
    }

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn common_words_stand_before_and_after_the_command() {
        let before = parse_words(&["-C", "x", "--json", "--lock-timeout", "3s", "log"]).unwrap().global;
        let after = parse_words(&["log", "-C", "x", "--json", "--lock-timeout", "3s"]).unwrap().global;
        for global in [before, after] {
            assert_eq!(global.directory, Some(PathBuf::from("x")));
            assert!(global.json);
            assert_eq!(global.lock_timeout, Duration::from_secs(3));
        }
        assert_eq!(parse_words(&["log", "-vv"]).unwrap().global.verbose, 2);
    }

    #[test]
    fn mistakes_are_one_line_with_a_hint() {
        let told = |words: &[&str]| match usage(&parse_words(words).unwrap_err()) {
            Failure::Usage { message, hint } => (message, hint.unwrap()),
            _ => panic!("not a usage failure"),
        };
        let (message, hint) = told(&["log", "--jsno"]);
        assert_eq!(message, "unexpected argument '--jsno' found");
        assert!(hint.contains("'--json'"), "{hint}");
        let (message, _) = told(&["cat"]);
        assert_eq!(message, "the following required arguments were not provided: <REV:PATH>");
        let (message, _) = told(&["--lock-timeout", "soon", "log"]);
        assert!(message.contains("30s"), "{message}");
        let (_, hint) = told(&["log", "HEAD", "/"]);
        assert_eq!(hint, "paths follow --: `-- /`");
        let (_, hint) = told(&["commit", "/"]);
        assert!(hint.contains("the whole tree"), "{hint}");
        let (_, hint) = told(&["version", "/"]);
        assert!(hint.contains("--help"), "{hint}");
        let (message, hint) = told(&["stauts"]);
        assert_eq!(message, "unrecognized subcommand 'stauts'");
        assert!(hint.contains("'status'"), "{hint}");
        let (_, hint) = told(&["add", "."]);
        assert!(hint.contains("no staging area"), "{hint}");
        let (_, hint) = told(&["frobnicate"]);
        assert!(hint.contains("--help"), "{hint}");
    }

    #[test]
    fn some_words_count_before_the_rest_is_understood() {
        let scan = |words: &[&str]| Early::scan(words.iter().map(OsString::from));
        assert!(scan(&["lgo", "--json"]).json);
        assert!(!scan(&["log", "--", "--json"]).json);
        assert_eq!(scan(&["--color", "never"]).color, Some(When::Never));
        assert_eq!(scan(&["--color=always"]).color, Some(When::Always));
        assert!(scan(&["-vv"]).verbose);
    }
}
