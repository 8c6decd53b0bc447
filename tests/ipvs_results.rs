//! IPVS mode seen from outside: what traces say of a virtual server, what health checks are answered, and
//! `ipvsadm` lines of manifests.

#![allow(missing_docs, reason = "a test binary")]

#[path = "common/all_services.rs"]
mod all_services;

use all_services::{Kind, nodes, objects_of};
use podpath::base::Instant;
use podpath::cluster::Cluster;
use podpath::kube::manifest::Input;
use podpath::kube::podpath_v1alpha1::{KubeProxyFault, ProxyState};
use podpath::kube::store::Store;
use podpath::lab::{Exchange, Probe};
use podpath::path::{EventKind, Step};
use podpath::report::show::ipvs::{Listing, text};
use serde_json::{Value, json};

/// A cluster of three nodes in IPVS mode; the objects of one line each, so that origins name them.
fn cluster(objects: Vec<Value>, commands: Value) -> (Cluster, Vec<String>) {
    let mut all = nodes();
    all[0]["spec"]["proxy"]["mode"] = json!("ipvs");
    all[0]["spec"]["nodes"] = json!({"n1": {"commands": commands}});
    all.extend(objects);
    let lines: Vec<String> = all.iter().map(ToString::to_string).collect();
    let (store, findings) = Store::load(&[Input::new("all.yaml", lines.join("\n---\n"))]);
    let wrong: Vec<String> = findings
        .iter()
        .filter(|f| f.is_error())
        .map(ToString::to_string)
        .collect();
    assert_eq!(wrong, Vec::<String>::new());
    let (cluster, findings) = Cluster::build(store, 1);
    (cluster, findings.iter().map(ToString::to_string).collect())
}

fn local_balancer(endpoints: &[usize]) -> Vec<Value> {
    let local = Kind {
        balanced: true,
        spec: json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local", "healthCheckNodePort": 31999}),
        protocol: "TCP",
        endpoints: endpoints.iter().map(|n| (*n, json!({}))).collect(),
        ..Kind::default()
    };
    objects_of(0, &local)
}

#[test]
fn a_trace_names_the_service_of_a_virtual_server() {
    let (mut c, _) = cluster(objects_of(0, &all_services::kind(0)), json!([]));
    let n1 = c.nodes["n1"].ns;
    let (_, events) = c
        .lab
        .trace(&Probe::tcp(n1, "10.96.0.1".parse().unwrap(), 80));
    let steps: Vec<_> = events
        .iter()
        .filter_map(|e| match &e.kind {
            EventKind::Step(Step::Ipvs {
                virt,
                server,
                open,
                origin,
                reply: false,
                ..
            }) => Some((
                virt.to_string(),
                server.to_string(),
                *open,
                origin.to_string(),
            )),
            _ => None,
        })
        .collect();
    let (virt, server, open, origin) = steps.first().expect("a step of IPVS");
    assert_eq!((virt.as_str(), *open), ("10.96.0.1:80", 0));
    assert!(
        server.starts_with("10.244.") && server.ends_with(":8080"),
        "{server}"
    );
    // Four documents before it, each with its own line and one between.
    assert_eq!(
        origin,
        "kube-proxy from Service default/svc0 (all.yaml:9:1)"
    );
    let space = c.lab.world.ns(n1).unwrap();
    let shown = text(space, Listing::Save, c.lab.now());
    assert!(
        shown.contains("-a -t 10.96.0.1:80 -r 10.244.1.2:8080 -m -w 1"),
        "{shown}"
    );
    assert!(
        !shown.contains('#'),
        "kube-proxy's own order is known: {shown}"
    );
}

/// What the node answers at the health-check port.
fn health(c: &mut Cluster, node: &str) -> Option<String> {
    let (from, to) = (c.nodes["n3"].ns, c.nodes[node].addresses[0].ip());
    let mut probe = Probe::tcp(from, to, 31999);
    probe.exchange = Exchange::Http;
    let (result, _) = c.lab.trace(&probe);
    (result.bytes > 0).then(|| String::from_utf8_lossy(&result.reply).into_owned())
}

/// kubernetes pkg/proxy/healthcheck/service_health.go, hcHandler.ServeHTTP.
#[test]
fn health_checks_are_answered_as_kube_proxy_does() {
    let (mut c, _) = cluster(local_balancer(&[1]), json!([]));
    let body = |local: usize| {
        format!(
            "\r\n\r\n{{\n\t\"service\": {{\n\t\t\"namespace\": \"default\",\n\t\t\"name\": \"svc0\"\n\t}},\n\
             \t\"localEndpoints\": {local},\n\t\"serviceProxyHealthy\": true\n}}"
        )
    };
    let here = health(&mut c, "n1").expect("an answer");
    assert!(
        here.starts_with("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"),
        "{here}"
    );
    assert!(
        here.contains("\r\nX-Load-Balancing-Endpoint-Weight: 1\r\n") && here.ends_with(&body(1)),
        "{here}"
    );
    let none = health(&mut c, "n2").expect("an answer");
    assert!(
        none.starts_with("HTTP/1.1 503 Service Unavailable\r\n") && none.ends_with(&body(0)),
        "{none}"
    );
    // Without kube-proxy nobody listens.
    let to = |state| KubeProxyFault {
        state: Some(state),
        lag: None,
    };
    c.set_proxy(Some("n1"), &to(ProxyState::Stopped));
    assert_eq!(health(&mut c, "n1"), None);
    assert!(health(&mut c, "n2").is_some());
    c.set_proxy(Some("n1"), &to(ProxyState::Running));
    assert!(health(&mut c, "n1").is_some_and(|text| text.contains(" 200 OK")));
}

const LISTING: &str = "Prot LocalAddress:Port Scheduler Flags
TCP  10.99.0.1:80 wlc
  -> 10.244.1.2:8080              Masq    1      5          0
  -> 10.244.2.2:8080              Masq    1      2          0
  -> 10.244.3.2:8080              Masq    1      2          0";

#[test]
fn ipvsadm_lines_are_carried_out() {
    let lines = json!([
        "ipvsadm -A -t 10.98.0.1:80 -s rr",
        "ipvsadm -a -t 10.98.0.1:80 -r 10.244.1.2:8080 -m",
        "ipvsadm -a -t 10.98.0.1:80 -r 10.244.2.2:8080 -m",
        format!("ipvsadm -R <<EOF\n{LISTING}\nEOF"),
        "ipvsadm -R <<EOF\n-A -u 10.98.0.2:53 -s rr\n-a -u 10.98.0.2:53 -r 10.244.1.3:53 -m\n\
         -a -u 10.98.0.2:53 -r 10.244.1.4:53 -m\nEOF",
    ]);
    let (c, _) = cluster(vec![], lines);
    let space = c.lab.world.ns(c.nodes["n1"].ns).unwrap();
    let shown = text(space, Listing::Save, c.lab.now());
    // Equal loads are open, the larger one is not; what was added one by one is known.
    let said: Vec<&str> = shown.lines().filter(|l| l.starts_with('#')).collect();
    assert_eq!(
        said,
        ["# -t 10.99.0.1:80 -s wlc: the dump does not say which of 2 real servers is next"]
    );
    assert!(
        shown.contains("-a -u 10.98.0.2:53 -r 10.244.1.4:53 -m -w 1"),
        "{shown}"
    );
    let stats = text(
        space,
        Listing::Show(podpath::ipvs::text::Show::Stats),
        Instant::from_secs(9),
    );
    assert!(stats.starts_with("IP Virtual Server version"), "{stats}");
}

#[test]
fn ipvsadm_lines_that_cannot_be_read_are_placed() {
    for (line, said) in [
        (
            "ipvsadm -A -t nonsense -s rr",
            "`nonsense` is not an address",
        ),
        (
            "ipvsadm -A -t 10.0.0.1:80 -s best",
            "unknown scheduler `best`",
        ),
        (
            "ipvsadm -R",
            "`ipvsadm -R` reads its commands from its input",
        ),
        (
            "ipvsadm -R <<EOF\n-A -t 10.0.0.1:80 -s best\nEOF",
            "unknown scheduler `best`",
        ),
        (
            "ipvsadm -a -t 10.0.0.1:80 -r 10.0.0.2:80",
            "Service not defined",
        ),
    ] {
        let (_, findings) = cluster(vec![], json!([line]));
        println!("{line}: {findings:?}");
        assert!(
            findings.iter().any(|f| f.contains(said)),
            "{line}: {findings:?}"
        );
    }
    let (_, findings) = cluster(vec![], json!(["ipvsadm -Ln"]));
    assert_eq!(findings, [""; 0]);
}

#[test]
fn the_api_servers_own_service_needs_an_api_server() {
    let probe = json!({"apiVersion": "podpath.dev/v1alpha1", "kind": "Probe", "metadata": {"name": "api"},
        "spec": {"from": "node/n1", "to": "svc/default/kubernetes:https", "protocol": "tcp"}});
    let load = |control_plane: bool| {
        let mut all = nodes();
        if control_plane {
            all[1]["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("");
        }
        all.push(probe.clone());
        let list = json!({"apiVersion": "v1", "kind": "List", "items": all}).to_string();
        let (_, findings) = Store::load(&[Input::new("all.json", list)]);
        let said = findings
            .iter()
            .filter(|f| f.is_error())
            .map(|f| f.message.clone());
        said.collect::<Vec<String>>()
    };
    assert_eq!(load(true), [""; 0]);
    assert_eq!(
        load(false),
        ["there is no Service `default/kubernetes`, nor a node that runs the API server"]
    );
}
