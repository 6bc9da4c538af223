//! `upgrade`.

use std::io::Write;

use clap::Args;
use filesync_repo::UpgradeRequest;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Bring the repository's format up to date
///
/// There is one version of the format so far, so that there is nothing to do.
#[derive(Debug, Args)]
pub struct UpgradeArgs {}

pub fn run(context: &mut Context) -> Result<Exit, Failure> {
    let result = context.carry_out(UpgradeRequest {})?;
    let written = if context.global.json {
        context.output.json(&json::Upgrade::new(&result))
    } else if context.is_chatty() {
        writeln!(context.output, "the repository has the newest format, version {}", result.format)
    } else {
        Ok(())
    };
    written.map_err(Failure::Output)?;
    Ok(Exit::Done)
}
