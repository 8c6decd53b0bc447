//! What a probe would do under each answer of rules that are not understood, as text and JSON.
//!
//! Says what is assumed, never which assumption is right. Invariant: every branch that was followed is
//! listed, and that there are more is said.

use crate::cluster::{Branch, Fork};
use serde_json::{Value, json};

/// One paragraph: the rules, then a line for each branch.
pub fn text(f: &Fork) -> String {
    let mut out = String::from("rules that podpath does not understand decide here:\n");
    let mut rules: Vec<(String, String)> = Vec::new();
    for a in f.branches.iter().flat_map(|b| &b.assumed) {
        let row = (a.place.clone(), a.text.clone());
        if !rules.contains(&row) {
            rules.push(row);
        }
    }
    for (n, (place, text)) in rules.iter().enumerate() {
        out.push_str(&format!("  {}. {place}: {text}\n", n + 1));
    }
    let name = |b: &Branch| {
        let part = b.assumed.iter().map(|a| {
            let n = rules
                .iter()
                .position(|(p, t)| *p == a.place && *t == a.text);
            let verb = if a.matches {
                "matches"
            } else {
                "does not match"
            };
            format!("rule {} {verb}", n.map_or(0, |n| n + 1))
        });
        part.collect::<Vec<_>>().join(", ")
    };
    let width = f.branches.iter().map(|b| name(b).len()).max().unwrap_or(0);
    for b in &f.branches {
        out.push_str(&format!(
            "  if {:<width$}  {} after {}\n",
            name(b),
            b.result.outcome,
            super::time(b.result.delay)
        ));
    }
    if f.cut {
        out.push_str("  and more branches, which were not followed\n");
    }
    out
}

/// `{"cut": bool, "branches": [{"assumed": [...], "outcome", "delay_us"}]}`
pub fn json(f: &Fork) -> Value {
    let branch = |b: &Branch| {
        let assumed: Vec<Value> = b
            .assumed
            .iter()
            .map(|a| json!({ "namespace": a.place, "rule": a.text, "matches": a.matches }))
            .collect();
        json!({
            "assumed": assumed,
            "outcome": b.result.outcome.to_string(),
            "delay_us": b.result.delay.as_micros() as u64,
        })
    };
    json!({ "cut": f.cut, "branches": f.branches.iter().map(branch).collect::<Vec<_>>() })
}
