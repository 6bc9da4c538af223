//! `completions`.

use std::io::Write;

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::generate;
use clap_complete::shells::{Bash, Fish, Zsh};

use crate::args::Cli;
use crate::context::Context;
use crate::error::{Exit, Failure};

/// Print a script that completes words for a shell
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  filesync completions bash > ~/.local/share/bash-completion/completions/filesync
  filesync completions zsh > ~/.zfunc/_filesync      with fpath=(~/.zfunc $fpath) before compinit
  filesync completions fish > ~/.config/fish/completions/filesync.fish")]
pub struct CompletionsArgs {
    /// For which
    #[arg(value_name = "SHELL", value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

pub fn run(args: &CompletionsArgs, context: &mut Context) -> Result<Exit, Failure> {
    context.output.write_all(&script(args.shell)).map_err(Failure::Output)?;
    Ok(Exit::Done)
}

/// All of it first: the generators panic where they cannot write.
fn script(shell: Shell) -> Vec<u8> {
    let mut command = Cli::command();
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    match shell {
        Shell::Bash => generate(Bash, &mut command, name, &mut script),
        Shell::Zsh => generate(Zsh, &mut command, name, &mut script),
        Shell::Fish => generate(Fish, &mut command, name, &mut script),
    }
    script
}
