//! Every folder of topologies/ is a cluster whose probes come out as it says, twice alike.
//!
//! A folder `NAME-broken-WHAT` has the very manifests of NAME: only what its podpath document says is broken.

use podpath::base::Finding;
use podpath::cluster::{Checked, Cluster, Scenario};
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::Outcome;
use podpath::kube::store::Store;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies");
/// Each has a broken variant.
const HEALTHY: [&str; 13] = [
    "dns-nodelocal",
    "dns-vxlan",
    "policy-calico",
    "policy-kube-router",
    "services-calico",
    "services-docker",
    "services-dual-stack",
    "services-vxlan",
    "single-node-bridge",
    "two-node-vxlan",
    "two-node-host-gw",
    "calico-ipip-blocks",
    "dual-stack",
];

/// Findings that folders are about.
const SAYS: [(&str, &str); 2] = [
    ("policy-calico-broken-flannel", "nobody enforces them"),
    (
        "policy-kube-router-broken-tier",
        "kube-router implements NetworkPolicy only, nobody enforces this",
    ),
];

fn folders() -> Vec<PathBuf> {
    let all = std::fs::read_dir(ROOT).expect("topologies/");
    let mut v: Vec<PathBuf> = all.map(|e| e.expect("an entry").path()).collect();
    v.retain(|p| p.is_dir());
    v.sort();
    v
}

fn name(folder: &Path) -> &str {
    folder
        .file_name()
        .and_then(|n| n.to_str())
        .expect("a UTF-8 name")
}

fn inputs(folder: &Path) -> Vec<Input> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|e| e.expect("an entry").path())
        .filter(|p| {
            let ext = p.extension().and_then(|e| e.to_str());
            matches!(ext, Some("yaml" | "yml" | "json"))
        })
        .collect();
    files.sort();
    let read = |p: &PathBuf| {
        let label = p.strip_prefix(ROOT).unwrap_or(p).display().to_string();
        Input::from_bytes(label, &std::fs::read(p).expect("readable")).expect("text")
    };
    files.iter().map(read).collect()
}

/// One run from text to results: findings and probes.
fn run(folder: &Path) -> (Vec<Finding>, Vec<Checked>, Scenario) {
    let (store, mut findings) = Store::load(&inputs(folder));
    let (cluster, more) = Cluster::build(store, 1);
    findings.extend(more);
    let (mut scenario, more) = Scenario::start(cluster);
    findings.extend(more);
    let (checked, more) = scenario.run_probes(&mut |_| {});
    findings.extend(more);
    (findings, checked, scenario)
}

/// What is wrong with a topology, in words.
fn problems(folder: &Path) -> (usize, Vec<String>) {
    let (findings, checked, scenario) = run(folder);
    let mut out: Vec<String> = findings
        .iter()
        .filter(|f| f.severity != podpath::base::Severity::Note)
        .map(Finding::to_string)
        .collect();
    // A folder may be about a finding: it has to come, and alone.
    for (_, text) in SAYS.iter().filter(|(of, _)| *of == name(folder)) {
        let before = out.len();
        out.retain(|f| !f.contains(text));
        if out.len() + 1 != before {
            out.push(format!("no finding, or several, with \"{text}\""));
        }
    }
    if checked.is_empty() {
        out.push("no probes".into());
    }
    for p in scenario.cluster.store.probes.values() {
        let says = |e: &podpath::kube::podpath_v1alpha1::Expect| {
            e.outcome.is_some() && e.delay.is_some() && e.hop.is_some() && e.disposition.is_some()
        };
        if !p.spec.expect.as_ref().is_some_and(says) {
            out.push(format!(
                "probe {}: expect needs outcome, delay, hop and disposition",
                p.name
            ));
        }
    }
    for c in &checked {
        for m in &c.mismatches {
            out.push(format!(
                "probe {} ({}): {}: expected {}, found {}",
                c.name, c.question, m.what, m.expected, m.found
            ));
        }
        if !c.mismatches.is_empty() {
            let r = c.result.as_ref().ok();
            let seen = r.map(|r| (&r.outcome, r.delay, &r.errno, &r.icmp, &r.hop));
            out.push(format!("    {seen:?}"));
        }
    }
    let (_, again, _) = run(folder);
    if format!("{checked:?}") != format!("{again:?}") {
        out.push("a second run came out differently".into());
    }
    (checked.len(), out)
}

#[test]
fn every_topology_comes_out_as_it_says() {
    let mut failed = 0;
    for folder in folders() {
        let (probes, problems) = problems(&folder);
        let word = if problems.is_empty() { "ok" } else { "FAILED" };
        println!("{:40} {probes:2} probes  {word}", name(&folder));
        problems.iter().for_each(|p| println!("  {p}"));
        failed += usize::from(!problems.is_empty());
    }
    assert_eq!(failed, 0, "topologies failed");
}

/// The captures of pcaps/ carry the link addresses of the machines they were recorded on.
#[test]
fn the_demo_has_the_addresses_of_the_captures() {
    let (_, _, s) = run(&PathBuf::from(ROOT).join("two-node-vxlan"));
    let dev = |ns: &str, dev: &str| {
        let n = s.cluster.lab.world.ns_by_name(ns).expect("a namespace");
        let d = n.dev_by_name(dev).expect("a device");
        (d.mac.to_string(), d.mtu)
    };
    for (ns, name, mac, mtu) in [
        ("n1", "eth0", "02:50:00:00:00:11", 1500),
        ("n2", "eth0", "02:50:00:00:00:12", 1500),
        ("n1", "cni0", "0a:58:0a:f4:01:01", 1450),
        ("n2", "cni0", "0a:58:0a:f4:02:01", 1450),
        ("n1", "flannel.1", "02:56:00:00:00:01", 1450),
        ("n2", "flannel.1", "02:56:00:00:00:02", 1450),
        ("default/a1", "eth0", "0a:58:0a:f4:01:0a", 1450),
        ("default/a2", "eth0", "0a:58:0a:f4:01:0b", 1450),
        ("default/b1", "eth0", "0a:58:0a:f4:02:0a", 1450),
        ("default/b2", "eth0", "0a:58:0a:f4:02:0b", 1450),
    ] {
        assert_eq!(dev(ns, name), (mac.to_owned(), mtu), "{ns} {name}");
    }
    let ips = s.cluster.pods.values().flat_map(|p| p.ips.clone());
    let ips: Vec<String> = ips.map(|i| i.to_string()).collect();
    assert_eq!(
        ips,
        ["10.244.1.10", "10.244.1.11", "10.244.2.10", "10.244.2.11"]
    );
}

#[test]
fn calico_nodes_have_the_blocks_the_picture_shows() {
    let (_, _, s) = run(&PathBuf::from(ROOT).join("calico-ipip-blocks"));
    let ipam = s.cluster.calico.as_ref().expect("Calico's allocations");
    let blocks: Vec<(String, &str, usize)> = ipam
        .blocks()
        .map(|b| {
            (
                b.cidr.to_string(),
                b.node.as_str(),
                b.allocations().filter(|(_, a)| a.node != b.node).count(),
            )
        })
        .collect();
    let want = [
        ("10.244.104.0/26", "n2", 0),
        ("10.244.166.128/26", "n1", 1),
        ("10.244.166.192/26", "n1", 0),
    ];
    assert_eq!(blocks, want.map(|(c, n, k)| (c.to_owned(), n, k)));
    let tunl0 = |n: &str| {
        let ns = s.cluster.lab.world.ns_by_name(n).expect("a node");
        ns.dev_by_name("tunl0").expect("tunl0").addrs[0]
            .net
            .to_string()
    };
    assert_eq!(
        (tunl0("n1").as_str(), tunl0("n2").as_str()),
        ("10.244.166.128/32", "10.244.104.0/32")
    );
}

#[test]
fn broken_ones_fail_somewhere_and_work_somewhere() {
    for folder in folders() {
        let (store, _) = Store::load(&inputs(&folder));
        let outcomes: BTreeSet<bool> = store
            .probes
            .values()
            .filter_map(|p| p.spec.expect.as_ref()?.outcome)
            .map(|o| o == Outcome::Ok)
            .collect();
        assert!(outcomes.contains(&true), "{}: nothing works", name(&folder));
        if name(&folder).contains("-broken-") {
            assert!(
                outcomes.contains(&false),
                "{}: nothing fails",
                name(&folder)
            );
        }
    }
}

#[test]
fn broken_ones_have_the_manifests_of_the_healthy_one() {
    let text = |n: &str| std::fs::read_to_string(format!("{ROOT}/{n}/manifests.yaml")).ok();
    let all = folders();
    for healthy in HEALTHY {
        let broken = all
            .iter()
            .filter(|f| name(f).starts_with(&format!("{healthy}-broken-")));
        assert!(broken.count() > 0, "{healthy} has no broken variant");
    }
    for n in all.iter().map(|f| name(f)) {
        let healthy = n.split_once("-broken-").map_or(n, |(h, _)| h);
        assert!(HEALTHY.contains(&healthy), "{n}: unknown kind of topology");
        assert!(
            text(n).is_some() && text(n) == text(healthy),
            "{n} and {healthy}: manifests.yaml differ"
        );
    }
}

#[test]
fn readmes_name_the_folder_and_its_command() {
    let index = std::fs::read_to_string(format!("{ROOT}/README.md")).expect("topologies/README.md");
    for folder in folders() {
        let n = name(&folder);
        let text = std::fs::read_to_string(folder.join("README.md")).unwrap_or_default();
        assert!(
            text.starts_with(&format!("# {n}\n")),
            "{n}/README.md: its title"
        );
        let command = format!("podpath topologies/{n}\n");
        assert!(text.contains(&command), "{n}/README.md: its command");
        assert!(
            index.contains(&format!("({n}/README.md)")),
            "topologies/README.md: {n}"
        );
    }
}
