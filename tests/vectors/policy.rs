//! networkpolicy/: every row of a case, by the reference evaluator and by the compiled filter.
//!
//! A file is a case; `expected` rows are judged, and those of `derived` too. Contested cases are printed and do
//! not fail. Rows to `svc:` and `nodeport:` are resolved to their backends first
//! (`kube::policy::translate`): all backends have to agree.

use podpath::kube::controllers::{Facts, run};
use podpath::kube::manifest::Input;
use podpath::kube::policy::translate::ways;
use podpath::kube::policy::{
    Compiled, Direction, Evaluator, Inventory, L4, Options, Policies, Query, Side,
};
use podpath::kube::proxy::View;
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::{Name, Store};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

/// One case, loaded.
pub struct Case {
    /// Its policies.
    pub policies: Policies,
    /// Its pods and nodes.
    pub inventory: Inventory,
    views: [View; 2],
}

impl Case {
    /// Reads the manifests; an error among the findings is one here.
    pub fn new(case: &Value) -> Result<Case, String> {
        let mut items: Vec<Value> = case["manifests"].as_array().cloned().unwrap_or_default();
        let missing = nodes_of_their_own(&items);
        items.extend(missing);
        let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
        let (store, findings) = Store::load(&[Input::new("case.json", list.to_string())]);
        // npguard's test objects have names with underscores, which no API server takes.
        let name = |f: &podpath::base::Finding| f.message.starts_with("metadata.name:");
        if let Some(error) = findings.iter().find(|f| f.is_error() && !name(f)) {
            return Err(format!("does not load: {error}"));
        }
        let facts = Facts::of_store(&store, 1);
        let (policies, findings) = Policies::of(&store);
        if let Some(error) = findings.iter().find(|f| f.is_error()) {
            return Err(format!("policy refused: {error}"));
        }
        let inventory = Inventory::of(&store, &facts);
        let (desired, _) = run(&store, &facts, None);
        let views = Family::ALL.map(|family| desired.view(family));
        Ok(Case {
            policies,
            inventory,
            views,
        })
    }

    /// The address of a row's end.
    pub fn end(&self, text: &str, family: Family) -> Result<IpAddr, String> {
        let of = |ips: &[IpAddr]| {
            let ip = ips.iter().find(|ip| Family::of(**ip) == family);
            ip.copied().ok_or(format!("{text} has no address"))
        };
        let node = |name: &str| {
            let node = self.inventory.nodes().find(|(n, _)| *n == name);
            of(&node.ok_or(format!("no node {name}"))?.1.addresses)
        };
        if let Some(name) = text.strip_prefix("node:") {
            return node(name);
        }
        if let Some(rest) = text.strip_prefix("nodeport:") {
            return node(rest.split(':').next().unwrap_or_default());
        }
        if let Some((namespace, name)) = text.strip_prefix("svc:").and_then(|s| s.split_once('/')) {
            let view = &self.views[family as usize];
            let name = Name::new(namespace, name);
            let port = view.services.iter().find(|s| s.name.service == name);
            return Ok(port.ok_or(format!("no Service {name}"))?.cluster_ip);
        }
        if let Some((namespace, name)) = text.split_once('/') {
            let pod = self.inventory.pod(&Name::new(namespace, name));
            return of(&pod.ok_or(format!("no pod {text}"))?.addresses);
        }
        text.parse().map_err(|_| format!("{text} is no end"))
    }

    /// A row's verdict, by an evaluator of sides.
    pub fn verdict(
        &self,
        row: &Value,
        side: &dyn Fn(&Query<'_>, Direction) -> Side,
    ) -> Result<bool, String> {
        let family = if row["family"] == 6 {
            Family::V6
        } else {
            Family::V4
        };
        let text = |key: &str| row[key].as_str().unwrap_or_default();
        let literal = text("to").parse::<IpAddr>().or(text("from").parse());
        let family = literal.map_or(family, Family::of);
        let (from, to) = (
            self.end(text("from"), family)?,
            self.end(text("to"), family)?,
        );
        let protocol = match text("protocol") {
            "TCP" => Protocol::Tcp,
            "UDP" => Protocol::Udp,
            "SCTP" => Protocol::Sctp,
            other => return Err(format!("protocol {other}")),
        };
        let port = row["port"].as_u64().and_then(|p| u16::try_from(p).ok());
        let l4 = L4::Port(protocol, port.ok_or("no port")?);
        let ways = ways(&self.inventory, &self.views[family as usize], from, to, l4);
        let mut answers = ways.iter().map(|way| way.allowed(side));
        let first = answers.next().ok_or("no backend")?;
        if answers.any(|answer| answer != first) {
            return Err("backends disagree".into());
        }
        Ok(first)
    }
}

/// `nodeName` without a Node object names a node of its own; its address is the pods' hostIP.
fn nodes_of_their_own(items: &[Value]) -> Vec<Value> {
    let known: BTreeSet<&str> = items
        .iter()
        .filter(|o| o["kind"] == "Node")
        .filter_map(|o| o["metadata"]["name"].as_str())
        .collect();
    let mut missing: BTreeMap<&str, &Value> = BTreeMap::new();
    for pod in items.iter().filter(|o| o["kind"] == "Pod") {
        if let Some(name) = pod["spec"]["nodeName"]
            .as_str()
            .filter(|n| !known.contains(n))
        {
            missing.entry(name).or_insert(&pod["status"]["hostIP"]);
        }
    }
    let node = |(name, ip): (&str, &Value)| {
        serde_json::json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
            "status": {"addresses": [{"type": "InternalIP", "address": ip}]}})
    };
    missing.into_iter().map(node).collect()
}

/// A case's two parts.
pub fn case(case: &Value) -> Vec<(String, Result<(), String>)> {
    let loaded = match Case::new(case) {
        Ok(loaded) => loaded,
        Err(why) => return vec![("evaluator".into(), Err(why))],
    };
    let evaluator = Evaluator::new(&loaded.policies, &loaded.inventory);
    let compiled = Compiled::new(&loaded.policies, &loaded.inventory, Options::default());
    let by_evaluator = judge(case, &loaded, &|q, d| evaluator.side(q, d));
    let by_filter = judge(case, &loaded, &|q, d| compiled.side(q, d).to_side());
    vec![
        ("evaluator".into(), by_evaluator),
        ("filter".into(), by_filter),
    ]
}

fn judge(
    case: &Value,
    loaded: &Case,
    side: &dyn Fn(&Query<'_>, Direction) -> Side,
) -> Result<(), String> {
    let rows = |key: &str| case[key].as_array().into_iter().flatten();
    let (mut count, mut wrong) = (0, Vec::new());
    for row in rows("expected").chain(rows("derived")) {
        count += 1;
        match loaded.verdict(row, side) {
            Ok(answer) if row["allowed"] == answer => {}
            Ok(answer) => wrong.push(format!("{row}: found {answer}")),
            Err(why) => wrong.push(format!("{row}: {why}")),
        }
    }
    let contested = case["contested"] == true;
    let name = case["name"].as_str().unwrap_or_default();
    if contested {
        let as_there = count - wrong.len();
        crate::say(&format!(
            "contested, not judged: {name}: {as_there} of {count} rows as there"
        ));
        wrong
            .iter()
            .for_each(|line| crate::say(&format!("  {line}")));
    }
    if wrong.is_empty() || contested {
        return Ok(());
    }
    Err(format!(
        "{} of {count} rows\n{}",
        wrong.len(),
        wrong.join("\n")
    ))
}
