//! kube-proxy as a node's agent: what it writes when a cluster starts, after changes, while it is stopped and
//! while it lags, all in virtual time.

#![allow(missing_docs, reason = "a test binary")]

#[path = "vectors/rules.rs"]
mod rules;

use podpath::base::{Finding, Instant, Severity, Span};
use podpath::cluster::{Cluster, Scenario};
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::{ProxyMode, ProxyState};
use podpath::kube::proxy::iptables::{Scope, sync};
use podpath::kube::proxy::{Machine, Settings, of_store};
use podpath::kube::service::Family;
use podpath::kube::store::{Name, Store};
use podpath::report::show::services;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn cluster_doc(spec: &Value) -> Value {
    let mut all = json!({"cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16"],
        "serviceCIDRs": ["10.96.0.0/16"], "proxy": {"mode": "iptables"}});
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster", "metadata": {"name": "lab"}, "spec": all})
}

fn node(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}})
}

fn pod(name: &str, node: &str, ready: bool) -> Value {
    let status = if ready { "True" } else { "False" };
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": "web"}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "c", "ports": [{"containerPort": 8080}]}]},
        "status": {"conditions": [{"type": "Ready", "status": status}]}})
}

fn service(name: &str, spec: &Value) -> Value {
    let mut all = json!({"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8080}]});
    for (key, value) in spec.as_object().into_iter().flatten() {
        all[key] = value.clone();
    }
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": all})
}

fn fault(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Fault", "metadata": {"name": name}, "spec": spec})
}

fn build(objects: &[Value]) -> Scenario {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let (store, findings) = Store::load(&[Input::new("objects.json", list)]);
    let (cluster, built) = Cluster::build(store, 1);
    let (scenario, started) = Scenario::start(cluster);
    let all = findings.into_iter().chain(built).chain(started);
    let wrong: Vec<Finding> = all.filter(|f| f.severity != Severity::Note).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    scenario
}

/// The times of a node's syncs, IPv4's, with an `f` for full ones.
fn syncs(s: &Scenario, node: &str) -> Vec<String> {
    let proxy = s.cluster.nodes[node].proxy.as_ref().expect("a kube-proxy");
    let v4 = proxy
        .syncs
        .iter()
        .filter(|(_, sync)| sync.family == Family::V4);
    let text =
        |at: &Instant, full: bool| format!("{}{}", at.as_secs_f64(), if full { "f" } else { "" });
    v4.map(|(at, sync)| text(at, sync.full)).collect()
}

/// What table nat and filter hold on a node after all that was written.
fn kernel(c: &Cluster, node: &str, family: Family) -> rules::Chains {
    let mut out = rules::Chains::new();
    let proxy = c.nodes[node].proxy.as_ref().expect("a kube-proxy");
    for (_, sync) in proxy.syncs.iter().filter(|(_, s)| s.family == family) {
        out = rules::restore(&out, &sync.restore).expect("a restore input");
    }
    out
}

/// What one full sync on the cluster's present state writes.
fn full(c: &Cluster, node: &str, family: Family) -> rules::Chains {
    let config = of_store(&c.store).0;
    let mut object = (*c.store.node(node).expect("the node").body).clone();
    let ips = c.nodes[node].addresses.iter();
    let list: Vec<Value> = ips
        .map(|a| json!({"type": "InternalIP", "address": a.ip()}))
        .collect();
    let status = json!({ "addresses": list });
    object.status = Some(serde_json::from_value(status).expect("a status"));
    let settings = Settings::new(&config, &object, &Machine::of_node(&object), family).0;
    let text = sync(
        &c.desired.view(family),
        &settings,
        Scope::Full,
        &BTreeSet::new(),
    )
    .text();
    rules::parse(&text).expect("a restore input")
}

fn at(seconds: u64) -> Instant {
    Instant::from_secs(seconds)
}

#[test]
fn a_node_starts_with_jumps_rules_and_sysctls() {
    let s = build(&[
        cluster_doc(&json!({})),
        node("n1"),
        pod("a", "n1", true),
        service("web", &json!({})),
    ]);
    let n1 = &s.cluster.nodes["n1"];
    let proxy = n1.proxy.as_ref().expect("a kube-proxy");
    assert_eq!(proxy.syncs.len(), 2, "one of each family");
    for ((at, sync), family) in proxy.syncs.iter().zip(Family::ALL) {
        assert_eq!((*at, sync.family, sync.full), (Instant::ZERO, family, true));
        let commands: Vec<String> = sync.ensure.iter().map(|e| e.command()).collect();
        assert_eq!(commands[0], "-t mangle -N KUBE-PROXY-CANARY");
        assert!(
            commands
                .iter()
                .any(|c| c.starts_with("-t nat -I PREROUTING ") && c.ends_with("-j KUBE-SERVICES"))
        );
        assert_eq!(sync.counters.len(), 2);
    }
    let kubelet: Vec<String> = proxy.kubelet.iter().map(|(_, e)| e.command()).collect();
    assert_eq!(kubelet[0], "-t mangle -N KUBE-IPTABLES-HINT");
    let v4 = &proxy.syncs[0].1.restore;
    assert!(v4.contains("default/web -> 10.244.0.2:8080"), "{v4}");
    // Pods are told by the Cluster's podCIDRs, as kubeadm configures it.
    assert!(v4.contains("! -s 10.244.0.0/16 -j KUBE-MARK-MASQ"), "{v4}");
    let sysctl = s.cluster.lab.world.ns(n1.ns).expect("a namespace").sysctl();
    assert_eq!(sysctl.all4.route_localnet, 1);
    let differences = rules::differences(
        &full(&s.cluster, "n1", Family::V4),
        &kernel(&s.cluster, "n1", Family::V4),
    );
    assert_eq!(differences, Vec::<String>::new());
}

#[test]
fn the_mode_is_the_documents_else_the_configurations() {
    let mode = |spec: Value, more: &[Value]| {
        let mut objects = vec![cluster_doc(&spec), node("n1")];
        objects.extend_from_slice(more);
        let s = build(&objects);
        (s.cluster.proxy_mode, s.cluster.nodes["n1"].proxy.is_some())
    };
    let config = json!({"apiVersion": "kubeproxy.config.k8s.io/v1alpha1", "kind": "KubeProxyConfiguration",
        "mode": "", "metadata": {"name": "c"}});
    assert_eq!(mode(json!({"proxy": {}}), &[]), (ProxyMode::None, false));
    assert_eq!(
        mode(json!({"proxy": {}}), std::slice::from_ref(&config)),
        (ProxyMode::Iptables, true)
    );
    assert_eq!(
        mode(json!({"proxy": {"mode": "none"}}), &[config]),
        (ProxyMode::None, false)
    );
    assert_eq!(
        mode(json!({"proxy": {"mode": "ipvs"}}), &[]),
        (ProxyMode::Ipvs, true)
    );
}

#[test]
fn a_stopped_kube_proxy_keeps_its_rules_and_catches_up_when_it_starts() {
    let mut s = build(&[
        cluster_doc(&json!({"nodes": {"n3": {"kubeProxy": {"state": "stopped"}}}})),
        node("n1"),
        node("n2"),
        node("n3"),
        pod("a", "n1", true),
        service("web", &json!({"clusterIP": "10.96.0.50"})),
        fault(
            "1-stop",
            &json!({"at": "5s", "until": "20s", "node": "n1", "kubeProxy": {"state": "stopped"}}),
        ),
        fault(
            "2-change",
            &json!({"at": "10s", "delete": ["service/default/web"],
            "apply": [service("new", &json!({"clusterIP": "10.96.0.51"}))]}),
        ),
    ]);
    let node = |s: &Scenario, n: &str| {
        s.cluster.nodes[n]
            .proxy
            .as_ref()
            .expect("one")
            .agent
            .state()
    };
    let table = |s: &Scenario, n: &str| services::text(&s.cluster, &s.cluster.nodes[n]);
    assert_eq!(s.wait_until(at(15)), []);
    assert_eq!(
        (node(&s, "n1"), node(&s, "n2")),
        (ProxyState::Stopped, ProxyState::Running)
    );
    assert_eq!(
        (syncs(&s, "n1"), syncs(&s, "n2")),
        (vec!["0f".into()], vec!["0f".into(), "10".into()])
    );
    assert!(format!("{:?}", kernel(&s.cluster, "n1", Family::V4)).contains("10.96.0.50"));
    assert!(!format!("{:?}", kernel(&s.cluster, "n2", Family::V4)).contains("10.96.0.50"));
    let line = |t: &str, name: &str| t.lines().find(|l| l.starts_with(name)).map(str::to_owned);
    let shown = table(&s, "n1");
    assert!(
        shown.starts_with("kube-proxy on n1: iptables, stopped, wrote its rules at 0s\n"),
        "{shown}"
    );
    assert!(
        line(&shown, "default/new").is_some_and(|l| l.ends_with("stale")),
        "{shown}"
    );
    let gone = line(&shown, "default/web").unwrap_or_default();
    assert!(
        gone.contains("(deleted)") && gone.ends_with("stale"),
        "{shown}"
    );
    assert!(line(&table(&s, "n2"), "default/new").is_some_and(|l| l.ends_with("current")));
    // One that never ran has no rules, and its node none of its sysctls.
    assert_eq!(syncs(&s, "n3"), Vec::<String>::new());
    let n3 = s
        .cluster
        .lab
        .world
        .ns(s.cluster.nodes["n3"].ns)
        .expect("a namespace");
    assert_eq!(n3.sysctl().all4.route_localnet, 0);
    assert!(
        table(&s, "n3").starts_with("kube-proxy on n3: iptables, stopped, has written no rules\n")
    );
    // The fault ends: a start writes everything.
    assert_eq!(s.wait_until(at(25)), []);
    assert_eq!(syncs(&s, "n1"), ["0f", "20f"]);
    for n in ["n1", "n2"] {
        let differences = rules::differences(
            &full(&s.cluster, n, Family::V4),
            &kernel(&s.cluster, n, Family::V4),
        );
        assert_eq!(differences, Vec::<String>::new(), "{n}");
    }
}

#[test]
fn a_lagging_kube_proxy_writes_later_and_syncs_are_a_second_apart() {
    let mut s = build(&[
        cluster_doc(&json!({"nodes": {"n2": {"kubeProxy": {"lag": "3s"}}}})),
        node("n1"),
        node("n2"),
        pod("a", "n1", true),
        pod("b", "n1", false),
        service("web", &json!({})),
        fault("1", &json!({"at": "10s", "apply": [pod("b", "n1", true)]})),
        fault(
            "2",
            &json!({"at": "10300ms", "apply": [pod("a", "n1", false)]}),
        ),
        fault(
            "3",
            &json!({"at": "10600ms", "apply": [pod("a", "n1", true)]}),
        ),
        fault("4", &json!({"at": "20s", "kubeProxy": {"lag": "5s"}})),
        fault("5", &json!({"at": "21s", "apply": [pod("a", "n1", false)]})),
    ]);
    let backends = |s: &Scenario, n: &str| {
        let chains = kernel(&s.cluster, n, Family::V4);
        let text = format!("{chains:?}");
        ["10.244.0.2:8080", "10.244.0.3:8080"].map(|b| text.contains(&format!("-> {b}")))
    };
    assert_eq!(s.wait_until(at(12)), []);
    assert_eq!(syncs(&s, "n1"), ["0f", "10", "11"]);
    assert_eq!(
        (backends(&s, "n1"), backends(&s, "n2")),
        ([true, true], [true, false])
    );
    assert_eq!(s.wait_until(at(15)), []);
    assert_eq!(syncs(&s, "n2"), ["0f", "13", "14"]);
    assert_eq!(backends(&s, "n2"), [true, true]);
    s.wait_until(at(25));
    assert_eq!(backends(&s, "n1"), [true, true], "heard of at 26 s");
    s.wait_until(at(30));
    assert_eq!(backends(&s, "n1"), [false, true]);
    assert_eq!(syncs(&s, "n1").last().map(String::as_str), Some("26"));
}

#[test]
fn stale_udp_flows_are_those_to_endpoints_that_no_longer_serve() {
    let dns = |ready| {
        service(
            "dns",
            &json!({"clusterIP": "10.96.0.10", "ports": [{"port": 53, "protocol": "UDP"}],
        "selector": if ready { json!({"app": "web"}) } else { json!({"app": "none"}) }}),
        )
    };
    let mut s = build(&[
        cluster_doc(&json!({})),
        node("n1"),
        pod("a", "n1", true),
        pod("b", "n1", true),
        dns(true),
        fault("1", &json!({"at": "1s", "apply": [pod("b", "n1", false)]})),
    ]);
    s.wait_until(at(2));
    let proxy = s.cluster.nodes["n1"].proxy.as_ref().expect("a kube-proxy");
    let (_, last) = proxy
        .syncs
        .iter()
        .rfind(|(_, s)| s.family == Family::V4)
        .expect("a sync");
    let flow = |backend: &str| podpath::kube::proxy::conntrack::Entry {
        original_destination: "10.96.0.10:53".parse().expect("an address"),
        reply_source: format!("{backend}:53").parse().expect("an address"),
    };
    assert!(!last.full && !last.serving.is_stale(flow("10.244.0.2")));
    assert!(last.serving.is_stale(flow("10.244.0.3")));
}

/// One change: of a Service (which, whether it is there, external policy Local), or of a pod's readiness.
#[derive(Clone, Debug)]
enum Change {
    Service(usize, bool, bool),
    Pod(usize, bool),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (0..3_usize, any::<bool>(), any::<bool>())
            .prop_map(|(i, there, local)| Change::Service(i, there, local)),
        (0..4_usize, any::<bool>()).prop_map(|(i, ready)| Change::Pod(i, ready)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever changed and however the syncs fell together, every node ends with the rules of a full sync.
    #[test]
    fn incremental_is_full(changes in prop::collection::vec((change(), 0..2500_u64), 1..12)) {
        let pods = [("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n2")];
        let mut objects = vec![cluster_doc(&json!({"nodes": {"n2": {"kubeProxy": {"lag": "700ms"}}}})), node("n1"), node("n2")];
        objects.extend(pods.map(|(name, node)| pod(name, node, true)));
        let mut s = build(&objects);
        let place = Span::new("changes", 1, 1);
        let mut now = Instant::ZERO;
        for (change, millis) in changes {
            match change {
                Change::Service(i, true, local) => {
                    let policy = if local { "Local" } else { "Cluster" };
                    let spec = json!({"type": "NodePort", "externalTrafficPolicy": policy});
                    prop_assert_eq!(s.cluster.store.apply(&service(&format!("s{i}"), &spec), &place), vec![]);
                }
                Change::Service(i, false, _) => {
                    s.cluster.store.services.remove(&Name::new("default", format!("s{i}")));
                }
                Change::Pod(i, ready) => {
                    let (name, node) = pods[i];
                    prop_assert_eq!(s.cluster.store.apply(&pod(name, node, ready), &place), vec![]);
                }
            }
            s.cluster.objects_changed();
            now += core::time::Duration::from_millis(millis);
            s.wait_until(now);
        }
        s.wait_until(now + core::time::Duration::from_secs(30));
        prop_assert_eq!(s.cluster.next_sync(), None);
        for (n, family) in [("n1", Family::V4), ("n2", Family::V4), ("n2", Family::V6)] {
            let differences = rules::differences(&full(&s.cluster, n, family), &kernel(&s.cluster, n, family));
            prop_assert_eq!(differences, Vec::<String>::new());
        }
    }
}

/// A node's rules as iptables-save prints them.
fn save(c: &Cluster, node: &str, family: podpath::nf::Family) -> String {
    let ns = c.lab.world.ns(c.nodes[node].ns).expect("a namespace");
    let nf = ns.nf().expect("netfilter");
    nf.rule_set(family, podpath::nf::Backend::Nft)
        .expect("rules")
        .to_save(false)
}

#[test]
fn what_it_writes_is_in_the_nodes_namespace() {
    let mut s = build(&[
        cluster_doc(&json!({})),
        node("n1"),
        node("n2"),
        pod("a", "n1", true),
        pod("b", "n2", true),
        service("web", &json!({"clusterIP": "10.96.0.50"})),
        fault("1", &json!({"at": "1s", "delete": ["service/default/web"]})),
    ]);
    let v4 = save(&s.cluster, "n1", podpath::nf::Family::V4);
    let chain = |text: &str, name: &str| {
        let rules = text
            .lines()
            .filter(|l| l.starts_with(&format!("-A {name} ")));
        rules
            .map(|l| l.rsplit_once("-j ").map_or("", |(_, t)| t).to_owned())
            .collect::<Vec<_>>()
    };
    // As on a kernel after the same commands, and on a kind node: kubelet's jump is below kube-proxy's.
    let filter = v4
        .split("*filter")
        .nth(1)
        .and_then(|t| t.split("COMMIT").next())
        .expect("filter");
    assert_eq!(
        chain(filter, "INPUT"),
        [
            "KUBE-PROXY-FIREWALL",
            "KUBE-NODEPORTS",
            "KUBE-EXTERNAL-SERVICES",
            "KUBE-FIREWALL"
        ]
    );
    assert_eq!(
        chain(filter, "FORWARD"),
        [
            "KUBE-PROXY-FIREWALL",
            "KUBE-FORWARD",
            "KUBE-SERVICES",
            "KUBE-EXTERNAL-SERVICES"
        ]
    );
    assert!(
        v4.contains(":KUBE-IPTABLES-HINT - ") && v4.contains(":KUBE-PROXY-CANARY - "),
        "{v4}"
    );
    assert!(
        v4.contains("-j DNAT --to-destination 10.244.0.2:8080"),
        "{v4}"
    );
    assert!(save(&s.cluster, "n1", podpath::nf::Family::V6).contains(":KUBE-SERVICES - "));
    // Every rule of a Service leads to its line.
    let ns = s
        .cluster
        .lab
        .world
        .ns(s.cluster.nodes["n1"].ns)
        .expect("a namespace");
    let set = ns
        .nf()
        .and_then(|nf| nf.rule_set(podpath::nf::Family::V4, podpath::nf::Backend::Nft))
        .expect("rules");
    let mut rules = set
        .tables
        .iter()
        .flat_map(|t| &t.chains)
        .flat_map(|c| &c.rules);
    let dnat = rules
        .find(|r| r.comment() == Some("default/web -> 10.244.0.2:8080"))
        .expect("the rule");
    let origin = dnat.origin.to_string();
    assert!(
        origin.starts_with("kube-proxy from Service default/web (objects.json:1:"),
        "{origin}"
    );
    // The Service goes: its chains go.
    assert_eq!(s.wait_until(at(2)), []);
    assert!(!save(&s.cluster, "n1", podpath::nf::Family::V4).contains("10.96.0.50"));
}

/// ClusterIP, no endpoints, node port and load balancer from outside, and a stopped kube-proxy whose node still
/// sends to a pod that is not ready any more.
#[test]
fn packets_take_the_ways_that_it_wrote() {
    let text = include_str!("data/services.yaml");
    let (store, findings) = Store::load(&[Input::new("services.yaml", text)]);
    assert_eq!(findings, []);
    let (cluster, built) = Cluster::build(store, 1);
    let (mut s, started) = Scenario::start(cluster);
    assert_eq!((built, started), (vec![], vec![]));
    let (checked, findings) = s.run_probes(&mut |_| ());
    assert_eq!((checked.len(), findings), (6, vec![]));
    for c in checked {
        assert_eq!(c.mismatches, [], "{}", c.name);
    }
}
