//! `man`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

use crate::args::Cli;
use crate::context::Context;
use crate::error::{Exit, Failure};
use crate::{json, quote, units};

/// Write manual pages
///
/// A page for each command goes into DIR, which is made if it is missing; pages that are there are replaced.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync man ~/.local/share/man/man1
  filesync man /tmp/pages && man /tmp/pages/filesync-commit.1")]
pub struct ManArgs {
    /// Where
    #[arg(value_name = "DIR")]
    target: PathBuf,
}

pub fn run(args: &ManArgs, context: &mut Context) -> Result<Exit, Failure> {
    let directory = &args.target;
    let failed = |path: &Path, error: &io::Error| Failure::local(format!("man: {}", quote::path(path)), error);
    std::fs::create_dir_all(directory).map_err(|error| failed(directory, &error))?;
    let mut files = Vec::new();
    for (name, page) in pages().map_err(|error| failed(directory, &error))? {
        let path = directory.join(&name);
        std::fs::write(&path, page).map_err(|error| failed(&path, &error))?;
        files.push(name);
    }
    if context.global.json {
        context.output.json(&json::Man::new(directory, files))
    } else if context.is_chatty() {
        let number = units::count(files.len() as u64, "page");
        writeln!(context.output, "wrote {number} to {}", quote::path(directory))
    } else {
        Ok(())
    }
    .map_err(Failure::Output)?;
    Ok(Exit::Done)
}

/// Each page with the name of its file.
fn pages() -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut root = Cli::command().disable_help_subcommand(true);
    root.build();
    let mut open: Vec<(String, Command)> = vec![(root.get_name().to_owned(), root)];
    let mut pages = Vec::new();
    while let Some((name, command)) = open.pop() {
        let below = command.get_subcommands().filter(|below| !below.is_hide_set());
        open.extend(below.map(|below| (format!("{name}-{}", below.get_name()), below.clone())));
        pages.push((format!("{name}.1"), page(&name, command)?));
    }
    pages.sort();
    Ok(pages)
}

fn page(name: &str, command: Command) -> io::Result<Vec<u8>> {
    let after = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
    let has_subcommands = command.has_subcommands();
    let man = Man::new(command).title(name).source(concat!("filesync ", env!("CARGO_PKG_VERSION"))).manual("filesync");
    let mut out = Vec::new();
    man.render_title(&mut out)?;
    man.render_name_section(&mut out)?;
    man.render_synopsis_section(&mut out)?;
    man.render_description_section(&mut out)?;
    man.render_options_section(&mut out)?;
    if has_subcommands {
        man.render_subcommands_section(&mut out)?;
    }
    extra(&after).to_writer(&mut out)?;
    Ok(out)
}

/// What stands below the options in `--help`: lists with a heading, and remarks.
fn extra(after: &str) -> Roff {
    let mut roff = Roff::default();
    let mut has_notes = false;
    for block in after.trim_end().split("\n\n").filter(|block| !block.is_empty()) {
        let (first, rest) = block.split_once('\n').unwrap_or((block, ""));
        if let (Some(title), true) = (first.strip_suffix(':'), rest.starts_with(' ')) {
            roff.control("SH", [title.to_uppercase().as_str()]);
            roff.control("nf", []);
            for line in rest.lines() {
                roff.text([roman(line.strip_prefix("  ").unwrap_or(line))]);
            }
            roff.control("fi", []);
            has_notes = false;
            continue;
        }
        if has_notes {
            roff.control("PP", []);
        } else {
            roff.control("SH", ["NOTES"]);
        }
        for line in block.lines() {
            roff.text([roman(line)]);
        }
        has_notes = true;
    }
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_for_each_command() {
        let pages = pages().unwrap();
        for name in ["filesync.1", "filesync-commit.1", "filesync-config.1", "filesync-config-set.1"] {
            let page = pages.iter().find(|(file, _)| file == name);
            let (_, page) = page.unwrap_or_else(|| panic!("{name} is not there"));
            let page = String::from_utf8(page.clone()).unwrap();
            assert!(page.contains(".SH SYNOPSIS") && page.contains(".TH "), "{page}");
        }
    }

    #[test]
    fn lists_keep_their_lines() {
        let page = extra("Examples:\n  a   b\n  .c\n\nOne remark.\nIts end.\n\nAnother.").render();
        assert!(page.contains(".SH EXAMPLES\n.nf\na   b\n\\&.c\n.fi\n"), "{page}");
        assert!(page.contains(".SH NOTES\nOne remark.\nIts end.\n.PP\nAnother.\n"), "{page}");
    }
}
