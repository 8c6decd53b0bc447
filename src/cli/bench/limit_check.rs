//! `podpath bench limit`: the loop that `times_limit` divides by, beside the one it is equal to, in turns.
//!
//! Builds ../shared/limit as its README says and reads its figures; each side measures itself by CPU time.
//! Invariant: without the other side there is no verdict, but an error that says what is missing.

use super::args::BenchArgs;
use super::clock::Timing;
use super::figures::{Row, Section};
use super::kernel::{VARIABLE, shared};
use super::limit::Limit;
use crate::cli::out;
use anyhow::{Context, ensure};
use indicatif::ProgressBar;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Flows of the other's rows, and what its names for them end in.
const SIZES: [(u64, &str); 3] = [(1 << 10, "1k"), (1 << 16, "64k"), (1 << 20, "1M")];
/// The row that does the same work.
const ROW: &str = "path/rx_copy+compact_full";
/// How far the two may be from each other, as a part.
const AGREE: f64 = 0.1;
/// Our own repetitions of a turn, as many as the other's.
const TURN: u32 = 5;

/// Measures both. Also whether they agree.
pub fn run(a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<(Section, bool)> {
    let folder = shared().join("limit");
    if !folder.join("Cargo.toml").is_file() {
        return Err(out::stop(
            "bench limit",
            format!(
                "{} is not there: nothing to hold the limit against",
                folder.display()
            ),
            format!("{VARIABLE} names the folder that has limit/"),
        ));
    }
    bar.set_length(u64::from(a.repetitions) + 1);
    bar.set_message("building");
    let program = build(&folder)?;
    let ours = SIZES.map(|(flows, _)| Limit::new(flows));
    let mut sides = SIZES.map(|_| [Vec::new(), Vec::new()]);
    let mut limits = ours.into_iter().collect::<Result<Vec<_>, _>>()?;
    bar.inc(1);
    for _ in 0..a.repetitions {
        bar.set_message("theirs");
        let theirs = figures(&program)?;
        bar.set_message("ours");
        for ((limit, side), theirs) in limits.iter_mut().zip(&mut sides).zip(theirs) {
            limit.repetition(a.seconds);
            let turn = (0..TURN).map(|_| limit.repetition(a.seconds));
            side[0].push(Timing::of(turn.collect()).median());
            side[1].push(theirs);
        }
        bar.inc(1);
    }
    let mut agree = true;
    let rows = SIZES.iter().zip(sides).map(|((flows, _), [ours, theirs])| {
        let (ours, theirs) = (Timing::of(ours), Timing::of(theirs));
        let ratio = ours.median() / theirs.median();
        let agrees = agrees(ratio);
        agree &= agrees;
        Row::default()
            .count("flows", *flows)
            .number("limit_ns", ours.median(), 1)
            .number("shared_ns", theirs.median(), 1)
            .number("ratio", ratio, 3)
            .text("within_10_percent", if agrees { "yes" } else { "NO" })
            .number("ratio_of_least", ours.least() / theirs.least(), 3)
            .number("limit_spread_percent", ours.spread() * 100.0, 0)
            .number("shared_spread_percent", theirs.spread() * 100.0, 0)
            .number("limit_least_ns", ours.least(), 1)
            .wide()
            .number("shared_least_ns", theirs.least(), 1)
            .wide()
    });
    let rows = rows.collect();
    let verdict = match agree {
        true => "they agree within 10 %",
        false => {
            "THEY DO NOT AGREE within 10 %: was the machine busy? Measure again, or mend the loop"
        }
    };
    let section = Section {
        name: "limit".to_owned(),
        title: format!("the loop of times limit, and {ROW} of {}", folder.display()),
        rows,
        notes: vec![
            verdict.to_owned(),
            format!(
                "medians of {} turns; each turn the median of {TURN} of either side",
                a.repetitions
            ),
        ],
    };
    Ok((section, agree))
}

fn agrees(ratio: f64) -> bool {
    (ratio - 1.0).abs() <= AGREE
}

/// Builds the program in its own folder, whose settings count, with its files elsewhere; gives its path.
fn build(folder: &Path) -> anyhow::Result<PathBuf> {
    let target = std::env::temp_dir().join("podpath-limit");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let done = Command::new(cargo)
        .args(["build", "--release", "--quiet", "--locked", "--target-dir"])
        .arg(&target)
        .current_dir(folder)
        .stdout(Stdio::null())
        .status()
        .context("cargo, which builds ../shared/limit")?;
    ensure!(done.success(), "{} does not build", folder.display());
    Ok(target.join("release").join("limit"))
}

/// Medians of the rows, by size.
fn figures(program: &Path) -> anyhow::Result<Vec<f64>> {
    let out = Command::new(program)
        .args(["quick", "only=path"])
        .stderr(Stdio::null())
        .output()
        .with_context(|| format!("{}", program.display()))?;
    ensure!(out.status.success(), "{} failed", program.display());
    read(&out.stdout)
}

fn read(json: &[u8]) -> anyhow::Result<Vec<f64>> {
    let doc: Value = serde_json::from_slice(json).context("what ../shared/limit printed")?;
    let rows = doc["results"].as_array().context("no results")?;
    let median = |size: &str| {
        let name = format!("{ROW}_{size}");
        let row = rows.iter().find(|r| r["name"] == name);
        let median = row.and_then(|r| r["ns_median"].as_f64());
        median.with_context(|| format!("../shared/limit has no row {name}"))
    };
    SIZES.iter().map(|(_, size)| median(size)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_found_by_size_and_a_missing_one_is_named() {
        let row = |size: &str, ns: f64| {
            format!(r#"{{"name":"{ROW}_{size}","ns_min":1.0,"ns_median":{ns}}}"#)
        };
        let doc = |rows: &[String]| format!(r#"{{"results":[{}]}}"#, rows.join(",")).into_bytes();
        let all = [row("1M", 27.5), row("1k", 11.25), row("64k", 13.0)];
        assert_eq!(read(&doc(&all)).expect("all"), [11.25, 13.0, 27.5]);
        let e = read(&doc(&all[..2])).expect_err("one is missing");
        assert!(e.to_string().contains("compact_full_64k"), "{e}");
        assert!(read(b"nothing").is_err());
    }

    #[test]
    fn ten_percent_either_way_agree() {
        let shown = [0.89, 0.901, 1.0, 1.099, 1.11, f64::NAN].map(agrees);
        assert_eq!(shown, [false, true, true, true, false, false]);
    }
}
