//! The iptables rules that a cluster's nodes get: from the CNI's agent, from Docker, from command lines.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::Finding;
use podpath::cluster::{Cluster, run_command};
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;
use podpath::nf::{Backend, Family};
use serde_json::{Value, json};

fn cluster(spec: &Value) -> (Cluster, Vec<Finding>) {
    let node = |n: &str| json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": n}});
    let all = json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": "c"}, "spec": spec});
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "demo"},
        "spec": {"nodeName": "n1", "containers": [{"name": "web", "image": "web",
            "ports": [{"containerPort": 80, "hostPort": 8080}]}]}});
    let items = json!([node("n1"), node("n2"), pod, all]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let (store, mut findings) = Store::load(&[Input::new("objects.json", list)]);
    let (cluster, more) = Cluster::build(store, 1);
    findings.extend(more);
    (cluster, findings)
}

fn saved(c: &Cluster, node: &str) -> String {
    let ns = c.lab.world.ns(c.nodes[node].ns).expect("the node");
    let set = ns.nf().and_then(|nf| nf.rule_set(Family::V4, Backend::Nft));
    set.map(|s| s.to_save(false)).unwrap_or_default()
}

#[test]
fn a_flannel_node_masquerades_behind_docker() {
    let (c, findings) = cluster(&json!({
        "cni": {"plugin": "flannel"}, "podCIDRs": ["10.244.0.0/16"],
        "nodes": {"n1": {"docker": 28, "commands": [
            "iptables -I INPUT -p tcp --dport 10250 -m comment --comment 'no kubelet' -j DROP",
        ]}},
    }));
    assert!(!findings.iter().any(Finding::is_error), "{findings:#?}");
    let (n1, n2) = (saved(&c, "n1"), saved(&c, "n2"));
    assert!(n1.contains(":FORWARD DROP [0:0]") && n2.contains(":FORWARD ACCEPT [0:0]"));
    let forward: Vec<&str> = n1.lines().filter(|l| l.starts_with("-A FORWARD")).collect();
    assert_eq!(
        forward,
        [
            "-A FORWARD -j DOCKER-USER",
            "-A FORWARD -j DOCKER-FORWARD",
            "-A FORWARD -m comment --comment \"flanneld forward\" -j FLANNEL-FWD",
        ]
    );
    let input = "-A INPUT -p tcp -m tcp --dport 10250 -m comment --comment \"no kubelet\" -j DROP";
    assert!(n1.contains(input) && !n2.contains(input), "{n1}");
    assert!(
        n2.contains("-A FLANNEL-POSTRTG -s 10.244.0.0/16 ! -d 224.0.0.0/4"),
        "{n2}"
    );
}

#[test]
fn a_kindnet_node_masquerades_last() {
    let (c, findings) = cluster(&json!({
        "cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16"],
    }));
    assert!(!findings.iter().any(Finding::is_error), "{findings:#?}");
    let n1 = saved(&c, "n1");
    let agent: Vec<&str> = n1
        .lines()
        .filter(|l| l.starts_with("-A KIND-MASQ-AGENT"))
        .collect();
    assert_eq!(
        agent,
        [
            "-A KIND-MASQ-AGENT -d 10.244.0.0/16 -m comment --comment \"kind-masq-agent: local traffic is \
             not subject to MASQUERADE\" -j RETURN",
            "-A KIND-MASQ-AGENT -m comment --comment \"kind-masq-agent: outbound traffic is subject to \
             MASQUERADE (must be last in chain)\" -j MASQUERADE",
        ]
    );
    let entry = "-A POSTROUTING -m addrtype ! --dst-type LOCAL -m comment --comment \"kind-masq-agent: ensure nat \
                 POSTROUTING directs all non-LOCAL destination traffic to our custom KIND-MASQ-AGENT chain\" \
                 -j KIND-MASQ-AGENT";
    assert!(n1.contains(entry), "{n1}");
}

#[test]
fn a_command_that_iptables_refuses_is_a_finding() {
    let (mut c, _) = cluster(&json!({"cni": {"plugin": "kindnet"}, "podCIDRs": ["10.244.0.0/16"]}));
    let ns = c.nodes["n1"].ns;
    let at = podpath::base::Span::new("m.yaml", 3, 7);
    let before = saved(&c, "n1");
    let origin = podpath::base::Origin::Scenario("test".into());
    let mut run = |line: &str| run_command(&mut c, ns, line, &at, origin.clone());
    let refused = run("iptables -t nat -X KIND-MASQ-AGENT").expect_err("it is used");
    assert!(
        refused.message.contains("Device or resource busy"),
        "{refused:?}"
    );
    let unread = run("iptables -S | wc").expect_err("a pipe");
    assert_eq!(unread.span.column, 7 + 12);
    run("iptables-restore -n <<EOF\n*filter\n:MINE - [0:0]\n-A MINE -j DROP\nCOMMIT\nEOF")
        .expect("good");
    let after = saved(&c, "n1");
    assert!(
        !before.contains("MINE") && after.contains("-A MINE -j DROP"),
        "{after}"
    );
}
