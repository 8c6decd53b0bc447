//! Traces to Services as people read them: which lines are told, which are folded, and what is a reply.

#![allow(missing_docs, reason = "a test binary")]

use podpath::cluster::{Cluster, Scenario};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::report::fork;
use podpath::report::trace::{Style, text};

/// A probe of a topology by name, as text.
fn trace(topology: &str, probe: &str, style: Style) -> (String, String) {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies");
    let file = |f: &str| {
        let label = format!("{topology}/{f}");
        let bytes = std::fs::read(format!("{root}/{label}")).expect("a file");
        Input::from_bytes(label, &bytes).expect("text")
    };
    let (store, _) = Store::load(&[file("manifests.yaml"), file("podpath.yaml")]);
    let (mut s, _) = Scenario::start(Cluster::build(store, 1).0);
    let found = { s.cluster.store.probes.values() }.find(|p| p.name.name == probe);
    let spec = found.expect("a probe").spec.clone();
    let c = s.run_probe(probe, &spec);
    let branches = c.fork.as_ref().map(fork::text).unwrap_or_default();
    let out = text(&c.events, style);
    (anstream::adapter::strip_str(&out).to_string(), branches)
}

fn lines_with<'a>(text: &'a str, word: &str) -> Vec<&'a str> {
    text.lines().filter(|l| l.contains(word)).collect()
}

#[test]
fn empty_chains_that_let_pass_are_told_only_on_request() {
    let brief = trace("services-vxlan", "client-to-far", Style::default()).0;
    assert_eq!(lines_with(&brief, "mangle"), [""; 0]);
    assert!(lines_with(&brief, "-j KUBE-SERVICES").len() > 1);
    let verbose = Style {
        verbose: true,
        ..Style::default()
    };
    let all = trace("services-vxlan", "client-to-far", verbose).0;
    assert!(lines_with(&all, "mangle PREROUTING policy ACCEPT").len() > 1);
}

/// The answer to a NodePort comes from an address that the client never asked, to one that is not its own.
#[test]
fn an_answer_to_a_translated_request_is_a_reply() {
    let out = trace(
        "services-vxlan",
        "customer-to-node-port-n1",
        Style::default(),
    )
    .0;
    let mut at = out.lines();
    assert!(at.any(|l| l.contains("── default/web-2")), "{out}");
    let until_reply: Vec<&str> = at.by_ref().take_while(|l| *l != "reply").collect();
    assert!(
        !until_reply.iter().any(|l| l.contains("[S.]")),
        "a SYN,ACK on the way there:\n{out}"
    );
    let reply: Vec<&str> = at.take_while(|l| *l != "forward").collect();
    for step in ["── default/web-2", "── n2", "── n1", "── host/customer"] {
        assert!(reply.iter().any(|l| l.starts_with(step)), "{step}:\n{out}");
    }
}

#[test]
fn one_origin_is_told_once() {
    let out = trace("services-vxlan", "client-to-far", Style::default()).0;
    let dnat = out.split("[S],").nth(2).unwrap_or_default();
    let first_hook = dnat
        .split("nat       destination")
        .next()
        .unwrap_or_default();
    assert_eq!(
        lines_with(first_hook, "kube-proxy from Service default/far").len(),
        1,
        "{first_hook}"
    );
    assert!(lines_with(first_hook, "-A ").is_empty() && first_hook.contains("KUBE-SEP-"));
}

#[test]
fn what_depends_tells_both_ways_and_every_origin_is_one_line() {
    let (out, branches) = trace(
        "services-vxlan-broken-unknown-match",
        "customer-to-node-port-n1",
        Style::default(),
    );
    assert_eq!(
        branches,
        "rules that podpath does not understand decide here:\n  \
         1. n1: raw -A PREROUTING -i eth0 -p tcp -m geoip --source-country XX -j DROP\n  \
         if rule 1 matches         timeout after 10.00 s\n  \
         if rule 1 does not match  ok after 1.60 ms\n"
    );
    assert_eq!(lines_with(&out, "COMMIT"), [""; 0]);
}
