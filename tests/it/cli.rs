//! The command line as scripts see it: words in, words out, exit status.

mod check_ignore;
mod commit;
mod common;
mod config;
mod contract;
mod diff;
mod du;
mod ease;
mod history;
pub mod house;
mod init;
pub mod json;
mod look;
mod patches;
mod restore;
mod signals;
mod status;
mod tag;
mod tour;

use serde_json::Value;

/// Whether a value is an id in full.
// Helpers of all.
fn is_id(value: &Value) -> bool {
    let hex = |text: &str| text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    value.as_str().is_some_and(hex)
}

/// Whether a value is a time as RFC 3339 has it, with nanoseconds.
fn is_time(value: &Value) -> bool {
    let shape = |text: &str| text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect::<String>();
    value.as_str().is_some_and(|text| shape(text) == "0000-00-00T00:00:00.000000000Z")
}

#[track_caller]
fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("not a text: {value}"))
}

/// The names of an object's fields.
#[track_caller]
fn has_fields(object: &Value, fields: &[&str]) {
    for field in fields {
        assert!(object.get(field).is_some(), "no {field} in {object}");
    }
}

/// An error is one line of ours, perhaps with a hint below.
#[track_caller]
fn is_an_error(err: &str) {
    let lines: Vec<&str> = err.lines().collect();
    let rest = match lines.as_slice() {
        [first, rest @ ..] if first.starts_with("filesync: ") => rest,
        _ => panic!("not an error line: {err:?}"),
    };
    assert!(matches!(rest, [] | [_]) && rest.iter().all(|line| line.starts_with("hint: ")), "{err:?}");
    assert!(!err.contains("panicked") && !err.contains("os error") && !err.contains("Os {"), "{err:?}");
}
