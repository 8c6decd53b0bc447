//! `podpath bench churn`: endpoints come and go while traffic runs.
//!
//! Every change goes the cluster's own way: a pod's readiness, the controllers, kube-proxy's sync, its rules
//! on the node, stale connections; then frames go on, and servers answer what was walked, as they do.
//! Invariant: a sampled frame is as its walk leaves it now, whatever the endpoints were before.

use super::args::BenchArgs;
use super::clock::{Timing, cpu};
use super::drive::Scene;
use super::figures::{Row, Section};
use super::path::{Ready, rows, slow};
use super::plan::{Plan, SERVERS};
use super::plot::Point;
use super::ring::Ring;
use super::scene;
use super::tally::{CARRIED, Tally, Until, of_batch};
use crate::base::Span;
use crate::cli::bench::args::Scenario;
use crate::fast::{BATCH, Batch};
use anyhow::{bail, ensure};
use indicatif::ProgressBar;
use std::time::Duration;

/// Part of the hits of a batch from which on it is as if nothing had changed.
const RECOVERED: f64 = 0.99;

/// Measures it.
pub fn run(a: &BenchArgs, bar: &ProgressBar, points: &mut Vec<Point>) -> anyhow::Result<Section> {
    let mut notes = Vec::new();
    let steps = (bar, u64::from(a.repetitions));
    let rows = rows(Scenario::Churn, a, steps, points, |plan, flows| {
        row(plan, flows, a, bar, &mut notes)
    })?;
    notes.extend([
        "each repetition begins with a change: one server is not ready any more, another is again"
            .into(),
        "change: controllers, kube-proxy and its rules, no part of ns/packet".into(),
        "recover: from then on, until 99 of 100 frames are carried by entries".into(),
    ]);
    Ok(Section {
        name: Scenario::Churn.to_string(),
        title: "frames of established flows while endpoints come and go".into(),
        rows,
        notes,
    })
}

fn row(
    plan: Plan,
    flows: u64,
    a: &BenchArgs,
    bar: &ProgressBar,
    notes: &mut Vec<String>,
) -> anyhow::Result<Row> {
    let until = Until::of(a);
    let ready = Ready::new(plan, flows, a, || ())?;
    let (mut scene, mut ring) = (ready.scene, ready.ring);
    let (mut ours, mut changes, mut recovered) = (Vec::new(), Vec::new(), Vec::new());
    let mut all = Tally::default();
    for n in 0..a.repetitions {
        changes.push(millis(change(&mut scene, n)?));
        let (mut tally, mut since) = (Tally::default(), None);
        while let Some(frames) = until.next(&tally) {
            let now = carry(&mut scene, &mut ring, frames)?;
            tally.add(&now);
            if now.hits as f64 >= now.sent as f64 * RECOVERED {
                since = since.or(Some(tally.took - now.took));
            }
        }
        // Not within this repetition: at least as long as it took.
        recovered.push(millis(since.unwrap_or(tally.took)));
        ours.push(tally.each());
        all.add(&tally);
        bar.inc(1);
    }
    if a.why_slow {
        notes.extend(slow(&scene, flows));
    }
    let (ours, changes) = (Timing::of(ours), Timing::of(changes));
    let bytes = all.bytes as f64 / all.sent as f64;
    Ok(Row::default()
        .count("services", plan.services.into())
        .count("flows", flows)
        .count("changes", a.repetitions.into())
        .number("mpps", 1e3 / ours.median(), 2)
        .number("ns_per_packet", ours.median(), 1)
        .number("spread_percent", ours.spread() * 100.0, 0)
        .number("hit_percent", all.hits as f64 * 100.0 / all.sent as f64, 2)
        .number("change_ms", changes.median(), 2)
        .number("recover_ms", Timing::of(recovered).median(), 2)
        .number("bytes_per_flow", scene.bytes() as f64 / flows as f64, 0)
        .number("gbit_s", bytes * 8.0 / ours.median(), 1)
        .wide()
        .count("sampled", all.sampled)
        .wide())
}

fn millis(d: Duration) -> f64 {
    d.as_secs_f64() * 1e3
}

/// A server is not ready any more, the one before it is again; gives what the cluster took for it.
pub fn change(scene: &mut Scene, n: u32) -> anyhow::Result<Duration> {
    let plan = *scene.plan();
    // Neighbours by number are in different groups: no Service loses both.
    let (goes, comes) = (n % SERVERS, (n + SERVERS - 1) % SERVERS);
    let world = &mut scene.cluster.lab.world;
    scene.fast.sync(world);
    let began = cpu();
    let mut findings = Vec::new();
    for (server, ready) in [(comes, true), (goes, false)] {
        let pod = scene::server(&plan, server, ready);
        let place = Span::default();
        findings.extend(scene.cluster.store.apply(&pod, &place));
    }
    findings.extend(scene.cluster.objects_changed());
    let mut took = cpu().saturating_sub(began);
    // kube-proxy waits its minSyncPeriod.
    let due = scene.cluster.next_sync();
    let due = due.map_or(Duration::ZERO, |t| t.since(scene.cluster.lab.now()));
    scene.pass(due);
    let began = cpu();
    findings.extend(scene.cluster.advance_proxies());
    took += cpu().saturating_sub(began);
    if let Some(f) = findings.iter().find(|f| f.is_error()) {
        bail!("the cluster refused the change: {f}");
    }
    Ok(took)
}

/// Sends frames of the ring; what was walked is answered, so that new connections become known ones.
pub fn carry(scene: &mut Scene, ring: &mut Ring, frames: u64) -> anyhow::Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..(frames.min(CARRIED) as usize).div_ceil(BATCH) {
        let at = ring.position();
        let (mut batch, mut out) = (Batch::new(), Vec::new());
        let (slots, expected) = ring.batch(at);
        for s in slots {
            batch.push(s.port, ring.frames().get(s));
        }
        let began = cpu();
        let world = &mut scene.cluster.lab.world;
        scene.fast.run(world, &mut batch, &mut out);
        let mut took = cpu().saturating_sub(began);
        let now = of_batch(&batch, &out);
        ensure!(
            now.arrived == u64::from(expected.frames),
            "{} of {} frames of a batch arrived after a change",
            now.arrived,
            expected.frames
        );
        tally.add(&now);
        if let Some(sample) = &expected.sample
            && sample.check(&scene.fast, &batch, &out).is_err()
        {
            // Its endpoint may be another one now: what does a walk say?
            let s = &slots[sample.at];
            let fresh = scene.sample(sample.at, s.port, ring.frames().get(s))?;
            fresh.check(&scene.fast, &batch, &out)?;
        }
        tally.sampled += u64::from(expected.sample.is_some());
        if now.hits < now.sent {
            let walked: Vec<_> = out.iter().map(|(to, f)| (*to, f.data().to_vec())).collect();
            let mut answers = Vec::new();
            for (to, f) in &walked {
                answers.extend(scene.answer(*to, f)?);
            }
            let began = cpu();
            let (back, _) = scene.send(&answers);
            took += cpu().saturating_sub(began);
            tally.sent += back.sent;
            tally.arrived += back.arrived;
            tally.hits += back.hits;
            tally.bytes += answers.iter().map(|(_, f)| f.len() as u64).sum::<u64>();
        }
        tally.took += took;
        let next = (at + BATCH) % ring.len();
        drop(batch);
        ring.set_position(next);
    }
    scene.pass(Duration::from_micros(100));
    Ok(tally)
}
