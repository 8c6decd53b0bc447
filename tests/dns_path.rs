//! Names looked up by packets: what a pod's resolver sees when servers, paths and answers are as they are.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::Severity;
use podpath::cluster::dns::Resolved;
use podpath::cluster::{Cluster, Scenario};
use podpath::endpoint::{DnsFailure, Outcome};
use podpath::kube::dns::client::dig::{Found, Question};
use podpath::kube::dns::client::message::parse;
use podpath::kube::dns::client::{Eai, Family, Libc};
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::Target;
use podpath::kube::store::Store;
use podpath::path::EventKind;
use std::collections::BTreeSet;

const MANIFESTS: &str = include_str!("../topologies/dns-vxlan/manifests.yaml");
const PODPATH: &str = include_str!("../topologies/dns-vxlan/podpath.yaml");

fn scenario(manifests: &str, podpath: &str) -> Scenario {
    let inputs = [
        Input::new("manifests.yaml", manifests.to_owned()),
        Input::new("podpath.yaml", podpath.to_owned()),
    ];
    let (store, findings) = Store::load(&inputs);
    assert!(
        findings.iter().all(|f| f.severity == Severity::Note),
        "{findings:?}"
    );
    let (cluster, _) = Cluster::build(store, 1);
    let (mut s, findings) = Scenario::start(cluster);
    assert!(
        findings.iter().all(|f| f.severity == Severity::Note),
        "{findings:?}"
    );
    s.settle_dns();
    s
}

fn healthy() -> Scenario {
    scenario(MANIFESTS, PODPATH)
}

fn who(text: &str) -> Target {
    text.parse().unwrap()
}

fn look(s: &mut Scenario, libc: Libc, name: &str) -> Resolved {
    s.resolve(&who("default/client"), name, libc, Family::Any)
        .unwrap()
}

fn addresses(r: &Resolved) -> Vec<String> {
    r.answer.addresses.iter().map(ToString::to_string).collect()
}

#[test]
fn a_name_outside_is_one_exchange_down_to_the_resolver() {
    let mut s = healthy();
    let r = look(&mut s, Libc::Glibc236, "www.example.org");
    assert_eq!(addresses(&r), ["192.168.50.80"]);
    let record = r.record.unwrap();
    assert_eq!(
        record.asked.len(),
        8,
        "three search domains and the name itself, A and AAAA"
    );
    assert!(record.asked.iter().all(|a| a.reply.is_some()));
    // The queries that CoreDNS sent for it belong to it: its packets are seen at the resolver.
    let places: BTreeSet<&str> = record.events.iter().map(|e| e.ns_name.as_str()).collect();
    for place in ["default/client", "n1", "host/resolver"] {
        assert!(places.contains(place), "{place} is not among {places:?}");
    }
    assert!(record.took.as_micros() > 400, "{:?}", record.took);
}

#[test]
fn a_long_answer_comes_by_tcp_all_the_way() {
    let many: String = (1..60)
        .map(|i| format!("      - many.example.org. 60 IN A 192.0.2.{i}\n"))
        .collect();
    let podpath = PODPATH.replace("      records:\n", &format!("      records:\n{many}"));
    let mut s = scenario(MANIFESTS, &podpath);
    let r = look(&mut s, Libc::Glibc236, "many.example.org.");
    assert_eq!(r.answer.addresses.len(), 59);
    let record = r.record.unwrap();
    assert_eq!(
        record.asked.iter().filter(|a| a.tcp).count(),
        2,
        "both again over one connection"
    );
    // musl 1.2.3 has no TCP: it takes what fits.
    let r = look(&mut s, Libc::Musl123, "many.example.org.");
    assert!(r.record.unwrap().asked.iter().all(|a| !a.tcp));
    assert!(
        (1..59).contains(&r.answer.addresses.len()),
        "{}",
        r.answer.addresses.len()
    );
}

#[test]
fn the_hosts_file_comes_first() {
    let pods = MANIFESTS.replacen(
        "  nodeName: n1\n  containers:\n  - name: client",
        "  nodeName: n1\n  hostAliases: [{ip: 192.0.2.7, hostnames: [legacy, legacy.test]}]\n  containers:\n  - name: client",
        1,
    );
    assert_ne!(pods, MANIFESTS);
    let mut s = scenario(&pods, PODPATH);
    for (name, ip) in [
        ("legacy.test", "192.0.2.7"),
        ("client", "10.244.1.10"),
        ("192.0.2.9", "192.0.2.9"),
    ] {
        let r = look(&mut s, Libc::Musl125, name);
        assert_eq!(
            (addresses(&r), r.record.is_none()),
            (vec![ip.to_owned()], true),
            "{name}"
        );
    }
    let r = s
        .resolve(
            &who("default/far-client"),
            "legacy",
            Libc::Glibc236,
            Family::V4,
        )
        .unwrap();
    assert_eq!(r.answer.error, Some(Eai::NoName));
    assert_eq!(r.outcome(), Outcome::DnsError(DnsFailure::Rcode(3)));
}

#[test]
fn dig_asks_whom_it_is_told() {
    let mut s = healthy();
    let server = "192.168.50.53:53".parse().unwrap();
    let (found, record) = s
        .dig(&who("node/n2"), Question::new("old.example.org", 1, server))
        .unwrap();
    let Found::Reply {
        message,
        tcp: false,
        ..
    } = found
    else {
        panic!("{found:?}");
    };
    let p = parse(&message).unwrap();
    assert_eq!(
        (p.sections[0].len(), p.head.aa(), p.head.ra()),
        (2, false, true)
    );
    assert_eq!(record.asked.len(), 1);
    // Nobody listens there: three tries, refused each time.
    let closed = "192.168.50.80:53".parse().unwrap();
    let (found, record) = s
        .dig(&who("node/n2"), Question::new("x", 1, closed))
        .unwrap();
    assert!(
        matches!(found, Found::Failed(podpath::endpoint::Errno::ConnRefused)),
        "{found:?}"
    );
    assert_eq!(record.asked.len(), 3);
    assert!(record.took.as_secs() < 1, "{:?}", record.took);
}

#[test]
fn a_crash_is_seen_by_the_kubelet_and_healed() {
    let fault = "---\napiVersion: podpath.dev/v1alpha1\nkind: Fault\nmetadata: {name: crash}\nspec:\n  at: 10s\n  \
                 until: 20s\n  coredns: {state: crashed}\n";
    let mut s = scenario(MANIFESTS, &format!("{PODPATH}{fault}"));
    assert!(look(&mut s, Libc::Glibc236, "web").answer.error.is_none());
    let t = |secs| podpath::base::Instant::from_secs(secs);
    s.wait_until(t(11));
    let r = look(&mut s, Libc::Glibc236, "web");
    assert_eq!(
        (r.answer.error, r.outcome()),
        (Some(Eai::Again), Outcome::DnsError(DnsFailure::NoReply))
    );
    let hop = r.record.unwrap().hop.unwrap();
    assert_eq!(
        podpath::cluster::disposition_name(&hop.how),
        "rejected",
        "{hop:?}"
    );
    s.wait_until(t(25));
    assert!(look(&mut s, Libc::Glibc236, "web").answer.error.is_none());
}

#[test]
fn a_loop_is_found_and_told() {
    let kubelet = "  kubelet: {resolvConf: \"nameserver 127.0.0.53\\n\"}\n  underlay:\n";
    let mut s = scenario(MANIFESTS, &PODPATH.replace("  underlay:\n", kubelet));
    let ended = s.cluster.dns_ended();
    assert_eq!(ended.len(), 2, "{ended:?}");
    assert!(
        ended.iter().all(|(_, why)| why.contains("Loop (")),
        "{ended:?}"
    );
    assert_eq!(
        look(&mut s, Libc::Glibc236, "web").answer.error,
        Some(Eai::Again)
    );
}

#[test]
fn what_plugins_decided_is_kept_when_it_is_asked_for() {
    let mut s = healthy();
    s.cluster.trace_dns(true);
    look(&mut s, Libc::Glibc236, "web");
    let seen = s.cluster.dns_seen();
    let all: Vec<_> = seen.iter().flat_map(|(_, seen)| seen).collect();
    assert_eq!(all.len(), 2);
    assert!(
        all.iter()
            .all(|q| q.decisions.iter().any(|d| d.plugin == "kubernetes")),
        "{all:?}"
    );
}

#[test]
fn two_runs_are_alike_and_tracing_changes_nothing() {
    let run = |trace: bool| {
        let mut s = healthy();
        s.cluster.trace_dns(trace);
        let r = look(&mut s, Libc::Musl125, "cart.shop");
        let record = r.record.unwrap();
        let steps = record
            .events
            .iter()
            .filter(|e| matches!(e.kind, EventKind::Step(_)))
            .count();
        (addresses_of(&r.answer), record.asked, record.took, steps)
    };
    assert_eq!(run(false), run(false));
    assert_eq!(run(false).2, run(true).2);
}

fn addresses_of(a: &podpath::kube::dns::client::Answer) -> Vec<String> {
    a.addresses.iter().map(ToString::to_string).collect()
}

/// The Corefile of the ConfigMap with `hosts` in it, as a Fault applies it.
fn corefile_fault(hosts: &str, reload: &str) -> String {
    format!(
        "{PODPATH}---\napiVersion: podpath.dev/v1alpha1\nkind: Fault\nmetadata: {{name: edit}}\nspec:\n  apply:\n  \
        - apiVersion: v1\n    kind: ConfigMap\n    metadata: {{name: coredns, namespace: kube-system}}\n    data:\n      \
        Corefile: |\n        .:53 {{\n          {hosts}\n          kubernetes cluster.local\n          {reload}\n        }}\n"
    )
}

#[test]
fn a_changed_corefile_is_taken_when_reload_looks() {
    let fault = corefile_fault(
        "hosts { 10.9.9.9 new.test }"
            .replace("{ ", "{\n            ")
            .replace(" }", "\n          }")
            .as_str(),
        "reload",
    );
    let mut s = scenario(MANIFESTS, &fault);
    let mut at = |seconds: u64| {
        s.wait_until(podpath::base::Instant::from_secs(seconds));
        addresses(&look(&mut s, Libc::Musl125, "new.test."))
    };
    // In the pod after a minute, taken half a minute later.
    assert_eq!(at(70), Vec::<String>::new());
    assert_eq!(at(96), ["10.9.9.9"]);
}

#[test]
fn a_wrong_corefile_changes_nothing_until_the_process_starts_anew() {
    let fault = corefile_fault("nonesuch", "reload");
    let inputs = [
        Input::new("manifests.yaml", MANIFESTS.to_owned()),
        Input::new("podpath.yaml", fault),
    ];
    let (store, _) = Store::load(&inputs);
    let (cluster, _) = Cluster::build(store, 1);
    let (mut s, said) = Scenario::start(cluster);
    assert!(
        said.iter()
            .any(|f| f.message.contains("nonesuch") && f.severity == Severity::Warning),
        "{said:?}"
    );
    s.wait_until(podpath::base::Instant::from_secs(200));
    assert_eq!(
        addresses(&look(&mut s, Libc::Musl125, "web")),
        ["10.96.10.1"]
    );
    assert_eq!(s.cluster.dns_ended(), []);
}

/// A folder of topologies/, its probe, and the line that says where it is decided.
type Where = (&'static str, &'static str, &'static str);

/// The name resolves, and the pods cannot talk.
const NAMES_ONLY: [Where; 5] = [
    ("hosts", "by-name", "n2 cni0: the next hop did not answer"),
    ("pod-link", "by-name", "n2 cni0: the device has no carrier"),
    ("target-port", "by-name", "default/web-1 eth0: "),
    (
        "tcp",
        "by-name",
        "n2 flannel.1: a netfilter rule or policy drops it",
    ),
    ("web-endpoints", "by-name", "n1 "),
];

/// The pods can talk by address, and the name does not resolve.
const ADDRESSES_ONLY: [Where; 6] = [
    ("cluster-dns", "by-name", "left-the-cluster at gateway wan0"),
    (
        "endpoints",
        "by-name",
        "n1 cni0: a netfilter rule rejects it (iptables filter KUBE-SERVICES rule 1",
    ),
    (
        "hanging",
        "by-name",
        "delivered at kube-system/coredns-2 eth0",
    ),
    (
        "loop",
        "by-name",
        "n1 cni0: a netfilter rule rejects it (iptables filter KUBE-SERVICES rule 1",
    ),
    (
        "udp",
        "by-name",
        "n1 cni0: a netfilter rule or policy drops it (iptables filter FORWARD rule 1",
    ),
    ("upstream", "outside", "eth0: blocked between the machines"),
];

#[test]
fn the_trace_says_where() {
    let mut wrong = Vec::new();
    for (what, probe, expected) in NAMES_ONLY.iter().chain(&ADDRESSES_ONLY) {
        let folder = format!(
            "{}/topologies/dns-vxlan-broken-{what}",
            env!("CARGO_MANIFEST_DIR")
        );
        let out = std::process::Command::new(env!("CARGO_BIN_EXE_podpath"))
            .args(["run", &folder])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        let line = text.lines().find(|l| l.contains(&format!(" {probe} ")));
        let line = line.unwrap_or("no such probe");
        if !line.contains(expected) || expected.is_empty() {
            wrong.push(format!("{what}: {line}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
