//! networkpolicy/: every row of a case through the packet path, by real frames, under each agent.
//!
//! A part for each enforcement: `path-calico`, `path-kube-router`, `path-nftables`. Where an agent does not
//! implement a kind of policy its part is not there; where it reads the API in another way than the vectors,
//! the case is in [`DEVIATES`] and has to differ. Contested cases are printed and do not fail. Without `--all`
//! a sample is run: a debug build takes half a minute for each agent's 59,211 rows.

use crate::Part;
use crate::policy_world::{Came, PolicyWorld, Try};
use serde_json::{Value, json};

/// The agents, and whether they implement policies beyond NetworkPolicy.
const AGENTS: [(&str, bool); 3] = [("calico", true), ("kube-router", false), ("nftables", true)];

/// Kinds of policies beyond NetworkPolicy.
const TIERS: [&str; 3] = [
    "AdminNetworkPolicy",
    "BaselineAdminNetworkPolicy",
    "ClusterNetworkPolicy",
];

/// Where an agent really behaves in another way than the vectors say, and why.
const DEVIATES: &[(&str, &str, &str)] = &[
    (
        "kube-router",
        "cyclonus-003-set-pod-selector-to-matchlabels-matchexpression-null",
        BOTH_WAYS,
    ),
    (
        "kube-router",
        "cyclonus-005-set-pod-selector-to-matchlabels-matchexpression-key-pod-operator-in-va",
        BOTH_WAYS,
    ),
    (
        "kube-router",
        "cyclonus-076-ingress-2-peer-simple-ipblock-ipblock-with-except",
        ONE_SET,
    ),
    (
        "kube-router",
        "cyclonus-121-egress-2-peer-simple-ipblock-ipblock-with-except",
        ONE_SET,
    ),
    (
        "nftables",
        "corner-nodeport-etp-cluster-source-is-node-ip",
        "every node judges both sides: the entry node sees the client, not yet the node",
    ),
];
const BOTH_WAYS: &str =
    "a policy of both types has one chain for both directions: egress rules open ingress too";
const ONE_SET: &str = "the ipBlocks of a rule share one set: an except of one cuts out of another";

/// One case in this many is in the sample.
const SAMPLE: usize = 8;

/// The parts of a case that are wanted.
pub fn parts(case: &str, value: &Value, wanted: &dyn Fn(&str) -> bool) -> Vec<Part> {
    let manifests = value["manifests"].as_array();
    let tiers = manifests
        .into_iter()
        .flatten()
        .any(|m| TIERS.iter().any(|k| m["kind"] == *k));
    let mut out = Vec::new();
    for (agent, all_kinds) in AGENTS {
        let name = format!("{case}/path-{agent}");
        if (tiers && !all_kinds) || !wanted(&name) {
            continue;
        }
        let outcome = judged(value, agent, case);
        out.push(Part { name, outcome });
    }
    out
}

/// Whether a part that passed is written into passing.txt: of those here only a sample.
pub fn may_be_pinned(name: &str) -> bool {
    let Some((case, _)) = name.split_once("/path-") else {
        return true;
    };
    let sum: usize = case.bytes().map(usize::from).sum();
    sum.is_multiple_of(SAMPLE) || case.starts_with("networkpolicy/corner-")
}

fn judged(value: &Value, agent: &str, case: &str) -> Result<(), String> {
    let outcome = judge(value, agent);
    let stem = case.rsplit('/').next().unwrap_or_default();
    let known = DEVIATES.iter().find(|(a, c, _)| (*a, *c) == (agent, stem));
    match (known, outcome) {
        (Some((_, _, why)), Ok(())) => Err(format!("no longer differs: {why}")),
        (Some((_, _, why)), Err(text)) if text.contains(" rows of ") => {
            let first = text.lines().next().unwrap_or_default();
            crate::say(&format!("{agent} differs, {stem}: {why}; {first}"));
            Ok(())
        }
        (None, Err(text)) if value["contested"] == true => {
            crate::say(&format!("contested, {stem} under {agent}: {text}"));
            Ok(())
        }
        (_, outcome) => outcome,
    }
}

/// Sends every row.
fn judge(case: &Value, enforcement: &str) -> Result<(), String> {
    let manifests: Vec<Value> = case["manifests"].as_array().cloned().unwrap_or_default();
    let rows = ["expected", "derived"].map(|k| case[k].as_array().cloned().unwrap_or_default());
    let rows = rows.concat();
    let rows: Vec<(Try, bool)> = rows.iter().map(Try::read).collect::<Result<_, _>>()?;
    let tries: Vec<Try> = rows.iter().map(|r| r.0.clone()).collect();
    let services = manifests.iter().any(|m| m["kind"] == "Service");
    let spec = json!({
        "cni": {"plugin": "calico", "backend": "bgp"},
        "serviceCIDRs": ["10.96.0.0/12"],
        // The reading of the vectors where real agents have another: pods may always talk to their own node.
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
    if wrong.is_empty() {
        return Ok(());
    }
    let head = format!("{} rows of {}", wrong.len(), rows.len());
    wrong.truncate(5);
    let said = world.findings.iter().filter(|f| f.is_error());
    wrong.extend(said.map(ToString::to_string));
    Err(format!("{head}: {}", wrong.join("\n")))
}
