//! `podpath bench`: how fast it is, here and now.
//!
//! Scenarios by name, each with its figures; a ratio's two sides come from one run. Measures what other
//! commands do and does nothing of its own. Invariant: a scenario that got a wrong answer has no figures.

pub mod args;
mod churn;
pub mod clock;
mod dns;
mod dns_wire;
mod drive;
pub mod figures;
mod kernel;
mod limit;
mod limit_check;
mod path;
mod plan;
mod plot;
mod policy;
mod replay;
mod ring;
mod rules;
mod sample;
mod scene;
mod tally;
mod threads;
mod traffic;
mod words;

use crate::cli::Exit;
use crate::cli::bench::args::{BenchArgs, Scenario};
use figures::Section;
use indicatif::{ProgressBar, ProgressStyle};
use plot::Point;
use words::Job;

/// Runs the scenarios.
pub fn run(a: &BenchArgs) -> anyhow::Result<Exit> {
    let mut sections = Vec::new();
    let mut points = Vec::new();
    let mut exit = Exit::Clean;
    for job in words::jobs(a)? {
        let bar = progress(&job.scenario.to_string());
        let (done, right) = section(&job, a, &bar, &mut points)?;
        if !right {
            exit = Exit::Findings;
        }
        sections.extend(done);
        bar.finish_and_clear();
    }
    if let Some(file) = &a.plot {
        plot::write(&points, file)?;
    }
    figures::print(&sections, a.output, a.wide)?;
    Ok(exit)
}

/// What a job found, and whether it is as it should be.
fn section(
    job: &Job,
    a: &BenchArgs,
    bar: &ProgressBar,
    points: &mut Vec<Point>,
) -> anyhow::Result<(Vec<Section>, bool)> {
    if job.scenario == Scenario::Limit && a.threads == 1 {
        let (section, agree) = limit_check::run(a, bar)?;
        return Ok((vec![section], agree));
    }
    Ok((measured(job, a, bar, points)?, true))
}

fn measured(
    job: &Job,
    a: &BenchArgs,
    bar: &ProgressBar,
    points: &mut Vec<Point>,
) -> anyhow::Result<Vec<Section>> {
    if let Some(me) = a.lane {
        threads::process(job.scenario, me, a)?;
        return Ok(Vec::new());
    }
    if a.threads > 1 {
        return Ok(vec![threads::run(job.scenario, a, bar)?]);
    }
    match job.scenario {
        Scenario::Policy => {
            let mut sections = vec![path::run(Scenario::Policy, a, bar, points)?];
            sections.extend(policy::run(bar)?);
            Ok(sections)
        }
        Scenario::Dns => dns::run(a, bar),
        Scenario::Kernel => kernel::run(a, bar),
        Scenario::Churn => Ok(vec![churn::run(a, bar, points)?]),
        Scenario::Replay => Ok(vec![replay::run(job.file.as_deref(), a, bar)?]),
        scenario => Ok(vec![path::run(scenario, a, bar, points)?]),
    }
}

/// A bar that a person sees while it takes long; the work sets its length, position and message.
fn progress(name: &str) -> ProgressBar {
    if !crate::cli::interactive() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len} {msg}");
    let bar = ProgressBar::new(0).with_prefix(name.to_owned());
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
