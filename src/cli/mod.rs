//! L6: the command line: arguments, files, standard streams, exit codes. The only place for files, threads,
//! clocks and the environment.
//!
//! Exit codes: 0 clean, 1 findings or unmet expectations, 2 could not run. A closed pipe is no failure.
//! Everything it prints is made elsewhere (`report`); here it is written.

mod args;
mod demo;
mod load;
mod misc;
mod out;
mod proxy;
mod replay;
mod run;
mod show;
// topo comes with report::topo
mod trace;

use clap::Parser;
use std::io::{self, IsTerminal};
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
            anstream::eprintln!("{}error:{} {e:#}", out::RED, out::RESET);
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
        Some(args::Command::Topo(_)) => anyhow::bail!("not yet"),
        Some(args::Command::Completions { shell }) => misc::completions(shell),
        Some(args::Command::Man { dir }) => misc::man(dir.as_deref()),
    }
}

/// Whether progress may be drawn: a person looks at standard error.
fn interactive() -> bool {
    io::stderr().is_terminal()
}
