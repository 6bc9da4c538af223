//! `docs/commands.md`, made from the definitions that `--help` is made from. A test holds them together, and renews the
//! page if it is asked to.

use std::fmt::Write;
use std::path::Path;

use clap::{Arg, ArgAction, Command, CommandFactory};

use crate::args::Cli;

const RENEW: &str = "FILESYNC_RENEW=1 cargo test -p filesync-cli docs";

fn page() -> String {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut out = format!(
        "# Commands\n\nWhat `filesync COMMAND --help` says. This page is made from it by `{RENEW}`.\n\n\
         What scripts can rely on in the output with `--json` is said by [json.md](json.md).\n\n"
    );
    for command in root.get_subcommands().filter(|command| !command.is_hide_set()) {
        let name = command.get_name();
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        // A heading's name in links, as GitHub makes it.
        let _ = writeln!(out, "- [`{name}`](#filesync-{name}): {about}");
    }
    out.push('\n');
    section(&root, 2, &mut out);
    out.trim_end().to_owned() + "\n"
}

fn section(command: &Command, level: usize, out: &mut String) {
    let mut command = command.clone();
    let is_root = level == 2 && command.get_name() == "filesync";
    let name = command.get_bin_name().unwrap_or(command.get_name()).to_owned();
    let _ = writeln!(out, "{} {name}\n", "#".repeat(level));
    let usage = command.render_usage().to_string();
    let usage = usage.trim().trim_start_matches("Usage:").trim();
    let _ = writeln!(out, "```\n{usage}\n```\n");
    if let Some(about) = command.get_long_about().or(command.get_about()) {
        let _ = writeln!(out, "{}\n", paragraphs(&about.to_string()));
    }
    let aliases: Vec<String> = command.get_visible_aliases().map(|alias| format!("`{alias}`")).collect();
    if !aliases.is_empty() {
        let _ = writeln!(out, "Also called {}.\n", aliases.join(", "));
    }
    let own = |arg: &&Arg| !arg.is_hide_set() && (is_root || !arg.is_global_set()) && arg.get_id() != "help";
    let arguments: Vec<&Arg> = command.get_arguments().filter(own).collect();
    if !arguments.is_empty() {
        out.push_str("| | |\n|---|---|\n");
        for argument in arguments {
            let _ = writeln!(out, "| {} | {} |", words(argument), meaning(argument));
        }
        out.push('\n');
    }
    if let Some(after) = command.get_after_long_help() {
        let _ = writeln!(out, "```\n{}\n```\n", after.to_string().trim_end());
    }
    for below in command.get_subcommands().filter(|below| !below.is_hide_set()) {
        section(below, if is_root { 2 } else { level + 1 }, out);
    }
}

/// Indented lines are a list, to be shown as they are.
fn paragraphs(text: &str) -> String {
    let as_it_is = |part: &str| part.lines().all(|line| line.starts_with("  "));
    let parts = text.trim_end().split("\n\n");
    let parts = parts.map(|part| if as_it_is(part) { format!("```\n{part}\n```") } else { part.to_owned() });
    parts.collect::<Vec<_>>().join("\n\n")
}

fn takes_value(argument: &Arg) -> bool {
    !matches!(argument.get_action(), ArgAction::SetTrue | ArgAction::Count | ArgAction::Version)
}

fn words(argument: &Arg) -> String {
    let values: Vec<String> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let value = if takes_value(argument) { values.join(" ") } else { String::new() };
    if argument.is_positional() {
        let many = if matches!(argument.get_action(), ArgAction::Append) { "…" } else { "" };
        let behind = if argument.is_last_set() { "-- " } else { "" };
        return format!("`{behind}{value}{many}`");
    }
    let short = argument.get_short().map(|short| format!("-{short}"));
    let long = argument.get_long().map(|long| format!("--{long}"));
    let names: Vec<String> = short.into_iter().chain(long).collect();
    let space = if value.is_empty() { "" } else { " " };
    format!("`{}{space}{value}`", names.join("`, `"))
}

fn meaning(argument: &Arg) -> String {
    let mut text = argument.get_help().map(ToString::to_string).unwrap_or_default();
    let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    if takes_value(argument) && !argument.is_hide_default_value_set() && !defaults.is_empty() {
        let _ = write!(text, " [default: {}]", defaults.join(" "));
    }
    let possible = argument.get_possible_values();
    if takes_value(argument) && !argument.is_hide_possible_values_set() && !possible.is_empty() {
        let names: Vec<&str> = possible.iter().map(clap::builder::PossibleValue::get_name).collect();
        let _ = write!(text, " [possible values: {}]", names.join(", "));
    }
    text.replace('|', "\\|")
}

#[test]
fn the_page_of_commands_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/commands.md");
    let page = page();
    if std::env::var_os("FILESYNC_RENEW").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let found = std::fs::read_to_string(&path).unwrap_or_default();
    let line = page.lines().zip(found.lines()).position(|(new, old)| new != old);
    assert!(page == found, "docs/commands.md is out of date from line {line:?} on: `{RENEW}` renews it");
}
