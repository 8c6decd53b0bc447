//! Vectors: podpath against cases that others' programs and the kernel decided.
//!
//! `make vectors` runs it with `--all`. Arguments: `[--pinned|--all|--pin] [-v] [NAME]...`, a NAME being part of
//! `suite/case/part`.
//!
//! # What is run
//! Every file of the folder `PODPATH_VECTORS` (default `../shared/vectors`; where that is not there, those that
//! `tests/recordings/vectors.tar.gz` holds). A case is judged in parts, `rules`
//! and `flows` for instance, and each counts. With `--all` all are attempted. Without (plain `cargo test`) only
//! those named in `tests/vectors/passing.txt` are, and all of them have to pass. `--pin` runs all and
//! adds the names that pass to that file.
//!
//! A suite that podpath has nothing for yet is counted as failed, with the reason: one failure for each case,
//! or for each file where a file is a case.
//!
//! # Output
//! Failures with their reason (`-v`: the lines that differ), one line per suite, then alone on the last line
//! `N passed, N failed`. Exit code 0: all passed; 1: some failed; 2: could not run.

#![allow(
    missing_docs,
    reason = "a test binary; its modules document themselves"
)]

#[path = "../common/conntrack.rs"]
#[allow(dead_code, reason = "shared by judges")]
mod conntrack;
mod dns;
mod dns_client;
#[path = "../common/dns_servers.rs"]
#[allow(dead_code, reason = "shared with the tests of the client")]
mod dns_servers;
#[path = "../common/dns_upstream.rs"]
mod dns_upstream;
#[path = "../common/engine.rs"]
#[allow(dead_code, reason = "shared by judges")]
mod engine;
mod flows;
mod kube_proxy;
mod network_policy;
#[path = "../common/nft_script.rs"]
#[allow(dead_code, reason = "shared with the tests of incremental syncs")]
mod nft_script;
mod policy;
#[path = "../common/policy_world.rs"]
#[allow(dead_code, reason = "shared with the tests of policies")]
mod policy_world;
mod proxy_modes;
#[path = "../conformance/recordings.rs"]
#[allow(dead_code, reason = "only a folder or an archive is needed of it")]
mod recordings;
mod rules;
mod suites;

use recordings::Source;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// One part of one case.
pub struct Part {
    /// `suite/case/part`.
    pub name: String,
    /// What is wrong: one line, then details.
    pub outcome: Result<(), String>,
}

/// What to do.
#[derive(Default)]
struct Args {
    all: bool,
    pin: bool,
    verbose: bool,
    names: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("vectors: {e}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let args = parse(std::env::args().skip(1))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let named = std::env::var_os("PODPATH_VECTORS").filter(|v| !v.is_empty());
    let (beside, packed) = (
        root.join("../shared/vectors"),
        root.join("tests/recordings/vectors.tar.gz"),
    );
    let source = match named.map(PathBuf::from) {
        Some(dir) => Source::folder(&dir).map_err(|e| format!("PODPATH_VECTORS: {e}"))?,
        None if beside.is_dir() => Source::folder(&beside)?,
        None => Source::archive(&packed, false)?,
    };
    let pin_file = root.join("tests/vectors/passing.txt");
    let pins = pins(&pin_file)?;
    let wanted = |name: &str| {
        (args.names.is_empty() || args.names.iter().any(|n| name.contains(n.as_str())))
            && (args.all || pins.contains(name))
    };
    // A NAME with a slash begins with its area.
    let area = |path: &str| path.split_once('/').map(|(area, _)| area.to_owned());
    let area_wanted = |suite: &str| {
        args.names.is_empty()
            || args
                .names
                .iter()
                .any(|n| area(n).is_none_or(|a| area(suite) == Some(a)))
    };
    let (mut passed, mut failed, mut seen) = (pins.clone(), 0, BTreeSet::new());
    for (suite, parts) in suites::all(&source, &wanted, &area_wanted)? {
        let parts: Vec<Part> = parts.into_iter().filter(|p| wanted(&p.name)).collect();
        let bad = report(&suite, &parts, args.verbose);
        failed += bad;
        for part in parts {
            if part.outcome.is_ok() {
                passed.insert(part.name.clone());
            }
            seen.insert(part.name);
        }
    }
    if args.pin {
        passed.retain(|name| pins.contains(name) || network_policy::may_be_pinned(name));
        write_pins(&pin_file, &passed)?;
    }
    let partial = args.all || !args.names.is_empty();
    let absent = pins.iter().filter(|p| !partial && !seen.contains(*p));
    let lost: Vec<&String> = absent.collect();
    for name in &lost {
        say(&format!(
            "FAIL {name}: pinned in passing.txt, but there is no such case"
        ));
    }
    let good = seen.len() - failed;
    failed += lost.len();
    say(&format!("{good} passed, {failed} failed"));
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Prints a suite's failures, those with the same reason together, and its line; how many failed.
fn report(suite: &str, parts: &[Part], verbose: bool) -> usize {
    let mut bad = 0;
    let mut reasons: Vec<(String, usize)> = Vec::new();
    for part in parts {
        let Err(why) = &part.outcome else { continue };
        bad += 1;
        let first = why.lines().next().unwrap_or_default().to_owned();
        if first.starts_with("needs ") && !verbose {
            match reasons.iter_mut().find(|(reason, _)| *reason == first) {
                Some((_, count)) => *count += 1,
                None => reasons.push((first, 1)),
            }
            continue;
        }
        let shown = if verbose { why } else { &first };
        say(&format!("FAIL {}: {shown}", part.name));
    }
    if !parts.is_empty() {
        let why: Vec<String> = reasons.iter().map(|(r, n)| format!("{n} {r}")).collect();
        let why = if why.is_empty() {
            String::new()
        } else {
            format!(" ({})", why.join(", "))
        };
        say(&format!(
            "{suite}: {} passed, {bad} failed{why}",
            parts.len() - bad
        ));
    }
    bad
}

/// The command line; options that `cargo test` users pass to the standard harness have no effect.
fn parse(args: impl Iterator<Item = String>) -> Result<Args, String> {
    let mut out = Args::default();
    let mut args = args;
    while let Some(a) = args.next() {
        match a.as_str() {
            "--all" => out.all = true,
            "--pinned" => out.all = false,
            "--pin" => (out.all, out.pin) = (true, true),
            "-v" | "--verbose" => out.verbose = true,
            "--test-threads" | "--format" | "--color" | "--skip" => drop(args.next()),
            "--nocapture" | "--no-capture" | "--show-output" | "--exact" | "-q" | "--quiet" => {}
            _ if a.starts_with('-') => {
                return Err(format!(
                    "unknown option {a}; known: --all --pinned --pin -v NAME..."
                ));
            }
            _ => out.names.push(a),
        }
    }
    Ok(out)
}

/// The names that passed once: one a line, `#` begins a comment.
fn pins(path: &Path) -> Result<BTreeSet<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let names = text
        .lines()
        .map(|l| l.split('#').next().unwrap_or("").trim());
    Ok(names.filter(|l| !l.is_empty()).map(str::to_owned).collect())
}

fn write_pins(path: &Path, names: &BTreeSet<String>) -> Result<(), String> {
    let head = "# Parts of cases that pass, one a line. `cargo test` fails when one of them no longer does.\n";
    let text = names.iter().fold(head.to_owned(), |t, n| t + n + "\n");
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// One line to standard output; a closed pipe ends the run quietly.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
