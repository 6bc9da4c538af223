//! `version`.

use std::io::Write;

use clap::Args;

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Print the version
#[derive(Debug, Args)]
pub struct VersionArgs {}

pub fn run(context: &mut Context) -> Result<Exit, Failure> {
    let version = env!("CARGO_PKG_VERSION");
    let written = if context.global.json {
        context.output.json(&json::Version { version })
    } else {
        writeln!(context.output, "filesync {version}")
    };
    written.map_err(Failure::Output)?;
    Ok(Exit::Done)
}
