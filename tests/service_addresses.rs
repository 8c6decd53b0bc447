//! What the API server gives Services: ClusterIPs, node ports, health-check ports; and load balancers' pools.

#![allow(missing_docs, reason = "a test binary")]

use podpath::base::Finding;
use podpath::kube::controllers::{Desired, Facts, run};
use podpath::kube::manifest::Input;
use podpath::kube::store::{Name, Store};
use std::net::IpAddr;

fn cluster(more: &str) -> String {
    format!(
        "apiVersion: podpath.dev/v1alpha1\nkind: Cluster\nmetadata: {{name: lab}}\nspec:\n  cni: {{plugin: kindnet}}\n  \
         serviceCIDRs: [10.96.0.0/24]\n{more}\n---\n"
    )
}

fn service(namespace: &str, name: &str, spec: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec: {spec}\n---\n"
    )
}

fn desired(text: &str, seed: u64, before: Option<&Desired>) -> (Desired, Vec<Finding>) {
    let (store, findings) = Store::load(&[Input::new("m.yaml", text)]);
    let errors: Vec<&Finding> = findings.iter().filter(|f| f.is_error()).collect();
    assert!(errors.is_empty(), "{errors:?}");
    run(&store, &Facts::of_store(&store, seed), before)
}

fn spec(d: &Desired, namespace: &str, name: &str) -> serde_json::Value {
    let found = &d.services[&Name::new(namespace, name)];
    serde_json::to_value(found.spec.as_ref().expect("a spec")).expect("JSON")
}

fn ip(d: &Desired, name: &str) -> String {
    spec(d, "default", name)["clusterIP"]
        .as_str()
        .expect("an address")
        .to_owned()
}

/// Where a line's first field with this text stands, as findings say it.
fn place(text: &str, needle: &str) -> (u32, u32) {
    let (line, row) = text
        .lines()
        .enumerate()
        .find(|(_, l)| l.contains(needle))
        .expect("a line");
    let column = row.find(needle).expect("a column") + needle.find(": ").map_or(0, |c| c + 2);
    (
        u32::try_from(line + 1).expect("small"),
        u32::try_from(column + 1).expect("small"),
    )
}

#[test]
fn stated_addresses_come_first_and_draws_leave_the_band() {
    let text = [
        cluster(""),
        "apiVersion: v1\nkind: Node\nmetadata: {name: cp, labels: {node-role.kubernetes.io/control-plane: ''}}\n\
         status: {addresses: [{type: InternalIP, address: 192.168.0.5}]}\n---\n"
            .to_owned(),
        service("default", "a", "{ports: [{port: 80}]}"),
        service("default", "b", "{clusterIP: 10.96.0.77, ports: [{port: 80}]}"),
        service("kube-system", "kube-dns", "{ports: [{name: dns, port: 53, protocol: UDP}]}"),
    ]
    .concat();
    let (d, findings) = desired(&text, 1, None);
    assert_eq!(findings, []);
    assert_eq!(ip(&d, "b"), "10.96.0.77");
    assert_eq!(
        spec(&d, "kube-system", "kube-dns")["clusterIP"],
        "10.96.0.10"
    );
    assert_eq!(ip(&d, "kubernetes"), "10.96.0.1");
    let IpAddr::V4(a) = ip(&d, "a").parse().expect("an address") else {
        panic!("IPv4")
    };
    assert!(
        a.octets()[3] > 16,
        "{a}: the first 16 of a /24 are for people"
    );
    // kube-apiserver's own slice: every control-plane node at 6443.
    let kubernetes = Name::new("default", "kubernetes");
    let slice = d.slices_of(&kubernetes).next().expect("a slice");
    assert_eq!(slice.name, kubernetes);
    assert_eq!(slice.endpoints[0].addresses, ["192.168.0.5"]);
    assert_eq!(slice.ports.as_ref().expect("ports")[0].port, Some(6443));
    let origin = d.made(&kubernetes)[0].origin.to_string();
    assert!(origin.contains("m.yaml:"), "{origin}");
}

#[test]
fn the_seed_decides_and_neighbours_do_not_disturb() {
    let three = |more: &str| {
        let names =
            ["a", "b", "c"].map(|n| service("default", n, "{type: NodePort, ports: [{port: 80}]}"));
        [cluster(""), names.concat(), more.to_owned()].concat()
    };
    let values = |d: &Desired| ["a", "b", "c"].map(|n| spec(d, "default", n).to_string());
    let (one, _) = desired(&three(""), 1, None);
    assert_eq!(values(&one), values(&desired(&three(""), 1, None).0));
    assert_ne!(values(&one), values(&desired(&three(""), 2, None).0));
    let other = service("default", "aa", "{type: NodePort, ports: [{port: 80}]}");
    assert_eq!(values(&one), values(&desired(&three(&other), 1, None).0));
    // A newcomer that states an address somebody was given: the first keeps it.
    let wants = service(
        "default",
        "z",
        &format!("{{clusterIP: {}, ports: [{{port: 80}}]}}", ip(&one, "a")),
    );
    let (later, findings) = desired(&three(&wants), 1, Some(&one));
    assert_eq!(values(&one), values(&later));
    assert!(
        findings
            .iter()
            .any(|f| f.message.contains("is Service default/a's already")),
        "{findings:?}"
    );
}

#[test]
fn what_cannot_be_is_said_with_its_place() {
    let text = [
        cluster("  nodePortRange: 30000-30100"),
        service("default", "a", "\n  clusterIP: 10.96.0.20\n  type: NodePort\n  ports:\n  - {port: 80, nodePort: 30050}"),
        service("default", "b", "\n  clusterIPs: [10.96.0.20]\n  type: NodePort\n  ports:\n  - {port: 80, nodePort: 30_051}"),
        service("default", "c", "\n  clusterIP: 10.97.0.1\n  type: NodePort\n  ports:\n  - port: 80\n    nodePort: 31000"),
        service("default", "d", "\n  type: NodePort\n  ipFamilyPolicy: RequireDualStack\n  ports:\n  - {port: 53, protocol: UDP, nodePort: 30050}"),
    ]
    .concat()
    .replace("30_051", "30051");
    let (_, findings) = desired(&text, 1, None);
    let said: Vec<(String, (u32, u32))> = findings
        .iter()
        .map(|f| (f.message.clone(), (f.span.line, f.span.column)))
        .collect();
    let want = [
        (
            "Service default/b: its address 10.96.0.20 is Service default/a's already",
            place(&text, "10.96.0.20]"),
        ),
        (
            "Service default/c: its address 10.97.0.1 is in none of the Service CIDRs 10.96.0.0/24",
            place(&text, "clusterIP: 10.97.0.1"),
        ),
        (
            "Service default/d: RequireDualStack, but this cluster has Service CIDRs of one family only",
            place(&text, "ipFamilyPolicy: RequireDualStack"),
        ),
        (
            "Service default/c: node port 31000 is outside 30000-30100",
            place(&text, "nodePort: 31000"),
        ),
        (
            "Service default/d: node port 30050 is Service default/a's already",
            place(
                &text.replace("{port: 80, nodePort: 30050}", ""),
                "nodePort: 30050",
            ),
        ),
    ];
    for (message, place) in want {
        let found = said.iter().find(|(m, _)| m == message);
        assert_eq!(found.map(|(_, p)| *p), Some(place), "{message}\n{said:#?}");
    }
    assert_eq!(said.len(), 5, "{said:#?}");
}

#[test]
fn node_ports_are_shared_by_protocols_and_given_where_asked() {
    let dns = "{type: NodePort, ports: [{name: t, port: 53}, {name: u, port: 53, protocol: UDP}, {name: m, port: 9}]}";
    let local = "{type: LoadBalancer, externalTrafficPolicy: Local, ports: [{port: 80}]}";
    let none = "{type: LoadBalancer, allocateLoadBalancerNodePorts: false, ports: [{port: 80}]}";
    let text = [
        cluster(""),
        service("default", "dns", dns),
        service("default", "lb", local),
        service("default", "none", none),
        service("default", "ip", "{ports: [{port: 80}]}"),
    ]
    .concat();
    let (d, findings) = desired(&text, 1, None);
    assert_eq!(findings, []);
    let port = |name: &str, i: usize| spec(&d, "default", name)["ports"][i]["nodePort"].as_u64();
    assert!(port("dns", 0).is_some_and(|p| (30086..=32767).contains(&p)));
    assert_eq!(port("dns", 0), port("dns", 1));
    assert_ne!(port("dns", 0), port("dns", 2));
    let health = spec(&d, "default", "lb")["healthCheckNodePort"].as_u64();
    assert!(health.is_some_and(|p| p >= 30086) && health != port("lb", 0));
    assert_eq!((port("none", 0), port("ip", 0)), (None, None));
    assert!(
        d.services[&Name::new("default", "lb")].status.is_none(),
        "no pool: it stays pending"
    );
}

#[test]
fn a_pool_gives_load_balancers_their_addresses() {
    let lb = |more: &str| format!("{{type: LoadBalancer, ports: [{{port: 80}}]{more}}}");
    let text = [
        cluster("  loadBalancer: {cidrs: [203.0.113.0/30]}"),
        service("default", "a", &lb("")),
        service("default", "b", &lb(", loadBalancerIP: 203.0.113.3")),
        service("default", "c", &lb("")).replace(
            "---",
            "status: {loadBalancer: {ingress: [{ip: 203.0.113.0}]}}\n---",
        ),
        service("default", "d", &lb("")),
        service("default", "e", &lb("")),
    ]
    .concat();
    let (d, findings) = desired(&text, 1, None);
    let vip = |name: &str| {
        let status = d.services[&Name::new("default", name)].status.clone()?;
        status.load_balancer?.ingress?.first()?.ip.clone()
    };
    let all = ["a", "b", "c", "d", "e"].map(|n| vip(n).unwrap_or_default());
    assert_eq!(
        all,
        [
            "203.0.113.1",
            "203.0.113.3",
            "203.0.113.0",
            "203.0.113.2",
            ""
        ]
    );
    let [one] = findings.as_slice() else {
        panic!("{findings:?}")
    };
    assert_eq!(
        one.message,
        "Service default/e: no address is left for it in loadBalancer.cidrs"
    );
}
