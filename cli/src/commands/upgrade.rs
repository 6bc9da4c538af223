//! `upgrade`.

use std::io::Write;

use clap::Args;
use filesync_repo::{UpgradeRequest, UpgradeResult};

use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::json;

/// Bring the repository's format up to date
///
/// There is one version of the format so far, so that there is nothing to do. Cut off at any point, the repository has
/// the version that it had or the new one, and the same command goes on.
#[derive(Debug, Args)]
pub struct UpgradeArgs {}

pub fn run(context: &mut Context) -> Result<Exit, Failure> {
    let result = context.carry_out(UpgradeRequest {})?;
    let written = if context.global.json {
        context.output.json(&json::Upgrade::new(&result))
    } else if context.is_chatty() {
        writeln!(context.output, "{}", text(&result))
    } else {
        Ok(())
    };
    written.map_err(Failure::Output)?;
    Ok(Exit::Done)
}

fn text(result: &UpgradeResult) -> String {
    match result.upgraded {
        true => format!("the repository now has the newest format, version {}", result.format),
        false => format!("the repository has the newest format, version {}", result.format),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_whether_anything_was_done() {
        let told = |upgraded| text(&UpgradeResult { format: 2, upgraded });
        assert_eq!(told(false), "the repository has the newest format, version 2");
        assert_eq!(told(true), "the repository now has the newest format, version 2");
    }
}
