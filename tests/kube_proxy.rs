//! kube-proxy's rules from manifests: what the vectors do not have, and what holds for any cluster.

#![allow(missing_docs, reason = "a test binary")]

#[path = "vectors/rules.rs"]
mod rules;

use podpath::base::Severity;
use podpath::kube::manifest::Input;
use podpath::kube::proxy::iptables::{LARGE_CLUSTER_ENDPOINTS, Proxier, Scope, sync};
use podpath::kube::proxy::{KubeProxyConfiguration, Machine, Settings, View, render};
use podpath::kube::service::Family;
use podpath::kube::store::Store;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeSet;

fn load(objects: &[Value]) -> (Store, Vec<String>) {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string();
    let (store, findings) = Store::load(&[Input::new("objects.json", list)]);
    let errors = findings
        .into_iter()
        .filter(|f| f.severity == Severity::Error);
    (store, errors.map(|f| f.message).collect())
}

fn node() -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "spec": {"podCIDRs": ["10.244.1.0/24", "fd00:10:244:1::/64"]},
        "status": {"addresses": [
            {"type": "InternalIP", "address": "192.168.0.2"},
            {"type": "InternalIP", "address": "2001:db8::2"}]}})
}

fn service(spec: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
}

/// A slice of `web` in the namespace `default`; the last two bytes count up.
fn slice(name: &str, ports: &Value, endpoints: usize) -> Value {
    let address = |i: usize| json!({"addresses": [format!("10.244.{}.{}", i / 250, i % 250 + 1)]});
    let endpoints: Vec<Value> = (0..endpoints).map(address).collect();
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": "web"}},
        "endpoints": endpoints, "ports": ports})
}

fn http() -> Value {
    json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
}

/// The rules of the IPv4 proxier with this configuration.
fn rules_with(config: &Value, objects: &[Value]) -> String {
    let (store, errors) = load(objects);
    assert_eq!(errors, Vec::<String>::new());
    let config = KubeProxyConfiguration::of(config).expect("a configuration");
    let node = store.node("n1").expect("the node");
    let (settings, wrong) = Settings::new(&config, node, &Machine::of_node(node), Family::V4);
    assert_eq!(wrong, Vec::new());
    let view = View::of(&store, Family::V4);
    sync(&view, &settings, Scope::Full, &BTreeSet::new()).text()
}

fn external_local() -> Vec<Value> {
    let spec = json!({"type": "NodePort", "clusterIP": "10.96.0.10", "externalTrafficPolicy": "Local",
        "ports": [{"name": "http", "port": 80, "nodePort": 30080}]});
    vec![node(), service(&spec), slice("web-1", &http(), 2)]
}

#[test]
fn each_way_of_detecting_local_pods_has_its_match() {
    let bridge =
        json!({"detectLocalMode": "BridgeInterface", "detectLocal": {"bridgeInterface": "cbr0"}});
    let prefix = json!({"detectLocalMode": "InterfaceNamePrefix",
        "detectLocal": {"interfaceNamePrefix": "cali"}});
    let dual = json!({"clusterCIDR": "fd00:10:244::/48,10.244.0.0/16"});
    for (config, local) in [
        (json!({"detectLocalMode": "NodeCIDR"}), "-s 10.244.1.0/24"),
        (dual, "-s 10.244.0.0/16"),
        (bridge, "-i cbr0"),
        (prefix, "-i cali+"),
    ] {
        let text = rules_with(&config, &external_local());
        assert!(
            text.contains(&format!("--dport 80 ! {local} -j KUBE-MARK-MASQ")),
            "{text}"
        );
        let pods = format!(
            "pod traffic for default/web:http external destinations\" {local} -j KUBE-SVC-"
        );
        assert!(text.contains(&pods), "{text}");
    }
    let text = rules_with(&json!({}), &external_local());
    assert!(
        !text.contains("pod traffic for") && !text.contains("! -s 10.244"),
        "{text}"
    );
}

#[test]
fn masquerade_all_mark_and_liberal_windows_come_from_the_configuration() {
    let config = json!({"iptables": {"masqueradeAll": true, "masqueradeBit": 15},
        "conntrack": {"tcpBeLiberal": true}});
    let text = rules_with(&config, &external_local());
    assert!(
        text.contains("-d 10.96.0.10 --dport 80 -j KUBE-MARK-MASQ"),
        "{text}"
    );
    assert!(
        text.contains("-A KUBE-MARK-MASQ -j MARK --or-mark 0x00008000"),
        "{text}"
    );
    assert!(text.contains("-j MASQUERADE --random-fully"), "{text}");
    assert!(!text.contains("INVALID"), "{text}");
}

#[test]
fn more_than_a_thousand_endpoints_lose_the_comments_of_their_chains_only() {
    let objects = |count| {
        let spec = json!({"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80}]});
        vec![node(), service(&spec), slice("web-1", &http(), count)]
    };
    let small = rules_with(&json!({}), &objects(LARGE_CLUSTER_ENDPOINTS));
    let large = rules_with(&json!({}), &objects(LARGE_CLUSTER_ENDPOINTS + 1));
    let comments = |text: &str, chain: &str| {
        let of =
            |line: &&str| line.starts_with(&format!("-A {chain}")) && line.contains("--comment");
        text.lines().filter(of).count()
    };
    assert_eq!(comments(&small, "KUBE-SEP"), 2 * LARGE_CLUSTER_ENDPOINTS);
    assert_eq!(
        (comments(&large, "KUBE-SEP"), comments(&large, "KUBE-SVC")),
        (0, 0)
    );
    assert_eq!(
        comments(&large, "KUBE-SERVICES"),
        comments(&small, "KUBE-SERVICES")
    );
}

#[test]
fn each_family_has_its_own_rules() {
    let spec = json!({"clusterIP": "10.96.0.10", "clusterIPs": ["10.96.0.10", "fd00:96::a"],
        "ipFamilies": ["IPv4", "IPv6"], "externalIPs": ["203.0.113.7", "2001:db8::7"],
        "ports": [{"name": "http", "port": 80}]});
    let (store, errors) = load(&[node(), service(&spec), slice("web-1", &http(), 1)]);
    assert_eq!(errors, Vec::<String>::new());
    let node = store.node("n1").expect("the node");
    let v4 = render(&store, node, Family::V4).0.text();
    let v6 = render(&store, node, Family::V6).0.text();
    assert!(v4.contains("-d 203.0.113.7") && v4.contains("DNAT --to-destination 10.244.0.1:8080"));
    assert!(!v4.contains("2001:db8"), "{v4}");
    // The slice has IPv4 addresses only: IPv6 clients are refused.
    assert!(
        v6.contains("has no endpoints\" -m tcp -p tcp -d fd00:96::a --dport 80 -j REJECT"),
        "{v6}"
    );
    assert!(
        v6.contains("-d 2001:db8::7 --dport 80 -j REJECT") && !v6.contains("203.0.113.7"),
        "{v6}"
    );
    assert!(!v6.contains("KUBE-FIREWALL"), "{v6}");
}

#[test]
fn a_port_name_that_differs_leaves_no_endpoints() {
    let spec = json!({"clusterIP": "10.96.0.10", "ports": [{"name": "http", "port": 80}]});
    let ports = json!([{"name": "web", "port": 8080, "protocol": "TCP"}]);
    let text = rules_with(
        &json!({}),
        &[node(), service(&spec), slice("web-1", &ports, 2)],
    );
    assert!(text.contains("default/web:http has no endpoints"), "{text}");
    assert!(!text.contains("KUBE-SEP"), "{text}");
}

#[test]
fn what_the_api_server_refuses_is_said_with_its_field() {
    let spec = json!({"type": "NodePorts", "clusterIP": "10.96.0.256", "externalTrafficPolicy": "local",
        "loadBalancerSourceRanges": ["10.0.0.0"], "sessionAffinity": "ClientIp",
        "ports": [{"port": 80}, {"name": "b", "port": 70000, "protocol": "tcp"}]});
    let mut bad = slice(
        "web-1",
        &json!([{"name": "", "port": 0, "protocol": "TCP"}]),
        1,
    );
    bad["addressType"] = json!("IPv6");
    let (_, errors) = load(&[service(&spec), bad]);
    for field in [
        "spec.type: expected ClusterIP or",
        "spec.clusterIP: expected an IP address",
        "spec.externalTrafficPolicy: expected Cluster or Local",
        "spec.loadBalancerSourceRanges[0]: expected a CIDR",
        "spec.sessionAffinity: expected None or ClientIP",
        "spec.ports[0].name: a port without a name",
        "spec.ports[1].port: expected a port between",
        "spec.ports[1].protocol: expected TCP, UDP or SCTP",
        "endpoints[0].addresses[0]: expected an IPv6 address",
        "ports[0].port: expected a port between",
    ] {
        assert!(
            errors.iter().any(|e| e.starts_with(field)),
            "{field}: {errors:#?}"
        );
    }
}

/// One Service: whether it is there, whether its policy is Local, its endpoints with whether they are here.
type ServiceState = (bool, bool, Vec<(u8, bool)>);

/// A small cluster's state: four Services.
fn state() -> impl Strategy<Value = Vec<ServiceState>> {
    let endpoints = prop::collection::vec((1..6_u8, any::<bool>()), 0..4);
    prop::collection::vec((any::<bool>(), any::<bool>(), endpoints), 4)
}

fn objects(state: &[ServiceState]) -> Vec<Value> {
    let mut out = vec![node()];
    for (i, (there, local, endpoints)) in state.iter().enumerate() {
        let name = format!("s{i}");
        if *there {
            let policy = if *local { "Local" } else { "Cluster" };
            out.push(json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
                "spec": {"type": "NodePort", "clusterIP": format!("10.96.0.{}", i + 1),
                    "externalTrafficPolicy": policy, "ports": [{"port": 80, "nodePort": 30000 + i}]}}));
        }
        let endpoint = |(ip, here): &(u8, bool)| {
            let node = if *here { "n1" } else { "n2" };
            json!({"addresses": [format!("10.244.0.{ip}")], "nodeName": node})
        };
        out.push(json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
            "endpoints": endpoints.iter().map(endpoint).collect::<Vec<_>>(),
            "ports": [{"name": "", "port": 80}]}));
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happened in between, the rules are those of the last state.
    #[test]
    fn partial_syncs_leave_what_a_full_one_writes(states in prop::collection::vec(state(), 1..5)) {
        let mut proxier: Option<Proxier> = None;
        let mut kernel = rules::Chains::new();
        for state in &states {
            let (store, errors) = load(&objects(state));
            prop_assert_eq!(errors, Vec::<String>::new());
            let node = store.node("n1").expect("the node");
            let config = KubeProxyConfiguration::default();
            let settings = Settings::new(&config, node, &Machine::of_node(node), Family::V4).0;
            let proxier = proxier.get_or_insert_with(|| Proxier::new(settings, BTreeSet::new()));
            let written = proxier.sync(View::of(&store, Family::V4)).text();
            kernel = rules::restore(&kernel, &written).map_err(TestCaseError::fail)?;
            let full = render(&store, node, Family::V4).0.text();
            let full = rules::parse(&full).map_err(TestCaseError::fail)?;
            prop_assert_eq!(rules::differences(&full, &kernel), Vec::<String>::new());
        }
    }
}
