//! A large cluster loads, is built and answers: in release 200 nodes and 10,000 pods within 3 s and 1 GiB.
//!
//! A binary of its own, so that the peak of memory is this test's. In debug it is small: what comes out is
//! checked, the times mean nothing.

#[path = "common/big_cluster.rs"]
mod big_cluster;

use podpath::base::Severity;
use podpath::cluster::Cluster;
use podpath::endpoint::Outcome;
use podpath::kube::manifest::Input;
use podpath::kube::store::{Name, Store};
use podpath::lab::Probe;
use podpath::path::Disposition;
use std::time::{Duration, Instant};

/// Peak resident memory of this process in KiB, where the system says it.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|l| l.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[test]
fn ten_thousand_pods_answer_a_ping() {
    let (nodes, pods) = if cfg!(debug_assertions) {
        (20, 200)
    } else {
        (200, 10_000)
    };
    let text = big_cluster::manifests(nodes, pods);
    println!(
        "{nodes} nodes, {pods} pods, {:.1} MB of YAML",
        text.len() as f64 / 1e6
    );
    let input = Input::from_bytes("big.yaml", text.as_bytes()).expect("text");
    drop(text);

    let start = Instant::now();
    let mut last = start;
    let mut phase = |name: &str| {
        let now = Instant::now();
        println!("{name:8} {:6.3} s", (now - last).as_secs_f64());
        last = now;
    };
    let (store, findings) = Store::load(&[input]);
    phase("load");
    let worse = |f: &&podpath::base::Finding| f.severity != Severity::Note;
    assert_eq!(findings.iter().find(worse), None);
    let (mut cluster, findings) = Cluster::build(store, 1);
    phase("build");
    assert_eq!(findings.iter().find(worse), None);

    let pod = |c: &Cluster, i: usize| {
        let (namespace, name) = big_cluster::pod_name(i);
        let p = c.pods.get(&Name::new(&*namespace, &*name)).expect("a pod");
        (p.ns, p.node.clone(), p.ips.clone())
    };
    let (from, node, _) = pod(&cluster, 3);
    let (to, other, ips) = pod(&cluster, pods - 1);
    assert_ne!(node, other);
    let ip = ips.first().copied().expect("an address");
    assert_eq!(ip.to_string(), big_cluster::pod_ip(pods - 1, nodes));
    assert_eq!(cluster.owner_of(ip), Some(to));
    let (result, events) = cluster.lab.trace(&Probe::ping(from, ip));
    phase("trace");
    let took = start.elapsed();

    assert_eq!(result.outcome, Outcome::Ok, "{result:?}");
    let hop = result.hop.expect("a place");
    assert_eq!(hop.ns, to);
    assert!(matches!(hop.how, Disposition::Consumed("echo request")));
    assert!(events.len() > 20, "{} events", events.len());
    assert_eq!(cluster.pods.len(), pods);
    let peak = peak_kib();
    println!(
        "total    {:6.3} s, peak {} MiB",
        took.as_secs_f64(),
        peak.map_or("?".into(), |k| (k / 1024).to_string())
    );
    if !cfg!(debug_assertions) {
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert!(peak.is_none_or(|k| k < 1024 * 1024), "{peak:?} KiB");
    }
}
