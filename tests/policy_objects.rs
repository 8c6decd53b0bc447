//! What the API server refuses in policies, in its words and at the field's place; defaults; what lint finds.

use podpath::kube::controllers::{Facts, run};
use podpath::kube::manifest::Input;
use podpath::kube::policy::lint::{Linted, lint};
use podpath::kube::policy::{Direction, Inventory, Policies, PortKind};
use podpath::kube::service::{Family, Protocol};
use podpath::kube::store::Store;
use std::collections::BTreeSet;
use std::fmt::Write;

fn np(spec: &str) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec:\n{spec}\n"
    )
}

fn cnp(spec: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\n\
         metadata: {{name: p}}\nspec:\n{spec}\n"
    )
}

fn load(text: &str) -> (Store, Vec<podpath::base::Finding>) {
    Store::load(&[Input::new("p.yaml", text)])
}

/// Every refusal and warning of objects, as the store tells them; [`Policies::of`] says the same.
#[test]
fn refused_with_the_apis_own_reasons() {
    let rule = |s: &str| np(&format!("  podSelector: {{}}\n  ingress:\n  - {s}"));
    let port = |s: &str| rule(&format!("ports: [{s}]"));
    let peer = |s: &str| rule(&format!("from: [{s}]"));
    let tier = |s: &str| {
        cnp(&format!(
            "  tier: Admin\n  priority: 1\n  subject: {{namespaces: {{}}}}\n{s}"
        ))
    };
    let to = |s: &str| tier(&format!("  egress: [{{action: Accept, to: [{s}]}}]"));
    let cases = [
        port("{endPort: 80}"),
        port("{port: web, endPort: 80}"),
        port("{port: 80, endPort: 79}"),
        port("{port: 0}"),
        port("{port: 80, endPort: 70000}"),
        port("{port: Web_1}"),
        port("{port: '80'}"),
        port("{port: 80, protocol: tcp}"),
        port("{port: 80, protocol: ICMP}"),
        peer("{}"),
        peer("{podSelector: null}"),
        peer("{ipBlock: {cidr: 10.0.0.0/8}, podSelector: {}}"),
        peer("{ipBlock: {cidr: ''}}"),
        peer("{ipBlock: {cidr: 10.0.0.0}}"),
        peer("{ipBlock: {cidr: 10.0.0.5/8}}"),
        peer("{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8, 11.0.0.0/16, 'fd00::/64']}}"),
        peer("{podSelector: {matchExpressions: [{key: a, operator: In}]}}"),
        peer("{podSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}"),
        peer("{podSelector: {matchExpressions: [{key: a, operator: Equals, values: [b]}]}}"),
        peer("{namespaceSelector: {matchLabels: {'a/b/c': x, d: 'no blanks'}}}"),
        np("  podSelector: {}\n  policyTypes: [ingress]"),
        np("  podSelector: {}\n  policyTypes: [Ingress, Egress, Ingress]"),
        np("  podSelector: {}\n  ingress:\n  - form: []"),
        cnp("  tier: Middle\n  priority: 1001\n  subject: {}"),
        cnp("  tier: Admin\n  priority: -1\n  subject: {namespaces: {},\n\
         \x20  pods: {namespaceSelector: {}, podSelector: {}}}"),
        tier("  ingress: [{action: Allow, from: []}]"),
        tier("  ingress: [{action: Accept}]"),
        tier("  ingress: [{action: Accept, from: [{}]}]"),
        tier("  ingress: [{action: Accept, from: [{networks: [10.0.0.0/8]}]}]"),
        tier("  egress: [{action: Deny, to: [{domainNames: [example.org]}]}]"),
        to("{namespaces: {}, nodes: {}}"),
        to("{networks: [10.0.0.0, 10.0.0.0/8]}"),
        to("{domainNames: [example, '*.example.org', 'a*.example.org']}"),
        to("{newKind: {}}"),
        tier("  egress: [{action: Accept, to: [{nodes: {}}], protocols: [{destinationNamedPort: web}]}]"),
        tier("  egress: [{action: Accept, to: [{nodes: {}}], \n\
         \x20  protocols: [{tcp: {destinationPort: {range: {start: 90, end: 80}}}}, {}]}]"),
        tier(&format!("  ingress: [{}]", vec!["{action: Deny, from: [{namespaces: {}}]}"; 26].join(", "))),
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\nmetadata: {name: other}\n\
         spec: {subject: {namespaces: {}}, ingress: [{action: Pass, from: [{namespaces: {}}]}]}\n".to_owned(),
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {name: a}\n\
         spec: {priority: 3, subject: {namespaces: {}}, ingress: [{action: Accept, from: [{namespaces: {}}],\n\
         \x20 ports: [{portNumber: {port: 0}}, {portRange: {start: 5, end: 5}}, {}]}]}\n".to_owned(),
    ];
    let mut out = String::new();
    for text in cases {
        let (store, findings) = load(&text);
        let (policies, again) = Policies::of(&store);
        let refused = findings.iter().any(|f| f.is_error());
        assert_eq!(
            policies.is_empty(),
            refused,
            "an invalid object acts, or a valid one does not: {text}"
        );
        for finding in &again {
            assert!(
                findings.contains(finding),
                "{finding} is not told by the store"
            );
        }
        let _ = writeln!(
            out,
            "{}",
            text.lines().skip(4).collect::<Vec<_>>().join(" / ").trim()
        );
        for finding in &findings {
            let _ = writeln!(out, "    {}", finding.to_string().replace('\n', "\n    "));
        }
    }
    insta::assert_snapshot!("refused", out);
}

#[test]
fn defaults() {
    let policy = |spec: &str| {
        let (store, findings) = load(&np(spec));
        assert!(!findings.iter().any(|f| f.is_error()), "{findings:?}");
        let (policies, _) = Policies::of(&store);
        policies.iter().next().expect("one").clone()
    };
    let said = |spec: &str| {
        let policy = policy(spec);
        Direction::ALL.map(|d| policy.rules(d).map(<[_]>::len))
    };
    // Egress, ingress: SetDefaults_NetworkPolicy.
    assert_eq!(said("  podSelector: {}"), [None, Some(0)]);
    assert_eq!(said("  {}"), [None, Some(0)]);
    assert_eq!(said("  egress: []"), [None, Some(0)]);
    assert_eq!(said("  egress: [{}]"), [Some(1), Some(0)]);
    assert_eq!(
        said("  policyTypes: []\n  egress: [{}]"),
        [Some(1), Some(0)]
    );
    assert_eq!(
        said("  policyTypes: [Egress]\n  ingress: [{}]"),
        [Some(0), None]
    );
    let ports =
        policy("  ingress: [{ports: [{}, {port: web}, {protocol: UDP, port: 5, endPort: 9}]}]");
    let rules = ports.rules(Direction::Ingress).expect("rules");
    let kinds: Vec<&PortKind> = rules[0].ports.list().iter().map(|p| &p.what).collect();
    let range = |protocol, first, last| PortKind::Range {
        protocol,
        first,
        last,
    };
    let named = PortKind::Named {
        name: "web".into(),
        protocol: Some(Protocol::Tcp),
    };
    let expected = [
        range(Protocol::Tcp, 0, 65535),
        named,
        range(Protocol::Udp, 5, 9),
    ];
    assert!(kinds.into_iter().eq(&expected));
    assert_eq!(rules[0].ports.list()[2].origin.to_string(), "p.yaml:5:39");
}

const LINTED: &str = include_str!("data/policy_lint.yaml");

#[test]
fn lint_finds_each_kind_once_at_least() {
    let (store, findings) = Store::load(&[Input::new("lint.yaml", LINTED)]);
    let errors: Vec<String> = findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert!(errors.is_empty(), "{errors:?}");
    let facts = Facts::of_store(&store, 1);
    let (desired, _) = run(&store, &facts, None);
    let (policies, _) = Policies::of(&store);
    let inventory = Inventory::of(&store, &facts);
    let views = Family::ALL.map(|family| desired.view(family));
    let lints = lint(&Linted {
        store: &store,
        policies: &policies,
        inventory: &inventory,
        views: &views,
    });
    insta::assert_snapshot!(
        "lint",
        podpath::report::policy_lint::text(&lints, policies.len())
    );
    let kinds: BTreeSet<String> = lints.iter().map(|l| l.kind.to_string()).collect();
    assert_eq!(kinds.len(), 16, "{kinds:?}");
    // Nothing is told of a sound policy.
    let sound = |l: &podpath::kube::policy::lint::Lint| {
        l.policy
            .as_ref()
            .is_some_and(|p| p.name.name.contains("sound"))
    };
    assert!(!lints.iter().any(sound), "a false alarm");
}
