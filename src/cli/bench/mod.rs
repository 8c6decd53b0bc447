//! `podpath bench`: how fast it is, here and now.
//!
//! Scenarios by name, each with its figures; a ratio's two sides come from one run. Measures what other
//! commands do and does nothing of its own. Invariant: a scenario that got a wrong answer has no figures.

pub mod args;
pub mod clock;
mod dns;
mod dns_wire;
mod drive;
pub mod figures;
mod limit;
mod path;
mod policy;
mod scene;
mod words;

use crate::cli::Exit;
use crate::cli::bench::args::{BenchArgs, Scenario};
use figures::Section;
use indicatif::{ProgressBar, ProgressStyle};
use words::Job;

/// Runs the scenarios.
pub fn run(a: &BenchArgs) -> anyhow::Result<Exit> {
    let mut sections = Vec::new();
    for job in words::jobs(a)? {
        let bar = progress(&job.scenario.to_string());
        sections.extend(section(&job, a, &bar)?);
        bar.finish_and_clear();
    }
    figures::print(&sections, a.output)?;
    Ok(Exit::Clean)
}

fn section(job: &Job, a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Vec<Section>> {
    match job.scenario {
        Scenario::Policy => policy::run(bar),
        Scenario::Dns => dns::run(a, bar),
        Scenario::Bridge
        | Scenario::Route
        | Scenario::Service
        | Scenario::ServiceVxlan
        | Scenario::ServiceIpip
        | Scenario::Connect => path::run(job.scenario, a, bar),
        other => anyhow::bail!("{other} cannot be measured yet"),
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
