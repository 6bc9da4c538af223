//! `config.toml`: settings that people may edit.

use std::io;
use std::path::Path;

use filesync_cas::vfs::{Vfs, read_to_end, replace};
use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind};

const PATH: &str = "config.toml";
const LEN_MAX: u64 = 1 << 20;

/// The settings.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// Commits made here.
    pub commit: CommitSettings,
}

/// Settings of this node.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// What it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// Settings of commits.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CommitSettings {
    /// Who commits, unless a commit says otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
}

impl Config {
    /// Reads the settings; a file that is not there means none.
    pub fn load(vfs: &dyn Vfs) -> Result<Self, Error> {
        let bytes = match read_to_end(vfs, Path::new(PATH), LEN_MAX) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Error::io("cannot read config.toml", &error)),
        };
        let wrong = |cause: &str| {
            let cause = cause.trim_end().replace('\n', " ");
            Error::new(ErrorKind::Failed, format!("config.toml: {cause}"))
        };
        let text = std::str::from_utf8(&bytes).map_err(|_| wrong("not UTF-8"))?;
        toml::from_str(text).map_err(|error: toml::de::Error| wrong(error.message()))
    }

    /// Writes the settings.
    pub fn save(&self, vfs: &dyn Vfs) -> Result<(), Error> {
        let text = toml::to_string(self).map_err(|error| Error::new(ErrorKind::Failed, error.to_string()))?;
        replace(vfs, Path::new(PATH), text.as_bytes(), 0o644)
            .map_err(|error| Error::io("cannot write config.toml", &error))
    }
}

/// user@host, or as much of it as the system tells.
pub fn default_author() -> String {
    let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok().filter(|user| is_plain(user));
    let user = user.unwrap_or_else(|| format!("uid{}", rustix::process::getuid().as_raw()));
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
