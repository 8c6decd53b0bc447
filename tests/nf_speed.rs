//! A node's rules of 10,000 Services: loaded within a second, a packet through them in microseconds.
//!
//! In release 80,000 rules and the bounds; in debug a few hundred Services, where the times mean
//! nothing and only the answers count. Prints both ways of evaluation and their ratio.

#[path = "common/nf.rs"]
mod nf;

use nf::{World, tcp};
use podpath::kube::manifest::Input;
use podpath::kube::proxy::{iptables, render};
use podpath::kube::service::Family as KubeFamily;
use podpath::kube::store::Store;
use podpath::nf::eval::Verdict;
use podpath::nf::{Backend, Family, Hook, RuleSet, TableName};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn service(i: usize) -> [Value; 2] {
    let name = format!("web-{i}");
    let ip = |net: u8, n: usize| format!("10.{net}.{}.{}", n / 250, n % 250 + 1);
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}]);
    // Two endpoints or three: 8.5 rules for a Service.
    let ready = json!({"ready": true});
    let endpoint = |n: usize| json!({"addresses": [ip(128 + (n / 60_000) as u8, n % 60_000)], "conditions": ready});
    let endpoints: Vec<Value> = (0..2 + i % 2).map(|n| endpoint(3 * i + n)).collect();
    [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
            "spec": {"clusterIP": ip(96, i), "clusterIPs": [ip(96, i)], "ports": ports}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": format!("{name}-a"), "namespace": "default",
                "labels": {"kubernetes.io/service-name": name}},
            "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}]}),
    ]
}

/// What `iptables-save` of a node with that many Services would print.
fn dump(services: usize) -> String {
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "spec": {"podCIDR": "10.128.0.0/24", "podCIDRs": ["10.128.0.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}});
    let mut items = vec![node];
    items.extend((0..services).flat_map(service));
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let (store, _) = Store::load(&[Input::new("objects.json", list)]);
    let node = store.node("n1").expect("the node");
    let (desired, findings) = render(&store, node, KubeFamily::V4);
    assert!(findings.is_empty(), "{findings:?}");
    let mut text = String::new();
    for (name, table) in [("nat", &desired.nat), ("filter", &desired.filter)] {
        text.push_str(&format!("*{name}\n"));
        let own = |c: &str| text_chain(c, name);
        ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]
            .into_iter()
            .for_each(|c| text.push_str(&own(c)));
        for chain in &table.chains {
            text.push_str(&format!(":{chain} - [0:0]\n"));
        }
        if name == "nat" {
            text.push_str("-A PREROUTING -j KUBE-SERVICES\n");
        }
        for rule in &table.rules {
            text.push_str(rule);
            text.push('\n');
        }
        text.push_str("COMMIT\n");
    }
    text
}

fn text_chain(chain: &str, table: &str) -> String {
    let table = TableName::parse(table).expect("a table");
    match table.builtin_chains().contains(&chain) {
        true => format!(":{chain} ACCEPT [0:0]\n"),
        false => String::new(),
    }
}

/// A new connection to Service `i` from client port `port`, through PREROUTING of nat.
fn first_packet(w: &mut World, i: usize, port: u16) -> Duration {
    let dst = format!("10.96.{}.{}", i / 250, i % 250 + 1);
    let mut f = tcp("10.128.0.9", &dst, port, 80, 2, &[]);
    w.track(&mut f, Hook::Prerouting);
    let start = Instant::now();
    let verdict = w.at_hook(&mut f, TableName::Nat, Hook::Prerouting, ("cni0", ""));
    let took = start.elapsed();
    assert_eq!(verdict, Verdict::Accept);
    assert!(
        w.steps.len() >= 4,
        "KUBE-SERVICES, KUBE-SVC, KUBE-SEP, DNAT: {:?}",
        w.steps
    );
    took
}

#[test]
fn ten_thousand_services() {
    let services = if cfg!(debug_assertions) { 300 } else { 10_000 };
    let text = dump(services);
    assert_eq!(iptables::LARGE_CLUSTER_ENDPOINTS, 1000);
    let mut w = World::new("");
    let start = Instant::now();
    let (set, findings) = RuleSet::parse("dump", &text, Family::V4);
    let parsed = start.elapsed();
    assert!(findings.is_empty(), "{:?}", findings.first());
    let rules = set.rule_count();
    let findings = w.nf.set_rules(Family::V4, Backend::Legacy, set);
    let loaded = start.elapsed();
    assert!(findings.is_empty(), "{:?}", findings.first());
    println!(
        "{services} Services, {rules} rules, {:.1} MB",
        text.len() as f64 / 1e6
    );
    println!("parse {parsed:.2?}, with compiling and index {loaded:.2?}");

    let mut slow = w.clone();
    slow.nf.linear = true;
    // The last Service's rule is where linear evaluation has come past all others.
    let first = first_packet(&mut w, services - 1, 1000);
    let mean = |w: &mut World, n: u16| {
        let all = (0..n).map(|i| first_packet(w, services - 1 - usize::from(i) % 10, 2000 + i));
        all.sum::<Duration>() / u32::from(n)
    };
    let (fast_mean, slow_mean) = (mean(&mut w, 200), mean(&mut slow, 200));
    let ratio = slow_mean.as_secs_f64() / fast_mean.as_secs_f64();
    println!(
        "first packet {first:.2?}; then {fast_mean:.2?} a packet, linear {slow_mean:.2?}, {ratio:.0} times"
    );
    assert!(ratio > 2.0, "{ratio}");
    if !cfg!(debug_assertions) {
        assert!(rules >= 80_000, "{rules}");
        assert!(loaded < Duration::from_secs(1), "{loaded:?}");
        assert!(fast_mean < Duration::from_micros(20), "{fast_mean:?}");
        assert!(ratio > 20.0, "{ratio}");
    }
}
