//! L6: the command line: arguments, files, standard streams, exit codes. The only place for files, threads,
//! clocks and the environment.
//!
//! Exit codes: 0 clean, 1 findings or unmet expectations, 2 could not run, or not on the whole
//! input (a capture that is cut short). A closed pipe is no failure.
//! Everything it prints is made elsewhere (`report`); here it is written.

mod args;
mod bench;
mod demo;
mod dns;
mod load;
mod misc;
mod out;
mod policy;
mod proxy;
mod reach;
mod replay;
mod run;
mod show;
mod topo;
mod trace;
pub mod workers;

use crate::base::{Finding, Span};
use crate::kube::manifest::closest;
use clap::{CommandFactory, Parser};
use std::io::{self, IsTerminal};
use std::path::Path;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Exit {
    /// Nothing to complain about.
    Clean,
    /// It ran, and something is not as it should be.
    Findings,
    /// It could not run.
    Failed,
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // clap's own exit code for a usage error is 2, for help and version 0.
            let code = u8::try_from(e.exit_code()).unwrap_or(2);
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    cli.global.color.apply();
    match dispatch(cli) {
        Ok(exit) => ExitCode::from(exit as u8),
        Err(e) if broken_pipe(&e) => ExitCode::SUCCESS,
        Err(e) => {
            match e.downcast_ref::<out::Stop>() {
                Some(out::Stop(f)) => {
                    out::findings(std::slice::from_ref(f), false);
                }
                None => {
                    out::findings(
                        &[Finding::error(Span::default(), format!("{e:#}"), "")],
                        false,
                    );
                }
            }
            ExitCode::from(2)
        }
    }
}

fn broken_pipe(e: &anyhow::Error) -> bool {
    e.chain().any(|c| {
        c.downcast_ref::<io::Error>()
            .is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
    })
}

fn dispatch(cli: args::Cli) -> anyhow::Result<Exit> {
    let g = &cli.global;
    match cli.command {
        None if cli.topology.is_none() && g.files.is_empty() => demo::run(g),
        None if cli.topology.as_deref().is_some_and(mistyped) => {
            Err(no_command(cli.topology.as_deref()))
        }
        None => run::run(
            g,
            &args::RunArgs {
                topology: cli.topology,
                ..args::RunArgs::default()
            },
        ),
        Some(args::Command::Run(a)) => run::run(g, &a),
        Some(args::Command::Trace(a)) => trace::run(g, &a),
        Some(args::Command::Show(a)) => show::run(g, &a),
        Some(args::Command::Replay(a)) => replay::run(g, &a),
        Some(args::Command::Proxy(a)) => proxy::run(g, &a),
        Some(args::Command::Policy(a)) => policy::run(g, &a),
        Some(args::Command::Reach(a)) => reach::run(g, &a),
        Some(args::Command::Dns(a)) => dns::run(g, &a),
        Some(args::Command::Topo(a)) => topo::run(g, &a),
        Some(args::Command::Bench(a)) => bench::run(&a),
        Some(args::Command::Completions { shell }) => misc::completions(shell),
        Some(args::Command::Man { dir }) => misc::man(dir.as_deref()),
    }
}

/// A lone word that is no file is a command with a slip in it rather than a folder.
fn mistyped(word: &Path) -> bool {
    !word.exists() && word.components().count() == 1 && !word.to_string_lossy().contains('.')
}

fn no_command(word: Option<&Path>) -> anyhow::Error {
    let word = word.unwrap_or(Path::new("")).to_string_lossy();
    let command = args::Cli::command();
    let names: Vec<&str> = command.get_subcommands().map(|c| c.get_name()).collect();
    let help = match closest(&word, names.iter().copied()) {
        Some(name) => format!("did you mean `podpath {name}`?"),
        None => format!("the commands are {}", names.join(", ")),
    };
    out::stop(
        &word,
        "expected a command or a topology folder; there is neither by this name",
        help,
    )
}

/// Whether progress may be drawn: a person looks at standard error.
fn interactive() -> bool {
    io::stderr().is_terminal()
}
