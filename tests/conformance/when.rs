//! When the steps of a scenario happened, on the capture's clock.
//!
//! Times are nanoseconds from the first captured frame. A step with `at_ms` begins 150 ms plus that after
//! the run's beginning, as the recorder has it; the run's beginning is found from frames the steps
//! injected, which are stamped on both clocks. A change without `at_ms` happens just before the first frame
//! of the step after it.

use serde_json::Value;
use std::net::IpAddr;

use super::scenario::{Dir, Exec, Recorded, Scenario, Trace};

/// The recorder waits this long after its beginning before `at_ms` 0.
const LEAD_NS: i64 = 150_000_000;

/// When each step began.
pub fn step_times(s: &Scenario, trace: &Trace, frames: &[Recorded]) -> Vec<Option<u64>> {
    let begin = run_begin(s, trace, frames);
    let mut located: Vec<Option<u64>> = Vec::new();
    let (mut cursor, mut injected) = (0, 0);
    for step in &s.steps {
        let at = step
            .at_ms
            .map(|ms| u64::try_from(begin + LEAD_NS + ms as i64 * 1_000_000).unwrap_or(0));
        let seen = match (&step.inject, &step.exec) {
            (Some(_), _) => {
                let i = trace.injected.get(injected);
                injected += injection_size(step.inject.as_ref());
                i.and_then(|i| u64::try_from(begin + i.t_us as i64 * 1000).ok())
            }
            // A rule's addresses are not those its command sends to.
            (_, Some(e)) if !super::plan::is_firewall(&e.line()) => first_frame(e, frames, cursor),
            _ => None,
        };
        cursor = seen.map_or(cursor, |t| t + 1);
        located.push(at.or(seen));
    }
    // What has no time of its own happens just before the next thing that has.
    let mut next = None;
    for t in located.iter_mut().rev() {
        match t {
            Some(t) => next = Some(t.saturating_sub(1000)),
            None => *t = next,
        }
    }
    located
}

/// The run's beginning on the capture's clock: the recorder stamps an injected frame just after sending it.
fn run_begin(s: &Scenario, trace: &Trace, frames: &[Recorded]) -> i64 {
    let mut best = None;
    for i in &trace.injected {
        let same = |f: &&Recorded| {
            f.interface == i.interface && f.dir == Dir::Out && hex(&f.data) == i.hex
        };
        // Equal frames may be sent twice; then neither says which stamp is whose.
        let mut hits = frames.iter().filter(same);
        if let (Some(f), None) = (hits.next(), hits.next()) {
            let begin = f.t_ns as i64 - i.t_us as i64 * 1000;
            best = Some(best.map_or(begin, |b: i64| b.max(begin)));
        }
    }
    let first = s.steps.first().and_then(|x| x.at_ms).unwrap_or(0);
    best.unwrap_or(-(LEAD_NS + first as i64 * 1_000_000))
}

fn hex(b: &[u8]) -> String {
    b.iter().map(|x| format!("{x:02x}")).collect()
}

/// How many frames an `inject` sends; a fragmented one is not counted exactly, its step has `at_ms`.
fn injection_size(v: Option<&Value>) -> usize {
    v.and_then(|v| v.get("frames"))
        .and_then(Value::as_array)
        .map_or(0, Vec::len)
}

/// The first frame after `cursor` that a command on an endpoint sent to an address it names.
fn first_frame(e: &Exec, frames: &[Recorded], cursor: u64) -> Option<u64> {
    let line = e.line();
    let words = line.split(|c: char| c.is_whitespace() || matches!(c, '/' | '[' | ']' | '@' | ';'));
    let named: Vec<IpAddr> = words
        .filter_map(|w| {
            w.parse()
                .ok()
                .or_else(|| w.rsplit_once(':').and_then(|(h, _)| h.parse().ok()))
        })
        .collect();
    let prefix = format!("{}.", e.ns);
    let hit = |f: &&Recorded| {
        let to = super::decode::decode(&f.data, 0, f.l3)
            .get("ip")
            .and_then(|i| i["dst"].as_str()?.parse().ok());
        f.dir == Dir::Out
            && f.t_ns >= cursor
            && f.interface.starts_with(&prefix)
            && to.is_some_and(|t: IpAddr| named.contains(&t))
    };
    frames.iter().find(hit).map(|f| f.t_ns)
}
