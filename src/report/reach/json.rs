//! JSON, version 1 (docs/json.md): groups with their ends, and a cell for each pair of groups.

use serde_json::{Map, Value, json};

use super::csv::because;
use super::words::{names, verdict};
use super::{Mark, Shown, diff};
use crate::kube::policy::Decision;
use crate::kube::policy::reach::{Group, PortCell, port_text};

/// The document.
pub fn json(shown: &Shown<'_>) -> Value {
    let reach = shown.reach;
    let groups: Vec<Value> = reach
        .groups
        .iter()
        .enumerate()
        .map(|(at, g)| group(at, g))
        .collect();
    let mut doc = Map::new();
    let mut put = |key: &str, value: Value| doc.insert(key.to_owned(), value);
    put("version", json!(1));
    put("title", json!(shown.title));
    put("family", json!(reach.family.name()));
    put(
        "by",
        json!(if shown.paths.is_some() {
            "path"
        } else {
            "policy"
        }),
    );
    put("change", json!(shown.is_change()));
    put(
        "ports",
        json!(if reach.declared { "declared" } else { "asked" }),
    );
    put("groups", json!(groups));
    let left = reach.left;
    put(
        "left",
        json!({"noAddress": left.no_address, "finished": left.finished, "outside": left.outside}),
    );
    let mut cells = Vec::new();
    for &from in &reach.rows {
        for &to in &reach.columns {
            cells.extend(cell(shown, from, to));
        }
    }
    put("cells", json!(cells));
    if shown.is_change() {
        let (all, asked) = diff::changes(shown);
        let sum = |of: fn(&diff::Change) -> u64| all.iter().map(of).sum::<u64>();
        let (opened, closed) = (sum(|c| c.change.0), sum(|c| c.change.1));
        put(
            "changes",
            json!({"pairs": asked, "opened": opened, "closed": closed}),
        );
    }
    if let Some(paths) = shown.paths {
        put("probes", json!(paths.probes));
        let differ = paths.differ.iter().map(|d| {
            let (_, to, port) = d.cell;
            let l4 = reach
                .groups
                .get(to)
                .and_then(|g| g.ports.get(port))
                .map(port_text);
            json!({"from": d.from, "to": d.to, "port": l4, "allowed": d.allowed,
                "outcome": d.outcome, "cause": d.cause, "hop": d.hop})
        });
        put("differ", json!(differ.collect::<Vec<_>>()));
    }
    Value::Object(doc)
}

fn group(at: usize, g: &Group) -> Value {
    let pods: Vec<String> = g.pods.iter().map(|m| m.name.to_string()).collect();
    let hosts: Vec<String> = g.host_pods.iter().map(ToString::to_string).collect();
    let ports: Vec<String> = g.ports.iter().map(port_text).collect();
    json!({
        "id": at + 1, "name": g.name, "kind": g.kind.to_string(), "namespace": g.namespace,
        "count": g.count, "pods": pods, "nodes": g.nodes, "ranges": g.ranges, "labels": g.labels,
        "hostNetworkPods": hosts, "ports": ports, "there": g.there,
        "sends": g.sends, "receives": g.receives,
    })
}

/// A cell; none where nothing was asked.
fn cell(shown: &Shown<'_>, from: usize, to: usize) -> Option<Value> {
    let ports = shown.reach.cell(from, to);
    let mark = shown.mark(from, to, &ports);
    if mark == Mark::Nothing {
        return None;
    }
    let ports: Vec<Value> = ports
        .iter()
        .enumerate()
        .map(|(at, port)| one_port(shown, (from, to, at), port))
        .collect();
    Some(json!({"from": from + 1, "to": to + 1, "verdict": word(mark), "ports": ports}))
}

fn word(mark: Mark) -> &'static str {
    match mark {
        Mark::Nothing => "none",
        Mark::Open => "open",
        Mark::Partly => "partly",
        Mark::Closed => "closed",
        Mark::Opened => "opened",
        Mark::Shut => "shut",
        Mark::Both => "both",
        Mark::Broken => "broken",
        Mark::Leak => "leak",
        Mark::Untried => "untried",
    }
}

fn one_port(shown: &Shown<'_>, cell: (usize, usize, usize), port: &PortCell) -> Value {
    let (from, to, at) = cell;
    let states = (0..shown.reach.states.len()).map(|state| {
        let decided: Vec<Value> = shown
            .reach
            .why(from, to, at, state)
            .iter()
            .map(decision)
            .collect();
        json!({"open": port.open.get(state), "verdict": verdict(port, state), "decided": decided})
    });
    let mut value = json!({
        "port": port_text(&port.l4), "pairs": port.pairs, "states": states.collect::<Vec<_>>(),
    });
    if let (Some(_), Some(object)) = (shown.paths, value.as_object_mut()) {
        let path = shown.path(from, to, at).map(|p| {
            json!({"probes": p.tried, "reached": p.reached, "differ": p.differ, "mtu": p.mtu,
                "why": because(shown, cell)})
        });
        object.insert("path".into(), path.unwrap_or(Value::Null));
    }
    value
}

fn decision(d: &Decision) -> Value {
    json!({
        "allowed": d.allowed,
        "egress": {"allowed": d.egress.allowed, "by": names(&d.egress)},
        "ingress": {"allowed": d.ingress.allowed, "by": names(&d.ingress)},
    })
}
