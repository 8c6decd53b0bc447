//! Traces through native nftables rules: kube-proxy's, whose rules come from Services and whose endpoints have
//! chances, and those of nobody's that podpath does not understand.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::Finding;
use podpath::cluster::{Checked, Cluster, Scenario};
use podpath::endpoint::Outcome;
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::ProbeSpec;
use podpath::kube::store::Store;
use podpath::path::{EventKind, Step};
use podpath::report::fork;
use podpath::report::trace::{Style, text};

/// services-vxlan in nftables mode, with something more below.
fn scenario(more: &str) -> Scenario {
    let (s, findings) = start(more);
    assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
    s
}

fn start(more: &str) -> (Scenario, Vec<Finding>) {
    start_in("nftables", more)
}

fn start_in(mode: &str, more: &str) -> (Scenario, Vec<Finding>) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/services-vxlan");
    let file = |f: &str| std::fs::read_to_string(format!("{root}/{f}")).expect("a file");
    let podpath =
        file("podpath.yaml").replace("{mode: iptables}", &format!("{{mode: {mode}}}")) + more;
    let input = |label: &str, text: &str| Input::from_bytes(label, text.as_bytes()).expect("text");
    let (store, findings) = Store::load(&[
        input("manifests.yaml", &file("manifests.yaml")),
        input("podpath.yaml", &podpath),
    ]);
    assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
    Scenario::start(Cluster::build(store, 1).0)
}

fn spec(s: &Scenario, probe: &str) -> ProbeSpec {
    let mut all = s.cluster.store.probes.values();
    let found = all.find(|p| p.name.name == probe);
    found.expect("a probe").spec.clone()
}

fn run(s: &mut Scenario, probe: &str) -> Checked {
    let spec = spec(s, probe);
    s.run_probe(probe, &spec)
}

fn told(c: &Checked) -> String {
    let out = text(&c.events, Style::default());
    anstream::adapter::strip_str(&out).to_string()
}

/// The rules that a probe met, with their origins.
fn rules(c: &Checked) -> Vec<(String, String)> {
    let rules = c.events.iter().filter_map(|e| match &e.kind {
        EventKind::Step(Step::Rule { at, .. }) => Some((at.chain.clone(), at.origin.to_string())),
        _ => None,
    });
    rules.collect()
}

#[test]
fn every_endpoint_of_a_service_is_followed_with_its_chance() {
    let s = scenario("");
    let runs = s.every_endpoint(&spec(&s, "client-to-web"));
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert_ne!(runs[0].endpoint, runs[1].endpoint);
    for r in &runs {
        assert!((r.chance - 0.5).abs() < 1e-9, "{}", r.chance);
        assert_eq!(r.result.outcome, Outcome::Ok);
        let to = format!("{}", r.endpoint.0);
        let mapped = r.events.iter().any(|e| {
            matches!(&e.kind, EventKind::Step(Step::NatSetup { what: "destination", to: t, .. })
                if t.contains(&to))
        });
        assert!(mapped, "led to {to}");
    }
    // One endpoint is no choice but by way of the same rules.
    let one = s.every_endpoint(&spec(&s, "client-to-far"));
    let chances: Vec<f64> = one.iter().map(|r| r.chance).collect();
    assert_eq!(chances, [1.0]);
}

#[test]
fn rules_of_services_name_the_manifests_line() {
    let mut s = scenario("");
    let c = run(&mut s, "client-to-far");
    let all = rules(&c);
    let service = all.iter().find(|(chain, _)| chain.starts_with("service-"));
    let (_, origin) = service.expect("the Service's chain");
    assert!(
        origin.starts_with("kube-proxy from Service default/far (manifests.yaml:"),
        "{origin}"
    );
    let endpoint = all.iter().find(|(chain, _)| chain.starts_with("endpoint-"));
    assert_eq!(&endpoint.expect("an endpoint's chain").1, origin);
    let jump = all.iter().find(|(chain, _)| chain == "services");
    assert_eq!(jump.expect("the dispatch").1, "kube-proxy");
    assert!(!all.iter().any(|(_, o)| o == "kernel"), "{all:?}");
    let out = told(&c);
    assert!(out.contains("kube-proxy from Service default/far"), "{out}");
}

#[test]
fn so_do_the_virtual_servers_of_ipvs_mode() {
    let mut s = start_in("ipvs", "").0;
    let origins = |c: &Checked| -> Vec<String> {
        let all = c.events.iter().filter_map(|e| match &e.kind {
            EventKind::Step(Step::Ipvs { origin, .. }) => Some(origin.to_string()),
            _ => None,
        });
        all.collect()
    };
    for (probe, service) in [
        ("client-to-far", "default/far"),
        ("client-to-far-udp", "default/far"),
        ("customer-to-node-port-n1", "default/door"),
        ("customer-to-load-balancer", "default/front"),
    ] {
        let c = run(&mut s, probe);
        let wanted = format!("kube-proxy from Service {service} (manifests.yaml:");
        let all = origins(&c);
        assert!(
            !all.is_empty() && all.iter().all(|o| o.starts_with(&wanted)),
            "{probe}: {all:?}"
        );
        assert!(!rules(&c).iter().any(|(_, o)| o == "kernel"), "{probe}");
    }
}

#[test]
fn what_an_unknown_expression_decides_is_followed_both_ways() {
    let fault = "---\napiVersion: podpath.dev/v1alpha1\nkind: Fault\nmetadata: {name: osf}\nspec:\n  node: n1\n  \
                 commands:\n  - |\n    nft -f - <<EOF\n    table ip own {\n      chain pre {\n        type filter hook \
                 prerouting priority raw;\n        iifname eth0 tcp flags syn osf name \"Linux\" drop\n      }\n    \
                 }\n    EOF\n";
    let mut s = scenario(fault);
    let c = run(&mut s, "customer-to-node-port-n1");
    assert_eq!(c.fork.as_ref().map(|f| f.outcome()), Some(Outcome::Depends));
    let branches = c.fork.as_ref().map(fork::text).unwrap_or_default();
    let lines: Vec<&str> = branches.lines().map(str::trim).collect();
    assert_eq!(
        lines,
        [
            "rules that podpath does not understand decide here:",
            "1. n1: ip own pre: iifname \"eth0\" tcp flags syn osf name \"Linux\" drop",
            "if rule 1 matches         timeout after 30.00 s",
            "if rule 1 does not match  ok after 1.60 ms",
        ],
        "{branches}"
    );
    let met = rules(&c);
    let own = met.iter().find(|(chain, _)| chain == "pre");
    assert!(
        own.expect("the rule").1.starts_with("fault osf:"),
        "{met:?}"
    );
}

#[test]
fn so_it_is_below_the_ip_layer() {
    let fault = "---\napiVersion: podpath.dev/v1alpha1\nkind: Fault\nmetadata: {name: ct}\nspec:\n  node: n1\n  \
                 commands:\n  - nft add table bridge b\n  - nft add chain bridge b pre '{ type filter hook prerouting \
                 priority -200; }'\n  - nft add rule bridge b pre tcp dport 80 ct state new drop\n";
    let mut s = scenario(fault);
    let c = run(&mut s, "client-to-far");
    let fork = c.fork.expect("two ways");
    assert_eq!(fork.outcome(), Outcome::Depends);
    let outcomes: Vec<Outcome> = fork.branches.iter().map(|b| b.result.outcome).collect();
    assert!(
        outcomes.contains(&Outcome::Ok) && outcomes.contains(&Outcome::Timeout),
        "{outcomes:?}"
    );
}

#[test]
fn a_command_that_nft_refuses_is_told_at_its_line() {
    let bad = "---\napiVersion: podpath.dev/v1alpha1\nkind: Fault\nmetadata: {name: bad}\nspec:\n  node: n1\n  \
               commands:\n  - nft add rule ip nowhere c accept\n";
    let (s, findings) = start(bad);
    let wrong: Vec<&str> = { findings.iter().filter(|f| f.is_error()) }
        .map(|f| f.message.as_str())
        .collect();
    assert_eq!(
        wrong,
        ["n1: nft add rule ip nowhere c accept: no such table: ip nowhere"]
    );
    let node = s.cluster.nodes.get("n1").expect("n1").ns;
    let ns = s.cluster.lab.world.ns(node).expect("its namespace");
    let tables = ns.nf().expect("rules").nft().tables.len();
    assert_eq!(tables, 2, "kube-proxy's of both families alone");
}
