//! Where agents differ, on the path: each named option of `spec.networkPolicy` under each agent, its default being
//! what the agent does in reality.
//!
//! The cluster: pods client and web on n1, far on n2, a Service of a node port for web; the outside is one host.

#[path = "common/policy_world.rs"]
#[allow(dead_code, reason = "shared with the vectors")]
mod policy_world;

use podpath::base::Finding;
use podpath::endpoint::Outcome;
use podpath::kube::store::Name;
use podpath::lab::Probe;
use podpath::path::NoTrace;
use podpath::wire::proto;
use policy_world::{Came, End, PolicyWorld, Try};
use serde_json::{Value, json};
use std::net::IpAddr;
use std::time::Duration;

const AGENTS: [&str; 3] = ["calico", "kube-router", "nftables"];
const OUTSIDE: &str = "203.0.113.7";
const SERVICE: &str = "10.96.0.80";
const N1: &str = "172.18.0.2";
const N2: &str = "172.18.0.3";

fn node(name: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
        "status": {"addresses": [{"type": "InternalIP", "address": ip}]}})
}

fn pod(name: &str, node: &str, ip: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"nodeName": node, "containers": [{"name": "c", "image": "i",
            "ports": [{"containerPort": 8080, "protocol": "TCP"}]}]},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True"}]}})
}

/// A policy of `web`.
fn policy(spec: &Value) -> Value {
    json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
}

/// The policies that isolate `app` in this direction but for one peer and port.
fn opens(app: &str, direction: &str, rule: &Value) -> Value {
    let field = if direction == "Ingress" {
        "ingress"
    } else {
        "egress"
    };
    policy(
        &json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": [direction], field: [rule]}),
    )
}

fn closed(app: &str) -> Value {
    policy(
        &json!({"podSelector": {"matchLabels": {"app": app}}, "policyTypes": ["Ingress", "Egress"]}),
    )
}

fn build(agent: &str, options: &Value, policies: &[Value]) -> PolicyWorld {
    let mut objects = vec![
        node("n1", N1),
        node("n2", N2),
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}}),
        pod("client", "n1", "10.244.1.5"),
        pod("web", "n1", "10.244.1.6"),
        pod("far", "n2", "10.244.2.5"),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"type": "NodePort", "clusterIP": SERVICE, "selector": {"app": "web"},
                "ports": [{"port": 80, "targetPort": 8080, "nodePort": 30080, "protocol": "TCP"}]}}),
    ];
    objects.extend_from_slice(policies);
    let mut network = json!({"enforcement": agent});
    for (k, v) in options.as_object().into_iter().flatten() {
        network[k] = v.clone();
    }
    let spec = json!({
        "cni": {"plugin": "calico", "backend": "bgp"}, "serviceCIDRs": ["10.96.0.0/16"],
        "podCIDRs": ["10.244.0.0/16"], "proxy": {"mode": "iptables"}, "networkPolicy": network,
    });
    let outside = tried(End::Outside(ip(OUTSIDE)), pod_end("web"), 8080);
    let world = PolicyWorld::build(&objects, &spec, &[outside]).expect("a cluster");
    let bad = world.findings.iter().find(|f| f.is_error());
    assert!(bad.is_none(), "{agent} {options}: {bad:?}");
    world
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn pod_end(name: &str) -> End {
    End::Pod("shop".into(), name.into())
}

fn tried(from: End, to: End, port: u16) -> Try {
    Try {
        from,
        to,
        proto: proto::TCP,
        port,
        v6: false,
    }
}

/// Whether a connection opens.
fn opened(w: &mut PolicyWorld, from: End, to: End, port: u16) -> bool {
    w.attempt(&tried(from, to, port)).expect("both ends") == Came::Back
}

/// The same to an address that is nobody's own: a Service's, a node port's.
fn dials(w: &mut PolicyWorld, from: &End, to: &str, port: u16) -> Outcome {
    let (ns, _) = w.place(from, false).expect("the client");
    listen(w, 8080);
    let probe = Probe::tcp(ns, ip(to), port).timeout(Duration::from_secs(3));
    w.cluster.lab.probe(&probe, &mut NoTrace).outcome
}

fn listen(w: &mut PolicyWorld, port: u16) {
    w.hand_over(proto::TCP, port);
    for name in ["web", "far", "client"] {
        let ns = w.cluster.pods[&Name::new("shop", name)].ns;
        let _ = w
            .cluster
            .lab
            .listen(ns, None, proto::TCP, port, podpath::endpoint::App::Echo);
    }
}

#[test]
fn drop_or_reject() {
    for (agent, said, expected) in [
        ("calico", json!({}), Outcome::Timeout),
        ("calico", json!({"deny": "reject"}), Outcome::Refused),
        ("kube-router", json!({}), Outcome::Refused),
        ("kube-router", json!({"deny": "drop"}), Outcome::Timeout),
        ("nftables", json!({}), Outcome::Timeout),
    ] {
        let mut w = build(agent, &said, &[closed("web")]);
        for from in ["client", "far"] {
            let found = dials(&mut w, &pod_end(from), "10.244.1.6", 8080);
            assert_eq!(found, expected, "{agent} {said} from {from}");
        }
    }
}

#[test]
fn an_ip_block_covers_pods_or_not() {
    let block = opens(
        "web",
        "Ingress",
        &json!({"from": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}),
    );
    for agent in AGENTS {
        for (said, pods) in [(json!({}), true), (json!({"ipBlockPods": false}), false)] {
            let mut w = build(agent, &said, std::slice::from_ref(&block));
            for from in ["client", "far"] {
                let found = opened(&mut w, pod_end(from), pod_end("web"), 8080);
                assert_eq!(found, pods, "{agent} {said} from {from}");
            }
            let outside = End::Outside(ip(OUTSIDE));
            assert!(
                opened(&mut w, outside, pod_end("web"), 8080),
                "{agent} {said}: the outside"
            );
            assert!(
                opened(&mut w, End::Node("n2".into()), pod_end("web"), 8080),
                "{agent} {said}: a node"
            );
        }
    }
}

#[test]
fn a_pods_own_node() {
    for agent in AGENTS {
        for (said, open) in [
            (json!({}), false),
            (json!({"ownNode": "filtered"}), false),
            (json!({"ownNode": "open"}), true),
        ] {
            let mut w = build(agent, &said, &[closed("client")]);
            let own = opened(&mut w, pod_end("client"), End::Node("n1".into()), 8080);
            assert_eq!(own, open, "{agent} {said}: to its node");
            let other = opened(&mut w, pod_end("client"), End::Node("n2".into()), 8080);
            assert!(!other, "{agent} {said}: to another node");
            let back = opened(&mut w, End::Node("n1".into()), pod_end("client"), 8080);
            assert!(back, "{agent} {said}: what comes from its node is open");
        }
    }
}

#[test]
fn a_pod_reaches_itself_through_its_service() {
    for agent in AGENTS {
        for (said, expected) in [
            (json!({"hairpin": "filtered"}), false),
            (json!({}), false),
            (json!({"hairpin": "open"}), true),
        ] {
            let mut w = build(agent, &said, &[closed("web")]);
            let found = dials(&mut w, &pod_end("web"), SERVICE, 80);
            assert_eq!(found == Outcome::Ok, expected, "{agent} {said}: {found:?}");
        }
    }
}

/// What a TCP connection in the middle of a transfer sees of an edit that forbids it.
fn goes_on(agent: &str, said: &Value, edit: &Value) -> bool {
    let mut w = build(agent, said, &[]);
    listen(&mut w, 8080);
    let client = w.cluster.pods[&Name::new("shop", "far")].ns;
    for up in ["n1", "n2"] {
        let at = w.cluster.nodes[up].uplink;
        w.cluster.lab.world.link_mut(at).latency = Duration::from_millis(10);
    }
    let probe = Probe::tcp(client, ip("10.244.1.6"), 8080).size(2_000_000);
    let r = w
        .cluster
        .lab
        .start(&probe, &mut NoTrace)
        .expect("it starts");
    let began = w.cluster.lab.now();
    w.cluster
        .lab
        .run_until(began + Duration::from_millis(200), &mut NoTrace);
    let bytes = |w: &PolicyWorld| w.cluster.lab.client(r).expect("the client").bytes;
    let before = bytes(&w);
    assert!(
        before > 0 && before < 1_000_000,
        "{agent}: in the middle: {before}"
    );
    w.cluster
        .store
        .apply(edit, &podpath::base::Span::new("edit", 0, 0));
    let findings = w.cluster.objects_changed();
    assert!(!findings.iter().any(Finding::is_error), "{findings:?}");
    // What is under way may arrive.
    w.cluster
        .lab
        .run_until(began + Duration::from_millis(400), &mut NoTrace);
    let soon = bytes(&w);
    w.cluster
        .lab
        .run_until(began + Duration::from_secs(60), &mut NoTrace);
    // Nothing new may begin either way.
    let new = dials(&mut w, &pod_end("far"), "10.244.1.6", 8080);
    assert_ne!(new, Outcome::Ok, "{agent} {said}: a new connection");
    let all = bytes(&w);
    assert!(
        all == 2_000_000 || all == soon,
        "{agent} {said}: {before}, {soon}, {all}"
    );
    all == 2_000_000
}

#[test]
fn a_live_connection_and_an_edit() {
    let edit = closed("web");
    for (agent, said, expected) in [
        ("calico", json!({}), true),
        ("calico", json!({"existing": "keep"}), true),
        ("calico", json!({"existing": "flush"}), false),
        ("kube-router", json!({}), true),
        ("kube-router", json!({"existing": "flush"}), false),
        ("nftables", json!({}), false),
        ("nftables", json!({"existing": "flush"}), false),
        ("nftables", json!({"existing": "keep"}), true),
    ] {
        assert_eq!(goes_on(agent, &said, &edit), expected, "{agent} {said}");
    }
}

/// A flushed connection is judged by its next packet: where the server may open connections to the client and
/// speaks first, that packet opens it again (nf_conntrack_tcp_loose; the queue sees a packet, not a client).
#[test]
fn a_server_that_speaks_first_revives_a_flushed_connection() {
    let edit = policy(
        &json!({"podSelector": {"matchLabels": {"app": "web"}}, "policyTypes": ["Ingress"]}),
    );
    for agent in AGENTS {
        assert!(
            goes_on(agent, &json!({"existing": "flush"}), &edit),
            "{agent}"
        );
    }
}

#[test]
fn egress_sees_the_endpoint_or_the_service() {
    let to = |port: u16, cidr: &str| {
        let rule = json!({"to": [{"ipBlock": {"cidr": cidr}}], "ports": [{"port": port}]});
        opens("client", "Egress", &rule)
    };
    let endpoint = to(8080, "10.244.1.6/32");
    let service = to(80, "10.96.0.0/16");
    for (agent, said, sees) in [
        ("calico", json!({}), "endpoint"),
        ("kube-router", json!({}), "endpoint"),
        ("nftables", json!({}), "endpoint"),
        ("nftables", json!({"egressSees": "endpoint"}), "endpoint"),
        ("nftables", json!({"egressSees": "service"}), "service"),
        // Said, and not followed.
        ("calico", json!({"egressSees": "service"}), "endpoint"),
    ] {
        for (rule, name) in [(&endpoint, "endpoint"), (&service, "service")] {
            let mut w = build(agent, &said, std::slice::from_ref(rule));
            // Without a Service there is nothing to translate.
            let plain = opened(&mut w, pod_end("client"), pod_end("web"), 8080);
            assert_eq!(
                plain,
                name == "endpoint",
                "{agent} {said}: {name}, straight"
            );
            let found = dials(&mut w, &pod_end("client"), SERVICE, 80);
            assert_eq!(
                found == Outcome::Ok,
                name == sees,
                "{agent} {said}: {name}: {found:?}"
            );
        }
    }
}

/// externalTrafficPolicy Cluster: whose address a policy of `web` on n1 sees of a client outside that comes by a
/// node port of n1 or of n2. `None`: either of both has to be allowed.
#[test]
fn who_sees_the_client_of_a_node_port() {
    let from = |cidrs: &[&str]| {
        let from: Vec<Value> = cidrs
            .iter()
            .map(|c| json!({"ipBlock": {"cidr": c}}))
            .collect();
        opens("web", "Ingress", &json!({"from": from}))
    };
    // The outside's own address on the nodes' LAN.
    let (client, entry) = ("172.18.0.253/32", format!("{N2}/32"));
    let outside = End::Outside(ip(OUTSIDE));
    for (agent, said, expected) in [
        // Opened for: nobody, the client, the other node, both. By n1, then by n2.
        (
            "calico",
            json!({}),
            [[false, true, false, true], [false, false, true, true]],
        ),
        (
            "kube-router",
            json!({}),
            [[false, true, false, true], [false, false, true, true]],
        ),
        // Each node judges both sides: n2 sees the client, then n1 sees n2.
        (
            "nftables",
            json!({}),
            [[false, true, false, true], [false, false, false, true]],
        ),
        // Behind srcnat n1 sees itself, the pod's own node; n2 sees itself, and so does n1 then.
        (
            "nftables",
            json!({"ingressSees": "node"}),
            [[true; 4], [false, false, true, true]],
        ),
        (
            "calico",
            json!({"ingressSees": "node"}),
            [[false, true, false, true], [false, false, true, true]],
        ),
    ] {
        for (by, expected) in [(N1, expected[0]), (N2, expected[1])] {
            let rules = [
                from(&["192.0.2.0/24"]),
                from(&[client]),
                from(&[&entry]),
                from(&[client, &entry]),
            ];
            let found = rules.map(|rule| {
                let mut w = build(agent, &said, &[rule]);
                dials(&mut w, &outside, by, 30080) == Outcome::Ok
            });
            assert_eq!(found, expected, "{agent} {said} by {by}");
        }
    }
}

#[test]
fn what_an_agent_cannot_do_is_said() {
    for (agent, said, words) in [
        ("calico", json!({"egressSees": "service"}), Some("FORWARD")),
        (
            "kube-router",
            json!({"ingressSees": "node"}),
            Some("FORWARD"),
        ),
        (
            "nftables",
            json!({"deny": "reject"}),
            Some("it rejects nothing"),
        ),
        (
            "nftables",
            json!({"deny": "drop", "egressSees": "service", "ingressSees": "node"}),
            None,
        ),
        (
            "calico",
            json!({"deny": "reject", "egressSees": "endpoint", "existing": "flush"}),
            None,
        ),
    ] {
        let w = build(agent, &said, &[]);
        let about = |f: &&Finding| f.span.to_string().contains("case.json");
        let found: Vec<String> = w
            .findings
            .iter()
            .filter(about)
            .map(|f| f.to_string())
            .collect();
        match words {
            Some(words) => assert!(
                found.iter().any(|f| f.contains(words)),
                "{agent} {said}: {found:?}"
            ),
            None => assert!(found.is_empty(), "{agent} {said}: {found:?}"),
        }
    }
}
