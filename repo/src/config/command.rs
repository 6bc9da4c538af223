//! `config`: what is set, and setting it.

use std::path::Path;

use super::{Config, LEN_MAX, PATH, SETTINGS, Setting, file, read, setting, write};
use crate::error::{Error, ErrorKind};
use crate::nearest::nearest;
use crate::repo::Repo;
use crate::request::{ConfigRequest, ConfigSetting, ConfigSource};

/// Carries out `config`.
pub fn config(repo: &Repo, request: &ConfigRequest) -> Result<Vec<ConfigSetting>, Error> {
    let vfs = &**repo.store.vfs();
    match request {
        ConfigRequest::Show => {
            let config = Config::load(vfs)?;
            Ok(SETTINGS.iter().map(|setting| describe(setting, &config)).collect())
        }
        ConfigRequest::Get { key } => {
            let setting = known(key)?;
            Ok(vec![describe(setting, &Config::load(vfs)?)])
        }
        ConfigRequest::Set { key, value } => {
            let setting = known(key)?;
            (setting.check)(value)
                .map_err(|why| Error::new(ErrorKind::Usage, format!("cannot set {key} to {value:?}: {why}")))?;
            let text = read(vfs)?;
            let changed = file::set(&text, key, value).map_err(file::Wrong::into_error)?;
            debug_assert!(changed.len() as u64 <= LEN_MAX, "what was written can be read");
            // Whoever made it unreadable for others meant it.
            let mode = vfs.stat(Path::new(PATH)).map_or(0o644, |stat| stat.mode & 0o777);
            if changed != text {
                write(vfs, &changed, mode)?;
            }
            Ok(vec![describe(setting, &Config::load(vfs)?)])
        }
    }
}

fn known(key: &str) -> Result<&'static Setting, Error> {
    setting(key).ok_or_else(|| {
        let keys = SETTINGS.iter().map(|setting| setting.key);
        let hint = match nearest(key, keys.clone()) {
            Some(near) => format!("did you mean {near}?"),
            None => format!("there are {}", keys.collect::<Vec<_>>().join(", ")),
        };
        Error::new(ErrorKind::Usage, format!("cannot find setting {key:?}")).with_hint(hint)
    })
}

fn describe(setting: &Setting, config: &Config) -> ConfigSetting {
    let (value, source) = match config.0.get(setting.key) {
        Some(value) => (value.clone(), ConfigSource::File),
        None => ((setting.default)(), ConfigSource::Default),
    };
    ConfigSetting { key: setting.key, value, source }
}
