//! The scenarios of the packet path: established flows, next to the limit in the same minute, and new ones.
//!
//! Invariant: the limit and the scenario take turns, repetition by repetition, so that whatever slows the
//! machine slows both.

use super::clock::{Timing, memory};
use super::drive::Scene;
use super::figures::{Row, Section};
use super::limit::Limit;
use super::scene::{Plan, To};
use crate::cli::bench::args::{BenchArgs, Scenario};
use indicatif::ProgressBar;

/// What a scenario is made of.
fn plan(scenario: Scenario, services: u32) -> Plan {
    let base = Plan {
        cni: ("calico", "none"),
        proxy: "iptables",
        far: false,
        to: To::ClusterIp,
        services,
        policies: 1,
    };
    match scenario {
        Scenario::Bridge => Plan {
            cni: ("flannel", "vxlan"),
            to: To::Pod,
            policies: 0,
            ..base
        },
        Scenario::Route => Plan {
            cni: ("flannel", "host-gw"),
            to: To::Pod,
            far: true,
            policies: 0,
            ..base
        },
        Scenario::ServiceVxlan => Plan {
            cni: ("flannel", "vxlan"),
            far: true,
            policies: 0,
            ..base
        },
        Scenario::ServiceIpip => Plan {
            cni: ("calico", "ipip"),
            far: true,
            ..base
        },
        _ => base,
    }
}

/// Measures a scenario.
pub fn run(scenario: Scenario, a: &BenchArgs, bar: &ProgressBar) -> anyhow::Result<Vec<Section>> {
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    bar.set_length((a.services.len() * a.flows.len()) as u64);
    for services in &a.services {
        for flows in &a.flows {
            bar.set_message(format!("{services} Services, {flows} flows"));
            let plan = plan(scenario, *services);
            rows.push(match scenario {
                Scenario::Connect => connect(plan, *flows, a)?,
                _ => established(plan, *flows, a, &mut notes)?,
            });
            bar.inc(1);
        }
    }
    let title = match scenario {
        Scenario::Connect => "first frames of flows",
        _ => "frames of established flows, every frame of a random one",
    };
    Ok(vec![Section {
        name: scenario.to_string(),
        title: title.to_owned(),
        rows,
        notes,
    }])
}

fn established(
    plan: Plan,
    flows: u64,
    a: &BenchArgs,
    notes: &mut Vec<String>,
) -> anyhow::Result<Row> {
    let at_least = a.seconds;
    let flows = flows.min(plan.flows());
    let mut scene = Scene::new(plan, flows, usize::from(a.size), 1)?;
    let before = memory();
    let opened = scene.open(0..flows, true)?;
    let bytes = memory().saturating_sub(before);
    let mut ring = scene.ring(flows, (a.ring as usize) << 20)?;
    let mut limit = Limit::new(flows)?;
    limit.repetition(at_least);
    scene.repetition(&mut ring, at_least)?;
    let (mut ours, mut bare, mut hits, mut all) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..a.repetitions {
        bare.push(limit.repetition(at_least));
        let (each, tally) = scene.repetition(&mut ring, at_least)?;
        ours.push(each);
        hits += tally.hits;
        all += tally.arrived;
    }
    let checked = match a.verify {
        0 => 0,
        every => scene.verify(&mut ring, every)?,
    };
    if a.why_slow {
        notes.extend(slow(&scene, flows));
    }
    let (ours, bare) = (Timing::of(ours), Timing::of(bare));
    Ok(Row::default()
        .count("services", plan.services.into())
        .count("flows", flows)
        .number("mpps", 1e3 / ours.least(), 2)
        .number("ns_per_packet", ours.least(), 1)
        .number("ns_median", ours.median(), 1)
        .number("spread_percent", ours.spread() * 100.0, 0)
        .number("gbit_s", f64::from(a.size) * 8.0 / ours.least(), 1)
        .number("limit_ns", bare.least(), 1)
        .number("times_limit", ours.least() / bare.least(), 2)
        .number("hit_percent", hits as f64 * 100.0 / all as f64, 2)
        .number(
            "first_packet_ns",
            opened.as_nanos() as f64 / flows as f64,
            0,
        )
        .number("bytes_per_flow", bytes as f64 / flows as f64, 0)
        .count("verified", checked)
        .count("entries", scene.fast.len() as u64))
}

fn connect(plan: Plan, flows: u64, a: &BenchArgs) -> anyhow::Result<Row> {
    let flows = flows.min(plan.flows());
    let mut scene = Scene::new(plan, flows, usize::from(a.size), 1)?;
    let before = memory();
    let took = scene.open(0..flows, false)?;
    let bytes = memory().saturating_sub(before);
    let each = took.as_nanos() as f64 / flows as f64;
    Ok(Row::default()
        .count("services", plan.services.into())
        .count("flows", flows)
        .number("flows_s", 1e9 / each, 0)
        .number("ns_per_flow", each, 0)
        .number("bytes_per_flow", bytes as f64 / flows as f64, 0))
}

/// What was walked, and why it was not compiled.
fn slow(scene: &Scene, flows: u64) -> Vec<String> {
    let stats = scene.fast.stats();
    let mut out = vec![format!(
        "{flows} flows: {} frames walked, {} entries compiled, {} frames carried by them",
        stats.walks, stats.compiled, stats.hits
    )];
    for (why, n) in scene.fast.why_slow() {
        out.push(format!("{n:>10} walks not compiled: {why}"));
    }
    out
}
