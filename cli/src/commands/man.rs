//! `man`.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command, CommandFactory};
use clap_mangen::Man;

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
        let source = format!("filesync {}", env!("CARGO_PKG_VERSION"));
        let mut page = Vec::new();
        Man::new(command).title(&name).source(source).manual("filesync").render(&mut page)?;
        pages.push((format!("{name}.1"), page));
    }
    pages.sort();
    Ok(pages)
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
}
