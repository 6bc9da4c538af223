//! The text of `config.toml`, both ways. Pure.

use std::fmt;
use std::ops::Range;

use toml_edit::{Document, DocumentMut, Item, TableLike, Value};

use super::{Config, LEN_MAX, SETTINGS, SHOWN, Setting, setting};
use crate::error::{Error, ErrorKind};
use crate::nearest::nearest;

/// What is wrong with a file of settings.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wrong {
    line: Option<usize>,
    cause: String,
    hint: Option<String>,
}

impl Wrong {
    fn at(text: &str, place: Option<Range<usize>>, cause: impl Into<String>) -> Self {
        let before = place.and_then(|place| text.get(..place.start));
        let line = before.map(|before| 1 + before.bytes().filter(|byte| *byte == b'\n').count());
        Self { line, cause: cause.into(), hint: None }
    }

    pub(super) fn into_error(self) -> Error {
        let error = Error::new(ErrorKind::Failed, format!("cannot use {self}"));
        match self.hint {
            Some(hint) => error.with_hint(hint),
            None => error,
        }
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{SHOWN}: line {line}: {}", self.cause),
            None => write!(f, "{SHOWN}: {}", self.cause),
        }
    }
}

/// Takes a text for settings, all of it or none.
pub(super) fn parse(text: &str) -> Result<Config, Wrong> {
    let document = Document::parse(text).map_err(|error| {
        let message = error.message().trim_end().replace('\n', ", ");
        Wrong::at(text, error.span(), message)
    })?;
    let mut config = Config::default();
    for (section, item) in document.iter() {
        let place = document.as_table().key(section).and_then(toml_edit::Key::span);
        if !SETTINGS.iter().any(|setting| setting.section() == section) {
            return Err(unknown(text, place, section, SETTINGS.iter().map(Setting::section)));
        }
        let Some(table) = item.as_table_like() else {
            return Err(Wrong::at(text, place, format!("{section} is a section: [{section}]")));
        };
        for (name, item) in table.iter() {
            let place = table.key(name).and_then(toml_edit::Key::span);
            let key = format!("{section}.{name}");
            let Some(setting) = setting(&key) else {
                return Err(unknown(text, place, &key, SETTINGS.iter().map(|setting| setting.key)));
            };
            let Some(value) = item.as_str() else {
                return Err(Wrong::at(text, place, format!("{key} must be a text in quotes")));
            };
            (setting.check)(value)
                .map_err(|why| Wrong::at(text, place, format!("{key} cannot be {value:?}: {why}")))?;
            config.0.insert(setting.key, value.to_owned());
        }
    }
    Ok(config)
}

fn unknown(text: &str, place: Option<Range<usize>>, key: &str, known: impl Iterator<Item = &'static str>) -> Wrong {
    let hint = nearest(key, known).map(|near| format!("did you mean {near}?"));
    Wrong { hint, ..Wrong::at(text, place, format!("unknown key {key:?}")) }
}

/// The text with one setting changed, and everything else as it was. The text must be sound, before and after.
pub(super) fn set(text: &str, key: &str, value: &str) -> Result<String, Wrong> {
    let whole = |cause: &str| Wrong::at(text, None, cause);
    parse(text)?;
    let mut document: DocumentMut = text.parse().map_err(|_| whole("it cannot be changed"))?;
    let (section, name) = key.split_once('.').ok_or_else(|| whole("a key is SECTION.NAME"))?;
    let table = document.get_mut(section).and_then(Item::as_table_like_mut);
    let changed = match table {
        Some(table) => {
            put(table, name, value);
            document.to_string()
        }
        // At the very end: comments there belong to what stands above them.
        None => {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            let gap = if text.is_empty() { "" } else { "\n" };
            format!("{text}{end}{gap}[{section}]\n{name} = {}\n", Value::from(value))
        }
    };
    let is_set = parse(&changed)?.0.get(key).is_some_and(|now| now == value);
    match is_set && changed.len() as u64 <= LEN_MAX {
        true => Ok(changed),
        false => Err(whole("it cannot be changed")),
    }
}

fn put(table: &mut dyn TableLike, name: &str, value: &str) {
    match table.get_mut(name).and_then(Item::as_value_mut) {
        Some(there) => {
            // The comment behind a value is part of how it is set off.
            let decor = there.decor().clone();
            *there = Value::from(value);
            *there.decor_mut() = decor;
        }
        None => {
            table.insert(name, toml_edit::value(value));
        }
    }
}

impl Setting {
    fn section(&self) -> &'static str {
        self.key.split('.').next().unwrap_or(self.key)
    }
}
