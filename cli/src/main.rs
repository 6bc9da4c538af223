//! `filesync`: words in, words out.
//!
//! Each command turns its words into a typed request, hands it to `filesync_repo` and shows the typed result.
//! This is the only crate that prints, reads the environment or exits. What scripts may rely on — output,
//! `--json`, exit status — is the contract that [`error`], [`output`] and [`json`] keep.
#![allow(missing_docs)] // A binary has no callers; its modules say what they promise.

mod args;
mod commands;
mod context;
mod diffstat;
#[cfg(test)]
mod docs;
mod error;
mod json;
mod log;
mod output;
mod patch;
mod paths;
mod process;
mod progress;
mod quote;
mod signals;
mod time;
mod units;

use crate::args::{Cli, Early, Environment};
use crate::context::Context;
use crate::error::{Exit, Failure};

fn main() {
    let early = Early::read();
    process::report_panics(early);
    let status = std::panic::catch_unwind(|| run(early)).unwrap_or(error::STATUS_FAILED);
    process::end(status);
}

fn run(early: Early) -> u8 {
    process::raise_open_files();
    let outcome = match args::parse(early) {
        Ok(cli) => signals::watch()
            .map_err(|error| Failure::local("signals cannot be watched", &error))
            .and_then(|()| carry_out(cli)),
        Err(clap_error) => args::explain(&clap_error),
    };
    match outcome {
        Ok(exit) => exit.status(),
        Err(failure) => {
            let report = failure.report(signals::received());
            report.print(early.json);
            report.status
        }
    }
}

fn carry_out(cli: Cli) -> Result<Exit, Failure> {
    let Cli { global, command } = cli;
    let differs_is_one = command.uses_one_for_differs();
    let changes = command.changes_before_it_tells();
    let outcome = Context::new(global, Environment::read()).and_then(|mut context| {
        let outcome = command.run(&mut context);
        context.progress.finish();
        context.output.conclude(outcome)
    });
    let outcome = if changes { outcome.map_err(Failure::only_told_badly) } else { outcome };
    if differs_is_one { outcome.map_err(Failure::apart_from_differs) } else { outcome }
}
