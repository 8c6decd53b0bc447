//! What loads, and that it loads as it was meant: encodings, lists, places, raw kinds, round trips, speed.

use std::fmt::Write;

use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use podpath::base::{Finding, Origin, Severity};
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::Backend;
use podpath::kube::store::{Name, Store};
use proptest::prelude::*;

fn load(text: &str) -> (Store, Vec<Finding>) {
    Store::load(&[Input::new("f.yaml", text)])
}

/// Loads a text that is without fault; notes about unused kinds are none.
fn clean(text: &str) -> Store {
    let (store, findings) = load(text);
    let bad: Vec<String> = findings
        .iter()
        .filter(|f| f.severity > Severity::Note)
        .map(Finding::to_string)
        .collect();
    assert_eq!(bad, Vec::<String>::new());
    store
}

fn at(line: u32, column: u32) -> Origin {
    Origin::Manifest {
        file: "f.yaml".into(),
        line,
        column,
    }
}

#[test]
fn the_documented_example_loads() {
    let page = include_str!("../docs/manifests.md");
    let example = page
        .split("```yaml\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .unwrap();
    let store = clean(example);
    let cluster = store.cluster().unwrap();
    assert_eq!(cluster.spec.cni.backend(), Backend::Vxlan);
    assert!(
        cluster
            .spec
            .cni
            .conflist_text()
            .unwrap()
            .contains("\"cbr0\"")
    );
    assert_eq!(
        cluster.spec.node.sysctls["net.ipv4.conf.all.rp_filter"],
        "0"
    );
    assert_eq!(cluster.spec.underlay.latency.as_micros(), 200);
    assert_eq!(
        cluster.spec.external_hosts[0].routes[0].to_string(),
        "10.244.0.0/16 via 192.168.0.129"
    );
    assert_eq!(
        store.probes[&Name::global("client-to-web")].spec.port(),
        Some(8080)
    );
    assert_eq!(
        (store.faults.len(), store.pods.len(), store.nodes.len()),
        (2, 2, 2)
    );
    assert_eq!(
        store.faults[&Name::global("vtep-down")]
            .spec
            .until
            .unwrap()
            .as_secs(),
        90
    );
}

#[test]
fn every_documented_field_is_known() {
    // A row's first cell names fields; the example and the types must agree on each last step of its path.
    let page = include_str!("../docs/manifests.md");
    let sources = [
        include_str!("../src/kube/podpath_v1alpha1/cluster.rs"),
        include_str!("../src/kube/podpath_v1alpha1/probe.rs"),
        include_str!("../src/kube/podpath_v1alpha1/fault.rs"),
        include_str!("../src/kube/podpath_v1alpha1/network_policy.rs"),
        include_str!("../src/kube/podpath_v1alpha1/dns.rs"),
    ]
    .concat()
    .replace('_', "")
    .to_lowercase();
    let rows = page
        .lines()
        .skip_while(|line| !line.starts_with("## Cluster"))
        .filter(|line| line.starts_with("| `"));
    let mut fields = 0;
    for row in rows {
        let cell = row.split('|').nth(1).unwrap();
        for name in cell.split('`').skip(1).step_by(2) {
            let field = name.trim_end_matches("[]").rsplit('.').next().unwrap();
            assert!(
                field == "NAME" || sources.contains(&field.to_lowercase()),
                "{name}"
            );
            fields += 1;
        }
    }
    assert!(fields > 40, "{fields}");
}

#[test]
fn documents_that_say_nothing() {
    for text in [
        "",
        "\n\n",
        "# only a comment\n",
        "---\n---\n",
        "--- # a\n...\n---\n",
        "null\n",
        "{}\n",
    ] {
        let (store, findings) = load(text);
        assert!(store.pods.is_empty());
        assert_eq!(
            findings.len(),
            usize::from(text == "{}\n"),
            "{text:?}: {findings:?}"
        );
    }
}

#[test]
fn line_ends_marks_and_directives() {
    let unix = "%YAML 1.2\n---\n# a node\napiVersion: v1\nkind: Node\nmetadata:\n  name: n1\n  annotations:\n    \
                a: |\n      x\n      y\n--- # next\nkind: Node\napiVersion: v1\nmetadata: {name: n2}\n...\n";
    for text in [
        unix.to_owned(),
        unix.replace('\n', "\r\n"),
        format!("\u{feff}{unix}"),
    ] {
        let store = clean(&text);
        assert_eq!(
            store
                .nodes
                .keys()
                .map(|name| name.name.as_str())
                .collect::<Vec<_>>(),
            ["n1", "n2"]
        );
        let node = store.node("n1").unwrap();
        assert_eq!(node.metadata.annotations.as_ref().unwrap()["a"], "x\ny\n");
        assert_eq!(node.source.origin(), at(4, 1));
    }
}

#[test]
fn json_alone_in_a_stream_and_in_a_list() {
    let node = |name: &str| {
        format!("{{\"apiVersion\":\"v1\",\"kind\":\"Node\",\"metadata\":{{\"name\":\"{name}\"}}}}")
    };
    let list = format!(
        "\t{{\n\t\"apiVersion\": \"v1\", \"kind\": \"List\", \"items\": [{}, {}]\n}}",
        node("n1"),
        node("n2")
    );
    for text in [
        format!("{}\n{}", node("n1"), node("n2")),
        format!("{}---\n---\n{}", node("n1"), "").replace("}---", "}\n---") + &node("n2"),
        list,
        "{apiVersion: v1, kind: NodeList, items: [{metadata: {name: n1}}, {metadata: {name: n2}}]}"
            .into(),
    ] {
        assert_eq!(clean(&text).nodes.len(), 2, "{text}");
    }
    let escaped = clean(&node("n1").replace(
        "\"name\":",
        "\"annotations\":{\"a\":\"\\u00e9\\ud83d\\ude00\\/\\n\"},\"name\":",
    ));
    assert_eq!(
        escaped
            .node("n1")
            .unwrap()
            .metadata
            .annotations
            .as_ref()
            .unwrap()["a"],
        "é😀/\n"
    );
}

#[test]
fn anchors_and_merges_within_bounds() {
    let store = clean(
        "apiVersion: v1\nkind: List\nitems:\n- &a\n  apiVersion: v1\n  kind: Pod\n  metadata: &m\n    name: a\n    \
         labels: &l {app: web}\n  spec: &s\n    nodeName: n1\n- <<: *a\n  metadata:\n    <<: *m\n    name: b\n- apiVersion: v1\n  \
         kind: Pod\n  metadata: {name: c, labels: *l}\n  spec: *s\n",
    );
    for name in ["a", "b", "c"] {
        let pod = store.pod("default", name).unwrap();
        assert_eq!(
            pod.spec.as_ref().unwrap().node_name.as_deref(),
            Some("n1"),
            "{name}"
        );
        assert_eq!(pod.metadata.labels.as_ref().unwrap()["app"], "web");
    }
    // Its text alone has a dangling alias: the place is found in the whole file.
    assert_eq!(
        store
            .pod("default", "c")
            .unwrap()
            .source
            .origin_of("metadata.name"),
        at(18, 20)
    );
}

#[test]
fn a_bad_document_does_not_stop_the_others() {
    let good =
        |name: &str| format!("---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}}}\n");
    let (store, findings) = load(&format!(
        "{}---\na: [\n{}---\n- x: 1\n  y\n{}",
        good("n1"),
        good("n2"),
        good("n3")
    ));
    assert_eq!(store.nodes.len(), 3);
    assert_eq!(
        findings.iter().filter(|finding| finding.is_error()).count(),
        2,
        "{findings:?}"
    );
}

const LISTED: &str = "apiVersion: v1
items:
- apiVersion: v1
  kind: Pod
  metadata:
    name: web
    namespace: demo
    managedFields: [{manager: kubelet, fieldsV1: {f:a: {}}}]
  spec:
    nodeName: n1
    containers:
    - name: web
      ports:
      - containerPort: 80
  status:
    podIP: 10.244.1.2
    podIPs:
    - ip: 10.244.1.2
- apiVersion: crd.projectcalico.org/v1
  kind: BGPPeer
  metadata:
    name: pool
  spec:
    cidr: 10.244.0.0/16
    note: |
      two
      lines
- apiVersion: crd.projectcalico.org/v1
  kind: BGPPeer
  metadata:
    name: other
kind: List
";

#[test]
fn places_of_fields() {
    let store = clean(LISTED);
    let pod = store.pod("demo", "web").unwrap();
    assert_eq!(pod.source.origin(), at(3, 3));
    for (path, line, column) in [
        ("spec.nodeName", 10, 15),
        ("status.podIP", 16, 12),
        ("spec.containers[0].ports[0].containerPort", 14, 24),
        ("metadata.name", 6, 11),
        ("spec.hostNetwork", 10, 5),
    ] {
        assert_eq!(pod.source.origin_of(path), at(line, column), "{path}");
    }
    assert!(pod.source.text().starts_with("apiVersion: v1\n  kind: Pod"));
    assert!(pod.source.text().ends_with("- ip: 10.244.1.2"));
    assert!(pod.metadata.managed_fields.is_none());
    assert_eq!(store.pods_on("n1").count(), 1);
    assert_eq!(store.pods_with_ip("10.244.1.2".parse().unwrap()).count(), 1);
}

#[test]
fn places_in_json_and_flow_style() {
    let object = "{\"apiVersion\": \"v1\", \"kind\": \"Node\",\n \"metadata\": {\"name\": \"n1\"}}";
    for object in [object.to_owned(), object.replace('"', "")] {
        let shift = if object.contains('"') { 0 } else { 2 };
        let store = clean(&format!(
            "{{kind: List, apiVersion: v1, items: [{object}]}}"
        ));
        let source = &store.node("n1").unwrap().source;
        assert_eq!(source.origin(), at(1, 38));
        assert_eq!(source.origin_of("apiVersion"), at(1, 53 - shift));
        assert_eq!(source.origin_of("metadata.name"), at(2, 23 - 2 * shift));
    }
}

#[test]
fn raw_kinds_are_kept_counted_and_can_be_typed_later() {
    let (store, findings) = load(LISTED);
    assert_eq!(
        findings
            .iter()
            .map(|f| f.message.as_str())
            .collect::<Vec<_>>(),
        ["2 BGPPeer (crd.projectcalico.org/v1) kept, not used"]
    );
    let pools = store.raw("crd.projectcalico.org/v1", "BGPPeer");
    assert_eq!(pools[0].name, Some(Name::global("pool")));
    let (value, findings) = pools[0].parse::<serde_json::Value>();
    assert_eq!(findings, []);
    assert_eq!(value.unwrap()["spec"]["note"], "two\nlines\n");
    assert_eq!(pools[0].source.origin_of("spec.cidr"), at(24, 11));
    #[derive(serde::Deserialize)]
    struct Pool {
        #[allow(dead_code)]
        spec: std::collections::BTreeMap<String, i64>,
    }
    let (_, findings) = pools[0].parse::<Pool>();
    let places: Vec<String> = findings
        .iter()
        .map(|finding| finding.span.to_string())
        .collect();
    assert_eq!(
        places,
        [
            "f.yaml:19:3",
            "f.yaml:20:3",
            "f.yaml:21:3",
            "f.yaml:24:11",
            "f.yaml:26:7"
        ]
    );
}

#[test]
fn values_as_the_api_server_takes_them() {
    let store = clean(
        "apiVersion: v1\nkind: Pod\nmetadata:\n  name: web\n  creationTimestamp: null\n  labels: {empty: }\nspec:\n  \
         hostNetwork: No\n  priority: 1e3\n  nodeName: ~\n  volumes: null\n  securityContext: {fsGroup: 0755}\n  \
         containers:\n  - name: a\n    ports:\n    - containerPort: 80.0\n    resources: {limits: {cpu: 1, memory: 1.5}}\n    \
         livenessProbe: {httpGet: {port: http}}\n    readinessProbe: {httpGet: {port: 8080}}\n    command: [!!str 5, '6']\n",
    );
    let pod = store.pod("default", "web").unwrap();
    let spec = pod.spec.as_ref().unwrap();
    let container = &spec.containers[0];
    assert_eq!(pod.metadata.labels.as_ref().unwrap()["empty"], "");
    assert_eq!(
        (spec.host_network, spec.priority, &spec.node_name),
        (Some(false), Some(1000), &None)
    );
    assert_eq!(
        spec.security_context.as_ref().unwrap().fs_group,
        Some(0o755)
    );
    assert_eq!(container.ports.as_ref().unwrap()[0].container_port, 80);
    let limits = container
        .resources
        .as_ref()
        .unwrap()
        .limits
        .as_ref()
        .unwrap();
    assert_eq!(
        (limits["cpu"].0.as_str(), limits["memory"].0.as_str()),
        ("1", "1.5")
    );
    let port = |probe: &Option<k8s_openapi::api::core::v1::Probe>| {
        probe
            .as_ref()
            .unwrap()
            .http_get
            .as_ref()
            .unwrap()
            .port
            .clone()
    };
    assert_eq!(
        port(&container.liveness_probe),
        IntOrString::String("http".into())
    );
    assert_eq!(port(&container.readiness_probe), IntOrString::Int(8080));
    assert_eq!(container.command.as_ref().unwrap(), &["5", "6"]);
}

#[test]
fn one_misspelling_behind_aliases_is_told_once() {
    let (_, findings) = load(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - &c {name: a, imag: x}\n  - *c\n  - *c\n",
    );
    assert_eq!(findings.len(), 1, "{findings:?}");
}

#[test]
fn one_misspelling_in_many_objects_is_told_once_with_a_count() {
    let pod = |name: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\nspec: {{newField: 1}}\n"
        )
    };
    let (_, findings) = load(&(pod("a") + &pod("b") + &pod("c")));
    let said: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(
        said,
        [
            "f.yaml:5:8: warning: unknown field `spec.newField`, here and in 2 other places\n  help: it is ignored"
        ]
    );
}

/// What `kubectl get pods -A -o yaml` prints, for `pods` pods on `nodes` nodes.
fn kubectl_pods(pods: usize, nodes: usize) -> String {
    let mut text = String::from("apiVersion: v1\nitems:\n");
    for i in 0..pods {
        let (node, host) = (i % nodes, i / nodes + 2);
        let ip = format!("10.{}.{}.{host}", 128 + node / 256, node % 256);
        write!(
            text,
            include_str!("data/kubectl_pod.yaml.in"),
            i = i,
            node = node,
            ip = ip,
            team = i % 50
        )
        .unwrap();
    }
    text + "kind: List\nmetadata:\n  resourceVersion: \"\"\n"
}

#[test]
fn what_kubectl_prints_loads_unchanged() {
    // The size in the acceptance is for release builds, where the times below mean something.
    let (pods, nodes) = if cfg!(debug_assertions) {
        (200, 20)
    } else {
        (10_000, 200)
    };
    let text = kubectl_pods(pods, nodes);
    let input = Input::new("pods.yaml", text.as_str());
    let start = std::time::Instant::now();
    let (store, findings) = Store::load(&[input]);
    let took = start.elapsed();
    assert_eq!(findings, []);
    assert_eq!(store.pods.len(), pods);
    assert_eq!(store.pods_on("node-7").count(), pods / nodes);
    println!(
        "{pods} pods, {:.1} MB of YAML: {took:.2?}",
        text.len() as f64 / 1e6
    );
    let start = std::time::Instant::now();
    let lines: usize = store
        .pods
        .values()
        .map(|pod| pod.source.span_of("status.podIP").line as usize)
        .sum();
    assert!(lines > 0);
    println!("their podIPs' places: {:.2?}", start.elapsed());
    if let Ok(status) = std::fs::read_to_string("/proc/self/status") {
        println!(
            "{}",
            status
                .lines()
                .filter(|line| line.starts_with("VmHWM"))
                .collect::<String>()
        );
    }
    if !cfg!(debug_assertions) {
        assert!(took.as_millis() < 3000, "{took:?}");
    }
}

prop_compose! {
    fn arbitrary_text()(text in prop_oneof![
        "[ -~]{0,20}", "\\PC{0,12}", "(yes|no|null|~|0644|1e3|0x1|true|- a|a: b|# c|\\{\\{ x \\}\\}|<<|\\*a|&a)", "[a-z\n\t\"'\\\\]{0,12}",
    ]) -> String { text }
}

prop_compose! {
    fn arbitrary_port()(number in 1..=65535_i32, host in proptest::option::of(1..=65535_i32),
            protocol in proptest::option::of("(TCP|UDP|SCTP)"), name in proptest::option::of("[a-z]{1,15}")) -> ContainerPort {
        ContainerPort { container_port: number, host_port: host, protocol, name, ..Default::default() }
    }
}

prop_compose! {
    fn arbitrary_pod()(
        name in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
        namespace in "[a-z]{1,10}",
        labels in proptest::collection::btree_map(arbitrary_text(), arbitrary_text(), 0..5),
        ports in proptest::collection::vec(arbitrary_port(), 0..4),
        command in proptest::collection::vec(arbitrary_text(), 0..4),
        host_network in proptest::option::of(any::<bool>()),
        node in proptest::option::of("[a-z0-9]{1,10}"),
        ips in proptest::collection::vec(any::<std::net::IpAddr>(), 0..3),
        grace in proptest::option::of(any::<i64>()),
    ) -> Pod {
        let container = Container { name: "web".into(), ports: Some(ports), command: Some(command), ..Default::default() };
        let metadata = ObjectMeta {
            name: Some(name), namespace: Some(namespace), annotations: Some(labels), ..Default::default()
        };
        let spec = PodSpec {
            containers: vec![container], host_network, node_name: node, termination_grace_period_seconds: grace,
            ..Default::default()
        };
        let pod_ip = ips.first().map(ToString::to_string);
        let pod_ips = ips.iter().map(|ip| PodIP { ip: ip.to_string() }).collect();
        let status = PodStatus { pod_ip, pod_ips: Some(pod_ips), ..Default::default() };
        Pod { metadata, spec: Some(spec), status: Some(status) }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn pods_survive_json_and_yaml(pods in proptest::collection::vec(arbitrary_pod(), 1..4)) {
        let json = pods.iter().map(|pod| serde_json::to_string_pretty(pod).unwrap()).collect::<Vec<_>>().join("\n");
        let yaml = pods.iter().map(|pod| serde_saphyr::to_string(pod).unwrap()).collect::<Vec<_>>().join("\n---\n");
        for text in [json, yaml] {
            let (store, findings) = load(&text);
            let errors: Vec<_> = findings.iter().filter(|f| f.is_error() && !f.message.contains("already")).collect();
            prop_assert!(errors.is_empty(), "{:?}\n{}", errors, text);
            for pod in &pods {
                let meta = &pod.metadata;
                let loaded = store.pod(meta.namespace.as_deref().unwrap(), meta.name.as_deref().unwrap()).unwrap();
                prop_assert!(pods.contains(&*loaded.body), "{:?}\n{:?}\n{}", pod, loaded, text);
            }
        }
    }
}
