//! `config` as data.

use serde::{Deserialize, Serialize};

use super::wire;

/// `config`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum ConfigRequest {
    /// All settings.
    Show,
    /// One of them.
    Get {
        /// Which: `commit.author`.
        key: String,
    },
    /// Changes one. Needs a writer.
    Set {
        /// Which.
        key: String,
        /// To what.
        value: String,
    },
}

/// A setting as it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSetting {
    /// Which.
    #[serde(with = "wire")]
    pub key: wire::Word,
    /// What it is.
    pub value: String,
    /// Who says so.
    pub source: ConfigSource,
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConfigSource {
    /// The repository's file of settings.
    File,
    /// Nothing is set.
    Default,
}

impl ConfigSource {
    /// Its word.
    pub fn word(self) -> &'static str {
        match self {
            Self::File => "file",
            Self::Default => "default",
        }
    }
}
