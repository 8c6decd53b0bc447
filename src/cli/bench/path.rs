//! The scenarios of the packet path: established flows, next to the limit in the same minute, and new ones.
//!
//! Invariant: the limit and the scenario take turns, repetition by repetition, so that whatever slows the
//! machine slows both.

use super::clock::Timing;
use super::drive::Scene;
use super::figures::{Row, Section};
use super::limit::Limit;
use super::plan::{Plan, SPARE};
use super::plot::Point;
use super::ring::Ring;
use super::rules::Visits;
use super::tally::{Tally, Until};
use crate::base::Rng;
use crate::cli::bench::args::{BenchArgs, Scenario};
use indicatif::ProgressBar;
use std::time::Duration;

/// New flows whose rules are counted.
const COUNTED: u64 = 256;
/// Most bytes of a ring in a debug build, which measures nothing.
const DEBUG_RING: usize = 1 << 20;

/// Measures a scenario.
pub fn run(
    scenario: Scenario,
    a: &BenchArgs,
    bar: &ProgressBar,
    points: &mut Vec<Point>,
) -> anyhow::Result<Section> {
    let mut notes = Vec::new();
    let steps = u64::from(a.repetitions) + 3;
    let rows = rows(
        scenario,
        a,
        (bar, steps),
        points,
        |plan, flows| match scenario {
            Scenario::Connect => connect(plan, flows, a),
            _ => established(plan, flows, a, bar, &mut notes),
        },
    )?;
    let title = match scenario {
        Scenario::Connect => "first frames of flows",
        Scenario::Mix => "frames of 64, 594 and 1514 bytes (7:4:1), every tenth of a new flow",
        Scenario::Nodeport => "frames of hosts outside and answers to them, of random flows",
        _ => "frames of established flows, every frame of a random one",
    };
    Ok(Section {
        name: scenario.to_string(),
        title: title.to_owned(),
        rows,
        notes,
    })
}

/// A row, which takes so many steps of the bar, for each number of Services and of flows.
pub fn rows(
    scenario: Scenario,
    a: &BenchArgs,
    (bar, steps): (&ProgressBar, u64),
    points: &mut Vec<Point>,
    mut row: impl FnMut(Plan, u64) -> anyhow::Result<Row>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    bar.set_length((a.services.len() * a.flows.len()) as u64 * steps);
    for services in &a.services {
        for flows in &a.flows {
            bar.set_message(format!("{services} Services, {flows} flows"));
            let row = row(Plan::of(scenario, *services, *flows, a), *flows)?;
            points.push(Point::of(scenario, &row));
            rows.push(row);
        }
    }
    Ok(rows)
}

/// Bytes of the ring.
pub fn ring_bytes(a: &BenchArgs) -> usize {
    let bytes = (a.ring as usize) << 20;
    match cfg!(debug_assertions) {
        true => bytes.min(DEBUG_RING),
        false => bytes,
    }
}

/// A scene whose flows are open, and a ring of their frames, which was carried once.
pub struct Ready {
    /// The scene.
    pub scene: Scene,
    /// The ring.
    pub ring: Ring,
    /// CPU time of the flows' first frames.
    pub opened: Duration,
}

impl Ready {
    /// Makes them; `step` is called behind each of three steps.
    pub fn new(plan: Plan, flows: u64, a: &BenchArgs, step: impl Fn()) -> anyhow::Result<Ready> {
        let mut scene = Scene::new(plan, flows, 1)?;
        step();
        let opened = scene.open(0..flows, &mut |_| Ok(()))?;
        step();
        let mut ring = Ring::new(&mut scene, flows, ring_bytes(a))?;
        scene.repetition(&mut ring, Until::of(a))?;
        step();
        Ok(Ready {
            scene,
            ring,
            opened,
        })
    }
}

/// Rules that a Linux node evaluates for a new flow, on average, where the first `open` flows are open.
pub fn rules(scene: &mut Scene, open: u64) -> f64 {
    let mut visits = Visits::default();
    let closed = scene.plan().flows().saturating_sub(open + SPARE / 2);
    let counted = COUNTED.min(closed);
    let mut rng = Rng::new(9);
    for _ in 0..counted {
        let n = open + rng.below(closed);
        let (port, frame) = scene.frame(n, scene.plan().size);
        let world = &mut scene.cluster.lab.world;
        scene.fast.look(world, port, &frame, &mut visits);
    }
    visits.rules as f64 / counted as f64
}

fn established(
    plan: Plan,
    flows: u64,
    a: &BenchArgs,
    bar: &ProgressBar,
    notes: &mut Vec<String>,
) -> anyhow::Result<Row> {
    let (at_least, until) = (a.seconds, Until::of(a));
    let ready = Ready::new(plan, flows, a, || bar.inc(1))?;
    let (mut scene, mut ring) = (ready.scene, ready.ring);
    let mut limit = Limit::new(flows)?;
    limit.repetition(at_least);
    let (mut ours, mut bare, mut all) = (Vec::new(), Vec::new(), Tally::default());
    for _ in 0..a.repetitions {
        bare.push(limit.repetition(at_least));
        let tally = scene.repetition(&mut ring, until)?;
        ours.push(tally.each());
        all.add(&tally);
        bar.inc(1);
    }
    let checked = match a.verify {
        0 => 0,
        every => scene.verify(&mut ring, every)?,
    };
    if a.why_slow {
        notes.extend(slow(&scene, flows));
    }
    let bytes = scene.bytes();
    let rules = rules(&mut scene, flows);
    let (ours, bare) = (Timing::of(ours), Timing::of(bare));
    let len = all.bytes as f64 / all.sent as f64;
    Ok(Row::default()
        .count("services", plan.services.into())
        .count("flows", flows)
        .number("ns_per_packet", ours.least(), 1)
        .number("limit_ns", bare.least(), 1)
        .number("times_limit", ours.least() / bare.least(), 2)
        .number("mpps", 1e3 / ours.least(), 2)
        .number("hit_percent", all.hits as f64 * 100.0 / all.sent as f64, 2)
        .number("spread_percent", ours.spread() * 100.0, 0)
        .number(
            "first_packet_ns",
            ready.opened.as_nanos() as f64 / flows as f64,
            0,
        )
        .number("bytes_per_flow", bytes as f64 / flows as f64, 0)
        .number("rules_per_flow", rules, 1)
        .number("ns_median", ours.median(), 1)
        .wide()
        .number("gbit_s", len * 8.0 / ours.least(), 1)
        .wide()
        .count("sampled", all.sampled)
        .wide()
        .count("verified", checked)
        .wide()
        .count("entries", scene.fast.len() as u64)
        .wide())
}

fn connect(plan: Plan, flows: u64, a: &BenchArgs) -> anyhow::Result<Row> {
    let mut each = Vec::new();
    let (mut bytes, mut linear, mut sampled) = (0, f64::NAN, 0);
    for n in 0..a.repetitions {
        let mut scene = Scene::new(plan, flows, 1)?;
        let tally = scene.connect(0..flows)?;
        each.push(tally.each());
        sampled += tally.sampled;
        bytes = scene.bytes();
        if n == 0 {
            linear = rules(&mut scene, flows);
        }
    }
    let each = Timing::of(each);
    Ok(Row::default()
        .count("services", plan.services.into())
        .count("flows", flows)
        .number("flows_s", 1e9 / each.least(), 0)
        .number("ns_per_flow", each.least(), 0)
        .number("ns_median", each.median(), 0)
        .number("spread_percent", each.spread() * 100.0, 0)
        .number("bytes_per_flow", bytes as f64 / flows as f64, 0)
        .number("rules_per_flow", linear, 1)
        .count("sampled", sampled))
}

/// What was walked, and why it was not compiled.
pub fn slow(scene: &Scene, flows: u64) -> Vec<String> {
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
