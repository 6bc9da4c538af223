//! From what went wrong to message, hint and exit status: the one place that decides them.

use std::io::{self, Write};

use filesync_repo::ErrorKind;
use serde::Serialize;

use crate::{json, quote};

pub const STATUS_FAILED: u8 = 1;
const STATUS_USAGE: u8 = 2;
const STATUS_LEFT: u8 = 3;
const STATUS_NO_QUORUM: u8 = 4;
const STATUS_DAMAGE: u8 = 5;
const SIGPIPE: u8 = 13;

/// How a command ended that did what it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    /// `--exit-code`, and there are differences.
    Differs,
    /// There was no command; help was shown instead.
    Usage,
    /// Something is left for the user.
    Left,
    /// The store is damaged.
    Damage,
}

impl Exit {
    pub fn status(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Differs => 1,
            Self::Usage => STATUS_USAGE,
            Self::Left => STATUS_LEFT,
            Self::Damage => STATUS_DAMAGE,
        }
    }
}

/// Why a command did not do what it was asked.
#[derive(Debug)]
pub enum Failure {
    /// The words make no sense.
    Usage { message: String, hint: Option<String> },
    /// Something on our side of the façade, such as reading the file of `-F`.
    Local { message: String, hint: Option<String> },
    /// The façade's, with a hint of ours that goes before its own.
    Repo { error: filesync_repo::Error, hint: Option<String> },
    /// What another process of ours said at its end.
    Told { status: u8, message: String, hint: Option<String> },
    /// Results cannot be written. A closed pipe is no reason to say anything.
    Output(io::Error),
    /// As before, of a command that had done what it was asked.
    Untold(io::Error),
    /// Any of them, in a command where status 1 means "differs".
    ApartFromDiffers(Box<Failure>),
}

impl From<filesync_repo::Error> for Failure {
    fn from(error: filesync_repo::Error) -> Self {
        Self::Repo { error, hint: None }
    }
}

impl Failure {
    pub fn local(what: impl Into<String>, cause: &io::Error) -> Self {
        Self::Local { message: format!("{}: {cause}", what.into()), hint: None }
    }

    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage { message: message.into(), hint: None }
    }

    /// Keeps a failure apart from status 1, as diff and grep do.
    pub fn apart_from_differs(self) -> Self {
        Self::ApartFromDiffers(Box::new(self))
    }

    /// Of a command that had done what it was asked: only its words are lost.
    pub fn only_told_badly(self) -> Self {
        match self {
            Self::Output(error) => Self::Untold(error),
            other => other,
        }
    }

    /// Has a failure of the façade looked at by who knows a hint for it.
    pub fn with_hint(self, hint: impl FnOnce(filesync_repo::Error) -> Self) -> Self {
        match self {
            Self::Repo { error, hint: None } => hint(error),
            other => other,
        }
    }

    /// What to say and how to end. After a signal, whatever failed failed because of it.
    pub fn report(&self, signal: Option<u8>) -> Report {
        if let Some(signal) = signal {
            return Report::silent(128_u8.saturating_add(signal));
        }
        match self {
            Self::Usage { message, hint } => Report::new(STATUS_USAGE, message, hint.clone()),
            Self::Local { message, hint } => Report::new(STATUS_FAILED, message, hint.clone()),
            Self::Told { status, message, hint } => Report::new(*status, message, hint.clone()),
            Self::Repo { error, hint } => {
                Report::new(status_of(error.kind()), &error.to_string(), hint.clone().or_else(|| error.hint()))
            }
            Self::Output(error) | Self::Untold(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                Report::silent(128 + SIGPIPE)
            }
            Self::Output(error) => Report::new(STATUS_FAILED, &format!("standard output: {error}"), None),
            Self::Untold(error) => {
                let hint = "what was asked for is done; only what came of it could not be written".to_owned();
                Report::new(STATUS_FAILED, &format!("standard output: {error}"), Some(hint))
            }
            Self::ApartFromDiffers(failure) => {
                let mut report = failure.report(None);
                if report.status == STATUS_FAILED {
                    report.status = STATUS_USAGE;
                }
                report
            }
        }
    }
}

fn status_of(kind: ErrorKind) -> u8 {
    match kind {
        ErrorKind::Usage => STATUS_USAGE,
        ErrorKind::Damage => STATUS_DAMAGE,
        ErrorKind::NoQuorum | ErrorKind::Unknown => STATUS_NO_QUORUM,
        // A request to cancel comes from a signal, and that was looked at before.
        ErrorKind::Failed
        | ErrorKind::Busy
        | ErrorKind::NotFound
        | ErrorKind::Absent
        | ErrorKind::Cancelled
        | ErrorKind::Refused => STATUS_FAILED,
    }
}

/// The last words of a failed command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    #[serde(rename = "error")]
    pub message: Option<String>,
    pub hint: Option<String>,
    pub status: u8,
}

impl Report {
    pub fn new(status: u8, message: &str, hint: Option<String>) -> Self {
        Self { message: Some(systems_own_words(message)), hint, status }
    }

    fn silent(status: u8) -> Self {
        Self { message: None, hint: None, status }
    }

    /// Prints to stderr. If that is closed nobody listens, and the status still tells.
    pub fn print(&self, as_json: bool) {
        let text = if as_json { self.as_json() } else { self.as_text() };
        let _ = io::stderr().write_all(text.as_bytes());
    }

    fn as_json(&self) -> String {
        self.message.as_ref().map(|_| json::line(self)).unwrap_or_default()
    }

    fn as_text(&self) -> String {
        let Some(message) = &self.message else {
            return String::new();
        };
        let mut text = format!("filesync: {}\n", quote::line(message));
        if let Some(hint) = &self.hint {
            text.push_str(&format!("hint: {}\n", quote::line(hint)));
        }
        text
    }
}

/// Without the number that Rust puts behind the system's message: "No space left on device (os error 28)".
fn systems_own_words(message: &str) -> String {
    let mut rest = message;
    let mut out = String::with_capacity(message.len());
    while let Some(at) = rest.find(" (os error ") {
        out.push_str(&rest[..at]);
        let tail = &rest[at + " (os error ".len()..];
        let number = tail.trim_start_matches(|digit: char| digit.is_ascii_digit());
        rest = match number.strip_prefix(')') {
            Some(after) => after,
            None => {
                out.push_str(" (os error ");
                tail
            }
        };
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_end_has_its_status() {
        let exits = [Exit::Done, Exit::Differs, Exit::Usage, Exit::Left, Exit::Damage];
        assert_eq!(exits.map(Exit::status), [0, 1, 2, 3, 5]);
        let kinds = [
            (ErrorKind::Failed, 1),
            (ErrorKind::Usage, 2),
            (ErrorKind::Busy, 1),
            (ErrorKind::NotFound, 1),
            (ErrorKind::Absent, 1),
            (ErrorKind::Cancelled, 1),
            (ErrorKind::Damage, 5),
            (ErrorKind::NoQuorum, 4),
            (ErrorKind::Unknown, 4),
            (ErrorKind::Refused, 1),
        ];
        for (kind, status) in kinds {
            assert_eq!(status_of(kind), status, "{kind:?}");
        }
        let failed = || Failure::local("x", &io::Error::from_raw_os_error(28));
        assert_eq!(failed().report(None).status, 1);
        assert_eq!(failed().apart_from_differs().report(None).status, 2);
        assert_eq!(failed().report(Some(15)), Report { message: None, hint: None, status: 143 });
        assert_eq!(failed().apart_from_differs().report(Some(2)).status, 130);
        assert_eq!(Failure::usage("x").report(None).status, 2);
    }

    #[test]
    fn a_closed_pipe_is_not_worth_a_word() {
        let report = Failure::Output(io::ErrorKind::BrokenPipe.into()).report(None);
        assert_eq!((report.status, report.as_text(), report.as_json()), (141, String::new(), String::new()));
        let full = Failure::Output(io::Error::from_raw_os_error(28)).report(None);
        assert_eq!(full.as_text(), "filesync: standard output: No space left on device\n");
        assert_eq!(full.status, 1);
        let done = Failure::Output(io::Error::from_raw_os_error(28)).only_told_badly().report(None);
        assert!(
            done.as_text().starts_with(&full.as_text()) && done.as_text().contains("hint: what was asked for is done")
        );
        assert_eq!(done.status, 1);
    }

    #[test]
    fn an_error_is_one_line_and_a_hint() {
        let report = Report::new(1, "commit: a\nb: \u{1b}[31mNo such file or directory (os error 2)", None);
        assert_eq!(report.as_text(), "filesync: commit: a\\nb: \\033[31mNo such file or directory\n");
        let report = Report::new(2, "log: x: not a revision", Some("`-- x`".into()));
        assert_eq!(report.as_text(), "filesync: log: x: not a revision\nhint: `-- x`\n");
        assert_eq!(
            report.as_json(),
            "{\"v\":1,\"error\":\"log: x: not a revision\",\"hint\":\"`-- x`\",\"status\":2}\n"
        );
        let report = Report::new(1, "x", None);
        assert_eq!(report.as_json(), "{\"v\":1,\"error\":\"x\",\"hint\":null,\"status\":1}\n");
    }

    #[test]
    fn numbers_of_the_system_are_left_out() {
        assert_eq!(systems_own_words("a: b (os error 2): c (os error 17)"), "a: b: c");
        assert_eq!(systems_own_words("a (os error x)"), "a (os error x)");
        assert_eq!(systems_own_words("a (os error 1"), "a (os error 1");
    }
}
