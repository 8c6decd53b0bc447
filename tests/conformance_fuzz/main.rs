//! Differential fuzz test: random rules and random packets, the real kernel against podpath.
//!
//! `make conformance-fuzz` runs new rounds (root): `--rounds N [--seed S] [--packets P] [--keep-going]`. Each round
//! draws a rule set and packets, plays them through a router namespace and through podpath, and compares every
//! frame that came out, byte by byte, the counters of every rule, conntrack and sets (`compare.rs` says what is
//! left out and why). A difference is shrunk, printed and kept under `tests/data/nf_regressions/`.
//! `--record FILE` keeps rounds as they are, kernel side alone. Plain `cargo test` replays what is kept.
//!
//! Output: one line per difference, then alone on the last line `N passed, N failed`. Exit code 0: no
//! difference; 1: some; 2: could not run.

#![allow(
    missing_docs,
    reason = "a test binary; its modules document themselves"
)]

mod kernel;
mod matches;
mod net;
mod packet;
mod rng;
mod round;
mod rules;
mod traffic;

use kernel::Kernel;
use net::Shape;
use rng::Rng;
use round::{Backend, Outcome, Round};
use std::time::Instant;

fn main() -> std::process::ExitCode {
    let rounds: u64 = std::env::args()
        .nth(1)
        .and_then(|a| a.parse().ok())
        .unwrap_or(3);
    let seed: u64 = std::env::args()
        .nth(2)
        .and_then(|a| a.parse().ok())
        .unwrap_or(1);
    if let Some(why) = kernel::lacks() {
        println!("skipped: {why}");
        return 2.into();
    }
    let mut kernels = [
        Kernel::new(Shape::Routed).unwrap(),
        Kernel::new(Shape::Bridged).unwrap(),
    ];
    let begun = Instant::now();
    let mut refused = 0;
    for n in 0..rounds {
        match record(&mut kernels, seed, n) {
            Ok(r) => println!("{}", serde_json::to_string(&r).unwrap()),
            Err(e) => {
                refused += 1;
                eprintln!("{e}")
            }
        }
    }
    eprintln!(
        "{refused} refused, {:?} a round",
        begun.elapsed() / rounds.max(1) as u32
    );
    0.into()
}

fn record(kernels: &mut [Kernel; 2], seed: u64, number: u64) -> Result<Round, String> {
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
    let d = rules::draw(shape, v6, &format!("{}", number), &mut rng);
    let mut r = Round {
        seed,
        number,
        shape,
        v6,
        backend,
        sysctl: Vec::new(),
        sets: d.sets,
        rules: d.rules,
        sent: Vec::new(),
        kernel: Outcome::default(),
    };
    let k = kernels.iter_mut().find(|k| k.shape() == shape).unwrap();
    k.run(&mut r, Some((&mut rng, 40)))
        .map_err(|e| format!("{e}\n{}", r.rules))?;
    Ok(r)
}
