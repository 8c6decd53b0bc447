//! The words for every mistake in a manifest, as the user sees them.

use podpath::base::Finding;
use podpath::kube::manifest::Input;
use podpath::kube::store::Store;

/// The findings of one file, one per paragraph.
fn said(text: &str) -> String {
    let (_, findings) = Store::load(&[Input::new("pods.yaml", text)]);
    assert!(!findings.is_empty(), "nothing was said about:\n{text}");
    findings
        .iter()
        .map(Finding::to_string)
        .collect::<Vec<_>>()
        .join("\n")
}

/// The findings of several cases, each below its name.
fn said_of(cases: &[(&str, &str)]) -> String {
    cases
        .iter()
        .map(|(name, text)| format!("# {name}\n{}\n", said(text)))
        .collect::<Vec<_>>()
        .join("\n")
}

const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  namespace: demo\nspec:\n";

fn pod(spec: &str) -> String {
    format!("{POD}{spec}")
}

#[test]
fn syntax() {
    insta::assert_snapshot!(said_of(&[
        (
            "a field indented too little",
            &pod("  containers:\n  - name: web\n   image: web\n")
        ),
        (
            "a field indented too much",
            &pod("  nodeName: n1\n    hostNetwork: true\n")
        ),
        ("a tab", &pod("\tnodeName: n1\n")),
        ("an open quote", &pod("  nodeName: \"n1\n")),
        (
            "a colon in a value",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web: 1\n"
        ),
        (
            "a duplicate key",
            &pod("  nodeName: n1\n  hostNetwork: true\n  nodeName: n2\n")
        ),
        (
            "text behind ---",
            &format!("--- web\n{POD}  nodeName: n1\n")
        ),
        (
            "a key that is a list",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n[a, b]: 1\n"
        ),
        (
            "a boolean for a key",
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n  on: \"1\"\n"
        ),
        (
            "truncated JSON",
            "{\n  \"apiVersion\": \"v1\",\n  \"kind\": \"Pod\",\n  \"metadata\": {\"name\": \"we"
        ),
        (
            "JSON with a stray word",
            "{\"apiVersion\": \"v1\", \"kind\": Pod}"
        ),
        (
            "JSON without a comma",
            "{\"apiVersion\": \"v1\"\n \"kind\": \"Pod\"}"
        ),
        ("no manifest at all", "hello world\n"),
        ("a list at the top", "- apiVersion: v1\n"),
    ]));
}

#[test]
fn references() {
    let mut bomb = String::from(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: bomb}\na: &a [x, x, x, x, x, x, x, x, x]\n",
    );
    for (name, before) in ["b", "c", "d", "e", "f", "g", "h"]
        .iter()
        .zip(["a", "b", "c", "d", "e", "f", "g"])
    {
        let items = vec![format!("*{before}"); 9].join(", ");
        bomb.push_str(&format!("{name}: &{name} [{items}]\n"));
    }
    let head = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    insta::assert_snapshot!(said_of(&[
        (
            "a loop",
            &format!("{head}data: &loop\n  a: x\n  b: *loop\n")
        ),
        ("a bomb", &bomb),
        ("an unknown anchor", &format!("{head}data:\n  a: *nobody\n")),
        ("a deep one", &format!("{head}data: {}", "[".repeat(1000))),
        (
            "a merge of a string",
            &format!("{head}x: &x text\ndata:\n  <<: *x\n")
        ),
    ]));
}

#[test]
fn helm_leftovers() {
    insta::assert_snapshot!(said_of(&[
        ("a value", &pod("  nodeName: {{ .Values.node | quote }}\n")),
        (
            "a block",
            &format!("{POD}  {{{{- if .Values.x }}}}\n  nodeName: n1\n  {{{{- end }}}}\n")
        ),
        (
            "in quotes",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: \"{{ .Release.Name }}-web\"\nspec: {}\n"
        ),
        (
            "a whole file",
            "{{- range .Values.pods }}\napiVersion: v1\n"
        ),
    ]));
}

#[test]
fn fields() {
    insta::assert_snapshot!(said_of(&[
        ("a misspelt field", &pod("  nodename: n1\n")),
        ("an unknown field", &pod("  wifi: true\n")),
        (
            "several wrong types",
            &pod(
                "  hostNetwork: \"true\"\n  priority: high\n  containers:\n  - name: 5\n    ports:\n    \
                 - containerPort: abc\n    - containerPort: \"80\"\n    - containerPort: 99999999999\n",
            )
        ),
        (
            "an object for a list",
            &pod("  containers:\n    name: web\n")
        ),
        (
            "a list for an object",
            "apiVersion: v1\nkind: Pod\nmetadata:\n- name: web\nspec: {}\n"
        ),
        ("a boolean for a string", &pod("  nodeName: yes\n")),
        (
            "a number for a label",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  labels: {v: 1.10}\nspec: {}\n"
        ),
        (
            "a time",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  creationTimestamp: now\nspec: {}\n"
        ),
        (
            "ports",
            &pod(
                "  containers:\n  - name: a\n    ports:\n    - containerPort: 0\n      protocol: tcp\n      \
                 name: HTTP\n      hostPort: 70000\n      hostIP: here\n",
            )
        ),
        (
            "annotations",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  annotations:\n    podpath.dev/listen: 80/http\n    \
             podpath.dev/listen-address: lo\nspec: {}\n"
        ),
    ]));
}

#[test]
fn kinds_and_names() {
    insta::assert_snapshot!(said_of(&[
        (
            "a misspelt kind",
            "apiVersion: v1\nkind: Pood\nmetadata:\n  name: web\n"
        ),
        (
            "a kind in the wrong group",
            "apiVersion: apps/v1\nkind: Pod\nmetadata:\n  name: web\n"
        ),
        (
            "a kind of another group",
            "apiVersion: v1\nkind: Probe\nmetadata:\n  name: web\n"
        ),
        (
            "a misspelt kind of ours",
            "apiVersion: podpath.dev/v1alpha1\nkind: Prob\nmetadata:\n  name: web\n"
        ),
        (
            "a wrong version of ours",
            "apiVersion: podpath.dev/v1\nkind: Probe\nmetadata:\n  name: web\n"
        ),
        (
            "no kind",
            "apiVersion: v1\nKind: Pod\nmetadata:\n  name: web\n"
        ),
        ("no apiVersion", "kind: Pod\nmetadata:\n  name: web\n"),
        (
            "no name",
            "apiVersion: v1\nkind: Pod\nmetadata:\n  generateName: web-\nspec: {}\n"
        ),
        ("no metadata", "apiVersion: v1\nkind: Namespace\n"),
        (
            "a number for a name",
            "apiVersion: v1\nkind: Namespace\nmetadata: {name: 5}\n"
        ),
        (
            "a bad name",
            "apiVersion: v1\nkind: Node\nmetadata:\n  name: Node_1\n  namespace: x\n"
        ),
        (
            "a list of mixed kinds",
            "apiVersion: v1\nkind: List\nitem: []\nitems:\n- apiVersion: v1\n  kind: Namespace\n  metadata:\n    \
             name: demo\n- apiVersion: apps/v1\n  kind: Deployment\n  metadata:\n    name: web\n- 5\n- apiVersion: v1\n  \
             kind: Pod\n  metadata:\n    name: web\n    namespace: demo\n    lables: {}\n  spec: {}\n"
        ),
        ("a list without items", "apiVersion: v1\nkind: List\n"),
    ]));
}

#[test]
fn duplicates() {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: demo\n";
    let other = "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: demo\n  labels: {a: b}\n";
    let secret = "apiVersion: v1\nkind: Secret\nmetadata:\n  name: web\n";
    let cluster = |name| {
        format!(
            "apiVersion: podpath.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: {name}}}\nspec: {{cni: {{plugin: ptp}}}}\n"
        )
    };
    insta::assert_snapshot!(said_of(&[
        ("identical", &format!("{namespace}---\n{namespace}")),
        ("different", &format!("{namespace}---\n{other}")),
        (
            "of a raw kind",
            &format!("{secret}---\n{secret}---\n{secret}spec: {{}}\n")
        ),
        (
            "two Clusters",
            &format!("{}---\n{}", cluster("a"), cluster("b"))
        ),
    ]));
}

#[test]
fn addresses_and_cross_references() {
    let node = |name: &str, rest: &str| {
        format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n{rest}")
    };
    let pod = |name: &str, spec: &str, ip: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{{spec}}}\nstatus:\n  podIP: {ip}\n  \
             podIPs:\n  - ip: {ip}\n"
        )
    };
    let n1 = node(
        "n1",
        "spec: {podCIDR: 10.244.1.0/24, podCIDRs: [10.244.1.0/24]}\nstatus: {addresses: [{type: InternalIP, address: 192.168.0.1}]}\n",
    );
    insta::assert_snapshot!(said_of(&[
        (
            "a bad CIDR",
            &node(
                "n1",
                "spec:\n  podCIDRs:\n  - 10.244.1.0/33\n  - 10.244.1.0\n"
            )
        ),
        (
            "CIDRs",
            &node(
                "n1",
                "spec:\n  podCIDR: 10.244.2.0/24\n  podCIDRs: [10.244.1.5/24, 10.244.3.0/24]\n"
            )
        ),
        (
            "a bad node address",
            &node(
                "n1",
                "status: {addresses: [{type: InternalIP, address: 192.168.0.256}]}\n"
            )
        ),
        ("a bad pod address", &pod("a", "nodeName: n1", "10.244.1")),
        (
            "outside the node's range",
            &format!("{n1}{}", pod("a", "nodeName: n1", "10.244.2.2"))
        ),
        (
            "twice the same",
            &format!(
                "{n1}{}{}",
                pod("a", "nodeName: n1", "10.244.1.2"),
                pod("b", "nodeName: n1", "10.244.1.2")
            )
        ),
        (
            "hostNetwork",
            &format!(
                "{n1}{}",
                pod("a", "nodeName: n1, hostNetwork: true", "192.168.0.9")
            )
        ),
        (
            "an unknown node",
            &format!(
                "{n1}{}{}",
                pod("a", "nodeName: n2", "10.244.1.2"),
                pod("b", "nodeName: n2", "10.244.1.3")
            )
        ),
    ]));
}

#[test]
fn our_own_kinds() {
    let document = |kind: &str, spec: &str| {
        format!("apiVersion: podpath.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\n{spec}")
    };
    insta::assert_snapshot!(said_of(&[
        (
            "a Cluster without a CNI",
            &document("Cluster", "spec: {}\n")
        ),
        (
            "a misspelt plugin",
            &document("Cluster", "spec: {cni: {plugin: flanel}}\n")
        ),
        (
            "a backend of another plugin",
            &document("Cluster", "spec: {cni: {plugin: flannel, backend: bgp}}\n")
        ),
        (
            "wrong values",
            &document(
                "Cluster",
                "spec:\n  cni: {plugin: calico, vni: 3, ipPools: [{cidr: 10.0.0.0, blockSize: 26}]}\n  \
                 podCIDRs: [10.244.0.0/16, 10.245.0.0/16]\n  nodeCIDRMaskSize: 300\n  underlay:\n    latency: 200\n    \
                 mtu: 9000.5\n    lossPercent: 120\n    blocked: [{protocol: vxlan, from: rack}]\n  \
                 externalHosts: [{name: a, addresses: [x], routes: [10.0.0.0/8], listen: [80/http]}]\n",
            )
        ),
        (
            "contradictions",
            &document(
                "Cluster",
                "spec:\n  cni: {plugin: bridge, vxlan: {vni: 99999999}, ipPools: [{cidr: 10.0.0.5/8, blockSize: 4}]}\n  \
                 podCIDRs: [10.244.0.0/28]\n  node: {mtu: 20}\n  underlay:\n    lossPercent: 120\n    \
                 blocked: [{port: 4789}]\n    segments: [{name: a, cidr: 10.0.0.0/24, gateway: 10.0.1.1, nodes: [n1]}]\n",
            )
        ),
        (
            "a Probe without ends",
            &document("Probe", "spec: {protocol: icmp}\n")
        ),
        (
            "a Probe",
            &document(
                "Probe",
                "spec:\n  from: demo/web:1\n  to: 10.0.0.1:80\n  port: 81\n  family: ipv6\n  timeout: 3sec\n  expect:\n    \
                 outcome: time-out\n    hop: {nod: n1}\n",
            )
        ),
        (
            "a Probe of icmp",
            &document(
                "Probe",
                "spec: {from: host/h, to: web:80, protocol: icmp, ttl: 0}\n"
            )
        ),
        (
            "a Probe without a port",
            &document(
                "Probe",
                "spec: {from: 10.0.0.2, to: 10.0.0.1, expect: {delay: {atLeast: 2s, atMost: 1s}}}\n"
            )
        ),
        (
            "a Fault without effect",
            &document("Fault", "spec: {at: 3s, until: 1s, node: n1, pod: web}\n")
        ),
        (
            "a Fault without a place",
            &document("Fault", "spec: {commands: [ip link set cni0 down]}\n")
        ),
        (
            "names that nobody has",
            &format!(
                "apiVersion: v1\nkind: Node\nmetadata: {{name: node-1}}\n---\n{}---\n{}---\n{}",
                document(
                    "Cluster",
                    "spec: {cni: {plugin: ptp}, nodes: {node-2: {}}, underlay: {blocked: [{to: host/h}]}}\n"
                ),
                document(
                    "Probe",
                    "spec: {from: demo/web, to: node/nod-1, protocol: icmp}\n"
                ),
                document("Fault", "spec: {underlay: {mtu: 1400}, link: node_1}\n"),
            )
        ),
    ]));
}
