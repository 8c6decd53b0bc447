//! `policy explain` in words: every reason for which a connection is denied, and those for which it is allowed.
//!
//! One cluster, one or two policies each time. The text is a snapshot; that all kinds of reasons occur is counted.

use podpath::kube::controllers::{Facts, run};
use podpath::kube::manifest::Input;
use podpath::kube::policy::explain::{Explanation, explain};
use podpath::kube::policy::translate::ways;
use podpath::kube::policy::{BlockScope, Evaluator, Inventory, L4, Owner, Policies};
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::Store;
use podpath::report::policy::{Asked, text};
use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::IpAddr;

const CLUSTER: &str = r#"
kind: List
apiVersion: v1
items:
- {apiVersion: v1, kind: Node, metadata: {name: n1, labels: {zone: a}}, status: {addresses: [{type: InternalIP, address: 172.18.0.2}]}}
- {apiVersion: v1, kind: Node, metadata: {name: n2, labels: {zone: b}}, status: {addresses: [{type: InternalIP, address: 172.18.0.3}]}}
- {apiVersion: v1, kind: Namespace, metadata: {name: shop, labels: {team: shop, env: prod}}}
- {apiVersion: v1, kind: Namespace, metadata: {name: data, labels: {team: data, env: prod}}}
- apiVersion: v1
  kind: Pod
  metadata: {name: web, namespace: shop, labels: {app: web, tier: front}}
  spec: {nodeName: n1, containers: [{name: c, image: i}]}
  status: {phase: Running, hostIP: 172.18.0.2, podIP: 10.244.1.5, podIPs: [{ip: 10.244.1.5}, {ip: 'fd00::5'}]}
- apiVersion: v1
  kind: Pod
  metadata: {name: db, namespace: data, labels: {app: db}}
  spec:
    nodeName: n2
    containers: [{name: c, image: i, ports: [{name: sql, containerPort: 5432}, {name: stat, containerPort: 53, protocol: UDP}]}]
  status: {phase: Running, hostIP: 172.18.0.3, podIP: 10.244.2.7, podIPs: [{ip: 10.244.2.7}, {ip: 'fd00::7'}]}
- apiVersion: v1
  kind: Service
  metadata: {name: db, namespace: data}
  spec:
    clusterIP: 10.96.0.7
    selector: {app: db}
    ports: [{port: 3306, targetPort: 5432}]
"#;

/// A policy for `data/db` that has the given ingress rules.
fn ingress(rules: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: db, namespace: data}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: db}}}}\n  ingress:\n{rules}"
    )
}

/// A policy for `shop/web` that has the given egress rules.
fn egress(rules: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: web, namespace: shop}}\n\
         spec:\n  podSelector: {{matchLabels: {{app: web}}}}\n  policyTypes: [Egress]\n  egress:\n{rules}"
    )
}

/// A ClusterNetworkPolicy about everything with the rest of its spec.
fn tier(name: &str, tier: &str, rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  tier: {tier}\n  priority: 5\n  subject: {{namespaces: {{}}}}\n{rules}"
    )
}

/// An AdminNetworkPolicy of the first releases.
fn old(rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\n\
         metadata: {{name: default}}\nspec:\n  subject: {{namespaces: {{}}}}\n{rules}"
    )
}

struct Asks<'a> {
    from: &'a str,
    to: &'a str,
    l4: L4,
    blocks: BlockScope,
}

const WEB: &str = "10.244.1.5";
const DB: &str = "10.244.2.7";
const SQL: L4 = L4::Port(Protocol::Tcp, 5432);

impl Default for Asks<'_> {
    fn default() -> Self {
        Asks {
            from: WEB,
            to: DB,
            l4: SQL,
            blocks: BlockScope::Every,
        }
    }
}

/// The explanations, and their text.
fn explained(policies: &[String], asks: &Asks<'_>) -> (Vec<Explanation>, String) {
    let mut inputs = vec![Input::new("cluster.yaml", CLUSTER)];
    inputs.push(Input::new("policies.yaml", policies.join("\n---\n")));
    let (store, findings) = Store::load(&inputs);
    let error = findings.iter().find(|f| f.is_error());
    assert!(error.is_none(), "{}", error.expect("one"));
    let facts = Facts::of_store(&store, 1);
    let inventory = Inventory::of(&store, &facts);
    let (policies, _) = Policies::of(&store);
    let (desired, _) = run(&store, &facts, None);
    let mut evaluator = Evaluator::new(&policies, &inventory);
    evaluator.options.blocks = asks.blocks;
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    let (from, to) = (ip(asks.from), ip(asks.to));
    let view = desired.view(Family::of(to));
    let dialled = match asks.l4 {
        L4::Port(_, port) => Some(port),
        L4::Other => None,
    };
    let ways = ways(&inventory, &view, from, to, asks.l4);
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
        from: named(from),
        to: named(to),
        port: asks.l4.to_string(),
    };
    let text = text(&asked, &all, &named);
    (all, text)
}

/// Denials: a title, the policies, what is asked.
fn denials() -> Vec<(&'static str, Vec<String>, Asks<'static>)> {
    let all = Asks::default;
    let udp = |port| L4::Port(Protocol::Udp, port);
    let pods = |s: &str| {
        ingress(&format!(
            "  - from: [{{namespaceSelector: {{}}, podSelector: {s}}}]\n"
        ))
    };
    let spaces = |s: &str| ingress(&format!("  - from: [{{namespaceSelector: {s}}}]\n"));
    let ports = |s: &str| ingress(&format!("  - ports: [{s}]\n"));
    let block = |s: &str| ingress(&format!("  - from: [{{ipBlock: {s}}}]\n"));
    let outside = || Asks {
        from: "203.0.113.9",
        ..all()
    };
    let away = || Asks {
        to: "203.0.113.9",
        ..all()
    };
    let node = || Asks {
        from: "172.18.0.2",
        ..all()
    };
    let six = || Asks {
        from: "fd00::5",
        to: "fd00::7",
        ..all()
    };
    vec![
        ("no ingress rule at all", vec![ingress("    []\n")], all()),
        ("no egress rule at all", vec![egress("    []\n")], all()),
        (
            "a label of the pod is missing",
            vec![pods("{matchLabels: {role: client}}")],
            all(),
        ),
        (
            "a label of the pod has another value",
            vec![pods("{matchLabels: {app: api, tier: front}}")],
            all(),
        ),
        (
            "a label of the pod is excluded",
            vec![pods(
                "{matchExpressions: [{key: tier, operator: NotIn, values: [front, edge]}]}",
            )],
            all(),
        ),
        (
            "a label of the pod should not be there",
            vec![pods(
                "{matchExpressions: [{key: tier, operator: DoesNotExist}]}",
            )],
            all(),
        ),
        (
            "a label of the namespace is missing",
            vec![spaces("{matchLabels: {zone: a}}")],
            all(),
        ),
        (
            "a label of the namespace has another value",
            vec![spaces("{matchLabels: {team: ops}}")],
            all(),
        ),
        (
            "a label of the namespace is excluded",
            vec![spaces(
                "{matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}",
            )],
            all(),
        ),
        (
            "a label of the namespace should not be there",
            vec![spaces(
                "{matchExpressions: [{key: env, operator: DoesNotExist}]}",
            )],
            all(),
        ),
        (
            "a podSelector alone",
            vec![ingress(
                "  - from: [{podSelector: {matchLabels: {app: web}}}]\n",
            )],
            all(),
        ),
        (
            "a source outside the cluster and a selector",
            vec![spaces("{}")],
            outside(),
        ),
        (
            "a source that is a node and a selector",
            vec![spaces("{}")],
            node(),
        ),
        (
            "outside of the block",
            vec![block("{cidr: 203.0.113.0/29}")],
            outside(),
        ),
        (
            "cut out of the block",
            vec![block("{cidr: 203.0.113.0/24, except: [203.0.113.8/29]}")],
            outside(),
        ),
        (
            "a block of the other family",
            vec![block("{cidr: 0.0.0.0/0}")],
            six(),
        ),
        (
            "a block where pods are not held against blocks",
            vec![block("{cidr: 10.0.0.0/8}")],
            Asks {
                blocks: BlockScope::NotPods,
                ..all()
            },
        ),
        (
            "another protocol",
            vec![ports("{protocol: UDP, port: 5432}")],
            all(),
        ),
        (
            "another protocol, by default",
            vec![ports("{}")],
            Asks {
                l4: udp(53),
                ..all()
            },
        ),
        (
            "another port",
            vec![ports("{port: 80}, {port: 443}")],
            all(),
        ),
        (
            "outside of the range",
            vec![ports("{port: 6000, endPort: 7000}")],
            all(),
        ),
        (
            "a protocol without ports",
            vec![ports("{port: 80}")],
            Asks {
                l4: L4::Other,
                ..all()
            },
        ),
        (
            "a port name that the pod lacks",
            vec![ports("{port: http}")],
            all(),
        ),
        (
            "a port name for another number",
            vec![ports("{port: sql}")],
            Asks {
                l4: L4::Port(Protocol::Tcp, 53),
                ..all()
            },
        ),
        (
            "a port name of another protocol",
            vec![ports("{port: sql, protocol: UDP}")],
            all(),
        ),
        (
            "a port name whose container says another protocol",
            vec![ports("{port: stat}")],
            Asks {
                l4: L4::Port(Protocol::Tcp, 53),
                ..all()
            },
        ),
        (
            "a port name towards the outside",
            vec![egress("  - ports: [{port: sql}]\n")],
            away(),
        ),
        (
            "the Service's port instead of the pod's",
            vec![ports("{port: 3306}")],
            Asks {
                to: "10.96.0.7",
                l4: L4::Port(Protocol::Tcp, 3306),
                ..all()
            },
        ),
        (
            "peer and port, and the closest of several rules",
            vec![ingress(
                "  - from: [{podSelector: {}}]\n    ports: [{port: 80}]\n\
                 \x20 - from: [{namespaceSelector: {}}]\n    ports: [{port: 80}]\n\
                 \x20 - from: [{ipBlock: {cidr: 203.0.113.0/24}}]\n",
            )],
            all(),
        ),
        (
            "several policies isolate, one of them for egress only",
            vec![
                pods("{matchLabels: {app: api}}"),
                ingress("    []\n").replace("name: db,", "name: all,"),
                egress("  - {}\n")
                    .replace("namespace: shop", "namespace: data")
                    .replace("app: web", "app: db"),
            ],
            all(),
        ),
        (
            "an Admin rule denies",
            vec![
                tier(
                    "strict",
                    "Admin",
                    "  ingress:\n  - {name: no-shop, action: Deny, from: [{namespaces: {matchLabels: {team: shop}}}]}\n",
                ),
                ingress("  - {}\n"),
            ],
            all(),
        ),
        (
            "an Admin rule passes, then isolated",
            vec![
                tier(
                    "pass",
                    "Admin",
                    "  ingress:\n  - {action: Pass, from: [{namespaces: {}}]}\n",
                ),
                ingress("    []\n"),
            ],
            all(),
        ),
        (
            "a Baseline rule denies",
            vec![tier(
                "base",
                "Baseline",
                "  egress:\n  - {action: Deny, to: [{networks: [10.244.0.0/16]}]}\n",
            )],
            all(),
        ),
        (
            "a rule of tomorrow fails closed",
            vec![tier(
                "new",
                "Admin",
                "  egress:\n  - {action: Pass, to: [{galaxies: {}}]}\n",
            )],
            all(),
        ),
        (
            "a Baseline of old denies the same team",
            vec![old(
                "  ingress:\n  - {action: Deny, from: [{namespaces: {sameLabels: [env]}}]}\n",
            )],
            all(),
        ),
    ]
}

#[test]
fn every_denial_has_its_reason() {
    let mut out = String::new();
    let (mut kinds, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for (title, policies, asks) in denials() {
        let (ways, text) = explained(&policies, &asks);
        assert!(
            !ways.is_empty() && ways.iter().all(|w| !w.allowed),
            "{title}: {text}"
        );
        let near = ways.iter().flat_map(|w| &w.sides).flat_map(|s| &s.near);
        kinds.extend(
            near.flat_map(|n| &n.misses)
                .map(|placed| placed.miss.kind()),
        );
        assert!(titles.insert(title));
        let _ = writeln!(out, "== {title}\n{text}");
    }
    insta::assert_snapshot!("denials", out);
    assert!(titles.len() >= 25, "{}", titles.len());
    // Those that only rules of other tiers could have, which are not isolating, are told by lint.
    let missing: Vec<&str> = [
        "labelMissing",
        "labelValue",
        "labelExcluded",
        "labelPresent",
        "otherNamespace",
        "outside",
        "node",
        "notInBlock",
        "except",
        "otherFamily",
        "blockIgnored",
        "otherProtocol",
        "otherPort",
        "outOfRange",
        "servicePort",
        "noPort",
        "noSuchPortName",
        "portNameIsOther",
        "portNameIsProtocol",
        "portNameOutside",
    ]
    .into_iter()
    .filter(|kind| !kinds.contains(kind))
    .collect();
    assert!(missing.is_empty(), "no example of {missing:?}");
}

#[test]
fn every_way_to_be_allowed_has_its_reason() {
    let all = Asks::default;
    let cases = vec![
        ("nobody isolates", vec![], all()),
        (
            "a rule allows",
            vec![ingress(
                "  - from: [{namespaceSelector: {matchLabels: {team: shop}}}]\n    ports: [{port: sql}]\n",
            )],
            all(),
        ),
        (
            "an Admin rule accepts",
            vec![
                tier(
                    "ok",
                    "Admin",
                    "  ingress:\n  - {action: Accept, from: [{namespaces: {}}], protocols: [{tcp: {destinationPort: {number: 5432}}}]}\n",
                ),
                ingress("    []\n"),
            ],
            all(),
        ),
        (
            "the pod's own address",
            vec![ingress("    []\n")],
            Asks { from: DB, ..all() },
        ),
        (
            "the pod's own node",
            vec![ingress("    []\n")],
            Asks {
                from: "172.18.0.3",
                ..all()
            },
        ),
        (
            "isolated for the other direction only",
            vec![
                egress("  - {}\n")
                    .replace("namespace: shop", "namespace: data")
                    .replace("app: web", "app: db"),
            ],
            all(),
        ),
        (
            "no pod at either end",
            vec![ingress("    []\n")],
            Asks {
                from: "203.0.113.9",
                to: "198.51.100.1",
                ..all()
            },
        ),
        (
            "a Baseline rule that the policy keeps away",
            vec![
                tier(
                    "base",
                    "Baseline",
                    "  ingress:\n  - {action: Deny, from: [{namespaces: {}}]}\n",
                ),
                ingress("  - {}\n"),
            ],
            all(),
        ),
        (
            "passed on to nobody",
            vec![tier(
                "pass",
                "Admin",
                "  ingress:\n  - {action: Pass, from: [{namespaces: {}}]}\n",
            )],
            all(),
        ),
    ];
    let mut out = String::new();
    for (title, policies, asks) in cases {
        let (ways, text) = explained(&policies, &asks);
        assert!(ways.iter().all(|w| w.allowed), "{title}: {text}");
        let _ = writeln!(out, "== {title}\n{text}");
    }
    insta::assert_snapshot!("allowed", out);
}
