//! `policy explain` in words: every reason for which a connection is denied, and those for which it is allowed.
//!
//! The cases are in tests/data/policy_explain.txt, one cluster for all. The texts are snapshots; that every kind
//! of reason occurs is counted.

use podpath::kube::controllers::{Facts, run};
use podpath::kube::manifest::Input;
use podpath::kube::policy::explain::{Explanation, explain};
use podpath::kube::policy::translate::ways;
use podpath::kube::policy::{BlockScope, Evaluator, Inventory, L4, Owner, Policies};
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::Store;
use podpath::report::policy::{Asked, Enforced, text};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

const CLUSTER: &str = include_str!("data/policy_cluster.yaml");
const CASES: &str = include_str!("data/policy_explain.txt");

/// Kinds of reasons that a denial may have; `noPeers` has no valid object.
const KINDS: &[&str] = &[
    "labelMissing",
    "labelValue",
    "labelExcluded",
    "labelPresent",
    "otherNamespace",
    "notSameLabels",
    "sameLabels",
    "outside",
    "node",
    "notInBlock",
    "except",
    "otherFamily",
    "blockIgnored",
    "notANode",
    "noName",
    "failedClosed",
    "otherProtocol",
    "otherPort",
    "outOfRange",
    "servicePort",
    "noPort",
    "noSuchPortName",
    "portNameIsOther",
    "portNameIsProtocol",
    "portNameOutside",
];

struct Case<'c> {
    denied: bool,
    title: &'c str,
    from: IpAddr,
    to: IpAddr,
    l4: L4,
    blocks: BlockScope,
    policies: &'c str,
}

fn case(text: &'static str) -> Case<'static> {
    let (title, rest) = text.split_once('\n').expect("a title");
    let (verdict, title) = title.split_once(": ").expect("a verdict and a title");
    let (asks, policies) = rest.split_once('\n').unwrap_or((rest, ""));
    let words: Vec<&str> = asks.split_whitespace().collect();
    let [from, to, port, blocks] = words[..] else {
        panic!("{asks:?}: expected FROM TO PORT READING");
    };
    let l4 = match port.split_once('/') {
        Some((n, "tcp")) => L4::Port(Protocol::Tcp, n.parse().expect("a port")),
        Some((n, "udp")) => L4::Port(Protocol::Udp, n.parse().expect("a port")),
        _ => L4::Other,
    };
    Case {
        denied: verdict == "denied",
        title,
        from: from.parse().expect("an address"),
        to: to.parse().expect("an address"),
        l4,
        blocks: match blocks {
            "NotPods" => BlockScope::NotPods,
            _ => BlockScope::Every,
        },
        policies,
    }
}

/// The explanations, and their text.
fn explained(case: &Case<'_>) -> (Vec<Explanation>, String) {
    let inputs = [
        Input::new("cluster.yaml", CLUSTER),
        Input::new("policies.yaml", case.policies),
    ];
    let (store, findings) = Store::load(&inputs);
    let error = findings.iter().find(|f| f.is_error());
    assert!(error.is_none(), "{}: {}", case.title, error.expect("one"));
    let facts = Facts::of_store(&store, 1);
    let inventory = Inventory::of(&store, &facts);
    let (policies, _) = Policies::of(&store);
    let (desired, _) = run(&store, &facts, None);
    let mut evaluator = Evaluator::new(&policies, &inventory);
    evaluator.options.blocks = case.blocks;
    let view = desired.view(Family::of(case.to));
    let dialled = match case.l4 {
        L4::Port(_, port) => Some(port),
        L4::Other => None,
    };
    let ways = ways(&inventory, &view, case.from, case.to, case.l4);
    let all: Vec<Explanation> = ways
        .iter()
        .map(|way| explain(&evaluator, way, dialled.filter(|_| way.service.is_some())))
        .collect();
    let named = |ip: IpAddr| match inventory.owner(ip) {
        Owner::Pod(pod) => format!("{} ({ip})", pod.name),
        Owner::Node(node) => format!("node/{node} ({ip})"),
        Owner::Outside => ip.to_string(),
    };
    let asked = Asked {
        from: named(case.from),
        to: named(case.to),
        port: case.l4.to_string(),
        enforced: Enforced::Unknown,
    };
    let text = text(&asked, &all, &named);
    (all, text)
}

#[test]
fn every_verdict_has_its_reason() {
    let (mut denied, mut allowed) = (String::new(), String::new());
    let (mut kinds, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for case in CASES.split("\n== ").skip(1).map(case) {
        let (ways, text) = explained(&case);
        let title = case.title;
        assert!(
            !ways.is_empty() && ways.iter().all(|w| w.allowed != case.denied),
            "{title}: {text}"
        );
        let near = ways.iter().flat_map(|w| &w.sides).flat_map(|s| &s.near);
        kinds.extend(
            near.flat_map(|n| &n.misses)
                .map(|placed| placed.miss.kind()),
        );
        assert!(titles.insert((case.denied, title)), "{title} twice");
        let out = if case.denied {
            &mut denied
        } else {
            &mut allowed
        };
        let _ = writeln!(out, "== {title}\n{text}");
    }
    insta::assert_snapshot!("denials", denied);
    insta::assert_snapshot!("allowed", allowed);
    let denials = titles.iter().filter(|(denied, _)| *denied).count();
    assert!(denials >= 40, "{denials}");
    let missing: Vec<&&str> = KINDS.iter().filter(|kind| !kinds.contains(*kind)).collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}
