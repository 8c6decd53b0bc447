//! `proxy compare`: which packets it covers, and the differences that it finds in a cluster of every ordinary
//! kind of Service and in those with the constructs of the further ones.

#![allow(missing_docs, reason = "a test binary")]

#[path = "common/all_services.rs"]
mod all_services;

use all_services::{KINDS, Kind, kind, list, objects_of};
use podpath::cluster::{Cluster, kube_proxy};
use podpath::kube::manifest::Input;
use podpath::kube::proxy::compare::{Cause, Compared, Report, Source, Target};
use podpath::kube::service::Family;
use podpath::kube::store::Store;
use podpath::lab::Probe;
use podpath::path::{Disposition, DropReason, Event, EventKind, Step};
use podpath::report::proxy_compare;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

fn cluster(services: usize, more: Vec<Value>) -> Cluster {
    let (store, findings) = Store::load(&[Input::new("objects.json", list(services, more))]);
    let wrong: Vec<String> = findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    Cluster::build(store, 1).0
}

fn report(c: &Cluster, every: bool) -> Report {
    kube_proxy::compare(c, None, every).expect("rules that can be read")
}

fn causes(report: &Report) -> Vec<Cause> {
    report.by_cause().into_keys().collect()
}

/// Of one Service, without what every cluster has.
fn of_one(more: Vec<Value>) -> Report {
    let mut report = report(&cluster(0, more), false);
    let usual = [Cause::UndefinedPort, Cause::Unallocated];
    report
        .compared
        .retain(|c| c.cause.is_none_or(|cause| !usual.contains(&cause)));
    report
}

fn words(c: &Compared) -> [String; 3] {
    c.verdicts.each_ref().map(ToString::to_string)
}

const KNOWN: [Cause; 4] = [
    Cause::UndefinedPort,
    Cause::Unallocated,
    Cause::RangesWithoutEndpoints,
    Cause::LocalWithoutLocal,
];

#[test]
fn every_ordinary_kind_differs_in_the_known_ways_only() {
    let c = cluster(10 * KINDS, vec![]);
    let report = report(&c, false);
    for (cause, list) in report.by_cause() {
        assert!(KNOWN.contains(&cause), "{cause}: {:?}", list[0]);
    }
    assert_eq!(causes(&report), KNOWN);
}

#[test]
fn every_class_is_listed_once_with_its_endpoints() {
    let c = cluster(KINDS, vec![]);
    let report = report(&c, true);
    assert_eq!(report.compared.len(), report.classes());
    let key = |c: &Compared| {
        let k = &c.class;
        (c.node.clone(), k.source, k.in_ranges, k.to, k.protocol)
    };
    let keys: BTreeSet<_> = report.compared.iter().map(key).collect();
    assert_eq!(keys.len(), report.classes(), "classes do not overlap");
    // Three nodes; kinds without a port, and headless ones, have no class.
    let named: BTreeSet<String> = report
        .compared
        .iter()
        .filter_map(|c| c.class.service.as_ref().map(ToString::to_string))
        .collect();
    for i in 0..KINDS {
        let is = named
            .iter()
            .any(|n| n.starts_with(&format!("default/svc{i}:")));
        assert_eq!(is, ![10, 18].contains(&i), "svc{i}: {named:?}");
    }
    for family in Family::ALL {
        for source in [
            Source::LocalPod,
            Source::RemotePod,
            Source::Node,
            Source::Outside,
        ] {
            let of = |c: &&Compared| c.class.family == family && c.class.source == source;
            assert!(
                report.compared.iter().any(|c| of(&c)),
                "{family:?} {source}"
            );
        }
    }
    // A Service of two endpoints, with its slice's zones on n1 (kind 17): the endpoint of that zone.
    let zoned = report.compared.iter().find(|c| {
        c.node == "n1"
            && c.class.family == Family::V6
            && c.class
                .service
                .as_ref()
                .is_some_and(|s| s.to_string().starts_with("default/svc17:"))
    });
    let zoned = zoned.expect("a class");
    assert_eq!(
        words(zoned),
        [(); 3].map(|()| "[fd00:244:0:1::13]:8080".to_owned())
    );
    let text = proxy_compare::text(&report, false, true);
    let line = text
        .lines()
        .find(|l| l.starts_with("n1") && l.contains("default/svc17:p0") && l.contains("fd00:96"));
    let line = line.map(|l| l.split_whitespace().collect::<Vec<_>>().join(" "));
    assert_eq!(
        line.as_deref(),
        Some("n1 default/svc17:p0 ClusterIP [fd00:96::12]:80/tcp all [fd00:244:0:1::13]:8080")
    );
    let json = proxy_compare::json(&report, true);
    assert_eq!(
        json["listed"].as_array().map(Vec::len),
        Some(report.classes())
    );
    let sum: u64 = json["covered"]
        .as_object()
        .unwrap()
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert_eq!(json["classes"], sum);
}

/// kubernetes pkg/proxy/iptables/proxier.go, iptablesJumpChains: KUBE-EXTERNAL-SERVICES hangs in INPUT and FORWARD;
/// pkg/proxy/nftables: service-endpoints-check hangs in filter-output, too.
#[test]
fn the_node_gets_no_refusal_from_an_external_address_without_endpoints() {
    for spec in [
        json!({"type": "LoadBalancer"}),
        json!({"externalIPs": ["198.18.0.1"]}),
    ] {
        let empty = Kind {
            balanced: spec["type"] == "LoadBalancer",
            spec,
            protocol: "TCP",
            ..Kind::default()
        };
        let report = of_one(objects_of(0, &empty));
        assert_eq!(causes(&report), [Cause::NodeWithoutEndpoints]);
        assert_eq!(report.compared.len(), 3, "once on each node");
        for c in &report.compared {
            assert_eq!(c.class.source, Source::Node);
            assert!(matches!(
                c.class.target,
                Target::LoadBalancer | Target::ExternalIp
            ));
            assert_eq!(words(c), ["routed", "reject", "reject"]);
        }
    }
    // At a NodePort the packet comes in over lo, where INPUT has the rule.
    assert_eq!(causes(&of_one(objects_of(15, &kind(15)))), []);
}

/// pkg/proxy/ipvs/proxier.go, syncEndpoint: with policy Local the local endpoints for every source.
#[test]
fn ipvs_mode_has_no_short_circuit_past_policy_local() {
    let local = Kind {
        balanced: true,
        spec: json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"}),
        protocol: "TCP",
        endpoints: vec![(1, json!({})), (2, json!({}))],
        ..Kind::default()
    };
    let report = of_one(objects_of(0, &local));
    assert_eq!(
        causes(&report),
        [Cause::LocalWithoutLocal, Cause::ShortCircuit]
    );
    let by_cause = report.by_cause();
    for c in &by_cause[&Cause::ShortCircuit] {
        assert_ne!(c.class.source, Source::Outside);
        assert_ne!(c.node, "n3", "without an endpoint IPVS mode uses all");
        let ends = c.verdicts.each_ref().map(|v| v.endpoints.len());
        assert_eq!(ends, [2, 2, 1], "{c:?}");
    }
    for c in &by_cause[&Cause::LocalWithoutLocal] {
        assert_eq!((c.node.as_str(), c.class.source), ("n3", Source::Outside));
    }
}

/// KEP 3866, "NodePorts": nftables mode listens on the primary node addresses only.
#[test]
fn nftables_mode_takes_node_ports_at_the_primary_address() {
    let mut more = objects_of(1, &kind(1));
    more.push(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n4"},
        "spec": {"podCIDRs": ["10.244.4.0/24"]},
        "status": {"addresses": [{"type": "InternalIP", "address": "192.168.0.4"},
            {"type": "InternalIP", "address": "192.168.0.44"}], "nodeInfo": {"kubeletVersion": "v1.35.0"}}}));
    let report = of_one(more);
    assert_eq!(causes(&report), [Cause::NodePortAddress]);
    for c in &report.compared {
        assert_eq!(c.class.to.ip().to_string(), "192.168.0.44");
        let [iptables, nftables, ipvs] = &c.verdicts;
        assert_eq!((iptables.endpoints.len(), nftables.host), (2, true));
        assert_eq!(iptables, ipvs);
    }
}

/// What the walk made of a node's packet, in the words of a verdict.
fn walked(c: &mut Cluster, of: &Compared) -> String {
    let ns = c.nodes[&of.node].ns;
    let mut probe = Probe::tcp(ns, of.class.to.ip(), of.class.to.port());
    probe.timeout = Duration::from_millis(1500);
    let (_, events) = c.lab.trace(&probe);
    let mine = |e: &&Event| e.ns == ns && e.parent.is_none();
    // What IPVS translated passes the rules behind it, too.
    let last = events
        .iter()
        .filter(mine)
        .rfind(|e| matches!(e.kind, EventKind::End(_)));
    let dropped = last.is_some_and(|e| {
        let by = DropReason::Netfilter;
        matches!(&e.kind, EventKind::End(Disposition::Dropped { reason, .. }) if *reason == by)
    });
    if dropped {
        return "drop".into();
    }
    for e in events.iter().filter(mine) {
        match &e.kind {
            EventKind::Step(Step::NatSetup {
                what: "destination",
                to,
                ..
            }) => return to.clone(),
            EventKind::Step(Step::Ipvs {
                server,
                reply: false,
                ..
            }) => return server.to_string(),
            EventKind::End(Disposition::Rejected { reason, .. }) => {
                let by_rules = matches!(reason, DropReason::NetfilterReject | DropReason::Ipvs);
                return if by_rules { "reject" } else { "node" }.into();
            }
            EventKind::End(Disposition::Delivered { .. }) => return "node".into(),
            _ => {}
        }
    }
    "routed".into()
}

/// The verdicts are read off rules; the walk carries the rules out.
#[test]
fn the_walk_of_the_nodes_own_packets_ends_as_the_verdicts_say() {
    let listed = report(&cluster(KINDS, vec![]), true);
    // A way out, which real nodes have.
    let way =
        r#"["ip route add default via 192.168.0.3","ip -6 route add default via fd00:192::3"]"#;
    let ways = format!(r#""nodes":{{"n1":{{"commands":{way}}},"n2":{{"commands":{way}}}}}"#);
    let ranges = r#""podCIDRs":["10.244.0.0/16""#;
    for (m, mode) in ["iptables", "nftables", "ipvs"].into_iter().enumerate() {
        let text = list(KINDS, vec![]).replace(ranges, &format!("{ways},{ranges}"));
        let text = text.replace(r#""mode":"none""#, &format!(r#""mode":"{mode}""#));
        let (store, _) = Store::load(&[Input::new("objects.json", text)]);
        let (mut c, _) = Cluster::build(store, 1);
        let asked = listed.compared.iter().filter(|of| {
            of.class.source == Source::Node
                && of.class.protocol.to_string() == "tcp"
                && of.node != "n3"
        });
        let mut n = 0;
        for of in asked {
            // An address's range matters where the node's address is on that side.
            let said = of.verdicts[m].to_string();
            let got = walked(&mut c, of);
            assert!(
                said.split(',').any(|s| s == got),
                "{mode}: {:?}: {said}, walked {got}",
                of.class
            );
            n += 1;
        }
        assert!(n > 50, "{n}");
    }
}
