//! NetworkPolicy: every row of a case sent through the packet path, by real frames.

use crate::policy_world::{Came, PolicyWorld, Try};
use serde_json::{Value, json};

/// Judges a case: `ENFORCEMENT` is the Cluster document's.
pub fn judge(case: &Value, enforcement: &str) -> Result<(), String> {
    let manifests: Vec<Value> = case["manifests"].as_array().cloned().unwrap_or_default();
    let rows = case["expected"].as_array().into_iter().flatten();
    let rows: Vec<(Try, bool)> = rows.map(Try::read).collect::<Result<_, _>>()?;
    let tries: Vec<Try> = rows.iter().map(|r| r.0.clone()).collect();
    let services = manifests.iter().any(|m| m["kind"] == "Service");
    let spec = json!({
        "cni": {"plugin": "calico", "backend": "bgp"},
        "serviceCIDRs": ["10.96.0.0/12"],
        // The reading of the vectors where the real agent has another: pods may always talk to their own node.
        "networkPolicy": {"enforcement": enforcement, "ownNode": "open"},
        "proxy": {"mode": if services { "iptables" } else { "none" }},
    });
    let mut world = PolicyWorld::build(&manifests, &spec, &tries)?;
    let mut wrong = Vec::new();
    for (t, allowed) in &rows {
        let came = world.attempt(t)?;
        if (came == Came::Back) != *allowed {
            wrong.push(format!("{t:?}: expected {allowed}, found {came:?}"));
        }
    }
    let count = wrong.len();
    let first = wrong.first().cloned().unwrap_or_default();
    wrong.truncate(5);
    let said: Vec<String> = world.findings.iter().map(ToString::to_string).collect();
    let all = format!(
        "{count} rows of {}: {first}\n{}\n{}",
        rows.len(),
        wrong.join("\n"),
        said.join("\n")
    );
    (count == 0).then_some(()).ok_or(all)
}
