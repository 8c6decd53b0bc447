//! `podpath reach` as typed: every output, exit codes, what cannot be asked, hostile names; and the path against
//! the policies.

#[path = "common/json_doc.rs"]
mod json_doc;

use json_doc::documented;
use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/");
const CALICO: &str = "topologies/policy-calico";
const FLANNEL: &str = "topologies/policy-calico-broken-flannel";
const CHANGE: [&str; 4] = [
    "--with",
    "tests/data/reach_change.yaml",
    "--without",
    "netpol/shop/web",
];

fn reach(args: &[&str]) -> Output {
    let run = Command::new(env!("CARGO_BIN_EXE_podpath"))
        .current_dir(ROOT)
        .arg("reach")
        .args(args)
        .args(["--color", "never"])
        .output();
    run.expect("the binary starts")
}

/// Standard output of a run that ends with `code`.
fn exits(args: &[&str], code: i32) -> String {
    let output = reach(args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn json(args: &[&str]) -> Value {
    let text = exits(&[args, &["-o", "json"]].concat(), 0);
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn every_output() {
    for format in ["table", "csv", "dot"] {
        insta::assert_snapshot!(
            format!("policy-{format}"),
            exits(&[CALICO, "-o", format], 0)
        );
        let change = [&[CALICO, "-o", format], &CHANGE[..]].concat();
        insta::assert_snapshot!(format!("change-{format}"), exits(&change, 0));
        let path = ["-q", FLANNEL, "--path", "-o", format];
        insta::assert_snapshot!(format!("path-{format}"), exits(&path, 0));
    }
    // All of the JSON would be long: one namespace of it.
    let args = [CALICO, "-n", "shop", "--from", "shop/front", "-o", "json"];
    insta::assert_snapshot!("policy-json", exits(&args, 0));
    let change = [
        &[
            CALICO,
            "-o",
            "json",
            "--from",
            "shop/front",
            "--to",
            "shop/",
        ],
        &CHANGE[..],
    ]
    .concat();
    insta::assert_snapshot!("change-json", exits(&change, 0));
}

#[test]
fn a_second_run_says_the_same() {
    for format in ["table", "json", "svg", "html"] {
        for more in [&["--path"][..], &CHANGE[..]] {
            let args = [&["-q", FLANNEL, "-o", format], more].concat();
            assert_eq!(exits(&args, 0), exits(&args, 0), "{args:?}");
        }
    }
}

#[test]
fn exit_codes() {
    exits(&[CALICO, "--exit-code"], 0);
    let change = [&[CALICO, "--exit-code"], &CHANGE[..]].concat();
    exits(&change, 1);
    exits(&["--diff", CALICO, CALICO, "--exit-code"], 0);
    exits(&["-q", FLANNEL, "--path", "--exit-code"], 1);
    exits(
        &[
            CALICO,
            "--path",
            "--from",
            "pods",
            "--to",
            "pods",
            "--exit-code",
        ],
        0,
    );
    exits(&["no/such/folder"], 2);
}

/// Where Calico enforces policies, frames between pods end as the evaluator says; on whole routes everything arrives.
#[test]
fn the_path_is_what_policies_say() {
    for topology in [
        CALICO,
        "topologies/policy-calico-broken-label",
        "topologies/policy-calico-broken-namespace",
        "topologies/policy-calico-broken-dns",
        "topologies/policy-calico-broken-service-port",
        "topologies/policy-kube-router",
        "topologies/services-calico",
        "topologies/two-node-vxlan",
    ] {
        let doc = json(&["-q", topology, "--path", "--from", "pods", "--to", "pods"]);
        assert_eq!(doc["differ"], Value::Array(Vec::new()), "{topology}");
        assert!(
            doc["probes"].as_u64() > Some(5),
            "{topology}: {}",
            doc["probes"]
        );
        for cell in doc["cells"].as_array().expect("cells") {
            for port in cell["ports"].as_array().expect("ports") {
                // One probe stands for the pairs between two nodes: all or nothing between pods.
                let (open, path) = (&port["states"][0]["open"], &port["path"]);
                let all = path["reached"] == path["probes"];
                let open = open.as_u64() > Some(0);
                assert!(path.is_null() || open == all, "{topology}: {cell}");
            }
        }
    }
}

/// What the path says where it does not do what policies say, and why.
#[test]
fn the_path_differs_with_a_reason() {
    let whys = |topology: &str, more: &[&str]| -> BTreeSet<(bool, String)> {
        let doc = json(&[&["-q", topology, "--path"], more].concat());
        let differ = doc["differ"].as_array().expect("differences").clone();
        let why = |d: &Value| {
            (
                d["allowed"] == true,
                d["cause"].as_str().expect("a cause").to_owned(),
            )
        };
        differ.iter().map(why).collect()
    };
    let has = |topology: &str, more: &[&str], allowed: bool, words: &str| {
        let all = whys(topology, more);
        assert!(
            all.iter().any(|(a, w)| *a == allowed && w.contains(words)),
            "{topology}: {all:?}"
        );
    };
    let pods = ["--from", "pods", "--to", "pods"];
    has(FLANNEL, &pods, false, "nobody enforces policies");
    has(
        "topologies/two-node-vxlan-broken-fdb",
        &pods,
        true,
        "no VXLAN forwarding entry",
    );
    has(
        "topologies/two-node-vxlan-broken-underlay-mtu",
        &pods,
        true,
        "MTU black hole between n1 and n2",
    );
    has("topologies/two-node-host-gw-broken-route", &pods, true, "");
    let tier = "topologies/policy-kube-router-broken-tier";
    has(
        tier,
        &pods,
        false,
        "kube-router implements NetworkPolicy only",
    );
    let no_endpoints = json(&[
        "-q",
        "topologies/services-vxlan-broken-selector",
        "--path",
        "--to",
        "svc/default/far",
    ]);
    assert_eq!(
        no_endpoints["cells"][0]["ports"][0]["path"]["reached"], 0,
        "{no_endpoints}"
    );
    let healthy = whys(
        "topologies/services-vxlan",
        &["--from", "pods", "--to", "svc/default/web"],
    );
    assert!(healthy.is_empty(), "{healthy:?}");
}

#[test]
fn filters() {
    let names = |doc: &Value, what: &str| -> Vec<String> {
        let groups = doc["groups"].as_array().expect("groups").iter();
        let those = groups.filter(|g| g[what] == true);
        those
            .map(|g| g["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let doc = json(&[
        CALICO,
        "-n",
        "shop",
        "-l",
        "app in (web,db)",
        "--port",
        "5432/TCP",
    ]);
    assert_eq!(names(&doc, "sends"), ["shop/db", "shop/web"]);
    assert_eq!(doc["cells"].as_array().map(Vec::len), Some(2));
    let doc = json(&[
        CALICO,
        "--from-namespace",
        "ops",
        "--to-selector",
        "app=web",
    ]);
    assert_eq!(
        (names(&doc, "sends"), names(&doc, "receives")),
        (vec!["ops/monitor".into()], vec!["shop/web".into()])
    );
    let doc = json(&[
        CALICO,
        "--from",
        "host/customer",
        "--from",
        "outside",
        "--to",
        "web",
        "-n",
        "shop",
    ]);
    assert_eq!(names(&doc, "receives"), ["shop/web"]);
    assert!(
        names(&doc, "sends").contains(&"host/customer".to_owned()),
        "{doc}"
    );
    let doc = json(&[CALICO, "--from", "shop/", "--to", "svc/shop/web:main"]);
    assert_eq!(names(&doc, "receives"), ["svc/shop/web"]);
    // An address of a pod is the pod, a node's the node.
    let doc = json(&[
        CALICO,
        "--from",
        "192.168.50.11",
        "--to",
        "pods",
        "--by",
        "pod",
    ]);
    assert_eq!(names(&doc, "sends"), ["node/n1"]);
    let doc = json(&["topologies/dual-stack", "-6"]);
    assert_eq!(doc["family"], "IPv6");
}

#[test]
fn what_cannot_be_asked() {
    for (args, words) in [
        (vec!["--from", "shop/wbe"], "did you mean shop/web?"),
        (vec!["--from", "svc/shop/web"], "a Service sends nothing"),
        (vec!["--to", "svc/shop/wbe"], "did you mean shop/web?"),
        (vec!["--to", "svc/shop/web:99"], "it has main, 80"),
        (vec!["--to", "shop/web:80"], "write --port 80"),
        (vec!["--to", "node/n9"], "there is no such node"),
        (vec!["--from", "host/x"], "there is no such host"),
        (vec!["-n", "shpo"], "did you mean shop?"),
        (vec!["-l", "app=nobody"], "nobody is left"),
        (vec!["-l", "app in (a"], "without"),
        (vec!["--port", "http"], "expected a port such as"),
        (vec!["--port", "80/icmp"], "expected a port such as"),
        (
            vec!["--without", "netpol/shop/nothing"],
            "there is no such object",
        ),
        (vec!["--without", "widget/x"], "expected a kind among"),
        (vec!["--with", "no/such.yaml"], "no such file or folder"),
        (
            vec!["--path", "--without", "netpol/shop/web"],
            "cannot be used with",
        ),
        (vec!["--from", "2001:db8::1"], "choose by -4 or -6"),
        (
            vec!["--out", "no/such/folder/x.svg"],
            "could not be written",
        ),
    ] {
        let output = reach(&[&[CALICO][..], &args].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.contains(words), "{args:?}: {said}");
    }
    let help = exits(&["--help"], 0);
    assert!(
        help.contains("Examples:") && help.contains("--without netpol/shop/allow-all"),
        "{help}"
    );
}

/// A manifest that cannot be read stops the command with its place, also behind `--with`.
#[test]
fn places_of_mistakes() {
    let file = std::env::temp_dir().join(format!("podpath-reach-{}.yaml", std::process::id()));
    let text = "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: x}\n\
        spec: {podSelector: {}, ingress: [{ports: [{port: 70000}]}]}\n";
    std::fs::write(&file, text).expect("written");
    let name = file.display().to_string();
    for args in [
        vec![name.as_str()],
        vec![CALICO, "--with", &name],
        vec!["--diff", CALICO, &name],
    ] {
        let output = reach(&args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(&format!("{name}:4:")), "{said}");
    }
    std::fs::remove_file(&file).expect("removed");
}

/// Names and labels from a manifest stay text in every output.
#[test]
fn hostile_text_stays_text() {
    let file = std::env::temp_dir().join(format!("podpath-hostile-{}.json", std::process::id()));
    let evil = "</script><script>alert(1)</script>\"'&\u{202e}";
    let mut items = vec![
        serde_json::json!({"apiVersion": "policy.networking.k8s.io/v1alpha2",
        "kind": "ClusterNetworkPolicy", "metadata": {"name": "c"},
        "spec": {"tier": "Admin", "priority": 1, "subject": {"namespaces": {}},
            "ingress": [{"action": "Deny", "name": "a rule </script><b>", "from": [{"namespaces": {}}]}]}}),
    ];
    for n in 0..40 {
        items.push(serde_json::json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": format!("p{n}"), "namespace": "a", "labels": {"app": evil, "n": n.to_string()}},
            "spec": {"nodeName": evil, "containers": [{"name": "c", "image": "i"}]},
            "status": {"podIP": format!("10.0.0.{}", n + 1)}}));
    }
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": items});
    std::fs::write(&file, list.to_string()).expect("written");
    let name = file.display().to_string();
    for format in ["html", "svg", "dot", "csv", "json", "table"] {
        for by in ["class", "pod"] {
            let output = reach(&[&name, "-q", "-o", format, "--by", by]);
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(
                matches!(output.status.code(), Some(0 | 2)),
                "{format}: {said}"
            );
            if matches!(format, "html" | "svg") {
                assert!(
                    !text.contains("<script>alert") && !text.contains("<b>\""),
                    "{format}"
                );
                assert_eq!(
                    text.matches("</script>").count(),
                    if format == "html" && !text.is_empty() {
                        2
                    } else {
                        0
                    }
                );
            }
            if format == "json" && !text.is_empty() {
                serde_json::from_str::<Value>(&text).expect("JSON");
            }
        }
    }
    std::fs::remove_file(&file).expect("removed");
}

#[test]
fn json_keys_are_documented() {
    let keys = |v: &Value| -> BTreeSet<String> {
        let object = v.as_object().expect("an object");
        object.keys().cloned().collect()
    };
    let path = json(&["-q", FLANNEL, "--path"]);
    let change = json(&[&[CALICO], &CHANGE[..]].concat());
    let all: BTreeSet<String> = keys(&path).union(&keys(&change)).cloned().collect();
    assert_eq!(all, documented("## `reach -o json`, version 1"));
    assert_eq!(keys(&path["groups"][0]), documented("### A group of ends"));
    let cell = &path["cells"][0];
    assert_eq!(keys(cell), documented("### A pair of groups"));
    assert_eq!(keys(&cell["ports"][0]), documented("### A port of a pair"));
    assert_eq!(
        keys(&cell["ports"][0]["states"][0]),
        documented("### A port in a state")
    );
    assert_eq!(keys(&path["differ"][0]), documented("### A difference"));
}
