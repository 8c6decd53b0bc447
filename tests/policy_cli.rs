//! `podpath policy explain` and `podpath policy lint` as typed: words, exit codes, JSON keys.

#[path = "common/json_doc.rs"]
mod json_doc;

use json_doc::documented;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const DEMO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/policy_demo.yaml");
const LINT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/policy_lint.yaml");
const NODES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/two-node-vxlan");

fn policy(args: &[&str], file: &str) -> Output {
    let run = Command::new(env!("CARGO_BIN_EXE_podpath"))
        .arg("policy")
        .args(args)
        .args(["-f", file, "--color", "never"])
        .output();
    run.expect("the binary starts")
}

fn text(output: &Output) -> String {
    let both = [&output.stdout[..], &output.stderr[..]].concat();
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/");
    String::from_utf8_lossy(&both).replace(dir, "")
}

fn exits(args: &[&str], file: &str, code: i32) -> String {
    let output = policy(args, file);
    assert_eq!(
        output.status.code(),
        Some(code),
        "{args:?}: {}",
        text(&output)
    );
    text(&output)
}

#[test]
fn words_and_exit_codes() {
    let denied = exits(&["explain", "shop/web", "svc/shop/api:80"], DEMO, 1);
    insta::assert_snapshot!("service", denied);
    let bare = exits(&["explain", "web", "svc/api", "-n", "shop"], DEMO, 1);
    assert_eq!(
        bare.lines()
            .next()
            .map(|l| l.contains("svc/shop/api TCP 80: denied")),
        Some(true)
    );
    let allowed = exits(&["explain", "shop/api", "shop/web"], DEMO, 0);
    assert!(
        allowed.starts_with("shop/api -> shop/web TCP 8080: allowed"),
        "{allowed}"
    );
    let outside = exits(
        &["explain", "203.0.113.7", "shop/api:8080", "-p", "udp"],
        DEMO,
        1,
    );
    assert!(
        outside.contains("203.0.113.7 is outside the cluster"),
        "{outside}"
    );
    // Pods of a topology get their addresses from its CNI.
    let built = exits(&["explain", "default/a1", "default/b1:8080"], NODES, 0);
    assert!(built.contains("no policy is about its egress"), "{built}");
}

#[test]
fn what_cannot_be_asked() {
    for (args, words) in [
        (vec!["explain", "shop/web", "node/n1"], "which port?"),
        (
            vec!["explain", "shop/wbe", "shop/api:80"],
            "did you mean shop/web?",
        ),
        (
            vec!["explain", "svc/shop/api", "shop/web:80"],
            "a Service sends nothing",
        ),
        (
            vec!["explain", "shop/web", "svc/shop/apy:80"],
            "there is no such Service",
        ),
        (
            vec!["explain", "shop/web", "shop/api:80", "-6"],
            "no address of one family",
        ),
        (vec!["explain", "shop/web", "shop/api:99999"], "up to 65535"),
        (
            vec!["explain", "host/x", "shop/api:80"],
            "there is no such host",
        ),
    ] {
        let said = exits(&args, DEMO, 2);
        assert!(said.contains(words), "{args:?}: {said}");
    }
    let help = policy(&["explain", "--help"], DEMO);
    assert!(text(&help).contains("Examples:") && text(&help).contains("svc/shop/api:80"));
}

#[test]
fn lint_ends_with_1_where_it_finds_something() {
    let said = exits(&["lint"], LINT, 1);
    assert!(said.ends_with("10 policies: 17 findings\n"), "{said}");
    let clean = exits(&["lint"], NODES, 0);
    assert!(
        clean.ends_with("0 policies: nothing to complain about\n"),
        "{clean}"
    );
}

const FLANNEL: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/topologies/policy-calico-broken-flannel"
);
const CALICO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/topologies/policy-calico");
const TIER: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/topologies/policy-kube-router-broken-tier"
);

#[test]
fn who_enforces_is_said() {
    let denied = exits(&["explain", "shop/front", "shop/db:5432"], FLANNEL, 1);
    let note = "denied\n  by the policies only: nobody enforces them beside flannel, and it opens all the same\n";
    assert!(denied.contains(note), "{denied}");
    let allowed = exits(&["explain", "ops/monitor", "shop/web:8080"], FLANNEL, 0);
    let note = "allowed\n  nobody enforces policies beside flannel: it would open anyway\n";
    assert!(allowed.contains(note), "{allowed}");
    let linted = exits(&["lint"], FLANNEL, 1);
    let note = "not-enforced: 5 policies are there, and nobody enforces them: no agent runs beside flannel";
    assert!(linted.contains(note), "{linted}");
    let calico = exits(&["explain", "shop/front", "shop/db:5432"], CALICO, 1);
    assert!(!calico.contains("enforces"), "{calico}");
    let calico = text(&policy(&["lint"], CALICO));
    assert!(!calico.contains("not-enforced"), "{calico}");
    // kube-router knows one kind.
    let open = exits(&["explain", "ops/monitor", "shop/web:8080"], TIER, 0);
    let note = "not asked: ClusterNetworkPolicy no-ops; kube-router implements NetworkPolicy only";
    assert!(open.contains(note), "{open}");
    let linted = exits(&["lint"], TIER, 1);
    let note = "ClusterNetworkPolicy no-ops: kube-router implements NetworkPolicy only: nobody enforces this";
    assert!(linted.contains(note), "{linted}");
    for (file, word) in [(FLANNEL, "none"), (CALICO, "calico"), (TIER, "kube-router")] {
        let args = ["explain", "shop/front", "shop/db:5432", "-o", "json"];
        let json: Value = serde_json::from_slice(&policy(&args, file).stdout).expect("JSON");
        assert_eq!(json["enforcement"], word);
    }
}

/// The demo's pods with other policies in a cluster whose `spec.networkPolicy` is this.
fn demo_with(name: &str, policies: &str, network: &str) -> String {
    let file = format!("{}/{name}.yaml", env!("CARGO_TARGET_TMPDIR"));
    let demo = std::fs::read_to_string(DEMO).expect("the demo");
    let others = demo.split("---\napiVersion: networking").next();
    let demo = others.expect("objects before the policies");
    let text = format!(
        "{demo}---\n{policies}\n---\napiVersion: podpath.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: c}}\n\
         spec: {{cni: {{plugin: calico}}, podCIDRs: [10.244.0.0/16], networkPolicy: {{{network}}}}}\n"
    );
    std::fs::write(&file, text).expect("writable");
    file
}

/// Each reading is the agent's own, unless the document has another.
#[test]
fn readings_follow_the_cluster() {
    let egress = |to: &str, port: u16| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\nspec:\n  \
             podSelector: {{matchLabels: {{app: web}}}}\n  policyTypes: [Egress]\n  \
             egress: [{{to: [{{ipBlock: {{cidr: {to}}}}}], ports: [{{port: {port}}}]}}]\n---\n\
             apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: api, namespace: shop}}\nspec: \
             {{podSelector: {{matchLabels: {{app: api}}}}, ingress: [{{}}]}}\n"
        )
    };
    let (node, pod, service) = ("172.18.0.2:10250", "shop/api:8080", "svc/shop/api:80");
    for (name, to, port, asked, network, code) in [
        ("own", "192.0.2.0/24", 80, node, "", 1),
        ("own-open", "192.0.2.0/24", 80, node, "ownNode: open", 0),
        (
            "own-nobody",
            "192.0.2.0/24",
            80,
            node,
            "enforcement: none",
            0,
        ),
        ("block", "10.244.0.0/16", 8080, pod, "", 0),
        (
            "block-pods",
            "10.244.0.0/16",
            8080,
            pod,
            "ipBlockPods: false",
            1,
        ),
        ("port", "10.244.0.0/16", 8080, service, "", 0),
        (
            "port-dialled",
            "10.244.0.0/16",
            8080,
            service,
            "enforcement: nftables, egressSees: service",
            1,
        ),
        ("dialled", "10.96.0.0/16", 80, service, "", 1),
        (
            "dialled-seen",
            "10.96.0.0/16",
            80,
            service,
            "enforcement: nftables, egressSees: service",
            0,
        ),
        // Felix cannot.
        (
            "felix",
            "10.96.0.0/16",
            80,
            service,
            "egressSees: service",
            1,
        ),
    ] {
        let file = demo_with(name, &egress(to, port), network);
        exits(&["explain", "shop/web", asked], &file, code);
    }
}

fn keys(value: &Value) -> BTreeSet<String> {
    value
        .as_object()
        .expect("an object")
        .keys()
        .cloned()
        .collect()
}

#[test]
fn json_has_the_documented_keys() {
    let output = policy(
        &["explain", "shop/web", "svc/shop/api:80", "-o", "json"],
        DEMO,
    );
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(json["version"], 1);
    assert_eq!(
        keys(&json),
        documented("## `policy explain -o json`, version 1")
    );
    let way = &json["ways"][0];
    assert_eq!(keys(way), documented("### A way"));
    let side = &way["sides"][1];
    assert_eq!(keys(side), documented("### A side"));
    assert_eq!(side["near"][0]["misses"][0]["kind"], "servicePort");
    let output = policy(&["lint", "-o", "json"], LINT);
    let json: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        keys(&json),
        documented("## `policy lint -o json`, version 1")
    );
    assert_eq!(json["findings"].as_array().map(Vec::len), Some(17));
}
