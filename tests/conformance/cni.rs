//! A CNI recording: the same replay and comparison as the test `cni` makes, on the recordings chosen here.
//!
//! Compared are, per plugin call, stdin, stdout and exit code, and per step the state: addresses, routes,
//! bridge ports, iptables-save and host-local's files. Counted are calls and steps; every difference found
//! takes one from the equal ones.

#[path = "../cni/compare.rs"]
mod compare;
#[allow(dead_code, reason = "the test `cni` finds its recordings itself")]
#[path = "../cni/load.rs"]
mod load;
#[path = "../cni/names.rs"]
mod names;
#[path = "../cni/replay.rs"]
mod replay;
#[path = "../cni/state.rs"]
mod state;

use super::compare::Tally;
use super::recordings::{Recording, Recordings};
use super::verdict::Verdict;

/// Judges one recording. A recording that the replay cannot read panics there; here that is a failure.
pub fn judge(r: &Recording<'_>, all: &Recordings) -> Verdict {
    let text = |path: &str| all.shared(path).and_then(|b| String::from_utf8(b).ok());
    let own = r
        .source
        .read(&format!("cni/results/{}.json", r.name))
        .and_then(|b| String::from_utf8(b).ok());
    let Some(own) = own else {
        return Verdict::cannot("not a UTF-8 file");
    };
    // Only `ipam_only` is read of it, so a folder with results alone is judged as well.
    let specs = text("cni/cases.json").unwrap_or_else(|| "[]".to_owned());
    let attempt = std::panic::AssertUnwindSafe(|| {
        let case = load::named(&r.name, &specs, &own);
        (case.steps.len(), replay::replay(&case))
    });
    let Ok((steps, report)) = std::panic::catch_unwind(attempt) else {
        return Verdict::cannot("the replay gave up (its reason is on standard error)");
    };
    let compared = report.calls + steps;
    let equal = compared.saturating_sub(report.differences.len());
    Verdict {
        tally: Tally {
            compared,
            equal,
            first: None,
        },
        unit: "calls and states",
        differences: report.differences,
        notes: report.notes,
        ..Verdict::default()
    }
}
