//! Kernel conformance: podpath against recordings of the Linux kernel, frame by frame.
//!
//! `make conformance` runs it with `--all`. Arguments: `args.rs`.
//!
//! # What is run
//! Every recording of the folder `PODPATH_ORACLE` (default `../shared/oracle`, else
//! `tests/recordings/oracle.tar.gz`) and of `tests/recordings/own.tar.gz`. With `--all` each is attempted
//! and counted. Without (plain `cargo test`) only those named in `tests/conformance/passing.txt` are, and
//! all of them have to pass: what once passed stays. `--pin` runs all and adds the names that pass to that
//! file; it never takes one out.
//!
//! # How a capture is judged
//! Namespaces of role `node` and `switch` are emulated kernels. `pod`, `host` and `router` are endpoints:
//! what they sent (their frames marked "out") enters the emulator at the recorded times, from their own
//! interface, whose link address, MTU and state are the recorded ones (`plan.rs`, `build.rs`). Compared is
//! everything else that was captured: all frames at node and switch interfaces, and the frames marked "in"
//! at endpoint interfaces whose far end is emulated. Not compared, because podpath has no part in it:
//! frames "out" of endpoints (they are the input) and wires between two endpoints.
//!
//! - A `ping` of a node's own goes through podpath's output path (`ping.rs`); what other processes on nodes said
//!   is translated back and enters there, too (`process.rs`).
//! - Rules, sets and `conntrack` commands are carried out at their time; NAT's random choices are those that the
//!   node's own `conntrack -E` told (`setup.rs`, `common/conntrack.rs`).
//! - At the end each node's rule counters, connections and sets are compared with its dumps (`dumps.rs`).
//! - What caches held before the first frame is inferred from the recording (`seed.rs`).
//! - Frames after the end of the capture are not compared (`plan.rs`, `play.rs`).
//! - The outer VLAN tag is not compared: the recorder's sockets do not show it (`play.rs`).
//! - A frame is equal when its normalised layers and its direction are; what the normaliser leaves out is
//!   listed in `norm.rs` and `decode.rs` (ICMPv6 errors: what they quote), the order in `compare.rs`.
//! - ARP, neighbour discovery and multicast listener frames are dropped on both sides for the oracle's
//!   recordings, where real stacks decide their timing, and kept for our own. A recording that says
//!   `"compare": {"arp": true|false}` itself is believed, whoever made it.
//! - Payloads are compared by hash; by length only where the recording says `"payload": false`, or where a
//!   process on a node talks HTTP and so names its ephemeral port in a body.
//!
//! A recording passes when nothing it needs is missing in podpath, at least one frame was compared and all
//! are equal. A recording that needs more than podpath has is played all the same and counted as failed,
//! with the reason.
//!
//! # CNI and IPVS recordings
//! CNI recordings are judged by the code of the test `cni` (`cni.rs`). IPVS recordings are played through
//! the walker, every choice and table compared (`ipvs.rs`).
//!
//! # Output
//! One line per recording, then alone on the last line `N passed, N failed`. Exit code 0: all passed;
//! 1: some failed; 2: could not run.

#![allow(
    missing_docs,
    reason = "a test binary; its modules document themselves"
)]

mod args;
mod build;
mod captures;
mod cni;
mod compare;
mod confirm;
#[path = "../common/conntrack.rs"]
#[allow(dead_code, reason = "shared by judges")]
mod conntrack;
mod decode;
mod dumps;
#[path = "../common/engine.rs"]
#[allow(dead_code, reason = "shared by judges")]
mod engine;
mod hashes;
mod ipvs;
mod mld;
mod nft;
mod norm;
mod pcapng;
mod ping;
mod plan;
mod play;
mod process;
mod recordings;
mod scenario;
mod script;
mod seed;
mod setup;
mod sha256;
#[path = "../common/tables.rs"]
mod tables;
mod topo;
mod verdict;
mod when;

use args::Args;
use recordings::{Kind, Recording, Recordings};
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use verdict::Verdict;

fn main() -> ExitCode {
    match run() {
        Ok(code) => code,
        Err(e) => {
            eprintln!("conformance: {e}");
            ExitCode::from(2)
        }
    }
}

fn run() -> Result<ExitCode, String> {
    let args = Args::parse(std::env::args().skip(1))?;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Pins belong to the default recordings; another folder is judged with --all.
    let named = std::env::var("PODPATH_ORACLE")
        .ok()
        .filter(|v| args.all && !v.is_empty());
    let recordings = Recordings::find(root, named.as_deref())?;
    let all = recordings.all();
    let pins = pins(&root.join("tests/conformance/passing.txt"))?;
    let wanted = |r: &&Recording<'_>| {
        args.selects(r.kind, &r.label()) && (args.all || pins.contains(&r.label()))
    };
    let chosen: Vec<&Recording<'_>> = all.iter().filter(wanted).collect();
    if args.list {
        chosen.iter().for_each(|r| say(&r.label()));
        return Ok(ExitCode::SUCCESS);
    }
    if args.all && chosen.is_empty() {
        return Err(format!(
            "no recording of that name in {}",
            recordings.labels().join(", ")
        ));
    }
    let (mut failed, mut passed) = (0, pins.clone());
    for r in &chosen {
        let verdict = judge(r, &recordings, args.verbose);
        failed += usize::from(!verdict.passed());
        if verdict.passed() {
            passed.insert(r.label());
        }
        say(&verdict.render(&r.label(), args.verbose));
    }
    if args.pin {
        write_pins(&root.join("tests/conformance/passing.txt"), &passed)?;
    }
    let absent: Vec<&String> = if args.all || !args.names.is_empty() || !args.kinds.is_empty() {
        Vec::new()
    } else {
        pins.iter()
            .filter(|p| !all.iter().any(|r| r.label() == **p))
            .collect()
    };
    for p in &absent {
        say(&format!(
            "FAIL {p}  pinned in passing.txt, but there is no such recording"
        ));
    }
    say(&format!(
        "{} passed, {} failed",
        chosen.len() + absent.len() - failed - absent.len(),
        failed + absent.len()
    ));
    Ok(if failed + absent.len() == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// One recording's verdict.
fn judge(r: &Recording<'_>, recordings: &Recordings, verbose: bool) -> Verdict {
    match r.kind {
        Kind::Captures => captures::judge(r, recordings, verbose),
        Kind::Cni => cni::judge(r, recordings),
        Kind::Ipvs => ipvs::judge(r),
    }
}

/// The names that passed once: one a line, `#` begins a comment.
fn pins(path: &Path) -> Result<BTreeSet<String>, String> {
    let text = std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let names = text
        .lines()
        .map(|l| l.split('#').next().unwrap_or("").trim());
    Ok(names.filter(|l| !l.is_empty()).map(str::to_owned).collect())
}

/// Writes the names that passed.
fn write_pins(path: &Path, names: &BTreeSet<String>) -> Result<(), String> {
    let head =
        "# Recordings that pass, one a line. `cargo test` fails when one of them no longer does.\n";
    let text = names.iter().fold(head.to_owned(), |t, n| t + n + "\n");
    std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
}

/// One line to standard output; a closed pipe ends the run quietly.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
