//! `config`.

use filesync_repo as repo;
use serde::Serialize;

#[derive(Serialize)]
pub struct Setting {
    key: &'static str,
    value: String,
    source: &'static str,
}

impl Setting {
    pub fn new(setting: &repo::ConfigSetting) -> Self {
        Self { key: setting.key, value: setting.value.clone(), source: setting.source.word() }
    }
}

/// Of `config validate`, which otherwise is an error.
#[derive(Serialize)]
pub struct Valid {
    pub valid: bool,
}
