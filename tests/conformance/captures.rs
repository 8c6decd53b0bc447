//! A capture: reads it, plays it through podpath, compares.

use super::compare::{Rules, compare};
use super::recordings::{Recording, Recordings};
use super::scenario::{load_frames, load_scenario, load_trace, rule_text};
use super::verdict::Verdict;
use super::{plan, seed, topo::Topo};

/// Judges one capture.
pub fn judge(r: &Recording<'_>, all: &Recordings) -> Verdict {
    attempt(r, all).unwrap_or_else(Verdict::cannot)
}

fn attempt(r: &Recording<'_>, all: &Recordings) -> Result<Verdict, String> {
    let scenario = load_scenario(r)?;
    let trace = load_trace(r)?;
    let frames = load_frames(r, &trace)?;
    let topo = Topo::new(&scenario, |ns| r.text(&format!("dumps/{ns}/ip-addr.txt")));
    let rules = |v: &serde_json::Value| rule_text(v, |name| all.shared(name));
    let mut plan = plan::make(&topo, &trace, &frames, &rules);
    let seeds = seed::infer(&topo, &frames);
    if trace.capture_drops > 0 {
        plan.lacks
            .push(format!("the recording lost {} frames", trace.capture_drops));
    }
    plan.notes.push(format!("seeds {seeds:?}"));
    let rules = Rules {
        arp: scenario.compare.arp.unwrap_or(r.source.own),
        payload: scenario.compare.payload.unwrap_or(!plan.node_http),
        fixed_ports: trace.fixed_ports.clone(),
    };
    let tally = compare(&plan.expected, &[], &rules);
    plan.lacks.push("needs the emulator".to_owned());
    Ok(Verdict {
        unit: "frames",
        tally,
        lacks: plan.lacks,
        notes: plan.notes,
        trace: Vec::new(),
    })
}
