//! `config`.

use std::io::Write;

use clap::{Args, Subcommand};
use filesync_repo::{ConfigRequest, ConfigSource, Event, Observer as _, Warning};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote};

/// Show and change settings
///
/// They stand in `.filesync/config.toml`, which may be edited by hand; comments stay when a setting is changed.
///
///   commit.author       who commits, unless a commit says otherwise (default: user@host)
///   log.format          how `serve` logs: text or json (default: text)
///   log.level           what it logs at least: error, warn, info, debug, trace (default: info)
///   node.name           what this node is called when it joins, and in conflict copies (default: the host's name)
///   serve.expose_http   whether `serve --http` may be reached from elsewhere: yes or no (default: no)
///   serve.mdns          whether members on the same network are found by mDNS: yes or no (default: no)
///   serve.peer_rate     how much one peer is sent, in KiB a second, 1024 at least; 0 for no limit (default: 1048576)
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  filesync config
  filesync config set commit.author 'Ada <ada@example.org>'
  filesync config get node.name
  filesync config validate           after editing the file: what is wrong with it, and where?"
)]
pub struct ConfigArgs {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List all settings (what `config` alone does)
    Show,
    /// Print the value of one
    Get {
        /// Which
        key: String,
    },
    /// Change one
    Set {
        /// Which
        key: String,
        /// To what
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Check the file, and name what is wrong with its line
    Validate,
}

pub fn run(args: ConfigArgs, context: &mut Context) -> Result<Exit, Failure> {
    let action = args.action.unwrap_or(Action::Show);
    let is_validation = matches!(action, Action::Validate);
    let is_get = matches!(action, Action::Get { .. });
    let request = match action {
        // To list all settings is to check them all.
        Action::Show | Action::Validate => ConfigRequest::Show,
        Action::Get { key } => ConfigRequest::Get { key },
        Action::Set { key, value } => ConfigRequest::Set { key, value },
    };
    let settings = match &request {
        ConfigRequest::Set { .. } => context.carry_out(request.clone()),
        _ => context.open_reader()?.config(&request).map_err(Failure::from),
    };
    context.progress.finish();
    let settings = settings?;
    if is_name(&request) && filesync_repo::cluster::is_member(&context.root()?) {
        let message = "the other members go on calling this node as they did: they took its name when it joined";
        context.progress.event(Event::Warning(Warning { path: None, message: message.to_owned() }));
    }
    let chatty = context.is_chatty();
    let out = &mut context.output;
    match (context.global.json, is_validation) {
        (true, true) => out.json(&json::Valid { valid: true }),
        (true, false) => settings.iter().try_for_each(|setting| out.json(&json::Setting::new(setting))),
        (false, true) if chatty => writeln!(out, "all is well"),
        (false, true) => Ok(()),
        (false, false) if is_get => settings.iter().try_for_each(|setting| writeln!(out, "{}", setting.value)),
        (false, false) if !chatty && matches!(request, ConfigRequest::Set { .. }) => Ok(()),
        (false, false) => settings.iter().try_for_each(|setting| {
            let default = if setting.source == ConfigSource::Default { " (default)" } else { "" };
            writeln!(out, "{} = {}{default}", setting.key, quote::line(&setting.value))
        }),
    }
    .map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn is_name(request: &ConfigRequest) -> bool {
    matches!(request, ConfigRequest::Set { key, .. } if key == "node.name")
}
