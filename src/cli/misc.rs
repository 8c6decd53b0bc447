//! Shell completions and manual pages, made from the same definition as the help.

use crate::cli::Exit;
use crate::cli::args::Cli;
use anyhow::Context;
use clap::CommandFactory;
use std::io::Write;
use std::path::Path;

/// A shell's completion script on standard output.
pub fn completions(shell: clap_complete::Shell) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "podpath", &mut script);
    std::io::stdout().write_all(&script)?;
    Ok(Exit::Clean)
}

/// What pages are made of: `podpath help` has none of its own, so none may refer to it.
fn pages() -> clap::Command {
    Cli::command().disable_help_subcommand(true)
}

/// The manual page on standard output, or all pages in a folder.
pub fn man(dir: Option<&Path>) -> anyhow::Result<Exit> {
    match dir {
        Some(d) => {
            std::fs::create_dir_all(d).with_context(|| format!("{}", d.display()))?;
            clap_mangen::generate_to(pages(), d).with_context(|| format!("{}", d.display()))?;
        }
        None => {
            let mut page = Vec::new();
            clap_mangen::Man::new(pages()).render(&mut page)?;
            std::io::stdout().write_all(&page)?;
        }
    }
    Ok(Exit::Clean)
}
