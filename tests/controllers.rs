//! The controllers beneath kube-proxy, from manifests: what addresses Services get and which EndpointSlices
//! pods give. Expected views are written as kube-controller-manager and kube-apiserver would leave them.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::{Finding, Severity};
use podpath::kube::controllers::{Desired, Facts, MANAGED_BY, endpoint_origin, run};
use podpath::kube::manifest::Input;
use podpath::kube::store::{Name, Store};
use std::fmt::Write;

/// A node `n1` in zone `a`, `n2` in zone `b`, each with 4 CPUs.
const NODES: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1, labels: {topology.kubernetes.io/zone: a}}
status: {addresses: [{type: InternalIP, address: 192.168.0.11}], allocatable: {cpu: '4'}}
---
apiVersion: v1
kind: Node
metadata: {name: n2, labels: {topology.kubernetes.io/zone: b}}
status: {addresses: [{type: InternalIP, address: 192.168.0.12}], allocatable: {cpu: '4'}}
---
";

const CLUSTER: &str = "
apiVersion: podpath.dev/v1alpha1
kind: Cluster
metadata: {name: lab}
spec:
  cni: {plugin: kindnet}
  podCIDRs: [10.244.0.0/16, 'fd00:10:244::/48']
  serviceCIDRs: [10.96.0.0/24, 'fd00:10:96::/112']
---
";

fn load(text: &str) -> Store {
    let (store, findings) = Store::load(&[Input::new("m.yaml", text)]);
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    store
}

fn desired(text: &str) -> (Store, Desired, Vec<Finding>) {
    let store = load(text);
    let (desired, findings) = run(&store, &Facts::of_store(&store, 1), None);
    (store, desired, findings)
}

/// A pod; `more` are further fields of its status, `ports` of its container.
fn pod(name: &str, node: &str, ips: &[&str], ports: &str, more: &str) -> String {
    let ips: Vec<String> = ips.iter().map(|ip| format!("{{ip: '{ip}'}}")).collect();
    let list = ips.join(", ");
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, labels: {{app: web}}}}\nspec:\n  \
         nodeName: {node}\n  containers: [{{name: c, image: c, ports: [{ports}]}}]\n\
         status: {{podIPs: [{list}]{more}}}\n---\n"
    )
}

fn ready(yes: bool) -> String {
    let status = if yes { "True" } else { "False" };
    format!(", conditions: [{{type: Ready, status: '{status}'}}]")
}

fn service(name: &str, spec: &str) -> String {
    format!("apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n")
}

/// The slices of a Service, one line each and one for each endpoint.
fn slices(d: &Desired, name: &str) -> String {
    let mut out = String::new();
    for slice in d.slices_of(&Name::new("default", name)) {
        let ports = slice.ports.iter().flatten().map(|p| {
            let (name, protocol) = (
                p.name.clone().unwrap_or_default(),
                p.protocol.clone().unwrap_or_default(),
            );
            let app = p
                .app_protocol
                .as_ref()
                .map(|a| format!("({a})"))
                .unwrap_or_default();
            format!("{name}:{}/{protocol}{app}", p.port.unwrap_or(0))
        });
        let ports: Vec<String> = ports.collect();
        let _ = writeln!(out, "{} [{}]", slice.address_type, ports.join(" "));
        for e in &slice.endpoints {
            let c = e.conditions.clone().unwrap_or_default();
            let flags = [
                ("ready", c.ready),
                ("serving", c.serving),
                ("terminating", c.terminating),
            ];
            let flags = flags.iter().filter(|f| f.1 == Some(true)).map(|f| f.0);
            let flags: Vec<&str> = flags.collect();
            let of = |o: &Option<String>| o.clone().unwrap_or("-".into());
            let pod = e.target_ref.as_ref().and_then(|t| t.name.clone());
            let _ = write!(
                out,
                "  {} {} {} {}",
                e.addresses.join(","),
                of(&pod),
                of(&e.node_name),
                of(&e.zone)
            );
            let _ = write!(
                out,
                " {}",
                if flags.is_empty() {
                    "-".into()
                } else {
                    flags.join("+")
                }
            );
            if let Some(host) = &e.hostname {
                let _ = write!(out, " hostname={host}");
            }
            let hints = e.hints.clone().unwrap_or_default();
            for z in hints.for_zones.iter().flatten() {
                let _ = write!(out, " zone={}", z.name);
            }
            for n in hints.for_nodes.iter().flatten() {
                let _ = write!(out, " node={}", n.name);
            }
            out.push('\n');
        }
    }
    // The names of slices are drawn: their order is not what is shown here.
    let mut blocks: Vec<String> = Vec::new();
    for line in out.lines() {
        match blocks.last_mut().filter(|_| line.starts_with(' ')) {
            Some(block) => *block += &format!("\n{line}"),
            None => blocks.push(line.to_owned()),
        }
    }
    blocks.sort();
    blocks.join("\n")
}

#[test]
fn pods_with_equal_ports_share_a_slice_and_named_ports_are_the_pods_own() {
    let http = |n: u16| {
        format!(
            "{{name: http, containerPort: {n}}}, {{name: http, containerPort: 1, protocol: UDP}}"
        )
    };
    let text = [
        NODES,
        &pod("a", "n1", &["10.244.1.2"], &http(8080), ""),
        &pod("b", "n2", &["10.244.2.2"], &http(9090), ""),
        &pod("c", "n2", &["10.244.2.3"], &http(8080), ""),
        &pod("d", "n1", &["10.244.1.3"], "", ""),
        &service(
            "web",
            "{selector: {app: web}, clusterIP: 10.96.0.9, ports: [{name: web, port: 80, targetPort: http, \
             appProtocol: h2c}, {name: metrics, port: 9100}]}",
        ),
    ]
    .concat();
    let (store, d, findings) = desired(&text);
    assert_eq!(findings, []);
    assert_eq!(
        slices(&d, "web"),
        "IPv4 [metrics:9100/TCP]\n  10.244.1.3 d n1 a ready+serving\n\
         IPv4 [web:8080/TCP(h2c) metrics:9100/TCP]\n  10.244.1.2 a n1 a ready+serving\n  \
         10.244.2.3 c n2 b ready+serving\n\
         IPv4 [web:9090/TCP(h2c) metrics:9100/TCP]\n  10.244.2.2 b n2 b ready+serving"
    );
    let slice = d
        .slices_of(&Name::new("default", "web"))
        .next()
        .expect("a slice");
    let labels = slice.metadata.labels.clone().expect("labels");
    assert_eq!(labels[MANAGED_BY], "endpointslice-controller.k8s.io");
    assert_eq!(labels["kubernetes.io/service-name"], "web");
    assert!(!labels.contains_key("service.kubernetes.io/headless"));
    let owner = &slice.metadata.owner_references.as_ref().expect("owners")[0];
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("Service", "web")
    );
    assert!(
        slice.name.name.starts_with("web-") && slice.name.name.len() == 9,
        "{}",
        slice.name
    );
    // Both lead back to lines of the manifest.
    let line = text
        .lines()
        .position(|l| l.contains("kind: Service"))
        .expect("a line");
    let origin = d.slice_origin(&slice.name).expect("an origin").to_string();
    assert_eq!(
        origin,
        format!("endpointslice-controller from Service default/web (m.yaml:{line}:1)")
    );
    let from = endpoint_origin(&store, &slice.endpoints[0])
        .expect("a pod")
        .to_string();
    assert!(from.starts_with("m.yaml:"), "{from}");
}

#[test]
fn readiness_phases_and_what_is_published_anyway() {
    let pods = [
        pod("ready", "n1", &["10.244.1.1"], "", &ready(true)),
        pod("unready", "n1", &["10.244.1.2"], "", &ready(false)),
        pod("done", "n1", &["10.244.1.3"], "", ", phase: Succeeded"),
        pod("pending", "n1", &["10.244.1.4"], "", ", phase: Pending"),
        pod("waiting", "n1", &[], "", ""),
        pod("lost", "n9", &["10.244.9.1"], "", &ready(true)),
        pod("going", "n2", &["10.244.2.1"], "", &ready(true)).replace(
            "name: going,",
            "name: going, deletionTimestamp: '2026-01-01T00:00:00Z',",
        ),
        pod("gone", "n2", &["10.244.2.2"], "", &ready(false)).replace(
            "name: gone,",
            "name: gone, deletionTimestamp: '2026-01-01T00:00:00Z',",
        ),
    ];
    let svc = |name, more: &str| {
        service(
            name,
            &format!("{{selector: {{app: web}}, ports: [{{port: 80}}]{more}}}"),
        )
    };
    let text = [
        NODES,
        &pods.concat(),
        &svc("web", ""),
        &svc("all", ", publishNotReadyAddresses: true"),
    ]
    .concat();
    let (_, d, _) = desired(&text);
    assert_eq!(
        slices(&d, "web"),
        "IPv4 [:80/TCP]\n  10.244.2.1 going n2 b serving+terminating\n  10.244.2.2 gone n2 b terminating\n  \
         10.244.1.4 pending n1 a -\n  10.244.1.1 ready n1 a ready+serving\n  10.244.1.2 unready n1 a -"
    );
    assert_eq!(
        slices(&d, "all"),
        "IPv4 [:80/TCP]\n  10.244.2.1 going n2 b ready+serving+terminating\n  \
         10.244.2.2 gone n2 b ready+terminating\n  10.244.9.1 lost n9 - ready+serving\n  \
         10.244.1.4 pending n1 a ready\n  10.244.1.1 ready n1 a ready+serving\n  10.244.1.2 unready n1 a ready"
    );
}

#[test]
fn dual_stack_services_have_addresses_and_slices_of_both_families() {
    let text = [
        CLUSTER,
        NODES,
        &pod("a", "n1", &["10.244.1.2", "fd00:10:244:1::2"], "", ""),
        &pod("b", "n2", &["10.244.2.2"], "", ""),
        &service(
            "web",
            "{selector: {app: web}, ipFamilyPolicy: PreferDualStack, ports: [{port: 80}]}",
        ),
        &service(
            "six",
            "{selector: {app: web}, ipFamilies: [IPv6], ports: [{port: 80}]}",
        ),
        &service("none", "{selector: {app: other}, ports: [{port: 80}]}"),
    ]
    .concat();
    let (_, d, findings) = desired(&text);
    assert_eq!(findings, []);
    assert_eq!(
        slices(&d, "web"),
        "IPv4 [:80/TCP]\n  10.244.1.2 a n1 a ready+serving\n  10.244.2.2 b n2 b ready+serving\n\
         IPv6 [:80/TCP]\n  fd00:10:244:1::2 a n1 a ready+serving"
    );
    assert_eq!(
        slices(&d, "six"),
        "IPv6 [:80/TCP]\n  fd00:10:244:1::2 a n1 a ready+serving"
    );
    // A Service without endpoints has an empty slice.
    assert_eq!(slices(&d, "none"), "IPv4 []");
    let ips = |name: &str| {
        let spec = d.services[&Name::new("default", name)]
            .spec
            .clone()
            .expect("a spec");
        let ips = spec.cluster_ips.expect("addresses");
        assert_eq!(spec.cluster_ip.as_ref(), ips.first());
        (
            ips,
            spec.ip_families.expect("families"),
            spec.ip_family_policy.expect("a policy"),
        )
    };
    let (web, families, policy) = ips("web");
    assert!(
        web[0].starts_with("10.96.0.") && web[1].starts_with("fd00:10:96::"),
        "{web:?}"
    );
    assert_eq!((families.len(), policy.as_str()), (2, "PreferDualStack"));
    assert_eq!(ips("six").0.len(), 1);
    let made = d.made(&Name::new("default", "web"));
    assert_eq!(made.len(), 2);
    assert_eq!(made[1].field, "spec.clusterIPs[1]");
    let origin = made[1].origin.to_string();
    assert!(
        origin.starts_with("kube-apiserver from Service default/web (m.yaml:"),
        "{origin}"
    );
}

#[test]
fn a_slice_has_a_hundred_endpoints_at_most() {
    let pods = (0..250).map(|i| {
        pod(
            &format!("p{i:03}"),
            "n1",
            &[&format!("10.244.{}.{}", i / 200, i % 200 + 1)],
            "",
            "",
        )
    });
    let text = [
        NODES,
        &pods.collect::<String>(),
        &service("web", "{selector: {app: web}, ports: [{port: 80}]}"),
    ]
    .concat();
    let (_, d, _) = desired(&text);
    let mut sizes: Vec<usize> = d
        .slices_of(&Name::new("default", "web"))
        .map(|s| s.endpoints.len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [50, 100, 100]);
    let all = d
        .slices_of(&Name::new("default", "web"))
        .flat_map(|s| s.endpoints.clone());
    let unique: std::collections::BTreeSet<String> = all.map(|e| e.addresses.join(",")).collect();
    assert_eq!(unique.len(), 250);
}

#[test]
fn headless_external_and_selectorless() {
    let named = pod("a", "n1", &["10.244.1.2"], "", "").replace(
        "nodeName: n1",
        "nodeName: n1\n  hostname: a-0\n  subdomain: db",
    );
    let endpoints = |name: &str, label: &str| {
        format!(
            "apiVersion: v1\nkind: Endpoints\nmetadata: {{name: {name}{label}}}\nsubsets:\n- addresses: [{{ip: 203.0.113.9, \
             nodeName: n2}}, {{ip: '2001:db8::9'}}]\n  notReadyAddresses: [{{ip: 203.0.113.10}}]\n  \
             ports: [{{name: pg, port: 5432}}]\n---\n"
        )
    };
    let text = [
        NODES,
        &named,
        &service("db", "{selector: {app: web}, clusterIP: None}"),
        &service(
            "db2",
            "{selector: {app: web}, clusterIP: None, ports: [{name: pg, port: 5432}]}",
        ),
        &service(
            "ext",
            "{type: ExternalName, externalName: example.org, selector: {app: web}}",
        ),
        &service("out", "{ports: [{name: pg, port: 5432}]}"),
        &service("skip", "{ports: [{name: pg, port: 5432}]}"),
        &endpoints("out", ""),
        &endpoints("db", ""),
        &endpoints(
            "skip",
            ", labels: {endpointslice.kubernetes.io/skip-mirror: 'true'}",
        ),
    ]
    .concat();
    let (_, d, findings) = desired(&text);
    let notes: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
    assert_eq!(
        notes,
        ["no Service CIDR is stated: 10.96.0.0/12 is assumed for Services without an address"]
    );
    assert_eq!(
        slices(&d, "db"),
        "IPv4 []\n  10.244.1.2 a n1 a ready+serving hostname=a-0"
    );
    assert_eq!(
        slices(&d, "db2"),
        "IPv4 [pg:5432/TCP]\n  10.244.1.2 a n1 a ready+serving"
    );
    assert_eq!(
        (slices(&d, "ext"), slices(&d, "skip")),
        (String::new(), String::new())
    );
    assert_eq!(
        slices(&d, "out"),
        "IPv4 [pg:5432/TCP]\n  203.0.113.9 - n2 - ready\n  203.0.113.10 - - - -\n\
         IPv6 [pg:5432/TCP]\n  2001:db8::9 - - - ready"
    );
    let db = d
        .slices_of(&Name::new("default", "db"))
        .next()
        .expect("a slice");
    let labels = db.metadata.labels.clone().expect("labels");
    assert_eq!(
        labels
            .get("service.kubernetes.io/headless")
            .map(String::as_str),
        Some("")
    );
    let spec = |name: &str| {
        d.services[&Name::new("default", name)]
            .spec
            .clone()
            .expect("a spec")
    };
    assert_eq!(spec("db").cluster_ips, Some(vec!["None".to_owned()]));
    assert_eq!(
        (spec("ext").cluster_ip, spec("ext").ip_families),
        (None, None)
    );
}

#[test]
fn hints_by_annotation_and_by_field() {
    let pods: String = [
        ("a", "n1", 1),
        ("b", "n1", 2),
        ("c", "n1", 3),
        ("d", "n2", 4),
    ]
    .map(|(name, node, i)| pod(name, node, &[&format!("10.244.1.{i}")], "", ""))
    .concat();
    let spec = |more: &str| format!("{{selector: {{app: web}}, ports: [{{port: 80}}]{more}}}");
    let auto = service("auto", &spec("")).replace(
        "name: auto",
        "name: auto, annotations: {service.kubernetes.io/topology-mode: Auto}",
    );
    let text = [
        NODES,
        &pods,
        &auto,
        &service("node", &spec(", trafficDistribution: PreferSameNode")),
    ]
    .concat();
    let (_, d, _) = desired(&text);
    // Each zone has half the CPUs, so one of zone a's three endpoints is lent to zone b.
    assert_eq!(
        slices(&d, "auto"),
        "IPv4 [:80/TCP]\n  10.244.1.1 a n1 a ready+serving zone=b\n  10.244.1.2 b n1 a ready+serving zone=a\n  \
         10.244.1.3 c n1 a ready+serving zone=a\n  10.244.1.4 d n2 b ready+serving zone=b"
    );
    assert!(slices(&d, "node").contains("10.244.1.4 d n2 b ready+serving zone=b node=n2"));
    // Without the nodes' CPUs the controller gives no hints; that is said.
    let (_, d, findings) = desired(&text.replace(", allocatable: {cpu: '4'}", ""));
    assert!(!slices(&d, "auto").contains("zone="));
    let said =
        "Service default/auto: no topology hints (IPv4): node n1 has no status.allocatable.cpu";
    assert!(
        findings
            .iter()
            .any(|f| f.message == said && f.span.line > 0),
        "{findings:?}"
    );
}

#[test]
fn slices_of_the_input_are_believed_and_stale_ones_noted() {
    let slice = |ip: &str| {
        format!(
            "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: web-x, labels: \
             {{kubernetes.io/service-name: web, endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io}}}}\n\
             addressType: IPv4\nports: [{{name: '', port: 80, protocol: TCP}}]\nendpoints:\n- addresses: [{ip}]\n---\n"
        )
    };
    let objects = [
        NODES,
        &pod("a", "n1", &["10.244.1.2"], "", ""),
        &service(
            "web",
            "{selector: {app: web}, clusterIP: 10.96.0.9, ports: [{port: 80}]}",
        ),
    ]
    .concat();
    let (_, d, findings) = desired(&[objects.as_str(), &slice("10.244.1.2")].concat());
    assert_eq!((findings, d.endpoint_slices.len()), (Vec::new(), 1));
    let text = [objects.as_str(), &slice("10.244.7.7")].concat();
    let (_, d, findings) = desired(&text);
    assert_eq!(slices(&d, "web"), "IPv4 [:80/TCP]\n  10.244.7.7 - - - -");
    let [note] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(note.severity, Severity::Note);
    assert_eq!(
        note.message,
        "EndpointSlice default/web-x is not what the pods of Service default/web give: 10.244.1.2 port 80 should be \
         there, ready; 10.244.7.7 port 80 is there, ready; it is believed"
    );
    let line = text
        .lines()
        .position(|l| l.starts_with("- addresses"))
        .expect("a line");
    assert_eq!(note.span.line as usize, line + 1);
}
