//! `check-ignore`.

use filesync_repo as repo;
use serde::Serialize;

use super::{Name, optional};

#[derive(Serialize)]
pub struct IgnoreAnswer {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    ignored: bool,
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source_bytes: Option<String>,
    line: Option<usize>,
    pattern: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern_bytes: Option<String>,
}

impl IgnoreAnswer {
    pub fn new(answer: &repo::IgnoreAnswer) -> Self {
        let name = Name::new(&answer.path);
        let rule = answer.rule.as_ref();
        let (source, source_bytes) = optional(rule.map(|rule| rule.source.as_slice()));
        let (pattern, pattern_bytes) = optional(rule.map(|rule| rule.pattern.as_slice()));
        Self {
            path: name.text,
            path_bytes: name.bytes,
            ignored: answer.ignored,
            source,
            source_bytes,
            line: rule.map(|rule| rule.line),
            pattern,
            pattern_bytes,
        }
    }
}
