//! `config.toml`: settings that people may edit.
//!
//! What there is to set stands in one table ([`SETTINGS`]); what is not in it, or has no sensible value, is an error that
//! names the line. A file that is not there means that nothing is set. It is changed by [`file::set`] alone, which
//! leaves comments, order and spaces as the user wrote them.

mod command;
mod file;
#[cfg(test)]
mod fuzz;

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

use filesync_cas::vfs::{Vfs, read_to_end, replace};
use filesync_merkle::commit::AUTHOR_LEN_MAX;

use crate::daemon::LogSettings;
use crate::error::{Error, ErrorKind};

pub use command::config;

/// Its name in `.filesync`.
const PATH: &str = "config.toml";
/// What messages call it.
const SHOWN: &str = ".filesync/config.toml";
const LEN_MAX: u64 = 1 << 20;
const NODE_NAME_LEN_MAX: usize = 255;

/// Something that can be set.
#[derive(Debug)]
struct Setting {
    /// `SECTION.NAME`.
    key: &'static str,
    /// What is wrong with a value, if anything.
    check: fn(&str) -> Result<(), &'static str>,
    /// What holds where nothing is set.
    default: fn() -> String,
}

const AUTHOR: &str = "commit.author";
const NODE_NAME: &str = "node.name";

const LOG_FORMAT: &str = "log.format";
const LOG_LEVEL: &str = "log.level";
const EXPOSE_HTTP: &str = "serve.expose_http";
const MDNS: &str = "serve.mdns";
const PEER_RATE: &str = "serve.peer_rate";
/// What one peer may be sent, in KiB a second, where nothing is set.
const PEER_RATE_USUAL: u64 = 1 << 20;
/// The least, in KiB a second: at less, what several streams are sent would come so seldom that peers took us for silent.
const PEER_RATE_MIN: u64 = 1 << 10;

/// All that can be set, by key.
static SETTINGS: [Setting; 7] = [
    Setting { key: AUTHOR, check: check_author, default: default_author },
    Setting { key: LOG_FORMAT, check: check_log_format, default: || "text".to_owned() },
    Setting { key: LOG_LEVEL, check: check_log_level, default: || "info".to_owned() },
    Setting { key: NODE_NAME, check: check_node_name, default: host },
    Setting { key: EXPOSE_HTTP, check: check_yes_no, default: || "no".to_owned() },
    Setting { key: MDNS, check: check_yes_no, default: || "no".to_owned() },
    Setting { key: PEER_RATE, check: check_rate, default: || PEER_RATE_USUAL.to_string() },
];

/// How the daemon logs, who may see its figures, and how it finds others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceSettings {
    /// How it logs.
    pub log: LogSettings,
    /// Whether HTTP may be answered on other addresses than loopback.
    pub expose_http: bool,
    /// Whether members on the same network are found by mDNS.
    pub mdns: bool,
    /// How many bytes a second of what it has one peer is sent; 0: as many as the line takes.
    pub peer_rate: u64,
}

fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The settings of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Config(BTreeMap<&'static str, String>);

impl Config {
    /// Reads the settings.
    pub fn load(vfs: &dyn Vfs) -> Result<Self, Error> {
        file::parse(&read(vfs)?).map_err(file::Wrong::into_error)
    }

    /// Who commits, unless a commit says otherwise; `default`, or user@host, if nothing is set.
    pub fn author(&self, default: Option<&str>) -> String {
        let set = self.0.get(AUTHOR).map(String::as_str).or(default);
        set.map_or_else(default_author, str::to_owned)
    }

    /// Where and how the daemon listens and logs.
    pub fn service(&self) -> ServiceSettings {
        let is = |key: &str, word: &str| self.0.get(key).is_some_and(|value| value == word);
        ServiceSettings {
            log: LogSettings {
                json: is(LOG_FORMAT, "json"),
                level: self.0.get(LOG_LEVEL).cloned().unwrap_or_else(|| "info".to_owned()),
            },
            expose_http: is(EXPOSE_HTTP, "yes"),
            mdns: is(MDNS, "yes"),
            peer_rate: self.0.get(PEER_RATE).and_then(|rate| kib(rate)).unwrap_or(PEER_RATE_USUAL << 10),
        }
    }

    /// What this node is called.
    pub fn node_name(&self) -> String {
        self.0.get(NODE_NAME).cloned().unwrap_or_else(host)
    }
}

/// Writes the settings of a new repository.
pub fn create(vfs: &dyn Vfs, node_name: &str) -> Result<(), Error> {
    let text = file::set("# Settings of this repository: `filesync config` lists all of them.\n", NODE_NAME, node_name);
    write(vfs, &text.map_err(file::Wrong::into_error)?, 0o644)
}

/// Says what is wrong with an author.
pub fn check_author(author: &str) -> Result<(), &'static str> {
    match author {
        "" => Err("it is empty"),
        _ if author.len() > AUTHOR_LEN_MAX => Err("it is longer than 1024 bytes"),
        _ if author.chars().any(char::is_control) => Err("it contains control characters"),
        _ => Ok(()),
    }
}

/// Says what is wrong with the name of a node.
pub fn check_node_name(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        _ if name.len() > NODE_NAME_LEN_MAX => Err("it is longer than 255 bytes"),
        _ if name.chars().any(char::is_control) => Err("it contains control characters"),
        _ => Ok(()),
    }
}

fn check_log_format(format: &str) -> Result<(), &'static str> {
    if matches!(format, "text" | "json") { Ok(()) } else { Err("it is text or json") }
}

fn check_log_level(level: &str) -> Result<(), &'static str> {
    let known = matches!(level, "error" | "warn" | "info" | "debug" | "trace");
    if known { Ok(()) } else { Err("it is error, warn, info, debug or trace") }
}

/// So many KiB, in bytes.
fn kib(number: &str) -> Option<u64> {
    number.parse::<u64>().ok()?.checked_mul(1 << 10)
}

fn check_rate(rate: &str) -> Result<(), &'static str> {
    let is_enough = |rate: &u64| *rate == 0 || *rate >= PEER_RATE_MIN << 10;
    kib(rate).filter(is_enough).map(|_| ()).ok_or("it is a number of KiB a second, 1024 at least, or 0 for no limit")
}

fn check_yes_no(word: &str) -> Result<(), &'static str> {
    if matches!(word, "yes" | "no") { Ok(()) } else { Err("it is yes or no") }
}

fn read(vfs: &dyn Vfs) -> Result<String, Error> {
    let failed = |cause: &dyn std::fmt::Display| Error::new(ErrorKind::Failed, format!("cannot read {SHOWN}: {cause}"));
    match read_to_end(vfs, Path::new(PATH), LEN_MAX) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| failed(&"it is not UTF-8")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(failed(&error)),
    }
}

fn write(vfs: &dyn Vfs, text: &str, mode: u32) -> Result<(), Error> {
    replace(vfs, Path::new(PATH), text.as_bytes(), mode)
        .map_err(|error| Error::io(format_args!("cannot write {SHOWN}"), &error))
}

/// user@host, or as much of it as the system tells.
pub fn default_author() -> String {
    let said = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok().filter(|user| is_plain(user));
    let uid = nix::unistd::getuid();
    let listed = || nix::unistd::User::from_uid(uid).ok().flatten().map(|user| user.name).filter(|user| is_plain(user));
    let user = said().or_else(listed).unwrap_or_else(|| format!("uid{uid}"));
    format!("{user}@{}", host())
}

/// What the system calls this machine.
pub fn host() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if is_plain(&name) { name } else { "localhost".to_owned() }
}

fn is_plain(word: &str) -> bool {
    !word.is_empty() && word.len() <= 255 && !word.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests;
