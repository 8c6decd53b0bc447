//! Differential fuzz test: random rules and random packets, the real kernel against podpath.
//!
//! `make conformance-fuzz` runs new rounds (root): `--rounds N [--seed S] [--first K] [--packets P]
//! [--keep-going] [--may-skip] [--kind iptables|nft|both|mixed]`. Each round draws a rule set (iptables, native
//! nftables, or both beside each other) and packets, plays them through a router namespace
//! and through podpath, and compares every frame that came out, byte by byte, the counters of every rule,
//! conntrack and sets (`compare.rs` says what is left out and why). A difference is shrunk, printed and kept
//! under `tests/data/nf_regressions/`; the run ends there unless `--keep-going` says otherwise (nothing is
//! shrunk or kept then).
//!
//! `--record FILE` keeps rounds as they are, without podpath. Plain `cargo test` replays those of
//! `tests/data/nf_corpus.jsonl.gz`, `nft_corpus.jsonl.gz` and of `tests/data/nf_regressions/`, as anybody, anywhere.
//!
//! A round that differs is played again by the kernel: if that does not do the same twice, or never comes to
//! rest (copies and errors that beget more of them), the round is undetermined: said and counted, neither passed nor
//! failed; more than one in
//! a hundred is a failure.
//!
//! Output: what differs, then alone on the last line `N passed, N failed`. Exit code 0: no difference; 1: some;
//! 2: could not run.

#![allow(
    missing_docs,
    reason = "a test binary; its modules document themselves"
)]

mod args;
mod compare;
#[path = "../common/conntrack.rs"]
#[allow(dead_code, reason = "shared by judges")]
mod conntrack;
mod drawn;
#[path = "../common/engine.rs"]
#[allow(dead_code, reason = "shared by judges")]
mod engine;
mod kept;
mod kernel;
mod matches;
mod model;
mod net;
mod nft_chains;
mod nft_compare;
mod nft_kernel;
mod nft_link;
mod nft_matches;
mod nft_model;
mod nft_nat;
mod nft_rules;
mod nft_sets;
mod packet;
mod rng;
mod round;
mod rules;
mod shrink;
#[path = "../common/tables.rs"]
#[allow(dead_code, reason = "shared with the kernel recordings")]
mod tables;
mod traffic;

use args::{Args, Kind};
use kernel::{Kernel, RESTLESS, SETTINGS};
use net::Shape;
use rng::Rng;
use round::{Backend, Outcome, Round};
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

/// Rounds of which one may be undetermined.
const UNDETERMINED_ONE_IN: u64 = 100;
/// How often a round that differs is played again to see whether the kernel does the same.
const SECOND_PLAYS: usize = 3;

/// Five empty tables of iptables-nft: the tool takes what it emptied out of the kernel.
pub const NONE: &str =
    "*filter\nCOMMIT\n*nat\nCOMMIT\n*mangle\nCOMMIT\n*raw\nCOMMIT\n*security\nCOMMIT\n";

/// Five empty tables of iptables-legacy, which keep the policies of chains that a restore does not name.
pub const EMPTY: &str = "\
*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n\
*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n\
:POSTROUTING ACCEPT [0:0]\nCOMMIT\n\
*mangle\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n\
:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\nCOMMIT\n\
*raw\n:PREROUTING ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n\
*security\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\nCOMMIT\n";

fn main() -> ExitCode {
    let done = Args::parse(std::env::args().skip(1)).and_then(|args| match args.rounds {
        Some(n) => fresh(&args, n),
        None => replay(&args),
    });
    match done {
        Ok(code) => code,
        Err(e) => {
            eprintln!("conformance_fuzz: {e}");
            ExitCode::from(2)
        }
    }
}

/// What differs between a round's recording and podpath; a round that podpath cannot play differs.
fn judge(r: &Round) -> Vec<String> {
    match model::play(r) {
        Ok(ours) => compare::differences(r, &r.kernel, &ours),
        Err(e) => vec![e],
    }
}

/// Replays what is kept.
fn replay(args: &Args) -> Result<ExitCode, String> {
    let (mut passed, mut failed) = (0, 0);
    for (name, round) in kept::all()? {
        if !args.names.is_empty() && !args.names.iter().any(|n| name.contains(n.as_str())) {
            continue;
        }
        let differences = judge(&round);
        if differences.is_empty() {
            passed += 1;
            continue;
        }
        failed += 1;
        say(&format!("FAIL {name}"));
        show(&differences, args.verbose);
        if args.verbose {
            say(&kept::describe(&round));
        }
    }
    Ok(verdict(passed, failed))
}

/// New rounds.
fn fresh(args: &Args, rounds: u64) -> Result<ExitCode, String> {
    if let Some(why) = kernel::lacks() {
        if !args.may_skip {
            return Err(why);
        }
        say(&format!(
            "SKIPPED: the differential fuzz test against the kernel did not run: {why}"
        ));
        return Ok(verdict(0, 0));
    }
    let seed = args.seed.unwrap_or_else(clock);
    say(&format!("seed {seed}, {rounds} rounds"));
    let mut kernels = Kernels::new()?;
    let begun = Instant::now();
    let (mut passed, mut failed, mut refused, mut undetermined) = (0, 0, 0, 0);
    let mut recorded = Vec::new();
    for number in args.first..args.first.saturating_add(rounds) {
        let round = match kernels.draw(seed, number, args) {
            Ok(Some(round)) => round,
            Ok(None) => {
                refused += 1;
                continue;
            }
            Err(e) if e == RESTLESS => {
                undetermined += 1;
                say(&format!("UNDETERMINED seed {seed} round {number}: {e}"));
                continue;
            }
            Err(e) => return Err(e),
        };
        if args.record.is_some() {
            recorded.push(round);
            continue;
        }
        let differences = match args.twice {
            true => kernels.twice(&round)?,
            false => judge(&round),
        };
        if differences.is_empty() {
            passed += 1;
            continue;
        }
        if !args.twice
            && let Some(how) = kernels.varies(&round, args)?
        {
            undetermined += 1;
            say(&format!(
                "UNDETERMINED seed {seed} round {number}: the kernel does not do the same twice: {how}"
            ));
            continue;
        }
        failed += 1;
        say(&format!("FAIL seed {seed} round {number}"));
        show(&differences, args.verbose);
        if args.verbose {
            say(&kept::describe(&round));
        }
        if !(args.keep_going || args.twice) {
            keep(&mut kernels, round)?;
            break;
        }
    }
    let spent = begun.elapsed() / u32::try_from(rounds.max(1)).unwrap_or(u32::MAX);
    say(&format!(
        "seed {seed}: {refused} rule sets the kernel refused, {undetermined} rounds undetermined, \
         {spent:?} a round"
    ));
    if undetermined > rounds.div_ceil(UNDETERMINED_ONE_IN) {
        failed += 1;
        say(&format!(
            "FAIL seed {seed}: {undetermined} undetermined rounds are too many"
        ));
    }
    if let Some(path) = &args.record {
        kept::write_corpus(path, &recorded)?;
    }
    Ok(verdict(passed, failed))
}

/// Shrinks a round that differs, prints it and keeps it.
fn keep(kernels: &mut Kernels, round: Round) -> Result<(), String> {
    let mut differs = |c: &mut Round| kernels.again(c).is_ok() && !judge(c).is_empty();
    let small = shrink::shrink(round, &mut differs);
    let path = kept::write_regression(&small)?;
    say(&kept::describe(&small));
    show(&judge(&small), true);
    say(&format!("kept as {path}"));
    Ok(())
}

/// A router for each shape and back end: legacy tables, once named, stay in their namespace.
struct Kernels(Vec<(Backend, Kernel)>);

impl Kernels {
    fn new() -> Result<Self, String> {
        let mut all = Vec::new();
        for shape in [Shape::Routed, Shape::Bridged] {
            for backend in [Backend::Nft, Backend::Legacy] {
                all.push((backend, Kernel::new(shape, backend)?));
            }
        }
        // What interfaces say while they come up is over before the first round.
        std::thread::sleep(std::time::Duration::from_millis(3000));
        Ok(Kernels(all))
    }

    fn of(&mut self, shape: Shape, backend: Backend) -> Result<&mut Kernel, String> {
        let same = |(b, k): &&mut (Backend, Kernel)| *b == backend && k.shape() == shape;
        let found = self.0.iter_mut().find(same).map(|(_, k)| k);
        found.ok_or("no such router".to_owned())
    }

    /// Draws a round and plays it; nothing if the kernel refuses its rules, or nft stumbles over them.
    fn draw(&mut self, seed: u64, number: u64, args: &Args) -> Result<Option<Round>, String> {
        let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_0001).wrapping_add(number));
        let shape = if rng.chance(30) {
            Shape::Bridged
        } else {
            Shape::Routed
        };
        let v6 = rng.chance(30);
        let backend = if rng.chance(30) {
            Backend::Legacy
        } else {
            Backend::Nft
        };
        let drawn = rules::draw(shape, v6, &number.to_string(), &mut rng);
        // Of another stream, so that a seed's iptables rounds are the same in every kind of run.
        let mut own = Rng::new(rng.clone().next() ^ 0x6e66_7461_626c_6573);
        let kind = own.weighted(&[(56, Kind::Iptables), (32, Kind::Nft), (12, Kind::Both)]);
        let kind = args.kind.unwrap_or(kind);
        let mut sysctl = Vec::new();
        for (key, values) in SETTINGS {
            if rng.chance(8) {
                sysctl.push((key.to_owned(), values[1].to_owned()));
            }
        }
        let mut r = Round {
            seed,
            number,
            shape,
            v6,
            backend,
            sysctl,
            sets: drawn.sets,
            rules: drawn.rules,
            nft: String::new(),
            nft_first: false,
            dual: false,
            sent: Vec::new(),
            kernel: Outcome::default(),
        };
        if kind == Kind::Nft {
            (r.sets, r.rules) = (String::new(), String::new());
            r.dual = own.chance(30);
        }
        if kind != Kind::Iptables {
            r.nft_first = kind == Kind::Both && own.chance(50);
            r.nft = nft_rules::draw(shape, r.families(), &mut own);
            // Of another stream, so that what is drawn above stays the same.
            let mut below = Rng::new(own.clone().next() ^ 0x6c69_6e6b);
            r.nft += &nft_link::draw(shape, r.families(), &mut below);
        }
        let kernel = self.of(shape, backend)?;
        match kernel.run(&mut r, Some((&mut rng, args.packets))) {
            Ok(()) => Ok(Some(r)),
            Err(e) if e.contains("-restore") || e.starts_with("nft -") => {
                eprintln!("refused: {e}\n{}{}", r.rules, r.nft);
                Ok(None)
            }
            Err(e) if e == RESTLESS => {
                self.renew(shape, backend)?;
                Err(e)
            }
            Err(e) => Err(e),
        }
    }

    /// A new router in place of one that may still have something turning or waiting in it.
    fn renew(&mut self, shape: Shape, backend: Backend) -> Result<(), String> {
        self.0.retain(|(b, k)| *b != backend || k.shape() != shape);
        self.0.push((backend, Kernel::new(shape, backend)?));
        std::thread::sleep(std::time::Duration::from_millis(3000));
        Ok(())
    }

    /// What differs when the kernel plays a round a second time.
    fn twice(&mut self, r: &Round) -> Result<Vec<String>, String> {
        let mut second = r.clone();
        self.again(&mut second)?;
        Ok(compare::differences(r, &r.kernel, &second.kernel))
    }

    /// The first amount in which the kernel differs from itself when it plays a round anew. The frames are
    /// drawn anew too, since they answer what came out: ports that NAT draws are others each time.
    fn varies(&mut self, r: &Round, args: &Args) -> Result<Option<String>, String> {
        let first = compare::amounts(&r.kernel, &r.rules);
        for _ in 0..SECOND_PLAYS {
            let second = match self.draw(r.seed, r.number, args) {
                Ok(Some(second)) => second,
                Ok(None) => continue,
                Err(e) if e == RESTLESS => return Ok(Some(e)),
                Err(e) => return Err(e),
            };
            let second = compare::amounts(&second.kernel, &r.rules);
            let mut pairs = first.iter().zip(&second);
            if let Some((a, b)) = pairs.find(|(a, b)| a != b) {
                return Ok(Some(format!("{a} / {b}")));
            }
        }
        Ok(None)
    }

    /// Plays a round's own frames again.
    fn again(&mut self, r: &mut Round) -> Result<(), String> {
        self.of(r.shape, r.backend)?.run(r, None)
    }
}

fn clock() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(1, |d| d.as_secs())
}

fn show(differences: &[String], all: bool) {
    let few = if all { differences.len() } else { 3 };
    differences
        .iter()
        .take(few)
        .for_each(|d| say(&format!("  {d}")));
    if differences.len() > few {
        say(&format!("  and {} more", differences.len() - few));
    }
}

fn verdict(passed: u64, failed: u64) -> ExitCode {
    say(&format!("{passed} passed, {failed} failed"));
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// One line to standard output; a closed pipe ends the run quietly.
fn say(line: &str) {
    if writeln!(std::io::stdout(), "{line}").is_err() {
        std::process::exit(0);
    }
}
