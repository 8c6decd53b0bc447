//! Random clusters and policies: few labels, namespaces and addresses, so that everything meets everything.
//!
//! Objects are JSON as the API would hold them, valid by construction.

use podpath::base::Rng;
use serde_json::{Value, json};

/// A choice.
pub fn pick<'a, T: ?Sized>(rng: &mut Rng, list: &[&'a T]) -> &'a T {
    list[rng.below(list.len() as u64) as usize]
}

/// One time in `n`.
pub fn one_in(rng: &mut Rng, n: u64) -> bool {
    rng.below(n) == 0
}

const KEYS: &[&str] = &["app", "tier", "x"];
const VALUES: &[&str] = &["a", "b", ""];
const NAMESPACES: &[&str] = &["red", "blue", "green"];
const PORT_NAMES: &[&str] = &["web", "dns", "gone"];
const PROTOCOLS: &[&str] = &["TCP", "UDP", "SCTP"];
/// Ports that are asked about.
pub const PORTS: &[u16] = &[53, 80, 81, 8080];
/// Addresses outside that are asked about.
pub const OUTSIDE: &[&str] = &["203.0.113.7", "10.244.1.200", "2001:db8::7"];
const CIDRS: &[(&str, &[&str])] = &[
    (
        "0.0.0.0/0",
        &["10.244.0.0/16", "203.0.113.0/25", "10.244.1.0/29"],
    ),
    ("::/0", &["fd00::/16", "2001:db8::/32"]),
    ("10.244.1.0/24", &["10.244.1.0/29", "10.244.1.2/32"]),
    ("10.244.0.0/16", &["10.244.2.0/24"]),
    ("203.0.113.0/24", &["203.0.113.7/32"]),
    ("172.18.0.0/24", &["172.18.0.2/32"]),
    ("fd00::/8", &["fd00:1::/32"]),
];

fn labels(rng: &mut Rng) -> Value {
    let mut map = serde_json::Map::new();
    for key in KEYS {
        if !one_in(rng, 3) {
            map.insert((*key).into(), json!(pick(rng, VALUES)));
        }
    }
    Value::Object(map)
}

/// A label selector, also one that selects everything.
pub fn selector(rng: &mut Rng) -> Value {
    match rng.below(5) {
        0 => json!({}),
        1 | 2 => json!({"matchLabels": {pick(rng, KEYS): pick(rng, VALUES)}}),
        _ => {
            let operator = pick(rng, &["In", "NotIn", "Exists", "DoesNotExist"]);
            let mut e = json!({"key": pick(rng, KEYS), "operator": operator});
            if operator.ends_with("In") {
                e["values"] = json!([pick(rng, VALUES), pick(rng, VALUES)]);
            }
            json!({"matchExpressions": [e]})
        }
    }
}

fn namespace_selector(rng: &mut Rng) -> Value {
    match one_in(rng, 3) {
        true => json!({"matchLabels": {"kubernetes.io/metadata.name": pick(rng, NAMESPACES)}}),
        false => selector(rng),
    }
}

/// A namespace; its labels are drawn.
pub fn namespace(rng: &mut Rng, name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels(rng)}})
}

fn node(rng: &mut Rng, n: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": format!("node-{n}"), "labels": labels(rng)},
        "status": {"addresses": [
            {"type": "InternalIP", "address": format!("172.18.0.{}", n + 1)},
            {"type": "InternalIP", "address": format!("fd01::{}", n + 1)}]}})
}

/// Pod number `n`: its namespace and node follow from that, its labels, ports and state are drawn.
pub fn pod(rng: &mut Rng, n: usize) -> Value {
    let (node, namespace) = (n % 3 + 1, NAMESPACES[n / 2 % 3]);
    let host = n == 11;
    let ips = match host {
        true => json!([{"ip": format!("172.18.0.{}", node + 1)}]),
        false => json!([{"ip": format!("10.244.{node}.{n}")}, {"ip": format!("fd00:{node}::{n}")}]),
    };
    let port = |rng: &mut Rng| {
        json!({"name": pick(rng, &PORT_NAMES[..2]), "containerPort": PORTS[rng.below(4) as usize],
        "protocol": pick(rng, PROTOCOLS)})
    };
    let ports: Vec<Value> = (0..rng.below(3)).map(|_| port(rng)).collect();
    let phase = if one_in(rng, 12) {
        "Succeeded"
    } else {
        "Running"
    };
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": format!("p{n}"), "namespace": namespace, "labels": labels(rng)},
        "spec": {"nodeName": format!("node-{node}"), "hostNetwork": host,
            "containers": [{"name": "c", "image": "i", "ports": ports}]},
        "status": {"phase": phase, "hostIP": format!("172.18.0.{}", node + 1),
            "podIP": ips[0]["ip"], "podIPs": ips}})
}

/// Pods of a cluster.
pub const PODS: usize = 12;

/// Namespaces, nodes and pods.
pub fn cluster(rng: &mut Rng) -> Vec<Value> {
    let mut objects: Vec<Value> = NAMESPACES[..2]
        .iter()
        .map(|name| namespace(rng, name))
        .collect();
    objects.extend((1..=3).map(|n| node(rng, n)));
    objects.extend((0..PODS).map(|n| pod(rng, n)));
    objects
}

fn block(rng: &mut Rng) -> Value {
    let (cidr, cuts) = CIDRS[rng.below(CIDRS.len() as u64) as usize];
    match one_in(rng, 2) {
        true => json!({"cidr": cidr}),
        false => json!({"cidr": cidr, "except": [pick(rng, cuts)]}),
    }
}

fn np_peer(rng: &mut Rng) -> Value {
    match rng.below(4) {
        0 => json!({"ipBlock": block(rng)}),
        1 => json!({"podSelector": selector(rng)}),
        2 => json!({"namespaceSelector": namespace_selector(rng)}),
        _ => json!({"namespaceSelector": namespace_selector(rng), "podSelector": selector(rng)}),
    }
}

fn np_port(rng: &mut Rng) -> Value {
    match rng.below(5) {
        0 => json!({}),
        1 => json!({"protocol": pick(rng, PROTOCOLS)}),
        2 => json!({"protocol": pick(rng, PROTOCOLS), "port": pick(rng, PORT_NAMES)}),
        3 => json!({"protocol": pick(rng, PROTOCOLS), "port": 53, "endPort": 80 + rng.below(2)}),
        _ => json!({"port": PORTS[rng.below(4) as usize]}),
    }
}

fn np_rule(rng: &mut Rng, peers: &str) -> Value {
    let mut rule = json!({});
    if !one_in(rng, 4) {
        rule[peers] = (0..=rng.below(2)).map(|_| np_peer(rng)).collect();
    }
    if one_in(rng, 2) {
        rule["ports"] = (0..=rng.below(2)).map(|_| np_port(rng)).collect();
    }
    rule
}

/// NetworkPolicy number `n`.
pub fn network_policy(rng: &mut Rng, n: usize) -> Value {
    let mut spec = json!({"podSelector": selector(rng)});
    for (list, peers) in [("ingress", "from"), ("egress", "to")] {
        if !one_in(rng, 3) {
            spec[list] = (0..rng.below(3)).map(|_| np_rule(rng, peers)).collect();
        }
    }
    match rng.below(4) {
        0 => spec["policyTypes"] = json!(["Ingress"]),
        1 => spec["policyTypes"] = json!(["Egress"]),
        2 => spec["policyTypes"] = json!(["Ingress", "Egress"]),
        _ => {}
    }
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": format!("np{n}"), "namespace": pick(rng, NAMESPACES)}, "spec": spec})
}

fn subject(rng: &mut Rng) -> Value {
    match one_in(rng, 2) {
        true => json!({"namespaces": namespace_selector(rng)}),
        false => {
            json!({"pods": {"namespaceSelector": namespace_selector(rng), "podSelector": selector(rng)}})
        }
    }
}

fn tier_peer(rng: &mut Rng, old: bool, egress: bool) -> Value {
    let same =
        |rng: &mut Rng| json!({pick(rng, &["sameLabels", "notSameLabels"]): [pick(rng, KEYS)]});
    match rng.below(if egress { 6 } else { 4 }) {
        0 if old => json!({"namespaces": same(rng)}),
        1 if old => json!({"pods": {"namespaces": same(rng), "podSelector": selector(rng)}}),
        2 if old => json!({"namespaces": {"namespaceSelector": namespace_selector(rng)}}),
        0 | 2 => json!({"namespaces": namespace_selector(rng)}),
        4 => json!({"nodes": selector(rng)}),
        5 => json!({"networks": [CIDRS[rng.below(CIDRS.len() as u64) as usize].0]}),
        3 if one_in(rng, 8) => json!({"ofTomorrow": {}}),
        _ => {
            json!({"pods": {"namespaceSelector": namespace_selector(rng), "podSelector": selector(rng)}})
        }
    }
}

fn anp_port(rng: &mut Rng) -> Value {
    match rng.below(3) {
        0 => json!({"namedPort": pick(rng, PORT_NAMES)}),
        1 => json!({"portRange": {"protocol": pick(rng, PROTOCOLS), "start": 53, "end": 80}}),
        _ => {
            json!({"portNumber": {"protocol": pick(rng, PROTOCOLS), "port": PORTS[rng.below(4) as usize]}})
        }
    }
}

fn cnp_port(rng: &mut Rng, named: bool) -> Value {
    let protocol = pick(rng, &["tcp", "udp", "sctp"]);
    match rng.below(3) {
        0 if named => json!({"destinationNamedPort": pick(rng, PORT_NAMES)}),
        1 => json!({protocol: {"destinationPort": {"range": {"start": 53, "end": 80}}}}),
        _ => json!({protocol: {"destinationPort": {"number": PORTS[rng.below(4) as usize]}}}),
    }
}

fn tier_rule(rng: &mut Rng, old: bool, baseline: bool, egress: bool) -> Value {
    let accept = if old { "Allow" } else { "Accept" };
    let last = if baseline && old { "Deny" } else { "Pass" };
    let peers: Vec<Value> = (0..=rng.below(2))
        .map(|_| tier_peer(rng, old, egress))
        .collect();
    let outside = |p: &Value| p.get("networks").is_some() || p.get("nodes").is_some();
    let named = !peers.iter().any(outside);
    let mut rule = json!({"action": pick(rng, &[accept, "Deny", last])});
    rule[if egress { "to" } else { "from" }] = json!(peers);
    if one_in(rng, 2) {
        let (field, port): (_, Vec<Value>) = match old {
            true => ("ports", (0..=rng.below(2)).map(|_| anp_port(rng)).collect()),
            false => (
                "protocols",
                (0..=rng.below(2)).map(|_| cnp_port(rng, named)).collect(),
            ),
        };
        rule[field] = json!(port);
    }
    rule
}

fn tier_rules(rng: &mut Rng, spec: &mut Value, old: bool, baseline: bool) {
    for (list, egress) in [("ingress", false), ("egress", true)] {
        spec[list] = (0..rng.below(4))
            .map(|_| tier_rule(rng, old, baseline, egress))
            .collect();
    }
}

/// A ClusterNetworkPolicy, AdminNetworkPolicy or BaselineAdminNetworkPolicy, number `n`.
pub fn tier_policy(rng: &mut Rng, n: usize) -> Value {
    let mut spec = json!({"subject": subject(rng)});
    let group = "policy.networking.k8s.io";
    match rng.below(5) {
        0 | 1 => {
            let tier = pick(rng, &["Admin", "Baseline"]);
            spec["tier"] = json!(tier);
            spec["priority"] = json!(rng.below(4));
            tier_rules(rng, &mut spec, false, tier == "Baseline");
            json!({"apiVersion": format!("{group}/v1alpha2"), "kind": "ClusterNetworkPolicy",
                "metadata": {"name": format!("cnp{n}")}, "spec": spec})
        }
        2 | 3 => {
            spec["priority"] = json!(rng.below(4));
            tier_rules(rng, &mut spec, true, false);
            json!({"apiVersion": format!("{group}/v1alpha1"), "kind": "AdminNetworkPolicy",
                "metadata": {"name": format!("anp{n}")}, "spec": spec})
        }
        _ => {
            tier_rules(rng, &mut spec, true, true);
            json!({"apiVersion": format!("{group}/v1alpha1"), "kind": "BaselineAdminNetworkPolicy",
                "metadata": {"name": "default"}, "spec": spec})
        }
    }
}

/// Policies of all kinds, each name once.
pub fn policies(rng: &mut Rng) -> Vec<Value> {
    let mut out: Vec<Value> = (0..rng.below(6) as usize)
        .map(|n| network_policy(rng, n))
        .collect();
    if one_in(rng, 2) {
        out.extend((0..=rng.below(4) as usize).map(|n| tier_policy(rng, n)));
    }
    let mut baseline = false;
    out.retain(|p| p["metadata"]["name"] != "default" || !std::mem::replace(&mut baseline, true));
    out
}

/// One change: a pod, namespace or policy is drawn anew, comes or goes. What it was, and whether it is gone;
/// null where nothing changed.
pub fn change(rng: &mut Rng, objects: &mut Vec<Value>, n: usize) -> (Value, bool) {
    let is = |o: &Value, kind: &str| o["kind"].as_str().is_some_and(|k| k.ends_with(kind));
    let same = |a: &Value, b: &Value| {
        let id = |o: &Value| (o["kind"].clone(), o["metadata"]["name"].clone());
        id(a) == id(b)
    };
    let fresh = match rng.below(6) {
        0..=2 => {
            let n = rng.below(PODS as u64 - 1) as usize;
            pod(rng, n)
        }
        3 => {
            let name = ["red", "blue"][rng.below(2) as usize];
            namespace(rng, name)
        }
        4 => network_policy(rng, n % 6),
        _ => tier_policy(rng, n % 4),
    };
    // A policy of the same name elsewhere goes: one change at a time touches one key.
    let gone = one_in(rng, 4) && !is(&fresh, "Namespace")
        || objects.iter().any(|o| {
            is(o, "NetworkPolicy")
                && same(o, &fresh)
                && o["metadata"]["namespace"] != fresh["metadata"]["namespace"]
        });
    let old = objects.iter().position(|o| same(o, &fresh));
    if gone {
        let Some(at) = old else {
            return (Value::Null, true);
        };
        return (objects.remove(at), true);
    }
    match old {
        Some(at) => objects[at] = fresh.clone(),
        None => objects.push(fresh.clone()),
    }
    (fresh, false)
}
