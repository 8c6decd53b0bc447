//! What a trace tells of netfilter.

use crate::bridge;
use crate::net::udp;
use podpath::path::TraceBuilder;
use podpath::report::trace::{Style, json, text};

const RULES: &str =
    "nat; :KUBE-SERVICES - [0:0]; :KUBE-SVC-X - [0:0]; :KUBE-SEP-A - [0:0]; :KUBE-SEP-B - [0:0]
    -A PREROUTING -j KUBE-SERVICES
    -A KUBE-SERVICES -d 10.96.0.7 -j KUBE-SEP-B
    -A KUBE-SERVICES -d 10.96.0.8 -j KUBE-SEP-B
    -A KUBE-SERVICES -d 10.96.0.1 -p udp -m udp --dport 80 -j KUBE-SVC-X
    -A KUBE-SVC-X -m statistic --mode random --probability 0.90000000000 -j KUBE-SEP-A
    -A KUBE-SVC-X -m statistic --mode random --probability 0.33333333349 -j KUBE-SEP-A
    -A KUBE-SVC-X -j KUBE-SEP-A
    -A KUBE-SEP-A -p udp -j DNAT --to-destination 10.244.1.3:9
    filter; :FORWARD DROP [0:0]; -A FORWARD -m conntrack --ctstate NEW -j ACCEPT";

fn traced() -> TraceBuilder {
    let mut n = bridge::node(RULES);
    let id = n.id("a");
    let mut t = TraceBuilder::default();
    let packet = udp(("10.244.1.2", 1000), ("10.96.0.1", 80), b"x");
    n.world.send(id, &packet, None, &mut t).1.unwrap();
    let soon = n.world.now() + core::time::Duration::from_millis(1);
    n.world.settle(soon, &mut t);
    t
}

#[test]
fn in_text() {
    let t = traced();
    let out = text(t.events(), Style::default());
    let plain = anstream::adapter::strip_str(&out).to_string();
    insta::assert_snapshot!(plain);
}

#[test]
fn in_json() {
    let t = traced();
    let all = json(t.events());
    let kinds = ["conntrack", "rule", "nat-setup", "nat"];
    let steps = all["events"].as_array().unwrap();
    let first = |k: &str| steps.iter().find(|e| e["step"] == k).cloned().unwrap();
    let shown: Vec<_> = kinds.iter().map(|k| first(k)).collect();
    insta::assert_snapshot!(serde_json::to_string_pretty(&shown).unwrap());
}
