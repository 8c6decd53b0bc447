//! A capture: reads it, plays it through podpath, compares.

use super::compare::{Difference, Rules, compare, kept};
use super::decode::decode;
use super::play::{self, Played};
use super::recordings::{Recording, Recordings};
use super::scenario::{load_frames, load_scenario, load_trace, rule_text};
use super::verdict::Verdict;
use super::{dumps, mld, plan, seed, topo::Topo};

/// Judges one capture.
pub fn judge(r: &Recording<'_>, all: &Recordings, verbose: bool) -> Verdict {
    attempt(r, all, verbose).unwrap_or_else(Verdict::cannot)
}

fn attempt(r: &Recording<'_>, all: &Recordings, verbose: bool) -> Result<Verdict, String> {
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
    if !seeds.neigh.is_empty() || !seeds.fdb.is_empty() {
        plan.notes.push(format!("known beforehand: {seeds:?}"));
    }
    let rules = Rules {
        arp: scenario.compare.arp.unwrap_or(r.source.own),
        payload: scenario.compare.payload.unwrap_or(!plan.node_http),
        fixed_ports: trace.fixed_ports.clone(),
    };
    let once = |plan: &_| play::play(&topo, plan, &seeds, &trace.conntrack_events, verbose);
    let mut played = once(&plan);
    let unheard = mld::unheard(r, &topo, &played.states);
    if !unheard.is_empty() {
        plan.notes
            .push(format!("counted, not captured: {unheard:?}"));
        plan.changes.extend(unheard);
        plan.changes.sort_by_key(|c| c.t_ns);
        played = once(&plan);
    }
    let state = dumps::compare(r, &topo, &played.states);
    let tally = compare(&plan.expected, &played.frames, &rules);
    let story = tally
        .first
        .as_ref()
        .map(|d| story(d, &played, &rules))
        .unwrap_or_default();
    plan.lacks.extend(played.lacks);
    plan.notes.extend(played.notes);
    Ok(Verdict {
        tally,
        unit: "frames",
        tables: state.counts,
        differences: state.differences,
        lacks: plan.lacks,
        notes: plan.notes,
        trace: story,
        ..Verdict::default()
    })
}

/// The way of the frame that differs; of a missing one, of the input last before the recorded time.
fn story(d: &Difference, played: &Played, rules: &Rules) -> Vec<String> {
    let mut at_interface = played
        .frames
        .iter()
        .zip(&played.roots)
        .filter(|(f, _)| f.interface == d.interface && kept(&decode(&f.data, 0, f.l3), rules));
    let own = d
        .emulated
        .as_ref()
        .and_then(|_| at_interface.nth(d.index))
        .map(|(_, root)| *root);
    let before = || {
        played
            .inputs
            .iter()
            .rev()
            .find(|(t, _)| *t <= d.t_ns)
            .map(|(_, id)| *id)
    };
    own.or_else(before)
        .and_then(|id| played.stories.get(&id))
        .cloned()
        .unwrap_or_default()
}
