//! What a probe would do under each answer of rules that are not understood, and with each real server that
//! may be next, as text and JSON.
//!
//! Says what is assumed, never which assumption is right. Invariant: every branch that was followed is
//! listed, and that there are more is said.

use crate::cluster::{Assumed, Assumption, Branch, Fork};
use serde_json::{Value, json};

/// One paragraph: what is not known, then a line for each branch.
pub fn text(f: &Fork) -> String {
    let all = f.branches.iter().flat_map(|b| &b.assumed);
    let of_rule = |a: &Assumption| matches!(a.what, Assumed::Rule { .. });
    let mut out = match all.clone().all(of_rule) {
        true => "rules that podpath does not understand decide here:\n".to_owned(),
        false => "what podpath cannot know decides here:\n".to_owned(),
    };
    let mut open: Vec<(String, String)> = Vec::new();
    for a in all {
        let row = (a.place.clone(), question(a));
        if !open.contains(&row) {
            open.push(row);
        }
    }
    for (n, (place, text)) in open.iter().enumerate() {
        out.push_str(&format!("  {}. {place}: {text}\n", n + 1));
    }
    let name = |b: &Branch| {
        let part = b.assumed.iter().map(|a| {
            let text = question(a);
            let n = open.iter().position(|(p, t)| *p == a.place && *t == text);
            let n = n.map_or(0, |n| n + 1);
            match &a.what {
                Assumed::Rule { matches: true, .. } => format!("rule {n} matches"),
                Assumed::Rule { .. } => format!("rule {n} does not match"),
                Assumed::Server { server, .. } => format!("{n}. is {server}"),
            }
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

/// What is not known.
fn question(a: &Assumption) -> String {
    match &a.what {
        Assumed::Rule { text, .. } => text.clone(),
        Assumed::Server {
            number, virt, of, ..
        } => {
            let which = match number {
                0 => String::new(),
                n => format!(", choice {}", n + 1),
            };
            format!("the dump does not say which of {of} real servers of {virt} is next{which}")
        }
    }
}

/// `{"cut": bool, "branches": [{"assumed": [...], "outcome", "delay_us"}]}`
pub fn json(f: &Fork) -> Value {
    let branch = |b: &Branch| {
        let assumed: Vec<Value> = b
            .assumed
            .iter()
            .map(|a| match &a.what {
                Assumed::Rule { text, matches, .. } => {
                    json!({ "namespace": a.place, "rule": text, "matches": matches })
                }
                Assumed::Server {
                    virt, server, of, ..
                } => json!({ "namespace": a.place, "virtual": virt, "server": server.to_string(), "of": of }),
            })
            .collect();
        json!({
            "assumed": assumed,
            "outcome": b.result.outcome.to_string(),
            "delay_us": b.result.delay.as_micros() as u64,
        })
    };
    json!({ "cut": f.cut, "branches": f.branches.iter().map(branch).collect::<Vec<_>>() })
}
